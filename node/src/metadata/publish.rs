//! Views follow the log: whenever a command of the metadata group was applied here, whoever
//! proposed it, the node's shards get a view of the new state, and its clients the events of the
//! step.
//!
//! Several commands that were applied at once make one view. A node *has adopted* an index when all
//! of its shards act by a view of that index or a later one; whoever changes the metadata waits
//! for that on every live node ([`Shard::wait_until_adopted`]).

use super::events::events_between;
use crate::shard::{Message, Shard};
use crate::view::View;
use cql::wire::Event;
use env::tasks::queue::{SendError, Sender};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How long to wait for room in the queue of a shard that has too much to do.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// How long to wait before it is tried again to save the metadata.
const SAVE_PAUSE: Duration = Duration::from_millis(20);

/// How far the metadata has come on this node; of use on shard 0.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Told when something was applied that is not published.
    work: Notify,
    /// The index of the newest view that was made.
    published: Cell<u64>,
    /// The index that all shards have adopted.
    adopted: Cell<u64>,
    /// Told when that has risen.
    risen: Notify,
}

impl Publication {
    /// All shards start by the view of that index.
    pub(crate) fn new(index: u64) -> Publication {
        Publication {
            work: Notify::new(),
            published: Cell::new(index),
            adopted: Cell::new(index),
            risen: Notify::new(),
        }
    }

    /// The metadata is applied up to that index.
    pub(crate) fn applied(&self, index: u64) {
        if index > self.published.get() {
            self.work.notify_one();
        }
    }
}

impl Shard {
    /// Publishes what was applied, for as long as the node runs; on shard 0.
    pub(crate) async fn run_publication(self: Rc<Self>) {
        loop {
            self.publication.work.notified().await;
            self.publish().await;
        }
    }

    /// Returns when all shards of this node act by the metadata of that index; on shard 0.
    pub(crate) async fn wait_until_adopted(&self, index: u64) {
        while self.publication.adopted.get() < index {
            self.publication.risen.notified().await;
        }
    }

    /// Makes the newest metadata everybody's view, and returns when every shard acts by it.
    async fn publish(&self) {
        let metadata = self.applied_metadata().expect("shard 0 holds the metadata group");
        let index = metadata.index;
        let views = self.shared.views();
        let former = views.newest();
        if index <= former.index() {
            return;
        }
        if metadata.plan != former.metadata.plan {
            self.keep_plan(index).await;
        }
        let events: Arc<[Event]> = events_between(&former.metadata, &metadata).into();
        self.publication.published.set(index);
        match View::new(metadata, &self.shared.system_keyspaces, self.shared.host_id) {
            Ok(view) => {
                views.publish(Arc::new(view));
                self.shared.feeds.changed.notify_one();
            }
            Err(error) => {
                tracing::error!("the metadata of index {index} makes no ring: {error}");
                return;
            }
        }
        let mut answers = Vec::new();
        for shard in &self.shared.shards {
            let (reply, answer) = oneshot::channel();
            self.send_surely(shard, Message::ViewChanged(events.clone(), reply)).await;
            answers.push(answer);
        }
        for answer in answers {
            // A shard that is stopping does not answer.
            answer.await.ok();
        }
        self.publication.adopted.set(index);
        self.publication.risen.notify_waiters();
    }

    /// Replicas that a plan brings are made only when the plan is durable here: a start that finds
    /// one of them in a log has to know that it belongs here, or it would take it for one that went
    /// (`shard/departures.rs`).
    async fn keep_plan(&self, index: u64) {
        while !self.has_saved_metadata(index) {
            self.save_metadata(false).await;
            if !self.has_saved_metadata(index) {
                self.shared.env.clock.sleep(SAVE_PAUSE).await;
            }
        }
    }

    /// Sends to another shard, however much it has to do; nothing if it has stopped.
    pub(crate) async fn send_surely(&self, shard: &Sender<Message>, mut message: Message) {
        while let Err(SendError::Full(back)) = shard.try_send(message) {
            message = back;
            self.shared.env.clock.sleep(QUEUE_PAUSE).await;
        }
    }
}
