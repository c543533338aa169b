//! One connection that stands between two shards: who reads it, who keeps it alive, how it ends.

use super::ask::{AskError, Responder, Unknown};
use super::batch::{BatchError, Decoder, Frame, Kind};
use super::feed::Feed;
use super::hello::Identity;
use super::hub::{Inner, Link};
use super::inbox::{Event, Incoming, Room};
use super::limits::{OPEN_ASKS_MAX, PING_INTERVAL, SILENCE_TIME_MAX};
use super::link::Standing;
use super::outbox::Class;
use super::registry::Admission;
use super::transport::OwnedTasks;
use bytes::Bytes;
use env::Clock;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The network or the peer ended it.
    Lost(String),
    /// Nothing came for [`SILENCE_TIME_MAX`].
    Silent,
    /// The peer sent what it must not.
    Garbage(BatchError),
    /// Another connection between the same shards took its place.
    Replaced,
    /// This node let go of the peer.
    Forgotten,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Lost(why) => write!(f, "lost: {why}"),
            Cause::Silent => write!(f, "nothing came for {SILENCE_TIME_MAX:?}"),
            Cause::Garbage(error) => write!(f, "a batch of the peer's is wrong: {error}"),
            Cause::Replaced => f.write_str("another connection took its place"),
            Cause::Forgotten => f.write_str("the peer is no longer one"),
        }
    }
}

/// A connection that was introduced and spoken on, and does not stand yet.
pub(super) struct Established {
    pub(super) standing: Standing,
    pub(super) identity: Identity,
    pub(super) admission: Admission,
    pub(super) feed: Arc<Feed>,
    pub(super) batches: Streaming<Bytes>,
    pub(super) tasks: OwnedTasks,
}

/// A connection that stands. Dropping it ends it.
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) standing: Standing,
    pub(super) feed: Arc<Feed>,
    _admission: Admission,
    _tasks: OwnedTasks,
}

impl Session {
    /// Begins to read and to ping.
    pub(super) fn begin(
        inner: &Rc<Inner>,
        link: &Rc<Link>,
        number: u64,
        new: Established,
    ) -> Session {
        let reader = Reader {
            inner: inner.clone(),
            link: link.clone(),
            feed: new.feed.clone(),
            room: Rc::new(Room::default()),
            open_ask_count: Rc::new(Cell::new(0)),
        };
        let batches = new.batches;
        new.tasks.0.spawn(async move {
            let cause = reader.read(batches).await;
            reader.inner.session_ended(&reader.link, number, cause);
        });
        new.tasks.0.spawn(keep_alive(inner.env.clock.clone(), new.feed.clone()));
        Session {
            number,
            standing: new.standing,
            feed: new.feed,
            _admission: new.admission,
            _tasks: new.tasks,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.feed.close();
    }
}

async fn keep_alive(clock: Clock, feed: Arc<Feed>) {
    loop {
        clock.sleep(PING_INTERVAL).await;
        feed.ping_if_idle();
    }
}

struct Reader {
    inner: Rc<Inner>,
    link: Rc<Link>,
    feed: Arc<Feed>,
    room: Rc<Room>,
    open_ask_count: Rc<Cell<usize>>,
}

impl Reader {
    /// Reads until the connection ends, and says why it did.
    async fn read(&self, mut batches: Streaming<Bytes>) -> Cause {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        loop {
            let batch = match next_batch(&self.inner.env.clock, &mut batches).await {
                Ok(batch) => batch,
                Err(cause) => return cause,
            };
            self.link.count_received(batch.len());
            let decoded = decoder.decode(batch, &mut frames);
            self.deliver(&mut frames).await;
            if let Err(error) = decoded {
                return Cause::Garbage(error);
            }
        }
    }

    /// Hands on what a batch said, waiting for room where the shard has to take it.
    async fn deliver(&self, frames: &mut Vec<Frame>) {
        let mut messages = Vec::new();
        let mut bytes = 0;
        for frame in frames.drain(..) {
            match frame {
                Frame::Message(message) => {
                    bytes += message.len();
                    messages.push(Incoming::Message(message));
                }
                Frame::Ask { id, .. } if self.open_ask_count.get() >= OPEN_ASKS_MAX => {
                    let number = id.0.to_le_bytes();
                    // If this does not fit either, the peer's time runs out.
                    self.feed.push(Class::Urgent, Kind::Refused, &number, &[]).ok();
                }
                Frame::Ask { id, time_left, body } => {
                    bytes += body.len();
                    let open_count = self.open_ask_count.clone();
                    let responder = Responder::new(id, time_left, self.feed.clone(), open_count);
                    messages.push(Incoming::Ask(body, responder));
                }
                Frame::Answer { id, body } => self.link.asks.end(id, Ok(body)),
                Frame::Refused(id) => self.link.asks.end(id, Err(AskError::Refused)),
                Frame::Abandoned(id) => {
                    self.link.asks.end(id, Err(AskError::Unknown(Unknown::Abandoned)));
                }
                Frame::Ping | Frame::End => {}
            }
        }
        if messages.is_empty() {
            return;
        }
        self.link.count_messages(messages.len());
        self.room.wait_for(bytes).await;
        let event = Event::Messages { peer: self.link.peer, messages };
        self.inner.inbox.deliver(event, &self.room, bytes);
    }
}

/// The next batch, unless none comes for too long.
async fn next_batch(clock: &Clock, batches: &mut Streaming<Bytes>) -> Result<Bytes, Cause> {
    let mut silence = pin!(clock.sleep(SILENCE_TIME_MAX));
    poll_fn(|context| {
        if let Poll::Ready(next) = Pin::new(&mut *batches).poll_next(context) {
            return Poll::Ready(match next {
                Some(Ok(batch)) => Ok(batch),
                Some(Err(status)) => Err(lost(&status)),
                None => Err(Cause::Lost("the peer ended it".into())),
            });
        }
        silence.as_mut().poll(context).map(|()| Err(Cause::Silent))
    })
    .await
}

fn lost(status: &Status) -> Cause {
    Cause::Lost(status.message().to_owned())
}
