//! Who leads a group, and for how long it may believe so: elections, leases, transfers, closed time.
//!
//! The consensus core keeps a group's log right whoever campaigns and whenever. This module decides
//! *when*, on the ground of the support that nodes have promised each other ([`crate::liveness`]):
//!
//! - A leader asks each voter to *fortify* it: to vote for nobody else while the voter's node
//!   supports the leader's node in the present epoch. The voter keeps that as its [`Fence`].
//! - A leader that a majority fortifies, itself included, has a *lease* until the earliest moment
//!   at which the support of that majority could end. Under the lease no other member can have been
//!   elected, so it may answer reads from its own state.
//! - Members campaign only when support for the leader's node has ended, and ask first whether they
//!   would be elected (*pre-vote*): a node that comes back disturbs nobody.
//! - A leader that steps down, or hands over, *releases* its fences, so that the others need not wait
//!   for the end of a support that may never end.
//!
//! ```text
//!   leader                      voter                        another voter
//!     | Fortify { term } ---------> |  fence = leader, term, epoch
//!     | <-- Fortified { term, epoch }                             |
//!     |  lease: until support ends  |                             |
//!     |                             | <-------- VoteRequest       |
//!     |                             |  not admitted by the fence  |
//! ```
//!
//! Everything here is in memory. A voter that restarts has forgotten its fences; it does not vote
//! before the support that they stood on has run out ([`Support::may_vote`]).
//!
//! [`Leadership`] is one member's part, beside its [`Group`](crate::consensus::Group), which it reads
//! and never changes; [`ClosedTime`] is the group's promise about time in its log. Neither has a
//! clock; both cost nothing while nothing happens. The rules are in `docs/consensus.md`, with scripts
//! in `testscripts/leadership`, which run on the simulated clusters of `crate::simulation`.

mod closed;
mod codec;
mod election;
mod lease;
mod message;

pub use closed::{ClosedMicros, ClosedTime, RESERVATION_MICROS};
pub use election::{ELECTION_NANOS, Leadership, RANK_DELAY_NANOS, RETRY_NANOS};
pub use lease::Fence;
pub use message::{Effect, Message, Support, TransferRefused};
