//! Who knows all, and is never wrong: the checks of the simulated cluster.

use super::disk::Entry;
use crate::consensus::{EntryId, Kind, LogIndex, Membership, Term};
use crate::placement::GroupId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of all groups.
#[derive(Default)]
pub(super) struct Oracle {
    groups: BTreeMap<GroupId, Known>,
    /// How often each thing happened, so that a schedule in which nothing does is no proof.
    pub(super) counts: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct Known {
    leaders: BTreeMap<Term, u64>,
    /// Committed entries, and the lowest term in which each was known to be committed.
    committed: BTreeMap<LogIndex, (Entry, Term)>,
    /// The last write that somebody was told of.
    observed: LogIndex,
    /// Closed times that were told after an entry of a term which is not known to be committed.
    told: BTreeMap<LogIndex, Vec<(Term, i64)>>,
    /// Closed times that were believed, or told after a committed entry, by that entry.
    closed: BTreeMap<LogIndex, i64>,
}

impl Oracle {
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn known(&mut self, group: GroupId) -> &mut Known {
        self.groups.entry(group).or_default()
    }

    /// The members by the last committed entry that names some.
    pub(super) fn members(&self, group: GroupId) -> Option<Arc<Membership>> {
        let committed = &self.groups.get(&group)?.committed;
        committed.values().rev().find_map(|(entry, _)| match &entry.header.kind {
            Kind::Membership(members) => Some(members.clone()),
            _ => None,
        })
    }

    /// A member begins to lead, with these entries after `base`.
    pub(super) fn leads(
        &mut self,
        group: GroupId,
        node: u64,
        term: Term,
        base: LogIndex,
        log: &[Entry],
    ) {
        self.count("leaders");
        let known = self.known(group);
        let other = known.leaders.insert(term, node);
        assert_eq!(other, None, "election safety: {group:?} has two leaders in {term:?}");
        for (index, (entry, since)) in known.committed.range(base.next()..) {
            if *since < term {
                let held = log.get((index.0 - base.0 - 1) as usize);
                assert_eq!(held, Some(entry), "leader completeness: {node} lacks {index:?}");
            }
        }
    }

    /// A member of `node` in `term` applies an entry.
    pub(super) fn commits(&mut self, group: GroupId, index: LogIndex, entry: &Entry, term: Term) {
        let known = self.known(group);
        if let Some((other, since)) = known.committed.get_mut(&index) {
            assert_eq!(other, entry, "state machine safety: {group:?} at {index:?}");
            *since = term.min(*since);
            return;
        }
        if entry.body.value.is_some() {
            let closed = known.closed.range(..index).next_back().map_or(0, |(_, closed)| *closed);
            let place = entry.body.place;
            assert!(place > closed, "{group:?}: {place} is placed below {closed} at {index:?}");
        }
        known.committed.insert(index, (entry.clone(), term));
        let told = known.told.remove(&index).unwrap_or_default();
        self.count("entries");
        for (_, closed) in told.into_iter().filter(|(term, _)| *term == entry.header.term) {
            self.closes(group, index, closed);
        }
    }

    /// A leader tells that this is closed after an entry of its own. It has to be true if that entry
    /// is committed ever.
    pub(super) fn tells(&mut self, group: GroupId, entry: EntryId, closed: i64) {
        let known = self.known(group);
        match known.committed.get(&entry.index) {
            Some((committed, _)) if committed.header.term == entry.term => {
                self.closes(group, entry.index, closed);
            }
            Some(_) => self.count("closed times told in vain"),
            None => known.told.entry(entry.index).or_default().push((entry.term, closed)),
        }
    }

    /// Somebody believes that this is closed after the entry at `index`.
    pub(super) fn closes(&mut self, group: GroupId, index: LogIndex, closed: i64) {
        let known = self.known(group);
        let before = known.closed.range(..=index).next_back().map_or(0, |(_, closed)| *closed);
        if closed <= before {
            return;
        }
        for (later, (entry, _)) in known.committed.range(index.next()..) {
            let is_below = entry.body.value.is_some() && entry.body.place <= closed;
            assert!(!is_below, "{group:?}: {later:?} is below {closed}, closed at {index:?}");
        }
        // Greater indexes have greater closed times, so that the last one below an index counts.
        known.closed.insert(index, closed);
        while let Some((&later, _)) =
            known.closed.range(index.next()..).next().filter(|(_, other)| **other <= closed)
        {
            known.closed.remove(&later);
        }
        self.count("closed times");
    }

    /// The last write that somebody was told of before now.
    pub(super) fn observed(&mut self, group: GroupId) -> LogIndex {
        self.known(group).observed
    }

    /// A write is acknowledged.
    pub(super) fn acknowledges(&mut self, group: GroupId, index: LogIndex) {
        let known = self.known(group);
        known.observed = index.max(known.observed);
        self.count("writes");
    }

    /// A read that began when `floor` was observed is answered as of `index`.
    pub(super) fn reads(&mut self, group: GroupId, floor: LogIndex, index: LogIndex) {
        assert!(index >= floor, "{group:?}: a read misses the write at {floor:?}");
        let known = self.known(group);
        known.observed = index.max(known.observed);
        self.count("reads");
    }

    /// Members that have a lease now, by their own clocks.
    pub(super) fn leases(&mut self, group: GroupId, holders: &[u64]) {
        assert!(holders.len() <= 1, "{group:?}: {holders:?} have a lease at the same time");
        if holders.len() == 1 {
            self.count("moments under a lease");
        }
    }
}
