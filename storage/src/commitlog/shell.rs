//! [`CommitLog`]: the log as a shard uses it, with its writer on a thread or inline.
//!
//! What a shard's event loop does:
//! ```text
//!   append_entry, append_entry, …     memory only
//!   submit                            hands over what was appended, if the writer is idle
//!   select! { position = log.completed() => … }
//!                                     what is held now; the next batch is on its way already
//! ```
//! Inline the writer runs within `submit`: for tools, tests, and the time before threads start.
//! Both ways give the same results; only who waits for the disk differs.
//!
//! In periodic mode an entry counts as held once it is in the page cache, which a write reaches in
//! microseconds and without the disk. So `submit` writes there itself, and what was appended is held
//! when it returns: no other thread is woken. The thread syncs, and does what waits for the disk:
//! new segments, recycling. A page cache that has too much to write out makes writers wait; when
//! that happens, batches go through the thread for a while, so that the shard is held up once and
//! not with every batch (docs/decisions/0011-periodic-log-writes-on-the-shard.md).

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use env::clock::Clock;
use env::disk::Disk;
use env::tasks::queue::{Receiver, Sender, queue};
use env::tasks::{Priority, Task, Tasks};

use super::batch::BatchBuffer;
use super::error::LogError;
use super::format::{EntryKind, GroupId, Index, Term};
use super::log::{LogCore, LogPosition};
use super::options::{LogOptions, SyncMode};
use super::read::{LogRead, ReadPlace, WantedEntries};
use super::replay::{FormerEnd, HardState, LogStart, Replay};
use super::segment::ActiveSegment;
use super::writer::{LogJob, LogReport, LogWriter};

/// One job is out at a time.
const JOBS_MAX: usize = 1;
/// Its report, and that of a sync of periodic mode that failed meanwhile.
const REPORTS_MAX: usize = 2;

/// A write into the page cache that takes this long was made to wait for the disk, in nanoseconds.
const WRITE_NANOS_MAX: u64 = 20_000_000;
/// How long batches go through the thread after such a write, in nanoseconds.
const THROUGH_THREAD_NANOS: u64 = 1_000_000_000;
/// What periodic mode lets gather before it syncs ahead of its time: a new segment has to wait until
/// the one before it is synced.
const UNSYNCED_BYTES_MAX: u64 = 4 << 20;

/// A shard's commit log.
#[derive(Debug)]
pub struct CommitLog {
    core: LogCore,
    link: Link,
    /// In periodic mode with a thread.
    page_cache: Option<PageCacheWriter>,
}

/// Writes batches on the shard's own thread.
#[derive(Debug)]
struct PageCacheWriter {
    segment: Arc<ActiveSegment>,
    clock: Clock,
    write_nanos_max: u64,
    /// Until then the log's thread writes, on the monotonic clock.
    through_thread_until_nanos: u64,
}

#[derive(Debug)]
enum Link {
    Inline(Box<LogWriter>),
    Thread { jobs: Sender<LogJob>, reports: Receiver<LogReport> },
}

impl CommitLog {
    /// Opens the log in `directory`, creating it if it is missing: verifies what is there and
    /// begins a new segment behind it. Blocks. The writer is inline at first.
    pub fn open(
        disk: &Disk,
        directory: &Path,
        options: LogOptions,
    ) -> Result<(CommitLog, Replay), LogError> {
        let (core, writer, replay) = LogCore::open(disk, directory, options)?;
        let link = Link::Inline(Box::new(writer));
        Ok((CommitLog { core, link, page_cache: None }, replay))
    }

    /// Opens the log as [`CommitLog::open`] does and moves its writer to a thread of its own.
    /// The task ends when the log has been dropped and the disk is done.
    pub fn open_with_thread(
        disk: &Disk,
        directory: &Path,
        options: LogOptions,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<(CommitLog, Replay, Task), LogError> {
        let (core, writer, replay) = LogCore::open(disk, directory, options)?;
        let (job_sender, job_receiver) = queue(JOBS_MAX);
        let (report_sender, report_receiver) = queue(REPORTS_MAX);
        let page_cache = match options.sync {
            SyncMode::Group => None,
            SyncMode::Periodic { .. } => Some(PageCacheWriter {
                segment: writer.segment().clone(),
                clock: clock.clone(),
                write_nanos_max: WRITE_NANOS_MAX,
                through_thread_until_nanos: 0,
            }),
        };
        let sync_interval_nanos = match options.sync {
            SyncMode::Group => None,
            SyncMode::Periodic { every } => {
                Some(u64::try_from(every.as_nanos()).unwrap_or(u64::MAX))
            }
        };
        let first_sync_nanos = sync_interval_nanos.unwrap_or(u64::MAX);
        let thread = LogThread {
            writer,
            jobs: job_receiver,
            reports: report_sender,
            clock: clock.clone(),
            sync_interval_nanos,
            sync_due_nanos: clock.monotonic_nanos().saturating_add(first_sync_nanos),
        };
        let name = format!("log-{}", options.shard);
        let task =
            tasks.spawn_worker(&name, Priority::Normal, move || thread.run()).map_err(|cause| {
                LogError::Disk { attempt: format!("start {name}"), cause: cause.into() }
            })?;
        let link = Link::Thread { jobs: job_sender, reports: report_receiver };
        Ok((CommitLog { core, link, page_cache }, replay, task))
    }

    /// Writes what was appended into the page cache where that is what is promised, and hands the
    /// rest to the writer, if it is idle. With a thread, never waits for a sync.
    pub fn submit(&mut self) -> Result<(), LogError> {
        if let Some(page_cache) = &mut self.page_cache
            && page_cache.is_in_use()
            && let Some((mut batch, through)) = self.core.next_batch()
        {
            let result = page_cache.write(&mut batch);
            self.core.complete(LogReport::of_batch(result, batch, through))?;
            let is_sync_due = page_cache.segment.unsynced_bytes() > UNSYNCED_BYTES_MAX;
            if is_sync_due && !self.core.is_job_out() {
                self.core.request_sync();
            }
        }
        while let Some(job) = self.core.next_job() {
            match &mut self.link {
                Link::Inline(writer) => self.core.complete(writer.execute(job))?,
                Link::Thread { jobs, .. } => {
                    if jobs.try_send(job).is_err() {
                        self.core.fail(LogError::ThreadGone);
                    }
                }
            }
        }
        self.core.synced().map(|_| ())
    }

    /// Takes the reports that have come, hands over the next batch, and says what is held.
    pub fn poll_synced(&mut self) -> Result<LogPosition, LogError> {
        while let Link::Thread { reports, .. } = &mut self.link
            && let Some(report) = reports.try_recv()
        {
            self.take(report)?;
        }
        self.submit()?;
        self.core.synced()
    }

    /// Waits for the writer's next report, hands over the next batch, and says what is held.
    /// Waits forever when nothing was submitted. Nothing is lost when the wait is given up.
    pub async fn completed(&mut self) -> Result<LogPosition, LogError> {
        self.core.synced()?;
        let Link::Thread { reports, .. } = &mut self.link else {
            return std::future::pending().await;
        };
        match reports.recv().await {
            Some(report) => self.take(report)?,
            None => self.core.fail(LogError::ThreadGone),
        }
        self.poll_synced()
    }

    fn take(&mut self, mut report: LogReport) -> Result<(), LogError> {
        if let (Some(page_cache), Some(segment)) = (&mut self.page_cache, report.begun.take()) {
            page_cache.segment = segment;
        }
        self.core.complete(report)
    }

    /// Submits, and waits until this node holds everything up to `position`.
    pub async fn synced(&mut self, position: LogPosition) -> Result<(), LogError> {
        assert!(position <= self.core.appended(), "nothing was appended up to {position:?}");
        while self.poll_synced()? < position {
            self.completed().await?;
        }
        Ok(())
    }

    /// Writes out what was appended and leaves proof that all of it was synced.
    pub async fn close(mut self) -> Result<(), LogError> {
        self.core.request_close();
        self.submit()?;
        while self.core.is_job_out() {
            self.completed().await?;
        }
        Ok(())
    }

    /// See [`LogCore::append_entry`].
    pub fn append_entry(
        &mut self,
        group: GroupId,
        term: Term,
        index: Index,
        parts: &[&[u8]],
    ) -> Result<LogPosition, LogError> {
        self.core.append_entry(group, term, index, parts)
    }

    /// See [`LogCore::append_entry_of_kind`].
    pub fn append_entry_of_kind(
        &mut self,
        kind: EntryKind,
        group: GroupId,
        term: Term,
        index: Index,
        parts: &[&[u8]],
    ) -> Result<LogPosition, LogError> {
        self.core.append_entry_of_kind(kind, group, term, index, parts)
    }

    /// See [`LogCore::append_committed`].
    pub fn append_committed(
        &mut self,
        group: GroupId,
        index: Index,
    ) -> Result<LogPosition, LogError> {
        self.core.append_committed(group, index)
    }

    /// See [`LogCore::read_start`].
    pub fn read_start(&self, group: GroupId, first: Index) -> Option<ReadPlace> {
        self.core.read_start(group, first)
    }

    /// See [`LogCore::read`].
    pub fn read(&self, wanted: Vec<WantedEntries>) -> LogRead {
        self.core.read(wanted)
    }

    /// See [`LogCore::append_hard_state`].
    pub fn append_hard_state(
        &mut self,
        group: GroupId,
        hard_state: HardState,
    ) -> Result<LogPosition, LogError> {
        self.core.append_hard_state(group, hard_state)
    }

    /// See [`LogCore::append_start`].
    pub fn append_start(
        &mut self,
        group: GroupId,
        start: LogStart,
        members: &[u8],
    ) -> Result<LogPosition, LogError> {
        self.core.append_start(group, start, members)
    }

    /// See [`LogCore::append_truncate`].
    pub fn append_truncate(
        &mut self,
        group: GroupId,
        index: Index,
    ) -> Result<LogPosition, LogError> {
        self.core.append_truncate(group, index)
    }

    /// See [`LogCore::append_remove`].
    pub fn append_remove(
        &mut self,
        group: GroupId,
        end: FormerEnd,
    ) -> Result<LogPosition, LogError> {
        self.core.append_remove(group, end)
    }

    /// See [`LogCore::former`].
    pub fn former(&self, group: GroupId) -> (HardState, FormerEnd) {
        self.core.former(group)
    }

    /// See [`LogCore::check_room`].
    pub fn check_room(&self, group: GroupId, payload_bytes: usize) -> Result<(), LogError> {
        self.core.check_room(group, payload_bytes)
    }

    /// The longest payload of an entry. See [`LogOptions::payload_bytes_max`].
    pub fn payload_bytes_max(&self) -> usize {
        self.core.payload_bytes_max()
    }

    /// What the reports taken so far say is held. See [`LogCore::synced`].
    pub fn held(&self) -> Result<LogPosition, LogError> {
        self.core.synced()
    }

    /// See [`LogCore::durable`].
    pub fn durable(&self) -> LogPosition {
        self.core.durable()
    }

    /// See [`LogCore::is_job_out`].
    pub fn is_job_out(&self) -> bool {
        self.core.is_job_out()
    }

    /// See [`LogCore::first_sequence`].
    pub fn first_sequence(&self) -> u64 {
        self.core.first_sequence()
    }

    /// The position behind everything appended.
    pub fn appended(&self) -> LogPosition {
        self.core.appended()
    }

    /// See [`LogCore::release`]; the files are recycled with the next [`CommitLog::submit`].
    pub fn release(&mut self, flushed: impl Fn(GroupId) -> Index) -> usize {
        self.core.release(flushed)
    }

    /// How many segments the log has, the active one included.
    pub fn segment_count(&self) -> usize {
        self.core.segment_count()
    }

    /// See [`LogCore::closed_segments`].
    pub fn closed_segments(&self) -> impl Iterator<Item = (u64, &BTreeMap<GroupId, Index>)> {
        self.core.closed_segments()
    }

    /// See [`LogCore::oldest_holders`].
    pub fn oldest_holders(&self) -> impl Iterator<Item = (GroupId, Index)> {
        self.core.oldest_holders()
    }

    /// Takes every write into the page cache for one that waited for the disk.
    #[cfg(test)]
    pub(super) fn find_page_cache_slow(&mut self) {
        if let Some(page_cache) = &mut self.page_cache {
            page_cache.write_nanos_max = 0;
        }
    }

    /// See [`LogCore::request_sync`]; done with the next [`CommitLog::submit`].
    pub fn request_sync(&mut self) {
        self.core.request_sync();
    }
}

impl PageCacheWriter {
    /// Whether the page cache has taken what it was given without waiting for the disk lately.
    fn is_in_use(&self) -> bool {
        self.through_thread_until_nanos == 0
            || self.clock.monotonic_nanos() >= self.through_thread_until_nanos
    }

    fn write(&mut self, batch: &mut BatchBuffer) -> Result<(), LogError> {
        let began = self.clock.monotonic_nanos();
        self.segment.write(batch)?;
        let ended = self.clock.monotonic_nanos();
        let is_slow = ended.saturating_sub(began) >= self.write_nanos_max;
        self.through_thread_until_nanos =
            if is_slow { ended.saturating_add(THROUGH_THREAD_NANOS) } else { 0 };
        Ok(())
    }
}

/// The body of the log's thread.
struct LogThread {
    writer: LogWriter,
    jobs: Receiver<LogJob>,
    reports: Sender<LogReport>,
    clock: Clock,
    /// Periodic mode only.
    sync_interval_nanos: Option<u64>,
    /// When what was written is synced next. Periodic mode: whatever the shard writes until then
    /// was written at most an interval before.
    sync_due_nanos: u64,
}

/// What the thread waited for.
enum Event {
    Job(LogJob),
    SyncIsDue,
    ShardGone,
}

impl LogThread {
    async fn run(mut self) {
        loop {
            let report = match self.next_event().await {
                Event::Job(job) => Some(self.writer.execute(job)),
                Event::SyncIsDue => None,
                Event::ShardGone => break,
            };
            let failure = self.sync_if_due();
            for report in report.into_iter().chain(failure) {
                if self.reports.try_send(report).is_err() {
                    // The shard is gone; the queue has room for both reports.
                    return;
                }
            }
        }
        // Nobody is left to hear whether it succeeds.
        drop(self.writer.execute(LogJob::sync()));
    }

    async fn next_event(&mut self) -> Event {
        while self.writer.can_prepare() {
            if let Some(job) = self.jobs.try_recv() {
                return Event::Job(job);
            }
            self.writer.prepare();
        }
        let mut due = pin!(async {
            match self.sync_interval_nanos {
                Some(_) => self.clock.sleep_until(self.sync_due_nanos).await,
                None => std::future::pending().await,
            }
        });
        poll_fn(|context| {
            match self.jobs.poll_recv(context) {
                Poll::Ready(Some(job)) => return Poll::Ready(Event::Job(job)),
                Poll::Ready(None) => return Poll::Ready(Event::ShardGone),
                Poll::Pending => {}
            }
            due.as_mut().poll(context).map(|()| Event::SyncIsDue)
        })
        .await
    }

    /// Keeps the promise of periodic mode. Returns a report only of a failure: nobody asked.
    fn sync_if_due(&mut self) -> Option<LogReport> {
        let interval = self.sync_interval_nanos?;
        let now = self.clock.monotonic_nanos();
        if now < self.sync_due_nanos {
            return None;
        }
        self.sync_due_nanos = now.saturating_add(interval);
        if !self.writer.has_unsynced() {
            return None;
        }
        let report = self.writer.execute(LogJob::sync());
        report.result.is_err().then(|| report.unasked())
    }
}
