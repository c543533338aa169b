//! Writes a table file, partition by partition, row by row, in the table's order.
//!
//! The file is made under its own name, which nothing refers to yet: it is of no consequence until
//! the manifest lists it, and one that a crash left behind is removed when the engine opens. It is
//! complete and durable when [`TableWriter::finish`] returns.

use super::block::{BlockAddress, frame};
use super::data::{DataBuilder, has_head};
use super::filter::{Filter, KeyHash};
use super::index::{IndexBuilder, Position};
use super::statistics::Statistics;
use super::table::{Footer, table_path};
use crate::error::StorageError;
use crate::memtable::IndexSpan;
use env::disk::{Disk, File, OpenMode};
use model::Token;
use model::partition::Partition;
use model::row::RowView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// Content of an index page before compression.
const INDEX_PAGE_BYTES: usize = 8 << 10;

/// How a table file is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WriterOptions {
    pub(crate) is_compressed: bool,
    pub(crate) block_bytes: usize,
    pub(crate) false_positive_chance: f64,
}

/// See the module.
pub(crate) struct TableWriter {
    file_id: u64,
    path: PathBuf,
    file: File,
    options: WriterOptions,
    /// Bytes that are not written yet, and where they belong.
    buffer: Vec<u8>,
    buffer_at: u64,
    data: DataBuilder,
    /// The first position of the block that is being filled.
    block_first: OwnedPosition,
    page: IndexBuilder,
    page_first: OwnedPosition,
    root: IndexBuilder,
    hashes: Vec<KeyHash>,
    statistics: Statistics,
    partition: Current,
    #[cfg(debug_assertions)]
    last_clustering: Option<Vec<u8>>,
}

#[derive(Default)]
struct OwnedPosition {
    token: i64,
    key: Vec<u8>,
    clustering: Option<Vec<u8>>,
}

impl OwnedPosition {
    fn as_position(&self) -> Position<'_> {
        Position { token: self.token, key: &self.key, clustering: self.clustering.as_deref() }
    }

    fn set(&mut self, token: i64, key: &[u8], clustering: Option<&[u8]>) {
        self.token = token;
        self.key.clear();
        self.key.extend_from_slice(key);
        self.clustering = clustering.map(<[u8]>::to_vec);
    }
}

/// The partition that is being written.
#[derive(Default)]
struct Current {
    token: i64,
    key: Vec<u8>,
    has_head: bool,
}

impl TableWriter {
    pub(crate) fn create(
        disk: &Disk,
        dir: &Path,
        file_id: u64,
        options: WriterOptions,
    ) -> Result<Self, StorageError> {
        let path = table_path(dir, file_id);
        let file = disk.open(&path, OpenMode::Create).map_err(StorageError::io(&path))?;
        Ok(TableWriter {
            file_id,
            path,
            file,
            options,
            buffer: Vec::with_capacity(WRITE_BYTES + (WRITE_BYTES >> 2)),
            buffer_at: 0,
            data: DataBuilder::default(),
            block_first: OwnedPosition::default(),
            page: IndexBuilder::default(),
            page_first: OwnedPosition::default(),
            root: IndexBuilder::default(),
            hashes: Vec::new(),
            statistics: Statistics::default(),
            partition: Current::default(),
            #[cfg(debug_assertions)]
            last_clustering: None,
        })
    }

    /// Whether no partition was begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.statistics.partition_count == 0
    }

    /// Begins a partition: `head` is its content beside rows. A partition that gets neither a head
    /// nor rows must not be begun.
    pub(crate) fn partition(
        &mut self,
        token: Token,
        key: &[u8],
        head: &Partition,
    ) -> Result<(), StorageError> {
        let is_behind = self.statistics.partition_count == 0
            || (self.partition.token, &*self.partition.key) < (token.0, key);
        assert!(is_behind, "partitions are written in order");
        if self.data.len_bytes() >= self.options.block_bytes {
            self.finish_block()?;
        }
        if self.data.is_empty() {
            self.block_first.set(token.0, key, None);
        }
        self.partition.token = token.0;
        self.partition.key.clear();
        self.partition.key.extend_from_slice(key);
        self.partition.has_head = has_head(head);
        self.data.begin(token.0, key, head);
        self.hashes.push(KeyHash::new(token, key));
        self.statistics.add_partition(token, key, head);
        #[cfg(debug_assertions)]
        {
            self.last_clustering = None;
        }
        Ok(())
    }

    /// Appends a row to the partition.
    pub(crate) fn row(&mut self, clustering: &[u8], row: RowView) -> Result<(), StorageError> {
        #[cfg(debug_assertions)]
        {
            let is_behind = self.last_clustering.as_deref().is_none_or(|last| last < clustering);
            assert!(is_behind, "rows are written in order");
            self.last_clustering = Some(clustering.to_vec());
        }
        if self.data.len_bytes() >= self.options.block_bytes {
            self.finish_block()?;
            let Current { token, key, has_head } = &self.partition;
            self.block_first.set(*token, key, Some(clustering));
            self.data.go_on(*token, key, *has_head);
        }
        self.data.row(clustering, row);
        self.statistics.add_row(clustering, row);
        Ok(())
    }

    /// Completes the file and makes it and its name durable.
    pub(crate) fn finish(
        mut self,
        disk: &Disk,
        indexes: BTreeMap<u64, IndexSpan>,
    ) -> Result<(), StorageError> {
        self.finish_block()?;
        self.finish_page()?;
        self.statistics.indexes = indexes;
        let compress = self.options.is_compressed;
        let root = self.root.finish();
        let filter = Filter::build(&self.hashes, self.options.false_positive_chance).encode();
        let statistics = self.statistics.encode();
        let footer = Footer {
            root: self.block(&root, compress)?,
            filter: self.block(&filter, false)?,
            statistics: self.block(&statistics, false)?,
        };
        self.buffer.extend_from_slice(&footer.encode(self.file_id));
        self.flush()?;
        self.file.sync_data().map_err(StorageError::io(&self.path))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        disk.sync_dir(dir).map_err(StorageError::io(dir))
    }

    fn finish_block(&mut self) -> Result<(), StorageError> {
        if self.data.is_empty() {
            return Ok(());
        }
        let content = self.data.finish();
        let address = self.block(&content, self.options.is_compressed)?;
        if self.page.is_empty() {
            std::mem::swap(&mut self.page_first, &mut self.block_first);
            self.page.push(self.page_first.as_position(), address);
        } else {
            self.page.push(self.block_first.as_position(), address);
        }
        if self.page.len_bytes() >= INDEX_PAGE_BYTES { self.finish_page() } else { Ok(()) }
    }

    fn finish_page(&mut self) -> Result<(), StorageError> {
        if self.page.is_empty() {
            return Ok(());
        }
        let content = self.page.finish();
        let address = self.block(&content, self.options.is_compressed)?;
        self.root.push(self.page_first.as_position(), address);
        Ok(())
    }

    fn block(&mut self, content: &[u8], compress: bool) -> Result<BlockAddress, StorageError> {
        let offset = self.buffer_at + self.buffer.len() as u64;
        let before = self.buffer.len();
        frame(self.file_id, offset, content, compress, &mut self.buffer);
        let length = u32::try_from(self.buffer.len() - before).expect("a block is below 4 GiB");
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(BlockAddress { offset, length })
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let write = self.file.write_all_at(&self.buffer, self.buffer_at);
        write.map_err(StorageError::io(&self.path))?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
