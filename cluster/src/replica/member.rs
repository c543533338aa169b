//! One member of a group as the shard holds it: the cores, and the entries in memory.

use super::catch_up::CatchUp;
use super::local::{Committed, HeldEntry, PartitionMask};
use crate::consensus::{EntryId, Group, Kind, LogIndex, Recovered, Term};
use crate::leadership::Leadership;
use crate::placement::GroupId;
use crate::ring::HostId;
use env::prefetch::prefetch;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of applied entries that a leader keeps for followers that lack them; what a slower one lacks
/// is read from the log.
const TAIL_BYTES_MAX: usize = if cfg!(test) { 100 } else { 64 << 10 };

/// What an entry counts besides its payload.
const ENTRY_BYTES: usize = 64;

/// Buffers kept for payloads, and the largest of them in bytes: together at most 1 MiB.
const SPARE_PAYLOADS_MAX: usize = 256;
const SPARE_PAYLOAD_BYTES_MAX: usize = 4 << 10;
/// Room for the entry of a write of a few columns, so that it is allocated once.
const PAYLOAD_BYTES_USUAL: usize = 512;

/// A replica as it is found on the disk, or a new one.
#[derive(Clone, Debug, Default)]
pub struct NewReplica {
    /// What the log knows of it.
    pub recovered: Recovered,
    /// The entries after the commit index, to be applied once they are known to be committed; whoever
    /// adds the replica applies those before by itself, and if there are none, all.
    pub entries: Vec<HeldEntry>,
    /// How many other members are preferred as leader.
    pub rank: u32,
    /// The shard of each other member.
    pub shards: Vec<(HostId, u16)>,
}

/// A member of a group.
///
/// Invariants: `entries` are those from `first` on without a gap up to the log's last; those up to
/// `applied` are kept for followers alone.
#[derive(Debug)]
pub(super) struct Replica<W> {
    pub(super) group: Group,
    pub(super) leadership: Leadership,
    /// The shard of each other member.
    pub(super) shards: Vec<(HostId, u16)>,
    entries: VecDeque<Held>,
    /// Who waits for entries that are not applied, by their indexes: few entries have one, and what is
    /// looked at of the others stays small.
    waiters: VecDeque<(LogIndex, W)>,
    /// The index of the first of `entries`, or of the next if there are none.
    first: LogIndex,
    applied: LogIndex,
    /// How far entries are known to be committed and are durable here: applied, or about to be.
    deliverable: LogIndex,
    /// Of the entries that are applied and kept.
    tail_bytes: usize,
    /// Followers whose entries have to be read from the log.
    pub(super) catch_ups: Vec<CatchUp>,
    /// The last entry that was reported as synced and not taken up yet, and its epoch.
    pub(super) synced: Option<(LogIndex, u64)>,
    /// A snapshot is being installed: it takes no input.
    pub(super) is_suspended: bool,
}

#[derive(Debug)]
struct Held {
    entry: HeldEntry,
    partitions: PartitionMask,
}

impl<W> Replica<W> {
    pub(super) fn new(
        group: Group,
        leadership: Leadership,
        commit: LogIndex,
        entries: Vec<HeldEntry>,
        shards: Vec<(HostId, u16)>,
    ) -> Replica<W> {
        let last = group.last().index;
        let applied = if entries.is_empty() { last } else { commit };
        assert!(applied.0 + entries.len() as u64 == last.0, "the entries reach the log's end");
        let partitions = PartitionMask::ALL;
        let held = entries.into_iter().map(|entry| Held { entry, partitions });
        Replica {
            group,
            leadership,
            shards,
            entries: held.collect(),
            waiters: VecDeque::new(),
            first: applied.next(),
            applied,
            deliverable: applied,
            tail_bytes: 0,
            catch_ups: Vec::new(),
            synced: None,
            is_suspended: false,
        }
    }

    /// Begins to fetch what a step touches that the replica points to; waits for the replica itself.
    pub(super) fn look_ahead(&self) {
        self.shards.first().inspect(|shard| prefetch(*shard));
        self.entries.back().inspect(|last| prefetch(*last));
        self.group.look_ahead();
    }

    /// How far entries were handed to the data.
    pub(super) fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Whether something committed cannot be applied yet.
    pub(super) fn is_held_back(&self) -> bool {
        self.applied < self.deliverable
    }

    /// Whether entries may be decided by this member; see [`super::Replicas::may_decide`].
    pub(super) fn may_decide(&self) -> bool {
        let is_busy = self.leadership.is_transferring() || self.is_suspended || self.is_held_back();
        self.group.is_settled() && !is_busy
    }

    /// Whether anything waits to be applied.
    pub(super) fn has_undecided(&self) -> bool {
        self.next() > self.applied.next()
    }

    fn position(&self, index: LogIndex) -> Option<usize> {
        let position = usize::try_from(index.0.checked_sub(self.first.0)?).ok()?;
        (position < self.entries.len()).then_some(position)
    }

    /// An entry in memory.
    pub(super) fn entry(&self, index: LogIndex) -> Option<&HeldEntry> {
        Some(&self.entries.get(self.position(index)?)?.entry)
    }

    /// Adds the entry of that identity; whatever is at and above its index is void. The waiters of
    /// what is void come back.
    #[expect(clippy::inline_always, reason = "what is handed over in memory is waited for")]
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        id: EntryId,
        kind: Kind,
        payload: Vec<u8>,
        partitions: PartitionMask,
        waiter: Option<W>,
        lost: &mut Vec<W>,
    ) {
        if self.next() > id.index {
            self.void_from(id.index, lost);
        }
        assert!(self.next() == id.index, "entries are appended without a gap");
        let entry = HeldEntry { term: id.term, kind, payload };
        self.entries.push_back(Held { entry, partitions });
        if let Some(waiter) = waiter {
            self.waiters.push_back((id.index, waiter));
        }
    }

    /// The index behind the last entry.
    fn next(&self) -> LogIndex {
        LogIndex(self.first.0 + self.entries.len() as u64)
    }

    fn void_from(&mut self, index: LogIndex, lost: &mut Vec<W>) {
        while self.next() > index && self.entries.pop_back().is_some() {}
        while let Some((_, void)) = self.waiters.pop_back_if(|(waits_for, _)| *waits_for >= index) {
            lost.push(void);
        }
    }

    /// The payloads that may touch the partitions, or all, and are not applied, oldest first.
    pub(super) fn undecided(&self, partitions: PartitionMask) -> impl Iterator<Item = &[u8]> {
        let applied_count = (self.applied.0 + 1).saturating_sub(self.first.0);
        let undecided = self.entries.iter().skip(applied_count as usize);
        undecided
            .filter(move |held| {
                let is_meant = held.partitions.0 & partitions.0 != 0;
                (is_meant || partitions == PartitionMask::ALL) && held.entry.kind == Kind::Data
            })
            .map(|held| held.entry.payload.as_slice())
    }

    /// Entries up to an index are committed and durable here. Whether there are any to be applied.
    pub(super) fn deliver(&mut self, up_to: LogIndex) -> bool {
        self.deliverable = up_to.max(self.deliverable);
        self.is_held_back()
    }

    /// What is committed and not applied, as far as an index.
    fn deliverable(&self) -> Range<usize> {
        let start = (self.applied.0 + 1).saturating_sub(self.first.0) as usize;
        let end = (self.deliverable.0 + 1).saturating_sub(self.first.0) as usize;
        assert!(end <= self.entries.len(), "what is committed and not applied is in memory");
        start..end
    }

    /// The entries that are to be applied next.
    pub(super) fn to_apply(&self, group: GroupId) -> impl Iterator<Item = Committed<'_>> {
        let entries = self.entries.range(self.deliverable()).zip(self.applied.0 + 1..);
        entries.map(move |(held, index)| {
            let HeldEntry { term, kind, payload } = &held.entry;
            Committed { group, index: LogIndex(index), term: *term, kind, payload }
        })
    }

    /// Those of them before an entry were applied, or all: says who waited for them.
    pub(super) fn has_applied(&mut self, before: Option<LogIndex>, done: &mut Vec<W>) {
        let to = before.map_or(self.deliverable, |index| LogIndex(index.0 - 1));
        assert!(self.applied <= to && to <= self.deliverable, "what was handed over is applied");
        let range = self.deliverable();
        for held in self.entries.range(range).take((to.0 - self.applied.0) as usize) {
            self.tail_bytes += ENTRY_BYTES + held.entry.payload.len();
        }
        while let Some((_, waiter)) = self.waiters.pop_front_if(|(index, _)| *index <= to) {
            done.push(waiter);
        }
        self.applied = to;
    }

    /// Drops applied entries that no follower needs, or too many of them.
    pub(super) fn trim(&mut self, spare: &mut SparePayloads) {
        let needed_from = self.group.lowest_match().map_or(LogIndex(u64::MAX), LogIndex::next);
        while self.first <= self.applied
            && (self.first < needed_from || self.tail_bytes > TAIL_BYTES_MAX)
            && let Some(held) = self.entries.pop_front()
        {
            self.first = self.first.next();
            self.tail_bytes -= ENTRY_BYTES + held.entry.payload.len();
            spare.keep(held.entry.payload);
        }
    }

    /// The waiters that are picked; their entries stay.
    pub(super) fn take_waiters(&mut self, mut is_wanted: impl FnMut(&W) -> bool) -> Vec<W> {
        let mut wanted = Vec::new();
        let mut at = 0;
        while let Some((_, waiter)) = self.waiters.get(at) {
            if is_wanted(waiter) {
                wanted.extend(self.waiters.remove(at).map(|(_, waiter)| waiter));
            } else {
                at += 1;
            }
        }
        wanted
    }

    /// Whether this member leads a term.
    pub(super) fn leads(&self, term: Term) -> bool {
        self.group.is_leader() && self.group.term() == term
    }

    /// The shard of another member.
    pub(super) fn shard_of(&self, host: HostId) -> Option<u16> {
        self.shards.iter().find(|(other, _)| *other == host).map(|&(_, shard)| shard)
    }

    /// The terms of the entries from `first` on, as runs.
    pub(super) fn terms(&self, first: LogIndex, last: LogIndex) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for index in first.0..=last.0 {
            let Some(term) = self.group.term_at(LogIndex(index)) else { break };
            if runs.last().is_none_or(|&(_, known)| known != term.0) {
                runs.push((index, term.0));
            }
        }
        runs
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.group.check_invariants();
        let end = self.first.0 + self.entries.len() as u64;
        assert_eq!(end, self.group.last().index.0 + 1, "entries in memory reach the end");
        assert!(self.first.0 <= self.applied.0 + 1, "what is not applied is in memory");
        for (held, index) in self.entries.iter().zip(self.first.0..) {
            if let Some(term) = self.group.term_at(LogIndex(index)) {
                assert_eq!(term, held.entry.term, "the entry in memory is the log's");
            }
        }
    }
}

/// Buffers of entries that are needed no more, for the payloads of others.
#[derive(Debug, Default)]
pub(super) struct SparePayloads(Vec<Vec<u8>>);

impl SparePayloads {
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(PAYLOAD_BYTES_USUAL))
    }

    pub(super) fn keep(&mut self, mut payload: Vec<u8>) {
        let is_kept = self.0.len() < SPARE_PAYLOADS_MAX
            && (1..=SPARE_PAYLOAD_BYTES_MAX).contains(&payload.capacity());
        if is_kept {
            payload.clear();
            self.0.push(payload);
        }
    }
}
