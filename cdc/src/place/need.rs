//! What must be read before a write can be decided. Looking is rare, so mostly nothing.

use super::WriteInput;
use super::split::split;
use super::timeline::Timeline;
use crate::error::CdcError;
use model::clustering::AFTER;
use model::mutation::{MutationItem, MutationView};
use model::read::Slice;

/// What [`super::decide`] wants to see of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the write is newer than all there is, and its table has no images.
    Nothing,
    /// Content, tombstones kept: stored, and proposed but not yet committed.
    Content(Look),
}

/// The parts of a partition to read. The partition tombstone is always wanted, and so are the range
/// tombstones over any of the slices. More than asked for does no harm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Rows, at positions in these slices: ascending, without overlaps.
    pub rows: Vec<Slice>,
    /// Range tombstones alone, over these slices: ascending, without overlaps.
    pub tombstones: Vec<Slice>,
    /// Whether the static row is wanted.
    pub static_row: bool,
}

/// What must be read before [`super::decide`] is called with the same input.
///
/// Errors when the mutation does not decode.
pub fn need(input: &WriteInput) -> Result<Need, CdcError> {
    let images = input.layout.has_images();
    let writes = split(&input.mutation);
    let timeline = Timeline::new(input);
    let mut newest = input.newest;
    let mut look = Look::default();
    let mut reads = images && !writes.is_empty();
    for write in &writes {
        let looks = write.looks(newest)?;
        newest = newest.max(Some(write.timestamp));
        if !looks && !images {
            continue;
        }
        reads = true;
        // Where later writes of one mutation go depends on what the earlier ones turn out to be.
        let scans =
            looks && (writes.len() > 1 || timeline.place(write.timestamp, input.newest).relog);
        for item in MutationView::new(&write.mutation)?.items() {
            look.add(item, looks, scans);
        }
    }
    // Without clustering columns the partition's delete has an image.
    if images && input.layout.base.clustering_count() == 0 {
        look.rows = vec![Slice::all()];
    }
    look.rows = joined(look.rows);
    look.tombstones = joined(look.tombstones);
    Ok(if reads { Need::Content(look) } else { Need::Nothing })
}

impl Look {
    fn add(&mut self, item: MutationItem, looks: bool, scans: bool) {
        match item {
            MutationItem::PartitionTombstone(_) if scans => {
                self.rows.push(Slice::all());
                self.static_row = true;
            }
            MutationItem::RangeTombstone { start, end, .. } => {
                let slice = Slice { start: start.into(), end: end.into() };
                if scans {
                    self.rows.push(slice);
                } else if looks {
                    self.tombstones.push(slice);
                }
            }
            MutationItem::StaticRow(_) => self.static_row = true,
            MutationItem::Row { clustering, .. } => {
                let end = [clustering, &[AFTER]].concat().into();
                self.rows.push(Slice { start: clustering.into(), end });
            }
            MutationItem::PartitionTombstone(_) => {}
        }
    }
}

/// The same positions, ascending and without overlaps.
fn joined(mut slices: Vec<Slice>) -> Vec<Slice> {
    slices.sort_by(|a, b| a.start.cmp(&b.start));
    let mut out: Vec<Slice> = Vec::with_capacity(slices.len());
    for slice in slices {
        match out.last_mut() {
            Some(last) if slice.start <= last.end => {
                if last.end < slice.end {
                    last.end = slice.end;
                }
            }
            _ => out.push(slice),
        }
    }
    out
}
