//! Figures about the engine, for metrics and system tables.

use super::{Engine, TableState};
use model::TableId;

/// Figures of one table, or of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Memory of the memtable that takes writes.
    pub memtable_bytes: u64,
    /// Memtables that wait for or are in a flush.
    pub frozen_memtable_count: u64,
    /// Live files.
    pub file_count: u64,
    /// Their size on the disk.
    pub file_bytes: u64,
    /// Partitions in memtables and files; one that is in several counts several times.
    pub partition_count: u64,
    /// Rows in files, versions counted one by one.
    pub row_count: u64,
    /// Tombstones and expiring cells in files.
    pub tombstone_count: u64,
    /// Memory of filters and root indexes.
    pub index_bytes: u64,
    /// Files that a compaction is reading.
    pub compacting_file_count: u64,
}

/// Figures of the block cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Memory of cached blocks.
    pub bytes: u64,
    /// Blocks found since the engine was opened.
    pub hit_count: u64,
    /// Blocks not found.
    pub miss_count: u64,
}

impl Engine {
    /// Figures of one table.
    pub fn table_statistics(&self, table: TableId) -> Option<TableStatistics> {
        self.tables.get(&table).map(TableState::statistics)
    }

    /// Figures of all tables together.
    pub fn statistics(&self) -> TableStatistics {
        let mut sum = TableStatistics::default();
        for table in self.tables.values().map(TableState::statistics) {
            sum.add(&table);
        }
        sum
    }

    /// Figures of the block cache.
    pub fn cache_statistics(&self) -> CacheStatistics {
        CacheStatistics {
            bytes: self.cache.bytes() as u64,
            hit_count: self.cache.hits,
            miss_count: self.cache.misses,
        }
    }
}

impl TableState {
    fn statistics(&self) -> TableStatistics {
        let mut sum = TableStatistics {
            memtable_bytes: self.active.memory_bytes() as u64,
            frozen_memtable_count: self.frozen.len() as u64,
            file_count: self.live.len() as u64,
            partition_count: self.memtables().map(|m| m.partition_count() as u64).sum(),
            compacting_file_count: self.compacting.len() as u64,
            ..TableStatistics::default()
        };
        for table in self.live.iter().map(|l| &l.table) {
            sum.file_bytes += table.file.length_bytes;
            sum.partition_count += table.statistics.partition_count;
            sum.row_count += table.statistics.row_count;
            sum.tombstone_count += table.statistics.tombstone_count;
            sum.index_bytes += table.memory_bytes() as u64;
        }
        sum
    }
}

impl TableStatistics {
    fn add(&mut self, other: &TableStatistics) {
        self.memtable_bytes += other.memtable_bytes;
        self.frozen_memtable_count += other.frozen_memtable_count;
        self.file_count += other.file_count;
        self.file_bytes += other.file_bytes;
        self.partition_count += other.partition_count;
        self.row_count += other.row_count;
        self.tombstone_count += other.tombstone_count;
        self.index_bytes += other.index_bytes;
        self.compacting_file_count += other.compacting_file_count;
    }
}
