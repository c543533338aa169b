//! The block cache: checked, decompressed blocks in memory, at most so many bytes of them.
//!
//! Eviction is by the clock: a block that was used since the hand passed is spared once, so a scan
//! that touches each block once does not push out the blocks that point reads use. Blocks are
//! shared (`Arc`), so one that is evicted while a read holds it lives until that read ends.

use crate::sstable::Block;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What an entry costs beside its block's bytes.
const ENTRY_BYTES: usize = 128;
/// Less would make a read of many tables evict its own blocks and never end.
const CACHE_BYTES_MIN: usize = 4 << 20;

type Key = (u64, u64);

#[derive(Debug)]
struct Entry {
    block: Arc<Block>,
    is_used: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BlockCache {
    entries: BTreeMap<Key, Entry>,
    hand: VecDeque<Key>,
    bytes: usize,
    bytes_max: usize,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        BlockCache {
            entries: BTreeMap::new(),
            hand: VecDeque::new(),
            bytes: 0,
            bytes_max: bytes_max.max(CACHE_BYTES_MIN),
            hits: 0,
            misses: 0,
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, file_id: u64, offset: u64) -> Option<Arc<Block>> {
        let Some(entry) = self.entries.get_mut(&(file_id, offset)) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        entry.is_used = true;
        Some(entry.block.clone())
    }

    /// Keeps a block, and returns it.
    pub(crate) fn insert(&mut self, file_id: u64, block: Arc<Block>) -> Arc<Block> {
        let key = (file_id, block.offset);
        let entry = Entry { block: block.clone(), is_used: false };
        self.bytes += cost(&block);
        match self.entries.insert(key, entry) {
            Some(old) => self.bytes -= cost(&old.block),
            None => self.hand.push_back(key),
        }
        self.evict();
        block
    }

    /// Forgets the blocks of a file that is no longer live.
    pub(crate) fn remove_file(&mut self, file_id: u64) {
        let mut kept = self.entries.split_off(&(file_id, 0));
        let mut behind = kept.split_off(&(file_id.saturating_add(1), 0));
        self.bytes -= kept.values().map(|e| cost(&e.block)).sum::<usize>();
        self.entries.append(&mut behind);
        self.hand.retain(|(id, _)| *id != file_id);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(key) = self.hand.pop_front() else { return };
            let is_spared = self
                .entries
                .get_mut(&key)
                .is_some_and(|entry| std::mem::replace(&mut entry.is_used, false));
            if is_spared {
                self.hand.push_back(key);
            } else if let Some(old) = self.entries.remove(&key) {
                self.bytes -= cost(&old.block);
            }
        }
    }
}

fn cost(block: &Block) -> usize {
    block.bytes.capacity() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(offset: u64) -> Arc<Block> {
        Arc::new(Block { bytes: vec![0; 64 << 10], offset })
    }

    #[test]
    fn the_cache_stays_below_its_bound_and_spares_what_is_used() {
        let mut cache = BlockCache::new(0);
        cache.insert(1, block(0));
        for offset in 1..1_000 {
            assert!(cache.get(1, 0).is_some(), "a used block stays");
            cache.insert(1, block(offset));
            assert!(cache.bytes() <= CACHE_BYTES_MIN);
            assert_eq!(cache.hand.len(), cache.entries.len());
        }
        assert!(cache.get(1, 1).is_none());
        cache.insert(2, block(5));
        cache.remove_file(1);
        assert_eq!(cache.bytes(), cost(&block(5)));
        assert!(cache.get(2, 5).is_some());
        cache.remove_file(2);
        assert_eq!((cache.bytes(), cache.hand.len()), (0, 0));
    }
}
