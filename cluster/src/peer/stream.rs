//! Bulk streams: much data one way, once, on a connection of its own so that it is in nobody's way.
//!
//! The sender gives a head and then bytes, in pieces of a batch; all streams of its shard share
//! one rate. The receiver takes when it can, and the sender waits when it does not. At the end the
//! receiver answers; a stream that ends in any other way was not complete, and both ends know.

use super::batch::{Decoder, Frame, Kind};
use super::dialler::{call_peer, from_status};
use super::feed::{Feed, FeedError, Outbound};
use super::hello::Purpose;
use super::hub::Inner;
use super::inbox::Event;
use super::introduction::IntroductionError;
use super::limits::{BATCH_BYTES_MAX, DIAL_TIME_MAX, STREAM_HEAD_BYTES_MAX, STREAM_STALL_TIME_MAX};
use super::outbox::{Class, Outbox};
use super::peers::Peer;
use super::registry::Admission;
use super::throttle::Throttle;
use super::transport::{LocalTasks, OwnedTasks, call};
use super::wait::within;
use bytes::Bytes;
use env::Clock;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;
use tonic::Streaming;

/// Bytes of a piece.
const PIECE_BYTES_MAX: usize = BATCH_BYTES_MAX / 2;

/// What waits in a stream's outbox before its sender does.
const WAITING_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;

/// Why a stream is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The peer was not reached, or did not let it begin.
    NotBegun(IntroductionError),
    /// The connection, or the other end, is gone.
    Broken(String),
    /// Nothing moved for too long.
    Stalled,
    /// What came is not what belongs on a stream.
    Garbage,
    /// The head or the answer is longer than it may be.
    TooLarge,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::NotBegun(error) => write!(f, "the stream did not begin: {error}"),
            StreamError::Broken(why) => write!(f, "the stream broke: {why}"),
            StreamError::Stalled => f.write_str("nothing moved on the stream for too long"),
            StreamError::Garbage => f.write_str("what came does not belong on a stream"),
            StreamError::TooLarge => {
                write!(f, "more than {STREAM_HEAD_BYTES_MAX} bytes of head or answer")
            }
        }
    }
}

impl std::error::Error for StreamError {}

impl From<FeedError> for StreamError {
    fn from(_: FeedError) -> StreamError {
        StreamError::Broken("the peer let go of it".into())
    }
}

/// A stream that is sent. Dropping it breaks it.
pub struct OutgoingStream {
    clock: Clock,
    throttle: Rc<RefCell<Throttle>>,
    feed: Arc<Feed>,
    answer: Frames,
    _admission: Admission,
    _tasks: OwnedTasks,
}

impl fmt::Debug for OutgoingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingStream({:?})", self.feed.sent())
    }
}

/// Dials, introduces, and sends the head.
pub(super) async fn open(
    inner: Rc<Inner>,
    peer: Peer,
    head: Bytes,
) -> Result<OutgoingStream, StreamError> {
    if head.len() > STREAM_HEAD_BYTES_MAX {
        return Err(StreamError::TooLarge);
    }
    let called = call_peer(&inner, peer, Purpose::Stream).await;
    let (socket, _, admission) = called.map_err(StreamError::NotBegun)?;
    let (tasks, feed) = (OwnedTasks(LocalTasks::default()), Feed::new(Outbox::new()));
    feed.push(Class::Bulk, Kind::Message, &[], &[&head])?;
    let call = call(socket, &tasks.0, feed.outbound());
    let answer = within(&inner.env.clock, DIAL_TIME_MAX, call)
        .await
        .ok_or(StreamError::NotBegun(IntroductionError::Stalled(DIAL_TIME_MAX)))?
        .map_err(|status| StreamError::NotBegun(from_status(&status)))?;
    Ok(OutgoingStream {
        clock: inner.env.clock.clone(),
        throttle: inner.throttle.clone(),
        feed,
        answer: Frames::new(answer),
        _admission: admission,
        _tasks: tasks,
    })
}

impl OutgoingStream {
    /// Sends bytes, as fast as the shard's rate and the receiver allow.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let now = self.clock.monotonic_nanos();
            let free_at = self.throttle.borrow_mut().take(piece.len(), now);
            self.clock.sleep_until(free_at).await;
            within(&self.clock, STREAM_STALL_TIME_MAX, self.feed.room(WAITING_BYTES_MAX))
                .await
                .ok_or(StreamError::Stalled)??;
            self.feed.push(Class::Bulk, Kind::Message, &[], &[piece])?;
        }
        Ok(())
    }

    /// Says that this was all, and waits for the receiver's answer for at most `time_max`.
    pub async fn finish(mut self, time_max: Duration) -> Result<Bytes, StreamError> {
        self.feed.push(Class::Bulk, Kind::End, &[], &[])?;
        self.feed.finish();
        match within(&self.clock, time_max, self.answer.next()).await {
            Some(Ok(Some(Frame::Message(answer)))) => Ok(answer),
            Some(Ok(Some(_))) => Err(StreamError::Garbage),
            Some(Ok(None)) => Err(StreamError::Broken("the receiver did not answer".into())),
            Some(Err(error)) => Err(error),
            None => Err(StreamError::Stalled),
        }
    }
}

/// A stream that is received. Dropping it breaks it.
pub struct IncomingStream {
    inner: Rc<Inner>,
    peer: Peer,
    head: Bytes,
    /// Of the connection, among those that the shard serves.
    number: u64,
    feed: Arc<Feed>,
    frames: Frames,
    is_complete: bool,
    is_answered: bool,
    _admission: Admission,
}

impl fmt::Debug for IncomingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncomingStream(from {:?})", self.peer)
    }
}

/// Takes the stream that a peer opened, to be told to the shard once its head is there.
pub(super) fn receive(
    inner: &Rc<Inner>,
    peer: Peer,
    number: u64,
    admission: Admission,
    batches: Streaming<Bytes>,
) -> Outbound {
    let feed = Feed::new(Outbox::new());
    let outbound = feed.outbound();
    let mut stream = IncomingStream {
        inner: inner.clone(),
        peer,
        head: Bytes::new(),
        number,
        feed,
        frames: Frames::new(batches),
        is_complete: false,
        is_answered: false,
        _admission: admission,
    };
    inner.spawn_for(number, async move {
        // Without a head it is nobody's stream: it breaks here.
        if let Ok(Some(head)) = stream.next().await
            && head.len() <= STREAM_HEAD_BYTES_MAX
        {
            stream.head = head;
            let inner = stream.inner.clone();
            inner.inbox.notify(Event::Stream(Box::new(stream)));
        }
    });
    outbound
}

impl IncomingStream {
    /// Who sends it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// What the sender said of it.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The next bytes; `None` when all have come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        if self.is_complete {
            return Ok(None);
        }
        let clock = self.inner.env.clock.clone();
        match within(&clock, STREAM_STALL_TIME_MAX, self.frames.next()).await {
            None => Err(StreamError::Stalled),
            Some(Err(error)) => Err(error),
            Some(Ok(Some(Frame::Message(bytes)))) => Ok(Some(bytes)),
            Some(Ok(Some(Frame::End))) => {
                self.is_complete = true;
                Ok(None)
            }
            Some(Ok(Some(_))) => Err(StreamError::Garbage),
            Some(Ok(None)) => Err(StreamError::Broken("it ended before its end".into())),
        }
    }

    /// Ends the stream with an answer for the sender, once all has come.
    pub fn answer(mut self, answer: &[u8]) -> Result<(), StreamError> {
        if answer.len() > STREAM_HEAD_BYTES_MAX {
            return Err(StreamError::TooLarge);
        }
        self.feed.push(Class::Bulk, Kind::Message, &[], &[answer])?;
        self.feed.finish();
        self.is_answered = true;
        Ok(())
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        if self.is_answered {
            // The connection lives on until the answer is out, but not for ever.
            self.inner.end_soon(self.number);
        } else {
            drop(self.inner.take_accepting(self.number));
        }
    }
}

/// The frames of a stream, one by one.
struct Frames {
    batches: Streaming<Bytes>,
    decoder: Decoder,
    decoded: Vec<Frame>,
    waiting: VecDeque<Frame>,
}

impl Frames {
    fn new(batches: Streaming<Bytes>) -> Frames {
        Frames {
            batches,
            decoder: Decoder::default(),
            decoded: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The next one; `None` when the other end says nothing more.
    async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Ok(Some(frame));
            }
            let batch = poll_fn(|context| Pin::new(&mut self.batches).poll_next(context)).await;
            let batch = match batch {
                None => return Ok(None),
                Some(Ok(batch)) => batch,
                Some(Err(status)) => return Err(StreamError::Broken(status.message().into())),
            };
            let decoded = self.decoder.decode(batch, &mut self.decoded);
            decoded.map_err(|_| StreamError::Garbage)?;
            self.waiting.extend(self.decoded.drain(..));
        }
    }
}
