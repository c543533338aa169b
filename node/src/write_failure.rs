//! What keeps this node from writing: a shard's log has failed, and takes nothing until the node is
//! started again.
//!
//! Such a shard can neither lead its ranges nor vote for others, and while its node runs, that is
//! supported like any other: nobody would take over. So the node ends, and is to the others as one that
//! was killed. But not where they could do nothing without it, since then it would only take the reads
//! away that it can still serve: of three whose disks fill up together, two stay.

use crate::shard::Shard;
use env::planted::{Bug, is_planted};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a node that cannot write looks whether the others can go on without it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of it, for all threads of the node.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    /// Why nothing can be written.
    reason: watch::Sender<Option<String>>,
    /// Whether others can go on.
    is_dispensable: watch::Sender<bool>,
}

impl Default for WriteFailure {
    fn default() -> Self {
        WriteFailure { reason: watch::channel(None).0, is_dispensable: watch::channel(false).0 }
    }
}

impl WriteFailure {
    /// A log has failed. The first failure is as good as any.
    pub(crate) fn note(&self, reason: &str) {
        self.reason.send_if_modified(|noted| {
            let is_first = noted.is_none();
            noted.get_or_insert_with(|| reason.to_owned());
            is_first
        });
    }

    /// Why nothing can be written, if that is so.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
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
    /// Once a log of this node has failed, looks whether the others can go on without it; on shard 0.
    pub(crate) async fn watch_writes(self: Rc<Self>) {
        let failure = &self.shared.write_failure;
        failure.reason.subscribe().wait_for(Option::is_some).await.ok();
        if is_planted(Bug::LeadsWithoutItsLog) {
            return;
        }
        loop {
            self.compare_clocks().await;
            let members = self.view().metadata.nodes.len();
            if self.shared.wall_clock.fit_count() * 2 > members {
                break;
            }
            self.shared.env.clock.sleep(LOOK_INTERVAL).await;
        }
        failure.is_dispensable.send_replace(true);
    }
}
