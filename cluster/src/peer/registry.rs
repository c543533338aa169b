//! Who this node is, whom it is connected with, and who may come in.
//!
//! One per node, shared by its shards and looked at only when a connection begins or ends; the
//! lock is never held across an await. A node counts as connected while an [`Admission`] of it
//! lives: two nodes with one host id, or with one address, are told apart from one node that
//! moved by whether the first is still there. One that died without a word is noticed within
//! [`SILENCE_TIME_MAX`](super::limits::SILENCE_TIME_MAX), and then its successor is let in.

use super::hello::{Hello, Identity, Purpose};
use super::introduction::IntroductionError;
use super::limits::CLUSTER_NAME_BYTES_MAX;
use super::starts::{Memory, Overtaken, OwnStarts, Start, Volatile};
use crate::ring::HostId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// This node and those it knows. Clones are the same.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    starts: OwnStarts,
    memory: Arc<dyn Memory>,
    /// Set once another node remembers a start that this one never had.
    overtaken: watch::Sender<Option<Overtaken>>,
}

#[derive(Debug)]
struct State {
    us: Identity,
    hosts: BTreeMap<HostId, Host>,
    removed: BTreeSet<HostId>,
}

#[derive(Debug)]
struct Host {
    identity: Identity,
    connection_count: usize,
}

/// A cluster's name that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTooLong;

impl std::fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a cluster's name has at most {CLUSTER_NAME_BYTES_MAX} bytes")
    }
}

impl std::error::Error for NameTooLong {}

impl Registry {
    /// A node that knows nobody, and remembers nothing of others for longer than it runs.
    pub fn new(us: Identity) -> Result<Registry, NameTooLong> {
        Registry::with_memory(us, Vec::new(), Arc::new(Volatile::default()))
    }

    /// A node that was started before, and met others. `former_marks` are those of its starts before
    /// this one, the latest last.
    pub fn with_memory(
        us: Identity,
        former_marks: Vec<u64>,
        memory: Arc<dyn Memory>,
    ) -> Result<Registry, NameTooLong> {
        assert!(us.shard_count > 0, "a node has a shard");
        if us.cluster_name.len() > CLUSTER_NAME_BYTES_MAX {
            return Err(NameTooLong);
        }
        let starts = OwnStarts::new(us.start(), former_marks);
        let state = Mutex::new(State { us, hosts: BTreeMap::new(), removed: BTreeSet::new() });
        let overtaken = watch::channel(None).0;
        Ok(Registry(Arc::new(Shared { state, starts, memory, overtaken })))
    }

    /// What this node says of itself.
    pub fn us(&self) -> Identity {
        self.lock().us.clone()
    }

    /// From here on this node is a member of a cluster: nodes of others are refused.
    pub fn set_cluster_id(&self, cluster_id: u128) {
        self.lock().us.cluster_id = Some(cluster_id);
    }

    /// What a node last said of itself, if it was ever connected.
    pub fn identity(&self, host_id: HostId) -> Option<Identity> {
        self.lock().hosts.get(&host_id).map(|host| host.identity.clone())
    }

    /// From here on a node is refused: it was removed from the cluster. Connections that stand are
    /// ended by [`Peers::forget`](super::Peers::forget).
    pub fn remove(&self, host_id: HostId) {
        let mut state = self.lock();
        state.removed.insert(host_id);
        state.hosts.remove(&host_id);
        drop(state);
        self.0.memory.forget(host_id);
    }

    /// Returns when it turns out that this node runs on an older copy of its data directory: it must
    /// end.
    pub async fn overtaken(&self) -> Overtaken {
        let mut overtaken = self.0.overtaken.subscribe();
        // The sender lives as long as `self`.
        let found = overtaken.wait_for(Option::is_some).await.expect("the sender lives");
        found.expect("that was waited for")
    }

    /// The newest start of a node that is remembered, as it is told that node.
    pub(super) fn remembered(&self, host_id: HostId) -> Option<(HostId, Start)> {
        self.0.memory.newest(host_id).map(|start| (host_id, start))
    }

    /// Remembers the start of a member that is about to be listened to. Of who belongs to no cluster
    /// nothing is believed that another start of it could take back.
    pub(super) async fn remember(&self, theirs: &Identity) -> Result<(), IntroductionError> {
        if theirs.cluster_id.is_none() {
            return Ok(());
        }
        self.0.memory.remember(theirs.host_id, theirs.start()).await
    }

    /// Lets a node in, or says why not.
    pub(super) fn admit(&self, hello: &Hello) -> Result<Admission, IntroductionError> {
        let mut state = self.lock();
        state.judge(&hello.identity)?;
        self.judge_ourselves(state.us.host_id, hello)?;
        state.judge_among_connected(&hello.identity)?;
        if hello.purpose != Purpose::Introduction && hello.to_shard >= state.us.shard_count {
            let shard_count = state.us.shard_count;
            return Err(IntroductionError::NoSuchShard { shard: hello.to_shard, shard_count });
        }
        let identity = hello.identity.clone();
        let host_id = identity.host_id;
        let incarnation = identity.incarnation;
        let host = state
            .hosts
            .entry(host_id)
            .or_insert_with(|| Host { identity: identity.clone(), connection_count: 0 });
        host.identity = identity;
        host.connection_count += 1;
        drop(state);
        Ok(Admission { registry: self.clone(), host_id, incarnation })
    }

    /// Whether this node has the start that another remembers of it.
    fn judge_ourselves(&self, us: HostId, hello: &Hello) -> Result<(), IntroductionError> {
        match hello.remembered {
            Some((whose, start)) if whose == us && !self.0.starts.has(start) => {
                let (by, incarnation) = (hello.identity.host_id, start.incarnation);
                self.0.overtaken.send_replace(Some(Overtaken { by, incarnation }));
                Err(IntroductionError::Overtaken { remembered: incarnation })
            }
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one statement, so that a panic leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn judge(&self, theirs: &Identity) -> Result<(), IntroductionError> {
        let us = &self.us;
        if theirs.cluster_name != us.cluster_name {
            let (ours, theirs) = (us.cluster_name.clone(), theirs.cluster_name.clone());
            return Err(IntroductionError::ClusterName { ours, theirs });
        }
        if let (Some(ours), Some(theirs)) = (us.cluster_id, theirs.cluster_id)
            && ours != theirs
        {
            return Err(IntroductionError::AnotherCluster { ours, theirs });
        }
        if theirs.host_id == us.host_id {
            if theirs.incarnation == us.incarnation && theirs.address == us.address {
                return Err(IntroductionError::Itself);
            }
            let (host_id, holder) = (us.host_id, us.address);
            return Err(IntroductionError::HostIdInUse { host_id, holder });
        }
        if self.removed.contains(&theirs.host_id) {
            return Err(IntroductionError::Removed(theirs.host_id));
        }
        Ok(())
    }

    fn judge_among_connected(&self, theirs: &Identity) -> Result<(), IntroductionError> {
        let address = theirs.address;
        if address == self.us.address {
            return Err(IntroductionError::AddressInUse { address, holder: self.us.host_id });
        }
        let connected = self.hosts.iter().filter(|(_, host)| host.connection_count > 0);
        for (holder, host) in connected {
            let known = &host.identity;
            if *holder != theirs.host_id {
                if known.address == address {
                    return Err(IntroductionError::AddressInUse { address, holder: *holder });
                }
            } else if known.address != address {
                let (host_id, holder) = (*holder, known.address);
                return Err(IntroductionError::HostIdInUse { host_id, holder });
            } else if known.incarnation > theirs.incarnation {
                let (newest, announced) = (known.incarnation, theirs.incarnation);
                return Err(IntroductionError::Outdated { newest, announced });
            }
        }
        Ok(())
    }
}

/// One connection of a node that was let in. The node counts as connected while it lives.
#[derive(Debug)]
pub(super) struct Admission {
    registry: Registry,
    host_id: HostId,
    incarnation: u64,
}

impl Admission {
    /// Of the peer.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        // It may have been removed meanwhile, and even have come back under a new registry entry.
        if let Some(host) = state.hosts.get_mut(&self.host_id) {
            host.connection_count = host.connection_count.saturating_sub(1);
        }
    }
}

/// Where a node was last reached, or said it is.
pub(super) fn address_of(registry: &Registry, host_id: HostId) -> Option<SocketAddr> {
    registry.identity(host_id).map(|identity| identity.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(host: u128, port: u16, incarnation: u64) -> Identity {
        Identity {
            cluster_name: "c".into(),
            cluster_id: None,
            host_id: HostId(host),
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            shard_count: 2,
            incarnation,
            mark: incarnation * 10,
        }
    }

    fn hello(identity: Identity) -> Hello {
        let purpose = Purpose::Messages;
        Hello { identity, purpose, from_shard: 0, to_shard: 1, remembered: None }
    }

    fn registry() -> Registry {
        Registry::new(identity(1, 1, 5)).unwrap()
    }

    fn refused(registry: &Registry, identity: Identity) -> IntroductionError {
        registry.admit(&hello(identity)).unwrap_err()
    }

    #[test]
    fn strangers_are_refused_by_name() {
        let registry = registry();
        let other = Identity { cluster_name: "d".into(), ..identity(2, 2, 1) };
        assert!(matches!(refused(&registry, other), IntroductionError::ClusterName { .. }));
        registry.set_cluster_id(1);
        let other = Identity { cluster_id: Some(2), ..identity(2, 2, 1) };
        assert!(matches!(refused(&registry, other), IntroductionError::AnotherCluster { .. }));
        let joining = Identity { cluster_id: None, ..identity(2, 2, 1) };
        registry.admit(&hello(joining)).unwrap();
        let mut far = hello(identity(2, 2, 1));
        far.to_shard = 2;
        let error = registry.admit(&far).unwrap_err();
        assert_eq!(error, IntroductionError::NoSuchShard { shard: 2, shard_count: 2 });
        registry.remove(HostId(2));
        assert_eq!(refused(&registry, identity(2, 2, 9)), IntroductionError::Removed(HostId(2)));
        let long = Identity { cluster_name: "x".repeat(129), ..identity(1, 1, 1) };
        assert_eq!(Registry::new(long).unwrap_err(), NameTooLong);
    }

    #[test]
    fn the_node_itself_and_its_doubles_are_refused() {
        let registry = registry();
        assert_eq!(refused(&registry, identity(1, 1, 5)), IntroductionError::Itself);
        let double = refused(&registry, identity(1, 2, 5));
        assert!(matches!(double, IntroductionError::HostIdInUse { .. }));
        let same_address = refused(&registry, identity(2, 1, 5));
        assert!(matches!(same_address, IntroductionError::AddressInUse { .. }));
    }

    #[test]
    fn only_who_could_be_a_peer_is_believed_that_this_node_was_overtaken() {
        let registry = registry();
        let says = |identity, start| {
            let hello = Hello { remembered: Some((HostId(1), start)), ..hello(identity) };
            registry.admit(&hello).map(drop)
        };
        let is_overtaken = || registry.0.overtaken.borrow().is_some();
        let (present, other) = (registry.us().start(), Start { incarnation: 5, mark: 51 });
        let stranger = Identity { cluster_name: "d".into(), ..identity(2, 2, 1) };
        assert!(matches!(says(stranger, other), Err(IntroductionError::ClusterName { .. })));
        says(identity(2, 2, 1), present).unwrap();
        // Whoever was at this address before.
        let remembered = Some((HostId(9), other));
        registry.admit(&Hello { remembered, ..hello(identity(2, 2, 1)) }).unwrap();
        assert!(!is_overtaken());
        // Whatever else speaks against the other, as an address that is still another's.
        let _admission = registry.admit(&hello(identity(3, 3, 1))).unwrap();
        let error = says(identity(2, 3, 1), other).unwrap_err();
        assert_eq!(error, IntroductionError::Overtaken { remembered: 5 });
        assert!(is_overtaken());
    }

    #[test]
    fn doubles_of_another_are_refused_while_it_is_connected() {
        let registry = registry();
        let admission = registry.admit(&hello(identity(2, 2, 5))).unwrap();
        let moved = identity(2, 3, 6);
        let double = refused(&registry, moved.clone());
        assert!(matches!(double, IntroductionError::HostIdInUse { .. }));
        let same_address = refused(&registry, identity(3, 2, 1));
        assert!(matches!(same_address, IntroductionError::AddressInUse { .. }));
        let older = refused(&registry, identity(2, 2, 4));
        assert_eq!(older, IntroductionError::Outdated { newest: 5, announced: 4 });
        let restarted = registry.admit(&hello(identity(2, 2, 6))).unwrap();
        drop((admission, restarted));
        registry.admit(&hello(moved.clone())).unwrap();
        assert_eq!(address_of(&registry, HostId(2)), Some(moved.address));
        // Another node may take the place that is free now.
        registry.admit(&hello(identity(3, 2, 1))).unwrap();
    }
}
