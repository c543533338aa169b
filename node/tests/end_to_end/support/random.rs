//! Numbers from a printed seed (SplitMix64).

use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence that its seed repeats.
pub(crate) struct Random(u64);

impl Random {
    /// From the environment variable's number, or else from the clock; printed either way.
    pub(crate) fn from_environment(variable: &str) -> Random {
        let given = std::env::var(variable).ok();
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let seed = given.map_or_else(|| clock() as u64, |text| text.parse().expect("a number"));
        println!("{variable}={seed}");
        Random(seed)
    }

    /// From a number.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
