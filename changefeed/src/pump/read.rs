//! The reading half: batches of the source, group by group, into messages; and between them, while a
//! scan is under way, the tables' rows chunk by chunk.

use std::sync::Arc;

use model::TimestampMicros;

use super::buffer::{Advance, Buffer};
use super::{End, Render, Resolved};
use crate::memory::Account;
use crate::scan::{Chunk, InitialScan, Scan, ScanError, Scanning};
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
        self.state.held.is_none() && closed >= self.begins_at && !self.waits
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
        let Some(scan) = self.scan.as_mut().filter(|scan| self.closed >= scan.begins_at) else {
            return Ok(());
        };
        if scan.state.held.is_none() {
            self.buffer.room().await;
            let bytes_max = scan.memory.room_bytes();
            let read = scan.rows.read(scan.state.scanned.to.as_ref(), bytes_max).await;
            scan.waits = read.is_err();
            match read {
                Ok(chunk) => {
                    scan.memory.set(chunk.len_bytes());
                    scan.state.held = Some(chunk);
                }
                Err(ScanError::Failed(reason)) => return Err(End::Failed(reason)),
                Err(ScanError::Later(_)) => return Ok(()),
            }
        }
        if !scan.state.is_ripe(self.closed) {
            return Ok(());
        }
        let Some(chunk) = scan.state.release() else { return Ok(()) };
        let scanned = Arc::new(scan.state.scanned.clone());
        let (is_complete, is_all) = (scanned.is_complete, scan.is_all);
        self.tell_rows(chunk).await?;
        // Whoever goes on from here must not tell scanned rows of changes that are in them.
        let position = position_at(self.closed, self.render.resolved(self.closed));
        let (position, scanned) = (Some(position), Some(scanned));
        let skipped = self.render.take_skipped();
        self.push(Advance { position, skipped, scanned, ..Advance::default() });
        match &self.scan {
            Some(scan) if !is_complete => scan.memory.set(0),
            _ => self.scan = None,
        }
        if is_complete && is_all { Err(End::Finished) } else { Ok(()) }
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
