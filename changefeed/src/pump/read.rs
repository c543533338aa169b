//! The reading half: batches of the source, group by group, into messages.

use super::buffer::{Advance, Buffer};
use super::{End, Render, Resolved};
use crate::source::{LogRow, Source};

/// After so many rows other feeds of the thread get their turn.
const ROWS_PER_TURN: usize = 256;

/// Reads until the source ends or a group cannot be rendered, and says so in the buffer.
pub(super) async fn read<S: Source, R: Render>(mut source: S, render: &mut R, buffer: &Buffer) {
    let mut messages = Vec::new();
    let mut rows_of_turn = 0;
    let end = 'reading: loop {
        let batch = match source.next().await {
            Ok(batch) => batch,
            Err(error) => break End::SourceEnded(error),
        };
        for group in groups(&batch.rows) {
            buffer.room().await;
            match render.render(group, &mut messages) {
                Ok(position) => {
                    let skipped = render.take_skipped();
                    buffer.push(messages.drain(..), Advance { position, resolved: None, skipped });
                }
                // What was rendered of the group before it failed is not sent.
                Err(reason) => break 'reading End::Failed(reason),
            }
            rows_of_turn += group.len();
            if rows_of_turn >= ROWS_PER_TURN {
                rows_of_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        let closed = batch.closed;
        let resolved = Some(Resolved { closed, sequence: render.resolved(closed) });
        buffer.push(std::iter::empty(), Advance { resolved, ..Advance::default() });
    };
    buffer.finish(end);
}

/// The runs of rows that tell of one change of one partition.
fn groups(rows: &[LogRow]) -> impl Iterator<Item = &[LogRow]> {
    rows.chunk_by(|one, next| one.key.is_same_group(&next.key))
}
