//! One reading of a log for all feeds on the same tables.
//!
//! A [`SharedSource`] is a feed's place in the log of a set of tables. Behind those of one set stand
//! *readers*: each reads the log once, and keeps what it has read for a while. A feed takes part in a
//! reader that has what it needs next; where there is none, it opens one at its own place. Two hundred
//! feeds that keep up are behind one reader, wherever each of them began.
//!
//! ```text
//!               begins                    closed
//!   log ─────────┼──────── kept ─────────────┼──── not read yet ──▶
//!                    ▲          ▲         ▲ ▲
//!                   feeds, each with a place of its own
//! ```
//!
//! - A reader reads on when a feed that has taken all of it asks for more, in that feed's own turn: so
//!   it is as fast as its fastest feed, and has no task of its own.
//! - It keeps what some feed has yet to take, up to [`KEPT_BYTES_MAX`]; and what all have taken for a
//!   little while (`HISTORY_MICROS`, `HISTORY_BYTES_MAX`), for feeds that begin.
//! - A feed that needs what is gone has been *overtaken*. When it asks again, it goes on with a reader
//!   at its place, and with the others once that has come to what they have: it holds nobody.
//!
//! - What a reader keeps is in an [`Account`] of the memory of all feeds, with what its source holds
//!   that has yet to be read. While that memory is short, slower feeds are overtaken earlier.
//!
//! What it does not know: where a log is read from, and whether all of it is still there.

use super::LogRow;
use super::batch::{Batch, Source, SourceError};
use crate::memory::{Account, FeedMemory};
use model::{TableId, TimestampMicros};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::rc::{Rc, Weak};
use tokio::sync::Notify;

/// Most bytes of rows that a reader keeps for feeds that are slower than others, but for one batch.
pub const KEPT_BYTES_MAX: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };
/// What all feeds of a reader have taken is kept for so long, in the log's time,
const HISTORY_MICROS: i64 = 5_000_000;
/// as long as it is no more than this.
const HISTORY_BYTES_MAX: usize = if cfg!(test) { 1 << 10 } else { 4 << 20 };
/// A feed changes over to a reader that is so much further than its own, in the log's time; of two that
/// are closer to each other the older one is to stay.
const FAR_MICROS: i64 = 1_000_000;

/// How the log of some tables is read.
pub trait OpenLog {
    /// Where rows come from.
    type Source: Source;

    /// The log of these tables above a time. What the source holds of it counts in `memory`, too.
    fn open_log(
        &self,
        tables: &[TableId],
        above: TimestampMicros,
        memory: Rc<Account>,
    ) -> Result<Self::Source, SourceError>;
}

/// The readers of all logs that feeds of one thread follow.
pub struct SharedLogs<O: OpenLog> {
    opener: O,
    memory: Rc<FeedMemory>,
    /// By tables, oldest first.
    readers: RefCell<ReadersOf<O>>,
    /// Numbers of readers and feeds, never used twice.
    last_number: Cell<u64>,
}

type ReadersOf<O> = BTreeMap<Box<[TableId]>, Vec<WeakReader<O>>>;
type WeakReader<O> = Weak<Reader<<O as OpenLog>::Source>>;
type RcReader<O> = Rc<Reader<<O as OpenLog>::Source>>;

impl<O: OpenLog> SharedLogs<O> {
    /// Without readers.
    pub fn new(opener: O, memory: Rc<FeedMemory>) -> Rc<SharedLogs<O>> {
        let (readers, last_number) = (RefCell::default(), Cell::new(0));
        Rc::new(SharedLogs { opener, memory, readers, last_number })
    }

    /// The log of these tables above a time, for one feed.
    pub fn follow(self: &Rc<Self>, tables: &[TableId], above: TimestampMicros) -> SharedSource<O> {
        let mut tables = tables.to_vec();
        tables.sort_unstable();
        tables.dedup();
        let (tables, number) = (tables.into(), self.next_number());
        SharedSource { logs: self.clone(), tables, number, place: above, reader: None }
    }

    fn next_number(&self) -> u64 {
        self.last_number.set(self.last_number.get() + 1);
        self.last_number.get()
    }

    /// The reader that suits a feed at a place best, if any has what it needs.
    fn best(
        &self,
        tables: &[TableId],
        place: TimestampMicros,
        own: Option<&RcReader<O>>,
    ) -> Option<RcReader<O>> {
        let mut readers = self.readers.borrow_mut();
        let of_tables = readers.get_mut(tables)?;
        of_tables.retain(|reader| reader.strong_count() > 0);
        let covers = |reader: &RcReader<O>| reader.kept.borrow().covers(place);
        let candidates = of_tables.iter().filter_map(Weak::upgrade).filter(covers);
        let own = own.filter(|own| covers(own)).cloned();
        candidates.fold(own, |best, other| match best {
            Some(best) if !other.is_better_than(&best) => Some(best),
            _ => Some(other),
        })
    }

    fn open(&self, tables: &[TableId], above: TimestampMicros) -> Result<RcReader<O>, SourceError> {
        let memory = Rc::new(self.memory.account());
        let source = self.opener.open_log(tables, above, memory.clone())?;
        let reader = Rc::new(Reader {
            number: self.next_number(),
            source: RefCell::new(Some(source)),
            kept: RefCell::new(Kept::above(above, memory)),
            progress: Notify::new(),
        });
        let mut readers = self.readers.borrow_mut();
        readers.retain(|_, readers| readers.iter().any(|reader| reader.strong_count() > 0));
        readers.entry(tables.into()).or_default().push(Rc::downgrade(&reader));
        Ok(reader)
    }
}

/// One feed's place in the log of some tables.
pub struct SharedSource<O: OpenLog> {
    logs: Rc<SharedLogs<O>>,
    tables: Box<[TableId]>,
    number: u64,
    /// Everything up to here was handed out.
    place: TimestampMicros,
    /// None before the first batch, and when it was overtaken.
    reader: Option<RcReader<O>>,
}

impl<O: OpenLog> SharedSource<O> {
    /// Everything up to this time was handed out.
    pub fn place(&self) -> TimestampMicros {
        self.place
    }

    /// The reader to take from, with this feed among those that it keeps rows for.
    fn join(&mut self) -> Result<RcReader<O>, SourceError> {
        let best = self.logs.best(&self.tables, self.place, self.reader.as_ref());
        let reader = match best {
            Some(reader) => reader,
            None => self.logs.open(&self.tables, self.place)?,
        };
        if self.reader.as_ref().is_none_or(|own| !Rc::ptr_eq(own, &reader)) {
            self.leave();
            self.reader = Some(reader.clone());
        }
        reader.kept.borrow_mut().places.insert(self.number, self.place);
        Ok(reader)
    }

    /// Why nothing follows on what this feed's reader has read, when it has taken all of that.
    fn end_of_reader(&self) -> Option<SourceError> {
        let kept = self.reader.as_ref()?.kept.borrow();
        kept.ended.clone().filter(|_| kept.begins <= self.place && kept.after(self.place).is_none())
    }

    fn leave(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.kept.borrow_mut().places.remove(&self.number);
        }
    }
}

impl<O: OpenLog> Drop for SharedSource<O> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<O: OpenLog> Source for SharedSource<O> {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            if let Some(error) = self.end_of_reader() {
                return Err(error);
            }
            let reader = self.join()?;
            let mut progress = pin!(reader.progress.notified());
            progress.as_mut().enable();
            let next = reader.kept.borrow().after(self.place);
            if let Some(batch) = next {
                self.place = batch.closed;
                reader.kept.borrow_mut().places.insert(self.number, self.place);
                return Ok(batch);
            }
            match Turn::begin(&reader) {
                Some(mut turn) => turn.read().await,
                None => progress.await,
            }
        }
    }

    fn held_by(&self) -> Option<String> {
        self.reader.as_ref()?.source.borrow().as_ref()?.held_by()
    }
}

/// One reading of a log.
struct Reader<S> {
    number: u64,
    /// Taken out by the feed that reads on.
    source: RefCell<Option<S>>,
    kept: RefCell<Kept>,
    /// Told when more was read, and when nobody reads.
    progress: Notify,
}

impl<S> Reader<S> {
    /// Whether a feed that both have the rows for should be behind this one rather than another.
    fn is_better_than(&self, other: &Reader<S>) -> bool {
        let ahead = self.kept.borrow().closed().saturating_sub(other.kept.borrow().closed());
        ahead > FAR_MICROS || (ahead >= -FAR_MICROS && self.number < other.number)
    }
}

/// One feed reads on for all that are behind a reader. When it ends, or gives up, another may.
struct Turn<'a, S> {
    reader: &'a Reader<S>,
    source: Option<S>,
}

impl<'a, S: Source> Turn<'a, S> {
    /// Nothing if another feed reads.
    fn begin(reader: &'a Reader<S>) -> Option<Turn<'a, S>> {
        let source = reader.source.borrow_mut().take()?;
        Some(Turn { reader, source: Some(source) })
    }

    async fn read(&mut self) {
        let Some(source) = &mut self.source else { return };
        let taken = source.next().await;
        let mut kept = self.reader.kept.borrow_mut();
        match taken {
            Ok(batch) => kept.push(batch),
            Err(error) => kept.ended = Some(error),
        }
    }
}

impl<S> Drop for Turn<'_, S> {
    fn drop(&mut self) {
        *self.reader.source.borrow_mut() = self.source.take();
        self.reader.progress.notify_waiters();
    }
}

/// What a reader has read and keeps.
///
/// Invariant: the batches are without gaps: each has all rows above the `closed` of the one before,
/// the first above `begins`.
#[derive(Debug)]
struct Kept {
    begins: TimestampMicros,
    batches: VecDeque<Batch>,
    bytes: usize,
    memory: Rc<Account>,
    /// How far each feed has taken it that was not overtaken.
    places: BTreeMap<u64, TimestampMicros>,
    ended: Option<SourceError>,
}

impl Kept {
    fn above(begins: TimestampMicros, memory: Rc<Account>) -> Kept {
        let (batches, places) = (VecDeque::new(), BTreeMap::new());
        Kept { begins, batches, bytes: 0, memory, places, ended: None }
    }

    /// Up to which time the log was read.
    fn closed(&self) -> TimestampMicros {
        self.batches.back().map_or(self.begins, |last| last.closed)
    }

    /// Whether a feed at this place finds here what it needs next, and need not wait until that is
    /// reached.
    fn covers(&self, place: TimestampMicros) -> bool {
        let is_over = self.ended.is_some() && place >= self.closed();
        self.begins <= place && place <= self.closed() && !is_over
    }

    /// What follows a place; nothing if it is not here.
    fn after(&self, place: TimestampMicros) -> Option<Batch> {
        let index = self.batches.partition_point(|batch| batch.closed <= place);
        let batch = self.batches.get(index).filter(|_| self.begins <= place)?;
        let is_taken = |row: &LogRow| row.key.micros() <= place;
        // Only of the batch in which a feed begins.
        if batch.rows.first().is_some_and(is_taken) {
            let rows = batch.rows.iter().skip_while(|row| is_taken(row)).cloned().collect();
            return Some(Batch { rows, closed: batch.closed });
        }
        Some(batch.clone())
    }

    fn push(&mut self, batch: Batch) {
        assert!(batch.closed > self.closed(), "a log is read in order");
        match self.batches.back_mut() {
            // Time that passes without rows takes no room.
            Some(last) if last.rows.is_empty() && batch.rows.is_empty() => {
                last.closed = batch.closed;
            }
            _ => {
                let bytes = bytes_of(&batch);
                self.bytes += bytes;
                self.memory.hold(bytes);
                self.batches.push_back(batch);
            }
        }
        self.give_up();
    }

    /// Gives up what is not needed, or too much.
    fn give_up(&mut self) {
        let needed_above = self.places.values().copied().min().unwrap_or(TimestampMicros::MAX);
        let closed = self.closed();
        while self.batches.len() > 1 {
            let first = &self.batches[0];
            let is_history = self.bytes <= HISTORY_BYTES_MAX
                && closed.saturating_sub(first.closed) <= HISTORY_MICROS;
            let is_kept = first.closed > needed_above || is_history;
            if is_kept && self.bytes <= KEPT_BYTES_MAX && self.memory.has_room() {
                break;
            }
            let bytes = bytes_of(first);
            self.bytes -= bytes;
            self.memory.release(bytes);
            self.begins = first.closed;
            self.batches.pop_front();
        }
        let begins = self.begins;
        self.places.retain(|_, place| *place >= begins);
    }
}

fn bytes_of(batch: &Batch) -> usize {
    batch.rows.iter().map(LogRow::len_bytes).sum()
}

#[cfg(test)]
mod tests;
