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
//! # What attaches here later
//!
//! - *Liveness per node pair.* The shell campaigns when support lapses, and withholds vote requests
//!   from the group while it supports another leader (log-rules: support fences a group). The group
//!   itself would grant a vote to anyone at any time.
//! - *Leases.* Reads at the leader and closed times are the shell's, from support and
//!   [`Group::is_settled`] (an entry of the leader's own term is committed).
//! - *Transfer of leadership* is a campaign of the other member, which the old leader's shell asks
//!   for once its log has caught up.
//! - *Snapshots.* [`Effect::SnapshotNeeded`] says that a member needs entries that were discarded.
//!   The shell streams the range, the receiver recovers its group from the snapshot's last entry,
//!   and [`Input::Resend`] goes on from there.
//! - *Flow control.* A member that lags gets [`ENTRIES_PER_APPEND_MAX`] entries per answer; one that
//!   keeps up gets each entry as it is proposed. A limit of bytes in flight belongs to the leader's part.

mod group;
mod history;
mod leader;
mod membership;
mod message;

#[cfg(test)]
mod tests;

pub use group::{Group, Recovered, RecoveryError};
pub use leader::ENTRIES_PER_APPEND_MAX;
pub use membership::{Change, MEMBERS_MAX, Membership};
pub use message::{
    Effect, EntryId, HardState, Header, Input, Kind, LogIndex, Message, Refusal, Term, TermRun,
};
