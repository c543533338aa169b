//! Registers: one row each, read and written at QUORUM.

use super::rows::{self, Rotation};
use super::{Workload, foreign};
use crate::checker::{Verdict, linearizable};
use crate::connection::{Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;

pub(super) const READ: &str = "SELECT v FROM jepsen.registers WHERE k = ?";
const WRITE: &str = "INSERT INTO jepsen.registers (k, v) VALUES (?, ?)";

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    rotation: Rotation,
    last_value: i64,
}

impl Workload for Registers {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.registers (k bigint PRIMARY KEY, v bigint)"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = self.rotation.pick(random);
        if random.below(2) == 0 {
            return Operation::Read { key, value: None };
        }
        self.last_value += 1;
        Operation::Write { key, value: self.last_value }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, Level::Quorum, READ, key).await,
            Operation::Write { key, value } => {
                client.execute(WRITE, &[key.into(), value.into()]).await?;
                Ok(operation)
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
