//! Lists that light-weight transactions append to, one or two of a partition at once, and that are read
//! together at SERIAL.
//!
//! Every append is a conditional batch of one partition whose condition always holds, so the leader
//! decides where it stands among all others.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Cell, Connection, Failure, Level, malformed};
use crate::history::{Call, Operation};
use crate::random::Random;

const READ: &str = "SELECT k, v FROM jepsen.lists WHERE p = ?";
const UPDATE: &str = "UPDATE jepsen.lists SET v = v + ? WHERE p = ? AND k = ? IF nothing = null";

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

impl Appends {
    fn partition(&self, at: usize) -> i64 {
        self.active[at].1 * ACTIVE_COUNT as i64 + at as i64
    }
}

impl Workload for Appends {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.lists (p bigint, k bigint, v list<bigint>, nothing int, \
           PRIMARY KEY (p, k))"]
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

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Append { partition, ref values } => {
                let cells = |(key, value): &(i64, i64)| -> [Cell; 3] {
                    [[*value][..].into(), partition.into(), (*key).into()]
                };
                let cells: Vec<Cell> = values.iter().flat_map(cells).collect();
                let text = if values.len() == 1 {
                    UPDATE.to_owned()
                } else {
                    format!(
                        "BEGIN BATCH {} APPLY BATCH",
                        format!("{UPDATE}; ").repeat(values.len())
                    )
                };
                let rows = client.execute(&text, &cells).await?;
                if !rows::is_applied(&rows)? {
                    return Err(malformed("a condition that always holds was refused"));
                }
                Ok(operation)
            }
            Operation::ReadLists { partition, .. } => {
                let rows = client.execute_at(Level::Serial, READ, &[partition.into()]).await?;
                // A key that nobody has appended to has no row, and is an empty list.
                let mut lists: Vec<(i64, Vec<i64>)> =
                    (0..KEYS).map(|key| (key, Vec::new())).collect();
                for row in rows {
                    let [key, values] = &row[..] else { return Err(malformed("two columns")) };
                    let key = key.number()?.unwrap_or(-1) as usize;
                    let list = lists.get_mut(key);
                    list.ok_or_else(|| malformed("a key that nobody wrote"))?.1 =
                        values.numbers()?;
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
