//! Conditional writes: from a bound statement to `[applied]`.

use super::Reply;
use super::write::{Timing, WRITE_TIMEOUT, finish, propose, refuse_system_table};
use crate::connection::Session;
use crate::coordinator::CoordinatorError;
use crate::shard::{Attempt, Change, WriteError, WriteRequest};
use crate::view::View;
use cql::plan::PlanError;
use cql::plan::write::{BoundConditional, ConditionalAnswer};
use cql::wire::{QueryParameters, WriteType};
use model::Consistency;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Begins a conditional write that was bound; the answer follows when its outcome is durable.
pub(super) fn start(
    session: &Rc<Session>,
    mut reply: Reply,
    view: &View,
    bound: Result<BoundConditional, PlanError>,
    parameters: &QueryParameters,
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
    if !at.is_sole {
        // Conditions and outcomes do not travel between nodes yet.
        return reply.plan_error(&PlanError::invalid(
            "Conditional updates of data that other nodes hold are not supported yet",
        ));
    }
    reply.note("Determining replicas for conditional write");
    let timeout = timeout_nanos.map_or(WRITE_TIMEOUT, Duration::from_nanos);
    let timing = Timing { timeout, level, write_type, table };
    let request = WriteRequest::new(at.group, Change::Conditional(Box::new(write)));
    if at.shard != shard.index {
        return wait(session, reply, request, at.shard, answer, timing);
    }
    let here = at.shard;
    if let Some((reply, request, reason)) =
        propose(session, reply, request, Some(answer.clone()), timing)
    {
        match reason {
            Attempt::Failed(error) => {
                reply.coordinator_error(&error.into(), level, write_type, table);
            }
            Attempt::NeedsRead(_) | Attempt::ListsAreHeld => {
                wait(session, reply, request, here, answer, timing);
            }
        }
    }
}

/// Makes the write in a task of its own, on the shard that leads its range.
fn wait(
    session: &Rc<Session>,
    mut reply: Reply,
    request: WriteRequest,
    at: u16,
    answer: Arc<ConditionalAnswer>,
    timing: Timing,
) {
    let shard = session.shard().clone();
    session.wait_for(async move {
        let result = tokio::time::timeout(timing.timeout, shard.write_on(at, request)).await;
        let result = result.unwrap_or_else(|_| Err(WriteError::timed_out()));
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
