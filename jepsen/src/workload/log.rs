//! A table with a change log: rows are written again and again, then table and log are read whole.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Connection, Failure, Row, malformed};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::value::CqlTimeuuid;

const UPSERT: &str = "INSERT INTO jepsen.logged (k, c, v) VALUES (?, ?, ?)";
const READ_TABLE: &str = "SELECT k, c, v FROM jepsen.logged";
const READ_LOG: &str =
    "SELECT k, c, v, \"cdc$time\", \"cdc$operation\" FROM jepsen.logged_scylla_cdc_log";

/// Partitions, and rows in each.
const PARTITIONS: u64 = 16;
const ROWS: u64 = 5;
/// What the log calls an upsert by INSERT.
const INSERT: i64 = 2;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Log {
    next_value: i64,
}

impl Workload for Log {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.logged (k bigint, c bigint, v bigint, PRIMARY KEY (k, c)) \
           WITH cdc = {'enabled': true}"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        self.next_value += 1;
        Operation::Upsert {
            key: random.below(PARTITIONS) as i64,
            clustering: random.below(ROWS) as i64,
            value: self.next_value,
        }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Upsert { key, clustering, value } => {
                client.execute(UPSERT, &[key.into(), clustering.into(), value.into()]).await?;
                Ok(operation)
            }
            Operation::ReadTable { .. } => {
                let rows = client.read_all(READ_TABLE).await?;
                Ok(Operation::ReadTable { rows: rows::triples(&rows)? })
            }
            Operation::ReadLog { .. } => {
                let rows = client.read_all(READ_LOG).await?;
                let upserts = rows.iter().map(upsert).filter_map(Result::transpose);
                let mut upserts = upserts.collect::<Result<Vec<_>, Failure>>()?;
                upserts.sort_by_key(|((key, ..), time)| (*key, *time));
                Ok(Operation::ReadLog { rows: upserts.into_iter().map(|(row, _)| row).collect() })
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

/// Key, clustering and value of a row that was written, and when.
type Upsert = ((i64, i64, i64), CqlTimeuuid);

/// The upsert that a row of the log tells of, with its time, if it is one.
fn upsert(row: &Row) -> Result<Option<Upsert>, Failure> {
    let [key, clustering, value, time, operation] = &row[..] else {
        return Err(malformed("a row of the log has five columns"));
    };
    let is_upsert = operation.number()? == Some(INSERT);
    match (key.number()?, clustering.number()?, value.number()?) {
        (Some(key), Some(clustering), Some(value)) if is_upsert => {
            Ok(Some(((key, clustering, value), time.time()?)))
        }
        _ => Ok(None),
    }
}
