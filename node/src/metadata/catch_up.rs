//! A node that starts hears how far the metadata have come before it lets clients in.
//!
//! Its snapshot may lack changes that were acknowledged: of the last entries in its log only a
//! leader can say that they are committed, and a node that was away has not even those. So it asks
//! the leader of the metadata group for the index of the newest state, which the leader tells under
//! its lease, and waits until all its shards act by that.
//!
//! Where too few of the nodes that decide live there is no leader. A node that has found so for a
//! while serves by what it knows, which is enough for reads at ONE, and goes on asking.

use crate::node::Shared;
use crate::remote::Deadline;
use crate::shard::Shard;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// How long too few of the nodes that decide have to be alive until this one serves without them.
/// Those that were started with it may have more to read from their disks.
const NO_MAJORITY_TIME: Duration = Duration::from_secs(10);
/// How long clients wait for the metadata at most, whatever keeps a living majority from telling.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);
/// How often it is said what clients wait for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait before the leader is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a node that has started knows of the newest metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing yet.
    Asking,
    /// Too few of the nodes that decide live for anybody to know.
    NoMajority { alive: u32, required: u32 },
    /// All shards act by what was acknowledged before the node was started.
    CaughtUp,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Asking => f.write_str(
                "the node has not heard yet how far the schema and the ring have come since it was \
                 started",
            ),
            Standing::NoMajority { alive, required } => write!(
                f,
                "the schema and the ring are those of before the node was started: of the nodes \
                 that decide on them {alive} live, and {required} are needed"
            ),
            Standing::CaughtUp => {
                f.write_str("the node has caught up with the schema and the ring")
            }
        }
    }
}

impl Shared {
    /// Returns when clients may be let in.
    pub(crate) async fn wait_for_metadata(&self) {
        let mut standing = self.standing.subscribe();
        tokio::select! {
            // The sender lives as long as `self`.
            _ = standing.wait_for(|standing| *standing != Standing::Asking) => {}
            () = self.env.clock.sleep(CATCH_UP_TIME_MAX) => {}
        }
        let standing = *self.standing.borrow();
        if standing != Standing::CaughtUp {
            tracing::warn!("clients are let in, and may miss the newest tables: {standing}");
        }
    }
}

impl Shard {
    /// Asks until the leader has told how far the metadata are, and this node is there; on shard 0.
    pub(crate) async fn catch_up(self: Rc<Self>) {
        let mut patience = Deadline::after(&self, NO_MAJORITY_TIME);
        loop {
            let catching_up = self.ask_for_newest();
            let why = match tokio::time::timeout(REPORT_INTERVAL, catching_up).await {
                Ok(Ok(())) => {
                    self.shared.standing.send_replace(Standing::CaughtUp);
                    return;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "its leader has not answered, or what it told has not come".to_owned(),
            };
            let (alive, required) = self.metadata_voters();
            tracing::info!(
                "waiting for the newest schema and ring, by the metadata of index {}, with {alive} \
                 of the nodes alive that decide, of {required} needed, led by {:x?}: {why}",
                self.view().index(),
                self.metadata_leader().map(|host| host.0)
            );
            if alive >= required {
                patience = Deadline::after(&self, NO_MAJORITY_TIME);
            } else if patience.time_left(&self).is_zero() {
                self.shared.standing.send_replace(Standing::NoMajority { alive, required });
            }
            self.shared.env.clock.sleep(RETRY_PAUSE).await;
        }
    }
}
