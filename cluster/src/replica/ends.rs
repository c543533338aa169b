//! Where the log of a group stands whose leader this is, in one look: a shard asks it of all its groups
//! about every millisecond while feeds follow them.

use super::replicas::Replicas;
use crate::consensus::{EntryId, Term};
use crate::placement::GroupId;

/// The log of a group in which entries may be decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// The term that this member leads.
    pub term: Term,
    /// The last entry that is applied here.
    pub applied: EntryId,
    /// The last entry, committed or not.
    pub last: EntryId,
}

impl<W> Replicas<W> {
    /// Where a group's log stands; nothing unless entries may be decided here
    /// ([`Replicas::may_decide`]).
    pub fn ends_if_deciding(&self, id: GroupId) -> Option<LogEnds> {
        let replica = self.groups.get(&id).filter(|replica| replica.may_decide())?;
        let (term, last) = (replica.group.term(), replica.group.last());
        let index = replica.applied();
        Some(LogEnds {
            term,
            applied: EntryId { index, term: replica.group.term_at(index)? },
            last,
        })
    }
}
