//! Requests and their answers: what is known when one ends, and by when it does.
//!
//! The outcome is honest. Not sent: the peer cannot have executed it. Refused: the peer says that
//! it has not and will not. Unknown: it may have.

use super::batch::{AskId, Kind};
use super::feed::Feed;
use super::limits::ASKS_MAX;
use super::outbox::{Class, Place};
use super::peers::SendError;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskError {
    /// It never left: not executed.
    NotSent(SendError),
    /// The peer refused it: not executed.
    Refused,
    /// It left, and no answer came: executed or not, or still to be.
    Unknown(Unknown),
}

/// Why it is not known whether a request was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The time is over.
    TimedOut,
    /// The connection is gone.
    Disconnected,
    /// The peer says that it will not answer.
    Abandoned,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::NotSent(error) => write!(f, "not sent: {error}"),
            AskError::Refused => f.write_str("the peer refused the request"),
            AskError::Unknown(Unknown::TimedOut) => f.write_str("no answer came in time"),
            AskError::Unknown(Unknown::Disconnected) => {
                f.write_str("the connection ended before an answer came")
            }
            AskError::Unknown(Unknown::Abandoned) => {
                f.write_str("the peer gave the request up without an answer")
            }
        }
    }
}

impl std::error::Error for AskError {}

type Outcome = Result<Bytes, AskError>;

/// The requests to one peer that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<AskId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    place: Option<Place>,
    outcome: oneshot::Sender<Outcome>,
}

impl Asks {
    /// Gives a request its number, unless too many wait.
    pub(super) fn begin(&self) -> Option<(AskId, oneshot::Receiver<Outcome>)> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= ASKS_MAX {
            return None;
        }
        let id = AskId(self.next.get());
        self.next.set(id.0 + 1);
        let (outcome, receiver) = oneshot::channel();
        waiting.insert(id, Waiting { place: None, outcome });
        Some((id, receiver))
    }

    /// Where a request lies in the outbox.
    pub(super) fn placed(&self, id: AskId, place: Place) {
        if let Some(waiting) = self.waiting.borrow_mut().get_mut(&id) {
            waiting.place = Some(place);
        }
    }

    /// Nobody waits any more.
    pub(super) fn forget(&self, id: AskId) {
        self.waiting.borrow_mut().remove(&id);
    }

    /// The peer spoke about a request; if nobody waits for it any more, that is that.
    pub(super) fn end(&self, id: AskId, outcome: Outcome) {
        let waiting = self.waiting.borrow_mut().remove(&id);
        if let Some(waiting) = waiting {
            waiting.outcome.send(outcome).ok();
        }
    }

    /// The connection is gone, or was never made. `is_taken` says what had left.
    pub(super) fn end_all(&self, is_taken: impl Fn(Place) -> bool) {
        for waiting in std::mem::take(&mut *self.waiting.borrow_mut()).into_values() {
            let has_left = waiting.place.is_some_and(&is_taken);
            let error = if has_left {
                AskError::Unknown(Unknown::Disconnected)
            } else {
                AskError::NotSent(SendError::NotConnected)
            };
            waiting.outcome.send(Err(error)).ok();
        }
    }
}

/// Answers one request of a peer. Dropping it tells the peer that no answer will come.
#[derive(Debug)]
pub struct Responder {
    id: AskId,
    time_left: Duration,
    feed: Arc<Feed>,
    /// Requests of this connection that have not been answered.
    open_count: Rc<Cell<usize>>,
    is_done: bool,
}

impl Responder {
    pub(super) fn new(
        id: AskId,
        time_left: Duration,
        feed: Arc<Feed>,
        open_count: Rc<Cell<usize>>,
    ) -> Responder {
        open_count.set(open_count.get() + 1);
        Responder { id, time_left, feed, open_count, is_done: false }
    }

    /// How long the peer waits, counted from when it sent the request.
    pub fn time_left(&self) -> Duration {
        self.time_left
    }

    /// Answers, with the bytes of `parts` one after the other. An answer that cannot be sent is
    /// lost: the peer hears that none will come, or its connection is gone.
    pub fn answer(mut self, class: Class, parts: &[&[u8]]) -> Result<(), SendError> {
        self.say(class, Kind::Answer, parts)
    }

    /// Says that the request was not executed and will not be.
    pub fn refuse(mut self) {
        // The connection is gone, and the peer knows as much as it can.
        self.say(Class::Urgent, Kind::Refused, &[]).ok();
    }

    fn say(&mut self, class: Class, kind: Kind, parts: &[&[u8]]) -> Result<(), SendError> {
        self.feed.push(class, kind, &self.id.0.to_le_bytes(), parts)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.open_count.set(self.open_count.get() - 1);
        if !self.is_done {
            // If not even this fits, the peer waits until its time is over.
            self.say(Class::Urgent, Kind::Abandoned, &[]).ok();
        }
    }
}
