//! Rows as they stand, told as the log tells rows after a change.
//!
//! Whoever reads a table and its log together, such as a changefeed that begins with a snapshot, so
//! has one form for both: what a row is by a scan and by the last change of it are the same bytes.

use crate::content::Content;
use crate::error::CdcError;
use crate::layout::LogLayout;
use crate::log_buffer::LogBuffer;
use crate::rows::{GroupPlace, ImageOf};
use crate::time_uuid::log_time_uuid;
use model::EpochSeconds;
use model::mutation::{MutationItem, MutationView};
use model::partition::Partition;

/// Makes one log mutation, in `log` afterwards, of a partition's rows as a read gave them: live
/// rows, no tombstones over them. It holds a row after a change (a postimage) for each, in their
/// order, the static row first. Stream and time are void: no change made them so.
///
/// Errors when a key or a path does not decode.
pub fn tell_rows(
    layout: &LogLayout,
    partition: &MutationView,
    now: EpochSeconds,
    log: &mut LogBuffer,
) -> Result<(), CdcError> {
    log.clear();
    let mut static_content = Partition::default();
    for item in partition.items() {
        if let MutationItem::StaticRow(row) = item {
            static_content.static_row = row.as_bytes().to_vec();
        }
    }
    let mut planned = Vec::new();
    for item in partition.items() {
        planned.extend(match item {
            MutationItem::StaticRow(_) => {
                ImageOf::StaticRow.as_it_stands(&Content::Partition(&static_content), now)
            }
            MutationItem::Row { clustering, row } => {
                let content = Content::Row { clustering, row: Some(row) };
                ImageOf::Row(clustering).as_it_stands(&content, now)
            }
            MutationItem::PartitionTombstone(_) | MutationItem::RangeTombstone { .. } => None,
        });
    }
    let place = GroupPlace { stream: [0; 16], time: 0, time_uuid: log_time_uuid(0, 0), now };
    let LogBuffer { bytes, ends, space } = &mut *log;
    space.writer.write(layout, partition.key(), &place, planned.iter(), bytes)?;
    ends.push(bytes.len());
    Ok(())
}
