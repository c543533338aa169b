//! How a group comes from the members that it has to those that it should have, one change at a time.
//!
//! A node joins, leaves, is removed or replaced by a plan in group 0 that names, for each group, the
//! nodes that should hold it. The plan says nothing of steps: whoever leads the group compares what is
//! with what should be, and takes the next step ([`next_step`]). So a plan survives the death of
//! anybody who works on it, a step that was done twice is done once, and a plan that is withdrawn is a
//! plan for the way back.
//!
//! The order keeps a majority of live voters that hold the log, at every step: what comes is a learner
//! until it has caught up, and nobody goes before all that come are voters. The leader goes last, and
//! hands over first.

use crate::consensus::{Change, Membership};
use crate::ring::HostId;

/// What the leader knows of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Its node supports the leader's, and is supported.
    pub is_live: bool,
    /// It lacks no more than is on its way.
    pub is_caught_up: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Change the members.
    Change(Change),
    /// Hand leadership to this voter; it goes on from there.
    HandOver(HostId),
    /// Nothing can be done before something has changed.
    Wait(Reason),
    /// The members are those that should be.
    Done,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The last change of members is not committed.
    Change,
    /// A learner has not caught up.
    CatchUp(HostId),
    /// A node that should hold the group is not alive.
    Node(HostId),
    /// After the change there might be no majority of live voters.
    Majority,
}

/// The next step of the leader `me` of a group with these members towards `wanted`, which is not
/// empty. `is_settled` says whether the last change is committed.
pub fn next_step(
    me: HostId,
    members: &Membership,
    is_settled: bool,
    wanted: &[HostId],
    fact: impl Fn(HostId) -> Fact,
) -> Step {
    if !is_settled {
        return Step::Wait(Reason::Change);
    }
    let is_live = |host: HostId| host == me || fact(host).is_live;
    if let Some(&stray) = members.learners.iter().find(|host| !wanted.contains(host)) {
        return Step::Change(Change::Remove(stray));
    }
    if let Some(&learner) = members.learners.first() {
        let voters = members.voters.iter().copied().chain([learner]);
        return match fact(learner) {
            Fact { is_live: false, .. } => Step::Wait(Reason::Node(learner)),
            Fact { is_caught_up: false, .. } => Step::Wait(Reason::CatchUp(learner)),
            _ if has_live_majority(voters, is_live) => Step::Change(Change::Promote(learner)),
            _ => Step::Wait(Reason::Majority),
        };
    }
    if let Some(&new) = wanted.iter().find(|&&host| !members.is_voter(host)) {
        let is_there = fact(new).is_live;
        let step = Step::Change(Change::AddLearner(new));
        return if is_there { step } else { Step::Wait(Reason::Node(new)) };
    }
    // All that should be there are voters. Dead ones go first, so that each removal leaves more alive.
    let leaving =
        members.voters.iter().copied().filter(|host| !wanted.contains(host) && *host != me);
    let dead = leaving.clone().find(|&host| !is_live(host));
    if let Some(leaving) = dead.or_else(|| leaving.clone().next()) {
        let rest = members.voters.iter().copied().filter(|&host| host != leaving);
        return if has_live_majority(rest, is_live) {
            Step::Change(Change::Remove(leaving))
        } else {
            Step::Wait(Reason::Majority)
        };
    }
    if wanted.contains(&me) {
        return Step::Done;
    }
    let heir = wanted.iter().copied().find(|&host| fact(host).is_live && fact(host).is_caught_up);
    heir.map_or(Step::Wait(Reason::Node(wanted[0])), Step::HandOver)
}

fn has_live_majority(
    voters: impl Iterator<Item = HostId>,
    is_live: impl Fn(HostId) -> bool,
) -> bool {
    let (mut count, mut live_count) = (0, 0);
    for voter in voters {
        count += 1;
        live_count += usize::from(is_live(voter));
    }
    live_count * 2 > count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeSet;

    const LIVE: Fact = Fact { is_live: true, is_caught_up: true };

    fn hosts(ids: &[u128]) -> Vec<HostId> {
        ids.iter().map(|&id| HostId(id)).collect()
    }

    /// The steps from some voters to others when everybody answers, as text.
    fn steps(from: &[u128], to: &[u128], dead: &[u128]) -> Vec<String> {
        let mut members = Membership::of_voters(hosts(from));
        let mut me = HostId(from[0]);
        let mut steps = Vec::new();
        for _ in 0..20 {
            let fact = |host: HostId| if dead.contains(&host.0) { Fact::default() } else { LIVE };
            let step = next_step(me, &members, true, &hosts(to), fact);
            steps.push(match step {
                Step::Change(Change::AddLearner(host)) => format!("add {}", host.0),
                Step::Change(Change::Promote(host)) => format!("promote {}", host.0),
                Step::Change(Change::Remove(host)) => format!("remove {}", host.0),
                Step::HandOver(host) => format!("hand over to {}", host.0),
                Step::Wait(reason) => format!("wait for {reason:?}"),
                Step::Done => "done".to_owned(),
            });
            match step {
                Step::Change(change) => members = members.changed(change).expect("it fits"),
                Step::HandOver(host) => me = host,
                Step::Wait(_) | Step::Done => return steps,
            }
        }
        panic!("steps without end: {steps:?}");
    }

    #[test]
    fn who_comes_is_a_voter_before_anybody_goes() {
        let join = steps(&[1, 2, 3], &[1, 2, 4], &[]);
        assert_eq!(join, ["add 4", "promote 4", "remove 3", "done"]);
        let all = steps(&[1, 2, 3], &[4, 5, 6], &[]);
        assert_eq!(all[..6], ["add 4", "promote 4", "add 5", "promote 5", "add 6", "promote 6"]);
        assert_eq!(all[6..], ["remove 2", "remove 3", "hand over to 4", "remove 1", "done"]);
    }

    #[test]
    fn a_dead_node_is_replaced_by_a_live_one() {
        let replaced = steps(&[1, 2, 3], &[1, 2, 4], &[3]);
        assert_eq!(replaced, ["add 4", "promote 4", "remove 3", "done"]);
        let none = steps(&[1, 2, 3], &[1, 2, 4], &[4]);
        assert_eq!(none, ["wait for Node(HostId(4))"]);
    }

    #[test]
    fn fewer_copies_are_a_change_as_well() {
        assert_eq!(
            steps(&[1, 2, 3], &[2], &[]),
            ["remove 3", "hand over to 2", "remove 1", "done"]
        );
        assert_eq!(steps(&[1, 2, 3], &[1, 2], &[2]), ["wait for Majority"]);
    }

    #[test]
    fn any_change_is_finished_and_never_without_a_live_majority() {
        for seed in 0..2_000 {
            let mut random = Random(seed);
            let mut any = |count: u64| -> Vec<u128> {
                let ids: BTreeSet<u128> =
                    (0..count).map(|_| u128::from(1 + random.below(7))).collect();
                ids.into_iter().collect()
            };
            let (from, to) = (any(4), any(4));
            let steps = steps(&from, &to, &[]);
            assert_eq!(
                steps.last().map(String::as_str),
                Some("done"),
                "{from:?} to {to:?}: {steps:?}"
            );
        }
    }
}
