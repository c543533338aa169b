//! `POST /decommission` and `POST /remove?host_id=…`: begin a change of the ring, and say how far it is.
//!
//! Asking again while it goes on is as good as asking once, so whoever wants to see it through repeats
//! the request. 202 says how far it has come, 200 that it is done; a refusal is 409.

use super::RingRequest;
use crate::http::ClientAddress;
use crate::metadata::{DdlError, MetadataRequest};
use crate::node::Shared;
use crate::shard::{Message, WriteError};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is said of a node that has left.
pub(super) const DECOMMISSIONED: &str = "DECOMMISSIONED";
/// What is said of a node that was removed.
pub(super) const REMOVED: &str = "REMOVED";

type Answer = (StatusCode, String);

/// Has this node leave.
pub(crate) async fn serve_decommission(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(ClientAddress(client)): ConnectInfo<ClientAddress>,
) -> Answer {
    if shared.departure.has_gone() {
        return (StatusCode::OK, format!("{DECOMMISSIONED}\n"));
    }
    let host_id = shared.host_id.0;
    change(&shared, client, RingRequest::Leave { host_id }, DECOMMISSIONED).await
}

#[derive(Debug, Deserialize)]
pub(crate) struct RemoveQuery {
    host_id: String,
}

/// Removes a node that is dead.
pub(crate) async fn serve_remove(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(ClientAddress(client)): ConnectInfo<ClientAddress>,
    Query(query): Query<RemoveQuery>,
) -> Answer {
    let Some(host_id) = host_id_of(&query.host_id) else {
        let reason =
            format!("{} is no host id: it is a UUID, as in `tethys status`\n", query.host_id);
        return (StatusCode::BAD_REQUEST, reason);
    };
    change(&shared, client, RingRequest::Remove { host_id }, REMOVED).await
}

/// A host id as `tethys status` shows it, with hyphens or without.
fn host_id_of(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|character| *character != '-').collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(&digits, 16).ok()).flatten()
}

/// Begins a change, or finds it under way or done.
async fn change(
    shared: &Arc<Shared>,
    client: SocketAddr,
    request: RingRequest,
    done: &str,
) -> Answer {
    let is_own_machine = client.ip().is_loopback() || client.ip() == shared.http_address().ip();
    if !is_own_machine {
        let reason = "the ring is changed from the machine of a node only\n";
        return (StatusCode::FORBIDDEN, reason.to_owned());
    }
    let (RingRequest::Leave { host_id } | RingRequest::Remove { host_id }) = request;
    let is_gone = || shared.views().newest().metadata.is_gone(host_id);
    if is_gone() {
        return (StatusCode::OK, format!("{done}\n"));
    }
    let (reply, answer) = oneshot::channel();
    let message = Message::Ddl(Box::new(MetadataRequest::Ring(request)), reply);
    if shared.shards[0].try_send(message).is_err() {
        return unavailable("too many requests are waiting");
    }
    match answer.await {
        Ok(Ok(_)) if is_gone() => (StatusCode::OK, format!("{done}\n")),
        Ok(Ok(_)) => (StatusCode::ACCEPTED, progress(shared).await),
        Ok(Err(DdlError::Write(WriteError::Invalid(reason)))) => {
            (StatusCode::CONFLICT, format!("{reason}\n"))
        }
        Ok(Err(error)) => unavailable(&error.to_string()),
        Err(_) => unavailable("the node is going down"),
    }
}

fn unavailable(reason: &str) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}

/// How far the change is, as one line.
async fn progress(shared: &Arc<Shared>) -> String {
    let (reply, answer) = oneshot::channel();
    let message = Message::ClusterStatus(None, reply);
    let is_sent = shared.shards[0].try_send(message).is_ok();
    let status = if is_sent { answer.await.ok().and_then(Result::ok) } else { None };
    match status.and_then(|status| status.change) {
        Some(change) => format!("{change}\n"),
        None => "the ring changes\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_id_is_read_as_it_is_shown() {
        let id = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(host_id_of("01234567-89ab-cdef-0123-456789abcdef"), Some(id));
        assert_eq!(host_id_of("0123456789ABCDEF0123456789abcdef"), Some(id));
        assert_eq!(host_id_of(&crate::statement::format_uuid(id)), Some(id));
        for text in ["", "1", "+123456789abcdef0123456789abcdef", &"0".repeat(33)] {
            assert_eq!(host_id_of(text), None, "{text}");
        }
    }
}
