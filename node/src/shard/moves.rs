//! Groups come to the nodes that shall hold them, while the ring changes.
//!
//! Whoever leads a group compares its members with those that the plan wants, several times a second
//! and more often while that gets on, and takes the next step ([`cluster::replacement`]). No step is
//! written anywhere but in the group's own log. Few groups are filled at a time, so that streams are
//! few and the log is kept for few that lag.
//!
//! A group that has the wanted members, committed, keeps them while the plan stands: it is *done*, and
//! stays so here whoever leads it next.

use super::Shard;
use super::state::ShardState;
use crate::statement::format_uuid;
use crate::view::View;
use cluster::consensus::Change;
use cluster::leadership::Support as _;
use cluster::liveness::{Board, MonotonicNanos};
use cluster::replacement::{Fact, Reason, Step, next_step};
use cluster::{GroupId, HostId, RangeIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often a shard looks for a step to take.
const INTERVAL: Duration = Duration::from_millis(100);
/// When it looks again behind a step: about as long as others take to confirm it.
const STEP_TIME: Duration = Duration::from_millis(5);
/// How many looks in a row may find nothing to do before the shard goes back to `INTERVAL`: most of
/// what follows a step can be done within this many.
const IDLE_LOOKS_MAX: u32 = 10;
/// Groups of a shard that are filled at a time.
const FILLED_MAX: usize = 4;
/// Entries that a member may lack which passes for having caught up; far fewer than may be under way.
const LAG_MAX: u64 = 256;

/// What a shard remembers of the plan that it works on.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The index of the plan; 0 for none.
    since: u64,
    done: BTreeSet<GroupId>,
    /// Groups led here that have not the wanted members yet.
    led: BTreeSet<GroupId>,
    /// What those wait for.
    waiting: BTreeMap<GroupId, Reason>,
}

/// How far the groups have come that a shard has led, or a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovesReport {
    /// The index of the plan; 0 for none.
    pub since: u64,
    /// The ids of groups that have the wanted members.
    pub done: BTreeSet<u64>,
    /// The ids of others that are led here. Of a group that is in neither list nobody may be the leader.
    #[serde(default)]
    pub led: BTreeSet<u64>,
    /// What keeps those, for the operator; how many there are of each.
    pub waiting: BTreeMap<String, u64>,
}

impl Moves {
    pub(super) fn report(&self) -> MovesReport {
        let mut waiting = BTreeMap::new();
        for reason in self.waiting.values() {
            *waiting.entry(describe(*reason)).or_default() += 1;
        }
        let ids = |groups: &BTreeSet<GroupId>| groups.iter().map(|id| id.0).collect();
        MovesReport { since: self.since, done: ids(&self.done), led: ids(&self.led), waiting }
    }
}

fn describe(reason: Reason) -> String {
    match reason {
        Reason::Change => "a change of members is not committed yet".to_owned(),
        Reason::CatchUp(host) => format!("node {} is being filled", format_uuid(host.0)),
        Reason::Node(host) => format!("node {} does not answer", format_uuid(host.0)),
        Reason::Majority => "too few replicas live to go on without one".to_owned(),
    }
}

impl MovesReport {
    /// Takes in what another shard, or node, says of the same plan.
    pub(crate) fn add(&mut self, other: MovesReport) {
        if other.since != self.since {
            return;
        }
        self.done.extend(other.done);
        self.led.extend(other.led);
        for (reason, count) in other.waiting {
            *self.waiting.entry(reason).or_default() += count;
        }
    }
}

impl Shard {
    /// Moves groups, and fills the members that lack entries, until the node stops.
    pub(super) async fn run_moves(self: Rc<Self>) {
        let mut idle_looks = IDLE_LOOKS_MAX;
        loop {
            let clock = &self.shared.env.clock;
            if idle_looks < IDLE_LOOKS_MAX {
                clock.sleep(STEP_TIME).await;
            } else {
                tokio::select! {
                    () = clock.beat(INTERVAL) => {}
                    () = self.snapshots.ended() => {}
                }
            }
            let is_any = self.move_groups() | self.send_snapshots();
            idle_looks = if is_any { 0 } else { idle_looks.saturating_add(1) };
        }
    }

    /// Takes the next step of each group that is led here and shall have other members; whether
    /// there was one.
    fn move_groups(&self) -> bool {
        let now = MonotonicNanos(self.monotonic_nanos());
        let is_any = self.state.borrow_mut().move_groups(now);
        if is_any {
            self.wake_log();
        }
        is_any
    }
}

impl ShardState {
    /// Whether anything was done.
    fn move_groups(&mut self, now: MonotonicNanos) -> bool {
        let Some(view) = self.adopted.clone() else { return false };
        let since = view.metadata.plan.as_ref().map_or(0, |plan| plan.since);
        if self.moves.since != since {
            self.moves = Moves { since, ..Moves::default() };
        }
        self.moves.waiting.clear();
        self.moves.led.clear();
        if since == 0 || self.failure.is_some() {
            return false;
        }
        let support = self.support.clone();
        let ids: Vec<GroupId> = self.intervals.keys().copied().collect();
        let has_learner = |id: &&GroupId| {
            let members = self.replicas.members(**id).filter(|m| !m.learners.is_empty());
            members.is_some() && self.replicas.is_leader(**id)
        };
        let mut filled = ids.iter().filter(has_learner).count();
        // A learner may have been sent its first entries before its node knew of the plan.
        let mut is_any = self.look_after_followers(now);
        for id in ids {
            let Some((setting, range)) = view.place_of(id) else { continue };
            if !setting.placement.is_moving(range) || !self.replicas.is_settled(id) {
                continue;
            }
            self.moves.led.insert(id);
            let wanted = wanted(&view, &setting.placement, range);
            match self.step_of(id, &wanted, &support, now) {
                Step::Done => {
                    self.moves.led.remove(&id);
                    self.moves.done.insert(id);
                }
                Step::Wait(reason) => {
                    self.moves.waiting.insert(id, reason);
                }
                Step::HandOver(to) => match self.replicas.transfer(id, to, &*support, now) {
                    Ok(()) => is_any = true,
                    Err(refusal) => tracing::debug!("group {:016x} stays: {refusal}", id.0),
                },
                Step::Change(Change::AddLearner(_)) if filled >= FILLED_MAX => {}
                Step::Change(change) => {
                    filled += usize::from(matches!(change, Change::AddLearner(_)));
                    is_any |= self.change_members_of(id, change, now);
                }
            }
        }
        is_any
    }

    fn step_of(
        &self,
        id: GroupId,
        wanted: &[HostId],
        support: &Arc<Board>,
        now: MonotonicNanos,
    ) -> Step {
        let replicas = &self.replicas;
        let (Some(members), Some((_, committed))) =
            (replicas.members(id), replicas.committed_members(id))
        else {
            return Step::Wait(Reason::Change);
        };
        let last = replicas.last_index(id);
        let followers = replicas.followers(id);
        let fact = |host: HostId| {
            let matched = followers.iter().find(|(other, _)| *other == host);
            let is_close = matched.is_some_and(|(_, at)| at.0 > 0 && at.0 + LAG_MAX >= last.0);
            Fact {
                is_live: support.is_live(host, now) && support.supports(host).is_some(),
                is_caught_up: is_close && !replicas.needs_snapshot(id, host),
            }
        };
        next_step(replicas.me(), members, committed == members, wanted, fact)
    }

    fn change_members_of(&mut self, id: GroupId, change: Change, now: MonotonicNanos) -> bool {
        let changed =
            self.with_replicas(now, |replicas, local| replicas.change_members(id, change, local));
        match changed {
            Ok(Ok(())) => {
                tracing::debug!("group {:016x}: {change:?}", id.0);
                true
            }
            Ok(Err(refusal)) => {
                tracing::debug!("group {:016x}: {change:?}: {refusal:?}", id.0);
                false
            }
            // The log's task meets the failure and says so.
            Err(_) => false,
        }
    }
}

/// The nodes that shall hold a range, the preferred leader first.
fn wanted(view: &View, placement: &cluster::Placement, range: RangeIndex) -> Vec<HostId> {
    placement.wanted(range).iter().map(|node| view.ring.node(*node).host_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_one_plan_add_up_and_others_are_left_out() {
        let report = |since, done: &[u64], reason: &str| MovesReport {
            since,
            done: done.iter().copied().collect(),
            led: BTreeSet::from([since + 10]),
            waiting: BTreeMap::from([(reason.to_owned(), 2)]),
        };
        let mut all = report(3, &[1, 2], "a");
        all.add(report(3, &[2, 5], "a"));
        all.add(report(2, &[9], "b"));
        assert_eq!(all.done.into_iter().collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(all.led, BTreeSet::from([13]));
        assert_eq!(all.waiting, BTreeMap::from([("a".to_owned(), 4)]));
    }
}
