//! The answer to a follower: what the ranges led here have logged since a time, as far as they are
//! closed.
//!
//! A question waits until there is something to say: a closed row, a closed time that the follower
//! waits for (since another shard has rows up to there), other ranges led here than before, or the end
//! of its patience. While rows are there that are not closed yet, the ranges are closed about every
//! millisecond; a log to which nobody writes costs a few questions a second.

use super::super::closing::ranges_on;
use super::super::{Message, Shard};
use crate::view::View;
use cluster::liveness::MonotonicNanos;
use cluster::peer::Peer;
use cluster::{GroupId, RangeIndex};
use model::{TableId, TimestampMicros};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most bytes of rows in an answer, but for the last microsecond's.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long a question waits at most.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Time between two looks at whether rows are closed.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Of a log that is read by its streams, since the tail does not reach back so far, no less than this
/// is read at a time, unless it is waited for.
const OLDER_STEP_MICROS: i64 = 20_000;

/// What somebody who follows logs asks of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailAsk {
    /// The log tables, all with one placement.
    pub tables: Vec<TableId>,
    /// The rows above this time, in microseconds.
    pub above: TimestampMicros,
    /// It is to be answered once all is closed up to here, rows or not.
    pub wanted: TimestampMicros,
    /// What is read from the log and not from memory may reach so much further than `above`.
    pub window_micros: i64,
    /// How long it may wait.
    pub wait: Duration,
}

/// What a shard knows of the logs that it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TailAnswer {
    /// The ranges it leads.
    pub ranges: RangeSet,
    /// Up to which time the rows are all there will ever be in those ranges.
    pub closed: TimestampMicros,
    /// `(length:u32le mutation)*`: rows of the log tables, in any order, as far as they are in the
    /// ranges; others may be among them.
    pub rows: Vec<u8>,
}

/// A set of ranges, a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(pub Vec<u8>);

impl RangeSet {
    pub(crate) fn contains(&self, range: RangeIndex) -> bool {
        let byte = self.0.get(range.0 as usize / 8);
        byte.is_some_and(|byte| byte >> (range.0 % 8) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, range: RangeIndex) {
        let at = range.0 as usize / 8;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (range.0 % 8);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// The ranges of a placement that lie on the shard, for as long as the view holds.
#[derive(Debug)]
pub(in super::super) struct TailRanges {
    view_index: u64,
    ranges: Rc<[(RangeIndex, GroupId)]>,
}

impl Shard {
    /// Follows logs for somebody; see the module.
    pub(crate) async fn serve_tail(self: &Rc<Self>, ask: &TailAsk) -> TailAnswer {
        self.state.borrow_mut().counters.log_questions += 1;
        let late_at = self.deadline_nanos(ask.wait.min(WAIT_MAX));
        let clock = &self.shared.env.clock;
        let mut led_first: Option<RangeSet> = None;
        loop {
            let is_late = clock.monotonic_nanos() >= late_at;
            let view = self.view();
            let Some(ranges) = self.tail_ranges(&view, ask) else {
                // Its metadata are behind the follower's, or a table is gone.
                clock.sleep_until(late_at).await;
                return TailAnswer { closed: ask.above, ..TailAnswer::default() };
            };
            let (led, closed) = self.close_for_tail(&ranges, ask);
            let is_moved = led_first.get_or_insert_with(|| led.clone()) != &led;
            let (complete_above, first) = {
                let tail = &self.state.borrow().tail;
                let first = tail.first_above(&ask.tables, ask.above);
                (tail.complete_above(&ask.tables), first)
            };
            let has_rows = first.is_some_and(|first| first <= closed);
            let is_ripe = is_late || is_moved || closed >= ask.wanted;
            if ask.above < complete_above {
                let is_far = closed.saturating_sub(ask.above) > OLDER_STEP_MICROS;
                if closed > ask.above && (is_ripe || is_far) {
                    return self.read_older(&view, ask, &ranges, (led, closed)).await;
                }
            } else if closed > ask.above && (has_rows || is_ripe) {
                let tail = &self.state.borrow().tail;
                let between = (ask.above, closed);
                let (rows, closed) = tail.rows_between(&ask.tables, between, ANSWER_BYTES_MAX);
                return TailAnswer { ranges: led, closed, rows };
            }
            if is_late || is_moved {
                return TailAnswer { ranges: led, closed: ask.above, rows: Vec::new() };
            }
            // What lies ahead of the clock is closed no sooner than its time, and what others may still
            // be late for no sooner than that is over.
            let next = first.unwrap_or(i64::MAX).min(ask.wanted);
            let next = if ask.above < complete_above { next.min(ask.above) } else { next };
            let ahead_micros = next.saturating_sub(clock.now_micros());
            let lateness_micros = self.state.borrow().closing.lateness_micros();
            let ripe_at = self.deadline_nanos(micros(ahead_micros.saturating_add(lateness_micros)));
            let look_at = ripe_at.max(self.deadline_nanos(LOOK_INTERVAL)).min(late_at);
            tokio::select! {
                biased;
                () = self.tail_news.notified(), if micros(ahead_micros) > LOOK_INTERVAL => {}
                () = clock.sleep_until(look_at) => {}
            }
        }
    }

    /// Closes the ranges that are led here, and keeps what is logged in them; which they are, and up
    /// to which time all of them are closed.
    fn close_for_tail(
        &self,
        ranges: &[(RangeIndex, GroupId)],
        ask: &TailAsk,
    ) -> (RangeSet, TimestampMicros) {
        let mut led = RangeSet::default();
        let mut closed = i64::MAX;
        for range in self.close_ranges(ranges) {
            led.insert(range.range);
            closed = closed.min(range.closed);
        }
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        if ask.tables.iter().any(|table| !state.tail.follows(*table)) {
            let placed = ranges.iter().map(|(_, group)| state.engine.placement(group.0).placed);
            let placed = placed.max().unwrap_or(i64::MIN);
            ask.tables.iter().for_each(|table| state.tail.follow(*table, now, placed));
        } else {
            ask.tables.iter().for_each(|table| state.tail.follow(*table, now, i64::MIN));
        }
        if led.is_empty() { (led, ask.above) } else { (led, closed) }
    }

    /// The ranges of the tables that lie on this shard; nothing if a table is not known.
    fn tail_ranges(&self, view: &View, ask: &TailAsk) -> Option<Rc<[(RangeIndex, GroupId)]>> {
        let first = *ask.tables.first()?;
        if !ask.tables.iter().all(|table| view.placed_table(*table).is_some_and(|t| !t.is_virtual))
        {
            return None;
        }
        let mut known = self.tail_ranges.borrow_mut();
        if let Some(known) = known.get(&first).filter(|known| known.view_index == view.index()) {
            return Some(known.ranges.clone());
        }
        known.retain(|_, known| known.view_index == view.index());
        let placement = &view.placed_table(first)?.placement;
        let ranges: Rc<[_]> = ranges_on(view, placement, self.index).into();
        known.insert(first, TailRanges { view_index: view.index(), ranges: ranges.clone() });
        Some(ranges)
    }

    /// Sends what comes of [`Shard::follow_on`].
    pub(in super::super) async fn answer_follower(
        self: Rc<Self>,
        peer: Peer,
        ask: Box<TailAsk>,
        reply: oneshot::Sender<Option<TailAnswer>>,
    ) {
        reply.send(self.follow_on(peer, *ask).await).ok();
    }

    /// Follows logs for somebody on any shard of this node or, over this one, of another node; nothing
    /// if it does not answer.
    pub(crate) async fn follow_on(self: &Rc<Self>, peer: Peer, ask: TailAsk) -> Option<TailAnswer> {
        if peer.host_id != self.shared.host_id {
            return self.ask_tail(peer, &ask).await;
        }
        if peer.shard == self.index {
            return Some(self.serve_tail(&ask).await);
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::Tail(peer, Box::new(ask), reply);
        self.shared.shards.get(usize::from(peer.shard))?.try_send(message).ok()?;
        answer.await.ok().flatten()
    }

    /// Tells those who wait for rows that there are some.
    pub(in super::super) fn tell_tail_news(&self) {
        if self.state.borrow_mut().tail.take_news() {
            self.tail_news.notify_waiters();
        }
    }
}

/// That long, if it is not over.
fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_has_what_was_put_in() {
        let mut set = RangeSet::default();
        assert!(set.is_empty());
        for range in [0, 7, 8, 300] {
            set.insert(RangeIndex(range));
        }
        let found: Vec<u32> = (0..400).filter(|range| set.contains(RangeIndex(*range))).collect();
        assert_eq!(found, [0, 7, 8, 300]);
    }
}
