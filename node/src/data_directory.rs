//! The data directory as a whole: who holds it, and what wrote it.
//!
//! ```text
//! data/LOCK                held by the running node
//! data/node.json           format version, host id, shard count, number of starts: who this is
//! data/metadata.json       what all nodes agree on, at some index of the metadata log
//! data/init-scripts.json   which scripts of a cluster's first start were run
//! data/shard-N/log/        the shard's commit log
//! data/shard-N/tables/     the shard's sstables and manifest
//! ```
//!
//! A directory is opened by one process at a time, and only by a program that knows its format.

use env::disk::DirectoryLock;
use env::{Disk, Entropy};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// The version of everything below the directory that this program reads and writes.
const FORMAT_VERSION: u32 = 2;
const IDENTITY_FILE: &str = "node.json";
const IDENTITY_BYTES_MAX: u64 = 1 << 16;

/// An opened data directory; the lock is held as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    pub path: PathBuf,
    pub identity: Identity,
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
    /// The cluster it belongs to, once it does.
    pub cluster: Option<ClusterIdentity>,
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
    Version { path: PathBuf, found: u32 },
    ShardCount { path: PathBuf, found: u16, wanted: u16 },
    Damaged { path: PathBuf, reason: String },
    Io { path: PathBuf, error: io::Error },
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
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
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
                cluster: None,
            }
        };
        identity.incarnation = identity.incarnation.checked_add(1).ok_or_else(|| {
            let reason = "the number of starts cannot be".to_owned();
            DataDirectoryError::Damaged { path: file.clone(), reason }
        })?;
        save_identity(disk, &file, &identity).map_err(failed)?;
        Ok(DataDirectory { path: path.to_owned(), identity, _lock: lock })
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

    /// Writes down which cluster this node belongs to, if that is new; durable on return.
    pub(crate) fn belong_to(&self, disk: &Disk, cluster: &ClusterIdentity) -> Result<(), String> {
        if self.identity.cluster.as_ref() == Some(cluster) {
            return Ok(());
        }
        let identity = Identity { cluster: Some(cluster.clone()), ..self.identity.clone() };
        let file = self.path.join(IDENTITY_FILE);
        save_identity(disk, &file, &identity)
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Where a shard keeps its commit log.
    pub(crate) fn log(&self, shard: u16) -> PathBuf {
        self.path.join(format!("shard-{shard}")).join("log")
    }

    /// Where a shard keeps its sstables.
    pub(crate) fn tables(&self, shard: u16) -> PathBuf {
        self.path.join(format!("shard-{shard}")).join("tables")
    }

    /// Where the metadata snapshot is.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join("metadata.json")
    }
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
        let again = Identity { incarnation: 2, ..identity };
        assert_eq!(open(&disk, Some(2)).unwrap().identity, again);
        let error = open(&disk, Some(4)).unwrap_err().to_string();
        assert!(error.contains("--shards 2"), "{error}");
        assert_eq!(open(&disk, None).unwrap().identity.incarnation, 3, "a refusal is no life");
    }

    #[test]
    fn the_cluster_is_written_down_once_and_for_all() {
        let (disk, _control) = Disk::simulated(1);
        let data = open(&disk, None).unwrap();
        assert_eq!(data.is_member(&disk), Ok(false));
        let cluster = ClusterIdentity { id: 5, name: "five".to_owned() };
        data.belong_to(&disk, &cluster).unwrap();
        drop(data);
        let data = open(&disk, None).unwrap();
        assert_eq!(data.identity.cluster, Some(cluster));
        assert_eq!(data.is_member(&disk), Ok(true));
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
