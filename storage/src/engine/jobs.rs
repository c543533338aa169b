//! Background work of the engine, as values that another thread runs.
//!
//! A [`Job`] owns all it needs. The shard's thread takes one ([`Engine::flush_job`],
//! [`Engine::compaction_job`], [`Engine::manifest_job`], or whichever is due: [`Engine::next_job`]),
//! a worker runs it, and the result is given back with [`Engine::finish`]. What is decided is
//! decided on the shard's thread, when the job is made and when its result comes.
//!
//! The order that makes a crash harmless: a flushed or merged file is complete and durable before
//! its result comes; reads use it from then on; the log keeps the entries in it, and the files it
//! replaces stay, until a manifest that lists it is durable. At most one manifest is in flight, and
//! a table's memtables become files in the order in which they were filled, so the flushed index
//! never claims what only a later file holds.

use super::{Engine, TableState};
use crate::compaction::executor::{CompactionWork, compact};
use crate::compaction::picker::{self, Candidate, Horizon};
use crate::error::StorageError;
use crate::manifest::{Manifest, ManifestTable};
use crate::memtable::{IndexSpan, Memtable};
use crate::read::partition::merge_head;
use crate::read::{Frozen, Hidden, LiveTable};
use crate::sstable::{SsTable, TableWriter, WriterOptions, table_path};
use env::disk::Disk;
use model::partition::Partition;
use model::row::RowView;
use model::{EpochSeconds, TableId};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Background work that may run on any thread.
#[derive(Debug)]
pub struct Job(Work);

#[derive(Debug)]
enum Work {
    Flush(FlushWork),
    Manifest {
        version: u64,
        manifest: Manifest,
        dir: PathBuf,
        obsolete: Vec<u64>,
        /// Memtables that are in files now: giving their memory back takes a while.
        written_out: Vec<Arc<Memtable>>,
    },
    Compact {
        table: TableId,
        work: CompactionWork,
    },
}

#[derive(Debug)]
struct FlushWork {
    table: TableId,
    file_id: u64,
    memtable: Arc<Memtable>,
    dir: PathBuf,
    options: WriterOptions,
}

/// What a job did, for [`Engine::finish`].
#[derive(Debug)]
pub struct JobResult(Outcome);

/// `None` when nothing was left to write.
type MadeTable = Result<Option<SsTable>, StorageError>;

#[derive(Debug)]
enum Outcome {
    Flush { table: TableId, file_id: u64, made: MadeTable },
    Manifest { version: u64, stored: Result<(), StorageError>, removed: Result<(), StorageError> },
    Compact { table: TableId, inputs: Vec<(u64, Hidden)>, file_id: u64, made: MadeTable },
}

/// What kind of work a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// A memtable becomes a file.
    Flush,
    /// The set of live files is made durable.
    Manifest,
    /// Files are merged.
    Compaction,
}

/// Which memtables are to become files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushReason {
    /// Only what was frozen before, or the largest when memory is short.
    Pressure,
    /// The one that holds the log back at the lowest index of this group. Each call freezes the
    /// next one, so call once and look at [`Engine::needed_indexes`] when it is finished.
    Log {
        /// The group.
        group: u64,
    },
    /// Everything: before a shutdown.
    Everything,
}

impl Job {
    /// What it does.
    pub fn kind(&self) -> JobKind {
        match self.0 {
            Work::Flush(_) => JobKind::Flush,
            Work::Manifest { .. } => JobKind::Manifest,
            Work::Compact { .. } => JobKind::Compaction,
        }
    }

    /// Runs it to its end; it waits for the disk.
    pub fn run(self, disk: &Disk) -> JobResult {
        JobResult(match self.0 {
            Work::Flush(work) => {
                let written = write_memtable(disk, &work);
                let made = open_made(disk, &work.dir, work.file_id, written);
                Outcome::Flush { table: work.table, file_id: work.file_id, made }
            }
            Work::Manifest { version, manifest, dir, obsolete, written_out } => {
                drop(written_out);
                let stored = manifest.store(disk, &dir);
                let removed = match stored {
                    Ok(()) => remove_files(disk, &dir, &obsolete),
                    Err(_) => Ok(()),
                };
                Outcome::Manifest { version, stored, removed }
            }
            Work::Compact { table, work } => {
                let written = compact(disk, &work);
                let made = open_made(disk, &work.dir, work.file_id, written);
                let inputs = work.inputs.into_iter().map(|t| (t.table.id(), t.hidden)).collect();
                Outcome::Compact { table, inputs, file_id: work.file_id, made }
            }
        })
    }
}

/// Opens the file that was written, if there was anything to write. What a failure has left of it
/// is removed: the room that it takes may be what is missing.
fn open_made(
    disk: &Disk,
    dir: &Path,
    file_id: u64,
    written: Result<bool, StorageError>,
) -> MadeTable {
    let made = match written {
        Ok(true) => SsTable::open(disk, dir, file_id).map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    if made.is_err() {
        // Otherwise whoever opens the engine next removes it.
        disk.remove(&table_path(dir, file_id)).ok();
    }
    made
}

/// Files that no manifest lists any more; what cannot be removed now is removed when the engine
/// opens next.
fn remove_files(disk: &Disk, dir: &Path, file_ids: &[u64]) -> Result<(), StorageError> {
    for file_id in file_ids {
        let path = table_path(dir, *file_id);
        if disk.exists(&path).map_err(StorageError::io(&path))? {
            disk.remove(&path).map_err(StorageError::io(&path))?;
        }
    }
    Ok(())
}

/// Whether there was anything to write.
fn write_memtable(disk: &Disk, work: &FlushWork) -> Result<bool, StorageError> {
    if work.memtable.partition_count() == 0 {
        return Ok(false);
    }
    let mut writer = TableWriter::create(disk, &work.dir, work.file_id, work.options)?;
    for partition in work.memtable.iter() {
        let mut head = Partition::default();
        merge_head(&mut head, &partition);
        writer.partition(partition.token(), partition.key(), &head)?;
        let mut at = partition.seek(b"");
        while let Some((clustering, row)) = partition.row_at(at) {
            writer.row(clustering, RowView::new(row))?;
            at = partition.next(at);
        }
    }
    writer.finish(disk, work.memtable.indexes())?;
    Ok(true)
}

impl Engine {
    /// Whether memtables take more memory than they may, those being flushed not counted.
    pub fn should_flush(&self) -> bool {
        let active = self.tables.values().map(|t| t.active.memory_bytes()).sum::<usize>();
        active > self.options.memtable_bytes_max
    }

    /// The next job that is due, the most urgent kind first. `now` is the purge time of
    /// compactions, in seconds since the epoch.
    pub fn next_job(&mut self, now: EpochSeconds) -> Option<Job> {
        self.manifest_job()
            .or_else(|| self.flush_job(FlushReason::Pressure))
            .or_else(|| self.compaction_job(now))
    }

    /// Freezes what the reason asks for, and gives the next memtable that can be written. Call
    /// until there is none.
    pub fn flush_job(&mut self, reason: FlushReason) -> Option<Job> {
        match reason {
            FlushReason::Pressure if self.should_flush() => {
                let largest = self.tables.iter().max_by_key(|(_, t)| t.active.memory_bytes());
                let id = *largest?.0;
                self.freeze(id);
            }
            FlushReason::Pressure => {}
            FlushReason::Log { group } => {
                let first = |t: &TableState| t.active.indexes_of(group).map(|span| span.first);
                let lowest = self.tables.iter().filter_map(|(id, t)| Some((first(t)?, *id))).min();
                if let Some((_, id)) = lowest {
                    self.freeze(id);
                }
            }
            FlushReason::Everything => {
                let ids: Vec<TableId> = self.tables.keys().copied().collect();
                for id in ids {
                    self.freeze(id);
                }
            }
        }
        self.frozen_job()
    }

    pub(super) fn freeze(&mut self, id: TableId) {
        let file_id = self.next_file_id;
        let Some(state) = self.tables.get_mut(&id).filter(|t| !t.active.is_empty()) else { return };
        self.next_file_id += 1;
        let memtable = Arc::new(std::mem::take(&mut state.active));
        let hidden = Hidden::default();
        state.frozen.push(Frozen { file_id, memtable, hidden, is_running: false });
    }

    /// The oldest frozen memtable of a table none of whose is being written.
    fn frozen_job(&mut self) -> Option<Job> {
        self.tables.iter_mut().find_map(|(id, state)| {
            let options = state.config.writer;
            let oldest = state.frozen.first_mut().filter(|f| !f.is_running)?;
            oldest.is_running = true;
            Some(Job(Work::Flush(FlushWork {
                table: *id,
                file_id: oldest.file_id,
                memtable: oldest.memtable.clone(),
                dir: self.dir.clone(),
                options,
            })))
        })
    }

    /// A job that makes the set of live files durable, when it has changed and none is in flight.
    pub fn manifest_job(&mut self) -> Option<Job> {
        if !self.is_manifest_due || self.manifest_in_flight.is_some() {
            return None;
        }
        self.is_manifest_due = false;
        self.manifest_version += 1;
        let version = self.manifest_version;
        self.placements_in.get_or_insert(version);
        for unsettled in &mut self.unsettled {
            unsettled.version.get_or_insert(version);
        }
        for installed in self.bases.values_mut() {
            installed.settled_by.get_or_insert(version);
        }
        for settled_by in self.removed.values_mut() {
            settled_by.get_or_insert(version);
        }
        let obsolete = std::mem::take(&mut self.obsolete);
        self.manifest_in_flight = Some(obsolete.clone());
        let (manifest, dir) = (self.manifest(), self.dir.clone());
        let written_out = std::mem::take(&mut self.written_out);
        Some(Job(Work::Manifest { version, manifest, dir, obsolete, written_out }))
    }

    /// Whether memory holds nothing that is not in files of a durable manifest: no job of those that
    /// see to it is due or being run.
    pub fn is_written_out(&self) -> bool {
        let is_in_files = |table: &TableState| table.active.is_empty() && table.frozen.is_empty();
        !self.is_manifest_due
            && self.manifest_in_flight.is_none()
            && self.tables.values().all(is_in_files)
    }

    pub(super) fn manifest(&self) -> Manifest {
        let table = |state: &TableState| ManifestTable {
            files: state.live.iter().map(|l| (l.table.id(), l.hidden.clone())).collect(),
            flushed: state.flushed.iter().map(|(group, index)| (*group, *index)).collect(),
        };
        Manifest {
            next_file_id: self.next_file_id,
            tables: self.tables.iter().map(|(id, state)| (*id, table(state))).collect(),
            placements: self.placements.iter().map(|(group, p)| (*group, *p)).collect(),
            bases: self.bases.iter().map(|(group, b)| (*group, b.base.clone())).collect(),
        }
    }

    /// Takes over what a job did. An error is the job's: its work was not done, and is handed out
    /// again when it is asked for.
    pub fn finish(&mut self, result: JobResult) -> Result<(), StorageError> {
        match result.0 {
            Outcome::Flush { table, file_id, made } => self.finish_flush(table, file_id, made),
            Outcome::Manifest { version, stored, removed } => {
                let obsolete = self.manifest_in_flight.take().unwrap_or_default();
                if let Err(error) = stored {
                    self.is_manifest_due = true;
                    self.placements_in = self.placements_in.filter(|within| *within < version);
                    self.obsolete.extend(obsolete);
                    return Err(error);
                }
                self.unsettled.retain(|u| u.version.is_none_or(|v| v > version));
                self.durable_version = self.durable_version.max(version);
                removed
            }
            Outcome::Compact { table, inputs, file_id, made } => {
                self.finish_compaction(table, &inputs, file_id, made)
            }
        }
    }

    fn finish_flush(
        &mut self,
        id: TableId,
        file_id: u64,
        made: MadeTable,
    ) -> Result<(), StorageError> {
        let position = |state: &TableState| state.frozen.iter().position(|f| f.file_id == file_id);
        let found = self.tables.get_mut(&id).and_then(|s| position(s).map(|at| (s, at)));
        let Some((state, at)) = found else {
            // The table was dropped meanwhile, or made again.
            self.abandon(file_id);
            return made.map(drop);
        };
        let table = match made {
            Ok(table) => table,
            Err(error) => {
                state.frozen[at].is_running = false;
                return Err(error);
            }
        };
        assert_eq!(at, 0, "memtables become files in the order in which they were filled");
        let frozen = state.frozen.remove(at);
        let spans = frozen.memtable.indexes();
        for (group, span) in &spans {
            let flushed = state.flushed.entry(*group).or_insert(span.last);
            *flushed = span.last.max(*flushed);
        }
        if let Some(table) = table {
            state.add_live(LiveTable { table: Arc::new(table), hidden: frozen.hidden });
        }
        self.written_out.push(frozen.memtable);
        self.unsettled.push(Unsettled { version: None, table: id, spans });
        self.remove_hidden_files(id);
        self.is_manifest_due = true;
        Ok(())
    }

    /// Files that have nothing left to show leave the live set.
    pub(super) fn remove_hidden_files(&mut self, id: TableId) {
        let Some(state) = self.tables.get_mut(&id) else { return };
        let TableState { live, compacting, .. } = state;
        let mut gone = Vec::new();
        live.retain(|l| {
            let is_kept = !l.is_all_hidden() || compacting.contains(&l.table.id());
            if !is_kept {
                gone.push(l.table.id());
            }
            is_kept
        });
        for file_id in gone {
            self.abandon(file_id);
        }
    }

    /// The file is removed once a manifest without it is durable.
    pub(super) fn abandon(&mut self, file_id: u64) {
        self.cache.remove_file(file_id);
        self.obsolete.push(file_id);
        self.is_manifest_due = true;
    }

    /// Picks files of a table that should be merged, as the tables' options say. `now` decides
    /// what tombstones and expired cells are old enough to go.
    pub fn compaction_job(&mut self, now: EpochSeconds) -> Option<Job> {
        let ids: Vec<TableId> = self.tables.keys().copied().collect();
        ids.into_iter().find_map(|id| {
            let state = self.tables.get(&id)?;
            let candidates: Vec<Candidate> = state
                .live
                .iter()
                .filter(|l| !state.compacting.contains(&l.table.id()))
                .map(|l| Candidate::new(&l.table))
                .collect();
            let gc_before = state.gc_before(now);
            let busy = state.live.iter().filter(|l| state.compacting.contains(&l.table.id()));
            let oldest_elsewhere = busy
                .map(|l| l.table.statistics.timestamps.oldest)
                .chain(state.memtables().map(|m| m.timestamps().oldest))
                .min();
            let oldest_elsewhere = oldest_elsewhere.unwrap_or(i64::MAX);
            let horizon = Horizon { gc_before, oldest_elsewhere };
            let picked = picker::pick(&state.config.compaction, &candidates, horizon)?;
            self.start_compaction(id, &picked, gc_before)
        })
    }

    /// Merges all files of a table, whatever the strategy would do.
    pub fn major_compaction_job(&mut self, id: TableId, now: EpochSeconds) -> Option<Job> {
        let state = self.tables.get(&id)?;
        if !state.compacting.is_empty() || state.live.is_empty() {
            return None;
        }
        let all: Vec<u64> = state.live.iter().map(|l| l.table.id()).collect();
        let gc_before = state.gc_before(now);
        self.start_compaction(id, &all, gc_before)
    }

    pub(super) fn start_compaction(
        &mut self,
        id: TableId,
        picked: &[u64],
        gc_before: EpochSeconds,
    ) -> Option<Job> {
        let file_id = self.next_file_id;
        let state = self.tables.get_mut(&id)?;
        self.next_file_id += 1;
        state.compacting.extend(picked);
        let (inputs, outside): (Vec<LiveTable>, Vec<LiveTable>) =
            state.live.iter().cloned().partition(|l| picked.contains(&l.table.id()));
        let oldest_in_memory = state.memtables().map(|m| m.timestamps().oldest).min();
        let work = CompactionWork {
            dir: self.dir.clone(),
            file_id,
            options: state.config.writer,
            inputs,
            outside,
            oldest_in_memory: oldest_in_memory.unwrap_or(i64::MAX),
            gc_before,
        };
        Some(Job(Work::Compact { table: id, work }))
    }

    fn finish_compaction(
        &mut self,
        id: TableId,
        inputs: &[(u64, Hidden)],
        file_id: u64,
        made: MadeTable,
    ) -> Result<(), StorageError> {
        let Some(state) = self.tables.get_mut(&id).filter(|s| s.has_all(inputs)) else {
            self.abandon(file_id);
            return made.map(drop);
        };
        for (input, _) in inputs {
            state.compacting.remove(input);
        }
        let table = match made {
            Ok(table) => table,
            Err(error) => {
                self.abandon(file_id);
                return Err(error);
            }
        };
        let mut hidden_since = Hidden::default();
        for live in &state.live {
            if let Some((_, before)) = inputs.iter().find(|(input, _)| *input == live.table.id()) {
                let new = live.hidden.0.iter().filter(|interval| !before.0.contains(interval));
                new.for_each(|interval| hidden_since.add(*interval));
            }
        }
        state.live.retain(|l| !inputs.iter().any(|(input, _)| *input == l.table.id()));
        if let Some(table) = table {
            state.add_live(LiveTable { table: Arc::new(table), hidden: hidden_since });
        }
        for (input, _) in inputs {
            self.abandon(*input);
        }
        self.remove_hidden_files(id);
        Ok(())
    }
}

impl TableState {
    fn has_all(&self, inputs: &[(u64, Hidden)]) -> bool {
        inputs.iter().all(|(input, _)| self.live.iter().any(|l| l.table.id() == *input))
    }

    pub(super) fn add_live(&mut self, table: LiveTable) {
        self.live.push(table);
        self.live.sort_by_key(|l| {
            (Reverse(l.table.statistics.timestamps.newest), Reverse(l.table.id()))
        });
    }
}

/// Log entries that are in files which no durable manifest lists yet.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// The manifest that settles it, once one was made.
    version: Option<u64>,
    pub(super) table: TableId,
    pub(super) spans: BTreeMap<u64, IndexSpan>,
}

/// Jobs, their results and missed blocks cross threads; the engine itself may move to its own.
const _: fn() = || {
    fn may_be_sent<T: Send>() {}
    may_be_sent::<Job>();
    may_be_sent::<JobResult>();
    may_be_sent::<crate::sstable::BlockMiss>();
    may_be_sent::<crate::sstable::LoadedBlock>();
    may_be_sent::<Engine>();
};
