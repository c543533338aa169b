//! A bucket of bytes that fills at a rate: how long a sender must wait before it sends more.

use std::time::Duration;

/// What may be sent at once after a pause, in time: enough to be smooth, too little to be felt.
const BURST: Duration = Duration::from_millis(20);

/// Invariant: `free_at_nanos` is when all that was taken so far will have been paid for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    bytes_per_second: u64,
    free_at_nanos: u64,
}

impl Throttle {
    /// A rate; 0 is none at all.
    pub(super) fn new(bytes_per_second: u64) -> Throttle {
        Throttle { bytes_per_second, free_at_nanos: 0 }
    }

    /// Changes the rate for what is taken from here on.
    pub(super) fn set_rate(&mut self, bytes_per_second: u64) {
        self.bytes_per_second = bytes_per_second;
    }

    /// Takes bytes at a moment of the monotonic clock, and says until when to wait before they are
    /// sent; a moment that is past means now.
    pub(super) fn take(&mut self, bytes: usize, now_nanos: u64) -> u64 {
        if self.bytes_per_second == 0 {
            return now_nanos;
        }
        let earliest = now_nanos.saturating_sub(BURST.as_nanos() as u64);
        let start = self.free_at_nanos.max(earliest);
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.bytes_per_second);
        self.free_at_nanos = start.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time_and_pauses_are_not_saved_up() {
        let mut throttle = Throttle::new(1_000_000);
        let mut now = 10_000_000_000;
        let start = now;
        for _ in 0..1_000 {
            now = now.max(throttle.take(10_000, now));
        }
        // 10 MB at 1 MB/s, less the burst of 20 ms.
        assert_eq!(now - start, 10_000_000_000 - 20_000_000);
        let later = now + 60_000_000_000;
        assert_eq!(throttle.take(20_000, later), later);
        assert_eq!(throttle.take(1_000, later), later + 1_000_000);
    }

    #[test]
    fn no_rate_means_no_waiting() {
        let mut throttle = Throttle::new(0);
        assert_eq!(throttle.take(1 << 30, 7), 7);
        throttle.set_rate(1);
        assert!(throttle.take(1, 7) > 7);
    }
}
