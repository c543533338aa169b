//! Registers as in [`super::register`], with compare-and-set by light-weight transactions among the
//! plain writes, and reads at SERIAL: one order holds for all of them.

use super::rows::{self, Rotation};
use super::{Workload, foreign};
use crate::checker::{Verdict, linearizable};
use crate::connection::{Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT v FROM jepsen.transactions WHERE k = ?";
const WRITE: &str = "INSERT INTO jepsen.transactions (k, v) VALUES (?, ?)";
const COMPARE_AND_SET: &str = "UPDATE jepsen.transactions SET v = ? WHERE k = ? IF v = ?";

/// Values of a register: few, so that a compare-and-set often finds what it asks for.
const VALUES: u64 = 5;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    rotation: Rotation,
}

impl Workload for Transactions {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.transactions (k bigint PRIMARY KEY, v bigint)"]
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

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, Level::Serial, READ, key).await,
            Operation::Write { key, value } => {
                client.execute(WRITE, &[key.into(), value.into()]).await?;
                Ok(operation)
            }
            Operation::CompareAndSet { key, from, to, .. } => {
                let values = [to.into(), key.into(), from.into()];
                let rows = client.execute(COMPARE_AND_SET, &values).await?;
                let applied = Some(rows::is_applied(&rows)?);
                Ok(Operation::CompareAndSet { key, from, to, applied })
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
