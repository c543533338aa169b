//! What a feed reads from: the log of a set of tables as one sequence, cut at the closed time.
//!
//! A [`Source`] hands out [`Batch`]es. Whoever takes them one after the other has every row of the
//! tables' logs with a time above where the source was opened, once, in the order of [`LogKey`], and
//! knows with each batch up to which time that is all there will ever be. To go on from a saved
//! [`Position`](crate::Position), open a source at the microsecond before its key's and pass over the
//! rows up to the key.
//!
//! [`MemoryLog`] is a log in memory with any number of sources, for tests.

use super::LogRow;
use crate::position::LogKey;
use model::{TableId, TimestampMicros};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// Rows of a log, complete up to a time.
///
/// Invariants: rows ascend, each above the `closed` of the batch before and at or below its own; so
/// rows of one microsecond, and with them those of one group, are never in two batches. `closed` is
/// above that of the batch before. Rows may be none: then time has passed without changes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Shared by all feeds that read the same tables.
    pub rows: Arc<[LogRow]>,
    /// In microseconds: no row at or below it is missing, and none will ever appear there.
    pub closed: TimestampMicros,
}

/// Why a source has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// A table was dropped, or logs nothing any more; what was logged before has been handed out, as
    /// far as it could be.
    TableGone(TableId),
    /// What is said cannot be read, now or later. The text is for the user.
    Failed(String),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::TableGone(_) => f.write_str("the table was dropped, or has no CDC log"),
            SourceError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for SourceError {}

/// The log of a set of tables, from a place on.
pub trait Source {
    /// Waits for the next batch. What passes, such as a range without a leader, is waited for: it
    /// holds the whole log, and nothing is lost. A batch is as long as the source likes, at least one
    /// microsecond's rows. May be dropped before it is done, and called again: nothing is lost by it.
    fn next(&mut self) -> impl Future<Output = Result<Batch, SourceError>>;

    /// What holds the log back at present, for the user; nothing when it flows.
    fn held_by(&self) -> Option<String> {
        None
    }
}

/// A log in memory. Clones are the same log.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    rows: BTreeMap<LogKey, LogRow>,
    closed: TimestampMicros,
    ended: Option<SourceError>,
    waiting: Vec<Waker>,
}

impl Default for State {
    fn default() -> Self {
        let rows = BTreeMap::new();
        State { rows, closed: TimestampMicros::MIN, ended: None, waiting: Vec::new() }
    }
}

impl State {
    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl MemoryLog {
    /// Adds a row, which lies above what is closed.
    pub fn append(&self, row: LogRow) {
        let mut state = self.0.borrow_mut();
        assert!(row.key.micros() > state.closed, "nothing is placed where the log is closed");
        let former = state.rows.insert(row.key, row);
        assert!(former.is_none(), "each row has a place of its own");
    }

    /// Closes the log up to a time: sources hand out what lies there.
    pub fn close(&self, closed: TimestampMicros) {
        let mut state = self.0.borrow_mut();
        state.closed = state.closed.max(closed);
        state.wake();
    }

    /// Ends all sources, once they have handed out what is closed.
    pub fn end(&self, error: SourceError) {
        let mut state = self.0.borrow_mut();
        state.ended = Some(error);
        state.wake();
    }

    /// The log above a time, at most `rows_max` in a batch where a microsecond has no more.
    pub fn open(&self, above: TimestampMicros, rows_max: usize) -> MemorySource {
        MemorySource { log: self.clone(), closed: above, rows_max }
    }
}

/// A source over a [`MemoryLog`].
#[derive(Debug)]
pub struct MemorySource {
    log: MemoryLog,
    /// Everything at or below it was handed out.
    closed: TimestampMicros,
    rows_max: usize,
}

impl MemorySource {
    fn take(&mut self, state: &State) -> Option<Result<Batch, SourceError>> {
        if state.closed <= self.closed {
            return state.ended.clone().map(Err);
        }
        let mut closed = state.closed;
        let mut rows: Vec<LogRow> = Vec::new();
        let is_new = |row: &&LogRow| row.key.micros() > self.closed;
        for row in state.rows.values().filter(is_new) {
            let last = rows.last().map(|last| last.key.micros());
            if row.key.micros() > closed {
                break;
            }
            if rows.len() >= self.rows_max && last != Some(row.key.micros()) {
                closed = last.unwrap_or(closed);
                break;
            }
            rows.push(row.clone());
        }
        self.closed = closed;
        Some(Ok(Batch { rows: rows.into(), closed }))
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let log = self.log.clone();
        poll_fn(|context| {
            let mut state = log.0.borrow_mut();
            if let Some(taken) = self.take(&state) {
                return Poll::Ready(taken);
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cdc::time_uuid::log_time_uuid;
    use std::pin::pin;
    use std::task::Context;

    fn row(micros: i64, counter: u64) -> LogRow {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&log_time_uuid(micros, counter));
        bytes.extend_from_slice(&[0; 16 + 16 + 4]);
        // An update, the last of its group, without TTL and cells.
        bytes.extend_from_slice(&[1, 1, 0, 0]);
        LogRow::decode_all(&Bytes::from(bytes)).unwrap().remove(0)
    }

    fn poll(source: &mut MemorySource) -> Option<Result<(Vec<i64>, i64), SourceError>> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(source.next()).poll(&mut context) {
            Poll::Pending => None,
            Poll::Ready(taken) => Some(taken.map(|batch| {
                (batch.rows.iter().map(|row| row.key.micros()).collect(), batch.closed)
            })),
        }
    }

    #[test]
    fn rows_come_once_they_are_closed_and_microseconds_stay_whole() {
        let log = MemoryLog::default();
        let (mut all, mut late) = (log.open(0, 2), log.open(10, usize::MAX));
        for (micros, counter) in [(20, 2), (10, 1), (10, 2), (10, 3), (30, 1)] {
            log.append(row(micros, counter));
        }
        assert_eq!(poll(&mut all), None);
        log.close(25);
        assert_eq!(poll(&mut all), Some(Ok((vec![10, 10, 10], 10))));
        assert_eq!(poll(&mut all), Some(Ok((vec![20], 25))));
        assert_eq!(poll(&mut late), Some(Ok((vec![20], 25))));
        assert_eq!(poll(&mut all), None);
        log.close(40);
        log.end(SourceError::TableGone(TableId(7)));
        assert_eq!(poll(&mut late), Some(Ok((vec![30], 40))));
        assert_eq!(poll(&mut late), Some(Err(SourceError::TableGone(TableId(7)))));
    }
}
