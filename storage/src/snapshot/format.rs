//! The bytes of a snapshot's stream: a magic, then chunks, each checked by a checksum that goes on
//! from the one before, so that a chunk that is missing, repeated or moved is as wrong as a flipped
//! bit.
//!
//! ```text
//! stream  := magic[8] version:u32le chunk*                   head, rows*, end
//! chunk   := length:u32le crc:u32le covered                  length: that of covered
//! covered := kind:u8 codec:u8 content_len:u32le payload      codec: 0 as it is, 1 LZ4
//! head    := group:varint base closed:i64le placed:i64le far:i64le reserved:i64le switched_at:u64le
//!            part_count:varint (table:u128le first:i64le last:i64le)*
//! base    := index:varint term:varint members_index:varint members:slice
//! rows    := (length:u32le mutation)*
//! end     := partition_count:varint row_count:varint
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use crate::read::TokenInterval;
use model::TableId;
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::entry::Placement;
use model::mutation::MutationView;

pub(super) const MAGIC: [u8; 8] = *b"TethysS1";
pub(super) const VERSION: u32 = 3;
const PREAMBLE_BYTES: usize = 12;
/// Kind, codec and length of the content.
const COVERED_HEAD_BYTES: usize = 6;
const CODEC_RAW: u8 = 0;
const CODEC_LZ4: u8 = 1;
/// LZ4 cannot expand further than this, so a length beyond it is a lie and nothing is allocated.
const LZ4_EXPANSION_MAX: usize = 255;

/// Content of a chunk, before compression, at which it is sent. Large enough that finding the place
/// again for the next one costs nothing, small enough to wait in memory.
pub(super) const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 256 << 10 };
/// The most that a chunk may have: a row is never cut in two, and the largest write has 64 MiB.
pub(super) const CHUNK_BYTES_MAX: usize = 256 << 20;
/// The members of a group, in bytes.
const MEMBERS_BYTES_MAX: usize = 4 << 10;

/// The entry that a snapshot is as of, and who the members were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotBase {
    /// The entry's index: everything up to it is in the snapshot, nothing after it.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The index of the entry that named the members; 0 if none did.
    pub members_index: u64,
    /// The members in force at the base, opaque here, at most 4 KiB.
    pub members: Vec<u8>,
}

/// A table's part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// The table.
    pub table: TableId,
    /// The tokens of the group in it.
    pub tokens: TokenInterval,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The group.
    pub group: u64,
    /// What it is as of.
    pub base: SnapshotBase,
    /// The group's place in time at the base.
    pub placement: Placement,
    /// The tables, each once, in the order in which they come.
    pub parts: Vec<SnapshotPart>,
}

/// What a chunk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    Head = 1,
    Rows = 2,
    End = 3,
}

/// How much a snapshot had, by its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) partitions: u64,
    pub(super) rows: u64,
}

impl SnapshotHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.group);
        put_base(&mut out, &self.base);
        let Placement { closed, placed, far, reserved, switched_at } = self.placement;
        for value in [closed, placed, far, reserved] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&switched_at.to_le_bytes());
        put_varint(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            out.extend_from_slice(&part.table.0.to_le_bytes());
            out.extend_from_slice(&part.tokens.first.to_le_bytes());
            out.extend_from_slice(&part.tokens.last.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(content);
        let group = cursor.varint()?;
        let base = read_base(&mut cursor)?;
        let mut time = || cursor.array().map(i64::from_le_bytes);
        let (closed, placed, far, reserved) = (time()?, time()?, time()?, time()?);
        let switched_at = u64::from_le_bytes(cursor.array()?);
        let placement = Placement { closed, placed, far, reserved, switched_at };
        let mut parts: Vec<SnapshotPart> = Vec::new();
        for _ in 0..cursor.varint()? {
            let table = TableId(u128::from_le_bytes(cursor.array()?));
            let first = i64::from_le_bytes(cursor.array()?);
            let last = i64::from_le_bytes(cursor.array()?);
            parts.push(SnapshotPart { table, tokens: TokenInterval { first, last } });
        }
        cursor.finish()?;
        Ok(SnapshotHead { group, base, placement, parts })
    }
}

/// Appends a base; the manifest has the same form of it.
pub(crate) fn put_base(out: &mut Vec<u8>, base: &SnapshotBase) {
    put_varint(out, base.index);
    put_varint(out, base.term);
    put_varint(out, base.members_index);
    put_slice(out, &base.members);
}

pub(crate) fn read_base(cursor: &mut Cursor) -> Result<SnapshotBase, DecodeError> {
    let (index, term, members_index) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
    let members = cursor.slice()?;
    if members.len() > MEMBERS_BYTES_MAX || members_index > index {
        return Err(DecodeError("a snapshot's members are impossible"));
    }
    Ok(SnapshotBase { index, term, members_index, members: members.to_vec() })
}

impl Counts {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.partitions);
        put_varint(&mut out, self.rows);
        out
    }

    pub(super) fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(content);
        let counts = Counts { partitions: cursor.varint()?, rows: cursor.varint()? };
        cursor.finish()?;
        Ok(counts)
    }
}

/// The mutations of a chunk of rows, each checked whole.
pub(super) fn mutations(
    content: &[u8],
) -> impl Iterator<Item = Result<MutationView<'_>, DecodeError>> {
    let mut cursor = Cursor::new(content);
    std::iter::from_fn(move || {
        if cursor.is_empty() {
            return None;
        }
        let mutation = cursor.array().and_then(|length| {
            let bytes = cursor.bytes(u32::from_le_bytes(length) as usize)?;
            MutationView::check(bytes)
        });
        if mutation.is_err() {
            cursor = Cursor::new(&[]);
        }
        Some(mutation)
    })
}

/// Makes the bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct ChunkWriter {
    /// The checksum so far; none before the first chunk.
    crc: Option<u32>,
}

impl ChunkWriter {
    /// A chunk's bytes, those that begin the stream before the first.
    pub(super) fn chunk(&mut self, kind: ChunkKind, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(content.len() / 2 + 64);
        let crc = self.crc.unwrap_or_else(|| {
            out.extend_from_slice(&preamble());
            crc32fast::hash(&preamble())
        });
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&[kind as u8, CODEC_RAW]);
        let content_len = u32::try_from(content.len()).expect("a chunk is below 4 GiB");
        out.extend_from_slice(&content_len.to_le_bytes());
        let payload_at = out.len();
        out.resize(payload_at + lz4_flex::block::get_maximum_output_size(content.len()), 0);
        let room = out.get_mut(payload_at..).unwrap_or_default();
        match lz4_flex::block::compress_into(content, room) {
            Ok(length) if length < content.len() => {
                out.truncate(payload_at + length);
                if let Some(codec) = out.get_mut(start + 9) {
                    *codec = CODEC_LZ4;
                }
            }
            _ => {
                out.truncate(payload_at);
                out.extend_from_slice(content);
            }
        }
        let covered = out.get(start + 8..).unwrap_or_default();
        let length = u32::try_from(covered.len()).expect("a chunk is below 4 GiB");
        let crc = checksum(crc, covered);
        self.crc = Some(crc);
        let head = [length.to_le_bytes(), crc.to_le_bytes()];
        if let Some(place) = out.get_mut(start..start + 8) {
            place.copy_from_slice(head.as_flattened());
        }
        out
    }
}

/// Takes a stream apart, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(super) struct ChunkReader {
    /// What came and is no whole chunk yet, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    crc: Option<u32>,
}

impl ChunkReader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether what came ends with a chunk's end.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.buffer.len()
    }

    /// The next whole chunk's kind and content.
    pub(super) fn next(&mut self) -> Result<Option<(ChunkKind, Vec<u8>)>, DecodeError> {
        let mut cursor = Cursor::new(self.buffer.get(self.at..).unwrap_or_default());
        let crc = match self.crc {
            Some(crc) => crc,
            None if cursor.rest().len() < PREAMBLE_BYTES => return Ok(None),
            None => check_preamble(&mut cursor)?,
        };
        let Ok(length) = cursor.array().map(u32::from_le_bytes) else { return Ok(None) };
        let length = length as usize;
        if !(COVERED_HEAD_BYTES..=CHUNK_BYTES_MAX).contains(&length) {
            return Err(DecodeError("a chunk's length is impossible"));
        }
        let Ok(found) = cursor.array().map(u32::from_le_bytes) else { return Ok(None) };
        let Ok(covered) = cursor.bytes(length) else { return Ok(None) };
        if checksum(crc, covered) != found {
            return Err(DecodeError("a chunk's checksum does not fit"));
        }
        let chunk = uncover(covered)?;
        self.at = self.buffer.len() - cursor.rest().len();
        self.crc = Some(found);
        Ok(Some(chunk))
    }
}

fn preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    let parts = MAGIC.into_iter().chain(VERSION.to_le_bytes());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

fn check_preamble(cursor: &mut Cursor) -> Result<u32, DecodeError> {
    if cursor.array()? != MAGIC {
        return Err(DecodeError("this is no snapshot"));
    }
    if u32::from_le_bytes(cursor.array()?) != VERSION {
        return Err(DecodeError("the snapshot's version is unknown"));
    }
    Ok(crc32fast::hash(&preamble()))
}

fn checksum(seed: u32, covered: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(covered);
    hasher.finalize()
}

fn uncover(covered: &[u8]) -> Result<(ChunkKind, Vec<u8>), DecodeError> {
    let mut cursor = Cursor::new(covered);
    let kind = match cursor.u8()? {
        1 => ChunkKind::Head,
        2 => ChunkKind::Rows,
        3 => ChunkKind::End,
        _ => return Err(DecodeError("a chunk is of an unknown kind")),
    };
    let codec = cursor.u8()?;
    let content_len = u32::from_le_bytes(cursor.array()?) as usize;
    let payload = cursor.rest();
    let is_possible = content_len <= CHUNK_BYTES_MAX;
    let content = match codec {
        CODEC_RAW if content_len == payload.len() => payload.to_vec(),
        CODEC_LZ4
            if is_possible && content_len <= payload.len().saturating_mul(LZ4_EXPANSION_MAX) =>
        {
            let mut content = vec![0; content_len];
            match lz4_flex::block::decompress_into(payload, &mut content) {
                Ok(length) if length == content_len => content,
                _ => return Err(DecodeError("a chunk does not decompress")),
            }
        }
        _ => return Err(DecodeError("a chunk's head contradicts its content")),
    };
    Ok((kind, content))
}

/// Decodes any bytes as what a chunk's checksum covers, and as each kind of content, for
/// [`crate::fuzz`].
pub(crate) fn fuzz_snapshot_content(content: &[u8]) {
    drop(uncover(content));
    if let Ok(counts) = Counts::decode(content) {
        assert_eq!(Counts::decode(&counts.encode()), Ok(counts), "it reads back");
    }
    if let Ok(head) = SnapshotHead::decode(content) {
        assert_eq!(SnapshotHead::decode(&head.encode()), Ok(head), "it reads back");
    }
    for mutation in mutations(content).map_while(Result::ok) {
        mutation.items().count();
    }
}

#[cfg(test)]
pub(crate) use tests::{fuzz_seeds, stream_of_mutations};

#[cfg(test)]
mod tests {
    use super::*;
    use model::mutation::{MutationItem, MutationWriter};
    use model::row::Deletion;

    fn head() -> SnapshotHead {
        let members = vec![1, 0, 7];
        let part = |id, first, last| SnapshotPart {
            table: TableId(id),
            tokens: TokenInterval { first, last },
        };
        SnapshotHead {
            group: 5,
            base: SnapshotBase { index: 300, term: 4, members_index: 20, members },
            placement: Placement { closed: 1, placed: 2, far: 3, reserved: 4, switched_at: 5 },
            parts: vec![part(9, -5, 7), part(10, -5, 7)],
        }
    }

    fn rows() -> Vec<u8> {
        let mut out = vec![0; 4];
        let mut writer = MutationWriter::new(&mut out, TableId(9), 0, b"key");
        writer.partition_tombstone(Deletion { timestamp: 1, deleted_at: 2 });
        let length = u32::try_from(out.len() - 4).unwrap();
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// What chunks' checksums cover, and their contents.
    pub(crate) fn fuzz_seeds() -> [(&'static str, Vec<u8>); 3] {
        let chunk = ChunkWriter::default().chunk(ChunkKind::Rows, &rows());
        [
            ("snapshot-head", head().encode()),
            ("snapshot-rows", rows()),
            ("snapshot-chunk", chunk[PREAMBLE_BYTES + 8..].to_vec()),
        ]
    }

    /// A whole stream with one chunk of these mutations, whatever they are.
    pub(crate) fn stream_of_mutations(head: &SnapshotHead, mutations: &[Vec<u8>]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut counts = Counts::default();
        let mut last_key = Vec::new();
        for bytes in mutations {
            content.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            content.extend_from_slice(bytes);
            let Ok(mutation) = MutationView::check(bytes) else { continue };
            counts.partitions += u64::from(last_key != mutation.key());
            last_key = mutation.key().to_vec();
            let rows = mutation.items().filter(|item| matches!(item, MutationItem::Row { .. }));
            counts.rows += rows.count() as u64;
        }
        let mut writer = ChunkWriter::default();
        let mut out = writer.chunk(ChunkKind::Head, &head.encode());
        out.extend(writer.chunk(ChunkKind::Rows, &content));
        out.extend(writer.chunk(ChunkKind::End, &counts.encode()));
        out
    }

    fn stream() -> Vec<u8> {
        let mut writer = ChunkWriter::default();
        let counts = Counts { partitions: 1, rows: 0 };
        let mut out = writer.chunk(ChunkKind::Head, &head().encode());
        out.extend(writer.chunk(ChunkKind::Rows, &rows()));
        out.extend(writer.chunk(ChunkKind::Rows, &[7; 5_000]));
        out.extend(writer.chunk(ChunkKind::End, &counts.encode()));
        out
    }

    fn read(stream: &[u8], piece: usize) -> Result<Vec<(ChunkKind, Vec<u8>)>, DecodeError> {
        let mut reader = ChunkReader::default();
        let mut chunks = Vec::new();
        for piece in stream.chunks(piece) {
            reader.push(piece);
            while let Some(chunk) = reader.next()? {
                chunks.push(chunk);
            }
        }
        if reader.is_empty() { Ok(chunks) } else { Err(DecodeError("it ends within a chunk")) }
    }

    #[test]
    fn a_stream_reads_back_in_whatever_pieces_it_comes() {
        use ChunkKind::{End, Head, Rows};
        for piece in [1, 7, 64, 1 << 20] {
            let chunks = read(&stream(), piece).unwrap();
            let kinds: Vec<ChunkKind> = chunks.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [Head, Rows, Rows, End]);
            assert_eq!(SnapshotHead::decode(&chunks[0].1), Ok(head()));
            assert_eq!((&chunks[1].1, &chunks[2].1), (&rows(), &vec![7; 5_000]));
            let counts = Counts { partitions: 1, rows: 0 };
            assert_eq!(Counts::decode(&chunks[3].1), Ok(counts));
        }
    }

    #[test]
    fn every_flip_is_seen_and_so_is_a_chunk_that_is_missing_repeated_or_moved() {
        let whole = stream();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, 4_096).is_err(), "bit {bit}");
        }
        let mut writer = ChunkWriter::default();
        let first = writer.chunk(ChunkKind::Head, &head().encode());
        let second = writer.chunk(ChunkKind::Rows, &rows());
        let third = writer.chunk(ChunkKind::Rows, b"others");
        for wrong in [
            [&first[..], &third].concat(),
            [&first[..], &second, &second].concat(),
            [&first[..], &third, &second].concat(),
        ] {
            assert!(read(&wrong, 4_096).is_err());
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated_for_it() {
        let mut long = stream();
        long[PREAMBLE_BYTES..PREAMBLE_BYTES + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut reader = ChunkReader::default();
        reader.push(&long[..PREAMBLE_BYTES + 4]);
        assert!(reader.next().is_err(), "at once, and not when 4 GiB have come");
        let mut covered = vec![ChunkKind::Rows as u8, CODEC_LZ4];
        covered.extend_from_slice(&0x0FFF_FFFF_u32.to_le_bytes());
        covered.extend_from_slice(b"xx");
        assert!(uncover(&covered).is_err());
    }

    #[test]
    fn the_bytes_of_a_snapshot_do_not_change_unnoticed() {
        let mut writer = ChunkWriter::default();
        let mut bytes = writer.chunk(ChunkKind::Head, &head().encode());
        bytes.extend(writer.chunk(ChunkKind::Rows, &rows()));
        bytes.extend(writer.chunk(ChunkKind::End, &Counts { partitions: 1, rows: 0 }.encode()));
        assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (145, 237_529_531), "a changed format");
    }
}
