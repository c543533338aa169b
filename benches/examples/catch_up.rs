//! How long a node that was away takes until it has what was written meanwhile.
//!
//! `cargo run --release -p benches --example catch_up -- --node A --others B,C`
//!
//! To be run at the moment at which the node begins to come back. Marks are written at QUORUM through
//! the others, one after the other over all ranges; then the node is asked for each at ONE, which it
//! answers from its own replica, until it has them all. Everything that was written before a mark in
//! its range is there when the mark is. The keyspace must have a replica of everything on the node.
//! Prints the seconds until the node answered, until half of the marks were there, and until all were.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use benches::client::{Client, ClientError};
use clap::Parser;
use cql::wire::{Consistency, QueryParameters, Value};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long the node is waited for, and then how long each mark.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long between two looks.
const REST: Duration = Duration::from_millis(20);

/// Measures how long a node takes to catch up.
#[derive(Debug, Parser)]
struct Flags {
    /// The node that comes back
    #[arg(long)]
    node: SocketAddr,
    /// The others, with commas between them
    #[arg(long, value_delimiter = ',', required = true)]
    others: Vec<SocketAddr>,
    /// How many marks: enough that each range has one
    #[arg(long, default_value_t = 600)]
    marks: u64,
    #[arg(long, default_value = "bench")]
    keyspace: String,
}

fn main() -> ExitCode {
    match measure(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("catch_up: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<(), ClientError> {
    let began = Instant::now();
    let table = format!("{}.marks", flags.keyspace);
    let keys = write_marks(flags, &table)?;
    let mut client = connect(flags.node, began)?;
    let answered = began.elapsed();
    let mut missing = keys;
    let half = missing.len() / 2;
    let mut half_there = None;
    while let Some(key) = missing.last() {
        let count = format!("SELECT count(*) FROM {table} WHERE k = '{key}'");
        // A node that is not ready yet says so.
        if client.cell(&count).is_ok_and(|cell| cell.ends_with(&[1])) {
            missing.pop();
            if missing.len() <= half {
                half_there.get_or_insert(began.elapsed());
            }
        } else if began.elapsed() > PATIENCE {
            return Err(ClientError(format!("{} marks have not come", missing.len())));
        } else {
            thread::sleep(REST);
        }
    }
    let half_there = half_there.unwrap_or_default();
    println!("| answered, s | half of the marks, s | all, s |");
    println!("|---|---|---|");
    let seconds = [answered, half_there, began.elapsed()].map(|time| time.as_secs_f64());
    println!("| {:.2} | {:.2} | {:.2} |", seconds[0], seconds[1], seconds[2]);
    Ok(())
}

/// Writes the marks through the other nodes; their keys.
fn write_marks(flags: &Flags, table: &str) -> Result<Vec<String>, ClientError> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let run = since_epoch.map_or(0, |time| time.as_millis());
    let other = flags.others.first().ok_or_else(|| ClientError("another node?".to_owned()))?;
    let mut client = Client::connect(*other)?;
    client.query(&format!("CREATE TABLE IF NOT EXISTS {table} (k text PRIMARY KEY)"))?;
    let id = client.prepare(&format!("INSERT INTO {table} (k) VALUES (?)"))?;
    let parameters = QueryParameters::with_consistency(Consistency::Quorum);
    let mut keys = Vec::new();
    for number in 0..flags.marks {
        let key = format!("{run}-{number}");
        client.execute(&id, &parameters, &[Value::Set(key.as_bytes())])?;
        keys.push(key);
    }
    Ok(keys)
}

/// Connects to a node that is not there yet.
fn connect(node: SocketAddr, began: Instant) -> Result<Client, ClientError> {
    loop {
        match Client::connect(node) {
            Ok(client) => return Ok(client),
            Err(error) if began.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(REST),
        }
    }
}
