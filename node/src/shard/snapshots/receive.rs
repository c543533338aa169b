//! The follower's side: takes a snapshot, and becomes what it says.

use super::{INSTALLED, RECEIVED_MAX};
use crate::shard::Shard;
use cluster::GroupId;
use cluster::consensus::{EntryId, LogIndex, Membership, Term};
use cluster::liveness::MonotonicNanos;
use cluster::peer::{IncomingStream, StreamError};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use storage::commitlog::{LogError, LogPosition};
use storage::{Import, ImportError, Imported, InstallError, SnapshotBase};

/// Bytes that are gathered before a thread writes them.
const FEED_BYTES: usize = 256 << 10;
/// How long to wait before looking again for a manifest that another task is writing.
const MANIFEST_WAIT: Duration = Duration::from_millis(5);

/// A base with its members, decoded.
type Base = (EntryId, (LogIndex, Arc<Membership>));

/// Why a snapshot was not taken over.
enum ReceiveFailure {
    /// This shard has no part in the group, or is at one of it already, or at too many.
    NotWanted(&'static str),
    /// What is here is as new.
    Outdated {
        applied: LogIndex,
        base: LogIndex,
    },
    Stream(StreamError),
    Import(ImportError),
    Install(InstallError),
    /// The members cannot be read, or this node is none of them.
    Members,
    /// The log has failed, or contradicts the snapshot.
    Log(String),
}

impl fmt::Display for ReceiveFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReceiveFailure::NotWanted(why) => f.write_str(why),
            ReceiveFailure::Outdated { applied, base } => {
                write!(f, "it is as of entry {}, and {} are applied", base.0, applied.0)
            }
            ReceiveFailure::Stream(error) => error.fmt(f),
            ReceiveFailure::Import(error) => error.fmt(f),
            ReceiveFailure::Install(error) => error.fmt(f),
            ReceiveFailure::Members => f.write_str("it does not name this node as a member"),
            ReceiveFailure::Log(why) => write!(f, "the commit log: {why}"),
        }
    }
}

impl From<StreamError> for ReceiveFailure {
    fn from(error: StreamError) -> Self {
        ReceiveFailure::Stream(error)
    }
}

impl From<ImportError> for ReceiveFailure {
    fn from(error: ImportError) -> Self {
        ReceiveFailure::Import(error)
    }
}

impl Shard {
    /// Takes the stream of a snapshot whose head says what follows the kind; whether it is one.
    pub(crate) fn take_snapshot(self: &Rc<Self>, stream: IncomingStream, head: &[u8]) -> bool {
        let Ok(group) = <[u8; 8]>::try_from(head) else { return false };
        let group = GroupId(u64::from_le_bytes(group));
        tokio::task::spawn_local(self.clone().receive_snapshot(group, stream));
        true
    }

    async fn receive_snapshot(self: Rc<Self>, group: GroupId, mut stream: IncomingStream) {
        let from = stream.peer().host_id;
        let result = match self.begin_import(group, &stream) {
            Ok(import) => {
                let result = self.take_over(group, import, &mut stream).await;
                self.snapshots.receiving.borrow_mut().remove(&group);
                result
            }
            Err(failure) => Err(failure),
        };
        match result {
            Ok(base) => {
                tracing::debug!(
                    "shard {}: group {:016x}: a snapshot of node {from} is installed, as of entry {}",
                    self.index,
                    group.0,
                    base.0
                );
                self.snapshots.count(|figures| figures.received += 1);
                // Among what came may be records of batches that this node would have to finish.
                let shard = self.clone();
                tokio::task::spawn_local(async move { shard.find_batches().await });
                // A sender that is gone need not know.
                stream.answer(&[INSTALLED]).ok();
            }
            // The sender learns it as its stream breaks.
            Err(failure) => {
                tracing::warn!(
                    "shard {}: group {:016x}: a snapshot of node {from} is not taken: {failure}",
                    self.index,
                    group.0
                );
                self.snapshots.count(|figures| figures.failed += 1);
            }
        }
    }

    fn begin_import(
        &self,
        group: GroupId,
        stream: &IncomingStream,
    ) -> Result<Import, ReceiveFailure> {
        let mut state = self.state.borrow_mut();
        let is_held = state.intervals.contains_key(&group) && state.replicas.contains(group);
        let from = stream.peer();
        if !is_held || state.replicas.peer(group, from.host_id) != Some(from) {
            return Err(ReceiveFailure::NotWanted("the group has no place here or there"));
        }
        let mut receiving = self.snapshots.receiving.borrow_mut();
        if receiving.len() >= RECEIVED_MAX || receiving.contains(&group) {
            return Err(ReceiveFailure::NotWanted("others are being received"));
        }
        receiving.insert(group);
        let parts = state.snapshot_parts(group);
        Ok(state.engine.import(group.0, &parts))
    }

    /// Receives all of it, and makes it the group's data; says as of which entry.
    async fn take_over(
        self: &Rc<Self>,
        group: GroupId,
        import: Import,
        stream: &mut IncomingStream,
    ) -> Result<LogIndex, ReceiveFailure> {
        let imported = self.receive_chunks(group, import, stream).await?;
        let base = match self.judge_base(group, &imported.head().base) {
            Ok(base) => base,
            Err(failure) => {
                self.state.borrow_mut().engine.abandon_import(imported);
                return Err(failure);
            }
        };
        let index = base.0.index;
        self.install(group, base, imported).await?;
        Ok(index)
    }

    /// Writes what comes into files. Should it fail, they are removed.
    async fn receive_chunks(
        &self,
        group: GroupId,
        mut import: Import,
        stream: &mut IncomingStream,
    ) -> Result<Imported, ReceiveFailure> {
        let tasks = &self.shared.env.tasks;
        let mut is_judged = false;
        loop {
            let (bytes, is_end) = match gather(stream).await {
                Ok(gathered) => gathered,
                Err(error) => {
                    tasks.run_blocking(move || import.discard()).await;
                    return Err(error.into());
                }
            };
            let byte_count = bytes.len() as u64;
            self.snapshots.count(|figures| figures.received_bytes += byte_count);
            let feeding = move || {
                let fed = import.feed(&bytes);
                (import, fed)
            };
            let (rest, fed) = tasks.run_blocking(feeding).await;
            import = rest;
            fed?;
            if let Some(head) = import.head().filter(|_| !is_judged) {
                is_judged = true;
                if let Err(failure) = self.judge_base(group, &head.base) {
                    tasks.run_blocking(move || import.discard()).await;
                    return Err(failure);
                }
            }
            if is_end {
                return Ok(tasks.run_blocking(move || import.finish()).await?);
            }
        }
    }

    /// Whether the group wants a snapshot with this base, and the base.
    fn judge_base(&self, group: GroupId, base: &SnapshotBase) -> Result<Base, ReceiveFailure> {
        let (entry, members) = decode_base(base).ok_or(ReceiveFailure::Members)?;
        if !members.1.members().any(|member| member == self.shared.host_id) {
            return Err(ReceiveFailure::Members);
        }
        let applied = self.state.borrow().replicas.applied(group);
        if entry.index <= applied {
            return Err(ReceiveFailure::Outdated { applied, base: entry.index });
        }
        Ok((entry, members))
    }

    /// Puts the snapshot in the place of the group's data and of its log, and waits until both are
    /// durable. The group takes no input meanwhile, and never again should the log have failed.
    async fn install(
        self: &Rc<Self>,
        group: GroupId,
        (base, members): Base,
        imported: Imported,
    ) -> Result<(), ReceiveFailure> {
        let now = MonotonicNanos(self.monotonic_nanos());
        {
            let state = &mut *self.state.borrow_mut();
            state.replicas.suspend(group);
            if let Err(error) = state.engine.install(imported) {
                state.replicas.resume(group, now);
                return Err(ReceiveFailure::Install(error));
            }
            state.times.remove(&group);
            // Rows of followed logs may have come with it.
            let placed = state.engine.placement(group.0).placed;
            state.tail.skipped(placed);
        }
        let has_failed = || ReceiveFailure::Log("it has failed".to_owned());
        if !self.make_installed_durable(group).await {
            return Err(has_failed());
        }
        let begun = self.begin_log_after(group, base, &members.1).await;
        let begun = begun.map_err(|error| ReceiveFailure::Log(error.to_string()))?;
        if !self.log_durable(begun).await {
            return Err(has_failed());
        }
        let state = &mut *self.state.borrow_mut();
        state.log.has_begun_behind(group, base);
        let now = MonotonicNanos(self.monotonic_nanos());
        let replaced = state.replicas.replace_by_snapshot(group, base, members, now);
        self.wake_log();
        self.settled.notify_waiters();
        replaced.map_err(|error| ReceiveFailure::Log(error.to_string()))
    }

    /// Waits until a manifest that lists what was installed is durable. False when the log has
    /// failed, before which no manifest may be written.
    async fn make_installed_durable(self: &Rc<Self>, group: GroupId) -> bool {
        loop {
            if self.state.borrow().engine.is_installed(group.0) {
                return true;
            }
            let job = self.state.borrow_mut().engine.manifest_job();
            let is_done = match job {
                Some(job) => self.run_job(job).await,
                None => false,
            };
            if self.has_failed() {
                return false;
            }
            if !is_done {
                self.shared.env.clock.sleep(MANIFEST_WAIT).await;
            }
        }
    }

    /// Tells the log that the group begins behind the snapshot, once it has room for that.
    async fn begin_log_after(
        &self,
        group: GroupId,
        base: EntryId,
        members: &Membership,
    ) -> Result<LogPosition, LogError> {
        loop {
            {
                let state = &mut *self.state.borrow_mut();
                let continues = state.replicas.term_at(group, base.index) == Some(base.term);
                let voids_tail = !continues && state.replicas.last_index(group) > base.index;
                match state.log.begin_behind(group, base, members, voids_tail) {
                    Err(LogError::LogFull { .. }) => {}
                    result => return result,
                }
            }
            self.shared.env.clock.sleep(MANIFEST_WAIT).await;
        }
    }
}

/// The next bytes, and whether they are the last.
async fn gather(stream: &mut IncomingStream) -> Result<(Vec<u8>, bool), StreamError> {
    let mut gathered = Vec::with_capacity(FEED_BYTES * 2);
    while gathered.len() < FEED_BYTES {
        match stream.next().await? {
            Some(bytes) => gathered.extend_from_slice(&bytes),
            None => return Ok((gathered, true)),
        }
    }
    Ok((gathered, false))
}

/// A base as the consensus core has it; nothing if the members cannot be read.
pub(in crate::shard) fn decode_base(base: &SnapshotBase) -> Option<Base> {
    let (members, rest) = Membership::decode(&base.members).ok()?;
    let entry = EntryId { index: LogIndex(base.index), term: Term(base.term) };
    rest.is_empty().then(|| (entry, (LogIndex(base.members_index), Arc::new(members))))
}
