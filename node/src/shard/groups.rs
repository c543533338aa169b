//! The replicas of data on a shard: which there are, who else holds them, and what a start finds.
//!
//! Who belongs to a group is said by its log. A group that is made anew has the replicas of the
//! placement for voters, and its log begins with a record that names them; each later change is an
//! entry; and when segments go that held such an entry, the record that says where the log begins
//! without them names the members there. A group whose members were never named is this node alone.
//!
//! How far a log was committed is not known after a start, but for what the log notes of it about
//! once a second and what is in tables. Entries up to there are applied. Those behind wait until a
//! leader says that they are committed: nothing of a start waits for another node. With one voter
//! there is nobody else to know, and all that is durable is committed.
//!
//! A node that comes to hold a range makes its replica when it hears of the plan, with the members of
//! the ring as it was: it votes for nobody that counts it until the group's own log names it. But a
//! member that was away may still go by older members, among which this node was, and count its vote.
//! So a replica that is made anew has the term and the vote of the one before it, and votes for no log
//! that ends before that one's did; the commit log keeps these when a group is removed from it.
//!
//! A group of the log that the view does not place here is *dormant*: it takes part in nothing, and
//! lets its segments go. Either the last keyspace of its setting was dropped, and the group does not
//! come back: a keyspace that is made again has other groups. Or the metadata that a start finds are
//! older than the log; then a later view places it, and it goes on where it was. Or the group is held
//! by other nodes now (`departures.rs`).

#[cfg(test)]
mod tests;

use super::log::{Beginning, held_entry};
use super::recovery::{OpenError, recovered};
use super::snapshots::decode_base;
use super::state::{ShardState, add_mutations, awaited_table};
use super::write::Waiter;
use crate::view::GroupReplicas;
use cluster::consensus::{EntryId, LogIndex, Membership, Recovered};
use cluster::liveness::MonotonicNanos;
use cluster::peer::Peer;
use cluster::replica::{HeldEntry, NewReplica, Replicas};
use cluster::{GroupId, HostId};
use model::entry::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use storage::Committed;
use storage::commitlog::{EntryKind, GroupReplay, LogError, Replay, ReplayedEntry};

/// Mutations that are gathered from the log before they are applied together.
const BATCH_MUTATIONS: usize = 256;

/// What a start has found of a group.
struct Found {
    /// With every membership that the log names.
    recovered: Recovered,
    /// The entries that are not applied, to the last.
    entries: Vec<HeldEntry>,
    /// The index behind these.
    next: u64,
}

/// Who a group's members are: those at a place in its log, and after each entry that named others.
type Memberships = Vec<(LogIndex, Arc<Membership>)>;

impl ShardState {
    /// Makes a replica of every group of data in the log, and applies what is known to be committed
    /// and is not in tables. The newest time in any entry comes back.
    pub(super) fn recover_groups(
        &mut self,
        replay: &Replay,
        host_id: HostId,
        now: MonotonicNanos,
    ) -> Result<i64, OpenError> {
        let mut found = BTreeMap::new();
        let flushed = self.engine.flushed_indexes();
        for (&id, group) in replay.groups().iter().filter(|(id, _)| **id != GroupId::METADATA.0) {
            let applied = flushed.get(&id).copied().unwrap_or(0);
            let recovered = found_group(group, host_id, LogIndex(applied))
                .and_then(|recovered| self.after_snapshot(GroupId(id), group, recovered))
                .map_err(|reason| OpenError::Group(GroupId(id), reason))?;
            found.insert(GroupId(id), Found { recovered, entries: Vec::new(), next: 0 });
        }
        let newest_time = self.apply_found(replay, &mut found)?;
        for (id, Found { mut recovered, entries, .. }) in found {
            recovered.commit = LogIndex(recovered.last.0 - entries.len() as u64);
            let named = |(index, _): &(LogIndex, Arc<Membership>)| *index <= recovered.commit;
            let in_force = recovered.memberships.iter().rposition(named).unwrap_or(0);
            recovered.memberships.drain(..in_force);
            self.add_replica(id, recovered, entries, now)?;
        }
        Ok(newest_time)
    }

    /// A group that was found, with the snapshot that was installed last. If the node was ended before
    /// the log was told, it is told now.
    fn after_snapshot(
        &mut self,
        id: GroupId,
        found: &GroupReplay,
        recovered: Recovered,
    ) -> Result<Recovered, String> {
        let Some(base) = self.engine.snapshot_base(id.0) else { return Ok(recovered) };
        let (base, (named_at, members)) =
            decode_base(base).ok_or("the members of its snapshot cannot be read")?;
        if found.start.index >= base.index.0 {
            return Ok(recovered);
        }
        let last = recovered.last;
        let recovered = recovered
            .after_snapshot(base, (named_at, members.clone()))
            .map_err(|error| error.to_string())?;
        let voids_tail = recovered.last == base.index && last > base.index;
        let begun = self.log.begin_behind(id, base, &members, voids_tail);
        begun.map_err(|error| error.to_string())?;
        // What is appended next is in the log behind this.
        self.log.has_begun_behind(id, base);
        Ok(recovered)
    }

    /// Applies what is known to be committed, and keeps the rest.
    fn apply_found(
        &mut self,
        replay: &Replay,
        found: &mut BTreeMap<GroupId, Found>,
    ) -> Result<i64, OpenError> {
        let mut newest_time = i64::MIN;
        let mut batch = Vec::with_capacity(BATCH_MUTATIONS);
        let result = replay.entries(
            |_| 0,
            |entry| {
                let Some(group) = found.get_mut(&GroupId(entry.group)) else { return Ok(()) };
                newest_time = newest_time.max(time_of(&entry));
                let Recovered { base, last, .. } = &group.recovered;
                if entry.index <= base.index.0 || entry.index > last.0 {
                    // Void, by a snapshot that the log does not speak of.
                    return Ok(());
                }
                if entry.index <= group.recovered.commit.0
                    && group.entries.is_empty()
                    && self.apply_known(&entry, &mut batch)
                {
                    return Ok(());
                }
                group.keep(&entry)
            },
        );
        self.engine.apply_all(&batch);
        result.map(|()| newest_time)
    }

    /// Applies an entry that is known to be committed, or lets it wait for others in `batch`; whether
    /// it can be applied.
    fn apply_known<'a>(
        &mut self,
        entry: &ReplayedEntry<'a>,
        batch: &mut Vec<Committed<'a>>,
    ) -> bool {
        if entry.kind != EntryKind::Data {
            return true;
        }
        let decoded = Entry::decode(entry.payload).expect("an entry of the log is well-formed");
        let (group, index, start) = (entry.group, entry.index, batch.len());
        add_mutations(batch, GroupId(group), LogIndex(index), &decoded);
        let (view, mutations) = (self.adopted.as_deref(), &batch[start..]);
        if awaited_table(&self.engine, view, &decoded, mutations).is_some() {
            batch.truncate(start);
            return false;
        }
        if let Entry::Write { placement, .. } = decoded {
            self.engine.raise_placement(group, &placement);
            if batch.len() >= BATCH_MUTATIONS {
                self.engine.apply_all(batch);
                batch.clear();
            }
            return true;
        }
        self.engine.apply_all(batch);
        batch.clear();
        self.replay(GroupId(group), LogIndex(index), entry.payload);
        true
    }

    fn add_replica(
        &mut self,
        id: GroupId,
        recovered: Recovered,
        entries: Vec<HeldEntry>,
        now: MonotonicNanos,
    ) -> Result<(), OpenError> {
        let placed = self.adopted.as_ref().and_then(|view| view.replicas_of_group(id));
        let is_placed = placed.is_some();
        let (rank, shards) = placed.map_or((0, Vec::new()), |p| (p.rank, shards_of(&p)));
        let new = NewReplica { recovered, entries, rank, shards };
        let added = self.replicas.add(id, new, now);
        added.map_err(|error| OpenError::Group(id, error.to_string()))?;
        if !is_placed {
            self.replicas.suspend(id);
            self.dormant.insert(id);
        }
        Ok(())
    }

    /// Takes part in the groups that the adopted view places on this shard; those that are new are
    /// made. Where this node is the only voter it stands for election at once.
    pub(super) fn adopt_groups(
        &mut self,
        shard: u16,
        shard_count: u16,
        now: MonotonicNanos,
    ) -> Result<(), OpenError> {
        let Some(view) = self.adopted.clone() else { return Ok(()) };
        self.intervals = view.groups_of_shard(shard, shard_count);
        let ids: Vec<GroupId> = self.intervals.keys().copied().collect();
        for id in ids {
            let Some(placed) = view.replicas_of_group(id) else { continue };
            if self.departing.contains_key(&id) {
                // It is made anew when nothing is left of what was here.
                continue;
            }
            if self.replicas.contains(id) {
                let shards = shards_of(&placed);
                self.with_replicas(now, |replicas, local| {
                    replicas.place(id, placed.rank, shards, local)
                })?;
                if self.dormant.remove(&id) {
                    self.replicas.resume(id, now);
                }
            } else {
                self.make_group(id, &placed, now)?;
            }
            if !self.replicas.is_settled(id) {
                self.with_replicas(now, |replicas, local| replicas.campaign(id, local))?;
            }
        }
        Ok(())
    }

    /// Makes a group that has no log yet.
    fn make_group(
        &mut self,
        id: GroupId,
        placed: &GroupReplicas,
        now: MonotonicNanos,
    ) -> Result<(), OpenError> {
        let members = Membership::of_voters(placed.hosts.iter().copied());
        // Of a replica that was here before. The log has them on.
        let (hard_state, vote_floor) = self.log.former(id);
        if !placed.others.is_empty() {
            self.log.begin(id, &members)?;
        }
        let memberships = vec![(LogIndex(0), Arc::new(members))];
        let recovered = Recovered { hard_state, memberships, vote_floor, ..Recovered::default() };
        self.add_replica(id, recovered, Vec::new(), now)
    }

    /// Whether every group of the newest view in which nobody else has a vote is led and knows what
    /// was committed before. The others are led when their members have agreed, by whomever.
    pub(super) fn leads_all(&self) -> bool {
        let is_led = |id: &GroupId| self.replicas.is_settled(*id) || !self.replicas.is_alone(*id);
        self.failure.is_some() || self.intervals.keys().all(is_led)
    }

    /// The shards of other nodes that hold replicas of this shard's groups.
    pub(super) fn member_shards(&self) -> BTreeSet<Peer> {
        let Some(view) = &self.adopted else { return BTreeSet::new() };
        let placed = self.intervals.keys().filter_map(|id| view.replicas_of_group(*id));
        placed.flat_map(|placed| placed.others).collect()
    }

    /// Notes in the log how far groups with other members are committed and applied, so that a start
    /// knows of it.
    pub(super) fn note_committed(&mut self) -> Result<bool, LogError> {
        let mut is_any = false;
        // Of the metadata its snapshot says so.
        for id in self.replicas.ids().filter(|id| *id != GroupId::METADATA) {
            let applied = self.replicas.applied(id);
            let noted = self.noted.get(&id).copied().unwrap_or_default();
            if applied > noted && !self.replicas.is_alone(id) {
                self.log.log.append_committed(id.0, applied.0)?;
                self.noted.insert(id, applied);
                is_any = true;
            }
        }
        Ok(is_any)
    }
}

/// A beginning of a group's log after an entry that is applied here.
pub(super) fn beginning(
    replicas: &Replicas<Waiter>,
    group: GroupId,
    index: LogIndex,
) -> Option<Beginning> {
    let term = replicas.term_at(group, index)?;
    let (named_at, members) = replicas.committed_members(group)?;
    let mut bytes = Vec::new();
    // What is named behind stays in the log; what was said of the beginning before stands.
    if named_at.0 > 0 && named_at <= index {
        members.encode(&mut bytes);
    }
    Some(Beginning { entry: EntryId { index, term }, members: bytes })
}

impl Found {
    /// Keeps an entry until a leader says that it is committed.
    fn keep(&mut self, entry: &ReplayedEntry) -> Result<(), OpenError> {
        let failed = |reason: &str| OpenError::Group(GroupId(entry.group), reason.to_owned());
        if !self.entries.is_empty() && entry.index != self.next {
            return Err(failed("the log lacks entries"));
        }
        self.next = entry.index.saturating_add(1);
        let held = held_entry(entry.term, entry.kind, entry.payload.to_vec());
        let held = held.ok_or_else(|| failed("an entry names no members"))?;
        self.entries.push(held);
        Ok(())
    }
}

fn shards_of(placed: &GroupReplicas) -> Vec<(HostId, u16)> {
    placed.others.iter().map(|peer| (peer.host_id, peer.shard)).collect()
}

/// A group as the log has it, with every membership that it names, when entries up to `applied` are
/// in tables.
fn found_group(
    group: &GroupReplay,
    host_id: HostId,
    applied: LogIndex,
) -> Result<Recovered, String> {
    let recovered = recovered(group, host_id);
    let memberships = memberships(group, host_id)?;
    let is_alone = memberships.iter().all(|(_, members)| members.voters == [host_id]);
    let last = recovered.last;
    let known = LogIndex(group.committed).max(applied).max(recovered.base.index).min(last);
    let commit = if is_alone { last } else { known };
    Ok(Recovered { commit, memberships, ..recovered })
}

/// The members at the beginning of a group's log, and after each entry in it that names others.
fn memberships(group: &GroupReplay, host_id: HostId) -> Result<Memberships, String> {
    let decode = |bytes: &[u8]| {
        let decoded = Membership::decode(bytes).map_err(|error| error.to_string())?;
        Ok::<_, String>(Arc::new(decoded.0))
    };
    let founders = match &group.start_members {
        Some(bytes) => decode(bytes)?,
        None => Arc::new(Membership::of_voters([host_id])),
    };
    let mut memberships = vec![(LogIndex(0), founders)];
    for (index, bytes) in group.memberships.iter().filter(|(i, _)| *i > group.start.index) {
        memberships.push((LogIndex(*index), decode(bytes)?));
    }
    Ok(memberships)
}

fn time_of(entry: &ReplayedEntry) -> i64 {
    if entry.kind != EntryKind::Data {
        return i64::MIN;
    }
    let decoded = Entry::decode(entry.payload).ok();
    decoded.and_then(|entry| entry.place_in_time()).map_or(i64::MIN, |(_, time)| time)
}
