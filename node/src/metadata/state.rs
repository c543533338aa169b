//! What all nodes agree on, as a state machine: nodes and their tokens, how the ring changes, schema,
//! CDC generations.
//!
//! The state changes only by applying a [`Command`], in the order of the metadata group's log, and
//! [`Metadata::apply`] is a pure function, so every node holds the same state at the same index.
//! Commands are *decided*: whoever proposed one has validated the statement against the state that
//! the command is applied to (the leader has one undecided command at a time), and the command
//! carries the outcome, not the statement. Commands and snapshots are JSON: rare, and readable.

use super::feeds::{FeedAssignment, FeedRecord, FeedRelease, FeedReport};
use super::plan::{PlanKind, PlanRecord};
use super::retired::{FeedLeave, RetiredEnd, RetiredTable};
use crate::node::Shared;
use cluster::{HostId, Node};
use model::schema::{KeyspaceDef, Replication, Schema};
use model::{TableId, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Dropped tables that are remembered. Segments of the log that hold changes of older ones have
/// long been released.
const DROPPED_TABLES_MAX: usize = 10_000;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    /// The node's identity.
    pub host_id: u128,
    pub data_center: String,
    pub rack: String,
    /// Where clients reach it.
    pub address: IpAddr,
    pub cql_port: u16,
    /// Where other nodes reach it.
    pub internode_address: SocketAddr,
    /// The tokens it owns.
    pub tokens: Vec<i64>,
    /// How many shards it had when its record was written.
    pub shard_count: u16,
}

/// A CDC generation: from `starts_at_millis` on, changes are logged into these streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GenerationRecord {
    /// When it begins to be used.
    pub starts_at_millis: i64,
    /// The end tokens of the ranges it cuts the ring into, ascending.
    pub range_ends: Vec<i64>,
}

/// A setting of replication that keyspaces use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingRecord {
    pub replication: Replication,
    /// The index of the command by which the first of them had it.
    pub since: u64,
}

/// A decided change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// A node has its tokens; the first one also names the cluster, and says at how many even
    /// points its ring is cut.
    AddNode { cluster_name: String, cuts: usize, node: NodeRecord },
    /// A node came back with other properties (address, shards).
    UpdateNode { node: NodeRecord },
    /// The ring begins to change: this node comes, or goes.
    StartPlan { kind: PlanKind, node: NodeRecord },
    /// The plan of that index shall not be carried out.
    WithdrawPlan { since: u64 },
    /// The plan of that index, which was withdrawn, shall be carried out after all.
    ResumePlan { since: u64 },
    /// Everything is where the plan of that index wants it.
    FinishPlan { since: u64 },
    /// Keyspaces that are new or changed, and keyspaces that are gone; of the tables that are gone
    /// with it, those whose logs are kept for changefeeds.
    ChangeSchema {
        put: Vec<KeyspaceDef>,
        remove: Vec<Arc<str>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        retire: Vec<RetiredTable>,
    },
    /// Up to which time there is anything in the logs of tables that were dropped.
    EndRetired { ends: Vec<RetiredEnd> },
    /// Changefeeds have delivered everything of tables that were dropped.
    LeaveTables { leaves: Vec<FeedLeave> },
    /// A generation to use from its start on. Starts ascend.
    AnnounceGeneration { generation: GenerationRecord },
    /// Changefeeds that are new or another, and those that are gone.
    ChangeFeeds { put: Vec<FeedRecord>, remove: Vec<Arc<str>> },
    /// Changefeeds get other owners.
    AssignFeeds { assignments: Vec<FeedAssignment> },
    /// Changefeeds for which the log is not kept any longer.
    ReleaseFeeds { releases: Vec<FeedRelease> },
    /// How far a node has come with the changefeeds that it owns.
    FeedProgress { node: u128, feeds: Vec<FeedReport> },
}

/// The state at some index of the metadata log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    /// Index of the last command applied, those that only say how far feeds have come left out.
    pub index: u64,
    pub cluster_name: String,
    /// Tells clusters of one name apart: the id of the node that founded this one.
    pub cluster_id: u128,
    /// At how many even points the ring is cut, for good.
    pub cuts: usize,
    pub nodes: BTreeMap<String, NodeRecord>,
    /// How the ring changes, while it does.
    #[serde(default)]
    pub plan: Option<PlanRecord>,
    /// Nodes that were members, or were to be, and are none any more.
    #[serde(default)]
    pub gone: BTreeMap<String, NodeRecord>,
    /// The user's keyspaces; the system's own are not agreed on, they are the program's.
    pub schema: Schema,
    /// The settings of replication that keyspaces use, and since which index without a break: the
    /// groups of each are named by it.
    pub settings: Vec<SettingRecord>,
    /// Oldest first.
    pub generations: Vec<Arc<GenerationRecord>>,
    /// Changefeeds by name.
    #[serde(default)]
    pub feeds: BTreeMap<Arc<str>, FeedRecord>,
    /// The ids of tables that were dropped, oldest first: no table may get one of them again, since
    /// the log may still hold changes of the old one.
    #[serde(default)]
    pub dropped_tables: VecDeque<TableId>,
    /// Tables that were dropped and whose logs are kept for changefeeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<RetiredTable>,
}

impl Metadata {
    /// Applies the command at `index`.
    pub(crate) fn apply(&mut self, index: u64, command: Command) {
        assert!(index > self.index, "metadata commands are applied once and in order");
        if let Command::FeedProgress { node, feeds } = command {
            return self.note_progress(node, feeds);
        }
        self.index = index;
        match command {
            Command::AddNode { cluster_name, cuts, node } => {
                if self.cluster_name.is_empty() {
                    self.cluster_name = cluster_name;
                    self.cuts = cuts;
                    self.cluster_id = node.host_id;
                }
                self.nodes.insert(host_key(node.host_id), node);
            }
            Command::UpdateNode { node } => {
                let target = self.plan.as_mut().map(|plan| &mut plan.target);
                for nodes in [Some(&mut self.nodes), target].into_iter().flatten() {
                    if let Some(known) = nodes.get_mut(&host_key(node.host_id)) {
                        known.clone_from(&node);
                    }
                }
            }
            Command::StartPlan { kind, node } => self.start_plan(index, kind, node),
            Command::WithdrawPlan { since } => self.withdraw_plan(index, since),
            Command::ResumePlan { since } => self.resume_plan(index, since),
            Command::FinishPlan { since } => self.finish_plan(since),
            Command::ChangeSchema { put, remove, retire } => {
                self.schema.version = index;
                self.change_tables(index, |metadata| {
                    for name in remove {
                        metadata.schema.keyspaces.remove(&name);
                    }
                    for keyspace in put {
                        let name = keyspace.name.clone();
                        metadata.schema.keyspaces.insert(name, Arc::new(keyspace));
                    }
                    metadata.retire(index, retire);
                });
            }
            Command::EndRetired { ends } => self.end_retired(&ends),
            Command::LeaveTables { leaves } => {
                self.change_tables(index, |metadata| metadata.leave_tables(leaves));
            }
            Command::AnnounceGeneration { generation } => {
                // Others are not proposed.
                let last = self.generations.last().map_or(i64::MIN, |g| g.starts_at_millis);
                if generation.starts_at_millis > last {
                    self.generations.push(Arc::new(generation));
                }
            }
            Command::ChangeFeeds { put, remove } => {
                self.change_tables(index, |metadata| metadata.change_feeds(put, &remove));
            }
            Command::AssignFeeds { assignments } => self.assign_feeds(assignments),
            Command::ReleaseFeeds { releases } => {
                self.change_tables(index, |metadata| metadata.release_feeds(releases));
            }
            Command::FeedProgress { .. } => unreachable!("it was applied above"),
        }
    }

    /// Makes a change after which tables may be gone, and remembers which are.
    fn change_tables(&mut self, index: u64, change: impl FnOnce(&mut Metadata)) {
        let before = self.table_ids();
        change(self);
        self.purge_retired();
        self.dropped_tables.extend(before.difference(&self.table_ids()));
        self.note_settings(index);
        let surplus = self.dropped_tables.len().saturating_sub(DROPPED_TABLES_MAX);
        self.dropped_tables.drain(..surplus);
    }

    /// The tables that have data: those of the schema, and logs that are kept for changefeeds.
    fn table_ids(&self) -> BTreeSet<TableId> {
        let keyspaces = self.schema.keyspaces.values();
        let tables = keyspaces.flat_map(|keyspace| keyspace.tables.values());
        let logs = self.retired.iter().map(|table| &table.log);
        tables.chain(logs).map(|table| table.id).collect()
    }

    /// Whether there was such a table and is no more; one that is neither here nor was dropped is yet
    /// to come.
    pub(crate) fn was_dropped(&self, table: TableId) -> bool {
        // A node alone never lags behind the metadata, and need not remember what it has forgotten.
        let is_forgotten =
            || self.dropped_tables.len() >= DROPPED_TABLES_MAX && self.nodes.len() <= 1;
        self.dropped_tables.contains(&table) || is_forgotten()
    }

    /// Settings that no keyspace uses any more are forgotten, and others are new at this index.
    fn note_settings(&mut self, index: u64) {
        let of_keyspaces = self.schema.keyspaces.values().map(|keyspace| &keyspace.replication);
        let of_retired = self.retired.iter().map(|table| &table.replication);
        let used: BTreeSet<&Replication> = of_keyspaces.chain(of_retired).collect();
        self.settings.retain(|setting| used.contains(&setting.replication));
        let known: BTreeSet<&Replication> = self.settings.iter().map(|s| &s.replication).collect();
        let new: Vec<Replication> = used.difference(&known).map(|r| (*r).clone()).collect();
        let records =
            new.into_iter().map(|replication| SettingRecord { replication, since: index });
        self.settings.extend(records);
    }

    /// The record of a node.
    pub(crate) fn node(&self, host_id: u128) -> Option<&NodeRecord> {
        self.nodes.get(&host_key(host_id))
    }

    /// Whether what a member says of itself is news; why not, if it cannot be. As long as data
    /// cannot move, nothing changes that says where they lie.
    pub(crate) fn judge_record(&self, record: &NodeRecord) -> Result<bool, String> {
        let Some(known) = self.known_node(record.host_id) else {
            return Err("the node is no member".to_owned());
        };
        // Who takes the place of a dead node may have its addresses.
        let dead = self.plan.as_ref().and_then(|plan| match plan.kind {
            PlanKind::Replace { dead } => Some(dead),
            _ => None,
        });
        let holds = |one: &NodeRecord| {
            one.host_id != record.host_id
                && Some(one.host_id) != dead
                && (one.internode_address == record.internode_address
                    || one.cql_address() == record.cql_address())
        };
        if let Some(other) = self.all_nodes().find(|other| holds(other)) {
            return Err(format!("its address is that of the node {}", HostId(other.host_id)));
        }
        let is_moved = known.tokens != record.tokens
            || known.data_center != record.data_center
            || known.rack != record.rack;
        let is_placed = self.ring_is_used() && self.nodes.len() > 1;
        if is_moved && (is_placed || self.plan.is_some()) {
            return Err(format!(
                "it is in rack {} of data centre {}, and cannot move to rack {} of {}",
                known.rack, known.data_center, record.rack, record.data_center
            ));
        }
        Ok(known != record)
    }

    /// Whether there is anything that lies on the ring as it is.
    pub(crate) fn ring_is_used(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Since when a setting is used; 0 for one that no keyspace of a user has.
    pub(crate) fn used_since(&self, replication: &Replication) -> u64 {
        let found = self.settings.iter().find(|setting| setting.replication == *replication);
        found.map_or(0, |setting| setting.since)
    }
}

impl Command {
    /// The command as the payload of an entry.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("commands have only string keys and finite numbers")
    }

    /// The command from an entry's payload.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl NodeRecord {
    /// What this node says of itself as it is configured now, but for its tokens.
    pub(crate) fn of_this_node(shared: &Shared, tokens: Vec<i64>) -> NodeRecord {
        let cql_address = shared.broadcast_rpc_address();
        NodeRecord {
            host_id: shared.host_id.0,
            data_center: shared.config.data_center.clone(),
            rack: shared.config.rack.clone(),
            address: cql_address.ip(),
            cql_port: cql_address.port(),
            internode_address: shared.broadcast_address(),
            tokens,
            shard_count: shared.shard_count,
        }
    }

    pub(super) fn to_ring_node(&self) -> Node {
        let mut tokens: Vec<Token> = self.tokens.iter().copied().map(Token).collect();
        tokens.sort_unstable();
        Node {
            host_id: HostId(self.host_id),
            data_centre: self.data_center.as_str().into(),
            rack: self.rack.as_str().into(),
            internode_address: self.internode_address,
            cql_address: SocketAddr::new(self.address, self.cql_port),
            tokens,
        }
    }
}

/// JSON's keys are text; this one sorts as the number does.
pub(super) fn host_key(host_id: u128) -> String {
    format!("{host_id:032x}")
}
