//! What the shard's groups say to those of other nodes, and hear from them.
//!
//! The groups' own rules are in `cluster::replica`. Here envelopes go to [`Peers`](cluster::peer::Peers)
//! and come from it, and entries for followers that lag are read from the log on another thread.

use super::Shard;
use super::log::held_entry;
use crate::internode::MessageKind;
use cluster::consensus::LogIndex;
use cluster::liveness::MonotonicNanos;
use cluster::peer::{Class, Peer, SendError};
use cluster::replica::{LogRequest, ReceiveError};
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::rc::Rc;
use storage::commitlog::{LogError, ReadPlace, WantedEntries};

/// Payload bytes that are read from the log at once for a follower.
const READ_BYTES_MAX: usize = 256 << 10;

/// Where the log goes on for followers that are sent entries from it, behind which entry.
pub(super) type ReadPlaces = BTreeMap<(GroupId, HostId), (LogIndex, ReadPlace)>;

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
            Err(error @ (ReceiveError::Malformed(_) | ReceiveError::TooManyLinks)) => {
                tracing::warn!("from node {:032x}: {error}", from.host_id.0);
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
        let mut bytes = Vec::new();
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
        loop {
            let request = self.state.borrow_mut().replicas.take_log_request();
            let Some(request) = request else { break };
            tokio::task::spawn_local(self.clone().read_for_follower(request));
        }
    }

    /// Reads entries from the log for a follower, on another thread.
    async fn read_for_follower(self: Rc<Self>, request: LogRequest) {
        let wanted = WantedEntries {
            group: request.group.0,
            first: request.first.0,
            last: request.last.0,
            terms: request.terms.clone(),
            bytes_max: READ_BYTES_MAX,
        };
        let key = (request.group, request.to);
        let from = self.read_places.borrow_mut().remove(&key);
        let from = from.filter(|(next, _)| *next == request.first).map(|(_, place)| place);
        let reading = self.state.borrow().log.log.read(wanted, from);
        let read = self.shared.env.tasks.run_blocking(move || reading.run()).await;
        let entries = match read {
            Ok(read) => {
                tracing::debug!(
                    "shard {}: {} entries of group {:016x} from {} to {} for a follower",
                    self.index,
                    read.entries.len(),
                    request.group.0,
                    request.first.0,
                    request.last.0
                );
                let next = LogIndex(request.first.0 + read.entries.len() as u64);
                if let Some(place) = read.place {
                    self.read_places.borrow_mut().insert(key, (next, place));
                }
                let entries = read.entries.into_iter();
                entries.map_while(|e| held_entry(e.term, e.kind, e.payload)).collect()
            }
            Err(error) => {
                tracing::warn!("shard {}: entries for a follower: {error}", self.index);
                Vec::new()
            }
        };
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        self.state.borrow_mut().replicas.read(&request, entries, now);
        self.wake_log();
    }
}
