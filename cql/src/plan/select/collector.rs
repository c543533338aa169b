//! Rows that do not go out as they come: sorted ones, and groups.

use super::aggregate::AggregateState;
use super::plan::{BoundSelect, SelectPlan};
use super::row::{RowParts, RowScratch, clustering_prefix_bytes, recycle};
use super::selector::Scope;
use crate::plan::error::PlanError;
use model::row::RowView;
use std::ops::Range;

/// Most bytes of rows that are sorted in memory.
const SORTED_BYTES_MAX: usize = 64 << 20;

/// Rows, or groups, of several partitions, to be sorted by their clustering columns (IN with ORDER
/// BY).
#[derive(Debug, Default)]
pub(super) struct SortedRows {
    bytes: Vec<u8>,
    /// Where each row's sort key and its encoded row stand in `bytes`.
    rows: Vec<(Range<usize>, Range<usize>)>,
}

impl SortedRows {
    pub(super) fn take(
        &mut self,
        select: &BoundSelect,
        parts: &RowParts,
        aggregates: &[Option<Vec<u8>>],
        scratch: &mut RowScratch,
    ) -> Result<(), PlanError> {
        let plan = &select.plan;
        let (clustering, count) = match parts.row {
            Some((clustering, _)) => (clustering, plan.order.column_count),
            None => (&[][..], 0),
        };
        let length =
            clustering_prefix_bytes(&plan.table, count, clustering, &mut scratch.clustering)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(clustering.get(..length).unwrap_or_default());
        let middle = self.bytes.len();
        plan.write_row(parts, &select.terms, aggregates, select.now, scratch, &mut self.bytes)?;
        self.rows.push((start..middle, middle..self.bytes.len()));
        if self.bytes.len() > SORTED_BYTES_MAX {
            return Err(PlanError::invalid(format!(
                "ORDER BY over several partitions selects more than {SORTED_BYTES_MAX} bytes; use \
                 a LIMIT"
            )));
        }
        Ok(())
    }

    /// The first `limit` rows in order; rows that compare equal keep the order of partitions.
    pub(super) fn finish(&mut self, is_reversed: bool, limit: u32) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes.as_slice();
        self.rows.sort_by(|(a, _), (b, _)| {
            let order = bytes[a.clone()].cmp(&bytes[b.clone()]);
            if is_reversed { order.reverse() } else { order }
        });
        self.rows.iter().take(limit as usize).map(|(_, row)| &bytes[row.clone()])
    }
}

/// The rows of one group: the first of them, and the aggregates over all.
#[derive(Debug, Default)]
pub(super) struct Group {
    key: Vec<u8>,
    static_row: Option<Vec<u8>>,
    row: Option<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the clustering key that the group has in common.
    common_bytes: usize,
    states: Vec<AggregateState>,
}

impl Group {
    /// A group that begins with a row.
    pub(super) fn begin(
        plan: &SelectPlan,
        parts: &RowParts,
        scratch: &mut RowScratch,
    ) -> Result<Group, PlanError> {
        let common_bytes = match (parts.row, plan.group_by) {
            (Some((clustering, _)), Some(count)) => {
                clustering_prefix_bytes(&plan.table, count, clustering, &mut scratch.clustering)?
            }
            _ => 0,
        };
        let owned =
            |(clustering, row): (&[u8], RowView)| (clustering.to_vec(), row.as_bytes().to_vec());
        Ok(Group {
            key: parts.key.to_vec(),
            static_row: parts.static_row.map(|row| row.as_bytes().to_vec()),
            row: parts.row.map(owned),
            common_bytes,
            states: Group::states(plan),
        })
    }

    /// The group of a result without rows.
    pub(super) fn empty(plan: &SelectPlan) -> Group {
        Group { states: Group::states(plan), ..Group::default() }
    }

    fn states(plan: &SelectPlan) -> Vec<AggregateState> {
        vec![AggregateState::default(); plan.selection.aggregates.len()]
    }

    /// Whether a row belongs to the group.
    pub(super) fn holds(&self, plan: &SelectPlan, parts: &RowParts) -> bool {
        if plan.group_by.is_none() {
            return true;
        }
        if self.key != parts.key {
            return false;
        }
        match (&self.row, parts.row) {
            (Some((own, _)), Some((other, _))) => {
                // No prefix ends inside another one: components delimit themselves.
                other.get(..self.common_bytes) == own.get(..self.common_bytes)
            }
            _ => false,
        }
    }

    /// Adds a row of the group to its aggregates.
    pub(super) fn add(
        &mut self,
        select: &BoundSelect,
        parts: &RowParts,
        scratch: &mut RowScratch,
    ) -> Result<(), PlanError> {
        let (plan, now) = (&select.plan, select.now);
        plan.reader.decode_clustering(&plan.table, parts, &mut scratch.clustering)?;
        let mut slots = recycle(std::mem::take(&mut scratch.slots));
        plan.reader.fill(&plan.table, parts, &scratch.clustering, now, &mut slots)?;
        let scope =
            Scope { table: &plan.table, slots: &slots, terms: &select.terms, aggregates: &[], now };
        for (selected, state) in plan.selection.aggregates.iter().zip(&mut self.states) {
            let value = match &selected.argument {
                Some(argument) => argument.value(&scope)?,
                None => None,
            };
            selected.aggregate.add(state, value.as_deref())?;
        }
        scratch.slots = recycle(slots);
        Ok(())
    }

    /// Appends the group's row.
    pub(super) fn write(
        &self,
        select: &BoundSelect,
        scratch: &mut RowScratch,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        let (parts, aggregates) = self.result(&select.plan);
        select.plan.write_row(&parts, &select.terms, &aggregates, select.now, scratch, out)
    }

    /// Hands the group's row over to be sorted by the first of its rows.
    pub(super) fn write_sorted(
        &self,
        select: &BoundSelect,
        rows: &mut SortedRows,
        scratch: &mut RowScratch,
    ) -> Result<(), PlanError> {
        let (parts, aggregates) = self.result(&select.plan);
        rows.take(select, &parts, &aggregates, scratch)
    }

    /// The first of its rows, and the aggregates' results.
    fn result(&self, plan: &SelectPlan) -> (RowParts<'_>, Vec<Option<Vec<u8>>>) {
        let selected = plan.selection.aggregates.iter().zip(&self.states);
        let aggregates = selected.map(|(one, state)| one.aggregate.finish(state)).collect();
        let parts = RowParts {
            key: &self.key,
            static_row: self.static_row.as_deref().map(RowView::new),
            row: self.row.as_ref().map(|(clustering, row)| (&clustering[..], RowView::new(row))),
        };
        (parts, aggregates)
    }
}
