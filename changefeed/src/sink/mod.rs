//! Where a feed's messages go: one small trait, and one file or folder per kind of destination.
//!
//! A sink takes messages in order and says when its destination has acknowledged them.
//! It knows nothing of feeds, positions and schedules: the pump decides when to try again and how
//! long to wait (the pump's `Backoff`), the sink only says what kind of failure it met.
//!
//! # Promises of every sink
//!
//! - Messages with equal keys arrive in the order in which they were given, also when a call is
//!   repeated; what is repeated is a suffix that had not been acknowledged.
//! - [`Sink::send`] returns `Ok` only after the destination has acknowledged every message.
//! - A failure names nothing secret: no credentials, headers or paths of URLs.
//! - No call waits without an end: each has the sink's time limit.
//!
//! A third sink is a file beside these that implements [`Sink`], and a variant of the feed's
//! definition that makes one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::position::Position;
use crate::scan::Scanned;

pub mod kafka;
pub mod memory;
pub mod webhook;

/// One event as it is sent. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By which a topic's partition is chosen: messages with equal keys keep their order.
    pub key: Bytes,
    /// JSON; none for a tombstone, which tells a log-compacted topic to forget the key.
    pub value: Option<Bytes>,
}

impl Message {
    /// The bytes of key and value.
    pub fn byte_count(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A call to a sink under way. Not `Send`: a feed lives on one thread.
///
/// Whoever drops it before it is done drops the sink as well: what the destination got of the
/// call is unknown, and only a new sink starts from a known state.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + 'a>>;

/// A destination of messages, held by one feed.
pub trait Sink {
    /// Looks whether the destination can take messages at all, before the first of them.
    /// May do nothing where that cannot be known without sending.
    fn open(&mut self) -> Sending<'_>;

    /// How many messages one call may carry, for a feed that wants `batch_size` at a time.
    /// More than `batch_size` only where the destination does not see how calls were cut.
    fn messages_per_send_max(&self, batch_size: usize) -> usize {
        batch_size
    }

    /// Sends messages in order, and returns when all are acknowledged.
    ///
    /// After [`Failure::Transient`] the caller calls again with the same messages but for the first
    /// `acknowledged` of them (and with no others), or drops the sink. After the other failures, and
    /// after any that has suspects, it may go on with whatever it likes.
    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a>;

    /// This sink as one that keeps how far the feed has come, if it is one: then messages go by
    /// [`TransactionalSink::commit`] alone.
    fn transactional(&mut self) -> Option<&mut dyn TransactionalSink> {
        None
    }

    /// Sends one text to every reader of the destination (every partition of a topic), behind all
    /// that was acknowledged before.
    fn mark<'a>(&'a mut self, text: &'a Bytes) -> Sending<'a>;
}

/// How far a feed has come, as its destination keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Everything up to here was sent.
    pub position: Position,
    /// How far the scan has come that the feed began with; none if it began without.
    pub scanned: Option<Arc<Scanned>>,
}

/// What a transactional sink knows of how far the feed has come; see [`Sending`] for dropping it.
pub type Recovering<'a> = Pin<Box<dyn Future<Output = Result<Option<Reached>, SinkError>> + 'a>>;

/// A destination that takes messages and how far the feed has come with them in one step, from one
/// sender at a time: whoever calls [`TransactionalSink::recover`] last.
pub trait TransactionalSink {
    /// Shuts out every other sender of the feed for good, and returns what came with the last messages
    /// that the destination has; none if it has none.
    fn recover(&mut self) -> Recovering<'_>;

    /// Sends messages, and how far the feed has come with them: readers see all or nothing of it.
    /// `Ok` only if they do, and nobody else has sent for the feed since this sink recovered.
    ///
    /// Nothing is ever acknowledged in part. After [`Failure::Transient`] it is not known what came
    /// of it: the caller calls again with the same messages and the same of the rest, and they are
    /// not sent twice, or drops the sink.
    fn commit<'a>(&'a mut self, batch: &'a [Message], reached: Reached) -> Sending<'a>;
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The destination is away, busy or slow: the same call may succeed later.
    Transient,
    /// The same call would fail again until somebody changes the feed or its destination.
    Permanent,
    /// Another sender has shut this one out, or nobody knows who has sent what: whoever still has
    /// the feed begins anew, from where the destination says.
    Overtaken,
    /// One of the suspects is larger than the destination takes, or all together are.
    TooLarge,
}

/// Why messages were not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    /// What the caller decides by.
    pub failure: Failure,
    /// What happened, for the operator; free of secrets.
    pub text: String,
    /// How many messages, from the first on, are known to be acknowledged nevertheless.
    pub acknowledged: usize,
    /// How long the destination asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Messages one of which may be why, by what it says: so many from the first on that is not
    /// acknowledged. None where it is the destination itself, whatever it is sent.
    pub suspects: usize,
}

impl SinkError {
    /// A failure that may pass, with nothing acknowledged.
    pub fn transient(text: impl Into<String>) -> SinkError {
        SinkError::of(Failure::Transient, text)
    }

    /// A failure that stays, with nothing acknowledged.
    pub fn permanent(text: impl Into<String>) -> SinkError {
        SinkError::of(Failure::Permanent, text)
    }

    /// Something is larger than the destination takes, with nothing acknowledged.
    pub fn too_large(text: impl Into<String>) -> SinkError {
        SinkError::of(Failure::TooLarge, text)
    }

    /// With so many messages among which the reason may be.
    pub fn suspecting(self, suspects: usize) -> SinkError {
        SinkError { suspects, ..self }
    }

    fn of(failure: Failure, text: impl Into<String>) -> SinkError {
        SinkError { failure, text: text.into(), acknowledged: 0, retry_after: None, suspects: 0 }
    }
}

impl std::fmt::Display for SinkError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for SinkError {}
