//! The workloads by their names.

use crate::history::Event;
use crate::run::{Report, RunOptions, judge, run};
use crate::workload::batch::Batches;
use crate::workload::counter::Counters;
use crate::workload::log::Log;
use crate::workload::lwt::Transactions;
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
}

impl Name {
    /// All of them.
    pub const ALL: [Name; 7] =
        [Name::Register, Name::Lwt, Name::Counter, Name::Set, Name::Batch, Name::Log, Name::Schema];

    /// Runs a test.
    pub async fn run(self, options: &RunOptions) -> io::Result<Report> {
        match self {
            Name::Register => run(Registers::default(), options).await,
            Name::Lwt => run(Transactions::default(), options).await,
            Name::Counter => run(Counters, options).await,
            Name::Set => run(Set::default(), options).await,
            Name::Batch => run(Batches::default(), options).await,
            Name::Log => run(Log::default(), options).await,
            Name::Schema => run(Tables::default(), options).await,
        }
    }

    /// Judges a history again.
    pub fn judge(self, events: Vec<Event>) -> io::Result<Report> {
        match self {
            Name::Register => judge(&Registers::default(), events, Vec::new()),
            Name::Lwt => judge(&Transactions::default(), events, Vec::new()),
            Name::Counter => judge(&Counters, events, Vec::new()),
            Name::Set => judge(&Set::default(), events, Vec::new()),
            Name::Batch => judge(&Batches::default(), events, Vec::new()),
            Name::Log => judge(&Log::default(), events, Vec::new()),
            Name::Schema => judge(&Tables::default(), events, Vec::new()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no workload is hidden");
        f.write_str(value.get_name())
    }
}
