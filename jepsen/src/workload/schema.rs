//! Changes of the schema from all nodes at once: tables that are made once and stay, and that every
//! node knows in the end.
//!
//! A node answers for the schema from what it knows, so the tables are read when all nodes say that
//! they agree.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::connection::{Cell, Connection, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'jepsen'";

/// What the names of the tables begin with; a number follows.
const PREFIX: &str = "made_";
/// Tables of a run: each takes memory on every node.
const TABLES_MAX: i64 = 400;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    next_value: i64,
}

impl Workload for Tables {
    fn tables(&self) -> &[&'static str] {
        &[]
    }

    fn next(&mut self, _random: &mut Random) -> Operation {
        if self.next_value >= TABLES_MAX {
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
                let table = format!("jepsen.{PREFIX}{value}");
                client.define(&format!("CREATE TABLE {table} (k int PRIMARY KEY)")).await?;
                Ok(operation)
            }
            Operation::ReadSet { .. } => {
                client.agree().await?;
                let rows = client.read_all(READ).await?;
                let cells = rows.iter().filter_map(|row| row.first());
                let names: Vec<&str> = cells.map(Cell::text).collect::<Result<_, _>>()?;
                let numbers = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
                let mut values: Vec<i64> =
                    numbers.filter_map(|number| number.parse().ok()).collect();
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
