//! Groups that stand still, here and at others.
//!
//! - *Here*: they were sent an entry that this node can never take. It goes on as a member that lacks all
//!   from there on, and whoever runs it is told what to do.
//! - *At others*: members of groups led here, on nodes that live, get none of the entries that they lack.
//!   They are begun anew with, and counted when that does not help.

use super::Shard;
use super::state::ShardState;
use cluster::liveness::MonotonicNanos;
use cluster::peer::Peer;
use cluster::replica::{BadEntry, BadReason};
use serde::{Deserialize, Serialize};
use storage::commitlog::segment_bytes_for;

/// The groups of a node that stand still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StandingStill {
    /// How many.
    pub group_count: u64,
    /// What is wrong with one of them, and what to do; empty if there is none.
    pub example: String,
}

impl StandingStill {
    /// Adds those of another shard.
    pub(crate) fn add(&mut self, other: StandingStill) {
        self.group_count += other.group_count;
        if self.example.is_empty() {
            self.example = other.example;
        }
    }
}

impl ShardState {
    /// Those that have not been brought on by a snapshot, or by a smaller entry of another leader's.
    pub(super) fn standing_still(&self) -> StandingStill {
        let stands = |bad: &&BadEntry| {
            let is_here = self.replicas.contains(bad.group);
            is_here && self.replicas.last_index(bad.group) < bad.index
        };
        let standing = || self.bad_entries.values().filter(stands);
        StandingStill {
            group_count: standing().count() as u64,
            example: standing().next().map(advise).unwrap_or_default(),
        }
    }
}

impl ShardState {
    /// Begins anew with members of groups led here that get nothing of what they lack; whether there
    /// were any.
    pub(super) fn look_after_followers(&mut self, now: MonotonicNanos) -> bool {
        // A log that failed is met by the log's task.
        self.with_replicas(now, |replicas, local| {
            replicas.look_after_followers(local).is_ok_and(|is_any| is_any)
        })
    }
}

impl Shard {
    /// The same, and says when some stand still or none do any more. `told_count` is what was said last.
    pub(super) fn look_after_followers(&self, told_count: &mut usize) {
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        let is_any = state.look_after_followers(now);
        let count = state.replicas.standing_still(now).count();
        if count > *told_count
            && let Some((group, host)) = state.replicas.standing_still(now).next()
        {
            tracing::warn!(
                "shard {}: {count} members of groups led here lack entries and have got none for ten \
                 seconds, such as node {host} in group {:016x}",
                self.index,
                group.0
            );
        } else if count == 0 && *told_count > 0 {
            tracing::info!("shard {}: all members of groups led here get on again", self.index);
        }
        *told_count = count;
        drop(state);
        if is_any {
            self.wake_log();
        }
    }

    /// Says it once of each entry, however often it is sent.
    pub(super) fn report_bad_entry(&self, from: Peer, bad: BadEntry) {
        let known = self.state.borrow_mut().bad_entries.insert(bad.group, bad);
        if known != Some(bad) {
            tracing::error!("from node {}: {}", from.host_id, advise(&bad));
        }
    }
}

fn advise(bad: &BadEntry) -> String {
    match bad.reason {
        BadReason::Damaged(_) => bad.to_string(),
        BadReason::TooLarge { payload_bytes, .. } => {
            let needed = segment_bytes_for(payload_bytes).div_ceil(1 << 10);
            format!("{bad}; set commitlog_segment_size to at least {needed}KiB and start it again")
        }
    }
}
