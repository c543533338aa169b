//! Real clients for a few seconds, with faults, against the program that was built with these tests.
//! The same at length: `cargo run --release -p jepsen --example clients`.

use jepsen::checker::Verdict;
use jepsen::clients;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::nemesis::Fault;
use jepsen::run::RunOptions;
use std::process::Command;
use std::time::Duration;

#[test]
fn drivers_and_shells_live_through_deaths_cuts_and_changes_of_the_ring() {
    if built_program().is_err() {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "node", "--bin", "tethys"]);
        assert!(command.status().expect("cargo runs").success(), "the program is built");
    }
    let folder = tempfile::TempDir::with_prefix("jepsen-").expect("a temporary folder");
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: built_program().expect("just built"),
            node_count: 3,
            folder: folder.path().to_path_buf(),
            arguments: ["--shards", "2", "--memory", "64M"].map(str::to_owned).to_vec(),
            configuration: String::new(),
        },
        replication_factor: 3,
        client_count: 0,
        faults: vec![Fault::Kill, Fault::Pause, Fault::Isolate, Fault::Join],
        duration: Duration::from_secs(15),
        seed: 30,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(clients::run(&options));
    let report = report.expect("it ends");
    println!("{report}");
    for fault in &report.faults {
        println!("{:?} to {:?}: {}", fault.began, fault.healed, fault.what);
    }
    assert_eq!(report.verdict, Verdict::Valid);
    assert!(!report.faults.is_empty(), "there were faults");
    // COPY gives up after so many failures, and then nothing is known of its rows.
    for figures in report.figures.iter().filter(|it| it.name != "cqlsh's COPY") {
        assert!(figures.ok_count > 0, "{} was at work", figures.name);
    }
}
