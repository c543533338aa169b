//! What a connection has agreed on and is busy with: shared by its task and its requests.

use super::{FIRST_FRAME_SECONDS_MAX, Outbox, STALL_SECONDS_MAX, UNREAD_SECONDS_MAX_WHEN_WANTED};
use crate::shard::Shard;
use cql::wire::{EventKind, Extensions, Version};
use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A connection's state. Requests hold it while they wait.
#[derive(Debug)]
pub(crate) struct Session {
    shard: Rc<Shard>,
    pub id: u64,
    outbox: RefCell<Outbox>,
    requests_in_flight: Cell<usize>,
    pub version: Cell<Version>,
    pub extensions: Cell<Extensions>,
    pub is_started: Cell<bool>,
    is_killed: Cell<bool>,
    keyspace: RefCell<Option<Arc<str>>>,
    /// One bit per [`EventKind`].
    registered: Cell<u8>,
    pub info: RefCell<ClientInfo>,
    /// Since when the client owes the rest of a frame, in seconds of the monotonic clock.
    partial_since: Cell<Option<u64>>,
    /// Since when the client takes no answers.
    unread_since: Cell<Option<u64>>,
    has_finished_a_frame: Cell<bool>,
}

/// What a client says of itself; shown in `system.clients` and `system_views.clients`.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    pub peer: SocketAddr,
    pub options: Vec<(String, String)>,
    pub request_count: u64,
    pub protocol_version: u8,
    pub shard: u16,
}

impl Session {
    /// Opens a session of the shard and registers it there.
    pub(crate) fn open(shard: &Rc<Shard>, peer: SocketAddr) -> Rc<Session> {
        let session = Rc::new(Session {
            shard: shard.clone(),
            id: shard.next_session_id(),
            outbox: RefCell::new(Outbox::new()),
            requests_in_flight: Cell::new(0),
            version: Cell::new(Version::MAX),
            extensions: Cell::new(Extensions::default()),
            is_started: Cell::new(false),
            is_killed: Cell::new(false),
            keyspace: RefCell::new(None),
            registered: Cell::new(0),
            info: RefCell::new(ClientInfo {
                peer,
                options: Vec::new(),
                request_count: 0,
                protocol_version: 0,
                shard: shard.index,
            }),
            partial_since: Cell::new(Some(shard.monotonic_seconds())),
            unread_since: Cell::new(None),
            has_finished_a_frame: Cell::new(false),
        });
        shard.sessions.borrow_mut().insert(session.id, session.clone());
        shard.shared.connection_count.fetch_add(1, Ordering::Relaxed);
        session
    }

    /// Forgets the session.
    pub(crate) fn close(&self) {
        self.is_killed.set(true);
        self.shard.sessions.borrow_mut().remove(&self.id);
        self.shard.shared.connection_count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn shard(&self) -> &Rc<Shard> {
        &self.shard
    }

    pub(crate) fn outbox(&self) -> RefMut<'_, Outbox> {
        self.outbox.borrow_mut()
    }

    pub(crate) fn requests_in_flight(&self) -> usize {
        self.requests_in_flight.get()
    }

    /// Whether no request waits for anything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.requests_in_flight.get() == 0
    }

    /// Lets a request wait for something in a task of its own; the task ends with the answer.
    pub(crate) fn wait_for(self: &Rc<Self>, request: impl Future<Output = ()> + 'static) {
        self.begin_waiting();
        let session = self.clone();
        tokio::task::spawn_local(async move {
            request.await;
            session.end_waiting();
        });
    }

    /// A request begins to wait.
    pub(crate) fn begin_waiting(&self) {
        self.requests_in_flight.set(self.requests_in_flight.get() + 1);
    }

    /// A request that waited was answered.
    pub(crate) fn end_waiting(&self) {
        self.requests_in_flight.set(self.requests_in_flight.get() - 1);
        // A connection that was paused, or that waits for its last answer, looks again.
        self.outbox().wake();
    }

    /// The keyspace of unqualified names.
    pub(crate) fn keyspace(&self) -> Option<Arc<str>> {
        self.keyspace.borrow().clone()
    }

    pub(crate) fn use_keyspace(&self, keyspace: Arc<str>) {
        *self.keyspace.borrow_mut() = Some(keyspace);
    }

    /// The client wants events of these kinds too.
    pub(crate) fn register(&self, kinds: &[EventKind]) {
        let bits = kinds.iter().fold(0, |bits, kind| bits | 1 << *kind as u8);
        self.registered.set(self.registered.get() | bits);
    }

    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.registered.get() & (1 << kind as u8) != 0
    }

    /// A whole frame came in.
    pub(crate) fn note_frame(&self) {
        self.has_finished_a_frame.set(true);
        self.info.borrow_mut().request_count += 1;
        self.shard.request_count.set(self.shard.request_count.get() + 1);
    }

    /// Says whether the bytes received so far end within a frame.
    pub(crate) fn note_partial_frame(&self, is_partial: bool) {
        let since = is_partial.then(|| self.shard.monotonic_seconds());
        self.partial_since.set(since);
    }

    /// The client does not take its answers at the moment.
    pub(crate) fn note_stalled_write(&self) {
        if self.unread_since.get().is_none() {
            self.unread_since.set(Some(self.shard.monotonic_seconds()));
        }
    }

    /// The client took some bytes.
    pub(crate) fn note_write(&self) {
        self.unread_since.set(None);
    }

    /// Ends the connection when its client has kept it waiting for too long.
    pub(crate) fn check_stalled(&self, now_seconds: u64) {
        let seconds_max = if self.has_finished_a_frame.get() {
            STALL_SECONDS_MAX
        } else {
            FIRST_FRAME_SECONDS_MAX
        };
        let is_wanted = self.shard.memory.is_wanted();
        let unread_max = if is_wanted { UNREAD_SECONDS_MAX_WHEN_WANTED } else { STALL_SECONDS_MAX };
        let is_late = |since: &Cell<Option<u64>>, seconds_max| {
            since.get().is_some_and(|since| now_seconds > since + seconds_max)
        };
        if is_late(&self.partial_since, seconds_max) || is_late(&self.unread_since, unread_max) {
            self.kill();
        }
    }

    /// Ends the connection without sending more.
    pub(crate) fn kill(&self) {
        self.is_killed.set(true);
        self.outbox().wake();
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.get()
    }
}
