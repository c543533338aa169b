//! What members tell each other about leading, and what a member's shell is told.

use crate::consensus::{EntryId, Term};
use crate::liveness::{self, Epoch, Liveness};
use crate::ring::HostId;
use std::fmt;

/// What a member knows of the promises between nodes.
///
/// What is seen through it must not change while a call runs; between calls it changes by steps of
/// [`Liveness`] only. A copy for another thread is sound if an epoch disappears from `supports` in
/// every copy before it is taken for over, and if `support_from` lags.
pub trait Support {
    /// The epoch in which this node supports another.
    fn supports(&self, node: HostId) -> Option<Epoch>;
    /// What another node has promised this one.
    fn support_from(&self, node: HostId) -> Option<liveness::Support>;
    /// Whether nothing that a former life of this node has promised can still be relied on.
    fn may_vote(&self) -> bool;
}

impl Support for Liveness {
    fn supports(&self, node: HostId) -> Option<Epoch> {
        Liveness::supports(self, node)
    }

    fn support_from(&self, node: HostId) -> Option<liveness::Support> {
        Liveness::support_from(self, node)
    }

    fn may_vote(&self) -> bool {
        Liveness::may_vote(self)
    }
}

/// What members tell each other; any of it may be lost, repeated, delayed and reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you vote for me?
    PreVoteRequest {
        /// Which attempt of the sender's this is.
        attempt: u64,
        /// The last entry of its log.
        last: EntryId,
    },
    /// The answer; it binds nobody.
    PreVoteReply {
        /// The attempt.
        attempt: u64,
        /// Whether it would.
        is_granted: bool,
    },
    /// The leader of a term asks a voter to vote for nobody else.
    Fortify {
        /// The term.
        term: Term,
    },
    /// The voter will not, while its node supports the leader's in an epoch.
    Fortified {
        /// The leader's term.
        term: Term,
        /// The epoch.
        epoch: Epoch,
    },
    /// A voter that fortifies the receiver in a term asks whether it still leads it.
    LeadershipQuery {
        /// The term.
        term: Term,
    },
    /// A leader does not, or no longer, rely on being fortified in a term. It says so itself, or the
    /// member that it chose to succeed it.
    Released {
        /// The leader.
        leader: HostId,
        /// The term.
        term: Term,
    },
    /// The leader of a term asks the receiver to take over.
    TakeOver {
        /// The term.
        term: Term,
    },
}

/// What the shell must do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// Step the group with [`Input::Campaign`](crate::consensus::Input::Campaign), before anything
    /// else.
    Campaign,
    /// Step the group with [`Input::Resend`](crate::consensus::Input::Resend): the member does not
    /// know who leads.
    Resend {
        /// The member.
        to: HostId,
    },
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferRefused {
    /// This member does not lead, or is handing over already.
    NotLeader,
    /// The other is no voter, or is this member.
    NotVoter,
    /// Its node does not support this one's, or is not supported.
    NotLive,
    /// It lacks more entries than are soon sent.
    Behind,
}

impl fmt::Display for TransferRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransferRefused::NotLeader => "this member does not lead the group",
            TransferRefused::NotVoter => "the other member has no vote",
            TransferRefused::NotLive => "the other member's node is not alive",
            TransferRefused::Behind => "the other member's log is behind",
        })
    }
}

impl std::error::Error for TransferRefused {}
