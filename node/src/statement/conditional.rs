//! Conditional writes: from a bound statement to `[applied]`.

use super::Reply;
use super::write::{
    Timing, WRITE_TIMEOUT, finish, is_to_be_waited_for, propose, refuse_system_table,
};
use crate::connection::Session;
use crate::coordinator::CoordinatorError;
use crate::shard::{Attempt, Change, WriteError, WriteRequest};
use crate::view::View;
use bytes::Bytes;
use cluster::GroupId;
use cql::plan::PlanError;
use cql::plan::write::{BoundConditional, ConditionalAnswer};
use cql::wire::{Frame, QueryParameters, WriteType};
use model::Consistency;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Begins a conditional write that was bound; the answer follows when its outcome is durable. `body`
/// is that of the request's frame, from which it is planned again if a table has changed meanwhile.
pub(super) fn start(
    session: &Rc<Session>,
    mut reply: Reply,
    view: &View,
    bound: Result<BoundConditional, PlanError>,
    parameters: &QueryParameters,
    body: &Bytes,
) {
    let serial = parameters.serial_consistency.unwrap_or(Consistency::Serial);
    let checked = check_levels(parameters.consistency, serial).and(bound).and_then(|bound| {
        match refuse_system_table(view, &bound.write.write.table) {
            Some(refusal) => Err(refusal),
            None => Ok(bound),
        }
    });
    let BoundConditional { write, answer, timeout_nanos } = match checked {
        Ok(bound) => bound,
        Err(error) => return reply.plan_error(&error),
    };
    let shard = session.shard();
    let level = parameters.consistency;
    // Both levels must be possible; they name the same range.
    let located = shard
        .location_for_write(view, &write.write, serial)
        .and_then(|_| shard.location_for_write(view, &write.write, level));
    let (write_type, table) = (WriteType::Cas, Some(write.write.table.id));
    let at = match located {
        Ok(at) => at,
        Err(unavailable) => {
            let level = unavailable.consistency;
            let error = CoordinatorError::Unavailable(unavailable);
            return reply.coordinator_error(&error, level, write_type, table);
        }
    };
    reply.note("Determining replicas for conditional write");
    let timeout = timeout_nanos.map_or(WRITE_TIMEOUT, Duration::from_nanos);
    let timing = Timing { timeout, level, serial: Some(serial), write_type, table };
    let change = Change::Conditional(Box::new(write));
    if at.shard != shard.index || !shard.makes_alone(&at, level) {
        return wait(session, reply, (at.group, change), answer, timing, body);
    }
    let request = WriteRequest::new(at.group, change);
    if let Some((reply, request, reason)) =
        propose(session, reply, request, Some(answer.clone()), timing)
    {
        match reason {
            Attempt::Failed(error) if !is_to_be_waited_for(&error) => {
                timing.tell(&reply, error);
            }
            _ => wait(session, reply, (at.group, request.change), answer, timing, body),
        }
    }
}

/// Makes the write in a task of its own, on the shard that leads its range. When a table has changed
/// since it was planned, the request is carried out anew once the change is known here.
fn wait(
    session: &Rc<Session>,
    mut reply: Reply,
    (group, change): (GroupId, Change),
    answer: Arc<ConditionalAnswer>,
    timing: Timing,
    body: &Bytes,
) {
    let shard = session.shard().clone();
    let frame = Frame { header: reply.header, body: body.clone() };
    let asker = session.clone();
    session.wait_for(async move {
        let terms = timing.terms(&shard);
        let work = shard.write_to_group(group, change, terms);
        let result = tokio::time::timeout(timing.timeout, work).await;
        let result = result.unwrap_or_else(|_| Err(WriteError::timed_out()));
        if let Err(WriteError::Outdated { index }) = result
            && shard.has_metadata_before(index, terms.deadline).await
        {
            // The connection has begun long ago.
            super::dispatch(&asker, &frame);
            return;
        }
        finish(&mut reply, result.map(|made| made.outcome), Some(&answer), timing);
    });
}

fn check_levels(level: Consistency, serial: Consistency) -> Result<(), PlanError> {
    if level.is_serial() {
        return Err(PlanError::invalid(format!(
            "{level} is not supported as conditional update commit consistency. Use ANY if you \
             mean \"make sure it is accepted but I don't care how many replicas commit it for \
             non-SERIAL reads\""
        )));
    }
    if !serial.is_serial() {
        return Err(PlanError::invalid(
            "Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL",
        ));
    }
    Ok(())
}
