//! Who belongs to a group: voters and learners, changed by one at a time.
//!
//! Two majorities of memberships that differ by one voter always share a voter, which is why
//! changes go one at a time and need no joint phase.

use crate::ring::HostId;
use crate::wire::{DecodeError, Reader};
use std::fmt;

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

/// For the operator.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddLearner(host) => write!(f, "node {host} becomes a learner"),
            Change::Promote(host) => write!(f, "node {host} becomes a voter"),
            Change::Remove(host) => write!(f, "node {host} is taken out"),
        }
    }
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

    /// How many bytes [`Membership::encode`] appends.
    pub fn encoded_bytes(&self) -> usize {
        2 + size_of::<HostId>() * (self.voters.len() + self.learners.len())
    }

    /// Appends the members as bytes: how many voters (1), how many learners (1), their ids (16
    /// each, little endian), voters first. The same in the log and between nodes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for hosts in [&self.voters, &self.learners] {
            out.push(u8::try_from(hosts.len()).expect("a group has MEMBERS_MAX members"));
        }
        for host in self.members() {
            out.extend_from_slice(&host.0.to_le_bytes());
        }
    }

    /// The members that `bytes` begin with, and the bytes after them.
    pub fn decode(bytes: &[u8]) -> Result<(Membership, &[u8]), DecodeError> {
        let mut reader = Reader::new(bytes);
        let (voter_count, learner_count) = (reader.u8()?, reader.u8()?);
        let mut hosts = |count: u8| -> Result<Vec<HostId>, DecodeError> {
            (0..count).map(|_| reader.u128().map(HostId)).collect()
        };
        let members = Membership { voters: hosts(voter_count)?, learners: hosts(learner_count)? };
        if !members.is_valid() {
            return Err(DecodeError::Impossible("membership"));
        }
        Ok((members, reader.rest()))
    }
}

const _: () = assert!(MEMBERS_MAX <= u8::MAX as usize, "their number has one byte");
