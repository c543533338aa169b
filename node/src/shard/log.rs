//! The shard's commit log as the log of its replicas.

use cluster::consensus::{EntryId, HardState, Kind, LogIndex, Membership, Term};
use cluster::replica::{HeldEntry, LocalLog, LogPosition};
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use storage::commitlog::{
    CommitLog, EntryKind, FormerEnd, HardState as StoredHardState, LogError,
    LogPosition as StoredPosition, LogStart, Replay,
};

/// Where a group's log may begin.
pub(super) struct Beginning {
    /// The last entry that it does not need.
    pub entry: EntryId,
    /// The members there, in the log's form; nothing if the log has said so before.
    pub members: Vec<u8>,
}

/// The log as the replicas see it.
pub(super) struct ShardLog {
    pub log: CommitLog,
    /// By group, the index behind which its log begins, as the log itself says and holds.
    starts: BTreeMap<u64, u64>,
    /// Starts that were appended, and count once this position is durable.
    new_starts: Option<(StoredPosition, BTreeMap<u64, u64>)>,
}

impl ShardLog {
    /// A log as it was opened.
    pub(super) fn new(log: CommitLog, replay: &Replay) -> Self {
        let starts = replay.groups().iter().map(|(id, group)| (*id, group.start.index));
        ShardLog { log, starts: starts.collect(), new_starts: None }
    }

    /// Gives up the oldest segments whose entries nobody needs from the log: `unneeded` names a
    /// group's last such entry. Says whether the log has something to write or to recycle.
    ///
    /// A segment goes only after it is durable where its groups begin without it. Else the first
    /// entry found after a restart would follow on nothing, or, with no entry left, a group would
    /// count from the beginning again and its new entries would pass for ones in tables.
    pub(super) fn release(
        &mut self,
        unneeded: impl Fn(GroupId) -> Option<Beginning>,
    ) -> Result<bool, LogError> {
        let durable = self.log.held().map(|_| self.log.durable())?;
        if let Some((_, starts)) = self.new_starts.take_if(|(position, _)| *position <= durable) {
            self.starts.extend(starts);
        }
        let released = self.log.release(|group| self.starts.get(&group).copied().unwrap_or(0));
        let is_appended = self.new_starts.is_none() && self.append_starts(unneeded)?;
        Ok(released > 0 || is_appended)
    }

    /// Says where the groups of the oldest segment begin without it, if all of them can do so.
    fn append_starts(
        &mut self,
        unneeded: impl Fn(GroupId) -> Option<Beginning>,
    ) -> Result<bool, LogError> {
        let mut starts = BTreeMap::new();
        for (group, highest) in self.log.oldest_holders() {
            if self.starts.get(&group).is_some_and(|start| *start >= highest) {
                continue;
            }
            match unneeded(GroupId(group)) {
                Some(start) if start.entry.index.0 >= highest => starts.insert(group, start),
                _ => return Ok(false),
            };
        }
        for (group, Beginning { entry, members }) in &starts {
            let start = LogStart { index: entry.index.0, term: entry.term.0 };
            self.log.append_start(*group, start, members)?;
        }
        let is_any = !starts.is_empty();
        if is_any {
            let indexes = starts.into_iter().map(|(group, start)| (group, start.entry.index.0));
            self.new_starts = Some((self.log.appended(), indexes.collect()));
            self.log.request_sync();
        }
        Ok(is_any)
    }

    /// The index behind which a group's log begins, as the log says and holds.
    pub(super) fn start(&self, group: GroupId) -> u64 {
        self.starts.get(&group.0).copied().unwrap_or(0)
    }

    /// A snapshot takes the place of all that the log holds of a group, up to `last`.
    pub(super) fn begin_after(
        &mut self,
        group: GroupId,
        last: LogIndex,
        start: LogStart,
    ) -> Result<(), LogError> {
        if last.0 > start.index {
            // What follows there is not what was committed.
            self.log.append_truncate(group.0, start.index + 1)?;
        }
        self.log.append_start(group.0, start, &[]).map(|_| ())
    }

    /// Says that a group begins behind a snapshot of its data, with the members there; what the log
    /// has behind that is void if it contradicts it. It is so once this position is durable, when
    /// [`ShardLog::has_begun_behind`] is to be told.
    pub(super) fn begin_behind(
        &mut self,
        group: GroupId,
        base: EntryId,
        members: &Membership,
        voids_tail: bool,
    ) -> Result<StoredPosition, LogError> {
        let mut bytes = Vec::with_capacity(members.encoded_bytes());
        members.encode(&mut bytes);
        if voids_tail {
            self.log.append_truncate(group.0, base.index.0 + 1)?;
        }
        let start = LogStart { index: base.index.0, term: base.term.0 };
        self.log.append_start(group.0, start, &bytes)
    }

    /// A beginning behind a snapshot is durable.
    pub(super) fn has_begun_behind(&mut self, group: GroupId, base: EntryId) {
        let start = self.starts.entry(group.0).or_default();
        *start = base.index.0.max(*start);
    }

    /// Begins a group that has other members than this node.
    pub(super) fn begin(&mut self, group: GroupId, members: &Membership) -> Result<(), LogError> {
        let mut bytes = Vec::with_capacity(members.encoded_bytes());
        members.encode(&mut bytes);
        // What older segments have of a former life counts again until the log begins behind it.
        self.starts.remove(&group.0);
        self.log.append_start(group.0, LogStart::default(), &bytes).map(|_| ())
    }

    /// Forgets a group whose last entry is this: nobody here needs any of its entries. It is so once
    /// that position is durable.
    pub(super) fn remove(
        &mut self,
        group: GroupId,
        last: EntryId,
    ) -> Result<StoredPosition, LogError> {
        let end = FormerEnd { term: last.term.0, index: last.index.0 };
        let position = self.log.append_remove(group.0, end)?;
        self.log.request_sync();
        Ok(position)
    }

    /// Whether it is durable that a group was removed, which the log said at that position. Then its
    /// segments may go.
    pub(super) fn has_removed(&mut self, group: GroupId, position: StoredPosition) -> bool {
        let is_durable = position <= self.log.durable();
        if is_durable {
            self.starts.insert(group.0, u64::MAX);
        }
        is_durable
    }

    /// The term and vote of the last replica of a group that was removed here, and where the log of
    /// any of them ended.
    pub(super) fn former(&self, group: GroupId) -> (HardState, EntryId) {
        let (hard_state, end) = self.log.former(group.0);
        (vote_of(hard_state), former_last(end))
    }

    /// Waits for the next report of the log's thread.
    pub(super) fn poll_completed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), LogError>> {
        let completed = std::pin::pin!(self.log.completed());
        completed.poll(context).map_ok(|_| ())
    }

    /// Writes what was appended or hands it over, and says what is held by now.
    pub(super) fn submit(&mut self) -> Result<LogPosition, LogError> {
        self.log.poll_synced().map(|position| LogPosition(position.0))
    }
}

impl LocalLog for ShardLog {
    type Error = LogError;

    fn admit(&self, group: GroupId, payload_bytes: usize) -> Result<(), LogError> {
        self.log.check_room(group.0, payload_bytes)
    }

    fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    fn append(
        &mut self,
        group: GroupId,
        entry: EntryId,
        kind: &Kind,
        payload: &[u8],
    ) -> Result<LogPosition, LogError> {
        let (term, index) = (entry.term.0, entry.index.0);
        let mut members = Vec::new();
        let stored = match kind {
            Kind::Data => EntryKind::Data,
            Kind::NoOp => EntryKind::NoOp,
            Kind::Membership(membership) => {
                membership.encode(&mut members);
                EntryKind::Membership
            }
        };
        let parts: [&[u8]; 2] = [&members, payload];
        let position = self.log.append_entry_of_kind(stored, group.0, term, index, &parts)?;
        Ok(LogPosition(position.0))
    }

    fn save_vote(&mut self, group: GroupId, vote: HardState) -> Result<LogPosition, LogError> {
        let vote_of = vote.voted_for.map(|HostId(id)| id);
        let stored = StoredHardState { term: vote.term.0, vote: vote_of };
        Ok(LogPosition(self.log.append_hard_state(group.0, stored)?.0))
    }
}

/// A term and vote as the log has them.
pub(super) fn vote_of(stored: StoredHardState) -> HardState {
    HardState { term: Term(stored.term), voted_for: stored.vote.map(HostId) }
}

/// The last entry of a replica that was removed.
pub(super) fn former_last(end: FormerEnd) -> EntryId {
    EntryId { index: LogIndex(end.index), term: Term(end.term) }
}

/// An entry of the log as the replicas hold it; nothing if its members cannot be read.
pub(super) fn held_entry(term: u64, kind: EntryKind, mut payload: Vec<u8>) -> Option<HeldEntry> {
    let kind = match kind {
        EntryKind::Data => Kind::Data,
        EntryKind::NoOp => Kind::NoOp,
        EntryKind::Membership => {
            let (members, rest) = Membership::decode(&payload).ok()?;
            let member_bytes = payload.len() - rest.len();
            payload.drain(..member_bytes);
            Kind::Membership(Arc::new(members))
        }
    };
    Some(HeldEntry { term: Term(term), kind, payload })
}
