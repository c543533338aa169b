//! The end of a plan is found by asking: every node says which groups it has led to the members that
//! the plan wants, and when all were named, the plan is finished.
//!
//! A group that has the wanted members keeps them while the plan stands, so what is heard at different
//! moments may be put together, and of nodes that die meanwhile.

use crate::internode::AskKind;
use crate::metadata::{Command, PlanRecord};
use crate::remote::Deadline;
use crate::shard::{Message, MovesReport, Shard};
use cluster::HostId;
use cluster::peer::{Class, Peer, Responder};
use env::planted::{Bug, is_planted};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often nodes are asked.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long a node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// How long the command that ends a plan may take.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

impl Shard {
    /// Ends plans that are carried out, as long as this node leads the metadata; on shard 0.
    pub(crate) async fn run_plans(self: Rc<Self>) {
        // The groups of the plan of that index that are known to be done.
        let (mut since, mut done) = (0, BTreeSet::<u64>::new());
        loop {
            self.shared.env.clock.sleep(INTERVAL).await;
            let view = self.view();
            let Some(plan) = view.metadata.plan.clone() else { continue };
            if !self.leads_metadata() {
                continue;
            }
            if since != plan.since {
                since = plan.since;
                if !is_planted(Bug::RingChangesUnfenced) {
                    done.clear();
                }
            }
            done.extend(self.ask_all_moves(&view, since).await);
            let is_done = view.moving_groups().all(|group| done.contains(&group.0))
                || is_planted(Bug::RingChangesWithoutMoving);
            if is_done && self.view().index() == view.index() {
                self.finish_plan(&plan).await;
            }
        }
    }

    /// The groups that any node has led to the members that the plan of that index wants.
    async fn ask_all_moves(self: &Rc<Self>, view: &crate::view::View, since: u64) -> BTreeSet<u64> {
        let mut asking = tokio::task::JoinSet::new();
        for node in view.ring.nodes() {
            let (shard, host_id) = (self.clone(), node.host_id);
            asking.spawn_local(async move {
                if host_id == shard.shared.host_id {
                    own_moves(&shard).await
                } else {
                    ask_moves(&shard, host_id).await
                }
            });
        }
        let mut all = MovesReport { since, ..MovesReport::default() };
        while let Some(report) = asking.join_next().await {
            if let Ok(Some(report)) = report {
                all.add(report);
            }
        }
        all.done
    }

    async fn finish_plan(self: &Rc<Self>, plan: &PlanRecord) {
        let deadline = Deadline::after(self, FINISH_TIME_MAX);
        let turn = tokio::time::timeout(deadline.time_left(self), self.ddl_turn.lock()).await;
        let Ok(_turn) = turn else { return };
        let is_newest = self.decides_metadata(deadline).await
            && self.view().metadata.plan.as_ref().is_some_and(|newest| newest.since == plan.since);
        if !is_newest {
            return;
        }
        let command = Command::FinishPlan { since: plan.since };
        match self.propose_command(&command, deadline).await {
            Ok(index) => {
                tracing::info!("the ring has changed: {plan}");
                drop(self.wait_for_nodes(index, deadline).await);
            }
            // It is tried again, here or by another leader.
            Err(error) => tracing::warn!("the change of the ring is not finished yet: {error}"),
        }
    }
}

/// How far the groups have come that this node leads; nothing when a shard has too much to do.
pub(crate) async fn own_moves(shard: &Shard) -> Option<MovesReport> {
    let since = shard.view().metadata.plan.as_ref()?.since;
    let mut all = MovesReport { since, ..MovesReport::default() };
    for other in &shard.shared.shards {
        let (reply, report) = oneshot::channel();
        other.try_send(Message::Moves(reply)).ok()?;
        all.add(report.await.ok()?);
    }
    Some(all)
}

/// How far another node's groups have come; nothing when it does not say.
async fn ask_moves(shard: &Shard, host_id: HostId) -> Option<MovesReport> {
    let peer = Peer { host_id, shard: 0 };
    let kind = [AskKind::Moves as u8];
    let answer = shard.peers.ask(peer, Class::Bulk, &[&kind], ANSWER_TIME_MAX).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

/// Answers another node.
pub(crate) async fn answer_moves(shard: Rc<Shard>, responder: Responder) {
    let Some(report) = own_moves(&shard).await else { return responder.refuse() };
    let bytes = serde_json::to_vec(&report).expect("numbers and texts are JSON");
    // Whoever asked waits no longer than it said.
    responder.answer(Class::Bulk, &[&bytes]).ok();
}
