//! The storage of one shard: memtables, table files, compaction, caches.
//!
//! [`Engine`] is owned by its shard's thread: every call takes `&mut self` or `&self`, runs to its
//! end without waiting for the disk, and decides nothing by itself: it merges bytes by
//! [`model::merge`], compares bytes, and never interprets a type. Durability is the replicated
//! log's until a memtable is in a file that the manifest lists; the engine says what of the log
//! it still needs.
//!
//! How a shard uses it: open; drop the tables that the schema no longer has, configure the others;
//! replay the log, each group from the lowest [`Engine::flushed_index`] of its tables. Then apply
//! what is committed, read, and now and then take [`Engine::next_job`], run it on a worker, give
//! the result to [`Engine::finish`]; the log may release what [`Engine::needed_indexes`] does not
//! name. When the log runs full, [`Engine::flush_job`] with [`FlushReason::Log`] frees its tail.
//!
//! A group's data goes from one engine to another as a snapshot ([`Engine::export`],
//! [`Engine::import`], [`Engine::install`]).
//!
//! What rows must be: a row holds nothing that its own tombstones hide (planners merge before they
//! write), and bytes were checked where they came in.
//!
//! Not there yet: a row cache; compaction of a single file for its tombstones; a merge that is
//! split into several files; a bound on what one call of [`Engine::load_partition`] may take, and
//! readahead for scans, which miss one block at a time.

mod cache;
pub mod commitlog;
mod compaction;
mod engine;
mod error;
pub mod fuzz;
mod manifest;
mod memtable;
mod options;
mod read;
mod snapshot;
mod sstable;
mod timestamps;

pub use engine::jobs::{FlushReason, Job, JobKind, JobResult};
pub use engine::{CacheStatistics, Committed, Engine, InstallError, RowInPlace, TableStatistics};
pub use error::{Corruption, ReadError, StorageError};
pub use memtable::IndexSpan;
pub use options::EngineOptions;
pub use read::TokenInterval;
pub use read::page::{ReadEnd, ReadProgress};
pub use snapshot::{
    Export, Import, ImportError, Imported, SnapshotBase, SnapshotHead, SnapshotPart,
};
pub use sstable::{BlockMiss, LoadedBlock};
pub use timestamps::TimestampBounds;
