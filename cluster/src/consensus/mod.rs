//! One replicated log: the consensus core of a group, after Raft.
//!
//! A [`Group`] is a state machine without a clock, a disk, a socket or randomness. Its shell feeds it
//! [`Input`]s one at a time and carries out the [`Effect`]s that come back, in order:
//!
//! ```text
//!             Propose, Campaign, …        Append, SaveVote          +------------------+
//!   requests ----------------------> +-------+ ------------------> | the shard's log  |
//!                                    | Group |                      +------------------+
//!      peers <---------------------> +-------+ <-------------------- LogSynced, VoteSynced
//!              Send, Receive             |
//!                                        +--> Committed: apply, then acknowledge
//! ```
//!
//! **It never sees an entry's bytes.** It numbers entries and remembers the term of each as runs of
//! equal terms, so its memory is a few words however long the log. The shell holds the bytes by
//! index until they are applied, as it must anyway; [`Effect::SendAppend`] names the entries that a
//! follower needs, old or new, and the shell fetches them from memory or from the log. On the other
//! side the shell keeps a message's bytes while the group looks at its [`Header`]s, and then writes
//! those that [`Effect::AppendReceived`] names.
//!
//! **What the shell owes.** Writes of one group (appends and votes alike) become durable in the
//! order of the effects, and are reported in that order. An append at an index voids everything
//! that was written at or above it. What a restarted shell hands to [`Group::recover`] is durable
//! first. Messages may be lost, repeated, delayed and reordered. A member that is not heard from is
//! sent to again only on [`Input::Resend`].
//!
//! With one member there are no messages: a campaign leads as soon as the vote is durable, and a
//! proposal is committed by the report that it is. That path allocates nothing.
//!
//! The rules, numbered, are in `docs/consensus.md`; scripts in `testscripts/consensus` show each.
//!
//! # What stands beside it
//!
//! - [`Leadership`](crate::leadership::Leadership) decides when to campaign, drops vote requests that
//!   would break a promise, and has the lease. The group itself would vote for anyone at any time.
//! - [`Link`](crate::link::Link) carries the messages of all groups between two shards, limits the
//!   bytes under way, and says when [`Input::Resend`] is due.
//! - *Snapshots.* [`Effect::SnapshotNeeded`] says that a member needs entries that were discarded, or
//!   all of many.
//!   The shell streams the range, the receiver starts its group anew from what
//!   [`Recovered::after_snapshot`] makes of its log, and [`Input::Resend`] goes on from there.
//! - [`retention`](crate::retention) says which entries are discarded.
//!
//! A member that lags gets [`ENTRIES_PER_APPEND_MAX`] entries per answer; one that keeps up gets each
//! entry as it is proposed, up to [`ENTRIES_IN_FLIGHT_MAX`] beyond those it holds.

mod group;
mod history;
mod leader;
mod membership;
mod message;
mod snapshot;

#[cfg(test)]
mod tests;

pub use group::{Group, Recovered, RecoveryError};
pub use leader::{ENTRIES_IN_FLIGHT_MAX, ENTRIES_PER_APPEND_MAX};
pub use membership::{Change, MEMBERS_MAX, Membership};
pub use message::{
    Effect, EntryId, HardState, Header, Input, Kind, LogIndex, Message, Refusal, Term, TermRun,
};
