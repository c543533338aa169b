//! A snapshot of a feed's tables before, or beside, its stream of changes: `initial_scan`.
//!
//! The tables are scanned chunk by chunk while the stream goes on. Every row is in one of two parts,
//! divided by the place that the scan has reached:
//!
//! - *Scanned*: it was sent as it was at some place in the stream, and its changes behind that place
//!   are sent.
//! - *Not yet*: its changes are not sent, since the snapshot will have them. That a row is gone is sent
//!   all the same: an owner that died may have sent the row and not lived to say so.
//!
//! A chunk moves rows from the one to the other at one place in the stream: it is read, what the
//! stream tells of it from the start of the reading on is merged into it ([`Chunk`]), and once the
//! stream has passed everything that was read, its rows are sent as they are there. So no change is
//! missed and none is told of a row that is newer already; docs/decisions/0017 has the proof.
//!
//! What is kept of a scan is where it has come to ([`Scanned`]), together with the feed's position
//! in the log. Who takes a feed over reads the chunk again that was under way.

mod chunk;
mod place;

pub use chunk::{Chunk, PageError};
pub use place::{Place, PlaceWithin, Scanned};

use crate::event::{Change, Event, EventError, RowCells, RowKind};
use chunk::EventPlace;
use env::planted::{Bug, is_planted};
use model::TimestampMicros;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// A reading under way.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Chunk, ScanError>> + 'a>>;

/// The rows of a feed's tables.
pub trait Scan {
    /// Reads the next rows behind a place, or the first: some, of about so many bytes at most, or all
    /// to the end of a table. Every change that lies at or below what the feed's source had said to be
    /// closed when this was called is in them. May be dropped before it is done.
    fn read<'a>(&'a mut self, after: Option<&'a Place>, bytes_max: usize) -> Reading<'a>;
}

/// Why rows were not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// It may be better soon, and is to be tried again.
    Later(String),
    /// It stays so. The text is for the user.
    Failed(String),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Later(reason) | ScanError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ScanError {}

/// What a feed begins with.
pub struct InitialScan {
    /// The rows.
    pub rows: Box<dyn Scan>,
    /// How far it has come.
    pub scanned: Scanned,
    /// The log has what a scan needs above this time, in microseconds.
    pub begins_at: TimestampMicros,
    /// Changes are not sent, and the feed ends with the scan.
    pub is_all: bool,
}

impl fmt::Debug for InitialScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitialScan").field("scanned", &self.scanned).finish_non_exhaustive()
    }
}

/// Which changes are sent while a scan is under way, and the chunk that is.
#[derive(Debug)]
pub struct Scanning {
    pub(crate) scanned: Scanned,
    pub(crate) held: Option<Chunk>,
    sends_changes: bool,
}

impl Scanning {
    /// From where a scan has come to.
    pub fn new(scanned: Scanned, sends_changes: bool) -> Scanning {
        Scanning { scanned, held: None, sends_changes }
    }

    /// Takes notice of the next change in the stream, and says what is to be sent of it.
    pub(crate) fn admit<'g>(&mut self, event: Event<'g>) -> Result<Option<Event<'g>>, EventError> {
        let place = EventPlace::of(&event)?;
        let table = event.shape.table;
        let is_scanned = self
            .scanned
            .to
            .as_ref()
            .is_some_and(|to| to.covers(table, place.token, &place.key, &place.position));
        // The deletion of a range or a partition may be of both parts.
        let held = self.held.as_mut().filter(|held| held.table() == table);
        let held = held.filter(|_| !is_planted(Bug::ScansMissChanges));
        if let Some(held) = held.filter(|_| !is_scanned || event.kind == RowKind::Partition) {
            held.merge(&event, place)?;
        }
        if !self.sends_changes {
            return Ok(None);
        }
        if is_scanned || event.change == Change::Delete {
            return Ok(Some(event));
        }
        // Whoever takes it may not know the row, so it is told whole.
        Ok(event.after.filter(|after| has_no_value(&event, after)).map(|after| Event {
            change: Change::Read,
            before: None,
            delta: after,
            more_deltas: Vec::new(),
            ..event
        }))
    }

    /// Whether the chunk that is held is the table as of a time to which the log is closed and was
    /// taken notice of.
    pub(crate) fn is_ripe(&self, closed: TimestampMicros) -> bool {
        self.held.as_ref().is_some_and(|held| held.placed <= closed)
    }

    /// Takes the chunk that is held: from here on its rows are scanned.
    pub(crate) fn release(&mut self) -> Option<Chunk> {
        let chunk = self.held.take()?;
        self.scanned.rows += chunk.row_count() as u64;
        self.scanned.is_complete = chunk.is_last;
        self.scanned.to = Some(chunk.end.clone());
        Some(chunk)
    }
}

/// Whether the row may be gone: an upsert that leaves nothing alive has an image, too.
fn has_no_value(event: &Event, after: &RowCells) -> bool {
    (0..event.shape.columns.len()).all(|column| after.value(column).is_none())
}

#[cfg(test)]
mod tests;
