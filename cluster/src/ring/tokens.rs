//! Which tokens a node gets that joins.

use super::{NodeIndex, Ring};
use crate::range::{cut_tokens, position_of, token_at};
use model::Token;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Positions of the ring.
const RING: u128 = 1 << 64;

/// Chooses tokens for a node that joins `ring` in a data centre, ascending: `count` of its even
/// cuts that nobody owns, so that no range has to be cut. One lies in each of `count` equal parts
/// as far as cuts are free there, so that the node's shards fill evenly. They are those by which
/// the node comes to own as much as others of its data centre do, taken from who owns most; then
/// those far from everybody's tokens, and `random` decides among equals. When few are left they
/// are fewer, so that some are left for others; none are chosen only when there are none.
pub fn choose_tokens(
    count: usize,
    ring: &Ring,
    data_centre: &str,
    mut random: impl FnMut() -> u64,
) -> Vec<Token> {
    let mut shares = Shares::of(ring, data_centre);
    let mut taken: BTreeSet<u64> =
        ring.owners.iter().map(|(token, _)| position_of(*token)).collect();
    let positions = cut_tokens(ring.cuts).map(position_of);
    let mut free: Vec<u64> = positions.filter(|position| !taken.contains(position)).collect();
    let count = count.min(free.len().div_ceil(2));
    let fair = RING / (shares.owned.len() as u128 + 1);
    let mut tokens: Vec<Token> = Vec::with_capacity(count);
    for part in 0..count {
        let is_of_part =
            |position: u64| ((u128::from(position) * count as u128) >> 64) as usize == part;
        let is_any_here = free.iter().any(|position| is_of_part(*position));
        let wanted = fair * (part as u128 + 1) / count as u128;
        let candidates = free.iter().enumerate();
        let best = candidates
            .filter(|(_, position)| !is_any_here || is_of_part(**position))
            .min_by_key(|(_, position)| {
                let (gained, loser) = shares.gained_at(**position);
                let missed = (shares.new + gained).abs_diff(wanted);
                let distance = distance_to_nearest(&taken, **position);
                (missed, Reverse(loser), Reverse(distance), random())
            });
        if let Some((index, _)) = best {
            let position = free.remove(index);
            taken.insert(position);
            shares.take(position);
            tokens.push(token_at(position));
        }
    }
    tokens.sort_unstable();
    tokens
}

/// Who owns how much of the ring by the tokens of one data centre.
struct Shares {
    /// The owner of each token; `None` is the node that joins.
    owners: BTreeMap<u64, Option<NodeIndex>>,
    owned: BTreeMap<NodeIndex, u128>,
    /// What the node that joins owns.
    new: u128,
}

impl Shares {
    fn of(ring: &Ring, data_centre: &str) -> Shares {
        let is_here = |index: NodeIndex| *ring.node(index).data_centre == *data_centre;
        let here = ring.owners.iter().filter(|(_, owner)| is_here(*owner));
        let owners: BTreeMap<_, _> =
            here.map(|(token, owner)| (position_of(*token), Some(*owner))).collect();
        let mut shares = Shares { owners, owned: BTreeMap::new(), new: 0 };
        for (position, owner) in &shares.owners {
            if let Some(owner) = owner {
                *shares.owned.entry(*owner).or_default() += shares.length_before(*position);
            }
        }
        shares
    }

    /// How far the token before a position is from it: once around the ring if there is no other.
    fn length_before(&self, position: u64) -> u128 {
        let before = self.owners.range(..position).next_back();
        match before.or_else(|| self.owners.last_key_value()) {
            Some((before, _)) if *before != position => position.wrapping_sub(*before).into(),
            _ => RING,
        }
    }

    /// Who owns a position.
    fn owner(&self, position: u64) -> Option<NodeIndex> {
        let behind = self.owners.range(position..).next();
        behind.or_else(|| self.owners.first_key_value()).and_then(|(_, owner)| *owner)
    }

    /// What the node that joins would gain by a token, and what its loser owns; nobody loses what
    /// the node has already.
    fn gained_at(&self, position: u64) -> (u128, u128) {
        match self.owner(position) {
            Some(loser) => (self.length_before(position), self.owned[&loser]),
            None if self.owners.is_empty() => (RING, 0),
            None => (0, 0),
        }
    }

    /// The node that joins has that token.
    fn take(&mut self, position: u64) {
        let (gained, _) = self.gained_at(position);
        self.new += gained;
        if let Some(loser) = self.owner(position)
            && let Some(owned) = self.owned.get_mut(&loser)
        {
            *owned -= gained;
        }
        self.owners.insert(position, None);
    }
}

/// How far a position is from the nearest that is taken, either way around.
fn distance_to_nearest(taken: &BTreeSet<u64>, position: u64) -> u64 {
    let above = taken.range(position..).next().or_else(|| taken.first());
    let below = taken.range(..position).next_back().or_else(|| taken.last());
    match above.zip(below) {
        None => u64::MAX,
        Some((above, below)) => above.wrapping_sub(position).min(position.wrapping_sub(*below)),
    }
}
