//! The metadata at an index of its log, with what a member of the group needs to go on from there:
//! as a file, so that the log need not be kept for ever, and as what a node that joins is given.
//!
//! The file is JSON with two fields, `metadata` and `group`. One of an earlier version holds the
//! metadata alone, and its node is the only member.

use super::Metadata;
use cluster::HostId;
use cluster::consensus::{EntryId, LogIndex, MEMBERS_MAX, Membership, Term};
use env::Disk;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Largest snapshot that is read: tens of thousands of tables.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// The state, and the group that it is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub metadata: Metadata,
    /// Nothing before the group's first snapshot.
    pub group: Option<GroupBase>,
}

/// The metadata group at the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupBase {
    /// The last entry that the state contains, whatever it is for: at or after `Metadata::index`.
    index: u64,
    term: u64,
    voters: Vec<u128>,
    learners: Vec<u128>,
    /// The entry that named these members.
    members_since: u64,
    /// It came from another node: this one's log need not reach it.
    is_received: bool,
}

impl GroupBase {
    /// Of a member that has applied its log up to `last`.
    pub(crate) fn new(last: EntryId, (since, members): (LogIndex, &Membership)) -> GroupBase {
        let ids = |hosts: &[HostId]| hosts.iter().map(|host| host.0).collect();
        GroupBase {
            index: last.index.0,
            term: last.term.0,
            voters: ids(&members.voters),
            learners: ids(&members.learners),
            members_since: since.0,
            is_received: false,
        }
    }

    /// The same for another node.
    pub(crate) fn sent(self) -> GroupBase {
        GroupBase { is_received: true, ..self }
    }

    /// Whether another node has sent it.
    pub(crate) fn is_received(&self) -> bool {
        self.is_received
    }

    /// Whether a member can go on from it: every node is named once, and some decide.
    pub(crate) fn is_possible(&self) -> bool {
        let (since, members) = self.members();
        let mut bytes = Vec::new();
        let count = self.voters.len().max(self.learners.len());
        if count <= MEMBERS_MAX {
            members.encode(&mut bytes);
        }
        Membership::decode(&bytes).is_ok() && since <= self.last().index
    }

    /// The last entry that the state contains.
    pub(crate) fn last(&self) -> EntryId {
        EntryId { index: LogIndex(self.index), term: Term(self.term) }
    }

    /// The members then, and the entry that named them.
    pub(crate) fn members(&self) -> (LogIndex, Arc<Membership>) {
        let hosts = |ids: &[u128]| ids.iter().copied().map(HostId).collect();
        let members = Membership { voters: hosts(&self.voters), learners: hosts(&self.learners) };
        (LogIndex(self.members_since), Arc::new(members))
    }
}

impl Snapshot {
    /// The state as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("metadata has only string keys and finite numbers")
    }

    /// The state from bytes of [`Snapshot::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Snapshot, serde_json::Error> {
        #[derive(Deserialize)]
        struct Probe {
            metadata: Option<IgnoredAny>,
        }
        if serde_json::from_slice::<Probe>(bytes)?.metadata.is_some() {
            return serde_json::from_slice(bytes);
        }
        Ok(Snapshot { metadata: serde_json::from_slice(bytes)?, group: None })
    }

    /// How far the log is needed no more.
    pub(crate) fn index(&self) -> u64 {
        self.group.as_ref().map_or(self.metadata.index, |group| group.index)
    }
}

/// Reads the snapshot; the empty state when there is none yet.
pub(crate) fn load(disk: &Disk, path: &Path) -> Result<Snapshot, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    if !disk.exists(path).map_err(failed)? {
        return Ok(Snapshot::default());
    }
    let bytes = disk.read(path, SNAPSHOT_BYTES_MAX).map_err(failed)?;
    Snapshot::from_bytes(&bytes).map_err(|error| format!("{} is damaged: {error}", path.display()))
}

/// Replaces the snapshot; on return it is durable.
pub(crate) fn save(disk: &Disk, path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    disk.write_atomic(path, &snapshot.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let members =
            Membership { voters: vec![HostId(u128::MAX), HostId(2)], learners: vec![HostId(3)] };
        let last = EntryId { index: LogIndex(9), term: Term(4) };
        let metadata = Metadata { index: 7, cluster_id: u128::MAX, ..Metadata::default() };
        Snapshot { metadata, group: Some(GroupBase::new(last, (LogIndex(8), &members))) }
    }

    #[test]
    fn a_snapshot_reads_back_with_its_group() {
        let snapshot = snapshot();
        assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()).unwrap(), snapshot);
        assert_eq!(snapshot.index(), 9);
        let group = snapshot.group.unwrap();
        assert_eq!(group.last(), EntryId { index: LogIndex(9), term: Term(4) });
        let (since, members) = group.members();
        assert_eq!((since, GroupBase::new(group.last(), (since, &members))), (LogIndex(8), group));
    }

    #[test]
    fn one_of_an_earlier_version_has_no_group() {
        let metadata = snapshot().metadata;
        let read = Snapshot::from_bytes(&serde_json::to_vec(&metadata).unwrap()).unwrap();
        assert_eq!((read.index(), read.group), (7, None));
        assert_eq!(read.metadata, metadata);
    }

    #[test]
    fn impossible_members_are_found() {
        let base = snapshot().group.unwrap();
        assert!(base.is_possible());
        let impossible = [
            GroupBase { voters: Vec::new(), ..base.clone() },
            GroupBase { voters: vec![3], ..base.clone() },
            GroupBase { voters: (0..300).collect(), learners: Vec::new(), ..base.clone() },
            GroupBase { members_since: 10, ..base },
        ];
        assert!(!impossible.iter().any(GroupBase::is_possible));
    }

    #[test]
    fn what_is_cut_is_damaged() {
        let bytes = snapshot().to_bytes();
        for length in 0..bytes.len() {
            assert!(Snapshot::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
