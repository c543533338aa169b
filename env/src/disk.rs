//! Files and directories: real ones, or a recording file system in memory.
//!
//! Every call blocks until it is done, so none belongs on a shard thread, with one exception:
//! [`File::read_cached_at`], which never waits for the device.
//! Handles are cheap to clone and may be used from any thread.
//!
//! What is durable, and when, is the same on both sides, and is no more than POSIX gives:
//! - bytes and length of a file: after [`File::sync_data`], or at once through a handle opened
//!   with [`OpenMode::DataSync`] (bytes only; the length must have been synced before);
//! - the name of a file (created, renamed, removed): after [`Disk::sync_dir`] of its directory;
//! - a directory: when [`Disk::create_dir_all`] or [`Disk::remove_dir`] returns.
//!
//! Missing on purpose: links, permissions, times, renaming a directory. The commit log, the
//! tables and the manifest need none of them, and each would have to be simulated.
//!
//! The contract tests in `disk/tests.rs` run on both sides.

use crate::injected::before_write;
use std::io;
use std::path::Path;
use std::path::PathBuf;

mod real;
mod sim;
#[cfg(test)]
mod tests;

pub use sim::control::{OperationKind, SimDiskControl, Survival};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// For reading and writing; created when it is missing, emptied when it is not.
    Create,
    /// For reading and writing; `AlreadyExists` when it is there.
    CreateNew,
    /// An existing file, for reading and writing; a write returns when its bytes are durable
    /// (`O_DSYNC`).
    ///
    /// This is how a commit log writes to a segment that [`File::preallocate`] prepared: one
    /// system call where a write and a sync are two. The device does the same work for both:
    /// over a prepared 32 MiB segment on ext4 and a shared virtual disk the medians were within
    /// the noise of each other (80-190 microseconds, from 600 bytes to 32 KiB), so the gain is
    /// the call, and that no other write of the file is waited for.
    DataSync,
}

/// A file system: the operating system's or a simulated one.
#[derive(Clone, Debug)]
pub struct Disk(Side);

#[derive(Clone, Debug)]
enum Side {
    Real,
    Sim(sim::SimDisk),
}

impl Disk {
    /// The operating system's file system.
    pub fn real() -> Disk {
        Disk(Side::Real)
    }

    /// An empty file system in memory, and the hand that breaks it.
    /// All its choices follow from `seed`.
    pub fn simulated(seed: u64) -> (Disk, SimDiskControl) {
        let disk = sim::SimDisk::new(seed);
        (Disk(Side::Sim(disk.clone())), SimDiskControl::new(disk))
    }

    /// Creates a directory and its missing parents; they are durable on return.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Side::Real => real::create_dir_all(path),
            Side::Sim(disk) => disk.create_dir_all(path),
        }
    }

    /// The names in a directory, files and directories alike, sorted.
    /// A name that is not UTF-8 is an `InvalidData` error: nothing of ours has one.
    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        match &self.0 {
            Side::Real => real::list(path),
            Side::Sim(disk) => disk.list(path),
        }
    }

    /// Whether there is a file or directory of that name.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match &self.0 {
            Side::Real => real::exists(path),
            Side::Sim(disk) => disk.exists(path),
        }
    }

    /// Renames a file, replacing `to` if it is there: after a crash there is the old name or the
    /// new one. Durable after [`Disk::sync_dir`]. A directory is refused (`Unsupported`).
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            Side::Real => real::rename(from, to),
            Side::Sim(disk) => disk.rename(from, to),
        }
    }

    /// Removes a file. Open handles and mappings keep their bytes.
    /// Durable after [`Disk::sync_dir`].
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Side::Real => real::remove(path),
            Side::Sim(disk) => disk.remove(path),
        }
    }

    /// Removes a directory with its files, one level deep; directories inside it are an error.
    /// Not atomic: after a crash some of the files may be left.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        for name in self.list(path)? {
            self.remove(&path.join(name))?;
        }
        match &self.0 {
            Side::Real => real::remove_empty_dir(path),
            Side::Sim(disk) => disk.remove_empty_dir(path),
        }
    }

    /// Makes the names in a directory durable: what was created, renamed or removed in it.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            Side::Real => before_write().and_then(|()| real::sync_dir(path)),
            Side::Sim(disk) => disk.sync_dir(path),
        }
    }

    /// Opens a file.
    pub fn open(&self, path: &Path, mode: OpenMode) -> io::Result<File> {
        match &self.0 {
            Side::Real => real::RealFile::open(path, mode).map(FileSide::Real),
            Side::Sim(disk) => disk.open(path, mode).map(FileSide::Sim),
        }
        .map(File)
    }

    /// A whole file, refused with `InvalidData` when it is longer than `length_bytes_max`.
    pub fn read(&self, path: &Path, length_bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let length = file.len()?;
        if length > length_bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} has {length} bytes, more than the {length_bytes_max} it may have",
                    path.display()
                ),
            ));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a file as a whole: after a crash it is the old one or the new one, and on return
    /// the new one is durable. Goes through `<path>.tmp`, which a crash may leave behind.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.open(&temporary, OpenMode::Create)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        self.sync_dir(directory_of(path))
    }

    /// Takes the directory for this process until the lock is dropped or the process dies.
    /// When another holds it: `WouldBlock`. The file `LOCK` that carries it stays.
    pub fn lock_directory(&self, path: &Path) -> io::Result<DirectoryLock> {
        match &self.0 {
            Side::Real => real::lock_directory(path).map(LockSide::Real),
            Side::Sim(disk) => disk.lock_directory(path).map(LockSide::Sim),
        }
        .map(DirectoryLock)
    }
}

/// An open file. Clones share the one handle; positions are explicit, there is no cursor.
#[derive(Clone, Debug)]
pub struct File(FileSide);

#[derive(Clone, Debug)]
enum FileSide {
    Real(real::RealFile),
    Sim(sim::SimFile),
}

impl File {
    /// Reads some bytes at `offset`; 0 at or behind the end. May read fewer than asked for.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            FileSide::Real(file) => file.read_at(buffer, offset),
            FileSide::Sim(file) => file.read_at(buffer, offset),
        }
    }

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the page cache holds at `offset`, without waiting for the device:
    /// `WouldBlock` when the first byte is not there, and fewer bytes than asked for when a
    /// later one is not. The caller then reads the rest on another thread.
    /// Where the file system cannot tell, this is a plain read.
    pub fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            FileSide::Real(file) => file.read_cached_at(buffer, offset),
            FileSide::Sim(file) => file.read_cached_at(buffer, offset),
        }
    }

    /// Writes all of `bytes` at `offset`, growing the file when they reach behind its end.
    /// After an error some of them may have been written.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            FileSide::Real(file) => before_write().and_then(|()| file.write_all_at(bytes, offset)),
            FileSide::Sim(file) => file.write_all_at(bytes, offset),
        }
    }

    /// Makes bytes and length durable (`fdatasync`).
    /// After an error the file must not be used further: the kernel may have dropped the writes
    /// and report success the next time. The simulated side does just that.
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            FileSide::Real(file) => before_write().and_then(|()| file.sync_data()),
            FileSide::Sim(file) => file.sync_data(),
        }
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a system call, not a container's length")]
    pub fn len(&self) -> io::Result<u64> {
        match &self.0 {
            FileSide::Real(file) => file.len(),
            FileSide::Sim(file) => file.len(),
        }
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            FileSide::Real(file) => file.set_len(length),
            FileSide::Sim(file) => file.set_len(length),
        }
    }

    /// Extends the file to `length` bytes, if it is shorter, with zeros that are really written,
    /// and makes that durable: later overwrites touch no metadata and so wait for no journal.
    pub fn preallocate(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            FileSide::Real(file) => before_write().and_then(|()| file.preallocate(length)),
            FileSide::Sim(file) => file.preallocate(length),
        }
    }

    /// Extends the file to `length` bytes, if it is shorter, and takes the room for them. They read
    /// as zeros and nothing is written: the file's first writes then touch metadata, which a sync
    /// makes durable with them. For files that are synced rarely.
    pub fn reserve(&self, length: u64) -> io::Result<()> {
        match &self.0 {
            FileSide::Real(file) => file.reserve(length),
            FileSide::Sim(file) => file.reserve(length),
        }
    }

    /// The whole file as memory, for files that never change again: the bytes of a mapping whose
    /// file is written to are unspecified, and touching one whose file was cut kills the process.
    /// Never a data file on a shard thread: a page fault would stall the shard unseen.
    pub fn map(&self) -> io::Result<Mapping> {
        match &self.0 {
            FileSide::Real(file) => file.map().map(MappingSide::Real),
            FileSide::Sim(file) => file.map().map(MappingSide::Sim),
        }
        .map(Mapping)
    }
}

/// The bytes of a file as they were when it was mapped. Clones share them.
#[derive(Clone, Debug)]
pub struct Mapping(MappingSide);

#[derive(Clone, Debug)]
enum MappingSide {
    Real(std::sync::Arc<memmap2::Mmap>),
    Sim(std::sync::Arc<Vec<u8>>),
}

impl std::ops::Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            MappingSide::Real(map) => map,
            MappingSide::Sim(bytes) => bytes,
        }
    }
}

/// Keeps a directory for this process; see [`Disk::lock_directory`].
#[derive(Debug)]
pub struct DirectoryLock(
    #[expect(dead_code, reason = "held for its Drop, which gives the lock back")] LockSide,
);

#[derive(Debug)]
#[expect(dead_code, reason = "held for its Drop, which gives the lock back")]
enum LockSide {
    Real(std::fs::File),
    Sim(sim::SimLock),
}

/// The name of the file that carries a directory's lock.
const LOCK_FILE_NAME: &str = "LOCK";

/// The error of a second holder.
fn lock_is_held(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::WouldBlock,
        format!("the directory {} is in use by another process", path.display()),
    )
}

/// The directory that holds the name `path`.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
