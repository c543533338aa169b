//! How long writes stand still when a node of a cluster dies or freezes.
//!
//! `cargo run --release -p benches --example pause -- --address A,B,C --pid PID [--freeze]`
//!
//! Writes some keys of each node, every few milliseconds, at QUORUM and over the nodes that stay.
//! After two seconds the process, which is to be the first node's, is killed, or stopped with
//! `--freeze` and let go on at the end. For the keys of each node it prints the longest time
//! between two writes of one key that were acknowledged: the worst key's and the median's. Keys are
//! told apart by their first replica, which leads their range unless leadership is elsewhere.
//!
//! With `--timestamps` writes bring their timestamps, as drivers' do. Without, the leader gives them
//! out, and of a write that it was sent and has not answered the client hears nothing before a
//! timeout: the pause with `--freeze` is then that of such a write, and no shorter than the timeout.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use benches::client::{Client, ClientError};
use benches::dataset::{self, COLUMN_COUNT, Values};
use benches::owners::Owners;
use clap::Parser;
use cql::wire::{Consistency, QueryParameters, Value};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long a key rests between two writes.
const REST: Duration = Duration::from_millis(5);

/// Measures the pause of writes when a node is lost.
#[derive(Debug, Parser)]
struct Flags {
    /// The nodes, with commas between them; the first is the one that is lost
    #[arg(long, value_delimiter = ',', required = true)]
    address: Vec<SocketAddr>,
    /// The process of the first
    #[arg(long)]
    pid: u32,
    /// Stop the process and do not kill it
    #[arg(long)]
    freeze: bool,
    /// Send a timestamp with every write, as drivers do
    #[arg(long)]
    timestamps: bool,
    /// Keys of each node
    #[arg(long, default_value_t = 16)]
    keys: usize,
    /// How long the node is missed
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    #[arg(long, default_value = "bench")]
    keyspace: String,
    #[arg(long, default_value = "rows")]
    table: String,
}

/// What became of one key.
#[derive(Debug)]
struct Track {
    owner: usize,
    longest: Duration,
    acknowledged: u64,
    failed: u64,
}

fn main() -> ExitCode {
    match measure(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pause: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<(), ClientError> {
    let survivors = &flags.address[1..];
    if survivors.is_empty() {
        return Err(ClientError("a node that stays?".to_owned()));
    }
    let owners = Owners::ask(&flags.address)?;
    let before = Duration::from_secs(2);
    let until = Instant::now() + before + Duration::from_secs_f64(flags.seconds);
    let mut threads = Vec::new();
    for owner in 0..flags.address.len() {
        let its_own = |number: &u64| owners.may_serve(owner, &dataset::key(*number));
        for (position, number) in (0_u64..).filter(its_own).take(flags.keys).enumerate() {
            let address = survivors[position % survivors.len()];
            let insert = dataset::insert(&flags.keyspace, &flags.table);
            let with_timestamps = flags.timestamps;
            threads.push(thread::spawn(move || {
                write_until(address, &insert, (owner, number), until, with_timestamps)
            }));
        }
    }
    thread::sleep(before);
    let pid = i32::try_from(flags.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| ClientError(format!("{} is no process", flags.pid)))?;
    let send = |signal| kill_process(pid, signal).map_err(|e| ClientError(e.to_string()));
    send(if flags.freeze { Signal::STOP } else { Signal::KILL })?;
    let tracks: Result<Vec<Track>, ClientError> = threads
        .into_iter()
        .map(|one| one.join().unwrap_or_else(|_| Err(ClientError("a writer died".to_owned()))))
        .collect();
    if flags.freeze {
        send(Signal::CONT)?;
    }
    print(&flags.address, &tracks?);
    Ok(())
}

/// Writes one key again and again, one write at a time.
fn write_until(
    address: SocketAddr,
    insert: &str,
    (owner, number): (usize, u64),
    until: Instant,
    with_timestamps: bool,
) -> Result<Track, ClientError> {
    let mut client = Client::connect(address)?;
    let id = client.prepare(insert)?;
    let (key, all) = (dataset::key(number), Values::new());
    let mut values = [Value::Set(&key); 1 + COLUMN_COUNT];
    for (column, value) in values[1..].iter_mut().enumerate() {
        *value = Value::Set(all.value(number, column));
    }
    let mut track = Track { owner, longest: Duration::ZERO, acknowledged: 0, failed: 0 };
    let mut parameters = QueryParameters::with_consistency(Consistency::Quorum);
    let mut last = None;
    while Instant::now() < until {
        parameters.default_timestamp = with_timestamps.then(now_micros);
        // An error is an answer: the connection goes on.
        if client.execute(&id, &parameters, &values).is_ok() {
            let now = Instant::now();
            track.longest = track.longest.max(last.map_or(Duration::ZERO, |last| now - last));
            track.acknowledged += 1;
            last = Some(now);
        } else {
            track.failed += 1;
        }
        thread::sleep(REST);
    }
    let since = last.map_or(Duration::MAX, |last| last.elapsed());
    track.longest = track.longest.max(since);
    Ok(track)
}

fn now_micros() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |time| time.as_micros() as i64)
}

fn print(addresses: &[SocketAddr], tracks: &[Track]) {
    println!(
        "| keys first held by | longest pause, ms | median key's, ms | acknowledged | failed |"
    );
    println!("|---|---|---|---|---|");
    for (owner, address) in addresses.iter().enumerate() {
        let own: Vec<&Track> = tracks.iter().filter(|track| track.owner == owner).collect();
        let mut pauses: Vec<u128> = own.iter().map(|track| track.longest.as_millis()).collect();
        pauses.sort_unstable();
        let (Some(worst), Some(median)) = (pauses.last(), pauses.get(pauses.len() / 2)) else {
            continue;
        };
        let acknowledged: u64 = own.iter().map(|track| track.acknowledged).sum();
        let failed: u64 = own.iter().map(|track| track.failed).sum();
        let lost = if owner == 0 { " (lost)" } else { "" };
        println!("| {address}{lost} | {worst} | {median} | {acknowledged} | {failed} |");
    }
}
