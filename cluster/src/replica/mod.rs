//! The replicas that one shard of this node holds: each group's consensus core and its member's part
//! in who leads, wired to the shard's log, to its data, and to the shards of other nodes.
//!
//! ```text
//!   propose ──┐                                   ┌──► LocalLog   append, save votes
//!   receive ──┼──► Group, Leadership ──► effects ─┼──► LocalState apply
//!   tick    ──┤    (pure)                         ├──► Link       take_outgoing
//!   synced  ──┘                                   └──► Decided    who waited
//! ```
//!
//! An entry is proposed, held by this log and by others', committed, applied and answered, in that
//! order. Between proposing and applying it is *undecided*: not visible to readers, but visible to
//! whatever has to read before it writes ([`Replicas::undecided`]), since it will be applied before
//! anything proposed after it.
//!
//! What it promises, besides the rules of `docs/consensus.md`:
//! - every effect of the cores is carried out before the call returns, in their order but that
//!   entries are applied behind the rest, and what has to become durable first counts only when
//!   [`Replicas::log_synced`] says so;
//! - entries are applied once, in order, those of all groups that a call has committed together; one
//!   call to [`Replicas::log_synced`] takes one step per group;
//! - a group whose only member is this node sends nothing, and a proposal and its decision allocate
//!   nothing for it;
//! - entries wait in memory until they are applied, and at a leader, within a number of bytes, until
//!   its followers have them; beyond that they are read back from the log ([`LogRequest`]).
//!
//! It knows neither bytes nor disk nor sockets nor a clock: the log and the data are behind
//! [`LocalLog`] and [`LocalState`], messages leave and come in as bytes, and payloads are opaque but
//! for a mask of the partitions they touch.

mod apply;
mod catch_up;
mod ends;
mod lagging;
mod links;
mod local;
mod member;
mod messages;
mod replicas;
mod room;
#[cfg(test)]
mod tests;

pub use catch_up::{LogRequest, RETRY_NANOS};
pub use ends::LogEnds;
pub use local::{Committed, HeldEntry, Local, LocalLog, LocalState, LogPosition, PartitionMask};
pub use member::NewReplica;
pub use messages::ReceiveError;
pub use replicas::{Decided, ProposeError, Replicas};
pub use room::{BadEntry, BadReason};
