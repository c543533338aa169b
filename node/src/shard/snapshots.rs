//! Snapshots of groups of data between nodes: what a replica gets whose entries the leader's log no
//! longer has.
//!
//! ```text
//!   leader                                      follower
//!   Replicas::snapshots_needed
//!   Engine::export ── blocking thread ─┐
//!   Peers::open_stream ════════════════╪══════▶ Event::Stream
//!      at a rate, as fast as it is taken       Engine::import ── blocking thread
//!                                              suspend · install · manifest · log · replace
//!   Replicas::snapshot_sent ◀══════════════════ answer
//! ```
//!
//! - The leader sends its own applied state, to a few members at a time, and keeps the entries after
//!   it in its log for them meanwhile (`ShardState::snapshots_sent`). Whatever comes between (it is killed, it
//!   no longer leads, the connection breaks) ends that attempt; the core asks again for whoever still
//!   lacks entries.
//! - The follower serves and votes while it receives. It stops taking part in the group only from the
//!   moment when the files are complete until they count, in the order of `cluster::consensus`'s
//!   `snapshot.rs`: a crash at any point leaves the old replica or the new one.
//!
//! The bytes are the storage's (`docs/formats/snapshot.md`); the metadata's group is not sent so.

mod receive;
mod send;

pub(super) use receive::decode_base;

use super::state::ShardState;
use crate::batch_log;
use cluster::{GroupId, HostId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use storage::{SnapshotPart, TokenInterval};
use tokio::sync::Notify;

/// Snapshots that a shard sends at a time. Each may keep what was in memory when it began.
const SENT_MAX: usize = 2;
/// Snapshots that a shard receives at a time.
const RECEIVED_MAX: usize = 8;

/// What a bulk stream is, as the first byte of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StreamKind {
    /// A snapshot of a group of data: the group's id (8 bytes, little endian) follows.
    Snapshot = 1,
}

/// What the receiver answers: it is installed.
const INSTALLED: u8 = 1;

/// The snapshots that a shard is at.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Failed, and tried again from this moment of the monotonic clock on.
    resting: RefCell<BTreeMap<(GroupId, HostId), u64>>,
    /// Groups that are being received.
    receiving: RefCell<BTreeSet<GroupId>>,
    /// One that was sent has ended, well or not.
    ended: Notify,
    figures: Cell<SnapshotFigures>,
}

/// What became of a shard's snapshots since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SnapshotFigures {
    pub sent: u64,
    pub sent_bytes: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// Begun, on either side, and not brought to an end.
    pub failed: u64,
}

impl Snapshots {
    pub(crate) fn figures(&self) -> SnapshotFigures {
        self.figures.get()
    }

    /// Waits until one that was sent has ended.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Whether a group is being received.
    pub(super) fn is_receiving(&self, group: GroupId) -> bool {
        self.receiving.borrow().contains(&group)
    }

    /// How many are being received.
    pub(crate) fn received_now(&self) -> usize {
        self.receiving.borrow().len()
    }

    fn count(&self, change: impl FnOnce(&mut SnapshotFigures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }
}

impl ShardState {
    /// The tables of a group's setting, and its tokens in them; with them the records of logged
    /// batches that lie in its log. A node without a record that the others have may leave a batch
    /// unfinished should they all be lost. That is risked where groups of several settings have the
    /// range: their records lie at one token, and those of one would take the place of the others'.
    pub(super) fn snapshot_parts(&self, group: GroupId) -> Vec<SnapshotPart> {
        let Some(view) = &self.adopted else { return Vec::new() };
        let Some((_, range)) = view.place_of(group) else { return Vec::new() };
        let tokens = view.tokens_of_range(range);
        let mut tables = view.tables_of_group(group);
        tables.sort_unstable();
        let parts = tables.into_iter().map(|table| SnapshotPart { table, tokens });
        let records = SnapshotPart {
            table: batch_log::TABLE.id,
            tokens: TokenInterval { first: tokens.last, last: tokens.last },
        };
        parts.chain(view.is_only_group_of_range(group).then_some(records)).collect()
    }
}
