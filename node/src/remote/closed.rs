//! How far the log of a keyspace is closed, range by range, asked of those who lead.
//!
//! ```text
//! closed  := 8 table:u128le
//! answer  := (range_end:i64le closed:i64le placed:i64le)*   the ranges that the shard leads
//! ```
//!
//! A closed time is a promise for good, so the highest one that was heard of a range is as good as
//! any, whoever leads by now. Of a range whose leader does not answer in time that is what is told,
//! or, if nothing was heard, what holds without asking: nothing is placed before the first
//! generation of streams.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::leader::{Deadline, Pause};
use crate::internode::AskKind;
use crate::shard::{ClosedRange, Shard};
use crate::view::{PlacedTable, SeenView, View};
use bytes::Bytes;
use cluster::peer::{Class, Peer, Responder};
use cluster::{GroupId, Placement, RangeIndex};
use model::codec::{Cursor, DecodeError};
use model::{TableId, TimestampMicros, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long it is asked who leads, when a range has no leader.
const ASKING_MAX: Duration = Duration::from_secs(3);
/// How long one shard may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Tells another node how far the ranges of a table are closed that this shard leads.
pub(crate) async fn serve_closed(shard: Rc<Shard>, body: Bytes, responder: Responder) {
    let table = match read_question(&body) {
        Ok(table) => table,
        Err(error) => {
            tracing::warn!("shard {}: a question for closed times: {error}", shard.index);
            return responder.refuse();
        }
    };
    let view = shard.view();
    let closed = shard.closed_ranges(table).await;
    if let Err(error) = responder.answer(Class::Bulk, &[&answer_bytes(&view, &closed)]) {
        tracing::debug!("closed times were not sent: {error}");
    }
}

fn question_bytes(table: TableId) -> Vec<u8> {
    let mut out = vec![AskKind::Closed as u8];
    out.extend_from_slice(&table.0.to_le_bytes());
    out
}

fn read_question(bytes: &[u8]) -> Result<TableId, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let table = TableId(u128::from_le_bytes(cursor.array()?));
    cursor.finish()?;
    Ok(table)
}

fn answer_bytes(view: &View, closed: &[ClosedRange]) -> Vec<u8> {
    let mut out = Vec::with_capacity(closed.len() * 24);
    for ClosedRange { range, closed, placed } in closed {
        out.extend_from_slice(&view.ranges.end_token(*range).0.to_le_bytes());
        out.extend_from_slice(&closed.to_le_bytes());
        out.extend_from_slice(&placed.to_le_bytes());
    }
    out
}

/// Reads an answer; ends that are no ranges' are errors.
fn read_answer(view: &View, bytes: &[u8]) -> Result<Vec<ClosedRange>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut closed = Vec::new();
    while !cursor.is_empty() {
        let end = Token(i64::from_le_bytes(cursor.array()?));
        let range = view.ranges.range_of(end);
        if view.ranges.end_token(range) != end {
            return Err(DecodeError("a token is no range's end"));
        }
        let (told, placed) = (cursor.array()?, cursor.array()?);
        let (told, placed) = (i64::from_le_bytes(told), i64::from_le_bytes(placed));
        closed.push(ClosedRange { range, closed: told, placed });
    }
    Ok(closed)
}

/// The shards that hold replicas of a placement's ranges, on all nodes.
pub(crate) fn shards_of(view: &View, placement: &Placement) -> BTreeSet<Peer> {
    let peers = view.ranges.iter().flat_map(|range| {
        placement.all(range).iter().map(move |&node| Peer {
            host_id: view.ring.node(node).host_id,
            shard: view.shard_on(node, range),
        })
    });
    peers.collect()
}

impl Shard {
    /// How far each range of a table is closed, in microseconds, as its leader says or said.
    pub(crate) async fn closed_times(
        self: &Rc<Self>,
        view: &SeenView,
        table: TableId,
    ) -> BTreeMap<RangeIndex, TimestampMicros> {
        let Some(placed) = view.placed_table(table) else { return BTreeMap::new() };
        let deadline = Deadline::after(self, ASKING_MAX);
        let mut pause = Pause::default();
        let mut open: BTreeSet<RangeIndex> = view.ranges.iter().collect();
        loop {
            for ClosedRange { range, closed, .. } in self.ask_closed(view, placed, table).await {
                let group = placed.placement.group(range);
                let mut heard = self.closed_heard.borrow_mut();
                let known = heard.entry(group).or_insert(closed);
                *known = (*known).max(closed);
                open.remove(&range);
            }
            if open.is_empty() || !pause.wait(self, deadline).await {
                break;
            }
        }
        let first = view.generations.list().first();
        let before_all = first.map_or(i64::MIN, |first| first.starts_at_micros().saturating_sub(1));
        let heard = self.closed_heard.borrow();
        let told = |group: GroupId| heard.get(&group).copied().unwrap_or(before_all);
        view.ranges.iter().map(|range| (range, told(placed.placement.group(range)))).collect()
    }

    /// Up to which time anything was placed by now in the ranges of a table that hold these tokens,
    /// both included; nothing if one of them has no leader that answers.
    pub(crate) async fn placed_between(
        self: &Rc<Self>,
        table: TableId,
        (first, last): (i64, i64),
    ) -> Option<TimestampMicros> {
        let view = self.view();
        let placed = view.placed_table(table)?;
        let wanted: BTreeSet<RangeIndex> = view.ranges_between(Token(first), Token(last)).collect();
        let answers = self.ask_closed(&view, placed, table).await;
        let answers: BTreeMap<RangeIndex, TimestampMicros> = answers
            .into_iter()
            .filter(|answer| wanted.contains(&answer.range))
            .map(|answer| (answer.range, answer.placed))
            .collect();
        if answers.len() < wanted.len() {
            return None;
        }
        answers.into_values().max()
    }

    /// Asks every shard that may lead ranges of a table, all at once.
    async fn ask_closed(
        self: &Rc<Self>,
        view: &SeenView,
        placed: &PlacedTable,
        table: TableId,
    ) -> Vec<ClosedRange> {
        let peers = shards_of(view, &placed.placement);
        let (sender, mut heard) = mpsc::channel(peers.len().max(1));
        for peer in peers {
            let (shard, view, sender) = (self.clone(), view.clone(), sender.clone());
            tokio::task::spawn_local(async move {
                let closed = shard.ask_closed_of(&view, peer, table).await;
                sender.send(closed).await.ok();
            });
        }
        drop(sender);
        let mut all = Vec::new();
        while let Some(closed) = heard.recv().await {
            all.extend(closed);
        }
        all
    }

    async fn ask_closed_of(
        self: &Rc<Self>,
        view: &View,
        peer: Peer,
        table: TableId,
    ) -> Vec<ClosedRange> {
        if peer.host_id == self.shared.host_id {
            return self.closed_ranges_on(peer.shard, table).await;
        }
        let question = question_bytes(table);
        let asking = self.peers.ask(peer, Class::Bulk, &[&question], ANSWER_MAX);
        match self.while_it_lives(peer.host_id, asking).await {
            Some(Ok(answer)) => read_answer(view, &answer).unwrap_or_else(|error| {
                tracing::warn!("closed times of node {}: {error}", peer.host_id);
                Vec::new()
            }),
            // Another node leads its ranges by now, or soon.
            Some(Err(_)) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_back_and_cuts_are_errors() {
        let bytes = question_bytes(TableId(7));
        assert_eq!(read_question(bytes.get(1..).unwrap()), Ok(TableId(7)));
        assert!(read_question(bytes.get(2..).unwrap()).is_err());
        assert!(read_question(&bytes).is_err(), "a byte more");
    }
}
