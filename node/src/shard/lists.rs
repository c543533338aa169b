//! Changes of lists by index or value that must wait, because a logged batch has looked.
//!
//! Such a change looks at the list and then writes cells. For a write of one range both are one
//! step. A logged batch over several ranges looks first and is decided later; from the look to its
//! end it *holds* the partitions, and other such changes of them wait. Writes that do not look at
//! lists go on: which of them wins is a matter of timestamps. A hold ends when its [`ListHold`] is
//! dropped, on whatever thread.

use super::{Message, Shard, WriteError, WriteRequest};
use model::TableId;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// A partition: its table, and its key.
pub(crate) type PartitionId = (TableId, Vec<u8>);

/// How long to wait until the batches of before the start are looked for again.
const START_PAUSE: Duration = Duration::from_millis(5);

/// The partitions of one shard that batches hold.
#[derive(Debug, Default)]
pub(super) struct ListHolds {
    partitions: RefCell<BTreeSet<PartitionId>>,
    released: Notify,
}

/// Holds some partitions as long as it lives.
#[derive(Debug)]
pub(crate) struct ListHold {
    _end: oneshot::Sender<()>,
}

impl Shard {
    /// Whether a write has to wait before it may look at lists.
    pub(super) fn must_wait_for_lists(&self, request: &WriteRequest) -> bool {
        let writes = request.change.writes().iter();
        let mut lists = writes.filter(|write| !write.list_operations.is_empty()).peekable();
        if lists.peek().is_none() {
            return false;
        }
        let held = self.list_holds.partitions.borrow();
        self.has_old_batches()
            || !held.is_empty()
                && lists.any(|write| held.contains(&(write.table.id, write.key().to_vec())))
    }

    /// Returns when another look at the holds is worth it.
    pub(super) async fn wait_for_lists(&self) {
        if self.has_old_batches() {
            self.shared.env.clock.sleep(START_PAUSE).await;
        } else {
            self.list_holds.released.notified().await;
        }
    }

    /// Whether a batch of before the start may be unfinished.
    fn has_old_batches(&self) -> bool {
        self.shared.shards_with_old_batches.load(Ordering::Acquire) > 0
    }

    /// Holds partitions whose leader is a shard of this node.
    pub(crate) async fn hold_on(
        self: &Rc<Self>,
        shard: u16,
        partitions: Vec<PartitionId>,
    ) -> Result<ListHold, WriteError> {
        let (reply, answer) = oneshot::channel();
        if shard == self.index {
            tokio::task::spawn_local(self.clone().hold_lists_here(partitions, reply));
        } else {
            let message = Message::HoldLists(partitions, reply);
            self.shared.shards[usize::from(shard)].try_send(message).map_err(|_| {
                WriteError::Overloaded("the shard has too many requests waiting".to_owned())
            })?;
        }
        answer.await.map_err(|_| WriteError::Overloaded("the node is going down".to_owned()))
    }

    /// Waits until nobody else holds the partitions, holds them, and lets them go in the end.
    pub(super) async fn hold_lists_here(
        self: Rc<Self>,
        partitions: Vec<PartitionId>,
        mut reply: oneshot::Sender<ListHold>,
    ) {
        let holds = &self.list_holds;
        let is_held = |partition| holds.partitions.borrow().contains(partition);
        while self.has_old_batches() || partitions.iter().any(is_held) {
            tokio::select! {
                () = self.wait_for_lists() => {}
                () = reply.closed() => return,
            }
        }
        holds.partitions.borrow_mut().extend(partitions.iter().cloned());
        let (end, ended) = oneshot::channel();
        // Whether the hold is dropped there or here, the other side hears of it.
        drop(reply.send(ListHold { _end: end }));
        drop(ended.await);
        for partition in &partitions {
            holds.partitions.borrow_mut().remove(partition);
        }
        holds.released.notify_waiters();
    }
}
