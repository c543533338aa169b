//! The two ends of a lease: what a voter promised a leader, and what a leader was promised.

use super::message::Support;
use crate::consensus::{MEMBERS_MAX, Membership, Term};
use crate::liveness::{Epoch, MonotonicNanos};
use crate::ring::HostId;
use crate::rules::{Rule, is_kept};

/// A voter's promise to vote for no other than a leader, while its node supports the leader's in an
/// epoch. Once that epoch is over the fence is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Who is fortified.
    pub leader: HostId,
    /// The term it leads.
    pub term: Term,
    /// The epoch of the support that the promise stands on.
    pub epoch: Epoch,
}

impl Fence {
    /// Whether the promise still binds.
    pub(super) fn holds(&self, support: &impl Support) -> bool {
        support.supports(self.leader) == Some(self.epoch)
    }
}

/// Who fortifies a leader in its term.
///
/// It names the voters itself: a read under a lease asks it and nothing else of the group's members.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) term: Term,
    /// The group's voters, with the epoch in which each fortified this leader.
    voters: Vec<(HostId, Option<Epoch>)>,
    /// Whether the lease was given up; there is none any more in this term.
    pub(super) is_released: bool,
}

impl Lease {
    /// What a member has that never led.
    pub(super) fn none() -> Lease {
        Lease { term: Term(0), voters: Vec::new(), is_released: false }
    }

    pub(super) fn new(term: Term, members: &Membership) -> Lease {
        let voters = members.voters.iter().map(|&voter| (voter, None)).collect();
        Lease { term, voters, is_released: false }
    }

    /// A voter fortifies this leader, in an epoch.
    pub(super) fn fortified(&mut self, by: HostId, term: Term, epoch: Epoch) {
        if term != self.term {
            return;
        }
        if let Some((_, known)) = self.voters.iter_mut().find(|(voter, _)| *voter == by) {
            *known = Some(epoch).max(*known);
        }
    }

    /// Takes up other voters. The promises of members that are none any more are forgotten: one that
    /// becomes a voter again may have been made anew since, and know of no promise.
    pub(super) fn set_voters(&mut self, members: &Membership) {
        let promised = std::mem::take(&mut self.voters);
        let epoch_of = |voter: HostId| promised.iter().find(|(host, _)| *host == voter)?.1;
        self.voters = members.voters.iter().map(|&voter| (voter, epoch_of(voter))).collect();
    }

    /// Voters without a promise that holds under their nodes' present support.
    pub(super) fn unbacked_by(&self, support: &impl Support) -> impl Iterator<Item = HostId> {
        let unbacked = self.voters.iter().filter(|voter| until_by(voter, support).is_none());
        unbacked.map(|&(voter, _)| voter)
    }

    /// Until when a majority of the voters is known to vote for no other.
    pub(super) fn until(&self, me: HostId, support: &impl Support) -> MonotonicNanos {
        let never = MonotonicNanos(u64::MAX);
        let mut ends = [MonotonicNanos::default(); MEMBERS_MAX];
        let ends = &mut ends[..self.voters.len()];
        for (end, voter) in ends.iter_mut().zip(&self.voters) {
            let until = if voter.0 == me { Some(never) } else { until_by(voter, support) };
            *end = until.unwrap_or_default();
        }
        ends.sort_unstable_by(|one, other| other.cmp(one));
        let majority = self.voters.len() / 2 + usize::from(is_kept(Rule::LeaseOfAMajority));
        ends[majority.max(1) - 1]
    }
}

/// Until when a voter is known to vote for no other, that fortified the leader in an epoch.
fn until_by(
    &(voter, epoch): &(HostId, Option<Epoch>),
    support: &impl Support,
) -> Option<MonotonicNanos> {
    let given = support.support_from(voter)?;
    let is_fortified = match epoch {
        Some(epoch) => epoch == given.epoch || !is_kept(Rule::LeaseCountsTheEpoch),
        None => !is_kept(Rule::LeaseNeedsFences),
    };
    is_fortified.then_some(given.until)
}
