//! The bytes of the commit log: segment header, batch header, record.
//!
//! Byte maps, invariants and the arguments for them are in `docs/formats/commitlog.md`; the
//! constants here repeat its offsets.
//! Everything that is read is taken to be hostile: a decoder answers `None` or a named error, never
//! panics, and allocates nothing.
//! Knows nothing of files; the golden test at the end pins the bytes.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::error::Corruption;

/// Identifies a replication group (a range under one replication setting).
pub type GroupId = u64;
/// A term of a group's leadership.
pub type Term = u64;
/// A place in one group's replicated log; the first entry of a group has index 1.
pub type Index = u64;
/// A node's id as stored in a vote; wide enough for a UUID.
pub type NodeId = u128;

/// Unit of placement: the segment header and every batch begin on a multiple of it and nothing
/// else shares their blocks, so that a synced block is never written again.
pub const BLOCK_BYTES: u64 = 4096;

/// The format this code writes, and the only one it reads.
pub(super) const FORMAT_VERSION: u32 = 4;

const SEGMENT_MAGIC: [u8; 8] = *b"TETHYSCL";
/// Length of the segment header, which has the first block for itself.
pub(super) const SEGMENT_HEADER_BYTES: usize = 52;
const SEGMENT_CRC_OFFSET: usize = 48;

const BATCH_MAGIC: [u8; 4] = *b"TCLB";
/// Length of the header that every batch begins with.
pub(super) const BATCH_HEADER_BYTES: usize = 32;

/// Length of a record without its payload.
pub(super) const RECORD_HEADER_BYTES: usize = 36;
/// Length of the vote in a hard state.
const VOTE_BYTES: usize = size_of::<NodeId>();
/// The longest form of a group's members: two counts, and ids of as many nodes as a byte counts.
pub const MEMBER_BYTES_MAX: usize = 2 + 2 * 255 * size_of::<NodeId>();
/// A checksum covers everything behind itself.
const CRC_BYTES: usize = 4;

/// The first bytes of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The shard whose log this is.
    pub(super) shard: u32,
    /// Counts the segments of a log; never used twice.
    pub(super) sequence: u64,
    /// Unknown to clients, so that no payload can pass for a batch of this segment.
    pub(super) salt: u64,
    /// Length of the file.
    pub(super) segment_bytes: u64,
    /// Where the valid bytes of the segment before this one end; all of them were synced before
    /// this header was written. 0 for the first segment of a log.
    pub(super) previous_end: u64,
}

impl SegmentHeader {
    /// The header as bytes, and the checksum that seeds those of the batches.
    pub(super) fn encode(&self) -> ([u8; SEGMENT_HEADER_BYTES], u32) {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.shard.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.previous_end.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let bytes = bytes.try_into().expect("the fields above have SEGMENT_HEADER_BYTES together");
        (bytes, crc)
    }

    /// Reads the header at the start of `bytes`, and the checksum that seeds those of the batches.
    pub(super) fn decode(bytes: &[u8]) -> Result<(SegmentHeader, u32), Corruption> {
        let covered = bytes.get(..SEGMENT_CRC_OFFSET).ok_or(Corruption::SegmentHeader)?;
        let mut cursor = Cursor(bytes);
        let mut read = || -> Option<_> {
            let magic: [u8; 8] = cursor.take()?;
            let version = cursor.u32()?;
            let header = SegmentHeader {
                shard: cursor.u32()?,
                sequence: cursor.u64()?,
                salt: cursor.u64()?,
                segment_bytes: cursor.u64()?,
                previous_end: cursor.u64()?,
            };
            Some((magic, version, header, cursor.u32()?))
        };
        let (magic, version, header, crc) = read().ok_or(Corruption::SegmentHeader)?;
        if magic != SEGMENT_MAGIC || crc != crc32fast::hash(covered) {
            return Err(Corruption::SegmentHeader);
        }
        if version != FORMAT_VERSION {
            return Err(Corruption::FormatVersion { found: version });
        }
        Ok((header, crc))
    }
}

/// What stands before the records of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Bytes of this header and the records, without the zeros up to the next block.
    pub(super) length: u32,
    /// Number of records.
    pub(super) record_count: u32,
    /// Where in the segment the batch begins.
    pub(super) offset: u64,
    /// Everything in the segment before this offset was synced before the batch was written.
    pub(super) synced_offset: u64,
}

impl BatchHeader {
    /// The header as bytes, and the checksum that seeds that of the first record.
    pub(super) fn encode(&self, seed: u32) -> ([u8; BATCH_HEADER_BYTES], u32) {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES);
        bytes.extend_from_slice(&[0; CRC_BYTES]);
        bytes.extend_from_slice(&BATCH_MAGIC);
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.record_count.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.synced_offset.to_le_bytes());
        let mut bytes: [u8; BATCH_HEADER_BYTES] =
            bytes.try_into().expect("the fields above have BATCH_HEADER_BYTES together");
        let crc = write_checksum(&mut bytes, seed);
        (bytes, crc)
    }

    /// Reads the header of the batch at `offset` of a segment; `None` when there is none, or none
    /// of this segment and place.
    pub(super) fn decode(segment: &[u8], offset: u64, seed: u32) -> Option<(BatchHeader, u32)> {
        let start = usize::try_from(offset).ok()?;
        let rest = segment.get(start..)?;
        BatchHeader::decode_at(rest, rest.len() as u64, offset, seed)
    }

    /// The same of `rest`, the first bytes of the `rest_bytes` that the segment has from `offset` on.
    pub(super) fn decode_at(
        rest: &[u8],
        rest_bytes: u64,
        offset: u64,
        seed: u32,
    ) -> Option<(BatchHeader, u32)> {
        let bytes: &[u8; BATCH_HEADER_BYTES] = rest.first_chunk()?;
        let mut cursor = Cursor(bytes);
        let crc = cursor.u32()?;
        let magic: [u8; 4] = cursor.take()?;
        if magic != BATCH_MAGIC || crc != checksum(bytes, seed) {
            return None;
        }
        let header = BatchHeader {
            length: cursor.u32()?,
            record_count: cursor.u32()?,
            offset: cursor.u64()?,
            synced_offset: cursor.u64()?,
        };
        let fits = (BATCH_HEADER_BYTES as u64..=rest_bytes).contains(&header.length.into());
        (fits && header.offset == offset && header.synced_offset <= offset).then_some((header, crc))
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    /// An entry of a group's replicated log. Voids the group's earlier ones at and above its index.
    Entry = 1,
    /// The group's term, and whom this node voted for in it (payload: nothing, or a [`NodeId`]).
    HardState = 2,
    /// The group's log begins after this index and term: what was at or below is held elsewhere.
    /// The payload names the members there, unless that was said before or need not be.
    Start = 3,
    /// Voids the group's earlier entries at and above this index.
    Truncate = 4,
    /// The group has left this shard: everything said of it before is void, but its term, its vote, and
    /// where the log of a removed replica ended.
    Remove = 5,
    /// An entry as [`RecordKind::Entry`], a leader's first.
    NoOpEntry = 6,
    /// An entry as [`RecordKind::Entry`] that names the group's members.
    MembershipEntry = 7,
    /// The group's entries up to this index are committed.
    Committed = 8,
    /// A replica of the group that was removed from this shard held entries up to this term and index.
    FormerEnd = 9,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A bundle of changes.
    #[default]
    Data,
    /// A leader's first entry in its term.
    NoOp,
    /// It names the group's members.
    Membership,
}

impl EntryKind {
    /// The kind of its record.
    pub(super) fn record_kind(self) -> RecordKind {
        match self {
            EntryKind::Data => RecordKind::Entry,
            EntryKind::NoOp => RecordKind::NoOpEntry,
            EntryKind::Membership => RecordKind::MembershipEntry,
        }
    }
}

impl RecordKind {
    fn from_byte(byte: u8) -> Option<RecordKind> {
        Some(match byte {
            1 => RecordKind::Entry,
            2 => RecordKind::HardState,
            3 => RecordKind::Start,
            4 => RecordKind::Truncate,
            5 => RecordKind::Remove,
            6 => RecordKind::NoOpEntry,
            7 => RecordKind::MembershipEntry,
            8 => RecordKind::Committed,
            9 => RecordKind::FormerEnd,
            _ => return None,
        })
    }

    /// The kind of entry, if it is one.
    pub(super) fn entry_kind(self) -> Option<EntryKind> {
        match self {
            RecordKind::Entry => Some(EntryKind::Data),
            RecordKind::NoOpEntry => Some(EntryKind::NoOp),
            RecordKind::MembershipEntry => Some(EntryKind::Membership),
            _ => None,
        }
    }
}

/// A view of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// What the record says.
    pub(super) kind: RecordKind,
    /// Of which group.
    pub(super) group: GroupId,
    /// Entry, hard state, start and former end: the term. Otherwise 0.
    pub(super) term: Term,
    /// Entry, start, truncate, committed and former end: the index. Otherwise 0.
    pub(super) index: Index,
    /// Entry: its bundle. Hard state: the vote. Start: the members, or nothing.
    pub(super) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`. Returns it with its length and its checksum,
    /// which seeds that of the next one.
    pub(super) fn decode(bytes: &'a [u8], seed: u32) -> Option<(Record<'a>, usize, u32)> {
        let (record, length, crc) = Record::decode_trusted(bytes)?;
        (crc == checksum(bytes.get(..length)?, seed)).then_some((record, length, crc))
    }

    /// As [`Record::decode`], for bytes whose checksum was verified before.
    pub(super) fn decode_trusted(bytes: &'a [u8]) -> Option<(Record<'a>, usize, u32)> {
        let mut cursor = Cursor(bytes);
        let crc = cursor.u32()?;
        let length = usize::try_from(cursor.u32()?).ok()?;
        let [kind, reserved @ ..]: [u8; 4] = cursor.take()?;
        let record = Record {
            kind: RecordKind::from_byte(kind)?,
            group: cursor.u64()?,
            term: cursor.u64()?,
            index: cursor.u64()?,
            payload: bytes.get(RECORD_HEADER_BYTES..length)?,
        };
        (reserved == [0; 3] && record.is_canonical()).then_some((record, length, crc))
    }

    /// Whether the fields that the kind has no use for are empty.
    fn is_canonical(&self) -> bool {
        match self.kind {
            RecordKind::Entry | RecordKind::NoOpEntry | RecordKind::MembershipEntry => {
                self.index > 0
            }
            RecordKind::Committed => self.term == 0 && self.index > 0 && self.payload.is_empty(),
            RecordKind::HardState => {
                self.index == 0 && matches!(self.payload.len(), 0 | VOTE_BYTES)
            }
            RecordKind::Start => self.payload.len() <= MEMBER_BYTES_MAX,
            RecordKind::FormerEnd => self.payload.is_empty(),
            RecordKind::Truncate => self.term == 0 && self.payload.is_empty(),
            RecordKind::Remove => self.term == 0 && self.index == 0 && self.payload.is_empty(),
        }
    }

    /// The vote that a hard state carries.
    pub(super) fn vote(&self) -> Option<NodeId> {
        self.payload.first_chunk().map(|bytes| NodeId::from_le_bytes(*bytes))
    }
}

/// The checksum of `bytes` without the first four, where it is stored.
fn checksum(bytes: &[u8], seed: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes.get(CRC_BYTES..).unwrap_or_default());
    hasher.finalize()
}

/// Stores the checksum of `bytes` in their first four; returns it.
pub(super) fn write_checksum(bytes: &mut [u8], seed: u32) -> u32 {
    let crc = checksum(bytes, seed);
    if let Some(place) = bytes.first_chunk_mut() {
        *place = crc.to_le_bytes();
    }
    crc
}

/// The smallest multiple of a block that is not below `length`.
pub(super) fn round_up_to_block(length: u64) -> u64 {
    length.next_multiple_of(BLOCK_BYTES)
}

/// Reads fixed fields off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
