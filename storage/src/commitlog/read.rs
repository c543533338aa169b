//! Groups' entries read back by index while the log runs, for followers that lack them.
//!
//! The log is every group's, and a follower that was away lacks entries of hundreds of groups. So
//! one pass over the segments looks for the entries of many.
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
    /// Payload bytes after which the reading ends; one entry is read in any case.
    pub bytes_max: usize,
    /// Where the reading before this one ended, if its entries came right before these.
    pub from: Option<ReadPlace>,
}

impl WantedEntries {
    fn term_of(&self, index: Index) -> Option<Term> {
        let run = self.terms.iter().rev().find(|(first, _)| *first <= index);
        run.map(|(_, term)| *term)
    }
}

/// Where a reading ended: the next may begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadPlace {
    sequence: u64,
    /// Of a batch.
    offset: u64,
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

/// What was found: the first of the entries that were asked for, without a gap; none if the log
/// does not have them any more, or not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadEntries {
    /// The entries.
    pub entries: Vec<ReadEntry>,
    /// Where to go on.
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
        // None is less than any place.
        let from = self.wanted.iter().map(|wanted| wanted.from).min().flatten();
        self.read_from(from, &mut found)?;
        if from.is_some() && found.all.iter().any(|one| one.read.entries.is_empty()) {
            // A member whose log was replaced in part may have them before that place.
            self.read_from(None, &mut found)?;
        }
        Ok(found.all.into_iter().map(|one| one.read).collect())
    }

    fn read_from(&self, from: Option<ReadPlace>, found: &mut Found<'_>) -> Result<(), LogError> {
        for &sequence in &self.segments {
            let offset = match from {
                Some(place) if sequence < place.sequence => continue,
                Some(place) if sequence == place.sequence => place.offset,
                _ => BLOCK_BYTES,
            };
            if found.is_complete() {
                break;
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
                Some(segment) => segment.read(offset, found),
                None => Ok(()),
            });
            read.map_err(failed("read", &path))?;
        }
        Ok(())
    }
}

/// What was found so far.
struct Found<'a> {
    all: Vec<FoundEntries<'a>>,
    /// Which of them are of a group.
    of_group: BTreeMap<GroupId, Vec<usize>>,
}

impl<'a> Found<'a> {
    fn new(wanted: &'a [WantedEntries]) -> Found<'a> {
        let mut of_group: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (position, one) in wanted.iter().enumerate() {
            of_group.entry(one.group).or_default().push(position);
        }
        Found { all: wanted.iter().map(FoundEntries::new).collect(), of_group }
    }

    fn is_complete(&self) -> bool {
        self.all.iter().all(FoundEntries::is_complete)
    }

    fn take(&mut self, record: &Record<'_>, place: ReadPlace) {
        let Some(kind) = record.kind.entry_kind() else { return };
        for &position in self.of_group.get(&record.group).into_iter().flatten() {
            if let Some(one) = self.all.get_mut(position) {
                one.take(record, kind, place);
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

    fn take(&mut self, record: &Record<'_>, kind: EntryKind, place: ReadPlace) {
        let is_next =
            record.index == self.next && self.wanted.term_of(self.next) == Some(record.term);
        if !is_next || self.is_complete() {
            return;
        }
        let (term, index, payload) = (record.term, record.index, record.payload.to_vec());
        self.bytes += payload.len();
        self.next = index.saturating_add(1);
        self.read.entries.push(ReadEntry { term, index, kind, payload });
        self.read.place = Some(place);
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

    /// Hands over the records from the batch at `offset` on, up to what cannot be read.
    fn read(&self, mut offset: u64, found: &mut Found<'_>) -> io::Result<()> {
        let mut chunk = Chunk::default();
        while !found.is_complete() && offset < self.length {
            let rest_bytes = self.length - offset;
            let head = chunk.get(self.file, offset, BATCH_HEADER_BYTES)?;
            let Some((header, crc)) = BatchHeader::decode_at(head, rest_bytes, offset, self.seed)
            else {
                return Ok(());
            };
            let Ok(length) = usize::try_from(header.length) else { return Ok(()) };
            let batch = chunk.get(self.file, offset, length)?;
            let place = ReadPlace { sequence: self.sequence, offset };
            let Some(records) = batch.get(BATCH_HEADER_BYTES..length) else { return Ok(()) };
            if !read_records(records, header.record_count, crc, |record| found.take(record, place))
            {
                return Ok(());
            }
            offset = round_up_to_block(offset + u64::from(header.length));
        }
        Ok(())
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
