//! SELECT and DESCRIBE: from a bound plan to the rows of the answer.

use super::Reply;
use super::cache::PreparedStatement;
use super::execute::with_context;
use crate::cdc_tables::CdcLogTables;
use crate::connection::{AnswerKind, Held, ROOM_WAIT, Session};
use crate::coordinator::CoordinatorError;
use crate::remote::Deadline;
use crate::shard::{ReadError, Shard};
use crate::system;
use crate::view::View;
use cql::plan::describe::{DescribeContext, DescribePlan};
use cql::plan::select::{BoundSelect, PageRequest, SelectExecution, SelectPlan};
use cql::plan::{BoundValues, PlanError};
use cql::wire::{QueryParameters, RowsHead, WriteType};
use model::Consistency;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long a read of named partitions may take when the statement names no time.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read of a range of tokens may take.
const RANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a SELECT needs of its request once it is bound.
struct Selecting {
    statement: Arc<PreparedStatement>,
    level: Consistency,
    page_size: Option<i32>,
    paging_state: Option<Vec<u8>>,
    skip_metadata: bool,
    /// The client knows other columns than there are now.
    metadata_changed: bool,
}

impl Selecting {
    fn new_metadata_id(&self) -> Option<&[u8]> {
        self.metadata_changed.then_some(&self.statement.result_metadata_id[..])
    }
}

/// Runs a SELECT.
pub(super) fn select(
    session: &Rc<Session>,
    mut reply: Reply,
    (statement, plan): (&Arc<PreparedStatement>, &Arc<SelectPlan>),
    view: &Arc<View>,
    parameters: &QueryParameters,
    values: BoundValues,
    metadata_changed: bool,
) {
    if parameters.consistency == Consistency::Any {
        let message = "ANY ConsistencyLevel is only supported for writes";
        return reply.plan_error(&PlanError::invalid(message));
    }
    let selecting = Selecting {
        statement: statement.clone(),
        level: parameters.consistency,
        page_size: parameters.page_size.and_then(|size| i32::try_from(size).ok()),
        paging_state: parameters.paging_state.as_ref().map(|state| state.to_vec()),
        skip_metadata: parameters.skip_metadata,
        metadata_changed,
    };
    let is_virtual = view.is_virtual(plan.table.id);
    if !is_virtual
        && plan.is_point_read()
        && point(session, &mut reply, plan, view, &selecting, parameters, values)
    {
        return;
    }
    let bound = with_context(session, parameters, |context| plan.bind(&values, context));
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return reply.plan_error(&error),
    };
    reply.warnings.extend(plan.warning.map(str::to_owned));
    let is_of_keys = bound.partition_keys().is_some();
    reply.note(if is_of_keys { "Reading partitions" } else { "Reading a range of tokens" });
    let (shard, view) = (session.shard().clone(), view.clone());
    session.wait_for(async move {
        let default = if is_of_keys { READ_TIMEOUT } else { RANGE_TIMEOUT };
        let timeout = bound.timeout_nanos.map_or(default, Duration::from_nanos);
        let table = Some(bound.plan.table.id);
        let deadline = Deadline::after(&shard, timeout);
        let reading = rows_with_room(&shard, &view, &mut reply, bound, (&selecting, deadline));
        match tokio::time::timeout(timeout, reading).await {
            // The room is given back once the frame is the connection's.
            Ok(Ok((frame, _room))) => reply.send_frame(&frame),
            Ok(Err(Failure::Plan(error))) => reply.plan_error(&error),
            Ok(Err(Failure::Coordinator(error))) => {
                reply.coordinator_error(&error, selecting.level, WriteType::Simple, table);
            }
            Err(_) => {
                let error = CoordinatorError::Read(ReadError::TimedOut);
                reply.coordinator_error(&error, selecting.level, WriteType::Simple, table);
            }
        }
    });
}

/// Runs a DESCRIBE: the view has all it needs.
pub(super) fn describe(
    reply: &Reply,
    (statement, plan): (&PreparedStatement, &DescribePlan),
    view: &View,
    parameters: &QueryParameters,
    metadata_changed: bool,
) {
    let facts = system::DescribedCluster::new(view);
    let feeds = system::described_feeds(view);
    let context = DescribeContext {
        schema: &view.schema,
        feeds: &feeds,
        cdc: &CdcLogTables,
        cluster: &facts,
    };
    reply.send_or_fail(|out, head| {
        let request = PageRequest {
            page_size: parameters.page_size.and_then(|size| i32::try_from(size).ok()),
            paging_state: parameters.paging_state.as_deref(),
            head: *head,
            skip_metadata: parameters.skip_metadata,
            new_metadata_id: metadata_changed.then_some(&statement.result_metadata_id[..]),
        };
        plan.write_page(&context, &request, out)
    });
}

enum Failure {
    Plan(PlanError),
    Coordinator(CoordinatorError),
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Failure::Plan(error)
    }
}

impl From<CoordinatorError> for Failure {
    fn from(error: CoordinatorError) -> Self {
        Failure::Coordinator(error)
    }
}

/// The short way of a statement that names one row of this shard, all of it in memory: answered
/// here and now. Says whether it was answered.
fn point(
    session: &Rc<Session>,
    reply: &mut Reply,
    plan: &Arc<SelectPlan>,
    view: &View,
    selecting: &Selecting,
    parameters: &QueryParameters,
    values: BoundValues,
) -> bool {
    let point = match with_context(session, parameters, |c| plan.bind_point(&values, c)) {
        Ok(point) => point,
        Err(error) => {
            reply.plan_error(&error);
            return true;
        }
    };
    let shard = session.shard();
    if shard.memory.is_full() {
        return false;
    }
    let token = View::token(&plan.table, &point.key);
    let location = match shard.location_for_read(view, &plan.table, token, selecting.level) {
        Ok(location) => location,
        Err(unavailable) => {
            let error = CoordinatorError::Unavailable(unavailable);
            let table = Some(plan.table.id);
            reply.coordinator_error(&error, selecting.level, WriteType::Simple, table);
            return true;
        }
    };
    if location.shard != shard.index {
        return false;
    }
    let under_lease = if Shard::answers_alone(&location, selecting.level) {
        None
    } else if location.is_local && !plan.table.is_cdc_log() {
        Some(location.group)
    } else {
        return false;
    };
    let now = with_context(session, parameters, |context| context.now_seconds);
    let rows_head = RowsHead {
        metadata: &plan.metadata,
        skip_metadata: selecting.skip_metadata,
        new_metadata_id: selecting.new_metadata_id(),
    };
    reply.note("Executing single-partition query");
    let mut scratch = shard.row_scratch.borrow_mut();
    let answered = shard.read_row(plan, (token, &point), now, under_lease, |static_row, row| {
        reply.send_or_fail(|out, head| {
            let scratch = &mut scratch;
            plan.write_point(&point, static_row, row, now, head, &rows_head, scratch, out)
        });
    });
    matches!(answered, Ok(Some(())))
}

/// Waits until the shard's connections may hold one more answer, and makes it.
async fn rows_with_room(
    shard: &Rc<Shard>,
    view: &View,
    reply: &mut Reply,
    bound: BoundSelect,
    (selecting, deadline): (&Selecting, Deadline),
) -> Result<(Vec<u8>, Held), Failure> {
    let kind = answer_kind(&bound.plan, view);
    let Ok(room) = tokio::time::timeout(ROOM_WAIT, shard.memory.room(kind)).await else {
        let reason = "this node's connections hold too much memory";
        return Err(Failure::Coordinator(ReadError::Overloaded(reason).into()));
    };
    if reply.is_too_late() {
        // Nobody is there to take it: the room is for others.
        return Err(Failure::Coordinator(ReadError::TimedOut.into()));
    }
    let frame = rows(shard, view, reply, bound, (selecting, deadline)).await?;
    shard.memory.note_answer(kind, frame.len());
    Ok((frame, room))
}

fn answer_kind(plan: &SelectPlan, view: &View) -> AnswerKind {
    let is_row = plan.is_point_read() || view.is_virtual(plan.table.id);
    if is_row { AnswerKind::Row } else { AnswerKind::Page }
}

/// Reads page after page until the response is complete.
async fn rows(
    shard: &Rc<Shard>,
    view: &View,
    reply: &mut Reply,
    bound: BoundSelect,
    (selecting, deadline): (&Selecting, Deadline),
) -> Result<Vec<u8>, Failure> {
    let table = bound.plan.table.clone();
    let head = reply.head();
    let request = PageRequest {
        page_size: selecting.page_size,
        paging_state: selecting.paging_state.as_deref(),
        head,
        skip_metadata: selecting.skip_metadata,
        new_metadata_id: selecting.new_metadata_id(),
    };
    let mut execution = SelectExecution::new(bound, &request, Vec::new())?;
    let content = if view.is_virtual(table.id) {
        Some(system::table(shard, view, &table).await)
    } else {
        None
    };
    while let Some(command) = execution.next_command() {
        let page = match &content {
            Some(content) => content.read(&command),
            None => shard.read_page(&table, command, selecting.level, deadline).await?,
        };
        execution.feed(&page)?;
    }
    Ok(execution.finish()?)
}
