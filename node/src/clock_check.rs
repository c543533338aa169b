//! Whether this node's wall clock is right, as most of the other members see it.
//!
//! A leader stamps writes and closes time by its clock, so one whose clock is an hour off would have
//! its writes win, or lose, against all others for an hour. A node that joins is judged by whoever lets
//! it in (`cluster::joining`). A member is not asked for anything when it starts again, so it asks
//! itself: before its shards start it compares its clock with those of the others, and does not start
//! if most members have another time. While it runs it compares them now and then, and at once when
//! its clock was set. One that is off says so in the log, is not ready (`/readyz`), and decides nothing
//! for as long as that is so: it stamps no write and closes no time, and hands over all that it leads
//! (`shard/homecoming.rs`). A clock that was set and has not been compared yet is not trusted either, so
//! that not one write gets a wrong time; that takes as long as the others take to answer. Changefeeds go
//! to other nodes as well (`feeds::ownership`). What is only shown, and the times that it gives as a
//! coordinator, are reckoned without the error.
//!
//! *Most* is more than half of all members, this one counted: of two nodes nobody can say whose clock
//! is wrong. Others that do not answer say nothing; where too few do, the node starts. A node that runs and
//! whose clock was set asks them some more times before it goes on.

use crate::internode::{NodeStatus, ask_status};
use crate::metadata::Metadata;
use crate::node::{Shared, StartError};
use crate::shard::Shard;
use cluster::HostId;
use cluster::joining::CLOCK_DIFFERENCE_MICROS_MAX;
use cluster::peer::Peers;
use env::Clock;
use model::TimestampMicros;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long others may take to answer before the node starts without them.
const START_TIME_MAX: Duration = Duration::from_millis(500);
/// The same, while the node runs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// How often clocks are compared.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often it is looked whether this node's clock was set.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often others are asked about a clock that was set until most of them have answered.
const QUESTIONS_MAX: u32 = 5;
/// How far a clock may go from the monotonic one between two looks. Slewing takes it a ten-thousandth of
/// that.
const STEP_MICROS_MAX: u64 = 1_000_000;

/// What is known of this node's wall clock, for all of its threads.
#[derive(Debug)]
pub(crate) struct WallClock {
    /// How far it is ahead of those of most others when it is off, in microseconds; else 0.
    ahead_micros: AtomicI64,
    /// The wall clock less the monotonic one when it was looked at last, in microseconds.
    offset_micros: AtomicI64,
    /// Whether each of the others was fit to lead when it last answered, as it said itself.
    fit: Mutex<BTreeMap<HostId, bool>>,
}

impl WallClock {
    /// A clock that is right.
    pub(crate) fn new(clock: &Clock) -> WallClock {
        let offset = offset_micros(clock.now_micros(), clock.monotonic_nanos());
        WallClock {
            ahead_micros: AtomicI64::new(0),
            offset_micros: AtomicI64::new(offset),
            fit: Mutex::default(),
        }
    }

    /// How far the clock is ahead of those of most others, in microseconds, if it is off.
    pub(crate) fn ahead_micros(&self) -> Option<i64> {
        Some(self.ahead_micros.load(Ordering::Relaxed)).filter(|ahead| *ahead != 0)
    }

    /// Whether times may be given out by what the clocks show: the wall clock is not off, and was not
    /// set since it was last looked at.
    #[inline]
    pub(crate) fn is_trusted(&self, wall: TimestampMicros, monotonic_nanos: u64) -> bool {
        let offset = offset_micros(wall, monotonic_nanos);
        let step = offset.abs_diff(self.offset_micros.load(Ordering::Relaxed));
        step <= STEP_MICROS_MAX && self.ahead_micros.load(Ordering::Relaxed) == 0
    }

    /// What the clock should show, as far as is known, for what is shown and nothing else.
    pub(crate) fn right_micros(&self, clock: &Clock) -> TimestampMicros {
        let (wall, monotonic_nanos) = (clock.now_micros(), clock.monotonic_nanos());
        if self.is_trusted(wall, monotonic_nanos) {
            return wall;
        }
        let elapsed = i64::try_from(monotonic_nanos / 1_000).unwrap_or(i64::MAX);
        let as_before = self.offset_micros.load(Ordering::Relaxed).saturating_add(elapsed);
        as_before.saturating_sub(self.ahead_micros.load(Ordering::Relaxed))
    }

    /// What a wall clock that shows `wall` should show, as far as it has been compared. For the times that
    /// a coordinator gives: until when a row lives, and `now()`.
    #[inline]
    pub(crate) fn corrected(&self, wall: TimestampMicros) -> TimestampMicros {
        wall.saturating_sub(self.ahead_micros.load(Ordering::Relaxed))
    }

    /// Another node says that its clock is off.
    pub(crate) fn note_unfit(&self, host: HostId) {
        self.fit.lock().unwrap_or_else(PoisonError::into_inner).insert(host, false);
    }

    /// Whether another node said that it is fit to lead, or is not; nothing if it has not answered.
    pub(crate) fn is_fit(&self, host: HostId) -> Option<bool> {
        self.fit.lock().unwrap_or_else(PoisonError::into_inner).get(&host).copied()
    }

    /// How many of the others said that they are.
    pub(crate) fn fit_count(&self) -> usize {
        let fit = self.fit.lock().unwrap_or_else(PoisonError::into_inner);
        fit.values().filter(|is_fit| **is_fit).count()
    }
}

/// The wall clock less the monotonic one, in microseconds.
fn offset_micros(wall: TimestampMicros, monotonic_nanos: u64) -> i64 {
    wall.saturating_sub_unsigned(monotonic_nanos / 1_000)
}

/// How far the clock is off, for the operator.
pub(crate) fn describe(ahead_micros: i64) -> String {
    let seconds = ahead_micros.unsigned_abs() / 1_000_000;
    let side = if ahead_micros > 0 { "ahead of" } else { "behind" };
    format!("this node's clock is {seconds} s {side} those of most other nodes")
}

/// Whether a member may start: not if its clock is off.
pub(crate) async fn before_start(shared: &Shared, metadata: &Metadata) -> Result<(), StartError> {
    // For this one question; the shards have their own once they run.
    let (peers, _inbox) = Peers::new(&shared.env, &shared.registry, 0);
    for node in metadata.all_nodes() {
        peers.set_address(HostId(node.host_id), node.internode_address);
    }
    let peers = Rc::new(peers);
    let ask = |host_id| {
        let peers = peers.clone();
        async move { ask_status(&peers, host_id, START_TIME_MAX).await }
    };
    match compare(shared, metadata, ask).await.0 {
        Some(ahead_micros) => Err(StartError::Clock(ahead_micros)),
        None => Ok(()),
    }
}

impl Shard {
    /// Compares this node's clock with those of others for as long as it runs; on shard 0.
    pub(crate) async fn watch_clock(self: Rc<Self>) {
        let clock = &self.shared.env.clock;
        let known = &self.shared.wall_clock;
        let mut compared_nanos = clock.monotonic_nanos();
        // Of the clock as it was set last.
        let mut questions = 0;
        loop {
            clock.sleep(LOOK_INTERVAL).await;
            let (wall, now_nanos) = (clock.now_micros(), clock.monotonic_nanos());
            let offset = offset_micros(wall, now_nanos);
            let step = offset.abs_diff(known.offset_micros.load(Ordering::Relaxed));
            let is_due = now_nanos - compared_nanos >= INTERVAL.as_nanos() as u64;
            if is_due || step > STEP_MICROS_MAX {
                let was_set = step > STEP_MICROS_MAX;
                if was_set && questions == 0 {
                    tracing::warn!("this node's clock was set by some {} s", step / 1_000_000);
                }
                let is_answered = self.compare_clocks(was_set).await;
                compared_nanos = now_nanos;
                questions += 1;
                if was_set && !is_answered && questions < QUESTIONS_MAX {
                    continue;
                }
            }
            questions = 0;
            // Trusted again, or known to be off.
            known.offset_micros.store(offset, Ordering::Relaxed);
        }
    }

    /// The time by which this node decides; nothing while its clock is not trusted.
    pub(crate) fn trusted_micros(&self) -> Option<TimestampMicros> {
        let clock = &self.shared.env.clock;
        let now = clock.now_micros();
        self.shared.wall_clock.is_trusted(now, clock.monotonic_nanos()).then_some(now)
    }

    /// Compares them once; whether most of the members have a part in it. Where too few do, one that is
    /// known to be off is so still, unless it was set since.
    pub(crate) async fn compare_clocks(self: &Rc<Self>, was_set: bool) -> bool {
        let view = self.view();
        let ask = |host_id| {
            let shard = self.clone();
            async move { ask_status(&shard.peers, host_id, ANSWER_TIME_MAX).await }
        };
        let known = &self.shared.wall_clock;
        let (ahead, fit) = compare(&self.shared, &view.metadata, ask).await;
        let is_answered = (fit.len() + 1) * 2 > view.metadata.nodes.len();
        *known.fit.lock().unwrap_or_else(PoisonError::into_inner) = fit;
        let ahead = if is_answered || was_set { ahead } else { known.ahead_micros() };
        let former = known.ahead_micros.swap(ahead.unwrap_or(0), Ordering::Relaxed);
        match ahead {
            Some(ahead) => {
                tracing::error!(
                    "{}: it leads nothing, stamps no write and delivers no changefeed until it is \
                     set right",
                    describe(ahead)
                );
            }
            None if former != 0 && is_answered => {
                tracing::info!("this node's clock is right again");
            }
            None => {}
        }
        is_answered
    }
}

/// How far this node's clock is ahead of most others', in microseconds, if it is off; and which of
/// those that answered are fit to lead.
async fn compare<Asking>(
    shared: &Shared,
    metadata: &Metadata,
    ask: impl Fn(HostId) -> Asking,
) -> (Option<i64>, BTreeMap<HostId, bool>)
where
    Asking: Future<Output = Option<NodeStatus>> + 'static,
{
    let mut asking = JoinSet::new();
    for node in metadata.nodes.values().filter(|node| node.host_id != shared.host_id.0) {
        let host = HostId(node.host_id);
        let (clock, status) = (shared.env.clock.clone(), ask(host));
        asking.spawn_local(async move {
            let sent = clock.now_micros();
            let status = status.await?;
            let ahead = ahead_micros((sent, clock.now_micros()), status.clock_micros?);
            Some((host, ahead, !status.is_unfit))
        });
    }
    let (mut aheads, mut fit) = (Vec::new(), BTreeMap::new());
    while let Some(answer) = asking.join_next().await {
        // A task that was cancelled has heard nothing.
        if let Ok(Some((host, ahead, is_fit))) = answer {
            aheads.push(ahead);
            fit.insert(host, is_fit);
        }
    }
    (judge(aheads, metadata.nodes.len()), fit)
}

/// How far a clock that showed these times before and after is at least ahead of one that showed
/// `theirs` in between; negative when it is behind.
fn ahead_micros(
    (before, after): (TimestampMicros, TimestampMicros),
    theirs: TimestampMicros,
) -> i64 {
    let (least, most) = (before.saturating_sub(theirs), after.saturating_sub(theirs));
    if least > 0 { least } else { most.min(0) }
}

/// How far the clock is off, if more than half of the members say so.
fn judge(mut aheads: Vec<i64>, member_count: usize) -> Option<i64> {
    aheads.retain(|ahead| ahead.unsigned_abs() > CLOCK_DIFFERENCE_MICROS_MAX);
    aheads.sort_unstable();
    let behind_count = aheads.partition_point(|ahead| *ahead < 0);
    let (behind, ahead) = aheads.split_at(behind_count);
    let larger = if behind.len() > ahead.len() { behind } else { ahead };
    (larger.len() * 2 > member_count).then(|| larger[larger.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    #[test]
    fn more_than_half_of_all_members_have_to_say_so() {
        assert_eq!(judge(vec![HOUR, HOUR + 3], 3), Some(HOUR + 3));
        assert_eq!(judge(vec![-HOUR, -HOUR], 3), Some(-HOUR));
        assert_eq!(judge(vec![HOUR], 2), None, "of two nobody knows whose it is");
        assert_eq!(judge(vec![HOUR], 3), None, "the third has said nothing");
        assert_eq!(judge(vec![HOUR, 0], 3), None, "that one's is off");
        assert_eq!(judge(vec![HOUR, -HOUR], 3), None, "they do not agree");
        assert_eq!(judge(vec![5 * SECOND, 5 * SECOND], 3), None, "that much is borne");
        assert_eq!(judge(vec![6 * SECOND; 3], 5), Some(6 * SECOND));
        assert_eq!(judge(Vec::new(), 1), None);
    }

    #[test]
    fn a_clock_that_was_set_is_not_trusted_until_it_is_compared() {
        let (clock, control) = Clock::simulated(50 * SECOND);
        let known = WallClock::new(&clock);
        let is_trusted = || known.is_trusted(clock.now_micros(), clock.monotonic_nanos());
        control.advance(Duration::from_hours(1));
        assert!(is_trusted(), "both clocks went on");
        control.jump_wall(SECOND);
        assert!(is_trusted(), "so much is borne");
        control.jump_wall(1);
        assert!(!is_trusted());
        known.offset_micros.fetch_add(SECOND + 1, Ordering::Relaxed);
        assert!(is_trusted());
        known.ahead_micros.store(-HOUR, Ordering::Relaxed);
        assert!(!is_trusted());
    }

    #[test]
    fn what_is_shown_is_reckoned_without_the_error() {
        let (clock, control) = Clock::simulated(50 * SECOND);
        let known = WallClock::new(&clock);
        control.advance(Duration::from_secs(8));
        assert_eq!(known.right_micros(&clock), 58 * SECOND);
        control.jump_wall(HOUR);
        assert_eq!(known.right_micros(&clock), 58 * SECOND, "it was not compared yet");
        known.ahead_micros.store(HOUR, Ordering::Relaxed);
        known.offset_micros.fetch_add(HOUR, Ordering::Relaxed);
        assert_eq!(known.right_micros(&clock), 58 * SECOND);
        control.jump_wall(-HOUR);
        assert_eq!(known.right_micros(&clock), 58 * SECOND, "it is right again");
    }

    #[test]
    fn the_time_that_an_answer_takes_is_no_difference() {
        assert_eq!(ahead_micros((100, 900), 500), 0);
        assert_eq!(ahead_micros((100, 900), 20), 80);
        assert_eq!(ahead_micros((100, 900), 1_000), -100);
        assert_eq!(ahead_micros((i64::MAX, i64::MAX), i64::MIN), i64::MAX);
    }

    #[test]
    fn an_operator_is_told_which_way() {
        assert!(describe(HOUR).contains("3600 s ahead of those"), "{}", describe(HOUR));
        assert!(describe(-HOUR).contains("3600 s behind those"), "{}", describe(-HOUR));
    }
}
