//! Requests of one connection: parsed, planned, bound, carried out, answered.
//!
//! Everything that needs no waiting happens within [`dispatch`], so all requests that a socket held
//! are answered by one write. What has to wait becomes a task that holds owned values only and puts
//! its answer into the session's outbox.

mod cache;
mod conditional;
mod execute;
mod handshake;
mod read;
mod reply;
mod write;

pub(crate) use cache::{Foreseen, RecentStatements, StatementCache};
pub(crate) use handshake::{Started, format_uuid};
pub(crate) use reply::Reply;
pub(crate) use write::WriteAnswer;

use crate::connection::Session;
use cql::wire::{Frame, Request, Values, frame_flags};
use std::rc::Rc;

/// Requests of one connection that are looked at together before the first is carried out.
pub(crate) const FRAMES_AHEAD_MAX: usize = 32;

/// Lets memory be fetched that the requests will need, at most [`FRAMES_AHEAD_MAX`] of them. Each
/// would wait for it in its turn, one after the other; together the waits overlap.
pub(crate) fn look_ahead<'f>(session: &Session, frames: impl Iterator<Item = &'f Frame>) {
    let shard = session.shard();
    let view = shard.view();
    let mut foreseen = [None; FRAMES_AHEAD_MAX];
    for (place, frame) in foreseen.iter_mut().zip(frames) {
        *place = execute::foreseen(session, &view, frame);
    }
    shard.prefetch(foreseen.into_iter().flatten());
}

/// Carries out one frame. Says so when it began the connection.
pub(crate) fn dispatch(session: &Rc<Session>, frame: &Frame) -> Option<Started> {
    let mut reply = Reply::new(session, &frame.header);
    let mut values = session.shard().values.borrow_mut();
    let started = match Request::parse(frame, session.extensions.get(), &mut values) {
        Err(error) => {
            reply.wire_error(&error);
            None
        }
        Ok(request) => {
            if frame.header.has(frame_flags::TRACING) {
                reply.trace(&request);
            }
            dispatch_request(session, reply, request, &values)
        }
    };
    values.clear();
    started
}

fn dispatch_request(
    session: &Rc<Session>,
    reply: Reply,
    request: Request,
    values: &Values,
) -> Option<Started> {
    if !session.is_started.get() && !matches!(request, Request::Startup(_) | Request::Options) {
        reply.protocol_error("the first request must be STARTUP or OPTIONS");
        return None;
    }
    match request {
        Request::Startup(startup) => return handshake::startup(session, &reply, &startup),
        Request::Options => handshake::options(session, &reply),
        Request::AuthResponse(_) => {
            reply.protocol_error("no authentication is under way");
        }
        Request::Register(kinds) => {
            session.register(&kinds);
            reply.ready();
        }
        Request::Query { text, parameters } => {
            execute::query(session, reply, text, &parameters, values);
        }
        Request::Prepare { text, keyspace } => execute::prepare(session, &reply, text, keyspace),
        Request::Execute { id, result_metadata_id, parameters } => {
            execute::execute(session, reply, id, result_metadata_id, &parameters, values);
        }
        Request::Batch { kind, statements, parameters } => {
            execute::batch(session, reply, kind, &statements, &parameters, values);
        }
    }
    None
}
