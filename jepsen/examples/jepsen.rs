//! Runs one fault test, or checks a history again.
//!
//! ```text
//! cargo build --release -p node
//! cargo run --release -p jepsen --example jepsen -- run set --fault kill --seconds 60
//! cargo run --release -p jepsen --example jepsen -- run lwt --nodes 3 --fault isolate --seconds 60
//! cargo run --release -p jepsen --example jepsen -- campaign --minutes 60 reports/here
//! cargo run --release -p jepsen --example jepsen -- check set set-7/history.jsonl
//! ```
//! The program ends with 0 when the history is valid, with 1 when it is not or nobody knows.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use clap::{Args, Parser, Subcommand};
use jepsen::campaign;
use jepsen::catalogue::Name;
use jepsen::checker::Verdict;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::history;
use jepsen::nemesis::Fault;
use jepsen::page::{self, Heading};
use jepsen::run::{Report, RunOptions};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

#[derive(Debug, Parser)]
#[command(about = "Fault tests of real processes")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a cluster, torments it under load, and judges what clients were told.
    Run(RunArguments),
    /// Runs test after test, with all workloads and faults in turn, and writes a page about them.
    Campaign(CampaignArguments),
    /// Judges a history.
    Check {
        /// What clients asked.
        workload: Name,
        /// The file.
        history: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// What clients ask.
    workload: Name,
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
    /// Where the page, the history and the nodes' logs go; `WORKLOAD-SEED` here unless told.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Further arguments of every node.
    #[arg(last = true)]
    node_arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct CampaignArguments {
    /// How long.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// How long each test has load.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Nodes of each cluster, and replicas of the data.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Clients at work.
    #[arg(long, default_value_t = 9)]
    clients: u32,
    /// The seed of the first test; each has the next.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program; the one that was built beside this one unless told.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The page's title.
    #[arg(long, default_value = "A campaign of fault tests")]
    title: String,
    /// Where the page goes, as `index.md`, and a folder of each test that is not valid.
    folder: PathBuf,
    /// Further arguments of every node.
    #[arg(last = true)]
    node_arguments: Vec<String>,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jepsen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was valid.
fn carry_out(command: Command) -> io::Result<bool> {
    match command {
        Command::Run(arguments) => run(arguments),
        Command::Campaign(arguments) => run_campaign(arguments),
        Command::Check { workload, history } => {
            let events = history::from_lines(&std::fs::read_to_string(history)?);
            let events = events.map_err(io::Error::other)?;
            Ok(tell(&workload.judge(events)?))
        }
    }
}

fn run(arguments: RunArguments) -> io::Result<bool> {
    let RunArguments { workload, seed, .. } = arguments;
    let folder = tempfile::TempDir::with_prefix("jepsen-")?;
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: arguments.binary.map_or_else(built_program, Ok)?,
            node_count: arguments.nodes,
            folder: folder.path().to_path_buf(),
            arguments: arguments.node_arguments,
            configuration: String::new(),
        },
        replication_factor: arguments.replication_factor.unwrap_or(arguments.nodes),
        client_count: arguments.clients,
        faults: arguments.faults,
        duration: Duration::from_secs(arguments.seconds),
        seed,
    };
    let report = runtime()?.block_on(workload.run(&options))?;
    let heading = Heading {
        workload: workload.to_string(),
        seed,
        commit: page::commit(),
        terms: options.terms(),
    };
    let path = arguments.folder.unwrap_or_else(|| format!("{workload}-{seed}").into());
    page::write_folder(&path, &heading, &report, folder.path())?;
    println!("page: {}", path.join("page.html").display());
    if report.verdict != Verdict::Valid {
        println!("data: {}", folder.keep().display());
    }
    Ok(tell(&report))
}

fn run_campaign(arguments: CampaignArguments) -> io::Result<bool> {
    let CampaignArguments { title, folder, .. } = arguments;
    let data = tempfile::TempDir::with_prefix("jepsen-")?;
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: arguments.binary.map_or_else(built_program, Ok)?,
            node_count: arguments.nodes,
            folder: data.path().to_path_buf(),
            arguments: arguments.node_arguments,
            configuration: String::new(),
        },
        replication_factor: arguments.nodes,
        client_count: arguments.clients,
        faults: Vec::new(),
        duration: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
    };
    let time = Duration::from_secs(60 * arguments.minutes);
    let is_valid = runtime()?.block_on(campaign::run(&options, time, &folder, &title))?;
    println!("page: {}", folder.join("index.md").display());
    if !is_valid {
        println!("data and logs: {}", data.keep().display());
    }
    Ok(is_valid)
}

fn tell(report: &Report) -> bool {
    println!("{report}");
    report.verdict == Verdict::Valid
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
