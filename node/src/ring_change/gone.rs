//! What becomes of a node that is no member any more: others refuse it, and it ends by itself.
//!
//! It hears of it from the metadata, whose group it still follows when the plan is finished; or, having
//! been away, from the first node that refuses it.

use crate::metadata::Metadata;
use crate::shard::Shard;
use cluster::HostId;
use cluster::peer::Registry;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// How long connections with a node that has gone stand on, so that it hears of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether this node has gone.
#[derive(Debug)]
pub(crate) struct Departure(watch::Sender<bool>);

impl Default for Departure {
    fn default() -> Self {
        Departure(watch::channel(false).0)
    }
}

impl Departure {
    /// This node is a member no more.
    pub(crate) fn note(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn has_gone(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when this node has gone.
    pub(crate) async fn wait(&self) {
        let mut has_gone = self.0.subscribe();
        // The sender lives as long as `self`.
        has_gone.wait_for(|has| *has).await.ok();
    }
}

/// Nodes that have gone are not let in again.
pub(crate) fn refuse_gone(registry: &Registry, metadata: &Metadata) {
    for node in metadata.gone.values().filter(|node| metadata.is_gone(node.host_id)) {
        registry.remove(HostId(node.host_id));
    }
}

impl Shard {
    /// Acts by it that nodes have gone, this one perhaps; when a view is adopted.
    pub(crate) fn part_with_gone(self: &Rc<Self>) {
        let view = self.view();
        let us = self.shared.host_id;
        if view.metadata.is_gone(us.0) {
            if !self.shared.departure.has_gone() {
                tracing::info!("this node is a member of the cluster no more");
            }
            self.shared.departure.note();
            return;
        }
        let gone = view.metadata.gone.values().map(|node| HostId(node.host_id));
        let gone: Vec<HostId> = gone.filter(|host| view.metadata.is_gone(host.0)).collect();
        let is_new = |host: &HostId| self.parted_with.borrow_mut().insert(*host);
        let new: Vec<HostId> = gone.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        refuse_gone(&self.shared.registry, &view.metadata);
        let shard = self.clone();
        tokio::task::spawn_local(async move {
            shard.shared.env.clock.sleep(FAREWELL).await;
            for host in new {
                shard.peers.forget(host);
            }
        });
    }
}
