//! What was written to a table and is not yet in a file.
//!
//! ```text
//! token ──▶ index ──▶ record ─────────────────▶ contents ──▶ rows ──▶ arena
//!           hash      in the arena: newest      of partitions with
//!                     timestamp, key, the       more than one row
//! order ──────────▶   only row
//! leaves by token
//! ```
//! A point operation on a partition of one row touches two places in memory: a slot of the index
//! ([`index`]) and the record ([`record`]). [`Memtable::prefetch_index`] and
//! [`Memtable::prefetch_record`] fetch them ahead of time. The order of partitions by (token, key)
//! ([`leaves`]) is for scans and for writing out; it is touched by an insert of a new partition,
//! and by look-ups of the few partitions that share a token.
//!
//! A row written again is merged at once by [`model::merge`], so a read finds one version. Each
//! partition knows its newest timestamp: it says cheaply that nothing newer exists. A row that was
//! put together from all sources for a decision is kept here as it was found
//! ([`Memtable::take_over`]), so that the next decision asks no file.
//!
//! The memtable compares bytes and knows no types. It is owned by its shard and needs no lock;
//! frozen, it is immutable and shared with the thread that writes it out.

pub(crate) mod arena;
mod content;
mod index;
pub(crate) mod leaves;
mod partition;
mod record;
mod rows;

pub(crate) use partition::PartitionRef;

use crate::timestamps::TimestampBounds;
use arena::{Arena, Place};
use content::{Content, Contents};
use index::{Found, Index};
use leaves::{Leaves, Position};
use model::merge::{is_overwritten, merge_deletions, merge_overwritten, merge_rows};
use model::mutation::{MutationItem, MutationView};
use model::row::RowView;
use model::{IdMap, Token};
use record::{RecordHead, key_of};
use rows::RowHandle;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What a range tombstone costs beside its bounds.
const RANGE_TOMBSTONE_BYTES: usize = 96;
/// How much of a record is fetched ahead: the head, a short key, and a row of a few columns.
const PREFETCHED_BYTES: usize = 256;

/// The entries of one group that a memtable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexSpan {
    /// Lowest index.
    pub first: u64,
    /// Highest index.
    pub last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    index: Index,
    order: Leaves<Ordered>,
    arena: Arena,
    contents: Contents,
    /// The merge of two versions of a row, before it is stored.
    scratch: Vec<u8>,
    /// Memory of what contents own.
    content_bytes: usize,
    timestamps: Option<TimestampBounds>,
    spans: IdMap<u64, IndexSpan>,
}

/// A partition in the order of partitions.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    token: i64,
    record: Place,
}

impl Memtable {
    /// Merges a mutation in; `token` is that of its key.
    pub(crate) fn apply(&mut self, token: Token, mutation: &MutationView) {
        let (key, mut items) = (mutation.key(), mutation.items());
        let bounds = match (items.next(), items.next()) {
            (None, _) => return,
            (Some(MutationItem::Row { clustering, row }), None) => {
                self.apply_row(token, key, clustering, row)
            }
            _ => self.apply_items(token, key, mutation),
        };
        self.timestamps.get_or_insert(TimestampBounds::EMPTY).merge(bounds);
    }

    /// Merges a mutation of one row in: most mutations are.
    fn apply_row(
        &mut self,
        token: Token,
        key: &[u8],
        clustering: &[u8],
        row: RowView,
    ) -> TimestampBounds {
        let bounds = TimestampBounds::of_row(row);
        let Some(record) = self.find(token, key) else {
            let bytes = row.as_bytes();
            let record = RecordHead::store(&mut self.arena, key, bounds.newest, clustering, bytes);
            self.insert(token, key, record);
            return bounds;
        };
        let mut head = RecordHead::read(&self.arena, record);
        let is_newer = bounds.oldest > head.newest;
        head.newest = head.newest.max(bounds.newest);
        let (found, old) = head.only_row(&self.arena);
        if head.content.is_none() && found == clustering {
            let merged = merge(RowView::new(old), row, is_newer, &mut self.scratch);
            head.row_place = head.row_place.replace(&mut self.arena, clustering.len(), merged);
            head.row_len = merged.len() as u32;
            head.write(&mut self.arena, record);
        } else {
            self.give_content(&mut head);
            head.write(&mut self.arena, record);
            self.merge_row(head, clustering, row, is_newer);
        }
        bounds
    }

    fn apply_items(
        &mut self,
        token: Token,
        key: &[u8],
        mutation: &MutationView,
    ) -> TimestampBounds {
        let record = self.find(token, key).unwrap_or_else(|| {
            let record = RecordHead::store(&mut self.arena, key, i64::MIN, b"", b"");
            self.insert(token, key, record);
            record
        });
        let mut head = RecordHead::read(&self.arena, record);
        let number = self.give_content(&mut head);
        let mut bounds = TimestampBounds::EMPTY;
        for item in mutation.items() {
            match item {
                MutationItem::PartitionTombstone(deletion) => {
                    bounds.add(deletion.timestamp);
                    let content = self.contents.get_mut(number);
                    content.deletion = merge_deletions(content.deletion, Some(deletion));
                }
                MutationItem::StaticRow(row) => {
                    bounds.merge(TimestampBounds::of_row(row));
                    let Memtable { contents, arena, scratch, .. } = self;
                    let content = contents.get_mut(number);
                    if let Some(handle) = &mut content.static_row {
                        merge_into(handle, arena, scratch, row, false);
                    } else {
                        content.static_row = Some(RowHandle::store(arena, b"", row.as_bytes()));
                    }
                }
                MutationItem::RangeTombstone { start, end, deletion } => {
                    bounds.add(deletion.timestamp);
                    self.content_bytes += RANGE_TOMBSTONE_BYTES + start.len() + end.len();
                    let content = self.contents.get_mut(number);
                    content.range_tombstones.insert(start, end, deletion);
                }
                MutationItem::Row { clustering, row } => {
                    let of_row = TimestampBounds::of_row(row);
                    bounds.merge(of_row);
                    self.merge_row(head, clustering, row, of_row.oldest > head.newest);
                }
            }
        }
        head.newest = head.newest.max(bounds.newest);
        head.write(&mut self.arena, record);
        bounds
    }

    /// Makes a partition's content, when it has none, of its only row; gives the content's number.
    fn give_content(&mut self, head: &mut RecordHead) -> u32 {
        if let Some(number) = head.content {
            return number;
        }
        let mut content = Content::default();
        let (clustering, row) = head.only_row(&self.arena);
        if !row.is_empty() {
            let mut handle = RowHandle::new(head.row_place, clustering, row.len());
            if head.is_whole {
                handle.set_whole();
            }
            content.rows.insert(Position::FIRST, handle);
        }
        self.content_bytes += content.rows.memory_bytes();
        let number = self.contents.push(content);
        head.content = Some(number);
        number
    }

    /// Merges in what older sources and this have of a row, when no tombstone of any of them lies
    /// over it but its own: the row is whole from then on.
    pub(crate) fn take_over(&mut self, token: Token, key: &[u8], clustering: &[u8], row: RowView) {
        let bounds = self.apply_row(token, key, clustering, row);
        self.timestamps.get_or_insert(TimestampBounds::EMPTY).merge(bounds);
        let record = self.find(token, key).expect("it was just written");
        let mut head = RecordHead::read(&self.arena, record);
        if let Some(number) = head.content {
            let rows = &mut self.contents.get_mut(number).rows;
            let at = rows.find(&self.arena, clustering).expect("it was just written");
            if let Some(handle) = rows.at_mut(at) {
                handle.set_whole();
            }
        } else {
            head.is_whole = true;
            head.write(&mut self.arena, record);
        }
    }

    /// Merges a row into the content of a partition.
    fn merge_row(&mut self, head: RecordHead, clustering: &[u8], row: RowView, is_newer: bool) {
        let Memtable { contents, arena, scratch, content_bytes, .. } = self;
        let number = head.content.expect("it was given a content");
        let rows = &mut contents.get_mut(number).rows;
        match rows.find(arena, clustering) {
            Ok(at) => {
                if let Some(handle) = rows.at_mut(at) {
                    merge_into(handle, arena, scratch, row, is_newer);
                }
            }
            Err(at) => {
                let bytes_before = rows.memory_bytes();
                rows.insert(at, RowHandle::store(arena, clustering, row.as_bytes()));
                *content_bytes += rows.memory_bytes() - bytes_before;
            }
        }
    }

    /// Adds the record of a partition that is not there yet.
    fn insert(&mut self, token: Token, key: &[u8], record: Place) {
        if self.index.get(token.0) == Found::Nothing {
            self.index.insert(token.0, record);
        } else {
            self.index.set_several(token.0);
        }
        let (Ok(at) | Err(at)) = self.search(token, key);
        self.order.insert(at, Ordered { token: token.0, record });
    }

    /// Where a partition is in the order, or would be.
    #[inline]
    fn search(&self, token: Token, key: &[u8]) -> Result<Position, Position> {
        self.order.search(|item| match item.token.cmp(&token.0) {
            // Only few partitions share a token, and only theirs are looked at.
            Ordering::Equal => self.compare_key(item.record, key),
            order => order,
        })
    }

    #[cold]
    fn compare_key(&self, record: Place, key: &[u8]) -> Ordering {
        key_of(&self.arena, record).cmp(key)
    }

    /// The record of a partition.
    #[inline]
    fn find(&self, token: Token, key: &[u8]) -> Option<Place> {
        match self.index.get(token.0) {
            Found::Nothing => None,
            Found::One(record) => (key_of(&self.arena, record) == key).then_some(record),
            Found::Several => {
                let at = self.search(token, key).ok()?;
                self.order.at(at).map(|item| item.record)
            }
        }
    }

    /// Notes that the entry at `index` of a group's log is in it.
    pub(crate) fn note_index(&mut self, group: u64, index: u64) {
        let span = self.spans.entry(group).or_insert(IndexSpan { first: index, last: index });
        span.first = span.first.min(index);
        span.last = span.last.max(index);
    }

    /// The entries it holds, by group.
    pub(crate) fn indexes(&self) -> BTreeMap<u64, IndexSpan> {
        self.spans.iter().map(|(group, span)| (*group, *span)).collect()
    }

    /// The entries of one group that it holds.
    pub(crate) fn indexes_of(&self, group: u64) -> Option<IndexSpan> {
        self.spans.get(&group).copied()
    }

    /// Whether no entry was noted and nothing was applied.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.spans.is_empty()
    }

    /// The bounds of all timestamps ever applied.
    pub(crate) fn timestamps(&self) -> TimestampBounds {
        self.timestamps.unwrap_or(TimestampBounds::EMPTY)
    }

    /// Memory it takes, by estimate where the allocator does not tell.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
            + self.order.memory_bytes()
            + self.arena.capacity_bytes()
            + self.contents.memory_bytes()
            + self.content_bytes
            + self.scratch.capacity()
    }

    /// How many partitions it has.
    pub(crate) fn partition_count(&self) -> usize {
        self.order.len()
    }

    /// Forgets the partitions of a range of tokens. Their bytes stay in the arena until it goes.
    pub(crate) fn remove(&mut self, tokens: RangeInclusive<i64>) {
        self.order.retain(|item| !tokens.contains(&item.token));
        self.index = Index::default();
        let mut last = None;
        for item in self.order.iter() {
            if last.replace(item.token) == Some(item.token) {
                self.index.set_several(item.token);
            } else {
                self.index.insert(item.token, item.record);
            }
        }
        if self.order.is_empty() {
            self.timestamps = None;
        }
    }

    /// Begins to fetch what the index says of a token.
    #[inline]
    pub(crate) fn prefetch_index(&self, token: Token) {
        self.index.prefetch(token.0);
    }

    /// Begins to fetch the record of a partition; waits for the index when that is not fetched.
    #[inline]
    pub(crate) fn prefetch_record(&self, token: Token) {
        if let Found::One(record) = self.index.get(token.0) {
            self.arena.prefetch(record, PREFETCHED_BYTES);
        }
    }

    /// Begins to fetch the only row of a partition if it does not lie with the record; waits for that
    /// when it is not fetched.
    #[inline]
    pub(crate) fn prefetch_moved_row(&self, token: Token) {
        if let Found::One(record) = self.index.get(token.0) {
            let row_place = RecordHead::read(&self.arena, record).row_place.place();
            if !row_place.is_within(record, PREFETCHED_BYTES) {
                self.arena.prefetch(row_place, PREFETCHED_BYTES);
            }
        }
    }

    /// The partition of that key.
    #[inline]
    pub(crate) fn partition(&self, token: Token, key: &[u8]) -> Option<PartitionRef<'_>> {
        let record = self.find(token, key)?;
        Some(PartitionRef::new(self, token, record))
    }

    /// The first partition behind `(token, key)`, or at it when `is_inclusive`.
    pub(crate) fn partition_from(
        &self,
        token: Token,
        key: &[u8],
        is_inclusive: bool,
    ) -> Option<PartitionRef<'_>> {
        let at = match self.search(token, key) {
            Ok(at) if !is_inclusive => self.order.next(at),
            Ok(at) | Err(at) => at,
        };
        self.order.at(at).map(|item| PartitionRef::new(self, Token(item.token), item.record))
    }

    /// Whether it has a partition in a range of tokens.
    pub(crate) fn has_tokens(&self, tokens: RangeInclusive<i64>) -> bool {
        let found = self.partition_from(Token(*tokens.start()), b"", true);
        found.is_some_and(|partition| tokens.contains(&partition.token().0))
    }

    /// Every partition in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PartitionRef<'_>> {
        self.order.iter().map(|item| PartitionRef::new(self, Token(item.token), item.record))
    }
}

/// Merges a row into the version that is there; `is_newer` says that all of it is newer than all
/// that the partition holds.
fn merge_into(
    handle: &mut RowHandle,
    arena: &mut Arena,
    scratch: &mut Vec<u8>,
    row: RowView,
    is_newer: bool,
) {
    let (_, old) = handle.get(arena);
    let merged = merge(RowView::new(old), row, is_newer, scratch);
    handle.replace(arena, merged);
}

/// The bytes of two versions' merge: the new one's as they stand, or in `scratch`.
#[inline]
fn merge<'a>(old: RowView, new: RowView<'a>, is_newer: bool, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if is_newer && is_overwritten(old, new) {
        return new.as_bytes();
    }
    scratch.clear();
    if !(is_newer && merge_overwritten(old, new, scratch)) {
        merge_rows(old, new, scratch);
    }
    scratch
}

#[cfg(test)]
mod tests;
