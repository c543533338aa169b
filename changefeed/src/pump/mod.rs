//! The pump of one feed: log rows in at one end, acknowledged messages out at the other, and the
//! position behind them.
//!
//! ```text
//!  Source ──▶ Read ── Render ──▶ Buffer ──▶ Deliver ──▶ Sink
//!  batches,   groups of rows     messages   batches, retries, marks
//!  chunks
//!                                              └──▶ Host: position, figures
//! ```
//!
//! Two loops run side by side in one future, joined by a bounded buffer: while a batch is under way
//! the next rows are read and rendered, and while nothing can be sent reading waits. So a feed whose
//! sink is stuck holds one buffer of messages and nothing else; what all of them hold together is in
//! the hands of [`FeedMemory`].
//!
//! # What it promises
//!
//! - Every change is delivered at least once, and first deliveries of a key are in the log's order.
//! - A position is reported after everything up to it was acknowledged (or was not to be sent).
//! - Nothing is sent after [`Host::may_send`] has said no. A call to the sink that was under way is
//!   left to end; its outcome is reported, for the host to refuse.
//! - Into a sink that keeps the position itself ([`crate::sink::TransactionalSink`]) every change is
//!   delivered once, if it begins where [`recover`] says.
//! - After [`Stop::request`] it ends as soon as the call under way is settled.
//! - Every wait can be stopped but that call, whose time limit is the sink's.
//!
//! It knows neither where rows come from nor what a message says, and no clock but its own
//! node's. What to do about an error that stays is decided by whoever runs it: the pump ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Clock;
use model::TimestampMicros;
use tokio::sync::Notify;

use crate::memory::FeedMemory;
use crate::position::{Position, Sequence};
use crate::scan::{InitialScan, Scanned, Scanning};
use crate::sink::{Message, Sink};
use crate::source::{LogRow, Source, SourceError};

mod backoff;
mod buffer;
mod deliver;
mod read;
mod recover;
#[cfg(test)]
mod tests;

pub use backoff::{Backoff, PAUSE_MAX, PAUSE_MIN};
pub use buffer::{BUFFERED_BYTES_MAX, BUFFERED_MESSAGES_MAX};

pub use recover::recover;

use buffer::Buffer;

/// Makes messages of log rows: which are sent at all, what they say, and how they are numbered.
pub trait Render {
    /// Adds the messages of one group of rows. Groups come whole and in the log's order, beginning
    /// where the source begins: rows that were delivered before are passed over here.
    ///
    /// A scan that is under way takes notice of the changes, and says which are sent.
    ///
    /// Returns the place behind the group: `None` if it lies at or below where the feed begins.
    /// An error is of the group's content, so that it would be the same again.
    fn render(
        &mut self,
        group: &[LogRow],
        scan: Option<&mut Scanning>,
        out: &mut Vec<Message>,
    ) -> Result<Option<Position>, String>;

    /// Adds the message of a row that was scanned, as it is at a time up to which all rows of the log
    /// were rendered.
    fn render_scanned(
        &mut self,
        row: &LogRow,
        closed: TimestampMicros,
        out: &mut Vec<Message>,
    ) -> Result<(), String>;

    /// The events that the feed's policies left out of the groups that were rendered since this was
    /// last asked.
    fn take_skipped(&mut self) -> Skipped {
        Skipped::default()
    }

    /// A number that no change after this time has, or any after it; asked when all rows up to the
    /// time were rendered.
    fn resolved(&self, closed: TimestampMicros) -> Sequence;

    /// What marks say.
    fn marker(&self) -> MarkOf;
}

/// Writes a mark: nothing at or below it will follow.
pub type MarkOf = Box<dyn Fn(Resolved) -> Bytes>;

/// A place in the log that everything was delivered up to, whether there were rows or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// In microseconds.
    pub closed: TimestampMicros,
    /// The number of the last change that may lie at or below it.
    pub sequence: Sequence,
}

/// The node as a pump sees it.
pub trait Host {
    /// Whether this node still owns the feed. Asked before everything that is sent.
    fn may_send(&self) -> bool;

    /// Takes notice of how the feed stands: after each acknowledgement and each failure, so often,
    /// and to be cheap.
    fn report(&self, status: &Status);
}

/// How a feed stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The last row up to which everything was delivered; none before the first.
    pub position: Option<Position>,
    /// Everything up to here was delivered.
    pub resolved: Option<Resolved>,
    /// How far the scan has come that the feed began with, if it did.
    pub scanned: Option<Arc<Scanned>>,
    /// Events that were acknowledged since the pump began, repeats included.
    pub events_delivered: u64,
    /// Calls that were repeated since then.
    pub retries: u64,
    /// What was left out since then.
    pub skipped: Skipped,
    /// The last failure; none once something was acknowledged after it.
    pub last_error: Option<String>,
}

/// Events that were left out, as the feed's policies want it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub event_count: u64,
    /// Which was the last, and why; for the user, without secrets.
    pub last: Option<Arc<str>>,
}

impl Skipped {
    /// One event more.
    pub fn add(&mut self, what: impl Into<Arc<str>>) {
        self.event_count += 1;
        self.last = Some(what.into());
    }

    /// These, and then those.
    pub fn then(self, next: Skipped) -> Skipped {
        let event_count = self.event_count + next.event_count;
        Skipped { event_count, last: next.last.or(self.last) }
    }
}

/// How a pump ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As it was asked to.
    Stopped,
    /// The node may not send for the feed any more.
    Lost,
    /// Something that stays: the feed is in error. The text is for the user, without secrets.
    Failed(String),
    /// It was to scan its tables and nothing else, and every row was delivered.
    Finished,
    /// The log has ended, and everything before its end was delivered.
    SourceEnded(SourceError),
}

/// What a feed's options say of pace and policies.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Events that make a batch.
    pub batch_size: usize,
    /// How long an incomplete batch is waited for.
    pub flush_interval: Duration,
    /// How often marks are sent; none: never.
    pub mark_interval: Option<Duration>,
    /// How often a call is repeated before the feed is in error; none: without end.
    pub retry_max: Option<u32>,
    /// Whether a message that only the sink finds too large is left out; else it is an error.
    pub skips_too_large: bool,
    /// Whether a message is left out that is refused for what it says; else that is an error.
    pub skips_refused: bool,
}

/// Ends a pump from outside. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Rc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    is_requested: Cell<bool>,
    requested: Notify,
}

impl Stop {
    /// Asks the pump to end.
    pub fn request(&self) {
        self.0.is_requested.set(true);
        self.0.requested.notify_waiters();
    }

    /// Whether it was asked to.
    pub fn is_requested(&self) -> bool {
        self.0.is_requested.get()
    }

    /// Returns when it is asked to.
    pub async fn requested(&self) {
        let notified = self.0.requested.notified();
        if !self.is_requested() {
            notified.await;
        }
    }
}

/// A feed's pump, to be run once.
pub struct Pump<S, R, H> {
    /// Where rows come from.
    pub source: S,
    /// What a new feed begins with.
    pub scan: Option<InitialScan>,
    /// What is made of them.
    pub render: R,
    /// Where messages go.
    pub sink: Box<dyn Sink>,
    /// The node.
    pub host: H,
    /// The feed's options.
    pub pace: Pace,
    /// Ends it.
    pub stop: Stop,
    /// The node's clock.
    pub clock: Clock,
    /// The waits between retries.
    pub backoff: Backoff,
    /// What all feeds of the thread hold together.
    pub memory: Rc<FeedMemory>,
}

impl<S: Source, R: Render, H: Host> Pump<S, R, H> {
    /// Pumps until something ends it.
    pub async fn run(self) -> End {
        let Pump { source, scan, mut render, mut sink, host, pace, stop, clock, backoff, memory } =
            self;
        let buffer = match sink.transactional() {
            Some(_) => Buffer::of_whole_groups(clock.clone(), memory.account()),
            None => Buffer::new(clock.clone(), memory.account()),
        };
        let mark_of = render.marker();
        let scanned = scan.as_ref().map(|scan| Arc::new(scan.scanned.clone()));
        let mut deliver =
            deliver::Deliver::new(sink, host, pace, stop.clone(), clock, backoff, mark_of)
                .after(scanned);
        let reading = read::read(source, scan, &mut render, &buffer, memory.account());
        let delivering = deliver.run(&buffer);
        tokio::pin!(reading, delivering);
        tokio::select! {
            biased;
            end = &mut delivering => end,
            // Reading ends the buffer when it ends, and delivering what is left ends the pump.
            () = &mut reading => delivering.await,
        }
    }
}
