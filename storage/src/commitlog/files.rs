//! The files of a log's directory: making, naming and recycling segments.
//!
//! Promises: a file has a segment's name only once its header and the groups' states are synced;
//! names change one at a time, each change durable before the next. So after a crash the segments
//! that are there follow each other without a gap, and one whose header is unreadable is corrupt.
//! Knows nothing of what batches hold.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::disk::{Disk, File, OpenMode};
use env::planted::{Bug, is_planted};

use super::batch::BatchBuffer;
use super::error::LogError;
use super::format::{BLOCK_BYTES, SegmentHeader};
use super::options::{LogOptions, SyncMode};
use super::segment::ActiveSegment;

const SEGMENT_PREFIX: &str = "segment-";
const SPARE_PREFIX: &str = "spare-";
const SUFFIX: &str = ".log";

/// The number of the newest segment in a log's directory; nothing if it has none, or is not there.
///
/// Each opening of a log begins a segment, and numbers are never used twice. So whoever remembers
/// this number knows at the next start whether the log is the one that it was.
pub fn newest_segment(disk: &Disk, directory: &Path) -> io::Result<Option<u64>> {
    if !disk.exists(directory)? {
        return Ok(None);
    }
    let names = disk.list(directory)?;
    Ok(names.iter().filter_map(|name| number_in(name, SEGMENT_PREFIX)).max())
}

/// A segment to be made.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) sequence: u64,
    /// Its length.
    pub(super) segment_bytes: u64,
    /// The groups' states, with which it begins.
    pub(super) states: BatchBuffer,
}

/// How much of a spare file is made at once while the writer has nothing better to do: a batch that
/// comes in between waits about a millisecond for it.
const PREPARATION_STEP_BYTES: u64 = 1 << 20;

/// A spare file that is being filled with zeros.
#[derive(Debug)]
struct Preparation {
    file: File,
    path: PathBuf,
    length: u64,
}

/// A log's directory.
#[derive(Debug)]
pub(super) struct LogFiles {
    disk: Disk,
    directory: PathBuf,
    options: LogOptions,
    /// Files ready for reuse, of the configured length.
    spares: Vec<PathBuf>,
    /// The next one of them.
    preparation: Option<Preparation>,
    /// Making a spare file ahead failed. The next segment tries again, and then it counts.
    is_preparation_refused: bool,
    /// Names the next spare file.
    spare_number: u64,
}

impl LogFiles {
    /// Opens the directory, creating it if it is missing, and returns the segments in it by
    /// sequence number. Names that are not the log's are left alone.
    pub(super) fn open(
        disk: &Disk,
        directory: &Path,
        options: &LogOptions,
    ) -> Result<(LogFiles, Vec<(u64, PathBuf)>), LogError> {
        disk.create_dir_all(directory).map_err(failed("create", directory))?;
        let mut files = LogFiles {
            disk: disk.clone(),
            directory: directory.to_owned(),
            options: *options,
            spares: Vec::new(),
            preparation: None,
            is_preparation_refused: false,
            spare_number: 0,
        };
        let mut segments = Vec::new();
        for name in disk.list(directory).map_err(failed("list", directory))? {
            let path = directory.join(&name);
            if let Some(sequence) = number_in(&name, SEGMENT_PREFIX) {
                segments.push((sequence, path));
            } else if let Some(number) = number_in(&name, SPARE_PREFIX) {
                files.spare_number = files.spare_number.max(number.saturating_add(1));
                files.adopt_spare(path)?;
            }
        }
        segments.sort_unstable();
        Ok((files, segments))
    }

    /// Keeps a spare file of an earlier run, or removes it: when there are enough, and when a crash
    /// or another configuration left it with another length.
    fn adopt_spare(&mut self, path: PathBuf) -> Result<(), LogError> {
        if self.spares.len() < self.options.spare_segments_max && self.has_length(&path)? {
            self.spares.push(path);
            return Ok(());
        }
        self.remove(&path)
    }

    /// Makes a segment out of a spare file, or of a new one when there is none.
    pub(super) fn begin_segment(
        &mut self,
        mut new: NewSegment,
        previous_end: u64,
    ) -> Result<ActiveSegment, LogError> {
        let spare = if new.segment_bytes == self.options.segment_bytes {
            self.spares.pop().map_or_else(|| self.complete_spare(), Ok)?
        } else {
            self.create_short(new.segment_bytes)?
        };
        let header = SegmentHeader {
            shard: self.options.shard,
            sequence: new.sequence,
            salt: self.options.segment_salt(new.sequence),
            segment_bytes: new.segment_bytes,
            previous_end,
        };
        let (header, seed) = header.encode();
        let mut bytes = header.to_vec();
        bytes.resize(BLOCK_BYTES as usize, 0);
        bytes.extend_from_slice(new.states.seal(seed, BLOCK_BYTES, BLOCK_BYTES));

        let mode = match self.options.sync {
            SyncMode::Group if is_planted(Bug::AcknowledgesUnsynced) => OpenMode::ReadWrite,
            SyncMode::Group => OpenMode::DataSync,
            SyncMode::Periodic { .. } => OpenMode::ReadWrite,
        };
        let file = self.disk.open(&spare, mode).map_err(failed("open", &spare))?;
        file.write_all_at(&bytes, 0).map_err(failed("write", &spare))?;
        file.sync_data().map_err(failed("sync", &spare))?;
        let path = self.segment_path(new.sequence);
        self.rename(&spare, &path)?;
        let end_offset = bytes.len() as u64;
        Ok(ActiveSegment::new(file, path, seed, new.segment_bytes, end_offset))
    }

    /// Keeps a segment's file as a spare one, or removes it when there are enough.
    pub(super) fn recycle(&mut self, sequence: u64) -> Result<(), LogError> {
        let path = self.segment_path(sequence);
        if self.spares.len() >= self.options.spare_segments_max || !self.has_length(&path)? {
            return self.remove(&path);
        }
        let spare = self.next_spare_path();
        self.rename(&path, &spare)?;
        self.spares.push(spare);
        Ok(())
    }

    /// Whether a spare file is missing that [`LogFiles::prepare_spare`] could make ahead.
    pub(super) fn needs_spare(&self) -> bool {
        self.spares.is_empty() && !self.is_preparation_refused
    }

    /// Makes a piece of a spare file. A failure loses nothing, so it is not one of the log: there
    /// may be room again, or a recycled segment, when the file is needed.
    pub(super) fn prepare_spare(&mut self) {
        match self.extend_spare(PREPARATION_STEP_BYTES) {
            Ok(Some(path)) => self.spares.push(path),
            Ok(None) => {}
            Err(_) => {
                self.preparation = None;
                self.is_preparation_refused = true;
            }
        }
    }

    /// Makes what is missing of a spare file.
    fn complete_spare(&mut self) -> Result<PathBuf, LogError> {
        self.is_preparation_refused = false;
        loop {
            if let Some(path) = self.extend_spare(self.options.segment_bytes)? {
                return Ok(path);
            }
        }
    }

    /// Whether a spare file is ready.
    pub(super) fn has_spare(&self) -> bool {
        !self.spares.is_empty()
    }

    /// Makes a file of another length than spare ones have. If a crash leaves it before it becomes
    /// a segment, the next opening removes it.
    fn create_short(&mut self, segment_bytes: u64) -> Result<PathBuf, LogError> {
        let Preparation { file, path, .. } = self.start_spare()?;
        self.extend(&file, segment_bytes).map_err(failed("preallocate", &path))?;
        Ok(path)
    }

    /// Adds to the spare file that is being made, or starts one. Returns it when it is complete.
    fn extend_spare(&mut self, bytes: u64) -> Result<Option<PathBuf>, LogError> {
        let mut preparation = match self.preparation.take() {
            Some(preparation) => preparation,
            None => self.start_spare()?,
        };
        let Preparation { file, path, length } = &mut preparation;
        *length = self.options.segment_bytes.min(*length + bytes);
        if let Err(cause) = self.extend(file, *length) {
            // Its room may be what others need. If it stays, the next opening removes it.
            self.disk.remove(path).ok();
            return Err(failed("preallocate", path)(cause));
        }
        if *length == self.options.segment_bytes {
            return Ok(Some(preparation.path));
        }
        self.preparation = Some(preparation);
        Ok(None)
    }

    /// Group mode overwrites zeros, so that its syncs touch no metadata. Periodic mode syncs so
    /// rarely that writing everything twice would cost more.
    fn extend(&self, file: &File, length: u64) -> io::Result<()> {
        match self.options.sync {
            SyncMode::Group => file.preallocate(length),
            SyncMode::Periodic { .. } => file.reserve(length),
        }
    }

    fn start_spare(&mut self) -> Result<Preparation, LogError> {
        let path = self.next_spare_path();
        let file = self.disk.open(&path, OpenMode::Create).map_err(failed("create", &path))?;
        Ok(Preparation { file, path, length: 0 })
    }

    fn next_spare_path(&mut self) -> PathBuf {
        let number = self.spare_number;
        self.spare_number += 1;
        self.directory.join(format!("{SPARE_PREFIX}{number:016x}{SUFFIX}"))
    }

    fn segment_path(&self, sequence: u64) -> PathBuf {
        segment_path(&self.directory, sequence)
    }

    fn has_length(&self, path: &Path) -> Result<bool, LogError> {
        let file = self.disk.open(path, OpenMode::Read).map_err(failed("open", path))?;
        let length = file.len().map_err(failed("measure", path))?;
        Ok(length == self.options.segment_bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), LogError> {
        self.disk.rename(from, to).map_err(failed("rename", from))?;
        self.sync_directory()
    }

    fn remove(&self, path: &Path) -> Result<(), LogError> {
        self.disk.remove(path).map_err(failed("remove", path))?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> Result<(), LogError> {
        self.disk.sync_dir(&self.directory).map_err(failed("sync", &self.directory))
    }
}

/// The file of a segment.
pub(super) fn segment_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{SEGMENT_PREFIX}{sequence:016x}{SUFFIX}"))
}

/// The number in `<prefix><16 hexadecimal digits>.log`.
fn number_in(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Makes a [`LogError`] of what the file system said.
pub(super) fn failed(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |cause| LogError::Disk {
        attempt: format!("{verb} {}", path.display()),
        cause: Arc::new(cause),
    }
}
