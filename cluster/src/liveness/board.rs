//! What a node's [`Liveness`] knew at one moment, for the other threads of the node.
//!
//! A copy is always a little late, and that is safe, both ways:
//! - *What this node supports.* An epoch is gone from a copy only after [`Liveness`] has withdrawn it.
//!   A late copy shows it for longer: a member keeps its fence, and does not vote, a moment too long.
//!   If a leader has itself fortified under an epoch that is over already, the fence falls with the
//!   next copy, and the leader relies on nothing: its support in that epoch has run out before it was
//!   withdrawn here.
//! - *What others support.* A late copy shows an earlier end, or an epoch that was given up since,
//!   whose promise is kept to its end all the same. A leader relies on less than it could.

use super::state::{DOWN_AFTER_NANOS, Epoch, Liveness, MonotonicNanos, Support};
use crate::leadership;
use crate::ring::HostId;

/// What is promised between this node and others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Whom this node supports, by id.
    supported: Vec<(HostId, Epoch)>,
    /// Who has promised this node support, by id.
    given: Vec<(HostId, Support)>,
    /// Until when a promise of each was relied on last, by id.
    heard_until: Vec<(HostId, MonotonicNanos)>,
    may_vote: bool,
}

impl Liveness {
    /// A copy of what is known now.
    pub fn board(&self) -> Board {
        let supported = self.peers().filter_map(|node| Some((node, self.supports(node)?)));
        let given = self.peers().filter_map(|node| Some((node, self.support_from(node)?)));
        let heard_until = self.peers().filter_map(|node| Some((node, self.heard_until(node)?)));
        Board {
            supported: supported.collect(),
            given: given.collect(),
            heard_until: heard_until.collect(),
            may_vote: self.may_vote(),
        }
    }
}

impl Board {
    /// Nodes that this node does not support any more in the epoch that an older board shows.
    pub fn withdrawn_since<'a>(&'a self, older: &'a Board) -> impl Iterator<Item = HostId> + 'a {
        let is_over =
            |&&(node, epoch): &&(HostId, Epoch)| find(&self.supported, node) != Some(epoch);
        older.supported.iter().filter(is_over).map(|&(node, _)| node)
    }

    /// Whether another node supports this one in an epoch that an older board does not show.
    pub fn has_gained_since(&self, older: &Board) -> bool {
        self.given.iter().any(|&(node, given)| {
            find(&older.given, node).is_none_or(|known| known.epoch != given.epoch)
        })
    }

    /// Whether a node has promised support that still lasts: it is alive, as far as is known.
    pub fn is_live(&self, node: HostId, now: MonotonicNanos) -> bool {
        find(&self.given, node).is_some_and(|given| given.until > now)
    }

    /// Whether a node has promised nothing for so long that nobody waits for it any more, or is not
    /// known at all. One that is neither live nor down may be back any moment.
    pub fn is_down(&self, node: HostId, now: MonotonicNanos) -> bool {
        find(&self.heard_until, node).is_none_or(|until| until.after(DOWN_AFTER_NANOS) <= now)
    }
}

impl leadership::Support for Board {
    fn supports(&self, node: HostId) -> Option<Epoch> {
        find(&self.supported, node)
    }

    fn support_from(&self, node: HostId) -> Option<Support> {
        find(&self.given, node)
    }

    fn may_vote(&self) -> bool {
        self.may_vote
    }
}

fn find<T: Copy>(sorted: &[(HostId, T)], node: HostId) -> Option<T> {
    let position = sorted.binary_search_by_key(&node, |&(host, _)| host).ok()?;
    sorted.get(position).map(|&(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leadership::Support as _;
    use crate::liveness::{Effect, Incarnation, Message, REQUEST_NANOS, SUPPORT_NANOS};

    const OTHER: HostId = HostId(9);

    /// A node that promised support to another, and was promised it, at `now`.
    fn supporting(now: MonotonicNanos) -> Liveness {
        let mut effects = Vec::new();
        let mut liveness = Liveness::start(None, now, &mut effects);
        liveness.incarnation_saved();
        assert!(liveness.add_peer(OTHER, now));
        let epoch = Epoch { incarnation: Incarnation(4), round: 1 };
        let (sent, supporter) = (MonotonicNanos(77), Incarnation(1));
        let request = Message::Request { epoch, supporter, sent, hears: true };
        liveness.receive(OTHER, request, now, &mut effects);
        let own = Epoch { incarnation: Incarnation(1), round: 1 };
        let refused = Message::Refused { epoch: own, supporter: Incarnation(4) };
        liveness.receive(OTHER, refused, now, &mut effects);
        let next = Epoch { incarnation: Incarnation(1), round: 2 };
        let granted = Message::Granted { epoch: next, supporter: Incarnation(4), sent: now };
        liveness.receive(OTHER, granted, now, &mut effects);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Gained { .. })));
        liveness
    }

    #[test]
    fn boards_tell_what_ended_and_what_was_gained() {
        let start = MonotonicNanos(1_000);
        let mut liveness = supporting(start);
        let (none, both) = (Board::default(), liveness.board());
        assert!(both.has_gained_since(&none) && !both.has_gained_since(&both));
        assert_eq!(both.withdrawn_since(&none).count(), 0);
        assert!(both.may_vote() && both.supports(OTHER).is_some());
        assert!(both.is_live(OTHER, start.after(REQUEST_NANOS)));

        liveness.tick(start.after(SUPPORT_NANOS), &mut Vec::new());
        let later = liveness.board();
        assert_eq!(later.withdrawn_since(&both).collect::<Vec<_>>(), [OTHER]);
        assert_eq!(later.withdrawn_since(&later).count(), 0);
        assert!(!later.is_live(OTHER, start.after(SUPPORT_NANOS)));
        assert!(!later.is_down(OTHER, start.after(DOWN_AFTER_NANOS)));
        assert!(later.is_down(OTHER, start.after(SUPPORT_NANOS + DOWN_AFTER_NANOS)));
        assert_eq!(later.supports(OTHER), None);
    }

    #[test]
    fn a_node_that_was_just_met_is_neither_live_nor_down() {
        let start = MonotonicNanos(1_000);
        let mut liveness = Liveness::start(None, start, &mut Vec::new());
        assert!(liveness.board().is_down(OTHER, start), "it is not known");
        assert!(liveness.add_peer(OTHER, start));
        let board = liveness.board();
        assert!(!board.is_live(OTHER, start) && !board.is_down(OTHER, start));
        assert!(board.is_down(OTHER, start.after(DOWN_AFTER_NANOS)));
    }
}
