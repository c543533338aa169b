//! The receiving side: a stream of bytes becomes table files that nothing refers to yet.
//!
//! What comes is believed in nothing: chunks have checksums, mutations are checked whole, tables and
//! tokens must be those that were asked for, and the order must be the tables'. Whatever is wrong ends
//! the import, and its files are removed at once.

use super::format::{
    CHUNK_BYTES_MAX, ChunkKind, ChunkReader, Counts, SnapshotHead, SnapshotPart, mutations,
};
use crate::error::StorageError;
use crate::memtable::IndexSpan;
use crate::sstable::{SsTable, TableWriter, WriterOptions, has_head, table_path};
use env::disk::Disk;
use model::codec::DecodeError;
use model::mutation::{MutationItem, MutationView};
use model::partition::Partition;
use model::schema::Partitioner;
use model::token::token_of;
use model::{TableId, Token};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Why a snapshot was not taken over. Its files are gone.
#[derive(Debug)]
pub enum ImportError {
    /// It holds a table that is not known here (yet, or any more), or of which other tokens belong
    /// to the group here.
    UnknownPart(SnapshotPart),
    /// What came is no snapshot, is damaged, or is out of order.
    Malformed(&'static str),
    /// It ended before its end.
    Torn,
    /// It is of another group, or of another base, than was said.
    Other,
    /// This disk failed.
    Storage(StorageError),
}

impl From<DecodeError> for ImportError {
    fn from(DecodeError(why): DecodeError) -> Self {
        ImportError::Malformed(why)
    }
}

impl From<StorageError> for ImportError {
    fn from(error: StorageError) -> Self {
        ImportError::Storage(error)
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::UnknownPart(SnapshotPart { table, tokens }) => {
                let (table, first, last) = (table.0, tokens.first, tokens.last);
                write!(
                    f,
                    "tokens {first} to {last} of table {table:032x} are not of this group here"
                )
            }
            ImportError::Malformed(why) => write!(f, "the snapshot is malformed: {why}"),
            ImportError::Torn => f.write_str("the snapshot ended before its end"),
            ImportError::Other => f.write_str("the snapshot is another than was announced"),
            ImportError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImportError {}

/// Where a table's rows go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) part: SnapshotPart,
    /// The number of the file that is made, if any row comes.
    pub(crate) file_id: u64,
    pub(crate) partitioner: Partitioner,
    pub(crate) options: WriterOptions,
}

/// A snapshot that is being received, on a thread that may wait for the disk.
#[derive(Debug)]
pub struct Import {
    disk: Disk,
    dir: PathBuf,
    group: u64,
    targets: Vec<Target>,
    reader: ChunkReader,
    head: Option<SnapshotHead>,
    /// The table that comes now, by its place in the head.
    part: usize,
    writing: Option<Writing>,
    made: Vec<(TableId, SsTable)>,
    counts: Counts,
    is_ended: bool,
    is_failed: bool,
}

/// A table file that is being written.
struct Writing {
    target: Target,
    writer: TableWriter,
    token: Token,
    key: Vec<u8>,
    /// The last row of the partition.
    clustering: Option<Vec<u8>>,
}

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writing({:?})", self.target)
    }
}

/// Table files that are complete and durable, for [`crate::Engine::install`].
#[derive(Debug)]
pub struct Imported {
    pub(crate) head: SnapshotHead,
    /// Everything that the snapshot replaces.
    pub(crate) parts: Vec<SnapshotPart>,
    pub(crate) made: Vec<(TableId, SsTable)>,
    counts: Counts,
}

impl Imported {
    /// What it is a snapshot of.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// How many partitions and rows it has.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.partitions, self.counts.rows)
    }

    /// The bytes of its files.
    pub fn file_bytes(&self) -> u64 {
        self.made.iter().map(|(_, table)| table.file.length_bytes).sum()
    }
}

impl Import {
    pub(crate) fn new(disk: Disk, dir: PathBuf, group: u64, targets: Vec<Target>) -> Import {
        Import {
            disk,
            dir,
            group,
            targets,
            reader: ChunkReader::default(),
            head: None,
            part: 0,
            writing: None,
            made: Vec::new(),
            counts: Counts::default(),
            is_ended: false,
            is_failed: false,
        }
    }

    /// What it is a snapshot of, once that has come.
    pub fn head(&self) -> Option<&SnapshotHead> {
        self.head.as_ref()
    }

    /// Takes the next bytes of the stream, cut anywhere. Waits for the disk. After an error the
    /// import is of no use, and has removed its files.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        if self.is_failed {
            return Err(ImportError::Malformed("the import has failed before"));
        }
        let result = self.take(bytes);
        if result.is_err() {
            self.fail();
        }
        result
    }

    /// Whether the whole snapshot has come.
    pub fn is_whole(&self) -> bool {
        self.is_ended && self.reader.is_empty() && !self.is_failed
    }

    /// Gives its files, when the whole snapshot has come. Waits for the disk.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        let is_whole = self.is_whole();
        let Some(head) = self.head.take().filter(|_| is_whole) else {
            self.fail();
            return Err(ImportError::Torn);
        };
        let parts = self.targets.iter().map(|target| target.part).collect();
        Ok(Imported { head, parts, made: self.made, counts: self.counts })
    }

    /// Gives it up: its files are removed. Waits for the disk.
    pub fn discard(mut self) {
        self.fail();
    }

    /// Removes what was written; what cannot be removed now is removed when the engine opens next.
    fn fail(&mut self) {
        self.is_failed = true;
        self.writing = None;
        self.made.clear();
        for target in &self.targets {
            let path = table_path(&self.dir, target.file_id);
            if self.disk.exists(&path).unwrap_or(false) {
                self.disk.remove(&path).ok();
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        self.reader.push(bytes);
        while let Some((kind, content)) = self.reader.next()? {
            if self.is_ended {
                return Err(ImportError::Malformed("something follows the end"));
            }
            match (kind, self.head.is_some()) {
                (ChunkKind::Head, false) => self.begin(SnapshotHead::decode(&content)?)?,
                (ChunkKind::Rows, true) => self.rows(&content)?,
                (ChunkKind::End, true) => self.end(Counts::decode(&content)?)?,
                _ => return Err(ImportError::Malformed("chunks are out of order")),
            }
        }
        if self.is_ended && !self.reader.is_empty() {
            return Err(ImportError::Malformed("something follows the end"));
        }
        Ok(())
    }

    fn begin(&mut self, head: SnapshotHead) -> Result<(), ImportError> {
        if head.group != self.group {
            return Err(ImportError::Other);
        }
        let mut left: Vec<SnapshotPart> = self.targets.iter().map(|target| target.part).collect();
        for part in &head.parts {
            let at = left.iter().position(|known| known == part);
            left.remove(at.ok_or(ImportError::UnknownPart(*part))?);
        }
        self.head = Some(head);
        Ok(())
    }

    fn rows(&mut self, content: &[u8]) -> Result<(), ImportError> {
        for mutation in mutations(content) {
            let mutation = mutation?;
            if self.writing.as_ref().is_none_or(|w| w.target.part.table != mutation.table()) {
                self.complete()?;
                self.writing = Some(self.open(&mutation)?);
            }
            let Some(writing) = &mut self.writing else { continue };
            let is_new = writing.enter(&mutation)?;
            self.counts.partitions += u64::from(is_new);
            self.counts.rows += writing.rows(&mutation, is_new)?;
        }
        Ok(())
    }

    /// Begins the file of a mutation's table, which comes behind those that came.
    fn open(&mut self, mutation: &MutationView) -> Result<Writing, ImportError> {
        let parts = self.head.iter().flat_map(|head| &head.parts);
        let found = parts.enumerate().skip(self.part).find(|(_, p)| p.table == mutation.table());
        let (at, part) = found.ok_or(ImportError::Malformed("tables are out of order"))?;
        self.part = at + 1;
        let target = self.targets.iter().find(|target| target.part == *part);
        let target = target.ok_or(ImportError::UnknownPart(*part))?.clone();
        let writer = TableWriter::create(&self.disk, &self.dir, target.file_id, target.options)?;
        Ok(Writing { target, writer, token: Token::MIN, key: Vec::new(), clustering: None })
    }

    /// Completes the file that is being written.
    fn complete(&mut self) -> Result<(), ImportError> {
        let Some(Writing { target, writer, .. }) = self.writing.take() else { return Ok(()) };
        let base = self.head.as_ref().map_or(0, |head| head.base.index);
        let indexes = BTreeMap::from([(self.group, IndexSpan { first: 1, last: base })]);
        writer.finish(&self.disk, indexes)?;
        let table = SsTable::open(&self.disk, &self.dir, target.file_id)?;
        self.made.push((target.part.table, table));
        Ok(())
    }

    fn end(&mut self, sent: Counts) -> Result<(), ImportError> {
        self.complete()?;
        if sent != self.counts {
            return Err(ImportError::Malformed("not as much came as was sent"));
        }
        self.is_ended = true;
        Ok(())
    }
}

impl Writing {
    /// Goes to a mutation's partition: whether it is a new one, which lies behind the one before,
    /// or else the rest of that one.
    fn enter(&mut self, mutation: &MutationView) -> Result<bool, ImportError> {
        let key = mutation.key();
        let token = token_of(self.target.partitioner, key);
        if !self.target.part.tokens.contains(token) {
            return Err(ImportError::Malformed("a partition lies outside of the interval"));
        }
        let is_first = self.writer.is_empty();
        if !is_first && (token, key) == (self.token, &self.key) {
            return Ok(false);
        }
        if !is_first && (token, key) < (self.token, &self.key) {
            return Err(ImportError::Malformed("partitions are out of order"));
        }
        let mut head = Partition::default();
        let mut has_rows = false;
        for item in mutation.items() {
            match item {
                MutationItem::Row { .. } => has_rows = true,
                MutationItem::StaticRow(row) if row.is_empty() => {
                    return Err(ImportError::Malformed("a row has nothing in it"));
                }
                other => head.apply_item(other),
            }
        }
        if !has_rows && !has_head(&head) {
            return Err(ImportError::Malformed("a partition has nothing in it"));
        }
        self.writer.partition(token, key, &head)?;
        (self.token, self.clustering) = (token, None);
        self.key.clear();
        self.key.extend_from_slice(key);
        Ok(true)
    }

    /// Writes a mutation's rows, and says how many there were. There is nothing else in the rest of
    /// a partition.
    fn rows(&mut self, mutation: &MutationView, is_new: bool) -> Result<u64, ImportError> {
        let mut count = 0;
        for item in mutation.items() {
            let MutationItem::Row { clustering, row } = item else {
                if !is_new {
                    return Err(ImportError::Malformed("a partition begins twice"));
                }
                continue;
            };
            if self.clustering.as_deref().is_some_and(|last| last >= clustering) {
                return Err(ImportError::Malformed("rows are out of order"));
            }
            if row.is_empty() {
                return Err(ImportError::Malformed("a row has nothing in it"));
            }
            self.writer.row(clustering, row)?;
            let last = self.clustering.get_or_insert_default();
            last.clear();
            last.extend_from_slice(clustering);
            count += 1;
        }
        Ok(count)
    }
}

const _: () = assert!(CHUNK_BYTES_MAX < u32::MAX as usize / 2, "lengths have 32 bits");

/// Both ends cross threads between calls.
const _: fn() = || {
    fn may_be_sent<T: Send>() {}
    may_be_sent::<Import>();
    may_be_sent::<Imported>();
    may_be_sent::<super::Export>();
};
