//! The engine's reads.

use super::{Engine, TableState};
use crate::error::ReadError;
use crate::read::LiveTable;
use crate::read::page::{ReadEnd, ReadProgress, read_into, read_page};
use crate::read::partition::PartitionReader;
use crate::read::single::{SingleRead, merge_sources, read_one};
use crate::sstable::{CachedBlocks, KeyHash};
use model::mutation::MutationItem;
use model::partition::Partition;
use model::read::{Page, ReadCommand, RowSink, Slice};
use model::row::RowView;
use model::{EpochSeconds, TableId, TimestampMicros, Token};
use std::collections::BTreeMap;
use std::sync::Arc;

fn table_in(tables: &BTreeMap<TableId, TableState>, id: TableId) -> Result<&TableState, ReadError> {
    tables.get(&id).ok_or(ReadError::UnknownTable(id))
}

/// A larger row is not kept in memory for the next decision: it would be copied with every write.
const GATHERED_ROW_BYTES_MAX: usize = 16 << 10;

/// What is known of a row without merging anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowInPlace<'a> {
    /// Nothing was ever written to it, and nothing lies over it.
    Absent,
    /// All that was ever written to it, and nothing lies over it but its own tombstone.
    Whole(RowView<'a>),
    /// It has to be put together: [`Engine::load_partition`].
    InPieces,
}

impl Engine {
    /// Reads one row. `f` gets the static row, when it is asked for and live, and the row, when it
    /// is live at `now`. The clustering key is empty in a table without clustering columns.
    #[expect(clippy::too_many_arguments, reason = "one call of the hot path, no struct to fill")]
    pub fn read_row<R>(
        &mut self,
        table: TableId,
        token: Token,
        key: &[u8],
        clustering: &[u8],
        now: EpochSeconds,
        include_static: bool,
        f: impl FnOnce(Option<RowView>, Option<RowView>) -> R,
    ) -> Result<R, ReadError> {
        let state = table_in(&self.tables, table)?;
        let read = SingleRead { token, key, clustering, now, include_static };
        let mut blocks = CachedBlocks { cache: &mut self.cache };
        read_one(state.sources(), read, &mut blocks, f)
    }

    /// Reads a page. After [`ReadError::Miss`] and [`ReadError::Paused`] it is called again with
    /// the same command and progress; a new read begins with a default progress.
    pub fn read(
        &mut self,
        command: &ReadCommand,
        progress: &mut ReadProgress,
    ) -> Result<Page, ReadError> {
        let state = table_in(&self.tables, command.table)?;
        let mut blocks = CachedBlocks { cache: &mut self.cache };
        let partitioner = state.config.partitioner;
        read_page(state.sources(), partitioner, command, progress, &mut blocks)
    }

    /// As [`Engine::read`], but hands the rows to a sink, without a copy between.
    pub fn read_into(
        &mut self,
        command: &ReadCommand,
        progress: &mut ReadProgress,
        sink: &mut impl RowSink,
    ) -> Result<ReadEnd, ReadError> {
        let state = table_in(&self.tables, command.table)?;
        let mut blocks = CachedBlocks { cache: &mut self.cache };
        let partitioner = state.config.partitioner;
        read_into(state.sources(), partitioner, command, progress, sink, &mut blocks)
    }

    /// What is known of a partition, tombstones kept: its head, and the rows in the slices (which
    /// ascend without overlaps). Live and dead cells alike: for decisions, not for answers.
    pub fn load_partition(
        &mut self,
        table: TableId,
        token: Token,
        key: &[u8],
        slices: &[Slice],
    ) -> Result<Partition, ReadError> {
        let all = self.load_partition_if_small(table, token, key, slices, (usize::MAX, usize::MAX));
        all.map(|partition| partition.expect("there is no limit"))
    }

    /// As [`Engine::load_partition`], unless the slices have more rows or more bytes of rows than
    /// that, dead ones among them: then nothing, and no more was read.
    pub fn load_partition_if_small(
        &mut self,
        table: TableId,
        token: Token,
        key: &[u8],
        slices: &[Slice],
        (mut rows_max, mut bytes_max): (usize, usize),
    ) -> Result<Option<Partition>, ReadError> {
        let state = table_in(&self.tables, table)?;
        let sources = state.sources();
        let mut blocks = CachedBlocks { cache: &mut self.cache };
        let mut reader =
            PartitionReader::open(sources, token, &Arc::from(key), false, &mut blocks)?;
        let mut partition = std::mem::take(&mut reader.head);
        for slice in slices {
            reader.seek(&slice.start, &mut blocks)?;
            while let Some((clustering, row)) = reader.next_raw(&mut blocks)? {
                if *clustering >= *slice.end {
                    break;
                }
                let bytes = clustering.len() + row.as_bytes().len();
                let left = (rows_max.checked_sub(1), bytes_max.checked_sub(bytes));
                let (Some(rows_left), Some(bytes_left)) = left else { return Ok(None) };
                (rows_max, bytes_max) = (rows_left, bytes_left);
                partition.apply_item(MutationItem::Row { clustering, row });
            }
        }
        Ok(Some(partition))
    }

    /// Begins to fetch the place of a partition into the processor's cache. Who has several point
    /// operations to do calls this for all of them, then [`Engine::prefetch_partition`] for all,
    /// and then does them: the waits for memory overlap. A hint: it changes nothing, and is worth
    /// its time when tens of instructions at least come in between.
    #[inline]
    pub fn prefetch_index(&self, table: TableId, token: Token) {
        if let Some(state) = self.tables.get(&table) {
            state.active.prefetch_index(token);
        }
    }

    /// Begins to fetch a partition, whose place [`Engine::prefetch_index`] has fetched before.
    #[inline]
    pub fn prefetch_partition(&self, table: TableId, token: Token) {
        if let Some(state) = self.tables.get(&table) {
            state.active.prefetch_record(token);
        }
    }

    /// Begins to fetch the row of a partition that [`Engine::prefetch_partition`] has fetched before, if
    /// it lies elsewhere.
    #[inline]
    pub fn prefetch_row(&self, table: TableId, token: Token) {
        if let Some(state) = self.tables.get(&table) {
            state.active.prefetch_moved_row(token);
        }
    }

    /// A row as it was written, tombstones kept, where it lies; see [`RowInPlace`]. Touches no file.
    pub fn row_in_place(
        &self,
        table: TableId,
        token: Token,
        key: &[u8],
        clustering: &[u8],
    ) -> RowInPlace<'_> {
        let Some(state) = self.tables.get(&table) else { return RowInPlace::InPieces };
        let mut found = None;
        for partition in state.sources().memtables(token).filter_map(|m| m.partition(token, key)) {
            if !partition.has_rows_only() {
                return RowInPlace::InPieces;
            }
            let Some(row) = partition.row(clustering) else { continue };
            if found.replace(RowView::new(row)).is_some() {
                return RowInPlace::InPieces;
            }
            if partition.is_whole(clustering) {
                return RowInPlace::Whole(RowView::new(row));
            }
        }
        if !state.live.is_empty() {
            let hash = KeyHash::new(token, key);
            if state.live.iter().any(|t| t.may_contain(token, key, hash)) {
                return RowInPlace::InPieces;
            }
        }
        found.map_or(RowInPlace::Absent, RowInPlace::Whole)
    }

    /// Puts together a row that lies in pieces, and keeps it in memory, so that
    /// [`Engine::row_in_place`] finds it whole from now on. Changes nothing that a read can see.
    /// Says whether it did so: not for a row under a tombstone that is not its own, nor for one
    /// that is large or absent.
    pub fn gather_row(
        &mut self,
        table: TableId,
        token: Token,
        key: &[u8],
        clustering: &[u8],
    ) -> Result<bool, ReadError> {
        let state = table_in(&self.tables, table)?;
        let read = SingleRead { token, key, clustering, now: 0, include_static: false };
        let mut blocks = CachedBlocks { cache: &mut self.cache };
        let hash = KeyHash::new(token, key);
        let (head, merged) = merge_sources(state.sources(), read, hash, &mut blocks)?;
        let has_tombstones = head.deletion.is_some() || !head.range_tombstones.is_empty();
        let Some(row) = merged
            .row()
            .filter(|row| !has_tombstones && row.as_bytes().len() <= GATHERED_ROW_BYTES_MAX)
        else {
            return Ok(false);
        };
        let state = self.tables.get_mut(&table).ok_or(ReadError::UnknownTable(table))?;
        state.active.take_over(token, key, clustering, row);
        Ok(true)
    }

    /// A bound on what was written to a partition: no timestamp in it, tombstones included, is
    /// newer. `None` when it certainly has nothing. Touches no file: exact for memtables, the
    /// table's maximum where a table's filter lets the key through.
    pub fn newest_timestamp(
        &self,
        table: TableId,
        token: Token,
        key: &[u8],
    ) -> Option<TimestampMicros> {
        let state = self.tables.get(&table)?;
        let mut newest = None;
        for memtable in state.sources().memtables(token) {
            // The active one comes first, and is mostly the newest.
            if Some(memtable.timestamps().newest) > newest {
                newest = newest.max(memtable.partition(token, key).map(|p| p.newest()));
            }
        }
        let is_newer = |t: &&LiveTable| Some(t.table.statistics.timestamps.newest) > newest;
        // Tables come with the newest maximum first, so the first that has the key decides.
        let mut newer = state.live.iter().take_while(is_newer).peekable();
        if newer.peek().is_some() {
            let hash = KeyHash::new(token, key);
            let found = newer.find(|t| t.may_contain(token, key, hash));
            newest = newest.max(found.map(|t| t.table.statistics.timestamps.newest));
        }
        newest
    }
}
