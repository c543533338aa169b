//! What is known of a table file without reading its rows: bounds that let reads skip it, and
//! figures that compaction decides by.
//!
//! ```text
//! statistics := first_token:i64le first_key:slice last_token:i64le last_key:slice
//!               oldest:i64le newest:i64le
//!               partition_count:varint row_count:varint cell_count:varint tombstone_count:varint
//!               head_count:varint first_gone_at:signed all_gone_at:signed
//!               (0 | 1 min_clustering:slice max_clustering:slice)
//!               group_count:varint (group:varint first:varint last:varint)*
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::memtable::IndexSpan;
use crate::timestamps::TimestampBounds;
use model::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use model::partition::Partition;
use model::row::{CellContent, Deletion, Expiry, RowView};
use model::{EpochSeconds, Token};
use std::collections::BTreeMap;

/// Lowest and highest clustering key.
pub(crate) type ClusteringBounds = (Vec<u8>, Vec<u8>);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Token and key of the first partition.
    pub first: (i64, Box<[u8]>),
    /// Token and key of the last partition.
    pub last: (i64, Box<[u8]>),
    /// All timestamps, tombstones included.
    pub timestamps: TimestampBounds,
    /// Partitions.
    pub partition_count: u64,
    /// Rows, static ones included.
    pub row_count: u64,
    /// Cells, tombstones included.
    pub cell_count: u64,
    /// Tombstones of every kind, and whatever has a time to live.
    pub tombstone_count: u64,
    /// Partitions that have something beside rows.
    pub head_count: u64,
    /// When the first of those tombstones and expiring cells was or will be gone.
    pub first_gone_at: EpochSeconds,
    /// When the last content of the file is deleted or expired; `i64::MAX` when some never is.
    pub all_gone_at: EpochSeconds,
    /// Lowest and highest clustering key of its rows.
    pub clustering: Option<ClusteringBounds>,
    /// The log entries in it, by group.
    pub indexes: BTreeMap<u64, IndexSpan>,
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            first: (0, Box::default()),
            last: (0, Box::default()),
            timestamps: TimestampBounds::EMPTY,
            partition_count: 0,
            row_count: 0,
            cell_count: 0,
            tombstone_count: 0,
            head_count: 0,
            first_gone_at: i64::MAX,
            all_gone_at: i64::MIN,
            clustering: None,
            indexes: BTreeMap::new(),
        }
    }
}

impl Statistics {
    /// Whether the partition lies within the bounds.
    pub(crate) fn covers(&self, token: Token, key: &[u8]) -> bool {
        (self.first.0, &*self.first.1) <= (token.0, key)
            && (token.0, key) <= (self.last.0, &*self.last.1)
    }

    pub(super) fn add_partition(&mut self, token: Token, key: &[u8], head: &Partition) {
        if self.partition_count == 0 {
            self.first = (token.0, key.into());
        }
        self.last.0 = token.0;
        if *self.last.1 != *key {
            self.last.1 = key.into();
        }
        self.partition_count += 1;
        if super::data::has_head(head) {
            self.head_count += 1;
        }
        if let Some(deletion) = head.deletion {
            self.add_deletion(deletion);
        }
        for range in &head.range_tombstones {
            self.add_deletion(range.deletion);
        }
        if !head.static_row.is_empty() {
            self.add_content(RowView::new(&head.static_row));
        }
    }

    pub(super) fn add_row(&mut self, clustering: &[u8], row: RowView) {
        match &mut self.clustering {
            None => self.clustering = Some((clustering.into(), clustering.into())),
            Some((min, max)) => {
                // In a log nearly every row is the highest so far: the space is used again.
                if *clustering < **min {
                    clustering.clone_into(min);
                } else if *clustering > **max {
                    clustering.clone_into(max);
                }
            }
        }
        self.add_content(row);
    }

    fn add_content(&mut self, row: RowView) {
        self.row_count += 1;
        self.timestamps.merge(TimestampBounds::of_row(row));
        let (head, cells) = row.parts();
        if let Some(deletion) = head.tombstone {
            self.add_deletion(deletion);
        }
        if let Some(marker) = head.marker {
            self.add_expiry(marker.expiry);
        }
        for cell in cells {
            self.cell_count += 1;
            match cell.content {
                CellContent::Live { expiry, .. } => self.add_expiry(expiry),
                CellContent::Tombstone { deleted_at }
                | CellContent::CollectionTombstone { deleted_at } => self.add_end(deleted_at),
            }
        }
    }

    fn add_deletion(&mut self, deletion: Deletion) {
        self.timestamps.add(deletion.timestamp);
        self.add_end(deletion.deleted_at);
    }

    fn add_expiry(&mut self, expiry: Option<Expiry>) {
        match expiry {
            Some(expiry) => self.add_end(expiry.expires_at),
            None => self.all_gone_at = i64::MAX,
        }
    }

    fn add_end(&mut self, at: EpochSeconds) {
        self.tombstone_count += 1;
        self.first_gone_at = self.first_gone_at.min(at);
        self.all_gone_at = self.all_gone_at.max(at);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (token, key) in [&self.first, &self.last] {
            out.extend_from_slice(&token.to_le_bytes());
            put_slice(&mut out, key);
        }
        out.extend_from_slice(&self.timestamps.oldest.to_le_bytes());
        out.extend_from_slice(&self.timestamps.newest.to_le_bytes());
        for count in [
            self.partition_count,
            self.row_count,
            self.cell_count,
            self.tombstone_count,
            self.head_count,
        ] {
            put_varint(&mut out, count);
        }
        put_signed(&mut out, self.first_gone_at);
        put_signed(&mut out, self.all_gone_at);
        out.push(u8::from(self.clustering.is_some()));
        if let Some((min, max)) = &self.clustering {
            put_slice(&mut out, min);
            put_slice(&mut out, max);
        }
        put_varint(&mut out, self.indexes.len() as u64);
        for (group, span) in &self.indexes {
            for value in [*group, span.first, span.last] {
                put_varint(&mut out, value);
            }
        }
        out
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(content);
        let cursor = &mut cursor;
        let bound = |cursor: &mut Cursor| -> Result<(i64, Box<[u8]>), DecodeError> {
            Ok((i64::from_le_bytes(cursor.array()?), cursor.slice()?.into()))
        };
        let (first, last) = (bound(cursor)?, bound(cursor)?);
        let timestamps = TimestampBounds {
            oldest: i64::from_le_bytes(cursor.array()?),
            newest: i64::from_le_bytes(cursor.array()?),
        };
        let mut statistics = Statistics {
            first,
            last,
            timestamps,
            partition_count: cursor.varint()?,
            row_count: cursor.varint()?,
            cell_count: cursor.varint()?,
            tombstone_count: cursor.varint()?,
            head_count: cursor.varint()?,
            first_gone_at: cursor.signed()?,
            all_gone_at: cursor.signed()?,
            clustering: None,
            indexes: BTreeMap::new(),
        };
        if cursor.u8()? != 0 {
            statistics.clustering = Some((cursor.slice()?.into(), cursor.slice()?.into()));
        }
        for _ in 0..cursor.varint()? {
            let group = cursor.varint()?;
            let span = IndexSpan { first: cursor.varint()?, last: cursor.varint()? };
            statistics.indexes.insert(group, span);
        }
        cursor.finish()?;
        Ok(statistics)
    }
}
