//! What was written to a table and is not yet in a file.
//!
//! Partitions lie in a B-tree by token, one integer comparison a step; the few that share a token
//! are sorted by key. Row bytes are in an arena ([`arena`]), rows of a partition in clustering
//! order ([`rows`]). A row written again is merged at once by [`model::merge`], so a read finds one
//! version. Each partition knows its newest timestamp: it says cheaply that nothing newer exists.
//!
//! The memtable compares bytes and knows no types. It is owned by its shard and needs no lock;
//! frozen, it is immutable and shared with the thread that writes it out.

pub(crate) mod arena;
pub(crate) mod rows;

use crate::timestamps::TimestampBounds;
use arena::{Arena, Place};
use model::merge::{merge_deletions, merge_rows};
use model::mutation::{MutationItem, MutationView};
use model::range_tombstones::RangeTombstones;
use model::row::{Deletion, RowView};
use model::{TimestampMicros, Token};
use rows::{RowHandle, RowPosition, Rows};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What a partition costs beside its bytes: its share of a B-tree node that is two thirds full.
const PARTITION_BYTES: usize = 160;
/// What a row costs beside its bytes: its handle in a leaf that may be half full.
const ROW_BYTES: usize = 40;
/// What a range tombstone costs beside its bounds.
const RANGE_TOMBSTONE_BYTES: usize = 96;

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
    partitions: BTreeMap<i64, Bucket>,
    arena: Arena,
    /// The merge of two versions of a row, before it is stored.
    scratch: Vec<u8>,
    overhead_bytes: usize,
    timestamps: Option<TimestampBounds>,
    indexes: BTreeMap<u64, IndexSpan>,
}

/// The partitions of one token in the order of their keys: one, nearly always.
#[derive(Debug)]
struct Bucket {
    first: MemPartition,
    rest: Vec<MemPartition>,
}

#[derive(Debug)]
struct MemPartition {
    key_place: Place,
    key_len: u32,
    newest: TimestampMicros,
    rows: Rows,
    head: Option<Box<Head>>,
}

/// What few partitions have.
#[derive(Debug, Default)]
struct Head {
    deletion: Option<Deletion>,
    static_row: Option<RowHandle>,
    range_tombstones: RangeTombstones,
}

impl Memtable {
    /// Merges a mutation in; `token` is that of its key.
    pub(crate) fn apply(&mut self, token: Token, mutation: &MutationView) {
        let Memtable { partitions, arena, scratch, overhead_bytes, timestamps, .. } = self;
        if mutation.is_empty() {
            return;
        }
        let partition = partition_entry(partitions, arena, overhead_bytes, token, mutation.key());
        let mut bounds = TimestampBounds::EMPTY;
        for item in mutation.items() {
            match item {
                MutationItem::PartitionTombstone(deletion) => {
                    bounds.add(deletion.timestamp);
                    let head = partition.head_mut();
                    head.deletion = merge_deletions(head.deletion, Some(deletion));
                }
                MutationItem::StaticRow(row) => {
                    bounds.merge(TimestampBounds::of_row(row));
                    let head = partition.head_mut();
                    if let Some(handle) = &mut head.static_row {
                        merge_into(handle, arena, scratch, row);
                    } else {
                        head.static_row = Some(RowHandle::store(arena, b"", row.as_bytes()));
                    }
                }
                MutationItem::RangeTombstone { start, end, deletion } => {
                    bounds.add(deletion.timestamp);
                    *overhead_bytes += RANGE_TOMBSTONE_BYTES + start.len() + end.len();
                    partition.head_mut().range_tombstones.insert(start, end, deletion);
                }
                MutationItem::Row { clustering, row } => {
                    bounds.merge(TimestampBounds::of_row(row));
                    match partition.rows.search(arena, clustering) {
                        Ok(at) => {
                            if let Some(handle) = partition.rows.at_mut(at) {
                                merge_into(handle, arena, scratch, row);
                            }
                        }
                        Err(at) => {
                            let handle = RowHandle::store(arena, clustering, row.as_bytes());
                            partition.rows.insert(at, handle);
                            *overhead_bytes += ROW_BYTES;
                        }
                    }
                }
            }
        }
        partition.newest = partition.newest.max(bounds.newest);
        timestamps.get_or_insert(TimestampBounds::EMPTY).merge(bounds);
    }

    /// Notes that the entry at `index` of a group's log is in it.
    pub(crate) fn note_index(&mut self, group: u64, index: u64) {
        let span = self.indexes.entry(group).or_insert(IndexSpan { first: index, last: index });
        span.first = span.first.min(index);
        span.last = span.last.max(index);
    }

    /// The entries it holds, by group.
    pub(crate) fn indexes(&self) -> &BTreeMap<u64, IndexSpan> {
        &self.indexes
    }

    /// Whether no entry was noted and nothing was applied.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.indexes.is_empty()
    }

    /// The bounds of all timestamps ever applied.
    pub(crate) fn timestamps(&self) -> TimestampBounds {
        self.timestamps.unwrap_or(TimestampBounds::EMPTY)
    }

    /// Memory it takes, by estimate where the allocator does not tell.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.arena.capacity_bytes() + self.overhead_bytes + self.scratch.capacity()
    }

    /// How many partitions it has.
    pub(crate) fn partition_count(&self) -> usize {
        self.partitions.values().map(|b| 1 + b.rest.len()).sum()
    }

    /// Forgets the partitions of a range of tokens. Their bytes stay in the arena until it goes.
    pub(crate) fn remove(&mut self, tokens: RangeInclusive<i64>) {
        if tokens.contains(&i64::MIN) && tokens.contains(&i64::MAX) {
            self.partitions.clear();
            self.timestamps = None;
            return;
        }
        self.partitions.retain(|token, _| !tokens.contains(token));
    }

    /// The partition of that key.
    #[inline]
    pub(crate) fn partition(&self, token: Token, key: &[u8]) -> Option<PartitionRef<'_>> {
        let bucket = self.partitions.get(&token.0)?;
        let at = bucket.search(&self.arena, key).ok()?;
        Some(PartitionRef { partition: bucket.at(at), arena: &self.arena, token })
    }

    /// The first partition behind `(token, key)`, or at it when `is_inclusive`.
    pub(crate) fn partition_from(
        &self,
        token: Token,
        key: &[u8],
        is_inclusive: bool,
    ) -> Option<PartitionRef<'_>> {
        self.partitions.range(token.0..).find_map(|(&found, bucket)| {
            let at = if found == token.0 {
                match bucket.search(&self.arena, key) {
                    Ok(at) if !is_inclusive => at + 1,
                    Ok(at) | Err(at) => at,
                }
            } else {
                0
            };
            (at < bucket.len()).then(|| PartitionRef {
                partition: bucket.at(at),
                arena: &self.arena,
                token: Token(found),
            })
        })
    }

    /// Every partition in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PartitionRef<'_>> {
        let arena = &self.arena;
        self.partitions.iter().flat_map(move |(&token, bucket)| {
            (0..bucket.len()).map(move |at| PartitionRef {
                partition: bucket.at(at),
                arena,
                token: Token(token),
            })
        })
    }
}

/// The partition of a key, made when it is new.
fn partition_entry<'a>(
    partitions: &'a mut BTreeMap<i64, Bucket>,
    arena: &mut Arena,
    overhead_bytes: &mut usize,
    token: Token,
    key: &[u8],
) -> &'a mut MemPartition {
    use std::collections::btree_map::Entry;
    let bucket = match partitions.entry(token.0) {
        Entry::Vacant(vacant) => {
            *overhead_bytes += PARTITION_BYTES;
            let first = MemPartition::new(arena, key);
            return &mut vacant.insert(Bucket { first, rest: Vec::new() }).first;
        }
        Entry::Occupied(occupied) => occupied.into_mut(),
    };
    let at = match bucket.search(arena, key) {
        Ok(at) => at,
        Err(at) => {
            *overhead_bytes += PARTITION_BYTES;
            bucket.insert(at, MemPartition::new(arena, key));
            at
        }
    };
    bucket.at_mut(at)
}

fn merge_into(handle: &mut RowHandle, arena: &mut Arena, scratch: &mut Vec<u8>, row: RowView) {
    scratch.clear();
    let (_, old) = handle.get(arena);
    merge_rows(RowView::new(old), row, scratch);
    handle.replace(arena, scratch);
}

impl Bucket {
    fn len(&self) -> usize {
        1 + self.rest.len()
    }

    fn at(&self, index: usize) -> &MemPartition {
        if index == 0 { &self.first } else { &self.rest[index - 1] }
    }

    fn at_mut(&mut self, index: usize) -> &mut MemPartition {
        if index == 0 { &mut self.first } else { &mut self.rest[index - 1] }
    }

    #[inline]
    fn search(&self, arena: &Arena, key: &[u8]) -> Result<usize, usize> {
        use std::cmp::Ordering;
        match self.first.key(arena).cmp(key) {
            Ordering::Equal => Ok(0),
            Ordering::Greater => Err(0),
            Ordering::Less => match self.rest.binary_search_by(|p| p.key(arena).cmp(key)) {
                Ok(at) => Ok(at + 1),
                Err(at) => Err(at + 1),
            },
        }
    }

    fn insert(&mut self, at: usize, partition: MemPartition) {
        if at == 0 {
            let old = std::mem::replace(&mut self.first, partition);
            self.rest.insert(0, old);
        } else {
            self.rest.insert(at - 1, partition);
        }
    }
}

impl MemPartition {
    fn new(arena: &mut Arena, key: &[u8]) -> Self {
        MemPartition {
            key_place: arena.push(key, b""),
            key_len: key.len() as u32,
            newest: i64::MIN,
            rows: Rows::Empty,
            head: None,
        }
    }

    #[inline]
    fn key<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.key_place, self.key_len as usize)
    }

    fn head_mut(&mut self) -> &mut Head {
        self.head.get_or_insert_default()
    }
}

/// A partition of a memtable, viewed in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionRef<'a> {
    partition: &'a MemPartition,
    arena: &'a Arena,
    token: Token,
}

impl<'a> PartitionRef<'a> {
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    pub(crate) fn key(&self) -> &'a [u8] {
        self.partition.key(self.arena)
    }

    pub(crate) fn newest(&self) -> TimestampMicros {
        self.partition.newest
    }

    pub(crate) fn deletion(&self) -> Option<Deletion> {
        self.partition.head.as_ref()?.deletion
    }

    pub(crate) fn static_row(&self) -> Option<&'a [u8]> {
        Some(self.partition.head.as_ref()?.static_row?.get(self.arena).1)
    }

    pub(crate) fn range_tombstones(&self) -> Option<&'a RangeTombstones> {
        let list = &self.partition.head.as_ref()?.range_tombstones;
        (!list.is_empty()).then_some(list)
    }

    #[inline]
    pub(crate) fn row(&self, clustering: &[u8]) -> Option<&'a [u8]> {
        let rows = &self.partition.rows;
        let at = rows.search(self.arena, clustering).ok()?;
        Some(rows.at(at)?.get(self.arena).1)
    }

    /// The position of the first row at or behind a clustering position.
    pub(crate) fn seek(&self, position: &[u8]) -> RowPosition {
        match self.partition.rows.search(self.arena, position) {
            Ok(at) | Err(at) => at,
        }
    }

    pub(crate) fn next(&self, at: RowPosition) -> RowPosition {
        self.partition.rows.next(at)
    }

    pub(crate) fn previous(&self, at: RowPosition) -> Option<RowPosition> {
        self.partition.rows.previous(at)
    }

    pub(crate) fn row_at(&self, at: RowPosition) -> Option<(&'a [u8], &'a [u8])> {
        Some(self.partition.rows.at(at)?.get(self.arena))
    }
}
