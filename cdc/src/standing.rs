//! What stands of a row: its cells and marker that live, under every tombstone that covers it.
//!
//! Views a partition's content in place; nothing is merged or copied.

use model::partition::Partition;
use model::row::{Cell, CellContent, Marker, RowView};
use model::{ColumnId, EpochSeconds, TimestampMicros};

/// A row of a partition's content, or its absence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    row: Option<RowView<'a>>,
    /// Everything of the row at or below this is deleted.
    pub(crate) floor: Option<TimestampMicros>,
    now: EpochSeconds,
}

impl<'a> Standing<'a> {
    pub(crate) fn row(content: &'a Partition, clustering: &[u8], now: EpochSeconds) -> Self {
        let row = content.rows.get(clustering).map(|row| RowView::new(row));
        let covering = content.deletion_covering(clustering).map(|d| d.timestamp);
        let own = row.and_then(|row| row.tombstone()).map(|t| t.timestamp);
        Standing { row, floor: covering.max(own), now }
    }

    pub(crate) fn static_row(content: &'a Partition, now: EpochSeconds) -> Self {
        let row = (!content.static_row.is_empty()).then(|| RowView::new(&content.static_row));
        Standing { row, floor: content.deletion.map(|d| d.timestamp), now }
    }

    /// The marker that no tombstone covers, live or expired.
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.row?.marker().filter(|m| Some(m.timestamp) > self.floor)
    }

    pub(crate) fn live_marker(&self) -> Option<Marker> {
        self.marker().filter(|m| m.is_live(self.now))
    }

    /// Cells, tombstones among them, that no wider tombstone covers.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let floor = self.floor;
        let mut collection: Option<(ColumnId, TimestampMicros)> = None;
        self.row.into_iter().flat_map(|row| row.cells()).filter(move |cell| {
            if Some(cell.timestamp) <= floor {
                return false;
            }
            if matches!(cell.content, CellContent::CollectionTombstone { .. }) {
                collection = Some((cell.column, cell.timestamp));
                return true;
            }
            let covered =
                |(column, timestamp)| column == cell.column && cell.timestamp <= timestamp;
            cell.path.is_none() || !collection.is_some_and(covered)
        })
    }

    pub(crate) fn live_cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let now = self.now;
        self.cells().filter(move |cell| cell.live_value(now).is_some())
    }

    /// Whether anything alive in it is newer than `timestamp`.
    pub(crate) fn has_newer(&self, timestamp: TimestampMicros) -> bool {
        self.live_marker().is_some_and(|m| m.timestamp > timestamp)
            || self.live_cells().any(|cell| cell.timestamp > timestamp)
    }

    /// Whether the row exists.
    pub(crate) fn is_live(&self) -> bool {
        self.live_marker().is_some() || self.live_cells().next().is_some()
    }
}
