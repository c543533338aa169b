//! The cluster as its operators see it: which nodes there are, whether they answer, what they hold.
//!
//! Any node can be asked, over its HTTP port (`GET /status`, JSON); it asks the others. `tethys
//! status` does so and prints the answer in the layout of nodetool ([`table`]), which scripts read.

mod command;
mod table;

pub use command::{StatusFlags, StatusFormat, show_status};
pub(crate) use command::{get, request};

use crate::internode::{self, NodeStatus};
use crate::metadata::{PlanKind, PlanRecord};
use crate::shard::{MovesReport, Shard, StandingStill};
use crate::statement::format_uuid;
use crate::view::View;
use cluster::{NodeIndex, Placement, Rings};
use model::KeyspaceDef;
use model::schema::Replication;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClusterStatus {
    pub cluster_name: String,
    /// In the order of their host ids.
    pub nodes: Vec<NodeLine>,
    /// How the ring changes, while it does.
    #[serde(default)]
    pub change: Option<ChangeLine>,
}

/// How far a change of the ring has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangeLine {
    /// Who comes or goes.
    pub what: String,
    /// Groups of replicas that have the members they shall have.
    pub done_count: usize,
    /// Groups that get other members.
    pub total_count: usize,
    /// What others wait for, and how many of them.
    pub waiting: BTreeMap<String, u64>,
}

/// What a node is to the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeState {
    /// A member.
    #[default]
    Normal,
    /// It is to be one.
    Joining,
    /// It is to be none any more.
    Leaving,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeLine {
    /// Whether it answers.
    pub is_up: bool,
    /// Whether it comes or goes.
    #[serde(default)]
    pub state: NodeState,
    pub address: String,
    /// Bytes of its table files; unknown when it does not answer.
    pub load_bytes: Option<u64>,
    pub token_count: usize,
    /// The part of the data of which it holds a copy, from 0 to 1; unknown when keyspaces differ
    /// and none was named.
    pub owns: Option<f64>,
    pub host_id: String,
    pub data_center: String,
    pub rack: String,
    /// Ranges of which it gets nothing any more, and why.
    #[serde(default)]
    pub standing_still: StandingStill,
}

/// A keyspace was named that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownKeyspace(String);

impl fmt::Display for UnknownKeyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keyspace {} does not exist", self.0)
    }
}

/// The cluster as this node sees it, and as the others say of themselves.
pub(crate) async fn of_cluster(
    shard: &Rc<Shard>,
    keyspace: Option<&str>,
) -> Result<ClusterStatus, UnknownKeyspace> {
    let view = shard.view();
    let replication = ownership(&view, keyspace)?;
    let placement = replication.map(|replication| {
        let setting = (&replication, view.metadata.used_since(&replication));
        Placement::new(Rings::only(&view.ring), &view.ranges, setting, view.local)
    });
    let mut asking = JoinSet::new();
    for (index, node) in (0_u16..).zip(view.ring.nodes()) {
        let (shard, host_id) = (shard.clone(), node.host_id);
        asking.spawn_local(async move {
            let status = if host_id == shard.shared.host_id {
                internode::own_status(&shard).await
            } else {
                internode::ask_status(&shard.peers, host_id, internode::STATUS_TIME_MAX).await
            };
            (index, status)
        });
    }
    let mut heard: Vec<Option<NodeStatus>> = vec![None; view.ring.nodes().len()];
    while let Some(answer) = asking.join_next().await {
        // A task that was cancelled has heard nothing.
        if let Ok((index, status)) = answer {
            heard[usize::from(index)] = status;
        }
    }
    let change = view.metadata.plan.as_ref().map(|plan| change_line(&view, plan, &heard));
    let lines = (0_u16..).zip(heard).map(|(index, status)| {
        let index = NodeIndex(index);
        let owns = placement.as_ref().map(|placement| share(&view, placement, index));
        line(&view, index, status.as_ref(), owns)
    });
    let nodes = lines.collect();
    Ok(ClusterStatus { cluster_name: view.metadata.cluster_name.clone(), nodes, change })
}

/// How far a plan has come by what nodes say of it.
fn change_line(view: &View, plan: &PlanRecord, heard: &[Option<NodeStatus>]) -> ChangeLine {
    let mut all = MovesReport { since: plan.since, ..MovesReport::default() };
    for report in heard.iter().flatten().filter_map(|status| status.moves.clone()) {
        all.add(report);
    }
    add_leaderless(view, &mut all, heard);
    let moving: Vec<_> = view.moving_groups().collect();
    let done = moving.iter().filter(|group| all.done.contains(&group.0));
    ChangeLine {
        what: plan.to_string(),
        done_count: done.count(),
        total_count: moving.len(),
        waiting: all.waiting,
    }
}

/// Adds the groups that nobody leads as far as was heard, and of whose nodes one does not answer: it may
/// have the only copy of them.
fn add_leaderless(view: &View, all: &mut MovesReport, heard: &[Option<NodeStatus>]) {
    let is_silent = |node: &NodeIndex| heard[usize::from(node.0)].is_none();
    let moving = view.moving_groups();
    for group in moving.filter(|group| !all.done.contains(&group.0) && !all.led.contains(&group.0))
    {
        let Some((setting, range)) = view.place_of(group) else { continue };
        let silent = setting.placement.all(range).iter().copied().find(is_silent);
        if let Some(silent) = silent {
            let host_id = format_uuid(view.ring.node(silent).host_id.0);
            let reason = format!("nobody leads them, and node {host_id} does not answer");
            *all.waiting.entry(reason).or_default() += 1;
        }
    }
}

impl fmt::Display for ChangeLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChangeLine { what, done_count, total_count, waiting } = self;
        write!(f, "{what}: {done_count} of {total_count} groups of replicas have moved")?;
        for (reason, count) in waiting {
            write!(f, "; {count} wait: {reason}")?;
        }
        Ok(())
    }
}

fn line(view: &View, index: NodeIndex, status: Option<&NodeStatus>, owns: Option<f64>) -> NodeLine {
    let node = view.ring.node(index);
    let is_member = view.metadata.node(node.host_id.0).is_some();
    let is_leaving = view.metadata.plan.as_ref().is_some_and(|plan| {
        let goes = match plan.kind {
            PlanKind::Join => None,
            PlanKind::Leave | PlanKind::Remove => Some(plan.host_id),
            PlanKind::Replace { dead } => Some(dead),
        };
        goes == Some(node.host_id.0) && !plan.is_withdrawn
    });
    NodeLine {
        is_up: status.is_some(),
        state: match (is_member, is_leaving) {
            (false, _) => NodeState::Joining,
            (true, true) => NodeState::Leaving,
            (true, false) => NodeState::Normal,
        },
        address: node.cql_address.ip().to_string(),
        load_bytes: status.map(|status| status.load_bytes),
        token_count: node.tokens.len(),
        owns,
        host_id: format_uuid(node.host_id.0),
        data_center: node.data_centre.to_string(),
        rack: node.rack.to_string(),
        standing_still: status.map(|s| s.standing_still.clone()).unwrap_or_default(),
    }
}

/// By whose replicas ownership is counted: the keyspace's that was named; else what all keyspaces
/// of users agree on; else, with no keyspace at all, one copy.
fn ownership(view: &View, keyspace: Option<&str>) -> Result<Option<Replication>, UnknownKeyspace> {
    if let Some(name) = keyspace {
        let keyspace = view.schema.keyspace(name);
        return match keyspace {
            Some(keyspace) => Ok(Some(keyspace.replication.clone())),
            None => Err(UnknownKeyspace(name.to_owned())),
        };
    }
    let of_users = view.metadata.schema.keyspaces.values();
    let settings: BTreeSet<&Replication> =
        of_users.map(|keyspace: &Arc<KeyspaceDef>| &keyspace.replication).collect();
    Ok(match settings.len() {
        0 => Some(Replication::Simple { factor: 1 }),
        1 => settings.first().copied().cloned(),
        _ => None,
    })
}

/// The part of the ring of which a node holds a copy.
fn share(view: &View, placement: &Placement, node: NodeIndex) -> f64 {
    let held = view.ranges.iter().filter(|range| placement.replicas(*range).contains(&node));
    let tokens: u128 = held
        .map(|range| {
            let (first, last) = (view.ranges.first_token(range).0, view.ranges.end_token(range).0);
            u128::from(last.abs_diff(first)) + 1
        })
        .sum();
    tokens as f64 / 2_f64.powi(64)
}
