//! Looking: what a write changes, found in the partition it is written to. Rules 9 to 13 for
//! upserts; deletes are in `deletes`.
//!
//! All parts of the write happened in one microsecond t. The partition's content has tombstones and
//! undecided writes in it, so comparing against it is what the replicas' merge will do. What would
//! lose that merge, or is there already, is not logged and need not be in the entry.

use super::WriteInput;
use super::split::{OwnDeletes, Write};
use crate::content::Content;
use crate::delta::{Delta, DeltaCell, DeltaCells, DeltaContent, RowDelta};
use crate::standing::Standing;
use model::merge::{compare_cells, compare_markers};
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::row::{Cell, CellContent, Deletion, Expiry, Marker, RowHead, RowView, RowWriter};
use model::{EpochSeconds, TimestampMicros};
use std::cmp::Ordering;
use std::convert::Infallible;

/// What the log says of a write, and what of it the base table needs.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// At p.
    pub(super) delta: Delta<'a>,
    /// At p + 1: what outlives a delete that was told wider than it was.
    pub(super) survivors: Delta<'a>,
    pub(super) kept: Kept,
}

/// What is left of a write's mutation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    Part(Vec<u8>),
    Nothing,
}

impl Kept {
    /// The mutation's bytes, unless nothing is left.
    pub(super) fn bytes<'k>(&'k self, write: &'k Write) -> Option<&'k [u8]> {
        match self {
            Kept::All => Some(&write.mutation),
            Kept::Part(bytes) => Some(bytes),
            Kept::Nothing => None,
        }
    }
}

/// A write being looked at.
pub(super) struct Looker<'a> {
    pub(super) content: Content<'a>,
    pub(super) timestamp: TimestampMicros,
    pub(super) relog: bool,
    pub(super) now: EpochSeconds,
    pub(super) has_clustering: bool,
    pub(super) delta: Delta<'a>,
    pub(super) survivors: Delta<'a>,
}

/// Looks at a write with this timestamp; `rows` is an empty list whose space is used.
pub(super) fn look<'a>(
    input: &WriteInput,
    write: &MutationView<'a>,
    content: Content<'a>,
    timestamp: TimestampMicros,
    relog: bool,
    rows: Vec<(&'a [u8], RowDelta<'a>)>,
) -> Told<'a> {
    let mut looker = Looker {
        content,
        timestamp,
        relog,
        now: input.now_seconds,
        has_clustering: !input.layout.clustering_key.is_empty(),
        delta: Delta::with_space(rows),
        survivors: Delta::default(),
    };
    // With RELOG each row is told once, by the widest delete over it, and rows of the same write
    // under one are dead before they are told.
    let own = OwnDeletes::of(write);
    let mut out = Vec::with_capacity(write.as_bytes().len());
    let mut writer =
        MutationWriter::new(&mut out, write.table(), write.schema_version(), write.key());
    let (mut kept_any, mut dropped_any) = (false, false);
    for item in write.items() {
        let kept = looker.item(item, &own, &mut writer);
        kept_any |= kept != ItemKept::Nothing;
        dropped_any |= kept != ItemKept::All;
    }
    let kept = match (kept_any, dropped_any) {
        (_, false) => Kept::All,
        (false, true) => Kept::Nothing,
        (true, true) => Kept::Part(out),
    };
    looker.delta.sort();
    looker.survivors.sort();
    Told { delta: looker.delta, survivors: looker.survivors, kept }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKept {
    All,
    Part,
    Nothing,
}

impl<'a> Looker<'a> {
    fn item(
        &mut self,
        item: MutationItem<'a>,
        own: &OwnDeletes,
        writer: &mut MutationWriter,
    ) -> ItemKept {
        match item {
            MutationItem::PartitionTombstone(deletion) => {
                if self.content.deletion().is_some_and(|d| d.timestamp >= self.timestamp) {
                    return ItemKept::Nothing;
                }
                self.delete_partition();
                writer.partition_tombstone(deletion);
                ItemKept::All
            }
            MutationItem::RangeTombstone { start, end, deletion } => {
                if self.is_deleted_already(start, end) {
                    return ItemKept::Nothing;
                }
                if !(self.relog && own.partition) {
                    self.delete_range(start, end);
                }
                writer.range_tombstone(start, end, deletion);
                ItemKept::All
            }
            MutationItem::StaticRow(row) => {
                let mut upsert = self.upsert(row, &Standing::static_row(&self.content, self.now));
                let (kept, head) = upsert.kept(row, None);
                if !(self.relog && own.partition) {
                    self.delta.static_row = upsert.told();
                }
                let base = self.timestamp;
                let Ok(()) = writer.try_static_row::<Infallible>(base, head, |out| {
                    put(&upsert.cells, out);
                    Ok(())
                });
                kept
            }
            MutationItem::Row { clustering, row } => self.row(clustering, row, own, writer),
        }
    }

    fn row(
        &mut self,
        clustering: &'a [u8],
        row: RowView<'a>,
        own: &OwnDeletes,
        writer: &mut MutationWriter,
    ) -> ItemKept {
        let standing = Standing::row(&self.content, clustering, self.now);
        let mut upsert = self.upsert(row, &standing);
        let deletion = row.tombstone().filter(|_| standing.floor < Some(self.timestamp));
        let (kept, head) = upsert.kept(row, deletion);
        let told_elsewhere = self.relog && own.cover(clustering);
        if !told_elsewhere {
            // Told at another time, a delete comes to stand above the upsert that it was below.
            if !self.relog || deletion.is_none() {
                self.delta.push_row(clustering, upsert.told());
            }
            if deletion.is_some() {
                self.delete_row(clustering, &standing);
            }
        }
        let base = self.timestamp;
        let Ok(()) = writer.try_row::<Infallible>(clustering, base, head, |out| {
            put(&upsert.cells, out);
            Ok(())
        });
        kept
    }

    /// Rules 9 to 13: the parts of an upsert that win.
    fn upsert(&self, row: RowView<'a>, standing: &Standing<'a>) -> Upsert<'a> {
        let mut upsert = Upsert::default();
        if standing.floor >= Some(self.timestamp) {
            return upsert;
        }
        let (head, cells) = row.parts();
        upsert.marker =
            head.marker.filter(|new| standing.marker().is_none_or(|old| marker_wins(new, &old)));
        let new: Vec<Cell> = cells.collect();
        if new.is_empty() {
            return upsert;
        }
        let old: Vec<Cell> = standing.cells().collect();
        for column in new.chunk_by(|a, b| a.column == b.column) {
            let start = old.partition_point(|cell| cell.column < column[0].column);
            let end = old.partition_point(|cell| cell.column <= column[0].column);
            self.upsert_column(column, &old[start..end], standing, &mut upsert);
        }
        upsert
    }

    fn upsert_column(
        &self,
        new: &[Cell<'a>],
        old: &[Cell<'a>],
        standing: &Standing<'a>,
        upsert: &mut Upsert<'a>,
    ) {
        let old_tombstone = old.iter().find_map(collection_tombstone);
        let wins = |cell: &&Cell<'a>| match collection_tombstone(cell) {
            Some(timestamp) => Some(timestamp) > old_tombstone.max(standing.floor),
            None if cell.path.is_some() && Some(cell.timestamp) <= old_tombstone => false,
            None => match old.binary_search_by(|o| o.order().cmp(&cell.order())) {
                Ok(index) => cell_wins(cell, &old[index]),
                Err(_) => true,
            },
        };
        let winners: Vec<Cell> = new.iter().filter(wins).copied().collect();
        let mut told: Vec<DeltaCell> =
            winners.iter().map(|cell| DeltaCell::as_it_stands(*cell)).collect();
        if winners.iter().any(|cell| collection_tombstone(cell).is_some()) {
            self.tell_overwrite(&winners, old, &mut told);
        }
        told.sort_by_key(DeltaCell::order);
        upsert.told.append(&mut told);
        upsert.cells.extend(winners);
    }

    /// Rules 12 and 13: a collection tombstone won, so the elements that were there count too.
    fn tell_overwrite(
        &self,
        winners: &[Cell<'a>],
        old: &[Cell<'a>],
        told: &mut Vec<DeltaCell<'a>>,
    ) {
        let is_live = |cell: &&Cell<'a>| {
            cell.path.is_some()
                && cell.live_value(self.now).is_some()
                && winners.binary_search_by(|winner| winner.order().cmp(&cell.order())).is_err()
        };
        let old_live = old.iter().filter(is_live);
        if !self.relog {
            let same_time = old_live.filter(|cell| cell.timestamp == self.timestamp);
            told.extend(same_time.map(|cell| DeltaCell::as_it_stands(*cell)));
        } else if winners.iter().any(|cell| matches!(cell.content, CellContent::Live { .. })) {
            let survivors = old_live.filter(|cell| cell.timestamp >= self.timestamp);
            told.extend(survivors.map(|cell| DeltaCell::survivor(*cell, self.now)));
        } else {
            told.retain(|cell| !matches!(cell.content, DeltaContent::CollectionDead));
            let dying = old_live.filter(|cell| cell.timestamp < self.timestamp);
            told.extend(dying.map(|cell| DeltaCell::dying(*cell)));
        }
    }
}

/// The winning parts of a row's upsert.
#[derive(Default)]
struct Upsert<'a> {
    marker: Option<Marker>,
    cells: Vec<Cell<'a>>,
    /// What the log says of the cells.
    told: Vec<DeltaCell<'a>>,
}

impl<'a> Upsert<'a> {
    /// What the log says of it, which is given once.
    fn told(&mut self) -> RowDelta<'a> {
        let marker_ttl = self.marker.map(|marker| marker.expiry.map_or(0, |e| e.ttl_seconds));
        RowDelta { marker_ttl, cells: DeltaCells::List(std::mem::take(&mut self.told)) }
    }

    /// How much of the row is kept, and the head of what is.
    fn kept(&self, row: RowView, tombstone: Option<Deletion>) -> (ItemKept, RowHead) {
        let (old_head, cells) = row.parts();
        let head = RowHead { marker: self.marker, tombstone };
        let kept = if head == old_head && cells.count() == self.cells.len() {
            ItemKept::All
        } else if head.marker.is_none() && head.tombstone.is_none() && self.cells.is_empty() {
            ItemKept::Nothing
        } else {
            ItemKept::Part
        };
        (kept, head)
    }
}

fn put(cells: &[Cell], out: &mut RowWriter) {
    for cell in cells {
        out.cell(cell);
    }
}

fn collection_tombstone(cell: &Cell) -> Option<TimestampMicros> {
    matches!(cell.content, CellContent::CollectionTombstone { .. }).then_some(cell.timestamp)
}

/// Rule 10: the same timestamp, value and TTL are the same write, whenever it expires.
fn cell_wins(new: &Cell, old: &Cell) -> bool {
    compare_cells(&without_clock(new), &without_clock(old)) == Ordering::Greater
}

fn marker_wins(new: &Marker, old: &Marker) -> bool {
    let without_clock = |m: &Marker| Marker { expiry: m.expiry.map(ttl_alone), ..*m };
    compare_markers(&without_clock(new), &without_clock(old)) == Ordering::Greater
}

fn without_clock<'a>(cell: &Cell<'a>) -> Cell<'a> {
    let content = match cell.content {
        CellContent::Live { value, expiry } => {
            CellContent::Live { value, expiry: expiry.map(ttl_alone) }
        }
        CellContent::Tombstone { .. } => CellContent::Tombstone { deleted_at: 0 },
        CellContent::CollectionTombstone { .. } => {
            CellContent::CollectionTombstone { deleted_at: 0 }
        }
    };
    Cell { content, ..*cell }
}

fn ttl_alone(expiry: Expiry) -> Expiry {
    Expiry { expires_at: 0, ..expiry }
}
