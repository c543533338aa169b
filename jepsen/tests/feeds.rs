//! Changefeeds for a few seconds, with faults of nodes and of the receiver, against the program that
//! was built with these tests. The same at length, and with Kafka:
//! `cargo run --release -p jepsen --example feeds`.

#![expect(clippy::print_stdout, reason = "a failed test shows what was told")]

use jepsen::checker::Verdict;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::feeds;
use jepsen::nemesis::Fault;
use jepsen::run::RunOptions;
use std::process::Command;
use std::time::Duration;

fn holds(node_count: u8, faults: &[Fault], seed: u64) {
    if built_program().is_err() {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "node", "--bin", "tethys"]);
        assert!(command.status().expect("cargo runs").success(), "the program is built");
    }
    let folder = tempfile::TempDir::with_prefix("jepsen-").expect("a temporary folder");
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: built_program().expect("just built"),
            node_count,
            folder: folder.path().to_path_buf(),
            arguments: ["--shards", "2", "--memory", "64M"].map(str::to_owned).to_vec(),
            configuration: String::new(),
        },
        replication_factor: node_count,
        client_count: 6,
        faults: faults.to_vec(),
        duration: Duration::from_secs(12),
        seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(feeds::run(&options, false));
    let report = report.expect("it ends");
    println!("{report}");
    assert!(report.refusal_count > 0 && !report.faults.is_empty(), "there were faults");
    assert_eq!(report.verdict, Verdict::Valid);
}

#[test]
fn a_feed_into_a_bad_receiver_tells_all_in_order_across_kills() {
    holds(1, &[Fault::Kill, Fault::Pause], 1);
}

#[test]
fn a_feed_into_a_bad_receiver_tells_all_in_order_on_three_nodes() {
    holds(3, &[Fault::Kill, Fault::Pause, Fault::Isolate, Fault::Halves], 2);
}
