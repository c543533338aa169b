//! The ring, the placement of data on it, the consensus core of a replicated range, and the
//! connections between nodes.
//!
//! All but [`peer`] is pure: functions of their inputs, with no clock, disk, socket or randomness.
//! - [`ring`]: nodes, their tokens, and the replicas of a token.
//! - [`range`]: the ring as a sorted list of ranges, each on one shard of every node.
//! - [`replica`]: the replicas of one shard: consensus cores wired to its log and its data.
//! - [`placement`]: one ring under one replication setting: the groups and their replicas.
//! - [`consistency`]: whether the live replicas suffice for a consistency level.
//! - [`routing`]: which replicas a request goes to, in which order.
//! - [`consensus`]: one replicated log.
//! - [`founding`]: whether a node founds a cluster, joins one, or waits.
//! - [`joining`]: whether a node may join the cluster.
//! - [`leaving`]: whether a node may leave it, or be removed.
//! - [`replacement`]: how a group comes to other members, one change at a time.
//! - [`retention`]: how much of a shard's log is kept, and for whom.
//! - [`leadership`]: who leads a group, until when it may serve reads, and what time it has closed.
//! - [`link`]: the messages of all groups between two shards of different nodes, as one stream.
//! - [`liveness`]: which nodes are alive, as promises between pairs of nodes.
//! - [`peer`]: connections between shards, which carry bytes and do not know what they mean.

pub mod consensus;
pub mod consistency;
pub mod founding;
pub mod fuzz;
pub mod joining;
pub mod leadership;
pub mod leaving;
pub mod link;
pub mod liveness;
pub mod peer;
pub mod placement;
pub mod range;
pub mod replacement;
pub mod replica;
pub mod retention;
pub mod ring;
pub mod routing;
mod rules;
mod wire;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod random;
#[cfg(test)]
mod simulation;

pub use consistency::{Access, Unavailable};
pub use placement::{GroupId, Placement, Rings};
pub use range::{RangeIndex, Ranges, cuts_for, shard_of};
pub use ring::{HostId, Node, NodeIndex, Ring, RingError};
pub use wire::DecodeError;
