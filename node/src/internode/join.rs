//! A node asks to join, and hears whether it may: `cluster::joining`, over the wire.
//!
//! The answer ends there for now: nobody who may join can yet be given a part of the data.

use super::AskKind;
use crate::node::Shared;
use crate::shard::Shard;
use crate::system::PARTITIONER;
use cluster::joining::{Applicant, Cluster, judge};
use cluster::peer::{AskError, Class, Peer, Peers, Responder};
use cluster::{HostId, Node};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the cluster may take to answer.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);
/// A longer request is none.
const REQUEST_BYTES_MAX: usize = 4 << 10;

/// What a node that wants to join says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct JoinRequest {
    host_id: u128,
    data_center: String,
    rack: String,
    cql_address: SocketAddr,
    internode_address: SocketAddr,
    token_count: usize,
    partitioner: String,
    clock_micros: i64,
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinAnswer {
    /// Nothing speaks against it.
    Admitted,
    /// It may not, as the text for its operator says.
    Refused {
        reason: String,
        /// It may ask again as it is.
        is_passing: bool,
    },
}

impl JoinRequest {
    /// Of this node, now.
    fn new(shared: &Shared) -> JoinRequest {
        JoinRequest {
            host_id: shared.host_id.0,
            data_center: shared.config.data_center.clone(),
            rack: shared.config.rack.clone(),
            cql_address: shared.broadcast_rpc_address(),
            internode_address: shared.broadcast_address(),
            token_count: usize::from(shared.config.token_count),
            partitioner: PARTITIONER.to_owned(),
            clock_micros: shared.env.clock.now_micros(),
        }
    }

    /// From another node's bytes; nothing if they are no request of that node.
    fn decode(bytes: &[u8], from: HostId) -> Option<JoinRequest> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return None;
        }
        let request: JoinRequest = serde_json::from_slice(bytes).ok()?;
        (request.host_id == from.0).then_some(request)
    }

    fn into_applicant(self) -> Applicant {
        Applicant {
            node: Node {
                host_id: HostId(self.host_id),
                data_centre: self.data_center.into(),
                rack: self.rack.into(),
                internode_address: self.internode_address,
                cql_address: self.cql_address,
                tokens: Vec::new(),
            },
            partitioner: self.partitioner,
            token_count: self.token_count,
            clock_micros: self.clock_micros,
        }
    }
}

/// Asks a member whether this node, which has no shards yet, may join.
pub(crate) async fn ask_to_join(shared: &Shared, member: HostId) -> Result<JoinAnswer, AskError> {
    let request = serde_json::to_vec(&JoinRequest::new(shared)).expect("plain fields are JSON");
    let kind = [AskKind::Join as u8];
    // For this one question; the shards have their own once they run.
    let (peers, _inbox) = Peers::new(&shared.env, &shared.registry, 0);
    let peer = Peer { host_id: member, shard: 0 };
    let answer = peers.ask(peer, Class::Urgent, &[&kind, &request], JOIN_TIME_MAX).await?;
    serde_json::from_slice(&answer).map_err(|_| AskError::Refused)
}

/// Answers a node that asks.
pub(super) fn answer(shard: &Shard, from: Peer, bytes: &[u8], responder: Responder) {
    let Some(request) = JoinRequest::decode(bytes, from.host_id) else {
        return responder.refuse();
    };
    let view = shard.view();
    let cluster = Cluster {
        ring: &view.ring,
        partitioner: PARTITIONER,
        joining: None,
        keyspace: view.metadata.schema.keyspaces.keys().next().map(|name| &**name),
        clock_micros: shard.shared.env.clock.now_micros(),
    };
    let answer = match judge(&request.into_applicant(), &cluster) {
        Ok(_) => JoinAnswer::Admitted,
        Err(refusal) => {
            JoinAnswer::Refused { reason: refusal.to_string(), is_passing: refusal.is_passing() }
        }
    };
    tracing::info!("node {:032x} asks to join: {answer:?}", from.host_id.0);
    let bytes = serde_json::to_vec(&answer).expect("texts and flags are JSON");
    // Whoever asked waits no longer than it said.
    responder.answer(Class::Urgent, &[&bytes]).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> JoinRequest {
        JoinRequest {
            host_id: u128::MAX - 1,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            cql_address: SocketAddr::from(([127, 0, 0, 2], 9042)),
            internode_address: SocketAddr::from(([127, 0, 0, 2], 7000)),
            token_count: 16,
            partitioner: PARTITIONER.to_owned(),
            clock_micros: -1,
        }
    }

    /// Pins `docs/formats/peer.md`.
    #[test]
    fn a_request_has_the_bytes_of_version_1() {
        let bytes = serde_json::to_vec(&request()).unwrap();
        let expected = concat!(
            r#"{"host_id":340282366920938463463374607431768211454,"data_center":"dc1","#,
            r#""rack":"r1","cql_address":"127.0.0.2:9042","internode_address":"127.0.0.2:7000","#,
            r#""token_count":16,"partitioner":"org.apache.cassandra.dht.Murmur3Partitioner","#,
            r#""clock_micros":-1}"#,
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(JoinRequest::decode(&bytes, HostId(u128::MAX - 1)), Some(request()));
        let refused = JoinAnswer::Refused { reason: "r".to_owned(), is_passing: true };
        let bytes = serde_json::to_vec(&refused).unwrap();
        assert_eq!(bytes, br#"{"Refused":{"reason":"r","is_passing":true}}"#);
        assert_eq!(serde_json::to_vec(&JoinAnswer::Admitted).unwrap(), br#""Admitted""#);
    }

    #[test]
    fn what_is_no_request_of_the_node_itself_is_none() {
        let us = HostId(request().host_id);
        let bytes = serde_json::to_vec(&request()).unwrap();
        assert_eq!(JoinRequest::decode(&bytes, HostId(1)), None, "of another node");
        for length in 0..bytes.len() {
            assert_eq!(JoinRequest::decode(&bytes[..length], us), None, "cut at {length}");
        }
        let long = JoinRequest { rack: "r".repeat(REQUEST_BYTES_MAX), ..request() };
        assert_eq!(JoinRequest::decode(&serde_json::to_vec(&long).unwrap(), us), None);
        let nested = "[".repeat(REQUEST_BYTES_MAX);
        assert_eq!(JoinRequest::decode(nested.as_bytes(), us), None);
    }
}
