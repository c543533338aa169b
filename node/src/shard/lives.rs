//! Clients are told which nodes come up and go down, as far as this node knows: one is up while it
//! has promised this one support.
//!
//! That a node is new is told by whoever publishes the metadata, before it can be up; that one is
//! gone for good as well, after it has gone down.

use super::{Message, Shard};
use cluster::HostId;
use cluster::liveness::{Board, MonotonicNanos};
use cql::wire::Event;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

impl Shard {
    /// Tells clients what has changed since the last look; on shard 0.
    pub(super) fn tell_of_lives(self: &Rc<Self>) {
        let view = self.view();
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        let board = self.state.borrow().support.clone();
        // One that comes is told of when it is there.
        let nodes = view.ring.members().map(|node| (node.host_id, node.cql_address));
        let events = step(&mut self.live_nodes.borrow_mut(), nodes, &board, now);
        if events.is_empty() {
            return;
        }
        let (shard, events): (_, Arc<[Event]>) = (self.clone(), events.into());
        tokio::task::spawn_local(async move {
            for other in &shard.shared.shards {
                shard.send_surely(other, Message::Events(events.clone())).await;
            }
        });
    }
}

/// What has changed since the last look, and who lives now, and where. One that lives at another
/// address is up there.
fn step(
    live: &mut BTreeMap<HostId, SocketAddr>,
    nodes: impl Iterator<Item = (HostId, SocketAddr)>,
    board: &Board,
    now: MonotonicNanos,
) -> Vec<Event> {
    let mut events = Vec::new();
    for (node, address) in nodes {
        let is_live = board.is_live(node, now);
        if is_live && live.insert(node, address) != Some(address) {
            events.push(Event::NodeUp(address));
        } else if !is_live && let Some(former) = live.remove(&node) {
            events.push(Event::NodeDown(former));
        }
    }
    events
}
