//! Registers: one row each, read and written at QUORUM.
//!
//! A few rows are worked on at a time, so that calls meet; each only for some calls, so that the
//! search for an order stays small, and then another row takes its place.

use super::{Workload, foreign, malformed};
use crate::checker::{Verdict, linearizable};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;

/// Registers worked on at a time.
const ACTIVE_COUNT: usize = 4;
/// Calls on one register.
const CALLS_MAX: u32 = 200;

/// The workload.
#[derive(Debug)]
pub struct Registers {
    /// Registers worked on, and how many calls each has had.
    active: [(i64, u32); ACTIVE_COUNT],
    next_key: i64,
    next_value: i64,
}

impl Default for Registers {
    fn default() -> Self {
        let active = std::array::from_fn(|at| (at as i64, 0));
        Registers { active, next_key: ACTIVE_COUNT as i64, next_value: 1 }
    }
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    read: PreparedStatement,
    write: PreparedStatement,
}

impl Workload for Registers {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.registers (k bigint PRIMARY KEY, v bigint)"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        Ok(Prepared {
            read: client.prepare("SELECT v FROM jepsen.registers WHERE k = ?").await?,
            write: client.prepare("INSERT INTO jepsen.registers (k, v) VALUES (?, ?)").await?,
        })
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let active = &mut self.active[random.below(ACTIVE_COUNT as u64) as usize];
        if active.1 >= CALLS_MAX {
            *active = (self.next_key, 0);
            self.next_key += 1;
        }
        active.1 += 1;
        let key = active.0;
        if random.below(2) == 0 {
            return Operation::Read { key, value: None };
        }
        self.next_value += 1;
        Operation::Write { key, value: self.next_value }
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => {
                let answer = client.execute(&prepared.read, (key,)).await?;
                let rows = answer.into_rows_result().map_err(malformed)?;
                let row = rows.maybe_first_row::<(i64,)>().map_err(malformed)?;
                Ok(Operation::Read { key, value: row.map(|(value,)| value) })
            }
            Operation::Write { key, value } => {
                client.execute(&prepared.write, (key, value)).await?;
                Ok(operation)
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        self.active.iter().map(|(key, _)| Operation::Read { key: *key, value: None }).collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        linearizable::check(calls)
    }
}
