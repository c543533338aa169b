//! Where the data of one replication setting lies: groups, their ranges and their replicas.
//!
//! A group is the replicas of one range under one replication setting, with one replicated log;
//! all tables of the keyspaces with that setting share it. A [`Placement`] is computed once for a
//! ring and a setting, and answers the read and write path without allocating.
//!
//! A group's identity names its log on the disk, so it must survive restarts, be the same on every
//! replica, and never come back for another group. It is a hash of the setting and of the metadata
//! index at which a keyspace first used it, mixed with the range's end token by a bijection: ids of
//! one setting never collide, and others only by the odds of 64 bits. A setting that nobody used
//! for a while begins anew, with new logs, when somebody does again, so whatever an old replica
//! kept is of no group any more. Ranges do not change, so each keeps its group for as long as the
//! setting is used. Nothing else looks inside an id. Id 0 is the metadata group's.

use crate::range::{RangeIndex, Ranges};
use crate::ring::{NodeIndex, Ring};
use model::Token;
use model::schema::Replication;
use std::sync::Arc;

/// A group's identity, the same on all its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The group that holds schema, topology and everything else the cluster agrees on.
    pub const METADATA: GroupId = GroupId(0);

    /// The group of the range that ends at `end_token` under `replication`, which has been used
    /// since that index of the metadata.
    pub fn derive(replication: &Replication, used_since: u64, end_token: Token) -> GroupId {
        let id = mix(end_token.0 as u64 ^ hash_setting(replication, used_since));
        GroupId(if id == GroupId::METADATA.0 { u64::MAX } else { id })
    }
}

/// The groups of one replication setting on one ring.
#[derive(Clone, Debug)]
pub struct Placement {
    ranges: Arc<Ranges>,
    groups: Vec<GroupId>,
    /// Replicas of all ranges, one range after the other.
    replicas: Vec<NodeIndex>,
    /// Where each range's replicas begin; one more entry than there are ranges.
    replica_starts: Vec<u32>,
}

impl Placement {
    /// Places the data of `replication`, used since that index of the metadata, on `ring`, as the
    /// node `local` sees it. `ranges` are the ring's own, shared by all its placements.
    pub fn new(
        ring: &Ring,
        ranges: &Arc<Ranges>,
        (replication, used_since): (&Replication, u64),
        local: NodeIndex,
    ) -> Placement {
        let mut placement = Placement {
            ranges: ranges.clone(),
            groups: Vec::with_capacity(ranges.len()),
            replicas: Vec::new(),
            replica_starts: vec![0],
        };
        for range in ranges.iter() {
            let end_token = ranges.end_token(range);
            placement.groups.push(GroupId::derive(replication, used_since, end_token));
            placement.replicas.extend(ring.replicas(replication, end_token, local));
            placement.replica_starts.push(placement.replicas.len() as u32);
        }
        placement
    }

    /// The ranges, which all settings on the ring share.
    pub fn ranges(&self) -> &Arc<Ranges> {
        &self.ranges
    }

    /// The group of a range.
    #[inline]
    pub fn group(&self, range: RangeIndex) -> GroupId {
        self.groups[range.0 as usize]
    }

    /// The nodes that hold a range, the preferred leader first; empty when the setting gives the
    /// ring's data centres no copy.
    #[inline]
    pub fn replicas(&self, range: RangeIndex) -> &[NodeIndex] {
        let index = range.0 as usize;
        &self.replicas[self.replica_starts[index] as usize..self.replica_starts[index + 1] as usize]
    }
}

/// FNV-1a over an unambiguous byte form of both: a tag, then lengths before names.
fn hash_setting(replication: &Replication, used_since: u64) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut feed = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    };
    feed(&used_since.to_be_bytes());
    match replication {
        Replication::Local => feed(&[0]),
        Replication::Simple { factor } => {
            feed(&[1]);
            feed(&factor.to_be_bytes());
        }
        Replication::NetworkTopology { factors } => {
            feed(&[2]);
            for (name, factor) in factors {
                feed(&(name.len() as u64).to_be_bytes());
                feed(name.as_bytes());
                feed(&factor.to_be_bytes());
            }
        }
    }
    mix(hash)
}

/// A bijection of 64 bits in which every bit of the result depends on every bit of the input: the
/// finalizer of Murmur3.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::tests::node;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn groups_of_all_settings_differ_and_stay() {
        let ring = Ring::new(vec![node(1, "dc1", "r1", &[-5, 100]), node(2, "dc1", "r1", &[7])]);
        let ring = ring.unwrap();
        let ranges = Arc::new(ring.ranges());
        let settings = [
            Replication::Local,
            Replication::Simple { factor: 1 },
            Replication::Simple { factor: 3 },
            Replication::NetworkTopology { factors: BTreeMap::from([("dc1".into(), 3)]) },
            Replication::NetworkTopology { factors: BTreeMap::from([("dc2".into(), 3)]) },
        ];
        let mut seen = BTreeSet::from([GroupId::METADATA]);
        for setting in &settings {
            for since in [0, 1, 7] {
                let placement = Placement::new(&ring, &ranges, (setting, since), NodeIndex(0));
                for range in ranges.iter() {
                    assert!(seen.insert(placement.group(range)), "{setting:?} {since} {range:?}");
                }
            }
        }
        // Logs on the disk carry these: another value would lose them.
        assert_eq!(GroupId::derive(&settings[0], 0, Token(-1)), GroupId(0xD487_C94B_9CF8_93F0));
        assert_eq!(GroupId::derive(&settings[1], 5, Token::MAX), GroupId(0x238A_F870_D90D_A1D8));
        assert_eq!(
            GroupId::derive(&settings[3], 1 << 40, Token(100)),
            GroupId(0xB06D_01FB_BC11_AC5A)
        );
    }

    #[test]
    fn every_token_of_a_range_has_the_replicas_of_its_end() {
        let ring = Ring::new(vec![
            node(1, "dc1", "r1", &[-4_000_000_000_000_000_000, 100]),
            node(2, "dc1", "r2", &[7, 8]),
            node(3, "dc1", "r1", &[4_000_000_000_000_000_000]),
        ])
        .unwrap();
        let ranges = Arc::new(ring.ranges());
        let setting = Replication::Simple { factor: 2 };
        let placement = Placement::new(&ring, &ranges, (&setting, 0), NodeIndex(0));
        for range in ranges.iter() {
            for token in [ranges.first_token(range), ranges.end_token(range)] {
                let replicas = ring.replicas(&setting, token, NodeIndex(0));
                assert_eq!(placement.replicas(range), replicas, "{token:?}");
            }
        }
    }
}
