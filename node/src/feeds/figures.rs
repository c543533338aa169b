//! How changefeeds stand this moment.
//!
//! A feed's position is saved four times a second at most, and time that passes without changes every
//! ten seconds. Who wants to know more asks the nodes that deliver: `system_views.changefeeds` does,
//! when somebody reads it, so that nothing is written for readers that there may not be.

use crate::internode::AskKind;
use crate::metadata::{FeedRecord, Progress};
use crate::shard::Shard;
use cluster::HostId;
use cluster::peer::{Class, Peer, Responder};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long another node may take to say how its feeds stand; then what is saved is told.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// How a feed stands, as the node says that delivers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Under which it is delivered.
    pub epoch: u64,
    /// What the metadata says a moment later.
    pub progress: Progress,
}

/// By the feeds' names.
pub(super) type FiguresOfFeeds = BTreeMap<Arc<str>, Figures>;

/// How the given feeds stand, as those say that deliver them and answer in time.
pub(crate) async fn figures_of_cluster(shard: &Rc<Shard>, feeds: &[FeedRecord]) -> FiguresOfFeeds {
    let here = shard.shared.host_id;
    let owners: BTreeSet<u128> = feeds.iter().filter_map(|feed| feed.owner).collect();
    let mut asked = JoinSet::new();
    for owner in owners.into_iter().map(HostId).filter(|owner| *owner != here) {
        let shard = shard.clone();
        asked.spawn_local(async move { ask_figures(&shard, owner).await });
    }
    let mut figures = shard.shared.feeds.figures();
    while let Some(told) = asked.join_next().await {
        // A feed is delivered by one node under an epoch; of two that tell of it one is behind.
        for (name, told) in told.ok().flatten().unwrap_or_default() {
            let is_news = figures.get(&name).is_none_or(|known| known.epoch < told.epoch);
            if is_news {
                figures.insert(name, told);
            }
        }
    }
    figures
}

/// How another node's feeds stand; nothing when it does not say.
async fn ask_figures(shard: &Rc<Shard>, host_id: HostId) -> Option<FiguresOfFeeds> {
    let (kind, peer) = ([AskKind::Feeds as u8], Peer { host_id, shard: 0 });
    let asking = shard.peers.ask(peer, Class::Urgent, &[&kind], ANSWER_TIME_MAX);
    let answer = shard.while_it_lives(host_id, asking).await?.ok()?;
    serde_json::from_slice(&answer).ok()
}

/// Answers another node.
pub(crate) fn answer_figures(shard: &Shard, responder: Responder) {
    let figures = shard.shared.feeds.figures();
    let bytes = serde_json::to_vec(&figures).expect("names, numbers and texts are JSON");
    // Whoever asked waits no longer than it said.
    responder.answer(Class::Bulk, &[&bytes]).ok();
}
