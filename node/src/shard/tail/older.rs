//! What is older than the tail, read from the log tables by their streams.
//!
//! An answer is cut by time and not by stream, so that a follower can put it between the answers of
//! other shards. How many rows a span of time has is not known before they are read: a span that turns
//! out to have too many is halved and read again, and the follower asks for the next span by what came
//! of the last.

use super::super::Shard;
use super::super::read::{Barrier, ReadError};
use super::put_mutation;
use super::serve::{ANSWER_BYTES_MAX, RangeSet, TailAnswer, TailAsk};
use crate::feeds::retention;
use crate::view::View;
use cdc::stream::StreamId;
use cluster::{GroupId, RangeIndex};
use model::clustering::encode_component;
use model::read::{ReadCommand, ReadScope, Slice};
use model::timeuuid::timeuuid_from_micros;
use model::{CqlType, EpochSeconds, TableId, TimestampMicros, Token};
use std::rc::Rc;
use std::sync::Arc;

/// The low half that sorts before all others of one time.
const LOW_BITS_FIRST: u64 = 0x8080_8080_8080_8080;
/// Streams that are read before others run.
const STREAMS_PER_TURN: usize = 16;

impl Shard {
    /// Answers from the log tables, in ranges that are closed up to a time.
    pub(super) async fn read_older(
        self: &Rc<Self>,
        view: &View,
        ask: &TailAsk,
        ranges: &[(RangeIndex, GroupId)],
        (led, closed): (RangeSet, TimestampMicros),
    ) -> TailAnswer {
        let furthest = ask.above.saturating_add(ask.window_micros.max(1));
        let mut up_to = closed.min(furthest);
        loop {
            let span = (ask.above, up_to);
            match self.read_span(view, ask, (ranges, &led), span).await {
                Ok(Some(rows)) => return TailAnswer { ranges: led, closed: up_to, rows },
                Ok(None) => up_to = ask.above + ((up_to - ask.above) / 2).max(1),
                Err(error) => {
                    tracing::warn!("shard {}: a log cannot be followed: {error}", self.index);
                    // The follower comes back.
                    return TailAnswer { closed: ask.above, ..TailAnswer::default() };
                }
            }
        }
    }

    /// The rows of a span of time; nothing if they are too many, unless it is a microsecond.
    async fn read_span(
        self: &Rc<Self>,
        view: &View,
        ask: &TailAsk,
        (ranges, led): (&[(RangeIndex, GroupId)], &RangeSet),
        span: (TimestampMicros, TimestampMicros),
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let is_shortest = span.1 <= span.0 + 1;
        let slices: Arc<[Slice]> = [slice_of(span)].into();
        // What is kept for feeds they see, though it has ended for others.
        let now = self.shared.env.clock.now_seconds().min(retention::read_at(span.0));
        let mut rows = Vec::new();
        for (number, stream) in streams_between(view, ranges, led, span).into_iter().enumerate() {
            for table in &ask.tables {
                let bytes_max = if is_shortest { usize::MAX } else { ANSWER_BYTES_MAX };
                self.read_stream((*table, stream), (&slices, now), bytes_max, &mut rows).await?;
                if rows.len() > bytes_max {
                    return Ok(None);
                }
            }
            if number % STREAMS_PER_TURN == STREAMS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Some(rows))
    }

    /// Adds rows of a stream of a table: all in the slices that have not ended by a time, or more than
    /// fit.
    async fn read_stream(
        self: &Rc<Self>,
        (table, stream): (TableId, StreamId),
        (slices, now): (&Arc<[Slice]>, EpochSeconds),
        bytes_max: usize,
        rows: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let mut command = ReadCommand {
            table,
            scope: ReadScope::Partition(Arc::from(stream.as_slice())),
            slices: slices.clone(),
            reversed: false,
            include_static: false,
            now,
            row_limit: u32::MAX,
            partition_row_limit: u32::MAX,
            page_bytes: ANSWER_BYTES_MAX,
            resume: None,
        };
        loop {
            let page = self.read(&command, Barrier::default()).await?;
            for partition in page.partitions() {
                let partition = partition.map_err(|error| ReadError::Storage(error.to_string()))?;
                put_mutation(rows, partition.as_bytes());
            }
            command.resume = page.resume;
            if command.resume.is_none() || rows.len() > bytes_max {
                return Ok(());
            }
        }
    }
}

/// The rows above one time and up to another.
fn slice_of((above, up_to): (TimestampMicros, TimestampMicros)) -> Slice {
    let position_after = |micros: TimestampMicros| {
        let first = timeuuid_from_micros(micros.saturating_add(1), LOW_BITS_FIRST);
        let mut position = Vec::with_capacity(32);
        encode_component(&CqlType::TimeUuid, false, &first, &mut position)
            .expect("16 bytes are a time uuid");
        position.into_boxed_slice()
    };
    Slice { start: position_after(above), end: position_after(up_to) }
}

/// The streams of these ranges to which anything may be logged within a span of time.
fn streams_between(
    view: &View,
    ranges: &[(RangeIndex, GroupId)],
    led: &RangeSet,
    (above, up_to): (TimestampMicros, TimestampMicros),
) -> Vec<StreamId> {
    let list = view.generations.list();
    let mut streams = Vec::new();
    for (number, generation) in list.iter().enumerate() {
        let end = list.get(number + 1).map_or(i64::MAX, cdc::Generation::starts_at_micros);
        if generation.starts_at_micros() > up_to || end <= above.saturating_add(1) {
            continue;
        }
        let is_led = |stream: &StreamId| {
            let range = view.ranges.range_of(Token(model::token::cdc_stream_token(stream).0));
            led.contains(range) && ranges.iter().any(|(own, _)| *own == range)
        };
        streams.extend(generation.streams().filter(is_led));
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc::time_uuid::log_time_uuid;

    #[test]
    fn a_slice_has_the_microseconds_above_one_and_up_to_another() {
        let slice = slice_of((10, 12));
        let inside: Vec<i64> = (8..15)
            .filter(|micros| {
                [0, 1, u64::MAX].iter().all(|counter| {
                    let mut position = Vec::new();
                    let time = log_time_uuid(*micros, *counter);
                    encode_component(&CqlType::TimeUuid, false, &time, &mut position).unwrap();
                    *slice.start <= *position && *position < *slice.end
                })
            })
            .collect();
        assert_eq!(inside, [11, 12]);
    }
}
