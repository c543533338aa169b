//! Registers as in [`super::register`], asked for with a mistake. What a right cluster answers then
//! is no longer linearizable, and a run that finds nothing shows that the harness does not look.
//!
//! - [`ReadsAtOne`]: reads at ONE, which any replica answers with what it has.
//! - [`SkewedClocks`]: writes with timestamps of clients whose clocks differ by a second.

use super::register::{READ, Registers};
use super::{Workload, foreign, rows};
use crate::checker::Verdict;
use crate::connection::{Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;
use std::time::{SystemTime, UNIX_EPOCH};

const WRITE: &str = "INSERT INTO jepsen.registers (k, v) VALUES (?, ?) USING TIMESTAMP ?";

/// How far the clock of every second write is behind.
const SKEW_MICROS: i64 = 1_000_000;

/// The first workload.
#[derive(Clone, Debug, Default)]
pub struct ReadsAtOne(Registers);

impl Workload for ReadsAtOne {
    fn tables(&self) -> &[&'static str] {
        self.0.tables()
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.0.next(random)
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, Level::One, READ, key).await,
            other => Registers::perform(client, other).await,
        }
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
    fn tables(&self) -> &[&'static str] {
        self.0.tables()
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.0.next(random)
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, Level::Quorum, READ, key).await,
            Operation::Write { key, value } => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let skew_micros = value % 2 * SKEW_MICROS;
                let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - skew_micros;
                client.execute(WRITE, &[key.into(), value.into(), micros.into()]).await?;
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
