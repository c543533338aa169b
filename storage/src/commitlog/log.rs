//! The shard's side of the log: append to memory, submit, learn what is held.
//!
//! ```text
//!   append ──► forming batch ──submit──► in flight ──report──► synced position
//!              (one buffer)              (the other, at the writer)
//! ```
//! One batch is in flight at a time and the next one forms meanwhile, so that the groups grow with
//! the disk's latency and nobody waits on a timer.
//!
//! Invariants, checked by `check_invariants` in the tests:
//! 1. `durable <= synced <= submitted <= appended`, and `submitted > synced` exactly while a batch is in
//!    flight (or the log has failed).
//! 2. The active segment is the last of `segments`, whose sequence numbers follow each other.
//! 3. `used_bytes` is where the writer stands when it has done what was submitted.
//!
//! Does not know what entries mean, which are committed, or which are flushed: it is told.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Weak;

use env::disk::{Disk, OpenMode};

use super::batch::BatchBuffer;
use super::error::{Corruption, LogError};
use super::files::{LogFiles, NewSegment, failed};
use super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, EntryKind, GroupId, Index, MEMBER_BYTES_MAX,
    RECORD_HEADER_BYTES, RecordKind, Term, round_up_to_block,
};
use super::options::{FIRST_SEGMENT_BYTES, LogOptions, STATE_BYTES, SyncMode};
use super::read::{LogRead, ReadPlace, WantedEntries};
use super::replay::{FormerEnd, HardState, LogStart, Replay};
use super::tracked::{GroupState, Tracked};
use super::writer::{Job, LogJob, LogReport, LogWriter};
use model::IdMap;

/// A point in what was appended since the log was opened: bytes of records up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

/// The shard's side of its commit log; see the module's header.
#[derive(Debug)]
pub struct LogCore {
    disk: Disk,
    directory: PathBuf,
    options: LogOptions,
    groups: IdMap<GroupId, GroupState>,
    /// Bytes of the members that are named for all groups, by what was appended last.
    member_bytes: usize,
    /// Groups with records in the forming batch; some may be named twice.
    touched: Vec<GroupId>,
    /// Oldest first; the last one is active.
    segments: VecDeque<SegmentState>,
    /// Bytes of the active segment that are written or submitted.
    used_bytes: u64,
    /// Length of the active segment.
    active_bytes: u64,
    forming: BatchBuffer,
    /// The other buffer, while no batch is in flight.
    resting: BatchBuffer,
    appended: LogPosition,
    submitted: LogPosition,
    synced: LogPosition,
    /// What a sync has covered; in group mode that is `synced`.
    durable: LogPosition,
    is_job_out: bool,
    /// The last job was a write. Other jobs take turns with writes, so that neither waits for ever.
    was_write: bool,
    /// What was appended up to here is to be synced once it is written.
    sync_due: LogPosition,
    /// What the sync that is out covers.
    syncing: Option<LogPosition>,
    is_close_due: bool,
    /// Segments that may be recycled and are not yet, oldest first.
    released: VecDeque<u64>,
    failure: Option<LogError>,
    /// Alive while the replay maps segments of before.
    replay: Weak<()>,
    /// The first segment that the replay has not mapped.
    first_sequence: u64,
}

#[derive(Debug)]
struct SegmentState {
    sequence: u64,
    /// Per group with entries in the segment: the highest index, voided ones included. Nothing in the
    /// active one, of which the groups know it.
    highest: BTreeMap<GroupId, Index>,
}

impl LogCore {
    /// Opens the log in `directory`, creating it if it is missing: verifies what is there and
    /// begins a new segment behind it.
    pub fn open(
        disk: &Disk,
        directory: &Path,
        options: LogOptions,
    ) -> Result<(LogCore, LogWriter, Replay), LogError> {
        options.assert_valid();
        let (files, found) = LogFiles::open(disk, directory, &options)?;
        let mut mapped = Vec::with_capacity(found.len());
        let mut expected = None;
        for (sequence, path) in found {
            if expected.is_some_and(|expected| expected != sequence) {
                let segment = expected.unwrap_or(sequence);
                return Err(LogError::Corrupt {
                    segment,
                    offset: 0,
                    corruption: Corruption::Missing,
                });
            }
            expected = Some(sequence.saturating_add(1));
            let file = disk.open(&path, OpenMode::ReadWrite).map_err(failed("open", &path))?;
            // What a killed process had written is readable and may not be durable yet; nobody may
            // build on it before it is.
            file.sync_data().map_err(failed("sync", &path))?;
            mapped.push((sequence, file.map().map_err(failed("map", &path))?));
        }
        let replay = Replay::scan(options.shard, mapped)?;
        let (last_sequence, previous_end) =
            replay.end().map_or((0, 0), |end| (end.sequence, end.offset));
        let mut core = LogCore::new(disk, directory, options, &replay);
        let mut first = core.next_segment(last_sequence + 1);
        if !files.has_spare() && core.used_bytes <= FIRST_SEGMENT_BYTES / 4 {
            core.active_bytes = core.active_bytes.min(FIRST_SEGMENT_BYTES);
            first.segment_bytes = core.active_bytes;
        }
        core.first_sequence = first.sequence;
        let writer = LogWriter::open(files, options, first, previous_end)?;
        Ok((core, writer, replay))
    }

    fn new(disk: &Disk, directory: &Path, options: LogOptions, replay: &Replay) -> LogCore {
        let found =
            |(id, group): (&GroupId, _), is_removed| (*id, GroupState::found(group, is_removed));
        let here = replay.groups().iter().map(|group| found(group, false));
        let groups = here.chain(replay.removed().iter().map(|group| found(group, true)));
        let members = replay.groups().values().filter_map(|group| group.start_members.as_ref());
        let member_bytes = members.map(|members| members.len()).sum();
        let segments = replay.segments().into_iter();
        LogCore {
            disk: disk.clone(),
            directory: directory.to_owned(),
            options,
            groups: groups.collect(),
            member_bytes,
            touched: Vec::new(),
            segments: segments
                .map(|(sequence, highest)| SegmentState { sequence, highest })
                .collect(),
            used_bytes: 0,
            active_bytes: options.segment_bytes,
            forming: BatchBuffer::default(),
            resting: BatchBuffer::default(),
            appended: LogPosition(0),
            submitted: LogPosition(0),
            synced: LogPosition(0),
            durable: LogPosition(0),
            is_job_out: false,
            was_write: false,
            sync_due: LogPosition(0),
            syncing: None,
            is_close_due: false,
            released: VecDeque::new(),
            failure: None,
            replay: replay.guard(),
            first_sequence: 0,
        }
    }

    /// Appends an entry of data whose bundle is `parts` put together. It voids the group's entries
    /// at and above `index`; a gap is a defect of the caller.
    pub fn append_entry(
        &mut self,
        group: GroupId,
        term: Term,
        index: Index,
        parts: &[&[u8]],
    ) -> Result<LogPosition, LogError> {
        self.append_entry_of_kind(EntryKind::Data, group, term, index, parts)
    }

    /// [`LogCore::append_entry`] for an entry of any kind.
    pub fn append_entry_of_kind(
        &mut self,
        kind: EntryKind,
        group: GroupId,
        term: Term,
        index: Index,
        parts: &[&[u8]],
    ) -> Result<LogPosition, LogError> {
        assert!(index > 0, "a group's first entry has index 1");
        let payload_bytes = parts.iter().map(|part| part.len()).sum();
        let payload_bytes_max = self.options.payload_bytes_max();
        if payload_bytes > payload_bytes_max {
            return Err(LogError::EntryTooLarge { payload_bytes, payload_bytes_max });
        }
        if kind == EntryKind::Data {
            self.check_waiting(payload_bytes, 0)?;
        }
        let state = self.admit(group, payload_bytes)?;
        state.set_present();
        let last = state.last_index.unwrap_or(index);
        assert!(index <= last.saturating_add(1), "entry {index} of group {group} after {last}");
        state.last_index = Some(index);
        state.forming_highest = state.forming_highest.max(index);
        Ok(self.push(kind.record_kind(), (group, term, index), parts))
    }

    /// Appends a group's term and vote.
    pub fn append_hard_state(
        &mut self,
        group: GroupId,
        hard_state: HardState,
    ) -> Result<LogPosition, LogError> {
        let vote = hard_state.vote.map(u128::to_le_bytes);
        let vote = vote.as_ref().map_or(&[][..], |bytes| bytes);
        let state = self.admit(group, vote.len())?;
        state.present().hard_state = hard_state;
        Ok(self.push(RecordKind::HardState, (group, hard_state.term, 0), &[vote]))
    }

    /// Says that the group's log begins after `start`: call it once what is at or below is held
    /// elsewhere (a flush, a snapshot). Entries above stay; a snapshot that conflicts with them
    /// truncates first. A start below the current one changes nothing.
    ///
    /// `members` are those at the start, at most [`MEMBER_BYTES_MAX`], and from then on stand at the
    /// start of every segment: entries that named them may go. None: as was said before, if it was.
    pub fn append_start(
        &mut self,
        group: GroupId,
        start: LogStart,
        members: &[u8],
    ) -> Result<LogPosition, LogError> {
        assert!(members.len() <= MEMBER_BYTES_MAX, "members of that size are not read back");
        self.check_states(group, members.len())?;
        let state = self.admit(group, members.len())?;
        state.last_index = state.last_index.map(|last| last.max(start.index));
        let tracked = state.present();
        let mut former_bytes = 0;
        let mut later_bytes = 0;
        if start.index >= tracked.start.index {
            tracked.start = start;
            if !members.is_empty() {
                let former = tracked.members.replace(members.into());
                former_bytes = former.map_or(0, |former| former.len());
                later_bytes = members.len();
            }
        }
        self.member_bytes = self.member_bytes - former_bytes + later_bytes;
        Ok(self.push(RecordKind::Start, (group, start.term, start.index), &[members]))
    }

    /// Voids the group's entries at and above `index` without a replacement.
    pub fn append_truncate(
        &mut self,
        group: GroupId,
        index: Index,
    ) -> Result<LogPosition, LogError> {
        let state = self.admit(group, 0)?;
        state.set_present();
        state.last_index = state.last_index.map(|last| last.min(index.saturating_sub(1)));
        Ok(self.push(RecordKind::Truncate, (group, 0, index), &[]))
    }

    /// Says that the group's entries up to `index`, which are durable, are committed: a node that
    /// starts need not ask before it applies them. Losing this loses nothing else.
    pub fn append_committed(
        &mut self,
        group: GroupId,
        index: Index,
    ) -> Result<LogPosition, LogError> {
        assert!(index > 0, "a group's first entry has index 1");
        self.admit(group, 0)?.set_present();
        Ok(self.push(RecordKind::Committed, (group, 0, index), &[]))
    }

    /// Forgets the group: its range has left the shard. Its term and its vote stay, and that its log
    /// ended at `end`: should the range come back, the new replica votes by them.
    pub fn append_remove(
        &mut self,
        group: GroupId,
        end: FormerEnd,
    ) -> Result<LogPosition, LogError> {
        // Two records.
        let state = self.admit(group, RECORD_HEADER_BYTES)?;
        state.last_index = None;
        let tracked = state.changed();
        let former_end = end.max(tracked.former_end);
        let hard_state = tracked.hard_state;
        let removed = Tracked { hard_state, former_end, is_removed: true, ..Tracked::default() };
        let members = std::mem::replace(tracked, removed).members;
        self.member_bytes -= members.map_or(0, |members| members.len());
        self.push(RecordKind::FormerEnd, (group, former_end.term, former_end.index), &[]);
        Ok(self.push(RecordKind::Remove, (group, 0, 0), &[]))
    }

    /// What is left of replicas of the group that were removed: the last term and vote, and where the
    /// furthest of their logs ended. All 0 when there was none.
    pub fn former(&self, group: GroupId) -> (HardState, FormerEnd) {
        let tracked = self.groups.get(&group).map(|state| &state.tracked.latest);
        let removed = tracked.filter(|tracked| tracked.is_removed);
        removed.map_or_else(Default::default, |former| (former.hard_state, former.former_end))
    }

    /// Whether an entry of data of that size can be appended now: after a yes, the next append of it
    /// is taken. For a caller who must not number an entry that the log then refuses. Other records
    /// are few, and are taken beyond this (`LogOptions::own_bytes_max`).
    pub fn check_room(&self, group: GroupId, payload_bytes: usize) -> Result<(), LogError> {
        let payload_bytes_max = self.options.payload_bytes_max();
        if payload_bytes > payload_bytes_max {
            return Err(LogError::EntryTooLarge { payload_bytes, payload_bytes_max });
        }
        self.check_waiting(payload_bytes, 0)?;
        self.check_states(group, 0)
    }

    /// The longest payload of an entry.
    pub fn payload_bytes_max(&self) -> usize {
        self.options.payload_bytes_max()
    }

    /// Whether the states of all groups still fit at the start of a segment with this one, whose
    /// members take so much more.
    fn check_states(&self, group: GroupId, member_bytes: usize) -> Result<(), LogError> {
        let group_count = self.groups.len();
        let state_bytes = |count| count * STATE_BYTES + self.member_bytes + member_bytes;
        let fits = |count| state_bytes(count) <= self.options.state_bytes_max();
        // Whether the group is known matters only when the room is nearly used up.
        let is_known = || self.groups.contains_key(&group);
        if fits(group_count + 1) || (is_known() && (member_bytes == 0 || fits(group_count))) {
            return Ok(());
        }
        Err(LogError::TooManyGroups { group_count_max: group_count })
    }

    fn check_waiting(&self, payload_bytes: usize, own_bytes_max: usize) -> Result<(), LogError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let waiting_bytes = self.forming.len() - BATCH_HEADER_BYTES;
        let waiting_bytes_max = self.options.batch_bytes_max() - BATCH_HEADER_BYTES + own_bytes_max;
        if waiting_bytes + RECORD_HEADER_BYTES + payload_bytes > waiting_bytes_max {
            return Err(LogError::LogFull { waiting_bytes, waiting_bytes_max });
        }
        Ok(())
    }

    /// Checks the limits for one more record of the group, and returns the group's state.
    fn admit(&mut self, group: GroupId, payload_bytes: usize) -> Result<&mut GroupState, LogError> {
        self.check_waiting(payload_bytes, self.options.own_bytes_max())?;
        let group_count = self.groups.len();
        let state_bytes = (group_count + 1) * STATE_BYTES + self.member_bytes;
        match self.groups.entry(group) {
            Entry::Vacant(_) if state_bytes > self.options.state_bytes_max() => {
                Err(LogError::TooManyGroups { group_count_max: group_count })
            }
            entry => Ok(entry.or_default()),
        }
    }

    fn push(
        &mut self,
        kind: RecordKind,
        key @ (group, _, _): (GroupId, Term, Index),
        parts: &[&[u8]],
    ) -> LogPosition {
        let before = self.forming.len();
        self.forming.push(kind, key, parts);
        if self.touched.last() != Some(&group) {
            self.touched.push(group);
        }
        self.appended.0 += (self.forming.len() - before) as u64;
        self.appended
    }

    /// The next job for the writer, unless one is out or there is nothing to do. The caller hands
    /// it to [`LogWriter::execute`] on the log's thread and the report to [`LogCore::complete`].
    pub fn next_job(&mut self) -> Option<LogJob> {
        if self.is_job_out || self.failure.is_some() {
            return None;
        }
        let is_write_due = !self.forming.is_empty();
        let is_others_turn = self.was_write || !is_write_due;
        let is_sync_due = self.durable < self.sync_due && self.sync_due <= self.synced;
        let job = if is_sync_due && is_others_turn {
            self.syncing = Some(self.synced);
            Job::Sync
        } else if !self.released.is_empty() && is_others_turn {
            Job::Release { sequences: self.released.pop_front().into_iter().collect() }
        } else if is_write_due {
            self.submit_forming()
        } else if std::mem::take(&mut self.is_close_due) {
            Job::Close
        } else {
            return None;
        };
        self.was_write = matches!(job, Job::Write { .. });
        self.is_job_out = true;
        Some(LogJob(job))
    }

    /// The forming batch, if the active segment has room for it and no batch is out: for a shard
    /// that writes it itself and completes it before it calls anything else here.
    pub(super) fn next_batch(&mut self) -> Option<(BatchBuffer, LogPosition)> {
        let is_batch_out = self.submitted > self.synced;
        if self.failure.is_some() || is_batch_out || self.forming.is_empty() || !self.has_room() {
            return None;
        }
        Some(self.take_forming())
    }

    fn has_room(&self) -> bool {
        self.used_bytes + round_up_to_block(self.forming.len() as u64) <= self.active_bytes
    }

    fn submit_forming(&mut self) -> Job {
        let mut new_segment = None;
        if !self.has_room() {
            let active = self.segments.back().expect("opening begins a segment and it stays");
            new_segment = Some(self.next_segment(active.sequence + 1));
        }
        let (batch, through) = self.take_forming();
        Job::Write { batch, through, new_segment }
    }

    /// Takes the forming batch for writing and begins another.
    fn take_forming(&mut self) -> (BatchBuffer, LogPosition) {
        self.used_bytes += round_up_to_block(self.forming.len() as u64);
        self.submitted = self.appended;
        for id in self.touched.drain(..) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.submit();
            }
        }
        let batch = std::mem::replace(&mut self.forming, std::mem::take(&mut self.resting));
        (batch, self.submitted)
    }

    /// Makes `sequence` the active segment: it begins with the groups' states.
    fn next_segment(&mut self, sequence: u64) -> NewSegment {
        self.close_active();
        let mut states = BatchBuffer::default();
        let mut ids: Vec<GroupId> = self.groups.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(tracked) = &self.groups[&id].tracked.submitted else { continue };
            let Tracked { hard_state, former_end, is_removed, start, members, .. } = tracked;
            let vote = hard_state.vote.map(u128::to_le_bytes);
            let vote = vote.as_ref().map_or(&[][..], |bytes| bytes);
            states.push(RecordKind::HardState, (id, hard_state.term, 0), &[vote]);
            if *former_end != FormerEnd::default() {
                let key = (id, former_end.term, former_end.index);
                states.push(RecordKind::FormerEnd, key, &[]);
            }
            let is_begun = *start != LogStart::default() || members.is_some();
            if *is_removed {
                states.push(RecordKind::Remove, (id, 0, 0), &[]);
            } else if is_begun {
                let members = members.as_deref().unwrap_or_default();
                states.push(RecordKind::Start, (id, start.term, start.index), &[members]);
            }
        }
        self.used_bytes = BLOCK_BYTES + round_up_to_block(states.len() as u64);
        self.segments.push_back(SegmentState { sequence, highest: BTreeMap::new() });
        self.active_bytes = self.options.segment_bytes;
        NewSegment { sequence, segment_bytes: self.active_bytes, states }
    }

    /// What the groups know of the active segment is the segment's from here on.
    fn close_active(&mut self) {
        let Some(active) = self.segments.back_mut() else { return };
        let held = self.groups.iter_mut().filter(|(_, group)| group.active_highest > 0);
        active.highest.extend(held.map(|(id, g)| (*id, std::mem::take(&mut g.active_highest))));
    }

    /// Takes the writer's report on the job that was out.
    pub fn complete(&mut self, report: LogReport) -> Result<(), LogError> {
        let mut sync_done = None;
        if !report.is_unasked {
            assert!(self.is_job_out, "a report came without a job");
            self.is_job_out = false;
            sync_done = self.syncing.take();
        }
        if let Err(error) = report.result {
            self.fail(error.clone());
            return Err(error);
        }
        if let Some((mut batch, through)) = report.written {
            batch.clear();
            self.resting = batch;
            self.synced = through;
        }
        self.durable = match self.options.sync {
            SyncMode::Group => self.synced,
            SyncMode::Periodic { .. } => sync_done.unwrap_or(self.durable),
        };
        Ok(())
    }

    /// Poisons the log: nothing is acknowledged any more.
    pub(super) fn fail(&mut self, error: LogError) {
        self.failure.get_or_insert(error);
    }

    /// The position up to which this node holds what was appended: synced in group mode, written in
    /// periodic mode. The log's failure, once it has failed.
    pub fn synced(&self) -> Result<LogPosition, LogError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.synced),
        }
    }

    /// The position up to which no power cut takes back what was appended, in either mode, as far
    /// as is known here. Stands still once the log has failed.
    pub fn durable(&self) -> LogPosition {
        self.durable
    }

    /// The number of the segment that this opening began; it is durable.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// The position behind everything appended.
    pub fn appended(&self) -> LogPosition {
        self.appended
    }

    /// Whether the writer has a job.
    pub fn is_job_out(&self) -> bool {
        self.is_job_out
    }

    /// Lets what was appended so far be synced once it is written; [`LogCore::durable`] says when
    /// it is. In group mode there is nothing to do.
    pub fn request_sync(&mut self) {
        self.sync_due = self.appended;
    }

    /// Lets the last job leave proof that all was synced, see the format page. For a node that goes
    /// down; nothing may be appended after.
    pub fn request_close(&mut self) {
        self.is_close_due = true;
    }

    /// Gives up the oldest segments in which every entry is at or below its group's `flushed`
    /// index, for recycling. For a group that has left the shard `flushed` is [`Index::MAX`].
    /// Returns how many; none while the [`Replay`] still has them mapped.
    pub fn release(&mut self, flushed: impl Fn(GroupId) -> Index) -> usize {
        let before = self.released.len();
        while self.segments.len() > 1 {
            let oldest = &self.segments[0];
            let is_mapped = oldest.sequence < self.first_sequence && self.replay.strong_count() > 0;
            if is_mapped || oldest.highest.iter().any(|(group, highest)| *highest > flushed(*group))
            {
                break;
            }
            self.released.extend(self.segments.pop_front().map(|oldest| oldest.sequence));
        }
        self.released.len() - before
    }

    /// Where a reading of a group's entries from `first` on begins to look; nothing if no segment has
    /// any of them.
    pub fn read_start(&self, group: GroupId, first: Index) -> Option<ReadPlace> {
        let sequence = self.holders(group, first).next()?;
        Some(ReadPlace::start_of(sequence))
    }

    /// A reading of entries of groups, in one pass; see [`LogRead`].
    pub fn read(&self, wanted: Vec<WantedEntries>) -> LogRead {
        let held = wanted.iter().flat_map(|wanted| self.holders(wanted.group, wanted.first));
        let segments: BTreeSet<u64> = held.collect();
        let segments = segments.into_iter().collect();
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        LogRead::new(disk, directory, self.options.shard, segments, wanted)
    }

    /// The segments that have entries of a group from `first` on, oldest first.
    fn holders(&self, group: GroupId, first: Index) -> impl Iterator<Item = u64> {
        let active = self.segments.back().map(|active| active.sequence);
        let highest = self.groups.get(&group).map_or(0, |state| state.active_highest);
        let is_held = move |index: &Index| *index >= first;
        let closed = self
            .segments
            .iter()
            .filter(move |segment| segment.highest.get(&group).is_some_and(is_held));
        let closed = closed.map(|segment| segment.sequence);
        closed.chain(active.filter(|_| highest > 0 && is_held(&highest)))
    }

    /// How many segments the log has, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The segments that are not written to any more, oldest first: their length, and the highest
    /// index of each group that has entries in them.
    pub fn closed_segments(&self) -> impl Iterator<Item = (u64, &BTreeMap<GroupId, Index>)> {
        let closed = self.segments.len().saturating_sub(1);
        let length = self.options.segment_bytes;
        self.segments.iter().take(closed).map(move |segment| (length, &segment.highest))
    }

    /// Whose unflushed entries hold the oldest segment, and up to which index: flushing these
    /// makes room. Empty when the log has only its active segment.
    pub fn oldest_holders(&self) -> impl Iterator<Item = (GroupId, Index)> {
        let oldest = self.segments.front().filter(|_| self.segments.len() > 1);
        oldest.into_iter().flat_map(|segment| segment.highest.iter().map(|(id, i)| (*id, *i)))
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.durable <= self.synced, "durable is ahead of synced");
        assert!(self.synced <= self.submitted, "synced is ahead of submitted");
        assert!(self.submitted <= self.appended, "submitted is ahead of appended");
        if self.failure.is_none() && !self.is_job_out {
            assert_eq!(self.synced, self.submitted, "a batch was lost");
        }
        for (one, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            assert_eq!(one.sequence + 1, next.sequence, "segments leave a gap");
        }
        assert!(self.used_bytes <= self.active_bytes, "the segment is overfull");
        assert!(self.used_bytes.is_multiple_of(BLOCK_BYTES), "blocks are shared");
    }
}
