//! Numbers that nobody can predict, or, simulated, that everybody can.
//!
//! The real side is a generator in user space (ChaCha with 12 rounds, as rand's `StdRng`), seeded
//! with 256 bits from the operating system: fit for keys as well as for uuids, a few nanoseconds
//! a number, and no lock, since each shard makes its own from the [`EntropySource`].
//! The simulated side is a seeded sequence. Sequences are told apart by a label and not by the
//! order in which they are asked for, so that a new user does not change the luck of the others.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::random::SplitMix64;

/// Where generators come from. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct EntropySource(SourceSide);

#[derive(Clone, Copy, Debug)]
enum SourceSide {
    Real,
    Sim { seed: u64 },
}

impl EntropySource {
    /// The operating system.
    pub fn real() -> EntropySource {
        EntropySource(SourceSide::Real)
    }

    /// Sequences that follow from `seed`.
    pub fn simulated(seed: u64) -> EntropySource {
        EntropySource(SourceSide::Sim { seed })
    }

    /// A new generator. On the simulated side equal labels give equal sequences: each user has a
    /// label of its own ("shard 3 log times").
    pub fn generator(&self, label: &str) -> Entropy {
        match self.0 {
            SourceSide::Real => Entropy(Side::Real(Box::new(from_operating_system()))),
            SourceSide::Sim { seed } => {
                let mut mixed = SplitMix64::new(seed).next();
                for byte in label.bytes() {
                    mixed = SplitMix64::new(mixed ^ u64::from(byte)).next();
                }
                Entropy(Side::Sim(SplitMix64::new(mixed)))
            }
        }
    }
}

fn from_operating_system() -> ChaCha12Rng {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        // getrandom(2) with no flags fails only on a kernel without it, or with a bad buffer;
        // a database that cannot make keys must not start.
        match rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the operating system gives no entropy: {error}"),
        }
    }
    ChaCha12Rng::from_seed(seed)
}

/// One user's generator.
#[derive(Debug)]
pub struct Entropy(Side);

#[derive(Debug)]
enum Side {
    Real(Box<ChaCha12Rng>),
    Sim(SplitMix64),
}

impl Entropy {
    /// 64 bits, all values equally likely.
    pub fn u64(&mut self) -> u64 {
        match &mut self.0 {
            Side::Real(generator) => generator.next_u64(),
            Side::Sim(generator) => generator.next(),
        }
    }

    /// 128 bits, all values equally likely.
    pub fn u128(&mut self) -> u128 {
        u128::from(self.u64()) << 64 | u128::from(self.u64())
    }

    /// A number in `0..bound`, all equally likely. `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below 0 was asked for");
        // The high half of a 128-bit product (Lemire 2019). The lowest `2^64 mod bound` low
        // halves would make some numbers likelier: draw again.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.u64()) * u128::from(bound);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        match &mut self.0 {
            Side::Real(generator) => generator.fill_bytes(bytes),
            Side::Sim(generator) => {
                for chunk in bytes.chunks_mut(8) {
                    let drawn = generator.next().to_le_bytes();
                    chunk.copy_from_slice(&drawn[..chunk.len()]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EntropySource;

    #[test]
    fn equal_seeds_and_labels_give_equal_sequences() {
        let draw = |seed, label| {
            let mut entropy = EntropySource::simulated(seed).generator(label);
            let mut bytes = [0; 11];
            entropy.fill(&mut bytes);
            (entropy.u64(), entropy.u128(), bytes)
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "ab"), draw(1, "ba"));
    }

    #[test]
    fn real_generators_differ_and_fill_every_byte() {
        let mut first = EntropySource::real().generator("a");
        let mut second = EntropySource::real().generator("a");
        assert_ne!(first.u128(), second.u128());
        let mut seen = [0; 37];
        for _ in 0..64 {
            let mut bytes = [0; 37];
            first.fill(&mut bytes);
            seen.iter_mut().zip(bytes).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|byte| *byte != 0));
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_it() {
        let mut entropy = EntropySource::simulated(3).generator("below");
        let mut counts = [0; 3];
        for _ in 0..3_000 {
            counts[entropy.below(3) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
