//! One node: the shell of [`Liveness`] and of [`Replicas`], with a disk and a network that fail.
//!
//! [`Replicas`] is the program's own: what it does with groups, links and bytes is what is simulated.
//! Here are only what lies around it: what was synced, what is applied, clients, and snapshots.

use super::disk::{Disk, Record, Replayed, Replica, Snapshot};
use super::local::{Event, Full, SimLog, SimState, Waiting};
use super::network::{Packet, Payload};
use super::oracle::Oracle;
use crate::consensus::{Change, EntryId, LogIndex, Membership, Recovered};
use crate::liveness::{self, Liveness, MonotonicNanos};
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::replica::{
    Decided, HeldEntry, Local, LogPosition, LogRequest, NewReplica, PartitionMask, ProposeError,
    Replicas,
};
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How long a snapshot may be under way before the leader looks again.
const SNAPSHOT_NANOS: u64 = 1_000_000_000;

/// A log that took less than a group has decided to write would have failed for good.
const WRITES_WHAT_FITS: &str = "a group writes only what its log has room for";

/// Entries that one reading of the log gives.
const ENTRIES_PER_READ: usize = 3;

pub(super) fn host(id: u64) -> HostId {
    HostId(id.into())
}

fn number(host: HostId) -> u64 {
    host.0 as u64
}

fn peer(id: u64) -> Peer {
    Peer { host_id: host(id), shard: 0 }
}

/// A node.
pub(super) struct Node {
    pub(super) id: u64,
    /// What its clock shows when true time begins, and how fast it runs, in millionths.
    pub(super) clock_start: u64,
    pub(super) clock_ppm: u64,
    /// Its wall clock's distance from true time, in microseconds.
    pub(super) wall_offset: i64,
    /// It does nothing before this true time.
    pub(super) paused_until: u64,
    pub(super) disk: Disk,
    /// How much may wait for the disk.
    pub(super) log_bytes_max: Option<usize>,
    /// Whether it begins anew with followers that get nothing.
    pub(super) looks_after_followers: bool,
    /// Nothing while it is down.
    pub(super) up: Option<Up>,
}

/// What a node forgets when it goes down.
pub(super) struct Up {
    pub(super) liveness: Liveness,
    pub(super) replicas: Replicas<Waiting>,
    pub(super) log: SimLog,
    pub(super) state: SimState,
    reads: VecDeque<Read>,
    /// Readings of the log that are under way.
    log_requests: Vec<LogRequest>,
    /// Snapshots that others need, and when they were last sent one.
    snapshots_sent: BTreeMap<(GroupId, u64), MonotonicNanos>,
    /// Snapshots that are being written, and who sent them.
    installing: BTreeMap<GroupId, u64>,
    /// What its clock showed when it last did anything.
    last_run: MonotonicNanos,
}

/// A read that has begun.
struct Read {
    group: GroupId,
    /// The last write that somebody had been told of when it began.
    floor: LogIndex,
}

/// What a node acts upon besides itself.
pub(super) struct Context<'a> {
    pub(super) now: MonotonicNanos,
    pub(super) wall: i64,
    pub(super) oracle: &'a mut Oracle,
    pub(super) out: &'a mut Vec<Packet>,
}

/// A replica as the shell takes it, from what was read back.
fn new_replica(me: u64, peers: &[u64], replayed: &Replayed) -> NewReplica {
    let voters = &replayed.snapshot.members.1.voters;
    let rank = voters.iter().position(|&voter| voter == host(me)).unwrap_or(voters.len());
    let entries = replayed.entries.iter().map(|entry| HeldEntry {
        term: entry.header.term,
        kind: entry.header.kind.clone(),
        payload: entry.body.to_bytes(),
    });
    let others = peers.iter().filter(|&&other| other != me);
    NewReplica {
        recovered: replayed.recovered.clone(),
        entries: entries.collect(),
        rank: rank as u32,
        shards: others.map(|&other| (host(other), 0)).collect(),
    }
}

impl Up {
    /// Has the replicas act, and follows what came of it.
    fn with<R>(
        &mut self,
        id: u64,
        context: &mut Context,
        act: impl FnOnce(
            &mut Replicas<Waiting>,
            &mut Local<'_, SimLog, SimState, Liveness>,
        ) -> Result<R, Full>,
    ) -> R {
        let Up { liveness, replicas, log, state, .. } = self;
        state.wall = context.wall;
        let (support, now) = (&*liveness, context.now);
        let mut local = Local { log, state, support, now };
        let result = act(replicas, &mut local).expect(WRITES_WHAT_FITS);
        if !is_kept(Rule::EntriesAreSynced) {
            let position = local.log.appended();
            replicas.log_synced(position, &mut local).expect(WRITES_WHAT_FITS);
        }
        for _ in 0..log.refusal_count.take() {
            context.oracle.count("refusals of the log");
        }
        self.follow(id, context);
        result
    }

    fn follow(&mut self, id: u64, context: &mut Context) {
        for event in std::mem::take(&mut self.state.events) {
            match event {
                Event::Leads(group, term) => {
                    let log = self.log.of(group);
                    context.oracle.leads(group, id, term, log.base, &log.entries);
                }
                Event::Commits(group, index, entry) => {
                    let term = self.replicas.term(group);
                    context.oracle.commits(group, index, &entry, term);
                }
                Event::Closes(group, index, closed) => context.oracle.closes(group, index, closed),
            }
        }
        let mut decided = Decided::default();
        self.replicas.take_decided(&mut decided);
        for Waiting { group, entry } in decided.applied {
            let log = self.log.of(group);
            let term = log.entry(entry.index).map(|entry| entry.header.term);
            assert!(term.is_none_or(|term| term == entry.term), "the entry waited for");
            context.oracle.acknowledges(group, entry.index);
        }
    }
}

impl Node {
    /// What its clock shows at a true time.
    pub(super) fn clock(&self, nanos: u64) -> MonotonicNanos {
        let passed = u128::from(nanos) * u128::from(self.clock_ppm) / 1_000_000;
        MonotonicNanos(self.clock_start + passed as u64)
    }

    /// What its wall clock shows, in microseconds.
    pub(super) fn wall(&self, nanos: u64) -> i64 {
        10_000_000_000 + (nanos / 1_000) as i64 + self.wall_offset
    }

    /// From here on no more than so many bytes wait for the disk.
    pub(super) fn limit_log(&mut self, bytes_max: usize) {
        self.log_bytes_max = Some(bytes_max);
        self.up.iter_mut().for_each(|up| up.log.bytes_max = Some(bytes_max));
    }

    /// Starts it from its disk.
    pub(super) fn start(&mut self, peers: &[u64], now: MonotonicNanos) {
        let mut effects = Vec::new();
        let mut liveness = Liveness::start(self.disk.incarnation, now, &mut effects);
        let incarnation = liveness.incarnation();
        self.disk.incarnation = Some(incarnation);
        liveness.incarnation_saved();
        let mut replicas = Replicas::new(host(self.id), incarnation);
        let (mut log, mut state) = (SimLog::default(), SimState::default());
        log.bytes_max = self.log_bytes_max;
        for (&group, replica) in &self.disk.replicas {
            let replayed = replica.replay();
            replicas.add(group, new_replica(self.id, peers, &replayed), now).unwrap();
            log.recover(group, &replayed);
            state.recover(group, replayed);
        }
        let mut local = Local { log: &mut log, state: &mut state, support: &liveness, now };
        for &id in peers.iter().filter(|&&id| id != self.id) {
            replicas.connected(peer(id), &mut local).expect(WRITES_WHAT_FITS);
        }
        for &peer in peers.iter().filter(|&&peer| peer != self.id) {
            assert!(liveness.add_peer(host(peer), now));
        }
        self.up = Some(Up {
            liveness,
            replicas,
            log,
            state,
            reads: VecDeque::new(),
            log_requests: Vec::new(),
            snapshots_sent: BTreeMap::new(),
            installing: BTreeMap::new(),
            last_run: now,
        });
    }

    /// Stops it; of its unfinished writes the first `kept` reached the disk.
    pub(super) fn crash(&mut self, kept: usize) {
        let Some(up) = self.up.take() else {
            return;
        };
        for (_, group, record) in up.log.writes.into_iter().take(kept) {
            self.write(group, record);
        }
    }

    fn write(&mut self, group: GroupId, record: Record) {
        self.disk.replicas.get_mut(&group).unwrap().write(record);
    }

    /// Finishes the oldest write; whether there was one.
    pub(super) fn sync_one(&mut self, context: &mut Context) -> bool {
        let oldest = self.up.as_mut().and_then(|up| up.log.writes.pop_front());
        let Some((position, group, record)) = oldest else {
            return false;
        };
        let is_install = matches!(record, Record::Install(_));
        self.write(group, record);
        if is_install {
            let replayed = self.disk.replicas[&group].replay();
            let (id, up) = (self.id, self.up.as_mut().unwrap());
            let Snapshot { base, members, .. } = replayed.snapshot.clone();
            up.replicas.replace_by_snapshot(group, base, members, context.now).unwrap();
            up.log.recover(group, &replayed);
            up.state.recover(group, replayed);
            if let Some(to) = up.installing.remove(&group) {
                let payload = Payload::Installed(group);
                context.out.push(Packet { from: id, to, payload });
            }
            context.oracle.count("snapshots installed");
            return true;
        }
        let (id, up) = (self.id, self.up.as_mut().unwrap());
        up.with(id, context, |replicas, local| replicas.log_synced(LogPosition(position), local));
        true
    }

    /// Takes a snapshot of a group, and drops its log up to there.
    pub(super) fn flush(&mut self, id: GroupId) {
        let Some(up) = &mut self.up else { return };
        let log = up.log.of(id);
        let base = up.replicas.applied(id);
        if base <= log.base || up.installing.contains_key(&id) {
            return;
        }
        let term = up.replicas.term_at(id, base).expect("what is applied here is in the log");
        let snapshot = up.state.snapshot(id, EntryId { index: base, term }, log);
        up.log.cut(id, base);
        up.replicas.discard(id, base);
        self.disk.replicas.get_mut(&id).unwrap().flush(snapshot);
    }

    // ---- Clients ----

    /// Proposes a write; whether this node leads the group, and its log has room.
    pub(super) fn propose(
        &mut self,
        id: GroupId,
        value: u64,
        lag: i64,
        context: &mut Context,
    ) -> bool {
        let node = self.id;
        let Some(up) = &mut self.up else { return false };
        let (group, leadership) = up.replicas.cores(id);
        let is_leader = group.is_leader() && !leadership.is_transferring();
        if !is_leader || up.installing.contains_key(&id) {
            return false;
        }
        let entry = EntryId { index: group.last().index.next(), term: group.term() };
        let body = up.state.place(id, value, lag, context.wall);
        let proposed = up.with(node, context, |replicas, local| {
            let waiter = || Waiting { group: id, entry };
            let payload = body.to_bytes();
            Ok(replicas.propose(id, payload, PartitionMask::ALL, waiter, local))
        });
        if proposed == Err(ProposeError::Log(Full)) {
            return false;
        }
        assert_eq!(proposed, Ok(entry.index), "a leader takes proposals");
        true
    }

    /// Begins a read; whether it may be answered here as things stand.
    pub(super) fn begin_read(&mut self, id: GroupId, context: &mut Context) -> bool {
        let Some(up) = &mut self.up else { return false };
        let may = up.replicas.may_serve(id, &up.liveness, context.now);
        if may {
            up.reads.push_back(Read { group: id, floor: context.oracle.observed(id) });
        }
        may
    }

    /// A client's read arrives at what it takes for the leader, which may be paused: then it waits.
    pub(super) fn request_read(&mut self, id: GroupId, oracle: &mut Oracle) {
        let Some(up) = &mut self.up else { return };
        if up.replicas.leader(id) == Some(host(self.id)) {
            up.reads.push_back(Read { group: id, floor: oracle.observed(id) });
        }
    }

    /// Reads, looks at the clock, and answers.
    fn finish_reads(&mut self, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        for Read { group, floor } in up.reads.drain(..) {
            let index = up.replicas.applied(group);
            let now = if is_kept(Rule::ClockAfterRead) { context.now } else { up.last_run };
            if up.replicas.may_serve(group, &up.liveness, now) {
                context.oracle.reads(group, floor, index);
            }
        }
    }

    pub(super) fn transfer(&mut self, id: GroupId, to: u64, context: &mut Context) -> bool {
        let Some(up) = &mut self.up else { return false };
        up.replicas.transfer(id, host(to), &up.liveness, context.now).is_ok()
    }

    /// Campaigns without having asked, as long as no promise stands against it: what others must
    /// withstand.
    pub(super) fn campaign(&mut self, id: GroupId, context: &mut Context) {
        let node = self.id;
        let Some(up) = &mut self.up else { return };
        let (_, leadership) = up.replicas.cores(id);
        let holds = leadership
            .fence()
            .is_some_and(|fence| up.liveness.supports(fence.leader) == Some(fence.epoch));
        if up.liveness.may_vote() && !holds {
            context.oracle.count("campaigns out of turn");
            up.with(node, context, |replicas, local| replicas.campaign_out_of_turn(id, local));
        }
    }

    pub(super) fn change(&mut self, id: GroupId, change: Change, context: &mut Context) {
        let node = self.id;
        let Some(up) = &mut self.up else { return };
        up.with(node, context, |replicas, local| {
            // A log without room has taken nothing of it.
            replicas.change_members(id, change, local).ok();
            Ok(())
        });
    }

    /// Whether this node leads a group whose members are these, beyond doubt.
    pub(super) fn leads_for(&self, id: GroupId, members: &Membership) -> bool {
        let leads = |up: &Up| {
            let (group, _) = up.replicas.cores(id);
            let (_, committed) = group.committed_members();
            group.is_settled() && group.members() == members && **committed == *members
        };
        self.up.as_ref().is_some_and(leads)
    }

    /// Removes the replica of a group that belongs to others by now, and makes it anew, empty, as a
    /// node does when the ring takes a range from it and later gives it back.
    pub(super) fn make_anew(
        &mut self,
        id: GroupId,
        members: Arc<Membership>,
        peers: &[u64],
        context: &mut Context,
    ) {
        let Some(up) = &mut self.up else { return };
        if members.members().any(|member| member == host(self.id))
            || up.installing.contains_key(&id)
        {
            return;
        }
        let (group, _) = up.replicas.cores(id);
        let Recovered { hard_state, vote_floor, .. } = group.to_recovered();
        let (last, floor) = (group.last(), vote_floor);
        let last = if (floor.term, floor.index) > (last.term, last.index) { floor } else { last };
        up.replicas.remove(id);
        up.log.remove(id);
        up.reads.retain(|read| read.group != id);
        up.log_requests.retain(|request| request.group != id);
        let replica = Replica::anew(members, hard_state, last);
        let replayed = replica.replay();
        self.disk.replicas.insert(id, replica);
        up.replicas.add(id, new_replica(self.id, peers, &replayed), context.now).unwrap();
        up.log.recover(id, &replayed);
        up.state.recover(id, replayed);
        context.oracle.count("replicas made anew");
    }

    // ---- Messages ----

    /// Takes a packet.
    pub(super) fn receive(&mut self, packet: Packet, context: &mut Context) {
        let node = self.id;
        let Some(up) = &mut self.up else { return };
        let from = packet.from;
        match packet.payload {
            Payload::Liveness(message) => {
                let mut effects = Vec::new();
                up.liveness.receive(host(from), message, context.now, &mut effects);
                self.carry_out_liveness(effects, context);
            }
            Payload::Envelope(bytes) => up.with(node, context, |replicas, local| {
                replicas.receive(peer(from), &bytes, local).expect("it is an envelope");
                Ok(())
            }),
            Payload::Snapshot(id, snapshot) => self.install(id, from, snapshot, context),
            Payload::Installed(id) => {
                up.snapshots_sent.remove(&(id, from));
                up.with(node, context, |replicas, local| {
                    replicas.snapshot_sent(id, host(from), local)
                });
            }
        }
    }

    fn install(&mut self, id: GroupId, from: u64, snapshot: Snapshot, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        if up.installing.contains_key(&id) {
            return;
        }
        if snapshot.base.index > up.replicas.commit(id) {
            up.replicas.suspend(id);
            up.log.install(id, snapshot);
            up.installing.insert(id, from);
            return;
        }
        let payload = Payload::Installed(id);
        context.out.push(Packet { from: node, to: from, payload });
    }

    fn carry_out_liveness(&mut self, effects: Vec<liveness::Effect>, context: &mut Context) {
        let up = self.up.as_mut().unwrap();
        for effect in effects {
            match effect {
                liveness::Effect::SaveIncarnation(_) => unreachable!("saved at the start"),
                liveness::Effect::Send { to, message } => {
                    let payload = Payload::Liveness(message);
                    context.out.push(Packet { from: self.id, to: number(to), payload });
                }
                liveness::Effect::Withdrawn { from, .. } => {
                    up.replicas.support_withdrawn(from, context.now);
                }
                liveness::Effect::Gained { .. } => up.replicas.support_gained(context.now),
            }
        }
    }

    // ---- Time ----

    /// Does what is due, and sends what waits.
    pub(super) fn run(&mut self, context: &mut Context) {
        let node = self.id;
        let Some(up) = &mut self.up else { return };
        let mut effects = Vec::new();
        up.liveness.tick(context.now, &mut effects);
        self.carry_out_liveness(effects, context);
        let up = self.up.as_mut().unwrap();
        up.with(node, context, Replicas::tick);
        self.finish_reads(context);
        self.send_snapshots(context);
        if self.looks_after_followers {
            let up = self.up.as_mut().unwrap();
            if up.with(node, context, Replicas::look_after_followers) {
                context.oracle.count("followers begun anew with");
            }
        }
        self.send(context);
        self.up.iter_mut().for_each(|up| up.last_run = context.now);
    }

    /// Tells the followers of a group what time is closed.
    pub(super) fn beat(&mut self, id: GroupId, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        if up.replicas.leader(id) != Some(host(self.id)) || up.installing.contains_key(&id) {
            return;
        }
        let last = up.replicas.cores(id).0.last();
        let (closed, applied, believed) = up.state.beat(id, last, context.wall - 100_000);
        context.oracle.tells(id, last, closed);
        context.oracle.closes(id, applied, believed);
        up.replicas.tell_closed(id, last, closed);
    }

    fn send_snapshots(&mut self, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        let needed: Vec<(GroupId, u64)> =
            up.replicas.snapshots_needed().map(|(id, to)| (id, number(to))).collect();
        for (id, _) in &needed {
            // Some need one though nothing was dropped yet.
            if self.up.as_ref().unwrap().state.last_snapshot(*id).base.index == LogIndex(0) {
                self.flush(*id);
            }
        }
        let up = self.up.as_mut().unwrap();
        up.snapshots_sent.retain(|key, _| needed.contains(key));
        for (id, to) in needed {
            let sent = up.snapshots_sent.get(&(id, to));
            if sent.is_none_or(|sent| sent.after(SNAPSHOT_NANOS) <= context.now) {
                up.snapshots_sent.insert((id, to), context.now);
                let payload = Payload::Snapshot(id, up.state.last_snapshot(id).clone());
                context.out.push(Packet { from: node, to, payload });
            }
        }
    }

    fn send(&mut self, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        for request in std::mem::take(&mut up.log_requests) {
            let entries = up.log.read(&request, ENTRIES_PER_READ);
            context.oracle.count(if entries.is_empty() { "reads in vain" } else { "log reads" });
            up.replicas.read(&request, entries, context.now);
        }
        let mut bytes = Vec::new();
        while let Some(peer) = up.replicas.take_outgoing(context.now, &mut bytes) {
            let payload = Payload::Envelope(std::mem::take(&mut bytes));
            context.out.push(Packet { from: node, to: number(peer.host_id), payload });
        }
        while let Some(request) = up.replicas.take_log_request() {
            up.log_requests.push(request);
        }
    }
}
