//! A whole node with its clients inside the simulation: one thread, one seed, one history.
//!
//! ```text
//! machine      a node on a simulated disk, as often as it is started
//! world        turmoil with one machine: power cuts, restarts
//! cluster      turmoil with several machines: cuts between them besides
//! client       a CQL client over the simulated network
//! clients      how clients begin and end in a simulation
//! operator     asks a node for things over HTTP
//! faults       what goes wrong with the nodes of a cluster
//! trace        everything that clients sent and got, for comparing two runs
//! statements   random statements of every shape
//! change_log   a CDC log and its table, read over CQL, and the law between them
//! followed     the log as a feed on each node hears it
//! workload     clients of a cluster, and what must hold for them at every moment
//! histories    the workloads and checkers of the crate jepsen, on the same clusters
//! single_copies  a ring of one copy of each row, that grows and shrinks
//! finishers    logged batches that their coordinator and somebody else finish
//! failing_disks  nodes of three whose disks take nothing any more
//! standing_still  writes whose leader stands still, or whose coordinator
//! receiver     an HTTP endpoint that changefeeds deliver to
//! deleted_rows a feed that tells of deletes row by row
//! dropped_tables  a table that is dropped while its feeds are behind
//! told         that the log tells of each change once
//! generations  that its streams are those of the time
//! turned_on    a log that a leader does not hear of
//! planted      bugs that the other tests must notice
//! ```
//!
//! A failed test prints its seed; `TETHYS_SIM_SEEDS=a..b` runs other seeds than the few that are
//! always run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bit_rot;
mod cdc_switches;
mod change_log;
mod client;
mod clients;
mod cluster;
mod counting;
mod crowded;
mod deleted_rows;
mod determinism;
mod disk_faults;
mod dropped_tables;
mod expiry;
mod failing_disks;
mod faults;
mod finishers;
mod followed;
mod generations;
mod histories;
mod joining;
mod late_news;
mod list_batches;
mod lost_answers;
mod machine;
mod network;
mod operator;
mod periodic_sync;
#[cfg(debug_assertions)]
mod planted;
mod power_cuts;
mod receiver;
mod replay;
mod restarts;
mod ring_changes;
mod single_copies;
mod standing_still;
mod statements;
mod three_nodes;
mod told;
mod trace;
mod turned_on;
mod workload;
mod world;

use std::ops::Range;

/// The seeds to run: those asked for, else the first `count`.
fn seeds(count: u64) -> Range<u64> {
    let Ok(asked) = std::env::var("TETHYS_SIM_SEEDS") else { return 0..count };
    let bounds = asked.split_once("..").expect("TETHYS_SIM_SEEDS is a..b");
    bounds.0.parse().unwrap()..bounds.1.parse().unwrap()
}
