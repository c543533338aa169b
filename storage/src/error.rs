//! What can go wrong, and whose fault it is.

use crate::sstable::BlockMiss;
use model::TableId;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes on the disk that are not what was written: the replica must be healed from others, and
/// the file must not be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What does not fit.
    pub reason: &'static str,
}

impl Corruption {
    pub(crate) fn new(path: &Path, offset: u64, reason: &'static str) -> Self {
        Corruption { path: path.to_owned(), offset, reason }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is corrupt at byte {}: {}", self.path.display(), self.offset, self.reason)
    }
}

impl std::error::Error for Corruption {}

/// Why the engine could not open, or a background job failed.
#[derive(Debug)]
pub enum StorageError {
    /// The disk refused.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is damaged.
    Corrupt(Corruption),
    /// A row, or what a partition has beside rows, is larger than a chunk of a snapshot may be.
    RowTooLarge {
        /// Of which table.
        table: TableId,
        /// The chunk that it would make.
        bytes: usize,
    },
}

impl StorageError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> StorageError {
        let path = path.to_owned();
        |source| StorageError::Io { path, source }
    }
}

impl From<Corruption> for StorageError {
    fn from(corruption: Corruption) -> Self {
        StorageError::Corrupt(corruption)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            StorageError::Corrupt(corruption) => corruption.fmt(f),
            StorageError::RowTooLarge { table, bytes } => {
                write!(f, "a row of table {:032x} makes {bytes} bytes of a snapshot", table.0)
            }
        }
    }
}

impl std::error::Error for StorageError {}

/// Why a read has no answer (yet).
#[derive(Debug)]
pub enum ReadError {
    /// Blocks are not in memory. The caller loads them on another thread ([`BlockMiss::load`]),
    /// gives them to [`crate::Engine::block_loaded`], and reads again.
    Miss(BlockMiss),
    /// The read has used its share of the thread's time. The caller lets others run and calls
    /// again with the same progress.
    Paused,
    /// There is no such table (any more).
    UnknownTable(TableId),
    /// The read failed for good.
    Storage(StorageError),
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        ReadError::Storage(error)
    }
}

impl From<Corruption> for ReadError {
    fn from(corruption: Corruption) -> Self {
        ReadError::Storage(StorageError::Corrupt(corruption))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Miss(miss) => write!(f, "{miss}"),
            ReadError::Paused => write!(f, "the read is not finished"),
            ReadError::UnknownTable(id) => write!(f, "no table has the id {:032x}", id.0),
            ReadError::Storage(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}
