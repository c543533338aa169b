//! How far behind the clock a range is closed while somebody reads its closed time.
//!
//! A write that arrives later than this after its own timestamp is a late one: it is looked at and
//! told as what it changes. One that is told at its own time costs less, and readers want the closed
//! time to be near. So the lateness follows what arrives: each late write raises it by an eighth, each
//! other lowers it by a thousandth, which comes to rest where about one write in a hundred is late.
//! One that is later than [`LATENESS_MICROS_MAX`] is an exception, and moves nothing.
//!
//! A pure function of what arrives: no clock.

/// The least and the most, in microseconds.
pub(super) const LATENESS_MICROS_MIN: i64 = 2_000;
pub(super) const LATENESS_MICROS_MAX: i64 = 1_000_000;

/// Shifts by which a late write raises it, another lowers it, and a quiet second lowers it.
const RAISE_SHIFT: u32 = 3;
const LOWER_SHIFT: u32 = 10;
const QUIET_SHIFT: u32 = 2;

/// An allowed lateness.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    /// In nanoseconds, so that a thousandth of the least is not lost.
    nanos: i64,
}

impl Default for Lateness {
    fn default() -> Self {
        Lateness { nanos: LATENESS_MICROS_MIN * 1_000 }
    }
}

impl Lateness {
    /// In microseconds.
    pub(super) fn micros(self) -> i64 {
        self.nanos / 1_000
    }

    /// A write arrived so many microseconds after its own timestamp.
    pub(super) fn arrived(&mut self, late_micros: i64) {
        if late_micros > LATENESS_MICROS_MAX {
            return;
        }
        let change = if late_micros >= self.micros() {
            self.nanos >> RAISE_SHIFT
        } else {
            -(self.nanos >> LOWER_SHIFT)
        };
        self.change(change);
    }

    /// A second has passed: what came before matters less.
    pub(super) fn second_passed(&mut self) {
        self.change(-(self.nanos >> QUIET_SHIFT));
    }

    fn change(&mut self, nanos: i64) {
        let (min, max) = (LATENESS_MICROS_MIN * 1_000, LATENESS_MICROS_MAX * 1_000);
        self.nanos = self.nanos.saturating_add(nanos).clamp(min, max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of late writes, in thousandths, when lateness is spread evenly up to `spread_micros`.
    fn settled(spread_micros: i64) -> (i64, Lateness) {
        let mut lateness = Lateness::default();
        let mut late_count = 0;
        for turn in 0..40_000_i64 {
            let late_micros = turn * 7_919 % spread_micros;
            late_count += i64::from(turn >= 20_000 && late_micros >= lateness.micros());
            lateness.arrived(late_micros);
        }
        (late_count / 20, lateness)
    }

    #[test]
    fn about_one_write_in_a_hundred_is_late() {
        for spread_micros in [10_000, 100_000, 700_000] {
            let (late_share, lateness) = settled(spread_micros);
            assert!((4..=16).contains(&late_share), "{late_share} of 1,000 at {spread_micros}");
            let near = spread_micros * 8 / 10..spread_micros * 13 / 10;
            assert!(near.contains(&lateness.micros()), "{lateness:?} at {spread_micros}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_ignores_what_is_very_late() {
        let mut lateness = Lateness::default();
        for late_micros in [i64::MIN, -5, 0, LATENESS_MICROS_MAX + 1, i64::MAX] {
            lateness.arrived(late_micros);
            assert_eq!(lateness.micros(), LATENESS_MICROS_MIN);
        }
        (0..1_000).for_each(|_| lateness.arrived(LATENESS_MICROS_MAX));
        assert_eq!(lateness.micros(), LATENESS_MICROS_MAX);
        (0..60).for_each(|_| lateness.second_passed());
        assert_eq!(lateness.micros(), LATENESS_MICROS_MIN, "a quiet minute forgets it");
    }
}
