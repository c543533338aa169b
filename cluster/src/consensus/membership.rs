//! Who belongs to a group: voters and learners, changed by one at a time.
//!
//! Two majorities of memberships that differ by one voter always share a voter, which is why
//! changes go one at a time and need no joint phase.

use crate::ring::HostId;

/// Members a group can have, learners included: far above any replication factor in use, and low
/// enough that walking over them costs nothing.
pub const MEMBERS_MAX: usize = 64;

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those whose votes and copies count.
    pub voters: Vec<HostId>,
    /// Those that are sent the log, and count for nothing yet.
    pub learners: Vec<HostId>,
}

/// A step from one membership to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node that is not a member becomes a learner.
    AddLearner(HostId),
    /// A learner becomes a voter.
    Promote(HostId),
    /// A member leaves.
    Remove(HostId),
}

impl Membership {
    /// A group of voters.
    pub fn of_voters(voters: impl IntoIterator<Item = HostId>) -> Membership {
        Membership { voters: voters.into_iter().collect(), learners: Vec::new() }
    }

    /// Whether a node's vote counts.
    pub fn is_voter(&self, host: HostId) -> bool {
        self.voters.contains(&host)
    }

    /// Every member, voters first.
    pub fn members(&self) -> impl Iterator<Item = HostId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether `count` voters are a majority.
    pub(super) fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.voters.len()
    }

    /// Whether it has a voter, no node twice, and not too many.
    pub(super) fn is_valid(&self) -> bool {
        let mut members: Vec<HostId> = self.members().collect();
        let count = members.len();
        members.sort_unstable();
        members.dedup();
        !self.voters.is_empty() && members.len() == count && count <= MEMBERS_MAX
    }

    /// The membership after a change, unless the change does not fit this one.
    pub(crate) fn changed(&self, change: Change) -> Option<Membership> {
        let mut changed = self.clone();
        match change {
            Change::AddLearner(host) => changed.learners.push(host),
            Change::Promote(host) => {
                changed.learners.retain(|&learner| learner != host);
                changed.voters.push(host);
                if changed.learners.len() == self.learners.len() {
                    return None;
                }
            }
            Change::Remove(host) => {
                changed.learners.retain(|&learner| learner != host);
                changed.voters.retain(|&voter| voter != host);
                if changed == *self {
                    return None;
                }
            }
        }
        changed.is_valid().then_some(changed)
    }
}
