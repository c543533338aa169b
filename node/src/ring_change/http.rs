//! `POST /decommission`, `POST /remove?host_id=…` and `POST /withdraw?host_id=…`: begin a change of the
//! ring or take it back, and say how far that is.
//!
//! Asking again while it goes on is as good as asking once, so whoever wants to see it through repeats
//! the request. 202 says how far it has come, 200 that it is done; a refusal is 409.

use super::RingRequest;
use super::gone::Departure;
use crate::config::parse_host_id;
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

/// What is said of a node that neither comes nor goes.
pub(super) const NOTHING_UNDER_WAY: &str = "NOTHING IS UNDER WAY";
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
    let host_id = shared.host_id.0;
    let leaving = change(&shared, client, RingRequest::Leave { host_id }, DECOMMISSIONED);
    unless_gone(&shared.departure, leaving).await
}

/// What is said to who has this node leave. Once it has gone it says so, also to who asked before and
/// whose answer was to come from a node that speaks with it no more: it ends soon.
async fn unless_gone(departure: &Departure, answer: impl Future<Output = Answer>) -> Answer {
    tokio::select! {
        biased;
        () = departure.wait() => (StatusCode::OK, format!("{DECOMMISSIONED}\n")),
        answer = answer => answer,
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct HostQuery {
    host_id: String,
}

/// Removes a node that is dead.
pub(crate) async fn serve_remove(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(ClientAddress(client)): ConnectInfo<ClientAddress>,
    Query(query): Query<HostQuery>,
) -> Answer {
    match parse_host_id(&query.host_id) {
        Some(host_id) => change(&shared, client, RingRequest::Remove { host_id }, REMOVED).await,
        None => no_host_id(&query.host_id),
    }
}

/// Takes back the change by which a node comes or goes.
pub(crate) async fn serve_withdraw(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(ClientAddress(client)): ConnectInfo<ClientAddress>,
    Query(query): Query<HostQuery>,
) -> Answer {
    let Some(host_id) = parse_host_id(&query.host_id) else { return no_host_id(&query.host_id) };
    let request = RingRequest::Withdraw { host_id };
    let (status, text) = change(&shared, client, request, NOTHING_UNDER_WAY).await;
    if status != StatusCode::OK {
        return (status, text);
    }
    let is_member = shared.views().newest().metadata.node(host_id).is_some();
    let what = if is_member { "is a member of the ring" } else { "is no member of the ring" };
    (status, format!("{NOTHING_UNDER_WAY}: node {} {what}\n", query.host_id))
}

fn no_host_id(text: &str) -> Answer {
    let reason = format!("{text} is no host id: it is a UUID, as in `tethys status`\n");
    (StatusCode::BAD_REQUEST, reason)
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
        let reason = "the ring is changed from the machine of a node only: run this there\n";
        return (StatusCode::FORBIDDEN, reason.to_owned());
    }
    let is_done = || request.is_done(&shared.views().newest().metadata);
    // What is known here may be old; whoever stays after all is not known by it to do so.
    if is_done() && !matches!(request, RingRequest::Withdraw { .. }) {
        return (StatusCode::OK, format!("{done}\n"));
    }
    let (reply, answer) = oneshot::channel();
    let message = Message::Ddl(Box::new(MetadataRequest::Ring(request)), reply);
    if shared.shards[0].try_send(message).is_err() {
        return unavailable("too many requests are waiting");
    }
    match answer.await {
        Ok(Ok(_)) if is_done() => (StatusCode::OK, format!("{done}\n")),
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
    use std::future::pending;

    #[tokio::test]
    async fn who_asked_before_the_node_was_gone_is_answered_when_it_is() {
        let departure = Departure::default();
        let (status, said) = tokio::join!(unless_gone(&departure, pending()), async {
            tokio::task::yield_now().await;
            departure.note();
        })
        .0;
        assert_eq!((status, said.trim()), (StatusCode::OK, DECOMMISSIONED));
        let refused = async { unavailable("too many requests are waiting") };
        assert_eq!(unless_gone(&departure, refused).await.0, StatusCode::OK);
    }
}
