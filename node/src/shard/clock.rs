//! The shard's clock for server-assigned timestamps.
//!
//! It follows the wall clock, never repeats and never goes back, whatever the wall clock does. It
//! starts above every timestamp it gave before a restart: the log and the manifest know them.

use model::TimestampMicros;

/// How far ahead of the clock a partition's newest timestamp may pull a server-assigned one; a
/// write from farther ahead is left in the future, so that one `USING TIMESTAMP` in the year 2099
/// does not poison the partition for good.
pub(crate) const PULL_MICROS_MAX: i64 = 5_000_000;

/// Gives out timestamps.
#[derive(Debug)]
pub(super) struct TimestampClock {
    last: TimestampMicros,
}

impl TimestampClock {
    /// A clock that has given out everything up to `last`.
    pub(super) fn new(last: TimestampMicros) -> Self {
        TimestampClock { last }
    }

    /// The time, for what is not a timestamp: never before one that was given out.
    pub(super) fn now(&mut self, wall: TimestampMicros) -> TimestampMicros {
        self.last = self.last.max(wall);
        self.last
    }

    /// A timestamp above all given before, and above the partition's `newest` when that is near.
    pub(super) fn next(
        &mut self,
        wall: TimestampMicros,
        newest: Option<TimestampMicros>,
    ) -> TimestampMicros {
        let mut next = wall.max(self.last.saturating_add(1));
        if let Some(newest) = newest.filter(|n| *n <= wall.saturating_add(PULL_MICROS_MAX)) {
            next = next.max(newest.saturating_add(1));
        }
        self.last = next;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_ascend_whatever_the_wall_clock_does() {
        let mut clock = TimestampClock::new(50);
        assert_eq!(clock.next(10, None), 51);
        assert_eq!(clock.next(100, None), 100);
        assert_eq!(clock.next(100, None), 101);
        assert_eq!(clock.next(90, Some(200)), 201);
        assert_eq!(clock.next(90, Some(100 + PULL_MICROS_MAX)), 202, "too far ahead to follow");
    }
}
