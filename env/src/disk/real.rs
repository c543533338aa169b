//! The real side of [`crate::disk`]: system calls, one each where the kernel allows it.
//!
//! Knows nothing of what the files hold. Linux is what it is built for; where a call is Linux's
//! own (`preadv2` with `RWF_NOWAIT`, `fallocate`) other systems and file systems get the plain one.
#![expect(clippy::disallowed_methods, reason = "this is the door to the real file system")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{LOCK_FILE_NAME, OpenMode, directory_of, lock_is_held};

/// How much [`RealFile::preallocate`] writes at once.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => sync_dir(directory_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = directory_of(path);
            if parent == path || parent == Path::new(".") {
                return Err(error);
            }
            create_dir_all(parent)?;
            create_dir_all(path)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().into_string().map_err(|name| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} holds the name {}, not UTF-8", path.display(), name.display()),
            )
        })?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

pub(super) fn exists(path: &Path) -> io::Result<bool> {
    path.try_exists()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_dir() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    fs::rename(from, to)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

pub(super) fn remove_empty_dir(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)?;
    sync_dir(directory_of(path))
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(path)?
        .sync_all()
}

pub(super) fn lock_directory(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK_FILE_NAME))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(lock_is_held(path)),
        Err(error) => Err(error.into()),
    }
}

/// An open file of the operating system.
#[derive(Clone, Debug)]
pub(super) struct RealFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: fs::File,
    /// Cleared by the first answer that this file system cannot read without waiting.
    can_read_cached: AtomicBool,
}

impl RealFile {
    pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<RealFile> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read);
        match mode {
            OpenMode::Read | OpenMode::ReadWrite => {}
            OpenMode::Create => {
                options.create(true).truncate(true);
            }
            OpenMode::CreateNew => {
                options.create_new(true);
            }
            OpenMode::DataSync => {
                options.custom_flags(OFlags::DSYNC.bits() as i32);
            }
        }
        let file = options.open(path)?;
        // A directory opens for reading, and fails only at the first read: say it here.
        if file.metadata()?.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        let can_read_cached = AtomicBool::new(cfg!(target_os = "linux"));
        Ok(RealFile(Arc::new(Inner { file, can_read_cached })))
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.file.read_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.0.can_read_cached.load(Ordering::Relaxed) {
            return self.read_at(buffer, offset);
        }
        let mut parts = [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.0.file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.0.can_read_cached.store(false, Ordering::Relaxed);
                self.read_at(buffer, offset)
            }
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.file.write_all_at(bytes, offset)
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.0.file.sync_data()
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.0.file.metadata()?.len())
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.file.set_len(length)
    }

    /// `fallocate` finds the room in one piece; the zeros turn its unwritten extents, whose first
    /// write would go through the journal, into written ones.
    pub(super) fn reserve(&self, length: u64) -> io::Result<()> {
        if self.len()? < length {
            self.allocate(length)?;
        }
        // Where the file system allocates nothing ahead, the length alone.
        if self.len()? < length { self.set_len(length) } else { Ok(()) }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0.file, FallocateFlags::empty(), 0, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn preallocate(&self, length: u64) -> io::Result<()> {
        let mut offset = self.len()?;
        if offset >= length {
            return Ok(());
        }
        self.allocate(length)?;
        let zeros = vec![0; ZERO_CHUNK_BYTES.min((length - offset) as usize)];
        while offset < length {
            let count = zeros.len().min((length - offset) as usize);
            self.write_all_at(&zeros[..count], offset)?;
            offset += count as u64;
        }
        self.0.file.sync_all()
    }

    #[expect(unsafe_code, reason = "a mapping cannot be made otherwise")]
    pub(super) fn map(&self) -> io::Result<Arc<memmap2::Mmap>> {
        // SAFETY: the bytes must not change under the mapping. `File::map` is for files that are
        // never written again, the data directory is locked against other processes of ours, and
        // removing a file leaves its bytes until the mapping goes. Whoever edits a live node's
        // files by hand is outside what a process can defend itself against.
        let map = unsafe { memmap2::Mmap::map(&self.0.file)? };
        Ok(Arc::new(map))
    }
}
