//! Simulated clocks: a base of time that several nodes share, and each node's wall clock over it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{Clock, Side};

#[derive(Clone, Debug)]
pub(super) struct SimClock {
    base: Base,
    /// The wall clock when the base stood at 0, as this node believes.
    wall_offset_micros: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
enum Base {
    Hand(Arc<Mutex<Hand>>),
    Tokio {
        start: tokio::time::Instant,
    },
    #[cfg(feature = "sim")]
    Turmoil,
}

/// Time that a test moves.
#[derive(Debug, Default)]
struct Hand {
    elapsed: Duration,
    /// By deadline, then in the order in which they went to sleep.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    sleeper_next: u64,
}

impl SimClock {
    fn new(base: Base, start_micros: i64) -> SimClock {
        SimClock { base, wall_offset_micros: Arc::new(AtomicI64::new(start_micros)) }
    }

    pub(super) fn by_hand(start_micros: i64) -> SimClock {
        SimClock::new(Base::Hand(Arc::default()), start_micros)
    }

    pub(super) fn on_tokio(start_micros: i64) -> SimClock {
        SimClock::new(Base::Tokio { start: tokio::time::Instant::now() }, start_micros)
    }

    #[cfg(feature = "sim")]
    pub(super) fn on_turmoil(start_micros: i64) -> SimClock {
        SimClock::new(Base::Turmoil, start_micros)
    }

    fn elapsed(&self) -> Duration {
        match &self.base {
            Base::Hand(hand) => lock(hand).elapsed,
            Base::Tokio { start } => start.elapsed(),
            #[cfg(feature = "sim")]
            Base::Turmoil => {
                turmoil::sim_elapsed().expect("a clock on turmoil's time is read inside of it")
            }
        }
    }

    pub(super) fn now_micros(&self) -> i64 {
        self.wall_offset_micros.load(Ordering::Relaxed) + self.elapsed().as_micros() as i64
    }

    pub(super) fn monotonic_nanos(&self) -> u64 {
        self.elapsed().as_nanos() as u64
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        match &self.base {
            Base::Hand(hand) => {
                let deadline = lock(hand).elapsed.saturating_add(duration);
                sleep_by_hand(hand, deadline).await;
            }
            Base::Tokio { .. } => tokio::time::sleep(duration).await,
            #[cfg(feature = "sim")]
            Base::Turmoil => tokio::time::sleep(duration).await,
        }
    }

    /// A hand may move the clock from another thread at any moment: how long there is left until
    /// the deadline is not what is slept for.
    pub(super) async fn sleep_until(&self, deadline: Duration) {
        if let Base::Hand(hand) = &self.base {
            return sleep_by_hand(hand, deadline).await;
        }
        self.sleep(deadline.saturating_sub(self.elapsed())).await;
    }
}

/// A panic in a test's thread leaves the hand between two changes: go on with it.
fn lock(hand: &Mutex<Hand>) -> MutexGuard<'_, Hand> {
    hand.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sleep_by_hand(hand: &Mutex<Hand>, deadline: Duration) {
    let key = {
        let mut hand = lock(hand);
        hand.sleeper_next += 1;
        (deadline, hand.sleeper_next)
    };
    // A sleep that is given up leaves no waker behind.
    let forget = Forget { hand, key };
    poll_fn(|context| {
        let mut hand = lock(forget.hand);
        if hand.elapsed >= key.0 {
            return Poll::Ready(());
        }
        hand.sleepers.insert(key, context.waker().clone());
        Poll::Pending
    })
    .await;
}

struct Forget<'a> {
    hand: &'a Mutex<Hand>,
    key: (Duration, u64),
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.hand).sleepers.remove(&self.key);
    }
}

/// The hand of a test on one node's simulated clock.
#[derive(Clone, Debug)]
pub struct SimClockControl(SimClock);

impl SimClockControl {
    pub(super) fn new(clock: SimClock) -> SimClockControl {
        SimClockControl(clock)
    }

    /// Moves the shared base forward and wakes the sleepers whose time has come, earliest first.
    /// Panics when the clock follows a runtime's time, which is the one to move then.
    pub fn advance(&self, duration: Duration) {
        let Base::Hand(hand) = &self.0.base else {
            panic!("a clock that follows a runtime's time cannot be moved by hand");
        };
        let mut hand = lock(hand);
        hand.elapsed += duration;
        let now = hand.elapsed;
        let later = hand.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut hand.sleepers, later);
        drop(hand);
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// Sets this node's wall clock forward, or back when negative. The monotonic clock, sleepers
    /// and other nodes do not notice.
    pub fn jump_wall(&self, micros: i64) {
        self.0.wall_offset_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Another node's clock over the same base; its wall clock is ahead of this one by
    /// `skew_micros`.
    pub fn another_node(&self, skew_micros: i64) -> (Clock, SimClockControl) {
        let offset = self.0.wall_offset_micros.load(Ordering::Relaxed) + skew_micros;
        let clock = SimClock::new(self.0.base.clone(), offset);
        (Clock(Side::Sim(clock.clone())), SimClockControl(clock))
    }
}
