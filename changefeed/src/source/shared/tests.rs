//! Feeds of every kind behind readers: each has every row once and in order, and the log is read as
//! often as there are places far apart, not as often as there are feeds.

use super::*;
use crate::source::batch::{MemoryLog, MemorySource};
use bytes::Bytes;
use cdc::time_uuid::log_time_uuid;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const TABLE: TableId = TableId(7);

/// A log that counts how it is read.
#[derive(Clone, Default)]
struct Counted {
    log: MemoryLog,
    opened: Rc<Cell<usize>>,
    batches: Rc<Cell<usize>>,
}

struct CountedSource(MemorySource, Rc<Cell<usize>>);

impl OpenLog for Counted {
    type Source = CountedSource;

    fn open_log(
        &self,
        _tables: &[TableId],
        above: TimestampMicros,
        _memory: Rc<Account>,
    ) -> Result<CountedSource, SourceError> {
        self.opened.set(self.opened.get() + 1);
        Ok(CountedSource(self.log.open(above, 3), self.batches.clone()))
    }
}

impl Source for CountedSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let taken = self.0.next().await;
        self.1.set(self.1.get() + 1);
        taken
    }
}

fn row(micros: i64) -> LogRow {
    let mut bytes = log_time_uuid(micros, 1).to_vec();
    bytes.extend_from_slice(&[0; 16 + 16 + 4]);
    // An update, the last of its group, without TTL and cells.
    bytes.extend_from_slice(&[1, 1, 0, 0]);
    LogRow::decode_all(&Bytes::from(bytes)).unwrap().remove(0)
}

/// What a feed has taken.
struct Feed {
    source: SharedSource<Counted>,
    began: i64,
    times: Vec<i64>,
}

impl Feed {
    fn at(logs: &Rc<SharedLogs<Counted>>, began: i64) -> Feed {
        Feed { source: logs.follow(&[TABLE], began), began, times: Vec::new() }
    }

    /// Takes a batch if there is one.
    fn take(&mut self) -> Option<Result<(), SourceError>> {
        let before = self.source.place();
        let mut context = Context::from_waker(Waker::noop());
        let taken = match pin!(self.source.next()).poll(&mut context) {
            Poll::Pending => return None,
            Poll::Ready(taken) => taken,
        };
        Some(taken.map(|batch| {
            assert!(before < batch.closed && batch.closed == self.source.place());
            let is_inside = |micros: i64| before < micros && micros <= batch.closed;
            assert!(batch.rows.iter().all(|row| is_inside(row.key.micros())));
            self.times.extend(batch.rows.iter().map(|row| row.key.micros()));
        }))
    }

    fn take_all(&mut self) {
        while self.take().is_some() {}
    }

    /// It has every row that it should have by its place, once and in order.
    fn check(&self, all: &[i64]) {
        let is_meant = |micros: &&i64| self.began < **micros && **micros <= self.source.place();
        assert!(self.times.iter().eq(all.iter().filter(is_meant)), "a feed from {}", self.began);
    }
}

/// Rows to a log, a millisecond apart and closed at once.
fn append(log: &MemoryLog, all: &mut Vec<i64>, count: usize) {
    for _ in 0..count {
        let micros = all.last().copied().unwrap_or(0) + 1_000;
        log.append(row(micros));
        log.close(micros);
        all.push(micros);
    }
}

#[test]
fn two_hundred_feeds_read_a_log_once() {
    let counted = Counted::default();
    let logs = SharedLogs::new(counted.clone(), FeedMemory::ample());
    let mut all = Vec::new();
    append(&counted.log, &mut all, 1);
    let mut feeds: Vec<Feed> = (0..200).map(|_| Feed::at(&logs, 0)).collect();
    for _ in 0..50 {
        append(&counted.log, &mut all, 3);
        feeds.iter_mut().for_each(Feed::take_all);
    }
    for feed in &feeds {
        feed.check(&all);
    }
    assert!(feeds.iter().all(|feed| feed.times.len() == all.len()));
    assert_eq!(counted.opened.get(), 1);
    assert!(counted.batches.get() <= 101, "{}", counted.batches.get());
    // One that begins a moment ago finds what it needs.
    let mut late = Feed::at(&logs, all[all.len() - 3]);
    late.take_all();
    assert_eq!((late.times.len(), counted.opened.get()), (2, 1));
}

#[test]
fn a_feed_that_is_stuck_holds_neither_others_nor_memory() {
    let counted = Counted::default();
    let logs = SharedLogs::new(counted.clone(), FeedMemory::ample());
    let mut all = Vec::new();
    append(&counted.log, &mut all, 1);
    let mut feeds: Vec<Feed> = (0..10).map(|_| Feed::at(&logs, 0)).collect();
    feeds.iter_mut().for_each(Feed::take_all);
    for _ in 0..500 {
        append(&counted.log, &mut all, 1);
        feeds[1..].iter_mut().for_each(Feed::take_all);
        let reader = feeds[1].source.reader.as_ref().expect("it has taken something");
        assert!(reader.kept.borrow().bytes <= KEPT_BYTES_MAX);
    }
    assert_eq!(counted.opened.get(), 1);
    assert!(feeds[1..].iter().all(|feed| feed.times.len() == all.len()));
    // It goes on where it was, and is with the others again once it has caught up.
    feeds[0].take_all();
    assert_eq!(counted.opened.get(), 2);
    append(&counted.log, &mut all, 1);
    feeds.iter_mut().for_each(Feed::take_all);
    for feed in &feeds {
        feed.check(&all);
    }
    let readers = logs.readers.borrow();
    let alive = readers.values().flatten().filter(|reader| reader.strong_count() > 0).count();
    assert_eq!(alive, 1);
}

#[test]
fn a_feed_that_gives_up_reading_leaves_it_to_the_others() {
    let counted = Counted::default();
    let logs = SharedLogs::new(counted.clone(), FeedMemory::ample());
    let (mut one, mut other) = (Feed::at(&logs, 0), Feed::at(&logs, 0));
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut reading = pin!(one.source.next());
        assert!(reading.as_mut().poll(&mut context).is_pending());
        assert!(other.take().is_none(), "the first one reads");
    }
    let mut all = Vec::new();
    append(&counted.log, &mut all, 1);
    other.take_all();
    assert_eq!(other.times, all);
    drop(other);
    one.take_all();
    assert_eq!((one.times, counted.opened.get()), (all, 1));
}

#[test]
fn all_feeds_of_a_log_that_ends_take_what_was_before() {
    let counted = Counted::default();
    let logs = SharedLogs::new(counted.clone(), FeedMemory::ample());
    let mut all = Vec::new();
    append(&counted.log, &mut all, 2);
    let (mut one, mut other) = (Feed::at(&logs, 0), Feed::at(&logs, 0));
    assert_eq!(one.take(), Some(Ok(())));
    counted.log.end(SourceError::TableGone(TABLE));
    for feed in [&mut one, &mut other] {
        let end = loop {
            match feed.take() {
                Some(Ok(())) => {}
                end => break end,
            }
        };
        assert_eq!(end, Some(Err(SourceError::TableGone(TABLE))));
        feed.check(&all);
        assert_eq!(feed.times, all);
    }
}

/// Of all feeds together, where it is short.
const SHORT_BYTES: usize = 2 << 10;

/// Feeds that begin anywhere, take at any pace, are away for any time, and end.
#[test]
fn every_feed_has_every_row_once_whatever_the_others_do() {
    for seed in 0..60 {
        let mut state: u64 = seed * 0x9E37_79B9 + 1;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 33) % bound
        };
        let counted = Counted::default();
        // In every other history there is too little of it for more than a batch or two.
        let short = || FeedMemory::new(SHORT_BYTES, 4, Arc::default());
        let memory = if seed % 2 == 0 { short() } else { FeedMemory::ample() };
        let logs = SharedLogs::new(counted.clone(), memory);
        let (mut all, mut feeds) = (Vec::new(), Vec::<Feed>::new());
        for _ in 0..300 {
            match below(8) {
                0 => append(&counted.log, &mut all, below(40) as usize),
                1 if feeds.len() < 6 => {
                    let newest = all.last().copied().unwrap_or(0);
                    feeds.push(Feed::at(&logs, newest - below(60) as i64 * 500));
                }
                2 if feeds.len() > 3 => {
                    let gone = feeds.swap_remove(below(feeds.len() as u64) as usize);
                    gone.check(&all);
                }
                3 if !all.is_empty() => {
                    // Time passes without rows.
                    let micros = all.last().unwrap() + below(20) as i64;
                    counted.log.close(micros);
                }
                _ if !feeds.is_empty() => {
                    // Some of them hardly ever.
                    let at = below(feeds.len() as u64).min(below(feeds.len() as u64)) as usize;
                    for _ in 0..below(12) {
                        feeds[at].take();
                    }
                }
                _ => {}
            }
        }
        for feed in &mut feeds {
            feed.take_all();
            feed.check(&all);
        }
        // Those that have caught up are behind one reader.
        append(&counted.log, &mut all, 1);
        feeds.iter_mut().for_each(Feed::take_all);
        let readers = logs.readers.borrow();
        let alive = readers.values().flatten().filter(|reader| reader.strong_count() > 0).count();
        assert!(alive <= 1, "seed {seed}: {alive} readers");
    }
}
