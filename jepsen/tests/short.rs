//! Each workload for a few seconds, with faults, against the program that was built with these tests:
//! on one node, and on three with three copies of everything.
//! The same at length: `cargo run --release -p jepsen --example jepsen`.

#![expect(clippy::print_stdout, reason = "a failed test shows what was asked and answered")]

use jepsen::checker::Verdict;
use jepsen::cluster::{ClusterOptions, built_program};
use jepsen::nemesis::Fault;
use jepsen::run::{Report, RunOptions, run};
use jepsen::workload::Workload;
use jepsen::workload::append::Appends;
use jepsen::workload::batch::Batches;
use jepsen::workload::convergence::Replicas;
use jepsen::workload::counter::Counters;
use jepsen::workload::isolation::Partitions;
use jepsen::workload::log::Log;
use jepsen::workload::lwt::Transactions;
use jepsen::workload::overwrite::Overwrites;
use jepsen::workload::paging::Pages;
use jepsen::workload::planted::{ReadsAtOne, SkewedClocks};
use jepsen::workload::register::Registers;
use jepsen::workload::schema::Tables;
use jepsen::workload::set::Set;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The program that `cargo test` has built beside this test, or else builds now.
fn program() -> PathBuf {
    if let Ok(program) = built_program() {
        return program;
    }
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--package", "node", "--bin", "tethys"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the program is built");
    built_program().expect("just built")
}

fn report<W: Workload>(workload: W, node_count: u8, faults: &[Fault], seed: u64) -> Report {
    let folder = tempfile::TempDir::with_prefix("jepsen-").expect("a temporary folder");
    let options = RunOptions {
        cluster: ClusterOptions {
            binary: program(),
            node_count,
            folder: folder.path().to_path_buf(),
            arguments: ["--shards", "2", "--memory", "64M"].map(str::to_owned).to_vec(),
            configuration: String::new(),
        },
        replication_factor: node_count,
        client_count: 8,
        faults: faults.to_vec(),
        duration: Duration::from_secs(if node_count == 1 { 6 } else { 12 }),
        seed,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.expect("a runtime").block_on(run(workload, &options)).expect("it ends");
    println!("{report}");
    assert!(
        report.ok_count > 0 && !report.faults.is_empty(),
        "there was load, and there were faults"
    );
    report
}

fn holds<W: Workload>(workload: W, faults: &[Fault], seed: u64) {
    assert_eq!(report(workload, 1, faults, seed).verdict, Verdict::Valid);
}

fn holds_on_three<W: Workload>(workload: W, faults: &[Fault], seed: u64) {
    assert_eq!(report(workload, 3, faults, seed).verdict, Verdict::Valid);
}

/// A planted bug: all nodes forget what they have acknowledged.
fn is_caught<W: Workload + Clone>(workload: &W, node_count: u8, seed: u64) {
    is_noticed(workload, node_count, &[Fault::Rollback], seed);
}

/// A planted bug of the workload itself, or of its faults. It need not show in every run: on a busy
/// machine little may have been asked between two faults.
fn is_noticed<W: Workload + Clone>(workload: &W, node_count: u8, faults: &[Fault], seed: u64) {
    let is_noticed = (seed..seed + 4).any(|seed| {
        let verdict = report(workload.clone(), node_count, faults, seed).verdict;
        println!("seed {seed}: {verdict}");
        matches!(verdict, Verdict::Invalid(_))
    });
    assert!(is_noticed, "four runs have not shown the fault");
}

#[test]
fn registers_are_linearizable_across_kills_and_pauses() {
    holds(Registers::default(), &[Fault::Kill, Fault::Pause], 1);
}

#[test]
fn transactions_and_plain_writes_have_one_order_across_kills_and_pauses() {
    holds(Transactions::default(), &[Fault::Kill, Fault::Pause], 7);
}

#[test]
fn counters_count_once_across_kills() {
    holds(Counters, &[Fault::Kill], 8);
}

#[test]
fn no_element_is_lost_across_kills() {
    holds(Set::default(), &[Fault::Kill], 2);
}

#[test]
fn the_change_log_is_the_table_across_kills() {
    holds(Log::default(), &[Fault::Kill], 3);
}

#[test]
fn forgotten_writes_of_registers_are_noticed() {
    is_caught(&Registers::default(), 1, 4);
}

#[test]
fn forgotten_elements_are_noticed() {
    is_caught(&Set::default(), 1, 5);
}

#[test]
fn a_forgetful_change_log_is_noticed() {
    is_caught(&Log::default(), 1, 6);
}

#[test]
fn timestamps_of_clocks_that_differ_are_noticed() {
    is_noticed(&SkewedClocks::default(), 1, &[Fault::Pause], 9);
}

#[test]
fn registers_are_linearizable_on_three_nodes() {
    let faults = [Fault::Kill, Fault::Isolate, Fault::Pause, Fault::Bridge];
    holds_on_three(Registers::default(), &faults, 10);
}

#[test]
fn transactions_and_plain_writes_have_one_order_on_three_nodes() {
    let faults = [Fault::Kill, Fault::Halves, Fault::Mute, Fault::Deafen];
    holds_on_three(Transactions::default(), &faults, 11);
}

#[test]
fn counters_count_once_on_three_nodes() {
    holds_on_three(Counters, &[Fault::Kill, Fault::Mute, Fault::Restart], 12);
}

#[test]
fn logged_batches_are_whole_on_three_nodes() {
    holds_on_three(Batches::default(), &[Fault::Kill, Fault::Isolate, Fault::KillAll], 13);
}

#[test]
fn the_change_log_is_the_table_on_three_nodes() {
    holds_on_three(Log::default(), &[Fault::Kill, Fault::Halves, Fault::Pause], 14);
}

#[test]
fn tables_are_made_once_on_three_nodes() {
    holds_on_three(Tables::default(), &[Fault::Kill, Fault::Isolate, Fault::Restart], 17);
}

#[test]
fn forgotten_elements_are_noticed_on_three_nodes() {
    is_caught(&Set::default(), 3, 15);
}

#[test]
fn reads_of_any_replica_are_noticed_on_three_nodes() {
    is_noticed(&ReadsAtOne::default(), 3, &[Fault::Isolate, Fault::Deafen], 16);
}

#[test]
fn appends_have_one_order_while_the_ring_changes() {
    holds_on_three(Appends::default(), &[Fault::Join, Fault::Remove], 20);
}

#[test]
fn elements_stay_while_nodes_die_and_the_ring_changes() {
    holds_on_three(Set::default(), &[Fault::Join, Fault::Remove, Fault::Kill], 21);
}

#[test]
fn the_highest_timestamp_wins_on_three_nodes() {
    holds_on_three(Overwrites::default(), &[Fault::Kill, Fault::Clock, Fault::KillAll], 22);
}

#[test]
fn nobody_sees_a_part_of_a_write_on_three_nodes() {
    holds_on_three(Partitions::default(), &[Fault::Kill, Fault::Isolate, Fault::Pause], 23);
}

#[test]
fn replicas_become_equal_on_three_nodes() {
    holds_on_three(Replicas::default(), &[Fault::Kill, Fault::SlowDisk, Fault::BrokenDisk], 24);
}

#[test]
fn pages_show_each_element_once_while_the_ring_changes() {
    holds_on_three(Pages::default(), &[Fault::Join, Fault::Pause], 25);
}
