//! How long to wait before a call is repeated: 100 ms, doubling to 30 s, spread by a fifth.

use std::time::Duration;

use env::Entropy;

/// Before the first repeat.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Before the ninth, and all that follow.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The spread, in parts of a thousand to either side.
const JITTER_PER_MILLE: u64 = 200;

/// The waits of one feed.
#[derive(Debug)]
pub struct Backoff {
    entropy: Entropy,
    /// Repeats since something went well.
    attempts: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(entropy: Entropy) -> Backoff {
        Backoff { entropy, attempts: 0 }
    }

    /// Something went well.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many repeats there were since something went well.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long to wait now. A destination that asks for more time gets it.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = PAUSE_MIN * 2_u32.saturating_pow(self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        let per_mille = 1_000 - JITTER_PER_MILLE + self.entropy.below(2 * JITTER_PER_MILLE + 1);
        let pause = doubled.min(PAUSE_MAX) * per_mille as u32 / 1_000;
        pause.max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, PAUSE_MAX};
    use env::EntropySource;
    use std::time::Duration;

    #[test]
    fn waits_double_up_to_a_limit_and_are_spread() {
        let mut backoff = Backoff::new(EntropySource::simulated(1).generator("waits"));
        let mut bounds: Vec<(u64, u64)> = Vec::new();
        for _ in 0..200 {
            backoff.reset();
            for step in 0..12 {
                let waited = backoff.next(None).as_millis() as u64;
                if bounds.len() <= step {
                    bounds.push((waited, waited));
                }
                let (least, most) = &mut bounds[step];
                (*least, *most) = (waited.min(*least), waited.max(*most));
            }
        }
        for (step, (least, most)) in bounds.iter().enumerate() {
            let middle = (100 << step).min(30_000);
            assert!((middle * 80 / 100..middle * 85 / 100).contains(least), "{step}: {least}");
            assert!((middle * 115 / 100..=middle * 120 / 100).contains(most), "{step}: {most}");
        }
    }

    #[test]
    fn a_destination_may_ask_for_more() {
        let mut backoff = Backoff::new(EntropySource::simulated(1).generator("waits"));
        assert_eq!(backoff.next(Some(PAUSE_MAX * 3)), PAUSE_MAX * 3);
        assert!(backoff.next(Some(Duration::ZERO)) >= Duration::from_millis(160));
        assert_eq!(backoff.attempts(), 2);
    }
}
