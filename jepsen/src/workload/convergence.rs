//! Replicas that become equal by themselves: wide rows are written again and again, with so little log
//! that a node which was away for long has to be sent its ranges as they are; in the end each node is
//! asked for all that it has.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

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

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    upsert: PreparedStatement,
    padding: String,
}

impl Workload for Replicas {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.replicated (k bigint, c bigint, v bigint, padding text, \
           PRIMARY KEY (k, c))"]
    }

    fn configuration(&self) -> &'static str {
        "commitlog_segment_size: 256KiB\ncommitlog_total_space: 4MiB\n"
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        let upsert = "INSERT INTO jepsen.replicated (k, c, v, padding) VALUES (?, ?, ?, ?)";
        let upsert = client.prepare(upsert).await?;
        Ok(Prepared { upsert, padding: "x".repeat(PADDING_BYTES) })
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
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        const SELECT: &str = "SELECT k, c, v FROM jepsen.replicated";
        match operation {
            Operation::Upsert { key, clustering, value } => {
                let values = (key, clustering, value, &prepared.padding);
                client.execute(&prepared.upsert, values).await?;
                Ok(operation)
            }
            Operation::ReadTable { .. } => {
                let mut rows = client.rows(SELECT).await?;
                rows.sort_unstable();
                Ok(Operation::ReadTable { rows })
            }
            Operation::ReadReplica { node, .. } => {
                let mut rows = client.rows_at(SELECT, Consistency::One).await?;
                rows.sort_unstable();
                Ok(Operation::ReadReplica { node, rows })
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
