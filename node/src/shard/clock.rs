//! The shard's clock for server-assigned timestamps.
//!
//! It follows the wall clock, never repeats and never goes back, whatever the wall clock does. It
//! starts above every timestamp it gave before a restart: the log and the manifest know them.
//! What it has given out last is published, so that a batch over several shards can be stamped
//! above everything that any of them gave out.

use model::TimestampMicros;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// How far ahead of the clock a partition's newest timestamp may pull a server-assigned one; a
/// write from farther ahead is left in the future, so that one `USING TIMESTAMP` in the year 2099
/// does not poison the partition for good.
pub(crate) const PULL_MICROS_MAX: i64 = 5_000_000;

/// What a shard's clock has given out last, for other threads.
pub(crate) type PublishedClock = Arc<AtomicI64>;

/// A timestamp above everything that any of the clocks has given out.
pub(crate) fn above_all(clocks: &[PublishedClock], wall: TimestampMicros) -> TimestampMicros {
    let newest = clocks.iter().map(|clock| clock.load(Ordering::Acquire)).max();
    newest.map_or(wall, |newest| wall.max(newest.saturating_add(1)))
}

/// Gives out timestamps.
#[derive(Debug)]
pub(super) struct TimestampClock {
    last: TimestampMicros,
    published: PublishedClock,
}

impl TimestampClock {
    /// A clock that has given out everything up to `last`.
    pub(super) fn new(last: TimestampMicros, published: PublishedClock) -> Self {
        let mut clock = TimestampClock { last, published };
        clock.raise(last);
        clock
    }

    /// Gives out nothing at or below `floor` from here on.
    pub(super) fn raise(&mut self, floor: TimestampMicros) {
        self.last = self.last.max(floor);
        self.published.store(self.last, Ordering::Release);
    }

    /// The time, for what is not a timestamp: never before one that was given out.
    pub(super) fn now(&mut self, wall: TimestampMicros) -> TimestampMicros {
        self.raise(wall);
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
        self.raise(next);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_ascend_whatever_the_wall_clock_does() {
        let published = PublishedClock::default();
        let mut clock = TimestampClock::new(50, published.clone());
        assert_eq!(clock.next(10, None), 51);
        assert_eq!(clock.next(100, None), 100);
        assert_eq!(clock.next(100, None), 101);
        assert_eq!(clock.next(90, Some(200)), 201);
        assert_eq!(clock.next(90, Some(100 + PULL_MICROS_MAX)), 202, "too far ahead to follow");
        assert_eq!(above_all(&[PublishedClock::default(), published], 90), 203);
        clock.raise(500);
        assert_eq!(clock.next(90, None), 501);
    }
}
