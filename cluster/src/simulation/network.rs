//! The network: packets with a time of arrival, and what may happen to them.

use super::disk::Snapshot;
use crate::liveness;
use crate::placement::GroupId;
use crate::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// What travels.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Liveness(liveness::Message),
    /// Of a link.
    Envelope(Vec<u8>),
    Snapshot(GroupId, Snapshot),
    /// The answer to a snapshot.
    Installed(GroupId),
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) payload: Payload,
}

/// How often what happens, in a thousand packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Delayed by up to two seconds.
    pub(super) straggling: u64,
}

/// The network.
#[derive(Default)]
pub(super) struct Network {
    pub(super) weather: Weather,
    /// Directed pairs between which everything is lost.
    pub(super) cuts: BTreeSet<(u64, u64)>,
    under_way: BTreeMap<(u64, u64), Packet>,
    sent_count: u64,
}

impl Network {
    pub(super) fn send(&mut self, packet: &Packet, now: u64, random: &mut Random) {
        if random.happens(self.weather.lost) || self.cuts.contains(&(packet.from, packet.to)) {
            return;
        }
        let copies = 1 + u64::from(random.happens(self.weather.doubled));
        for _ in 0..copies {
            let is_straggling = random.happens(self.weather.straggling);
            let delay = if is_straggling { random.below(2_000_000_000) } else { 1_000_000 };
            self.sent_count += 1;
            self.under_way.insert((now + delay, self.sent_count), packet.clone());
        }
    }

    /// Keeps a packet for a node that does not listen now.
    pub(super) fn hold(&mut self, packet: Packet, now: u64) {
        self.sent_count += 1;
        self.under_way.insert((now + 1, self.sent_count), packet);
    }

    /// The next packet that has arrived.
    pub(super) fn next_arrived(&mut self, now: u64) -> Option<Packet> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
