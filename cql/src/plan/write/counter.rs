//! Counters: what may be done to them, and increments of several statements as one.
//!
//! A counter's cell in a mutation holds the increment; the leader makes the sum of it
//! ([`model::counter`]). The timestamp is always the leader's, so that a later sum wins.

use super::bind::PartitionWrite;
use super::operation::ColumnChange;
use super::prepare::WritePlan;
use crate::plan::condition::Condition;
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::names::receiver_of;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{BatchKind, Term};
use model::codec::DecodeError;
use model::counter::counter_value;
use model::mutation::{MutationItem, MutationView};
use model::partition::Partition;
use model::row::{Cell, CellContent, RowHead, RowView, RowWriter};
use model::{ColumnDef, ColumnId, TimestampMicros};
use std::collections::BTreeMap;

/// `c = c + term`, or `-`.
pub(super) fn prepare_increment(
    preparer: &mut TermPreparer,
    column: &ColumnDef,
    term: &Term,
    is_negative: bool,
) -> Result<ColumnChange, PlanError> {
    let term = preparer.prepare(term, &receiver_of(column))?;
    if term == PreparedTerm::Null {
        return Err(PlanError::invalid("Invalid null value for counter increment/decrement"));
    }
    Ok(ColumnChange::Increment { term, is_negative })
}

/// The refusal of `c = term`.
pub(super) fn cannot_be_set(column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!(
        "Cannot set the value of counter column {} (counters can only be incremented/decremented, \
         not set)",
        column.name
    ))
}

/// Refuses what a statement on a counter table cannot have.
pub(super) fn check(plan: &WritePlan, condition: Option<&Condition>) -> Result<(), PlanError> {
    Err(PlanError::invalid(if condition.is_some() {
        "Conditional updates are not supported on counter tables"
    } else if plan.attributes.has_timestamp() {
        "Cannot provide custom timestamp for counter updates"
    } else if plan.attributes.has_ttl() {
        "Cannot provide custom TTL for counter updates"
    } else {
        return Ok(());
    }))
}

/// Refuses a batch that mixes what does not go together. `names_timestamp` says that it has a
/// USING TIMESTAMP.
pub fn check_batch_kind<'a>(
    kind: BatchKind,
    plans: &(impl Iterator<Item = &'a WritePlan> + Clone),
    names_timestamp: bool,
) -> Result<(), PlanError> {
    let has_counters = plans.clone().any(WritePlan::is_counter);
    let has_others = plans.clone().any(|plan| !plan.is_counter());
    Err(PlanError::invalid(if names_timestamp && kind == BatchKind::Counter {
        "Cannot provide custom timestamp for counter BATCH"
    } else if names_timestamp && has_counters {
        "Cannot provide custom timestamp for a BATCH containing counters"
    } else if kind == BatchKind::Counter && has_others {
        "Cannot include non-counter statement in a counter batch"
    } else if has_counters && has_others {
        "Counter and non-counter mutations cannot exist in the same batch"
    } else if kind == BatchKind::Logged && has_counters {
        "Cannot include a counter statement in a logged batch"
    } else {
        return Ok(());
    }))
}

/// The increment of one execution; none when it is unset.
pub(super) fn bind_increment(
    term: &PreparedTerm,
    is_negative: bool,
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Option<i64>, PlanError> {
    let increment = match term.bind(values, context)? {
        BoundTerm::Unset => return Ok(None),
        BoundTerm::Null => {
            let what = if is_negative { "decrement" } else { "increment" };
            let message = format!("Invalid null value for counter {what}");
            return Err(PlanError::invalid(message));
        }
        BoundTerm::Value(bytes) => counter_value(&bytes),
    };
    if !is_negative {
        return Ok(Some(increment));
    }
    let negated = increment.checked_neg().ok_or_else(|| {
        PlanError::invalid(format!(
            "The negation of {increment} overflows supported counter precision (signed 8 bytes \
             integer)"
        ))
    })?;
    Ok(Some(negated))
}

/// What several writes of one partition of a counter table do together: increments of one counter
/// are added, of everything else the merge is taken. All have the timestamp `common`.
pub(super) fn merge_counters(
    writes: &[PartitionWrite],
    common: TimestampMicros,
) -> Result<Partition, DecodeError> {
    let mut merged = Partition::default();
    let mut sums: BTreeMap<(Option<&[u8]>, ColumnId), i64> = BTreeMap::new();
    let mut scratch = Vec::new();
    for write in writes {
        for item in MutationView::new(&write.mutation)?.items() {
            let (clustering, row) = match item {
                MutationItem::StaticRow(row) => (None, row),
                MutationItem::Row { clustering, row } => (Some(clustering), row),
                other => {
                    merged.apply_item(other);
                    continue;
                }
            };
            let (head, cells) = row.parts();
            scratch.clear();
            let mut rest = RowWriter::new(&mut scratch, common, head);
            for cell in cells {
                if let CellContent::Live { value, .. } = cell.content {
                    let sum = sums.entry((clustering, cell.column)).or_default();
                    *sum = sum.wrapping_add(counter_value(value));
                } else {
                    rest.cell(&cell);
                }
            }
            if !RowView::new(&scratch).is_empty() {
                merged.apply_item(item_of(clustering, &scratch));
            }
        }
    }
    for ((clustering, column), sum) in sums {
        scratch.clear();
        let nothing = RowHead { marker: None, tombstone: None };
        let value = sum.to_be_bytes();
        let content = CellContent::Live { value: &value, expiry: None };
        let cell = Cell { column, path: None, timestamp: common, content };
        RowWriter::new(&mut scratch, common, nothing).cell(&cell);
        merged.apply_item(item_of(clustering, &scratch));
    }
    Ok(merged)
}

fn item_of<'a>(clustering: Option<&'a [u8]>, row: &'a [u8]) -> MutationItem<'a> {
    let row = RowView::new(row);
    match clustering {
        Some(clustering) => MutationItem::Row { clustering, row },
        None => MutationItem::StaticRow(row),
    }
}
