//! A set: each element is a row of its own, in one of a few partitions; all rows are read at the end,
//! and now and then meanwhile.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;

/// Partitions that the elements are spread over.
const PARTITIONS: i64 = 64;
/// One of so many calls reads the set.
const READ_ONE_OF: u64 = 500;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Set {
    next_value: i64,
}

impl Workload for Set {
    type Prepared = PreparedStatement;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.elements (k bigint, v bigint, PRIMARY KEY (k, v))"]
    }

    async fn prepare(client: &Client) -> Result<PreparedStatement, Failure> {
        client.prepare("INSERT INTO jepsen.elements (k, v) VALUES (?, ?)").await
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        if random.below(READ_ONE_OF) == 0 {
            return Operation::ReadSet { values: Vec::new() };
        }
        self.next_value += 1;
        Operation::Add { value: self.next_value }
    }

    async fn perform(
        client: &Client,
        add: &PreparedStatement,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Add { value } => {
                client.execute(add, (value % PARTITIONS, value)).await?;
                Ok(operation)
            }
            Operation::ReadSet { .. } => {
                let rows: Vec<(i64,)> = client.rows("SELECT v FROM jepsen.elements").await?;
                let mut values: Vec<i64> = rows.into_iter().map(|(value,)| value).collect();
                values.sort_unstable();
                Ok(Operation::ReadSet { values })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        vec![Operation::ReadSet { values: Vec::new() }]
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::set::check(calls)
    }
}
