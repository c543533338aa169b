//! What other nodes ask of the data here: writes, reads, and whether an entry was applied.
//!
//! A request may be ahead of this shard: it waits until the metadata is here under which the
//! request was planned. What cannot be read is refused, which says that nothing was done.

use super::leader::{Deadline, answer_of_write};
use super::message::{self, Answer, WriteHead};
use crate::batch_log;
use crate::shard::{Made, ReadError, Shard, WriteError, WriteRequest, tokens_of};
use crate::view::{PlacedTable, View};
use bytes::Bytes;
use cluster::GroupId;
use cluster::peer::{Class, Responder};
use cql::plan::write::{PartitionWrite, PartitionWriteError};
use model::codec::{Cursor, DecodeError};
use model::read::Page;
use model::{TableId, Token};
use std::rc::Rc;
use std::time::Duration;

/// How often a request that is ahead of the metadata looks whether it has come.
const METADATA_INTERVAL: Duration = Duration::from_millis(5);
/// How far another node's clock may pull this shard's ahead of its own.
const CLOCK_PULL_MICROS_MAX: i64 = 500_000;
/// Most bytes of a page that goes to another node; whoever asked for more asks again.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Makes a write for another node.
pub(crate) async fn serve_write(shard: Rc<Shard>, body: Bytes, responder: Responder) {
    let mut cursor = Cursor::new(&body);
    let head = match message::read_write_head(&mut cursor) {
        Ok(head) => head,
        Err(error) => return refuse(&shard, responder, "write", &error),
    };
    let deadline = Deadline::after(&shard, responder.time_left());
    if !shard.has_metadata_before(head.planned_at, deadline).await {
        return responder.refuse();
    }
    let view = shard.view();
    let answer = match read_request(&view, &head, cursor) {
        Ok(request) => match outdated(&view, &head, &request) {
            Some(answer) => answer,
            None => shard.make_write(&view, request).await,
        },
        Err(PartitionWriteError::UnknownTable(_)) => {
            Answer::Failed(WriteError::Invalid("the table was dropped".to_owned()))
        }
        Err(PartitionWriteError::Malformed(error)) => {
            return refuse(&shard, responder, "write", &error);
        }
    };
    send(responder, &answer.to_bytes());
}

/// Reads a page for another node.
pub(crate) async fn serve_read(shard: Rc<Shard>, body: Bytes, responder: Responder) {
    let (mut command, barrier, planned_at) = match message::read_read(&body) {
        Ok(read) => read,
        Err(error) => return refuse(&shard, responder, "read", &error),
    };
    let deadline = Deadline::after(&shard, responder.time_left());
    if !shard.has_metadata_before(planned_at, deadline).await {
        return responder.refuse();
    }
    let view = shard.view();
    command.page_bytes = command.page_bytes.min(PAGE_BYTES_MAX);
    let answer: Answer<Page, ReadError> = match view.placed_table(command.table) {
        Some(table) if !table.is_virtual => {
            let (first, last) = tokens_of(&command, table);
            if !is_held(&view, table, first, last) {
                return send(
                    responder,
                    &Answer::<Page, ReadError>::NotLeader { hint: None }.to_bytes(),
                );
            }
            let at = view.shard_on(view.local, view.ranges.range_of(first));
            let reading = shard.read_on(at, command, barrier);
            match tokio::time::timeout(responder.time_left(), reading).await {
                Ok(Ok(page)) => Answer::Done(page),
                Ok(Err(ReadError::NotLeader { hint })) => Answer::NotLeader { hint },
                Ok(Err(error)) => Answer::Failed(error),
                // Nobody waits any more.
                Err(_) => Answer::Failed(ReadError::TimedOut),
            }
        }
        _ => Answer::Failed(ReadError::UnknownTable),
    };
    send(responder, &answer.to_bytes());
}

/// Whether one shard of this node holds every range between two tokens.
fn is_held(view: &View, table: &PlacedTable, first: Token, last: Token) -> bool {
    let shard = view.shard_on(view.local, view.ranges.range_of(first));
    view.ranges_between(first, last).all(|range| {
        table.placement.all(range).contains(&view.local)
            && view.shard_on(view.local, range) == shard
    })
}

/// Answers once the entry is applied here.
pub(crate) async fn serve_applied(shard: Rc<Shard>, body: Bytes, responder: Responder) {
    let (group, index) = match message::read_applied(&body) {
        Ok(entry) => entry,
        Err(error) => return refuse(&shard, responder, "question for an entry", &error),
    };
    if group == GroupId::METADATA {
        return serve_adopted(&shard, index.0, responder).await;
    }
    let view = shard.view();
    let Some((_, range)) = view.place_of(group) else { return responder.refuse() };
    let at = view.shard_on(view.local, range);
    let applied = shard.wait_until_applied_on(at, group, index);
    match tokio::time::timeout(responder.time_left(), applied).await {
        Ok(true) => send(responder, &[]),
        Ok(false) | Err(_) => responder.refuse(),
    }
}

/// Answers once every shard of this node acts by the metadata of that index.
async fn serve_adopted(shard: &Shard, index: u64, responder: Responder) {
    let adopted = shard.wait_until_adopted(index);
    match tokio::time::timeout(responder.time_left(), adopted).await {
        Ok(()) if shard.index == 0 => send(responder, &[]),
        _ => responder.refuse(),
    }
}

fn refuse(shard: &Shard, responder: Responder, what: &str, error: &DecodeError) {
    tracing::warn!("shard {}: a {what} of another node is refused: {error}", shard.index);
    responder.refuse();
}

fn send(responder: Responder, bytes: &[u8]) {
    if let Err(error) = responder.answer(Class::Bulk, &[bytes]) {
        tracing::debug!("an answer of {} bytes was not sent: {error}", bytes.len());
    }
}

fn read_request(
    view: &View,
    head: &WriteHead,
    cursor: Cursor,
) -> Result<WriteRequest, PartitionWriteError> {
    let table_of = |id: TableId| {
        let own = (id == batch_log::TABLE.id).then(|| batch_log::TABLE.clone());
        own.or_else(|| {
            view.placed_table(id).filter(|t| !t.is_virtual).map(|t| t.definition.clone())
        })
    };
    let request = message::read_change(head, cursor, table_of)?;
    let is_in_group = |write: &PartitionWrite| {
        view.placed_table(write.table.id).is_none_or(|table| {
            table.placement.group(view.ranges.range_of(write.token)) == request.group
        })
    };
    if !request.change.writes().iter().all(is_in_group) {
        return Err(DecodeError("a partition lies in another group").into());
    }
    Ok(request)
}

/// The answer to a write that was planned under another version of a table than the newest.
fn outdated(
    view: &View,
    head: &WriteHead,
    request: &WriteRequest,
) -> Option<Answer<Made, WriteError>> {
    let is_other = |write: &PartitionWrite| write.planned_version() != write.table.version;
    let is_outdated = !head.is_decided && request.change.writes().iter().any(is_other);
    is_outdated.then(|| Answer::Outdated { index: view.index() })
}

impl Shard {
    /// Waits until this shard acts by the metadata of that index; `false` when the time is over.
    pub(crate) async fn has_metadata_before(&self, index: u64, deadline: Deadline) -> bool {
        while self.adopted_index.get() < index {
            if deadline.time_left(self) <= METADATA_INTERVAL {
                return false;
            }
            self.shared.env.clock.sleep(METADATA_INTERVAL).await;
        }
        true
    }

    /// Makes a write that another node has sent, on the shard that holds its range.
    async fn make_write(
        self: &Rc<Self>,
        view: &View,
        mut request: WriteRequest,
    ) -> Answer<Made, WriteError> {
        let Some((setting, range)) = view.place_of(request.group) else {
            return Answer::NotLeader { hint: None };
        };
        // A replica of an older ring may still be here, and lead itself.
        if !setting.placement.all(range).contains(&view.local) {
            return Answer::NotLeader { hint: None };
        }
        let limit = self.shared.env.clock.now_micros().saturating_add(CLOCK_PULL_MICROS_MAX);
        request.clock_floor = request.clock_floor.min(limit);
        answer_of_write(self.write_on(view.shard_on(view.local, range), request).await)
    }
}
