//! The metadata for a member that was away for so long that the leader's log has no more what it
//! lacks: the leader sends it the whole state, and the member goes on behind that.
//!
//! The order in which a snapshot is taken over, and what a crash leaves, is that of
//! `cluster/src/consensus/snapshot.rs`: the file is the commit point. It says that it was received,
//! so that a start does not miss the entries that it stands for ([`super::metadata_group`]).

use super::Shard;
use crate::internode::AskKind;
use crate::metadata::{self, Snapshot};
use crate::view::View;
use bytes::Bytes;
use cluster::consensus::{LogIndex, Recovered};
use cluster::liveness::MonotonicNanos;
use cluster::peer::{Class, Peer, Responder};
use cluster::replica::NewReplica;
use cluster::{GroupId, HostId};
use std::rc::Rc;
use std::time::Duration;
use storage::commitlog::{LogError, LogStart};

/// How long a member may take to take over a snapshot.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(20);
/// How long to wait before it is sent again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the leader does.
impl Shard {
    /// Forgets entries that the log has released, and sends members that need them the state
    /// instead; on shard 0.
    pub(super) fn serve_metadata_snapshots(self: &Rc<Self>) {
        let id = GroupId::METADATA;
        let needed: Vec<HostId> = {
            let mut state = self.state.borrow_mut();
            let released = LogIndex(state.log.start(id));
            state.replicas.discard(id, released);
            let needed = state.replicas.snapshots_needed();
            needed.filter(|(group, _)| *group == id).map(|(_, host)| host).collect()
        };
        for host in needed {
            if self.is_live(host) && self.sending_metadata.borrow_mut().insert(host) {
                let shard = self.clone();
                tokio::task::spawn_local(async move {
                    shard.send_metadata(host).await;
                    shard.sending_metadata.borrow_mut().remove(&host);
                });
            }
        }
    }

    async fn send_metadata(self: &Rc<Self>, host: HostId) {
        let Some(mut snapshot) = self.metadata_snapshot() else { return };
        snapshot.group = snapshot.group.map(metadata::GroupBase::sent);
        let (kind, bytes) = ([AskKind::MetadataSnapshot as u8], snapshot.to_bytes());
        let peer = Peer { host_id: host, shard: 0 };
        let sent = self.peers.ask(peer, Class::Bulk, &[&kind, &bytes], SNAPSHOT_TIME_MAX).await;
        match sent {
            Ok(_) => {
                tracing::info!("node {host} has a snapshot of the metadata");
                let now = MonotonicNanos(self.monotonic_nanos());
                let result: Result<(), LogError> =
                    self.state.borrow_mut().with_replicas(now, |replicas, local| {
                        replicas.snapshot_sent(GroupId::METADATA, host, local)
                    });
                // A log that failed is met by the log's task.
                result.ok();
                self.wake_log();
            }
            Err(error) => {
                tracing::warn!("node {host}: a snapshot of the metadata: {error}");
                self.shared.env.clock.sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// What the member does.
impl Shard {
    /// Takes over the metadata that the leader has sent, and answers when it is durable.
    pub(crate) async fn take_metadata_snapshot(
        self: Rc<Self>,
        from: Peer,
        body: Bytes,
        responder: Responder,
    ) {
        let taken = match Snapshot::from_bytes(&body) {
            Ok(snapshot) if self.index == 0 => self.install_metadata(from, &snapshot).await,
            Ok(_) => Err("it is for shard 0".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match taken {
            // Whoever sent it waits no longer than it said.
            Ok(()) => drop(responder.answer(Class::Bulk, &[])),
            Err(reason) => {
                tracing::warn!(
                    "a snapshot of the metadata from node {} is not taken over: {reason}",
                    from.host_id
                );
                responder.refuse();
            }
        }
    }

    async fn install_metadata(&self, from: Peer, snapshot: &Snapshot) -> Result<(), String> {
        let id = GroupId::METADATA;
        let base = self.check_metadata(from, snapshot)?;
        let (last, members) = (base.last(), base.members());
        let is_needed = |shard: &Shard| {
            let replicas = &shard.state.borrow().replicas;
            last.index > replicas.commit(id) && replicas.term_at(id, last.index) != Some(last.term)
        };
        let _turn = self.metadata_file.lock().await;
        if !is_needed(self) {
            return Ok(());
        }
        // If the node ends here, it starts from the file: what the log got meanwhile either follows on
        // it, or contradicts what is committed.
        self.write_metadata(snapshot.clone()).await?;
        // What this member has voted, it has to know again.
        let hard_state = loop {
            let appended = self.state.borrow().log.log.appended();
            if !self.log_durable(appended).await {
                return Err("the log has failed".to_owned());
            }
            if let Some(hard_state) = self.state.borrow().replicas.hard_state(id) {
                break hard_state;
            }
            // It voted again, or has not looked at what the log says.
            self.settled.notified().await;
        };
        // From here on in one step: a log that reached the base meanwhile needs no snapshot.
        if !is_needed(self) {
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let (base, commit) = (last, last.index);
        let mut recovered =
            Recovered { hard_state, base, last: base.index, commit, ..Recovered::default() };
        recovered.memberships.push(members);
        let shards = super::metadata_group::shards_of(snapshot, self.shared.host_id);
        let new = NewReplica { recovered, shards, ..NewReplica::default() };
        let former_last = state.replicas.last_index(id);
        let now = MonotonicNanos(self.monotonic_nanos());
        state.replicas.replace(id, new, now).map_err(|error| error.to_string())?;
        let start = LogStart { index: last.index.0, term: last.term.0 };
        // A log that failed is met by the log's task; the file stands for what it lacks.
        state.log.begin_after(id, former_last, start).ok();
        if let Some(metadata) = state.metadata.as_mut() {
            metadata.metadata = snapshot.metadata.clone();
            metadata.saved_index = snapshot.index();
        }
        self.publication.applied(snapshot.metadata.index);
        self.wake_log();
        Ok(())
    }

    /// The group of a snapshot that this node may go on from.
    fn check_metadata<'a>(
        &self,
        from: Peer,
        snapshot: &'a Snapshot,
    ) -> Result<&'a metadata::GroupBase, String> {
        let view = self.view();
        let metadata = &snapshot.metadata;
        let base = snapshot.group.as_ref().filter(|base| base.is_received());
        let base = base.ok_or("it names no group")?;
        if metadata.cluster_id != view.metadata.cluster_id {
            return Err("it is of another cluster".to_owned());
        }
        if self.replica_leader(GroupId::METADATA).is_some_and(|leader| leader != from.host_id) {
            return Err("the node does not lead".to_owned());
        }
        if metadata.known_node(self.shared.host_id.0).is_none() || !base.is_possible() {
            return Err("this node cannot be a member by it".to_owned());
        }
        if metadata.index < view.index() {
            return Err("it is older than what is known".to_owned());
        }
        let made = View::new(metadata.clone(), &self.shared.system_keyspaces, self.shared.host_id);
        made.map(|_| base).map_err(|error| format!("it makes no ring: {error}"))
    }
}
