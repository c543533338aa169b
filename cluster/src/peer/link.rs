//! Which of two connections between the same shards stands, and when the next is tried.
//!
//! Either end may dial, and what was sent over a connection is lost with it. So of two dials that
//! cross one is given up before anything is sent over it, and the node with the smaller host id
//! says which ([`meets`]): its own, if that is young; else that of its peer, whose connection it
//! waits for before it dials again.
//!
//! Still an end can hold a connection that the other has lost, or a dial can hang and then get
//! through. Both ends judge by the same rule, so that they end up with the same connection:
//! - A newer life of the peer wins over an older one.
//! - Of two by the same dialler the later one wins: a dialler has lost the earlier one.
//! - Of two by different diallers that may have crossed, that of the node with the smaller host id
//!   wins. They cannot have crossed if the standing one is older than a dial can take: then its
//!   peer knew it and has lost it, and the new one wins.

use super::limits::{BACKOFF_MAX, BACKOFF_MIN, CROSSING_TIME_MAX, DIAL_TIME_MAX};
use crate::ring::HostId;
use env::Entropy;
use std::time::Duration;

/// What the rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The node that dialled.
    pub(super) dialled_by: HostId,
    /// Of the peer.
    pub(super) incarnation: u64,
    /// When this end came to hold it, by the monotonic clock.
    pub(super) since_nanos: u64,
}

/// Whether `arriving` takes the place of `standing`.
pub(super) fn replaces(arriving: Standing, standing: Standing, peer: HostId, us: HostId) -> bool {
    if arriving.incarnation != standing.incarnation {
        return arriving.incarnation > standing.incarnation;
    }
    if arriving.dialled_by == standing.dialled_by || arriving.dialled_by == peer.min(us) {
        return true;
    }
    let age_nanos = arriving.since_nanos.saturating_sub(standing.since_nanos);
    u128::from(age_nanos) > DIAL_TIME_MAX.as_nanos()
}

/// What becomes of a dial of ours that the peer's meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// The peer's is refused.
    OursStays,
    /// Ours is given up.
    OursGoes,
    /// The peer says.
    NotOurs,
}

/// Which of two dials that cross is given up, by how long ago ours began.
pub(super) fn meets(our_dial_nanos: u64, peer: HostId, us: HostId) -> Crossing {
    if peer < us {
        Crossing::NotOurs
    } else if u128::from(our_dial_nanos) < CROSSING_TIME_MAX.as_nanos() {
        Crossing::OursStays
    } else {
        Crossing::OursGoes
    }
}

/// The pauses between dials that fail: doubling, with jitter, so that nodes that lost each other
/// at one moment do not all come back at one moment.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failure_count: u32,
}

impl Backoff {
    /// How long to wait after one more failure: between half of the present pause and all of it.
    pub(super) fn failed(&mut self, entropy: &mut Entropy) -> Duration {
        let factor = 1_u32 << self.failure_count.min(16);
        self.failure_count += 1;
        let pause = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
        let half_micros = pause.as_micros() as u64 / 2;
        Duration::from_micros(half_micros + entropy.below(half_micros + 1))
    }

    /// The peer was reached.
    pub(super) fn succeeded(&mut self) {
        self.failure_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use env::EntropySource;

    const SMALL: HostId = HostId(1);
    const LARGE: HostId = HostId(2);

    fn by(dialled_by: HostId, incarnation: u64, since: Duration) -> Standing {
        Standing { dialled_by, incarnation, since_nanos: since.as_nanos() as u64 }
    }

    #[test]
    fn connections_that_cross_leave_one_whatever_the_order() {
        let small = by(SMALL, 1, Duration::from_millis(10));
        let large = by(LARGE, 1, Duration::from_millis(10));
        for (us, peer) in [(SMALL, LARGE), (LARGE, SMALL)] {
            assert!(replaces(small, large, peer, us));
            assert!(!replaces(large, small, peer, us));
        }
    }

    #[test]
    fn one_of_two_nodes_says_which_dial_stays() {
        let crossing_nanos = CROSSING_TIME_MAX.as_nanos() as u64;
        for (age_nanos, expected) in
            [(0, Crossing::OursStays), (crossing_nanos, Crossing::OursGoes)]
        {
            assert_eq!(meets(age_nanos, LARGE, SMALL), expected);
            assert_eq!(meets(age_nanos, SMALL, LARGE), Crossing::NotOurs);
        }
    }

    #[test]
    fn a_peer_that_dials_again_has_lost_the_one_before() {
        let earlier = by(LARGE, 1, Duration::from_millis(10));
        let later = by(LARGE, 1, Duration::from_millis(20));
        assert!(replaces(later, earlier, LARGE, SMALL));
        // Also one that we dialled, once it is too old to have crossed.
        let ours = by(SMALL, 1, Duration::ZERO);
        let soon = by(LARGE, 1, DIAL_TIME_MAX);
        let late = by(LARGE, 1, DIAL_TIME_MAX + Duration::from_nanos(1));
        assert!(!replaces(soon, ours, LARGE, SMALL));
        assert!(replaces(late, ours, LARGE, SMALL));
    }

    #[test]
    fn a_newer_life_wins() {
        let old = by(SMALL, 1, Duration::ZERO);
        let new = by(LARGE, 2, Duration::ZERO);
        assert!(replaces(new, old, LARGE, SMALL));
        assert!(!replaces(old, new, LARGE, SMALL));
    }

    #[test]
    fn pauses_double_up_to_the_largest_and_begin_anew() {
        let mut entropy = EntropySource::simulated(1).generator("backoff");
        let mut backoff = Backoff::default();
        let mut bound = BACKOFF_MIN;
        for _ in 0..40 {
            let pause = backoff.failed(&mut entropy);
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} of {bound:?}");
            bound = (bound * 2).min(BACKOFF_MAX);
        }
        backoff.succeeded();
        assert!(backoff.failed(&mut entropy) <= BACKOFF_MIN);
    }
}
