//! What the shard's groups say to those of other nodes, and hear from them.
//!
//! The groups' own rules are in `cluster::replica`. Here envelopes go to [`Peers`](cluster::peer::Peers)
//! and come from it.

use super::Shard;
use crate::internode::MessageKind;
use cluster::liveness::MonotonicNanos;
use cluster::peer::{Class, Peer, SendError};
use cluster::replica::ReceiveError;
use std::rc::Rc;
use storage::commitlog::LogError;

/// A larger buffer of an envelope is not kept.
const BUFFER_BYTES_MAX: usize = 512 << 10;

impl Shard {
    /// Takes an envelope of another shard. Whether it is one.
    pub(crate) fn take_envelope(&self, from: Peer, bytes: &[u8]) -> bool {
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        self.adopt_board(now);
        let taken = self
            .state
            .borrow_mut()
            .with_replicas(now, |replicas, local| replicas.receive(from, bytes, local));
        self.wake_log();
        match taken {
            Ok(()) => true,
            // The log's task meets the failure and says so.
            Err(ReceiveError::Log(_)) => true,
            Err(ReceiveError::BadEntries(bad)) => {
                for entry in bad {
                    self.report_bad_entry(from, entry);
                }
                true
            }
            Err(error @ (ReceiveError::Malformed(_) | ReceiveError::TooManyLinks)) => {
                tracing::warn!("from node {}: {error}", from.host_id);
                false
            }
        }
    }

    /// A connection with another shard stands: groups begin anew with their members there.
    pub(crate) fn peer_connected(&self, peer: Peer) {
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        let result: Result<(), LogError> =
            state.with_replicas(now, |replicas, local| replicas.connected(peer, local));
        drop(state);
        // A log that failed is met by the log's task.
        result.ok();
        self.wake_log();
    }

    /// A connection with another shard is gone.
    pub(crate) fn peer_disconnected(&self, peer: Peer) {
        self.state.borrow_mut().replicas.disconnected(peer);
    }

    /// Sends what waits, and has read what followers lack.
    pub(super) fn send_envelopes(self: &Rc<Self>, now: MonotonicNanos) {
        let mut bytes = self.envelope_buffer.take();
        loop {
            bytes.clear();
            let taken = self.state.borrow_mut().replicas.take_outgoing(now, &mut bytes);
            let Some(peer) = taken else { break };
            let kind = [MessageKind::Envelope as u8];
            match self.peers.send(peer, Class::Bulk, &[&kind, &bytes]) {
                // What is not taken is lost: the link's other end misses it and says so. A link gives
                // out no more than a number of bytes before it has heard from there.
                Ok(()) | Err(SendError::Full | SendError::TooLarge) => {}
                Err(SendError::NotConnected | SendError::UnknownHost) => {
                    self.peer_disconnected(peer);
                }
            }
        }
        if bytes.capacity() <= BUFFER_BYTES_MAX {
            self.envelope_buffer.set(bytes);
        }
        self.read_for_followers();
    }
}
