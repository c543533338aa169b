//! How much of a shard's log is kept, and for whom.
//!
//! The log of a shard is a row of segments, shared by all its groups and given up oldest first. A
//! segment is needed by this node until all that it holds is in the tables that the manifest lists;
//! and it is wanted by followers of the groups led here that have not got all of it. The first is
//! beyond discussion; the second ends at a number of bytes, or one node that is away would fill the
//! disks of the others. A follower that is left behind needs a snapshot.
//!
//! [`plan`] is a function of what there is. It knows neither files nor tables.

use crate::consensus::LogIndex;
use crate::placement::GroupId;
use crate::ring::HostId;
use std::collections::{BTreeMap, BTreeSet};

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its size.
    pub bytes: u64,
    /// The last entry in it of each group that has any.
    pub ends: Vec<(GroupId, LogIndex)>,
}

/// What a group needs of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Entries up to here are in tables on this node.
    pub flushed: LogIndex,
    /// Other members, if the group is led here, and how far each one's log is known to agree. One
    /// that is being sent a snapshot counts from the snapshot's base, so that what follows is there
    /// when it arrives.
    pub followers: Vec<(HostId, LogIndex)>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Followers that lose entries that they lack.
    pub left_behind: Vec<(GroupId, HostId)>,
    /// Groups that forget entries, up to these ([`Input::Discard`](crate::consensus::Input::Discard)),
    /// before the segments that hold them go. No more than these hold: a follower that another
    /// member leads later may lack what comes behind.
    pub discard: Vec<(GroupId, LogIndex)>,
    /// How many segments, the oldest, are given up.
    pub given_up_count: usize,
    /// Groups whose memtables are to be flushed: they hold the oldest segment, and the log is too
    /// large.
    pub flush: Vec<GroupId>,
}

/// How large the log may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of segments beyond which memtables are flushed for the oldest.
    pub unflushed_bytes_max: u64,
    /// Bytes of segments beyond which no follower is waited for.
    pub followed_bytes_max: u64,
}

/// Decides about closed segments, oldest first. A group that has gone needs nothing.
pub fn plan(segments: &[Segment], groups: &BTreeMap<GroupId, Needs>, limits: Limits) -> Plan {
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut plan = Plan::default();
    let mut discarded: BTreeMap<GroupId, LogIndex> = BTreeMap::new();
    let mut left_behind = BTreeSet::new();
    for segment in segments {
        let of_groups = segment
            .ends
            .iter()
            .filter_map(|&(group, end)| groups.get(&group).map(|needs| (group, end, needs)));
        let unflushed = of_groups.clone().filter(|(_, end, needs)| needs.flushed < *end);
        let unflushed: Vec<GroupId> = unflushed.map(|(group, ..)| group).collect();
        if !unflushed.is_empty() {
            let is_large = bytes > limits.unflushed_bytes_max;
            plan.flush = if is_large { unflushed } else { Vec::new() };
            break;
        }
        let lacking: Vec<(GroupId, HostId)> = of_groups
            .clone()
            .flat_map(|(group, end, needs)| {
                let behind = needs.followers.iter().filter(move |(_, matched)| *matched < end);
                behind.map(move |&(host, _)| (group, host))
            })
            .filter(|lack| !left_behind.contains(lack))
            .collect();
        if !lacking.is_empty() && bytes <= limits.followed_bytes_max {
            break;
        }
        left_behind.extend(lacking);
        discarded.extend(of_groups.map(|(group, end, _)| (group, end)));
        plan.given_up_count += 1;
        bytes -= segment.bytes;
    }
    plan.left_behind = left_behind.into_iter().collect();
    plan.discard = discarded.into_iter().collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: GroupId = GroupId(1);
    const TWO: GroupId = GroupId(2);
    const FOLLOWER: HostId = HostId(7);

    /// Three segments of 100 bytes; group 1 has entries in all, group 2 in the second.
    fn segments() -> Vec<Segment> {
        let segment = |ends: &[(GroupId, u64)]| Segment {
            bytes: 100,
            ends: ends.iter().map(|&(group, end)| (group, LogIndex(end))).collect(),
        };
        vec![segment(&[(ONE, 10)]), segment(&[(ONE, 20), (TWO, 5)]), segment(&[(ONE, 30)])]
    }

    fn groups(one: u64, two: u64, matched: u64) -> BTreeMap<GroupId, Needs> {
        let followers = vec![(FOLLOWER, LogIndex(matched))];
        let one = Needs { flushed: LogIndex(one), followers };
        let two = Needs { flushed: LogIndex(two), followers: Vec::new() };
        BTreeMap::from([(ONE, one), (TWO, two)])
    }

    fn both(bytes_max: u64) -> Limits {
        Limits { unflushed_bytes_max: bytes_max, followed_bytes_max: bytes_max }
    }

    #[test]
    fn what_nobody_needs_goes() {
        let plan = plan(&segments(), &groups(30, 5, 30), both(1_000));
        assert_eq!(plan.given_up_count, 3);
        assert_eq!(plan.discard, [(ONE, LogIndex(30)), (TWO, LogIndex(5))]);
        assert!(plan.left_behind.is_empty());
    }

    #[test]
    fn what_is_not_in_tables_stays_and_is_flushed_when_the_log_is_too_large() {
        let small = plan(&segments(), &groups(30, 4, 30), both(1_000));
        assert_eq!((small.given_up_count, small.flush), (1, Vec::new()));
        let large = plan(&segments(), &groups(30, 4, 30), both(50));
        assert_eq!((large.given_up_count, large.flush), (1, vec![TWO]));
    }

    #[test]
    fn a_follower_holds_the_log_up_to_a_number_of_bytes() {
        let patient = plan(&segments(), &groups(30, 5, 12), both(300));
        assert_eq!((patient.given_up_count, patient.left_behind), (1, Vec::new()));
        let full = plan(&segments(), &groups(30, 5, 2), both(250));
        assert_eq!(full.left_behind, [(ONE, FOLLOWER)]);
        assert_eq!(full.given_up_count, 3, "once it needs a snapshot, it holds nothing");
    }

    #[test]
    fn a_follower_is_waited_for_longer_than_memtables_are() {
        let limits = Limits { unflushed_bytes_max: 100, followed_bytes_max: 1_000 };
        let plan = plan(&segments(), &groups(30, 4, 15), limits);
        assert_eq!((plan.given_up_count, plan.flush), (1, vec![TWO]));
        assert_eq!(plan.discard, [(ONE, LogIndex(10))]);
    }

    #[test]
    fn a_group_that_has_gone_needs_nothing() {
        let mut groups = groups(30, 0, 30);
        groups.remove(&TWO);
        assert_eq!(plan(&segments(), &groups, both(1_000)).given_up_count, 3);
    }
}
