//! A SELECT on its way: the reads it wants, one after another, and the response that grows from
//! what they bring.
//!
//! The caller asks for the [`next_command`](SelectExecution::next_command), reads it, hands over
//! the rows (as a page with [`feed`](SelectExecution::feed), or one by one: the execution is a
//! [`RowSink`], and [`end_read`](SelectExecution::end_read) says how the read ended), and asks
//! again. Commands come in the order of the result: partition by partition, or one range of
//! tokens; the caller may cut a range along shards and read the parts in the order of tokens.
//!
//! A page of the result ends when it has the rows asked for, or [`PAGE_BYTES_MAX`], or when
//! filters have refused [`FILTERED_ROWS_PER_PAGE_MAX`] rows and there is at least one to return: a
//! page that is not the last is never empty.

use super::collector::{Group, SortedRows};
use super::paging_state::{self, PagingState};
use super::plan::BoundSelect;
use super::row::{RowParts, RowScratch, recycle};
use super::selector::Scope;
use crate::plan::error::PlanError;
use crate::plan::restriction::BoundScope;
use crate::wire::{FRAME_BODY_BYTES_MAX_PROTOCOL, OpenRows, ResponseHead, RowsHead};
use model::mutation::MutationItem;
use model::read::{Page, ReadCommand, ReadScope, ResumePoint, RowSink};
use model::row::RowView;

/// A page of a paged result ends with the row that passes this size.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// Rows that filters may refuse before a page is returned short.
const FILTERED_ROWS_PER_PAGE_MAX: u32 = 100_000;
/// Rows asked for at once where it is not known how many are needed.
const FETCH_ROWS: u32 = 5_000;

/// Which page is wanted, and how the answer is framed.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// Rows wanted; without paging, all.
    pub page_size: Option<i32>,
    /// Where the page before ended.
    pub paging_state: Option<&'a [u8]>,
    /// What precedes the response.
    pub head: ResponseHead<'a>,
    /// The client knows the columns.
    pub skip_metadata: bool,
    /// The id of the columns if the client knows others.
    pub new_metadata_id: Option<&'a [u8]>,
}

/// A SELECT on its way.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one position")]
#[derive(Debug)]
pub struct SelectExecution {
    select: BoundSelect,
    out: Vec<u8>,
    open: OpenRows,
    is_paged: bool,
    /// Rows that fit into the page.
    page_rows_left: u32,
    /// Rows that LIMIT allows.
    limit_left: u32,
    /// The partition of the list and the place in it where reading goes on; `None` at the end.
    next: Option<(usize, Option<ResumePoint>)>,
    /// The page is full.
    is_full: bool,
    /// A row came that no longer fits: reading goes on behind the last one taken.
    has_overrun: bool,
    partition: CurrentPartition,
    /// Rows, or groups, of the partition that count for its limit.
    partition_rows: u32,
    /// Everything more of the partition is beyond its limit.
    is_partition_done: bool,
    last_taken: LastTaken,
    filtered_rows: u32,
    collector: Collector,
    /// Rows of the result that are sorted before they go out.
    sorted: Option<SortedRows>,
    scratch: RowScratch,
    error: Option<PlanError>,
}

/// The partition whose rows come in.
#[derive(Debug, Default)]
struct CurrentPartition {
    key: Vec<u8>,
    static_row: Vec<u8>,
    /// Rows of it that were taken or looked at, in this execution or before.
    has_rows: bool,
    /// Announced, and nothing but a static row so far.
    is_pending: bool,
}

/// The last row that was taken, whether it is in the result or was filtered out.
#[derive(Debug, Default)]
struct LastTaken {
    key: Vec<u8>,
    clustering: Vec<u8>,
    /// It was the static row alone, so the partition is finished.
    is_partition: bool,
    /// Rows, or groups, of its partition that count for the limit.
    partition_rows: u32,
}

impl LastTaken {
    fn set(&mut self, key: &[u8], clustering: Option<&[u8]>, partition_rows: u32) {
        if self.key != key {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.clustering.clear();
        self.clustering.extend_from_slice(clustering.unwrap_or_default());
        self.is_partition = clustering.is_none();
        self.partition_rows = partition_rows;
    }

    fn place(&self) -> ResumePoint {
        ResumePoint {
            key: self.key.as_slice().into(),
            clustering: (!self.is_partition).then(|| self.clustering.as_slice().into()),
            // The replica only needs to know that the static row is not alone.
            partition_rows: self.partition_rows.max(1),
        }
    }
}

#[derive(Debug)]
enum Collector {
    /// Each row goes out as it comes.
    Rows,
    /// Rows are sorted.
    Sorted,
    /// Rows become groups, which are sorted where the statement says so.
    Groups(Option<Box<Group>>),
}

impl SelectExecution {
    /// Begins the response at the end of `out`.
    pub fn new(
        select: BoundSelect,
        request: &PageRequest,
        mut out: Vec<u8>,
    ) -> Result<SelectExecution, PlanError> {
        let plan = &select.plan;
        let page_size = request.page_size.and_then(|size| u32::try_from(size).ok());
        let page_size = page_size.filter(|size| *size > 0);
        let keys = select.partition_keys().map_or(0, <[_]>::len);
        let is_aggregate = plan.is_aggregated() && plan.group_by.is_none();
        let is_sorted = plan.order.column_count > 0 && keys > 1 && !is_aggregate;
        if is_sorted && page_size.is_some() {
            return Err(PlanError::invalid(
                "Cannot page queries with both ORDER BY and a IN restriction on the partition \
                 key; you must either remove the ORDER BY or the IN and sort client side, or \
                 disable paging for this query",
            ));
        }
        let collector = match (plan.is_aggregated(), is_sorted) {
            (true, _) => Collector::Groups(None),
            (false, true) => Collector::Sorted,
            (false, false) => Collector::Rows,
        };
        let is_paged = page_size.is_some() && !is_aggregate;
        let state = match request.paging_state {
            Some(bytes) => Some(PagingState::decode(bytes, plan.fingerprint)?),
            None => None,
        };
        let limit_left = match &state {
            Some(state) => state.limit_left.min(select.limit),
            // LIMIT counts rows of the result, of which an aggregate has one.
            None if is_aggregate => u32::MAX,
            None => select.limit,
        };
        let next = first_position(&select, state.as_ref())?;
        let rows_head = RowsHead {
            metadata: &plan.metadata,
            skip_metadata: request.skip_metadata,
            new_metadata_id: request.new_metadata_id,
        };
        let open = OpenRows::begin(&mut out, &request.head, &rows_head);
        let mut execution = SelectExecution {
            open,
            is_paged,
            page_rows_left: if is_paged { page_size.unwrap_or(u32::MAX) } else { u32::MAX },
            limit_left,
            next,
            is_full: false,
            has_overrun: false,
            partition: CurrentPartition::default(),
            partition_rows: 0,
            is_partition_done: false,
            last_taken: LastTaken::default(),
            filtered_rows: 0,
            collector,
            sorted: is_sorted.then(SortedRows::default),
            scratch: RowScratch::default(),
            error: None,
            select,
            out,
        };
        if let Some(state) = state {
            let rows = state.partition_rows;
            execution.last_taken.set(&state.key, state.clustering.as_deref(), rows);
            execution.partition.has_rows = true;
            execution.partition.key = state.key;
            execution.partition_rows = rows;
        }
        Ok(execution)
    }

    /// What to read next; `None` when the page is complete.
    pub fn next_command(&mut self) -> Option<ReadCommand> {
        let is_in_group = matches!(self.collector, Collector::Groups(Some(_)));
        let is_complete = self.is_full && !is_in_group || self.has_overrun;
        if is_complete || self.limit_left == 0 || self.error.is_some() {
            return None;
        }
        let (index, resume) = self.next.as_ref()?;
        let scope = match &self.select.restrictions.scope {
            BoundScope::Keys(keys) => ReadScope::Partition(keys.get(*index)?.clone()),
            BoundScope::Tokens { first, last } => {
                ReadScope::TokenRange { first: *first, last: *last }
            }
        };
        let counts_here = self.counts_rows_itself();
        let partition_limit = self.partition_limit();
        Some(ReadCommand {
            table: self.select.plan.table.id,
            scope,
            slices: self.select.restrictions.slices.clone(),
            reversed: self.select.plan.order.is_reversed,
            include_static: self.select.plan.include_static,
            now: self.select.now,
            row_limit: if counts_here {
                FETCH_ROWS
            } else {
                self.page_rows_left.min(self.limit_left)
            },
            partition_row_limit: if counts_here { u32::MAX } else { partition_limit },
            page_bytes: PAGE_BYTES_MAX,
            resume: resume.clone(),
        })
    }

    /// Rows that a filter may refuse or a group swallow are counted here and not by the replica.
    fn counts_rows_itself(&self) -> bool {
        !self.select.restrictions.filters.is_empty() || !matches!(self.collector, Collector::Rows)
    }

    /// Rows, or groups, of one partition that can be in the result.
    fn partition_limit(&self) -> u32 {
        match self.collector {
            Collector::Sorted => self.select.per_partition_limit.min(self.select.limit),
            _ => self.select.per_partition_limit,
        }
    }

    /// Takes a page that was read for the last command.
    pub fn feed(&mut self, page: &Page) -> Result<(), PlanError> {
        for partition in page.partitions() {
            let partition = partition.map_err(|error| PlanError::invalid(error.to_string()))?;
            let mut items = partition.items().peekable();
            let static_row = match items.peek() {
                Some(MutationItem::StaticRow(row)) => Some(*row),
                _ => None,
            };
            self.partition(partition.key(), static_row);
            for item in items {
                if let MutationItem::Row { clustering, row } = item {
                    self.row(clustering, row);
                }
            }
        }
        self.end_read(page.resume.clone())
    }

    /// The read of the last command ended there.
    pub fn end_read(&mut self, resume: Option<ResumePoint>) -> Result<(), PlanError> {
        self.end_partition();
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some((index, _)) = self.next.take() else { return Ok(()) };
        let is_range = matches!(self.select.restrictions.scope, BoundScope::Tokens { .. });
        self.next = if self.has_overrun {
            let place = self.last_taken.place();
            let keys = self.select.partition_keys();
            let is_here = keys.is_none_or(|keys| *keys[index] == *place.key);
            Some((index, is_here.then_some(place)))
        } else {
            match resume {
                Some(resume) if self.is_partition_done && *resume.key == *self.partition.key => {
                    is_range.then_some((index, Some(ResumePoint { clustering: None, ..resume })))
                }
                Some(resume) => Some((index, Some(resume))),
                None => None,
            }
        };
        if self.next.is_none() && !is_range {
            self.next = self.index_after(index).map(|index| (index, None));
        }
        if self.limit_left == 0 {
            self.next = None;
        }
        Ok(())
    }

    fn index_after(&self, index: usize) -> Option<usize> {
        let count = self.select.partition_keys().map_or(0, <[_]>::len);
        (index + 1 < count).then_some(index + 1)
    }

    /// Completes the response.
    pub fn finish(mut self) -> Result<Vec<u8>, PlanError> {
        let is_done = self.next.is_none();
        let result = if is_done { self.finish_collector() } else { Ok(()) };
        if let Err(error) = result {
            self.open.discard(&mut self.out);
            return Err(error);
        }
        let state = if is_done { None } else { self.paging_state() };
        match self.open.finish(&mut self.out, state.as_deref()) {
            Ok(()) => Ok(self.out),
            Err(error) => Err(PlanError::invalid(error.to_string())),
        }
    }

    /// Takes everything back; the buffer is as it was given.
    pub fn abandon(mut self) -> Vec<u8> {
        self.open.discard(&mut self.out);
        self.out
    }

    fn paging_state(&self) -> Option<Vec<u8>> {
        let (index, resume) = self.next.as_ref()?;
        let (key, clustering) = match resume {
            Some(resume) => (resume.key.to_vec(), resume.clustering.as_deref()),
            // Nothing of this partition was read: the one before is finished.
            None => (self.select.partition_keys()?.get(index.checked_sub(1)?)?.to_vec(), None),
        };
        let is_inside = clustering.is_some() && key == self.last_taken.key;
        let state = PagingState {
            fingerprint: self.select.plan.fingerprint,
            limit_left: self.limit_left,
            partition_rows: if is_inside { self.last_taken.partition_rows } else { 0 },
            clustering: clustering.map(<[u8]>::to_vec),
            key,
        };
        Some(state.encode())
    }

    /// Writes what was collected.
    fn finish_collector(&mut self) -> Result<(), PlanError> {
        match std::mem::replace(&mut self.collector, Collector::Rows) {
            Collector::Groups(Some(group)) => self.write_group(&group)?,
            Collector::Groups(None) if self.select.plan.group_by.is_none() => {
                self.write_group(&Group::empty(&self.select.plan))?;
            }
            Collector::Rows | Collector::Sorted | Collector::Groups(None) => {}
        }
        if let Some(mut rows) = self.sorted.take() {
            for row in rows.finish(self.select.plan.order.is_reversed, self.select.limit) {
                self.out.extend_from_slice(row);
                self.open.row_written();
            }
        }
        Ok(())
    }

    fn write_group(&mut self, group: &Group) -> Result<(), PlanError> {
        if self.limit_left == 0 {
            return Ok(());
        }
        if let Some(rows) = &mut self.sorted {
            return group.write_sorted(&self.select, rows, &mut self.scratch);
        }
        group.write(&self.select, &mut self.scratch, &mut self.out)?;
        self.row_written()
    }

    /// Counts a row of the result.
    fn row_written(&mut self) -> Result<(), PlanError> {
        self.open.row_written();
        self.page_rows_left -= 1;
        if self.limit_left != u32::MAX {
            self.limit_left -= 1;
        }
        let bytes = self.open.bytes_written(&self.out);
        if self.page_rows_left == 0 || self.is_paged && bytes > PAGE_BYTES_MAX {
            self.is_full = true;
        }
        if bytes > FRAME_BODY_BYTES_MAX_PROTOCOL as usize {
            return Err(PlanError::invalid("The result is larger than a frame can be; use paging"));
        }
        Ok(())
    }

    /// A partition without rows: its static row may be a row of the result.
    fn end_partition(&mut self) {
        if !std::mem::take(&mut self.partition.is_pending) {
            return;
        }
        if self.select.plan.returns_static_alone && !self.partition.has_rows {
            self.offer(None);
        }
    }

    /// Takes a row of the current partition, or its static row alone, unless the page is full.
    fn offer(&mut self, row: Option<(&[u8], RowView)>) {
        if self.error.is_some() || self.limit_left == 0 || self.is_partition_done {
            return;
        }
        let partition = std::mem::take(&mut self.partition);
        let static_row =
            (!partition.static_row.is_empty()).then(|| RowView::new(&partition.static_row));
        let result = self.take_row(&RowParts { key: &partition.key, static_row, row });
        self.partition = partition;
        match result {
            Ok(true) => {
                let clustering = row.map(|(clustering, _)| clustering);
                self.last_taken.set(&self.partition.key, clustering, self.partition_rows);
            }
            Ok(false) => self.has_overrun = true,
            Err(error) => self.error = Some(error),
        }
    }

    /// Whether there was room for the row.
    fn take_row(&mut self, parts: &RowParts) -> Result<bool, PlanError> {
        if self.has_overrun {
            return Ok(false);
        }
        if !self.passes_filters(parts)? {
            self.filtered_rows += 1;
            let is_tired = self.filtered_rows > FILTERED_ROWS_PER_PAGE_MAX;
            if is_tired && self.is_paged && self.open.row_count() > 0 {
                self.is_full = true;
            }
            return Ok(true);
        }
        if matches!(self.collector, Collector::Groups(_)) {
            return self.take_into_group(parts);
        }
        if self.is_full {
            return Ok(false);
        }
        if self.partition_rows >= self.partition_limit() {
            self.is_partition_done = true;
            return Ok(true);
        }
        self.partition_rows += 1;
        if let Some(rows) = &mut self.sorted {
            rows.take(&self.select, parts, &[], &mut self.scratch)?;
            return Ok(true);
        }
        let (terms, now) = (&self.select.terms, self.select.now);
        self.select.plan.write_row(parts, terms, &[], now, &mut self.scratch, &mut self.out)?;
        self.row_written()?;
        Ok(true)
    }

    fn take_into_group(&mut self, parts: &RowParts) -> Result<bool, PlanError> {
        let Collector::Groups(group) = &mut self.collector else { return Ok(true) };
        if let Some(group) = group
            && group.holds(&self.select.plan, parts)
        {
            group.add(&self.select, parts, &mut self.scratch)?;
            self.is_partition_done = self.select.plan.is_distinct;
            return Ok(true);
        }
        if self.partition_rows >= self.select.per_partition_limit {
            self.is_partition_done = true;
            return Ok(true);
        }
        if let Some(group) = group.take() {
            self.write_group(&group)?;
        }
        if self.is_full || self.limit_left == 0 {
            return Ok(false);
        }
        let mut group = Group::begin(&self.select.plan, parts, &mut self.scratch)?;
        group.add(&self.select, parts, &mut self.scratch)?;
        self.partition_rows += 1;
        self.is_partition_done = self.select.plan.is_distinct;
        self.collector = Collector::Groups(Some(Box::new(group)));
        Ok(true)
    }

    fn passes_filters(&mut self, parts: &RowParts) -> Result<bool, PlanError> {
        if self.select.restrictions.filters.is_empty() {
            return Ok(true);
        }
        let (plan, now) = (&self.select.plan, self.select.now);
        let scratch = &mut self.scratch;
        plan.reader.decode_clustering(&plan.table, parts, &mut scratch.clustering)?;
        let mut slots = recycle(std::mem::take(&mut scratch.slots));
        plan.reader.fill(&plan.table, parts, &scratch.clustering, now, &mut slots)?;
        let scope = Scope { table: &plan.table, slots: &slots, terms: &[], aggregates: &[], now };
        let mut passes = true;
        for filter in &self.select.restrictions.filters {
            passes = passes && filter.passes(&plan.table, |index| scope.column(index))?;
        }
        scratch.slots = recycle(slots);
        Ok(passes)
    }
}

impl RowSink for SelectExecution {
    fn partition(&mut self, key: &[u8], static_row: Option<RowView>) {
        self.end_partition();
        if self.partition.key != key {
            self.partition.key.clear();
            self.partition.key.extend_from_slice(key);
            self.partition.has_rows = false;
            self.partition_rows = 0;
            self.is_partition_done = false;
        }
        self.partition.static_row.clear();
        if let Some(row) = static_row {
            self.partition.static_row.extend_from_slice(row.as_bytes());
        }
        self.partition.is_pending = true;
    }

    fn row(&mut self, clustering: &[u8], row: RowView) {
        self.partition.is_pending = false;
        self.partition.has_rows = true;
        self.offer(Some((clustering, row)));
    }
}

/// Where reading begins.
fn first_position(
    select: &BoundSelect,
    state: Option<&PagingState>,
) -> Result<Option<(usize, Option<ResumePoint>)>, PlanError> {
    let resume = |state: &PagingState| ResumePoint {
        key: state.key.as_slice().into(),
        clustering: state.clustering.as_deref().map(Into::into),
        partition_rows: state.partition_rows.max(1),
    };
    match (&select.restrictions.scope, state) {
        (BoundScope::Tokens { first, last }, _) if first > last => Ok(None),
        (BoundScope::Tokens { .. }, state) => Ok(Some((0, state.map(resume)))),
        (_, _) if select.restrictions.slices.is_empty() => Ok(None),
        (BoundScope::Keys(keys), None) => Ok((!keys.is_empty()).then_some((0, None))),
        (BoundScope::Keys(keys), Some(state)) => {
            let index = keys.iter().position(|key| **key == *state.key);
            let index = index.ok_or_else(paging_state::invalid)?;
            if state.clustering.is_some() {
                return Ok(Some((index, Some(resume(state)))));
            }
            Ok((index + 1 < keys.len()).then_some((index + 1, None)))
        }
    }
}
