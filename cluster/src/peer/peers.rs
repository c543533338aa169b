//! The shard's hand on its peers: send, ask, stream, and know how it stands.

use super::acceptor::Accepted;
use super::ask::{AskError, Unknown};
use super::batch::{AskId, Kind, ask_head};
use super::feed::{FeedError, Sent};
use super::hub::{Inner, Link};
use super::inbox::{Inbox, inbox};
use super::outbox::{Class, OutboxError};
use super::registry::Registry;
use super::stream::{OutgoingStream, StreamError, open};
use super::wait::within;
use crate::ring::HostId;
use bytes::Bytes;
use env::Env;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A shard of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The node.
    pub host_id: HostId,
    /// The shard there.
    pub shard: u16,
}

/// Why a message was not taken. It has not left, and will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// What waits for this peer is as much as may.
    Full,
    /// It is larger than a message of its class may be.
    TooLarge,
    /// The peer is not connected; it is being dialled.
    NotConnected,
    /// Nobody knows where the node is.
    UnknownHost,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full => "too much waits for the peer",
            SendError::TooLarge => "the message is too large",
            SendError::NotConnected => "the peer is not connected",
            SendError::UnknownHost => "the node's address is not known",
        })
    }
}

impl std::error::Error for SendError {}

impl From<FeedError> for SendError {
    fn from(error: FeedError) -> SendError {
        match error {
            FeedError::Outbox(OutboxError::Full) => SendError::Full,
            FeedError::Outbox(OutboxError::TooLarge) => SendError::TooLarge,
            FeedError::Closed => SendError::NotConnected,
        }
    }
}

/// What went between this shard and one peer since the start, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Whether a connection stands.
    pub is_connected: bool,
    /// Connections that ever stood.
    pub connections: u64,
    /// Batches that the connection took.
    pub sent_batches: u64,
    /// Messages in them, pings and answers included.
    pub sent_messages: u64,
    /// Bytes of them, without gRPC's and HTTP/2's.
    pub sent_bytes: u64,
    /// Batches that came.
    pub received_batches: u64,
    /// Messages and requests that came; not answers.
    pub received_messages: u64,
    /// Bytes of the batches that came.
    pub received_bytes: u64,
    /// Messages that were refused since they did not fit.
    pub refused_full: u64,
    /// Messages that were refused since there was no connection.
    pub refused_down: u64,
    /// Bytes that wait to be sent now.
    pub waiting_bytes: u64,
}

impl Figures {
    pub(super) fn add_sent(&mut self, sent: Sent) {
        self.sent_batches += sent.batches;
        self.sent_messages += sent.messages;
        self.sent_bytes += sent.bytes;
    }
}

/// The peers of one shard. Belongs to the shard's thread and needs its `LocalSet`; dropping it
/// ends every connection and task.
pub struct Peers(Rc<Inner>);

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers(of shard {}, {} links)", self.0.shard, self.0.links().len())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Peers {
    /// The peers of shard `shard`, and where what they send comes in.
    pub fn new(env: &Env, registry: &Registry, shard: u16) -> (Peers, Inbox) {
        let (sender, inbox) = inbox();
        let inner = Inner::new(env, registry.clone(), shard, sender);
        (Peers(Rc::new(inner)), inbox)
    }

    /// Where a node is from here on; it is dialled there at once if it is not connected. A node
    /// whose address was never set is dialled where it said it is.
    pub fn set_address(&self, host_id: HostId, address: SocketAddr) {
        self.0.set_address(host_id, address);
    }

    /// Connects with a peer, and again whenever the connection is lost. Sending does so too.
    pub fn connect(&self, peer: Peer) -> Result<(), SendError> {
        self.link(peer).map(|_| ())
    }

    /// Whether a connection with a peer stands.
    pub fn is_connected(&self, peer: Peer) -> bool {
        self.0.link(peer).is_some_and(|link| link.is_connected())
    }

    /// Takes over a connection that [`accept_peers`](super::accept_peers) handed to this shard.
    pub fn accept(&self, accepted: Accepted) {
        assert!(accepted.to_shard() == self.0.shard, "a connection goes to the shard it is for");
        self.0.accept(accepted);
    }

    /// Sends a message, the bytes of `parts` one after the other, at most once: it arrives in the
    /// order of its class, or is lost with the connection, which the inbox tells. Not connected,
    /// it waits for the dial that is under way, and is lost if that fails.
    pub fn send(&self, peer: Peer, class: Class, parts: &[&[u8]]) -> Result<(), SendError> {
        self.link(peer)?.push(class, Kind::Message, &[], parts).map(|_| ())
    }

    /// Sends a request at once, and waits for its answer for at most `time_max`. The future may be
    /// dropped; the request is not recalled.
    pub fn ask(
        &self,
        peer: Peer,
        class: Class,
        parts: &[&[u8]],
        time_max: Duration,
    ) -> impl Future<Output = Result<Bytes, AskError>> + use<> {
        let sent = self.link(peer).and_then(|link| begin_ask(link, class, parts, time_max));
        let clock = self.0.env.clock.clone();
        // Counted from here, whenever the future is first looked at.
        let sent_at_nanos = clock.monotonic_nanos();
        async move {
            let Sending { guard: _guard, outcome } = sent.map_err(AskError::NotSent)?;
            let gone_nanos = clock.monotonic_nanos().saturating_sub(sent_at_nanos);
            let time_left = time_max.saturating_sub(Duration::from_nanos(gone_nanos));
            match within(&clock, time_left, outcome).await {
                Some(Ok(outcome)) => outcome,
                // The link is gone with its node.
                Some(Err(_)) => Err(AskError::Unknown(Unknown::Disconnected)),
                None => Err(AskError::Unknown(Unknown::TimedOut)),
            }
        }
    }

    /// Opens a bulk stream, on a connection of its own. `head` is for the receiver to know what
    /// it is, at most [`STREAM_HEAD_BYTES_MAX`](super::limits::STREAM_HEAD_BYTES_MAX).
    pub fn open_stream(
        &self,
        peer: Peer,
        head: &[u8],
    ) -> impl Future<Output = Result<OutgoingStream, StreamError>> + use<> {
        open(self.0.clone(), peer, Bytes::copy_from_slice(head))
    }

    /// How many bytes a second the bulk streams of this shard send together; 0 is no limit.
    pub fn set_stream_rate(&self, bytes_per_second: u64) {
        self.0.throttle.borrow_mut().set_rate(bytes_per_second);
    }

    /// Ends the connections with a node and forgets where it is. It may still connect by itself,
    /// unless [`Registry::remove`] forbids it.
    pub fn forget(&self, host_id: HostId) {
        self.0.forget(host_id);
    }

    /// The figures of every peer that there was a connection with, or that was dialled.
    pub fn figures(&self) -> Vec<(Peer, Figures)> {
        self.0.links().iter().map(|link| (link.peer, link.figures())).collect()
    }

    fn link(&self, peer: Peer) -> Result<Rc<Link>, SendError> {
        if let Some(link) = self.0.link(peer)
            && (link.has_dialler() || link.is_connected())
        {
            return Ok(link);
        }
        if self.0.address(peer.host_id).is_none() {
            return Err(SendError::UnknownHost);
        }
        let link = self.0.link_or_new(peer);
        self.0.keep_connected(&link);
        Ok(link)
    }
}

/// A request that was sent.
struct Sending {
    guard: AskGuard,
    outcome: oneshot::Receiver<Result<Bytes, AskError>>,
}

/// Nobody waits for the answer any more once this is dropped.
struct AskGuard {
    link: Rc<Link>,
    id: AskId,
}

impl Drop for AskGuard {
    fn drop(&mut self) {
        self.link.asks.forget(self.id);
    }
}

fn begin_ask(
    link: Rc<Link>,
    class: Class,
    parts: &[&[u8]],
    time_max: Duration,
) -> Result<Sending, SendError> {
    let (id, outcome) = link.asks.begin().ok_or(SendError::Full)?;
    let guard = AskGuard { link, id };
    let head = ask_head(id, time_max);
    let place = guard.link.push(class, Kind::Ask, &head, parts)?;
    guard.link.asks.placed(id, place);
    Ok(Sending { guard, outcome })
}
