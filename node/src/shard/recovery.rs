//! Starting a shard: what its log and its tables held when the node last stopped.
//!
//! 1. The engine opens: the tables that its manifest lists, up to the indexes they contain.
//! 2. The log opens: every segment is verified, a torn end is cut.
//! 3. On shard 0 the metadata group makes the first view, for which the others wait.
//! 4. Each group of data found, and each group of the view that is new, becomes a replica, and what is
//!    known to be committed and is not in tables is applied (`groups.rs`); a group whose only voter
//!    this node is campaigns, and leads as soon as its vote and its first entry are held. Nothing
//!    waits for other nodes.

use super::Shard;
use super::clock::{PublishedClock, TimestampClock};
use super::closing::Closing;
use super::decide::CLOSED_TRAILS_MICROS;
use super::homecoming::Homecoming;
use super::log::{ShardLog, former_last, vote_of};
use super::metadata_group::recovered_group;
use super::moves::Moves;
use super::state::{Counters, LogTimes, MetadataState, ShardState};
use super::tail::Tail;
use crate::batch_log::OpenBatches;
use crate::metadata::{GroupBase, Snapshot};
use crate::node::Shared;
use crate::view::{View, Views};
use cluster::consensus::{EntryId, LogIndex, Membership, Recovered, Term, TermRun};
use cluster::liveness::{Incarnation, MonotonicNanos};
use cluster::peer::Peers;
use cluster::replica::{LogPosition, NewReplica, Replicas};
use cluster::{GroupId, HostId};
use env::Env;
use env::clock::Clock;
use model::IdMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use storage::commitlog::{CommitLog, GroupReplay, LogError, LogOptions, Replay};
use storage::{Engine, EngineOptions, StorageError};

/// Why a shard cannot start.
#[derive(Debug)]
pub(crate) enum OpenError {
    Storage(StorageError),
    Log(LogError),
    /// What the log says of a group contradicts itself.
    Group(GroupId, String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Storage(error) => error.fmt(f),
            OpenError::Log(error) => write!(f, "commit log: {error}"),
            OpenError::Group(group, reason) => {
                write!(f, "commit log: group {:016x}: {reason}", group.0)
            }
        }
    }
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        OpenError::Storage(error)
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        OpenError::Log(error)
    }
}

/// Where and how a shard opens.
pub(crate) struct OpenOptions<'a> {
    pub shard: u16,
    pub host_id: HostId,
    /// How many times this node was started.
    pub incarnation: Incarnation,
    pub log_directory: &'a Path,
    pub table_directory: &'a Path,
    pub log: LogOptions,
    pub log_bytes_max: u64,
    pub engine: EngineOptions,
    /// Where the shard's clock shows what it has given out.
    pub clock: PublishedClock,
}

/// A shard whose log was read and whose entries have not been applied yet.
pub(super) struct Opened {
    pub state: ShardState,
    pub replay: Replay,
    clock: Clock,
}

impl Opened {
    /// Opens engine and log. `snapshot` is shard 0's, of the metadata.
    pub(super) fn open(
        env: &Env,
        options: &OpenOptions,
        snapshot: Option<&Snapshot>,
    ) -> Result<Opened, OpenError> {
        let engine = Engine::open(env.disk.clone(), options.table_directory, options.engine)?;
        let (log, replay, _task) = CommitLog::open_with_thread(
            &env.disk,
            options.log_directory,
            options.log,
            &env.tasks,
            &env.clock,
        )?;
        if let Some(torn) = replay.torn_tail() {
            tracing::warn!(
                "shard {}: the commit log ends within a write that was never acknowledged; cut at \
                 byte {} of segment {}",
                options.shard,
                torn.offset,
                torn.segment
            );
        }
        let metadata = snapshot.map(|snapshot| MetadataState {
            saved_index: snapshot.index(),
            metadata: snapshot.metadata.clone(),
        });
        let state = ShardState {
            engine,
            log: ShardLog::new(log, &replay),
            replicas: Replicas::new(options.host_id, options.incarnation),
            support: Arc::default(),
            times: IdMap::default(),
            clock: TimestampClock::new(i64::MIN, options.clock.clone()),
            log_times: LogTimes::default(),
            closing: Closing::default(),
            tail: Tail::default(),
            log_buffer: cdc::LogBuffer::new(),
            metadata,
            intervals: BTreeMap::new(),
            open_batches: OpenBatches::default(),
            failure: None,
            counters: Counters::default(),
            adopted: None,
            dormant: BTreeSet::new(),
            moves: Moves::default(),
            departing: BTreeMap::new(),
            noted: BTreeMap::new(),
            homecoming: Homecoming::default(),
            left_behind: BTreeSet::new(),
            snapshots_sent: BTreeMap::new(),
            log_bytes_max: options.log_bytes_max,
            held_back: BTreeSet::new(),
            bad_entries: BTreeMap::new(),
        };
        let mut opened = Opened { state, replay, clock: env.clock.clone() };
        let base = snapshot.and_then(|snapshot| snapshot.group.as_ref());
        opened.check_log_reaches_tables(base.is_some_and(GroupBase::is_received))?;
        if let Some(snapshot) = snapshot {
            let group = recovered_group(&opened.replay, snapshot, options.host_id)?;
            opened.add(GroupId::METADATA, group)?;
            opened.begin_after_snapshot(base)?;
        }
        Ok(opened)
    }

    /// A log becomes durable before tables do, so one that ends before them was damaged: its last
    /// batch, which cannot be told from one that was being written.
    /// Not so a snapshot of the metadata that came from another node.
    fn check_log_reaches_tables(&self, is_received: bool) -> Result<(), OpenError> {
        let mut elsewhere = self.state.engine.flushed_indexes();
        if let Some(metadata) = &self.state.metadata
            && !is_received
            && self.replay.groups().contains_key(&GroupId::METADATA.0)
        {
            elsewhere.insert(GroupId::METADATA.0, metadata.saved_index);
        }
        // What the log has removed goes from the tables next (`departures.rs`).
        elsewhere.retain(|id, _| !self.replay.removed().contains_key(id));
        for (id, index) in elsewhere {
            let group = self.replay.groups().get(&id);
            let end = group.map_or(0, |group| group.last_index.unwrap_or(0).max(group.start.index));
            // A snapshot became durable before the log was told of it.
            let base = self.state.engine.snapshot_base(id).map_or(0, |base| base.index);
            let end = end.max(base);
            if end < index {
                let reason = format!(
                    "entries up to {index} were flushed, but the log ends at {end}: its end is \
                     damaged"
                );
                return Err(OpenError::Group(GroupId(id), reason));
            }
        }
        Ok(())
    }

    /// Makes the replicas of data that the log knows or the view places here, and applies what is
    /// known to be committed. Ends the replay.
    pub(super) async fn recover_data(
        mut self,
        view: &Arc<View>,
        shard: u16,
        host_id: HostId,
        shard_count: u16,
    ) -> Result<ShardState, OpenError> {
        self.state.adopt_tables(view);
        self.state.intervals = view.groups_of_shard(shard, shard_count);
        let now = self.now();
        let newest_time = self.state.recover_groups(&self.replay, host_id, now)?;
        self.state.find_departures(&self.replay);
        self.state.adopt_groups(shard, shard_count, now)?;
        self.settle().await?;
        let mut state = self.state;
        // Entries say what the clock showed; without any it was as far ahead as it may have been.
        let closed = state.closed_time();
        let is_told = newest_time > i64::MIN;
        let ahead_micros = if is_told { 0 } else { CLOSED_TRAILS_MICROS };
        state.clock.raise(newest_time.max(closed.saturating_add(ahead_micros)));
        Ok(state)
    }

    /// Waits until the log holds what the campaigns appended, twice: votes, then first entries.
    pub(super) async fn settle(&mut self) -> Result<(), OpenError> {
        loop {
            let appended = self.state.log.log.appended();
            self.state.log.log.submit()?;
            self.state.log.log.synced(appended).await?;
            let position = LogPosition(appended.0);
            self.state.log_synced(position, self.now())?;
            if self.state.log.log.appended() == appended {
                return Ok(());
            }
        }
    }
}

/// Recovers a shard and puts it together; it serves when it is run.
pub(crate) async fn start(
    index: u16,
    shared: Arc<Shared>,
    snapshot: Option<Snapshot>,
) -> Result<Rc<Shard>, OpenError> {
    let mut entropy = shared.env.entropy.generator(&format!("shard-{index}"));
    let options = OpenOptions {
        shard: index,
        host_id: shared.host_id,
        incarnation: Incarnation(shared.data.identity.incarnation),
        log_directory: &shared.data.log(index),
        table_directory: &shared.data.tables(index),
        log: shared.log_options(index, entropy.u64()),
        log_bytes_max: shared.log_bytes_max(),
        engine: shared.engine_options(),
        clock: shared.clocks[usize::from(index)].clone(),
    };
    let mut opened = Opened::open(&shared.env, &options, snapshot.as_ref())?;
    if index == 0 {
        let view = opened.recover_metadata(&shared, &mut entropy).await?;
        shared.set_views(Views::new(view));
    }
    shared.wait_for_view().await;
    let view = shared.views().newest();
    let state = opened.recover_data(&view, index, shared.host_id, shared.shard_count).await?;
    let peers = Peers::new(&shared.env, &shared.registry, index);
    let rate = shared.config.limits.stream_bytes_per_second_of_shard(shared.shard_count);
    peers.0.set_stream_rate(rate);
    Ok(Shard::new(index, shared, view, state, entropy, peers))
}

impl Shard {
    /// The segment with which its log went on at this start; durable.
    pub(crate) fn log_segment(&self) -> u64 {
        self.state.borrow().log.log.first_sequence()
    }
}

impl Opened {
    pub(super) fn campaign(&mut self, id: GroupId) -> Result<(), OpenError> {
        let now = self.now();
        Ok(self.state.with_replicas(now, |replicas, local| replicas.campaign(id, local))?)
    }

    pub(super) fn now(&self) -> MonotonicNanos {
        MonotonicNanos(self.clock.monotonic_nanos())
    }

    fn add(&mut self, id: GroupId, new: NewReplica) -> Result<(), OpenError> {
        let now = self.now();
        let added = self.state.replicas.add(id, new, now);
        added.map_err(|error| OpenError::Group(id, format!("{error:?}")))
    }
}

/// A group as the log has it, of this node alone as far as that is known here.
pub(super) fn recovered(group: &GroupReplay, host_id: HostId) -> Recovered {
    let base = EntryId { index: LogIndex(group.start.index), term: Term(group.start.term) };
    let last = group.last_index.unwrap_or(0).max(group.start.index);
    let runs = group.term_runs.iter().map(|(first, term)| TermRun {
        first: LogIndex((*first).max(group.start.index + 1)),
        term: Term(*term),
    });
    Recovered {
        hard_state: vote_of(group.hard_state),
        base,
        runs: runs.collect(),
        last: LogIndex(last),
        commit: base.index,
        memberships: vec![(LogIndex(0), Arc::new(Membership::of_voters([host_id])))],
        vote_floor: former_last(group.former_end),
    }
}
