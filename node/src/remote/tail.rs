//! Following the logs that another node leads.
//!
//! ```text
//! tail    := 9 table_count:varint table:u128le* above:i64le wanted:i64le window:varint
//! answer  := closed:i64le ranges:slice (length:u32le mutation)*
//! ```
//!
//! What is asked and what the answer means is `crate::shard`'s (`tail`). How long the question may
//! wait is said by the request itself. `ranges` has a bit for each range of the ring, the first
//! lowest in the first byte.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use crate::internode::AskKind;
use crate::shard::{RangeSet, Shard, TailAnswer, TailAsk};
use bytes::Bytes;
use cluster::peer::{Class, Peer, Responder};
use model::TableId;
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::mutation::MutationView;
use std::rc::Rc;
use std::time::Duration;

/// Most tables that are followed together.
const TABLES_MAX: usize = 1_024;
/// Time for an answer to travel, beside the time that it may wait.
const TRAVEL_TIME: Duration = Duration::from_secs(1);

/// Answers another node that follows logs led here.
pub(crate) async fn serve_tail(shard: Rc<Shard>, body: Bytes, responder: Responder) {
    let wait = responder.time_left().saturating_sub(TRAVEL_TIME);
    let ask = match read_ask(&body, wait) {
        Ok(ask) => ask,
        Err(error) => {
            tracing::warn!("shard {}: a follower's question: {error}", shard.index);
            return responder.refuse();
        }
    };
    let answer = shard.serve_tail(&ask).await;
    if let Err(error) = responder.answer(Class::Bulk, &[&answer_bytes(&answer)]) {
        tracing::debug!("{} bytes of a log were not sent: {error}", answer.rows.len());
    }
}

fn ask_bytes(ask: &TailAsk) -> Vec<u8> {
    let mut out = vec![AskKind::Tail as u8];
    put_varint(&mut out, ask.tables.len() as u64);
    for table in &ask.tables {
        out.extend_from_slice(&table.0.to_le_bytes());
    }
    out.extend_from_slice(&ask.above.to_le_bytes());
    out.extend_from_slice(&ask.wanted.to_le_bytes());
    put_varint(&mut out, u64::try_from(ask.window_micros).unwrap_or(0));
    out
}

fn read_ask(bytes: &[u8], wait: Duration) -> Result<TailAsk, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let count = cursor.length()?;
    if count > TABLES_MAX {
        return Err(DecodeError("too many tables are followed"));
    }
    let tables: Result<Vec<TableId>, DecodeError> =
        (0..count).map(|_| Ok(TableId(u128::from_le_bytes(cursor.array()?)))).collect();
    let ask = TailAsk {
        tables: tables?,
        above: i64::from_le_bytes(cursor.array()?),
        wanted: i64::from_le_bytes(cursor.array()?),
        window_micros: i64::try_from(cursor.varint()?).unwrap_or(i64::MAX),
        wait,
    };
    cursor.finish()?;
    Ok(ask)
}

fn answer_bytes(answer: &TailAnswer) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.rows.len() + answer.ranges.0.len() + 16);
    out.extend_from_slice(&answer.closed.to_le_bytes());
    put_slice(&mut out, &answer.ranges.0);
    out.extend_from_slice(&answer.rows);
    out
}

/// Reads an answer, and checks its rows.
fn read_answer(bytes: &[u8]) -> Result<TailAnswer, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let closed = i64::from_le_bytes(cursor.array()?);
    let ranges = RangeSet(cursor.slice()?.to_vec());
    let rows = cursor.rest().to_vec();
    while !cursor.is_empty() {
        let length = u32::from_le_bytes(cursor.array()?);
        let length = usize::try_from(length).map_err(|_| DecodeError("a mutation is too long"))?;
        MutationView::check(cursor.bytes(length)?)?;
    }
    Ok(TailAnswer { ranges, closed, rows })
}

impl Shard {
    /// Follows logs on a shard of another node; nothing if it does not answer.
    pub(crate) async fn ask_tail(self: &Rc<Self>, peer: Peer, ask: &TailAsk) -> Option<TailAnswer> {
        let bytes = ask_bytes(ask);
        let asking =
            self.peers.ask(peer, Class::Bulk, &[&bytes], ask.wait.saturating_add(TRAVEL_TIME));
        let answer = self.while_it_lives(peer.host_id, asking).await?.ok()?;
        let read = read_answer(&answer);
        read.inspect_err(|error| tracing::warn!("logs of node {}: {error}", peer.host_id)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_read_back_and_cuts_are_errors() {
        let ask = TailAsk {
            tables: vec![TableId(1), TableId(u128::MAX)],
            above: -5,
            wanted: i64::MAX,
            window_micros: 1_000,
            wait: Duration::from_secs(1),
        };
        let bytes = ask_bytes(&ask);
        let body = bytes.get(1..).unwrap();
        assert_eq!(read_ask(body, ask.wait), Ok(ask.clone()));
        for length in 0..body.len() {
            assert!(read_ask(body.get(..length).unwrap(), ask.wait).is_err(), "cut at {length}");
        }
        let answer = TailAnswer { ranges: RangeSet(vec![5, 0, 1]), closed: 77, rows: Vec::new() };
        let bytes = answer_bytes(&answer);
        assert_eq!(read_answer(&bytes), Ok(answer));
        for length in 0..bytes.len() {
            assert!(read_answer(bytes.get(..length).unwrap()).is_err(), "cut at {length}");
        }
        assert!(read_answer(&[&bytes[..], &[4, 0, 0, 0, 1, 2, 3, 4]].concat()).is_err());
    }
}
