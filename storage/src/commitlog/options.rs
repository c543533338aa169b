//! How a commit log is set up, and the limits that follow from it.

use std::time::Duration;

use super::format::{BATCH_HEADER_BYTES, BLOCK_BYTES, NodeId, RECORD_HEADER_BYTES};

/// Length of a segment unless configured otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 << 20;
/// The shortest segment that makes sense; tests use it.
pub const SEGMENT_BYTES_MIN: u64 = 16 * BLOCK_BYTES;
/// The longest: offsets of batches and lengths of records stay far below 4 GiB.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Length of the segment that an opening begins when no spare file is ready: filling a whole one with
/// zeros would make the start of a node wait for the disk.
pub const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Recycled segments kept for reuse unless configured otherwise. Enough to follow a burst while
/// flushes catch up, and 128 MiB of disk at most.
pub const SPARE_SEGMENTS_MAX_DEFAULT: usize = 4;

/// What a group's state takes at the start of a segment, besides its members.
pub(super) const STATE_BYTES: usize = 3 * RECORD_HEADER_BYTES + size_of::<NodeId>();

/// The shortest segment with which a log takes entries of that payload.
pub fn segment_bytes_for(payload_bytes: usize) -> u64 {
    let batch_bytes = (BATCH_HEADER_BYTES + RECORD_HEADER_BYTES + payload_bytes) as u64;
    (2 * batch_bytes).next_multiple_of(BLOCK_BYTES).max(SEGMENT_BYTES_MIN)
}

/// When an append counts as held by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Once synced. Appends that arrive while a write is in flight share the next one.
    /// Cassandra's modes `group` and `batch` both are this.
    Group,
    /// Once written to the page cache; synced after this long. A power cut can take back what was
    /// acknowledged since. Cassandra's `periodic`.
    Periodic {
        /// The longest time between a write and its sync.
        every: Duration,
    },
}

/// How a commit log is set up.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// The shard whose log this is; a log of another shard does not open.
    pub shard: u32,
    /// Length of new segments: a multiple of [`BLOCK_BYTES`] within [`SEGMENT_BYTES_MIN`] and
    /// [`SEGMENT_BYTES_MAX`]. May differ from that of existing ones.
    pub segment_bytes: u64,
    /// Recycled segments kept for reuse; further ones are removed.
    pub spare_segments_max: usize,
    /// When an append counts as held.
    pub sync: SyncMode,
    /// A random number, drawn anew for every opening: keeps clients from writing payloads that
    /// look like parts of the log.
    pub salt: u64,
}

impl LogOptions {
    /// The defaults: [`SyncMode::Group`], 32 MiB segments, four spares.
    pub fn new(shard: u32, salt: u64) -> LogOptions {
        LogOptions {
            shard,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            spare_segments_max: SPARE_SEGMENTS_MAX_DEFAULT,
            sync: SyncMode::Group,
            salt,
        }
    }

    /// The most that one batch may have, header included, and `own_bytes_max` besides:
    /// half a segment. Another such batch may be in flight, so twice this bounds what is not synced.
    pub fn batch_bytes_max(&self) -> usize {
        (self.segment_bytes / 2) as usize
    }

    /// What a batch may have beyond that of the shard's own records, all but entries of data: what it
    /// has decided by itself must not fail because clients write much. It is what the states of the
    /// groups leave of the other half of a segment.
    pub(super) fn own_bytes_max(&self) -> usize {
        (self.segment_bytes / 4 - 3 * BLOCK_BYTES) as usize
    }

    /// The longest payload of an entry: just under half a segment.
    pub fn payload_bytes_max(&self) -> usize {
        self.batch_bytes_max() - BATCH_HEADER_BYTES - RECORD_HEADER_BYTES
    }

    /// The most groups a shard may have: their states, with which every segment begins, must fit
    /// into a quarter of it. Fewer when the log has to name their members.
    pub fn group_count_max(&self) -> usize {
        self.state_bytes_max() / STATE_BYTES
    }

    /// The most that the states of all groups may have together.
    pub(super) fn state_bytes_max(&self) -> usize {
        (self.segment_bytes / 4) as usize - BATCH_HEADER_BYTES
    }

    /// The salt of one segment.
    pub(super) fn segment_salt(&self, sequence: u64) -> u64 {
        // The finalizer of splitmix64: neighbouring numbers come out unrelated.
        let mut salt = self.salt ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        salt = (salt ^ (salt >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        salt = (salt ^ (salt >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        salt ^ (salt >> 31)
    }

    /// Refuses lengths that the format has no room for; they come from the configuration.
    pub(super) fn assert_valid(&self) {
        let range = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        assert!(range.contains(&self.segment_bytes), "segment_bytes is outside {range:?}");
        assert!(self.segment_bytes.is_multiple_of(BLOCK_BYTES), "segment_bytes is not in blocks");
    }
}

// Header, the groups' states and one batch of the largest size, whole blocks each, fit into a fresh
// segment.
const _: () = assert!(
    BLOCK_BYTES
        + (SEGMENT_BYTES_MIN / 4 + BLOCK_BYTES)
        + (SEGMENT_BYTES_MIN / 2 + (SEGMENT_BYTES_MIN / 4 - 3 * BLOCK_BYTES) + BLOCK_BYTES)
        <= SEGMENT_BYTES_MIN
);
