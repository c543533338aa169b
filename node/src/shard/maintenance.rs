//! What a shard does beside requests with its disk: flushes, compactions, giving up old log segments,
//! and going down in order.
//!
//! What tables or the metadata snapshot hold, the log holds as well, until it says that it begins
//! behind that. So neither becomes durable before the log is: else a power cut in periodic mode
//! would leave a log that ends before them, and the entries written next would bear numbers that
//! pass for what is in tables.

use super::Shard;
use super::groups::beginning;
use super::state::ShardState;
use crate::metadata::{self, Snapshot};
use cluster::consensus::LogIndex;
use cluster::leadership::Support as _;
use cluster::retention::{Limits, Needs, Plan, Segment, plan};
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use storage::commitlog::LogPosition;
use storage::{FlushReason, Job, JobKind};

/// How often a shard looks for work in the background.
const INTERVAL: Duration = Duration::from_millis(100);
/// A log of so few segments is never too large.
const SEGMENTS_UNPLANNED_MAX: usize = 2;
/// How often it is noted how far groups are committed, in intervals.
const NOTE_INTERVALS: u64 = 10;
/// How often it is looked what of logs is kept for changefeeds, in intervals.
const PIN_INTERVALS: u64 = 10;
/// How often the metadata is saved for the sake of changefeeds' progress alone, in intervals: the log
/// has it until then.
const PROGRESS_INTERVALS: u64 = 100;
/// How long a node that goes down waits until others lead, and then for entries that they have to
/// commit.
const STOP_WAIT: Duration = Duration::from_secs(1);

impl Shard {
    /// Looks for work until the node stops.
    pub(super) async fn run_maintenance(self: Rc<Self>) {
        let mut turn: u64 = 0;
        loop {
            self.shared.env.clock.beat(INTERVAL).await;
            turn += 1;
            if turn.is_multiple_of(NOTE_INTERVALS) {
                self.note_committed();
            }
            self.run_flushes().await;
            self.leave_groups().await;
            if self.index == 0 {
                self.keep_metadata_members();
                self.serve_metadata_snapshots();
                self.save_metadata(turn.is_multiple_of(PROGRESS_INTERVALS)).await;
            }
            self.release_log();
        }
    }

    /// Notes how far groups are committed, for the next start.
    fn note_committed(&self) {
        // A log without room has it noted next time, and the log's task meets one that failed.
        if let Ok(true) = self.state.borrow_mut().note_committed() {
            self.wake_log();
        }
    }

    /// Merges files as they become due. A task of its own: a long merge holds up no flush.
    pub(super) async fn run_compactions(self: Rc<Self>) {
        let mut turn: u64 = 0;
        loop {
            self.shared.env.clock.beat(INTERVAL).await;
            if turn.is_multiple_of(PIN_INTERVALS) {
                let (view, now) = (self.view(), self.shared.env.clock.now_seconds());
                let engine = &mut self.state.borrow_mut().engine;
                self.shared.feeds.pins.keep(self.index, &view, now, engine);
            }
            turn += 1;
            // Nothing is forgotten by a clock that is wrong.
            let now = self.trusted_micros().map_or(0, |now| now.div_euclid(1_000_000));
            let job = self.state.borrow_mut().engine.compaction_job(now);
            if let Some(job) = job {
                self.run_job(job).await;
            }
        }
    }

    /// Writes memtables and manifests until none is due.
    async fn run_flushes(self: &Rc<Self>) {
        loop {
            let job = self.state.borrow_mut().next_flush();
            let Some(job) = job else { return };
            if !self.run_job(job).await {
                return;
            }
        }
    }

    /// Runs one job on another thread. Says whether it succeeded.
    pub(super) async fn run_job(self: &Rc<Self>, job: Job) -> bool {
        let kind = job.kind();
        if kind == JobKind::Manifest && !self.sync_log().await {
            self.job_ended.notify_waiters();
            return false;
        }
        let disk = self.shared.env.disk.clone();
        let result = self.shared.env.tasks.run_blocking(move || job.run(&disk)).await;
        self.job_ended.notify_waiters();
        let mut state = self.state.borrow_mut();
        match kind {
            JobKind::Flush => state.counters.flushes += 1,
            JobKind::Compaction => state.counters.compactions += 1,
            JobKind::Manifest => {}
        }
        if let Err(error) = state.engine.finish(result) {
            tracing::error!("shard {}: {kind:?} failed and is tried again: {error}", self.index);
            return false;
        }
        true
    }

    /// Waits until the log holds durably what has been applied so far. False when it has failed: it
    /// takes no more writes, and tables need not keep up with it.
    pub(super) async fn sync_log(&self) -> bool {
        let applied = self.state.borrow().log.log.held();
        match applied {
            Ok(applied) => self.log_durable(applied).await,
            Err(_) => false,
        }
    }

    /// Waits until what the log was given up to a position is durable. False when it has failed.
    pub(super) async fn log_durable(&self, position: LogPosition) -> bool {
        self.state.borrow_mut().log.log.request_sync();
        self.wake_log();
        loop {
            {
                let log = &self.state.borrow().log.log;
                if log.durable() >= position {
                    return true;
                }
                if log.held().is_err() {
                    return false;
                }
            }
            self.settled.notified().await;
        }
    }

    /// Gives up log segments that neither the tables nor followers need.
    fn release_log(&self) {
        let mut state = self.state.borrow_mut();
        let has_closed_segments = state.log.log.closed_segments().next().is_some();
        // A manifest is written in the next turn.
        if has_closed_segments && !state.engine.keeps_placements() {
            return;
        }
        let plan = state.retention_plan();
        state.tell_left_behind(&plan.left_behind);
        let state = &mut *state;
        for (group, index) in &plan.discard {
            state.replicas.discard(*group, *index);
        }
        let unneeded: BTreeMap<GroupId, LogIndex> = plan.discard.into_iter().collect();
        let replicas = &state.replicas;
        let released = state.log.release(|group| {
            unneeded.get(&group).and_then(|index| beginning(replicas, group, *index))
        });
        // A log that failed has ended the shard's writes already, and said so.
        if let Ok(true) = released {
            self.wake_log();
        }
    }

    /// Whether the metadata snapshot has all up to an index, or will not have it since the log has
    /// failed; on shard 0.
    pub(crate) fn has_saved_metadata(&self, index: u64) -> bool {
        let state = self.state.borrow();
        let saved = state.metadata.as_ref().map(|metadata| metadata.saved_index);
        state.failure.is_some() || saved.is_some_and(|saved| saved >= index)
    }

    /// Writes the metadata snapshot when it is behind; with `progress` also if it lacks nothing but
    /// what leaves the metadata's index as it is, such as how far changefeeds have come.
    pub(crate) async fn save_metadata(&self, progress: bool) {
        let is_behind = |state: &ShardState| {
            let Some(metadata) = &state.metadata else { return false };
            let applied = state.replicas.applied(GroupId::METADATA).0;
            let newest = if progress { applied } else { metadata.metadata.index };
            metadata.saved_index < newest
        };
        if !is_behind(&self.state.borrow()) {
            return;
        }
        let _turn = self.metadata_file.lock().await;
        if !is_behind(&self.state.borrow()) {
            return;
        }
        let Some(latest) = self.metadata_snapshot() else { return };
        if !self.sync_log().await {
            return;
        }
        let index = latest.index();
        match self.write_metadata(latest).await {
            Ok(()) => {
                let mut state = self.state.borrow_mut();
                let state = state.metadata.as_mut().expect("shard 0 keeps the metadata group");
                state.saved_index = index;
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Replaces the metadata snapshot, on another thread: a disk that is slow must not keep shard 0
    /// from answering whether this node lives. Whoever calls it holds `metadata_file`.
    pub(super) async fn write_metadata(&self, snapshot: Snapshot) -> Result<(), String> {
        let (disk, path) = (self.shared.env.disk.clone(), self.shared.data.metadata());
        let save = move || {
            let saved = metadata::save(&disk, &path, &snapshot);
            saved.map_err(|error| format!("{}: {error}", path.display()))
        };
        self.shared.env.tasks.run_blocking(save).await
    }

    /// Goes down: what was proposed is applied, and memtables become files.
    pub(super) async fn stop(self: &Rc<Self>) {
        self.hand_over_all(self.deadline_nanos(STOP_WAIT)).await;
        for session in self.sessions.borrow().values() {
            session.kill();
        }
        let deadline = self.deadline_nanos(STOP_WAIT);
        loop {
            let waits_for_others = self.monotonic_nanos() < deadline;
            if !self.state.borrow().waits_for_log(waits_for_others) {
                break;
            }
            tokio::select! {
                () = self.settled.notified() => {}
                () = self.shared.env.clock.sleep_until(deadline), if waits_for_others => {}
            }
        }
        self.note_committed();
        self.write_everything_out().await;
        self.save_metadata(true).await;
        self.release_log();
    }

    /// Leaves nothing in memory that is not in files, but what the disk refuses: the log has that.
    async fn write_everything_out(self: &Rc<Self>) {
        loop {
            let job = {
                let engine = &mut self.state.borrow_mut().engine;
                engine.flush_job(FlushReason::Everything).or_else(|| engine.manifest_job())
            };
            let can_go_on = match job {
                Some(job) => self.run_job(job).await,
                None => self.other_job_ended().await,
            };
            if !can_go_on {
                return;
            }
        }
    }

    /// Waits while another task runs the last job that is left. False when none is left, or the log
    /// has failed, for which no tables are made durable any more.
    async fn other_job_ended(&self) -> bool {
        let ended = {
            let state = self.state.borrow();
            if state.engine.is_written_out() || state.log.log.held().is_err() {
                return false;
            }
            self.job_ended.notified()
        };
        ended.await;
        true
    }
}

impl ShardState {
    /// What of the log is needed no more, and what has to be done to need less of it.
    fn retention_plan(&self) -> Plan {
        let log = &self.log.log;
        let Some((_, oldest)) = log.closed_segments().next() else { return Plan::default() };
        let is_unflushed = |(group, end): (&u64, &u64)| {
            let is_needed = self.engine.needed_index(*group).is_some_and(|first| first <= *end);
            is_needed && *group != GroupId::METADATA.0
        };
        // The usual case is found without looking at every group.
        let bytes: u64 = log.closed_segments().map(|(bytes, _)| bytes).sum();
        if bytes <= self.log_bytes_max / 2 && oldest.iter().any(is_unflushed) {
            return Plan::default();
        }
        let segments: Vec<Segment> = log.closed_segments().map(segment).collect();
        let needed = self.engine.needed_indexes();
        let needs = self.replicas.ids().map(|id| (id, self.needs(id, &needed))).collect();
        // All of it for members of groups that are away, or lag: a node that was away for longer than
        // it takes to write as much needs snapshots.
        let limits = Limits {
            unflushed_bytes_max: self.log_bytes_max / 2,
            followed_bytes_max: self.log_bytes_max,
        };
        plan(&segments, &needs, limits)
    }

    /// What a group needs of the log.
    fn needs(&self, id: GroupId, needed: &BTreeMap<u64, u64>) -> Needs {
        let saved_metadata = self.metadata.as_ref().map_or(u64::MAX, |m| m.saved_index);
        let flushed = match needed.get(&id.0) {
            _ if id == GroupId::METADATA => LogIndex(saved_metadata),
            Some(first) => LogIndex(first - 1),
            None => self.replicas.applied(id),
        };
        // Of a group that is led elsewhere it is not known what others have; but whoever is away
        // lacks what comes meanwhile, and this member may be the leader when it comes back.
        let is_led_here = self.replicas.is_leader(id);
        let is_away = |host: HostId| self.support.supports(host).is_none();
        let followers = if is_led_here {
            let followers = self.replicas.followers(id).into_iter();
            followers.filter_map(|follower| self.needed_behind(id, follower)).collect()
        } else {
            let others = self.replicas.other_members(id);
            others.filter(|host| is_away(*host)).map(|host| (host, LogIndex(0))).collect()
        };
        Needs { flushed, followers }
    }

    /// The index behind which a follower needs entries. Who waits for a snapshot needs none, but
    /// those behind it once it is being sent.
    fn needed_behind(
        &self,
        group: GroupId,
        (host, matched): (HostId, LogIndex),
    ) -> Option<(HostId, LogIndex)> {
        if !self.replicas.needs_snapshot(group, host) {
            return Some((host, matched));
        }
        self.snapshots_sent.get(&(group, host)).map(|base| (host, *base))
    }

    /// Says once of each member of a group led here that the log has not kept what it lacks.
    fn tell_left_behind(&mut self, left_behind: &[(GroupId, HostId)]) {
        for &(group, host) in left_behind {
            if self.replicas.is_leader(group) && self.left_behind.insert((group, host)) {
                tracing::warn!(
                    "group {:016x}: node {} lacks more than the log keeps for those that are \
                     away ({} bytes), and needs a snapshot",
                    group.0,
                    host,
                    self.log_bytes_max
                );
            }
        }
    }

    /// Whether entries are on their way that will still be applied, and, if so wanted, whether others
    /// may yet commit some.
    fn waits_for_log(&self, waits_for_others: bool) -> bool {
        let may_end = |(id, _): &(GroupId, LogIndex)| {
            waits_for_others || self.replicas.is_alone(*id) && !self.replicas.is_held_back(*id)
        };
        self.failure.is_none() && self.replicas.undecided_ends().iter().any(may_end)
    }

    /// The most urgent job that makes memory or log free, if any is due.
    fn next_flush(&mut self) -> Option<Job> {
        if let Some(job) = self.engine.manifest_job() {
            return Some(job);
        }
        // Planning looks at every segment: only for a log that is longer than most.
        if self.log.log.segment_count() > SEGMENTS_UNPLANNED_MAX {
            for GroupId(group) in self.retention_plan().flush {
                if let Some(job) = self.engine.flush_job(FlushReason::Log { group }) {
                    return Some(job);
                }
            }
        }
        self.engine.flush_job(FlushReason::Pressure)
    }
}

/// A segment as the plan takes it.
fn segment((bytes, highest): (u64, &BTreeMap<u64, u64>)) -> Segment {
    let ends = highest.iter().map(|(group, index)| (GroupId(*group), LogIndex(*index)));
    Segment { bytes, ends: ends.collect() }
}
