//! The simulated side of [`crate::disk`]: a file system in memory that remembers what is durable.
//!
//! These are the handles; [`state`] holds the files and decides what a power cut leaves,
//! [`control`] is the hand of a test on them.
//!
//! Simulated: durability of bytes, lengths and names; torn writes; failed reads, writes and
//! syncs; a full disk; bit rot; page-cache misses. Not simulated: permissions, and the time calls take,
//! for which whoever makes them waits ([`crate::tasks::SimTasksControl`]).
//! Two runs with one seed and the same calls in the same order behave the same; with several
//! threads on one disk their order is the scheduler's, so a simulation uses one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{LOCK_FILE_NAME, OpenMode, lock_is_held};
use state::{Inode, State};

mod change;
mod contents;
pub(super) mod control;
mod state;

/// A handle on the whole file system.
#[derive(Clone, Debug)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(super) fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State::new(seed))))
    }

    /// A panic in a test's thread leaves the state as it was between two changes: go on with it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state().create_dir_all(path)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.state().list(path)
    }

    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        self.state().exists(path)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(from, to)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().remove(path)
    }

    pub(super) fn remove_empty_dir(&self, path: &Path) -> io::Result<()> {
        self.state().remove_empty_dir(path)
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.state().sync_dir(path)
    }

    pub(super) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let mut state = self.state();
        let inode = state.open(path, mode)?;
        let boot = state.boot();
        drop(state);
        Ok(SimFile(Arc::new(OpenFile { disk: self.clone(), inode, boot, mode })))
    }

    pub(super) fn lock_directory(&self, path: &Path) -> io::Result<SimLock> {
        let lock_file = path.join(LOCK_FILE_NAME);
        let mut state = self.state();
        let is_there = state.exists(&lock_file)?;
        let mode = if is_there { OpenMode::ReadWrite } else { OpenMode::CreateNew };
        let inode = state.open(&lock_file, mode)?;
        let boot = state.boot();
        let taken = state.lock(inode);
        state.close(inode, boot);
        drop(state);
        if taken {
            Ok(SimLock { disk: self.clone(), inode, boot })
        } else {
            Err(lock_is_held(path))
        }
    }
}

/// Holds a directory; see [`super::DirectoryLock`].
#[derive(Debug)]
pub(super) struct SimLock {
    disk: SimDisk,
    inode: Inode,
    boot: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().unlock(self.inode, self.boot);
    }
}

/// An open file.
#[derive(Clone, Debug)]
pub(super) struct SimFile(Arc<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    disk: SimDisk,
    inode: Inode,
    /// The start of the machine in which the file was opened: a restart ends all handles.
    boot: u64,
    mode: OpenMode,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.disk.state().close(self.inode, self.boot);
    }
}

impl SimFile {
    /// The state, for a call that this handle may still make.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.0.disk.state();
        state.check_handle(self.0.boot)?;
        Ok(state)
    }

    fn state_to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.0.mode == OpenMode::Read {
            return Err(rustix::io::Errno::BADF.into());
        }
        self.state()
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.state()?.read_at(self.0.inode, buffer, offset)
    }

    pub(super) fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if state.misses_page_cache() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.read_at(self.0.inode, buffer, offset)
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return self.state().map(drop);
        }
        let is_synchronous = self.0.mode == OpenMode::DataSync;
        self.state_to_write()?.write_at(self.0.inode, bytes, offset, is_synchronous)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.state()?.sync(self.0.inode)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.contents(self.0.inode).len())
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        // What the kernel answers to a handle that may only read differs from a write's answer.
        if self.0.mode == OpenMode::Read {
            return Err(rustix::io::Errno::INVAL.into());
        }
        self.state()?.set_len(self.0.inode, length)
    }

    pub(super) fn reserve(&self, length: u64) -> io::Result<()> {
        if self.len()? >= length {
            return Ok(());
        }
        self.state_to_write()?.set_len(self.0.inode, length)
    }

    pub(super) fn preallocate(&self, length: u64) -> io::Result<()> {
        if self.len()? >= length {
            return Ok(());
        }
        let mut state = self.state_to_write()?;
        state.set_len(self.0.inode, length)?;
        state.sync(self.0.inode)
    }

    pub(super) fn map(&self) -> io::Result<Arc<Vec<u8>>> {
        Ok(Arc::new(self.state()?.contents(self.0.inode).to_vec()))
    }
}
