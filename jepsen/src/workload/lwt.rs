//! Registers as in [`super::register`], with compare-and-set by light-weight transactions among the
//! plain writes, and reads at SERIAL: one order holds for all of them.

use super::rows::{self, Rotation};
use super::{Workload, foreign, malformed};
use crate::checker::{Verdict, linearizable};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

/// Values of a register: few, so that a compare-and-set often finds what it asks for.
const VALUES: u64 = 5;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    rotation: Rotation,
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    read: PreparedStatement,
    write: PreparedStatement,
    compare_and_set: PreparedStatement,
}

impl Workload for Transactions {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.transactions (k bigint PRIMARY KEY, v bigint)"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        let mut read = client.prepare("SELECT v FROM jepsen.transactions WHERE k = ?").await?;
        read.set_consistency(Consistency::Serial);
        let write = "INSERT INTO jepsen.transactions (k, v) VALUES (?, ?)";
        let compare_and_set = "UPDATE jepsen.transactions SET v = ? WHERE k = ? IF v = ?";
        Ok(Prepared {
            read,
            write: client.prepare(write).await?,
            compare_and_set: client.prepare(compare_and_set).await?,
        })
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = self.rotation.pick(random);
        let value = random.below(VALUES) as i64;
        match random.below(4) {
            0 | 1 => Operation::Read { key, value: None },
            2 => Operation::Write { key, value },
            _ => {
                let to = random.below(VALUES) as i64;
                Operation::CompareAndSet { key, from: value, to, applied: None }
            }
        }
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, &prepared.read, key).await,
            Operation::Write { key, value } => {
                client.execute(&prepared.write, (key, value)).await?;
                Ok(operation)
            }
            Operation::CompareAndSet { key, from, to, .. } => {
                let answer = client.execute(&prepared.compare_and_set, (to, key, from)).await?;
                let rows = answer.into_rows_result().map_err(malformed)?;
                // A refusal also shows the value that was found.
                let row = rows.first_row::<Row>().map_err(malformed)?;
                match row.columns.first() {
                    Some(Some(CqlValue::Boolean(applied))) => {
                        Ok(Operation::CompareAndSet { key, from, to, applied: Some(*applied) })
                    }
                    other => Err(malformed(format!("applied is {other:?}"))),
                }
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        self.rotation.reads()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        linearizable::check(calls)
    }
}
