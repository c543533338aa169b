//! One node: the shell of its cores.

use super::disk::{Body, Disk, Entry, Record, Replayed, Snapshot};
use super::network::{Packet, Payload};
use super::oracle::Oracle;
use crate::consensus::{
    Change, Effect, EntryId, Group, Header, Input, Kind, LogIndex, Message, Term,
};
use crate::leadership::{self, ClosedTime, Leadership};
use crate::link::{self, EntryBytes, Item, Link};
use crate::liveness::{self, Liveness, MonotonicNanos};
use crate::placement::GroupId;
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};
use std::collections::{BTreeMap, VecDeque};

/// How long a snapshot may be under way before the leader looks again.
const SNAPSHOT_NANOS: u64 = 1_000_000_000;

pub(super) fn host(id: u64) -> HostId {
    HostId(id.into())
}

fn number(host: HostId) -> u64 {
    host.0 as u64
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
    /// Nothing while it is down.
    pub(super) up: Option<Up>,
}

/// What a node forgets when it goes down.
pub(super) struct Up {
    pub(super) liveness: Liveness,
    pub(super) members: BTreeMap<GroupId, Member>,
    links: BTreeMap<u64, Link>,
    /// Writes on their way to the disk, of all groups, in order.
    pub(super) writes: VecDeque<(GroupId, Record)>,
    reads: VecDeque<Read>,
    /// Snapshots that others need, and when they were last sent one.
    snapshots_needed: BTreeMap<(GroupId, u64), Option<MonotonicNanos>>,
    /// Snapshots that are being written, and who sent them.
    installing: BTreeMap<GroupId, u64>,
    /// What its clock showed when it last did anything.
    last_run: MonotonicNanos,
}

/// A member of a group.
pub(super) struct Member {
    pub(super) group: Group,
    pub(super) leadership: Leadership,
    pub(super) closed: ClosedTime,
    /// The log as the group believes it to be, after the snapshot's base.
    pub(super) log: Vec<Entry>,
    pub(super) snapshot: Snapshot,
    pub(super) applied: LogIndex,
    value: u64,
    /// Proposals of this leader's that somebody waits for.
    waiting: VecDeque<(LogIndex, Term)>,
    /// A snapshot is being written; until then nothing is done.
    is_installing: bool,
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

impl Member {
    fn recover(me: u64, replayed: Replayed, now: MonotonicNanos) -> Member {
        let Replayed { recovered, snapshot, entries } = replayed;
        let group = Group::recover(host(me), recovered).unwrap();
        let voters = &snapshot.members.1.voters;
        let rank = voters.iter().position(|&voter| voter == host(me)).unwrap_or(voters.len());
        let base = snapshot.base.index;
        let pending = (base.0 + 1..).map(LogIndex);
        let pending = pending.zip(entries.iter().map(|entry| entry.body.reserved)).collect();
        Member {
            group,
            leadership: Leadership::new(host(me), rank as u32, now),
            closed: ClosedTime::recover(snapshot.closed, snapshot.reserved, pending),
            log: entries,
            applied: base,
            value: snapshot.value,
            snapshot,
            waiting: VecDeque::new(),
            is_installing: false,
        }
    }

    pub(super) fn base(&self) -> LogIndex {
        self.snapshot.base.index
    }

    fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.log.get(index.0.checked_sub(self.base().0 + 1)? as usize)
    }

    fn snapshot_now(&self) -> Snapshot {
        let base = self.applied;
        let term = self.group.term_at(base).expect("what is applied here is in the log");
        let named = |(index, entry): (u64, &Entry)| match &entry.header.kind {
            Kind::Membership(members) => Some((LogIndex(index), members.clone())),
            _ => None,
        };
        let applied = (self.base().0 + 1..=base.0).zip(&self.log);
        let members = applied.filter_map(named).last();
        let entries = self.log.iter().take((base.0 - self.base().0) as usize);
        let reserved = entries.map(|entry| entry.body.reserved);
        Snapshot {
            base: EntryId { index: base, term },
            members: members.unwrap_or_else(|| self.snapshot.members.clone()),
            value: self.value,
            closed: self.closed.believed(),
            reserved: reserved.fold(self.snapshot.reserved, i64::max),
        }
    }
}

/// What a link sees of the logs.
struct Logs<'a>(&'a BTreeMap<GroupId, Member>);

impl EntryBytes for Logs<'_> {
    fn leads(&self, group: GroupId, term: Term) -> bool {
        let member = &self.0[&group];
        member.group.is_leader() && member.group.term() == term
    }

    fn entry(&self, group: GroupId, index: LogIndex) -> Option<(EntryId, usize)> {
        let member = &self.0[&group];
        // Large ones, so that envelopes fill and links wait.
        member.entry(index).map(|entry| (EntryId { index, term: entry.header.term }, 100 << 10))
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

    /// Starts it from its disk.
    pub(super) fn start(&mut self, peers: &[u64], now: MonotonicNanos) {
        let mut effects = Vec::new();
        let mut liveness = Liveness::start(self.disk.incarnation, now, &mut effects);
        let incarnation = liveness.incarnation();
        self.disk.incarnation = Some(incarnation);
        liveness.incarnation_saved();
        let mut links = BTreeMap::new();
        for &peer in peers.iter().filter(|&&peer| peer != self.id) {
            assert!(liveness.add_peer(host(peer), now));
            links.insert(peer, Link::new(incarnation));
        }
        let replicas = self.disk.replicas.iter();
        let recover =
            |replica: &super::disk::Replica| Member::recover(self.id, replica.replay(), now);
        let members = replicas.map(|(&group, replica)| (group, recover(replica))).collect();
        self.up = Some(Up {
            liveness,
            members,
            links,
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            snapshots_needed: BTreeMap::new(),
            installing: BTreeMap::new(),
            last_run: now,
        });
    }

    /// Stops it; of its unfinished writes the first `kept` reached the disk.
    pub(super) fn crash(&mut self, kept: usize) {
        let Some(up) = self.up.take() else {
            return;
        };
        for (group, record) in up.writes.into_iter().take(kept) {
            self.write(group, record);
        }
    }

    fn write(&mut self, group: GroupId, record: Record) {
        self.disk.replicas.get_mut(&group).unwrap().write(record);
    }

    /// Finishes the oldest write; whether there was one.
    pub(super) fn sync_one(&mut self, context: &mut Context) -> bool {
        let Some((group, record)) = self.up.as_mut().and_then(|up| up.writes.pop_front()) else {
            return false;
        };
        self.write(group, record.clone());
        if matches!(record, Record::Install(_)) {
            let replayed = self.disk.replicas[&group].replay();
            let (id, up) = (self.id, self.up.as_mut().unwrap());
            let mut member = Member::recover(id, replayed, context.now);
            let former = up.members.remove(&group).unwrap();
            // What it promised it goes on to keep.
            member.leadership = former.leadership;
            member.leadership.wake(context.now);
            up.members.insert(group, member);
            if let Some(to) = up.installing.remove(&group) {
                let payload = Payload::Installed(group);
                context.out.push(Packet { from: id, to, payload });
            }
            context.oracle.count("snapshots installed");
            return true;
        }
        self.report(group, &record, context);
        true
    }

    fn report(&mut self, group: GroupId, record: &Record, context: &mut Context) {
        match record {
            Record::Vote(state) => self.step(group, Input::VoteSynced(*state), &[], context),
            Record::Entries { first, entries, log_epoch } => {
                let up_to = LogIndex(first.0 + entries.len() as u64 - 1);
                let input = Input::LogSynced { up_to, log_epoch: *log_epoch };
                self.step(group, input, &[], context);
            }
            Record::Install(_) => {}
        }
    }

    /// Takes a snapshot of a group, and drops its log up to there.
    pub(super) fn flush(&mut self, id: GroupId) {
        let Some(up) = &mut self.up else { return };
        let member = up.members.get_mut(&id).unwrap();
        if member.applied <= member.base() || member.is_installing {
            return;
        }
        let snapshot = member.snapshot_now();
        member.log.drain(..(snapshot.base.index.0 - member.base().0) as usize);
        member.snapshot = snapshot.clone();
        member.group.step(Input::Discard { up_to: member.applied }, &mut Vec::new());
        self.disk.replicas.get_mut(&id).unwrap().flush(snapshot);
    }

    // ---- Groups ----

    /// Steps a group, and carries out what comes of it.
    pub(super) fn step(
        &mut self,
        id: GroupId,
        input: Input<'_>,
        bodies: &[Entry],
        context: &mut Context,
    ) {
        let Some(up) = &mut self.up else { return };
        let member = up.members.get_mut(&id).unwrap();
        if member.is_installing {
            return;
        }
        let mut effects = Vec::new();
        member.group.step(input, &mut effects);
        member.leadership.observe(&member.group, context.now);
        for effect in effects {
            self.carry_out(id, effect, bodies, context);
        }
    }

    fn carry_out(&mut self, id: GroupId, effect: Effect, bodies: &[Entry], context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        let member = up.members.get_mut(&id).unwrap();
        match effect {
            Effect::SaveVote(state) => self.save(id, &Record::Vote(state), context),
            Effect::Append { entry, kind, log_epoch } => {
                let body = match bodies.first() {
                    Some(proposed) if kind == Kind::Data => proposed.body.clone(),
                    _ => Body {
                        closed: member.closed.floor(),
                        reserved: member.closed.reservation(context.wall),
                        ..Body::default()
                    },
                };
                member.closed.appended(entry.index, body.reserved);
                let entry_of_log = Entry { header: Header { term: entry.term, kind }, body };
                member.log.push(entry_of_log.clone());
                let (first, entries) = (entry.index, vec![entry_of_log]);
                self.save(id, &Record::Entries { first, entries, log_epoch }, context);
            }
            Effect::AppendReceived { first, skip, log_epoch } => {
                let entries = bodies[skip..].to_vec();
                member.log.truncate((first.0 - member.base().0 - 1) as usize);
                member.log.extend_from_slice(&entries);
                for (index, entry) in (first.0..).zip(&entries) {
                    member.closed.appended(LogIndex(index), entry.body.reserved);
                }
                self.save(id, &Record::Entries { first, entries, log_epoch }, context);
            }
            Effect::Send { to, message } => self.push(id, to, Item::Consensus(message)),
            Effect::SendAppend { to, term, previous, last, commit } => {
                self.push(id, to, Item::Append { term, previous, last, commit });
            }
            Effect::SnapshotNeeded { to } => {
                up.snapshots_needed.insert((id, number(to)), None);
            }
            Effect::Committed { up_to } => member.apply(id, up_to, context.oracle),
            Effect::BecameLeader { term } => {
                member.closed.lead();
                context.oracle.leads(id, node, term, member.base(), &member.log);
            }
            Effect::SteppedDown => member.waiting.clear(),
            Effect::Refused(_) => {}
        }
    }

    /// Begins a write.
    fn save(&mut self, id: GroupId, record: &Record, context: &mut Context) {
        let is_rushed = match record {
            Record::Entries { .. } => !is_kept(Rule::EntriesAreSynced),
            Record::Vote(_) | Record::Install(_) => false,
        };
        self.up.as_mut().unwrap().writes.push_back((id, record.clone()));
        if is_rushed {
            self.report(id, record, context);
        }
    }

    fn push(&mut self, id: GroupId, to: HostId, item: Item) {
        let links = &mut self.up.as_mut().unwrap().links;
        if let Some(link) = links.get_mut(&number(to)) {
            link.push(id, item);
        }
    }

    // ---- Clients ----

    /// Proposes a write; whether this node leads the group.
    pub(super) fn propose(
        &mut self,
        id: GroupId,
        value: u64,
        lag: i64,
        context: &mut Context,
    ) -> bool {
        let Some(up) = &mut self.up else { return false };
        let member = up.members.get_mut(&id).unwrap();
        let group = &member.group;
        if !group.is_leader() || member.leadership.is_transferring() || member.is_installing {
            return false;
        }
        member.waiting.push_back((group.last().index.next(), group.term()));
        // The place: the write's own timestamp, or above what is closed.
        let timestamp = context.wall - lag;
        let floor = member.closed.floor();
        let is_late = timestamp <= floor;
        let place = if is_late { floor + 1 } else { timestamp };
        member.closed.close_by_entry(if is_late { place } else { context.wall - 1_000_000 });
        let closed = member.closed.floor();
        let reserved = member.closed.reservation(context.wall);
        let body = Body { value: Some(value), place, closed, reserved };
        let header = Header { term: group.term(), kind: Kind::Data };
        self.step(id, Input::Propose, &[Entry { header, body }], context);
        true
    }

    /// Begins a read; whether it may be answered here as things stand.
    pub(super) fn begin_read(&mut self, id: GroupId, context: &mut Context) -> bool {
        let Some(up) = &mut self.up else { return false };
        let member = &up.members[&id];
        let may = member.leadership.may_serve(&member.group, &up.liveness, context.now);
        if may && !member.is_installing {
            up.reads.push_back(Read { group: id, floor: context.oracle.observed(id) });
        }
        may
    }

    /// A client's read arrives at what it takes for the leader, which may be paused: then it waits.
    pub(super) fn request_read(&mut self, id: GroupId, oracle: &mut Oracle) {
        let Some(up) = &mut self.up else { return };
        if up.members[&id].group.is_leader() {
            up.reads.push_back(Read { group: id, floor: oracle.observed(id) });
        }
    }

    /// Reads, looks at the clock, and answers.
    fn finish_reads(&mut self, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        for Read { group, floor } in up.reads.drain(..) {
            let member = &up.members[&group];
            let index = member.applied;
            let now = if is_kept(Rule::ClockAfterRead) { context.now } else { up.last_run };
            if member.leadership.may_serve(&member.group, &up.liveness, now) {
                context.oracle.reads(group, floor, index);
            }
        }
    }

    pub(super) fn transfer(&mut self, id: GroupId, to: u64, context: &mut Context) -> bool {
        let Some(up) = &mut self.up else { return false };
        let member = up.members.get_mut(&id).unwrap();
        let (group, now) = (&member.group, context.now);
        member.leadership.transfer_to(host(to), group, &up.liveness, now).is_ok()
    }

    /// Campaigns without having asked, as long as no promise stands against it: what others must
    /// withstand.
    pub(super) fn campaign(&mut self, id: GroupId, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        let fence = up.members[&id].leadership.fence();
        let holds =
            fence.is_some_and(|fence| up.liveness.supports(fence.leader) == Some(fence.epoch));
        if up.liveness.may_vote() && !holds {
            context.oracle.count("campaigns out of turn");
            self.step(id, Input::Campaign, &[], context);
        }
    }

    pub(super) fn change(&mut self, id: GroupId, change: Change, context: &mut Context) {
        self.step(id, Input::ChangeMembers(change), &[], context);
    }

    // ---- Messages ----

    /// Takes a packet.
    pub(super) fn receive(&mut self, packet: Packet, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        let from = packet.from;
        match packet.payload {
            Payload::Liveness(message) => {
                let mut effects = Vec::new();
                up.liveness.receive(host(from), message, context.now, &mut effects);
                self.carry_out_liveness(effects, context);
            }
            Payload::Envelope(envelope, entries) => {
                let mut events = Vec::new();
                up.links.get_mut(&from).unwrap().receive(envelope, &mut events);
                let mut entries = entries.into_iter();
                for event in events {
                    match event {
                        link::Event::Items(items) => {
                            for (id, item) in items {
                                self.receive_item(id, from, item, &mut entries, context);
                            }
                        }
                        link::Event::Reset => self.reset(from, context),
                    }
                }
            }
            Payload::Snapshot(id, snapshot) => self.install(id, from, snapshot, context),
            Payload::Installed(id) => {
                up.snapshots_needed.remove(&(id, from));
                self.step(id, Input::Resend { to: host(from) }, &[], context);
            }
        }
    }

    fn receive_item(
        &mut self,
        id: GroupId,
        from: u64,
        item: Item,
        entries: &mut impl Iterator<Item = Vec<Entry>>,
        context: &mut Context,
    ) {
        let up = self.up.as_mut().unwrap();
        let member = up.members.get_mut(&id).unwrap();
        let (message, bodies) = match item {
            Item::Append { term, previous, commit, .. } => {
                let bodies = entries.next().unwrap();
                let entries = bodies.iter().map(|entry| entry.header.clone()).collect();
                (Message::Append { term, previous, entries, commit }, bodies)
            }
            Item::Consensus(message) => (message, Vec::new()),
            Item::Leadership(message) => {
                let mut effects = Vec::new();
                let Member { group, leadership, .. } = member;
                let from = host(from);
                leadership.receive(from, message, group, &up.liveness, context.now, &mut effects);
                self.carry_out_leadership(id, effects, context);
                return;
            }
            Item::Closed { index, closed } => {
                member.closed.learned(index, closed, member.applied);
                context.oracle.closes(id, member.applied, member.closed.believed());
                return;
            }
        };
        let group = &member.group;
        let sender = host(from);
        if member.leadership.admits(group, sender, &message, &up.liveness, context.now) {
            let input = Input::Receive { from: sender, message: &message };
            self.step(id, input, &bodies, context);
        }
    }

    /// Messages were lost: whoever leads here begins anew with its followers there.
    fn reset(&mut self, peer: u64, context: &mut Context) {
        context.oracle.count("resets");
        let up = self.up.as_mut().unwrap();
        let led = up.members.iter().filter(|(_, member)| member.group.is_leader());
        let led: Vec<GroupId> = led.map(|(&id, _)| id).collect();
        for id in led {
            self.step(id, Input::Resend { to: host(peer) }, &[], context);
        }
    }

    fn install(&mut self, id: GroupId, from: u64, snapshot: Snapshot, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        let member = up.members.get_mut(&id).unwrap();
        if member.is_installing {
            return;
        }
        if snapshot.base.index > member.group.commit() {
            member.is_installing = true;
            up.writes.push_back((id, Record::Install(snapshot)));
            up.installing.insert(id, from);
            return;
        }
        let payload = Payload::Installed(id);
        context.out.push(Packet { from: node, to: from, payload });
    }

    fn carry_out_leadership(
        &mut self,
        id: GroupId,
        effects: Vec<leadership::Effect>,
        context: &mut Context,
    ) {
        for effect in effects {
            match effect {
                leadership::Effect::Send { to, message } => {
                    self.push(id, to, Item::Leadership(message));
                }
                leadership::Effect::Campaign => self.step(id, Input::Campaign, &[], context),
                leadership::Effect::Resend { to } => {
                    self.step(id, Input::Resend { to }, &[], context);
                }
            }
        }
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
                    for member in up.members.values_mut() {
                        let fence = member.leadership.fence();
                        let is_fenced = fence.is_some_and(|fence| fence.leader == from);
                        if is_fenced || member.group.leader() == Some(from) {
                            member.leadership.wake(context.now);
                        }
                    }
                }
                liveness::Effect::Gained { .. } => {
                    for member in up.members.values_mut().filter(|m| m.group.is_leader()) {
                        member.leadership.wake(context.now);
                    }
                }
            }
        }
    }

    // ---- Time ----

    /// Does what is due, and sends what waits.
    pub(super) fn run(&mut self, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        let mut effects = Vec::new();
        up.liveness.tick(context.now, &mut effects);
        self.carry_out_liveness(effects, context);
        let up = self.up.as_mut().unwrap();
        let is_due = |member: &Member| {
            member.leadership.next_tick().is_some_and(|moment| moment <= context.now)
        };
        let due = up.members.iter().filter(|(_, member)| is_due(member) && !member.is_installing);
        let due: Vec<GroupId> = due.map(|(&id, _)| id).collect();
        for id in due {
            let up = self.up.as_mut().unwrap();
            let Member { group, leadership, .. } = up.members.get_mut(&id).unwrap();
            let mut effects = Vec::new();
            leadership.tick(group, &up.liveness, context.now, &mut effects);
            self.carry_out_leadership(id, effects, context);
        }
        self.finish_reads(context);
        self.send_snapshots(context);
        self.send(context);
        self.up.iter_mut().for_each(|up| up.last_run = context.now);
    }

    /// Tells the followers of a group what time is closed.
    pub(super) fn beat(&mut self, id: GroupId, context: &mut Context) {
        let Some(up) = &mut self.up else { return };
        let member = up.members.get_mut(&id).unwrap();
        if !member.group.is_leader() || member.is_installing {
            return;
        }
        let index = member.group.last().index;
        let closed = member.closed.close_by_beat(context.wall - 100_000);
        context.oracle.closes(id, index, closed);
        member.closed.learned(index, closed, member.applied);
        context.oracle.closes(id, member.applied, member.closed.believed());
        let members = member.group.members().clone();
        let me = host(self.id);
        for to in members.members().filter(|&to| to != me) {
            self.push(id, to, Item::Closed { index, closed });
        }
    }

    fn send_snapshots(&mut self, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        let members = &up.members;
        up.snapshots_needed.retain(|(id, _), _| members[id].group.is_leader());
        let due = up
            .snapshots_needed
            .iter_mut()
            .filter(|(_, sent)| sent.is_none_or(|sent| sent.after(SNAPSHOT_NANOS) <= context.now));
        for (&(id, to), sent) in due {
            *sent = Some(context.now);
            let payload = Payload::Snapshot(id, members[&id].snapshot.clone());
            context.out.push(Packet { from: node, to, payload });
        }
    }

    fn send(&mut self, context: &mut Context) {
        let node = self.id;
        let up = self.up.as_mut().unwrap();
        let logs = Logs(&up.members);
        for (&to, link) in &mut up.links {
            while let Some(envelope) = link.take(&logs, context.now) {
                let mut entries = Vec::new();
                for (id, item) in &envelope.items {
                    if let Item::Append { previous, last, .. } = item {
                        let indexes = (previous.index.0 + 1..=last.0).map(LogIndex);
                        let member = &up.members[id];
                        entries.push(indexes.map(|i| member.entry(i).unwrap().clone()).collect());
                    }
                }
                let payload = Payload::Envelope(envelope, entries);
                context.out.push(Packet { from: node, to, payload });
            }
        }
    }
}

impl Member {
    fn apply(&mut self, id: GroupId, up_to: LogIndex, oracle: &mut Oracle) {
        let term = self.group.term();
        for index in (self.applied.0 + 1..=up_to.0).map(LogIndex) {
            let entry = self.entry(index).expect("what is committed here is in the log").clone();
            oracle.commits(id, index, &entry, term);
            self.applied = index;
            self.value = entry.body.value.unwrap_or(self.value);
            self.closed.applied(index);
            self.closed.learned(index, entry.body.closed, index);
            oracle.closes(id, index, self.closed.believed());
            if self.waiting.front().is_some_and(|&(waiting, _)| waiting <= index)
                && let Some((waiting, term)) = self.waiting.pop_front()
            {
                assert_eq!((waiting, term), (index, entry.header.term), "the entry waited for");
                oracle.acknowledges(id, index);
            }
        }
    }
}
