//! Real clients under faults: the drivers for Python, Java and Rust, cqlsh and scylla-cdc, together on
//! one cluster whose nodes die, sleep, are cut off, join and leave, each with its default policies.
//!
//! ```text
//!   program.rs      a client in another language: a process that prints events and views
//!   rust_driver.rs  the driver for Rust, in this one
//!   shell.rs        cqlsh, typed into
//!   follower.rs     scylla-cdc, following the log of what the others write
//!   run.rs          all of them and the nemesis together, then healing, last reads, verdict
//! ```
//! The programs are in `jepsen/clients`. All drivers do the same: they write rows of their own, and
//! raise registers by light-weight transactions. What they say becomes one [`crate::history`]; its
//! times are those of the machine's monotonic clock, which all processes share. Beyond what a history
//! tells, a driver must find its way back: when all is healed it has to know the nodes that there are
//! and no others, and each has to answer it a statement that was prepared before the faults.
//!
//! `cargo run --release -p jepsen --example clients -- --help` runs a test at length.

#[path = "../../../node/tests/end_to_end/support/command.rs"]
mod command;
mod follower;
#[path = "../../../node/tests/end_to_end/support/peers.rs"]
mod peers;
mod program;
mod run;
mod rust_driver;
mod shell;

pub use run::{ClientsReport, Figures, Settled, judge, run};

use crate::cluster::built_program;
use crate::history::{Event, Kind, Operation};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is written: rows that stay, each written once, and registers that only rise. The table of rows
/// has a log, which is followed.
const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS jepsen.elements (k bigint, v bigint, PRIMARY KEY (k, v)) \
     WITH cdc = {'enabled': true}",
    "CREATE TABLE IF NOT EXISTS jepsen.registers (k bigint PRIMARY KEY, v bigint)",
];
// The programs in other languages have the same numbers.
/// Partitions that the rows are spread over.
const PARTITIONS: i64 = 64;
/// Rows that one client writes at most; its first is its number times this.
const VALUES_OF_PROCESS: i64 = 1_000_000;
/// Registers, which are 0 at first.
const REGISTERS: i64 = 256;
/// After one of so many rows a client raises a register.
const RAISE_ONE_OF: i64 = 4;
/// How often it tries one register before it goes to the next.
const RAISES_IN_TURN: i64 = 40;
/// Between two rows.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a node may take to answer when a driver is asked which do.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The numbers of the clients' processes in the history: those of one client begin at its number.
const CLIENTS: [(u32, &str); 6] = [
    (0, "the harness"),
    (100, "Python driver"),
    (200, "Java driver"),
    (300, "Rust driver"),
    (400, "cqlsh"),
    (500, "cqlsh's COPY"),
];
const HARNESS: u32 = 0;
const PYTHON: u32 = 100;
const JAVA: u32 = 200;
const RUST: u32 = 300;
const SHELL: u32 = 400;
const COPY: u32 = 500;

/// What a driver says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct View {
    /// When it began to look, on the machine's monotonic clock.
    nanos: u64,
    /// The nodes that it knows.
    known: BTreeSet<IpAddr>,
    /// Those that answered it a statement prepared before.
    answered: BTreeSet<IpAddr>,
}

impl View {
    /// Whether these are the nodes that it knows, and all answer.
    fn is_of(&self, members: &BTreeSet<IpAddr>) -> bool {
        self.known == *members && self.answered == *members
    }
}

/// Nanoseconds of the machine's monotonic clock, which Python's `time.monotonic_ns` and Java's
/// `System.nanoTime` tell as well.
fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).expect("a clock since the start of the machine");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// An event that happens now.
fn event(process: u32, kind: Kind, operation: Operation, error: Option<String>) -> Event {
    Event { nanos: nanos(), process, kind, operation, error }
}

/// Cargo's target folder, where clients from elsewhere are kept.
fn target_folder() -> PathBuf {
    let program = built_program().expect("the program is built before a test begins");
    let target = program.parent().and_then(Path::parent);
    target.expect("the program is in a target folder").to_path_buf()
}
