//! Blocks: the unit of a table file that is checksummed, compressed, read and cached.
//!
//! ```text
//! block := codec:u8 content_len:u32le payload crc:u32le      codec: 0 as it is, 1 LZ4
//! ```
//!
//! The checksum covers the file's number, the block's offset, and the block: a block in the wrong
//! place is as wrong as one with a flipped bit.
//!
//! A shard thread takes blocks from its cache or from the page cache; what is in neither is a
//! [`BlockMiss`] that another thread loads.

use crate::cache::BlockCache;
use crate::error::{Corruption, ReadError, StorageError};
use env::disk::File;
use env::planted::{Bug, is_planted};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

const CODEC_RAW: u8 = 0;
const CODEC_LZ4: u8 = 1;
const HEAD_BYTES: usize = 5;
const CRC_BYTES: usize = 4;
/// What a background thread keeps for itself: the blocks that its cursors stand in.
const BLOCKING_CACHE_BYTES: usize = 8 << 20;
/// LZ4 cannot expand further than this, so a length beyond it is a lie and nothing is allocated.
const LZ4_EXPANSION_MAX: usize = 255;

/// Where a block lies in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockAddress {
    /// Of its first byte.
    pub offset: u64,
    /// Head and checksum included.
    pub length: u32,
}

/// The content of a block, checked and decompressed.
#[derive(Debug)]
pub(crate) struct Block {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where it came from, for the error when it does not decode.
    pub offset: u64,
}

/// An open table file.
#[derive(Debug)]
pub(crate) struct TableFile {
    /// Its number, unique in the shard for ever.
    pub id: u64,
    /// Its name.
    pub path: PathBuf,
    /// The handle.
    pub file: File,
    /// Its length when it was opened; it never changes.
    pub length_bytes: u64,
}

impl TableFile {
    /// The error for damage at `offset`.
    pub(crate) fn corrupt(&self, offset: u64, reason: &'static str) -> Corruption {
        Corruption::new(&self.path, offset, reason)
    }

    /// Refuses an address that reaches out of the file, before anything is allocated for it.
    fn check_address(&self, address: BlockAddress) -> Result<(), Corruption> {
        let end = address.offset.checked_add(u64::from(address.length));
        if end.is_none_or(|end| end > self.length_bytes)
            || (address.length as usize) < HEAD_BYTES + CRC_BYTES
        {
            return Err(self.corrupt(address.offset, "a block's address is not in the file"));
        }
        Ok(())
    }

    /// Reads a block, waiting for the device.
    pub(crate) fn read_block(&self, address: BlockAddress) -> Result<Block, StorageError> {
        self.check_address(address)?;
        let mut framed = vec![0; address.length as usize];
        self.file
            .read_exact_at(&mut framed, address.offset)
            .map_err(StorageError::io(&self.path))?;
        Ok(self.unframe(address.offset, &framed)?)
    }

    /// Reads a block if the page cache has it.
    fn read_cached_block(&self, address: BlockAddress) -> Result<Option<Block>, StorageError> {
        self.check_address(address)?;
        let mut framed = vec![0; address.length as usize];
        match self.file.read_cached_at(&mut framed, address.offset) {
            Ok(count) if count == framed.len() => Ok(Some(self.unframe(address.offset, &framed)?)),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(StorageError::io(&self.path)(error)),
        }
    }

    fn unframe(&self, offset: u64, framed: &[u8]) -> Result<Block, Corruption> {
        let bytes = unframe(self.id, offset, framed).map_err(|why| self.corrupt(offset, why))?;
        Ok(Block { bytes, offset })
    }
}

/// Appends a block's bytes to `out`, for the place `offset` of the file `file_id`. Compresses when
/// asked to and when it helps.
pub(crate) fn frame(file_id: u64, offset: u64, content: &[u8], compress: bool, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(CODEC_RAW);
    let content_len = u32::try_from(content.len()).expect("a block is below 4 GiB");
    out.extend_from_slice(&content_len.to_le_bytes());
    let payload_at = out.len();
    if compress {
        out.resize(payload_at + lz4_flex::block::get_maximum_output_size(content.len()), 0);
        let written = lz4_flex::block::compress_into(content, &mut out[payload_at..]);
        match written {
            Ok(length) if length < content.len() => {
                out.truncate(payload_at + length);
                out[start] = CODEC_LZ4;
            }
            _ => out.truncate(payload_at),
        }
    }
    if out[start] == CODEC_RAW {
        out.extend_from_slice(content);
    }
    let crc = checksum(file_id, offset, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn unframe(file_id: u64, offset: u64, framed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (covered, crc) = framed.split_last_chunk::<CRC_BYTES>().ok_or("a block is cut short")?;
    let is_whole = checksum(file_id, offset, covered) == u32::from_le_bytes(*crc);
    if !is_whole && !is_planted(Bug::SkipsChecksums) {
        return Err("a block's checksum does not fit");
    }
    let (head, payload) = covered.split_first_chunk::<HEAD_BYTES>().ok_or("a block has no head")?;
    let [codec, length @ ..] = *head;
    let content_len = u32::from_le_bytes(length) as usize;
    match codec {
        CODEC_RAW if content_len == payload.len() => Ok(payload.to_vec()),
        CODEC_LZ4 if content_len <= payload.len().saturating_mul(LZ4_EXPANSION_MAX) => {
            let mut content = vec![0; content_len];
            match lz4_flex::block::decompress_into(payload, &mut content) {
                Ok(length) if length == content_len => Ok(content),
                _ => Err("a block does not decompress"),
            }
        }
        _ => Err("a block's head contradicts its content"),
    }
}

fn checksum(file_id: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file_id.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Where a reader gets its blocks from.
pub(crate) trait BlockSource {
    fn block(
        &mut self,
        file: &Arc<TableFile>,
        address: BlockAddress,
    ) -> Result<Arc<Block>, ReadError>;
}

/// For shard threads: the block cache, then the page cache, then a miss.
pub(crate) struct CachedBlocks<'a> {
    pub(crate) cache: &'a mut BlockCache,
}

impl BlockSource for CachedBlocks<'_> {
    fn block(
        &mut self,
        file: &Arc<TableFile>,
        address: BlockAddress,
    ) -> Result<Arc<Block>, ReadError> {
        if let Some(block) = self.cache.get(file.id, address.offset) {
            return Ok(block);
        }
        match file.read_cached_block(address)? {
            Some(block) => Ok(self.cache.insert(file.id, Arc::new(block))),
            None => Err(ReadError::Miss(BlockMiss { file: file.clone(), address })),
        }
    }
}

/// For background threads, which may wait for the device and must not push out what reads use:
/// a few blocks of their own.
#[derive(Debug)]
pub(crate) struct BlockingBlocks {
    cache: BlockCache,
}

impl Default for BlockingBlocks {
    fn default() -> Self {
        BlockingBlocks { cache: BlockCache::new(BLOCKING_CACHE_BYTES) }
    }
}

impl BlockSource for BlockingBlocks {
    fn block(
        &mut self,
        file: &Arc<TableFile>,
        address: BlockAddress,
    ) -> Result<Arc<Block>, ReadError> {
        if let Some(block) = self.cache.get(file.id, address.offset) {
            return Ok(block);
        }
        let block = Arc::new(file.read_block(address)?);
        Ok(self.cache.insert(file.id, block))
    }
}

/// A block that a read needs and that is not in memory. It may be sent to another thread.
#[derive(Clone, Debug)]
pub struct BlockMiss {
    file: Arc<TableFile>,
    address: BlockAddress,
}

impl BlockMiss {
    /// Reads the block from the device: for the IO pool.
    pub fn load(&self) -> Result<LoadedBlock, StorageError> {
        let block = Arc::new(self.file.read_block(self.address)?);
        Ok(LoadedBlock { file_id: self.file.id, block })
    }
}

impl fmt::Display for BlockMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockAddress { offset, length } = self.address;
        write!(f, "{length} bytes at {offset} of {} are not in memory", self.file.path.display())
    }
}

/// A block that was missed, for the cache.
#[derive(Clone, Debug)]
pub struct LoadedBlock {
    pub(crate) file_id: u64,
    pub(crate) block: Arc<Block>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_and_every_flip_shift_and_cut_is_seen() {
        for content in [vec![], vec![7; 5_000], (0..=255).collect::<Vec<u8>>()] {
            let mut framed = Vec::new();
            frame(3, 77, &content, true, &mut framed);
            assert_eq!(unframe(3, 77, &framed).unwrap(), content);
            assert!(unframe(3, 78, &framed).is_err(), "a block in another place");
            assert!(unframe(4, 77, &framed).is_err(), "a block of another file");
            for bit in 0..framed.len() * 8 {
                let mut flipped = framed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(unframe(3, 77, &flipped).is_err());
            }
            for length in 0..framed.len() {
                assert!(unframe(3, 77, &framed[..length]).is_err());
            }
        }
    }

    #[test]
    fn a_length_that_lies_under_a_good_checksum_is_refused() {
        let mut framed = vec![CODEC_LZ4];
        framed.extend_from_slice(&u32::MAX.to_le_bytes());
        framed.extend_from_slice(b"xx");
        let crc = checksum(1, 0, &framed);
        framed.extend_from_slice(&crc.to_le_bytes());
        assert!(unframe(1, 0, &framed).is_err());
    }
}
