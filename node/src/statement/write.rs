//! Writes: from bound partitions to the answer.

use super::Reply;
use crate::connection::Session;
use crate::coordinator::CoordinatorError;
use crate::shard::{Attempt, Change, WaitingClient, Waiter, WriteError, WriteRequest};
use crate::view::View;
use cql::plan::PlanError;
use cql::plan::write::BoundWrite;
use cql::wire::{ErrorBody, ErrorResponse, QueryParameters, WriteType};
use model::TableDef;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a write may take when the statement names no time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TRUNCATE may take.
const TRUNCATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Begins a write that was bound; the answer follows when it is applied.
pub(super) fn start(
    session: &Rc<Session>,
    mut reply: Reply,
    view: &View,
    bound: Result<BoundWrite, PlanError>,
    parameters: &QueryParameters,
    write_type: WriteType,
) {
    let level = parameters.consistency;
    if level.is_serial() {
        let message = format!("You must use conditional updates for serializable writes, not {level}");
        return reply.plan_error(&PlanError::invalid(message));
    }
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return reply.plan_error(&error),
    };
    if let Some(refusal) = refuse_system_tables(view, &bound) {
        return reply.plan_error(&refusal);
    }
    let timeout = bound.timeout_nanos.map_or(WRITE_TIMEOUT, Duration::from_nanos);
    let shard = session.shard().clone();
    let mut routed = match shard.route(view, bound.partitions, level) {
        Ok(routed) => routed,
        Err(unavailable) => {
            let error = CoordinatorError::Unavailable(unavailable);
            return reply.coordinator_error(&error, level, write_type);
        }
    };
    reply.note("Determining replicas for mutation");
    if routed.is_empty() {
        return reply.void();
    }
    // The usual case, a range of this shard: proposed here and now, so that all writes of a
    // client's burst are in one write of the log.
    let is_here = routed.len() == 1 && routed.keys().all(|(_, at)| *at == shard.index);
    if is_here && let Some(((group, at), writes)) = routed.pop_first() {
        let mut request = WriteRequest { group, change: Change::Write(writes) };
        let deadline_nanos = shard.deadline_nanos(timeout);
        let mut owed = Some(reply);
        let waiter = || {
            let reply = owed.take().expect("a waiter is made once");
            session.begin_waiting();
            let answer = WriteAnswer { reply, level, write_type };
            Waiter::Client(WaitingClient { answer, deadline_nanos })
        };
        let written = shard.try_write(&mut request, waiter);
        let Some(returned) = owed else { return };
        reply = returned;
        match written {
            Ok(_) => return reply.void(),
            Err(Attempt::Failed(error)) => {
                return reply.coordinator_error(&error.into(), level, write_type);
            }
            Err(Attempt::NeedsRead(_)) => {
                let Change::Write(writes) = request.change else { return };
                routed.insert((group, at), writes);
            }
        }
    }
    session.wait_for(async move {
        let is_logged = write_type == WriteType::Batch && routed.len() > 1;
        let work = async {
            if is_logged { shard.write_logged(routed).await } else { shard.write_routed(routed).await }
        };
        let result = tokio::time::timeout(timeout, work).await;
        let result = result.unwrap_or_else(|_| Err(WriteError::timed_out()));
        finish(&mut reply, result, level, write_type);
    });
}

/// The answer that a proposed write owes its client.
#[derive(Debug)]
pub(crate) struct WriteAnswer {
    reply: Reply,
    level: model::Consistency,
    write_type: WriteType,
}

impl WriteAnswer {
    /// Answers.
    pub(crate) fn send(mut self, result: Result<(), WriteError>) {
        finish(&mut self.reply, result, self.level, self.write_type);
        self.reply.session().end_waiting();
    }
}

fn finish(
    reply: &mut Reply,
    result: Result<(), WriteError>,
    level: model::Consistency,
    write_type: WriteType,
) {
    match result {
        Ok(()) => {
            reply.note("Mutation applied");
            reply.void();
        }
        Err(error) => reply.coordinator_error(&error.into(), level, write_type),
    }
}

/// The system's own tables are written by nobody but the system.
fn refuse_system_tables(view: &View, bound: &BoundWrite) -> Option<PlanError> {
    let table = bound.partitions.iter().map(|p| &p.table).find(|t| view.is_virtual(t.id))?;
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
        match tokio::time::timeout(TRUNCATE_TIMEOUT, shard.truncate(&table)).await {
            Ok(Ok(())) => reply.void(),
            Ok(Err(error @ WriteError::Overloaded(_))) => {
                reply.coordinator_error(&error.into(), level, WriteType::Simple);
            }
            Ok(Err(error)) => {
                reply.error(&ErrorResponse::new(ErrorBody::Truncate, error.to_string()));
            }
            Err(_) => reply.error(&ErrorResponse::new(ErrorBody::Truncate, "timed out")),
        }
    });
}
