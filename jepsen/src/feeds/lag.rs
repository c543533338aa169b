//! How far the positions that the cluster keeps were behind what had arrived: a figure, not a verdict.
//! A position that is late costs repeats when the owner dies, and nothing else.

use super::history::Entry;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The greatest lag of a feed's position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The feed.
    pub feed: String,
    /// For so long the first event above the newest known position had been there.
    pub longest: Duration,
    /// When that was, since the run began.
    pub at: Duration,
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lag { feed, longest, at } = self;
        write!(f, "position of {feed}: {longest:.1?} behind what had arrived at most, at {at:.1?}")
    }
}

/// The greatest lag of each feed, by all positions that any node told.
pub fn lags(entries: &[Entry]) -> Vec<Lag> {
    let mut arrived: BTreeMap<&str, BTreeMap<u64, u64>> = BTreeMap::new();
    let mut positions: Vec<(u64, &str, u64)> = Vec::new();
    for entry in entries {
        match entry {
            Entry::Told { nanos, place, sequence, .. } => {
                let first = arrived.entry(place.feed.as_str()).or_default().entry(*sequence);
                let first = first.or_insert(*nanos);
                *first = (*first).min(*nanos);
            }
            Entry::Position { nanos, feed, sequence, .. } => {
                positions.push((*nanos, feed.as_str(), *sequence));
            }
            _ => {}
        }
    }
    positions.sort_unstable();
    let mut lags: BTreeMap<&str, Lag> = BTreeMap::new();
    for (nanos, feed, position) in positions {
        let Some(arrived) = arrived.get_mut(feed) else { continue };
        // What lies behind the newest position is never looked at again.
        *arrived = arrived.split_off(&(position + 1));
        let waits_since = arrived.values().next().copied().filter(|since| *since < nanos);
        let longest = Duration::from_nanos(waits_since.map_or(0, |since| nanos - since));
        let at = Duration::from_nanos(nanos);
        let lag = Lag { feed: feed.to_owned(), longest, at };
        if lags.get(feed).is_none_or(|known| known.longest < longest) {
            lags.insert(feed, lag);
        }
    }
    lags.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::super::history::Place;
    use super::*;

    #[test]
    fn a_position_lags_by_the_first_event_above_it() {
        let told = |millis: u64, sequence| Entry::Told {
            nanos: millis * 1_000_000,
            place: Place { feed: "f".to_owned(), partition: 0, offset: None },
            key: 1,
            value: 1,
            sequence,
            is_acknowledged: true,
        };
        let position = |millis: u64, sequence| Entry::Position {
            nanos: millis * 1_000_000,
            feed: "f".to_owned(),
            sequence,
            epoch: 1,
        };
        let entries = [
            told(10, 1),
            told(20, 2),
            // One node is behind, another is not.
            position(30, 1),
            position(40, 0),
            told(50, 3),
            position(90, 2),
            position(95, 3),
            position(200, 3),
        ];
        let lag = Lag {
            feed: "f".to_owned(),
            longest: Duration::from_millis(40),
            at: Duration::from_millis(90),
        };
        assert_eq!(lags(&entries), [lag]);
    }
}
