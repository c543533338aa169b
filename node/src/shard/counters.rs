//! Counters, decided by the leader: increments become sums.
//!
//! What is added to is what is applied with what is undecided on top, in the step that makes the
//! proposal, so no two increments start from the same value. The entry holds sums: a crash loses an
//! increment that was not acknowledged or keeps it, and counts none twice.

use super::decide::{Attempt, Target, for_undecided};
use super::state::ShardState;
use model::ColumnId;
use model::counter::{add_up, counter_value};
use model::mutation::{MutationItem, MutationView};
use model::partition::Partition;
use model::read::Slice;
use model::row::RowView;
use storage::RowInPlace;

impl ShardState {
    /// A mutation of increments with sums in their place.
    pub(super) fn add_up_counters(
        &mut self,
        target: &Target,
        mutation: &[u8],
    ) -> Result<Vec<u8>, Attempt> {
        let view = MutationView::new(mutation).expect("the planner's bytes are well-formed");
        let mut sums = Vec::with_capacity(mutation.len());
        let mut items = view.items();
        if let (Some(MutationItem::Row { clustering, .. }), None) = (items.next(), items.next()) {
            // The usual case: one row, all of it in one piece in memory.
            let (table, token, key) = (target.table.id, target.token, target.key);
            let row = match self.engine.row_in_place(table, token, key, clustering) {
                RowInPlace::Absent => Some(None),
                RowInPlace::Whole(row) => Some(Some(row)),
                RowInPlace::InPieces => None,
            };
            let mut is_decided = true;
            for_undecided(&self.replicas, target, |_| is_decided = false);
            if let Some(row) = row.filter(|_| is_decided) {
                add_up(&view, |_, column| value_in(row, column), &mut sums);
                return Ok(sums);
            }
        }
        let rows = view.items().filter_map(|item| match item {
            MutationItem::Row { clustering, .. } => Some(Slice::of_row(clustering)),
            _ => None,
        });
        let content = self.content(target, &rows.collect::<Vec<_>>())?;
        let present = |clustering: Option<&[u8]>, column| present(&content, clustering, column);
        add_up(&view, present, &mut sums);
        Ok(sums)
    }
}

/// A counter's value; zero where it has none.
fn present(content: &Partition, clustering: Option<&[u8]>, column: ColumnId) -> i64 {
    let row = match clustering {
        Some(clustering) => content.effective_row(clustering),
        None => content.effective_static_row(),
    };
    value_in(row.as_deref().map(RowView::new), column)
}

fn value_in(row: Option<RowView>, column: ColumnId) -> i64 {
    // Counters do not expire.
    let cell = row.and_then(|row| row.column(column).next());
    cell.and_then(|cell| cell.live_value(i64::MIN)).map_or(0, counter_value)
}
