//! Which nodes are alive, as promises between pairs of nodes.
//!
//! A node asks every other node for *support*, several times a second. A supporter promises to
//! treat it as alive for the next [`SUPPORT_NANOS`]; while the promise lasts, no group's member on
//! the supporter votes against a leader on the supported node. What a node gathers so is the base
//! of its leaders' leases, for all groups at once: groups without work exchange nothing.
//!
//! ```text
//!   requester                                  supporter
//!      |   Request { epoch, sent }                 |
//!      | ----------------------------------------> |  promises until its clock shows
//!      |                                           |  receipt + SUPPORT_NANOS
//!      |   Granted { epoch, sent }                 |
//!      | <---------------------------------------- |
//!   relies on it until its clock shows             |
//!   sent + RELIANCE_NANOS                          |
//! ```
//!
//! **Clocks.** Each node measures with its own monotonic clock, the requester from sending and the
//! supporter from receipt, and a moment of one clock is never compared with one of another: clocks
//! may differ by any amount. They may run at different speeds, up to [`DRIFT_PPM`] from true time;
//! the margin between what is promised and what is relied on covers that. The clock must count the
//! time in which the machine is suspended.
//!
//! **Epochs.** An [`Epoch`] is one stretch of support. It ends for good when the supporter
//! *withdraws* it, which is a step of this state machine and not a comparison with a clock: until
//! then the supporter keeps to it even past its time, and afterwards it refuses that epoch for ever.
//! The requester then begins the next epoch. A requester that restarts begins a new epoch too.
//!
//! **Restarts.** Nothing of this is written to the disk but an [`Incarnation`], once per start. A
//! request names the incarnation of the supporter that it is for, so that a supporter that has
//! restarted, and has forgotten what it withdrew, takes up no epoch of its former life. What it had
//! promised then has ended before it votes again ([`Liveness::may_vote`]).
//!
//! The module knows no groups, no sockets and no clock: time comes in as an argument. The rules,
//! numbered, are in `docs/liveness.md`; scripts in `testscripts/liveness` show each.

mod board;
mod codec;
mod state;

#[cfg(test)]
mod tests;

pub use board::Board;
pub use state::{
    DOWN_AFTER_NANOS, DRIFT_PPM, Effect, Epoch, Incarnation, Liveness, Message, MonotonicNanos,
    PEERS_MAX, RELIANCE_NANOS, REQUEST_NANOS, SUPPORT_NANOS, Support,
};
