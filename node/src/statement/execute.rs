//! QUERY, PREPARE, EXECUTE and BATCH: finding the plan, binding the values, and what follows.

use super::cache::{Foreseen, PreparedStatement, SeenStatement};
use super::{Reply, conditional, read, write};
use crate::connection::Session;
use crate::metadata::MetadataRequest;
use crate::shard::Message;
use crate::view::View;
use cql::plan::write::{BatchConditions, BatchItem, WritePlan, bind_batch, check_batch_kind};
use cql::plan::{BindContext, BoundValues, Plan, PlanError, slots_from_names};
use cql::syntax;
use cql::wire::{
    BatchKind, BatchStatement, ErrorBody, ErrorResponse, Frame, PeekedExecute, QueryParameters,
    StatementSource, Value, Values, WriteType,
};
use model::row::UNSTAMPED;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Runs a statement given as text.
pub(super) fn query(
    session: &Rc<Session>,
    mut reply: Reply,
    text: &str,
    parameters: &QueryParameters,
    values: &Values,
) {
    let view = session.shard().view();
    let keyspace = parameters.keyspace.clone().or_else(|| session.keyspace());
    reply.note("Parsing");
    let parsed = match syntax::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return reply.plan_error(&error.into()),
    };
    reply.note("Preparing statement");
    match PreparedStatement::plan_parsed(&view, &parsed, text, keyspace) {
        Ok(statement) => run(session, reply, &view, &Arc::new(statement), parameters, values, None),
        Err(error) => reply.plan_error(&error),
    }
}

/// Prepares a statement and answers what its markers and columns are.
pub(super) fn prepare(session: &Rc<Session>, reply: &Reply, text: &str, keyspace: Option<&str>) {
    let view = session.shard().view();
    let keyspace = keyspace.map(Arc::from).or_else(|| session.keyspace());
    match PreparedStatement::plan(&view, text, keyspace) {
        Err(error) => reply.plan_error(&error),
        Ok(statement) => {
            let statement = Arc::new(statement);
            session.shard().shared.statements.put(statement.clone());
            let extensions = session.extensions.get();
            let with_id = extensions.has_result_metadata_id(reply.version);
            let prepared = cql::wire::Prepared {
                id: &statement.id,
                result_metadata_id: with_id.then_some(&statement.result_metadata_id[..]),
                bind: &statement.bind_metadata,
                bind_flags: extensions.bind_flags(statement.prepared.plan.is_conditional()),
                result: statement.result_metadata(),
            };
            reply.send(|out, head| cql::wire::write_prepared(out, head, &prepared));
        }
    }
}

/// Runs a prepared statement.
pub(super) fn execute(
    session: &Rc<Session>,
    reply: Reply,
    id: &[u8],
    result_metadata_id: Option<&[u8]>,
    parameters: &QueryParameters,
    values: &Values,
) {
    let view = session.shard().view();
    match find(session, &view, id) {
        Ok(statement) => {
            run(session, reply, &view, &statement, parameters, values, result_metadata_id);
        }
        Err(Missing::Unknown) => unprepared(&reply, id),
        Err(Missing::Refused(error)) => reply.plan_error(&error),
    }
}

/// Why a prepared statement cannot be run.
enum Missing {
    Unknown,
    /// Its text no longer fits the schema.
    Refused(PlanError),
}

/// The statement of that id, planned for the view.
fn find(session: &Session, view: &View, id: &[u8]) -> Result<SeenStatement, Missing> {
    let shard = session.shard();
    let (all, recent) = (&shard.shared.statements, &shard.recent_statements);
    if let Some(statement) = recent.borrow().get(id, view, all) {
        return Ok(statement);
    }
    let mut statement = all.get(id).ok_or(Missing::Unknown)?;
    if !statement.is_current(view) {
        let planned = PreparedStatement::plan(view, &statement.text, statement.keyspace.clone());
        statement = Arc::new(planned.map_err(Missing::Refused)?);
        all.put(statement.clone());
    }
    Ok(recent.borrow_mut().put(statement))
}

/// The partition that a request will look at when its turn comes, if it is of a statement that was
/// run lately and that tells.
pub(super) fn foreseen(session: &Session, view: &View, frame: &Frame) -> Option<Foreseen> {
    let peeked = PeekedExecute::new(frame, session.extensions.get())?;
    let shard = session.shard();
    let recent = shard.recent_statements.borrow();
    let partition = recent.peek(peeked.id, view)?.foreseen?;
    Some(partition.of_key(peeked.value(partition.key_slot)?))
}

fn unprepared(reply: &Reply, id: &[u8]) {
    let mut hex = String::with_capacity(id.len() * 2);
    for byte in id {
        write!(hex, "{byte:02x}").expect("a string takes all");
    }
    let body = ErrorBody::Unprepared { id: id.to_vec().into() };
    reply.error(&ErrorResponse::new(
        body,
        format!("Prepared query with ID {hex} not found (either the query was not prepared on this host (maybe the host has been restarted?) or you have prepared too many queries and it has been evicted from the internal cache)"),
    ));
}

/// Binds and runs a planned statement.
fn run(
    session: &Rc<Session>,
    reply: Reply,
    view: &Arc<View>,
    statement: &Arc<PreparedStatement>,
    parameters: &QueryParameters,
    values: &Values,
    result_metadata_id: Option<&[u8]>,
) {
    let all = values.all();
    let specs = &statement.prepared.bind_specs;
    let slots: Vec<Value>;
    let bound = if all.are_named() {
        match slots_from_names(specs, &all) {
            Ok(named) => slots = named,
            Err(error) => return reply.plan_error(&error),
        }
        BoundValues::new(&slots)
    } else {
        BoundValues::from_request(all)
    };
    if let Err(error) = bound.check_count(specs.len()) {
        return reply.plan_error(&error);
    }
    let is_known = result_metadata_id == Some(&statement.result_metadata_id[..]);
    let has_changed = result_metadata_id.is_some() && !is_known;
    match &statement.prepared.plan {
        Plan::Select(plan) => {
            let statement = (statement, plan);
            read::select(session, reply, statement, view, parameters, bound, has_changed);
        }
        Plan::Write(plan) if plan.is_conditional() => {
            let bind = |context: &mut BindContext| plan.bind_conditional(bound, context);
            let result = with_context(session, parameters, bind);
            conditional::start(session, reply, view, result, parameters, values.body());
        }
        Plan::Write(plan) => {
            let result = with_context(session, parameters, |context| plan.bind(bound, context));
            let is_counter = plan.is_counter();
            let write_type = if is_counter { WriteType::Counter } else { WriteType::Simple };
            write::start(session, reply, view, result, (parameters, write_type), values.body());
        }
        Plan::Batch(plan) if plan.is_conditional() => {
            let bind = |context: &mut BindContext| plan.bind_conditional(bound, context);
            let result = with_context(session, parameters, bind);
            conditional::start(session, reply, view, result, parameters, values.body());
        }
        Plan::Batch(plan) => {
            let result = with_context(session, parameters, |context| plan.bind(bound, context));
            let terms = (parameters, batch_type(plan.kind));
            write::start(session, reply, view, result, terms, values.body());
        }
        Plan::Use(keyspace) => {
            session.use_keyspace(keyspace.clone());
            reply.set_keyspace(keyspace);
        }
        Plan::Truncate(table) => write::truncate(session, reply, view, table, parameters),
        Plan::Describe(plan) => {
            read::describe(&reply, (statement, plan), view, parameters, has_changed);
        }
        Plan::Definition(_) => define(session, reply, statement, parameters),
    }
}

fn batch_type(kind: syntax::ast::BatchKind) -> WriteType {
    match kind {
        syntax::ast::BatchKind::Logged => WriteType::Batch,
        syntax::ast::BatchKind::Unlogged => WriteType::UnloggedBatch,
        syntax::ast::BatchKind::Counter => WriteType::Counter,
    }
}

/// The kind of a protocol's batch as the language names it.
fn parsed_kind(kind: BatchKind) -> syntax::ast::BatchKind {
    match kind {
        BatchKind::Logged => syntax::ast::BatchKind::Logged,
        BatchKind::Unlogged => syntax::ast::BatchKind::Unlogged,
        BatchKind::Counter => syntax::ast::BatchKind::Counter,
    }
}

/// Runs a BATCH of the protocol.
pub(super) fn batch(
    session: &Rc<Session>,
    reply: Reply,
    kind: BatchKind,
    statements: &[BatchStatement],
    parameters: &QueryParameters,
    values: &Values,
) {
    let view = session.shard().view();
    let keyspace = parameters.keyspace.clone().or_else(|| session.keyspace());
    let mut planned = Vec::with_capacity(statements.len());
    for statement in statements {
        let found = match statement.source {
            StatementSource::Text(text) => {
                PreparedStatement::plan(&view, text, keyspace.clone()).map(|s| Rc::new(Arc::new(s)))
            }
            StatementSource::Prepared(id) => match find(session, &view, id) {
                Ok(statement) => Ok(statement),
                Err(Missing::Unknown) => return unprepared(&reply, id),
                Err(Missing::Refused(error)) => Err(error),
            },
        };
        match found {
            Ok(statement) => planned.push(statement),
            Err(error) => return reply.plan_error(&error),
        }
    }
    let mut items = Vec::with_capacity(planned.len());
    for (statement, wire) in planned.iter().zip(statements) {
        let Plan::Write(plan) = &statement.prepared.plan else {
            return reply.plan_error(&PlanError::invalid(
                "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.",
            ));
        };
        let values = BoundValues::from_request(values.range(wire.values.clone()));
        if let Err(error) = values.check_count(statement.prepared.bind_specs.len()) {
            return reply.plan_error(&error);
        }
        items.push(BatchItem { plan, values });
    }
    let plans = items.iter().map(|item| -> &WritePlan { item.plan });
    let checked = check_batch_kind(parsed_kind(kind), &plans, false);
    match checked.and_then(|()| BatchConditions::of(&plans)) {
        Err(error) => reply.plan_error(&error),
        Ok(Some(conditions)) => {
            let bind = |context: &mut BindContext| conditions.bind(items.into_iter(), context);
            let result = with_context(session, parameters, bind);
            conditional::start(session, reply, &view, result, parameters, values.body());
        }
        Ok(None) => {
            let bind = |context: &mut BindContext| bind_batch(items.into_iter(), context);
            let result = with_context(session, parameters, bind);
            let terms = (parameters, batch_type(parsed_kind(kind)));
            write::start(session, reply, &view, result, terms, values.body());
        }
    }
}

/// Binds under the circumstances of this request.
pub(super) fn with_context<T>(
    session: &Session,
    parameters: &QueryParameters,
    bind: impl FnOnce(&mut BindContext) -> T,
) -> T {
    let shard = session.shard();
    let now_micros = shard.shared.wall_clock.corrected(shard.now_micros());
    let mut fresh_timeuuid = || shard.fresh_timeuuid(now_micros);
    let mut fresh_uuid = || shard.fresh_uuid();
    let mut context = BindContext {
        now_micros,
        now_seconds: parameters.now_in_seconds.map_or(now_micros / 1_000_000, i64::from),
        default_timestamp: parameters.default_timestamp.filter(|t| *t != UNSTAMPED),
        fresh_timeuuid: &mut fresh_timeuuid,
        fresh_uuid: &mut fresh_uuid,
        json: None,
    };
    bind(&mut context)
}

/// Sends a DDL statement to shard 0, and answers when every shard of every live node acts by it.
fn define(
    session: &Rc<Session>,
    mut reply: Reply,
    statement: &PreparedStatement,
    parameters: &QueryParameters,
) {
    let level = parameters.consistency;
    let (text, keyspace) = (statement.text.clone(), statement.keyspace.clone());
    let request = MetadataRequest::Statement { text, keyspace };
    let (answer, outcome) = oneshot::channel();
    let message = Message::Ddl(Box::new(request), answer);
    if session.shard().shared.shards[0].try_send(message).is_err() {
        let body = ErrorBody::Overloaded;
        return reply.error(&ErrorResponse::new(body, "too many requests are waiting"));
    }
    let waiting = session.clone();
    session.wait_for(async move {
        match outcome.await {
            Err(_) => reply.error(&ErrorResponse::new(ErrorBody::Server, "the node is going down")),
            Ok(Err(error)) => reply.ddl_error(&error, level),
            Ok(Ok(outcome)) => {
                // What this shard answers next is by the new schema.
                waiting.shard().view();
                reply.warnings.extend(outcome.warnings);
                match outcome.events.first() {
                    Some(change) => reply.schema_change(change),
                    None => reply.void(),
                }
            }
        }
    });
}
