//! All replicas of a shard, and the way of an entry through them.

use super::lagging::Lagging;
use super::links::Links;
use super::local::{Local, LocalLog, LocalState, LogPosition, PartitionMask};
use super::member::{NewReplica, Replica, SparePayloads};
use crate::consensus::{
    Change, Effect, EntryId, Group, HardState, Header, Input, Kind, LogIndex, Membership,
    Recovered, RecoveryError, Refusal, Term,
};
use crate::leadership::{Leadership, Support, TransferRefused};
use crate::link::{EntryView, Item};
use crate::liveness::{Incarnation, MonotonicNanos};
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::ring::HostId;
use env::prefetch::prefetch_value;
use model::IdMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Groups that are fetched from memory together.
pub(super) const FETCHED_AHEAD: usize = 16;

/// Why an entry was not proposed.
#[derive(Debug, PartialEq, Eq)]
pub enum ProposeError<E> {
    /// This shard holds no replica of the group.
    UnknownGroup,
    /// Another member leads, as far as is known, or none does; or leadership is being handed over.
    NotLeader {
        /// Who is believed to lead.
        hint: Option<HostId>,
    },
    /// The log did not take it.
    Log(E),
}

/// What came of the entries that calls decided.
#[derive(Debug)]
pub struct Decided<W> {
    /// Applied here, in this order.
    pub applied: Vec<W>,
    /// Others took their place in this member's log: they may or may not be applied later.
    pub unknown: Vec<W>,
}

impl<W> Default for Decided<W> {
    fn default() -> Self {
        Decided { applied: Vec::new(), unknown: Vec::new() }
    }
}

/// The replicas of one shard. `W` is what waits for an entry: it comes back once.
#[derive(Debug)]
pub struct Replicas<W> {
    pub(super) me: HostId,
    /// Each in a place of its own: the map stays small, and is where groups are looked up.
    pub(super) groups: IdMap<GroupId, Box<Replica<W>>>,
    pub(super) links: Links,
    /// What was appended and is not known to be held yet, in the order of the log.
    unsynced: VecDeque<Unsynced>,
    effects: Vec<Effect>,
    pub(super) decided: Decided<W>,
    /// Groups with entries that are to be applied before the call returns.
    pub(super) committed: Vec<GroupId>,
    pub(super) spare_payloads: SparePayloads,
    /// Space for the heads of an append's entries.
    pub(super) headers: Vec<Header>,
    /// Groups that a call of [`Replicas::log_synced`] has news for.
    touched: Vec<GroupId>,
    /// No group has anything to do before that.
    pub(super) next_due: Option<MonotonicNanos>,
    snapshots_needed: BTreeSet<(GroupId, HostId)>,
    pub(super) lagging: Lagging,
    /// Groups with followers whose entries have to be read, and perhaps some that have none.
    pub(super) catching_up: BTreeSet<GroupId>,
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

impl<W> Replicas<W> {
    /// No replicas yet, on this node in one of its lives.
    pub fn new(me: HostId, incarnation: Incarnation) -> Self {
        Replicas {
            me,
            groups: IdMap::default(),
            links: Links::new(incarnation),
            unsynced: VecDeque::new(),
            effects: Vec::new(),
            decided: Decided::default(),
            committed: Vec::new(),
            spare_payloads: SparePayloads::default(),
            headers: Vec::new(),
            touched: Vec::new(),
            next_due: None,
            snapshots_needed: BTreeSet::new(),
            lagging: Lagging::default(),
            catching_up: BTreeSet::new(),
        }
    }

    /// Adds a replica as it was found in the log, or a new one.
    pub fn add(
        &mut self,
        id: GroupId,
        new: NewReplica,
        now: MonotonicNanos,
    ) -> Result<(), RecoveryError> {
        let NewReplica { recovered, entries, rank, shards } = new;
        let commit = recovered.commit;
        let group = Group::recover(self.me, recovered)?;
        let leadership = Leadership::new(self.me, rank, now);
        let replica = Replica::new(group, leadership, commit, entries, shards);
        let former = self.groups.insert(id, Box::new(replica));
        assert!(former.is_none(), "a replica of group {id:?} was added twice");
        self.due_at(Some(now));
        Ok(())
    }

    // ---- What is known ----

    /// The node that these are on.
    pub fn me(&self) -> HostId {
        self.me
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

    /// Who leads the group, as far as this member knows.
    pub fn leader(&self, id: GroupId) -> Option<HostId> {
        self.groups.get(&id)?.group.leader()
    }

    /// The highest term that this member of the group has heard of.
    pub fn term(&self, id: GroupId) -> Term {
        self.groups.get(&id).map_or(Term(0), |r| r.group.term())
    }

    /// The term of this member of the group, and its vote, once they are durable.
    pub fn hard_state(&self, id: GroupId) -> Option<HardState> {
        self.groups.get(&id)?.group.hard_state()
    }

    /// Who belongs to the group, as this member knows.
    pub fn members(&self, id: GroupId) -> Option<&Membership> {
        self.groups.get(&id).map(|r| r.group.members())
    }

    /// What a snapshot of the data as it is applied here is of: its last entry, and the members at
    /// that entry with the one that named them. Nothing while that is not known: other members are
    /// committed already and not applied.
    pub fn applied_base(&self, id: GroupId) -> Option<(EntryId, (LogIndex, Arc<Membership>))> {
        let replica = self.groups.get(&id)?;
        let index = replica.applied();
        let term = replica.group.term_at(index)?;
        let (since, members) = replica.group.committed_members();
        (since <= index).then(|| (EntryId { index, term }, (since, members.clone())))
    }

    /// The shard at which another member of a group is reached, as far as that was told.
    pub fn peer(&self, id: GroupId, host: HostId) -> Option<Peer> {
        let shard = self.groups.get(&id)?.shard_of(host)?;
        Some(Peer { host_id: host, shard })
    }

    /// The shards at which the other members of a group are reached. Who is not named is sent
    /// nothing. What a leader had for one that is named anew was lost, so it begins anew there.
    pub fn set_shards<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        shards: Vec<(HostId, u16)>,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        let Some(replica) = self.groups.get_mut(&id) else { return Ok(()) };
        let former = std::mem::replace(&mut replica.shards, shards);
        if !replica.group.is_leader() {
            return Ok(());
        }
        let named = replica.shards.iter().filter(|place| !former.contains(place));
        let named: Vec<HostId> = named.map(|(host, _)| *host).collect();
        replica.catch_ups.retain(|catch_up| !named.contains(&catch_up.to));
        for to in named {
            self.step(id, Input::Resend { to }, &[], local)?;
        }
        Ok(())
    }

    /// The members as of what is known to be committed, and the entry that named them; 0 if none
    /// did.
    pub fn committed_members(&self, id: GroupId) -> Option<(LogIndex, &Membership)> {
        let (index, members) = self.groups.get(&id)?.group.committed_members();
        Some((index, members))
    }

    /// Whether this node is the only one with a vote in the group.
    pub fn is_alone(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|r| r.group.members().voters.as_slice() == [self.me])
    }

    /// Whether something committed cannot be applied here yet.
    pub fn is_held_back(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|replica| replica.is_held_back())
    }

    /// Whether this member leads the group.
    pub fn is_leader(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|r| r.group.is_leader())
    }

    /// The other members of a group.
    pub fn other_members(&self, id: GroupId) -> impl Iterator<Item = HostId> {
        let members = self.groups.get(&id).into_iter().flat_map(|r| r.group.members().members());
        members.filter(|&host| host != self.me)
    }

    /// Whether this node leads the group and knows everything that was committed before.
    pub fn is_settled(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|r| r.group.is_settled())
    }

    /// Whether entries may be decided here: this node leads, has applied everything that was committed
    /// before, and is not handing over.
    pub fn may_decide(&self, id: GroupId) -> bool {
        self.groups.get(&id).is_some_and(|replica| replica.may_decide())
    }

    /// Whether a read of what is applied here is linearizable: this member leads under a lease. To
    /// be asked after the read, with the clock read after it too.
    pub fn may_serve(&self, id: GroupId, support: &impl Support, now: MonotonicNanos) -> bool {
        self.groups.get(&id).is_some_and(|r| {
            let is_whole = !r.is_suspended && !r.is_held_back();
            is_whole && r.leadership.may_serve(&r.group, support, now)
        })
    }

    /// Until when this member is the only one that leads, if it leads.
    pub fn lease_until(&self, id: GroupId, support: &impl Support) -> Option<MonotonicNanos> {
        let replica = self.groups.get(&id)?;
        replica.leadership.lease_until(&replica.group, support)
    }

    /// How far the group's log is committed.
    pub fn commit(&self, id: GroupId) -> LogIndex {
        self.groups.get(&id).map_or(LogIndex(0), |r| r.group.commit())
    }

    /// How far the group's log is applied here.
    pub fn applied(&self, id: GroupId) -> LogIndex {
        self.groups.get(&id).map_or(LogIndex(0), |replica| replica.applied())
    }

    /// The term of the group's entry at `index`; nothing if it is not in the log.
    pub fn term_at(&self, id: GroupId, index: LogIndex) -> Option<Term> {
        self.groups.get(&id)?.group.term_at(index)
    }

    /// The group's last entry on this node, committed or not.
    pub fn last_index(&self, id: GroupId) -> LogIndex {
        self.groups.get(&id).map_or(LogIndex(0), |r| r.group.last().index)
    }

    /// The group's last entry on this node, with its term.
    pub fn last(&self, id: GroupId) -> EntryId {
        self.groups.get(&id).map(|r| r.group.last()).unwrap_or_default()
    }

    /// The last entry of each group that has undecided ones.
    pub fn undecided_ends(&self) -> Vec<(GroupId, LogIndex)> {
        let undecided = self.groups.iter().filter(|(_, r)| r.has_undecided());
        undecided.map(|(id, r)| (*id, r.group.last().index)).collect()
    }

    /// Whether anything waits to be committed.
    pub fn has_undecided(&self) -> bool {
        self.groups.values().any(|replica| replica.has_undecided())
    }

    /// Of a group that is led here: the other members, and how far each is known to hold the log.
    pub fn followers(&self, id: GroupId) -> Vec<(HostId, LogIndex)> {
        let Some(replica) = self.groups.get(&id).filter(|r| r.group.is_leader()) else {
            return Vec::new();
        };
        let others = replica.group.members().members().filter(|&host| host != self.me);
        others.map(|host| (host, replica.group.matched(host))).collect()
    }

    /// Members of groups led here that need entries which the log has no more.
    pub fn snapshots_needed(&self) -> impl Iterator<Item = (GroupId, HostId)> {
        self.snapshots_needed.iter().copied()
    }

    /// Whether a member is one of those.
    pub fn needs_snapshot(&self, id: GroupId, host: HostId) -> bool {
        self.snapshots_needed.contains(&(id, host))
    }

    /// The payloads of the group's undecided entries that may touch the partitions, oldest first.
    pub fn undecided(&self, id: GroupId, partitions: PartitionMask) -> impl Iterator<Item = &[u8]> {
        let replica = self.groups.get(&id).into_iter();
        replica.flat_map(move |replica| replica.undecided(partitions))
    }

    /// An empty buffer for the payload of a proposal.
    pub fn payload_buffer(&mut self) -> Vec<u8> {
        self.spare_payloads.take()
    }

    /// Takes back a buffer that was not proposed.
    pub fn give_back(&mut self, payload: Vec<u8>) {
        self.spare_payloads.keep(payload);
    }

    /// Swaps what was decided since the last time into `decided`, which is to be empty.
    pub fn take_decided(&mut self, decided: &mut Decided<W>) {
        std::mem::swap(&mut self.decided, decided);
    }

    // ---- What happens ----

    /// Stands for election at once in a group whose only voter is this node; others are seen to by
    /// [`Replicas::tick`].
    pub fn campaign<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        if self.is_alone(id) {
            self.step(id, Input::Campaign, &[], local)?;
        }
        Ok(())
    }

    /// Appends an entry to a group that this node leads. The waiter, made when it was appended,
    /// comes back from [`Replicas::take_decided`]; on an error nothing was appended.
    pub fn propose<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        payload: Vec<u8>,
        partitions: PartitionMask,
        waiter: impl FnOnce() -> W,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<LogIndex, ProposeError<L::Error>> {
        let replica = self.groups.get_mut(&id).ok_or(ProposeError::UnknownGroup)?;
        let is_barred = replica.leadership.is_transferring() || replica.is_suspended;
        if !replica.group.is_leader() || is_barred {
            let hint = replica.group.leader().filter(|_| !is_barred);
            return Err(ProposeError::NotLeader { hint });
        }
        local.log.admit(id, payload.len()).map_err(ProposeError::Log)?;
        let mut effects = std::mem::take(&mut self.effects);
        replica.group.step(Input::Propose, &mut effects);
        let mut proposed = Some((payload, waiter));
        let mut appended = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { entry, kind: Kind::Data, log_epoch } => {
                    let (payload, waiter) = proposed.take().expect("one entry is appended");
                    let position = local.log.append(id, entry, &Kind::Data, &payload);
                    let position = position.map_err(ProposeError::Log)?;
                    local.state.appended(id, entry.index, &payload);
                    let what = UnsyncedKind::Entry { index: entry.index, log_epoch };
                    self.unsynced.push_back(Unsynced { position, group: id, what });
                    let lost = &mut self.decided.unknown;
                    let Some(replica) = self.groups.get_mut(&id) else { continue };
                    replica.push(entry, Kind::Data, payload, partitions, Some(waiter()), lost);
                    appended = Some(entry.index);
                }
                Effect::SendAppend { to, term, previous, last, commit } => {
                    self.push(id, to, Item::Append { term, previous, last, commit });
                }
                other => unreachable!("a leader that proposes has nothing else to do: {other:?}"),
            }
        }
        self.effects = effects;
        Ok(appended.expect("a leader appends what is proposed"))
    }

    /// Changes the members of a group that is led here; on an error nothing was changed, unless the
    /// log has failed.
    pub fn change_members<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        change: Change,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<Result<(), Refusal>, L::Error> {
        if self.groups.get(&id).is_none_or(|replica| replica.is_suspended) {
            return Ok(Err(Refusal::NotLeader { leader: None }));
        }
        self.admit_change(id, local.log)?;
        let refusal = self.step(id, Input::ChangeMembers(change), &[], local)?;
        Ok(refusal.map_or(Ok(()), Err))
    }

    /// Hands leadership of a group to another member; proposals are refused meanwhile.
    pub fn transfer(
        &mut self,
        id: GroupId,
        to: HostId,
        support: &impl Support,
        now: MonotonicNanos,
    ) -> Result<(), TransferRefused> {
        let replica = self.groups.get_mut(&id).ok_or(TransferRefused::NotLeader)?;
        let Replica { group, leadership, .. } = &mut **replica;
        leadership.transfer_to(to, group, support, now)?;
        let next = leadership.next_tick();
        self.due_at(next);
        Ok(())
    }

    /// Hears that the log holds everything before `position`: takes one step per group, and applies
    /// what is committed by that.
    pub fn log_synced<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        position: LogPosition,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        while let Some(unsynced) = self.unsynced.pop_front_if(|u| u.position <= position) {
            let id = unsynced.group;
            match unsynced.what {
                UnsyncedKind::Entry { index, log_epoch } => {
                    let Some(replica) = self.groups.get_mut(&id) else { continue };
                    if replica.synced.replace((index, log_epoch)).is_none() {
                        self.touched.push(id);
                    }
                }
                UnsyncedKind::Vote(vote) => {
                    self.report_synced(id, local)?;
                    self.step(id, Input::VoteSynced(vote), &[], local)?;
                }
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for (at, id) in touched.iter().enumerate() {
            if at % FETCHED_AHEAD == 0 {
                self.look_ahead(touched[at..].iter().copied().take(FETCHED_AHEAD));
            }
            self.report_synced(*id, local)?;
        }
        touched.clear();
        self.touched = touched;
        self.apply_committed(local.state);
        Ok(())
    }

    fn report_synced<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        let synced = self.groups.get_mut(&id).and_then(|replica| replica.synced.take());
        if let Some((up_to, log_epoch)) = synced {
            self.step_of_many(id, Input::LogSynced { up_to, log_epoch }, &[], local)?;
        }
        Ok(())
    }

    /// Forgets entries up to an index: the log does not keep them.
    pub fn discard(&mut self, id: GroupId, up_to: LogIndex) {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.group.step(Input::Discard { up_to }, &mut self.effects);
            assert!(self.effects.is_empty(), "forgetting entries has no effects");
        }
    }

    /// A snapshot of the group is being installed, or nobody knows where its other members are: until
    /// [`Replicas::replace`] or [`Replicas::resume`] it takes no input.
    pub fn suspend(&mut self, id: GroupId) {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.is_suspended = true;
        }
    }

    /// The group takes input again, as it is.
    pub fn resume(&mut self, id: GroupId, now: MonotonicNanos) {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.is_suspended = false;
            replica.leadership.wake(now);
            self.due_at(Some(now));
        }
    }

    /// The shards of the other members, and how many of them are preferred as leader, by a newer view
    /// of the ring.
    pub fn place<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        rank: u32,
        shards: Vec<(HostId, u16)>,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.leadership.set_rank(rank);
        }
        self.set_shards(id, shards, local)
    }

    /// The group's replica is another from here on, after a snapshot was installed: see
    /// [`Recovered::after_snapshot`](crate::consensus::Recovered::after_snapshot). What it promised
    /// it goes on to keep; its waiters come back as unknown.
    pub fn replace(
        &mut self,
        id: GroupId,
        new: NewReplica,
        now: MonotonicNanos,
    ) -> Result<(), RecoveryError> {
        let NewReplica { recovered, entries, rank, shards } = new;
        let commit = recovered.commit;
        let group = Group::recover(self.me, recovered)?;
        let mut leadership = Leadership::new(self.me, rank, now);
        if let Some(mut former) = self.groups.remove(&id) {
            self.decided.unknown.extend(former.take_waiters(|_| true));
            leadership = former.leadership;
        }
        leadership.wake(now);
        self.unsynced.retain(|unsynced| unsynced.group != id);
        let replica = Replica::new(group, leadership, commit, entries, shards);
        self.groups.insert(id, Box::new(replica));
        self.due_at(Some(now));
        Ok(())
    }

    /// The group is not held here any more. Its waiters come back as unknown.
    pub fn remove(&mut self, id: GroupId) {
        if let Some(mut former) = self.groups.remove(&id) {
            self.decided.unknown.extend(former.take_waiters(|_| true));
        }
        self.unsynced.retain(|unsynced| unsynced.group != id);
        self.snapshots_needed.retain(|(group, _)| *group != id);
        self.catching_up.remove(&id);
    }

    /// The group's data is that of a snapshot from here on: [`Replicas::replace`] with what is here
    /// of its log. The group has been suspended, all that its log was given since before is durable,
    /// and the base is above what is applied.
    pub fn replace_by_snapshot(
        &mut self,
        id: GroupId,
        base: EntryId,
        members: (LogIndex, Arc<Membership>),
        now: MonotonicNanos,
    ) -> Result<(), RecoveryError> {
        let Some(replica) = self.groups.get(&id) else { return Ok(()) };
        assert!(replica.is_suspended, "it takes no input while a snapshot is installed");
        assert!(base.index > replica.applied(), "a snapshot is newer than the data");
        let recovered = replica.group.to_recovered().after_snapshot(base, members)?;
        // What is committed behind the base is not applied yet.
        let recovered = Recovered { commit: base.index, ..recovered };
        let indexes = (base.index.0 + 1..=recovered.last.0).map(LogIndex);
        let entries = indexes.map_while(|index| replica.entry(index).cloned()).collect();
        // Its part in who leads, with its rank, stays.
        let (rank, shards) = (0, replica.shards.clone());
        self.replace(id, NewReplica { recovered, entries, rank, shards }, now)
    }

    /// A member has the snapshot that it needed, or does not need one.
    pub fn snapshot_sent<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        to: HostId,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        self.snapshots_needed.remove(&(id, to));
        self.step(id, Input::Resend { to }, &[], local).map(|_| ())
    }

    /// Hands back the waiters that `is_late` picks; their entries go on.
    pub fn take_waiters(&mut self, mut is_late: impl FnMut(&W) -> bool) -> Vec<W> {
        // Whatever is applied was answered.
        let waiting = self.groups.values_mut().filter(|replica| replica.has_undecided());
        waiting.flat_map(|replica| replica.take_waiters(&mut is_late)).collect()
    }

    /// Hands back every waiter: the log has failed, and what it would have held is unknown. No
    /// proposal is to be made from here on.
    pub fn abandon(&mut self) -> Vec<W> {
        self.take_waiters(|_| true)
    }

    /// Begins to fetch groups from memory that are stepped next: those of a shard are more than fit
    /// into the nearest caches.
    pub(super) fn look_ahead(&self, ids: impl Iterator<Item = GroupId> + Clone) {
        ids.clone()
            .filter_map(|id| self.groups.get(&id))
            .for_each(|replica| prefetch_value(&**replica));
        ids.filter_map(|id| self.groups.get(&id)).for_each(|replica| replica.look_ahead());
    }

    // ---- Effects ----

    /// Steps a group, and carries out all that comes of it. `bodies` are the entries of the message, if
    /// it is one. Why a proposal was refused comes back.
    pub(super) fn step<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        input: Input<'_>,
        bodies: &[EntryView<'_>],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<Option<Refusal>, L::Error> {
        let refusal = self.step_of_many(id, input, bodies, local)?;
        self.apply_committed(local.state);
        Ok(refusal)
    }

    /// The same as one of many steps, behind which [`Replicas::apply_committed`] is to be called.
    pub(super) fn step_of_many<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        input: Input<'_>,
        bodies: &[EntryView<'_>],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<Option<Refusal>, L::Error> {
        let Some(replica) = self.groups.get_mut(&id).filter(|r| !r.is_suspended) else {
            return Ok(None);
        };
        let mut effects = std::mem::take(&mut self.effects);
        replica.group.step(input, &mut effects);
        replica.leadership.observe(&replica.group, local.now);
        let next = replica.leadership.next_tick();
        self.due_at(next);
        let mut refusal = None;
        for effect in effects.drain(..) {
            if let Effect::Refused(reason) = effect {
                refusal = Some(reason);
                continue;
            }
            self.carry_out(id, effect, bodies, local)?;
        }
        self.effects = effects;
        Ok(refusal)
    }

    fn carry_out<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        effect: Effect,
        bodies: &[EntryView<'_>],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        match effect {
            Effect::SaveVote(vote) => {
                let position = local.log.save_vote(id, vote)?;
                let what = UnsyncedKind::Vote(vote);
                self.unsynced.push_back(Unsynced { position, group: id, what });
            }
            Effect::Append { entry, kind, log_epoch } => {
                self.apply_committed(local.state);
                let mut payload = Vec::new();
                local.state.own_payload(id, &mut payload);
                self.append(id, (entry, log_epoch), &kind, &payload, local)?;
            }
            Effect::AppendReceived { first, skip, log_epoch } => {
                for (index, view) in (first.0..).zip(bodies.iter().skip(skip)) {
                    let EntryView { header: Header { term, kind }, payload } = view;
                    let entry = EntryId { index: LogIndex(index), term: *term };
                    self.append(id, (entry, log_epoch), kind, payload, local)?;
                }
            }
            Effect::Send { to, message } => self.push(id, to, Item::Consensus(message)),
            Effect::SendAppend { to, term, previous, last, commit } => {
                self.push(id, to, Item::Append { term, previous, last, commit });
            }
            Effect::SnapshotNeeded { to } => {
                self.snapshots_needed.insert((id, to));
            }
            Effect::Committed { up_to } => self.committed(id, up_to),
            Effect::BecameLeader { term } => {
                self.apply_committed(local.state);
                self.forget_followers(id);
                local.state.leads(id, term);
            }
            Effect::SteppedDown => self.forget_followers(id),
            Effect::Refused(_) => {}
        }
        Ok(())
    }

    /// Appends an entry that is no proposal of this node's.
    fn append<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        (entry, log_epoch): (EntryId, u64),
        kind: &Kind,
        payload: &[u8],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        let position = local.log.append(id, entry, kind, payload)?;
        local.state.appended(id, entry.index, payload);
        let what = UnsyncedKind::Entry { index: entry.index, log_epoch };
        self.unsynced.push_back(Unsynced { position, group: id, what });
        let lost = &mut self.decided.unknown;
        if let Some(replica) = self.groups.get_mut(&id) {
            let mut held = self.spare_payloads.take();
            held.extend_from_slice(payload);
            replica.push(entry, kind.clone(), held, PartitionMask::ALL, None, lost);
        }
        Ok(())
    }

    /// What this member knew of its followers is of another term.
    fn forget_followers(&mut self, id: GroupId) {
        if let Some(replica) = self.groups.get_mut(&id) {
            replica.catch_ups.clear();
        }
        self.snapshots_needed.retain(|(group, _)| *group != id);
    }

    /// Something may have to be done at that moment.
    pub(super) fn due_at(&mut self, moment: Option<MonotonicNanos>) {
        if let Some(moment) = moment {
            self.next_due = Some(self.next_due.map_or(moment, |due| due.min(moment)));
        }
    }

    /// Campaigns without having asked anybody.
    #[cfg(test)]
    pub(crate) fn campaign_out_of_turn<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        self.step(id, Input::Campaign, &[], local).map(|_| ())
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        self.groups.values().for_each(|replica| replica.check_invariants());
    }

    /// A member's cores, for checks.
    #[cfg(test)]
    pub(crate) fn cores(&self, id: GroupId) -> (&Group, &Leadership) {
        let replica = &self.groups[&id];
        (&replica.group, &replica.leadership)
    }
}
