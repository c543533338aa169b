//! Whether a node may leave, be removed, or stay after all: decided by the node that leads the metadata.

use crate::metadata::{Command, DdlError, DdlOutcome, DdlResult, Metadata, PlanKind, PlanRecord};
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
    /// The change by which that node comes or goes is taken back.
    Withdraw { host_id: u128 },
}

impl RingRequest {
    /// The node that it is about.
    pub(crate) fn host_id(self) -> u128 {
        let (RingRequest::Leave { host_id }
        | RingRequest::Remove { host_id }
        | RingRequest::Withdraw { host_id }) = self;
        host_id
    }

    /// Whether nothing is left to be done.
    pub(crate) fn is_done(self, metadata: &Metadata) -> bool {
        let RingRequest::Withdraw { host_id } = self else {
            return metadata.is_gone(self.host_id());
        };
        let is_under_way = metadata.plan.as_ref().is_some_and(|plan| plan.host_id == host_id);
        !is_under_way && (metadata.node(host_id).is_some() || metadata.is_gone(host_id))
    }
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
            RingRequest::Withdraw { host_id } => {
                return judge_withdrawal(&view.metadata, host_id, self.is_live(HostId(host_id)));
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
    pub(crate) fn is_leaderless(&self, view: &View, keyspace: &str) -> bool {
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
        (PlanKind::Join | PlanKind::Replace { .. }, _) if plan.is_withdrawn => Ok(None),
        (PlanKind::Join | PlanKind::Replace { .. }, Departure::IsRemoved { .. }) => {
            Ok(Some(Command::WithdrawPlan { since: plan.since }))
        }
        (PlanKind::Join | PlanKind::Replace { .. }, Departure::Leaves) => {
            Err("it has not joined yet: have its join withdrawn".to_owned())
        }
        // One that died while it was leaving is on its way out as well; and so is one that was to stay
        // after all, if it is told again to go.
        (PlanKind::Leave | PlanKind::Remove, _) => {
            Ok(plan.is_withdrawn.then_some(Command::ResumePlan { since: plan.since }))
        }
    }
}

/// What takes back the change by which a node comes or goes; nothing if none is under way. The error is
/// for the operator.
fn judge_withdrawal(
    metadata: &Metadata,
    host_id: u128,
    is_live: bool,
) -> Result<Option<Command>, String> {
    let Some(plan) = metadata.plan.as_ref().filter(|plan| plan.host_id == host_id) else {
        let is_known = metadata.known_node(host_id).is_some() || metadata.is_gone(host_id);
        return if is_known {
            Ok(None)
        } else {
            Err(Refusal::NotMember(HostId(host_id)).to_string())
        };
    };
    if plan.is_withdrawn {
        return Ok(None);
    }
    if !plan.kind.is_coming() && !is_live {
        return Err(format!(
            "the node {} does not answer, and cannot stay before it does: start it first",
            HostId(host_id)
        ));
    }
    Ok(Some(Command::WithdrawPlan { since: plan.since }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::test_node as record;

    /// Three nodes and a plan of a fourth, or of the third.
    fn changing(kind: PlanKind) -> Metadata {
        let mut metadata = Metadata::default();
        for (index, host) in (1..).zip(1..=3) {
            let (cluster_name, node) = ("c".to_owned(), record(host));
            metadata.apply(index, Command::AddNode { cluster_name, cuts: 256, node });
        }
        let node = record(if kind.is_coming() { 4 } else { 3 });
        metadata.apply(10, Command::StartPlan { kind, node });
        metadata
    }

    #[test]
    fn who_comes_may_be_sent_away_whether_it_lives_and_who_goes_stays_if_it_lives() {
        let withdraw = Ok(Some(Command::WithdrawPlan { since: 10 }));
        for kind in [PlanKind::Join, PlanKind::Replace { dead: 3 }] {
            for is_live in [true, false] {
                assert_eq!(judge_withdrawal(&changing(kind), 4, is_live), withdraw);
            }
        }
        for kind in [PlanKind::Leave, PlanKind::Remove] {
            assert_eq!(judge_withdrawal(&changing(kind), 3, true), withdraw);
            assert!(judge_withdrawal(&changing(kind), 3, false).is_err());
        }
        assert!(judge_withdrawal(&changing(PlanKind::Leave), 9, true).is_err(), "nobody knows it");
        assert_eq!(judge_withdrawal(&changing(PlanKind::Leave), 1, true), Ok(None));
    }

    #[test]
    fn a_withdrawal_is_done_when_nothing_of_the_node_is_under_way() {
        let request = RingRequest::Withdraw { host_id: 3 };
        let mut metadata = changing(PlanKind::Leave);
        assert!(!request.is_done(&metadata));
        metadata.apply(11, Command::WithdrawPlan { since: 10 });
        assert!(!request.is_done(&metadata), "what has moved is not back");
        assert_eq!(judge_withdrawal(&metadata, 3, false), Ok(None), "asked again");
        let plan = metadata.plan.clone().unwrap();
        let resumed = judge_again(&plan, Departure::IsRemoved { is_live: false });
        assert_eq!(resumed, Ok(Some(Command::ResumePlan { since: 11 })), "it died for good");
        metadata.apply(12, Command::FinishPlan { since: 11 });
        assert!(request.is_done(&metadata));
        assert!(!RingRequest::Withdraw { host_id: 9 }.is_done(&metadata));
    }
}
