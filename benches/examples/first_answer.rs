//! From exec to the first CQL answer: start-up time, and memory when idle.
//!
//! `cargo run --release -p benches --example first_answer -- 127.0.0.1:9042 tethys --data-dir D`
//!
//! Starts the command, asks the address for a connection and a row of `system.local` every
//! millisecond until it answers, and prints one line of JSON: milliseconds to that answer, and the
//! server's resident memory [`IDLE_SECONDS`] later. Then the server is told to stop; with `--keep`
//! in front it goes on, and its process is named.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use benches::client::Client;
use benches::process::memory_bytes;
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const ANSWER_SECONDS_MAX: u64 = 120;
/// How long it rests before its memory is read.
const IDLE_SECONDS: u64 = 3;
/// How long it may take to stop before it is killed.
const STOP_SECONDS_MAX: u64 = 30;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let keeps = arguments.first().is_some_and(|first| first == "--keep");
    if keeps {
        arguments.remove(0);
    }
    let measured = match arguments.split_first() {
        Some((address, command)) if !command.is_empty() => measure(address, command, keeps),
        _ => Err("usage: first_answer [--keep] ADDRESS COMMAND [ARGUMENT…]".to_owned()),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("first_answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(address: &str, command: &[String], keeps: bool) -> Result<(), String> {
    let address: SocketAddr = address.parse().map_err(|_| format!("{address} is no address"))?;
    if Client::connect(address).is_ok() {
        return Err(format!("something answers on {address} already"));
    }
    let started = Instant::now();
    let mut server = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", command[0]))?;
    let answered = wait_for_answer(&mut server, address, started);
    if answered.is_err() {
        stop(&mut server).map_err(|error| error.to_string())?;
    }
    let answered = answered?;
    sleep(Duration::from_secs(IDLE_SECONDS));
    let resident = memory_bytes(server.id(), "VmRSS").map_err(|error| error.to_string())?;
    println!(
        "{{\"first_answer_ms\":{:.1},\"idle_memory_mib\":{:.1},\"pid\":{}}}",
        answered.as_secs_f64() * 1e3,
        resident as f64 / f64::from(1 << 20),
        server.id()
    );
    if !keeps {
        stop(&mut server).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn wait_for_answer(
    server: &mut Child,
    address: SocketAddr,
    started: Instant,
) -> Result<Duration, String> {
    while started.elapsed() < Duration::from_secs(ANSWER_SECONDS_MAX) {
        let answer = Client::connect(address)
            .and_then(|mut client| client.query("SELECT release_version FROM system.local"));
        if answer.is_ok() {
            return Ok(started.elapsed());
        }
        if let Ok(Some(status)) = server.try_wait() {
            return Err(format!("the server ended: {status}"));
        }
        sleep(Duration::from_millis(1));
    }
    Err(format!("no answer within {ANSWER_SECONDS_MAX} s"))
}

/// Asks the process to end, and ends it when it does not.
fn stop(server: &mut Child) -> io::Result<()> {
    if let Some(pid) = Pid::from_raw(server.id().cast_signed()) {
        kill_process(pid, Signal::TERM)?;
    }
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(STOP_SECONDS_MAX) {
        if server.try_wait()?.is_some() {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    server.kill()?;
    server.wait().map(|_| ())
}
