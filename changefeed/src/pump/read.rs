//! The reading half: batches of the source, group by group, into messages; and between them, while a
//! scan is under way, the tables' rows chunk by chunk.
//!
//! The next chunk is read while messages are made of the one before, if there is memory for both:
//!
//! ```text
//!   log    ──batch──batch─┐              ┌─batch──batch─┐              ┌─batch──
//!   chunk 1               └─its messages─┘              :              :
//!   chunk 2               ┌─is read──────┬─is merged────┬─its messages─┘
//!   chunk 3                                             └─is read──────┬─is merged──
//! ```
//!
//! Meanwhile no batch of the log is taken. So the reading begins when everything was taken notice of
//! up to the closed time at which the chunk before was told, and all changes above it are merged.

use std::sync::Arc;

use model::TimestampMicros;

use super::buffer::{Advance, Buffer};
use super::{End, Render, Resolved};
use crate::memory::Account;
use crate::scan::{Chunk, InitialScan, Place, Scan, ScanError, Scanning};
use crate::sequence::position_at;
use crate::sink::Message;
use crate::source::{Batch, LogRow, Source};

/// After so many rows other feeds of the thread get their turn.
const ROWS_PER_TURN: usize = 256;

/// Reads until something ends it, and says so in the buffer.
pub(super) async fn read<S: Source, R: Render>(
    source: S,
    scan: Option<InitialScan>,
    render: &mut R,
    buffer: &Buffer,
    chunk_memory: Account,
) {
    if let Some(InitialScan { scanned, is_all: true, .. }) =
        scan.as_ref().filter(|scan| scan.scanned.is_complete)
    {
        // Whoever sent the last of it did not live to say so.
        let scanned = Some(Arc::new(scanned.clone()));
        buffer.push(std::iter::empty(), Advance { scanned, ..Advance::default() });
        return buffer.finish(End::Finished);
    }
    let scan = scan.filter(|scan| !scan.scanned.is_complete).map(|scan| Scanner {
        rows: scan.rows,
        state: Scanning::new(scan.scanned, !scan.is_all),
        begins_at: scan.begins_at,
        is_all: scan.is_all,
        waits: false,
        memory: chunk_memory,
    });
    let closed = TimestampMicros::MIN;
    let (messages, rows_of_turn) = (Vec::new(), 0);
    let mut reader = Reader { source, render, buffer, scan, closed, messages, rows_of_turn };
    let Err(end) = reader.run().await;
    buffer.finish(end);
}

struct Reader<'p, S, R> {
    source: S,
    render: &'p mut R,
    buffer: &'p Buffer,
    /// While one is under way.
    scan: Option<Scanner>,
    /// Everything at or below it was read.
    closed: TimestampMicros,
    /// Empty between pushes.
    messages: Vec<Message>,
    rows_of_turn: usize,
}

/// A scan under way.
struct Scanner {
    rows: Box<dyn Scan>,
    state: Scanning,
    begins_at: TimestampMicros,
    is_all: bool,
    /// The last reading failed, so the next waits for a batch of the log.
    waits: bool,
    /// Of the chunk that is held.
    memory: Account,
}

impl Scanner {
    /// Whether there is something to do without the log.
    fn can_go_on(&self, closed: TimestampMicros) -> bool {
        let holds = self.state.held.is_some();
        closed >= self.begins_at && if holds { self.state.is_ripe(closed) } else { !self.waits }
    }

    /// Reads the chunk behind what is scanned, and holds memory for it.
    async fn read(
        rows: &mut dyn Scan,
        after: Option<&Place>,
        memory: &Account,
    ) -> Result<Chunk, ScanError> {
        let chunk = rows.read(after, memory.room_bytes()).await?;
        memory.hold(chunk.len_bytes());
        Ok(chunk)
    }

    /// Takes what came of a reading: it is held from now on, or waited for.
    fn take(&mut self, read: Result<Chunk, ScanError>) -> Result<(), End> {
        self.waits = read.is_err();
        match read {
            Ok(chunk) => self.state.held = Some(chunk),
            Err(ScanError::Failed(reason)) => return Err(End::Failed(reason)),
            Err(ScanError::Later(_)) => {}
        }
        Ok(())
    }
}

impl<S: Source, R: Render> Reader<'_, S, R> {
    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            let batch = self.next_batch().await?;
            if let Some(batch) = &batch {
                self.tell(&batch.rows).await?;
                self.closed = batch.closed;
            }
            self.scan_on().await?;
            if batch.is_some() {
                let closed = self.closed;
                let resolved = Some(Resolved { closed, sequence: self.render.resolved(closed) });
                self.push(Advance { resolved, ..Advance::default() });
            }
        }
    }

    /// The next batch of the log; while a scan can go on without it, only if it is there.
    async fn next_batch(&mut self) -> Result<Option<Batch>, End> {
        let closed = self.closed;
        let scans_on = self.scan.as_ref().is_some_and(|scan| scan.can_go_on(closed));
        let batch = tokio::select! {
            biased;
            batch = self.source.next() => batch,
            () = std::future::ready(()), if scans_on => return Ok(None),
        };
        batch.map(Some).map_err(End::SourceEnded)
    }

    /// Makes messages of the changes of a batch.
    async fn tell(&mut self, rows: &[LogRow]) -> Result<(), End> {
        for group in groups(rows) {
            self.buffer.room().await;
            let scan = self.scan.as_mut().map(|scan| &mut scan.state);
            // What was rendered of the group before it failed is not sent.
            let position =
                self.render.render(group, scan, &mut self.messages).map_err(End::Failed)?;
            let skipped = self.render.take_skipped();
            self.push(Advance { position, skipped, ..Advance::default() });
            self.give_turn(group.len()).await;
        }
        Ok(())
    }

    /// Reads the next chunk if none is held, and sends the one that is held if it is ripe.
    async fn scan_on(&mut self) -> Result<(), End> {
        let Some(mut scan) = self.scan.take_if(|scan| self.closed >= scan.begins_at) else {
            return Ok(());
        };
        if scan.state.held.is_none() {
            self.buffer.room().await;
            let after = scan.state.scanned.to.as_ref();
            let read = Scanner::read(&mut *scan.rows, after, &scan.memory).await;
            scan.take(read)?;
        }
        let ripe = Some(&mut scan.state).filter(|state| state.is_ripe(self.closed));
        let Some(chunk) = ripe.and_then(Scanning::release) else {
            self.scan = Some(scan);
            return Ok(());
        };
        let scanned = Arc::new(scan.state.scanned.clone());
        let next = self.tell_rows_and_read(chunk, &mut scan).await?;
        // Whoever goes on from here must not tell scanned rows of changes that are in them.
        let position = position_at(self.closed, self.render.resolved(self.closed));
        let (position, is_complete) = (Some(position), scanned.is_complete);
        let (scanned, skipped) = (Some(scanned), self.render.take_skipped());
        self.push(Advance { position, skipped, scanned, ..Advance::default() });
        scan.memory.set(next.iter().flatten().map(Chunk::len_bytes).sum());
        match next {
            Some(read) => scan.take(read)?,
            None if is_complete && scan.is_all => return Err(End::Finished),
            None => {}
        }
        self.scan = Some(scan).filter(|_| !is_complete);
        Ok(())
    }

    /// Makes messages of a chunk, and reads the next one meanwhile, if there is one and memory for
    /// it.
    async fn tell_rows_and_read(
        &mut self,
        chunk: Chunk,
        scan: &mut Scanner,
    ) -> Result<Option<Result<Chunk, ScanError>>, End> {
        if chunk.is_last || !scan.memory.has_room() {
            return self.tell_rows(chunk).await.map(|()| None);
        }
        let Scanner { rows, state, memory, .. } = scan;
        let reading = Scanner::read(&mut **rows, state.scanned.to.as_ref(), memory);
        // A reading that fails does not end the telling.
        let (next, ()) = tokio::try_join!(async { Ok(reading.await) }, self.tell_rows(chunk))?;
        Ok(Some(next))
    }

    /// Makes messages of rows as they are at the closed time. They go on as they are made, or as one
    /// with what follows from them.
    async fn tell_rows(&mut self, chunk: Chunk) -> Result<(), End> {
        for row in chunk.into_rows() {
            self.buffer.room().await;
            let rendered = self.render.render_scanned(&row, self.closed, &mut self.messages);
            rendered.map_err(End::Failed)?;
            if !self.buffer.takes_whole_groups() {
                let skipped = self.render.take_skipped();
                self.push(Advance { skipped, ..Advance::default() });
            }
            self.give_turn(1).await;
        }
        Ok(())
    }

    /// Hands on the messages that were made, and how far the feed has come with them.
    fn push(&mut self, advance: Advance) {
        self.buffer.push(self.messages.drain(..), advance);
    }

    async fn give_turn(&mut self, rows: usize) {
        self.rows_of_turn += rows;
        if self.rows_of_turn >= ROWS_PER_TURN {
            self.rows_of_turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// The runs of rows that tell of one change of one partition.
fn groups(rows: &[LogRow]) -> impl Iterator<Item = &[LogRow]> {
    rows.chunk_by(|one, next| one.key.is_same_group(&next.key))
}
