//! `peers.json`: what this node remembers of the starts of others, and whether one of them remembers a
//! start of this one that its data directory does not know.
//!
//! The file is written anew, on another thread, when another node is met in a start that is new: rarely.
//! What is remembered counts when it is in the file. An operator who has put back all nodes of a cluster
//! from copies takes the file away (docs/operations.md): then everybody is believed once.

use crate::data_directory::DataDirectoryError;
use cluster::HostId;
use cluster::peer::{IntroductionError, Memory, Overtaken, RememberedStarts, Remembering, Start};
use env::Disk;
use env::tasks::Tasks;
use serde::{Deserialize, Serialize};
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const FILE: &str = "peers.json";
/// Above what all nodes take that may be remembered, some 160 bytes each.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct PeerFile {
    disk: Disk,
    path: PathBuf,
    /// As it was last written; never locked for longer than a copy takes.
    saved: Mutex<Content>,
    /// Held by whoever writes.
    turn: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    starts: RememberedStarts,
    overtaken: Option<Overtaken>,
}

/// The content as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    starts: Vec<StartRecord>,
    /// Who remembers a start of this node that it never had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overtaken: Option<OvertakenRecord>,
}

#[derive(Serialize, Deserialize)]
struct StartRecord {
    host_id: u128,
    incarnation: u64,
    mark: u64,
}

#[derive(Serialize, Deserialize)]
struct OvertakenRecord {
    by: u128,
    incarnation: u64,
}

impl PeerFile {
    /// That of a data directory; nothing is remembered if it is not there.
    pub(crate) fn open(disk: &Disk, directory: &Path) -> Result<PeerFile, DataDirectoryError> {
        let path = directory.join(FILE);
        let failed = |error| DataDirectoryError::Io { path: path.clone(), error };
        let mut content = Content::default();
        if disk.exists(&path).map_err(failed)? {
            let bytes = disk.read(&path, FILE_BYTES_MAX).map_err(failed)?;
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                DataDirectoryError::Damaged { path: path.clone(), reason: error.to_string() }
            })?;
            content = Content::from(record);
        }
        let (saved, turn) = (Mutex::new(content), Mutex::new(()));
        Ok(PeerFile { disk: disk.clone(), path, saved, turn })
    }

    /// Whether this node was found to run on an older copy.
    pub(crate) fn overtaken(&self) -> Option<Overtaken> {
        self.saved().overtaken
    }

    /// This node runs on an older copy: remembered for good. Blocks.
    pub(crate) fn note_overtaken(&self, overtaken: Overtaken) -> Result<(), String> {
        let _turn = self.turn();
        let content = Content { overtaken: Some(overtaken), ..self.saved().clone() };
        self.save(content)
    }

    /// Remembers a start for good. Blocks.
    fn remember(&self, host_id: HostId, start: Start) -> Result<(), IntroductionError> {
        let _turn = self.turn();
        let before = self.saved().clone();
        // Another shard may have met the node meanwhile.
        if before.starts.judge(host_id, start)? {
            return Ok(());
        }
        let content = Content { starts: before.starts.with(host_id, start), ..before };
        self.save(content).map_err(|error| {
            tracing::error!("{error}: node {host_id} is not listened to");
            IntroductionError::NotRemembered(error)
        })
    }

    /// Writes; whoever calls it has the turn.
    fn save(&self, content: Content) -> Result<(), String> {
        let bytes = serde_json::to_vec_pretty(&Record::from(&content)).expect("numbers are JSON");
        let written = self.disk.write_atomic(&self.path, &bytes);
        written.map_err(|error| format!("{}: {error}", self.path.display()))?;
        *self.saved() = content;
        Ok(())
    }

    fn saved(&self) -> MutexGuard<'_, Content> {
        // Every change of the content is one statement, so that a panic leaves it whole.
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Record> for Content {
    fn from(record: Record) -> Content {
        let starts = record.starts.into_iter().map(|record| {
            let StartRecord { host_id, incarnation, mark } = record;
            (HostId(host_id), Start { incarnation, mark })
        });
        let overtaken = record
            .overtaken
            .map(|record| Overtaken { by: HostId(record.by), incarnation: record.incarnation });
        Content { starts: RememberedStarts::new(starts), overtaken }
    }
}

impl From<&Content> for Record {
    fn from(content: &Content) -> Record {
        let starts = content.starts.iter().map(|(host_id, Start { incarnation, mark })| {
            StartRecord { host_id: host_id.0, incarnation, mark }
        });
        let overtaken = content
            .overtaken
            .map(|Overtaken { by, incarnation }| OvertakenRecord { by: by.0, incarnation });
        Record { starts: starts.collect(), overtaken }
    }
}

/// The file as what the node's connections remember by.
#[derive(Debug)]
pub(crate) struct PeerMemory {
    pub file: Arc<PeerFile>,
    pub tasks: Tasks,
}

impl Memory for PeerMemory {
    fn newest(&self, host_id: HostId) -> Option<Start> {
        self.file.saved().starts.newest(host_id)
    }

    fn remember(&self, host_id: HostId, start: Start) -> Remembering {
        match self.file.saved().starts.judge(host_id, start) {
            Ok(false) => {}
            judged => return Box::pin(ready(judged.map(drop))),
        }
        let (file, tasks) = (self.file.clone(), self.tasks);
        let write = move || file.remember(host_id, start);
        Box::pin(async move { tasks.run_blocking(write).await })
    }

    /// The next write leaves it out; at the next start it is forgotten again.
    fn forget(&self, host_id: HostId) {
        self.file.saved().starts.forget(host_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(disk: &Disk) -> PeerFile {
        PeerFile::open(disk, Path::new("/data")).unwrap()
    }

    #[test]
    fn what_was_remembered_is_there_at_the_next_start() {
        let (disk, _control) = Disk::simulated(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        let (first, second) = (HostId(u128::MAX), HostId(2));
        let file = open(&disk);
        file.remember(first, Start { incarnation: 1, mark: u64::MAX }).unwrap();
        file.remember(second, Start { incarnation: 5, mark: 6 }).unwrap();
        file.remember(first, Start { incarnation: 2, mark: 7 }).unwrap();
        file.remember(first, Start { incarnation: 2, mark: 8 }).unwrap_err();
        let saved = file.saved().starts.clone();
        let file = open(&disk);
        assert_eq!(file.saved().starts, saved);
        assert_eq!(saved.newest(first), Some(Start { incarnation: 2, mark: 7 }));
        assert_eq!(file.overtaken(), None);
        let overtaken = Overtaken { by: first, incarnation: 3 };
        file.note_overtaken(overtaken).unwrap();
        let file = open(&disk);
        assert_eq!((file.overtaken(), &file.saved().starts), (Some(overtaken), &saved));
    }

    #[test]
    fn what_cannot_be_written_is_not_remembered() {
        let (disk, _control) = Disk::simulated(1);
        // There is no such folder.
        let file = open(&disk);
        let error = file.remember(HostId(1), Start { incarnation: 1, mark: 1 }).unwrap_err();
        assert!(matches!(error, IntroductionError::NotRemembered(_)), "{error}");
        assert_eq!(file.saved().starts, RememberedStarts::default());
    }

    #[test]
    fn damage_is_named() {
        let (disk, _control) = Disk::simulated(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.write_atomic(&Path::new("/data").join(FILE), b"{").unwrap();
        let error = PeerFile::open(&disk, Path::new("/data")).unwrap_err().to_string();
        assert!(error.contains("peers.json is damaged"), "{error}");
    }

    #[test]
    fn as_many_as_may_be_remembered_fit_into_the_file() {
        let (disk, _control) = Disk::simulated(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        let file = open(&disk);
        let most = cluster::peer::limits::REMEMBERED_MAX as u128;
        let start = Start { incarnation: u64::MAX, mark: u64::MAX };
        let starts = (0..most).map(|host| (HostId(u128::MAX - host), start));
        file.save(Content { starts: RememberedStarts::new(starts), overtaken: None }).unwrap();
        assert_eq!(open(&disk).saved().starts, file.saved().starts);
    }
}
