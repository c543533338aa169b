//! Rows that serve as registers: which are worked on, and how one is read.
//!
//! A few are worked on at a time, so that calls meet; each only for some calls, so that the search for
//! an order of them stays small, and then another row takes its place.

use crate::connection::{Connection, Failure, Level, Row, malformed, numbers};
use crate::history::Operation;
use crate::random::Random;

/// Registers worked on at a time.
const ACTIVE_COUNT: usize = 4;
/// Calls on one register.
const CALLS_MAX: u32 = 200;

/// The registers worked on.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    /// Each with how many calls it has had.
    active: [(i64, u32); ACTIVE_COUNT],
    next_key: i64,
}

impl Default for Rotation {
    fn default() -> Self {
        let active = std::array::from_fn(|at| (at as i64, 0));
        Rotation { active, next_key: ACTIVE_COUNT as i64 }
    }
}

impl Rotation {
    /// The register of the next call.
    pub(super) fn pick(&mut self, random: &mut Random) -> i64 {
        let active = &mut self.active[random.below(ACTIVE_COUNT as u64) as usize];
        if active.1 >= CALLS_MAX {
            *active = (self.next_key, 0);
            self.next_key += 1;
        }
        active.1 += 1;
        active.0
    }

    /// Reads of all of them.
    pub(super) fn reads(&self) -> Vec<Operation> {
        self.active.iter().map(|(key, _)| Operation::Read { key: *key, value: None }).collect()
    }
}

/// Reads a register by `SELECT v … WHERE k = ?`.
pub(super) async fn read(
    client: &mut impl Connection,
    level: Level,
    select: &str,
    key: i64,
) -> Result<Operation, Failure> {
    let rows = client.execute_at(level, select, &[key.into()]).await?;
    let value = numbers(&rows)?.first().map(|[value]| *value);
    Ok(Operation::Read { key, value })
}

/// Whether a conditional write was made. A refusal also shows the values that were found.
pub(super) fn is_applied(rows: &[Row]) -> Result<bool, Failure> {
    let cell = rows.first().and_then(|row| row.first());
    cell.ok_or_else(|| malformed("a conditional write was answered without a row"))?.boolean()
}

/// The elements of a set: a column of the rows of a query, ascending.
pub(super) async fn elements(
    client: &mut impl Connection,
    select: &str,
) -> Result<Vec<i64>, Failure> {
    let rows = client.read_all(select).await?;
    let mut values = values(&rows)?;
    values.sort_unstable();
    Ok(values)
}

/// The numbers of rows that have one.
pub(super) fn values(rows: &[Row]) -> Result<Vec<i64>, Failure> {
    Ok(numbers(rows)?.into_iter().map(|[value]| value).collect())
}

/// The numbers of rows that have three, in their order.
pub(super) fn triples(rows: &[Row]) -> Result<Vec<(i64, i64, i64)>, Failure> {
    let mut rows: Vec<(i64, i64, i64)> = numbers(rows)?.into_iter().map(Into::into).collect();
    rows.sort_unstable();
    Ok(rows)
}
