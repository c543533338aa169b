//! What a partition of a memtable holds when it is more than one row.

use super::rows::{RowHandle, Rows};
use model::range_tombstones::RangeTombstones;
use model::row::Deletion;

/// Contents per chunk of [`Contents`].
const CHUNK_CONTENTS: usize = 64;

/// Everything in a partition.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) rows: Rows,
    pub(super) deletion: Option<Deletion>,
    pub(super) static_row: Option<RowHandle>,
    pub(super) range_tombstones: RangeTombstones,
}

/// Contents by number, in chunks so that none of them moves when there are many.
#[derive(Debug, Default)]
pub(super) struct Contents {
    chunks: Vec<Vec<Content>>,
}

impl Contents {
    /// Adds one and gives its number.
    pub(super) fn push(&mut self, content: Content) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_CONTENTS) {
            // The first chunk grows by itself: many memtables have few contents.
            let is_first = self.chunks.is_empty();
            self.chunks.push(Vec::with_capacity(if is_first { 0 } else { CHUNK_CONTENTS }));
        }
        let before = (self.chunks.len() - 1) * CHUNK_CONTENTS;
        let chunk = self.chunks.last_mut().expect("one was pushed when there was none");
        chunk.push(content);
        u32::try_from(before + chunk.len() - 1).expect("memory holds fewer than 2^32 contents")
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> &Content {
        &self.chunks[number as usize / CHUNK_CONTENTS][number as usize % CHUNK_CONTENTS]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> &mut Content {
        &mut self.chunks[number as usize / CHUNK_CONTENTS][number as usize % CHUNK_CONTENTS]
    }

    /// Memory of the contents themselves.
    pub(super) fn memory_bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let others = self.chunks.len().saturating_sub(1) * CHUNK_CONTENTS;
        (last + others) * size_of::<Content>()
    }
}
