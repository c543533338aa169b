//! The two ends of a lease: what a voter promised a leader, and what a leader was promised.

use super::message::Support;
use crate::consensus::{Group, MEMBERS_MAX, Membership, Term};
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
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) term: Term,
    /// Voters, with the epoch that each answered.
    backers: Vec<(HostId, Epoch)>,
    /// Whether the lease was given up; there is none any more in this term.
    pub(super) is_released: bool,
}

impl Lease {
    pub(super) fn new(term: Term) -> Lease {
        Lease { term, backers: Vec::new(), is_released: false }
    }

    /// A voter fortifies this leader, in an epoch.
    pub(super) fn fortified(&mut self, by: HostId, term: Term, epoch: Epoch) {
        if term != self.term {
            return;
        }
        match self.backers.iter_mut().find(|(host, _)| *host == by) {
            Some((_, known)) => *known = epoch.max(*known),
            None => self.backers.push((by, epoch)),
        }
    }

    /// Forgets the promises of members that are no voters any more. One that becomes a voter again may
    /// have been made anew since, and know of no promise.
    pub(super) fn keep_voters(&mut self, members: &Membership) {
        self.backers.retain(|(host, _)| members.is_voter(*host));
    }

    /// Whether a voter fortifies this leader under its present support.
    pub(super) fn is_backed_by(&self, voter: HostId, support: &impl Support) -> bool {
        self.until_by(voter, support).is_some()
    }

    /// Until when a voter is known to vote for no other.
    fn until_by(&self, voter: HostId, support: &impl Support) -> Option<MonotonicNanos> {
        let given = support.support_from(voter)?;
        let is_fortified = self.backers.iter().any(|&(host, epoch)| {
            host == voter && (epoch == given.epoch || !is_kept(Rule::LeaseCountsTheEpoch))
        });
        (is_fortified || !is_kept(Rule::LeaseNeedsFences)).then_some(given.until)
    }

    /// Until when a majority of the voters is known to vote for no other.
    pub(super) fn until(
        &self,
        group: &Group,
        me: HostId,
        support: &impl Support,
    ) -> MonotonicNanos {
        let members = group.members();
        let until_by = |voter: HostId| {
            let never = MonotonicNanos(u64::MAX);
            if voter == me { Some(never) } else { self.until_by(voter, support) }
        };
        let mut ends = [MonotonicNanos::default(); MEMBERS_MAX];
        let ends = &mut ends[..members.voters.len()];
        for (end, &voter) in ends.iter_mut().zip(&members.voters) {
            *end = until_by(voter).unwrap_or_default();
        }
        ends.sort_unstable_by(|one, other| other.cmp(one));
        let majority = members.voters.len() / 2 + usize::from(is_kept(Rule::LeaseOfAMajority));
        ends[majority.max(1) - 1]
    }
}
