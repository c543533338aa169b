//! Counters: a few rows that all clients raise; what is told as done is counted once.

use super::{Workload, foreign, malformed};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Counter;

/// Counters.
const COUNTERS: u64 = 8;
/// An increment is at most this.
const INCREMENT_MAX: u64 = 5;
/// One of so many calls reads a counter.
const READ_ONE_OF: u64 = 20;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Counters;

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    read: PreparedStatement,
    add: PreparedStatement,
}

impl Workload for Counters {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.counters (k bigint PRIMARY KEY, c counter)"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        Ok(Prepared {
            read: client.prepare("SELECT c FROM jepsen.counters WHERE k = ?").await?,
            add: client.prepare("UPDATE jepsen.counters SET c = c + ? WHERE k = ?").await?,
        })
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = random.below(COUNTERS) as i64;
        if random.below(READ_ONE_OF) == 0 {
            return Operation::ReadCounter { key, value: None };
        }
        Operation::Increment { key, by: 1 + random.below(INCREMENT_MAX) as i64 }
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Increment { key, by } => {
                client.execute(&prepared.add, (Counter(by), key)).await?;
                Ok(operation)
            }
            Operation::ReadCounter { key, .. } => {
                let answer = client.execute(&prepared.read, (key,)).await?;
                let rows = answer.into_rows_result().map_err(malformed)?;
                let row = rows.maybe_first_row::<(Option<Counter>,)>().map_err(malformed)?;
                let value = row.and_then(|(counter,)| counter).map_or(0, |counter| counter.0);
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
