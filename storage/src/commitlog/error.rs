//! What can go wrong with the commit log, named by what the caller has to do about it.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::format::FORMAT_VERSION;

/// An error of the commit log.
#[derive(Clone, Debug)]
pub enum LogError {
    /// The caller's: this entry never fits. Nothing was appended.
    EntryTooLarge {
        /// Length of the payload.
        payload_bytes: usize,
        /// The most it may have.
        payload_bytes_max: usize,
    },
    /// Overload: as much as may wait for the disk waits already. Nothing was appended; try again
    /// when some of it is synced.
    LogFull {
        /// Bytes waiting for the next write.
        waiting_bytes: usize,
        /// The most that may wait.
        waiting_bytes_max: usize,
    },
    /// The shard has as many groups as the block at the start of a segment can name.
    /// Nothing was appended.
    TooManyGroups {
        /// The most it may have.
        group_count_max: usize,
    },
    /// A call to the file system failed. The log acknowledges nothing from then on and gives this
    /// error to every later call; the process must be restarted.
    Disk {
        /// What was attempted, and on which file.
        attempt: String,
        /// What the file system said.
        cause: Arc<io::Error>,
    },
    /// The log's thread has gone: it panicked, or the node is going down.
    ThreadGone,
    /// The bytes on the disk are not those that were written. The log does not open: serving what
    /// is left would silently take back acknowledged writes.
    Corrupt {
        /// Sequence number of the segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
        /// What is wrong there.
        corruption: Corruption,
    },
}

/// What is wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corruption {
    /// The header is not one, or its checksum is wrong.
    SegmentHeader,
    /// Written by a version of the program that this one does not know.
    FormatVersion {
        /// The format's version.
        found: u32,
    },
    /// The file belongs to another shard.
    Shard {
        /// The shard it names.
        found: u32,
    },
    /// The file holds another segment than its name says.
    Sequence {
        /// The sequence number it names.
        found: u64,
    },
    /// The file is shorter or longer than it was made.
    FileLength {
        /// Its length in bytes.
        found: u64,
    },
    /// The file is missing, while older and newer segments are there.
    Missing,
    /// A batch or record that was synced cannot be read back.
    Record,
    /// Valid bytes do not end where the next segment says they did.
    End {
        /// Where they had to end.
        expected: u64,
    },
    /// An entry's index leaves a gap behind the one before it in its group.
    Gap {
        /// The group.
        group: u64,
        /// The entry's index.
        index: u64,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::EntryTooLarge { payload_bytes, payload_bytes_max } => write!(
                f,
                "an entry of {payload_bytes} bytes is larger than the {payload_bytes_max} that \
                 the commit log takes"
            ),
            LogError::LogFull { waiting_bytes, waiting_bytes_max } => write!(
                f,
                "{waiting_bytes} of at most {waiting_bytes_max} bytes wait for the commit log's \
                 disk already"
            ),
            LogError::TooManyGroups { group_count_max } => {
                write!(f, "the shard has its limit of {group_count_max} groups")
            }
            LogError::Disk { attempt, cause } => {
                write!(f, "the commit log failed to {attempt}: {cause}")
            }
            LogError::ThreadGone => write!(f, "the commit log's thread has gone"),
            LogError::Corrupt { segment, offset, corruption } => {
                write!(f, "commit log segment {segment} is corrupt at byte {offset}: {corruption}")
            }
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corruption::SegmentHeader => write!(f, "the header cannot be read"),
            Corruption::FormatVersion { found } => {
                write!(f, "format version {found} is not the known {FORMAT_VERSION}")
            }
            Corruption::Shard { found } => write!(f, "it belongs to shard {found}"),
            Corruption::Sequence { found } => write!(f, "it holds segment {found}"),
            Corruption::FileLength { found } => {
                write!(f, "the file has {found} bytes, not those it was made with")
            }
            Corruption::Missing => write!(f, "the file is missing"),
            Corruption::Record => write!(f, "a synced record cannot be read back"),
            Corruption::End { expected } => {
                write!(f, "valid bytes end here and not at byte {expected}")
            }
            Corruption::Gap { group, index } => {
                write!(f, "entry {index} of group {group} leaves a gap behind the one before")
            }
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Disk { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
