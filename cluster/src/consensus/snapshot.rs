//! What a member is after it has installed a snapshot.
//!
//! A snapshot is the group's data as of an entry, its *base*, with the members at that entry. The
//! order in which a shell installs one, so that a crash at any point leaves either the old replica
//! or the new one:
//!
//! 1. The data arrives and is written and synced *beside* the replica's own. A crash: it is removed.
//! 2. One edit of the manifest replaces the range's data and records the base and the members. This
//!    is the commit point. Meanwhile the member takes no input.
//! 3. The member starts anew from its log as [`Recovered::after_snapshot`] has it. A crash between
//!    2 and 3 comes to the same, since a restart does likewise with what the manifest records.
//! 4. The log is told that it begins after the base, before anything of the group is appended to it
//!    again. A crash before it is harmless: replay comes to the same once more.
//!
//! The member's part in who leads ([`Leadership`](crate::leadership::Leadership)) is not begun anew:
//! what it promised, it goes on to keep.

use super::group::{Recovered, RecoveryError};
use super::history::History;
use super::membership::Membership;
use super::message::{EntryId, LogIndex};
use crate::rules::{Rule, is_kept};
use std::sync::Arc;

impl Recovered {
    /// A log as it was found, with a snapshot that was installed: what it holds up to the base is in
    /// the snapshot. Entries after the base stay if they continue it; if the log holds another entry
    /// at the base, all of them contradict what is committed, and they are void.
    ///
    /// `members` are those in force at the base, with the entry that named them. A snapshot that is
    /// older than the log's beginning changes nothing.
    pub fn after_snapshot(
        self,
        base: EntryId,
        members: (LogIndex, Arc<Membership>),
    ) -> Result<Recovered, RecoveryError> {
        let history = History::recover(self.base, self.runs.clone(), self.last);
        let mut history = history.ok_or(RecoveryError::History)?;
        if base.index <= history.base().index {
            return Ok(self);
        }
        let continues = history.term_at(base.index) == Some(base.term)
            || (!is_kept(Rule::SnapshotReplacesTheLog) && history.last().index >= base.index);
        if continues {
            history.discard(base.index);
        } else {
            history =
                History::recover(base, Vec::new(), base.index).ok_or(RecoveryError::History)?;
        }
        let later =
            self.memberships.into_iter().filter(|&(index, _)| continues && index > base.index);
        let memberships = std::iter::once(members).chain(later).collect();
        Ok(Recovered {
            hard_state: self.hard_state,
            base: history.base(),
            last: history.last().index,
            commit: self.commit.clamp(base.index, history.last().index),
            runs: history.into_runs(),
            memberships,
            vote_floor: self.vote_floor,
        })
    }
}
