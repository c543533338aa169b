//! A simulated group: members with disks that can be slow or crash, and a network that does as told.
//!
//! The simulation is the shell of every member. It checks after each step that no rule of safety is
//! broken: one leader per term, logs that match, leaders that hold all that was committed, and one
//! entry per committed index.

use super::super::*;
use crate::ring::HostId;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

/// An entry as a shell holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) bytes: String,
}

/// A write on its way to the disk.
#[derive(Clone, Debug)]
enum Write {
    Vote(HardState),
    Entries { first: LogIndex, entries: Vec<Entry>, log_epoch: u64 },
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    base: EntryId,
    /// Entries after the base.
    log: Vec<Entry>,
    /// The membership in force at the base, and the entry that made it.
    base_members: (LogIndex, Arc<Membership>),
    /// How far entries were applied, durably: entries at or below it are committed.
    applied: LogIndex,
}

/// One member.
pub(super) struct Member {
    /// Nothing while it is down.
    pub(super) group: Option<Group>,
    /// The log as the group believes it to be: the disk's, with the writes under way.
    log: Vec<Entry>,
    writes: VecDeque<Write>,
    disk: Disk,
}

/// A message under way, with the bytes that the core does not see.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) message: Message,
    bytes: Vec<String>,
}

/// The group.
#[derive(Default)]
pub(super) struct Simulation {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) network: Vec<Packet>,
    /// Pairs that lose what they send each other.
    pub(super) cuts: Vec<(u64, u64)>,
    /// Members that need a snapshot, after the leader that found so.
    pub(super) snapshots_needed: Vec<(u64, u64)>,
    /// What happened since it was last read.
    pub(super) trace: String,
    leaders: BTreeMap<Term, u64>,
    /// Committed entries, and the lowest term in which one was known to be committed.
    committed: BTreeMap<LogIndex, (Entry, Term)>,
}

pub(super) fn host(id: u64) -> HostId {
    HostId(id.into())
}

fn number(host: HostId) -> u64 {
    host.0 as u64
}

impl Simulation {
    /// Adds a member with an empty log that believes `members` to be the group.
    pub(super) fn add(&mut self, id: u64, members: &Arc<Membership>) {
        let base_members = (LogIndex(0), members.clone());
        let disk = Disk { base_members, ..Disk::default() };
        let member = Member { group: None, log: Vec::new(), writes: VecDeque::new(), disk };
        self.members.insert(id, member);
        self.restart(id);
    }

    /// Starts a member from its disk.
    pub(super) fn restart(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        let disk = &member.disk;
        member.log.clone_from(&disk.log);
        let index_of = |position: usize| LogIndex(disk.base.index.0 + 1 + position as u64);
        let mut runs: Vec<TermRun> = Vec::new();
        let mut memberships = vec![disk.base_members.clone()];
        for (position, entry) in disk.log.iter().enumerate() {
            let term = entry.header.term;
            if runs.last().is_none_or(|run| run.term != term) {
                runs.push(TermRun { first: index_of(position), term });
            }
            if let Kind::Membership(members) = &entry.header.kind {
                memberships.push((index_of(position), members.clone()));
            }
        }
        let committed = memberships.iter().filter(|(index, _)| *index <= disk.applied).count();
        memberships.drain(..committed - 1);
        let recovered = Recovered {
            hard_state: disk.hard_state,
            base: disk.base,
            runs,
            last: LogIndex(disk.base.index.0 + disk.log.len() as u64),
            commit: disk.applied,
            memberships,
            vote_floor: EntryId::default(),
        };
        member.group = Some(Group::recover(host(id), recovered).unwrap());
        self.check();
    }

    /// Stops a member; of its unfinished writes, the first `kept` reached the disk.
    pub(super) fn crash(&mut self, id: u64, kept: usize) {
        let member = self.members.get_mut(&id).unwrap();
        let writes: Vec<Write> = member.writes.drain(..).take(kept).collect();
        for write in writes {
            member.disk.write(write);
        }
        member.group = None;
    }

    /// Feeds a member, unless it is down, and carries out what comes back.
    pub(super) fn step(&mut self, id: u64, input: Input<'_>, bytes: &[String]) {
        let member = self.members.get_mut(&id).unwrap();
        let Some(group) = &mut member.group else {
            return;
        };
        let mut effects = Vec::new();
        group.step(input, &mut effects);
        let headers = match input {
            Input::Receive { message: Message::Append { entries, .. }, .. } => entries.as_slice(),
            _ => &[],
        };
        for effect in effects {
            self.carry_out(id, effect, headers, bytes);
        }
        self.check();
    }

    fn carry_out(&mut self, id: u64, effect: Effect, headers: &[Header], bytes: &[String]) {
        let member = self.members.get_mut(&id).unwrap();
        let base = member.disk.base.index;
        match effect {
            Effect::SaveVote(state) => {
                let vote = state.voted_for.map_or("nobody".to_owned(), |h| number(h).to_string());
                writeln!(self.trace, "{id} saves term {} vote {vote}", state.term.0).unwrap();
                member.writes.push_back(Write::Vote(state));
            }
            Effect::Append { entry, kind, log_epoch } => {
                let is_data = kind == Kind::Data;
                let bytes = if is_data { bytes[0].clone() } else { String::new() };
                let new = Entry { header: Header { term: entry.term, kind }, bytes };
                writeln!(self.trace, "{id} appends {entry} {new}").unwrap();
                assert_eq!(entry.index.0, base.0 + member.log.len() as u64 + 1);
                member.log.push(new.clone());
                let first = entry.index;
                member.writes.push_back(Write::Entries { first, entries: vec![new], log_epoch });
            }
            Effect::AppendReceived { first, skip, log_epoch } => {
                let pairs = headers.iter().zip(bytes).skip(skip);
                let entries: Vec<Entry> = pairs
                    .map(|(header, bytes)| Entry { header: header.clone(), bytes: bytes.clone() })
                    .collect();
                for (index, entry) in (first.0..).zip(&entries) {
                    let term = entry.header.term.0;
                    writeln!(self.trace, "{id} appends {index}@{term} {entry}").unwrap();
                }
                member.log.truncate((first.0 - base.0 - 1) as usize);
                member.log.extend_from_slice(&entries);
                member.writes.push_back(Write::Entries { first, entries, log_epoch });
            }
            Effect::Send { to, message } => {
                self.send(Packet { from: id, to: number(to), message, bytes: Vec::new() });
            }
            Effect::SendAppend { to, term, previous, last, commit } => {
                let range = (previous.index.0 - base.0) as usize..(last.0 - base.0) as usize;
                let sent = &member.log[range];
                let entries = sent.iter().map(|entry| entry.header.clone()).collect();
                let bytes = sent.iter().map(|entry| entry.bytes.clone()).collect();
                let message = Message::Append { term, previous, entries, commit };
                self.send(Packet { from: id, to: number(to), message, bytes });
            }
            Effect::SnapshotNeeded { to } => {
                writeln!(self.trace, "{id} has no entries left for {}", number(to)).unwrap();
                self.snapshots_needed.push((id, number(to)));
            }
            Effect::Committed { up_to } => self.apply(id, up_to),
            Effect::BecameLeader { term } => self.lead(id, term),
            Effect::SteppedDown => writeln!(self.trace, "{id} steps down").unwrap(),
            Effect::Refused(refusal) => {
                writeln!(self.trace, "{id} refuses: {refusal:?}").unwrap();
            }
        }
    }

    fn send(&mut self, packet: Packet) {
        let (from, to) = (packet.from, packet.to);
        let is_cut = self.cuts.iter().any(|&cut| cut == (from, to) || cut == (to, from));
        let fate = if is_cut { " (lost)" } else { "" };
        writeln!(self.trace, "{packet}{fate}").unwrap();
        if !is_cut {
            self.network.push(packet);
        }
    }

    /// Hands over the packet at a position of the network.
    pub(super) fn deliver(&mut self, position: usize) {
        let Packet { from, to, message, bytes } = self.network.remove(position);
        if self.members.contains_key(&to) {
            self.step(to, Input::Receive { from: host(from), message: &message }, &bytes);
        }
    }

    /// Finishes a member's oldest write; whether there was one.
    pub(super) fn sync_one(&mut self, id: u64) -> bool {
        let member = self.members.get_mut(&id).unwrap();
        let Some(write) = member.writes.pop_front() else {
            return false;
        };
        member.disk.write(write.clone());
        match write {
            Write::Vote(state) => self.step(id, Input::VoteSynced(state), &[]),
            Write::Entries { first, entries, log_epoch } => {
                let up_to = LogIndex(first.0 + entries.len() as u64 - 1);
                self.step(id, Input::LogSynced { up_to, log_epoch }, &[]);
            }
        }
        true
    }

    /// Finishes writes and delivers messages, oldest first, until nothing is under way.
    pub(super) fn settle(&mut self) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for _ in 0..10_000 {
            let is_synced = ids.iter().any(|&id| self.sync_one(id));
            if !is_synced && self.network.is_empty() {
                return;
            }
            if !is_synced {
                self.deliver(0);
            }
        }
        panic!("messages without end");
    }

    /// Forgets a member's entries up to an index that it has applied.
    pub(super) fn discard(&mut self, id: u64, up_to: LogIndex) {
        let member = self.members.get_mut(&id).unwrap();
        let disk = &mut member.disk;
        if up_to > disk.applied || up_to <= disk.base.index || member.group.is_none() {
            return;
        }
        let count = (up_to.0 - disk.base.index.0) as usize;
        for (index, entry) in (disk.base.index.0 + 1..).zip(disk.log.drain(..count)) {
            if let Kind::Membership(members) = entry.header.kind {
                disk.base_members = (LogIndex(index), members);
            }
            disk.base = EntryId { index: LogIndex(index), term: entry.header.term };
        }
        member.log.drain(..count);
        self.step(id, Input::Discard { up_to }, &[]);
    }

    /// Replaces a member's log by another's base, unless it holds that already, and lets the leader
    /// go on from there: what a shell does with a snapshot.
    pub(super) fn install_snapshot(&mut self, from: u64, to: u64) {
        let Disk { base, base_members, .. } = self.members[&from].disk.clone();
        if !self.members.contains_key(&to) || self.members[&from].group.is_none() {
            return;
        }
        self.crash(to, usize::MAX);
        let disk = &mut self.members.get_mut(&to).unwrap().disk;
        if disk.applied < base.index {
            let hard_state = disk.hard_state;
            let applied = base.index;
            *disk = Disk { hard_state, base, log: Vec::new(), base_members, applied };
        }
        self.restart(to);
        self.step(from, Input::Resend { to: host(to) }, &[]);
    }

    fn apply(&mut self, id: u64, up_to: LogIndex) {
        let member = self.members.get_mut(&id).unwrap();
        let term = member.group.as_ref().unwrap().term();
        assert!(up_to > member.disk.applied, "{id} commits {} again", up_to.0);
        for index in member.disk.applied.0 + 1..=up_to.0 {
            let position = (index - member.disk.base.index.0 - 1) as usize;
            let entry = &member.log[position];
            assert_eq!(member.disk.log.get(position), Some(entry), "{id} applies what is durable");
            writeln!(self.trace, "{id} commits {index}@{} {entry}", entry.header.term.0).unwrap();
            let (known, since) =
                self.committed.entry(LogIndex(index)).or_insert_with(|| (entry.clone(), term));
            assert_eq!(known, entry, "state machine safety: {id} commits another {index}");
            *since = term.min(*since);
        }
        member.disk.applied = up_to;
    }

    fn lead(&mut self, id: u64, term: Term) {
        writeln!(self.trace, "{id} leads term {}", term.0).unwrap();
        let other = self.leaders.insert(term, id);
        assert_eq!(other, None, "election safety: two leaders in term {}", term.0);
        let member = &self.members[&id];
        for (index, (entry, since)) in &self.committed {
            if *since < term && *index > member.disk.base.index {
                let position = (index.0 - member.disk.base.index.0 - 1) as usize;
                let held = member.log.get(position);
                assert_eq!(held, Some(entry), "leader completeness: {id} lacks {}", index.0);
            }
        }
    }

    /// Checks every member against itself and against each other.
    fn check(&self) {
        for (id, member) in &self.members {
            let Some(group) = &member.group else {
                continue;
            };
            group.check_invariants();
            let base = member.disk.base;
            assert_eq!(group.term_at(base.index), Some(base.term), "{id}: base");
            for (index, entry) in (base.index.0 + 1..).zip(&member.log) {
                let term = Some(entry.header.term);
                assert_eq!(group.term_at(LogIndex(index)), term, "{id}: term of {index}");
            }
            assert_eq!(group.last().index.0, base.index.0 + member.log.len() as u64);
            for other in self.members.values() {
                check_logs_match(member, other);
            }
        }
    }

    /// One line per member.
    pub(super) fn status(&self) -> String {
        let mut status = String::new();
        for (id, member) in &self.members {
            let Some(group) = &member.group else {
                writeln!(status, "{id} is down").unwrap();
                continue;
            };
            let role = match group.leader() {
                Some(leader) if leader == host(*id) => "leads".to_owned(),
                Some(leader) => format!("follows {}", number(leader)),
                None => "waits".to_owned(),
            };
            let log: Vec<String> = (member.disk.base.index.0 + 1..)
                .zip(&member.log)
                .map(|(index, entry)| format!("{index}@{} {entry}", entry.header.term.0))
                .collect();
            let log = if log.is_empty() { vec!["empty".to_owned()] } else { log };
            let (term, commit, log) = (group.term().0, group.commit().0, log.join(", "));
            writeln!(status, "{id} {role}, term {term}, commit {commit}: {log}").unwrap();
        }
        status
    }
}

/// Log matching: if two logs hold the same entry, they are the same up to there.
fn check_logs_match(one: &Member, other: &Member) {
    let start = one.disk.base.index.max(other.disk.base.index).0;
    let part = |member: &Member| {
        let skipped = (start - member.disk.base.index.0) as usize;
        member.log.get(skipped..).unwrap_or_default().to_vec()
    };
    let (one, other) = (part(one), part(other));
    let shared = one.iter().zip(&other).rposition(|(a, b)| a.header.term == b.header.term);
    if let Some(last) = shared {
        assert_eq!(one[..=last], other[..=last], "log matching");
    }
}

impl Disk {
    fn write(&mut self, write: Write) {
        match write {
            Write::Vote(state) => self.hard_state = state,
            Write::Entries { first, entries, .. } => {
                self.log.truncate((first.0 - self.base.index.0 - 1) as usize);
                self.log.extend(entries);
            }
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.header.kind {
            Kind::Data => f.write_str(&self.bytes),
            Kind::NoOp => f.write_str("noop"),
            Kind::Membership(members) => {
                let list = |hosts: &[HostId]| {
                    hosts.iter().map(|&h| number(h).to_string()).collect::<Vec<_>>().join(",")
                };
                write!(f, "voters={}", list(&members.voters))?;
                if !members.learners.is_empty() {
                    write!(f, " learners={}", list(&members.learners))?;
                }
                Ok(())
            }
        }
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{} term {}: ", self.from, self.to, self.message.term().0)?;
        match &self.message {
            Message::VoteRequest { last, .. } => write!(f, "vote? last {last}"),
            Message::VoteReply { is_granted: true, .. } => f.write_str("vote granted"),
            Message::VoteReply { .. } => f.write_str("vote refused"),
            Message::Append { previous, entries, commit, .. } => {
                let count = entries.len();
                write!(f, "append {count} after {previous}, commit {}", commit.0)
            }
            Message::AppendAccepted { matched, .. } => write!(f, "accepted to {}", matched.0),
            Message::AppendRejected { previous, hint, .. } => {
                write!(f, "rejected after {}, hint {hint}", previous.0)
            }
            Message::Commit { commit, .. } => write!(f, "commit {}", commit.0),
        }
    }
}
