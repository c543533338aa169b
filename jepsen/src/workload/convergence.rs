//! Replicas that become equal by themselves: wide rows are written again and again, with so little log
//! that a node which was away for long has to be sent its ranges as they are; in the end each node is
//! asked for all that it has.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Asked, Connection, Failure, Level, PAGE_ROWS};
use crate::history::{Call, Operation};
use crate::random::Random;

const UPSERT: &str = "INSERT INTO jepsen.replicated (k, c, v, padding) VALUES (?, ?, ?, ?)";
const READ: &str = "SELECT k, c, v FROM jepsen.replicated";

/// Partitions, and rows in each.
const PARTITIONS: u64 = 64;
const ROWS: u64 = 4;
/// What makes a row wide, in bytes.
const PADDING_BYTES: usize = 4_000;
/// Nodes that have all of it, each of which is asked in the end.
const NODES: u32 = 3;

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    next_value: i64,
}

impl Workload for Replicas {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.replicated (k bigint, c bigint, v bigint, padding text, \
           PRIMARY KEY (k, c))"]
    }

    fn configuration(&self) -> &'static str {
        "commitlog_segment_size: 256KiB\ncommitlog_total_space: 4MiB\n"
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
                let padding = "x".repeat(PADDING_BYTES);
                let values = [key.into(), clustering.into(), value.into(), padding.as_str().into()];
                client.execute(UPSERT, &values).await?;
                Ok(operation)
            }
            Operation::ReadTable { .. } => {
                Ok(Operation::ReadTable { rows: rows::triples(&client.read_all(READ).await?)? })
            }
            Operation::ReadReplica { node, .. } => {
                let pages = client.read_pages(Level::One, READ, PAGE_ROWS, Asked::ThisNode);
                Ok(Operation::ReadReplica { node, rows: rows::triples(&pages.await?)? })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        let replicas = (0..NODES).map(|node| Operation::ReadReplica { node, rows: Vec::new() });
        std::iter::once(Operation::ReadTable { rows: Vec::new() }).chain(replicas).collect()
    }

    fn node_of(operation: &Operation) -> usize {
        match operation {
            Operation::ReadReplica { node, .. } => *node as usize,
            _ => 0,
        }
    }

    fn has_settled(told: &[Operation]) -> bool {
        let contents: Vec<&Vec<(i64, i64, i64)>> = told
            .iter()
            .filter_map(|operation| match operation {
                Operation::ReadTable { rows } | Operation::ReadReplica { rows, .. } => Some(rows),
                _ => None,
            })
            .collect();
        contents.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::convergence::check(calls)
    }
}
