//! The plan by which the ring changes: the nodes as they shall be, and why
//! (docs/decisions/0014-the-ring-changes-by-a-plan.md).
//!
//! There is at most one. It says nothing of groups: what their members should be follows from the two
//! rings, the one of the nodes as they are and the one of the plan's target. Both number all nodes in
//! the same way; those that own nothing in one of them are its guests.
//!
//! A plan ends as *finished*, by which the target becomes the ring; or it is *withdrawn* first, which
//! leaves it in place with the aim to come back to the ring as it is, and then finished. One by which a
//! node goes may be *resumed* after that.

use super::{Metadata, NodeRecord};
use crate::statement::format_uuid;
use cluster::{HostId, Ring, RingError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Why the ring changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PlanKind {
    /// A node comes.
    Join,
    /// A node that lives goes.
    Leave,
    /// A node that is dead goes.
    Remove,
    /// A node comes, with the tokens of one that is dead and goes.
    Replace { dead: u128 },
}

impl PlanKind {
    /// Whether the node that the plan names comes.
    pub(crate) fn is_coming(self) -> bool {
        matches!(self, PlanKind::Join | PlanKind::Replace { .. })
    }
}

/// How the ring changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlanRecord {
    pub kind: PlanKind,
    /// The node that comes or goes.
    pub host_id: u128,
    /// The nodes as they shall be.
    pub target: BTreeMap<String, NodeRecord>,
    /// The index of the command that made it, or has withdrawn or resumed it.
    pub since: u64,
    /// The target shall not be: what has moved comes back.
    pub is_withdrawn: bool,
}

impl fmt::Display for PlanRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let PlanKind::Replace { dead } = self.kind {
            let (new, dead) = (format_uuid(self.host_id), format_uuid(dead));
            let (verb, end) =
                if self.is_withdrawn { ("does not take", " after all") } else { ("takes", "") };
            return write!(f, "node {new} {verb} the place of node {dead}{end}");
        }
        let what = match (self.kind, self.is_withdrawn) {
            (PlanKind::Join | PlanKind::Replace { .. }, false) => "joins",
            (PlanKind::Leave, false) => "leaves",
            (PlanKind::Remove, false) => "is being removed",
            (PlanKind::Join | PlanKind::Replace { .. }, true) => "does not join after all",
            (PlanKind::Leave | PlanKind::Remove, true) => "stays after all",
        };
        write!(f, "node {} {what}", format_uuid(self.host_id))
    }
}

/// The two rings of some metadata.
pub(crate) struct MadeRings {
    pub ring: Ring,
    /// While there is a plan.
    pub target: Option<Ring>,
}

impl Metadata {
    /// A plan begins, unless there is one.
    pub(super) fn start_plan(&mut self, index: u64, kind: PlanKind, node: NodeRecord) {
        if self.plan.is_some() {
            return;
        }
        let (mut target, host_id) = (self.nodes.clone(), node.host_id);
        let key = super::state::host_key(host_id);
        match kind {
            PlanKind::Join => drop(target.insert(key, node)),
            PlanKind::Leave | PlanKind::Remove => drop(target.remove(&key)),
            PlanKind::Replace { dead } => {
                target.remove(&super::state::host_key(dead));
                target.insert(key, node);
            }
        }
        self.plan = Some(PlanRecord { kind, host_id, target, since: index, is_withdrawn: false });
    }

    /// The plan of that index shall not be carried out.
    pub(super) fn withdraw_plan(&mut self, index: u64, since: u64) {
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.since == since) {
            plan.since = index;
            plan.is_withdrawn = true;
        }
    }

    /// The plan of that index, which was withdrawn, shall be carried out after all.
    pub(super) fn resume_plan(&mut self, index: u64, since: u64) {
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.since == since) {
            plan.since = index;
            plan.is_withdrawn = false;
        }
    }

    /// Everything is where the plan of that index wants it.
    pub(super) fn finish_plan(&mut self, since: u64) {
        let Some(plan) = self.plan.take_if(|plan| plan.since == since) else { return };
        let (stays, goes) = if plan.is_withdrawn {
            (self.nodes.clone(), plan.target)
        } else {
            (plan.target, std::mem::take(&mut self.nodes))
        };
        let gone = goes.into_iter().filter(|(key, _)| !stays.contains_key(key));
        self.gone.extend(gone);
        self.nodes = stays;
    }

    /// All nodes that may hold something: the members, and one that comes.
    pub(crate) fn all_nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        let target = self.plan.iter().flat_map(|plan| plan.target.values());
        let coming = target.filter(|node| self.node(node.host_id).is_none());
        self.nodes.values().chain(coming)
    }

    /// The record of a member, or of a node that comes.
    pub(crate) fn known_node(&self, host_id: u128) -> Option<&NodeRecord> {
        self.all_nodes().find(|node| node.host_id == host_id)
    }

    /// Whether a node was a member, or was to be one, and is to be none any more.
    pub(crate) fn is_gone(&self, host_id: u128) -> bool {
        self.known_node(host_id).is_none()
            && self.gone.contains_key(&super::state::host_key(host_id))
    }

    /// The rings, as the node `us` numbers their nodes: itself as well, should it have gone.
    pub(crate) fn rings(&self, us: HostId) -> Result<MadeRings, RingError> {
        let us_gone = self.gone.get(&super::state::host_key(us.0)).filter(|_| self.is_gone(us.0));
        let ring_of = |members: &BTreeMap<String, NodeRecord>| {
            let nodes = self.all_nodes().chain(us_gone).map(|node| {
                let is_member = members.contains_key(&super::state::host_key(node.host_id));
                let of_ring = node.to_ring_node();
                if is_member { of_ring } else { cluster::Node { tokens: Vec::new(), ..of_ring } }
            });
            Ring::with_guests(nodes.collect())?.with_cuts(self.cuts)
        };
        let target = self.plan.as_ref().map(|plan| ring_of(&plan.target)).transpose()?;
        Ok(MadeRings { ring: ring_of(&self.nodes)?, target })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metadata::Command;
    use model::Token;
    use std::net::{IpAddr, SocketAddr};

    /// A node with one token.
    pub(crate) fn record(host_id: u128) -> NodeRecord {
        NodeRecord {
            host_id,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            address: IpAddr::from([127, 0, 0, host_id as u8]),
            cql_port: 9042,
            internode_address: SocketAddr::from(([127, 0, 0, host_id as u8], 7000)),
            tokens: vec![((host_id as i64) << 58) - 1],
            shard_count: 2,
        }
    }

    fn metadata(hosts: &[u128]) -> Metadata {
        let mut metadata = Metadata::default();
        for (index, &host) in (1..).zip(hosts) {
            let (cluster_name, node) = ("c".to_owned(), record(host));
            metadata.apply(index, Command::AddNode { cluster_name, cuts: 256, node });
        }
        metadata
    }

    fn hosts(metadata: &Metadata) -> Vec<u128> {
        metadata.nodes.values().map(|node| node.host_id).collect()
    }

    fn start(metadata: &mut Metadata, index: u64, kind: PlanKind, host: u128) {
        metadata.apply(index, Command::StartPlan { kind, node: record(host) });
    }

    #[test]
    fn one_plan_at_a_time_and_its_target_becomes_the_ring() {
        let mut metadata = metadata(&[1, 2, 3]);
        start(&mut metadata, 10, PlanKind::Join, 4);
        start(&mut metadata, 11, PlanKind::Leave, 1);
        let plan = metadata.plan.clone().unwrap();
        assert_eq!((plan.host_id, plan.since), (4, 10), "the second is passed over");
        assert_eq!(hosts(&metadata), [1, 2, 3]);
        assert!(metadata.node(4).is_none() && metadata.known_node(4).is_some());
        metadata.apply(12, Command::FinishPlan { since: 9 });
        assert!(metadata.plan.is_some(), "that is of another plan");
        metadata.apply(13, Command::FinishPlan { since: 10 });
        assert_eq!((hosts(&metadata), &metadata.plan), (vec![1, 2, 3, 4], &None));
        start(&mut metadata, 14, PlanKind::Leave, 2);
        metadata.apply(15, Command::FinishPlan { since: 14 });
        assert_eq!(hosts(&metadata), [1, 3, 4]);
        assert!(metadata.is_gone(2) && !metadata.is_gone(1) && !metadata.is_gone(9));
    }

    #[test]
    fn a_plan_that_is_withdrawn_ends_with_the_ring_as_it_was() {
        let mut metadata = metadata(&[1, 2, 3]);
        start(&mut metadata, 10, PlanKind::Join, 4);
        metadata.apply(11, Command::WithdrawPlan { since: 10 });
        metadata.apply(12, Command::FinishPlan { since: 10 });
        let plan = metadata.plan.as_ref().expect("what was moved by then is not back");
        assert!(plan.is_withdrawn && plan.since == 11 && !metadata.is_gone(4));
        metadata.apply(13, Command::FinishPlan { since: 11 });
        assert_eq!((hosts(&metadata), metadata.is_gone(4)), (vec![1, 2, 3], true));
        start(&mut metadata, 14, PlanKind::Remove, 3);
        metadata.apply(15, Command::WithdrawPlan { since: 14 });
        metadata.apply(16, Command::FinishPlan { since: 15 });
        assert_eq!((hosts(&metadata), metadata.is_gone(3)), (vec![1, 2, 3], false));
    }

    #[test]
    fn a_plan_that_was_withdrawn_may_be_resumed() {
        let mut metadata = metadata(&[1, 2, 3]);
        start(&mut metadata, 10, PlanKind::Leave, 3);
        metadata.apply(11, Command::WithdrawPlan { since: 10 });
        metadata.apply(12, Command::ResumePlan { since: 10 });
        assert!(metadata.plan.as_ref().unwrap().is_withdrawn, "that is of before");
        metadata.apply(13, Command::ResumePlan { since: 11 });
        let plan = metadata.plan.as_ref().unwrap();
        assert_eq!((plan.is_withdrawn, plan.since), (false, 13));
        metadata.apply(14, Command::FinishPlan { since: 13 });
        assert_eq!((hosts(&metadata), metadata.is_gone(3)), (vec![1, 2], true));
    }

    #[test]
    fn a_node_takes_the_place_and_the_tokens_of_a_dead_one() {
        let mut metadata = metadata(&[1, 2, 3]);
        let dead = 3;
        let node = NodeRecord { tokens: record(dead).tokens, ..record(4) };
        metadata.apply(10, Command::StartPlan { kind: PlanKind::Replace { dead }, node });
        let rings = metadata.rings(HostId(4)).unwrap();
        let target = rings.target.unwrap();
        for (ring, members) in [(&rings.ring, vec![1, 2, 3]), (&target, vec![1, 2, 4])] {
            assert_eq!(ring.nodes().len(), 4, "both number all of them");
            assert_eq!(ring.members().map(|node| node.host_id.0).collect::<Vec<_>>(), members);
        }
        let mut withdrawn = metadata.clone();
        metadata.apply(11, Command::FinishPlan { since: 10 });
        assert_eq!(hosts(&metadata), [1, 2, 4]);
        assert!(metadata.is_gone(3) && !metadata.is_gone(4));
        withdrawn.apply(11, Command::WithdrawPlan { since: 10 });
        withdrawn.apply(12, Command::FinishPlan { since: 11 });
        assert_eq!(hosts(&withdrawn), [1, 2, 3]);
        assert!(withdrawn.is_gone(4) && !withdrawn.is_gone(3));
    }

    #[test]
    fn a_node_that_moves_meanwhile_is_known_by_its_new_address_in_both_rings() {
        let mut metadata = metadata(&[1, 2]);
        start(&mut metadata, 10, PlanKind::Join, 3);
        for host in [1, 3] {
            let node = NodeRecord { cql_port: 19_000 + host as u16, ..record(host) };
            metadata.apply(10 + host as u64, Command::UpdateNode { node });
        }
        assert_eq!(hosts(&metadata), [1, 2], "who comes is no member by that");
        let port = |host| metadata.known_node(host).map(|node| node.cql_port);
        assert_eq!((port(1), port(2), port(3)), (Some(19_001), Some(9_042), Some(19_003)));
        metadata.apply(20, Command::FinishPlan { since: 10 });
        assert_eq!(metadata.node(1).unwrap().cql_port, 19_001);
        assert_eq!(metadata.node(3).unwrap().cql_port, 19_003);
    }

    #[test]
    fn both_rings_number_all_nodes_and_a_node_that_has_gone_itself() {
        let mut metadata = metadata(&[1, 3]);
        start(&mut metadata, 10, PlanKind::Join, 2);
        let rings = metadata.rings(HostId(2)).unwrap();
        let target = rings.target.unwrap();
        for (ring, members) in [(&rings.ring, vec![1, 3]), (&target, vec![1, 2, 3])] {
            assert_eq!(ring.nodes().len(), 3);
            assert_eq!(ring.members().map(|node| node.host_id.0).collect::<Vec<_>>(), members);
        }
        assert_eq!(rings.ring.ranges(), target.ranges(), "no range is cut");
        metadata.apply(11, Command::FinishPlan { since: 10 });
        start(&mut metadata, 12, PlanKind::Leave, 1);
        metadata.apply(13, Command::FinishPlan { since: 12 });
        let of_the_gone = metadata.rings(HostId(1)).unwrap().ring;
        assert_eq!(of_the_gone.index_of(HostId(1)).map(|index| index.0), Some(0));
        assert!(of_the_gone.owners().iter().all(|(token, _)| *token != Token(record(1).tokens[0])));
        assert_eq!(metadata.rings(HostId(2)).unwrap().ring.index_of(HostId(1)), None);
    }
}
