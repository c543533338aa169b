//! What must be read before a write can be decided. Looking is rare, so mostly nothing.

use super::WriteInput;
use super::split::{Write, split};
use super::timeline::Timeline;
use crate::error::CdcError;
use model::mutation::{MutationItem, MutationView};
use model::read::Slice;

/// What [`super::decide`] wants to see of the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// Nothing: the write is newer than all there is, and its table has no images.
    Nothing,
    /// The row with this key, and the tombstones over it.
    Row(&'a [u8]),
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
    /// Rows that go with a range or the partition, at positions in these slices: ascending, without
    /// overlaps. They are wanted if there are few: [`super::Room`].
    pub deleted_rows: Vec<Slice>,
    /// Whether the static row is wanted.
    pub static_row: bool,
}

impl Need<'_> {
    /// The parts to read, however few.
    pub fn look(self) -> Option<Look> {
        match self {
            Need::Nothing => None,
            Need::Row(clustering) => {
                Some(Look { rows: vec![Slice::of_row(clustering)], ..Look::default() })
            }
            Need::Content(look) => Some(look),
        }
    }
}

/// What must be read before [`super::decide`] is called with the same input.
///
/// Errors when the mutation does not decode, or has more than [`super::TIMESTAMPS_MAX`] timestamps.
pub fn need<'a>(input: &WriteInput<'a>) -> Result<Need<'a>, CdcError> {
    let images = input.layout.has_images();
    let writes = split(&input.mutation)?;
    if let [write] = writes.as_slice() {
        if !images && !write.looks(input.newest)? {
            return Ok(Need::Nothing);
        }
        if let Some(clustering) = only_row(&input.mutation) {
            return Ok(Need::Row(clustering));
        }
    }
    needed_content(input, writes.as_slice())
}

/// The key of the row that is all a mutation changes.
fn only_row<'a>(mutation: &MutationView<'a>) -> Option<&'a [u8]> {
    let mut items = mutation.items();
    match (items.next(), items.next()) {
        (Some(MutationItem::Row { clustering, .. }), None) => Some(clustering),
        _ => None,
    }
}

fn needed_content<'a>(input: &WriteInput, writes: &[Write]) -> Result<Need<'a>, CdcError> {
    let images = input.layout.has_images();
    let timeline = Timeline::new(input);
    let mut newest = input.newest;
    let mut look = Look::default();
    let mut reads = images && !writes.is_empty();
    for write in writes {
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
            if input.layout.tells_deleted_rows {
                look.add_deleted_rows(item);
            }
            look.add(item, looks, scans);
        }
    }
    // Without clustering columns the partition's delete has an image.
    if images && input.layout.base.clustering_count() == 0 {
        look.rows = vec![Slice::all()];
    }
    look.rows = joined(look.rows);
    look.tombstones = joined(look.tombstones);
    look.deleted_rows = joined(look.deleted_rows);
    Ok(if reads { Need::Content(look) } else { Need::Nothing })
}

impl Look {
    /// The slices of rows, with those of deleted ones.
    pub fn with_deleted_rows(&self) -> Vec<Slice> {
        joined([self.rows.as_slice(), &self.deleted_rows].concat())
    }

    fn add_deleted_rows(&mut self, item: MutationItem) {
        match item {
            MutationItem::PartitionTombstone(_) => {
                self.deleted_rows.push(Slice::all());
                self.static_row = true;
            }
            MutationItem::RangeTombstone { start, end, .. } => {
                self.deleted_rows.push(Slice { start: start.into(), end: end.into() });
            }
            MutationItem::StaticRow(_) | MutationItem::Row { .. } => {}
        }
    }

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
            MutationItem::Row { clustering, .. } => self.rows.push(Slice::of_row(clustering)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::base_table;
    use crate::testing::range::{KEY, Range};
    use crate::testing::statement::parse_write;
    use crate::{Generation, Generations, Leader};
    use model::entry::Placement;
    use model::{CdcOptions, PreimageMode};

    /// What a write to a partition with N = 95 needs; C is 90, the clock 100.
    fn needed(write: &str, preimage: PreimageMode, far: i64) -> Option<Look> {
        let base = base_table("p int, c int, s int static, a int, m map<int,int>");
        let range = Range::new(base, CdcOptions { preimage, ..CdcOptions::default() });
        let generations: Generations = [Generation::new(0, &[0])].into_iter().collect();
        let time = |text: &str| text.parse().unwrap();
        let bytes = parse_write(range.layout.base(), &KEY, write, 0, &time);
        let times = Placement { closed: 90, placed: 95, far, ..Placement::START };
        need(&WriteInput {
            layout: &range.layout,
            generations: &generations,
            token: range.layout.base().token(&KEY),
            mutation: MutationView::check(&bytes).unwrap(),
            newest: Some(95),
            leader: Leader { times, started_at: i64::MIN },
            clock_micros: 100,
            now_seconds: 0,
            last_log_time: None,
            room: None,
        })
        .unwrap()
        .look()
    }

    /// How many slices of rows and of tombstones, and whether the static row.
    fn shape(look: Option<Look>) -> Option<(usize, usize, bool)> {
        look.map(|look| (look.rows.len(), look.tombstones.len(), look.static_row))
    }

    #[test]
    fn writes_that_are_newer_than_their_partition_need_nothing() {
        for write in ["insert 1 a=1 @96", "delete-partition @96", "update 1 m+={1:1} @96"] {
            assert_eq!(needed(write, PreimageMode::Off, i64::MIN), None, "{write}");
        }
        let overwrite = needed("update 1 m={} @96", PreimageMode::Off, i64::MIN);
        assert_eq!(shape(overwrite), Some((1, 0, false)), "a collection tombstone counts one more");
    }

    #[test]
    fn others_need_the_rows_they_name_and_scan_only_when_told_at_another_time() {
        let plain = |write, far| shape(needed(write, PreimageMode::Off, far));
        assert_eq!(plain("update 1 a=1 @95 + update static s=1 @95", 0), Some((1, 0, true)));
        assert_eq!(plain("range [1,5) @95", 0), Some((0, 1, false)));
        assert_eq!(plain("range [1,5) @95", 95), Some((1, 0, false)));
        assert_eq!(plain("range [1,5) @80", 0), Some((1, 0, false)));
        assert_eq!(plain("delete-partition @95", 0), Some((0, 0, false)));
        assert_eq!(plain("delete-partition @80", 0), Some((1, 0, true)));
        let joined = "range [1,5) @80 + delete 3 @80 + delete 7 @80";
        assert_eq!(plain(joined, 0), Some((2, 0, false)));
    }

    #[test]
    fn images_need_the_rows_that_have_them() {
        let images = |write| shape(needed(write, PreimageMode::Touched, 0));
        assert_eq!(images("insert 1 a=1 @96 + delete 2 @96"), Some((2, 0, false)));
        assert_eq!(images("range [1,5) @96"), Some((0, 0, false)));
        assert_eq!(images("update static s=1 @96"), Some((0, 0, true)));
    }
}
