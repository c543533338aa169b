//! Counters: a few rows that all clients raise; what is told as done is counted once.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::connection::{Cell, Connection, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT c FROM jepsen.counters WHERE k = ?";
const ADD: &str = "UPDATE jepsen.counters SET c = c + ? WHERE k = ?";

/// Counters.
const COUNTERS: u64 = 8;
/// An increment is at most this.
const INCREMENT_MAX: u64 = 5;
/// One of so many calls reads a counter.
const READ_ONE_OF: u64 = 20;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Counters;

impl Workload for Counters {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.counters (k bigint PRIMARY KEY, c counter)"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = random.below(COUNTERS) as i64;
        if random.below(READ_ONE_OF) == 0 {
            return Operation::ReadCounter { key, value: None };
        }
        Operation::Increment { key, by: 1 + random.below(INCREMENT_MAX) as i64 }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Increment { key, by } => {
                client.execute(ADD, &[by.into(), key.into()]).await?;
                Ok(operation)
            }
            Operation::ReadCounter { key, .. } => {
                let rows = client.execute(READ, &[key.into()]).await?;
                let cell = rows.first().and_then(|row| row.first());
                // A counter that nobody has raised has no row, and is 0.
                let value = cell.map_or(Ok(None), Cell::number)?.unwrap_or(0);
                Ok(Operation::ReadCounter { key, value: Some(value) })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        (0..COUNTERS as i64).map(|key| Operation::ReadCounter { key, value: None }).collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::counter::check(calls)
    }
}
