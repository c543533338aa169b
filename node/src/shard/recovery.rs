//! Starting a shard: what its log and its tables held when the node last stopped.
//!
//! 1. The engine opens: the tables that its manifest lists, up to the indexes they contain.
//! 2. The log opens: every segment is verified, a torn end is cut.
//! 3. Each group found, and each group of the ring that is new, becomes a replica, and campaigns;
//!    with one member it leads as soon as its vote and its first entry are held.
//! 4. Everything committed and not in tables is applied.

use super::Shard;
use super::clock::{PublishedClock, TimestampClock};
use super::log::ShardLog;
use super::metadata_group::recovered_group;
use super::state::{Counters, LogTimes, MetadataState, ShardState};
use crate::batch_log::OpenBatches;
use crate::metadata::{GroupBase, Snapshot};
use crate::node::Shared;
use crate::view::Views;
use cluster::consensus::{EntryId, HardState, LogIndex, Membership, Recovered, Term, TermRun};
use cluster::liveness::{Incarnation, MonotonicNanos};
use cluster::peer::Peers;
use cluster::replica::{LogPosition, NewReplica, Replicas};
use cluster::{GroupId, HostId};
use env::Env;
use env::clock::Clock;
use model::IdMap;
use model::entry::Entry;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use storage::commitlog::{CommitLog, EntryKind, GroupReplay, LogError, LogOptions, Replay};
use storage::{Committed, Engine, EngineOptions, StorageError};

/// Mutations that are gathered from the log before they are applied together.
const BATCH_MUTATIONS: usize = 256;

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
            log_buffer: cdc::LogBuffer::new(),
            metadata,
            intervals: BTreeMap::new(),
            open_batches: OpenBatches::default(),
            failure: None,
            counters: Counters::default(),
            foreseen: None,
        };
        let mut opened = Opened { state, replay, clock: env.clock.clone() };
        let base = snapshot.and_then(|snapshot| snapshot.group.as_ref());
        opened.check_log_reaches_tables(base.is_some_and(GroupBase::is_received))?;
        opened.add_groups(options.host_id)?;
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
        for (id, index) in elsewhere {
            let group = self.replay.groups().get(&id);
            let end = group.map_or(0, |group| group.last_index.unwrap_or(0).max(group.start.index));
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

    /// Makes a replica of every group of data the log knows.
    fn add_groups(&mut self, host_id: HostId) -> Result<(), OpenError> {
        let groups: Vec<_> = self.replay.groups().iter().map(|(id, g)| (*id, g.clone())).collect();
        for (id, group) in groups.into_iter().filter(|(id, _)| *id != GroupId::METADATA.0) {
            let id = GroupId(id);
            self.add(id, recovered(&group, host_id))?;
        }
        Ok(())
    }

    /// Leads every group that is here, with those of the view that are new.
    async fn lead(&mut self, groups: &[GroupId], host_id: HostId) -> Result<(), OpenError> {
        for id in groups {
            if !self.state.replicas.contains(*id) {
                self.add(*id, new_group(host_id))?;
            }
        }
        let ids: Vec<_> = self.state.replicas.ids().collect();
        for id in ids {
            if !self.state.replicas.is_settled(id) {
                self.campaign(id)?;
            }
        }
        self.settle().await
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

    /// Applies what was committed before the restart and is not in tables. Ends the replay.
    fn apply(self) -> ShardState {
        let Opened { mut state, replay, .. } = self;
        let mut newest_time = i64::MIN;
        let mut batch = Vec::with_capacity(BATCH_MUTATIONS);
        for_each_committed(&replay, |group, index, payload| {
            if group == GroupId::METADATA || index > state.replicas.commit(group) {
                return;
            }
            newest_time = newest_time.max(time_of(payload));
            if let Ok(Entry::Write { placement, mutations, .. }) = Entry::decode(payload) {
                batch.extend(mutations.map(|mutation| Committed {
                    group: group.0,
                    index: index.0,
                    mutation: mutation.expect("an entry of the log is well-formed"),
                }));
                state.engine.raise_placement(group.0, &placement);
            } else {
                state.engine.apply_all(&batch);
                batch.clear();
                state.replay(group, index, payload);
            }
            if batch.len() >= BATCH_MUTATIONS {
                state.engine.apply_all(&batch);
                batch.clear();
            }
        });
        state.engine.apply_all(&batch);
        state.clock.raise(newest_time.max(state.closed_time()));
        state
    }
}

/// Every entry of data in the log.
fn for_each_committed<'a>(replay: &'a Replay, mut each: impl FnMut(GroupId, LogIndex, &'a [u8])) {
    let result: Result<(), std::convert::Infallible> = replay.entries(
        |_| 0,
        |entry| {
            if entry.kind != EntryKind::Data {
                return Ok(());
            }
            each(GroupId(entry.group), LogIndex(entry.index), entry.payload);
            Ok(())
        },
    );
    match result {
        Ok(()) => {}
        Err(never) => match never {},
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
    opened.state.adopt_tables(&view);
    let groups = view.groups_of_shard(index, shared.shard_count);
    let ids: Vec<GroupId> = groups.keys().copied().collect();
    opened.lead(&ids, shared.host_id).await?;
    opened.state.intervals = groups;
    let state = opened.apply();
    let peers = Peers::new(&shared.env, &shared.registry, index);
    Ok(Shard::new(index, shared, view, state, entropy, peers))
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

fn time_of(payload: &[u8]) -> i64 {
    match Entry::decode(payload) {
        Ok(
            Entry::Write { time, .. } | Entry::Truncate { time, .. } | Entry::Images { time, .. },
        ) => time,
        _ => i64::MIN,
    }
}

/// A group that has no log yet, with this node as its only member.
pub(super) fn new_group(host_id: HostId) -> NewReplica {
    recovered(&GroupReplay::default(), host_id)
}

pub(super) fn recovered(group: &GroupReplay, host_id: HostId) -> NewReplica {
    let base = EntryId { index: LogIndex(group.start.index), term: Term(group.start.term) };
    let last = group.last_index.unwrap_or(0).max(group.start.index);
    let runs = group.term_runs.iter().map(|(first, term)| TermRun {
        first: LogIndex((*first).max(group.start.index + 1)),
        term: Term(*term),
    });
    let recovered = Recovered {
        hard_state: HardState {
            term: Term(group.hard_state.term),
            voted_for: group.hard_state.vote.map(HostId),
        },
        base,
        runs: runs.collect(),
        last: LogIndex(last),
        commit: base.index,
        memberships: vec![(LogIndex(0), Arc::new(Membership::of_voters([host_id])))],
    };
    NewReplica { recovered, ..NewReplica::default() }
}
