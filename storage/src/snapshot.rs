//! Snapshots of a group's data, from one engine into another.
//!
//! A replica that lacks entries which the others' logs no longer have, and a new one, gets what the
//! entries came to: every partition of the group's tables in its interval of tokens, as of one
//! entry, the *base*, with tombstones, expiry and timestamps as they are. Nothing is purged on the
//! way.
//!
//! ```text
//!   leader                                                    follower
//!   Engine::export ─▶ Export::next_chunk ═══ bytes ═══▶ Import::feed ─▶ Import::finish
//!   shard's thread    blocking thread                   blocking thread        │
//!                                                                 Engine::install, manifest
//! ```
//!
//! - An [`Export`] pins what is there at one moment: memtables are frozen, files kept open. Writes,
//!   flushes and compactions go on; the export does not see them.
//! - An [`Import`] writes table files that nothing refers to. What came is checked as if it were
//!   hostile; a stream that is torn, altered or out of order is an error, and leaves no file.
//! - [`Engine::install`](crate::Engine::install) makes them the tables' content in the intervals, in
//!   place of all that was there, in one step; one manifest makes it durable. A crash before it is
//!   durable leaves the old data and its log, a crash after it the new.
//!
//! Rows travel as mutations, the byte form of the log ([`model::mutation`]), not as table files cut to
//! the interval: a shard's files hold the data of all its groups, so a copy would bring as many
//! overlapping slivers as the sender has files, still need its memtables written out first, and tie
//! the two nodes to one version of the table format. Merged on the way, there is one file per table.
//! The bytes are described in `docs/formats/snapshot.md`.
//!
//! What it does not know: who sends to whom and how fast, what members are, and whether the base is
//! one that the receiver lacks.

mod export;
mod format;
mod import;

pub use export::Export;
pub(crate) use export::{ExportPart, pinned};
pub use format::{SnapshotBase, SnapshotHead, SnapshotPart};
#[cfg(test)]
pub(crate) use format::{fuzz_seeds, stream_of_mutations};
pub(crate) use format::{fuzz_snapshot_content, put_base, read_base};
pub(crate) use import::Target;
pub use import::{Import, ImportError, Imported};
