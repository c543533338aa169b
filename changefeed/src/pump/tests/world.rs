//! What stands around a pump in these tests: a log, a destination that fails by a seed, and a store
//! of positions that refuses former owners.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cdc::time_uuid::log_time_uuid;
use env::{Clock, Entropy, EntropySource};
use model::TimestampMicros;

use crate::memory::FeedMemory;
use crate::position::{LogKey, Position, Sequence};
use crate::pump::{Backoff, End, Host, MarkOf, Pace, Pump, Render, Status, Stop};
use crate::scan::Scanning;
use crate::sink::{Failure, Message, Sending, Sink, SinkError};
use crate::source::{LogRow, MemoryLog};

/// A change of one key, the last of its group.
pub(super) fn row(micros: TimestampMicros, key: u8) -> LogRow {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&log_time_uuid(micros, 1));
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&[key; 16]);
    bytes.extend_from_slice(&[0; 4]);
    // An update, the last of its group, without TTL and cells.
    bytes.extend_from_slice(&[1, 1, 0, 0]);
    LogRow::decode_all(&Bytes::from(bytes)).expect("a row").remove(0)
}

/// Changes of this key are filtered out.
pub(super) const FILTERED: u8 = 0;
/// A change of this key cannot be rendered.
pub(super) const POISON: u8 = 255;

/// One message a row; its value is the row's time.
pub(super) struct PlainRender {
    pub(super) begin: Option<Position>,
}

impl Render for PlainRender {
    fn render(
        &mut self,
        group: &[LogRow],
        _: Option<&mut Scanning>,
        out: &mut Vec<Message>,
    ) -> Result<Option<Position>, String> {
        let last = group.last().expect("a group has rows");
        if self.begin.is_some_and(|begin| last.key <= begin.key) {
            return Ok(None);
        }
        for row in group {
            match row.key.stream[0] {
                FILTERED => {}
                POISON => return Err("a value that is none".to_owned()),
                key => out.push(message(key, row.key.micros())),
            }
        }
        let sequence = last.key.micros() as Sequence;
        Ok(Some(Position { key: last.key, sequence }))
    }

    fn render_scanned(
        &mut self,
        _: &LogRow,
        _: TimestampMicros,
        _: &mut Vec<Message>,
    ) -> Result<(), String> {
        Err("these feeds scan nothing".to_owned())
    }

    fn resolved(&self, closed: TimestampMicros) -> Sequence {
        closed as Sequence
    }

    fn marker(&self) -> MarkOf {
        Box::new(|resolved| Bytes::from(resolved.sequence.to_string()))
    }
}

pub(super) fn message(key: u8, micros: TimestampMicros) -> Message {
    Message { key: Bytes::from(vec![key]), value: Some(Bytes::from(micros.to_string())) }
}

/// Where all owners of a feed send to.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// In the order of arrival: key and time.
    pub(super) received: Vec<(u8, TimestampMicros)>,
    /// Times that some owner was told are safe.
    pub(super) acknowledged: BTreeSet<TimestampMicros>,
    /// Marks, each with how much had arrived before.
    pub(super) marks: Vec<(usize, Sequence)>,
}

impl Destination {
    fn take(&mut self, messages: &[Message]) {
        self.received.extend(messages.iter().map(|message| (message.key[0], time_of(message))));
    }

    fn acknowledge(&mut self, messages: &[Message]) {
        self.acknowledged.extend(messages.iter().map(time_of));
    }
}

fn time_of(message: &Message) -> TimestampMicros {
    let value = message.value.as_deref().expect("no tombstones here");
    std::str::from_utf8(value).expect("digits").parse().expect("a time")
}

/// Fails one call in `one_in`, in every way there is, and takes its time.
pub(super) struct ShakySink {
    pub(super) destination: Rc<RefCell<Destination>>,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) one_in: u64,
}

impl ShakySink {
    async fn dawdle(&mut self) {
        let millis = self.entropy.below(30);
        self.clock.sleep(Duration::from_millis(millis)).await;
    }

    fn fails(&mut self) -> bool {
        self.entropy.below(self.one_in) == 0
    }
}

impl Sink for ShakySink {
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async move {
            self.dawdle().await;
            if self.fails() { Err(SinkError::transient("not open yet")) } else { Ok(()) }
        })
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            let fails = self.fails();
            let (mut received, mut acknowledged) = (batch.len(), batch.len());
            if fails {
                received = self.entropy.below(received as u64 + 1) as usize;
                acknowledged = self.entropy.below(received as u64 + 1) as usize;
            }
            // It arrives before the answer does: whoever waits may be gone by then.
            self.destination.borrow_mut().take(&batch[..received]);
            self.dawdle().await;
            self.destination.borrow_mut().acknowledge(&batch[..acknowledged]);
            if !fails {
                return Ok(());
            }
            let retry_after = (acknowledged % 2 == 1).then_some(Duration::from_millis(5));
            Err(SinkError { acknowledged, retry_after, ..SinkError::transient("shaky") })
        })
    }

    fn mark<'a>(&'a mut self, text: &'a Bytes) -> Sending<'a> {
        Box::pin(async move {
            self.dawdle().await;
            if self.fails() {
                return Err(SinkError::transient("no mark"));
            }
            let sequence = std::str::from_utf8(text).expect("digits").parse().expect("a number");
            let mut destination = self.destination.borrow_mut();
            let before = destination.received.len();
            destination.marks.push((before, sequence));
            Ok(())
        })
    }
}

/// Answers the same to every call.
pub(super) struct RefusingSink(pub(super) Option<SinkError>);

impl Sink for RefusingSink {
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(&'a mut self, _: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            match self.0.clone() {
                Some(error) => Err(error),
                None => std::future::pending().await,
            }
        })
    }

    fn mark<'a>(&'a mut self, _: &'a Bytes) -> Sending<'a> {
        Box::pin(async { Err(SinkError::permanent("no marks")) })
    }
}

/// Refuses every call that has one of these changes in it, of which it takes nothing from that
/// change on. It may know which it is, or that it is one of them.
pub(super) struct PickySink {
    pub(super) refused: BTreeSet<TimestampMicros>,
    pub(super) failure: Failure,
    pub(super) names_the_first: bool,
    pub(super) received: Rc<RefCell<Vec<TimestampMicros>>>,
    pub(super) calls: Rc<Cell<u64>>,
}

impl Sink for PickySink {
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            self.calls.set(self.calls.get() + 1);
            let times: Vec<TimestampMicros> = batch.iter().map(time_of).collect();
            let refused = times.iter().position(|time| self.refused.contains(time));
            let Some(first) = refused else {
                self.received.borrow_mut().extend(times);
                return Ok(());
            };
            let error = SinkError { failure: self.failure, ..SinkError::transient("not this one") };
            if !self.names_the_first {
                return Err(error.suspecting(batch.len()));
            }
            self.received.borrow_mut().extend(&times[..first]);
            Err(SinkError { acknowledged: first, ..error.suspecting(1) })
        })
    }

    fn mark<'a>(&'a mut self, _: &'a Bytes) -> Sending<'a> {
        Box::pin(async { Ok(()) })
    }
}

/// What the cluster knows of the feed.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) epoch: Cell<u64>,
    pub(super) position: Cell<Option<Position>>,
    pub(super) refused: Cell<usize>,
}

/// One owner's view of it.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) epoch: u64,
    pub(super) store: Rc<Store>,
    pub(super) destination: Rc<RefCell<Destination>>,
    pub(super) log: Rc<RefCell<Vec<LogKey>>>,
    pub(super) statuses: Rc<RefCell<Vec<Status>>>,
}

impl Owner {
    pub(super) fn last_status(&self) -> Status {
        self.statuses.borrow().last().cloned().unwrap_or_default()
    }
}

impl Host for Owner {
    fn may_send(&self) -> bool {
        self.store.epoch.get() == self.epoch
    }

    fn report(&self, status: &Status) {
        self.statuses.borrow_mut().push(status.clone());
        if self.store.epoch.get() != self.epoch {
            self.store.refused.set(self.store.refused.get() + 1);
            return;
        }
        let destination = self.destination.borrow();
        let is_safe = |key: &LogKey| {
            key.stream[0] == FILTERED || destination.acknowledged.contains(&key.micros())
        };
        for key in self.log.borrow().iter() {
            let behind_position = status.position.is_some_and(|position| *key <= position.key);
            let behind_time =
                status.resolved.is_some_and(|resolved| key.micros() <= resolved.closed);
            assert!(!(behind_position || behind_time) || is_safe(key), "{key:?} {status:?}");
        }
        if let Some(position) = status.position {
            assert!(self.store.position.get() <= Some(position), "positions rise");
            self.store.position.set(Some(position));
        }
    }
}

/// One feed and its owners.
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
    pub(super) seed: u64,
    pub(super) log: MemoryLog,
    pub(super) keys: Rc<RefCell<Vec<LogKey>>>,
    pub(super) store: Rc<Store>,
    pub(super) destination: Rc<RefCell<Destination>>,
    pub(super) next_micros: TimestampMicros,
    /// Rows in a batch of the source, at most.
    pub(super) rows_max: u64,
    pub(super) memory: Rc<FeedMemory>,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let (clock, _) = Clock::simulated_on_tokio(0);
        World {
            clock,
            entropy: EntropySource::simulated(seed).generator("world"),
            seed,
            log: MemoryLog::default(),
            keys: Rc::default(),
            store: Rc::default(),
            destination: Rc::default(),
            next_micros: 1_000,
            rows_max: 20,
            memory: FeedMemory::ample(),
        }
    }

    /// Adds a change, now or a little later than the last.
    pub(super) fn append(&mut self, key: u8) -> TimestampMicros {
        self.next_micros += 1 + self.entropy.below(50) as i64;
        let row = row(self.next_micros, key);
        self.keys.borrow_mut().push(row.key);
        self.log.append(row);
        self.next_micros
    }

    pub(super) fn close(&self) {
        self.log.close(self.next_micros);
    }

    /// The next owner, as the cluster appoints one: with a new epoch, from the stored position.
    pub(super) fn appoint(&mut self, sink: Box<dyn Sink>, pace: Pace) -> (Running, Stop, Owner) {
        let epoch = self.store.epoch.get() + 1;
        self.store.epoch.set(epoch);
        let position = self.store.position.get();
        let owner = Owner {
            epoch,
            store: Rc::clone(&self.store),
            destination: Rc::clone(&self.destination),
            log: Rc::clone(&self.keys),
            statuses: Rc::default(),
        };
        let stop = Stop::default();
        let above = position.map_or(0, |position| position.key.micros() - 1);
        let label = format!("backoff {epoch}");
        let pump = Pump {
            source: self.log.open(above, 1 + self.entropy.below(self.rows_max) as usize),
            scan: None,
            render: PlainRender { begin: position },
            sink,
            host: owner.clone(),
            pace,
            stop: stop.clone(),
            clock: self.clock.clone(),
            backoff: Backoff::new(EntropySource::simulated(self.seed).generator(&label)),
            memory: self.memory.clone(),
        };
        (Running::new(pump.run()), stop, owner)
    }

    pub(super) fn shaky_sink(&mut self, one_in: u64) -> Box<dyn Sink> {
        let label = format!("sink {}", self.entropy.u64());
        Box::new(ShakySink {
            destination: Rc::clone(&self.destination),
            clock: self.clock.clone(),
            entropy: EntropySource::simulated(self.seed).generator(&label),
            one_in,
        })
    }
}

/// A pump that runs by itself, and can be frozen as a process can.
pub(super) struct Running {
    frozen: Rc<Cell<bool>>,
    wake: Rc<tokio::sync::Notify>,
    pub(super) task: tokio::task::JoinHandle<End>,
}

impl Running {
    fn new(pump: impl Future<Output = End> + 'static) -> Running {
        let (frozen, wake) = (Rc::new(Cell::new(false)), Rc::new(tokio::sync::Notify::new()));
        let freezable = Freezable { frozen: Rc::clone(&frozen), pump: Box::pin(pump) };
        let woken = Rc::clone(&wake);
        let task = tokio::task::spawn_local(async move {
            let mut freezable = freezable;
            loop {
                tokio::select! {
                    biased;
                    end = &mut freezable => return end,
                    () = woken.notified() => {}
                }
            }
        });
        Running { frozen, wake, task }
    }

    pub(super) fn freeze(&self) {
        self.frozen.set(true);
    }

    pub(super) fn thaw(&self) {
        self.frozen.set(false);
        self.wake.notify_one();
    }
}

struct Freezable {
    frozen: Rc<Cell<bool>>,
    pump: Pin<Box<dyn Future<Output = End>>>,
}

impl Future for Freezable {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        if self.frozen.get() { Poll::Pending } else { self.pump.as_mut().poll(context) }
    }
}
