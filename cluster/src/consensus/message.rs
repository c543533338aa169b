//! The words of consensus: terms and indexes, what goes into a group, and what comes out.

use super::membership::{Change, Membership};
use crate::ring::HostId;
use std::fmt;
use std::sync::Arc;

/// A period with at most one leader. Terms only rise; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(pub u64);

/// An entry's position in the log, from 1; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The position after this one.
    #[inline]
    pub fn next(self) -> LogIndex {
        LogIndex(self.0 + 1)
    }

    /// The position before this one, which must not be 0.
    #[inline]
    pub(super) fn previous(self) -> LogIndex {
        LogIndex(self.0 - 1)
    }
}

/// An entry's identity: no two entries of a group share it, whoever holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Its position.
    pub index: LogIndex,
    /// The term of the leader that proposed it.
    pub term: Term,
}

/// What a member must not forget, or it could vote twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term it has heard of.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<HostId>,
}

/// Entries of one term: from `first` up to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// The first of them.
    pub first: LogIndex,
    /// The term of all of them.
    pub term: Term,
}

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of the shell's.
    Data,
    /// A leader's first entry, which commits what its predecessors left.
    NoOp,
    /// The members from here on.
    Membership(Arc<Membership>),
}

/// All of an entry but its bytes; its index follows from its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The term of the leader that proposed it.
    pub term: Term,
    /// What it is for.
    pub kind: Kind,
}

/// What members tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A candidate asks for a vote.
    VoteRequest {
        /// The term it wants to lead.
        term: Term,
        /// The last entry of its log.
        last: EntryId,
    },
    /// The answer.
    VoteReply {
        /// The voter's term.
        term: Term,
        /// Whether it voted for the candidate.
        is_granted: bool,
    },
    /// A leader's entries after `previous`, possibly none.
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first of these.
        previous: EntryId,
        /// The entries.
        entries: Vec<Header>,
        /// How far the leader knows the log to be committed.
        commit: LogIndex,
    },
    /// The follower holds, durably, the leader's log up to `matched`.
    AppendAccepted {
        /// The follower's term.
        term: Term,
        /// The last entry it vouches for.
        matched: LogIndex,
    },
    /// The follower lacks the entry before those it was sent, or is in a later term.
    AppendRejected {
        /// The follower's term.
        term: Term,
        /// The index before the entries it refused.
        previous: LogIndex,
        /// Its last entry that the leader might hold too.
        hint: EntryId,
    },
    /// A leader has committed its last entry, which the follower was sent. Only who lacks it answers.
    Commit {
        /// The leader's term.
        term: Term,
        /// How far the leader knows the log to be committed.
        commit: LogIndex,
    },
}

impl Message {
    /// The sender's term.
    pub fn term(&self) -> Term {
        match self {
            Message::VoteRequest { term, .. }
            | Message::VoteReply { term, .. }
            | Message::Append { term, .. }
            | Message::AppendAccepted { term, .. }
            | Message::AppendRejected { term, .. }
            | Message::Commit { term, .. } => *term,
        }
    }
}

/// What happens to a group.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Support for the leader has lapsed: stand for election. Ignored by leaders and non-voters.
    Campaign,
    /// Append an entry with bytes that the shell holds.
    Propose,
    /// Change the members by one.
    ChangeMembers(Change),
    /// This group's log is durable up to an index.
    LogSynced {
        /// The last durable entry.
        up_to: LogIndex,
        /// The epoch of the effect that appended it.
        log_epoch: u64,
    },
    /// A [`Effect::SaveVote`] is durable.
    VoteSynced(HardState),
    /// A message came in.
    Receive {
        /// Who sent it.
        from: HostId,
        /// What it says.
        message: &'a Message,
    },
    /// A member's answers are overdue, its stream was opened anew, or it has a snapshot now.
    Resend {
        /// The member.
        to: HostId,
    },
    /// The shell no longer keeps entries up to an index, all of which were committed.
    Discard {
        /// The last entry to forget.
        up_to: LogIndex,
    },
}

/// What the shell must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable, then report [`Input::VoteSynced`].
    SaveVote(HardState),
    /// Write an entry of this leader's own (for data, with the bytes just proposed), then report
    /// [`Input::LogSynced`].
    Append {
        /// Its identity.
        entry: EntryId,
        /// What it is for.
        kind: Kind,
        /// To be reported with it.
        log_epoch: u64,
    },
    /// Write entries of the message being received, all from the one at position `skip`. Whatever
    /// the log holds at or above `first` is void.
    AppendReceived {
        /// Index of the first entry to write.
        first: LogIndex,
        /// How many entries of the message come before it.
        skip: usize,
        /// To be reported with them.
        log_epoch: u64,
    },
    /// Send a message as it stands.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// Send a [`Message::Append`] with the entries after `previous` up to `last`; none if `last` is
    /// `previous`.
    SendAppend {
        /// To whom.
        to: HostId,
        /// The leader's term.
        term: Term,
        /// The entry before the first to send.
        previous: EntryId,
        /// The last to send.
        last: LogIndex,
        /// How far the log is committed.
        commit: LogIndex,
    },
    /// A member needs entries that were discarded, or more than it should be sent; nothing more is
    /// sent to it until [`Input::Resend`].
    SnapshotNeeded {
        /// The member.
        to: HostId,
    },
    /// Entries up to this index are committed, and durable here: apply them.
    Committed {
        /// The last of them.
        up_to: LogIndex,
    },
    /// This member leads from here on.
    BecameLeader {
        /// The term it leads.
        term: Term,
    },
    /// This member no longer leads; what it proposed and was not committed may or may not be later.
    SteppedDown,
    /// A proposal or a change was not appended.
    Refused(Refusal),
}

/// Why a proposal or a change was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another member leads, if anyone does.
    NotLeader {
        /// The leader as far as known.
        leader: Option<HostId>,
    },
    /// The members were changed before, and that is not committed yet.
    ChangeInProgress,
    /// This leader has not committed an entry of its own term yet.
    NotSettled,
    /// The learner lacks more entries than may be on their way to it.
    LearnerBehind,
    /// The change does not fit the members there are.
    ImpossibleChange,
}

impl fmt::Display for EntryId {
    /// Writes `index@term`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index.0, self.term.0)
    }
}
