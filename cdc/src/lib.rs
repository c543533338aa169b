//! Change data capture: from a partition's change to the rows of its log.
//!
//! A pure function of its inputs: no IO, no clock, no randomness, and no crate but `model`. The
//! leader of a range calls it once for each write, before the write is proposed; what it returns
//! becomes part of the same entry, so replicas decide nothing.
//!
//! - [`options`]: the table option `cdc`, as text, as map and as the blob that clients read.
//! - [`log_table`]: the definition of a log table, derived from its base table.
//! - [`stream`]: generations and stream ids.
//! - [`place`]: where a write stands in the log's time; the one call of the write path.
//! - [`rows`]: the rows that tell of it there.
//! - [`scan`]: rows of a table as the log tells rows after a change.

mod content;
mod delta;
pub mod error;
pub mod fold;
pub mod layout;
mod log_buffer;
pub mod log_table;
pub mod options;
pub mod place;
pub mod rows;
pub mod scan;
mod standing;
pub mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time_uuid;

pub use content::Content;
pub use error::{CdcError, CdcErrorKind};
pub use layout::LogLayout;
pub use log_buffer::LogBuffer;
pub use log_table::{is_log_name_of, log_table_name, new_log_table, sync_log_table};
pub use place::{BaseChange, Decision, Leader, Look, Need, Room, WriteInput, decide, need};
pub use stream::{Generation, Generations, StreamId};
