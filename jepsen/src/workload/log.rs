//! A table with a change log: rows are written again and again, then table and log are read whole.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimeuuid;

/// Partitions, and rows in each.
const PARTITIONS: u64 = 16;
const ROWS: u64 = 5;
/// What the log calls an upsert by INSERT.
const INSERT: i8 = 2;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Log {
    next_value: i64,
}

/// A row of the log: (key, clustering, value, time, operation).
type LogRow = (i64, i64, Option<i64>, CqlTimeuuid, i8);

impl Workload for Log {
    type Prepared = PreparedStatement;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.logged (k bigint, c bigint, v bigint, PRIMARY KEY (k, c)) \
           WITH cdc = {'enabled': true}"]
    }

    async fn prepare(client: &Client) -> Result<PreparedStatement, Failure> {
        client.prepare("INSERT INTO jepsen.logged (k, c, v) VALUES (?, ?, ?)").await
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.next_value += 1;
        Operation::Upsert {
            key: random.below(PARTITIONS) as i64,
            clustering: random.below(ROWS) as i64,
            value: self.next_value,
        }
    }

    async fn perform(
        client: &Client,
        upsert: &PreparedStatement,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Upsert { key, clustering, value } => {
                client.execute(upsert, (key, clustering, value)).await?;
                Ok(operation)
            }
            Operation::ReadTable { .. } => {
                let mut rows = client.rows("SELECT k, c, v FROM jepsen.logged").await?;
                rows.sort_unstable();
                Ok(Operation::ReadTable { rows })
            }
            Operation::ReadLog { .. } => {
                let text = "SELECT k, c, v, \"cdc$time\", \"cdc$operation\" \
                            FROM jepsen.logged_scylla_cdc_log";
                let mut rows: Vec<LogRow> = client.rows(text).await?;
                rows.sort_by_key(|(key, _, _, time, _)| (*key, *time));
                let changes = rows.into_iter().filter(|row| row.4 == INSERT);
                let rows = changes.filter_map(|(key, clustering, value, _, _)| {
                    value.map(|value| (key, clustering, value))
                });
                Ok(Operation::ReadLog { rows: rows.collect() })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        vec![Operation::ReadTable { rows: Vec::new() }, Operation::ReadLog { rows: Vec::new() }]
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::log::check(calls)
    }
}
