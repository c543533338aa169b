//! Partitions of which all rows are written by one batch, and read by one query: at SERIAL, at QUORUM,
//! and at ONE, which any replica answers with what it has.

use super::rows::{self, Rotation};
use super::{Workload, foreign};
use crate::checker::Verdict;
use crate::checker::isolation::{self, ROWS};
use crate::connection::{Cell, Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT v FROM jepsen.partitions WHERE k = ?";

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    rotation: Rotation,
    last_value: i64,
}

impl Workload for Partitions {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.partitions (k bigint, c int, v bigint, PRIMARY KEY (k, c))"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = self.rotation.pick(random);
        match random.below(4) {
            0 => Operation::ReadAll { key, is_of_any: true, values: Vec::new() },
            1 => Operation::ReadAll { key, is_of_any: false, values: Vec::new() },
            _ => {
                self.last_value += 1;
                Operation::WriteAll { key, value: self.last_value }
            }
        }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::WriteAll { key, value } => {
                let values: Vec<Cell> =
                    (0..ROWS).flat_map(|_| [key.into(), value.into()]).collect();
                client.execute(&write(), &values).await?;
                Ok(operation)
            }
            Operation::ReadAll { key, is_of_any, .. } => {
                let level = if is_of_any { Level::One } else { Level::Serial };
                let rows = client.execute_at(level, READ, &[key.into()]).await?;
                Ok(Operation::ReadAll { key, is_of_any, values: rows::values(&rows)? })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        let reads = self.rotation.reads().into_iter();
        reads
            .filter_map(|read| match read {
                Operation::Read { key, .. } => {
                    Some(Operation::ReadAll { key, is_of_any: false, values: Vec::new() })
                }
                _ => None,
            })
            .collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        isolation::check(calls)
    }
}

/// The batch that writes all rows of a partition.
fn write() -> String {
    let insert = |row| format!("INSERT INTO jepsen.partitions (k, c, v) VALUES (?, {row}, ?);");
    let inserts: String = (0..ROWS).map(insert).collect();
    format!("BEGIN UNLOGGED BATCH {inserts} APPLY BATCH")
}
