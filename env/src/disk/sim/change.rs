//! The changes a simulated disk keeps until they are durable, and the names they are made to.
//!
//! A change knows how it is applied, whole or torn, and nothing of when.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::directory_of;
use super::contents::Contents;
use super::state::Inode;
use crate::random::SplitMix64;

/// What a device writes as a whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// Directories and files by their full path.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) directories: BTreeSet<PathBuf>,
    pub(super) files: BTreeMap<PathBuf, Inode>,
}

/// A change of a directory.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Link { path: PathBuf, inode: Inode },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
}

/// A change of a file.
#[derive(Clone, Debug)]
pub(super) enum FileChange {
    Write {
        offset: u64,
        bytes: Vec<u8>,
        is_synchronous: bool,
    },
    SetLength(u64),
    /// What is left of a write whose sync failed: the length it gave the file.
    Extend(u64),
}

impl Names {
    pub(super) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Link { path, inode } => {
                self.files.insert(path.clone(), *inode);
            }
            NameChange::Unlink { path } => {
                self.files.remove(path);
            }
            NameChange::Rename { from, to, inode } => {
                self.files.remove(from);
                self.files.insert(to.clone(), *inode);
            }
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains(path) || path == Path::new("/") || path == Path::new(".")
    }
}

impl NameChange {
    pub(super) fn is_in(&self, directory: &Path) -> bool {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => {
                directory_of(path) == directory
            }
            NameChange::Rename { from, to, .. } => {
                directory_of(from) == directory || directory_of(to) == directory
            }
        }
    }

    pub(super) fn inode(&self) -> Option<Inode> {
        match self {
            NameChange::Link { inode, .. } | NameChange::Rename { inode, .. } => Some(*inode),
            NameChange::Unlink { .. } => None,
        }
    }
}

impl FileChange {
    pub(super) fn apply(&self, contents: &mut Contents) {
        match self {
            FileChange::Write { offset, bytes, .. } => contents.write_at(*offset, bytes),
            FileChange::SetLength(length) => contents.set_len(*length),
            FileChange::Extend(length) => contents.set_len(contents.len().max(*length)),
        }
    }

    /// Applies what a power cut leaves of a write: each sector by the toss of a coin.
    pub(super) fn apply_torn(&self, contents: &mut Contents, random: &mut SplitMix64) {
        let FileChange::Write { offset, bytes: written, is_synchronous: false } = self else {
            return self.apply(contents);
        };
        let mut start = 0;
        while start < written.len() {
            let in_sector = (SECTOR_BYTES - (offset + start as u64) % SECTOR_BYTES) as usize;
            let end = written.len().min(start + in_sector);
            if random.coin() {
                contents.write_at(offset + start as u64, &written[start..end]);
            }
            start = end;
        }
    }
}
