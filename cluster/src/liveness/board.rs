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

use super::state::{Epoch, Liveness, Support};
use crate::leadership;
use crate::ring::HostId;

/// What is promised between this node and others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    /// Whom this node supports, by id.
    supported: Vec<(HostId, Epoch)>,
    /// Who has promised this node support, by id.
    given: Vec<(HostId, Support)>,
    may_vote: bool,
}

impl Liveness {
    /// A copy of what is known now.
    pub fn board(&self) -> Board {
        let supported = self.peers().filter_map(|node| Some((node, self.supports(node)?)));
        let given = self.peers().filter_map(|node| Some((node, self.support_from(node)?)));
        let (supported, given) = (supported.collect(), given.collect());
        Board { supported, given, may_vote: self.may_vote() }
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
