//! Snapshots of groups at the engine: pinning what is sent, taking over what came, and letting go of
//! groups that other shards or nodes hold from here on.

use super::Engine;
use crate::read::{LiveTable, TokenInterval};
use crate::snapshot::{
    Export, ExportPart, Import, Imported, SnapshotBase, SnapshotHead, SnapshotPart, Target, pinned,
};
use crate::sstable::SsTable;
use env::planted::{Bug, is_planted};
use model::TableId;
use std::fmt;
use std::sync::Arc;

/// Why a snapshot was not installed. Nothing has changed but its files, which are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallError {
    /// What is here of the group is as new.
    Outdated {
        /// The index up to which everything of some table is in files here.
        flushed: u64,
        /// The snapshot's.
        base: u64,
    },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InstallError::Outdated { flushed, base } = self;
        write!(f, "a snapshot as of {base} is not newer than what is in files, up to {flushed}")
    }
}

impl std::error::Error for InstallError {}

/// A snapshot that was installed.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) base: SnapshotBase,
    /// The first manifest that says so, once one was made.
    pub(super) settled_by: Option<u64>,
}

impl Installed {
    /// As a manifest says.
    pub(super) fn found(base: SnapshotBase) -> Self {
        Installed { base, settled_by: Some(0) }
    }
}

impl Engine {
    /// Pins what the group's tables hold now, to be sent as it is. `base` is the last entry of the
    /// group that was applied here. Parts of tables that are not here are left out.
    ///
    /// Memtables that hold any of it are frozen, and will be flushed: this takes no time here.
    pub fn export(&mut self, group: u64, base: SnapshotBase, parts: &[SnapshotPart]) -> Export {
        let mut sources: Vec<ExportPart> = Vec::new();
        for part in parts {
            if !is_planted(Bug::SnapshotMissesTheLast) {
                self.freeze_tokens(*part);
            }
            if let Some(state) = self.tables.get(&part.table) {
                sources.push(pinned(*part, &state.frozen, &state.live));
            }
        }
        let parts = sources.iter().map(|source| source.part).collect();
        let placement = self.placement(group);
        Export::new(SnapshotHead { group, base, placement, parts }, sources)
    }

    /// Begins to receive a snapshot of a group: `parts` are its tables here, each of which the
    /// snapshot will replace in its interval, whether it holds anything of it or not.
    pub fn import(&mut self, group: u64, parts: &[SnapshotPart]) -> Import {
        let mut targets = Vec::new();
        for part in parts {
            let Some(state) = self.tables.get(&part.table) else { continue };
            let (partitioner, options) = (state.config.partitioner, state.config.writer);
            targets.push(Target { part: *part, file_id: self.next_file_id, partitioner, options });
            self.next_file_id += 1;
        }
        Import::new(self.disk.clone(), self.dir.clone(), group, targets)
    }

    /// Makes a snapshot the content of its group's tables, in place of everything that was there in
    /// the group's tokens, and records its base. Reads see it at once; it is durable once
    /// [`Engine::is_installed`] says so, after the next manifest. Until then the log must keep what
    /// the replica needed before, which [`Engine::needed_indexes`] goes on to name; a crash leaves
    /// the old state with it.
    ///
    /// Rows of the old state that were kept in memory as whole ([`Engine::gather_row`]) go with it.
    pub fn install(&mut self, imported: Imported) -> Result<(), InstallError> {
        let Imported { head, parts, made, .. } = imported;
        let SnapshotHead { group, base, placement, .. } = head;
        let flushed = parts.iter().filter_map(|part| self.flushed_index(group, part.table)).max();
        if let Some(flushed) = flushed.filter(|flushed| *flushed >= base.index) {
            self.abandon_files(&made);
            return Err(InstallError::Outdated { flushed, base: base.index });
        }
        for part in parts {
            self.hide(part);
            if let Some(state) = self.tables.get_mut(&part.table) {
                state.flushed.insert(group, base.index);
            }
        }
        for (id, table) in made {
            match self.tables.get_mut(&id) {
                Some(state) => {
                    let hidden = crate::read::Hidden::default();
                    state.add_live(LiveTable { table: Arc::new(table), hidden });
                }
                // The table was dropped meanwhile.
                None => self.abandon(table.id()),
            }
        }
        self.raise_placement(group, &placement);
        self.bases.insert(group, Installed { base, settled_by: None });
        self.is_manifest_due = true;
        Ok(())
    }

    /// Forgets a group that is not held here any more: its rows, `parts` of its tables, and how far
    /// its log was taken up. Reads miss them at once; it is durable once [`Engine::is_removed`] says
    /// so, after the next manifest, and a crash before leaves the group as it was. Then the log may
    /// forget it too: not before, or a start would find tables that are ahead of their log.
    ///
    /// False, and nothing is done, while a memtable holds something of the group or a file with some
    /// is not listed yet: flushes and a manifest come first ([`FlushReason::Log`]), since a flush says
    /// how far the group is in files.
    ///
    /// [`FlushReason::Log`]: crate::FlushReason::Log
    #[must_use]
    pub fn remove_group(&mut self, group: u64, parts: &[SnapshotPart]) -> bool {
        let is_in_memory = |state: &super::TableState| {
            state.memtables().any(|memtable| memtable.indexes_of(group).is_some())
        };
        let is_unsettled = self.unsettled.iter().any(|u| u.spans.contains_key(&group));
        if is_unsettled || self.tables.values().any(is_in_memory) {
            return false;
        }
        for part in parts {
            self.hide(*part);
        }
        for state in self.tables.values_mut() {
            state.flushed.remove(&group);
        }
        self.placements.remove(&group);
        self.bases.remove(&group);
        self.removed.insert(group, None);
        self.is_manifest_due = true;
        true
    }

    /// Whether a group was removed, and that may not be durable yet.
    pub fn is_removing(&self, group: u64) -> bool {
        self.removed.contains_key(&group)
    }

    /// Whether it is durable that a group was removed. Said once: it is forgotten by that.
    pub fn is_removed(&mut self, group: u64) -> bool {
        let settled_by = self.removed.get(&group).copied().flatten();
        let is_durable = settled_by.is_some_and(|version| version <= self.durable_version);
        if is_durable {
            self.removed.remove(&group);
        }
        is_durable
    }

    /// Gives up what was imported: its files are removed with the next manifest.
    pub fn abandon_import(&mut self, imported: Imported) {
        let Imported { made, .. } = imported;
        self.abandon_files(&made);
    }

    fn abandon_files(&mut self, made: &[(TableId, SsTable)]) {
        for (_, table) in made {
            self.abandon(table.id());
        }
    }

    /// The snapshot of a group that was installed last, durable or not.
    pub fn snapshot_base(&self, group: u64) -> Option<&SnapshotBase> {
        self.bases.get(&group).map(|installed| &installed.base)
    }

    /// Whether what was last installed of a group is durable.
    pub fn is_installed(&self, group: u64) -> bool {
        let settled_by = self.bases.get(&group).and_then(|installed| installed.settled_by);
        settled_by.is_some_and(|version| version <= self.durable_version)
    }

    /// Hides what is in an interval of tokens of a table. Its memtable is frozen rather than looked
    /// through, so that this takes no time.
    fn hide(&mut self, part: SnapshotPart) {
        self.freeze_tokens(part);
        let Some(state) = self.tables.get_mut(&part.table) else { return };
        for frozen in &mut state.frozen {
            frozen.hidden.add(part.tokens);
        }
        for live in &mut state.live {
            live.hidden.add(part.tokens);
        }
        self.remove_hidden_files(part.table);
    }

    /// Freezes a table's memtable if it holds a partition in the interval.
    fn freeze_tokens(&mut self, part: SnapshotPart) {
        let TokenInterval { first, last } = part.tokens;
        let state = self.tables.get(&part.table);
        if state.is_some_and(|state| state.active.has_tokens(first..=last)) {
            self.freeze(part.table);
        }
    }
}
