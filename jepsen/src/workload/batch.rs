//! Logged batches that write one row into each of two partitions, which other replicas hold.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Cell, Connection, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;

const BATCH: &str = "BEGIN BATCH \
    INSERT INTO jepsen.left_side (k, v) VALUES (?, ?); \
    INSERT INTO jepsen.right_side (k, v) VALUES (?, ?); APPLY BATCH";

/// Partitions of each side.
const PARTITIONS: i64 = 16;
/// One of so many calls reads both sides.
const READ_ONE_OF: u64 = 500;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    next_value: i64,
}

impl Workload for Batches {
    fn tables(&self) -> &[&'static str] {
        &[
            "CREATE TABLE jepsen.left_side (k bigint, v bigint, PRIMARY KEY (k, v))",
            "CREATE TABLE jepsen.right_side (k bigint, v bigint, PRIMARY KEY (k, v))",
        ]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        if random.below(READ_ONE_OF) == 0 {
            return Operation::ReadBoth { left: Vec::new(), right: Vec::new() };
        }
        self.next_value += 1;
        Operation::AddBoth { value: self.next_value }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::AddBoth { value } => {
                let (left, right) = (value % PARTITIONS, PARTITIONS + value / 7 % PARTITIONS);
                let values = [left, value, right, value].map(Cell::from);
                client.execute(BATCH, &values).await?;
                Ok(operation)
            }
            Operation::ReadBoth { .. } => {
                let left = rows::elements(client, "SELECT v FROM jepsen.left_side").await?;
                let right = rows::elements(client, "SELECT v FROM jepsen.right_side").await?;
                Ok(Operation::ReadBoth { left, right })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        vec![Operation::ReadBoth { left: Vec::new(), right: Vec::new() }]
    }

    fn has_settled(told: &[Operation]) -> bool {
        let is_whole =
            |told: &Operation| matches!(told, Operation::ReadBoth { left, right } if left == right);
        told.iter().all(is_whole)
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::batch::check(calls)
    }
}
