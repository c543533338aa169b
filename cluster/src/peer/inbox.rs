//! What comes in from all peers, in the order in which it came, for the shard to take.
//!
//! Messages are bounded per connection, by bytes: whoever reads a connection waits for room, then
//! the window of its HTTP/2 stream closes, then the peer's outbox fills, then its callers are
//! refused. So a shard that does not take costs no memory, and one peer's load does not take the
//! room of another's.

use super::ask::Responder;
use super::hello::Identity;
use super::introduction::IntroductionError;
use super::limits::{INBOX_BYTES_MAX, NOTICES_MAX};
use super::peers::Peer;
use super::session::Cause;
use super::stream::IncomingStream;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Something that happened between this shard and a peer.
#[derive(Debug)]
pub enum Event {
    /// A connection stands: what is sent from here on may arrive. Whatever was sent before has
    /// been lost, if no [`Event::Disconnected`] said so already.
    Connected {
        /// The peer.
        peer: Peer,
        /// What it says of itself.
        identity: Identity,
    },
    /// The connection is gone, and with it what was sent and has not arrived.
    Disconnected {
        /// The peer.
        peer: Peer,
        /// Why.
        cause: Cause,
    },
    /// The peer was dialled in vain, and will be again. Said once for each new reason.
    Unreachable {
        /// The peer.
        peer: Peer,
        /// Why.
        error: IntroductionError,
    },
    /// Messages that came, in the order in which they were sent (class by class).
    Messages {
        /// The peer.
        peer: Peer,
        /// What came, never empty.
        messages: Vec<Incoming>,
    },
    /// A bulk stream began.
    Stream(Box<IncomingStream>),
}

/// A message that came.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing is expected in return.
    Message(Bytes),
    /// A request, to be answered by its responder.
    Ask(Bytes, Responder),
}

/// Bytes of one connection that the shard has not taken.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: Cell<usize>,
    freed: Notify,
}

impl Room {
    /// Waits until `bytes` more may be put in.
    pub(super) async fn wait_for(&self, bytes: usize) {
        while self.bytes.get() > 0 && self.bytes.get() + bytes > INBOX_BYTES_MAX {
            self.freed.notified().await;
        }
    }
}

/// The shard's end: everything that comes in. Dropping it drops what was not taken.
#[derive(Debug)]
pub struct Inbox(Rc<Shared>);

/// The connections' end.
#[derive(Clone, Debug)]
pub(super) struct InboxSender(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: RefCell<VecDeque<Entry>>,
    notice_count: Cell<usize>,
    /// Nobody takes any more. What is put in is dropped, since it may hold what holds this.
    is_closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Entry {
    event: Event,
    /// What it takes of its connection's room; a notice takes none.
    charge: Option<(Rc<Room>, usize)>,
}

pub(super) fn inbox() -> (InboxSender, Inbox) {
    let shared = Rc::new(Shared::default());
    (InboxSender(shared.clone()), Inbox(shared))
}

impl InboxSender {
    /// Puts in what is no message. There is room for it if [`InboxSender::has_room`] said so
    /// before the connection was made.
    pub(super) fn notify(&self, event: Event) {
        self.0.notice_count.set(self.0.notice_count.get() + 1);
        self.put(Entry { event, charge: None });
    }

    /// Puts in messages that have `bytes`, after [`Room::wait_for`].
    pub(super) fn deliver(&self, event: Event, room: &Rc<Room>, bytes: usize) {
        room.bytes.set(room.bytes.get() + bytes);
        self.put(Entry { event, charge: Some((room.clone(), bytes)) });
    }

    /// Whether a connection may begin: it will have something to say of itself.
    pub(super) fn has_room(&self) -> bool {
        self.0.notice_count.get() < NOTICES_MAX
    }

    fn put(&self, entry: Entry) {
        if self.0.is_closed.get() {
            return;
        }
        self.0.entries.borrow_mut().push_back(entry);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.is_closed.set(true);
        let entries = std::mem::take(&mut *self.0.entries.borrow_mut());
        drop(entries);
    }
}

impl Inbox {
    /// The next event, once there is one.
    pub async fn recv(&mut self) -> Event {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Inbox::recv`] as a poll.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.try_recv() {
            return Poll::Ready(event);
        }
        self.0.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }

    /// The next event, if there is one.
    pub fn try_recv(&mut self) -> Option<Event> {
        let entry = self.0.entries.borrow_mut().pop_front()?;
        match entry.charge {
            Some((room, bytes)) => {
                room.bytes.set(room.bytes.get() - bytes);
                room.freed.notify_one();
            }
            None => self.0.notice_count.set(self.0.notice_count.get() - 1),
        }
        Some(entry.event)
    }
}
