//! Which node delivers a feed: decided by the leader of the metadata, among the nodes that live.
//!
//! A node may own feeds while the leader supports it and is supported by it, and its wall clock is right:
//! a request bears the time, which receivers look at, and rows that a feed scans end by it. One that may
//! not for [`ABSENCE_MAX`] loses its feeds to others, each with a new epoch; a feed that comes to run, or
//! whose owner let go of it, as one does whose clock is off, gets the one with the fewest. Feeds do not
//! move otherwise.
//!
//! On the owner's side stands the [`Permit`]: until when a majority of those that vote on the metadata
//! has promised to support it. No other node can be made owner before most of the voters have
//! withdrawn that, so an owner that asks before it sends is alone, but for what it sent last. The
//! fence around positions (`metadata::feeds`) holds without any clock.

use crate::metadata::{Command, FeedAssignment, FeedState, Metadata};
use crate::node::Shared;
use crate::remote::Deadline;
use crate::shard::{Change, Shard, WriteRequest};
use cluster::liveness::MonotonicNanos;
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked who lives.
const INTERVAL: Duration = Duration::from_millis(50);
/// The same while there are no feeds.
const IDLE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a node may be away before its feeds go to others.
const ABSENCE_MAX: Duration = Duration::from_millis(400);
/// How often logs that no feed needs are looked for, in intervals.
const IDLE_LOG_INTERVALS: u32 = 100;
/// How often it is looked what feeds pin, in intervals.
const PIN_INTERVALS: u32 = 20;
/// How long turning them off may take.
const IDLE_LOG_TIME_MAX: Duration = Duration::from_secs(10);

/// Until when this node may deliver the feeds that it owns, for all its threads.
#[derive(Debug, Default)]
pub(crate) struct Permit {
    /// By the monotonic clock.
    until_nanos: AtomicU64,
}

impl Permit {
    /// Whether it may at that moment of the monotonic clock.
    pub(crate) fn holds_at(&self, now_nanos: u64) -> bool {
        now_nanos < self.until_nanos.load(Ordering::Acquire)
    }
}

/// Whether this node may send for the feeds that it owns: it is supported, and its clock is trusted.
pub(super) fn may_send(shared: &Shared) -> bool {
    let clock = &shared.env.clock;
    let (wall, now_nanos) = (clock.now_micros(), clock.monotonic_nanos());
    shared.feeds.permit.holds_at(now_nanos) && shared.wall_clock.is_trusted(wall, now_nanos)
}

impl Shard {
    /// Gives feeds to nodes while this node leads the metadata, and knows until when it may deliver
    /// its own; on shard 0, for as long as the node runs.
    pub(crate) async fn run_feed_ownership(self: Rc<Self>) {
        let mut absent_since: BTreeMap<u128, u64> = BTreeMap::new();
        let mut turn: u32 = 0;
        loop {
            let until = self.supported_until().0;
            self.shared.feeds.permit.until_nanos.store(until, Ordering::Release);
            self.note_absences(&mut absent_since);
            if turn.is_multiple_of(PIN_INTERVALS) {
                self.find_pins();
            }
            turn = turn.wrapping_add(1);
            if self.leads_metadata() {
                self.assign_feeds(&absent_since).await;
                if turn.is_multiple_of(PIN_INTERVALS) {
                    self.release_feeds(&[]).await;
                }
                if turn.is_multiple_of(IDLE_LOG_INTERVALS) && self.has_idle_logs() {
                    let _turn = self.ddl_turn.lock().await;
                    let deadline = Deadline::after(&self, IDLE_LOG_TIME_MAX);
                    if let Some(reason) = self.drop_idle_logs(deadline).await {
                        tracing::info!("{reason}");
                    }
                }
            }
            let has_feeds = self.with_metadata(|metadata| !metadata.feeds.is_empty());
            let interval = if has_feeds { INTERVAL } else { IDLE_INTERVAL };
            self.shared.env.clock.beat(interval).await;
        }
    }

    /// Whether a node lives and its clock is right, as far as this one knows.
    pub(super) fn may_own_feeds(&self, node: u128) -> bool {
        let (host, wall_clock) = (HostId(node), &self.shared.wall_clock);
        if host == self.shared.host_id {
            return wall_clock.ahead_micros().is_none();
        }
        self.is_live(host) && self.supports(host) && wall_clock.is_fit(host) != Some(false)
    }

    /// Every node knows who has been away for how long, so that one that comes to lead need not wait
    /// first.
    fn note_absences(&self, absent_since: &mut BTreeMap<u128, u64>) {
        let now = self.monotonic_nanos();
        let view = self.view();
        absent_since.retain(|node, _| view.metadata.node(*node).is_some());
        for node in view.metadata.nodes.values().map(|node| node.host_id) {
            if self.may_own_feeds(node) {
                absent_since.remove(&node);
            } else {
                absent_since.entry(node).or_insert(now);
            }
        }
    }

    async fn assign_feeds(self: &Rc<Self>, absent_since: &BTreeMap<u128, u64>) {
        let long_ago = self.monotonic_nanos().saturating_sub(ABSENCE_MAX.as_nanos() as u64);
        let is_gone = |node: u128| absent_since.get(&node).is_some_and(|since| *since <= long_ago);
        let assignments = self.with_metadata(|metadata| {
            let is_gone = |node| is_gone(node) || metadata.node(node).is_none();
            wanted_assignments(metadata, is_gone, |node| self.may_own_feeds(node))
        });
        if assignments.is_empty() {
            return;
        }
        for assignment in &assignments {
            let FeedAssignment { name, owner, .. } = assignment;
            let owner =
                owner.map_or("nobody".to_owned(), |owner| format!("node {}", HostId(owner)));
            tracing::info!("changefeed '{name}' goes to {owner}");
        }
        // What was decided under another epoch is void, so nothing need be waited for before.
        let command = Command::AssignFeeds { assignments };
        let change = Change::Metadata(command.to_bytes());
        if let Err(error) = self.write(WriteRequest::new(GroupId::METADATA, change)).await {
            tracing::debug!("changefeeds are not assigned: {error}");
        }
    }
}

/// The node to which one more feed goes: it has the fewest of those that may own any.
pub(super) fn owner_for_one_more(
    metadata: &Metadata,
    may_own: impl Fn(u128) -> bool,
) -> Option<u128> {
    Owners::of(metadata, may_own).next()
}

/// How many feeds each node has that may own any.
struct Owners(Vec<(usize, u128)>);

impl Owners {
    fn of(metadata: &Metadata, may_own: impl Fn(u128) -> bool) -> Owners {
        let count = |node: u128| metadata.feeds.values().filter(|feed| feed.runs_on(node)).count();
        let nodes = metadata.nodes.values().map(|node| node.host_id);
        Owners(nodes.filter(|node| may_own(*node)).map(|node| (count(node), node)).collect())
    }

    /// The one with the fewest, which has one more from here on.
    fn next(&mut self) -> Option<u128> {
        let fewest = self.0.iter_mut().min()?;
        fewest.0 += 1;
        Some(fewest.1)
    }
}

/// Who should own feeds that are without an owner, or with one that is gone.
fn wanted_assignments(
    metadata: &Metadata,
    is_gone: impl Fn(u128) -> bool,
    may_own: impl Fn(u128) -> bool,
) -> Vec<FeedAssignment> {
    let mut owners = Owners::of(metadata, may_own);
    let mut assignments = Vec::new();
    for feed in metadata.feeds.values() {
        let owner = match (feed.state, feed.owner) {
            (_, Some(owner)) if !is_gone(owner) => continue,
            (FeedState::Running, _) => match owners.next() {
                Some(owner) => Some(owner),
                None => continue,
            },
            (FeedState::Paused | FeedState::Error | FeedState::Finished, Some(_)) => None,
            (FeedState::Paused | FeedState::Error | FeedState::Finished, None) => continue,
        };
        let name = feed.definition.name.clone();
        assignments.push(FeedAssignment { name, epoch: feed.epoch, owner });
    }
    assignments
}

/// Until when a majority of `voter_count` members has promised support: this node, if it votes, and
/// others until the given moments.
pub(crate) fn majority_until(
    voter_count: usize,
    votes: bool,
    mut others: Vec<MonotonicNanos>,
) -> MonotonicNanos {
    let required = (voter_count / 2 + 1).saturating_sub(usize::from(votes));
    if required == 0 {
        return MonotonicNanos(u64::MAX);
    }
    others.sort_unstable_by(|a, b| b.cmp(a));
    others.get(required - 1).copied().unwrap_or(MonotonicNanos(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{FeedRecord, test_feed, test_metadata};

    fn metadata_of(feeds: Vec<FeedRecord>) -> Metadata {
        let mut metadata = test_metadata(&[(1, 10), (2, 20), (3, 30)]);
        metadata.apply(100, Command::ChangeFeeds { put: feeds, remove: Vec::new() });
        metadata
    }

    fn assigned(metadata: &Metadata, gone: &[u128]) -> Vec<(String, Option<u128>)> {
        let is_gone = |node| gone.contains(&node);
        let assignments = wanted_assignments(metadata, is_gone, |node| !is_gone(node));
        assignments.into_iter().map(|a| (a.name.to_string(), a.owner)).collect()
    }

    #[test]
    fn feeds_go_to_whom_has_the_fewest() {
        let feeds = [("a", Some(1)), ("b", Some(2)), ("c", Some(1)), ("d", None), ("e", None)];
        let metadata = metadata_of(feeds.map(|(name, owner)| test_feed(name, owner)).into());
        let expected = [("d".to_owned(), Some(3)), ("e".to_owned(), Some(2))];
        assert_eq!(assigned(&metadata, &[]), expected);
        assert_eq!(owner_for_one_more(&metadata, |_| true), Some(3));
        assert_eq!(owner_for_one_more(&metadata, |_| false), None);
    }

    #[test]
    fn feeds_of_a_node_that_is_gone_go_to_others() {
        let feeds = [("a", Some(1)), ("b", Some(2)), ("c", Some(1))];
        let mut feeds: Vec<_> =
            feeds.into_iter().map(|(name, owner)| test_feed(name, owner)).collect();
        feeds.push(FeedRecord { state: FeedState::Paused, ..test_feed("d", Some(1)) });
        feeds.push(FeedRecord { state: FeedState::Error, ..test_feed("e", None) });
        let metadata = metadata_of(feeds);
        let expected =
            [("a".to_owned(), Some(3)), ("c".to_owned(), Some(2)), ("d".to_owned(), None)];
        assert_eq!(assigned(&metadata, &[1]), expected);
        assert_eq!(assigned(&metadata, &[]), []);
        // Nobody is there to take those that run.
        assert_eq!(assigned(&metadata, &[1, 2, 3]), [("d".to_owned(), None)]);
    }

    #[test]
    fn a_permit_ends_when_most_voters_may_have_withdrawn() {
        let until = |count, votes, others: &[u64]| {
            majority_until(count, votes, others.iter().copied().map(MonotonicNanos).collect()).0
        };
        assert_eq!(until(1, true, &[]), u64::MAX);
        assert_eq!(until(3, true, &[5, 9]), 9, "one other makes a majority");
        assert_eq!(until(3, true, &[]), 0);
        assert_eq!(until(5, true, &[5, 9, 7]), 7);
        assert_eq!(until(5, false, &[5, 9, 7, 8]), 7);
        let permit = Permit::default();
        permit.until_nanos.store(10, Ordering::Release);
        assert!(permit.holds_at(9) && !permit.holds_at(10));
    }
}
