//! Index pages: which block holds a position of the table.
//!
//! ```text
//! page     := entry* entry_offset:u32le* entry_count:u32le
//! entry    := token:i64le key:slice (0 | 1 clustering:slice) offset:varint length:varint
//! ```
//!
//! An entry names the first position of a block: the start of a partition (0), or a row inside one
//! that began earlier (1). Pages of data blocks are listed in one more page, the root, which stays
//! in memory.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use super::block::BlockAddress;
use super::data::search;
use model::codec::{Cursor, DecodeError, put_slice, put_varint};

/// A place among a table's content: a partition's start (`clustering` is `None`) or a row.
/// The derived order is the table's: token, key, start before rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position<'a> {
    pub(crate) token: i64,
    pub(crate) key: &'a [u8],
    pub(crate) clustering: Option<&'a [u8]>,
}

#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
}

impl IndexBuilder {
    pub(crate) fn len_bytes(&self) -> usize {
        self.bytes.len() + self.offsets.len() * 4
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(crate) fn push(&mut self, first: Position, address: BlockAddress) {
        let offset = u32::try_from(self.bytes.len()).expect("an index page is below 4 GiB");
        self.offsets.push(offset);
        self.bytes.extend_from_slice(&first.token.to_le_bytes());
        put_slice(&mut self.bytes, first.key);
        self.bytes.push(u8::from(first.clustering.is_some()));
        if let Some(clustering) = first.clustering {
            put_slice(&mut self.bytes, clustering);
        }
        put_varint(&mut self.bytes, address.offset);
        put_varint(&mut self.bytes, u64::from(address.length));
    }

    /// The page; the builder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        let count = u32::try_from(self.offsets.len()).expect("an index page is below 4 GiB");
        for offset in self.offsets.drain(..) {
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes
    }
}

/// An index page, viewed in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexPage<'a> {
    bytes: &'a [u8],
    offsets: &'a [[u8; 4]],
}

const CUT: DecodeError = DecodeError("an index page is cut short");

impl<'a> IndexPage<'a> {
    pub(crate) fn new(content: &'a [u8]) -> Result<Self, DecodeError> {
        let (rest, count) = content.split_last_chunk::<4>().ok_or(CUT)?;
        let offset_bytes = (u32::from_le_bytes(*count) as usize).checked_mul(4).ok_or(CUT)?;
        let at = rest.len().checked_sub(offset_bytes).ok_or(CUT)?;
        let (bytes, offsets) = rest.split_at_checked(at).ok_or(CUT)?;
        Ok(IndexPage { bytes, offsets: offsets.as_chunks().0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn entry(&self, index: usize) -> Result<(Position<'a>, BlockAddress), DecodeError> {
        let offset = u32::from_le_bytes(*self.offsets.get(index).ok_or(CUT)?) as usize;
        let mut cursor = Cursor::new(self.bytes.get(offset..).ok_or(CUT)?);
        let token = i64::from_le_bytes(cursor.array()?);
        let key = cursor.slice()?;
        let clustering = match cursor.u8()? {
            0 => None,
            1 => Some(cursor.slice()?),
            _ => return Err(DecodeError("unknown kind of index entry")),
        };
        let offset = cursor.varint()?;
        let length = u32::try_from(cursor.varint()?)
            .map_err(|_| DecodeError("a block's length exceeds 32 bits"))?;
        Ok((Position { token, key, clustering }, BlockAddress { offset, length }))
    }

    /// The last entry at or before a position.
    pub(crate) fn find(&self, position: &Position) -> Result<Option<usize>, DecodeError> {
        let found = search(0..self.len(), |index| Ok(self.entry(index)?.0.cmp(position)))?;
        Ok(match found {
            Ok(index) => Some(index),
            Err(behind) => behind.checked_sub(1),
        })
    }
}
