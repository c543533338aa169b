//! A node joins: it asks a member, is sent on to the node that leads the metadata, and is given its
//! part of the ring and the metadata from which it starts.
//!
//! ```text
//! node ── join ──▶ any member        Elsewhere: the leader and its address
//! node ── join ──▶ the leader        judged (`cluster::joining`), AddNode committed, added to the
//!                                    group as a learner; Admitted: a snapshot that knows the node
//! node             saves the snapshot, and is known to the cluster from then on, after every start
//! node ◀─ log ──── the leader        lets it vote once it follows
//! ```
//!
//! Whatever is lost on the way, the node asks again and is told the same. One node joins at a
//! time; the others are told to ask again.
//!
//! Where there are keyspaces the command is `StartPlan`: the node is given its part of the data
//! first, and is a member of the ring, and serves clients, when the plan is finished
//! (`ring_change`). So does one that takes the place of a dead node.

use super::AskKind;
use crate::metadata::{Command, Metadata, NodeRecord, PlanKind, Snapshot};
use crate::node::Shared;
use crate::remote::Deadline;
use crate::shard::Shard;
use crate::system::PARTITIONER;
use crate::view::View;
use bytes::Bytes;
use cluster::joining::{Admitted, Applicant, Cluster, judge};
use cluster::peer::{AskError, Class, Peer, Peers, Responder};
use cluster::{HostId, Node};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long the cluster may take to answer.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);
/// What the leader has less, so that its answer comes in time.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// A longer request is none.
const REQUEST_BYTES_MAX: usize = 4 << 10;
/// How often a node is sent on before it begins anew: leaders may change meanwhile.
const HOPS_MAX: usize = 4;
/// How often it is looked whether a change of the group's members is applied.
const MEMBERS_PAUSE: Duration = Duration::from_millis(2);

/// What a node that wants to join says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct JoinRequest {
    host_id: u128,
    data_center: String,
    rack: String,
    cql_address: SocketAddr,
    internode_address: SocketAddr,
    token_count: usize,
    shard_count: u16,
    partitioner: String,
    clock_micros: i64,
    /// The dead node whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<u128>,
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum JoinAnswer {
    /// It is a member, and starts from this.
    Admitted(Box<Snapshot>),
    /// Another node decides, as far as is known.
    Elsewhere { host_id: u128, internode_address: SocketAddr },
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
            shard_count: shared.shard_count,
            partitioner: PARTITIONER.to_owned(),
            clock_micros: shared.env.clock.now_micros(),
            replaces: shared.config.replaces,
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

    fn applicant(&self) -> Applicant {
        Applicant {
            node: Node {
                host_id: HostId(self.host_id),
                data_centre: self.data_center.as_str().into(),
                rack: self.rack.as_str().into(),
                internode_address: self.internode_address,
                cql_address: self.cql_address,
                tokens: Vec::new(),
            },
            partitioner: self.partitioner.clone(),
            token_count: self.token_count,
            clock_micros: self.clock_micros,
            replaces: self.replaces.map(HostId),
        }
    }

    fn record(&self, tokens: Vec<i64>) -> NodeRecord {
        NodeRecord {
            host_id: self.host_id,
            data_center: self.data_center.clone(),
            rack: self.rack.clone(),
            address: self.cql_address.ip(),
            cql_port: self.cql_address.port(),
            internode_address: self.internode_address,
            tokens,
            shard_count: self.shard_count,
        }
    }
}

/// What came of asking to join.
pub(crate) enum Joining {
    /// This node is a member once it has saved this.
    Admitted(Box<Snapshot>),
    /// It may not join, now or ever.
    Refused { reason: String, is_passing: bool },
}

/// Asks a member to let this node in, which has no shards yet, and whoever it is sent on to.
pub(crate) async fn ask_to_join(shared: &Shared, member: HostId) -> Result<Joining, AskError> {
    // For this one question; the shards have their own once they run.
    let (peers, _inbox) = Peers::new(&shared.env, &shared.registry, 0);
    let mut asked = member;
    for _ in 0..HOPS_MAX {
        let request = serde_json::to_vec(&JoinRequest::new(shared)).expect("plain fields are JSON");
        let (kind, peer) = ([AskKind::Join as u8], Peer { host_id: asked, shard: 0 });
        let answer = peers.ask(peer, Class::Urgent, &[&kind, &request], JOIN_TIME_MAX).await?;
        match serde_json::from_slice(&answer).map_err(|_| AskError::Refused)? {
            JoinAnswer::Admitted(snapshot) => {
                return Ok(match check_admission(shared, &snapshot) {
                    Ok(()) => Joining::Admitted(snapshot),
                    Err(reason) => Joining::Refused { reason, is_passing: true },
                });
            }
            JoinAnswer::Refused { reason, is_passing } => {
                return Ok(Joining::Refused { reason, is_passing });
            }
            JoinAnswer::Elsewhere { host_id, internode_address } => {
                asked = HostId(host_id);
                peers.set_address(asked, internode_address);
            }
        }
    }
    let reason = "the cluster is choosing who leads it".to_owned();
    Ok(Joining::Refused { reason, is_passing: true })
}

/// Whether a snapshot is one that this node can start from.
fn check_admission(shared: &Shared, snapshot: &Snapshot) -> Result<(), String> {
    let us = shared.host_id;
    let metadata = &snapshot.metadata;
    let is_named = metadata.cluster_name == shared.registry.us().cluster_name;
    let is_member = snapshot.group.as_ref().is_some_and(|group| {
        let (_, members) = group.members();
        group.is_received() && members.members().any(|member| member == us)
    });
    if !is_named || !is_member || metadata.known_node(us.0).is_none() {
        return Err("the answer of the cluster does not make this node a member".to_owned());
    }
    let made = View::new(metadata.clone(), &shared.system_keyspaces, us);
    made.map(drop).map_err(|error| format!("the answer of the cluster makes no ring: {error}"))
}

/// Answers a node that asks.
pub(super) async fn answer(shard: Rc<Shard>, from: Peer, body: Bytes, responder: Responder) {
    let request = JoinRequest::decode(&body, from.host_id).filter(|_| shard.index == 0);
    let Some(request) = request else { return responder.refuse() };
    let deadline = Deadline::after(&shard, responder.time_left().saturating_sub(ANSWER_TIME));
    let answer = shard.admit(&request, deadline).await;
    match &answer {
        JoinAnswer::Admitted(_) => tracing::info!("node {} joins", from.host_id),
        other => tracing::debug!("node {} asks to join: {other:?}", from.host_id),
    }
    let bytes = serde_json::to_vec(&answer).expect("a snapshot has only string keys");
    if let Err(error) = responder.answer(Class::Bulk, &[&bytes]) {
        tracing::debug!("an answer to a node that joins was not sent: {error}");
    }
}

/// Why a node that may join is not a member yet: it asks again.
fn not_yet(reason: &str) -> JoinAnswer {
    JoinAnswer::Refused { reason: reason.to_owned(), is_passing: true }
}

impl Shard {
    /// Lets a node in, if this one decides and nothing speaks against it.
    async fn admit(self: &Rc<Self>, request: &JoinRequest, deadline: Deadline) -> JoinAnswer {
        if !self.leads_metadata() {
            return self.elsewhere();
        }
        if let Some(other) = self.joining.get()
            && other.0 != request.host_id
        {
            return not_yet(&format!("the node {other} is joining"));
        }
        self.joining.set(Some(HostId(request.host_id)));
        let answer = self.admit_alone(request, deadline).await;
        self.joining.set(None);
        answer
    }

    /// Who decides instead of this node.
    fn elsewhere(&self) -> JoinAnswer {
        let leader = self.metadata_leader();
        let view = self.view();
        let record = leader.and_then(|leader| view.metadata.node(leader.0));
        match record {
            Some(record) => JoinAnswer::Elsewhere {
                host_id: record.host_id,
                internode_address: record.internode_address,
            },
            None => not_yet("the cluster is choosing who leads it"),
        }
    }

    /// Lets a node in while nothing else of the metadata changes.
    async fn admit_alone(self: &Rc<Self>, request: &JoinRequest, deadline: Deadline) -> JoinAnswer {
        const LATE: &str = "the cluster has not let it in yet";
        let turn = tokio::time::timeout(deadline.time_left(self), self.ddl_turn.lock()).await;
        let Ok(_turn) = turn else { return not_yet("changes of the schema are under way") };
        if !self.decides_metadata(deadline).await {
            return self.elsewhere();
        }
        let view = self.view();
        match self.judge(&view, request) {
            Err(refused) => return refused,
            Ok(Admitted::IsMember) => {}
            Ok(Admitted::Joins) => {
                let command = self.command_to_join(&view, request);
                match self.propose_command(&command, deadline).await {
                    Ok(index) => drop(self.wait_for_nodes(index, deadline).await),
                    Err(error) => return not_yet(&format!("{LATE}: {error}")),
                }
            }
        }
        while self.add_metadata_learner(HostId(request.host_id)) {
            if let Some(snapshot) = self.snapshot_for(HostId(request.host_id)) {
                return JoinAnswer::Admitted(Box::new(snapshot));
            }
            if deadline.time_left(self) <= MEMBERS_PAUSE {
                break;
            }
            self.shared.env.clock.sleep(MEMBERS_PAUSE).await;
        }
        not_yet(LATE)
    }

    fn judge(&self, view: &View, request: &JoinRequest) -> Result<Admitted, JoinAnswer> {
        let plan = view.metadata.plan.as_ref();
        if plan.is_some_and(|plan| plan.is_withdrawn && plan.host_id == request.host_id) {
            return Err(not_yet("the cluster is undoing what it did to let it in"));
        }
        let replaced = request.replaces.map(HostId);
        let mut keyspaces = view.metadata.schema.keyspaces.keys();
        let cluster = Cluster {
            ring: &view.ring,
            partitioner: PARTITIONER,
            changing: plan.map(|plan| HostId(plan.host_id)).or(self.joining.get()),
            clock_micros: self.shared.env.clock.now_micros(),
            is_replaced_live: replaced.is_some_and(|host| self.is_live(host)),
            leaderless: keyspaces
                .find(|name| replaced.is_some() && self.is_leaderless(view, name))
                .map(|name| &**name),
        };
        judge(&request.applicant(), &cluster).map_err(|refusal| JoinAnswer::Refused {
            reason: refusal.to_string(),
            is_passing: refusal.is_passing(),
        })
    }

    fn command_to_join(&self, view: &View, request: &JoinRequest) -> Command {
        let dead = request.replaces.and_then(|dead| view.metadata.node(dead));
        if let Some(dead) = dead {
            let kind = PlanKind::Replace { dead: dead.host_id };
            return Command::StartPlan { kind, node: request.record(dead.tokens.clone()) };
        }
        let mut entropy = self.entropy.borrow_mut();
        let (count, data_centre) = (request.token_count, &request.data_center);
        let tokens = cluster::ring::choose_tokens(count, &view.ring, data_centre, || entropy.u64());
        let node = request.record(tokens.into_iter().map(|token| token.0).collect());
        let Metadata { cluster_name, cuts, .. } = &view.metadata;
        if view.metadata.ring_is_used() {
            return Command::StartPlan { kind: PlanKind::Join, node };
        }
        Command::AddNode { cluster_name: cluster_name.clone(), cuts: *cuts, node }
    }

    /// The metadata as it is applied, once the node is a member of its group by that.
    fn snapshot_for(&self, host: HostId) -> Option<Snapshot> {
        let mut snapshot = self.metadata_snapshot()?;
        let group = snapshot.group.take()?.sent();
        let (_, members) = group.members();
        let is_member = members.members().any(|member| member == host);
        let knows = snapshot.metadata.known_node(host.0).is_some();
        snapshot.group = Some(group);
        (is_member && knows).then_some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::GroupBase;
    use cluster::consensus::{EntryId, LogIndex, Membership, Term};

    fn request() -> JoinRequest {
        JoinRequest {
            host_id: u128::MAX - 1,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            cql_address: SocketAddr::from(([127, 0, 0, 2], 9042)),
            internode_address: SocketAddr::from(([127, 0, 0, 2], 7000)),
            token_count: 16,
            shard_count: 2,
            partitioner: PARTITIONER.to_owned(),
            clock_micros: -1,
            replaces: None,
        }
    }

    /// Pins `docs/formats/peer.md`.
    #[test]
    fn a_request_has_the_bytes_of_version_1() {
        let bytes = serde_json::to_vec(&request()).unwrap();
        let expected = concat!(
            r#"{"host_id":340282366920938463463374607431768211454,"data_center":"dc1","#,
            r#""rack":"r1","cql_address":"127.0.0.2:9042","internode_address":"127.0.0.2:7000","#,
            r#""token_count":16,"shard_count":2,"#,
            r#""partitioner":"org.apache.cassandra.dht.Murmur3Partitioner","clock_micros":-1}"#,
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        assert_eq!(JoinRequest::decode(&bytes, HostId(u128::MAX - 1)), Some(request()));
        let replacing = JoinRequest { replaces: Some(7), ..request() };
        let bytes = serde_json::to_vec(&replacing).unwrap();
        assert!(bytes.ends_with(br#""clock_micros":-1,"replaces":7}"#));
        assert_eq!(JoinRequest::decode(&bytes, HostId(u128::MAX - 1)), Some(replacing));
        let refused = JoinAnswer::Refused { reason: "r".to_owned(), is_passing: true };
        let bytes = serde_json::to_vec(&refused).unwrap();
        assert_eq!(bytes, br#"{"Refused":{"reason":"r","is_passing":true}}"#);
        let internode_address = SocketAddr::from(([127, 0, 0, 1], 7000));
        let elsewhere = JoinAnswer::Elsewhere { host_id: u128::MAX, internode_address };
        let bytes = serde_json::to_vec(&elsewhere).unwrap();
        let expected = concat!(
            r#"{"Elsewhere":{"host_id":340282366920938463463374607431768211455,"#,
            r#""internode_address":"127.0.0.1:7000"}}"#,
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn an_admission_reads_back_with_all_that_a_node_starts_from() {
        let members = Membership::of_voters([HostId(u128::MAX)]);
        let last = EntryId { index: LogIndex(5), term: Term(2) };
        let group = GroupBase::new(last, (LogIndex(4), &members)).sent();
        let node = request().record(vec![-3]);
        let mut metadata = Metadata::default();
        metadata.apply(3, Command::AddNode { cluster_name: "c".to_owned(), cuts: 256, node });
        let snapshot = Snapshot { metadata, group: Some(group) };
        let answer = JoinAnswer::Admitted(Box::new(snapshot));
        let bytes = serde_json::to_vec(&answer).unwrap();
        assert_eq!(serde_json::from_slice::<JoinAnswer>(&bytes).unwrap(), answer);
        for length in 0..bytes.len() {
            let cut = serde_json::from_slice::<JoinAnswer>(&bytes[..length]);
            assert!(cut.is_err(), "cut at {length}");
        }
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
