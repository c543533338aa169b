//! Followers that lack entries and get none: whoever leads begins anew with them.
//!
//! A link loses nothing without saying so. But what it hands over may come to nothing at the other end:
//! the group is not there yet, or takes no input while a snapshot is installed. In a group that nobody
//! writes to nothing else would follow, and no answer would be missed.

use super::local::{Local, LocalLog, LocalState};
use super::member::Replica;
use super::replicas::Replicas;
use crate::consensus::{Input, LogIndex};
use crate::leadership::Support;
use crate::liveness::MonotonicNanos;
use crate::peer::Peer;
use crate::placement::GroupId;
use crate::ring::HostId;
use std::collections::BTreeMap;

/// How long a follower gets nothing before it is begun anew with. Long against what a disk takes: one
/// that is only slow is sent again what it has.
const STALL_NANOS: u64 = 1_000_000_000;

/// How long it gets nothing before it counts as one that stands still.
pub(super) const STANDSTILL_NANOS: u64 = 10_000_000_000;

/// Followers on live nodes that lacked entries when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Lagging(BTreeMap<(GroupId, HostId), Lag>);

#[derive(Clone, Copy, Debug)]
struct Lag {
    matched: LogIndex,
    /// When it was first seen to lack what is behind that.
    since: MonotonicNanos,
    /// When something else was under way to it last, or it was begun anew with.
    tried: MonotonicNanos,
}

impl<W> Replicas<W> {
    /// Looks which followers lack entries of the groups led here, and begins anew with those that have
    /// got none for a second; whether there were any. To be called every second or more often.
    pub fn look_after_followers<L: LocalLog, S: LocalState, P: Support>(
        &mut self,
        local: &mut Local<'_, L, S, P>,
    ) -> Result<bool, L::Error> {
        let now = local.now;
        let known = std::mem::take(&mut self.lagging.0);
        let mut stalled = Vec::new();
        for (&id, replica) in &self.groups {
            for (to, matched) in lagging_behind(replica) {
                if to == self.me || local.support.supports(to).is_none() {
                    continue;
                }
                let is_served = self.is_served(id, replica, to);
                let lag = known.get(&(id, to)).filter(|lag| lag.matched == matched);
                let mut lag = *lag.unwrap_or(&Lag { matched, since: now, tried: now });
                if is_served || lag.tried.after(STALL_NANOS) <= now {
                    lag.tried = now;
                    stalled.extend((!is_served).then_some((id, to)));
                }
                self.lagging.0.insert((id, to), lag);
            }
        }
        stalled.sort_unstable();
        for &(id, to) in &stalled {
            self.step(id, Input::Resend { to }, &[], local)?;
        }
        Ok(!stalled.is_empty())
    }

    /// Whether something brings a follower on that takes its time, or nothing can be sent to it.
    fn is_served(&self, id: GroupId, replica: &Replica<W>, to: HostId) -> bool {
        let peer = replica.shard_of(to).map(|shard| Peer { host_id: to, shard });
        let is_reached = peer.is_some_and(|peer| self.links.is_connected(peer));
        let is_read_for = replica.catch_ups.iter().any(|catch_up| catch_up.to == to);
        !is_reached || is_read_for || self.needs_snapshot(id, to)
    }

    /// Followers of groups led here, on live nodes, that have lacked entries for ten seconds and got
    /// none.
    pub fn standing_still(
        &self,
        now: MonotonicNanos,
    ) -> impl Iterator<Item = (GroupId, HostId)> + use<'_, W> {
        let stands = move |lag: &Lag| lag.since.after(STANDSTILL_NANOS) <= now;
        self.lagging.0.iter().filter(move |(_, lag)| stands(lag)).map(|(&follower, _)| follower)
    }
}

/// The members that lack entries of a group, if it is led here, and how far each is known to hold it.
fn lagging_behind<W>(replica: &Replica<W>) -> impl Iterator<Item = (HostId, LogIndex)> {
    let group = Some(&replica.group).filter(|group| group.is_leader() && !replica.is_suspended);
    group.into_iter().flat_map(|group| {
        let last = group.last().index;
        let all = group.members().members().map(|host| (host, group.matched(host)));
        all.filter(move |(_, matched)| *matched < last)
    })
}
