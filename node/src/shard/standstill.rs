//! Groups that stand still here: they were sent an entry that this node can never take. It goes on as a
//! member that lacks all from there on, and whoever runs it is told what to do.

use super::Shard;
use super::state::ShardState;
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

impl Shard {
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
