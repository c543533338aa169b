//! The files of a simulated disk, twice: as processes see them, and as a power cut leaves them.
//!
//! A change is made to the seen side at once and noted as pending. A sync carries what is pending
//! on one file, or in one directory, to the durable side. A power cut ([`State::restart`]) takes
//! the durable side, and of what is pending as much as [`Survival`] says.
//!
//! Promises:
//! - pending changes of one directory survive as a prefix, as on a journaled file system; pending
//!   writes of one file survive in any subset, each of their 512-byte sectors by itself;
//! - a write through an `O_DSYNC` handle survives with all its bytes;
//! - a failed sync loses the writes it was for: they stay visible and never become durable.
//!
//! Simplified: a rename from one directory into another is made durable by a sync of either; the
//! name of a directory is durable when it has been made, and until it has been removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::super::{OpenMode, directory_of};
use super::change::{FileChange, NameChange, Names};
use super::contents::Contents;
use super::control::{OperationKind, Survival};
use crate::random::SplitMix64;

/// A file apart from its names.
pub(super) type Inode = u64;

#[derive(Clone, Debug)]
pub(super) struct State {
    random: SplitMix64,
    /// Counts starts of the machine.
    boot: u64,
    /// Set by a power cut, cleared by [`State::restart`]: every call fails.
    is_off: bool,
    /// Changes made so far, since the disk was created.
    operation_count: u64,
    crash_at: Option<u64>,
    /// What each change was, while a test wants to know.
    record: Option<Vec<String>>,
    /// The file that was changed last.
    changed_last: Option<Inode>,
    faults: Vec<Fault>,
    /// Every write and sync fails.
    writes_fail: bool,
    /// Bytes that files may still grow by.
    space_left: Option<u64>,
    is_page_cache_cold: bool,
    seen: Names,
    durable: Names,
    pending_names: Vec<NameChange>,
    files: BTreeMap<Inode, FileState>,
    inode_next: Inode,
    locks: BTreeSet<Inode>,
}

/// The calls of `kind` left until the one that fails: 1 is the next.
#[derive(Clone, Debug)]
struct Fault {
    kind: OperationKind,
    calls_left: u64,
}

#[derive(Clone, Debug, Default)]
struct FileState {
    seen: Contents,
    durable: Contents,
    pending: Vec<FileChange>,
    handle_count: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            random: SplitMix64::new(seed),
            boot: 0,
            is_off: false,
            operation_count: 0,
            crash_at: None,
            record: None,
            changed_last: None,
            faults: Vec::new(),
            writes_fail: false,
            space_left: None,
            is_page_cache_cold: false,
            seen: Names::default(),
            durable: Names::default(),
            pending_names: Vec::new(),
            files: BTreeMap::new(),
            inode_next: 0,
            locks: BTreeSet::new(),
        }
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    // ---- names

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        for ancestor in path.ancestors() {
            if self.seen.files.contains_key(ancestor) {
                let error = if ancestor == path { Errno::EXIST } else { Errno::NOTDIR };
                return Err(error.into());
            }
        }
        if self.seen.is_directory(path) {
            return Ok(());
        }
        self.begin_change(|_| format!("create directory {}", path.display()))?;
        for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            self.seen.directories.insert(ancestor.to_owned());
            self.durable.directories.insert(ancestor.to_owned());
        }
        Ok(())
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        self.check_power()?;
        self.check_fault(OperationKind::Read)?;
        self.check_directory(path)?;
        let files = self.seen.files.keys();
        let mut names = Vec::new();
        for child in files.chain(&self.seen.directories) {
            if directory_of(child) == path && child.as_path() != path {
                let name = child.file_name().and_then(|name| name.to_str());
                names.push(name.ok_or(io::ErrorKind::InvalidData)?.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        self.check_power()?;
        Ok(self.seen.files.contains_key(path) || self.seen.is_directory(path))
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_power()?;
        if self.seen.is_directory(from) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let inode = self.inode_of(from)?;
        self.check_directory(directory_of(to))?;
        if self.seen.is_directory(to) {
            // Linux's answers: the first when the file lies in that directory, at any depth.
            let error = if from.starts_with(to) { Errno::NOTEMPTY } else { Errno::ISDIR };
            return Err(error.into());
        }
        if from == to {
            return Ok(());
        }
        let crash = self.begin_change(|_| format!("rename {} to {}", from.display(), to.display()));
        self.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        crash
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.inode_of(path)?;
        let crash = self.begin_change(|_| format!("remove {}", path.display()));
        self.change_names(NameChange::Unlink { path: path.to_owned() });
        crash
    }

    pub(super) fn remove_empty_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        self.begin_change(|_| format!("remove directory {}", path.display()))?;
        // The directory takes its pending names with it: what was in it has been removed.
        self.settle_names(path);
        self.seen.directories.remove(path);
        self.durable.directories.remove(path);
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check_power()?;
        self.check_directory(path)?;
        self.check_fault(OperationKind::Sync)?;
        self.begin_change(|_| format!("sync directory {}", path.display()))?;
        self.settle_names(path);
        Ok(())
    }

    fn change_names(&mut self, change: NameChange) {
        self.seen.apply(&change);
        self.pending_names.push(change);
    }

    fn settle_names(&mut self, directory: &Path) {
        for change in std::mem::take(&mut self.pending_names) {
            if change.is_in(directory) {
                self.durable.apply(&change);
            } else {
                self.pending_names.push(change);
            }
        }
        self.forget_unreachable_files();
    }

    fn forget_unreachable_files(&mut self) {
        let mut reachable: BTreeSet<Inode> = self.seen.files.values().copied().collect();
        reachable.extend(self.durable.files.values());
        reachable.extend(self.pending_names.iter().filter_map(NameChange::inode));
        self.files.retain(|inode, file| file.handle_count > 0 || reachable.contains(inode));
        let files = &self.files;
        self.locks.retain(|inode| files.contains_key(inode));
    }

    fn inode_of(&self, path: &Path) -> io::Result<Inode> {
        if self.seen.is_directory(path) {
            return Err(Errno::ISDIR.into());
        }
        self.seen.files.get(path).copied().ok_or_else(|| Errno::NOENT.into())
    }

    fn check_directory(&self, path: &Path) -> io::Result<()> {
        if self.seen.is_directory(path) {
            Ok(())
        } else if self.seen.files.contains_key(path) {
            Err(Errno::NOTDIR.into())
        } else {
            Err(Errno::NOENT.into())
        }
    }

    // ---- files

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<Inode> {
        self.check_power()?;
        self.check_directory(directory_of(path))?;
        let found = match self.inode_of(path) {
            Ok(inode) => Some(inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) if mode == OpenMode::CreateNew => return Err(Errno::EXIST.into()),
            Err(error) => return Err(error),
        };
        let inode = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(Errno::EXIST.into()),
            (OpenMode::Create, Some(inode)) => {
                self.set_len(inode, 0)?;
                inode
            }
            (_, Some(inode)) => inode,
            (OpenMode::Create | OpenMode::CreateNew, None) => self.create(path)?,
            (_, None) => return Err(Errno::NOENT.into()),
        };
        self.file(inode).handle_count += 1;
        Ok(inode)
    }

    fn create(&mut self, path: &Path) -> io::Result<Inode> {
        let crash = self.begin_change(|_| format!("create {}", path.display()));
        let inode = self.inode_next;
        self.inode_next += 1;
        self.files.insert(inode, FileState::default());
        self.change_names(NameChange::Link { path: path.to_owned(), inode });
        crash.map(|()| inode)
    }

    /// A handle on the file is gone; one from before a restart was already forgotten.
    pub(super) fn close(&mut self, inode: Inode, boot: u64) {
        if boot == self.boot {
            self.file(inode).handle_count -= 1;
        }
    }

    pub(super) fn check_handle(&self, boot: u64) -> io::Result<()> {
        self.check_power()?;
        if boot == self.boot {
            Ok(())
        } else {
            Err(io::Error::other("the file was opened before the simulated machine restarted"))
        }
    }

    fn file(&mut self, inode: Inode) -> &mut FileState {
        self.files.get_mut(&inode).expect("a file lives as long as a handle or a name of it")
    }

    /// The file as processes see it.
    pub(super) fn contents(&self, inode: Inode) -> &Contents {
        static NOTHING: Contents = Contents::empty();
        self.files.get(&inode).map_or(&NOTHING, |file| &file.seen)
    }

    pub(super) fn read_at(
        &mut self,
        inode: Inode,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.check_fault(OperationKind::Read)?;
        Ok(self.contents(inode).read_at(buffer, offset))
    }

    pub(super) fn write_at(
        &mut self,
        inode: Inode,
        bytes: &[u8],
        offset: u64,
        is_synchronous: bool,
    ) -> io::Result<()> {
        let fault = self.check_fault(OperationKind::Write);
        // A device that breaks may have taken what it says it has not.
        if fault.is_err() && !(self.writes_fail && self.random.coin()) {
            return fault;
        }
        self.take_space(inode, offset + bytes.len() as u64)?;
        let crash = self.begin_change(|state| {
            let verb = if is_synchronous { "write and sync" } else { "write" };
            format!("{verb} {} at {offset}: {} bytes", state.name_of(inode), bytes.len())
        });
        self.changed_last = Some(inode);
        // The write during which the power goes is one that may be torn, whatever the handle.
        let is_synchronous = is_synchronous && crash.is_ok() && fault.is_ok();
        let file = self.file(inode);
        file.seen.write_at(offset, bytes);
        if is_synchronous && file.pending.is_empty() {
            file.durable.write_at(offset, bytes);
        } else {
            file.pending.push(FileChange::Write { offset, bytes: bytes.to_vec(), is_synchronous });
        }
        crash.and(fault)
    }

    pub(super) fn set_len(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        self.check_fault(OperationKind::Write)?;
        self.take_space(inode, length)?;
        let crash =
            self.begin_change(|state| format!("set length {} to {length}", state.name_of(inode)));
        self.changed_last = Some(inode);
        let file = self.file(inode);
        file.seen.set_len(length);
        file.pending.push(FileChange::SetLength(length));
        crash
    }

    pub(super) fn sync(&mut self, inode: Inode) -> io::Result<()> {
        let fault = self.check_fault(OperationKind::Sync);
        if fault.is_ok() {
            self.begin_change(|state| format!("sync {}", state.name_of(inode)))?;
        }
        let FileState { durable, pending, .. } = self.file(inode);
        if fault.is_err() {
            for change in pending {
                if let FileChange::Write { offset, bytes, is_synchronous: false } = change {
                    *change = FileChange::Extend(*offset + bytes.len() as u64);
                }
            }
            return fault;
        }
        for change in pending.drain(..) {
            change.apply(durable);
        }
        Ok(())
    }

    /// Accounts for a file's growth to `length`.
    fn take_space(&mut self, inode: Inode, length: u64) -> io::Result<()> {
        let growth = length.saturating_sub(self.contents(inode).len());
        if let Some(left) = &mut self.space_left {
            *left = left.checked_sub(growth).ok_or(Errno::NOSPC)?;
        }
        Ok(())
    }

    // ---- faults

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.is_off { Err(power_is_off()) } else { Ok(()) }
    }

    /// Counts a change. An error means that the power goes while it is made: the caller leaves
    /// it pending, where it is a change that can be, and returns the error.
    fn begin_change(&mut self, what: impl FnOnce(&State) -> String) -> io::Result<()> {
        self.check_power()?;
        self.operation_count += 1;
        if self.record.is_some() {
            let line = format!("{} {}", self.operation_count, what(self));
            self.record.iter_mut().for_each(|lines| lines.push(line.clone()));
        }
        if self.crash_at.is_some_and(|number| self.operation_count >= number) {
            self.is_off = true;
            return Err(power_is_off());
        }
        Ok(())
    }

    fn check_fault(&mut self, kind: OperationKind) -> io::Result<()> {
        let mut is_due = false;
        for fault in self.faults.iter_mut().filter(|fault| fault.kind == kind) {
            fault.calls_left -= 1;
            is_due |= fault.calls_left == 0;
        }
        self.faults.retain(|fault| fault.calls_left > 0);
        is_due |= self.writes_fail && kind != OperationKind::Read;
        if is_due { Err(Errno::IO.into()) } else { Ok(()) }
    }

    pub(super) fn writes_fail(&self) -> bool {
        self.writes_fail
    }

    pub(super) fn set_writes_fail(&mut self) {
        self.writes_fail = true;
    }

    pub(super) fn misses_page_cache(&self) -> bool {
        self.is_page_cache_cold
    }

    pub(super) fn set_page_cache_cold(&mut self, is_cold: bool) {
        self.is_page_cache_cold = is_cold;
    }

    pub(super) fn add_fault(&mut self, kind: OperationKind, calls_left: u64) {
        assert!(calls_left > 0, "calls are counted from 1, the next one");
        self.faults.push(Fault { kind, calls_left });
    }

    pub(super) fn set_space_left(&mut self, bytes: Option<u64>) {
        self.space_left = bytes;
    }

    pub(super) fn operation_count(&self) -> u64 {
        self.operation_count
    }

    /// From now on, or no more. Forgets what was recorded before.
    pub(super) fn set_recording(&mut self, is_on: bool) {
        self.record = is_on.then(Vec::new);
    }

    pub(super) fn recorded(&self) -> &[String] {
        self.record.as_deref().unwrap_or(&[])
    }

    /// A name of a file, for people.
    fn name_of(&self, inode: Inode) -> String {
        let named = self.seen.files.iter().find(|(_, named)| **named == inode);
        named.map_or_else(|| "a removed file".to_owned(), |(path, _)| path.display().to_string())
    }

    pub(super) fn set_crash_at(&mut self, operation: Option<u64>) {
        self.crash_at = operation;
    }

    pub(super) fn set_off(&mut self) {
        self.is_off = true;
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    pub(super) fn reseed(&mut self, seed: u64) {
        self.random = SplitMix64::new(seed);
    }

    /// Inverts one bit of a file, in memory and on the medium.
    pub(super) fn flip_bit(&mut self, path: &Path, bit: u64) -> io::Result<()> {
        let inode = self.inode_of(path)?;
        let file = self.file(inode);
        file.seen.flip_bit(bit);
        file.durable.flip_bit(bit);
        Ok(())
    }

    // ---- locks

    /// False when it is held.
    pub(super) fn lock(&mut self, inode: Inode) -> bool {
        self.locks.insert(inode)
    }

    pub(super) fn unlock(&mut self, inode: Inode, boot: u64) {
        if boot == self.boot {
            self.locks.remove(&inode);
        }
    }

    // ---- restart

    /// Cuts the power, if it is on, and starts the machine again on what survived.
    /// Faults, a planned crash and the limit of space are over.
    pub(super) fn restart(&mut self, survival: Survival) {
        self.settle_surviving_names(survival);
        let changed_last = self.changed_last.take();
        for (inode, file) in &mut self.files {
            let is_torn = survival == Survival::Random
                || (survival == Survival::LastFileTorn && Some(*inode) == changed_last);
            let keeps_all = matches!(survival, Survival::Everything | Survival::LastFileTorn);
            for change in file.pending.drain(..) {
                let is_synchronous =
                    matches!(change, FileChange::Write { is_synchronous: true, .. });
                if is_torn {
                    if is_synchronous || self.random.below(4) != 0 {
                        change.apply_torn(&mut file.durable, &mut self.random);
                    }
                } else if is_synchronous || keeps_all {
                    change.apply(&mut file.durable);
                }
            }
            file.seen.clone_from(&file.durable);
            file.handle_count = 0;
        }
        self.seen = self.durable.clone();
        self.locks.clear();
        self.forget_unreachable_files();
        self.boot += 1;
        self.is_off = false;
        self.crash_at = None;
        self.faults.clear();
        self.writes_fail = false;
        self.space_left = None;
    }

    /// Of each directory's pending changes, in their order: all, none, or a prefix by chance.
    fn settle_surviving_names(&mut self, survival: Survival) {
        let mut cut_directories = BTreeSet::new();
        for change in std::mem::take(&mut self.pending_names) {
            let directory = match &change {
                NameChange::Link { path, .. } | NameChange::Unlink { path } => directory_of(path),
                NameChange::Rename { to, .. } => directory_of(to),
            };
            let survives = match survival {
                Survival::SyncedOnly => false,
                Survival::Everything | Survival::LastFileTorn => true,
                Survival::Random => {
                    !cut_directories.contains(directory) && self.random.below(4) != 0
                }
            };
            if survives {
                self.durable.apply(&change);
            } else {
                cut_directories.insert(directory.to_owned());
            }
        }
    }

    /// A number that is equal for equal trees: names and bytes as a process sees them.
    pub(super) fn fingerprint(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.seen.directories.hash(&mut hasher);
        for (path, inode) in &self.seen.files {
            path.hash(&mut hasher);
            self.contents(*inode).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the simulated machine has lost its power")
}
