//! The commit log: the only copy on this node of the replicated logs of a shard's groups.
//!
//! A shard appends entries, votes and marks to memory and submits them; the log's thread writes
//! them with one write in flight; an entry counts as held by this node once its write is reported.
//! At start [`Replay`] gives back what was held, and segments whose entries have been flushed are
//! recycled.
//!
//! ```text
//!   shell.rs    CommitLog: what a shard uses; the two below and the thread between them
//!   log.rs      LogCore: the shard's side, memory only          ─┐ jobs, reports
//!   writer.rs   LogWriter: the thread's side, one job at a time ─┘
//!   files.rs    names, headers, spares      batch.rs   one write in the making
//!   segment.rs  the segment being written, which in periodic mode both sides write to
//!   read.rs     a group's entries read back while the log runs, for a follower that lags
//!   scan.rs     one segment read back       replay.rs  all of them, followed per group
//!   tracked.rs  what LogCore knows of a group
//!   format.rs   the bytes, as in docs/formats/commitlog.md
//! ```
//! Promises: what was reported synced is handed out by the next replay, in order; what was never
//! appended is not; damage to what was synced is a named error and never skipped. The one exception
//! is the last batch before a crash: damaged later, it cannot be told from one that was being
//! written (the format page says why, and who still has it).

mod batch;
#[cfg(test)]
mod crash_tests;
mod error;
mod files;
mod format;
mod log;
mod options;
mod read;
mod replay;
mod scan;
mod segment;
mod shell;
#[cfg(test)]
mod shell_tests;
#[cfg(test)]
mod tests;
mod tracked;
mod writer;

pub use error::{Corruption, LogError};
pub use files::newest_segment;
pub use format::{BLOCK_BYTES, EntryKind, GroupId, Index, MEMBER_BYTES_MAX, NodeId, Term};
pub use log::{LogCore, LogPosition};
pub use options::{
    FIRST_SEGMENT_BYTES, LogOptions, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
    SPARE_SEGMENTS_MAX_DEFAULT, SyncMode, segment_bytes_for,
};
pub use read::{LogRead, ReadEntries, ReadEntry, ReadPlace, WantedEntries};
pub use replay::{FormerEnd, GroupReplay, HardState, LogStart, Replay, ReplayedEntry, TornTail};
pub use scan::fuzz_segment;
pub use shell::CommitLog;
pub use writer::{LogJob, LogReport, LogWriter};
