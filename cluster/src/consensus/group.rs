//! The state machine of one member of a group: elections, and the log as leader and as follower.
//!
//! Two things are kept apart throughout: what this member has decided (`term`, `voted_for`, the
//! history) and what of that is durable (`is_vote_synced`, `synced`). Only durable things are told
//! to others or counted, its own vote and its own entries included.

use super::history::History;
use super::leader::{ENTRIES_IN_FLIGHT_MAX, Leader, Outgoing};
use super::membership::{Change, Membership};
use super::message::{
    Effect, EntryId, HardState, Header, Input, Kind, LogIndex, Message, Refusal, Term, TermRun,
};
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};
use std::fmt;
use std::sync::Arc;

/// Terms that are believed: a member that was sent a greater one would run out of terms.
const TERM_MAX: Term = Term(u64::MAX >> 1);

/// One member of a group.
///
/// Invariants: `delivered <= synced <= last`, `delivered <= commit <= last`, the last entry's term
/// is not above `term`, and `memberships` ascends by index, is never empty, and has at most one
/// element at or below `commit`, its first.
#[derive(Clone, Debug)]
pub struct Group {
    me: HostId,
    term: Term,
    voted_for: Option<HostId>,
    /// Whether `term` and `voted_for` are durable.
    is_vote_synced: bool,
    role: Role,
    history: History,
    /// Entries up to here are durable on this member.
    synced: LogIndex,
    /// How often entries were truncated: tells reports on entries that are void from the others.
    log_epoch: u64,
    /// Entries up to here are known to be committed.
    commit: LogIndex,
    /// Entries up to here were handed out as committed.
    delivered: LogIndex,
    /// Memberships and the entries that made them; the last one counts.
    memberships: Vec<(LogIndex, Arc<Membership>)>,
    /// The index of the last of them, which is asked for at every step.
    members_since: LogIndex,
    /// What a former replica of this node held: see [`Recovered::vote_floor`].
    vote_floor: EntryId,
}

#[derive(Clone, Debug)]
enum Role {
    Follower {
        /// Who leads this term, if it was heard of.
        leader: Option<HostId>,
        /// This log is the leader's up to here.
        matched: LogIndex,
    },
    Candidate {
        /// Who granted their votes.
        votes: Vec<HostId>,
    },
    Leader(Leader),
}

impl Role {
    const IDLE: Role = Role::Follower { leader: None, matched: LogIndex(0) };
}

/// What a member finds of itself on the disk when it starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The last vote that was saved.
    pub hard_state: HardState,
    /// The last entry that was discarded, or that a snapshot contains; (0, 0) if none.
    pub base: EntryId,
    /// The terms of the entries after it.
    pub runs: Vec<TermRun>,
    /// The last entry.
    pub last: LogIndex,
    /// How far entries are known to be committed, such as by being applied; at least the base.
    pub commit: LogIndex,
    /// Memberships by the entry that made them: the one in force at `commit`, then those after it.
    pub memberships: Vec<(LogIndex, Arc<Membership>)>,
    /// The last entry that a replica of this group held here before it was removed; (0, 0) if none
    /// was. Members that do not know of the removal still count this one, and it votes for nobody
    /// whom the former replica would have refused.
    pub vote_floor: EntryId,
}

/// What was found on the disk cannot be a member's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryError {
    /// The runs of terms contradict themselves, the base, or the last entry.
    History,
    /// The commit index is not one of the log's.
    Commit,
    /// There is no membership, or one is impossible or out of place.
    Membership,
}

impl Group {
    /// A member as it starts: a follower that knows no leader. With one voter, in particular,
    /// nothing is committed again before a campaign.
    pub fn recover(me: HostId, recovered: Recovered) -> Result<Group, RecoveryError> {
        let Recovered { hard_state, base, runs, last, commit, memberships, vote_floor } = recovered;
        let history = History::recover(base, runs, last).ok_or(RecoveryError::History)?;
        if commit < base.index || commit > last {
            return Err(RecoveryError::Commit);
        }
        let ascend = memberships.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let valid = memberships.iter().all(|(_, members)| members.is_valid());
        let placed = memberships.first().is_some_and(|&(index, _)| index <= commit)
            && memberships.iter().skip(1).all(|&(index, _)| index > commit && index <= last);
        if !(ascend && valid && placed) {
            return Err(RecoveryError::Membership);
        }
        // An entry of a term is as good a record of that term as a saved vote, but not of the vote:
        // its leader had a majority without this member, or this member's vote was saved.
        let seen = history.last().term.max(vote_floor.term);
        let voted_for = hard_state.voted_for.filter(|_| hard_state.term >= seen);
        Ok(Group {
            me,
            term: hard_state.term.max(seen),
            voted_for,
            is_vote_synced: true,
            role: Role::IDLE,
            history,
            synced: last,
            log_epoch: 0,
            commit,
            delivered: commit,
            members_since: last_since(&memberships),
            memberships,
            vote_floor,
        })
    }

    /// Takes one input. What has to be done about it is added to `effects`, which the caller
    /// carries out in order and reuses.
    pub fn step(&mut self, input: Input<'_>, effects: &mut Vec<Effect>) {
        match input {
            Input::Propose => self.propose(Kind::Data, effects),
            Input::LogSynced { up_to, log_epoch } => self.log_synced(up_to, log_epoch, effects),
            Input::Receive { from, message } => self.receive(from, message, effects),
            Input::Campaign => self.campaign(effects),
            Input::VoteSynced(saved) => self.vote_synced(saved, effects),
            Input::ChangeMembers(change) => self.change_members(change, effects),
            Input::Resend { to } => self.resend(to, effects),
            Input::Discard { up_to } => self.history.discard(up_to.min(self.delivered)),
        }
    }

    /// Begins to fetch from memory what a step touches outside of the group itself.
    pub(crate) fn look_ahead(&self) {
        if let Role::Leader(leader) = &self.role {
            leader.look_ahead();
        }
    }

    /// The highest term this member has heard of.
    pub fn term(&self) -> Term {
        self.term
    }

    /// The term, and for whom this member voted in it, once that is durable.
    pub fn hard_state(&self) -> Option<HardState> {
        let state = HardState { term: self.term, voted_for: self.voted_for };
        self.is_vote_synced.then_some(state)
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether this member leads and has handed out a committed entry of its own term, and so every
    /// entry that was committed before it led.
    pub fn is_settled(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.delivered >= leader.first)
    }

    /// Whether this member would stand for election when asked to.
    ///
    /// A voter whose removal is not committed may hold the only complete log: it must be able to
    /// lead until the others have the removal.
    pub fn is_electable(&self) -> bool {
        let is_voter = self.memberships.iter().any(|(_, members)| members.is_voter(self.me));
        is_voter && self.is_complete(self.last())
    }

    /// Whether a log with that last entry is not behind what this member holds, nor behind what a
    /// former replica of this node held.
    pub fn is_complete(&self, last: EntryId) -> bool {
        let reaches = |own: EntryId| (last.term, last.index) >= (own.term, own.index);
        let is_floor_kept = is_kept(Rule::FormerLogsCount);
        reaches(self.last()) && (reaches(self.vote_floor) || !is_floor_kept)
    }

    /// As leader: how far another member's log is known to agree, durably.
    pub fn matched(&self, member: HostId) -> LogIndex {
        match &self.role {
            Role::Leader(leader) => leader.matched(member),
            _ => LogIndex(0),
        }
    }

    /// As leader: how far every other member is known to hold its log; nothing if no other votes.
    pub fn lowest_match(&self) -> Option<LogIndex> {
        match &self.role {
            Role::Leader(leader) => leader.lowest_match(),
            _ => None,
        }
    }

    /// Who leads, as far as this member knows.
    pub fn leader(&self) -> Option<HostId> {
        match &self.role {
            Role::Follower { leader, .. } => *leader,
            Role::Candidate { .. } => None,
            Role::Leader(_) => Some(self.me),
        }
    }

    /// The last entry of the log.
    pub fn last(&self) -> EntryId {
        self.history.last()
    }

    /// The term of an entry, unless it was discarded or does not exist.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.history.term_at(index)
    }

    /// How far the log is known to be committed, here or elsewhere.
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The members by the latest entry that names them, committed or not.
    pub fn members(&self) -> &Membership {
        let (_, members) = self.memberships.last().expect("recovery requires a membership");
        members
    }

    /// The members by the latest committed entry that names them, with that entry's index.
    pub fn committed_members(&self) -> (LogIndex, &Arc<Membership>) {
        let (index, members) = self.memberships.first().expect("recovery requires a membership");
        (*index, members)
    }

    /// What a start would find, if all that this member wrote and voted is durable.
    pub fn to_recovered(&self) -> Recovered {
        Recovered {
            hard_state: HardState { term: self.term, voted_for: self.voted_for },
            base: self.history.base(),
            runs: self.history.clone().into_runs(),
            last: self.history.last().index,
            commit: self.commit,
            memberships: self.memberships.clone(),
            vote_floor: self.vote_floor,
        }
    }

    /// The entry that names the present members; 0 if that was no entry.
    pub fn members_since(&self) -> LogIndex {
        self.members_since
    }

    // ---- Elections ----

    fn campaign(&mut self, effects: &mut Vec<Effect>) {
        if self.is_leader() || !self.is_electable() {
            return;
        }
        self.term = Term(self.term.0 + 1);
        self.voted_for = Some(self.me);
        self.role = Role::Candidate { votes: Vec::new() };
        self.save_vote(effects);
    }

    fn save_vote(&mut self, effects: &mut Vec<Effect>) {
        self.is_vote_synced = false;
        let (term, voted_for) = (self.term, self.voted_for);
        let saved = HardState { term, voted_for };
        effects.push(Effect::SaveVote(saved));
        if !is_kept(Rule::VotesAreSynced) {
            self.vote_synced(saved, effects);
        }
    }

    fn vote_synced(&mut self, saved: HardState, effects: &mut Vec<Effect>) {
        let is_current = saved == HardState { term: self.term, voted_for: self.voted_for };
        if !is_current || self.is_vote_synced {
            return;
        }
        self.is_vote_synced = true;
        match &self.role {
            Role::Candidate { .. } => {
                let (term, last) = (self.term, self.history.last());
                for to in self.members().voters.iter().copied().filter(|&to| to != self.me) {
                    let message = Message::VoteRequest { term, last };
                    effects.push(Effect::Send { to, message });
                }
                self.count_vote(self.me, effects);
            }
            Role::Follower { .. } => {
                if let Some(candidate) = self.voted_for {
                    self.grant_vote(candidate, effects);
                }
                self.acknowledge(effects);
            }
            Role::Leader(_) => unreachable!("nobody leads before its own vote is durable"),
        }
    }

    fn grant_vote(&self, to: HostId, effects: &mut Vec<Effect>) {
        if to != self.me {
            let message = Message::VoteReply { term: self.term, is_granted: true };
            effects.push(Effect::Send { to, message });
        }
    }

    fn vote_requested(
        &mut self,
        from: HostId,
        term: Term,
        last: EntryId,
        effects: &mut Vec<Effect>,
    ) {
        let is_complete = self.is_complete(last) || !is_kept(Rule::CompleteLogsOnly);
        let is_free = self.voted_for.is_none_or(|candidate| candidate == from);
        if term < self.term || !is_complete || !is_free {
            let message = Message::VoteReply { term: self.term, is_granted: false };
            effects.push(Effect::Send { to: from, message });
        } else if self.voted_for.is_none() {
            // Granted once it is durable.
            self.voted_for = Some(from);
        } else if self.is_vote_synced {
            self.grant_vote(from, effects);
        }
    }

    fn count_vote(&mut self, from: HostId, effects: &mut Vec<Effect>) {
        let members = self.memberships.last().map(|(_, members)| members.clone());
        let members = members.expect("recovery requires a membership");
        let Role::Candidate { votes } = &mut self.role else {
            return;
        };
        if !members.is_voter(from) || votes.contains(&from) {
            return;
        }
        votes.push(from);
        if members.is_majority(votes.len()) {
            self.lead(&members, effects);
        }
    }

    fn lead(&mut self, members: &Membership, effects: &mut Vec<Effect>) {
        effects.push(Effect::BecameLeader { term: self.term });
        self.role = Role::Leader(Leader::new(self.history.last().index.next()));
        self.propose(Kind::NoOp, effects);
        self.with_leader(effects, |leader, me, log, effects| {
            leader.set_members(me, members, log, effects);
        });
    }

    /// Leaves whatever role this was.
    fn follow(&mut self, leader: Option<HostId>, effects: &mut Vec<Effect>) {
        if self.is_leader() {
            effects.push(Effect::SteppedDown);
        }
        self.role = Role::Follower { leader, matched: LogIndex(0) };
    }

    // ---- Leading ----

    fn propose(&mut self, kind: Kind, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            let leader = self.leader();
            effects.push(Effect::Refused(Refusal::NotLeader { leader }));
            return;
        };
        let entry = self.history.append(self.term);
        effects.push(Effect::Append { entry, kind, log_epoch: self.log_epoch });
        let log = Outgoing { term: self.term, history: &self.history, commit: self.commit };
        leader.appended(&log, effects);
    }

    fn change_members(&mut self, change: Change, effects: &mut Vec<Effect>) {
        match self.next_members(change) {
            Ok(members) => {
                let members = Arc::new(members);
                let index = self.history.last().index.next();
                self.memberships.push((index, members.clone()));
                self.members_since = index;
                self.propose(Kind::Membership(members.clone()), effects);
                self.with_leader(effects, |leader, me, log, effects| {
                    leader.set_members(me, &members, log, effects);
                });
            }
            Err(refusal) => effects.push(Effect::Refused(refusal)),
        }
    }

    fn next_members(&self, change: Change) -> Result<Membership, Refusal> {
        if !self.is_leader() {
            return Err(Refusal::NotLeader { leader: self.leader() });
        }
        let is_kept = is_kept(Rule::OneChangeAtATime);
        if is_kept && !self.is_settled() {
            return Err(Refusal::NotSettled);
        }
        if is_kept && self.members_since() > self.commit {
            return Err(Refusal::ChangeInProgress);
        }
        let members = self.members().changed(change).ok_or(Refusal::ImpossibleChange)?;
        match change {
            Change::Promote(learner) if self.lag(learner) > ENTRIES_IN_FLIGHT_MAX => {
                Err(Refusal::LearnerBehind)
            }
            _ => Ok(members),
        }
    }

    /// As leader: how many entries another member is not known to hold.
    fn lag(&self, member: HostId) -> u64 {
        self.history.last().index.0 - self.matched(member).0
    }

    fn resend(&mut self, to: HostId, effects: &mut Vec<Effect>) {
        self.with_leader(effects, |leader, _, log, effects| leader.resend(to, log, effects));
    }

    /// Runs `act` if this member leads.
    fn with_leader(
        &mut self,
        effects: &mut Vec<Effect>,
        act: impl FnOnce(&mut Leader, HostId, &Outgoing, &mut Vec<Effect>),
    ) {
        if let Role::Leader(leader) = &mut self.role {
            let log = Outgoing { term: self.term, history: &self.history, commit: self.commit };
            act(leader, self.me, &log, effects);
        }
    }

    fn log_synced(&mut self, up_to: LogIndex, log_epoch: u64, effects: &mut Vec<Effect>) {
        // Of an older epoch: the entries may be void; those that replaced them are reported later.
        if log_epoch != self.log_epoch || up_to <= self.synced {
            return;
        }
        assert!(up_to <= self.history.last().index, "only appended entries can be durable");
        self.synced = up_to;
        match self.role {
            Role::Leader(_) => self.advance_commit(effects),
            Role::Follower { .. } => self.acknowledge(effects),
            Role::Candidate { .. } => {}
        }
        self.deliver(effects);
    }

    /// Commits what a majority holds, if its last entry is of this term.
    fn advance_commit(&mut self, effects: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let held = leader.held_by_majority(self.synced);
        let is_own = self.history.term_at(held) == Some(self.term);
        if held <= self.commit || (!is_own && is_kept(Rule::CommitsOwnTerm)) {
            return;
        }
        self.commit = held;
        let log = Outgoing { term: self.term, history: &self.history, commit: held };
        if held == self.history.last().index {
            leader.push_commit(&log, effects);
        }
        let is_voter = leader.is_voter;
        let is_removed = !is_voter && self.members_since() <= held;
        self.forget_memberships();
        if is_removed {
            self.follow(None, effects);
        }
    }

    /// Hands out what is committed and durable here.
    #[inline]
    fn deliver(&mut self, effects: &mut Vec<Effect>) {
        let committed =
            if is_kept(Rule::AppliesCommitted) { self.commit } else { self.history.last().index };
        let up_to = committed.min(self.synced);
        if up_to > self.delivered {
            self.delivered = up_to;
            effects.push(Effect::Committed { up_to });
        }
    }

    // ---- Messages, and following ----

    fn receive(&mut self, from: HostId, message: &Message, effects: &mut Vec<Effect>) {
        if message.term() > TERM_MAX {
            return;
        }
        let voted_before = self.voted_for;
        let is_later = message.term() > self.term;
        if is_later {
            self.follow(None, effects);
            self.term = message.term();
            self.voted_for = None;
        }
        if let Message::VoteRequest { term, last } = message {
            self.vote_requested(from, *term, *last, effects);
        }
        // One save for the term and a vote in it.
        if is_later || self.voted_for != voted_before {
            self.save_vote(effects);
        }
        let is_current = message.term() == self.term;
        match message {
            Message::VoteRequest { .. } => {}
            Message::VoteReply { is_granted, .. } => {
                if is_current && *is_granted {
                    self.count_vote(from, effects);
                }
            }
            Message::Append { previous, entries, commit, .. } => {
                if is_current {
                    self.append_received(from, *previous, entries, *commit, effects);
                } else {
                    self.reject(from, *previous, effects);
                }
            }
            Message::AppendAccepted { matched, .. } if is_current => {
                let mut is_news = false;
                self.with_leader(effects, |leader, _, log, effects| {
                    is_news = leader.accepted(from, *matched, log, effects);
                });
                if is_news {
                    self.advance_commit(effects);
                    self.deliver(effects);
                }
            }
            Message::AppendRejected { previous, hint, .. } if is_current => {
                self.with_leader(effects, |leader, _, log, effects| {
                    leader.rejected(from, *previous, *hint, log, effects);
                });
            }
            Message::Commit { term, commit } => {
                if is_current {
                    self.commit_told(from, *commit, effects);
                } else {
                    self.reject(from, EntryId { index: *commit, term: *term }, effects);
                }
            }
            Message::AppendAccepted { .. } | Message::AppendRejected { .. } => {}
        }
    }

    fn append_received(
        &mut self,
        from: HostId,
        previous: EntryId,
        entries: &[Header],
        commit: LogIndex,
        effects: &mut Vec<Effect>,
    ) {
        // A second leader in one term, or terms that fall along a log: not from this group.
        let is_second = self.leader().is_some_and(|leader| leader != from);
        if is_second || !are_plausible(self.term, previous, entries) {
            return;
        }
        if self.leader().is_none() {
            self.follow(Some(from), effects);
        }
        // What was discarded was committed, so the leader has it too.
        let is_known = previous.index < self.history.base().index
            || self.history.term_at(previous.index) == Some(previous.term);
        if !is_known {
            self.reject(from, previous, effects);
            return;
        }
        let skip = self.held_count(previous.index, entries);
        if skip < entries.len() {
            let first = LogIndex(previous.index.next().0 + skip as u64);
            if first <= self.commit {
                // No leader lacks a committed entry: not from this group either.
                return;
            }
            self.append_missing(first, skip, entries, effects);
        }

        let end = LogIndex(previous.index.0 + entries.len() as u64);
        let Role::Follower { matched, .. } = &mut self.role else {
            unreachable!("whoever hears a leader follows it");
        };
        *matched = end.max(*matched);
        let matched = *matched;
        self.follow_commit(commit);
        if self.synced >= matched {
            self.acknowledge(effects);
        }
        self.deliver(effects);
    }

    /// The leader has committed its last entry, which it sent before. Who does not know that its log
    /// is the leader's up to there has missed something, and says so as to an append.
    fn commit_told(&mut self, from: HostId, commit: LogIndex, effects: &mut Vec<Effect>) {
        match self.role {
            Role::Follower { leader: Some(leader), .. } if leader != from => {}
            Role::Follower { leader: Some(_), matched } if commit <= matched => {
                self.follow_commit(commit);
                self.deliver(effects);
            }
            Role::Follower { .. } | Role::Candidate { .. } => {
                self.reject(from, EntryId { index: commit, term: self.term }, effects);
            }
            Role::Leader(_) => {}
        }
    }

    /// Commits what the leader has, as far as this log is known to be the leader's.
    fn follow_commit(&mut self, commit: LogIndex) {
        let Role::Follower { matched, .. } = self.role else { return };
        if commit.min(matched) > self.commit {
            self.commit = commit.min(matched);
            self.forget_memberships();
        }
    }

    /// How many of `entries`, which come after `previous`, this log holds already.
    fn held_count(&self, previous: LogIndex, entries: &[Header]) -> usize {
        let base = self.history.base().index;
        let is_held = |&(index, header): &(u64, &Header)| {
            index <= base.0 || self.history.term_at(LogIndex(index)) == Some(header.term)
        };
        (previous.next().0..).zip(entries).take_while(is_held).count()
    }

    /// Appends `entries` from position `skip` on, which is at `first`, in place of what was there.
    fn append_missing(
        &mut self,
        first: LogIndex,
        skip: usize,
        entries: &[Header],
        effects: &mut Vec<Effect>,
    ) {
        if first <= self.history.last().index {
            self.truncate_from(first);
        }
        let log_epoch = self.log_epoch;
        effects.push(Effect::AppendReceived { first, skip, log_epoch });
        for header in &entries[skip..] {
            let entry = self.history.append(header.term);
            if let Kind::Membership(members) = &header.kind {
                self.memberships.push((entry.index, members.clone()));
                self.members_since = entry.index;
            }
        }
    }

    fn truncate_from(&mut self, first: LogIndex) {
        assert!(first > self.commit, "a committed entry is never replaced");
        self.history.truncate_from(first);
        self.synced = self.synced.min(self.history.last().index);
        self.log_epoch += 1;
        self.memberships.retain(|&(index, _)| index < first);
        self.members_since = last_since(&self.memberships);
    }

    /// Tells the leader how far this log agrees with its own, durably.
    fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        if let Role::Follower { leader: Some(to), matched } = self.role
            && self.is_vote_synced
        {
            let matched = matched.min(self.synced);
            let message = Message::AppendAccepted { term: self.term, matched };
            effects.push(Effect::Send { to, message });
        }
    }

    fn reject(&self, to: HostId, previous: EntryId, effects: &mut Vec<Effect>) {
        let hint = self.history.last_not_above(previous).unwrap_or(self.history.base());
        let message = Message::AppendRejected { term: self.term, previous: previous.index, hint };
        effects.push(Effect::Send { to, message });
    }

    /// Keeps one committed membership: the latest.
    fn forget_memberships(&mut self) {
        if self.memberships.len() == 1 {
            return;
        }
        let committed = self.memberships.iter().filter(|&&(index, _)| index <= self.commit).count();
        self.memberships.drain(..committed.saturating_sub(1));
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let last = self.history.last();
        self.history.check_invariants();
        assert!(self.delivered <= self.synced && self.delivered <= self.commit);
        assert!(self.synced <= last.index && self.commit <= last.index);
        assert!(last.term <= self.term);
        assert!(self.history.base().index <= self.delivered);
        let committed = self.memberships.iter().filter(|&&(index, _)| index <= self.commit).count();
        assert_eq!(committed, 1, "one committed membership");
        assert_eq!(self.members_since, last_since(&self.memberships));
        assert!(self.memberships.is_sorted_by(|a, b| a.0 < b.0));
    }
}

/// The entry that made the last membership; 0 if that was no entry.
fn last_since(memberships: &[(LogIndex, Arc<Membership>)]) -> LogIndex {
    memberships.last().map_or(LogIndex(0), |&(index, _)| index)
}

/// Whether a leader of `term` could have these entries after `previous`.
fn are_plausible(term: Term, previous: EntryId, entries: &[Header]) -> bool {
    let mut lowest = previous.term;
    entries.iter().all(|header| {
        let is_plausible = match &header.kind {
            Kind::Membership(members) => members.is_valid(),
            Kind::Data | Kind::NoOp => true,
        };
        let rises = header.term >= lowest;
        lowest = header.term;
        is_plausible && rises
    }) && lowest <= term
        && previous.index.0.checked_add(entries.len() as u64).is_some()
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecoveryError::History => "the terms of the log contradict each other",
            RecoveryError::Commit => "the commit index is outside the log",
            RecoveryError::Membership => "the memberships do not fit the log",
        })
    }
}

impl std::error::Error for RecoveryError {}
