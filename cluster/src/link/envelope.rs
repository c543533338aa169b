//! What travels over a link.

use crate::consensus::{self, EntryId, LogIndex, Term};
use crate::leadership::{self, ClosedMicros};
use crate::placement::GroupId;

/// One message of a group's member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The leader's entries after `previous` up to `last`, which the shell adds when the envelope
    /// leaves ([`consensus::Effect::SendAppend`]).
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first.
        previous: EntryId,
        /// The last entry.
        last: LogIndex,
        /// How far the log is committed.
        commit: LogIndex,
    },
    /// Any other message of the consensus core.
    Consensus(consensus::Message),
    /// A message about who leads.
    Leadership(leadership::Message),
    /// The leader has closed this time after an entry.
    Closed {
        /// The last entry appended when it was closed.
        entry: EntryId,
        /// What is closed.
        closed: ClosedMicros,
    },
}

/// How much of a session has been sent or taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The session; later ones are greater, also those of a later life of the sender. 0 is none.
    pub session: u64,
    /// Envelopes with items.
    pub count: u64,
}

/// One message on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's session, and how many envelopes with items it has sent in it, this one included.
    pub sent: Progress,
    /// What the sender has taken of the receiver's.
    pub taken: Progress,
    /// Whether the sender missed an envelope of that session of the receiver's, and takes no more of it.
    pub is_refused: bool,
    /// Whether the sender waits to hear what was taken of its own.
    pub wants_answer: bool,
    /// Messages of groups, in order; none if only the rest is news.
    pub items: Vec<(GroupId, Item)>,
}
