//! Runs one fault test, or checks a history again.
//!
//! ```text
//! cargo build --release -p node
//! cargo run --release -p jepsen --example jepsen -- run set --fault kill --seconds 60
//! cargo run --release -p jepsen --example jepsen -- check set set-7.jsonl
//! ```
//! The program ends with 0 when the history is valid, with 1 when it is not or nobody knows.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use clap::{Parser, Subcommand, ValueEnum};
use jepsen::checker::Verdict;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::history;
use jepsen::nemesis::Fault;
use jepsen::run::{Report, RunOptions, judge, run};
use jepsen::workload::counter::Counters;
use jepsen::workload::log::Log;
use jepsen::workload::lwt::Transactions;
use jepsen::workload::register::Registers;
use jepsen::workload::set::Set;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Fault tests of real processes")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a cluster, torments it under load, and judges what clients were told.
    Run {
        /// What clients ask.
        workload: WorkloadName,
        /// What happens to the nodes; may be given several times.
        #[arg(long = "fault")]
        faults: Vec<Fault>,
        /// How long there is load.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Nodes of the cluster.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Replicas of the data; as many as nodes unless told.
        #[arg(long)]
        replication_factor: Option<u8>,
        /// Clients at work.
        #[arg(long, default_value_t = 8)]
        clients: u32,
        /// What the choices follow from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The program; the one that was built beside this one unless told.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Where the history goes; `WORKLOAD-SEED.jsonl` here unless told.
        #[arg(long)]
        history: Option<PathBuf>,
        /// Further arguments of every node.
        #[arg(last = true)]
        node_arguments: Vec<String>,
    },
    /// Judges a history.
    Check {
        /// What clients asked.
        workload: WorkloadName,
        /// The file.
        history: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadName {
    /// Reads and writes of single rows.
    Register,
    /// The same with compare-and-set by light-weight transactions.
    Lwt,
    /// Increments of counters.
    Counter,
    /// Inserts that all stay.
    Set,
    /// Upserts of a table with a change log.
    Log,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(report) => {
            println!("{report}");
            if report.verdict == Verdict::Valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("jepsen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> io::Result<Report> {
    match command {
        Command::Check { workload, history } => {
            let events = history::from_lines(&std::fs::read_to_string(history)?);
            let events = events.map_err(io::Error::other)?;
            match workload {
                WorkloadName::Register => judge(&Registers::default(), events, Vec::new()),
                WorkloadName::Lwt => judge(&Transactions::default(), events, Vec::new()),
                WorkloadName::Counter => judge(&Counters, events, Vec::new()),
                WorkloadName::Set => judge(&Set::default(), events, Vec::new()),
                WorkloadName::Log => judge(&Log::default(), events, Vec::new()),
            }
        }
        Command::Run {
            workload,
            faults,
            seconds,
            nodes,
            replication_factor,
            clients,
            seed,
            binary,
            history,
            node_arguments,
        } => {
            let folder = tempfile::TempDir::with_prefix("jepsen-")?;
            let options = RunOptions {
                cluster: ClusterOptions {
                    binary: binary.map_or_else(built_program, Ok)?,
                    node_count: nodes,
                    folder: folder.path().to_path_buf(),
                    arguments: node_arguments,
                },
                replication_factor: replication_factor.unwrap_or(nodes),
                client_count: clients,
                faults,
                duration: Duration::from_secs(seconds),
                seed,
            };
            let report = run_named(workload, &options)?;
            let name = format!("{workload:?}-{seed}.jsonl").to_lowercase();
            let path = history.unwrap_or_else(|| PathBuf::from(name));
            std::fs::write(&path, history::to_lines(&report.history))?;
            println!("history: {}", path.display());
            if report.verdict != Verdict::Valid {
                println!("data and logs: {}", folder.keep().display());
            }
            Ok(report)
        }
    }
}

fn run_named(workload: WorkloadName, options: &RunOptions) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match workload {
        WorkloadName::Register => runtime.block_on(run(Registers::default(), options)),
        WorkloadName::Lwt => runtime.block_on(run(Transactions::default(), options)),
        WorkloadName::Counter => runtime.block_on(run(Counters, options)),
        WorkloadName::Set => runtime.block_on(run(Set::default(), options)),
        WorkloadName::Log => runtime.block_on(run(Log::default(), options)),
    }
}
