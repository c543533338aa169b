//! Whether this node's wall clock is right, as most of the other members see it.
//!
//! A leader stamps writes and closes time by its clock, so one whose clock is an hour off would have
//! its writes win, or lose, against all others for an hour. A node that joins is judged by whoever lets
//! it in (`cluster::joining`). A member is not asked for anything when it starts again, so it asks
//! itself: before its shards start it compares its clock with those of the others, and does not start
//! if most members have another time. While it runs it compares them now and then, says so in the log,
//! and is not ready (`/readyz`) for as long as that is so.
//!
//! *Most* is more than half of all members, this one counted: of two nodes nobody can say whose clock
//! is wrong. Others that do not answer say nothing; where too few do, the node starts.

use crate::internode::{NodeStatus, ask_status};
use crate::metadata::Metadata;
use crate::node::{Shared, StartError};
use crate::shard::Shard;
use cluster::HostId;
use cluster::joining::CLOCK_DIFFERENCE_MICROS_MAX;
use cluster::peer::Peers;
use model::TimestampMicros;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long others may take to answer before the node starts without them.
const START_TIME_MAX: Duration = Duration::from_millis(500);
/// The same, while the node runs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// How often clocks are compared.
const INTERVAL: Duration = Duration::from_secs(10);

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
    match compare(shared, metadata, ask).await {
        Some(ahead_micros) => Err(StartError::Clock(ahead_micros)),
        None => Ok(()),
    }
}

impl Shard {
    /// Compares this node's clock with those of others for as long as it runs; on shard 0.
    pub(crate) async fn watch_clock(self: Rc<Self>) {
        loop {
            self.shared.env.clock.sleep(INTERVAL).await;
            let view = self.view();
            let ask = |host_id| {
                let shard = self.clone();
                async move { ask_status(&shard.peers, host_id, ANSWER_TIME_MAX).await }
            };
            let shared = &self.shared;
            let ahead = compare(shared, &view.metadata, ask).await;
            let former = shared.clock_ahead_micros.swap(ahead.unwrap_or(0), Ordering::Relaxed);
            match ahead {
                Some(ahead) => tracing::error!("{}: set it right", describe(ahead)),
                None if former != 0 => tracing::info!("this node's clock is right again"),
                None => {}
            }
        }
    }
}

/// How far this node's clock is ahead of most others', in microseconds, if it is off.
async fn compare<Asking>(
    shared: &Shared,
    metadata: &Metadata,
    ask: impl Fn(HostId) -> Asking,
) -> Option<i64>
where
    Asking: Future<Output = Option<NodeStatus>> + 'static,
{
    let mut asking = JoinSet::new();
    for node in metadata.nodes.values().filter(|node| node.host_id != shared.host_id.0) {
        let (clock, status) = (shared.env.clock.clone(), ask(HostId(node.host_id)));
        asking.spawn_local(async move {
            let sent = clock.now_micros();
            let status = status.await?;
            Some(ahead_micros((sent, clock.now_micros()), status.clock_micros?))
        });
    }
    let mut aheads = Vec::new();
    while let Some(answer) = asking.join_next().await {
        // A task that was cancelled has heard nothing.
        aheads.extend(answer.ok().flatten());
    }
    judge(aheads, metadata.nodes.len())
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
