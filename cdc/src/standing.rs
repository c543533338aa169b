//! What stands of a row: its cells and marker that live, under every tombstone that covers it.
//!
//! Views a partition's content in place; nothing is merged or copied.

use crate::content::Content;
use model::row::{Cell, Cells, Marker, RowView};
use model::{ColumnId, EpochSeconds, TimestampMicros};

/// A row of a partition's content, or its absence.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    marker: Option<Marker>,
    cells: Cells<'a>,
    /// Everything of the row at or below this is deleted.
    pub(crate) floor: Option<TimestampMicros>,
    now: EpochSeconds,
}

impl<'a> Standing<'a> {
    pub(crate) fn row(content: &Content<'a>, clustering: &[u8], now: EpochSeconds) -> Self {
        let covering = content.deletion_covering(clustering).map(|d| d.timestamp);
        Standing::new(content.row(clustering), covering, now)
    }

    pub(crate) fn static_row(content: &Content<'a>, now: EpochSeconds) -> Self {
        let covering = content.deletion().map(|d| d.timestamp);
        Standing::new(content.static_row(), covering, now)
    }

    fn new(row: Option<RowView<'a>>, covering: Option<TimestampMicros>, now: EpochSeconds) -> Self {
        let (head, cells) = row.unwrap_or(RowView::new(&[])).parts();
        let floor = covering.max(head.tombstone.map(|t| t.timestamp));
        Standing { marker: head.marker, cells, floor, now }
    }

    /// The marker that no tombstone covers, live or expired.
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.marker.filter(|m| Some(m.timestamp) > self.floor)
    }

    pub(crate) fn live_marker(&self) -> Option<Marker> {
        self.marker().filter(|m| m.is_live(self.now))
    }

    /// Cells, tombstones among them, that no wider tombstone covers.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let floor = self.floor;
        let mut collection: Option<(ColumnId, TimestampMicros)> = None;
        self.cells.clone().filter(move |cell| {
            if Some(cell.timestamp) <= floor {
                return false;
            }
            if cell.is_collection_tombstone() {
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
