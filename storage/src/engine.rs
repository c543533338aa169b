//! The engine: the tables of one shard, what is applied to them, and what of the log they need.

pub(crate) mod jobs;
mod reads;
mod snapshots;
mod statistics;
#[cfg(test)]
pub(crate) mod tests;

pub use reads::RowInPlace;
pub use snapshots::InstallError;
pub use statistics::{CacheStatistics, TableStatistics};

use crate::cache::BlockCache;
use crate::error::StorageError;
use crate::manifest::{Manifest, manifest_path};
use crate::memtable::Memtable;
use crate::options::{EngineOptions, TableConfig};
use crate::read::{Frozen, LiveTable, Sources, TokenInterval};
use crate::sstable::{LoadedBlock, SsTable, TABLE_SUFFIX};
use env::disk::Disk;
use jobs::Unsettled;
use model::entry::Placement;
use model::mutation::MutationView;
use model::token::token_of;
use model::{EpochSeconds, IdMap, TableDef, TableId, TimestampMicros, Token};
use snapshots::Installed;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The storage of one shard. See the crate.
#[derive(Debug)]
pub struct Engine {
    disk: Disk,
    dir: PathBuf,
    options: EngineOptions,
    tables: BTreeMap<TableId, TableState>,
    placements: IdMap<u64, Placement>,
    /// The manifest that has, or will have, all places in time that entries without data have raised;
    /// nothing if some are in none yet.
    placements_in: Option<u64>,
    /// By group, the snapshot that was installed last.
    bases: BTreeMap<u64, Installed>,
    /// Groups that were removed, and the first manifest that says so, once one was made.
    removed: BTreeMap<u64, Option<u64>>,
    cache: BlockCache,
    next_file_id: u64,
    /// The set of live files differs from what the last manifest says.
    is_manifest_due: bool,
    manifest_version: u64,
    /// The newest manifest that is durable.
    durable_version: u64,
    /// The files that the manifest in flight makes obsolete.
    manifest_in_flight: Option<Vec<u64>>,
    /// Files that the next manifest makes obsolete.
    obsolete: Vec<u64>,
    unsettled: Vec<Unsettled>,
    /// Memtables that are in files, until the next job takes them off this thread.
    written_out: Vec<Arc<Memtable>>,
}

/// How many mutations of [`Engine::apply_all`] are fetched from memory together: enough to keep
/// the processor's fetches in flight, few enough to be still there when they are looked at.
const FETCHED_AHEAD: usize = 16;

/// A mutation of a committed entry.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// Whose log the entry is in.
    pub group: u64,
    /// Its index there.
    pub index: u64,
    /// One of the entry's mutations.
    pub mutation: MutationView<'a>,
}

/// One table.
#[derive(Debug)]
struct TableState {
    config: TableConfig,
    active: Memtable,
    frozen: Vec<Frozen>,
    /// Newest maximum timestamp first.
    live: Vec<LiveTable>,
    /// By group, the highest index up to which all entries are in files.
    flushed: IdMap<u64, u64>,
    /// Files that a compaction is reading.
    compacting: BTreeSet<u64>,
    /// Nothing is forgotten that had not ended by then; see [`Engine::keep_ended_since`].
    kept_since: EpochSeconds,
}

impl TableState {
    fn new(config: TableConfig) -> Self {
        TableState {
            config,
            active: Memtable::default(),
            frozen: Vec::new(),
            live: Vec::new(),
            flushed: IdMap::default(),
            compacting: BTreeSet::new(),
            kept_since: EpochSeconds::MAX,
        }
    }

    /// Before which time something must have been deleted, or have expired, to be forgotten now.
    fn gc_before(&self, now: EpochSeconds) -> EpochSeconds {
        now.min(self.kept_since).saturating_sub(i64::from(self.config.gc_grace_seconds))
    }

    /// Merges a mutation in, unless it is in files already.
    #[inline]
    fn apply(&mut self, token: Token, group: u64, index: u64, mutation: &MutationView) {
        if self.flushed.get(&group).is_some_and(|flushed| *flushed >= index) {
            return;
        }
        self.active.apply(token, mutation);
        self.active.note_index(group, index);
    }

    fn sources(&self) -> Sources<'_> {
        Sources { active: &self.active, frozen: &self.frozen, tables: &self.live }
    }

    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.active).chain(self.frozen.iter().map(|f| &*f.memtable))
    }
}

impl Engine {
    /// Whether the engine of a directory has written tables there.
    pub fn has_tables(disk: &Disk, dir: &Path) -> std::io::Result<bool> {
        disk.exists(&manifest_path(dir))
    }

    /// Opens the engine of a shard in a directory of its own: the files that the manifest lists;
    /// others are removed. Waits for the disk. Tables that the schema no longer has are the
    /// caller's to drop ([`Engine::table_ids`]); the others it configures before it applies.
    pub fn open(disk: Disk, dir: &Path, options: EngineOptions) -> Result<Engine, StorageError> {
        disk.create_dir_all(dir).map_err(StorageError::io(dir))?;
        let manifest = Manifest::load(&disk, dir)?;
        remove_orphans(&disk, dir, &manifest)?;
        let mut tables = BTreeMap::new();
        for (id, listed) in &manifest.tables {
            let mut state = TableState::new(TableConfig::unknown());
            state.flushed = listed.flushed.iter().map(|(group, i)| (*group, *i)).collect();
            for (file_id, hidden) in &listed.files {
                let table = Arc::new(SsTable::open(&disk, dir, *file_id)?);
                state.add_live(LiveTable { table, hidden: hidden.clone() });
            }
            tables.insert(*id, state);
        }
        Ok(Engine {
            disk,
            dir: dir.to_owned(),
            options,
            tables,
            placements: manifest.placements.into_iter().collect(),
            placements_in: Some(0),
            bases: manifest.bases.into_iter().map(|(id, b)| (id, Installed::found(b))).collect(),
            removed: BTreeMap::new(),
            cache: BlockCache::new(options.block_cache_bytes_max),
            next_file_id: manifest.next_file_id,
            is_manifest_due: false,
            manifest_version: 0,
            durable_version: 0,
            manifest_in_flight: None,
            obsolete: Vec::new(),
            unsettled: Vec::new(),
            written_out: Vec::new(),
        })
    }

    /// The disk its files are on, for running jobs.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Makes a table, or takes over the options of a changed definition.
    pub fn configure_table(&mut self, table: &TableDef) {
        let config = TableConfig::new(table);
        if let Some(state) = self.tables.get_mut(&table.id) {
            state.config = config;
        } else {
            self.tables.insert(table.id, TableState::new(config));
        }
    }

    /// The tables it holds, known to the schema or not.
    pub fn table_ids(&self) -> impl Iterator<Item = TableId> {
        self.tables.keys().copied()
    }

    /// From here on nothing of a table is forgotten that had not been deleted or expired by that time,
    /// however long ago that is: somebody has yet to read it. Holds until it is told otherwise, or the
    /// engine is opened again.
    pub fn keep_ended_since(&mut self, table: TableId, since: EpochSeconds) {
        if let Some(state) = self.tables.get_mut(&table) {
            state.kept_since = since;
        }
    }

    /// Bytes of files in which all has expired by `now`, and something is newer than a timestamp: what
    /// [`Engine::keep_ended_since`] keeps for a reader that has come so far. By [`EpochSeconds::MAX`]
    /// everything has, also what never expires.
    pub fn ended_bytes(&self, table: TableId, now: EpochSeconds, above: TimestampMicros) -> u64 {
        let Some(state) = self.tables.get(&table) else { return 0 };
        let files = state.live.iter().map(|live| &live.table);
        let is_kept = |file: &&Arc<SsTable>| {
            file.statistics.all_gone_at <= now && file.statistics.timestamps.newest > above
        };
        files.filter(is_kept).map(|file| file.file.length_bytes).sum()
    }

    /// Whether there is such a table, and its definition has come.
    pub fn has_table(&self, table: TableId) -> bool {
        self.tables.get(&table).is_some_and(|state| state.config.is_known)
    }

    /// Forgets a table and everything in it.
    pub fn drop_table(&mut self, table: TableId) {
        let Some(state) = self.tables.remove(&table) else { return };
        self.unsettled.retain(|u| u.table != table);
        for live in &state.live {
            self.abandon(live.table.id());
        }
        self.is_manifest_due = true;
    }

    /// Merges a committed mutation of a group's log into its table. Idempotent: replay may apply
    /// an entry again. A mutation of a table that is not here changes nothing: it was dropped.
    pub fn apply(&mut self, group: u64, index: u64, mutation: &MutationView) {
        let Some(state) = self.tables.get_mut(&mutation.table()) else { return };
        let token = token_of(state.config.partitioner, mutation.key());
        state.apply(token, group, index, mutation);
    }

    /// Merges committed mutations one after the other, as [`Engine::apply`] does: cheaper when there
    /// are many, since those that follow are fetched from memory while one is merged.
    pub fn apply_all(&mut self, batch: &[Committed]) {
        for chunk in batch.chunks(FETCHED_AHEAD) {
            let mut tokens = [Token(0); FETCHED_AHEAD];
            for (token, committed) in tokens.iter_mut().zip(chunk) {
                let Some(state) = self.tables.get(&committed.mutation.table()) else { continue };
                *token = token_of(state.config.partitioner, committed.mutation.key());
                state.active.prefetch_index(*token);
            }
            for (token, committed) in tokens.iter().zip(chunk) {
                self.prefetch_partition(committed.mutation.table(), *token);
            }
            for (token, committed) in tokens.iter().zip(chunk) {
                let Committed { group, index, mutation } = *committed;
                if let Some(state) = self.tables.get_mut(&mutation.table()) {
                    state.apply(*token, group, index, &mutation);
                }
            }
        }
    }

    /// Removes what was applied so far to a table in an interval of tokens, by the entry at
    /// `index` of the group's log.
    pub fn truncate(&mut self, group: u64, index: u64, table: TableId, tokens: TokenInterval) {
        let Some(state) = self.tables.get_mut(&table) else { return };
        if state.flushed.get(&group).is_some_and(|flushed| *flushed >= index) {
            return;
        }
        state.active.remove(tokens.first..=tokens.last);
        state.active.note_index(group, index);
        for frozen in &mut state.frozen {
            frozen.hidden.add(tokens);
        }
        for live in &mut state.live {
            live.hidden.add(tokens);
        }
        self.remove_hidden_files(table);
    }

    /// Raises a group's place in time, which is kept with the tables.
    pub fn raise_placement(&mut self, group: u64, placement: &Placement) {
        self.placements.entry(group).or_insert(Placement::START).raise(placement);
    }

    /// The same for an entry that has no data, and so holds back no segment of the log:
    /// [`Engine::keeps_placements`] is to be asked before one goes.
    pub fn raise_placement_alone(&mut self, group: u64, placement: &Placement) {
        self.raise_placement(group, placement);
        self.placements_in = None;
    }

    /// Whether all places in time that entries without data have raised are durable here. If not, a
    /// manifest is due, and it is to be asked again when that is written.
    pub fn keeps_placements(&mut self) -> bool {
        let is_due = self.placements_in.is_none();
        self.is_manifest_due |= is_due;
        self.placements_in.is_some_and(|version| version <= self.durable_version)
    }

    /// A group's place in time as far as it is known here.
    pub fn placement(&self, group: u64) -> Placement {
        self.placements.get(&group).copied().unwrap_or(Placement::START)
    }

    /// The highest index of a group's log up to which a table has everything in files: replay
    /// skips the table's mutations up to it.
    pub fn flushed_index(&self, group: u64, table: TableId) -> Option<u64> {
        self.tables.get(&table)?.flushed.get(&group).copied()
    }

    /// By group, the highest index of its log of which some table has everything in files.
    pub fn flushed_indexes(&self) -> BTreeMap<u64, u64> {
        let mut flushed = BTreeMap::new();
        for (group, index) in self.tables.values().flat_map(|table| &table.flushed) {
            let highest = flushed.entry(*group).or_insert(*index);
            *highest = (*index).max(*highest);
        }
        flushed
    }

    /// The lowest index of a group's log that some table still needs; none if nothing of what was
    /// applied is needed.
    pub fn needed_index(&self, group: u64) -> Option<u64> {
        let memtables = self.tables.values().flat_map(TableState::memtables);
        let held = memtables.filter_map(|memtable| memtable.indexes_of(group));
        let unsettled = self.unsettled.iter().filter_map(|u| u.spans.get(&group).copied());
        held.chain(unsettled).map(|span| span.first).min()
    }

    /// The same of all groups that need something.
    pub fn needed_indexes(&self) -> BTreeMap<u64, u64> {
        let mut needed = BTreeMap::new();
        for memtable in self.tables.values().flat_map(TableState::memtables) {
            for (group, span) in memtable.indexes() {
                let lowest = needed.entry(group).or_insert(span.first);
                *lowest = span.first.min(*lowest);
            }
        }
        for (group, span) in self.unsettled.iter().flat_map(|u| &u.spans) {
            let lowest = needed.entry(*group).or_insert(span.first);
            *lowest = span.first.min(*lowest);
        }
        needed
    }

    /// Gives a block that was missed to the cache.
    pub fn block_loaded(&mut self, loaded: LoadedBlock) {
        self.cache.insert(loaded.file_id, loaded.block);
    }

    /// Memory of all memtables, frozen ones included.
    pub fn memtable_bytes(&self) -> usize {
        self.tables.values().flat_map(TableState::memtables).map(Memtable::memory_bytes).sum()
    }

    /// Memory of memtables, filters, indexes and cached blocks.
    pub fn memory_bytes(&self) -> usize {
        let live = self.tables.values().flat_map(|t| &t.live).map(|l| l.table.memory_bytes());
        self.memtable_bytes() + live.sum::<usize>() + self.cache.bytes()
    }
}

/// Removes what a crash left: files that were begun and never listed, or replaced.
fn remove_orphans(disk: &Disk, dir: &Path, manifest: &Manifest) -> Result<(), StorageError> {
    let is_listed = |file_id: u64| manifest.tables.values().any(|t| t.files.contains_key(&file_id));
    for name in disk.list(dir).map_err(StorageError::io(dir))? {
        let file_id = name.strip_suffix(TABLE_SUFFIX).and_then(|n| n.parse().ok());
        if file_id.is_some_and(|id| !is_listed(id)) || name.strip_suffix(".tmp").is_some() {
            let path = dir.join(name);
            disk.remove(&path).map_err(StorageError::io(&path))?;
        }
    }
    Ok(())
}
