//! From a delta, and the rows before and after it, to the rows of the log.
//!
//! ```text
//! group  = all log rows of one partition at one log time; cdc$batch_seq_no numbers them from 0
//! order  = preimages (static, then by clustering key)
//!          static updates, inserts, updates, row deletes, range deletes (start, end), partition
//!          delete
//!          postimages (static, then by clustering key)
//! ```
//!
//! A delta row has one kind and one TTL. What carries no TTL, deletions included, has TTL 0, so
//! `INSERT … USING TTL` of a collection becomes three rows: the insert, the collection's deletion,
//! its elements. Elements share the row of the insert only when the insert also deleted the
//! collection before them, and neither has a TTL; else the row of an insert would read as an
//! overwrite that never was.
//!
//! Where a feed asks for the rows under deletes, the group of a range or partition delete names them
//! as well: a row delete for each, and an update of the static row that deletes its columns, with
//! their preimages; as the log would tell a batch that deletes each row and the range.
//!
//! `plan` decides which rows there are and in which order, `write` turns them into bytes.

mod image;
mod plan;
mod write;

pub(crate) use image::{ImageOf, Images, Touched, postimage_of, preimage_of};
pub(crate) use plan::{plan_deltas, plan_one_row};
pub(crate) use write::{GroupPlace, GroupWriter};

use crate::delta::{Bound, DeltaCells};
use image::ImageCells;

/// What a log row tells of: the value of `cdc$operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Operation {
    /// The row before the change.
    Preimage = 0,
    /// Columns were set or deleted.
    Update = 1,
    /// The row was inserted.
    Insert = 2,
    /// The row was deleted.
    RowDelete = 3,
    /// The partition was deleted.
    PartitionDelete = 4,
    /// Rows from here on were deleted, this one included.
    RangeStartInclusive = 5,
    /// Rows after this one were deleted.
    RangeStartExclusive = 6,
    /// Rows up to here were deleted, this one included.
    RangeEndInclusive = 7,
    /// Rows before this one were deleted.
    RangeEndExclusive = 8,
    /// The row after the change.
    Postimage = 9,
}

impl Operation {
    const ALL: [Operation; 10] = [
        Operation::Preimage,
        Operation::Update,
        Operation::Insert,
        Operation::RowDelete,
        Operation::PartitionDelete,
        Operation::RangeStartInclusive,
        Operation::RangeStartExclusive,
        Operation::RangeEndInclusive,
        Operation::RangeEndExclusive,
        Operation::Postimage,
    ];

    /// The operation with this value of `cdc$operation`.
    pub fn from_code(code: i8) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| *operation as i8 == code)
    }
}

/// A log row, decided but not yet written.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRow<'a> {
    pub(crate) operation: Operation,
    /// `None` for static rows and the partition.
    pub(crate) clustering: Option<Bound<'a>>,
    /// 0 is none.
    pub(crate) ttl_seconds: u32,
    /// Whether it is of a delete that is told row by row, or of a row that is told with one: then
    /// `cdc$ttl` is 0, which says as little of a deletion as null does.
    pub(crate) is_by_row: bool,
    pub(crate) cells: RowCells<'a>,
}

/// Where the values of a log row come from.
#[derive(Clone, Debug)]
pub(crate) enum RowCells<'a> {
    /// From a change.
    Delta(DeltaCells<'a>),
    /// From a row before or after it.
    Image(ImageCells<'a>),
}

impl<'a> PlannedRow<'a> {
    fn keys_only(operation: Operation, clustering: Option<Bound<'a>>) -> Self {
        let cells = RowCells::Delta(DeltaCells::default());
        PlannedRow { operation, clustering, ttl_seconds: 0, is_by_row: false, cells }
    }
}
