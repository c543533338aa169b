//! Writes: from bound partitions to the answer.

use super::Reply;
use crate::connection::Session;
use crate::coordinator::{CoordinatorError, Destination, Routed};
use crate::remote::{Deadline, WriteTerms};
use crate::shard::{
    Attempt, Change, Outcome, Shard, Waiter, WaitingClient, WriteError, WriteRequest, Written,
};
use crate::view::View;
use bytes::Bytes;
use cluster::GroupId;
use cql::plan::PlanError;
use cql::plan::write::{BoundWrite, ConditionalAnswer, PartitionWrite};
use cql::wire::{ErrorBody, ErrorResponse, Frame, QueryParameters, WriteType};
use model::{Consistency, TableDef, TableId, TimestampMicros};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a write may take when the statement names no time.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TRUNCATE may take.
const TRUNCATE_TIMEOUT: Duration = Duration::from_mins(1);

/// Begins a write that was bound; the answer follows when it is applied. `body` is that of the
/// request's frame, from which it is planned again if a table has changed meanwhile.
pub(super) fn start(
    session: &Rc<Session>,
    mut reply: Reply,
    view: &View,
    bound: Result<BoundWrite, PlanError>,
    (parameters, write_type): (&QueryParameters, WriteType),
    body: &Bytes,
) {
    let level = parameters.consistency;
    if level.is_serial() {
        let is_counter =
            bound.is_ok_and(|bound| bound.partitions.iter().any(|partition| partition.is_counter));
        let message = if is_counter {
            "Counter operations are inherently non-serializable"
        } else {
            "You must use conditional updates for serializable writes"
        };
        return reply.plan_error(&PlanError::invalid(message));
    }
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return reply.plan_error(&error),
    };
    if level == Consistency::Any
        && let Some(counter) = bound.partitions.iter().find(|partition| partition.is_counter)
    {
        return reply.plan_error(&PlanError::invalid(format!(
            "Consistency level ANY is not yet supported for counter table {}",
            counter.table.name
        )));
    }
    if let Some(refusal) = refuse_system_tables(view, &bound) {
        return reply.plan_error(&refusal);
    }
    let timeout = bound.timeout_nanos.map_or(WRITE_TIMEOUT, Duration::from_nanos);
    let table = bound.partitions.first().map(|write| write.table.id);
    let write_type = counted_type(write_type, &bound.partitions);
    let timing = Timing { timeout, level, serial: None, write_type, table };
    let destination = match session.shard().destination(view, bound.partitions, level) {
        Ok(destination) => destination,
        Err(unavailable) => {
            let error = CoordinatorError::Unavailable(unavailable);
            return reply.coordinator_error(&error, level, write_type, table);
        }
    };
    reply.note("Determining replicas for mutation");
    match destination {
        Destination::Routed(routed) if routed.is_empty() => reply.void(),
        Destination::Routed(routed) => wait(session, reply, routed, timing, body),
        Destination::Here(group, writes) => {
            propose_here(session, reply, (group, writes), timing, body);
        }
    }
}

/// The type of a write by what it changes: a batch of one partition is a simple write, as in
/// Cassandra.
fn counted_type(write_type: WriteType, partitions: &[PartitionWrite]) -> WriteType {
    let is_batch = matches!(write_type, WriteType::Batch | WriteType::UnloggedBatch);
    if is_batch && partitions.len() <= 1 { WriteType::Simple } else { write_type }
}

/// How a write is to be waited for, and what its failure is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub timeout: Duration,
    pub level: Consistency,
    /// Of a conditional write: the level at which its conditions are asked.
    pub serial: Option<Consistency>,
    pub write_type: WriteType,
    /// The table that a timeout's figures are about.
    pub table: Option<TableId>,
}

impl Timing {
    /// How the write is to be made, from now on.
    pub(super) fn terms(&self, shard: &Shard) -> WriteTerms {
        WriteTerms {
            level: self.level,
            clock_floor: TimestampMicros::MIN,
            is_decided: false,
            deadline: Deadline::after(shard, self.timeout),
        }
    }

    /// Tells the client why its write was not acknowledged, and what of it that leaves open.
    pub(super) fn tell(&self, reply: &Reply, error: WriteError) {
        let (level, write_type) = match (&error, self.serial, self.write_type) {
            (WriteError::Unknown(_), Some(serial), _) => (serial, self.write_type),
            // Its conditions held and it is made: what was waited for is an ordinary write.
            (WriteError::TooFewApplied { .. }, Some(_), _) => (self.level, WriteType::Simple),
            // It is not known to be recorded.
            (WriteError::Unknown(_), None, WriteType::Batch) => (self.level, WriteType::BatchLog),
            _ => (self.level, self.write_type),
        };
        reply.coordinator_error(&error.into(), level, write_type, self.table);
    }
}

/// The usual case, a range of this shard: proposed here and now, so that all writes of a client's
/// burst are in one write of the log. A task is made only when something has to be read first.
fn propose_here(
    session: &Rc<Session>,
    reply: Reply,
    (group, writes): (GroupId, Vec<PartitionWrite>),
    timing: Timing,
    body: &Bytes,
) {
    let request = WriteRequest::new(group, Change::Write(writes));
    let Some((reply, request, reason)) = propose(session, reply, request, None, timing) else {
        return;
    };
    match (reason, request.change) {
        (Attempt::Failed(error), _) if !is_to_be_waited_for(&error) => timing.tell(&reply, error),
        (_, Change::Write(writes)) => {
            wait(session, reply, Routed::from([(group, writes)]), timing, body);
        }
        (_, _) => unreachable!("the request is a write"),
    }
}

/// Whether a write that was not made here is looked for at other nodes, or here in a moment.
pub(super) fn is_to_be_waited_for(error: &WriteError) -> bool {
    matches!(error, WriteError::NotLeader { .. })
}

/// Decides and proposes a request of a range of this shard. It is answered now or when it is
/// applied, unless it comes back with what prevents it.
pub(super) fn propose(
    session: &Rc<Session>,
    reply: Reply,
    mut request: WriteRequest,
    conditional: Option<Arc<ConditionalAnswer>>,
    timing: Timing,
) -> Option<(Reply, WriteRequest, Attempt)> {
    let shard = session.shard();
    let deadline_nanos = shard.deadline_nanos(timing.timeout);
    let mut owed = Some((reply, conditional));
    let written = shard.try_write(&mut request, |outcome| {
        let (reply, conditional) = owed.take().expect("a waiter is made once");
        session.begin_waiting();
        let answer = WriteAnswer { reply, timing, conditional };
        Waiter::Client(WaitingClient { answer, outcome, deadline_nanos })
    });
    let (mut reply, conditional) = owed?;
    match written {
        Ok(Written::Nothing(outcome)) => {
            finish(&mut reply, Ok(outcome), conditional.as_deref(), timing);
            None
        }
        Ok(Written::Proposed(_)) => unreachable!("a proposed write has its waiter"),
        Err(reason) => Some((reply, request, reason)),
    }
}

/// Makes a write in a task of its own. When a table has changed since it was planned, the request
/// is carried out anew once the change is known here.
fn wait(session: &Rc<Session>, mut reply: Reply, routed: Routed, timing: Timing, body: &Bytes) {
    let shard = session.shard().clone();
    let frame = Frame { header: reply.header, body: body.clone() };
    let asker = session.clone();
    session.wait_for(async move {
        let is_logged = timing.write_type == WriteType::Batch && routed.len() > 1;
        let terms = timing.terms(&shard);
        let work = async {
            if is_logged {
                shard.write_logged(routed, terms).await
            } else {
                shard.write_routed(routed, terms).await
            }
        };
        let result = tokio::time::timeout(timing.timeout, work).await;
        let result = result.unwrap_or_else(|_| Err(WriteError::timed_out()));
        if let Err(WriteError::Outdated { index }) = result
            && shard.has_metadata_before(index, terms.deadline).await
        {
            // The connection has begun long ago.
            super::dispatch(&asker, &frame);
            return;
        }
        finish(&mut reply, result.map(|()| None), None, timing);
    });
}

/// The answer that a proposed write owes its client.
#[derive(Debug)]
pub(crate) struct WriteAnswer {
    reply: Reply,
    timing: Timing,
    /// Of a conditional write.
    conditional: Option<Arc<ConditionalAnswer>>,
}

impl WriteAnswer {
    /// Answers.
    pub(crate) fn send(mut self, result: Result<Outcome, WriteError>) {
        let conditional = self.conditional.as_deref();
        finish(&mut self.reply, result, conditional, self.timing);
        self.reply.session().end_waiting();
    }
}

/// Answers a write; `conditional` is there for one with conditions.
pub(super) fn finish(
    reply: &mut Reply,
    result: Result<Outcome, WriteError>,
    conditional: Option<&ConditionalAnswer>,
    timing: Timing,
) {
    match result {
        Ok(outcome) => {
            reply.note("Mutation applied");
            match (conditional, &outcome) {
                (Some(answer), Some(outcome)) => {
                    reply.send(|out, head| answer.write(out, head, outcome));
                }
                _ => reply.void(),
            }
        }
        Err(error) => timing.tell(reply, error),
    }
}

fn refuse_system_tables(view: &View, bound: &BoundWrite) -> Option<PlanError> {
    bound.partitions.iter().find_map(|partition| refuse_system_table(view, &partition.table))
}

/// The system's own tables are written by nobody but the system.
pub(super) fn refuse_system_table(view: &View, table: &TableDef) -> Option<PlanError> {
    if !view.is_virtual(table.id) {
        return None;
    }
    Some(PlanError::invalid(format!("{} keyspace is not user-modifiable.", table.keyspace)))
}

/// TRUNCATE.
pub(super) fn truncate(
    session: &Rc<Session>,
    reply: Reply,
    view: &View,
    table: &Arc<TableDef>,
    parameters: &QueryParameters,
) {
    if view.is_virtual(table.id) {
        let message = format!("{} keyspace is not user-modifiable.", table.keyspace);
        return reply.plan_error(&PlanError::invalid(message));
    }
    let level = parameters.consistency;
    let (shard, table) = (session.shard().clone(), table.clone());
    session.wait_for(async move {
        let truncated = shard.truncate(&table, TRUNCATE_TIMEOUT);
        match tokio::time::timeout(TRUNCATE_TIMEOUT, truncated).await {
            Ok(Ok(())) => reply.void(),
            Ok(Err(error @ WriteError::Overloaded(_))) => {
                let error = CoordinatorError::from(error);
                reply.coordinator_error(&error, level, WriteType::Simple, Some(table.id));
            }
            Ok(Err(WriteError::Unavailable(_))) => {
                let level = Consistency::All.name();
                truncate_error(&reply, &format!("Cannot achieve consistency level {level}"));
            }
            Ok(Err(error)) => truncate_error(&reply, &error.to_string()),
            Err(_) => truncate_error(&reply, &WriteError::timed_out().to_string()),
        }
    });
}

fn truncate_error(reply: &Reply, reason: &str) {
    let message = format!("Error during truncate: {reason}");
    reply.error(&ErrorResponse::new(ErrorBody::Truncate, message));
}
