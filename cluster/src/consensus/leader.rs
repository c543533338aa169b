//! What a leader knows of its followers: how far each one's log agrees, and what to send next.
//!
//! A follower is *probed* until it agrees on some entry: one append at a time, each answered before
//! the next. From then on it is *replicated* to: entries are sent as they are proposed, on trust
//! that those before arrive; a refusal takes it back to probing. One that needs discarded entries
//! waits for a snapshot, and so does one that holds nothing and lacks many.

use super::history::History;
use super::membership::Membership;
use super::message::{Effect, EntryId, LogIndex, Message, Term};
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};
use env::prefetch::prefetch;

/// Entries that one append carries at most, so that a follower that lags takes neither side's
/// memory. Few in tests, so that catching up takes several.
pub const ENTRIES_PER_APPEND_MAX: u64 = if cfg!(test) { 2 } else { 256 };

/// Entries that one follower is sent beyond those it holds, so that one that is slow, or away without
/// its stream being closed, is not sent a log that it may have to be sent again.
pub const ENTRIES_IN_FLIGHT_MAX: u64 = if cfg!(test) { 8 } else { 4_096 };

/// Committed entries that one who holds nothing is sent; beyond that it gets a snapshot. The entries of
/// one group lie among those of all others in the log, and a log that is read through for each group
/// that comes costs far more than the rows of those groups.
const ENTRIES_FOR_EMPTY_MAX: u64 = if cfg!(test) { 16 } else { 1_024 };

const _: () = assert!(ENTRIES_PER_APPEND_MAX <= ENTRIES_IN_FLIGHT_MAX, "an append fits");

/// A leader's view of its group.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// The first entry of its term: the no-op.
    pub(super) first: LogIndex,
    /// Whether it counts itself: a leader that removes itself does not.
    pub(super) is_voter: bool,
    /// All other members.
    followers: Vec<Follower>,
}

#[derive(Clone, Debug)]
struct Follower {
    host: HostId,
    is_voter: bool,
    /// It holds this leader's log durably up to here.
    matched: LogIndex,
    /// The next entry to send. Invariant: above `matched`.
    next: LogIndex,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Probed,
    Replicated,
    AwaitsSnapshot,
}

/// The log as it is sent from.
pub(super) struct Outgoing<'a> {
    pub(super) term: Term,
    pub(super) history: &'a History,
    pub(super) commit: LogIndex,
}

impl Leader {
    /// A new leader, whose first entry will be at `first`.
    pub(super) fn new(first: LogIndex) -> Leader {
        Leader { first, is_voter: true, followers: Vec::new() }
    }

    pub(super) fn look_ahead(&self) {
        self.followers.iter().for_each(prefetch);
    }

    /// Follows a change of members; new ones are probed from the beginning of this leader's term, or
    /// from the end of what is committed.
    pub(super) fn set_members(
        &mut self,
        me: HostId,
        members: &Membership,
        log: &Outgoing,
        effects: &mut Vec<Effect>,
    ) {
        self.is_voter = members.is_voter(me);
        self.followers.retain(|follower| members.members().any(|host| host == follower.host));
        for follower in &mut self.followers {
            follower.is_voter = members.is_voter(follower.host);
        }
        for host in members.members().filter(|&host| host != me) {
            if self.followers.iter().all(|follower| follower.host != host) {
                let matched = LogIndex(0);
                let next = self.first.max(probe_from(matched, log));
                let is_voter = members.is_voter(host);
                let mut follower = Follower { host, is_voter, matched, next, state: State::Probed };
                follower.send(log, effects);
                self.followers.push(follower);
            }
        }
    }

    /// How far a follower's log is known to agree, durably.
    pub(super) fn matched(&self, host: HostId) -> LogIndex {
        let follower = self.followers.iter().find(|follower| follower.host == host);
        follower.map_or(LogIndex(0), |follower| follower.matched)
    }

    /// The greatest index that a majority of the voters hold, when this member itself holds `own`.
    #[inline]
    pub(super) fn held_by_majority(&self, own: LogIndex) -> LogIndex {
        let others = self.followers.iter().filter(|follower| follower.is_voter);
        let held = others.map(|follower| follower.matched).chain(self.is_voter.then_some(own));
        let voter_count = held.clone().count();
        let is_held = |index: &LogIndex| {
            let holder_count = held.clone().filter(|held| held >= index).count();
            holder_count * 2 > voter_count || !is_kept(Rule::CommitsByMajority)
        };
        held.clone().filter(is_held).max().unwrap_or_default()
    }

    /// How far every follower is known to hold the log; nothing without another voter.
    #[inline]
    pub(super) fn lowest_match(&self) -> Option<LogIndex> {
        let has_voter = self.followers.iter().any(|follower| follower.is_voter);
        let matches = self.followers.iter().map(|follower| follower.matched);
        matches.min().filter(|_| has_voter)
    }

    /// Sends the last entry, just appended, to those that have been sent everything before it.
    #[inline]
    pub(super) fn appended(&mut self, log: &Outgoing, effects: &mut Vec<Effect>) {
        let last = log.history.last().index;
        for follower in &mut self.followers {
            if follower.state == State::Replicated && follower.next == last {
                follower.send(log, effects);
            }
        }
    }

    /// Tells those that have been sent everything how far the log is committed.
    pub(super) fn push_commit(&self, log: &Outgoing, effects: &mut Vec<Effect>) {
        let end = log.history.last().index.next();
        for follower in &self.followers {
            if follower.state == State::Replicated && follower.next == end {
                follower.tell_commit(log, effects);
            }
        }
    }

    /// A follower holds the log durably up to `matched`. Whether that is news.
    pub(super) fn accepted(
        &mut self,
        from: HostId,
        matched: LogIndex,
        log: &Outgoing,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.host == from)
        else {
            return false;
        };
        let last = log.history.last().index;
        // Nobody can vouch for entries that do not exist; such an answer is not from this group.
        if matched > last {
            return false;
        }
        let is_news = matched > follower.matched;
        follower.matched = follower.matched.max(matched);
        let is_without = matched < log.history.base().index || matched == LogIndex(0);
        if follower.state == State::AwaitsSnapshot && is_without {
            return is_news;
        }
        let was_probed = follower.state != State::Replicated;
        if was_probed {
            // What was sent while probing is answered; go on from what is known.
            follower.state = State::Replicated;
            follower.next = follower.matched.next();
        }
        follower.next = follower.next.max(follower.matched.next());
        if follower.next <= last {
            follower.send(log, effects);
        } else if was_probed && log.commit == last {
            // It was probed when its last entry was committed, and has not been told so.
            follower.tell_commit(log, effects);
        }
        is_news
    }

    /// A follower refused the entries after `previous`; `hint` is its last that might agree.
    pub(super) fn rejected(
        &mut self,
        from: HostId,
        previous: LogIndex,
        hint: EntryId,
        log: &Outgoing,
        effects: &mut Vec<Effect>,
    ) {
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.host == from)
        else {
            return;
        };
        // The shell may have made one append of several, so the refusal of the last probe may name what
        // came before the first.
        let is_of_what_was_sent = (follower.matched..=follower.next.previous()).contains(&previous);
        if !is_of_what_was_sent || follower.state == State::AwaitsSnapshot {
            return;
        }
        if previous <= follower.matched {
            // It held that once. Its replica was removed since, and made anew.
            follower.matched = LogIndex(0);
        }
        follower.state = State::Probed;
        let holds_nothing = hint.index == LogIndex(0);
        match log.history.last_not_above(hint) {
            // What is committed is applied in the end, so there will be a snapshot to send.
            Some(_) if holds_nothing && is_too_much(log.commit) => {
                follower.await_snapshot(effects);
            }
            Some(agreed) => {
                // Each refusal of a probe must move it down, or two logs could refuse forever.
                let below = agreed.index.0.min(previous.0.saturating_sub(1));
                follower.next = LogIndex(below).max(follower.matched).next();
                follower.send(log, effects);
            }
            None => follower.await_snapshot(effects),
        }
    }

    /// Begins anew with a follower, from the last entry known to agree.
    pub(super) fn resend(&mut self, to: HostId, log: &Outgoing, effects: &mut Vec<Effect>) {
        if let Some(follower) = self.followers.iter_mut().find(|follower| follower.host == to) {
            follower.state = State::Probed;
            follower.next = probe_from(follower.matched, log);
            follower.send(log, effects);
        }
    }
}

/// The first entry to try with a follower. One of whom nothing is known is asked whether it holds what
/// is committed, if that is much: sent the log from the beginning, whoever holds nothing would take it.
fn probe_from(matched: LogIndex, log: &Outgoing) -> LogIndex {
    let is_unknown = matched == LogIndex(0) && is_too_much(log.commit);
    let known = if is_unknown { log.commit } else { matched };
    known.max(log.history.base().index).next()
}

/// Whether so many entries are not sent to one who holds nothing.
fn is_too_much(commit: LogIndex) -> bool {
    commit.0 > ENTRIES_FOR_EMPTY_MAX
}

impl Follower {
    /// Sends entries from `next` on.
    fn send(&mut self, log: &Outgoing, effects: &mut Vec<Effect>) {
        let before = self.next.previous();
        let Some(term) = log.history.term_at(before) else {
            self.await_snapshot(effects);
            return;
        };
        let mut last = log.history.last().index.min(LogIndex(before.0 + ENTRIES_PER_APPEND_MAX));
        if self.state == State::Replicated {
            let end = LogIndex(self.matched.0 + ENTRIES_IN_FLIGHT_MAX);
            if before >= end && last > before {
                // Goes on with its next answer.
                return;
            }
            last = last.min(end.max(before));
            self.next = last.next();
        }
        let previous = EntryId { index: before, term };
        let (term, commit) = (log.term, log.commit);
        effects.push(Effect::SendAppend { to: self.host, term, previous, last, commit });
    }

    fn tell_commit(&self, log: &Outgoing, effects: &mut Vec<Effect>) {
        let message = Message::Commit { term: log.term, commit: log.commit };
        effects.push(Effect::Send { to: self.host, message });
    }

    fn await_snapshot(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::AwaitsSnapshot;
        effects.push(Effect::SnapshotNeeded { to: self.host });
    }
}
