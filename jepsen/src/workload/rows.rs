//! Rows that serve as registers: which are worked on, and how one is read.
//!
//! A few are worked on at a time, so that calls meet; each only for some calls, so that the search for
//! an order of them stays small, and then another row takes its place.

use super::malformed;
use crate::client::{Client, Failure};
use crate::history::Operation;
use crate::random::Random;
use scylla::statement::prepared::PreparedStatement;

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
    client: &Client,
    select: &PreparedStatement,
    key: i64,
) -> Result<Operation, Failure> {
    let answer = client.execute(select, (key,)).await?;
    let rows = answer.into_rows_result().map_err(malformed)?;
    let row = rows.maybe_first_row::<(i64,)>().map_err(malformed)?;
    Ok(Operation::Read { key, value: row.map(|(value,)| value) })
}
