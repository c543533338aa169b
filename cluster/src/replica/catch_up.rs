//! Followers that lack entries which are in memory no more: what is read for them from the log.
//!
//! While an envelope is filled, an append comes to an entry that is not in memory. The rest of it is
//! set aside as a [`CatchUp`], appends that continue it join it, and the shell is asked to read
//! ([`LogRequest`]). What was read is sent, then the next piece is read, until the rest is empty.

use super::local::HeldEntry;
use crate::consensus::{EntryId, LogIndex, Term};
use crate::link::Item;
use crate::liveness::MonotonicNanos;
use crate::placement::GroupId;
use crate::ring::HostId;

/// When a follower is tried again whose entries could not be read.
pub const RETRY_NANOS: u64 = 1_000_000_000;

/// Entries that are read for a follower at once: the more, the less often the log is read through for
/// all that lag. Few in tests, so that catching up takes several.
pub(super) const READ_ENTRIES_MAX: u64 = if cfg!(test) { 2 } else { 1_024 };

/// Entries that have to be read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// Of which group.
    pub group: GroupId,
    /// For whom.
    pub to: HostId,
    /// The first entry.
    pub first: LogIndex,
    /// The last; the first few are enough.
    pub last: LogIndex,
    /// Their terms as runs: first index and term.
    pub terms: Vec<(u64, u64)>,
}

/// What one follower waits for.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) to: HostId,
    pub(super) term: Term,
    /// The entry before the first that is not on its way.
    pub(super) previous: EntryId,
    pub(super) last: LogIndex,
    pub(super) commit: LogIndex,
    /// What was read and is in the link's outbox, from `fetched_first` on.
    pub(super) fetched: Vec<HeldEntry>,
    pub(super) fetched_first: LogIndex,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The shell is to be asked.
    Asks,
    /// It reads.
    Reads,
    /// What it read is in the outbox.
    Sends,
    /// It found nothing; the follower is begun anew with at that moment.
    Rests(MonotonicNanos),
}

impl CatchUp {
    /// What is left of an append.
    pub(super) fn new(to: HostId, rest: &Item) -> Option<CatchUp> {
        let Item::Append { term, previous, last, commit } = *rest else { return None };
        let (fetched, fetched_first) = (Vec::new(), previous.index.next());
        let state = State::Asks;
        Some(CatchUp { to, term, previous, last, commit, fetched, fetched_first, state })
    }

    /// Takes an append that continues what waits; whether it does.
    pub(super) fn join(&mut self, item: &Item) -> bool {
        match *item {
            Item::Append { term, previous, last, commit }
                if term == self.term && previous.index == self.last =>
            {
                (self.last, self.commit) = (last, commit);
                true
            }
            _ => false,
        }
    }

    /// An entry that was read.
    pub(super) fn entry(&self, index: LogIndex) -> Option<&HeldEntry> {
        let position = index.0.checked_sub(self.fetched_first.0)?;
        self.fetched.get(usize::try_from(position).ok()?)
    }

    /// Takes what was read, and says what to send.
    pub(super) fn take(&mut self, entries: Vec<HeldEntry>) -> Option<Item> {
        let CatchUp { term, previous, commit, .. } = *self;
        let final_term = entries.last()?.term;
        let last = LogIndex(previous.index.0 + entries.len() as u64);
        assert!(last <= self.last, "no more is read than was asked for");
        self.fetched_first = previous.index.next();
        self.fetched = entries;
        self.previous = EntryId { index: last, term: final_term };
        self.state = State::Sends;
        Some(Item::Append { term, previous, last, commit })
    }

    /// An append up to `last` has left; whether nothing is left to do.
    pub(super) fn sent(&mut self, last: LogIndex) -> bool {
        if self.state != State::Sends || last < self.previous.index {
            return false;
        }
        self.fetched.clear();
        self.state = State::Asks;
        self.previous.index >= self.last
    }
}
