//! What nodes say to each other, shard to shard, over `cluster::peer`.
//!
//! The first byte of a message or of a request (*ask*) says what it is:
//!
//! | byte | message | request |
//! |---|---|---|
//! | 1 | liveness | write |
//! | 2 | envelope of a link | read |
//! | 3 | | change of the metadata |
//! | 4 | | join |
//! | 5 | | status |
//! | 6 | | snapshot of the metadata |
//! | 7 | | is an entry applied |
//! | 8 | | how far is a log closed |
//! | 9 | | what was logged since |
//! | 10 | | which groups have moved |
//!
//! What a node does not know it does not answer with silence: a request is refused, which says that
//! it was not executed; a message is dropped. Both are counted, since in a cluster of one version
//! neither should be.
//!
//! Who is let in, and what a connection promises, is `cluster::peer`'s. Here each shard has one
//! task that takes what came ([`serve`]) and hands it on without waiting for what comes of it.

mod acceptor;
mod join;
mod status;

pub(crate) use acceptor::accept;
pub(crate) use join::{Joining, ask_to_join};
pub(crate) use status::{NodeStatus, STATUS_TIME_MAX, ask_status, own_status};

use crate::config::Config;
use crate::data_directory::DataDirectory;
use crate::feeds;
use crate::metadata;
use crate::peer_file::PeerMemory;
use crate::remote;
use crate::ring_change;
use crate::shard::{Shard, StreamKind};
use crate::view::View;
use bytes::Bytes;
use cluster::peer::{
    Event, Identity, Inbox, Incoming, IntroductionError, Peer, Peers, RefusalCode, Registry,
    Responder, Start,
};
use cluster::{HostId, NodeIndex};
use env::tasks::Tasks;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// Events that a shard takes from its inbox before other tasks run.
const EVENTS_PER_TURN_MAX: usize = 256;

/// What a message is, as its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MessageKind {
    /// About support between nodes; between their shards 0.
    Liveness = 1,
    /// Of the groups of two shards.
    Envelope = 2,
}

/// What a request is, as its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AskKind {
    /// A write to a range that the node leads.
    Write = 1,
    /// A read of what the node holds.
    Read = 2,
    /// A change of the metadata, which the node leads.
    ChangeMetadata = 3,
    /// A node wants to join.
    Join = 4,
    /// How a node stands.
    Status = 5,
    /// The metadata as a whole, for a member that lacks too much.
    MetadataSnapshot = 6,
    /// Whether an entry of a group's log is applied.
    Applied = 7,
    /// How far ranges of a log are closed.
    Closed = 8,
    /// What was logged in the ranges that the shard leads.
    Tail = 9,
    /// Which groups the node has led to the members that the plan wants.
    Moves = 10,
    /// How the changefeeds stand that the node delivers.
    Feeds = 11,
}

impl AskKind {
    fn from_byte(byte: u8) -> Option<AskKind> {
        const KINDS: [AskKind; 11] = [
            AskKind::Write,
            AskKind::Read,
            AskKind::ChangeMetadata,
            AskKind::Join,
            AskKind::Status,
            AskKind::MetadataSnapshot,
            AskKind::Applied,
            AskKind::Closed,
            AskKind::Tail,
            AskKind::Moves,
            AskKind::Feeds,
        ];
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What this node says of itself to others. `bound` is where it listens for them.
pub(crate) fn registry(
    config: &Config,
    cluster_name: String,
    data: &DataDirectory,
    tasks: Tasks,
    bound: SocketAddr,
) -> Registry {
    let identity = &data.identity;
    let Start { incarnation, mark } = identity.start();
    let ip = config.broadcast_address.unwrap_or(bound.ip());
    let us = Identity {
        cluster_name,
        cluster_id: identity.cluster.as_ref().map(|cluster| cluster.id),
        host_id: HostId(identity.host_id),
        address: SocketAddr::new(ip, bound.port()),
        shard_count: identity.shard_count,
        incarnation,
        mark,
    };
    let memory = PeerMemory { file: data.peers.clone(), tasks };
    let registry = Registry::with_memory(us, identity.former_marks().to_vec(), Arc::new(memory));
    registry.expect("the configuration's check bounds the name")
}

/// Tells the peers of shard `shard` where the nodes of a view are, and connects with its
/// counterpart on each: the connection is what says that a node is up.
pub(crate) fn set_addresses(peers: &Peers, view: &View, us: HostId, shard: u16) {
    for (index, node) in (0_u16..).zip(view.ring.nodes()) {
        if node.host_id != us {
            peers.set_address(node.host_id, node.internode_address);
            // The address was just said, so there is nothing to go wrong yet.
            peers.connect(view.counterpart(NodeIndex(index), shard)).ok();
        }
    }
}

/// Takes what other nodes send to a shard, for as long as the shard lives.
pub(crate) async fn serve(shard: Rc<Shard>, mut inbox: Inbox) {
    let mut turn_count = 0;
    loop {
        take(&shard, inbox.recv().await);
        turn_count += 1;
        if turn_count == EVENTS_PER_TURN_MAX {
            turn_count = 0;
            tokio::task::yield_now().await;
        }
    }
}

fn take(shard: &Rc<Shard>, event: Event) {
    match event {
        Event::Connected { peer, identity } => {
            tracing::debug!("{} is connected with {}", show(shard.index, peer), identity.address);
            shard.peer_connected(peer);
        }
        Event::Disconnected { peer, cause } => {
            tracing::debug!("{} is disconnected: {cause}", show(shard.index, peer));
            shard.peer_disconnected(peer);
        }
        Event::Unreachable { peer, error } if error.is_passing() => {
            tracing::debug!("{} is not reached: {error}", show(shard.index, peer));
        }
        Event::Unreachable { peer, error } if is_removal(&error) => {
            // The program says so, once.
            tracing::debug!("{} is not reached: {error}", show(shard.index, peer));
            shard.shared.departure.note();
        }
        Event::Unreachable { peer, error } => {
            tracing::warn!("{} is not reached: {error}", show(shard.index, peer));
        }
        Event::Messages { peer, messages } => {
            for message in messages {
                match message {
                    Incoming::Message(bytes) => take_message(shard, peer, &bytes),
                    Incoming::Ask(bytes, responder) => take_ask(shard, peer, bytes, responder),
                }
            }
        }
        Event::Stream(stream) => {
            const SNAPSHOT: u8 = StreamKind::Snapshot as u8;
            let (peer, head) = (stream.peer(), stream.head().clone());
            // Dropping its end tells the sender.
            let is_taken = match head.split_first() {
                Some((&SNAPSHOT, body)) => shard.take_snapshot(*stream, body),
                _ => false,
            };
            if !is_taken {
                count_unknown(shard, peer, "stream");
            }
        }
    }
}

/// Whether another node says that this one is a member no more.
fn is_removal(error: &IntroductionError) -> bool {
    matches!(error, IntroductionError::Refused { code: RefusalCode::Removed, .. })
}

fn take_message(shard: &Rc<Shard>, peer: Peer, bytes: &[u8]) {
    const LIVENESS: u8 = MessageKind::Liveness as u8;
    const ENVELOPE: u8 = MessageKind::Envelope as u8;
    let is_taken = match bytes.split_first() {
        Some((&LIVENESS, body)) => shard.take_liveness(peer, body),
        Some((&ENVELOPE, body)) => shard.take_envelope(peer, body),
        _ => false,
    };
    if !is_taken {
        count_unknown(shard, peer, "message");
    }
}

fn take_ask(shard: &Rc<Shard>, peer: Peer, mut bytes: Bytes, responder: Responder) {
    let kind = bytes.first().copied().and_then(AskKind::from_byte);
    let Some(kind) = kind else {
        responder.refuse();
        return count_unknown(shard, peer, "request");
    };
    let body = bytes.split_off(1);
    match kind {
        AskKind::Write => {
            tokio::task::spawn_local(remote::serve_write(shard.clone(), body, responder));
        }
        AskKind::Read => {
            tokio::task::spawn_local(remote::serve_read(shard.clone(), body, responder));
        }
        AskKind::ChangeMetadata => {
            tokio::task::spawn_local(metadata::serve_change(shard.clone(), peer, body, responder));
        }
        AskKind::Applied => {
            tokio::task::spawn_local(remote::serve_applied(shard.clone(), body, responder));
        }
        AskKind::Tail => {
            tokio::task::spawn_local(remote::serve_tail(shard.clone(), body, responder));
        }
        AskKind::Closed => {
            tokio::task::spawn_local(remote::serve_closed(shard.clone(), body, responder));
        }
        AskKind::MetadataSnapshot => {
            let shard = shard.clone();
            tokio::task::spawn_local(shard.take_metadata_snapshot(peer, body, responder));
        }
        AskKind::Join => {
            tokio::task::spawn_local(join::answer(shard.clone(), peer, body, responder));
        }
        AskKind::Moves => {
            tokio::task::spawn_local(ring_change::answer_moves(shard.clone(), responder));
        }
        AskKind::Feeds => feeds::answer_figures(shard, responder),
        AskKind::Status => {
            tokio::task::spawn_local(status::answer(shard.clone(), responder));
        }
    }
}

fn count_unknown(shard: &Shard, peer: Peer, what: &str) {
    shard.unknown_message_count.set(shard.unknown_message_count.get() + 1);
    tracing::debug!("a {what} of {} is of no known kind", show(shard.index, peer));
}

fn show(shard: u16, peer: Peer) -> String {
    format!("shard {} of node {} (from shard {shard} here)", peer.shard, peer.host_id)
}
