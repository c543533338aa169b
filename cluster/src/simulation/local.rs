//! What the replicas of a simulated node act on: a log whose writes wait for a disk, and registers.

use super::disk::{Body, Entry, Record, Replayed, Snapshot};
use crate::consensus::{EntryId, HardState, Header, Kind, LogIndex, Term};
use crate::leadership::{ClosedMicros, ClosedTime};
use crate::placement::GroupId;
use crate::replica::{Committed, HeldEntry, LocalLog, LocalState, LogPosition, LogRequest};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

/// Who waits for an entry.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) group: GroupId,
    pub(super) entry: EntryId,
}

/// What a record takes of the log besides an entry's bytes or a vote, and what a vote takes.
const RECORD_BYTES: usize = 36;
const VOTE_BYTES: usize = 16;

/// What may wait beyond what is admitted: of a log's own records, which are few.
const OWN_BYTES_MAX: usize = 500;

/// The log has no room now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The log as the groups believe it to be, and the writes that are on their way to the disk.
#[derive(Default)]
pub(super) struct SimLog {
    /// What may wait for the disk; any number of bytes, unless that is limited.
    pub(super) bytes_max: Option<usize>,
    /// How often there was no room.
    pub(super) refusal_count: Cell<u64>,
    groups: BTreeMap<GroupId, GroupLog>,
    /// Of all groups, in order, with the position behind each.
    pub(super) writes: VecDeque<(u64, GroupId, Record)>,
    appended: u64,
}

/// One group's part of it.
#[derive(Default)]
pub(super) struct GroupLog {
    /// The entry before the first.
    pub(super) base: LogIndex,
    pub(super) entries: Vec<Entry>,
}

impl GroupLog {
    pub(super) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.entries.get(index.0.checked_sub(self.base.0 + 1)? as usize)
    }
}

impl SimLog {
    /// A group's log as it was read back.
    pub(super) fn recover(&mut self, group: GroupId, replayed: &Replayed) {
        let (base, entries) = (replayed.snapshot.base.index, replayed.entries.clone());
        self.groups.insert(group, GroupLog { base, entries });
    }

    pub(super) fn of(&self, group: GroupId) -> &GroupLog {
        &self.groups[&group]
    }

    /// The position behind everything appended.
    pub(super) fn appended(&self) -> LogPosition {
        LogPosition(self.appended)
    }

    /// Drops the log up to an entry.
    pub(super) fn cut(&mut self, group: GroupId, base: LogIndex) {
        let log = self.groups.get_mut(&group).unwrap();
        log.entries.drain(..(base.0 - log.base.0) as usize);
        log.base = base;
    }

    /// Forgets what a group was to write: the log says next that the group was removed.
    pub(super) fn remove(&mut self, group: GroupId) {
        self.groups.remove(&group);
        self.writes.retain(|(_, of, _)| *of != group);
    }

    /// Begins to write a snapshot.
    pub(super) fn install(&mut self, group: GroupId, snapshot: Snapshot) {
        self.write(group, Record::Install(snapshot));
    }

    /// Entries for a follower that lags, the first few of those asked for.
    pub(super) fn read(&self, request: &LogRequest, count: usize) -> Vec<HeldEntry> {
        let log = self.of(request.group);
        let indexes = (request.first.0..=request.last.0).take(count).map(LogIndex);
        let found = indexes.map_while(|index| log.entry(index));
        let held = |entry: &Entry| HeldEntry {
            term: entry.header.term,
            kind: entry.header.kind.clone(),
            payload: entry.body.to_bytes(),
        };
        found.map(held).collect()
    }

    /// Whether a record with so many bytes may wait for the disk, and `own_bytes_max` beyond what is
    /// admitted.
    fn check_room(&self, bytes: usize, own_bytes_max: usize) -> Result<(), Full> {
        let Some(bytes_max) = self.bytes_max else { return Ok(()) };
        let waiting = self.writes.iter().map(|(_, _, record)| bytes_of(record));
        let total = waiting.sum::<usize>() + RECORD_BYTES + bytes;
        if total <= bytes_max + own_bytes_max {
            return Ok(());
        }
        self.refusal_count.update(|count| count + 1);
        Err(Full)
    }

    fn write(&mut self, group: GroupId, record: Record) -> LogPosition {
        self.appended += 1;
        self.writes.push_back((self.appended, group, record));
        LogPosition(self.appended)
    }
}

/// What a record takes of the log.
fn bytes_of(record: &Record) -> usize {
    match record {
        Record::Vote(_) => RECORD_BYTES + VOTE_BYTES,
        Record::Entries { entries, .. } => entries.iter().map(bytes_of_entry).sum(),
        // It is written elsewhere.
        Record::Install(_) => 0,
    }
}

fn bytes_of_entry(entry: &Entry) -> usize {
    let members = match &entry.header.kind {
        Kind::Membership(members) => members.encoded_bytes(),
        Kind::Data | Kind::NoOp => 0,
    };
    RECORD_BYTES + members + entry.body.to_bytes().len()
}

impl LocalLog for SimLog {
    type Error = Full;

    fn admit(&self, _: GroupId, bytes: usize) -> Result<(), Full> {
        self.check_room(bytes, 0)
    }

    fn payload_bytes_max(&self) -> usize {
        self.bytes_max.unwrap_or(usize::MAX)
    }

    fn append(
        &mut self,
        group: GroupId,
        id: EntryId,
        kind: &Kind,
        payload: &[u8],
    ) -> Result<LogPosition, Full> {
        let header = Header { term: id.term, kind: kind.clone() };
        let entry = Entry { header, body: Body::from_bytes(payload) };
        let own_bytes_max = if *kind == Kind::Data { 0 } else { OWN_BYTES_MAX };
        self.check_room(bytes_of_entry(&entry) - RECORD_BYTES, own_bytes_max)?;
        let log = self.groups.get_mut(&group).unwrap();
        log.entries.truncate((id.index.0 - log.base.0 - 1) as usize);
        log.entries.push(entry.clone());
        let entries = vec![entry];
        Ok(self.write(group, Record::Entries { first: id.index, entries }))
    }

    fn save_vote(&mut self, group: GroupId, vote: HardState) -> Result<LogPosition, Full> {
        self.check_room(VOTE_BYTES, OWN_BYTES_MAX)?;
        Ok(self.write(group, Record::Vote(vote)))
    }
}

/// Something that the oracle is to be told.
pub(super) enum Event {
    Leads(GroupId, Term),
    Commits(GroupId, LogIndex, Entry),
    Closes(GroupId, LogIndex, ClosedMicros),
}

/// The registers.
#[derive(Default)]
pub(super) struct SimState {
    registers: BTreeMap<GroupId, Register>,
    pub(super) events: Vec<Event>,
    /// What the wall clock shows.
    pub(super) wall: i64,
}

struct Register {
    value: u64,
    closed: ClosedTime,
    applied: EntryId,
    snapshot: Snapshot,
}

impl SimState {
    /// A register as it was read back.
    pub(super) fn recover(&mut self, group: GroupId, replayed: Replayed) {
        let Replayed { snapshot, entries, .. } = replayed;
        let applied = snapshot.base;
        let pending = (applied.index.0 + 1..).map(LogIndex);
        let pending = pending.zip(entries.iter().map(|entry| entry.body.reserved)).collect();
        let closed = ClosedTime::recover(snapshot.closed, snapshot.reserved, pending);
        let register = Register { value: snapshot.value, closed, applied, snapshot };
        self.registers.insert(group, register);
    }

    pub(super) fn closed(&self, group: GroupId) -> ClosedMicros {
        self.registers[&group].closed.believed()
    }

    /// The snapshot that was taken or installed last.
    pub(super) fn last_snapshot(&self, group: GroupId) -> &Snapshot {
        &self.registers[&group].snapshot
    }

    /// Takes a snapshot.
    pub(super) fn snapshot(&mut self, group: GroupId, base: EntryId, log: &GroupLog) -> Snapshot {
        let register = self.registers.get_mut(&group).unwrap();
        assert_eq!(register.applied, base, "what is applied is what was handed out");
        let count = (base.index.0 - log.base.0) as usize;
        let named = |(index, entry): (u64, &Entry)| match &entry.header.kind {
            Kind::Membership(members) => Some((LogIndex(index), members.clone())),
            _ => None,
        };
        let applied = (log.base.0 + 1..).zip(&log.entries[..count]);
        let members = applied.filter_map(named).last();
        let reserved = log.entries[..count].iter().map(|entry| entry.body.reserved);
        register.snapshot = Snapshot {
            base,
            members: members.unwrap_or_else(|| register.snapshot.members.clone()),
            value: register.value,
            closed: register.closed.believed(),
            reserved: reserved.fold(register.snapshot.reserved, i64::max),
        };
        register.snapshot.clone()
    }

    /// What a leader writes for a client, whose clock shows `lag` less: the place is the write's own
    /// timestamp, or above what is closed.
    pub(super) fn place(&mut self, group: GroupId, value: u64, lag: i64, wall: i64) -> Body {
        let closed = &mut self.registers.get_mut(&group).unwrap().closed;
        let timestamp = wall - lag;
        let floor = closed.floor();
        let is_late = timestamp <= floor;
        let place = if is_late { floor + 1 } else { timestamp };
        closed.close_by_entry(if is_late { place } else { wall - 1_000_000 });
        let reserved = closed.reservation(wall);
        Body { value: Some(value), place, closed: closed.floor(), reserved }
    }

    /// As leader, closes a time after the last entry of the log: what is closed, what is applied, and
    /// what is believed here.
    pub(super) fn beat(
        &mut self,
        group: GroupId,
        last: EntryId,
        wanted: i64,
    ) -> (ClosedMicros, LogIndex, ClosedMicros) {
        let register = self.registers.get_mut(&group).unwrap();
        let closed = register.closed.close_by_beat(wanted);
        register.closed.learned(last, closed, register.applied);
        (closed, register.applied.index, register.closed.believed())
    }
}

impl LocalState for SimState {
    fn apply<'a>(
        &mut self,
        entries: impl Iterator<Item = Committed<'a>>,
    ) -> Vec<(GroupId, LogIndex)> {
        for Committed { group, index, term, kind, payload } in entries {
            let register = self.registers.get_mut(&group).unwrap();
            let next = register.applied.index.next();
            assert_eq!(index, next, "entries are applied once, in order");
            let body = Body::from_bytes(payload);
            let applied = EntryId { index, term };
            register.applied = applied;
            register.value = body.value.unwrap_or(register.value);
            register.closed.applied(applied);
            register.closed.learned(applied, body.closed, applied);
            let entry = Entry { header: Header { term, kind: kind.clone() }, body };
            self.events.push(Event::Commits(group, index, entry));
            self.events.push(Event::Closes(group, index, register.closed.believed()));
        }
        Vec::new()
    }

    fn own_payload(&mut self, group: GroupId, payload: &mut Vec<u8>) {
        let closed = &self.registers[&group].closed;
        let (floor, reserved) = (closed.floor(), closed.reservation(self.wall));
        let body = Body { closed: floor, reserved, ..Body::default() };
        payload.extend_from_slice(&body.to_bytes());
    }

    fn appended(&mut self, group: GroupId, index: LogIndex, payload: &[u8]) {
        let register = self.registers.get_mut(&group).unwrap();
        register.closed.appended(index, Body::from_bytes(payload).reserved);
    }

    fn leads(&mut self, group: GroupId, term: Term) {
        self.registers.get_mut(&group).unwrap().closed.lead();
        self.events.push(Event::Leads(group, term));
    }

    fn closed(&mut self, group: GroupId, entry: EntryId, closed: ClosedMicros) {
        let register = self.registers.get_mut(&group).unwrap();
        register.closed.learned(entry, closed, register.applied);
        let believed = register.closed.believed();
        self.events.push(Event::Closes(group, register.applied.index, believed));
    }
}
