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

/// The groups of one replication setting on one ring, and where they go while it changes.
#[derive(Clone, Debug)]
pub struct Placement {
    ranges: Arc<Ranges>,
    groups: Vec<GroupId>,
    replicas: Replicas,
    /// Nothing while the ring stays as it is.
    moves: Option<Moves>,
}

/// The nodes of all ranges, one range after the other.
#[derive(Clone, Debug)]
struct Replicas {
    nodes: Vec<NodeIndex>,
    /// Where each range's nodes begin; one more entry than there are ranges.
    starts: Vec<u32>,
}

/// Where ranges go.
#[derive(Clone, Debug)]
struct Moves {
    /// By the other ring.
    target: Replicas,
    /// By the ring as it is, then those of the other that are not in it.
    all: Replicas,
    /// The other ring shall not be: what has gone there comes back.
    is_back: bool,
}

/// Two rings that number the same nodes, which hold the same ranges.
#[derive(Clone, Copy, Debug)]
pub struct Rings<'a> {
    /// The ring as it is.
    pub ring: &'a Ring,
    /// The ring as it shall be, if that is another.
    pub target: Option<&'a Ring>,
    /// It was given up: what has gone there already comes back.
    pub is_back: bool,
}

impl<'a> Rings<'a> {
    /// A ring that stays as it is.
    pub fn only(ring: &'a Ring) -> Rings<'a> {
        Rings { ring, target: None, is_back: false }
    }
}

impl Placement {
    /// Places the data of `replication`, used since that index of the metadata, on the rings, as the
    /// node `local` sees it. `ranges` are the rings' own, shared by all their placements.
    pub fn new(
        rings: Rings<'_>,
        ranges: &Arc<Ranges>,
        (replication, used_since): (&Replication, u64),
        local: NodeIndex,
    ) -> Placement {
        let end_of = |range| ranges.end_token(range);
        let group_of = |range| GroupId::derive(replication, used_since, end_of(range));
        let groups = ranges.iter().map(group_of);
        let by = |ring: &Ring| {
            let of = |range| ring.replicas(replication, end_of(range), local);
            Replicas::new(ranges.iter().map(of))
        };
        let (groups, replicas) = (groups.collect(), by(rings.ring));
        let moves = rings.target.map(|target| {
            let target = by(target);
            let all = Replicas::new(ranges.iter().map(|range| {
                let (now, then) = (replicas.of(range), target.of(range));
                let coming = then.iter().filter(|node| !now.contains(node));
                now.iter().chain(coming).copied().collect()
            }));
            Moves { target, all, is_back: rings.is_back }
        });
        Placement { ranges: ranges.clone(), groups, replicas, moves }
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
    /// ring's data centres no copy. While the ring changes: by the ring as it was before.
    #[inline]
    pub fn replicas(&self, range: RangeIndex) -> &[NodeIndex] {
        self.replicas.of(range)
    }

    /// The nodes that shall hold a range, the preferred leader first.
    pub fn wanted(&self, range: RangeIndex) -> &[NodeIndex] {
        let moves = self.moves.as_ref().filter(|moves| !moves.is_back);
        moves.map_or_else(|| self.replicas(range), |moves| moves.target.of(range))
    }

    /// The nodes that may hold a range: [`Placement::replicas`], and then those that come.
    #[inline]
    pub fn all(&self, range: RangeIndex) -> &[NodeIndex] {
        self.moves.as_ref().map_or_else(|| self.replicas(range), |moves| moves.all.of(range))
    }

    /// Those of [`Placement::all`] that come.
    #[inline]
    pub fn coming(&self, range: RangeIndex) -> &[NodeIndex] {
        self.moves.as_ref().map_or(&[], |moves| {
            moves.all.of(range).get(self.replicas(range).len()..).unwrap_or_default()
        })
    }

    /// Whether a node holds a range by both rings, and so without a break.
    #[inline]
    pub fn stays(&self, range: RangeIndex, node: NodeIndex) -> bool {
        let holds = |replicas: &Replicas| replicas.of(range).contains(&node);
        holds(&self.replicas) && self.moves.as_ref().is_none_or(|moves| holds(&moves.target))
    }

    /// Whether a range has other replicas by the one ring than by the other.
    pub fn is_moving(&self, range: RangeIndex) -> bool {
        self.moves.as_ref().is_some_and(|moves| {
            let count = self.replicas(range).len();
            moves.all.of(range).len() != count || moves.target.of(range).len() != count
        })
    }
}

impl Replicas {
    fn new(of_ranges: impl Iterator<Item = Vec<NodeIndex>>) -> Replicas {
        let (mut nodes, mut starts) = (Vec::new(), vec![0]);
        for of_range in of_ranges {
            nodes.extend(of_range);
            starts.push(nodes.len() as u32);
        }
        Replicas { nodes, starts }
    }

    #[inline]
    fn of(&self, range: RangeIndex) -> &[NodeIndex] {
        let index = range.0 as usize;
        &self.nodes[self.starts[index] as usize..self.starts[index + 1] as usize]
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
    use crate::range::{CUTS_MIN, cut_tokens};
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
                let placement =
                    Placement::new(Rings::only(&ring), &ranges, (setting, since), NodeIndex(0));
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
        let placement = Placement::new(Rings::only(&ring), &ranges, (&setting, 0), NodeIndex(0));
        for range in ranges.iter() {
            for token in [ranges.first_token(range), ranges.end_token(range)] {
                let replicas = ring.replicas(&setting, token, NodeIndex(0));
                assert_eq!(placement.replicas(range), replicas, "{token:?}");
            }
        }
    }
    #[test]
    fn while_the_ring_changes_ranges_know_who_stays_comes_and_goes() {
        let members = |ids: &[u128]| -> Vec<crate::Node> {
            let all = (1..=4_u128).map(|id| {
                let cut = |at: usize| cut_tokens(CUTS_MIN).nth(at).unwrap().0;
                let tokens = [cut(id as usize * 3), cut(id as usize * 5 + 30)];
                let tokens = if ids.contains(&id) { &tokens[..] } else { &[] };
                node(id, "dc1", "r1", tokens)
            });
            all.collect()
        };
        let ring = Ring::with_guests(members(&[1, 2, 3])).unwrap();
        let target = Ring::with_guests(members(&[1, 2, 4])).unwrap();
        let ranges = Arc::new(ring.ranges());
        assert_eq!(*ranges, target.ranges());
        let setting = Replication::Simple { factor: 2 };
        let place = |rings| Placement::new(rings, &ranges, (&setting, 7), NodeIndex(0));
        let (before, after) = (place(Rings::only(&ring)), place(Rings::only(&target)));
        let rings = Rings { ring: &ring, target: Some(&target), is_back: false };
        let (during, back) = (place(rings), place(Rings { is_back: true, ..rings }));
        let mut moving_count = 0;
        for range in ranges.iter() {
            assert_eq!(during.group(range), before.group(range));
            assert_eq!(during.replicas(range), before.replicas(range));
            assert_eq!(during.wanted(range), after.replicas(range));
            assert_eq!((before.coming(range), before.wanted(range)), (&[][..], before.all(range)));
            let (now, then) = (during.replicas(range), during.wanted(range));
            let coming: Vec<_> = then.iter().copied().filter(|n| !now.contains(n)).collect();
            assert_eq!(during.coming(range), coming);
            assert_eq!(during.all(range), [now, &coming].concat());
            assert_eq!(during.is_moving(range), !then.iter().all(|n| now.contains(n)));
            for node in (0..4).map(NodeIndex) {
                assert_eq!(during.stays(range, node), now.contains(&node) && then.contains(&node));
                assert_eq!(before.stays(range, node), now.contains(&node));
            }
            assert_eq!(back.wanted(range), now, "it goes back to where it was");
            assert_eq!((back.all(range), back.replicas(range)), (during.all(range), now));
            assert_eq!(back.is_moving(range), during.is_moving(range));
            moving_count += usize::from(during.is_moving(range));
        }
        assert!(moving_count > 0 && moving_count < ranges.len(), "{moving_count} move");
    }
}
