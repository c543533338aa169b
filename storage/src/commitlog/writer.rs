//! The log's thread side: everything that waits for the disk.
//!
//! A [`LogWriter`] executes one [`LogJob`] at a time, to the end, and reports. It decides nothing:
//! which batch goes into which segment is said by the job.
//! Promises: a batch reported in group mode is synced; after the first failure every job fails
//! with that error and the disk is not touched again.
//! In periodic mode most batches do not come here: the shard writes them ([`super::shell`]).

use std::sync::Arc;

use super::LogPosition;
use super::batch::BatchBuffer;
use super::error::LogError;
use super::files::{LogFiles, NewSegment};
use super::format::BLOCK_BYTES;
use super::options::{LogOptions, SyncMode};
use super::segment::ActiveSegment;

/// Work for the log's thread.
#[derive(Debug)]
pub struct LogJob(pub(super) Job);

#[derive(Debug)]
pub(super) enum Job {
    /// Write a batch, at the start of a new segment if one is given.
    Write { batch: BatchBuffer, through: LogPosition, new_segment: Option<NewSegment> },
    /// Recycle these segments, oldest first.
    Release { sequences: Vec<u64> },
    /// Sync what was written and not synced.
    Sync,
    /// Leave proof that everything was synced; nothing follows.
    Close,
}

impl LogJob {
    /// Sync what was written and not synced.
    pub(super) fn sync() -> LogJob {
        LogJob(Job::Sync)
    }
}

/// What became of a [`LogJob`].
#[derive(Debug)]
pub struct LogReport {
    pub(super) result: Result<(), LogError>,
    /// It is on no job of the shard's, so the one that is out, if any, still is.
    pub(super) is_unasked: bool,
    /// The batch's buffer for reuse, and the position up to which it reaches.
    pub(super) written: Option<(BatchBuffer, LogPosition)>,
    /// The segment that the batch began.
    pub(super) begun: Option<Arc<ActiveSegment>>,
}

impl LogReport {
    /// On a batch that the shard wrote itself.
    pub(super) fn of_batch(
        result: Result<(), LogError>,
        batch: BatchBuffer,
        through: LogPosition,
    ) -> LogReport {
        LogReport { result, is_unasked: true, written: Some((batch, through)), begun: None }
    }

    /// The same, of a job that the shard did not give.
    pub(super) fn unasked(self) -> LogReport {
        LogReport { is_unasked: true, ..self }
    }
}

/// Executes jobs.
#[derive(Debug)]
pub struct LogWriter {
    options: LogOptions,
    files: LogFiles,
    segment: Arc<ActiveSegment>,
    failure: Option<LogError>,
}

impl LogWriter {
    /// Begins a segment behind a log that ends at `previous_end` of its last one.
    pub(super) fn open(
        mut files: LogFiles,
        options: LogOptions,
        first: NewSegment,
        previous_end: u64,
    ) -> Result<LogWriter, LogError> {
        let segment = Arc::new(files.begin_segment(first, previous_end)?);
        Ok(LogWriter { options, files, segment, failure: None })
    }

    /// The segment that is being written.
    pub(super) fn segment(&self) -> &Arc<ActiveSegment> {
        &self.segment
    }

    /// Does the job and says what became of it. Blocks until the disk is done.
    pub fn execute(&mut self, LogJob(job): LogJob) -> LogReport {
        let (mut written, mut begun) = (None, None);
        let result = match (self.failure.clone(), job) {
            (Some(failure), _) => Err(failure),
            (None, Job::Write { mut batch, through, new_segment }) => {
                let is_new = new_segment.is_some();
                let result = self.write(&mut batch, new_segment);
                written = Some((batch, through));
                begun = is_new.then(|| self.segment.clone());
                result
            }
            (None, Job::Release { sequences }) => {
                sequences.iter().try_for_each(|sequence| self.files.recycle(*sequence))
            }
            (None, Job::Sync) => self.segment.sync(),
            (None, Job::Close) => self.close(),
        };
        self.failure = result.as_ref().err().cloned();
        LogReport { result, is_unasked: false, written, begun }
    }

    /// Whether something was written that is not synced, and the disk still works.
    pub(super) fn has_unsynced(&self) -> bool {
        self.failure.is_none() && self.segment.unsynced_bytes() > 0
    }

    /// Whether there is time-consuming work that the next segment will need and that can be done
    /// ahead, by [`LogWriter::prepare`].
    pub fn can_prepare(&self) -> bool {
        let is_half_full = self.segment.end_offset() > self.segment.segment_bytes() / 2;
        self.failure.is_none() && is_half_full && self.files.needs_spare()
    }

    /// Does a piece of that work, about a millisecond. For moments without a job.
    pub fn prepare(&mut self) {
        if self.can_prepare() {
            self.files.prepare_spare();
        }
    }

    fn write(
        &mut self,
        batch: &mut BatchBuffer,
        new_segment: Option<NewSegment>,
    ) -> Result<(), LogError> {
        if let Some(new_segment) = new_segment {
            self.segment.sync()?;
            let previous_end = self.segment.end_offset();
            self.segment = Arc::new(self.files.begin_segment(new_segment, previous_end)?);
        }
        self.write_batch(batch)
    }

    fn write_batch(&mut self, batch: &mut BatchBuffer) -> Result<(), LogError> {
        self.segment.write(batch)?;
        if self.options.sync == SyncMode::Group {
            self.segment.note_durable();
        }
        Ok(())
    }

    /// An empty batch says that what stands before it was synced: the log's last batch has no
    /// successor that would.
    fn close(&mut self) -> Result<(), LogError> {
        self.segment.sync()?;
        if self.segment.end_offset() + BLOCK_BYTES > self.segment.segment_bytes() {
            return Ok(());
        }
        self.write_batch(&mut BatchBuffer::default())?;
        self.segment.sync()
    }
}
