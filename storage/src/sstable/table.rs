//! An open table file: its root index, filter and statistics in memory, its blocks on demand.
//!
//! ```text
//! file   := data block* index page* root filter statistics footer
//! footer := root, filter, statistics: (offset:u64le length:u32le) each
//!           file_id:u64le version:u32le crc:u32le magic[8]
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::block::{Block, BlockAddress, BlockSource, TableFile};
use super::data::DataBlock;
use super::filter::{Filter, KeyHash};
use super::index::{IndexPage, Position};
use super::statistics::Statistics;
use crate::error::{Corruption, ReadError, StorageError};
use env::disk::{Disk, OpenMode};
use model::Token;
use model::codec::{Cursor, DecodeError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const MAGIC: [u8; 8] = *b"TethysT1";
pub(crate) const VERSION: u32 = 2;
pub(crate) const FOOTER_BYTES: usize = 3 * 12 + 8 + 4 + 4 + 8;

/// How the names of table files end.
pub(crate) const TABLE_SUFFIX: &str = ".sst";

/// The name of the table file of a number.
pub(crate) fn table_path(dir: &Path, file_id: u64) -> PathBuf {
    dir.join(format!("{file_id:010}{TABLE_SUFFIX}"))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SsTable {
    pub(crate) file: Arc<TableFile>,
    pub(crate) statistics: Statistics,
    pub(crate) filter: Filter,
    root: Block,
}

/// The sections' addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Footer {
    pub(crate) root: BlockAddress,
    pub(crate) filter: BlockAddress,
    pub(crate) statistics: BlockAddress,
}

impl Footer {
    pub(crate) fn encode(&self, file_id: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        for address in [self.root, self.filter, self.statistics] {
            out.extend_from_slice(&address.offset.to_le_bytes());
            out.extend_from_slice(&address.length.to_le_bytes());
        }
        out.extend_from_slice(&file_id.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }

    fn decode(bytes: &[u8], file_id: u64) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let covered = Cursor::new(bytes).bytes(FOOTER_BYTES - 12)?;
        let mut address = || -> Result<BlockAddress, DecodeError> {
            Ok(BlockAddress {
                offset: u64::from_le_bytes(cursor.array()?),
                length: u32::from_le_bytes(cursor.array()?),
            })
        };
        let footer = Footer { root: address()?, filter: address()?, statistics: address()? };
        let found_id = u64::from_le_bytes(cursor.array()?);
        let version = u32::from_le_bytes(cursor.array()?);
        let crc = u32::from_le_bytes(cursor.array()?);
        let magic: [u8; 8] = cursor.array()?;
        cursor.finish()?;
        if magic != MAGIC {
            return Err(DecodeError("the footer's magic is missing"));
        }
        if crc != crc32fast::hash(covered) {
            return Err(DecodeError("the footer's checksum does not fit"));
        }
        if version != VERSION {
            return Err(DecodeError("the format's version is unknown"));
        }
        if found_id != file_id {
            return Err(DecodeError("the file carries another file's number"));
        }
        Ok(footer)
    }
}

/// The place of a data block in the index: which page, which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPosition {
    page: usize,
    entry: usize,
}

impl SsTable {
    /// Opens a file, waiting for the device, and checks everything but data blocks.
    pub(crate) fn open(disk: &Disk, dir: &Path, file_id: u64) -> Result<Self, StorageError> {
        let path = table_path(dir, file_id);
        let io = || StorageError::io(&path);
        let file = disk.open(&path, OpenMode::Read).map_err(io())?;
        let length_bytes = file.len().map_err(io())?;
        let footer_at = length_bytes
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| Corruption::new(&path, 0, "the file is shorter than a footer"))?;
        let mut bytes = [0; FOOTER_BYTES];
        file.read_exact_at(&mut bytes, footer_at).map_err(io())?;
        let footer = Footer::decode(&bytes, file_id)
            .map_err(|DecodeError(why)| Corruption::new(&path, footer_at, why))?;
        let file = Arc::new(TableFile { id: file_id, path, file, length_bytes });
        let root = file.read_block(footer.root)?;
        IndexPage::new(&root.bytes).map_err(|e| file.corrupt(root.offset, e.0))?;
        let filter = file.read_block(footer.filter)?;
        let filter = Filter::decode(&filter.bytes).map_err(|e| file.corrupt(filter.offset, e.0))?;
        let statistics = file.read_block(footer.statistics)?;
        let statistics = Statistics::decode(&statistics.bytes)
            .map_err(|e| file.corrupt(statistics.offset, e.0))?;
        Ok(SsTable { file, statistics, filter, root })
    }

    pub(crate) fn id(&self) -> u64 {
        self.file.id
    }

    /// Whether the partition may be in it.
    #[inline]
    pub(crate) fn may_contain(&self, token: Token, key: &[u8], hash: KeyHash) -> bool {
        self.statistics.covers(token, key) && self.filter.may_contain(hash)
    }

    /// Memory that it takes while it is open.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.filter.memory_bytes() + self.root.bytes.capacity()
    }

    fn page(
        &self,
        index: usize,
        source: &mut impl BlockSource,
    ) -> Result<Option<Arc<Block>>, ReadError> {
        let root =
            IndexPage::new(&self.root.bytes).map_err(|e| self.decode_error(&self.root, &e))?;
        if index >= root.len() {
            return Ok(None);
        }
        let (_, address) = root.entry(index).map_err(|e| self.decode_error(&self.root, &e))?;
        source.block(&self.file, address).map(Some)
    }

    /// The last block that begins at or before a position.
    pub(crate) fn locate(
        &self,
        position: &Position,
        source: &mut impl BlockSource,
    ) -> Result<Option<BlockPosition>, ReadError> {
        let root =
            IndexPage::new(&self.root.bytes).map_err(|e| self.decode_error(&self.root, &e))?;
        let found = root.find(position).map_err(|e| self.decode_error(&self.root, &e))?;
        let Some(page) = found else { return Ok(None) };
        let Some(block) = self.page(page, source)? else { return Ok(None) };
        let entry = IndexPage::new(&block.bytes)
            .and_then(|page| page.find(position))
            .map_err(|e| self.decode_error(&block, &e))?;
        Ok(entry.map(|entry| BlockPosition { page, entry }))
    }

    /// The data block at a place, `None` behind the last.
    pub(crate) fn block(
        &self,
        at: BlockPosition,
        source: &mut impl BlockSource,
    ) -> Result<Option<Arc<Block>>, ReadError> {
        let Some(page) = self.page(at.page, source)? else { return Ok(None) };
        let address = IndexPage::new(&page.bytes)
            .and_then(|page| page.entry(at.entry))
            .map_err(|e| self.decode_error(&page, &e))?
            .1;
        let block = source.block(&self.file, address)?;
        DataBlock::new(&block.bytes).map_err(|e| self.decode_error(&block, &e))?;
        Ok(Some(block))
    }

    /// The first block of the table.
    pub(crate) fn first() -> BlockPosition {
        BlockPosition { page: 0, entry: 0 }
    }

    /// The place behind `at`; it may lie behind the last block.
    pub(crate) fn next(
        &self,
        at: BlockPosition,
        source: &mut impl BlockSource,
    ) -> Result<BlockPosition, ReadError> {
        let length = self.page_len(at.page, source)?;
        Ok(if at.entry + 1 < length {
            BlockPosition { page: at.page, entry: at.entry + 1 }
        } else {
            BlockPosition { page: at.page + 1, entry: 0 }
        })
    }

    /// The place before `at`.
    pub(crate) fn previous(
        &self,
        at: BlockPosition,
        source: &mut impl BlockSource,
    ) -> Result<Option<BlockPosition>, ReadError> {
        if let Some(entry) = at.entry.checked_sub(1) {
            return Ok(Some(BlockPosition { page: at.page, entry }));
        }
        let Some(page) = at.page.checked_sub(1) else { return Ok(None) };
        let entry = self.page_len(page, source)?.checked_sub(1);
        Ok(entry.map(|entry| BlockPosition { page, entry }))
    }

    fn page_len(&self, page: usize, source: &mut impl BlockSource) -> Result<usize, ReadError> {
        let Some(block) = self.page(page, source)? else { return Ok(0) };
        Ok(IndexPage::new(&block.bytes).map_err(|e| self.decode_error(&block, &e))?.len())
    }

    /// The error for a block that does not decode.
    pub(crate) fn decode_error(&self, block: &Block, error: &DecodeError) -> ReadError {
        self.file.corrupt(block.offset, error.0).into()
    }
}
