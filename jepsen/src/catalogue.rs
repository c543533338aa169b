//! The workloads by their names.

use crate::history::Event;
use crate::run::{Report, RunOptions, judge, run};
use crate::workload::append::Appends;
use crate::workload::batch::Batches;
use crate::workload::convergence::Replicas;
use crate::workload::counter::Counters;
use crate::workload::isolation::Partitions;
use crate::workload::log::Log;
use crate::workload::lwt::Transactions;
use crate::workload::overwrite::Overwrites;
use crate::workload::paging::Pages;
use crate::workload::register::Registers;
use crate::workload::schema::Tables;
use crate::workload::set::Set;
use clap::ValueEnum;
use std::fmt;
use std::io;

/// What clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Reads and writes of single rows.
    Register,
    /// The same with compare-and-set by light-weight transactions.
    Lwt,
    /// Increments of counters.
    Counter,
    /// Inserts that all stay.
    Set,
    /// Logged batches over two partitions.
    Batch,
    /// Upserts of a table with a change log.
    Log,
    /// Tables that are made from all nodes.
    Schema,
    /// Light-weight transactions that append to lists.
    Append,
    /// Overwrites and deletes with timestamps of the client's.
    Overwrite,
    /// Partitions written as a whole.
    Isolation,
    /// Replicas that become equal, with little log.
    Convergence,
    /// A set read page by page.
    Paging,
}

/// Does the same for the workload of a name, whatever its type.
macro_rules! with_workload {
    ($name:expr, |$workload:ident| $action:expr) => {
        match $name {
            Name::Register => with_workload!(@ Registers::default(), $workload, $action),
            Name::Lwt => with_workload!(@ Transactions::default(), $workload, $action),
            Name::Counter => with_workload!(@ Counters, $workload, $action),
            Name::Set => with_workload!(@ Set::default(), $workload, $action),
            Name::Batch => with_workload!(@ Batches::default(), $workload, $action),
            Name::Log => with_workload!(@ Log::default(), $workload, $action),
            Name::Schema => with_workload!(@ Tables::default(), $workload, $action),
            Name::Append => with_workload!(@ Appends::default(), $workload, $action),
            Name::Overwrite => with_workload!(@ Overwrites::default(), $workload, $action),
            Name::Isolation => with_workload!(@ Partitions::default(), $workload, $action),
            Name::Convergence => with_workload!(@ Replicas::default(), $workload, $action),
            Name::Paging => with_workload!(@ Pages::default(), $workload, $action),
        }
    };
    (@ $made:expr, $workload:ident, $action:expr) => {{
        let $workload = $made;
        $action
    }};
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 12] = [
        Name::Register,
        Name::Lwt,
        Name::Counter,
        Name::Set,
        Name::Batch,
        Name::Log,
        Name::Schema,
        Name::Append,
        Name::Overwrite,
        Name::Isolation,
        Name::Convergence,
        Name::Paging,
    ];

    /// Runs a test.
    pub async fn run(self, options: &RunOptions) -> io::Result<Report> {
        with_workload!(self, |workload| run(workload, options).await)
    }

    /// Judges a history again.
    pub fn judge(self, events: Vec<Event>) -> io::Result<Report> {
        with_workload!(self, |workload| judge(&workload, events, Vec::new()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no workload is hidden");
        f.write_str(value.get_name())
    }
}
