//! A real Kafka broker that is told to end or killed, and a consumer of Kafka's own that is killed,
//! and goes on where its group has committed that it had come.

use super::history::{Entry, Place};
use super::kafka::{Broker, Consumer};
use super::receiver::entry;
use crate::random::Random;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The topic, and the feed into it.
pub(super) const TOPIC: &str = "topic";
const GROUP: &str = "jepsen";
/// The least and the most time between faults, in milliseconds.
const CALM_MILLIS: (u64, u64) = (4_000, 9_000);
/// The most time that a broker is away.
const AWAY_MILLIS_MAX: u64 = 3_000;

/// The broker, and all lives of its consumer.
pub(super) struct Topic {
    broker: Broker,
    lives: Vec<Consumer>,
    deaths: Vec<Instant>,
}

impl Topic {
    /// Nothing where Kafka cannot be had. `scratch` lies in cargo's target folder.
    pub(super) fn start(scratch: &Path) -> Option<Topic> {
        let broker = Broker::start(scratch)?;
        let lives = vec![broker.follow(TOPIC, GROUP)];
        Some(Topic { broker, lives, deaths: Vec::new() })
    }

    /// Where a feed is to send its events.
    pub(super) fn address(&self) -> String {
        format!("{}/{TOPIC}", self.broker.address())
    }

    /// Inflicts faults until `end`, on a thread of its own: starting a broker takes seconds.
    pub(super) fn torment(mut self, mut random: Random, end: Instant) -> Topic {
        loop {
            let calm = CALM_MILLIS.0 + random.below(CALM_MILLIS.1 - CALM_MILLIS.0);
            let next = Instant::now() + Duration::from_millis(calm);
            if next >= end {
                thread::sleep(end.saturating_duration_since(Instant::now()));
                return self;
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
            match random.below(3) {
                0 => {
                    if let Some(consumer) = self.lives.last_mut() {
                        consumer.kill();
                    }
                    self.lives.push(self.broker.follow(TOPIC, GROUP));
                    continue;
                }
                1 => self.broker.kill(),
                _ => self.broker.stop(),
            }
            self.deaths.push(Instant::now());
            thread::sleep(Duration::from_millis(random.below(AWAY_MILLIS_MAX)));
            self.broker.start_again();
        }
    }

    /// How often the broker died, and how many lives the consumer had.
    pub(super) fn figures(&self) -> (usize, usize) {
        (self.deaths.len(), self.lives.len())
    }

    /// What the consumer has read in all its lives, and what became of the broker.
    pub(super) fn entries(&self, began: Instant) -> io::Result<Vec<Entry>> {
        let nanos = |at: Instant| {
            u64::try_from(at.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
        };
        let mut entries: Vec<Entry> =
            self.deaths.iter().map(|at| Entry::Broker { nanos: nanos(*at) }).collect();
        for arrival in self.lives.iter().flat_map(Consumer::arrivals) {
            let event = serde_json::from_str(&arrival.record.value).map_err(io::Error::other)?;
            let place = Place {
                feed: TOPIC.to_owned(),
                partition: u32::try_from(arrival.record.partition).map_err(io::Error::other)?,
                offset: Some(arrival.record.offset),
            };
            entries.push(entry(&event, nanos(arrival.at), place, true)?);
        }
        Ok(entries)
    }
}
