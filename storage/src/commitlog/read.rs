//! Groups' entries read back by index while the log runs, for followers that lack them.
//!
//! The log is every group's, and a follower that was away lacks entries of hundreds of groups. So
//! one pass over a part of the log looks for the entries of many, from where the first of them begins
//! to look, and says of each where it goes on. A pass ends when it has found what is wanted, when it has
//! read `PASS_SCAN_BYTES_MAX`, or when what it found takes `PASS_FOUND_BYTES_MAX`.
//!
//! [`LogCore::read`](super::LogCore::read) says on the shard's thread which segments may hold them,
//! and [`LogRead::run`] reads those on a thread that may wait for the disk. Nothing is locked: the
//! active segment may be written and old ones recycled meanwhile. The checksums, which begin with a
//! segment's own salt, tell what was written in full, and an entry is taken only if it has the index
//! and the term that were asked for, which no two entries of a group share. So what is found is
//! right, and what is not found was given up, or is on its way to the disk.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use env::disk::{Disk, File, OpenMode};

use super::error::LogError;
use super::files::{failed, segment_path};
use super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, EntryKind, GroupId, Index, Record, SegmentHeader,
    Term, round_up_to_block,
};

/// What is read from a file at once, unless a batch is longer.
const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of the log that one pass reads at most: what is wanted at places far apart is no reason to
/// read what lies between over and over.
pub(super) const PASS_SCAN_BYTES_MAX: u64 = 64 << 20;

/// Payload bytes at which a pass ends.
pub(super) const PASS_FOUND_BYTES_MAX: usize = 16 << 20;

/// Entries of one group that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedEntries {
    /// Of which group.
    pub group: GroupId,
    /// The first of them.
    pub first: Index,
    /// The last.
    pub last: Index,
    /// Their terms as runs: first index of the run and its term, ascending. The first run begins at
    /// or below the first entry.
    pub terms: Vec<(Index, Term)>,
    /// Payload bytes after which no more is taken for these.
    pub bytes_max: usize,
    /// At or before the first of them: where [`ReadEntries`] said to go on, or
    /// [`LogCore::read_start`](super::LogCore::read_start).
    pub from: ReadPlace,
}

impl WantedEntries {
    fn term_of(&self, index: Index) -> Option<Term> {
        let run = self.terms.iter().rev().find(|(first, _)| *first <= index);
        run.map(|(_, term)| *term)
    }
}

/// A place in the log: the later of two is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadPlace {
    pub(super) sequence: u64,
    /// Of a batch.
    pub(super) offset: u64,
}

impl ReadPlace {
    /// The first batch of a segment.
    pub(super) fn start_of(sequence: u64) -> ReadPlace {
        ReadPlace { sequence, offset: BLOCK_BYTES }
    }
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    /// The term it was proposed in.
    pub term: Term,
    /// Its place in the group's log.
    pub index: Index,
    /// What it is for.
    pub kind: EntryKind,
    /// Its bundle.
    pub payload: Vec<u8>,
}

/// What was found: the first of the entries that were asked for, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadEntries {
    /// The entries.
    pub entries: Vec<ReadEntry>,
    /// Where to go on. Nothing when the log, from where it was looked, has none of the entries, any
    /// more or yet.
    pub place: Option<ReadPlace>,
}

/// A reading that has not begun.
#[derive(Debug)]
pub struct LogRead {
    disk: Disk,
    directory: PathBuf,
    shard: u32,
    /// Oldest first.
    segments: Vec<u64>,
    wanted: Vec<WantedEntries>,
}

impl LogRead {
    pub(super) fn new(
        disk: Disk,
        directory: PathBuf,
        shard: u32,
        segments: Vec<u64>,
        wanted: Vec<WantedEntries>,
    ) -> LogRead {
        LogRead { disk, directory, shard, segments, wanted }
    }

    /// Reads: what was found of each that is wanted, in their order. Blocks.
    pub fn run(self) -> Result<Vec<ReadEntries>, LogError> {
        let mut found = Found::new(&self.wanted);
        let Some(from) = self.wanted.iter().map(|wanted| wanted.from).min() else {
            return Ok(Vec::new());
        };
        let reached = self.read_from(from, &mut found)?;
        Ok(found.all.into_iter().map(|one| one.ended(reached)).collect())
    }

    /// Where the pass ended; nothing if the log did.
    fn read_from(
        &self,
        from: ReadPlace,
        found: &mut Found<'_>,
    ) -> Result<Option<ReadPlace>, LogError> {
        let mut scan_bytes = PASS_SCAN_BYTES_MAX;
        for &sequence in self.segments.iter().filter(|sequence| **sequence >= from.sequence) {
            let place = from.max(ReadPlace::start_of(sequence));
            if found.is_complete() || scan_bytes == 0 {
                return Ok(Some(place));
            }
            let path = segment_path(&self.directory, sequence);
            let file = match self.disk.open(&path, OpenMode::Read) {
                Ok(file) => file,
                // Recycled since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("open", &path)(error)),
            };
            let segment = Segment::open(&file, self.shard, sequence);
            let read = segment.and_then(|segment| match segment {
                Some(segment) => segment.read(place.offset, &mut scan_bytes, found),
                None => Ok(None),
            });
            if let Some(offset) = read.map_err(failed("read", &path))? {
                return Ok(Some(ReadPlace { sequence, offset }));
            }
        }
        Ok(None)
    }
}

/// What was found so far.
struct Found<'a> {
    all: Vec<FoundEntries<'a>>,
    /// Which of them are of a group.
    of_group: BTreeMap<GroupId, Vec<usize>>,
    /// Those that want more.
    unfinished: usize,
    bytes: usize,
}

impl<'a> Found<'a> {
    fn new(wanted: &'a [WantedEntries]) -> Found<'a> {
        let mut of_group: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (position, one) in wanted.iter().enumerate() {
            of_group.entry(one.group).or_default().push(position);
        }
        let all: Vec<_> = wanted.iter().map(FoundEntries::new).collect();
        let unfinished = all.iter().filter(|one| !one.is_complete()).count();
        Found { all, of_group, unfinished, bytes: 0 }
    }

    fn is_complete(&self) -> bool {
        self.unfinished == 0 || self.bytes >= PASS_FOUND_BYTES_MAX
    }

    fn take(&mut self, record: &Record<'_>, place: ReadPlace) {
        let Some(kind) = record.kind.entry_kind() else { return };
        for &position in self.of_group.get(&record.group).into_iter().flatten() {
            let Some(one) = self.all.get_mut(position) else { continue };
            if one.take(record, kind, place) {
                self.bytes += record.payload.len();
                self.unfinished -= usize::from(one.is_complete());
            }
        }
    }
}

/// What was found so far of the entries that one reader wants.
struct FoundEntries<'a> {
    wanted: &'a WantedEntries,
    next: Index,
    bytes: usize,
    read: ReadEntries,
}

impl<'a> FoundEntries<'a> {
    fn new(wanted: &'a WantedEntries) -> FoundEntries<'a> {
        FoundEntries { wanted, next: wanted.first, bytes: 0, read: ReadEntries::default() }
    }

    fn is_complete(&self) -> bool {
        self.next > self.wanted.last || self.bytes >= self.wanted.bytes_max
    }

    /// Takes the entry if it is the next one that is wanted; whether it is.
    fn take(&mut self, record: &Record<'_>, kind: EntryKind, place: ReadPlace) -> bool {
        let is_next =
            record.index == self.next && self.wanted.term_of(self.next) == Some(record.term);
        if !is_next || self.is_complete() {
            return false;
        }
        let (term, index, payload) = (record.term, record.index, record.payload.to_vec());
        self.bytes += payload.len();
        self.next = index.saturating_add(1);
        self.read.entries.push(ReadEntry { term, index, kind, payload });
        self.read.place = Some(place);
        true
    }

    /// What came of a pass that got as far as `reached`.
    fn ended(mut self, reached: Option<ReadPlace>) -> ReadEntries {
        if self.read.entries.is_empty() {
            self.read.place = reached.map(|reached| reached.max(self.wanted.from));
        }
        self.read
    }
}

/// A segment that is read batch by batch.
struct Segment<'a> {
    file: &'a File,
    sequence: u64,
    seed: u32,
    length: u64,
}

impl<'a> Segment<'a> {
    /// Reads the header; nothing if the file is that of another segment by now.
    fn open(file: &'a File, shard: u32, sequence: u64) -> io::Result<Option<Segment<'a>>> {
        let mut header = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or_default()];
        let count = file.read_at(&mut header, 0)?;
        let header = SegmentHeader::decode(header.get(..count).unwrap_or_default());
        let header = header.ok().filter(|(h, _)| h.shard == shard && h.sequence == sequence);
        Ok(header.map(|(header, seed)| Segment {
            file,
            sequence,
            seed,
            length: header.segment_bytes,
        }))
    }

    /// Hands over the records from the batch at `offset` on, up to what cannot be read. Where it ended
    /// early, since no more is wanted or `scan_bytes` have been read.
    fn read(
        &self,
        mut offset: u64,
        scan_bytes: &mut u64,
        found: &mut Found<'_>,
    ) -> io::Result<Option<u64>> {
        let mut chunk = Chunk::default();
        while offset < self.length {
            if found.is_complete() || *scan_bytes == 0 {
                return Ok(Some(offset));
            }
            let rest_bytes = self.length - offset;
            let head = chunk.get(self.file, offset, BATCH_HEADER_BYTES)?;
            let Some((header, crc)) = BatchHeader::decode_at(head, rest_bytes, offset, self.seed)
            else {
                return Ok(None);
            };
            let Ok(length) = usize::try_from(header.length) else { return Ok(None) };
            let batch = chunk.get(self.file, offset, length)?;
            let place = ReadPlace { sequence: self.sequence, offset };
            let Some(records) = batch.get(BATCH_HEADER_BYTES..length) else { return Ok(None) };
            if !read_records(records, header.record_count, crc, |record| found.take(record, place))
            {
                return Ok(None);
            }
            let next = round_up_to_block(offset + u64::from(header.length));
            *scan_bytes = scan_bytes.saturating_sub(next - offset);
            offset = next;
        }
        Ok(None)
    }
}

/// Whether all the records of a batch are there.
fn read_records(
    mut bytes: &[u8],
    count: u32,
    mut crc: u32,
    mut each: impl FnMut(&Record<'_>),
) -> bool {
    for _ in 0..count {
        let Some((record, length, record_crc)) = Record::decode(bytes, crc) else { return false };
        each(&record);
        crc = record_crc;
        bytes = bytes.get(length..).unwrap_or_default();
    }
    bytes.is_empty()
}

/// A part of a file.
#[derive(Default)]
struct Chunk {
    offset: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// `length` bytes from `offset` on, and more if they are at hand; fewer where the file ends.
    fn get(&mut self, file: &File, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = |chunk: &Chunk| {
            let start = usize::try_from(offset.checked_sub(chunk.offset)?).ok()?;
            let end = start.checked_add(length)?;
            (end <= chunk.bytes.len()).then_some(start)
        };
        if held(self).is_none() {
            self.bytes.resize(length.max(CHUNK_BYTES), 0);
            let mut filled = 0;
            while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                let count = file.read_at(rest, offset + filled as u64)?;
                if count == 0 {
                    break;
                }
                filled += count;
            }
            self.bytes.truncate(filled);
            self.offset = offset;
        }
        let start = held(self).unwrap_or(0);
        Ok(self.bytes.get(start..).unwrap_or_default())
    }
}
