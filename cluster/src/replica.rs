//! The replicas that one shard of this node holds: each group's consensus core, wired to the
//! shard's log and to its data.
//!
//! An entry is proposed, held by the log, committed, applied and answered, in that order, and this
//! module is the order: [`Replicas::propose`] appends, [`Replicas::log_synced`] hears that the log
//! holds entries, applies what became committed and gives back the waiters of those entries. Between
//! the two an entry is *undecided*: not visible to readers, but visible to whatever has to read
//! before it writes ([`Replicas::undecided`]), since it will be applied before anything proposed now.
//!
//! It knows neither bytes nor disk: the log and the data are behind [`LocalLog`] and [`LocalState`],
//! and payloads are opaque but for a mask of the partitions they touch.

use crate::consensus::{
    Effect, EntryId, Group, HardState, Input, Kind, LogIndex, Recovered, RecoveryError, Refusal,
    Term,
};
use crate::placement::GroupId;
use crate::ring::HostId;
use model::IdMap;
use std::collections::VecDeque;

/// A point in the shard's log: everything before it is older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(pub u64);

/// The shard's log, which all its groups share.
pub trait LocalLog {
    /// Why the log takes nothing.
    type Error;

    /// Whether an entry of that size can be appended now. After a yes, the next append of it
    /// fails only if the log itself has failed.
    fn admit(&self, group: GroupId, payload_bytes: usize) -> Result<(), Self::Error>;

    /// Appends an entry; it voids the group's entries at and above its index.
    fn append(
        &mut self,
        group: GroupId,
        entry: EntryId,
        payload: &[u8],
    ) -> Result<LogPosition, Self::Error>;

    /// Appends a group's term and vote.
    fn save_vote(&mut self, group: GroupId, vote: HardState) -> Result<LogPosition, Self::Error>;
}

/// The data that committed entries are applied to.
pub trait LocalState {
    /// Merges a committed entry; a leader's first entry has no payload.
    fn apply(&mut self, group: GroupId, index: LogIndex, payload: &[u8]);
}

/// Which partitions an entry may touch: one bit each of 64, by a hash of the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMask(pub u64);

impl PartitionMask {
    /// The mask of one partition, by any hash of it that is the same everywhere in this process.
    pub fn of(hash: u64) -> Self {
        PartitionMask(1 << (hash >> 58))
    }

    /// The mask of both.
    #[must_use]
    pub fn and(self, other: PartitionMask) -> Self {
        PartitionMask(self.0 | other.0)
    }
}

/// Why an entry was not proposed.
#[derive(Debug, PartialEq, Eq)]
pub enum ProposeError<E> {
    /// This shard holds no replica of the group.
    UnknownGroup,
    /// Another member leads, or none does.
    NotLeader,
    /// The log did not take it.
    Log(E),
}

/// The replicas of one shard. `W` is what waits for an entry: it comes back once.
#[derive(Debug)]
pub struct Replicas<W> {
    me: HostId,
    groups: IdMap<GroupId, Replica<W>>,
    /// What was appended and is not known to be held yet, in the order of the log.
    unsynced: VecDeque<Unsynced>,
    effects: Vec<Effect>,
    /// Buffers of entries that were applied, for the payloads of others.
    spare_payloads: Vec<Vec<u8>>,
}

/// Buffers kept for payloads, and the largest of them in bytes: together at most 1 MiB.
const SPARE_PAYLOADS_MAX: usize = 256;
const SPARE_PAYLOAD_BYTES_MAX: usize = 4 << 10;
/// Room for the entry of a write of a few columns, so that it is allocated once.
const PAYLOAD_BYTES_USUAL: usize = 512;

#[derive(Debug)]
struct Replica<W> {
    group: Group,
    /// Appended by this node and not committed, by index, without gaps.
    undecided: VecDeque<Undecided<W>>,
}

#[derive(Debug)]
struct Undecided<W> {
    index: LogIndex,
    partitions: PartitionMask,
    payload: Vec<u8>,
    waiter: Option<W>,
}

#[derive(Clone, Copy, Debug)]
struct Unsynced {
    position: LogPosition,
    group: GroupId,
    what: UnsyncedKind,
}

#[derive(Clone, Copy, Debug)]
enum UnsyncedKind {
    Entry { index: LogIndex, log_epoch: u64 },
    Vote(HardState),
}

/// What came of the entries that a call decided.
#[derive(Debug)]
pub struct Decided<W> {
    /// Applied here, in this order.
    pub applied: Vec<W>,
    /// Proposed by a leader that stepped down: they may or may not be applied later.
    pub unknown: Vec<W>,
}

impl<W> Default for Decided<W> {
    fn default() -> Self {
        Decided { applied: Vec::new(), unknown: Vec::new() }
    }
}

impl<W> Replicas<W> {
    /// No replicas yet, on this node.
    pub fn new(me: HostId) -> Self {
        Replicas {
            me,
            groups: IdMap::default(),
            unsynced: VecDeque::new(),
            effects: Vec::new(),
            spare_payloads: Vec::new(),
        }
    }

    /// Adds a replica as it was found in the log, or a new one.
    pub fn add(&mut self, id: GroupId, recovered: Recovered) -> Result<(), RecoveryError> {
        let group = Group::recover(self.me, recovered)?;
        let former = self.groups.insert(id, Replica { group, undecided: VecDeque::new() });
        assert!(former.is_none(), "a replica of group {id:?} was added twice");
        Ok(())
    }

    /// Whether this shard has a replica of the group.
    pub fn contains(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
    }

    /// The groups in order of their ids.
    pub fn ids(&self) -> impl Iterator<Item = GroupId> + use<W> {
        let mut ids: Vec<_> = self.groups.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// An empty buffer for the payload of a proposal.
    pub fn payload_buffer(&mut self) -> Vec<u8> {
        self.spare_payloads.pop().unwrap_or_else(|| Vec::with_capacity(PAYLOAD_BYTES_USUAL))
    }

    /// Whether this node leads the group and knows everything that was committed before.
    pub fn is_settled(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|r| r.group.is_settled())
    }

    /// How far the group's log is committed.
    pub fn commit(&self, id: GroupId) -> LogIndex {
        self.groups.get(&id).map_or(LogIndex(0), |r| r.group.commit())
    }

    /// The term of the group's entry at `index`; nothing if it is not in the log.
    pub fn term_at(&self, id: GroupId, index: LogIndex) -> Option<Term> {
        self.groups.get(&id)?.group.term_at(index)
    }

    /// The group's last entry on this node, committed or not.
    pub fn last_index(&self, id: GroupId) -> LogIndex {
        self.groups.get(&id).map_or(LogIndex(0), |r| r.group.last().index)
    }

    /// The last entry of each group that has undecided ones.
    pub fn undecided_ends(&self) -> Vec<(GroupId, LogIndex)> {
        let ends = self.groups.iter().filter_map(|(id, r)| Some((*id, r.undecided.back()?.index)));
        ends.collect()
    }

    /// Whether anything waits to be committed.
    pub fn has_undecided(&self) -> bool {
        self.groups.values().any(|r| !r.undecided.is_empty())
    }

    /// Stands for election in a group; a group of one member is led as soon as the log holds the
    /// vote.
    pub fn campaign<L: LocalLog>(&mut self, id: GroupId, log: &mut L) -> Result<(), L::Error> {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.group.step(Input::Campaign, &mut self.effects);
        }
        self.carry_out(id, log, &mut NoState, &mut Decided::default())
    }

    /// Appends an entry to a group that this node leads. The waiter, made when it was appended,
    /// comes back from [`Replicas::log_synced`]; on an error nothing was appended.
    pub fn propose<L: LocalLog>(
        &mut self,
        id: GroupId,
        payload: Vec<u8>,
        partitions: PartitionMask,
        waiter: impl FnOnce() -> W,
        log: &mut L,
    ) -> Result<LogIndex, ProposeError<L::Error>> {
        let replica = self.groups.get_mut(&id).ok_or(ProposeError::UnknownGroup)?;
        if !replica.group.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        log.admit(id, payload.len()).map_err(ProposeError::Log)?;
        replica.group.step(Input::Propose, &mut self.effects);
        let mut appended = None;
        for effect in &self.effects {
            match effect {
                Effect::Append { entry, kind: Kind::Data, log_epoch } => {
                    appended = Some((*entry, *log_epoch));
                }
                Effect::Refused(Refusal::NotLeader { .. }) => {}
                other => unreachable!("one member sends nothing: {other:?}"),
            }
        }
        self.effects.clear();
        let (entry, log_epoch) = appended.ok_or(ProposeError::NotLeader)?;
        let position = log.append(id, entry, &payload).map_err(ProposeError::Log)?;
        let what = UnsyncedKind::Entry { index: entry.index, log_epoch };
        self.unsynced.push_back(Unsynced { position, group: id, what });
        let waiter = Some(waiter());
        replica.undecided.push_back(Undecided { index: entry.index, partitions, payload, waiter });
        Ok(entry.index)
    }

    /// The payloads of the group's undecided entries that may touch the partitions, oldest first.
    pub fn undecided(&self, id: GroupId, partitions: PartitionMask) -> impl Iterator<Item = &[u8]> {
        let entries = self.groups.get(&id).map(|r| r.undecided.iter()).into_iter().flatten();
        entries
            .filter(move |entry| entry.partitions.0 & partitions.0 != 0)
            .map(|entry| entry.payload.as_slice())
    }

    /// Hears that the log holds everything before `position`: applies what is committed by that,
    /// and hands back the waiters.
    pub fn log_synced<L: LocalLog>(
        &mut self,
        position: LogPosition,
        log: &mut L,
        state: &mut impl LocalState,
        decided: &mut Decided<W>,
    ) -> Result<(), L::Error> {
        while let Some(unsynced) = self.unsynced.pop_front_if(|u| u.position <= position) {
            let id = unsynced.group;
            let Some(replica) = self.groups.get_mut(&id) else { continue };
            let input = match unsynced.what {
                UnsyncedKind::Vote(vote) => Input::VoteSynced(vote),
                UnsyncedKind::Entry { index, log_epoch } => {
                    Input::LogSynced { up_to: index, log_epoch }
                }
            };
            replica.group.step(input, &mut self.effects);
            self.carry_out(id, log, state, decided)?;
        }
        Ok(())
    }

    /// Hands back the waiters that `is_late` picks; their entries go on.
    pub fn take_waiters(&mut self, mut is_late: impl FnMut(&W) -> bool) -> Vec<W> {
        let entries = self.groups.values_mut().flat_map(|r| r.undecided.iter_mut());
        entries.filter_map(|entry| entry.waiter.take_if(|w| is_late(w))).collect()
    }

    /// Hands back every waiter: the log has failed, and what it would have held is unknown.
    pub fn abandon(&mut self) -> Vec<W> {
        let replicas = self.groups.values_mut();
        replicas.flat_map(|r| r.undecided.drain(..)).filter_map(|u| u.waiter).collect()
    }

    fn carry_out<L: LocalLog>(
        &mut self,
        id: GroupId,
        log: &mut L,
        state: &mut impl LocalState,
        decided: &mut Decided<W>,
    ) -> Result<(), L::Error> {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::SaveVote(vote) => {
                    let position = log.save_vote(id, vote)?;
                    let what = UnsyncedKind::Vote(vote);
                    self.unsynced.push_back(Unsynced { position, group: id, what });
                }
                Effect::Append { entry, log_epoch, .. } => {
                    let position = log.append(id, entry, &[])?;
                    let what = UnsyncedKind::Entry { index: entry.index, log_epoch };
                    self.unsynced.push_back(Unsynced { position, group: id, what });
                    self.push_empty(id, entry.index);
                }
                Effect::Committed { up_to } => self.apply(id, up_to, state, decided),
                Effect::SteppedDown => self.give_up(id, decided),
                Effect::BecameLeader { .. } | Effect::Refused(_) => {}
                Effect::Send { .. }
                | Effect::SendAppend { .. }
                | Effect::AppendReceived { .. }
                | Effect::SnapshotNeeded { .. } => {
                    unreachable!("groups have one member until nodes can speak to each other")
                }
            }
        }
        self.effects = effects;
        Ok(())
    }

    fn push_empty(&mut self, id: GroupId, index: LogIndex) {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.undecided.push_back(Undecided {
                index,
                partitions: PartitionMask::default(),
                payload: Vec::new(),
                waiter: None,
            });
        }
    }

    fn apply(
        &mut self,
        id: GroupId,
        up_to: LogIndex,
        state: &mut impl LocalState,
        decided: &mut Decided<W>,
    ) {
        let Some(replica) = self.groups.get_mut(&id) else { return };
        while let Some(entry) = replica.undecided.pop_front_if(|e| e.index <= up_to) {
            state.apply(id, entry.index, &entry.payload);
            decided.applied.extend(entry.waiter);
            let mut payload = entry.payload;
            let is_kept = self.spare_payloads.len() < SPARE_PAYLOADS_MAX
                && (1..=SPARE_PAYLOAD_BYTES_MAX).contains(&payload.capacity());
            if is_kept {
                payload.clear();
                self.spare_payloads.push(payload);
            }
        }
    }

    fn give_up(&mut self, id: GroupId, decided: &mut Decided<W>) {
        let Some(replica) = self.groups.get_mut(&id) else { return };
        decided.unknown.extend(replica.undecided.drain(..).filter_map(|entry| entry.waiter));
    }
}

/// Nothing is committed by a campaign alone.
struct NoState;

impl LocalState for NoState {
    fn apply(&mut self, group: GroupId, index: LogIndex, _: &[u8]) {
        unreachable!("entry {index:?} of {group:?} was committed by a campaign");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Membership;
    use std::sync::Arc;

    const ME: HostId = HostId(7);

    /// A log in memory: positions count records, and the test says what is held.
    #[derive(Default)]
    struct TestLog {
        records: Vec<(GroupId, Option<LogIndex>)>,
        is_full: bool,
    }

    impl LocalLog for TestLog {
        type Error = &'static str;

        fn admit(&self, _: GroupId, _: usize) -> Result<(), &'static str> {
            if self.is_full { Err("full") } else { Ok(()) }
        }

        fn append(
            &mut self,
            group: GroupId,
            entry: EntryId,
            _: &[u8],
        ) -> Result<LogPosition, &'static str> {
            self.records.push((group, Some(entry.index)));
            Ok(LogPosition(self.records.len() as u64))
        }

        fn save_vote(&mut self, group: GroupId, _: HardState) -> Result<LogPosition, &'static str> {
            self.records.push((group, None));
            Ok(LogPosition(self.records.len() as u64))
        }
    }

    #[derive(Default)]
    struct TestState(Vec<(GroupId, u64, Vec<u8>)>);

    impl LocalState for TestState {
        fn apply(&mut self, group: GroupId, index: LogIndex, payload: &[u8]) {
            self.0.push((group, index.0, payload.to_vec()));
        }
    }

    fn recovered() -> Recovered {
        let members = Arc::new(Membership::of_voters([ME]));
        Recovered { memberships: vec![(LogIndex(0), members)], ..Recovered::default() }
    }

    fn sync_all(
        replicas: &mut Replicas<u32>,
        log: &mut TestLog,
        state: &mut TestState,
    ) -> Vec<u32> {
        let mut decided = Decided::default();
        loop {
            let position = LogPosition(log.records.len() as u64);
            replicas.log_synced(position, log, state, &mut decided).unwrap();
            if position.0 == log.records.len() as u64 {
                return decided.applied;
            }
        }
    }

    #[test]
    fn an_entry_is_applied_and_answered_only_once_the_log_holds_it() {
        let (group, other) = (GroupId(1), GroupId(2));
        let (mut replicas, mut log, mut state) =
            (Replicas::new(ME), TestLog::default(), TestState::default());
        for id in [group, other] {
            replicas.add(id, recovered()).unwrap();
            assert_eq!(
                replicas.propose(id, vec![1], PartitionMask(1), || 0, &mut log),
                Err(ProposeError::NotLeader)
            );
            replicas.campaign(id, &mut log).unwrap();
        }
        assert!(sync_all(&mut replicas, &mut log, &mut state).is_empty());
        assert!(replicas.is_settled(group) && replicas.is_settled(other));
        state.0.clear();

        let (first, second) = (PartitionMask(1), PartitionMask(2));
        replicas.propose(group, vec![10], first, || 100, &mut log).unwrap();
        replicas.propose(other, vec![20], first, || 200, &mut log).unwrap();
        let held = LogPosition(log.records.len() as u64);
        replicas.propose(group, vec![11], second, || 101, &mut log).unwrap();
        assert!(state.0.is_empty(), "nothing is visible before it is held");
        let seen: Vec<_> = replicas.undecided(group, first).map(<[u8]>::to_vec).collect();
        assert_eq!(seen, [vec![10]], "the overlay shows what may touch the partition");

        let mut decided = Decided::default();
        replicas.log_synced(held, &mut log, &mut state, &mut decided).unwrap();
        assert_eq!(decided.applied, [100, 200]);
        assert_eq!(state.0, [(group, 2, vec![10]), (other, 2, vec![20])]);
        assert_eq!(replicas.undecided(group, first).count(), 0);

        assert_eq!(replicas.abandon(), [101]);
        assert_eq!(state.0.len(), 2, "what was not held is not applied");
    }

    #[test]
    fn a_log_without_room_leaves_no_gap() {
        let group = GroupId(1);
        let (mut replicas, mut log, mut state) =
            (Replicas::new(ME), TestLog::default(), TestState::default());
        replicas.add(group, recovered()).unwrap();
        replicas.campaign(group, &mut log).unwrap();
        sync_all(&mut replicas, &mut log, &mut state);
        log.is_full = true;
        assert_eq!(
            replicas.propose(group, vec![1], PartitionMask(1), || 1, &mut log),
            Err(ProposeError::Log("full"))
        );
        log.is_full = false;
        let index = replicas.propose(group, vec![2], PartitionMask(1), || 2, &mut log).unwrap();
        assert_eq!(index, LogIndex(2), "behind the leader's first entry");
        assert_eq!(sync_all(&mut replicas, &mut log, &mut state), [2]);
        let unknown = replicas.propose(GroupId(9), vec![], PartitionMask(1), || 3, &mut log);
        assert_eq!(unknown, Err(ProposeError::UnknownGroup));
    }
}
