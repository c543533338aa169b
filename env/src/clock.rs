//! Time: the machine's, or a simulated one.
//!
//! Two times, never mixed: the wall clock (microseconds since 1970, may jump either way when
//! somebody sets it) and the monotonic clock (nanoseconds since some start, never goes back).
//! Sleeping follows the monotonic one.
//!
//! A simulated clock takes its base from one of three places:
//! - a test's hand, [`SimClockControl::advance`]: nothing moves otherwise, sleepers wake in the
//!   order of their deadlines, and no runtime is needed;
//! - tokio's time, when the test has paused it;
//! - turmoil's time (feature `sim`), the one of the whole simulated cluster.
//!
//! Each node has a clock of its own over a shared base; [`SimClockControl::jump_wall`] sets the
//! wall clock of one node wrong. Clocks that run at a wrong rate are not simulated.

use crate::injected::wall_offset_micros;
use std::time::Duration;

mod real;
mod sim;
#[cfg(test)]
mod tests;

pub use sim::SimClockControl;

/// A node's clock. Cheap to clone; clones are the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Side);

#[derive(Clone, Debug)]
enum Side {
    Real,
    Sim(sim::SimClock),
}

impl Clock {
    /// The machine's clocks.
    pub fn real() -> Clock {
        Clock(Side::Real)
    }

    /// A clock that stands at `start_micros` (wall) until its control moves it.
    pub fn simulated(start_micros: i64) -> (Clock, SimClockControl) {
        Clock::over(sim::SimClock::by_hand(start_micros))
    }

    /// A clock that starts at `start_micros` (wall) now and goes with tokio's time, so that it
    /// is a simulated one where that is paused. Must be called inside the runtime it follows.
    pub fn simulated_on_tokio(start_micros: i64) -> (Clock, SimClockControl) {
        Clock::over(sim::SimClock::on_tokio(start_micros))
    }

    /// A clock that goes with the time of the turmoil simulation it is used in, and that stood
    /// at `start_micros` (wall) when that began. To be read inside the simulation only.
    #[cfg(feature = "sim")]
    pub fn simulated_on_turmoil(start_micros: i64) -> (Clock, SimClockControl) {
        Clock::over(sim::SimClock::on_turmoil(start_micros))
    }

    fn over(clock: sim::SimClock) -> (Clock, SimClockControl) {
        (Clock(Side::Sim(clock.clone())), SimClockControl::new(clock))
    }

    /// The wall clock, in microseconds since 1970-01-01 UTC.
    pub fn now_micros(&self) -> i64 {
        match &self.0 {
            Side::Real => real::now_micros() + wall_offset_micros(),
            Side::Sim(clock) => clock.now_micros(),
        }
    }

    /// The wall clock, in whole seconds since 1970-01-01 UTC, rounded down.
    pub fn now_seconds(&self) -> i64 {
        self.now_micros().div_euclid(1_000_000)
    }

    /// The monotonic clock, in nanoseconds since a start that is the same for the whole process.
    pub fn monotonic_nanos(&self) -> u64 {
        match &self.0 {
            Side::Real => real::monotonic_nanos(),
            Side::Sim(clock) => clock.monotonic_nanos(),
        }
    }

    /// Returns after `duration`. Needs a tokio runtime with time, unless the clock is moved by hand.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Side::Real => tokio::time::sleep(duration).await,
            Side::Sim(clock) => clock.sleep(duration).await,
        }
    }

    /// Returns when [`Clock::monotonic_nanos`] is next at a multiple of `interval`: what tasks of one
    /// thread look after now and then wakes it once for all of them, and not once for each.
    pub async fn beat(&self, interval: Duration) {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let beats = self.monotonic_nanos() / nanos;
        self.sleep_until((beats + 1).saturating_mul(nanos)).await;
    }

    /// Returns when [`Clock::monotonic_nanos`] has reached `deadline_nanos`; at once if it has.
    pub async fn sleep_until(&self, deadline_nanos: u64) {
        match &self.0 {
            Side::Real => {
                let left = deadline_nanos.saturating_sub(real::monotonic_nanos());
                if left > 0 {
                    tokio::time::sleep(Duration::from_nanos(left)).await;
                }
            }
            Side::Sim(clock) => clock.sleep_until(Duration::from_nanos(deadline_nanos)).await,
        }
    }
}
