//! The segment that is being written, for both sides of the log.
//!
//! The log's thread holds it, and in periodic mode the shard too: then a batch that fits goes into
//! the page cache from the shard's own thread, and only syncs and new segments are the log thread's.
//! Batches never overlap: [`super::LogCore`] lets one out at a time, whoever writes it. A sync may
//! run beside a write; it covers what was written when it began.
//!
//! Promises: after the first failure, of whichever side, every call of either fails with that error
//! and the file is not touched again.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use env::disk::File;

use super::batch::BatchBuffer;
use super::error::LogError;
use super::files::failed;

/// A segment that is ready for batches.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    file: File,
    path: PathBuf,
    /// The header's checksum, which seeds those of the batches.
    seed: u32,
    segment_bytes: u64,
    /// Where the next batch goes.
    end_offset: AtomicU64,
    /// Everything before this is synced.
    synced_offset: AtomicU64,
    failure: OnceLock<LogError>,
}

impl ActiveSegment {
    /// A segment in which everything before `end_offset` is synced.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        seed: u32,
        segment_bytes: u64,
        end_offset: u64,
    ) -> ActiveSegment {
        ActiveSegment {
            file,
            path,
            seed,
            segment_bytes,
            end_offset: AtomicU64::new(end_offset),
            synced_offset: AtomicU64::new(end_offset),
            failure: OnceLock::new(),
        }
    }

    /// The length of the file.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Where the next batch goes.
    pub(super) fn end_offset(&self) -> u64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// How much was written and is not synced; 0 after a failure, when no sync would help.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        if self.failure.get().is_some() {
            return 0;
        }
        let end = self.end_offset();
        end.saturating_sub(self.synced_offset.load(Ordering::Acquire))
    }

    /// Writes a batch behind the others.
    pub(super) fn write(&self, batch: &mut BatchBuffer) -> Result<(), LogError> {
        self.check()?;
        let offset = self.end_offset();
        let bytes = batch.seal(self.seed, offset, self.synced_offset.load(Ordering::Acquire));
        let end = offset + bytes.len() as u64;
        assert!(end <= self.segment_bytes, "a batch was placed behind its segment's end");
        let written = self.file.write_all_at(bytes, offset);
        self.note(written.map_err(failed("write", &self.path)))?;
        self.end_offset.store(end, Ordering::Release);
        Ok(())
    }

    /// Says that what was written is synced: the file was opened so that a write returns once its
    /// bytes are durable.
    pub(super) fn note_durable(&self) {
        self.synced_offset.store(self.end_offset(), Ordering::Release);
    }

    /// Syncs what was written before the call.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.check()?;
        let end = self.end_offset();
        if self.synced_offset.load(Ordering::Acquire) < end {
            let synced = self.file.sync_data();
            self.note(synced.map_err(failed("sync", &self.path)))?;
            self.synced_offset.store(end, Ordering::Release);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), LogError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    fn note(&self, result: Result<(), LogError>) -> Result<(), LogError> {
        if let Err(error) = &result {
            // Of two failures the first stands.
            self.failure.set(error.clone()).ok();
        }
        result
    }
}
