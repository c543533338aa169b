//! A set that is read page by page, by small pages and large ones, while rows come and go around those
//! that stay. Each page is asked of another node, which has nothing but the paging state to go by.

use super::{Workload, foreign, rows};
use crate::checker::{self, Verdict};
use crate::connection::{Asked, Cell, Connection, Failure, Level};
use crate::history::{Call, Operation};
use crate::random::Random;

const ADD: &str = "INSERT INTO jepsen.pages (k, v) VALUES (?, ?)";
const REMOVE: &str = "DELETE FROM jepsen.pages WHERE k = ? AND v = ?";
const READ: &str = "SELECT v FROM jepsen.pages";

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

impl Workload for Pages {
    fn tables(&self) -> &[&'static str] {
        &["CREATE TABLE jepsen.pages (k bigint, v bigint, PRIMARY KEY (k, v))"]
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

    async fn perform<C: Connection>(
        client: &mut C,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        match operation {
            Operation::Add { value } => {
                client.execute(ADD, &row(value)).await?;
                Ok(operation)
            }
            Operation::Blink { value } => {
                client.execute(ADD, &row(value)).await?;
                client.execute(REMOVE, &row(value)).await?;
                Ok(operation)
            }
            Operation::Scan { page_rows, .. } => {
                let pages = client.read_pages(Level::Quorum, READ, page_rows, Asked::EachInTurn);
                Ok(Operation::Scan { page_rows, values: rows::values(&pages.await?)? })
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

fn row(value: i64) -> [Cell; 2] {
    [(value % PARTITIONS).into(), value.into()]
}
