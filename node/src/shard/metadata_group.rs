//! The metadata group's replica on this node's shard 0: how it is found again at a start, and who
//! its members are.
//!
//! Its snapshot is `metadata.json`, which names the last entry that it contains and the members
//! then; the log has the rest. A node that is the only member leads at once and has applied all of
//! its log before it serves. Any other serves by the state of the snapshot, and applies the rest
//! when a leader tells that it is committed: it need not wait for a majority to start.
//!
//! Every node is a member, all of them on shard 0. The first [`VOTERS_MAX`] vote; the others are
//! sent the log.

use super::log::held_entry;
use super::recovery::{OpenError, Opened, recovered};
use super::state::ShardState;
use super::{Shard, Waiter};
use crate::feeds::majority_until;
use crate::metadata::{Command, GroupBase, NodeRecord, Snapshot};
use crate::node::Shared;
use crate::view::View;
use cluster::consensus::{Change, EntryId, LogIndex, Membership, Recovered, RecoveryError, Term};
use cluster::leadership::Support as _;
use cluster::liveness::MonotonicNanos;
use cluster::replica::{HeldEntry, NewReplica, PartitionMask};
use cluster::{GroupId, HostId, Ring};
use env::Entropy;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use storage::commitlog::{LogError, LogStart, Replay};
use tokio::sync::oneshot;

/// Members of the metadata group that vote. More would make each change wait for more nodes, and
/// two of five may fail.
pub(crate) const VOTERS_MAX: usize = 5;

/// The group's replica as the log and the snapshot have it.
pub(super) fn recovered_group(
    replay: &Replay,
    snapshot: &Snapshot,
    me: HostId,
) -> Result<NewReplica, OpenError> {
    let contradiction =
        |error: RecoveryError| OpenError::Group(GroupId::METADATA, error.to_string());
    let group = replay.groups().get(&GroupId::METADATA.0).cloned().unwrap_or_default();
    let in_log = !group.term_runs.is_empty() || group.start.index > 0;
    let found = recovered(&group, me);
    let (since, members) = match &snapshot.group {
        Some(base) => base.members(),
        None => (LogIndex(0), Arc::new(Membership::of_voters([me]))),
    };
    let first_named = since.max(found.base.index);
    let mut memberships = vec![(since, members.clone())];
    for (index, payload) in &group.memberships {
        if LogIndex(*index) > first_named {
            let (members, _) = Membership::decode(payload).map_err(|error| {
                OpenError::Group(GroupId::METADATA, format!("entry {index}: {error}"))
            })?;
            memberships.push((LogIndex(*index), Arc::new(members)));
        }
    }
    let found = Recovered { memberships, ..found };
    let recovered = match &snapshot.group {
        Some(base) => found.after_snapshot(base.last(), (since, members)).map_err(contradiction)?,
        None if in_log && found.base.index.0 > snapshot.metadata.index => {
            let reason = format!(
                "the metadata up to entry {} are in metadata.json, which is gone or an older copy",
                found.base.index.0
            );
            return Err(OpenError::Group(GroupId::METADATA, reason));
        }
        None if in_log => found,
        // All its entries were released, by a version that kept no more than the index.
        None => {
            let index = LogIndex(snapshot.metadata.index);
            let base = EntryId { index, term: Term(0) };
            Recovered { base, last: index, commit: index, ..found }
        }
    };
    let entries = entries_after(replay, recovered.commit, recovered.last);
    let shards = shards_of_all(snapshot, &recovered.memberships, me);
    Ok(NewReplica { recovered, entries, rank: 0, shards })
}

/// Shard 0 of every node that the snapshot knows, and of every member that the log names: a node that
/// was let in a moment before the end of this one may be a voter by the log, without whom nobody leads,
/// and be missing in the snapshot.
fn shards_of_all(
    snapshot: &Snapshot,
    memberships: &[(LogIndex, Arc<Membership>)],
    me: HostId,
) -> Vec<(HostId, u16)> {
    let mut shards: BTreeSet<(HostId, u16)> = shards_of(snapshot, me).into_iter().collect();
    let named = memberships.iter().flat_map(|(_, members)| members.members());
    shards.extend(named.filter(|host| *host != me).map(|host| (host, 0)));
    shards.into_iter().collect()
}

/// Every node's shard 0.
pub(super) fn shards_of(snapshot: &Snapshot, me: HostId) -> Vec<(HostId, u16)> {
    let hosts = snapshot.metadata.all_nodes().map(|node| HostId(node.host_id));
    hosts.filter(|host| *host != me).map(|host| (host, 0)).collect()
}

/// The group's entries of the log after `first`, up to `last`.
fn entries_after(replay: &Replay, first: LogIndex, last: LogIndex) -> Vec<HeldEntry> {
    let mut entries = Vec::new();
    if first >= last {
        return entries;
    }
    let flushed = |group| if group == GroupId::METADATA.0 { first.0 } else { u64::MAX };
    let result: Result<(), Infallible> = replay.entries(flushed, |entry| {
        // Members that cannot be read were found out before.
        entries.extend(held_entry(entry.term, entry.kind, entry.payload.to_vec()));
        Ok(())
    });
    match result {
        Ok(()) => entries,
        Err(never) => match never {},
    }
}

impl Opened {
    /// Tells the log where the metadata group begins, if a snapshot of another node took the place
    /// of what it held.
    pub(super) fn begin_after_snapshot(
        &mut self,
        base: Option<&GroupBase>,
    ) -> Result<(), LogError> {
        let Some(base) = base.filter(|base| base.is_received()) else { return Ok(()) };
        let EntryId { index, term } = base.last();
        let known = self.replay.groups().get(&GroupId::METADATA.0);
        let start = known.map_or(0, |known| known.start.index);
        if start >= index.0 {
            return Ok(());
        }
        let last = known.and_then(|known| known.last_index).unwrap_or(start);
        // Entries that follow on the snapshot were kept.
        let kept = self.state.replicas.last_index(GroupId::METADATA);
        let last = if kept > index { index } else { LogIndex(last) };
        let start = LogStart { index: index.0, term: term.0 };
        self.state.log.begin_after(GroupId::METADATA, last, start)
    }

    /// Makes the first view. A node that is the only member has applied its whole log by then; the
    /// first start of a cluster's first node gives it its tokens.
    pub(super) async fn recover_metadata(
        &mut self,
        shared: &Arc<Shared>,
        entropy: &mut Entropy,
    ) -> Result<View, OpenError> {
        let failed = |reason: String| OpenError::Group(GroupId::METADATA, reason);
        self.campaign(GroupId::METADATA)?;
        self.settle().await?;
        let leads = self.state.replicas.is_settled(GroupId::METADATA);
        let known = self.state.metadata().and_then(|m| m.known_node(shared.host_id.0)).cloned();
        let command = match known {
            None if !leads => {
                return Err(failed("the snapshot does not know this node".to_owned()));
            }
            None => Some(Command::AddNode {
                cluster_name: shared.registry.us().cluster_name,
                cuts: cluster::cuts_for(shared.shard_count),
                node: NodeRecord::of_this_node(shared, first_tokens(shared, entropy)),
            }),
            Some(known) => {
                let node = NodeRecord::of_this_node(shared, known.tokens.clone());
                // Otherwise the leader is told once this node runs.
                (leads && node != known).then_some(Command::UpdateNode { node })
            }
        };
        if let Some(command) = command {
            let (task, _) = oneshot::channel();
            let (payload, now) = (command.to_bytes(), self.now());
            let proposed = self.state.with_replicas(now, |replicas, local| {
                let (id, mask) = (GroupId::METADATA, PartitionMask::default());
                replicas.propose(id, payload, mask, || Waiter::Task(task, None), local)
            });
            proposed.map_err(|error| failed(format!("{error:?}")))?;
            self.settle().await?;
        }
        let metadata = self.state.metadata().cloned().unwrap_or_default();
        View::new(metadata, &shared.system_keyspaces, shared.host_id)
            .map_err(|error| failed(error.to_string()))
    }
}

/// The tokens of the first node of a cluster.
fn first_tokens(shared: &Shared, entropy: &mut Entropy) -> Vec<i64> {
    let count = usize::from(shared.config.token_count);
    let ring = Ring::new(Vec::new())
        .and_then(|ring| ring.with_cuts(cluster::cuts_for(shared.shard_count)));
    let ring = ring.expect("there are rings with that many cuts");
    let data_centre = &shared.config.data_center;
    let tokens = cluster::ring::choose_tokens(count, &ring, data_centre, || entropy.u64());
    tokens.into_iter().map(|token| token.0).collect()
}

impl ShardState {
    /// The metadata as it is applied, with its group; nothing while the members are not known.
    pub(super) fn metadata_snapshot(&self) -> Option<Snapshot> {
        let metadata = self.metadata()?.clone();
        let (last, (since, members)) = self.replicas.applied_base(GroupId::METADATA)?;
        Some(Snapshot { metadata, group: Some(GroupBase::new(last, (since, &members))) })
    }
}

/// What shard 0 knows of the group.
impl Shard {
    /// The metadata as it is applied, with its group; nothing while the members are not known.
    pub(crate) fn metadata_snapshot(&self) -> Option<Snapshot> {
        self.state.borrow().metadata_snapshot()
    }

    /// Whether this node leads the metadata group, and everything that was ever proposed to it is
    /// applied: what is decided now is decided by the newest state.
    pub(crate) fn metadata_is_decided(&self) -> bool {
        let replicas = &self.state.borrow().replicas;
        let id = GroupId::METADATA;
        replicas.may_decide(id) && replicas.applied(id) == replicas.last_index(id)
    }

    /// Whether this node leads the metadata group.
    pub(crate) fn leads_metadata(&self) -> bool {
        self.state.borrow().replicas.may_decide(GroupId::METADATA)
    }

    /// Whether what this node knows of the metadata is the newest there is.
    pub(crate) fn may_serve_metadata(&self) -> bool {
        let now = MonotonicNanos(self.monotonic_nanos());
        let state = self.state.borrow();
        state.replicas.may_serve(GroupId::METADATA, &*state.support, now)
    }

    /// Every shard 0 is a member's, or will be.
    pub(super) fn reach_metadata_members(&self, view: &View) {
        let now = MonotonicNanos(self.monotonic_nanos());
        let set = self.state.borrow_mut().with_replicas(now, |replicas, local| {
            let members = replicas.members(GroupId::METADATA).into_iter();
            // The view may be older than the log.
            let named: BTreeSet<HostId> = members.flat_map(Membership::members).collect();
            let known = view.ring.nodes().iter().map(|node| node.host_id);
            let hosts: BTreeSet<HostId> = known.chain(named).collect();
            let others = hosts.into_iter().filter(|host| *host != self.shared.host_id);
            let shards = others.map(|host| (host, 0)).collect();
            replicas.set_shards(GroupId::METADATA, shards, local)
        });
        if let Err(error) = set {
            // The log's task meets the failure and says so.
            tracing::debug!("members of the metadata group are not reached: {error}");
        }
        self.wake_log();
    }

    /// How many voters of the metadata group answer, this node counted if it votes, and how many
    /// have to.
    pub(crate) fn metadata_voters(&self) -> (u32, u32) {
        let now = MonotonicNanos(self.monotonic_nanos());
        let state = self.state.borrow();
        let Some(members) = state.replicas.members(GroupId::METADATA) else { return (0, 1) };
        let us = self.shared.host_id;
        let answers = |host: &&HostId| **host == us || state.support.is_live(**host, now);
        let alive = members.voters.iter().filter(answers).count();
        (alive as u32, members.voters.len() as u32 / 2 + 1)
    }

    /// Until when most of those that vote on the metadata have promised to support this node.
    pub(crate) fn supported_until(&self) -> MonotonicNanos {
        let state = self.state.borrow();
        let Some(members) = state.replicas.members(GroupId::METADATA) else {
            return MonotonicNanos(0);
        };
        let us = self.shared.host_id;
        let others = members.voters.iter().filter(|host| **host != us);
        let until = |host: &HostId| Some(state.support.support_from(*host)?.until);
        let votes = members.voters.contains(&us);
        majority_until(members.voters.len(), votes, others.filter_map(until).collect())
    }

    /// Adds a node to the metadata group, if it is no member: it is sent the log from here on. Says
    /// whether it is a member, or will be once what was appended is applied.
    pub(crate) fn add_metadata_learner(&self, host: HostId) -> bool {
        self.change_metadata_members(|members| {
            let is_member = members.members().any(|member| member == host);
            (!is_member).then_some(Change::AddLearner(host))
        })
    }

    /// One change of the members at a time: nodes that have gone are members no more, and members of
    /// the ring that follow the metadata vote, as long as there are few.
    pub(super) fn keep_metadata_members(&self) {
        if self.hand_over_metadata() {
            return;
        }
        let now = MonotonicNanos(self.monotonic_nanos());
        let support = self.state.borrow().support.clone();
        let view = self.view();
        let metadata = &view.metadata;
        let is_newest = self.metadata_is_decided()
            && self.state.borrow().metadata().is_some_and(|newest| newest.index <= view.index());
        if !is_newest || metadata.nodes.is_empty() {
            return;
        }
        self.change_metadata_members(|members| {
            let is_gone = |host: &HostId| metadata.known_node(host.0).is_none();
            if let Some(gone) = members.members().find(is_gone) {
                return Some(Change::Remove(gone));
            }
            let may_vote =
                |host: &&HostId| support.is_live(**host, now) && metadata.node(host.0).is_some();
            let has_room = members.voters.len() < VOTERS_MAX;
            let next = members.learners.iter().find(may_vote).filter(|_| has_room);
            next.map(|host| Change::Promote(*host))
        });
    }

    /// A node that goes leads the metadata no longer than it takes to find another. Whether that is
    /// so, and nothing else is to be done.
    fn hand_over_metadata(&self) -> bool {
        let (id, us) = (GroupId::METADATA, self.shared.host_id);
        let view = self.view();
        let stays = |host: HostId| {
            let members = match &view.metadata.plan {
                Some(plan) if !plan.is_withdrawn => &plan.target,
                _ => &view.metadata.nodes,
            };
            members.values().any(|node| node.host_id == host.0)
        };
        if view.metadata.nodes.is_empty() || stays(us) || !self.leads_metadata() {
            return false;
        }
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        let support = state.support.clone();
        let voters = state.replicas.members(id).map(|m| m.voters.clone()).unwrap_or_default();
        let mut heirs = voters.into_iter().filter(|host| *host != us && stays(*host));
        let is_begun = heirs.any(|heir| state.replicas.transfer(id, heir, &*support, now).is_ok());
        drop(state);
        if is_begun {
            self.wake_log();
        }
        true
    }

    /// Makes the change that the members want, if any; false if it was refused.
    fn change_metadata_members(&self, choose: impl FnOnce(&Membership) -> Option<Change>) -> bool {
        let id = GroupId::METADATA;
        let mut state = self.state.borrow_mut();
        if !state.replicas.is_settled(id) {
            return false;
        }
        let Some(change) = state.replicas.members(id).and_then(choose) else { return true };
        let now = MonotonicNanos(self.monotonic_nanos());
        let changed =
            state.with_replicas(now, |replicas, local| replicas.change_members(id, change, local));
        drop(state);
        self.wake_log();
        match changed {
            Ok(Ok(())) => {
                tracing::info!("the nodes that decide on schema and ring: {change}");
                true
            }
            Ok(Err(refusal)) => {
                tracing::debug!("the nodes that decide on schema and ring: {change}: {refusal:?}");
                false
            }
            // The log's task meets the failure and says so.
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Metadata;
    use std::net::{IpAddr, SocketAddr};

    /// The founder was killed when the second node was a voter by its log and not yet in its snapshot.
    /// It could neither ask that one for its vote nor answer, so nobody ever led.
    #[test]
    fn a_voter_that_the_snapshot_does_not_know_is_reached() {
        let mut metadata = Metadata::default();
        let node = NodeRecord {
            host_id: 1,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            address: IpAddr::from([127, 0, 0, 1]),
            cql_port: 9042,
            internode_address: SocketAddr::from(([127, 0, 0, 1], 7000)),
            tokens: vec![1],
            shard_count: 2,
        };
        metadata.apply(1, Command::AddNode { cluster_name: "c".to_owned(), cuts: 256, node });
        let snapshot = Snapshot { metadata, group: None };
        let voters = Arc::new(Membership::of_voters([HostId(1), HostId(2)]));
        let shards = shards_of_all(&snapshot, &[(LogIndex(4), voters)], HostId(1));
        assert_eq!(shards, [(HostId(2), 0)]);
    }
}
