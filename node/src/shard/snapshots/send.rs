//! The leader's side: sends what a member lacks, and sees to it that it is tried again.

use super::{INSTALLED, SENT_MAX, StreamKind};
use crate::shard::Shard;
use cluster::consensus::{EntryId, LogIndex, Membership};
use cluster::liveness::MonotonicNanos;
use cluster::peer::{OutgoingStream, Peer, StreamError};
use cluster::{GroupId, HostId};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use storage::{Export, SnapshotBase, StorageError};

/// How long a member that did not take its snapshot is left alone.
const REST: Duration = Duration::from_secs(1);
/// Smaller snapshots are not worth a line: after a start there may be one for each range.
const TOLD_BYTES_MIN: u64 = 1 << 20;
/// How long a member may take to make a snapshot durable once it has all of it.
const INSTALL_TIME_MAX: Duration = Duration::from_mins(1);

/// Why a snapshot was not sent to its end.
enum SendFailure {
    /// Nothing is wrong: this node no longer leads the group, or the group has gone.
    NotLeader,
    Read(StorageError),
    Stream(StreamError),
    /// The member's answer is none.
    Answer,
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendFailure::NotLeader => f.write_str("this node does not lead the group any more"),
            SendFailure::Read(error) => error.fmt(f),
            SendFailure::Stream(error) => error.fmt(f),
            SendFailure::Answer => f.write_str("the answer is not understood"),
        }
    }
}

impl From<StreamError> for SendFailure {
    fn from(error: StreamError) -> Self {
        SendFailure::Stream(error)
    }
}

impl Shard {
    /// Begins to send snapshots to members that need one, a few at a time; whether there was one.
    pub(in crate::shard) fn send_snapshots(self: &Rc<Self>) -> bool {
        let now = self.monotonic_nanos();
        self.end_rests(now);
        let mut is_any = false;
        let needed: Vec<_> = self.state.borrow().replicas.snapshots_needed().collect();
        for (group, host) in needed {
            if self.state.borrow().snapshots_sent.len() >= SENT_MAX {
                return is_any;
            }
            let is_at_it = self.state.borrow().snapshots_sent.contains_key(&(group, host))
                || self.snapshots.resting.borrow().contains_key(&(group, host));
            let is_live = self.state.borrow().support.is_live(host, MonotonicNanos(now));
            if is_at_it || !is_live || group == GroupId::METADATA {
                continue;
            }
            if let Some((peer, export)) = self.begin_snapshot(group, host) {
                tokio::task::spawn_local(self.clone().send_snapshot(group, peer, export));
                is_any = true;
            }
        }
        is_any
    }

    /// Members that were left alone for long enough are asked what they have.
    fn end_rests(&self, now: u64) {
        let is_over = |_: &(GroupId, HostId), until: &mut u64| *until <= now;
        let over: Vec<_> =
            self.snapshots.resting.borrow_mut().extract_if(.., is_over).map(|(id, _)| id).collect();
        for (group, host) in over {
            self.snapshot_ended(group, host);
        }
    }

    /// Pins the group's state for a member.
    fn begin_snapshot(&self, group: GroupId, host: HostId) -> Option<(Peer, Export)> {
        let mut state = self.state.borrow_mut();
        let peer = state.replicas.peer(group, host)?;
        // It may lead and have nothing committed of its own yet: for that it may need this member.
        // What is applied was committed, whoever led.
        if state.replicas.leader(group) != Some(self.shared.host_id) {
            return None;
        }
        let (base, (named_at, members)) = state.replicas.applied_base(group)?;
        let parts = state.snapshot_parts(group);
        let export = state.engine.export(group.0, storage_base(base, named_at, &members), &parts);
        state.snapshots_sent.insert((group, host), base.index);
        Some((peer, export))
    }

    async fn send_snapshot(self: Rc<Self>, group: GroupId, peer: Peer, export: Export) {
        let base = export.head().base.index;
        tracing::debug!(
            "shard {}: group {:016x}: sending a snapshot as of entry {base}, about {} KiB, to node \
             {}",
            self.index,
            group.0,
            export.estimated_bytes() >> 10,
            peer.host_id
        );
        let result = self.send_chunks(group, peer, export).await;
        self.state.borrow_mut().snapshots_sent.remove(&(group, peer.host_id));
        match result {
            Ok(bytes) => {
                let done = format!(
                    "shard {}: group {:016x}: node {} has a snapshot as of entry {base}, \
                     {bytes} bytes",
                    self.index, group.0, peer.host_id
                );
                if bytes < TOLD_BYTES_MIN {
                    tracing::debug!("{done}");
                } else {
                    tracing::info!("{done}");
                }
                self.snapshots.count(|figures| figures.sent += 1);
                self.state.borrow_mut().left_behind.remove(&(group, peer.host_id));
                self.snapshot_ended(group, peer.host_id);
            }
            Err(failure) => {
                tracing::warn!(
                    "shard {}: group {:016x}: node {} did not get a snapshot: {failure}",
                    self.index,
                    group.0,
                    peer.host_id
                );
                self.snapshots.count(|figures| figures.failed += 1);
                let until = self.deadline_nanos(REST);
                self.snapshots.resting.borrow_mut().insert((group, peer.host_id), until);
            }
        }
        self.snapshots.ended.notify_one();
    }

    /// Sends the whole of it, and says how many bytes that was.
    async fn send_chunks(
        &self,
        group: GroupId,
        peer: Peer,
        mut export: Export,
    ) -> Result<u64, SendFailure> {
        let mut head = vec![StreamKind::Snapshot as u8];
        head.extend_from_slice(&group.0.to_le_bytes());
        let mut stream = self.peers.open_stream(peer, &head).await?;
        let mut sent_bytes = 0;
        loop {
            if self.state.borrow().replicas.leader(group) != Some(self.shared.host_id) {
                return Err(SendFailure::NotLeader);
            }
            // What it holds in memory is given back there as well.
            let reading = move || {
                let chunk = export.next_chunk();
                match chunk {
                    Ok(Some(chunk)) => Ok(Some((export, chunk))),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let read = self.shared.env.tasks.run_blocking(reading).await;
            let Some((rest, chunk)) = read.map_err(SendFailure::Read)? else { break };
            export = rest;
            stream.send(&chunk).await?;
            sent_bytes += chunk.len() as u64;
            self.snapshots.count(|figures| figures.sent_bytes += chunk.len() as u64);
        }
        finish(stream).await.map(|()| sent_bytes)
    }

    /// The leader begins anew with a member, which may have a snapshot now or still need one.
    fn snapshot_ended(&self, group: GroupId, host: HostId) {
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        let result =
            state.with_replicas(now, |replicas, local| replicas.snapshot_sent(group, host, local));
        drop(state);
        // A log that failed is met by the log's task.
        result.ok();
        self.wake_log();
    }
}

async fn finish(stream: OutgoingStream) -> Result<(), SendFailure> {
    let answer = stream.finish(INSTALL_TIME_MAX).await?;
    if *answer == [INSTALLED] { Ok(()) } else { Err(SendFailure::Answer) }
}

/// A base as the storage keeps it.
fn storage_base(base: EntryId, named_at: LogIndex, members: &Membership) -> SnapshotBase {
    let mut bytes = Vec::with_capacity(members.encoded_bytes());
    members.encode(&mut bytes);
    SnapshotBase {
        index: base.index.0,
        term: base.term.0,
        members_index: named_at.0,
        members: bytes,
    }
}
