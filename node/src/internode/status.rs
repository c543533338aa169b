//! How a node stands, for whoever shows the cluster.

use crate::shard::{Message, Shard};
use cluster::peer::{Class, Responder};
use serde::Serialize;
use std::rc::Rc;
use tokio::sync::oneshot;

/// What a node says of itself.
#[derive(Debug, Serialize)]
struct NodeStatus {
    /// Bytes of its table files.
    load_bytes: u64,
    /// How far it knows the metadata.
    metadata_index: u64,
}

/// Answers another node.
pub(super) async fn answer(shard: Rc<Shard>, responder: Responder) {
    let mut load_bytes = 0;
    for other in &shard.shared.shards {
        let (reply, report) = oneshot::channel();
        if other.try_send(Message::Storage(reply)).is_err() {
            return responder.refuse();
        }
        let Ok(report) = report.await else { return };
        load_bytes += report.tables.iter().map(|(_, table)| table.file_bytes).sum::<u64>();
    }
    let status = NodeStatus { load_bytes, metadata_index: shard.view().index() };
    let bytes = serde_json::to_vec(&status).expect("numbers are JSON");
    // Whoever asked waits no longer than it said.
    responder.answer(Class::Bulk, &[&bytes]).ok();
}
