//! What clients ask of the cluster, and which checker judges it.
//!
//! - [`register`]: reads and writes of single rows at QUORUM, which are linearizable.
//! - [`lwt`]: the same with light-weight transactions, at SERIAL.
//! - [`counter`]: counters, which count every increment once.
//! - [`set`]: inserts of rows of their own, which all stay.
//! - [`batch`]: logged batches, of which all is done or nothing.
//! - [`log`]: upserts of a table with a change log, which tells of each exactly once.
//! - [`append`]: light-weight transactions that append to lists, in one order.
//! - [`overwrite`]: writes and deletes with timestamps of the client's, of which the highest wins.
//! - [`isolation`]: partitions written as a whole, and never seen in part.
//! - [`convergence`]: replicas that become equal by themselves, also after long absences.
//! - [`paging`]: a set read page by page while it changes.
//! - [`schema`]: tables made from all nodes, each once.
//! - [`planted`]: registers asked for with a mistake, which must be noticed.

pub mod append;
pub mod batch;
pub mod convergence;
pub mod counter;
pub mod isolation;
pub mod log;
pub mod lwt;
pub mod overwrite;
pub mod paging;
pub mod planted;
pub mod register;
mod rows;
pub mod schema;
pub mod set;

use crate::checker::Verdict;
use crate::connection::{Connection, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use std::future::Future;

/// One kind of test.
pub trait Workload {
    /// The tables, in a keyspace `jepsen` that is there.
    fn tables(&self) -> &[&'static str];

    /// The next thing to ask.
    fn next(&mut self, random: &mut Random) -> Operation;

    /// Asks it; returns it with what was told.
    fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> impl Future<Output = Result<Operation, Failure>>;

    /// What is asked when all faults are healed and nobody else asks anything.
    fn last_reads(&self) -> Vec<Operation>;

    /// What the nodes are told besides their arguments: lines of their configuration file.
    fn configuration(&self) -> &'static str {
        ""
    }

    /// The node that is asked for one of the last reads.
    fn node_of(_operation: &Operation) -> usize {
        0
    }

    /// Whether the last reads show what stays. If not all are asked again, for a while: what clients
    /// heard nothing of may yet be finished.
    fn has_settled(_told: &[Operation]) -> bool {
        true
    }

    /// Whether the history can be true.
    fn check(&self, calls: &[Call]) -> Verdict;
}

/// A statement that is not the workload's.
fn foreign(operation: &Operation) -> Failure {
    Failure::Refused(format!("this workload does not ask {operation:?}"))
}
