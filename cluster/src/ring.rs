//! The ring: which nodes there are, which tokens they own, and which of them hold a token.
//!
//! A [`Ring`] is an immutable snapshot. The replicas of a token are those that Cassandra and every
//! driver compute, in the same order, so that a driver's first choice is a replica, and is the one
//! that leadership prefers:
//!
//! - SimpleStrategy: the owners of the next tokens, each node once.
//! - NetworkTopologyStrategy: the same walk, for all data centres at once. In a data centre, a node
//!   of a rack that already holds a copy is taken only as long as there are more copies than racks.
//! - Local data is on the node itself.
//!
//! While the ring changes there are nodes that own nothing in it: they come, or have gone
//! ([`Ring::with_guests`]). The ring as it is and the ring as it shall be then number the same nodes
//! in the same way.
//!
//! It does not know which nodes are alive, nor how the ring changes: that is metadata's.

mod tokens;

use crate::range::{CUTS_MIN, Ranges, is_cut_count};
use model::Token;
use model::schema::Replication;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use tokens::choose_tokens;

/// Tokens that a node owns unless it is configured otherwise.
pub const TOKENS_PER_NODE: usize = 16;

/// A node's identity, a UUID; it never changes and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub u128);

/// As `tethys status` shows it.
impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

/// A node's position in [`Ring::nodes`]; meaningful for that ring only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u16);

/// A node of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its identity.
    pub host_id: HostId,
    /// The data centre it stands in.
    pub data_centre: Arc<str>,
    /// The rack within the data centre.
    pub rack: Arc<str>,
    /// Where other nodes reach it.
    pub internode_address: SocketAddr,
    /// Where clients reach it.
    pub cql_address: SocketAddr,
    /// The tokens it owns, ascending; a guest has none.
    pub tokens: Vec<Token>,
}

/// Nodes and the tokens they own.
///
/// Invariants: `nodes` ascends by host id, `owners` ascends by token, neither has repeats, and each
/// token of `owners` is one of its node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    nodes: Vec<Node>,
    owners: Vec<(Token, NodeIndex)>,
    /// How many even cuts it has.
    cuts: usize,
}

/// Why some nodes do not make a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Two nodes have the same identity.
    DuplicateHost(HostId),
    /// Two nodes (or one, twice) own the same token.
    DuplicateToken(Token),
    /// The least token bounds the ring and is nobody's.
    ReservedToken,
    /// A node owns no token.
    NoTokens(HostId),
    /// There are more nodes than a [`NodeIndex`] can number.
    TooManyNodes,
    /// It cannot have that many even cuts.
    Cuts(usize),
}

impl Ring {
    /// Makes the ring of `nodes`, given in any order.
    pub fn new(nodes: Vec<Node>) -> Result<Ring, RingError> {
        match nodes.iter().find(|node| node.tokens.is_empty()) {
            Some(node) => Err(RingError::NoTokens(node.host_id)),
            None => Ring::with_guests(nodes),
        }
    }

    /// Makes the ring of those `nodes` that own tokens; the others are numbered with them, and hold
    /// nothing.
    pub fn with_guests(mut nodes: Vec<Node>) -> Result<Ring, RingError> {
        if nodes.len() > usize::from(u16::MAX) {
            return Err(RingError::TooManyNodes);
        }
        nodes.sort_by_key(|node| node.host_id);
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].host_id == pair[1].host_id) {
            return Err(RingError::DuplicateHost(pair[0].host_id));
        }
        let mut owners = Vec::new();
        for (index, node) in (0_u16..).zip(&mut nodes) {
            node.tokens.sort_unstable();
            owners.extend(node.tokens.iter().map(|&token| (token, NodeIndex(index))));
        }
        owners.sort_unstable();
        if owners.first().is_some_and(|&(token, _)| token == Token::MIN) {
            return Err(RingError::ReservedToken);
        }
        if let Some(pair) = owners.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(RingError::DuplicateToken(pair[0].0));
        }
        Ok(Ring { nodes, owners, cuts: CUTS_MIN })
    }

    /// The ring with so many even cuts, a power of two; a new one has the fewest.
    pub fn with_cuts(self, cuts: usize) -> Result<Ring, RingError> {
        if is_cut_count(cuts) { Ok(Ring { cuts, ..self }) } else { Err(RingError::Cuts(cuts)) }
    }

    /// The nodes, ascending by host id, guests included.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes that own tokens, in the same order.
    pub fn members(&self) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.iter().filter(|node| !node.tokens.is_empty())
    }

    /// The node at `index`, which must come from this ring.
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[usize::from(index.0)]
    }

    /// The position of the node with that identity.
    pub fn index_of(&self, host_id: HostId) -> Option<NodeIndex> {
        let found = self.nodes.binary_search_by_key(&host_id, |node| node.host_id);
        found.ok().map(|index| NodeIndex(index as u16))
    }

    /// Every token and its owner, ascending by token.
    pub fn owners(&self) -> &[(Token, NodeIndex)] {
        &self.owners
    }

    /// The ring cut into ranges: at the even points, and at tokens that are none.
    pub fn ranges(&self) -> Ranges {
        Ranges::new(self.owners.iter().map(|&(token, _)| token), self.cuts)
    }

    /// The nodes that hold `token`, the preferred leader first. `local` is the node that asks: local
    /// data is its own. Fewer than the factor when there are fewer nodes.
    pub fn replicas(
        &self,
        replication: &Replication,
        token: Token,
        local: NodeIndex,
    ) -> Vec<NodeIndex> {
        match replication {
            Replication::Local => vec![local],
            Replication::Simple { factor } => self.simple_replicas(token, *factor as usize),
            Replication::NetworkTopology { factors } => {
                let mut centres: Vec<CentreWalk> = factors
                    .iter()
                    .map(|(name, &factor)| CentreWalk::new(self, name, factor as usize))
                    .collect();
                self.topology_replicas(token, &mut centres)
            }
        }
    }

    fn simple_replicas(&self, token: Token, factor: usize) -> Vec<NodeIndex> {
        let wanted = factor.min(self.members().count());
        let mut replicas = Vec::with_capacity(wanted);
        for node in self.walk_from(token) {
            if replicas.len() == wanted {
                break;
            }
            if !replicas.contains(&node) {
                replicas.push(node);
            }
        }
        replicas
    }

    fn topology_replicas(&self, token: Token, centres: &mut [CentreWalk]) -> Vec<NodeIndex> {
        let mut missing: usize = centres.iter().map(|centre| centre.missing).sum();
        let mut replicas = Vec::with_capacity(missing);
        for index in self.walk_from(token) {
            if missing == 0 {
                break;
            }
            let node = self.node(index);
            let Some(centre) = centres.iter_mut().find(|c| *c.name == *node.data_centre) else {
                continue;
            };
            if !replicas.contains(&index) && centre.takes(&node.rack) {
                replicas.push(index);
                missing -= 1;
            }
        }
        replicas
    }

    /// The owner of each token from the first not below `token`, once around the ring.
    fn walk_from(&self, token: Token) -> impl Iterator<Item = NodeIndex> {
        let start = self.owners.partition_point(|&(owned, _)| owned < token);
        self.owners[start..].iter().chain(&self.owners[..start]).map(|&(_, node)| node)
    }
}

/// One data centre during the walk around the ring.
struct CentreWalk<'a> {
    name: &'a str,
    /// Copies still to be placed.
    missing: usize,
    /// How many more nodes may share a rack with a copy placed before.
    rack_repeats: usize,
    racks_used: BTreeSet<Arc<str>>,
}

impl<'a> CentreWalk<'a> {
    fn new(ring: &Ring, name: &'a str, factor: usize) -> CentreWalk<'a> {
        let nodes = || ring.members().filter(|node| *node.data_centre == *name);
        let rack_count = nodes().map(|node| &node.rack).collect::<BTreeSet<_>>().len();
        CentreWalk {
            name,
            missing: factor.min(nodes().count()),
            rack_repeats: factor.saturating_sub(rack_count),
            racks_used: BTreeSet::new(),
        }
    }

    /// Whether the next node of the walk, which stands in `rack`, gets a copy.
    fn takes(&mut self, rack: &Arc<str>) -> bool {
        if self.missing == 0 {
            return false;
        }
        if !self.racks_used.insert(rack.clone()) {
            if self.rack_repeats == 0 {
                return false;
            }
            self.rack_repeats -= 1;
        }
        self.missing -= 1;
        true
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::DuplicateHost(host) => write!(f, "two nodes have host id {host}"),
            RingError::DuplicateToken(token) => write!(f, "token {} has two owners", token.0),
            RingError::ReservedToken => write!(f, "token {} cannot be owned", i64::MIN),
            RingError::NoTokens(host) => write!(f, "node {host} owns no token"),
            RingError::Cuts(cuts) => write!(f, "a ring cannot be cut at {cuts} even points"),
            RingError::TooManyNodes => write!(f, "a ring has at most {} nodes", u16::MAX),
        }
    }
}

impl std::error::Error for RingError {}

#[cfg(test)]
pub(crate) mod tests;
