//! Runs one fault test of changefeeds, or checks its history again.
//!
//! ```text
//! cargo build --release -p node
//! cargo run --release -p jepsen --example feeds -- run --seconds 60 --kafka
//! cargo run --release -p jepsen --example feeds -- check feeds-7.jsonl
//! ```
//! The program ends with 0 when the history is valid, with 1 when it is not or nobody knows.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use clap::{Args, Parser};
use jepsen::checker::Verdict;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::feeds::{self, FeedReport};
use jepsen::history;
use jepsen::nemesis::Fault;
use jepsen::run::RunOptions;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Fault tests of changefeeds")]
enum Command {
    /// Starts a cluster with feeds, torments it and its readers under load, and judges what was told.
    Run(RunArguments),
    /// Judges a history.
    Check {
        /// The file.
        history: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What happens to the nodes; may be given several times. Kill, pause, isolate, halves and restart
    /// unless told.
    #[arg(long = "fault")]
    faults: Vec<Fault>,
    /// A feed into a Kafka broker as well, which is killed, and so is its consumer.
    #[arg(long)]
    kafka: bool,
    /// How long there is load.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Nodes of the cluster, and replicas of the data.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Clients at work.
    #[arg(long, default_value_t = 6)]
    clients: u32,
    /// What the choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Further arguments of every node.
    #[arg(last = true)]
    node_arguments: Vec<String>,
}

fn main() -> ExitCode {
    match carry_out(Command::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("feeds: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was valid.
fn carry_out(command: Command) -> io::Result<bool> {
    match command {
        Command::Run(arguments) => run(arguments),
        Command::Check { history } => {
            let entries = history::from_lines(&std::fs::read_to_string(history)?);
            Ok(tell(&feeds::judge(entries.map_err(io::Error::other)?)))
        }
    }
}

fn run(arguments: RunArguments) -> io::Result<bool> {
    let RunArguments { mut faults, kafka, seed, .. } = arguments;
    if faults.is_empty() {
        faults = vec![Fault::Kill, Fault::Pause, Fault::Isolate, Fault::Halves, Fault::Restart];
    }
    let folder = tempfile::TempDir::with_prefix("jepsen-")?;
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: built_program()?,
            node_count: arguments.nodes,
            folder: folder.path().to_path_buf(),
            arguments: arguments.node_arguments,
            configuration: String::new(),
        },
        replication_factor: arguments.nodes,
        client_count: arguments.clients,
        faults,
        duration: Duration::from_secs(arguments.seconds),
        seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(feeds::run(&options, kafka))?;
    let path = PathBuf::from(format!("feeds-{seed}.jsonl"));
    std::fs::write(&path, history::to_lines(&report.history))?;
    println!("history: {}", path.display());
    for fault in &report.faults {
        println!("{:?} to {:?}: {}", fault.began, fault.healed, fault.what);
    }
    if report.verdict != Verdict::Valid {
        println!("data and logs: {}", folder.keep().display());
    }
    Ok(tell(&report))
}

fn tell(report: &FeedReport) -> bool {
    println!("{report}");
    for lag in feeds::lags(&report.history) {
        println!("{lag}");
    }
    report.verdict == Verdict::Valid
}
