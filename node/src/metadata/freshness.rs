//! How far ahead this node knows the generations of CDC streams.
//!
//! A row of a log stands in a stream of the generation that operates at its time. So whoever places it
//! has to know every generation that starts by then; but a leader that is cut off from the node that
//! decides on the metadata, and still supported by a majority of its own groups' members, hears of no new
//! one. Its rows would stand in streams that no reader looks at any more.
//!
//! So a generation is announced [`LEAD_MIN`] ahead at least, and every node asks the leader of the
//! metadata every few seconds how far they have come, which that tells under its lease. What is announced
//! after a node has asked starts no earlier than that much later, by a clock that differs from the node's
//! by [`CLOCKS_DIFFER_MAX`] at most: it knows all that start before ([`KnownGenerations::reach`]), and
//! decides no write of a table with a log that may be placed later. Long before it has to refuse any, it
//! says that it is not fit to lead, and hands over what it leads to nodes that are
//! (`shard/homecoming.rs`).

use super::{DdlError, MetadataRequest};
use crate::shard::Shard;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How far ahead a generation is announced at least, where there are several nodes.
pub(super) const LEAD_MIN: Duration = Duration::from_mins(1);
/// How far the clocks of two nodes that may lead differ at most: each is within 5 s of most others.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(10);
/// How far ahead of its clock a leader places at most, and a bit.
const PLACED_AHEAD_MAX: Duration = Duration::from_secs(6);
/// How often a node asks.
const INTERVAL: Duration = Duration::from_secs(3);
/// A node that has heard nothing for so long says that it is not fit to lead.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// And after so long it hands over. All nodes have said by then whether they hear more.
const HANDED_OVER_AFTER: Duration = Duration::from_secs(25);

/// A node that has heard nothing for so long does not know all generations of the times that it may
/// place at.
const PLACES_FOR: Duration =
    LEAD_MIN.saturating_sub(CLOCKS_DIFFER_MAX).saturating_sub(PLACED_AHEAD_MAX);
const _: () = assert!(PLACES_FOR.as_secs() > HANDED_OVER_AFTER.as_secs() + 10);

/// What this node has heard, for all of its threads.
#[derive(Debug, Default)]
pub(crate) struct KnownGenerations {
    /// When it last asked what it was answered, by the monotonic clock; 0 before the first answer.
    asked_nanos: AtomicU64,
}

impl KnownGenerations {
    /// This node acts by all that was decided when it asked.
    pub(super) fn heard(&self, asked_nanos: u64) {
        self.asked_nanos.store(asked_nanos.max(1), Ordering::Relaxed);
    }

    /// Whether what is decided now is placed where all are known.
    #[inline]
    pub(crate) fn reach(&self, now_nanos: u64) -> bool {
        !self.is_silent_for(PLACES_FOR, now_nanos)
    }

    /// Whether this node has not heard lately.
    pub(crate) fn are_stale(&self, now_nanos: u64) -> bool {
        self.is_silent_for(STALE_AFTER, now_nanos)
    }

    /// Whether others that hear more are to lead.
    pub(crate) fn are_lost(&self, now_nanos: u64) -> bool {
        self.is_silent_for(HANDED_OVER_AFTER, now_nanos)
    }

    #[inline]
    fn is_silent_for(&self, time: Duration, now_nanos: u64) -> bool {
        let asked = self.asked_nanos.load(Ordering::Relaxed);
        asked == 0 || now_nanos.saturating_sub(asked) > time.as_nanos() as u64
    }
}

impl Shard {
    /// Asks for as long as the node runs; on shard 0.
    pub(crate) async fn keep_generations_known(self: Rc<Self>) {
        loop {
            self.ask_for_newest().await.ok();
            self.shared.env.clock.sleep(INTERVAL).await;
        }
    }

    /// Asks once how far the metadata have come, and waits until this node acts by what it was told.
    pub(super) async fn ask_for_newest(self: &Rc<Self>) -> Result<(), DdlError> {
        let asked_nanos = self.shared.env.clock.monotonic_nanos();
        let newest = self.change_metadata(MetadataRequest::Index).await?;
        self.wait_until_adopted(newest.index).await;
        self.shared.known_generations.heard(asked_nanos);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_hands_over_before_it_may_not_place() {
        let known = KnownGenerations::default();
        assert!(!known.reach(1) && known.are_lost(1), "it has not asked yet");
        known.heard(50_000_000_000);
        let after = |seconds: u64| 50_000_000_000 + seconds * 1_000_000_000;
        assert!(!known.are_stale(after(10)) && known.are_stale(after(11)));
        assert!(!known.are_lost(after(25)) && known.are_lost(after(26)));
        assert!(known.reach(after(44)) && !known.reach(after(45)));
    }
}
