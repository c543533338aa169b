//! A raw-frame CQL load generator, for any server that speaks protocol v4.
//!
//! `cargo run --release -p benches --example rawload -- --setup --load --workload read`
//!
//! See `docs/benchmarks.md`, and `--help` for what can be chosen. The exit code is not zero when an
//! answer was wrong, an error, or missing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use benches::client::{Client, ClientError};
use benches::dataset::create_table;
use benches::load::{IN_FLIGHT_MAX, Plan, Workload, run};
use clap::{Parser, ValueEnum};
use cql::wire::Consistency;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadName {
    /// Overwrites rows
    Write,
    /// Reads rows that were loaded
    Read,
    /// Half writes, half reads
    Mixed,
    /// Reads keys that were never written
    Absent,
    /// Writes every key once and ends
    Load,
    /// Overwrites rows if they exist, which those that were loaded do
    Conditional,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    One,
    Quorum,
}

/// Loads a CQL server with prepared single-row statements and measures it.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are switches")]
struct Flags {
    /// The server; several with commas between them share the connections
    #[arg(long, default_value = "127.0.0.1:9042", value_delimiter = ',')]
    address: Vec<SocketAddr>,
    /// Ask for each key the server that its token belongs to, as drivers do; else any
    #[arg(long)]
    routed: bool,
    #[arg(long, value_enum, default_value = "one")]
    consistency: Level,
    #[arg(long, value_enum)]
    workload: Option<WorkloadName>,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 16, value_parser = in_flight)]
    in_flight: usize,
    /// Open loop: requests a second over all connections (without it: closed loop)
    #[arg(long)]
    rate: Option<f64>,
    /// How long to measure
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long to run before
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// How many rows there are
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Send a timestamp with every write, as drivers do
    #[arg(long)]
    timestamps: bool,
    /// Make the keyspace and the table first
    #[arg(long)]
    setup: bool,
    /// Replication factor of the keyspace that is made
    #[arg(long, default_value_t = 1)]
    replication: u32,
    /// Write every row once first
    #[arg(long)]
    load: bool,
    #[arg(long, default_value = "bench")]
    keyspace: String,
    #[arg(long, default_value = "rows")]
    table: String,
    /// The table's cdc option, such as "{'enabled': true, 'preimage': true}"
    #[arg(long)]
    cdc: Option<String>,
    /// The server's process, whose processor time and memory are shown; of several, with commas
    /// between them, the sum and the largest
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Do not compare the values of rows: for the null server
    #[arg(long)]
    any_values: bool,
    /// Where the choice of keys begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn in_flight(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=IN_FLIGHT_MAX) => Ok(count),
        _ => Err(format!("between 1 and {IN_FLIGHT_MAX}")),
    }
}

impl Flags {
    fn plan(&self, workload: Workload) -> Plan {
        Plan {
            addresses: self.address.clone(),
            is_routed: self.routed,
            consistency: match self.consistency {
                Level::One => Consistency::One,
                Level::Quorum => Consistency::Quorum,
            },
            keyspace: self.keyspace.clone(),
            table: self.table.clone(),
            workload,
            connection_count: self.connections,
            in_flight: self.in_flight,
            rate: self.rate,
            warmup: Duration::from_secs_f64(self.warmup),
            measured: Duration::from_secs_f64(self.seconds),
            key_count: self.keys,
            with_timestamps: self.timestamps,
            server_process_ids: self.server_pid.clone(),
            accepts_any_values: self.any_values,
            seed: self.seed,
        }
    }

    fn set_up(&self) -> Result<(), ClientError> {
        let address = self.address.first();
        let address = address.ok_or_else(|| ClientError("a server to set up?".to_owned()))?;
        let mut client = Client::connect(*address)?;
        let options = self.cdc.as_ref().map(|cdc| format!("cdc = {cdc}")).unwrap_or_default();
        client.query(&format!(
            "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': {}}}",
            self.keyspace, self.replication
        ))?;
        client.query(&create_table(&self.keyspace, &self.table, &options))
    }
}

fn main() -> ExitCode {
    match measure(&Flags::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rawload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<bool, ClientError> {
    if flags.setup {
        flags.set_up()?;
    }
    let mut runs = Vec::new();
    if flags.load {
        // As fast as it goes, whatever the rate of the measurement.
        runs.push(Plan {
            rate: None,
            connection_count: 8,
            in_flight: 64,
            ..flags.plan(Workload::Load)
        });
    }
    runs.extend(flags.workload.map(|name| {
        flags.plan(match name {
            WorkloadName::Write => Workload::Write,
            WorkloadName::Read => Workload::Read,
            WorkloadName::Mixed => Workload::Mixed,
            WorkloadName::Absent => Workload::Absent,
            WorkloadName::Load => Workload::Load,
            WorkloadName::Conditional => Workload::Conditional,
        })
    }));
    let mut is_clean = true;
    for plan in runs {
        let report = run(&plan)?;
        if flags.json {
            println!("{}", report.to_json());
        } else {
            println!("{report}");
        }
        is_clean &= report.is_clean();
    }
    Ok(is_clean)
}
