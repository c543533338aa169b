//! The leader's place in time as a write moves it: rules 4, 5, 6, 8 and 20.

use super::{LATENESS_MICROS_MAX, WriteInput};
use model::TimestampMicros;
use model::entry::Placement;

/// C, M and FAR, and what else a place depends on.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) times: Placement,
    pub(super) last_log_time: Option<TimestampMicros>,
    started_at: TimestampMicros,
    clock: TimestampMicros,
    images: bool,
}

/// Where a write is placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// p.
    pub(super) time: TimestampMicros,
    /// RELOG: the log must say what changed, since replaying the write itself at p would not do.
    pub(super) relog: bool,
    late: bool,
}

impl Timeline {
    /// Nothing is placed more than [`LATENESS_MICROS_MAX`] behind the clock, and nothing before the
    /// first generation starts: C is raised to just below it.
    pub(super) fn new(input: &WriteInput) -> Self {
        let mut times = input.leader.times;
        times.closed = times.closed.max(input.clock_micros.saturating_sub(LATENESS_MICROS_MAX));
        if let Some(first) = input.generations.list().first() {
            times.closed = times.closed.max(first.starts_at_micros().saturating_sub(1));
        }
        Timeline {
            times,
            last_log_time: input.last_log_time,
            started_at: input.leader.started_at,
            clock: input.clock_micros,
            images: input.layout.has_images(),
        }
    }

    /// Where a write with this timestamp goes; `newest` is N.
    pub(super) fn place(
        &self,
        timestamp: TimestampMicros,
        newest: Option<TimestampMicros>,
    ) -> Place {
        let Placement { closed, placed, far, .. } = self.times;
        let late = timestamp <= closed;
        let is_far = timestamp > self.clock.saturating_add(LATENESS_MICROS_MAX).max(placed);
        let time = if self.images {
            let floor = closed.max(self.started_at).max(self.last_log_time.unwrap_or(i64::MIN));
            if !late && !is_far && timestamp > floor { timestamp } else { floor.saturating_add(1) }
        } else if late {
            closed.saturating_add(1)
        } else if is_far {
            closed.max(newest.unwrap_or(i64::MIN).min(placed)).saturating_add(1)
        } else {
            timestamp
        };
        Place { time, relog: time != timestamp || far >= timestamp, late }
    }

    /// A write with this timestamp was logged at its place, up to the microsecond `last`.
    pub(super) fn use_up_to(
        &mut self,
        timestamp: TimestampMicros,
        place: &Place,
        last: TimestampMicros,
    ) {
        assert!(place.time > self.times.closed, "nothing is placed at or below the closed time");
        self.times.placed = self.times.placed.max(last);
        if place.late && !self.images {
            self.times.closed = last;
        }
        if place.time < timestamp {
            self.times.far = self.times.far.max(timestamp);
        }
        if self.images {
            self.last_log_time = Some(last);
        }
    }
}
