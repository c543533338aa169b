//! The shard's commit log as the log of its replicas.

use cluster::consensus::{EntryId, HardState};
use cluster::replica::{LocalLog, LogPosition};
use cluster::{GroupId, HostId};
use std::task::{Context, Poll};
use storage::commitlog::{CommitLog, HardState as StoredHardState, LogError};

/// The log as the replicas see it.
pub(super) struct ShardLog {
    pub log: CommitLog,
}

impl ShardLog {
    /// Waits for the log's next report: what is held from then on.
    pub(super) fn poll_completed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<LogPosition, LogError>> {
        let completed = std::pin::pin!(self.log.completed());
        completed.poll(context).map_ok(|position| LogPosition(position.0))
    }
}

impl LocalLog for ShardLog {
    type Error = LogError;

    fn admit(&self, group: GroupId, payload_bytes: usize) -> Result<(), LogError> {
        self.log.check_room(group.0, payload_bytes)
    }

    fn append(
        &mut self,
        group: GroupId,
        entry: EntryId,
        payload: &[u8],
    ) -> Result<LogPosition, LogError> {
        let (term, index) = (entry.term.0, entry.index.0);
        let position = self.log.append_entry(group.0, term, index, &[payload])?;
        Ok(LogPosition(position.0))
    }

    fn save_vote(&mut self, group: GroupId, vote: HardState) -> Result<LogPosition, LogError> {
        let vote_of = vote.voted_for.map(|HostId(id)| id);
        let stored = StoredHardState { term: vote.term.0, vote: vote_of };
        Ok(LogPosition(self.log.append_hard_state(group.0, stored)?.0))
    }
}
