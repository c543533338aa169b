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
use cluster::replica::{BadEntry, LogRequest, ReceiveError};
use cluster::{GroupId, HostId};
use std::collections::BTreeMap;
use std::iter;
use std::rc::Rc;
use storage::commitlog::{LogError, ReadEntries, ReadPlace, WantedEntries};

/// Payload bytes of one group that are read from the log at once for a follower.
const READ_BYTES_MAX: usize = 256 << 10;

/// Followers of groups for which the log is read in one pass: at most 16 MiB are in memory then.
const READS_MAX: usize = 64;

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
            Err(ReceiveError::BadEntry(bad)) => {
                self.report_bad_entry(from, bad);
                false
            }
            Err(error @ (ReceiveError::Malformed(_) | ReceiveError::TooManyLinks)) => {
                tracing::warn!("from node {:032x}: {error}", from.host_id.0);
                false
            }
        }
    }

    /// Says it once of each entry, however often it is sent.
    fn report_bad_entry(&self, from: Peer, bad: BadEntry) {
        if self.bad_entry.replace(Some((from, bad))) != Some((from, bad)) {
            let error: ReceiveError<LogError> = ReceiveError::BadEntry(bad);
            tracing::error!("from node {:032x}: {error}", from.host_id.0);
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
        self.read_for_followers();
    }

    /// Begins a pass over the log for what followers lack, unless one is under way. There is one at
    /// a time: after a member was away all groups want the log at once, and a thread for each
    /// starved the shards.
    fn read_for_followers(self: &Rc<Self>) {
        if self.is_reading_log.get() {
            return;
        }
        let take = || self.state.borrow_mut().replicas.take_log_request();
        let requests: Vec<LogRequest> = iter::from_fn(take).take(READS_MAX).collect();
        if !requests.is_empty() {
            self.is_reading_log.set(true);
            tokio::task::spawn_local(self.clone().read_log(requests));
        }
    }

    /// Reads entries from the log for followers, on another thread.
    async fn read_log(self: Rc<Self>, requests: Vec<LogRequest>) {
        let wanted = requests.iter().map(|request| self.wanted(request)).collect();
        let reading = self.state.borrow().log.log.read(wanted);
        let read = self.shared.env.tasks.run_blocking(move || reading.run()).await;
        let read = read.unwrap_or_else(|error| {
            tracing::warn!("shard {}: entries for followers: {error}", self.index);
            requests.iter().map(|_| ReadEntries::default()).collect()
        });
        for (request, read) in requests.iter().zip(read) {
            self.give_read(request, read);
        }
        self.is_reading_log.set(false);
        // Sends what was read, and begins the next pass.
        self.wake_log();
    }

    fn wanted(&self, request: &LogRequest) -> WantedEntries {
        let from = self.read_places.borrow_mut().remove(&(request.group, request.to));
        WantedEntries {
            group: request.group.0,
            first: request.first.0,
            last: request.last.0,
            terms: request.terms.clone(),
            bytes_max: READ_BYTES_MAX,
            from: from.filter(|(next, _)| *next == request.first).map(|(_, place)| place),
        }
    }

    /// Hands over what was read for a follower.
    fn give_read(&self, request: &LogRequest, read: ReadEntries) {
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
            self.read_places.borrow_mut().insert((request.group, request.to), (next, place));
        }
        let entries = read.entries.into_iter();
        let entries = entries.map_while(|e| held_entry(e.term, e.kind, e.payload)).collect();
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        self.state.borrow_mut().replicas.read(request, entries, now);
    }
}
