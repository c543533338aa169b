//! Tables that were dropped, until their feeds have told of them: the leader's part.
//!
//! What happens to such a table is in `metadata::retired`. Here the leader of the metadata finds out
//! what that waits for:
//!
//! - *The end of the log.* When every node that lives acts by the schema without the table, nobody
//!   writes to it any more. Then those who lead its ranges are asked up to which time anything was
//!   placed, what is undecided included; whatever was acknowledged before lies at or below. A range
//!   without a leader is waited for.
//! - *Who has passed it.* An owner says how far its feed is closed, and says so at once when it has
//!   passed the end of a log (`reports`).
//!
//! All of it can be done twice, so a leader that dies leaves nothing behind.

use crate::metadata::{Command, Metadata, RetiredEnd, RetiredTable};
use crate::remote::Deadline;
use crate::shard::{Change, Shard, WriteRequest};
use cluster::GroupId;
use std::rc::Rc;
use std::time::Duration;

/// How often it is looked for such tables.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long nodes may take to act by the schema, before it is looked again who lives.
const ADOPTION_TIME_MAX: Duration = Duration::from_secs(2);

impl Shard {
    /// Does what tables wait for that were dropped, while this node leads the metadata; on shard 0, for
    /// as long as the node runs.
    pub(crate) async fn run_retirements(self: Rc<Self>) {
        loop {
            self.shared.env.clock.beat(INTERVAL).await;
            if self.leads_metadata() {
                self.find_ends().await;
                let leaves = self.with_metadata(Metadata::feeds_to_leave);
                for leave in &leaves {
                    tracing::info!("changefeed '{}' has told all of a dropped table", leave.name);
                }
                if !leaves.is_empty() {
                    self.note_retired(&Command::LeaveTables { leaves }).await;
                }
            }
        }
    }

    /// Finds the ends of logs that have none yet.
    async fn find_ends(self: &Rc<Self>) {
        let is_open = |table: &&RetiredTable| table.ends_at_micros.is_none();
        let open: Vec<RetiredTable> = self
            .with_metadata(|metadata| metadata.retired.iter().filter(is_open).cloned().collect());
        let mut ends = Vec::new();
        for RetiredTable { base, log, dropped_at, .. } in open {
            let deadline = Deadline::after(self, ADOPTION_TIME_MAX);
            if !self.wait_for_nodes(dropped_at, deadline).await.is_empty() {
                continue;
            }
            let placed = self.placed_between(log.id, (i64::MIN, i64::MAX)).await;
            ends.extend(placed.map(|end| RetiredEnd { table: base.id, ends_at_micros: end }));
        }
        if !ends.is_empty() {
            self.note_retired(&Command::EndRetired { ends }).await;
        }
    }

    async fn note_retired(self: &Rc<Self>, command: &Command) {
        let change = Change::Metadata(command.to_bytes());
        if let Err(error) = self.write(WriteRequest::new(GroupId::METADATA, change)).await {
            tracing::debug!("how feeds stand with a dropped table is not noted yet: {error}");
        }
    }
}
