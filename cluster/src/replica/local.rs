//! What the replicas of a shard act on at this node: its log, its data, and what it knows of others.

use crate::consensus::{EntryId, HardState, Kind, LogIndex, Term};
use crate::leadership::ClosedMicros;
use crate::liveness::MonotonicNanos;
use crate::placement::GroupId;

/// A point in the shard's log: everything before it is older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition(pub u64);

/// The shard's log, which all its groups share.
pub trait LocalLog {
    /// Why the log takes nothing.
    type Error;

    /// Whether an entry of that size can be appended now. After a yes, the next append of it
    /// fails only if the log itself has failed. So do votes, a leader's first entry and changes of
    /// members, also after a no: the log keeps room for them. They are few, for what others or the
    /// clock may bring in any number is asked for first.
    fn admit(&self, group: GroupId, payload_bytes: usize) -> Result<(), Self::Error>;

    /// The most bytes that an entry may have, however empty the log is.
    fn payload_bytes_max(&self) -> usize;

    /// Appends an entry; it voids the group's entries at and above its index.
    fn append(
        &mut self,
        group: GroupId,
        entry: EntryId,
        kind: &Kind,
        payload: &[u8],
    ) -> Result<LogPosition, Self::Error>;

    /// Appends a group's term and vote.
    fn save_vote(&mut self, group: GroupId, vote: HardState) -> Result<LogPosition, Self::Error>;
}

/// A committed entry.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// Whose log it is in.
    pub group: GroupId,
    /// Its position.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What it is for.
    pub kind: &'a Kind,
    /// Its bytes; a leader's first entry has those of [`LocalState::own_payload`].
    pub payload: &'a [u8],
}

/// The data that committed entries are applied to. What is not needed there does nothing by itself.
pub trait LocalState {
    /// Merges committed entries, each the next of its group, but of a group none from the first on
    /// that cannot be applied yet. Those that held their groups back come back, and come again with
    /// [`Replicas::apply_held_back`](super::Replicas::apply_held_back).
    fn apply<'a>(
        &mut self,
        entries: impl Iterator<Item = Committed<'a>>,
    ) -> Vec<(GroupId, LogIndex)>;

    /// Whether an entry of another node can be applied here once it is committed; why not. It is asked
    /// before the entry is taken into the log.
    fn check(&self, group: GroupId, kind: &Kind, payload: &[u8]) -> Result<(), &'static str> {
        let _ = (group, kind, payload);
        Ok(())
    }

    /// Writes what an entry of the core's own, a leader's first or a change of members, carries.
    fn own_payload(&mut self, group: GroupId, payload: &mut Vec<u8>) {
        let _ = (group, payload);
    }

    /// An entry was appended, here or by the leader; those at and above its index are void.
    fn appended(&mut self, group: GroupId, index: LogIndex, payload: &[u8]) {
        let _ = (group, index, payload);
    }

    /// This member leads from here on; it has appended nothing yet.
    fn leads(&mut self, group: GroupId, term: Term) {
        let _ = (group, term);
    }

    /// A leader has closed this time after that entry, which may not be here or may have been
    /// replaced: see [`ClosedTime::learned`](crate::leadership::ClosedTime::learned).
    fn closed(&mut self, group: GroupId, entry: EntryId, closed: ClosedMicros) {
        let _ = (group, entry, closed);
    }
}

/// What a call acts on. `support` is a [`Support`](crate::leadership::Support).
#[derive(Debug)]
pub struct Local<'a, L, S, P> {
    /// The shard's log.
    pub log: &'a mut L,
    /// The shard's data.
    pub state: &'a mut S,
    /// What nodes have promised each other.
    pub support: &'a P,
    /// The monotonic clock.
    pub now: MonotonicNanos,
}

/// Which partitions an entry may touch: one bit each of 64, by a hash of the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMask(pub u64);

impl PartitionMask {
    /// Any partition.
    pub const ALL: PartitionMask = PartitionMask(u64::MAX);

    /// The mask of one partition, by any hash of it that is the same everywhere in this process.
    pub fn of(hash: u64) -> Self {
        PartitionMask(1 << (hash >> 58))
    }

    /// The mask of both.
    #[must_use]
    pub fn and(self, other: PartitionMask) -> Self {
        PartitionMask(self.0 | other.0)
    }
}

/// An entry in memory, without its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldEntry {
    /// Its term.
    pub term: Term,
    /// What it is for.
    pub kind: Kind,
    /// Its bytes.
    pub payload: Vec<u8>,
}
