//! Closing time in the ranges that this shard leads, for whoever reads it.
//!
//! Every entry closes time, five seconds behind the clock, which costs nothing and is all that an
//! unread range does. A range is *watched* for a few seconds after its closed time was asked for.
//! Then its entries close the time much nearer to the clock ([`Lateness`]), and whenever it is asked
//! for it is closed between entries as well ([`ShardState::close`]).
//!
//! The rules are those of `docs/consensus.md`, 31 to 34; the core that keeps them, and whose model is
//! checked, is [`ClosedTime`]. Here a leader alone is asked: followers are told nothing between
//! entries. What its successor has to respect is in the log: a watched range reserves a second ahead
//! by an entry of its own ([`Change::Reservation`]), closes no further than what is reserved in an
//! applied entry, and who leads next begins above all reservations in its log. With one replica the
//! successor is the same node after a restart. An idle watched range so costs an entry in 0.7 s.

use super::decide::CLOSED_TRAILS_MICROS;
use super::lateness::Lateness;
use super::state::ShardState;
use super::write::{Change, Waiter, WriteRequest};
use super::{Message, Shard};
use crate::view::View;
use cluster::consensus::Term;
use cluster::leadership::{ClosedMicros, ClosedTime};
use cluster::liveness::MonotonicNanos;
use cluster::replica::LogEnds;
use cluster::{GroupId, Placement, RangeIndex};
use env::Clock;
use model::{IdMap, TableId, TimestampMicros};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a range stays watched after it was last asked for.
const WATCH_NANOS: u64 = 5_000_000_000;
/// When less than this is left of what is reserved, more is.
const RESERVED_AHEAD_MICROS: i64 = 300_000;
/// How long the first to watch a range waits for it to be closed near the clock.
const FIRST_CLOSE_WAIT: Duration = Duration::from_millis(200);

/// Which ranges are watched, and how closely they follow the clock.
#[derive(Debug, Default)]
pub(super) struct Closing {
    watched: IdMap<GroupId, Watched>,
    lateness: Lateness,
}

#[derive(Debug)]
struct Watched {
    until: MonotonicNanos,
    /// Of this member as the leader of a term.
    closed: Option<(Term, ClosedTime)>,
}

/// How far a range of a table's log is closed by the shard that leads it, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClosedRange {
    pub range: RangeIndex,
    pub closed: ClosedMicros,
    /// Nothing was placed above it when this was said, by whoever led.
    pub placed: TimestampMicros,
}

impl Closing {
    /// How far behind the clock entries of a group close.
    pub(super) fn trails_micros(&self, group: GroupId) -> i64 {
        if self.is_watched(group) { self.lateness.micros() } else { CLOSED_TRAILS_MICROS }
    }

    /// How far behind the clock watched ranges are closed.
    pub(super) fn lateness_micros(&self) -> i64 {
        self.lateness.micros()
    }

    pub(super) fn is_watched(&self, group: GroupId) -> bool {
        !self.watched.is_empty() && self.watched.contains_key(&group)
    }

    /// A write to a watched group arrived so many microseconds after its own timestamp.
    pub(super) fn arrived(&mut self, late_micros: i64) {
        self.lateness.arrived(late_micros);
    }

    /// Forgets who has not been asked for lately; once a second.
    pub(super) fn second_passed(&mut self, now: MonotonicNanos) {
        self.watched.retain(|_, watched| watched.until > now);
        self.lateness.second_passed();
    }
}

impl ShardState {
    /// Somebody wants to know how far a group is closed: closes it as near to the clock as may be,
    /// and says what may be told of it, and what was placed. Nothing if this member does not lead.
    ///
    /// All that lies at or below the time is applied here, and nothing will ever be placed there.
    pub(super) fn close(
        &mut self,
        group: GroupId,
        (wall, now): (i64, MonotonicNanos),
        clock: &Clock,
    ) -> Option<(ClosedMicros, TimestampMicros)> {
        let LogEnds { term, applied, last } = self.replicas.ends_if_deciding(group)?;
        let (told, mut times) = (self.engine.placement(group.0), self.leader_times(group));
        let until = MonotonicNanos(now.0.saturating_add(WATCH_NANOS));
        let watched = self.closing.watched.entry(group).or_insert(Watched { until, closed: None });
        watched.until = until;
        if watched.closed.as_ref().is_none_or(|(of, _)| *of != term) {
            let closed = ClosedTime::recover(told.closed, told.reserved, Vec::new());
            watched.closed = Some((term, closed));
        }
        let (_, closed) = watched.closed.as_mut()?;
        closed.learned(applied, told.closed, applied);
        closed.applied(applied);
        closed.close_by_entry(times.placement.closed);
        let wanted = wall.saturating_sub(self.closing.lateness.micros());
        let beat = closed.close_by_beat(wanted);
        closed.learned(last, beat, applied);
        times.placement.closed = times.placement.closed.max(closed.floor());
        let believed = closed.believed();
        let ahead = wanted.saturating_add(RESERVED_AHEAD_MICROS);
        let reservation = closed.needs_reservation(ahead).then(|| closed.reservation(wanted));
        self.times.insert(group, times);
        if let Some(reserved) = reservation {
            self.reserve(group, reserved, wall, clock);
        }
        Some((believed, times.placement.placed))
    }

    /// Proposes an entry that reserves a time. If the log does not take it, the next call tries
    /// again; meanwhile the group is closed no further.
    fn reserve(&mut self, group: GroupId, reserved: i64, wall: i64, clock: &Clock) {
        let Some(view) = self.adopted.clone() else { return };
        let mut request = WriteRequest::new(group, Change::Reservation(reserved));
        let Ok((Some(proposal), _)) = self.decide(&view, &mut request, wall, clock) else { return };
        let now = MonotonicNanos(clock.monotonic_nanos());
        let (payload, partitions) = (proposal.payload, proposal.partitions);
        let proposed = self.with_replicas(now, |replicas, local| {
            replicas.propose(group, payload, partitions, || Waiter::Nobody, local)
        });
        let Ok(index) = proposed else { return };
        self.times.insert(group, proposal.times);
        let watched = self.closing.watched.get_mut(&group);
        if let Some((_, closed)) = watched.and_then(|watched| watched.closed.as_mut()) {
            closed.appended(index, reserved);
        }
    }
}

/// The ranges of a placement whose replicas this node may lead, by the ring as it is or shall be, on a shard, with their groups.
pub(super) fn ranges_on(
    view: &View,
    placement: &Placement,
    shard: u16,
) -> Vec<(RangeIndex, GroupId)> {
    let is_here = |range: &RangeIndex| {
        view.shard_on(view.local, *range) == shard && placement.all(*range).contains(&view.local)
    };
    let ranges = view.ranges.iter().filter(is_here);
    ranges.map(|range| (range, placement.group(range))).collect()
}

impl Shard {
    /// How far the ranges of a table are closed that this shard leads, in the order of the ring.
    pub(crate) async fn closed_ranges(self: &Rc<Self>, table: TableId) -> Vec<ClosedRange> {
        let view = self.view();
        let Some(table) = view.placed_table(table).filter(|table| !table.is_virtual) else {
            return Vec::new();
        };
        let ranges = ranges_on(&view, &table.placement, self.index);
        let clock = &self.shared.env.clock;
        let (asked_at, late_at) = (clock.now_micros(), self.deadline_nanos(FIRST_CLOSE_WAIT));
        loop {
            let closed = self.close_ranges(&ranges);
            let near = asked_at.saturating_sub(CLOSED_TRAILS_MICROS / 4);
            let is_near = closed.iter().all(|range| range.closed >= near);
            if is_near || clock.monotonic_nanos() >= late_at {
                return closed;
            }
            tokio::select! {
                biased;
                () = self.settled.notified() => {}
                () = clock.sleep_until(late_at) => {}
            }
        }
    }

    /// Closes those of the ranges that this shard leads.
    pub(super) fn close_ranges(&self, ranges: &[(RangeIndex, GroupId)]) -> Vec<ClosedRange> {
        let clock = &self.shared.env.clock;
        let moment = (clock.now_micros(), MonotonicNanos(clock.monotonic_nanos()));
        if !self.shared.wall_clock.is_trusted(moment.0, moment.1.0) {
            return Vec::new();
        }
        let closed = {
            let mut state = self.state.borrow_mut();
            let close = |&(range, group): &(RangeIndex, GroupId)| {
                let (closed, placed) = state.close(group, moment, clock)?;
                Some(ClosedRange { range, closed, placed })
            };
            ranges.iter().filter_map(close).collect()
        };
        // What was reserved is on its way.
        self.wake_log();
        closed
    }

    /// The same on whichever shard of this node; nothing if that has too much to do.
    pub(crate) async fn closed_ranges_on(
        self: &Rc<Self>,
        shard: u16,
        table: TableId,
    ) -> Vec<ClosedRange> {
        if shard == self.index {
            return self.closed_ranges(table).await;
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::ClosedRanges(table, reply);
        let is_sent = self.shared.shards[usize::from(shard)].try_send(message).is_ok();
        if is_sent { answer.await.unwrap_or_default() } else { Vec::new() }
    }
}
