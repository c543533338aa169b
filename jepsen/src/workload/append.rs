//! Lists that light-weight transactions append to, one or two of a partition at once, and that are read
//! together at SERIAL.
//!
//! Every append is a conditional batch of one partition whose condition always holds, so the leader
//! decides where it stands among all others.

use super::{Workload, foreign, malformed};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

/// Partitions worked on at a time, and lists in each.
const ACTIVE_COUNT: u64 = 3;
const KEYS: i64 = 2;
/// Appends of a partition: then another takes its place, so that lists stay short.
const APPENDS_MAX: u32 = 60;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Appends {
    next_value: i64,
    /// How many appends each of the partitions worked on has had, and how often it was replaced.
    active: [(u32, i64); ACTIVE_COUNT as usize],
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    read: PreparedStatement,
    one: PreparedStatement,
    both: PreparedStatement,
}

impl Appends {
    fn partition(&self, at: usize) -> i64 {
        self.active[at].1 * ACTIVE_COUNT as i64 + at as i64
    }
}

impl Workload for Appends {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.lists (p bigint, k bigint, v list<bigint>, nothing int, \
           PRIMARY KEY (p, k))"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        const UPDATE: &str =
            "UPDATE jepsen.lists SET v = v + ? WHERE p = ? AND k = ? IF nothing = null";
        let mut read = client.prepare("SELECT k, v FROM jepsen.lists WHERE p = ?").await?;
        read.set_consistency(Consistency::Serial);
        let both = format!("BEGIN BATCH {UPDATE}; {UPDATE}; APPLY BATCH");
        Ok(Prepared {
            read,
            one: client.prepare(UPDATE).await?,
            both: client.prepare(&both).await?,
        })
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        let at = random.below(ACTIVE_COUNT) as usize;
        if random.below(2) == 0 {
            return Operation::ReadLists { partition: self.partition(at), lists: Vec::new() };
        }
        if self.active[at].0 >= APPENDS_MAX {
            self.active[at] = (0, self.active[at].1 + 1);
        }
        self.active[at].0 += 1;
        self.next_value += 1;
        let value = self.next_value;
        let first = random.below(KEYS as u64 + 1) as i64;
        let keys = if first == KEYS { 0..KEYS } else { first..first + 1 };
        let values = keys.map(|key| (key, value)).collect();
        Operation::Append { partition: self.partition(at), values }
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Append { partition, ref values } => {
                let answer = match values[..] {
                    [(key, value)] => {
                        client.execute(&prepared.one, (vec![value], partition, key)).await?
                    }
                    [(one, first), (other, second)] => {
                        let first = (vec![first], partition, one);
                        let second = (vec![second], partition, other);
                        let values = (first.0, first.1, first.2, second.0, second.1, second.2);
                        client.execute(&prepared.both, values).await?
                    }
                    _ => return Err(foreign(&operation)),
                };
                let rows = answer.into_rows_result().map_err(malformed)?;
                let row = rows.first_row::<Row>().map_err(malformed)?;
                match row.columns.first() {
                    Some(Some(CqlValue::Boolean(true))) => Ok(operation),
                    other => Err(malformed(format!("applied is {other:?}"))),
                }
            }
            Operation::ReadLists { partition, .. } => {
                let answer = client.execute(&prepared.read, (partition,)).await?;
                let rows = answer.into_rows_result().map_err(malformed)?;
                // A key that nobody has appended to has no row, and is an empty list.
                let mut lists: Vec<(i64, Vec<i64>)> =
                    (0..KEYS).map(|key| (key, Vec::new())).collect();
                for row in rows.rows::<(i64, Option<Vec<i64>>)>().map_err(malformed)? {
                    let (key, values) = row.map_err(malformed)?;
                    let list = lists.get_mut(key as usize);
                    list.ok_or_else(|| malformed("a key that nobody wrote"))?.1 =
                        values.unwrap_or_default();
                }
                Ok(Operation::ReadLists { partition, lists })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        let partitions = (0..ACTIVE_COUNT as usize).map(|at| self.partition(at));
        partitions.map(|partition| Operation::ReadLists { partition, lists: Vec::new() }).collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::append::check(calls)
    }
}
