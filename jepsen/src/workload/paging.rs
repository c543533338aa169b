//! A set that is read page by page, by small pages and large ones, while rows come and go around those
//! that stay.

use super::{Workload, foreign};
use crate::checker::{self, Verdict};
use crate::client::{Client, Failure};
use crate::history::{Call, Operation};
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;

/// Partitions that the elements are spread over.
const PARTITIONS: i64 = 40;
/// Elements that stay, at most: then more only blink.
const STAYING_MAX: i64 = 2_000;
/// One of so many calls reads the set.
const SCAN_ONE_OF: u64 = 60;
/// Rows of a page.
const PAGE_ROWS: [i32; 4] = [3, 20, 100, 700];

/// The workload.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    next_value: i64,
    staying_count: i64,
}

/// Its statements.
#[derive(Debug)]
pub struct Prepared {
    add: PreparedStatement,
    remove: PreparedStatement,
}

impl Workload for Pages {
    type Prepared = Prepared;

    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.pages (k bigint, v bigint, PRIMARY KEY (k, v))"]
    }

    async fn prepare(client: &Client) -> Result<Prepared, Failure> {
        Ok(Prepared {
            add: client.prepare("INSERT INTO jepsen.pages (k, v) VALUES (?, ?)").await?,
            remove: client.prepare("DELETE FROM jepsen.pages WHERE k = ? AND v = ?").await?,
        })
    }

    fn next(&mut self, random: &mut Random) -> Operation {
        if random.below(SCAN_ONE_OF) == 0 {
            let page_rows = PAGE_ROWS[random.below(PAGE_ROWS.len() as u64) as usize];
            return Operation::Scan { page_rows, values: Vec::new() };
        }
        self.next_value += 1;
        let value = self.next_value;
        if random.below(2) == 0 && self.staying_count < STAYING_MAX {
            self.staying_count += 1;
            return Operation::Add { value };
        }
        Operation::Blink { value }
    }

    async fn perform(
        client: &Client,
        prepared: &Prepared,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Add { value } => {
                client.execute(&prepared.add, (value % PARTITIONS, value)).await?;
                Ok(operation)
            }
            Operation::Blink { value } => {
                client.execute(&prepared.add, (value % PARTITIONS, value)).await?;
                client.execute(&prepared.remove, (value % PARTITIONS, value)).await?;
                Ok(operation)
            }
            Operation::Scan { page_rows, .. } => {
                let text = "SELECT v FROM jepsen.pages";
                let rows: Vec<(i64,)> = client.rows_by_pages(text, page_rows).await?;
                let values = rows.into_iter().map(|(value,)| value).collect();
                Ok(Operation::Scan { page_rows, values })
            }
            other => Err(foreign(&other)),
        }
    }

    fn last_reads(&self) -> Vec<Operation> {
        let scan = |page_rows| Operation::Scan { page_rows, values: Vec::new() };
        PAGE_ROWS.into_iter().map(scan).collect()
    }

    fn check(&self, calls: &[Call]) -> Verdict {
        checker::paging::check(calls)
    }
}
