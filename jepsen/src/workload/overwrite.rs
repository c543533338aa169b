//! Rows that are overwritten and deleted with rising timestamps of the client's, and read at QUORUM.
//!
//! Some writes are of the row and the timestamp of the one before, so that ties are decided as well. Tombstones may go
//! a second after they were made, and rows are wide, so that they are written out and merged meanwhile.

use super::rows;
use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::connection::{Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT v FROM jepsen.overwritten WHERE k = ?";
const WRITE: &str =
    "INSERT INTO jepsen.overwritten (k, v, padding) VALUES (?, ?, ?) USING TIMESTAMP ?";
const DELETE: &str = "DELETE FROM jepsen.overwritten USING TIMESTAMP ? WHERE k = ?";

/// Rows.
const ROWS: u64 = 40;
/// One of so many writes has the timestamp of the one before it.
const TIE_ONE_OF: u64 = 6;
/// What makes a row wide, in bytes.
const PADDING_BYTES: usize = 2_000;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Overwrites {
    next_value: i64,
    timestamp: i64,
    last_key: i64,
}

impl Workload for Overwrites {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.overwritten (k bigint PRIMARY KEY, v bigint, padding text) \
           WITH gc_grace_seconds = 1"]
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let key = random.below(ROWS) as i64;
        if random.below(3) == 0 {
            return Operation::Read { key, value: None };
        }
        self.next_value += 1;
        if self.timestamp == 0 || random.below(TIE_ONE_OF) > 0 {
            self.timestamp += 1_000;
            self.last_key = key;
        }
        let value = (random.below(3) > 0).then_some(self.next_value);
        Operation::Put { key: self.last_key, timestamp: self.timestamp, value }
    }

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Read { key, .. } => rows::read(client, Level::Quorum, READ, key).await,
            Operation::Put { key, timestamp, value: Some(value) } => {
                let padding = "x".repeat(PADDING_BYTES);
                let values = [key.into(), value.into(), padding.as_str().into(), timestamp.into()];
                client.execute(WRITE, &values).await?;
                Ok(operation)
            }
            Operation::Put { key, timestamp, value: None } => {
                client.execute(DELETE, &[timestamp.into(), key.into()]).await?;
                Ok(operation)
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        (0..ROWS as i64).map(|key| Operation::Read { key, value: None }).collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::overwrite::check(calls)
    }
}
