//! Asking a shard of another node, once, and what its silence means.
//!
//! A write that left and was not answered may have been applied: unless it is one that may be made
//! twice, that ends the request. A read may be asked of another.

use super::leader::Deadline;
use super::message::{self, Answer};
use crate::shard::{Made, ReadError, Shard, WriteError};
use cluster::consensus::LogIndex;
use cluster::peer::{AskError, Class, Peer, SendError, Unknown};
use cluster::{GroupId, HostId};
use model::read::Page;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked whether a node that is supported no more is alive by its own promise.
const LIFE_CHECK_INTERVAL: Duration = Duration::from_millis(20);

impl Shard {
    /// Asks another node for a write. Not sent and refused are as good as not leading: it was not
    /// made, and another may be asked.
    pub(super) async fn ask_write(
        &self,
        peer: Peer,
        bytes: &[u8],
        time_left: Duration,
    ) -> Answer<Made, WriteError> {
        match self.peers.ask(peer, Class::Bulk, &[bytes], time_left).await {
            Ok(answer) => Answer::from_bytes(&answer).unwrap_or_else(|error| {
                let reason = format!("the answer of the leader cannot be read: {error}");
                Answer::Failed(WriteError::Unknown(reason))
            }),
            Err(AskError::NotSent(SendError::TooLarge)) => {
                let reason = "the write is too large to be sent to another node".to_owned();
                Answer::Failed(WriteError::Invalid(reason))
            }
            Err(AskError::NotSent(_) | AskError::Refused) => Answer::NotLeader { hint: None },
            Err(AskError::Unknown(_)) => Answer::Failed(WriteError::timed_out()),
        }
    }

    /// What a node says, unless it is taken for dead before: another may say what a frozen one does
    /// not.
    ///
    /// This node's support of it ends with a notice. What it has promised may last a little longer, and
    /// until then requests go to it; of those the end of its promise has to be looked for.
    pub(crate) async fn while_it_lives<T>(
        &self,
        node: HostId,
        asking: impl Future<Output = T>,
    ) -> Option<T> {
        let mut asking = pin!(asking);
        let has_promised = self.is_live(node);
        loop {
            let is_looked_at = has_promised && !self.supports(node);
            tokio::select! {
                biased;
                answer = &mut asking => return Some(answer),
                () = self.wait_for_withdrawal() => {
                    if !self.supports(node) {
                        return None;
                    }
                }
                () = self.shared.env.clock.sleep(LIFE_CHECK_INTERVAL), if is_looked_at => {
                    if !self.supports(node) && !self.is_live(node) {
                        return None;
                    }
                }
            }
        }
    }

    /// Asks another node for a page.
    pub(super) async fn ask_read(
        &self,
        peer: Peer,
        bytes: &[u8],
        time_left: Duration,
    ) -> Answer<Page, ReadError> {
        match self.peers.ask(peer, Class::Bulk, &[bytes], time_left).await {
            Ok(answer) => Answer::from_bytes(&answer).unwrap_or_else(|error| {
                let reason = format!("the answer of a replica cannot be read: {error}");
                Answer::Failed(ReadError::Storage(reason))
            }),
            Err(AskError::Unknown(Unknown::TimedOut)) => Answer::Failed(ReadError::TimedOut),
            Err(_) => Answer::NotLeader { hint: None },
        }
    }

    /// Whether a replica has applied an entry before the time is over.
    pub(crate) async fn has_applied(
        self: &Rc<Self>,
        peer: Peer,
        is_here: bool,
        group: GroupId,
        index: LogIndex,
        deadline: Deadline,
    ) -> bool {
        let time_left = deadline.time_left(self);
        if is_here {
            let applied = self.wait_until_applied_on(peer.shard, group, index);
            return tokio::time::timeout(time_left, applied).await.unwrap_or(false);
        }
        let bytes = message::applied_bytes(group, index);
        self.peers.ask(peer, Class::Urgent, &[&bytes], time_left).await.is_ok()
    }
}
