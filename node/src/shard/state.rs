//! What a shard owns: its engine, its log, its replicas, and how entries are applied.

use super::clock::TimestampClock;
use super::closing::Closing;
use super::departures::Departure;
use super::homecoming::Homecoming;
use super::log::ShardLog;
use super::moves::Moves;
use super::snapshots::SnapshotFigures;
use super::standstill::StandingStill;
use super::tail::Tail;
use super::write::Waiter;
use crate::batch_log::{self, OpenBatches};
use crate::metadata::{Command, Metadata};
use crate::view::View;
use cdc::LogBuffer;
use cluster::consensus::{Kind, LogIndex, Term};
use cluster::liveness::{Board, MonotonicNanos};
use cluster::replica::{BadEntry, Committed, Local, LocalState, LogPosition, Replicas};
use cluster::{GroupId, HostId};
use model::entry::{Entry, Placement};
use model::{IdMap, TableId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::commitlog::LogError;
use storage::{CacheStatistics, Engine, TableStatistics, TokenInterval};

/// A shard's own data.
pub(super) struct ShardState {
    pub engine: Engine,
    pub log: ShardLog,
    pub replicas: Replicas<Waiter>,
    /// What nodes have promised each other, as it was last heard.
    pub support: Arc<Board>,
    /// The place in time of each group it leads, undecided entries included.
    pub times: IdMap<GroupId, LeaderTimes>,
    pub clock: TimestampClock,
    pub log_times: LogTimes,
    /// Whose closed time is read, and how closely it follows the clock.
    pub closing: Closing,
    /// The end of the logs that are followed.
    pub tail: Tail,
    /// Space in which log rows are made.
    pub log_buffer: LogBuffer,
    /// Shard 0 holds the metadata group.
    pub metadata: Option<MetadataState>,
    /// The token interval of each group, for truncation.
    pub intervals: BTreeMap<GroupId, TokenInterval>,
    /// Logged batches on record here.
    pub open_batches: OpenBatches,
    /// Set once the log has failed: nothing is acknowledged any more.
    pub failure: Option<String>,
    pub counters: Counters,
    /// The view whose tables and groups are here.
    pub adopted: Option<Arc<View>>,
    /// Groups of the log that the view does not place here.
    pub dormant: BTreeSet<GroupId>,
    /// How groups come to the nodes that shall hold them.
    pub moves: Moves,
    /// Groups that were held here, are held by others, and are being forgotten.
    pub departing: BTreeMap<GroupId, Departure>,
    /// How far the log says that groups are committed.
    pub noted: BTreeMap<GroupId, LogIndex>,
    /// What is remembered so that leadership comes home.
    pub homecoming: Homecoming,
    /// Members of groups led here that lack what the log has not kept, as the operator was told.
    pub left_behind: BTreeSet<(GroupId, HostId)>,
    /// Members that are being sent a snapshot, and the last entry that it contains.
    pub snapshots_sent: BTreeMap<(GroupId, HostId), LogIndex>,
    /// How much log the shard may keep.
    pub log_bytes_max: u64,
    /// Groups whose next entry waits for a table, as the operator was told.
    pub held_back: BTreeSet<GroupId>,
    /// The entry of each group that can never be taken here, as the operator was told.
    pub bad_entries: BTreeMap<GroupId, BadEntry>,
}

/// A leader's view of its group's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaderTimes {
    pub placement: Placement,
    /// What had been placed when this node began to lead.
    pub placed_at_start: i64,
}

/// The metadata group's state machine.
pub(super) struct MetadataState {
    pub metadata: Metadata,
    /// The last entry that the snapshot file contains.
    pub saved_index: u64,
}

/// The last log time of each partition with images that was written lately, by the partition's
/// hash. Two partitions of one hash share the later time, which is safe; a time that is not above
/// the range's closed time says nothing and is forgotten.
#[derive(Debug, Default)]
pub(super) struct LogTimes {
    newest: HashMap<u64, i64>,
    /// When as many are kept, old ones are looked for.
    prune_at: usize,
}

/// Fewer log times than this are never looked through.
const LOG_TIMES_PRUNED_MIN: usize = 1_024;

impl LogTimes {
    pub(super) fn get(&self, partition: u64) -> Option<i64> {
        self.newest.get(&partition).copied()
    }

    /// Takes over the times of a proposed entry, when every range is closed at `closed` or later.
    pub(super) fn extend(&mut self, times: &[(u64, i64)], closed: i64) {
        for (partition, time) in times {
            let newest = self.newest.entry(*partition).or_insert(*time);
            *newest = (*newest).max(*time);
        }
        if self.newest.len() > self.prune_at.max(LOG_TIMES_PRUNED_MIN) {
            self.newest.retain(|_, time| *time > closed);
            self.prune_at = self.newest.len() * 2;
        }
    }
}

/// What the shard has done since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub writes: u64,
    pub flushes: u64,
    pub compactions: u64,
    pub log_questions: u64,
}

/// Figures for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShardStatistics {
    pub writes: u64,
    pub flushes: u64,
    pub compactions: u64,
    pub log_questions: u64,
    pub memtable_bytes: u64,
    pub memory_bytes: u64,
    pub log_segments: u64,
    pub led_groups: u64,
    pub connections: u64,
    pub connection_bytes: u64,
    pub requests: u64,
    pub forwarded: u64,
    pub unfinished_batches: u64,
    pub unreadable_batches: u64,
    /// Groups that were sent an entry which can never be taken here.
    pub standing_still: u64,
    /// Members of groups led here, on live nodes, that get none of the entries they lack.
    pub followers_standing_still: u64,
    pub unknown_messages: u64,
    /// Nodes that decide on the metadata; on shard 0.
    pub metadata_voters: u64,
    pub snapshots_under_way: u64,
    pub snapshots: SnapshotFigures,
}

/// What a shard stores, for the virtual tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageReport {
    pub tables: Vec<(TableId, TableStatistics)>,
    pub cache: CacheStatistics,
    pub standing_still: StandingStill,
}

impl ShardState {
    pub(super) fn storage_report(&self) -> StorageReport {
        let ids = self.engine.table_ids();
        let tables = ids.filter_map(|id| Some((id, self.engine.table_statistics(id)?))).collect();
        let standing_still = self.standing_still();
        StorageReport { tables, cache: self.engine.cache_statistics(), standing_still }
    }

    pub(super) fn statistics(&self, now: MonotonicNanos) -> ShardStatistics {
        ShardStatistics {
            unfinished_batches: self.open_batches.overdue_count(now),
            standing_still: self.standing_still().group_count,
            followers_standing_still: self.replicas.standing_still(now).count() as u64,
            writes: self.counters.writes,
            flushes: self.counters.flushes,
            compactions: self.counters.compactions,
            log_questions: self.counters.log_questions,
            memtable_bytes: self.engine.memtable_bytes() as u64,
            memory_bytes: self.engine.memory_bytes() as u64,
            log_segments: self.log.log.segment_count() as u64,
            snapshots_under_way: self.snapshots_sent.len() as u64,
            led_groups: self.replicas.ids().filter(|id| self.replicas.is_settled(*id)).count()
                as u64,
            metadata_voters: self
                .replicas
                .members(GroupId::METADATA)
                .map_or(0, |members| members.voters.len() as u64),
            ..ShardStatistics::default()
        }
    }

    /// Closes every range up to what was placed in it: the images of some log are switched, and
    /// rows placed under the other rules must lie below all that comes. Done in the same step in
    /// which the shard begins to act by the new view; the entry that says so follows.
    pub(super) fn close_for_images(&mut self) {
        let ids: Vec<GroupId> = self.intervals.keys().copied().collect();
        for id in ids {
            let mut times = self.leader_times(id);
            times.placement = cdc::place::close_for_images(&times.placement);
            self.times.insert(id, times);
        }
    }

    /// Creates, changes and drops tables after a view, and applies what has waited for them.
    pub(super) fn adopt_tables(&mut self, view: &Arc<View>) {
        let mut gone: BTreeSet<TableId> = self.engine.table_ids().collect();
        for table in view.stored_tables().chain([&*batch_log::TABLE]) {
            self.engine.configure_table(table);
            gone.remove(&table.id);
        }
        // A table that was never dropped is in tables here and not in the metadata yet, after a start
        // from a snapshot of before it was made.
        for table in gone.into_iter().filter(|table| view.metadata.was_dropped(*table)) {
            self.engine.drop_table(table);
        }
        self.adopted = Some(view.clone());
        let (replicas, mut applier) = self.applier();
        replicas.apply_held_back(&mut applier);
    }

    /// The newest time that any group here is closed at. It trails the clock of its last write by
    /// five seconds at most: a floor for the clock when the log holds no entry any more.
    pub(super) fn closed_time(&self) -> i64 {
        let closed = self.replicas.ids().map(|id| self.engine.placement(id.0).closed).max();
        closed.unwrap_or(i64::MIN)
    }

    /// Brings the log forward: what was appended goes on its way, and what is held is applied,
    /// until nothing is left to do here. Where a write of the log is held at once, this is all
    /// there is between a proposal and its answer.
    pub(super) fn advance_log(&mut self, now: MonotonicNanos) -> Result<(), LogError> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method by itself is for one lifetime of the applier only"
        )]
        self.with_replicas(now, |replicas, local| replicas.tick(local))?;
        let mut position = self.log.submit()?;
        loop {
            self.log_synced(position, now)?;
            // Applying may have appended: a new leader's first entry.
            let next = self.log.submit()?;
            if next == position {
                return Ok(());
            }
            position = next;
        }
    }

    /// Hears from the log what is held, and applies what is committed by that.
    pub(super) fn log_synced(
        &mut self,
        position: LogPosition,
        now: MonotonicNanos,
    ) -> Result<(), LogError> {
        self.with_replicas(now, |replicas, local| replicas.log_synced(position, local))
    }

    /// Has the replicas act on this shard.
    pub(super) fn with_replicas<R>(
        &mut self,
        now: MonotonicNanos,
        act: impl FnOnce(&mut Replicas<Waiter>, &mut Local<'_, ShardLog, Applier<'_>, Board>) -> R,
    ) -> R {
        let mut applier = Applier {
            engine: &mut self.engine,
            metadata: &mut self.metadata,
            intervals: &self.intervals,
            times: &mut self.times,
            open_batches: &mut self.open_batches,
            tail: &mut self.tail,
            now,
            view: self.adopted.as_deref(),
            held_back: &mut self.held_back,
        };
        let (log, state, support) = (&mut self.log, &mut applier, &*self.support);
        act(&mut self.replicas, &mut Local { log, state, support, now })
    }

    /// Applies an entry of data that was found in the log at start.
    pub(super) fn replay(&mut self, group: GroupId, index: LogIndex, payload: &[u8]) {
        let (_, mut applier) = self.applier();
        let mut batch = Vec::new();
        applier.apply_data(group, index, payload, &mut batch);
        applier.engine.apply_all(&batch);
    }

    fn applier(&mut self) -> (&mut Replicas<Waiter>, Applier<'_>) {
        let applier = Applier {
            engine: &mut self.engine,
            metadata: &mut self.metadata,
            intervals: &self.intervals,
            times: &mut self.times,
            open_batches: &mut self.open_batches,
            tail: &mut self.tail,
            now: MonotonicNanos(0),
            view: self.adopted.as_deref(),
            held_back: &mut self.held_back,
        };
        (&mut self.replicas, applier)
    }
}

/// Mutations that are committed together as a rule, or fewer.
const BATCH_USUAL: usize = 64;

/// Where committed entries go.
pub(super) struct Applier<'a> {
    engine: &'a mut Engine,
    metadata: &'a mut Option<MetadataState>,
    intervals: &'a BTreeMap<GroupId, TokenInterval>,
    times: &'a mut IdMap<GroupId, LeaderTimes>,
    open_batches: &'a mut OpenBatches,
    tail: &'a mut Tail,
    now: MonotonicNanos,
    view: Option<&'a View>,
    held_back: &'a mut BTreeSet<GroupId>,
}

/// Adds the mutations of an entry to others that are to be applied together.
pub(super) fn add_mutations<'a>(
    batch: &mut Vec<storage::Committed<'a>>,
    group: GroupId,
    index: LogIndex,
    entry: &Entry<'a>,
) {
    let Entry::Write { mutations, .. } = entry else { return };
    batch.extend(mutations.clone().map(|mutation| {
        let mutation = mutation.expect("an entry of the log is well-formed");
        storage::Committed { group: group.0, index: index.0, mutation }
    }));
}

/// A table that an entry, with these mutations, changes, that is not here, and that was not dropped:
/// the metadata that makes it has not come yet. Nothing may be applied before, or the change would be
/// lost.
pub(super) fn awaited_table(
    engine: &Engine,
    view: Option<&View>,
    entry: &Entry<'_>,
    mutations: &[storage::Committed<'_>],
) -> Option<TableId> {
    let is_awaited = |table: &TableId| {
        let was_dropped = || view.is_some_and(|view| view.metadata.was_dropped(*table));
        !engine.has_table(*table) && !was_dropped()
    };
    match entry {
        Entry::Write { .. } => {
            mutations.iter().map(|committed| committed.mutation.table()).find(is_awaited)
        }
        Entry::Truncate { table, .. } => Some(*table).filter(is_awaited),
        // What it says is of the group's time alone.
        Entry::Switch { .. } | Entry::Reservation { .. } | Entry::Noop => None,
    }
}

impl LocalState for Applier<'_> {
    /// A member of the metadata's group passes over what it cannot read, as all others do.
    fn check(&self, group: GroupId, kind: &Kind, payload: &[u8]) -> Result<(), &'static str> {
        if *kind != Kind::Data || group == GroupId::METADATA {
            return Ok(());
        }
        Entry::check(payload).map(drop).map_err(|error| error.0)
    }

    fn apply<'a>(
        &mut self,
        entries: impl Iterator<Item = Committed<'a>>,
    ) -> Vec<(GroupId, LogIndex)> {
        let mut held_back: Vec<(GroupId, LogIndex)> = Vec::new();
        let mut batch = Vec::with_capacity(BATCH_USUAL);
        for Committed { group, index, kind, payload, .. } in entries {
            if held_back.iter().any(|(held, _)| *held == group) {
                continue;
            }
            if *kind == Kind::Data && !self.apply_data(group, index, payload, &mut batch) {
                held_back.push((group, index));
            }
        }
        self.engine.apply_all(&batch);
        held_back
    }

    /// What it knew of the group's time may be of an earlier term, and lack what others placed.
    fn leads(&mut self, group: GroupId, _: Term) {
        self.times.remove(&group);
    }
}

impl Applier<'_> {
    /// Applies an entry, its mutations with those before it in `batch`; `false` if a table has to come
    /// first.
    fn apply_data<'a>(
        &mut self,
        group: GroupId,
        index: LogIndex,
        payload: &'a [u8],
        batch: &mut Vec<storage::Committed<'a>>,
    ) -> bool {
        if group == GroupId::METADATA {
            self.apply_command(index, payload);
            return true;
        }
        // It was decided here, or checked when it came; and what is on the disk has checksums.
        let entry = Entry::decode(payload).expect("an entry of the log is well-formed");
        let start = batch.len();
        add_mutations(batch, group, index, &entry);
        if let Some(table) = awaited_table(self.engine, self.view, &entry, &batch[start..]) {
            batch.truncate(start);
            if self.held_back.insert(group) {
                let (group, index, table) = (group.0, index.0, table.0);
                tracing::info!(
                    "group {group:016x} waits at entry {index} until this shard knows table \
                     {table:032x}"
                );
            }
            return false;
        }
        if !self.held_back.is_empty() {
            self.held_back.remove(&group);
        }
        match entry {
            Entry::Noop => {}
            Entry::Write { placement, .. } => {
                for storage::Committed { mutation, .. } in &batch[start..] {
                    if self.tail.follows(mutation.table()) {
                        self.tail.push(mutation);
                    }
                    if mutation.table() == batch_log::TABLE_ID {
                        self.open_batches.applied(group, mutation, self.now);
                    }
                }
                if batch.len() > start {
                    self.engine.raise_placement(group.0, &placement);
                } else {
                    self.engine.raise_placement_alone(group.0, &placement);
                }
            }
            Entry::Truncate { placement, table, .. } => {
                self.engine.apply_all(batch);
                batch.clear();
                let interval = self.intervals.get(&group).copied().unwrap_or(TokenInterval::ALL);
                self.engine.truncate(group.0, index.0, table, interval);
                self.engine.raise_placement(group.0, &placement);
            }
            Entry::Switch { placement, .. } | Entry::Reservation { placement, .. } => {
                self.engine.raise_placement_alone(group.0, &placement);
            }
        }
        true
    }

    fn apply_command(&mut self, index: LogIndex, payload: &[u8]) {
        let state = self.metadata.as_mut().expect("shard 0 holds the metadata group");
        if index.0 <= state.metadata.index {
            return;
        }
        match Command::from_bytes(payload) {
            Ok(command) => state.metadata.apply(index.0, command),
            // Every node passes it over.
            Err(error) => tracing::error!("entry {} of the metadata: {error}", index.0),
        }
    }
}

/// The state that a new view is made from, when there is one.
impl ShardState {
    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref().map(|state| &state.metadata)
    }
}
