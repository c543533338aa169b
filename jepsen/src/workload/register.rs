//! Registers: one row each, read and written at QUORUM.

use super::rows::{self, Rotation};
use super::{Workload, foreign};
use crate::checker::{Verdict, linearizable};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    rotation: Rotation,
    last_value: i64,
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    pub(super) read: PreparedStatement,
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
        let key = self.rotation.pick(random);
        if random.below(2) == 0 {
            return Operation::Read { key, value: None };
        }
        self.last_value += 1;
        Operation::Write { key, value: self.last_value }
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
