//! A set: each element is a row of its own, in one of a few partitions; all rows are read at the end,
//! and now and then meanwhile.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Connection, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;

const ADD: &str = "INSERT INTO jepsen.elements (k, v) VALUES (?, ?)";
const READ: &str = "SELECT v FROM jepsen.elements";

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
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.elements (k bigint, v bigint, PRIMARY KEY (k, v))"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        if random.below(READ_ONE_OF) == 0 {
            return Operation::ReadSet { values: Vec::new() };
        }
        self.next_value += 1;
        Operation::Add { value: self.next_value }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Add { value } => {
                client.execute(ADD, &[(value % PARTITIONS).into(), value.into()]).await?;
                Ok(operation)
            }
            Operation::ReadSet { .. } => {
                Ok(Operation::ReadSet { values: rows::elements(client, READ).await? })
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
