//! One member's part in who leads: when it campaigns, whom it votes for, and until when it may serve
//! reads as leader.

use super::lease::{Fence, Lease};
use super::message::{Effect, Message, Support, TransferRefused};
use crate::consensus::{self, EntryId, Group, LogIndex, Term};
use crate::liveness::{Epoch, MonotonicNanos};
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};

/// How long a campaign may take before the next, and how long a member that was asked to take over
/// is left alone: some round trips and writes to the disk.
pub const ELECTION_NANOS: u64 = 300_000_000;

/// How much later each further member of a group begins to campaign, so that the first is elected
/// before the second stands against it.
pub const RANK_DELAY_NANOS: u64 = 50_000_000;

/// How much later each further place in the list of voters begins, besides.
const PLACE_DELAY_NANOS: u64 = 10_000_000;

/// How often an unanswered message is repeated.
pub const RETRY_NANOS: u64 = 100_000_000;

/// How often a node that is alive and has not answered is asked again for its vote. It has not made
/// the group yet, perhaps: members learn of a new one a few milliseconds after each other, and the first
/// is to be elected before the second begins.
const ASK_AGAIN_NANOS: u64 = RANK_DELAY_NANOS / 3;

/// How many times in one attempt.
const ASK_AGAIN_TIMES: u32 = 6;

/// How often a leader looks for voters whose nodes do not support its own.
const ABSENT_RETRY_NANOS: u64 = 1_000_000_000;

/// How often a leader that stepped down says so, once per [`ELECTION_NANOS`].
const FAREWELLS: u32 = 30;

/// Entries that a member may lack when leadership is handed to it; it is sent them first.
const TRANSFER_LAG_MAX: u64 = 1_000;

/// One member's part. Its shell calls [`Leadership::observe`] after each step of the group,
/// [`Leadership::tick`] when [`Leadership::next_tick`] has come, and [`Leadership::wake`] when support
/// has changed: withdrawn from the leader's node, or gained in a new epoch by a leader's.
#[derive(Clone, Debug)]
pub struct Leadership {
    me: HostId,
    /// How many other members are preferred as leader.
    rank: u32,
    /// Whom this member promised its vote.
    fence: Option<Fence>,
    /// The latest leader that is known to have given up its term.
    abandoned: Option<(HostId, Term)>,
    lease: Lease,
    /// How often those that were fenced to this leader are still told that it stepped down.
    farewells_left: u32,
    candidacy: Option<Candidacy>,
    attempt: u64,
    transfer: Option<Transfer>,
    /// What was seen of the group: its term, leader, and the entry that names its members.
    seen: (Term, Option<HostId>, LogIndex),
    next: Option<MonotonicNanos>,
}

/// There is no leader, and this member may become it.
#[derive(Clone, Debug)]
struct Candidacy {
    /// Nothing is begun before that moment: others may go first, or answer.
    until: MonotonicNanos,
    /// While it asks who would vote for it.
    asks: Option<Asks>,
}

/// Who has said whether it would vote for a member.
#[derive(Clone, Debug, Default)]
struct Asks {
    granted: Vec<HostId>,
    refused: Vec<HostId>,
    /// How often those were asked again that had not answered.
    repeats: u32,
}

impl Candidacy {
    fn waits(until: MonotonicNanos) -> Candidacy {
        Candidacy { until, asks: None }
    }
}

/// Leadership on its way to another member.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    to: HostId,
    /// When it is given up.
    deadline: MonotonicNanos,
}

impl Leadership {
    /// A member as it starts; `rank` other members are preferred as leader.
    pub fn new(me: HostId, rank: u32, now: MonotonicNanos) -> Leadership {
        Leadership {
            me,
            rank,
            fence: None,
            abandoned: None,
            lease: Lease::none(),
            farewells_left: 0,
            candidacy: None,
            attempt: 0,
            transfer: None,
            seen: (Term(0), None, LogIndex(0)),
            next: Some(now),
        }
    }

    /// When [`Leadership::tick`] has something to do; nothing in a group where all is well.
    pub fn next_tick(&self) -> Option<MonotonicNanos> {
        self.next
    }

    /// Looks whether the group has another leader or other members, which [`Leadership::tick`] then
    /// sees to.
    #[inline]
    pub fn observe(&mut self, group: &Group, now: MonotonicNanos) {
        let seen = (group.term(), group.leader(), group.members_since());
        if seen != self.seen {
            self.seen = seen;
            self.lease.set_voters(group.members());
            self.wake(now);
        }
    }

    /// Has [`Leadership::tick`] look at the group and the support anew.
    pub fn wake(&mut self, now: MonotonicNanos) {
        self.next = Some(self.next.map_or(now, |next| next.min(now)));
    }

    /// Changes how many other members are preferred, after a change of the ring.
    pub fn set_rank(&mut self, rank: u32) {
        self.rank = rank;
    }

    /// Until when this member is the only one that leads the group, if it leads. The clock must be
    /// read after whatever was done under the lease, and the answer be withheld if it is late.
    pub fn lease_until(&self, group: &Group, support: &impl Support) -> Option<MonotonicNanos> {
        let has_lease = group.is_leader()
            && self.lease.term == group.term()
            && !(self.lease.is_released && is_kept(Rule::ReleaseEndsTheLease));
        has_lease.then(|| self.lease.until(self.me, support))
    }

    /// Whether reads may be answered from what is applied here up to the group's commit index.
    pub fn may_serve(&self, group: &Group, support: &impl Support, now: MonotonicNanos) -> bool {
        let is_settled = group.is_settled() || !is_kept(Rule::ReadsAreSettled);
        is_settled && self.lease_until(group, support).is_some_and(|until| until > now)
    }

    /// Whether proposals should wait: leadership is being handed over.
    pub fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    /// Whether a message to the group may be given to it. What is refused must be dropped: even
    /// entering its term would depose a leader that this member is fenced to.
    pub fn admits(
        &self,
        group: &Group,
        from: HostId,
        message: &consensus::Message,
        support: &impl Support,
        now: MonotonicNanos,
    ) -> bool {
        match message {
            consensus::Message::VoteRequest { .. } => {
                self.may_vote_for(from, support)
                    && self.lease_until(group, support).is_none_or(|until| until <= now)
            }
            _ => true,
        }
    }

    /// Whether no promise stands against a vote.
    fn may_vote_for(&self, candidate: HostId, support: &impl Support) -> bool {
        let is_fenced =
            self.fence.is_some_and(|fence| fence.leader != candidate && fence.holds(support));
        support.may_vote() && !(is_fenced && is_kept(Rule::FencesHoldVotes))
    }

    /// Hands leadership to another member: once it has every entry, this one stops serving reads and
    /// asks it to take over. Proposals should wait meanwhile.
    pub fn transfer_to(
        &mut self,
        to: HostId,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
    ) -> Result<(), TransferRefused> {
        if !group.is_settled() || self.transfer.is_some() {
            return Err(TransferRefused::NotLeader);
        }
        if to == self.me || !group.members().is_voter(to) {
            return Err(TransferRefused::NotVoter);
        }
        let is_live = support.supports(to).is_some()
            && support.support_from(to).is_some_and(|given| given.until > now);
        if !is_live {
            return Err(TransferRefused::NotLive);
        }
        if group.matched(to).0 + TRANSFER_LAG_MAX < group.last().index.0 {
            return Err(TransferRefused::Behind);
        }
        self.transfer = Some(Transfer { to, deadline: now.after(ELECTION_NANOS) });
        self.wake(now);
        Ok(())
    }

    /// Lets time pass.
    pub fn tick(
        &mut self,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        if self.next.take_if(|next| *next <= now).is_none() {
            return;
        }
        self.fence = self.fence.filter(|fence| fence.holds(support));
        if group.is_leader() {
            self.tick_as_leader(group, support, now, effects);
        } else {
            self.give_up_former_lease(group, now, effects);
            self.tick_as_follower(group, support, now, effects);
        }
    }

    fn repeat_at(&mut self, moment: MonotonicNanos) {
        self.next = Some(self.next.map_or(moment, |next| next.min(moment)));
    }

    // ---- Leading ----

    fn tick_as_leader(
        &mut self,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        let term = group.term();
        if self.lease.term != term {
            self.lease = Lease::new(term, group.members());
            self.farewells_left = FAREWELLS;
            self.transfer = None;
            self.candidacy = None;
            self.fence = None;
        }
        if self.lease.is_released {
            self.hand_over(group, now, effects);
            return;
        }
        let me = self.me;
        let unbacked: Vec<_> =
            self.lease.unbacked_by(support).filter(|&voter| voter != me).collect();
        for voter in unbacked {
            if support.support_from(voter).is_some_and(|given| given.until > now) {
                effects.push(Effect::Send { to: voter, message: Message::Fortify { term } });
                self.repeat_at(now.after(RETRY_NANOS));
            } else {
                self.repeat_at(now.after(ABSENT_RETRY_NANOS));
            }
        }
        let Some(transfer) = self.transfer else {
            return;
        };
        if transfer.deadline <= now {
            self.transfer = None;
        } else if group.matched(transfer.to) == group.last().index {
            self.lease.is_released = true;
            self.hand_over(group, now, effects);
        } else {
            self.repeat_at(now.after(RETRY_NANOS / 10));
        }
    }

    /// Asks a member to take over. If it does not in time, any other may: a leader without a lease is
    /// of little use.
    fn hand_over(&mut self, group: &Group, now: MonotonicNanos, effects: &mut Vec<Effect>) {
        if let Some(Transfer { to, .. }) = self.transfer.filter(|t| t.deadline > now) {
            let message = Message::TakeOver { term: self.lease.term };
            effects.push(Effect::Send { to, message });
            self.repeat_at(now.after(RETRY_NANOS));
        } else {
            self.transfer = None;
            self.tell_released(group, effects);
            self.repeat_at(now.after(ELECTION_NANOS));
        }
    }

    fn tell_released(&self, group: &Group, effects: &mut Vec<Effect>) {
        let message = Message::Released { leader: self.me, term: self.lease.term };
        for to in group.members().members().filter(|&to| to != self.me) {
            effects.push(Effect::Send { to, message });
        }
    }

    /// Tells those that may be fenced to this member that it no longer leads, until there is another
    /// leader. If none of it arrives for long, support between the nodes has ended as well.
    fn give_up_former_lease(
        &mut self,
        group: &Group,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        self.transfer = None;
        self.lease.is_released = true;
        if group.leader().is_some() {
            self.farewells_left = 0;
        }
        if self.farewells_left > 0 {
            self.farewells_left -= 1;
            self.tell_released(group, effects);
            self.repeat_at(now.after(ELECTION_NANOS));
        }
    }

    // ---- Following, and standing for election ----

    fn tick_as_follower(
        &mut self,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        if !group.is_electable() || self.knows_a_leader(group, support) {
            self.candidacy = None;
            return;
        }
        if !support.may_vote() {
            self.repeat_at(now.after(RETRY_NANOS));
            return;
        }
        if let Some(fence) = self.fence {
            // Fenced to one that is not known to lead any more: it may have been deposed.
            let message = Message::LeadershipQuery { term: fence.term };
            effects.push(Effect::Send { to: fence.leader, message });
            self.repeat_at(now.after(RETRY_NANOS));
            return;
        }
        let delay = self.delay_nanos(group);
        let until = match &self.candidacy {
            None => now.after(delay),
            Some(candidacy) => candidacy.until,
        };
        if until > now {
            self.candidacy.get_or_insert(Candidacy::waits(until));
            self.repeat_at(until);
            self.ask_again(group, support, now, effects);
            return;
        }
        let until = now.after(ELECTION_NANOS + delay);
        self.repeat_at(until);
        self.ask_for_votes(until, group, support, now, effects);
    }

    /// How long others may go first. Members of one rank, as their shells see it, still differ by
    /// their places in the group, or they would stand against each other for ever.
    fn delay_nanos(&self, group: &Group) -> u64 {
        let voters = &group.members().voters;
        let place = voters.iter().position(|&voter| voter == self.me).unwrap_or(voters.len());
        u64::from(self.rank) * RANK_DELAY_NANOS + place as u64 * PLACE_DELAY_NANOS
    }

    /// Whether this member leads and has not given that up.
    fn leads_on(&self, group: &Group) -> bool {
        let is_released = self.lease.term == group.term() && self.lease.is_released;
        group.is_leader() && !is_released
    }

    /// Whether there is a leader that lives, other than the candidate.
    fn knows_another(&self, candidate: HostId, group: &Group, support: &impl Support) -> bool {
        let is_other = group.leader() != Some(candidate) && !group.is_leader();
        is_other && self.knows_a_leader(group, support)
    }

    /// Whether there is a leader whose node is alive. One of an earlier term than another that has
    /// stepped down is none, and will not say so a second time.
    fn knows_a_leader(&self, group: &Group, support: &impl Support) -> bool {
        group.leader().is_some_and(|leader| {
            let is_abandoned = self.abandoned.is_some_and(|(other, term)| {
                term > group.term() || (other, term) == (leader, group.term())
            });
            !is_abandoned && support.supports(leader).is_some()
        })
    }

    fn ask_for_votes(
        &mut self,
        until: MonotonicNanos,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        self.attempt += 1;
        self.candidacy = Some(Candidacy { until, asks: Some(Asks::default()) });
        for to in group.members().voters.iter().copied().filter(|&to| to != self.me) {
            self.ask_for_vote(to, group, effects);
        }
        self.repeat_at(now.after(ASK_AGAIN_NANOS));
        self.pre_vote_granted(self.me, group, support, effects);
    }

    fn ask_for_vote(&self, to: HostId, group: &Group, effects: &mut Vec<Effect>) {
        let message = Message::PreVoteRequest { attempt: self.attempt, last: group.last() };
        effects.push(Effect::Send { to, message });
    }

    /// Asks those that are alive and have not answered.
    fn ask_again(
        &mut self,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        let asks = self.candidacy.as_mut().and_then(|candidacy| candidacy.asks.as_mut());
        let Some(asks) = asks.filter(|asks| asks.repeats < ASK_AGAIN_TIMES) else { return };
        asks.repeats += 1;
        let has_answered = |host| asks.granted.contains(&host) || asks.refused.contains(&host);
        let voters = group.members().voters.iter().copied();
        let is_silent =
            |host| host != self.me && !has_answered(host) && support.supports(host).is_some();
        let silent: Vec<HostId> = voters.filter(|&voter| is_silent(voter)).collect();
        for to in silent {
            self.ask_for_vote(to, group, effects);
        }
        self.repeat_at(now.after(ASK_AGAIN_NANOS));
    }

    fn pre_vote_granted(
        &mut self,
        by: HostId,
        group: &Group,
        support: &impl Support,
        effects: &mut Vec<Effect>,
    ) {
        let may_campaign = !group.is_leader()
            && self.may_vote_for(self.me, support)
            && !self.knows_a_leader(group, support);
        let asks = self.candidacy.as_mut().and_then(|candidacy| candidacy.asks.as_mut());
        let Some(Asks { granted, .. }) = asks else {
            return;
        };
        if !may_campaign || granted.contains(&by) {
            return;
        }
        granted.push(by);
        let members = group.members();
        let votes = granted.iter().filter(|&&host| members.is_voter(host)).count();
        if votes * 2 > members.voters.len() {
            // One campaign for each time that it asks.
            self.candidacy.iter_mut().for_each(|candidacy| candidacy.asks = None);
            effects.push(Effect::Campaign);
        }
    }

    fn pre_vote_refused(&mut self, by: HostId) {
        let asks = self.candidacy.as_mut().and_then(|candidacy| candidacy.asks.as_mut());
        if let Some(asks) = asks.filter(|asks| !asks.refused.contains(&by)) {
            asks.refused.push(by);
        }
    }

    // ---- Messages ----

    /// Takes a message from another member.
    pub fn receive(
        &mut self,
        from: HostId,
        message: Message,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        let is_followed = |term| group.term() == term && group.leader() == Some(from);
        match message {
            Message::PreVoteRequest { attempt, last } => {
                let is_granted = self.would_vote(from, last, group, support);
                let message = Message::PreVoteReply { attempt, is_granted };
                effects.push(Effect::Send { to: from, message });
                if group.is_leader() {
                    effects.push(Effect::Resend { to: from });
                } else if !is_granted {
                    self.ask_whether_led(group, effects);
                }
            }
            Message::PreVoteReply { attempt, is_granted } => {
                if attempt != self.attempt {
                    // It answers an earlier one.
                } else if is_granted {
                    self.pre_vote_granted(from, group, support, effects);
                } else {
                    self.pre_vote_refused(from);
                }
            }
            Message::Fortify { term } if is_followed(term) => {
                if let Some(epoch) = support.supports(from) {
                    self.fence = Some(Fence { leader: from, term, epoch });
                    self.candidacy = None;
                    let message = Message::Fortified { term, epoch };
                    effects.push(Effect::Send { to: from, message });
                }
            }
            Message::Fortified { term, epoch } if group.is_leader() => {
                self.fortified(from, term, epoch, group, now);
            }
            Message::LeadershipQuery { term } => {
                if group.term() == term && self.leads_on(group) {
                    effects.push(Effect::Resend { to: from });
                } else if group.term() >= term {
                    let message = Message::Released { leader: self.me, term };
                    effects.push(Effect::Send { to: from, message });
                }
            }
            Message::Released { leader, term } => self.released(leader, term, group, now),
            Message::TakeOver { term } if is_followed(term) && group.is_electable() => {
                self.take_over(from, term, group, support, now, effects);
            }
            Message::Fortify { .. } | Message::Fortified { .. } | Message::TakeOver { .. } => {}
        }
    }

    /// Somebody would like to be elected, and this member believes in a leader: it had better know. That
    /// may be the same, restarted without the last of its log.
    fn ask_whether_led(&self, group: &Group, effects: &mut Vec<Effect>) {
        let followed = group.leader().map(|leader| (leader, group.term()));
        let fenced_to = self.fence.map(|fence| (fence.leader, fence.term));
        if let Some((leader, term)) = followed.or(fenced_to)
            && leader != self.me
        {
            let message = Message::LeadershipQuery { term };
            effects.push(Effect::Send { to: leader, message });
        }
    }

    fn would_vote(
        &self,
        candidate: HostId,
        last: EntryId,
        group: &Group,
        support: &impl Support,
    ) -> bool {
        (group.is_complete(last) || !is_kept(Rule::CompleteLogsOnly))
            && self.may_vote_for(candidate, support)
            && !(self.leads_on(group) || self.knows_another(candidate, group, support))
    }

    fn fortified(
        &mut self,
        by: HostId,
        term: Term,
        epoch: Epoch,
        group: &Group,
        now: MonotonicNanos,
    ) {
        if self.lease.term == group.term() {
            self.lease.fortified(by, term, epoch);
        } else {
            self.wake(now);
        }
    }

    fn released(&mut self, leader: HostId, term: Term, group: &Group, now: MonotonicNanos) {
        self.fence.take_if(|fence| fence.leader == leader && fence.term <= term);
        if self.abandoned.is_none_or(|(_, known)| known <= term) {
            self.abandoned = Some((leader, term));
        }
        if group.leader() == Some(leader) && group.term() == term && self.candidacy.is_none() {
            // Its successor goes first.
            let until = now.after(ELECTION_NANOS + self.delay_nanos(group));
            self.candidacy = Some(Candidacy::waits(until));
        }
        self.wake(now);
    }

    /// The leader asks this member to take over, and relies on no fence any more.
    fn take_over(
        &mut self,
        leader: HostId,
        term: Term,
        group: &Group,
        support: &impl Support,
        now: MonotonicNanos,
        effects: &mut Vec<Effect>,
    ) {
        self.fence.take_if(|fence| fence.leader == leader && fence.term <= term);
        if !self.may_vote_for(self.me, support) {
            return;
        }
        self.abandoned = Some((leader, term));
        let message = Message::Released { leader, term };
        for to in group.members().members().filter(|&to| to != self.me && to != leader) {
            effects.push(Effect::Send { to, message });
        }
        self.candidacy = Some(Candidacy::waits(now.after(ELECTION_NANOS)));
        self.repeat_at(now.after(ELECTION_NANOS));
        effects.push(Effect::Campaign);
    }

    /// Whom this member has promised its vote, whether or not that still binds.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Input, Membership, Recovered};
    use crate::liveness::{self, Incarnation};
    use std::sync::Arc;

    const ME: HostId = HostId(1);
    const NOW: MonotonicNanos = MonotonicNanos(5);

    /// Everybody lives.
    struct AllLive;

    impl Support for AllLive {
        fn supports(&self, _: HostId) -> Option<Epoch> {
            Some(Epoch { incarnation: Incarnation(1), round: 0 })
        }

        fn support_from(&self, _: HostId) -> Option<liveness::Support> {
            None
        }

        fn may_vote(&self) -> bool {
            true
        }
    }

    /// A simulated cluster stood still so (seed 1105): a voter that was away in the second term was
    /// told first that its leader had stepped down, then that the leader of the first term had.
    #[test]
    fn a_leader_is_over_when_a_later_one_has_stepped_down() {
        let members = Arc::new(Membership::of_voters((1..=4).map(HostId)));
        let memberships = vec![(LogIndex(0), members)];
        let recovered = Recovered { memberships, ..Recovered::default() };
        let mut group = Group::recover(ME, recovered).unwrap();
        let append = consensus::Message::Append {
            term: Term(1),
            previous: EntryId::default(),
            entries: Vec::new(),
            commit: LogIndex(0),
        };
        group.step(Input::Receive { from: HostId(2), message: &append }, &mut Vec::new());
        assert_eq!((group.term(), group.leader()), (Term(1), Some(HostId(2))));

        let mut leadership = Leadership::new(ME, 0, NOW);
        let mut would_vote = |told: &[Message]| {
            let mut effects = Vec::new();
            for message in told {
                leadership.receive(HostId(4), *message, &group, &AllLive, NOW, &mut effects);
            }
            let last = EntryId { index: LogIndex(9), term: Term(2) };
            let ask = Message::PreVoteRequest { attempt: 1, last };
            effects.clear();
            leadership.receive(HostId(3), ask, &group, &AllLive, NOW, &mut effects);
            let reply = Message::PreVoteReply { attempt: 1, is_granted: true };
            effects.contains(&Effect::Send { to: HostId(3), message: reply })
        };
        assert!(!would_vote(&[]), "the leader of the first term may lead on");
        let released =
            |leader, term| Message::Released { leader: HostId(leader), term: Term(term) };
        assert!(would_vote(&[released(4, 2), released(2, 1)]));
    }

    /// A new group is made on one node a little before the others know of it.
    #[test]
    fn members_that_do_not_answer_are_asked_again_before_the_next_in_line_begins() {
        let members = Arc::new(Membership::of_voters((1..=3).map(HostId)));
        let recovered =
            Recovered { memberships: vec![(LogIndex(0), members)], ..Recovered::default() };
        let group = Group::recover(ME, recovered).unwrap();
        let mut leadership = Leadership::new(ME, 0, NOW);
        let mut asked_at = |now: u64| {
            let mut effects = Vec::new();
            leadership.tick(&group, &AllLive, MonotonicNanos(now), &mut effects);
            if now == NOW.0 + 2 * ASK_AGAIN_NANOS {
                let refusal = Message::PreVoteReply { attempt: 1, is_granted: false };
                let now = MonotonicNanos(now);
                leadership.receive(HostId(2), refusal, &group, &AllLive, now, &mut effects);
            }
            let to = |effect: &Effect| match effect {
                Effect::Send { to, message: Message::PreVoteRequest { attempt, .. } } => {
                    (to.0, *attempt)
                }
                _ => panic!("{effect:?}"),
            };
            effects.iter().map(to).collect::<Vec<_>>()
        };
        let step = |count: u64| NOW.0 + count * ASK_AGAIN_NANOS;
        assert_eq!(asked_at(step(0)), [(2, 1), (3, 1)]);
        assert_eq!(asked_at(step(0) + 1), []);
        assert_eq!(asked_at(step(1)), [(2, 1), (3, 1)]);
        assert_eq!(asked_at(step(2)), [(2, 1), (3, 1)]);
        assert!(step(2) < RANK_DELAY_NANOS);
        let repeats: Vec<_> = (3..17).flat_map(|count| asked_at(step(count))).collect();
        assert_eq!(repeats, [(3, 1); ASK_AGAIN_TIMES as usize - 2], "no more, and not who refused");
        assert_eq!(asked_at(NOW.0 + ELECTION_NANOS), [(2, 2), (3, 2)], "another attempt");
    }
}
