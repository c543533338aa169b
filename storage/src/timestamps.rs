//! The oldest and newest timestamp of what is written, for bounds that let reads skip sources.

use model::TimestampMicros;
use model::row::{CellContent, RowView};

/// A closed interval of timestamps; empty at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampBounds {
    /// Nothing older is in it.
    pub oldest: TimestampMicros,
    /// Nothing newer is in it.
    pub newest: TimestampMicros,
}

impl TimestampBounds {
    /// Of nothing at all.
    pub const EMPTY: TimestampBounds = TimestampBounds { oldest: i64::MAX, newest: i64::MIN };

    /// Extends to a timestamp.
    #[inline]
    pub fn add(&mut self, timestamp: TimestampMicros) {
        self.oldest = self.oldest.min(timestamp);
        self.newest = self.newest.max(timestamp);
    }

    /// Extends to other bounds.
    #[inline]
    pub fn merge(&mut self, other: TimestampBounds) {
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
    }

    /// The bounds of a row, tombstones included. A collection tombstone counts as one newer at
    /// the upper end, as in [`RowView::newest_timestamp`].
    pub fn of_row(row: RowView) -> Self {
        if row.is_empty() {
            return TimestampBounds::EMPTY;
        }
        if let Some(timestamp) = row.only_timestamp() {
            return TimestampBounds { oldest: timestamp, newest: timestamp };
        }
        let mut bounds = TimestampBounds::EMPTY;
        let (head, cells) = row.parts();
        if let Some(marker) = head.marker {
            bounds.add(marker.timestamp);
        }
        if let Some(tombstone) = head.tombstone {
            bounds.add(tombstone.timestamp);
        }
        for cell in cells {
            bounds.add(cell.timestamp);
            if let CellContent::CollectionTombstone { .. } = cell.content {
                bounds.add(cell.timestamp.saturating_add(1));
            }
        }
        bounds
    }
}
