//! What keeps this node from writing: a shard's log has failed, and takes nothing until the node is
//! started again; or its disk does not answer, and may later.
//!
//! Such a shard can neither lead its ranges nor vote for others, and while its node runs, that is
//! supported like any other: nobody would take over. So the node ends, and is to the others as one that
//! was killed. But not where they could do nothing without it, since then it would only take the reads
//! away that it can still serve: of three whose disks fill up together, two stay
//! (`docs/decisions/0024-a-node-that-cannot-write-makes-way.md`).

use crate::shard::Shard;
use env::planted::{Bug, is_planted};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a node that cannot write looks whether the others can go on without it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of it, for all threads of the node.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    known: watch::Sender<Known>,
    /// Whether others can go on.
    is_dispensable: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Known {
    /// What is wrong for good.
    failure: Option<String>,
    /// By shard, what may pass.
    stalls: BTreeMap<u16, String>,
}

impl Known {
    fn reason(&self) -> Option<&String> {
        self.failure.as_ref().or_else(|| self.stalls.values().next())
    }
}

impl Default for WriteFailure {
    fn default() -> Self {
        WriteFailure {
            known: watch::channel(Known::default()).0,
            is_dispensable: watch::channel(false).0,
        }
    }
}

impl WriteFailure {
    /// A log has failed. The first failure is as good as any.
    pub(crate) fn note(&self, reason: &str) {
        self.known.send_modify(|known| {
            known.failure.get_or_insert_with(|| reason.to_owned());
        });
    }

    /// The disk of a shard's log has not answered for so long.
    pub(crate) fn begin_stall(&self, shard: u16, time: Duration) {
        let reason = format!(
            "this node cannot write: the disk of shard {shard}'s commit log has not answered for {time:?}"
        );
        self.known.send_modify(|known| {
            known.stalls.insert(shard, reason);
        });
    }

    /// It has.
    pub(crate) fn end_stall(&self, shard: u16) {
        self.known.send_modify(|known| {
            known.stalls.remove(&shard);
        });
    }

    /// Why nothing can be written, if that is so.
    pub(crate) fn reason(&self) -> Option<String> {
        self.known.borrow().reason().cloned()
    }

    /// Returns when the node must end, for others to lead what it led, with what to tell the operator.
    pub(crate) async fn makes_way(&self) -> String {
        // The senders live as long as `self`.
        self.is_dispensable.subscribe().wait_for(|is| *is).await.ok();
        let reason = self.reason().unwrap_or_default();
        format!(
            "{reason}; it ends, since the others can go on without it: make the disk well, and start it \
             again"
        )
    }
}

impl Shard {
    /// Whenever this node cannot write, looks whether the others can go on without it; on shard 0.
    pub(crate) async fn watch_writes(self: Rc<Self>) {
        let failure = &self.shared.write_failure;
        let mut known = failure.known.subscribe();
        loop {
            known.wait_for(|known| known.reason().is_some()).await.ok();
            if is_planted(Bug::LeadsWithoutItsLog) {
                return;
            }
            self.compare_clocks(false).await;
            let members = self.view().metadata.nodes.len();
            let is_dispensable = self.shared.wall_clock.fit_count() * 2 > members;
            if is_dispensable && failure.reason().is_some() {
                failure.is_dispensable.send_replace(true);
                return;
            }
            self.shared.env.clock.sleep(LOOK_INTERVAL).await;
        }
    }
}
