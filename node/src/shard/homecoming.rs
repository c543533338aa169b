//! Leadership comes home: to the first replica of the ring, which drivers ask first; and it leaves a
//! node that goes down, so that nobody has to wait until the node is missed, or whose clock is off,
//! which decides nothing (`clock_check`), or that hears nothing of the metadata for long, which soon may
//! not (`metadata::freshness`). Such a one is no home until it says that it is right again. And it
//! leaves a node for the groups in which that may decide nothing, since it does not know of a log that
//! others have told them of.
//!
//! After a failure other members lead. Once the node that is preferred is back for a while and has
//! caught up, whoever leads hands over to it, a few groups at a time, since each hand-over makes
//! the writes of its range wait for some round trips. One that failed is not tried again soon.

use super::Shard;
use super::state::ShardState;
use cluster::leadership::{Support as _, TransferRefused};
use cluster::liveness::MonotonicNanos;
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::Engine;

/// How long a node has to be up before it leads again.
const UP_TIME_MIN: Duration = Duration::from_secs(3);
/// Groups of a shard that are handed over together; once a second. Each waits for a few milliseconds, and
/// until all are home drivers ask the wrong node.
const GROUPS_AT_ONCE_MAX: usize = 16;
/// How often a node that goes down looks whether others lead.
const HAND_OVER_INTERVAL: Duration = Duration::from_millis(20);
/// How long a group stays where it is after it was to be handed over.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// What a shard remembers for it.
#[derive(Debug, Default)]
pub(super) struct Homecoming {
    /// Since when other nodes have been up without a break.
    up_since: BTreeMap<HostId, MonotonicNanos>,
    /// Groups that were to be handed over, and when.
    tried: BTreeMap<GroupId, MonotonicNanos>,
}

impl Homecoming {
    /// Takes note of who is up.
    fn see(&mut self, now: MonotonicNanos, hosts: &[HostId], is_up: impl Fn(HostId) -> bool) {
        self.up_since.retain(|host, _| is_up(*host));
        for host in hosts.iter().filter(|host| is_up(**host)) {
            self.up_since.entry(*host).or_insert(now);
        }
        self.tried.retain(|_, tried| tried.after(nanos(RETRY_PAUSE)) > now);
    }

    /// Whether a group may be handed to that node now.
    fn may_go(&self, group: GroupId, home: HostId, now: MonotonicNanos) -> bool {
        let is_steady =
            self.up_since.get(&home).is_some_and(|since| since.after(nanos(UP_TIME_MIN)) <= now);
        is_steady && !self.tried.contains_key(&group)
    }
}

impl Shard {
    /// Hands over a few groups to the nodes that are preferred as their leaders; or all of them, if
    /// this node is not to lead.
    pub(super) fn send_leaders_home(&self) {
        let now = MonotonicNanos(self.monotonic_nanos());
        let wall_clock = &self.shared.wall_clock;
        let known = self.view().index();
        let mut state = self.state.borrow_mut();
        let is_lost = self.shared.known_generations.are_lost(now.0);
        let is_begun = if wall_clock.ahead_micros().is_some() || is_lost {
            state.hand_over(now, |_, _| true, |host| wall_clock.is_fit(host) == Some(true))
        } else {
            // Who has not said yet how it is has just been started.
            let may_lead = |host| wall_clock.is_fit(host) != Some(false);
            let is_behind =
                |engine: &Engine, id: GroupId| engine.placement(id.0).switched_at > known;
            state.hand_over(now, is_behind, may_lead) | (state.send_leaders_home(now, may_lead) > 0)
        };
        drop(state);
        if is_begun {
            self.wake_log();
        }
    }
}

impl Shard {
    /// Hands over all that is led here and has other members, as far as there is somebody to take it
    /// before the time is over.
    pub(super) async fn hand_over_all(&self, deadline_nanos: u64) {
        loop {
            let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
            let waits = self.state.borrow_mut().hand_over(now, |_, _| true, |_| true);
            if !waits || now.0 >= deadline_nanos {
                return;
            }
            self.wake_log();
            tokio::select! {
                () = self.settled.notified() => {}
                () = self.shared.env.clock.sleep(HAND_OVER_INTERVAL) => {}
            }
        }
    }
}

impl ShardState {
    /// Begins to hand over those that are to go of what is led here, to any that may lead; whether
    /// anything is on its way.
    fn hand_over(
        &mut self,
        now: MonotonicNanos,
        goes: impl Fn(&Engine, GroupId) -> bool,
        may_lead: impl Fn(HostId) -> bool,
    ) -> bool {
        let support = self.support.clone();
        let mut waits = false;
        for id in self.replicas.ids() {
            let is_led = self.replicas.is_leader(id) && !self.replicas.is_alone(id);
            if !is_led || !goes(&self.engine, id) {
                continue;
            }
            let others: Vec<HostId> =
                self.replicas.other_members(id).filter(|host| may_lead(*host)).collect();
            waits |= others.into_iter().any(|to| {
                let begun = self.replicas.transfer(id, to, &*support, now);
                matches!(begun, Ok(()) | Err(TransferRefused::NotLeader))
            });
        }
        waits
    }

    fn send_leaders_home(
        &mut self,
        now: MonotonicNanos,
        may_lead: impl Fn(HostId) -> bool,
    ) -> usize {
        let Some(view) = self.adopted.clone() else { return 0 };
        let support = self.support.clone();
        let hosts: Vec<HostId> = view.ring.nodes().iter().map(|node| node.host_id).collect();
        if hosts.len() < 2 {
            return 0;
        }
        let is_up = |host: HostId| {
            support.is_live(host, now) && support.supports(host).is_some() && may_lead(host)
        };
        self.homecoming.see(now, &hosts, is_up);
        let mut count = 0;
        for id in self.intervals.keys().copied() {
            if count == GROUPS_AT_ONCE_MAX {
                break;
            }
            if !self.replicas.may_decide(id) || self.replicas.is_alone(id) {
                continue;
            }
            let Some(placed) = view.replicas_of_group(id).filter(|placed| placed.rank > 0) else {
                continue;
            };
            let Some(&home) = placed.wanted.first() else { continue };
            if !self.homecoming.may_go(id, home, now) {
                continue;
            }
            match self.replicas.transfer(id, home, &*support, now) {
                Ok(()) => {
                    tracing::debug!("group {:016x} goes home to {home}", id.0);
                    self.homecoming.tried.insert(id, now);
                    count += 1;
                }
                Err(refusal) => tracing::debug!("group {:016x} stays: {refusal}", id.0),
            }
        }
        count
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: HostId = HostId(7);

    #[test]
    fn a_node_leads_again_only_after_it_was_up_without_a_break() {
        let group = GroupId(1);
        let mut homecoming = Homecoming::default();
        let at = |millis: u64| MonotonicNanos(millis * 1_000_000);
        homecoming.see(at(0), &[HOME], |_| true);
        assert!(!homecoming.may_go(group, HOME, at(2_999)));
        assert!(homecoming.may_go(group, HOME, at(3_000)));
        homecoming.see(at(3_000), &[HOME], |_| false);
        homecoming.see(at(4_000), &[HOME], |_| true);
        assert!(!homecoming.may_go(group, HOME, at(6_999)), "it was away in between");
        assert!(homecoming.may_go(group, HOME, at(7_000)));
    }

    #[test]
    fn a_group_that_did_not_go_stays_for_a_while() {
        let (group, other) = (GroupId(1), GroupId(2));
        let mut homecoming = Homecoming::default();
        let at = |seconds: u64| MonotonicNanos(seconds * 1_000_000_000);
        homecoming.see(at(0), &[HOME], |_| true);
        homecoming.tried.insert(group, at(5));
        homecoming.see(at(34), &[HOME], |_| true);
        assert!(!homecoming.may_go(group, HOME, at(34)) && homecoming.may_go(other, HOME, at(34)));
        homecoming.see(at(35), &[HOME], |_| true);
        assert!(homecoming.may_go(group, HOME, at(35)));
    }
}
