//! A node's disk: the part of the shared log that each group has in it, and installed snapshots.
//!
//! The log is kept as it was written, and read back as a real one is: a write at an index voids what
//! came before at and above it.

use crate::consensus::{
    EntryId, HardState, Header, Kind, LogIndex, Membership, Recovered, Term, TermRun,
};
use crate::liveness::Incarnation;
use crate::placement::GroupId;
use crate::rules::{Rule, is_kept};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// What the register holds from here on; nothing in entries of the core's own.
    pub(super) value: Option<u64>,
    /// The write's place in the log's time.
    pub(super) place: i64,
    /// Closed by this entry.
    pub(super) closed: i64,
    /// Beats may close up to here once this is committed.
    pub(super) reserved: i64,
}

impl Body {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.place, self.closed, self.reserved].map(i64::to_le_bytes);
        let value = self.value.map(u64::to_le_bytes);
        numbers.into_iter().chain(value).flatten().collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Body {
        let (numbers, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "a body is numbers");
        let number = |at: usize| i64::from_le_bytes(numbers[at]);
        let value = numbers.get(3).map(|bytes| u64::from_le_bytes(*bytes));
        Body { value, place: number(0), closed: number(1), reserved: number(2) }
    }
}

/// An entry as a shell holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) body: Body,
}

/// A replica's data as of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) base: EntryId,
    pub(super) members: (LogIndex, Arc<Membership>),
    pub(super) value: u64,
    pub(super) closed: i64,
    pub(super) reserved: i64,
}

/// A write of a group.
#[derive(Clone, Debug)]
pub(super) enum Record {
    Vote(HardState),
    Entries { first: LogIndex, entries: Vec<Entry> },
    Install(Snapshot),
}

/// What a group has on a disk.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    snapshot: Snapshot,
    records: Vec<Record>,
    /// Where the log of a replica ended that was here before.
    vote_floor: EntryId,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) incarnation: Option<Incarnation>,
    pub(super) replicas: BTreeMap<GroupId, Replica>,
}

/// A replica as it is read back.
pub(super) struct Replayed {
    pub(super) recovered: Recovered,
    pub(super) snapshot: Snapshot,
    /// The entries after the base.
    pub(super) entries: Vec<Entry>,
}

impl Replica {
    /// A new member's, that believes in `members`.
    pub(super) fn new(members: Arc<Membership>) -> Replica {
        let members = (LogIndex(0), members);
        let base = EntryId::default();
        let snapshot = Snapshot { base, members, value: 0, closed: 0, reserved: 0 };
        Replica { snapshot, records: Vec::new(), vote_floor: EntryId::default() }
    }

    /// One that is made anew where another was removed, of which only this is left.
    pub(super) fn anew(members: Arc<Membership>, vote: HardState, last: EntryId) -> Replica {
        let records = vec![Record::Vote(vote)];
        Replica { records, vote_floor: last, ..Replica::new(members) }
    }

    pub(super) fn write(&mut self, record: Record) {
        match record {
            Record::Install(snapshot) => {
                self.snapshot = snapshot;
                let Replayed { recovered, entries, .. } = self.replay();
                self.begin_log(&recovered, entries);
            }
            record => self.records.push(record),
        }
    }

    /// The log begins after the snapshot from here on.
    fn begin_log(&mut self, recovered: &Recovered, entries: Vec<Entry>) {
        let first = self.snapshot.base.index.next();
        self.records = vec![Record::Vote(recovered.hard_state)];
        if !entries.is_empty() {
            self.records.push(Record::Entries { first, entries });
        }
    }

    /// Takes a snapshot of what is applied, and drops the log up to there.
    pub(super) fn flush(&mut self, snapshot: Snapshot) {
        let Replayed { recovered, entries, .. } = self.replay();
        let kept = (snapshot.base.index.0 - recovered.base.index.0) as usize;
        self.snapshot = snapshot;
        self.begin_log(&recovered, entries[kept..].to_vec());
    }

    /// Reads the log back.
    pub(super) fn replay(&self) -> Replayed {
        let mut hard_state = HardState::default();
        let mut log: BTreeMap<u64, Entry> = BTreeMap::new();
        for record in &self.records {
            match record {
                Record::Vote(saved) => hard_state = *saved,
                Record::Entries { first, entries } => {
                    if is_kept(Rule::WritesVoidTheTail) {
                        log.split_off(&first.0);
                    }
                    log.extend((first.0..).zip(entries.iter().cloned()));
                }
                Record::Install(_) => unreachable!("a snapshot is no part of the log"),
            }
        }
        let Snapshot { base, members, .. } = &self.snapshot;
        // The log may begin after the base that it had, or before it if a crash came between.
        let former = log.keys().next().map_or(base.index, |first| LogIndex(first - 1));
        let former = former.min(base.index);
        let term = if former == base.index { base.term } else { Term::default() };
        let recovered = Recovered {
            hard_state,
            base: EntryId { index: former, term },
            runs: runs_of(&log),
            last: log.keys().next_back().map_or(former, |last| LogIndex(*last)),
            commit: former,
            memberships: memberships_of(&log, members),
            vote_floor: self.vote_floor,
        };
        let recovered = recovered.after_snapshot(*base, members.clone()).unwrap();
        let count = (recovered.last.0 - base.index.0) as usize;
        let kept = log.range(base.index.0 + 1..).take(count);
        let entries = kept.map(|(_, entry)| entry.clone()).collect();
        Replayed { recovered, snapshot: self.snapshot.clone(), entries }
    }
}

fn runs_of(log: &BTreeMap<u64, Entry>) -> Vec<TermRun> {
    let mut runs: Vec<TermRun> = Vec::new();
    for (&index, entry) in log {
        let term = entry.header.term;
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(TermRun { first: LogIndex(index), term });
        }
    }
    runs
}

/// Those after the base, behind the one that is in force there.
fn memberships_of(
    log: &BTreeMap<u64, Entry>,
    base: &(LogIndex, Arc<Membership>),
) -> Vec<(LogIndex, Arc<Membership>)> {
    let mut memberships = vec![base.clone()];
    for (&index, entry) in log {
        if let Kind::Membership(members) = &entry.header.kind
            && index > base.0.0
        {
            memberships.push((LogIndex(index), members.clone()));
        }
    }
    memberships
}
