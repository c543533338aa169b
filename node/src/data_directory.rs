//! The data directory as a whole: who holds it, and what wrote it.
//!
//! ```text
//! data/LOCK                held by the running node
//! data/node.json           format version, host id, shard count, starts and their marks: who this is
//! data/peers.json          the newest start of each other node that this one has listened to
//! data/metadata.json       what all nodes agree on, at some index of the metadata log
//! data/init-scripts.json   which scripts of a cluster's first start were run
//! data/shard-N/log/        the shard's commit log
//! data/shard-N/tables/     the shard's sstables and manifest
//! ```
//!
//! A directory is opened by one process at a time, and only by a program that knows its format.
//!
//! A node that has lost what it voted for, or what it acknowledged, must not go on as the member that it
//! was: its vote could make two leaders, and a majority that counts it may hold nothing. So `node.json`
//! remembers how far each shard's log had come when the node last started, and whether it had tables; a
//! directory where a log is missing, is an older copy, or where tables are missing is refused. A
//! directory that is an older copy as a whole says nothing of that itself; the other nodes do, who
//! remember starts of the node that the directory does not know (`cluster::peer`, `peer_file.rs`,
//! docs/decisions/0022-marks-of-starts.md). What nobody can tell: a directory or a log that was replaced
//! by a copy made since the last start, unless its tables are ahead of that (`shard/recovery.rs`).

use crate::peer_file::PeerFile;
use cluster::peer::{Overtaken, Start};
use env::disk::DirectoryLock;
use env::{Disk, Entropy};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::Engine;
use storage::commitlog::newest_segment;

/// The version of everything below the directory that this program reads and writes.
const FORMAT_VERSION: u32 = 2;
const IDENTITY_FILE: &str = "node.json";
const IDENTITY_BYTES_MAX: u64 = 1 << 16;
/// Starts whose marks are kept: as many as a node may be started while another that will remember one of
/// them is away. Of earlier ones only the number is compared. Some 26 bytes each in the file.
const MARKS_MAX: usize = 1_000;

/// An opened data directory; the lock is held as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    pub path: PathBuf,
    pub identity: Identity,
    /// What is remembered of other nodes.
    pub peers: Arc<PeerFile>,
    _lock: DirectoryLock,
}

/// Who this node is, from its first start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    format_version: u32,
    /// The node's identity in the cluster.
    pub host_id: u128,
    /// How many shards the data is divided into.
    pub shard_count: u16,
    /// How often the node was started, this time included: durable before it speaks to others, who
    /// tell its lives apart by it.
    pub incarnation: u64,
    /// A random number for each start, the latest last: tells the starts of this directory from those of
    /// a copy of it.
    #[serde(default)]
    marks: Vec<u64>,
    /// The cluster it belongs to, once it does.
    pub cluster: Option<ClusterIdentity>,
    /// What each shard has to have; nothing before the first start has come so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shards: Vec<ShardMark>,
}

/// What was seen of a shard, and has to be there at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ShardMark {
    /// The segment with which its log went on at the last start.
    log_segment: u64,
    /// Whether it had tables then.
    has_tables: bool,
}

/// Which cluster a node belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterIdentity {
    /// Tells clusters of one name apart.
    pub id: u128,
    /// Its name, given by its first node.
    pub name: String,
}

/// Only the version: what every format's file begins with.
#[derive(Deserialize)]
struct VersionOnly {
    format_version: u32,
}

/// Why a directory cannot be opened; each text says what to do.
#[derive(Debug)]
pub(crate) enum DataDirectoryError {
    InUse(PathBuf),
    Version {
        path: PathBuf,
        found: u32,
    },
    ShardCount {
        path: PathBuf,
        found: u16,
        wanted: u16,
    },
    Damaged {
        path: PathBuf,
        reason: String,
    },
    /// What a shard had is gone, as the text says.
    Lost {
        path: PathBuf,
        host_id: u128,
        what: String,
    },
    /// The directory as a whole is an older copy.
    OlderCopy {
        path: PathBuf,
        host_id: u128,
        overtaken: Overtaken,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

impl std::fmt::Display for DataDirectoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse(path) => write!(
                f,
                "the data directory {} is in use by another node; stop that node or choose \
                 another --data-dir",
                path.display()
            ),
            Self::Version { path, found } => write!(
                f,
                "the data directory {} has format version {found}, and this program knows version \
                 {FORMAT_VERSION}; use the program that wrote it",
                path.display()
            ),
            Self::ShardCount { path, found, wanted } => write!(
                f,
                "the data directory {} is divided into {found} shards, and {wanted} are asked \
                 for; start with --shards {found}",
                path.display()
            ),
            Self::Damaged { path, reason } => {
                write!(f, "{} is damaged: {reason}", path.display())
            }
            Self::Lost { path, host_id, what } => {
                let host_id = crate::statement::format_uuid(*host_id);
                write!(
                    f,
                    "the data directory {} has lost {what}: this node has voted for what it does not \
                     know any more, or acknowledged it, and cannot go on as node {host_id}. Put back \
                     what is missing; or start with an empty data directory and `--replace {host_id}`, \
                     which the other nodes fill",
                    path.display()
                )
            }
            Self::OlderCopy { path, host_id, overtaken } => {
                let host_id = crate::statement::format_uuid(*host_id);
                let by = crate::statement::format_uuid(overtaken.by.0);
                write!(
                    f,
                    "the data directory {} is an older copy of what this node had: node {by} remembers \
                     its start number {}, of which the directory knows nothing. What this node has voted \
                     for and acknowledged since the copy was made is missing, and it cannot go on as node \
                     {host_id}. Start it with an empty data directory and `--replace {host_id}`, which \
                     the other nodes fill; or give it up with `tethys remove {host_id}`",
                    path.display(),
                    overtaken.incarnation
                )
            }
            Self::Io { path, error } => {
                write!(f, "the data directory: {}: {error}{}", path.display(), advice(error.kind()))
            }
        }
    }
}

/// What to do about an error of the disk, where that can be said.
fn advice(error: io::ErrorKind) -> String {
    match error {
        io::ErrorKind::PermissionDenied => {
            format!(
                "; user {}, as whom this program runs, must be able to write there; or choose \
                 another --data-dir",
                env::tasks::user_id()
            )
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a --data-dir that can be written, such as a volume".to_owned()
        }
        io::ErrorKind::StorageFull => "; make room on that disk".to_owned(),
        _ => String::new(),
    }
}

impl DataDirectory {
    /// Opens the directory, creating it with a new identity when it is empty. `shard_count` is
    /// what the operator asked for, or `None` to take what is there. Each call begins a new
    /// incarnation.
    pub(crate) fn open(
        disk: &Disk,
        path: &Path,
        shard_count: Option<u16>,
        shard_count_default: u16,
        entropy: &mut Entropy,
    ) -> Result<DataDirectory, DataDirectoryError> {
        let failed = |error| DataDirectoryError::Io { path: path.to_owned(), error };
        disk.create_dir_all(path).map_err(failed)?;
        let lock = disk.lock_directory(path).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                DataDirectoryError::InUse(path.to_owned())
            } else {
                DataDirectoryError::Io { path: path.to_owned(), error }
            }
        })?;
        let file = path.join(IDENTITY_FILE);
        let mut identity = if disk.exists(&file).map_err(failed)? {
            let identity = read_identity(disk, &file)?;
            if let Some(wanted) = shard_count.filter(|wanted| *wanted != identity.shard_count) {
                let found = identity.shard_count;
                return Err(DataDirectoryError::ShardCount {
                    path: path.to_owned(),
                    found,
                    wanted,
                });
            }
            identity
        } else {
            Identity {
                format_version: FORMAT_VERSION,
                host_id: random_uuid(entropy),
                shard_count: shard_count.unwrap_or(shard_count_default),
                incarnation: 0,
                marks: Vec::new(),
                cluster: None,
                shards: Vec::new(),
            }
        };
        identity.check_shards(disk, path)?;
        let peers = PeerFile::open(disk, path)?;
        if let Some(overtaken) = peers.overtaken() {
            let (path, host_id) = (path.to_owned(), identity.host_id);
            return Err(DataDirectoryError::OlderCopy { path, host_id, overtaken });
        }
        identity.begin_start(entropy).ok_or_else(|| {
            let reason = "the number of starts cannot be".to_owned();
            DataDirectoryError::Damaged { path: file.clone(), reason }
        })?;
        save_identity(disk, &file, &identity).map_err(failed)?;
        Ok(DataDirectory { path: path.to_owned(), identity, peers: Arc::new(peers), _lock: lock })
    }

    /// This directory was found to be an older copy. Written down, so that no later start has to find it
    /// out again, or fails to. Returns what to tell the operator. Blocks.
    pub(crate) fn note_overtaken(&self, overtaken: Overtaken) -> DataDirectoryError {
        if let Err(error) = self.peers.note_overtaken(overtaken) {
            tracing::error!("{error}");
        }
        let (path, host_id) = (self.path.clone(), self.identity.host_id);
        DataDirectoryError::OlderCopy { path, host_id, overtaken }
    }

    /// Whether this node has belonged to a cluster: its data say so, or there are some.
    pub(crate) fn is_member(&self, disk: &Disk) -> Result<bool, String> {
        if self.identity.cluster.is_some() {
            return Ok(true);
        }
        // It had begun to found one when it was ended.
        let log = self.log(0);
        disk.exists(&log).map_err(|error| format!("{}: {error}", log.display()))
    }

    /// Writes down which cluster this node belongs to, and with which segments the logs of its shards
    /// have gone on, once they have; durable on return.
    pub(crate) fn belong_to(
        &self,
        disk: &Disk,
        cluster: &ClusterIdentity,
        log_segments: &[u64],
    ) -> Result<(), String> {
        let mut identity = Identity { cluster: Some(cluster.clone()), ..self.identity.clone() };
        identity.shards.resize(log_segments.len().max(identity.shards.len()), ShardMark::default());
        for (mark, log_segment) in identity.shards.iter_mut().zip(log_segments) {
            mark.log_segment = *log_segment;
        }
        if identity == self.identity {
            return Ok(());
        }
        let file = self.path.join(IDENTITY_FILE);
        save_identity(disk, &file, &identity)
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Where a shard keeps its commit log.
    pub(crate) fn log(&self, shard: u16) -> PathBuf {
        log_of(&self.path, shard)
    }

    /// Where a shard keeps its sstables.
    pub(crate) fn tables(&self, shard: u16) -> PathBuf {
        tables_of(&self.path, shard)
    }

    /// Where the metadata snapshot is.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join("metadata.json")
    }
}

impl Identity {
    /// The start that is under way.
    pub(crate) fn start(&self) -> Start {
        let mark = *self.marks.last().expect("each start draws one");
        Start { incarnation: self.incarnation, mark }
    }

    /// The marks of the starts before that, the latest last.
    pub(crate) fn former_marks(&self) -> &[u64] {
        self.marks.split_last().map_or(&[], |(_, former)| former)
    }

    /// One more start; nothing if there cannot be one.
    fn begin_start(&mut self, entropy: &mut Entropy) -> Option<()> {
        self.incarnation = self.incarnation.checked_add(1)?;
        self.marks.push(entropy.u64());
        self.marks.drain(..self.marks.len().saturating_sub(MARKS_MAX));
        Some(())
    }

    /// Whether every shard has what it had; what it has by now is to be there from here on.
    fn check_shards(&mut self, disk: &Disk, path: &Path) -> Result<(), DataDirectoryError> {
        let failed = |error| DataDirectoryError::Io { path: path.to_owned(), error };
        let lost = |what: String| {
            Err(DataDirectoryError::Lost { path: path.to_owned(), host_id: self.host_id, what })
        };
        let mut found = self.shards.clone();
        for (shard, mark) in (0_u16..).zip(&mut found) {
            let newest = newest_segment(disk, &log_of(path, shard)).map_err(failed)?;
            match newest {
                None if mark.log_segment > 0 => {
                    return lost(format!("the commit log of shard {shard}"));
                }
                Some(newest) if newest < mark.log_segment => {
                    return lost(format!(
                        "the end of the commit log of shard {shard}, which is an older copy: it ends \
                         with segment {newest}, and segment {} was begun",
                        mark.log_segment
                    ));
                }
                _ => {}
            }
            let has_tables = Engine::has_tables(disk, &tables_of(path, shard)).map_err(failed)?;
            if mark.has_tables && !has_tables {
                return lost(format!("the tables of shard {shard}"));
            }
            mark.has_tables = has_tables;
        }
        self.shards = found;
        Ok(())
    }
}

fn log_of(path: &Path, shard: u16) -> PathBuf {
    path.join(format!("shard-{shard}")).join("log")
}

fn tables_of(path: &Path, shard: u16) -> PathBuf {
    path.join(format!("shard-{shard}")).join("tables")
}

fn save_identity(disk: &Disk, file: &Path, identity: &Identity) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(identity).expect("plain fields are JSON");
    disk.write_atomic(file, &bytes)
}

fn read_identity(disk: &Disk, file: &Path) -> Result<Identity, DataDirectoryError> {
    let bytes = disk
        .read(file, IDENTITY_BYTES_MAX)
        .map_err(|error| DataDirectoryError::Io { path: file.to_owned(), error })?;
    let damaged = |e: serde_json::Error| DataDirectoryError::Damaged {
        path: file.to_owned(),
        reason: e.to_string(),
    };
    // The version comes first: a later format may have other fields.
    let VersionOnly { format_version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format_version != FORMAT_VERSION {
        return Err(DataDirectoryError::Version { path: file.to_owned(), found: format_version });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// A random (version 4) UUID.
pub(crate) fn random_uuid(entropy: &mut Entropy) -> u128 {
    const VERSION_MASK: u128 = 0xf << 76;
    const VARIANT_MASK: u128 = 0x3 << 62;
    (entropy.u128() & !VERSION_MASK & !VARIANT_MASK) | (0x4 << 76) | (0x2 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::HostId;
    use env::EntropySource;

    fn open(disk: &Disk, shards: Option<u16>) -> Result<DataDirectory, DataDirectoryError> {
        let mut entropy = EntropySource::simulated(1).generator("identity");
        DataDirectory::open(disk, Path::new("/data"), shards, 2, &mut entropy)
    }

    #[test]
    fn the_identity_stays_but_for_its_incarnation_and_a_second_holder_is_refused() {
        let (disk, _control) = Disk::simulated(1);
        let first = open(&disk, None).unwrap();
        let identity = first.identity.clone();
        assert_eq!((identity.shard_count, identity.incarnation), (2, 1));
        assert!(matches!(open(&disk, None), Err(DataDirectoryError::InUse(_))));
        drop(first);
        let again = open(&disk, Some(2)).unwrap().identity;
        assert_eq!(again.former_marks(), [identity.start().mark]);
        let marks = again.marks.clone();
        assert_eq!(again, Identity { incarnation: 2, marks, ..identity });
        let error = open(&disk, Some(4)).unwrap_err().to_string();
        assert!(error.contains("--shards 2"), "{error}");
        assert_eq!(open(&disk, None).unwrap().identity.incarnation, 3, "a refusal is no life");
    }

    #[test]
    fn the_marks_of_many_starts_fit_into_the_file() {
        let (disk, _control) = Disk::simulated(1);
        let mut identity = open(&disk, None).unwrap().identity;
        identity.marks = vec![u64::MAX; MARKS_MAX];
        save_identity(&disk, Path::new("/data/node.json"), &identity).unwrap();
        let again = open(&disk, None).unwrap().identity;
        assert_eq!(again.former_marks(), vec![u64::MAX; MARKS_MAX - 1]);
        assert_ne!(again.start().mark, u64::MAX);
    }

    #[test]
    fn a_directory_that_was_overtaken_is_refused_from_then_on() {
        let (disk, _control) = Disk::simulated(1);
        let data = open(&disk, None).unwrap();
        let host_id = crate::statement::format_uuid(data.identity.host_id);
        let said = data.note_overtaken(Overtaken { by: HostId(5), incarnation: 9 }).to_string();
        assert!(said.contains("/data is an older copy of what this node had"), "{said}");
        assert!(said.contains(&format!("`tethys remove {host_id}`")), "{said}");
        drop(data);
        for _ in 0..2 {
            assert_eq!(open(&disk, None).unwrap_err().to_string(), said);
        }
        disk.remove(Path::new("/data/peers.json")).unwrap();
        assert_eq!(open(&disk, None).unwrap().identity.incarnation, 2, "a refusal is no life");
    }

    #[test]
    fn the_cluster_is_written_down_once_and_for_all() {
        let (disk, _control) = Disk::simulated(1);
        let data = open(&disk, None).unwrap();
        assert_eq!(data.is_member(&disk), Ok(false));
        let cluster = ClusterIdentity { id: 5, name: "five".to_owned() };
        data.belong_to(&disk, &cluster, &[]).unwrap();
        drop(data);
        let data = open(&disk, None).unwrap();
        assert_eq!(data.identity.cluster, Some(cluster));
        assert_eq!(data.is_member(&disk), Ok(true));
    }

    /// Leaves nothing but the file of that name, or of none, in a log.
    fn set_segment(disk: &Disk, log: &Path, number: Option<u64>) {
        disk.create_dir_all(log).unwrap();
        for name in disk.list(log).unwrap() {
            disk.remove(&log.join(name)).unwrap();
        }
        if let Some(number) = number {
            let path = log.join(format!("segment-{number:016x}.log"));
            disk.write_atomic(&path, b"of no consequence here").unwrap();
        }
    }

    #[test]
    fn a_directory_that_lost_a_log_or_tables_is_refused() {
        let (disk, _control) = Disk::simulated(1);
        let data = open(&disk, None).unwrap();
        let cluster = ClusterIdentity { id: 5, name: "five".to_owned() };
        let host_id = crate::statement::format_uuid(data.identity.host_id);
        // It was let in and ended before its shards had a log.
        data.belong_to(&disk, &cluster, &[]).unwrap();
        drop(data);
        let data = open(&disk, None).unwrap();
        let (log, tables) = (data.log(1), data.tables(1));
        for log in [&data.log(0), &log] {
            set_segment(&disk, log, Some(7));
        }
        data.belong_to(&disk, &cluster, &[7, 7]).unwrap();
        drop(data);
        // The log goes on between two starts.
        set_segment(&disk, &log, Some(9));
        assert_eq!(open(&disk, None).unwrap().identity.shards[1].log_segment, 7);
        let lost = |what: &str| {
            // A refusal changes nothing.
            for _ in 0..2 {
                let error = open(&disk, None).unwrap_err().to_string();
                assert!(error.contains(&format!("has lost {what}")), "{error}");
                assert!(error.contains(&format!("`--replace {host_id}`")), "{error}");
            }
        };
        set_segment(&disk, &log, Some(6));
        lost(
            "the end of the commit log of shard 1, which is an older copy: it ends with segment 6, and",
        );
        set_segment(&disk, &log, None);
        lost("the commit log of shard 1:");
        set_segment(&disk, &log, Some(7));
        disk.create_dir_all(&tables).unwrap();
        disk.write_atomic(&tables.join("MANIFEST"), b"of no consequence here").unwrap();
        drop(open(&disk, None).unwrap());
        disk.remove(&tables.join("MANIFEST")).unwrap();
        lost("the tables of shard 1:");
    }

    #[test]
    fn an_unknown_version_and_damage_are_named() {
        let (disk, _control) = Disk::simulated(1);
        disk.create_dir_all(Path::new("/data")).unwrap();
        let file = Path::new("/data/node.json");
        for found in [1, 9] {
            let text = format!(r#"{{"format_version": {found}, "other": true}}"#);
            disk.write_atomic(file, text.as_bytes()).unwrap();
            let error = open(&disk, None).unwrap_err().to_string();
            let expected =
                format!("has format version {found}, and this program knows version 2; use the");
            assert!(error.contains(&expected), "{error}");
        }
        disk.write_atomic(file, b"{").unwrap();
        let error = open(&disk, None).unwrap_err().to_string();
        assert!(error.contains("node.json is damaged"), "{error}");
    }
}
