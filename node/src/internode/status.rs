//! How a node stands, as it tells others.

use super::AskKind;
use crate::ring_change::own_moves;
use crate::shard::{Message, MovesReport, Shard, StandingStill};
use cluster::HostId;
use cluster::peer::{Class, Peer, Peers, Responder};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long another node may take to say how it stands.
pub(crate) const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    /// Bytes of its table files.
    pub load_bytes: u64,
    /// How far it knows the metadata.
    pub metadata_index: u64,
    /// How far the groups have come that it has led, while the ring changes.
    #[serde(default)]
    pub moves: Option<MovesReport>,
    /// What its clock shows, in microseconds since 1970.
    #[serde(default)]
    pub clock_micros: Option<i64>,
    /// Whether it is not to lead anything: its clock is off, it hears nothing of the metadata, or it
    /// cannot write.
    #[serde(default)]
    pub is_unfit: bool,
    /// Groups that were sent an entry which it can never take.
    #[serde(default)]
    pub standing_still: StandingStill,
}

/// How this node stands; nothing when a shard has too much to do, or is going down.
pub(crate) async fn own_status(shard: &Shard) -> Option<NodeStatus> {
    let mut load_bytes = 0;
    let mut standing_still = StandingStill::default();
    for other in &shard.shared.shards {
        let (reply, report) = oneshot::channel();
        other.try_send(Message::Storage(reply)).ok()?;
        let report = report.await.ok()?;
        standing_still.add(report.standing_still);
        load_bytes += report.tables.iter().map(|(_, table)| table.file_bytes).sum::<u64>();
    }
    let moves = own_moves(shard).await;
    let (metadata_index, clock) = (shard.view().index(), shard.shared.env.clock.now_micros());
    let now_nanos = shard.shared.env.clock.monotonic_nanos();
    let is_unfit = shard.shared.wall_clock.ahead_micros().is_some()
        || shard.shared.known_generations.are_stale(now_nanos)
        || shard.shared.write_failure.reason().is_some();
    let clock_micros = Some(clock);
    Some(NodeStatus { load_bytes, metadata_index, moves, clock_micros, is_unfit, standing_still })
}

/// How another node stands; nothing when it does not say.
pub(crate) async fn ask_status(
    peers: &Peers,
    host_id: HostId,
    time_max: Duration,
) -> Option<NodeStatus> {
    let peer = Peer { host_id, shard: 0 };
    let kind = [AskKind::Status as u8];
    let answer = peers.ask(peer, Class::Urgent, &[&kind], time_max).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

/// Answers another node.
pub(super) async fn answer(shard: Rc<Shard>, responder: Responder) {
    let Some(status) = own_status(&shard).await else { return responder.refuse() };
    let bytes = serde_json::to_vec(&status).expect("numbers are JSON");
    // Whoever asked waits no longer than it said.
    responder.answer(Class::Bulk, &[&bytes]).ok();
}
