//! Partitions of which all rows are written by one batch, and read by one query: at SERIAL, at QUORUM,
//! and at ONE, which any replica answers with what it has.

use super::rows::Rotation;
use super::{Workload, foreign, malformed};
use crate::checker::Verdict;
use crate::checker::isolation::{self, ROWS};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    rotation: Rotation,
    last_value: i64,
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    read: PreparedStatement,
    read_any: PreparedStatement,
    write: PreparedStatement,
}

impl Workload for Partitions {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.partitions (k bigint, c int, v bigint, PRIMARY KEY (k, c))"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        let inserts: Vec<String> = (0..ROWS)
            .map(|row| format!("INSERT INTO jepsen.partitions (k, c, v) VALUES (?, {row}, ?);"))
            .collect();
        let batch = format!("BEGIN UNLOGGED BATCH {} APPLY BATCH", inserts.join(" "));
        let select = "SELECT v FROM jepsen.partitions WHERE k = ?";
        let (mut read, mut read_any) =
            (client.prepare(select).await?, client.prepare(select).await?);
        read.set_consistency(Consistency::Serial);
        read_any.set_consistency(Consistency::One);
        Ok(Prepared { read, read_any, write: client.prepare(&batch).await? })
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

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::WriteAll { key, value } => {
                let values: Vec<i64> = (0..ROWS).flat_map(|_| [key, value]).collect();
                client.execute(&prepared.write, values).await?;
                Ok(operation)
            }
            Operation::ReadAll { key, is_of_any, .. } => {
                let statement = if is_of_any { &prepared.read_any } else { &prepared.read };
                let answer = client.execute(statement, (key,)).await?;
                let rows = answer.into_rows_result().map_err(malformed)?;
                let values = rows.rows::<(i64,)>().map_err(malformed)?;
                let values: Result<Vec<i64>, _> =
                    values.map(|row| row.map(|(value,)| value)).collect();
                Ok(Operation::ReadAll { key, is_of_any, values: values.map_err(malformed)? })
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
