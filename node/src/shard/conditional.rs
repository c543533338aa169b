//! Conditional writes, decided by the leader.
//!
//! The conditions are asked in the step that makes the proposal, of what is applied with what is
//! undecided on top: whatever is proposed later comes later in the log, so the answer is true at
//! the write's own place in it. One round trip, and nothing to retry.
//!
//! A write that is made has a timestamp above everything that the partition holds, so it wins over
//! what its conditions saw. One that is refused answers with rows, and those may come from entries
//! that are undecided; the answer must not be given before they are decided, or it would tell of a
//! write that a crash takes back. So where anything of the partition is undecided, a refusal is an
//! entry too, an empty one, and is told when that is applied: everything that it saw stands before
//! it in the log. Where nothing is undecided it is told at once.

use super::decide::{Attempt, Step, Target, for_undecided, partition_mask};
use super::state::ShardState;
use super::write::WriteError;
use cluster::replica::PartitionMask;
use cql::plan::write::{ConditionalOutcome, ConditionalWrite, Content, RefusedRows};
use env::planted::{Bug, is_planted};
use model::entry::WriteEntryWriter;
use model::list_place::place_elements;
use model::mutation::{MutationItem, MutationView, stamp, unstamp};
use model::partition::Partition;
use model::read::{ReadCommand, ReadScope, Slice};
use model::row::{RowView, UNSTAMPED};
use model::{EpochSeconds, TimestampMicros, ValueError};
use storage::{ReadError, ReadProgress, RowInPlace};

/// What came of a conditional write.
pub(super) struct DecidedCondition {
    pub mask: PartitionMask,
    /// Whether the entry holds a change.
    pub has_changed: bool,
    pub outcome: ConditionalOutcome,
}

/// A row by its clustering key.
type OwnedRow = (Box<[u8]>, Vec<u8>);

impl ShardState {
    /// Asks the conditions, and writes the change to the entry if they hold.
    pub(super) fn decide_conditional(
        &mut self,
        step: &mut Step,
        conditional: &mut ConditionalWrite,
        entry: &mut WriteEntryWriter,
    ) -> Result<DecidedCondition, Attempt> {
        let (token, group) = (conditional.write.token, step.group);
        let mask = partition_mask(&conditional.write.table, token);
        let table = conditional.write.table.clone();
        let target = Target { table: &table, key: conditional.write.key(), token, group, mask };
        if let Some(rows) = self.refusal(&target, conditional, step.wall / 1_000_000)? {
            let outcome = ConditionalOutcome::Refused(Box::new(rows));
            return Ok(DecidedCondition { mask, has_changed: false, outcome });
        }
        let timestamp = self.timestamp_above_all(&target, conditional, step.wall)?;
        let write = &mut conditional.write;
        stamp(&mut write.mutation, timestamp).expect("the planner's bytes are well-formed");
        let mutation = MutationView::new(&write.mutation);
        let mutation = mutation.expect("the planner's bytes are well-formed");
        if let Some(placed) = place_elements(&mutation, &table, timestamp) {
            write.mutation = placed;
        }
        for operation in &mut write.list_operations {
            operation.timestamp = timestamp;
        }
        write.is_stamped = true;
        match self.decide_partition(step, write, entry) {
            Ok((mask, has_changed)) => {
                let outcome = ConditionalOutcome::Applied;
                Ok(DecidedCondition { mask, has_changed, outcome })
            }
            Err(attempt) => {
                // The next attempt may come behind other writes, and needs a timestamp above them.
                unstamp(&mut write.mutation, timestamp).expect("it was read a moment ago");
                for operation in &mut write.list_operations {
                    operation.timestamp = UNSTAMPED;
                }
                write.is_stamped = false;
                Err(attempt)
            }
        }
    }

    /// What a client is told whose conditions do not hold; nothing if they do.
    fn refusal(
        &mut self,
        target: &Target,
        conditional: &ConditionalWrite,
        now: EpochSeconds,
    ) -> Result<Option<RefusedRows>, Attempt> {
        // The usual case: one row, all of it in one piece in memory.
        if let Some(clustering) = conditional.only_row() {
            let (table, token, key) = (target.table.id, target.token, target.key);
            let row = match self.engine.row_in_place(table, token, key, clustering) {
                RowInPlace::Absent => Some(None),
                RowInPlace::Whole(row) => Some(Some(row)),
                RowInPlace::InPieces => None,
            };
            let is_seen = !self.has_undecided(target) || is_planted(Bug::ConditionsMissUndecided);
            if let Some(row) = row.filter(|_| is_seen) {
                let content = Content::Row(row);
                return answer(conditional, &content, None, now).map_err(|error| broken(&error));
            }
        }
        let partition = self.content(target, &conditional.slices())?;
        let content = Content::Partition(&partition);
        if !conditional.shows_first_row()
            || conditional.holds(&content, now).map_err(|error| broken(&error))?
        {
            let refused = answer(conditional, &content, None, now);
            let refused = refused.map_err(|error| broken(&error))?;
            if refused.is_none() {
                self.gather_changed(target, conditional, &partition)?;
            }
            return Ok(refused);
        }
        let first_row = self.first_live_row(target, now)?;
        let first_row = first_row.as_ref().map(|(key, row)| (&**key, RowView::new(row)));
        answer(conditional, &content, first_row, now).map_err(|error| broken(&error))
    }

    /// Brings a row into one piece in memory that lies in pieces and is about to be changed: what
    /// is changed under conditions is so again, mostly, and the next conditions are asked of that
    /// piece. One that stays as it is stays where it is, or refusals would write to the disk.
    fn gather_changed(
        &mut self,
        target: &Target,
        conditional: &ConditionalWrite,
        content: &Partition,
    ) -> Result<(), ReadError> {
        let Some(clustering) = conditional.only_row() else { return Ok(()) };
        let is_covered = content.deletion.is_some() || !content.range_tombstones.is_empty();
        let is_there = content.rows.contains_key(clustering);
        if is_there && !is_covered && !self.has_undecided(target) {
            self.engine.gather_row(target.table.id, target.token, target.key, clustering)?;
        }
        Ok(())
    }

    fn has_undecided(&self, target: &Target) -> bool {
        let mut is_any = false;
        for_undecided(&self.replicas, target, |_| is_any = true);
        is_any
    }

    /// The first row of a partition that lives at `now`.
    fn first_live_row(
        &mut self,
        target: &Target,
        now: EpochSeconds,
    ) -> Result<Option<OwnedRow>, Attempt> {
        let mut undecided = Partition::default();
        for_undecided(&self.replicas, target, |change| change.add_to(&mut undecided));
        // What is undecided may delete the first rows that are applied: then more are read.
        let mut row_limit = 1;
        loop {
            let page = self.first_rows(target, now, row_limit)?;
            let is_all = page.resume.is_none();
            let mut content = Partition::default();
            for part in page.partitions() {
                content.apply(&part.expect("the engine's pages are well-formed"));
            }
            let last = content.rows.last_key_value().map(|(key, _)| key.clone());
            content.merge(&undecided);
            let known = content.rows.keys().take_while(|key| is_all || Some(*key) <= last.as_ref());
            for clustering in known {
                let row = content.effective_row(clustering);
                if let Some(row) = row.filter(|row| RowView::new(row).is_live(now)) {
                    return Ok(Some((clustering.clone(), row.into_owned())));
                }
            }
            if is_all {
                return Ok(None);
            }
            row_limit *= 2;
        }
    }

    fn first_rows(
        &mut self,
        target: &Target,
        now: EpochSeconds,
        row_limit: u32,
    ) -> Result<model::read::Page, ReadError> {
        let command = ReadCommand {
            table: target.table.id,
            scope: ReadScope::Partition(target.key.into()),
            slices: [Slice::all()].into(),
            reversed: false,
            include_static: false,
            now,
            row_limit,
            partition_row_limit: u32::MAX,
            page_bytes: usize::MAX,
            resume: None,
        };
        let mut progress = ReadProgress::default();
        loop {
            match self.engine.read(&command, &mut progress) {
                Err(ReadError::Paused) => {}
                result => return result,
            }
        }
    }

    /// A timestamp above everything in the partition that the change could meet.
    fn timestamp_above_all(
        &mut self,
        target: &Target,
        conditional: &ConditionalWrite,
        wall: TimestampMicros,
    ) -> Result<TimestampMicros, Attempt> {
        let newest = self.newest_timestamp(target);
        let timestamp = self.clock.next(wall, newest);
        if newest < Some(timestamp) {
            return Ok(timestamp);
        }
        // Something is far ahead of the clock, perhaps in another partition of a table file: only
        // what lies where the change goes counts.
        let content = self.content(target, &changed_slices(&conditional.write.mutation))?;
        let newest = content.newest_timestamp();
        Ok(newest.map_or(timestamp, |newest| timestamp.max(newest.saturating_add(1))))
    }
}

fn answer(
    conditional: &ConditionalWrite,
    content: &Content,
    first_row: Option<(&[u8], RowView)>,
    now: EpochSeconds,
) -> Result<Option<RefusedRows>, ValueError> {
    if conditional.holds(content, now)? {
        return Ok(None);
    }
    conditional.refused_rows(content, first_row, now).map(Some)
}

/// A stored value that does not fit its column's type.
fn broken(error: &ValueError) -> Attempt {
    Attempt::Failed(WriteError::Invalid(error.to_string()))
}

/// The rows that a mutation changes or deletes, ascending and without overlaps.
fn changed_slices(mutation: &[u8]) -> Vec<Slice> {
    let view = MutationView::new(mutation).expect("the planner's bytes are well-formed");
    let mut slices: Vec<Slice> = view
        .items()
        .filter_map(|item| match item {
            MutationItem::PartitionTombstone(_) => Some(Slice::all()),
            MutationItem::StaticRow(_) => None,
            MutationItem::RangeTombstone { start, end, .. } => {
                Some(Slice { start: start.into(), end: end.into() })
            }
            MutationItem::Row { clustering, .. } => Some(Slice::of_row(clustering)),
        })
        .collect();
    slices.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    slices.dedup_by(|next, last| {
        let overlaps = next.start < last.end;
        if overlaps && next.end > last.end {
            last.end.clone_from(&next.end);
        }
        overlaps
    });
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TableId;
    use model::mutation::MutationWriter;
    use model::row::{Deletion, RowHead};

    #[test]
    fn the_slices_of_a_change_ascend_and_do_not_overlap() {
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, TableId(1), 1, b"k");
        let deletion = Deletion { timestamp: 1, deleted_at: 1 };
        writer.range_tombstone(b"b", b"d", deletion);
        writer.range_tombstone(b"c", b"e", deletion);
        let head = RowHead { marker: None, tombstone: Some(deletion) };
        for row in [b"a", b"d", b"f"] {
            writer.row(row, 1, head, |_| ());
        }
        let slices = changed_slices(&bytes);
        let starts: Vec<&[u8]> = slices.iter().map(|slice| &*slice.start).collect();
        assert_eq!(starts, [&b"a"[..], b"b", b"f"]);
        assert_eq!(&*slices[1].end, b"e");
    }
}
