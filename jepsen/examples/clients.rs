//! Runs one fault test of real clients, or checks its history again.
//!
//! ```text
//! cargo build --release -p node
//! cargo run --release -p jepsen --example clients -- run --seconds 300
//! cargo run --release -p jepsen --example clients -- check clients-1.jsonl
//! ```
//! The program ends with 0 when all is valid, with 1 when it is not or nobody knows.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program for the command line"
)]

use clap::{Args, Parser};
use jepsen::checker::Verdict;
use jepsen::clients;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::history;
use jepsen::nemesis::Fault;
use jepsen::run::RunOptions;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Parser)]
#[command(about = "Fault tests of drivers, cqlsh and scylla-cdc")]
enum Command {
    /// Starts a cluster, torments it while all clients are at work, and judges what they were told.
    Run(RunArguments),
    /// Judges a history.
    Check {
        /// The file.
        history: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What happens to the nodes; may be given several times. All that clients should live through
    /// unless told.
    #[arg(long = "fault")]
    faults: Vec<Fault>,
    /// How long there are faults.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Nodes of the cluster, and replicas of the data.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// What the choices follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program; the one that was built beside this one unless told.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Further arguments of every node.
    #[arg(last = true)]
    node_arguments: Vec<String>,
}

fn main() -> ExitCode {
    match carry_out(Command::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("clients: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was valid.
fn carry_out(command: Command) -> io::Result<bool> {
    let verdict = match command {
        Command::Run(arguments) => run(arguments)?,
        Command::Check { history } => {
            let events = history::from_lines(&std::fs::read_to_string(history)?);
            let verdict = clients::judge(&events.map_err(io::Error::other)?)?;
            println!("{verdict}");
            verdict
        }
    };
    Ok(verdict == Verdict::Valid)
}

fn run(arguments: RunArguments) -> io::Result<Verdict> {
    let RunArguments { mut faults, seed, .. } = arguments;
    if faults.is_empty() {
        use Fault::{Bridge, Halves, Isolate, Join, Kill, KillAll, Pause, Remove, Restart};
        faults = vec![Kill, KillAll, Restart, Pause, Isolate, Halves, Bridge, Join, Remove];
    }
    let folder = tempfile::TempDir::with_prefix("jepsen-")?;
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: arguments.binary.map_or_else(built_program, Ok)?,
            node_count: arguments.nodes,
            folder: folder.path().to_path_buf(),
            arguments: arguments.node_arguments,
            configuration: String::new(),
        },
        replication_factor: arguments.nodes,
        client_count: 0,
        faults,
        duration: Duration::from_secs(arguments.seconds),
        seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match runtime.block_on(clients::run(&options)) {
        Ok(report) => report,
        Err(error) => {
            println!("data and logs: {}", folder.keep().display());
            return Err(error);
        }
    };
    let path = PathBuf::from(format!("clients-{seed}.jsonl"));
    std::fs::write(&path, history::to_lines(&report.history))?;
    println!("history: {}", path.display());
    for fault in &report.faults {
        println!("{:?} to {:?}: {}", fault.began, fault.healed, fault.what);
    }
    println!("{report}");
    if report.verdict != Verdict::Valid {
        println!("data and logs: {}", folder.keep().display());
    }
    Ok(report.verdict)
}
