//! The storage of one shard: memtables, table files, compaction, caches.
//!
//! [`Engine`] is owned by its shard's thread: every call takes `&mut self` or `&self`, runs to its
//! end without waiting for the disk, and decides nothing by itself: it merges bytes by
//! [`model::merge`], compares bytes, and never interprets a type. Durability is the replicated
//! log's until a memtable is in a file that the manifest lists; the engine says what of the log
//! it still needs.

mod cache;
pub mod commitlog;
mod compaction;
mod engine;
mod error;
mod manifest;
mod memtable;
mod options;
mod read;
mod sstable;
mod timestamps;

pub use engine::jobs::{FlushReason, Job, JobKind, JobResult};
pub use engine::{CacheStatistics, Engine, TableStatistics};
pub use error::{Corruption, ReadError, StorageError};
pub use memtable::IndexSpan;
pub use options::EngineOptions;
pub use read::TokenInterval;
pub use read::page::{ReadEnd, ReadProgress};
pub use sstable::{BlockMiss, LoadedBlock};
pub use timestamps::TimestampBounds;
