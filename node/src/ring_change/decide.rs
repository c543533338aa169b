//! Whether a node may leave, be removed, or stay after all: decided by the node that leads the metadata.

use crate::metadata::{Command, DdlError, DdlOutcome, DdlResult, PlanKind, PlanRecord};
use crate::remote::Deadline;
use crate::shard::{Shard, WriteError};
use crate::view::View;
use cluster::leaving::{Cluster, Departure, Refusal, judge};
use cluster::{HostId, NodeIndex};
use model::schema::Replication;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A change of the ring that an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RingRequest {
    /// A node leaves; asked of itself.
    Leave { host_id: u128 },
    /// A node that is dead is removed.
    Remove { host_id: u128 },
}

impl Shard {
    /// Makes a plan, on the node that leads the metadata. Asking again while it is carried out is
    /// answered as the first time.
    pub(crate) async fn change_ring(
        self: &Rc<Self>,
        request: RingRequest,
        deadline: Deadline,
    ) -> DdlResult {
        let view = self.view();
        let command = match self.judge_change(&view, request) {
            Ok(command) => command,
            Err(refusal) => return self.found(Err(WriteError::Invalid(refusal).into())),
        };
        let Some(command) = command else {
            return self.found(Ok(DdlOutcome::unseen(view.index())));
        };
        let index = self.propose_command(&command, deadline).await.map_err(DdlError::from)?;
        let warnings = self.wait_for_nodes(index, deadline).await;
        Ok(DdlOutcome { warnings, ..DdlOutcome::unseen(index) })
    }

    /// The command that begins what is asked for, or nothing if it is under way or done: who asks
    /// again may not have heard yet of the end. The error is for the operator.
    fn judge_change(&self, view: &View, request: RingRequest) -> Result<Option<Command>, String> {
        let (host_id, departure) = match request {
            RingRequest::Leave { host_id } => (host_id, Departure::Leaves),
            RingRequest::Remove { host_id } => {
                let is_live = self.is_live(HostId(host_id));
                (host_id, Departure::IsRemoved { is_live })
            }
        };
        if view.metadata.is_gone(host_id) {
            return Ok(None);
        }
        let plan = view.metadata.plan.as_ref();
        if let Some(plan) = plan.filter(|plan| plan.host_id == host_id) {
            return judge_again(plan, departure);
        }
        let keyspaces = &view.metadata.schema.keyspaces;
        let keyspaces: Vec<(&str, &Replication)> =
            keyspaces.values().map(|keyspace| (&*keyspace.name, &keyspace.replication)).collect();
        let is_removed = matches!(departure, Departure::IsRemoved { .. });
        let cluster = Cluster {
            ring: &view.ring,
            changing: plan.map(|plan| HostId(plan.host_id)),
            keyspaces: &keyspaces,
            leaderless: keyspaces
                .iter()
                .find(|(name, _)| is_removed && self.is_leaderless(view, name))
                .map(|(name, _)| *name),
        };
        judge(HostId(host_id), departure, &cluster).map_err(|refusal| refusal.to_string())?;
        let Some(node) = view.metadata.node(host_id).cloned() else {
            return Err(Refusal::NotMember(HostId(host_id)).to_string());
        };
        let kind = if is_removed { PlanKind::Remove } else { PlanKind::Leave };
        Ok(Some(Command::StartPlan { kind, node }))
    }

    /// Whether some range of a keyspace has no majority of live replicas.
    fn is_leaderless(&self, view: &View, keyspace: &str) -> bool {
        let Some(placement) = view.placement(keyspace) else { return false };
        view.ranges.iter().any(|range| {
            let replicas = placement.replicas(range);
            let is_alive = |node: &&NodeIndex| self.is_alive(view, **node);
            replicas.iter().filter(is_alive).count() * 2 <= replicas.len()
        })
    }
}

/// What is asked of the node that comes or goes already. A node that died while it was joining does
/// not join after all.
fn judge_again(plan: &PlanRecord, departure: Departure) -> Result<Option<Command>, String> {
    match (plan.kind, departure) {
        (_, Departure::IsRemoved { is_live: true }) => {
            Err(Refusal::Alive(HostId(plan.host_id)).to_string())
        }
        (PlanKind::Join, _) if plan.is_withdrawn => Ok(None),
        (PlanKind::Join, Departure::IsRemoved { .. }) => {
            Ok(Some(Command::WithdrawPlan { since: plan.since }))
        }
        (PlanKind::Join, Departure::Leaves) => {
            Err("it has not joined yet: stop it, and remove it".to_owned())
        }
        // One that died while it was leaving is on its way out as well.
        (PlanKind::Leave | PlanKind::Remove, _) => Ok(None),
    }
}
