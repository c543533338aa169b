//! What replicas hear from the shards of other nodes, what they send them, and what time brings.

use super::catch_up::{CatchUp, LogRequest, READ_ENTRIES_MAX, RETRY_NANOS, State};
use super::links::Outgoing;
use super::local::{HeldEntry, Local, LocalLog, LocalState};
use super::member::Replica;
use super::replicas::{FETCHED_AHEAD, Replicas};
use super::room::{BadEntry, may_campaign};
use crate::consensus::{EntryId, Input, LogIndex, Message};
use crate::leadership::{self, ClosedMicros, Support};
use crate::link::{self, EntryView, Envelope, Item};
use crate::liveness::MonotonicNanos;
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::ring::HostId;
use crate::wire::DecodeError;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

/// Room for more heads than these is not kept.
const HEADERS_KEPT_MAX: usize = 1_024;

/// Why a message of a peer was not taken.
#[derive(Debug)]
pub enum ReceiveError<E> {
    /// It is not one. Nothing came of it.
    Malformed(DecodeError),
    /// There are too many links.
    TooManyLinks,
    /// These entries can never be taken. They were passed over with what follows them in their groups,
    /// and all else was taken.
    BadEntries(Vec<BadEntry>),
    /// The log has failed.
    Log(E),
}

impl<E: fmt::Display> fmt::Display for ReceiveError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveError::Malformed(error) => write!(f, "a message cannot be read: {error}"),
            ReceiveError::TooManyLinks => f.write_str("there are too many peers"),
            ReceiveError::BadEntries(bad) => bad.iter().try_for_each(|bad| writeln!(f, "{bad}")),
            ReceiveError::Log(error) => error.fmt(f),
        }
    }
}

impl<W> Replicas<W> {
    /// Takes an envelope of another shard. What the log has no room for now counts as lost, and is
    /// sent again.
    pub fn receive<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        from: Peer,
        bytes: &[u8],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), ReceiveError<L::Error>> {
        let link::Received { envelope, entries } =
            Envelope::decode(bytes).map_err(ReceiveError::Malformed)?;
        let connection = self.links.get(from).ok_or(ReceiveError::TooManyLinks)?;
        let mut events = Vec::new();
        connection.link.receive(envelope, local.now, &mut events);
        let mut bad = Vec::new();
        for event in events {
            match event {
                link::Event::Items(items) => {
                    self.receive_items(from, items, &entries, &mut bad, local)
                }
                link::Event::Reset => self.reset(from, local),
            }
            .map_err(ReceiveError::Log)?;
        }
        self.apply_committed(local.state);
        if bad.is_empty() { Ok(()) } else { Err(ReceiveError::BadEntries(bad)) }
    }

    fn receive_items<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        from: Peer,
        items: Vec<(GroupId, Item)>,
        mut entries: &[EntryView<'_>],
        bad: &mut Vec<BadEntry>,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        // What comes of these behind what there was no room for would leave a gap.
        let mut refused = BTreeSet::new();
        let mut items = items.into_iter();
        let mut fetched_count = 0;
        while let Some((id, item)) = items.next() {
            if fetched_count == 0 {
                fetched_count = FETCHED_AHEAD;
                let next = items.as_slice().iter().map(|(id, _)| *id);
                self.look_ahead(std::iter::once(id).chain(next).take(FETCHED_AHEAD));
            }
            fetched_count -= 1;
            let mut bodies = bodies_of(&item, &mut entries);
            if refused.contains(&id) {
                continue;
            }
            if let Some((found, usable)) = self.find_bad(id, &item, bodies, local) {
                bad.push(found);
                bodies = &bodies[..usable];
                if bodies.is_empty() {
                    continue;
                }
            }
            let taken = self.room_for(id, &item, bodies, local.log);
            if taken.is_none_or(|taken| taken < bodies.len()) {
                refused.insert(id);
            }
            if let Some(taken) = taken {
                self.receive_item(id, from.host_id, item, &bodies[..taken], local)?;
            }
        }
        if refused.is_empty() { Ok(()) } else { self.refuse(from, local) }
    }

    /// What was not taken of a session counts as lost, with all that comes behind it.
    fn refuse<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        from: Peer,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        if let Some(connection) = self.links.get(from) {
            connection.link.refuse(&mut Vec::new());
        }
        self.reset(from, local)
    }

    fn receive_item<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        from: HostId,
        item: Item,
        bodies: &[EntryView<'_>],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        let Some(replica) = self.groups.get_mut(&id).filter(|r| !r.is_suspended) else {
            return Ok(());
        };
        let message = match item {
            Item::Append { term, previous, commit, .. } => {
                let mut entries = std::mem::take(&mut self.headers);
                entries.extend(bodies.iter().map(|view| view.header.clone()));
                Message::Append { term, previous, entries, commit }
            }
            Item::Consensus(message) => message,
            Item::Leadership(message) => {
                let mut effects = Vec::new();
                let Replica { group, leadership, .. } = &mut **replica;
                leadership.receive(from, message, group, local.support, local.now, &mut effects);
                let next = leadership.next_tick();
                self.due_at(next);
                return self.carry_out_leadership(id, &effects, local);
            }
            Item::Closed { entry, closed } => {
                local.state.closed(id, entry, closed);
                return Ok(());
            }
        };
        let Replica { group, leadership, .. } = &mut **replica;
        if leadership.admits(group, from, &message, local.support, local.now) {
            self.step_of_many(id, Input::Receive { from, message: &message }, bodies, local)?;
        }
        if let Message::Append { mut entries, .. } = message
            && entries.capacity() <= HEADERS_KEPT_MAX
        {
            entries.clear();
            self.headers = entries;
        }
        Ok(())
    }

    fn carry_out_leadership<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        id: GroupId,
        effects: &[leadership::Effect],
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        for effect in effects {
            match *effect {
                leadership::Effect::Send { to, message } => {
                    self.push(id, to, Item::Leadership(message));
                }
                leadership::Effect::Campaign if may_campaign(id, local.log) => {
                    self.step(id, Input::Campaign, &[], local)?;
                }
                leadership::Effect::Campaign => {}
                leadership::Effect::Resend { to } => {
                    self.step(id, Input::Resend { to }, &[], local)?;
                }
            }
        }
        Ok(())
    }

    /// Messages were lost: whoever leads here begins anew with its followers there.
    fn reset<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        peer: Peer,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        let to = peer.host_id;
        let concerns = |replica: &Replica<W>| {
            replica.group.is_leader() && replica.shard_of(to) == Some(peer.shard)
        };
        let led = self.groups.iter().filter(|(_, replica)| concerns(replica));
        let mut led: Vec<GroupId> = led.map(|(&id, _)| id).collect();
        led.sort_unstable();
        for id in led {
            if let Some(replica) = self.groups.get_mut(&id) {
                replica.catch_ups.retain(|catch_up| catch_up.to != to);
            }
            self.step(id, Input::Resend { to }, &[], local)?;
        }
        Ok(())
    }

    // ---- Sending ----

    /// Puts a message of a group into the outbox of its member's link.
    pub(super) fn push(&mut self, id: GroupId, to: HostId, item: Item) {
        let Some(replica) = self.groups.get_mut(&id) else { return };
        let Some(shard) = replica.shard_of(to) else { return };
        // Whoever is sent what has to be read hears with it what is committed.
        let is_commit = matches!(item, Item::Consensus(Message::Commit { .. }));
        if is_commit && replica.catch_ups.iter().any(|catch_up| catch_up.to == to) {
            return;
        }
        if matches!(item, Item::Append { .. })
            && let Some(at) = replica.catch_ups.iter().position(|catch_up| catch_up.to == to)
        {
            if replica.catch_ups[at].join(&item) {
                return;
            }
            replica.catch_ups.swap_remove(at);
        }
        let Some(connection) = self.links.get(Peer { host_id: to, shard }) else { return };
        connection.link.push(id, item);
    }

    /// Tells the other members of a group that is led here that a time is closed after an entry, the
    /// last of its log.
    pub fn tell_closed(&mut self, id: GroupId, entry: EntryId, closed: ClosedMicros) {
        let Some(replica) = self.groups.get(&id) else { return };
        let others = replica.group.members().members().filter(|&host| host != self.me);
        for to in others.collect::<Vec<_>>() {
            self.push(id, to, Item::Closed { entry, closed });
        }
    }

    /// Appends the bytes of the next envelope that can leave to `out`, and says for whom it is. It
    /// has to be sent before any other to that shard, or [`Replicas::connected`] be called again.
    pub fn take_outgoing(&mut self, now: MonotonicNanos, out: &mut Vec<u8>) -> Option<Peer> {
        self.resume_from_memory();
        let is_catching_up = !self.catching_up.is_empty();
        loop {
            let groups = &self.groups;
            let (peer, ends, missing) = self.links.connected().find_map(|(peer, link)| {
                let missing = RefCell::default();
                let logs = Outgoing { groups, to: peer.host_id, last: Cell::new(None), missing };
                let ends = link.take(&logs, now).map(|envelope| {
                    envelope.encode(out, |group, index| {
                        logs.view(group, index).expect("an envelope is filled with what is at hand")
                    });
                    let items = envelope.items.iter().filter(|_| is_catching_up);
                    items.filter_map(end_of_append).collect::<Vec<_>>()
                });
                let missing = logs.missing.into_inner();
                (ends.is_some() || !missing.is_empty()).then_some((peer, ends, missing))
            })?;
            self.follow_envelope(peer.host_id, ends.as_deref().unwrap_or_default(), missing);
            if ends.is_some() {
                return Some(peer);
            }
        }
    }

    /// Follows what an envelope took and lacked: what was read and has left is forgotten, and what
    /// was not at hand is to be read.
    fn follow_envelope(
        &mut self,
        to: HostId,
        ends: &[(GroupId, LogIndex)],
        missing: Vec<(GroupId, Item)>,
    ) {
        for (group, last) in ends {
            let Some(replica) = self.groups.get_mut(group) else { continue };
            replica.catch_ups.retain_mut(|catch_up| catch_up.to != to || !catch_up.sent(*last));
        }
        for (group, rest) in missing {
            let Some(replica) = self.groups.get_mut(&group) else { continue };
            replica.catch_ups.retain(|catch_up| catch_up.to != to);
            replica.catch_ups.extend(CatchUp::new(to, &rest));
            self.catching_up.insert(group);
        }
    }

    /// Followers whose next entry is in memory are sent it from there.
    fn resume_from_memory(&mut self) {
        for id in self.catching_up.iter().copied().collect::<Vec<_>>() {
            let Some(replica) = self.groups.get_mut(&id) else { continue };
            let (resumed, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut replica.catch_ups).into_iter().partition(|catch_up| {
                    let next = catch_up.previous.index.next();
                    catch_up.state == State::Asks && replica.entry(next).is_some()
                });
            if rest.is_empty() {
                self.catching_up.remove(&id);
            }
            replica.catch_ups = rest;
            for CatchUp { to, term, previous, last, commit, .. } in resumed {
                self.push(id, to, Item::Append { term, previous, last, commit });
            }
        }
    }

    /// A connection with a shard stands: whatever was sent before is lost.
    pub fn connected<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        peer: Peer,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        if let Some(connection) = self.links.get(peer) {
            connection.is_connected = true;
            connection.link.break_off(&mut Vec::new());
        }
        self.reset(peer, local)
    }

    /// The connection with a shard is gone: nothing is taken for it until it stands again.
    pub fn disconnected(&mut self, peer: Peer) {
        if let Some(connection) = self.links.get(peer) {
            connection.is_connected = false;
        }
    }

    /// The next entries to be read from the log; [`Replicas::read`] takes them.
    pub fn take_log_request(&mut self) -> Option<LogRequest> {
        let asks = |catch_up: &CatchUp| catch_up.state == State::Asks;
        let is_asking = |id: &GroupId| {
            self.groups.get(id).is_some_and(|replica| replica.catch_ups.iter().any(asks))
        };
        let group = self.catching_up.iter().copied().find(is_asking)?;
        let replica = self.groups.get_mut(&group)?;
        let catch_up = replica.catch_ups.iter_mut().find(|catch_up| asks(catch_up))?;
        catch_up.state = State::Reads;
        let (to, first, last) = (catch_up.to, catch_up.previous.index.next(), catch_up.last);
        let last = last.min(LogIndex(first.0 + READ_ENTRIES_MAX));
        Some(LogRequest { group, to, first, last, terms: replica.terms(first, last) })
    }

    /// Entries that were asked for, the first of them at least; none if the log does not have them.
    pub fn read(&mut self, request: &LogRequest, entries: Vec<HeldEntry>, now: MonotonicNanos) {
        let LogRequest { group, to, first, .. } = *request;
        let Some(replica) = self.groups.get_mut(&group) else { return };
        let is_meant = |catch_up: &&mut CatchUp| {
            let is_next = catch_up.previous.index.next() == first;
            catch_up.to == to && catch_up.state == State::Reads && is_next
        };
        let Some(catch_up) = replica.catch_ups.iter_mut().find(is_meant) else { return };
        let Some(item) = catch_up.take(entries) else {
            let moment = now.after(RETRY_NANOS);
            catch_up.state = State::Rests(moment);
            self.due_at(Some(moment));
            return;
        };
        let shard = replica.shard_of(to);
        if let Some(connection) =
            shard.and_then(|shard| self.links.get(Peer { host_id: to, shard }))
        {
            connection.link.push(group, item);
        }
    }

    // ---- Time and support ----

    /// Does what is due.
    pub fn tick<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<(), L::Error> {
        if self.next_due.is_none_or(|due| due > local.now) {
            return Ok(());
        }
        let is_due = |replica: &Replica<W>| {
            let next = replica.next_tick();
            next.is_some_and(|moment| moment <= local.now) && !replica.is_suspended
        };
        let due = self.groups.iter().filter(|(_, replica)| is_due(replica));
        let mut due: Vec<GroupId> = due.map(|(&id, _)| id).collect();
        due.sort_unstable();
        for id in due {
            let Some(replica) = self.groups.get_mut(&id) else { continue };
            let rested = replica.take_rested(local.now);
            let mut effects = Vec::new();
            let Replica { group, leadership, .. } = &mut **replica;
            leadership.tick(group, local.support, local.now, &mut effects);
            self.carry_out_leadership(id, &effects, local)?;
            for to in rested {
                self.step(id, Input::Resend { to }, &[], local)?;
            }
        }
        let ticks = self.groups.values().filter(|replica| !replica.is_suspended);
        self.next_due = ticks.filter_map(|replica| replica.next_tick()).min();
        Ok(())
    }

    /// When [`Replicas::tick`] or [`Replicas::take_outgoing`] has something to do by itself.
    pub fn next_tick(&self) -> Option<MonotonicNanos> {
        self.next_due.into_iter().chain(self.links.next_tick()).min()
    }

    /// This node no longer supports another: groups that are led there may want another leader.
    pub fn support_withdrawn(&mut self, from: HostId, now: MonotonicNanos) {
        for replica in self.groups.values_mut() {
            let fence = replica.leadership.fence();
            let is_fenced = fence.is_some_and(|fence| fence.leader == from);
            if is_fenced || replica.group.leader() == Some(from) {
                replica.leadership.wake(now);
            }
        }
        self.due_at(Some(now));
    }

    /// Another node supports this one in a new epoch: leaders here want to be fortified in it.
    pub fn support_gained(&mut self, now: MonotonicNanos) {
        for replica in self.groups.values_mut().filter(|replica| replica.group.is_leader()) {
            replica.leadership.wake(now);
        }
        self.due_at(Some(now));
    }
}

impl<W> Replica<W> {
    /// When something is due.
    fn next_tick(&self) -> Option<MonotonicNanos> {
        let rests = self.catch_ups.iter().filter_map(|catch_up| match catch_up.state {
            State::Rests(moment) => Some(moment),
            _ => None,
        });
        rests.chain(self.leadership.next_tick()).min()
    }

    /// Takes out the followers that have waited long enough after a reading in vain.
    fn take_rested(&mut self, now: MonotonicNanos) -> Vec<HostId> {
        let is_rested = |catch_up: &mut CatchUp| matches!(catch_up.state, State::Rests(moment) if moment <= now);
        self.catch_ups.extract_if(.., is_rested).map(|catch_up| catch_up.to).collect()
    }
}

/// The entries of an item, which `entries` begin with.
fn bodies_of<'a, 'b>(item: &Item, entries: &mut &'a [EntryView<'b>]) -> &'a [EntryView<'b>] {
    let Item::Append { previous, last, .. } = item else { return &[] };
    let count = usize::try_from(last.0 - previous.index.0).unwrap_or(usize::MAX);
    let (bodies, rest) = entries.split_at(count.min(entries.len()));
    *entries = rest;
    bodies
}

fn end_of_append((group, item): &(GroupId, Item)) -> Option<(GroupId, LogIndex)> {
    match item {
        Item::Append { last, .. } => Some((*group, *last)),
        _ => None,
    }
}
