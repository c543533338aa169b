//! Registers as in [`super::register`], asked for with a mistake. What a right cluster answers then
//! is no longer linearizable, and a run that finds nothing shows that the harness does not look.
//!
//! - [`ReadsAtOne`]: reads at ONE, which any replica answers with what it has.
//! - [`SkewedClocks`]: writes with timestamps of clients whose clocks differ by a second.

use super::register::{Prepared, Registers};
use super::{Workload, foreign, rows};
use crate::checker::Verdict;
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far the clock of every second write is behind.
const SKEW_MICROS: i64 = 1_000_000;

/// The first workload.
#[derive(Clone, Debug, Default)]
pub struct ReadsAtOne(Registers);

impl Workload for ReadsAtOne {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        self.0.tables()
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        let mut prepared = Registers::prepare(client).await?;
        prepared.read.set_consistency(Consistency::One);
        Ok(prepared)
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.0.next(random)
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        Registers::perform(client, prepared, operation).await
    }

    fn last_reads(&self) -> Vec<Operation> {
        self.0.last_reads()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        self.0.check(calls)
    }
}

/// The second workload.
#[derive(Clone, Debug, Default)]
pub struct SkewedClocks(Registers);

impl Workload for SkewedClocks {
    type Prepared = (Prepared, PreparedStatement);

    fn tables(&self) -> &[&'static str] {
        self.0.tables()
    }

    async fn prepare(client: &Client) -> Result<Self::Prepared, Failure> {
        let write = "INSERT INTO jepsen.registers (k, v) VALUES (?, ?) USING TIMESTAMP ?";
        Ok((Registers::prepare(client).await?, client.prepare(write).await?))
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.0.next(random)
    }

    async fn perform(
        client: &Client,
        (prepared, write): &Self::Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, &prepared.read, key).await,
            Operation::Write { key, value } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let skew_micros = value % 2 * SKEW_MICROS;
                let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - skew_micros;
                client.execute(write, (key, value, micros)).await?;
                Ok(operation)
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        self.0.last_reads()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        self.0.check(calls)
    }
}
