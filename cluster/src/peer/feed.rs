//! An outbox between the shard that fills it and the HTTP/2 stream that takes from it.
//!
//! Both run on the shard's thread; the lock is there because tonic wants its streams to be
//! `Send`, and nobody ever waits for it. The stream takes a batch when the connection has room for
//! it, so the outbox fills while the connection is slow, and is refused from when it is full.

use super::batch::Kind;
use super::outbox::{Batch, Class, Outbox, OutboxError, Place};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio_stream::Stream;
use tonic::Status;

/// What was taken by the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) batches: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedError {
    Outbox(OutboxError),
    /// The connection is gone.
    Closed,
}

/// The shard's end.
#[derive(Debug)]
pub(super) struct Feed(Mutex<State>);

#[derive(Debug)]
struct State {
    outbox: Outbox,
    sent: Sent,
    /// Nothing more will come: the stream ends when the outbox is empty.
    is_finished: bool,
    /// The connection has let go of the stream.
    is_closed: bool,
    /// Something was taken since the last look of [`Feed::ping_if_idle`].
    was_busy: bool,
    /// The stream waits for a batch.
    reader: Option<Waker>,
    /// A writer waits for room.
    writer: Option<Waker>,
}

impl Feed {
    /// Begins with what waited for the connection.
    pub(super) fn new(outbox: Outbox) -> Arc<Feed> {
        Arc::new(Feed(Mutex::new(State {
            outbox,
            sent: Sent::default(),
            is_finished: false,
            is_closed: false,
            was_busy: false,
            reader: None,
            writer: None,
        })))
    }

    /// The connection's end; there is one.
    pub(super) fn outbound(self: &Arc<Feed>) -> Outbound {
        Outbound(self.clone())
    }

    /// Adds a message that is `head` and then `parts`, or nothing.
    pub(super) fn push(
        &self,
        class: Class,
        kind: Kind,
        head: &[u8],
        parts: &[&[u8]],
    ) -> Result<Place, FeedError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(FeedError::Closed);
        }
        let place = state.outbox.push(class, kind, head, parts).map_err(FeedError::Outbox)?;
        state.wake_reader();
        Ok(place)
    }

    /// Replaces the outbox, which is empty, by the one that waited for this connection.
    pub(super) fn open_with(&self, outbox: Outbox) {
        let mut state = self.lock();
        assert!(state.outbox.is_empty(), "nothing is sent before the connection stands");
        state.outbox = outbox;
        state.wake_reader();
    }

    /// Waits until less than `bytes_max` wait to be taken.
    pub(super) async fn room(&self, bytes_max: usize) -> Result<(), FeedError> {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.is_closed {
                return Poll::Ready(Err(FeedError::Closed));
            }
            if state.outbox.bytes() < bytes_max {
                return Poll::Ready(Ok(()));
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Says something if nothing was said since the last call and nothing waits.
    pub(super) fn ping_if_idle(&self) {
        let mut state = self.lock();
        let was_busy = std::mem::take(&mut state.was_busy);
        if !was_busy && !state.is_closed && state.outbox.is_empty() {
            state
                .outbox
                .push(Class::Urgent, Kind::Ping, &[], &[])
                .expect("an empty outbox has room for a ping");
            state.wake_reader();
        }
    }

    /// Ends the stream once all that waits has been taken.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.is_finished = true;
        state.wake_reader();
    }

    /// Refuses whatever comes from here on.
    pub(super) fn close(&self) {
        self.lock().close();
    }

    /// Whether all of a message was taken by the connection.
    pub(super) fn is_taken(&self, place: Place) -> bool {
        self.lock().outbox.is_taken(place)
    }

    /// What was taken so far.
    pub(super) fn sent(&self) -> Sent {
        self.lock().sent
    }

    /// Bytes that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.lock().outbox.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes but an assertion that ends the process.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn poll_take(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        if self.is_closed {
            return Poll::Ready(None);
        }
        let Some(batch) = self.outbox.take() else {
            if self.is_finished {
                return Poll::Ready(None);
            }
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        self.was_busy = true;
        self.sent.batches += 1;
        self.sent.messages += u64::from(batch.message_count);
        self.sent.bytes += batch.bytes.len() as u64;
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
        Poll::Ready(Some(batch))
    }
}

/// The batches of a feed, as a server's answers.
#[derive(Debug)]
pub(super) struct Outbound(Arc<Feed>);

impl Stream for Outbound {
    type Item = Result<Batch, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().poll_take(context).map(|batch| batch.map(Ok))
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The batches of a feed, as a client's requests.
#[derive(Debug)]
pub(super) struct Requests(pub(super) Outbound);

impl Stream for Requests {
    type Item = Batch;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        self.0.0.lock().poll_take(context)
    }
}
