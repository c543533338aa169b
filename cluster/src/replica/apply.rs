//! How committed entries come to the data: those of all groups that a call has committed together, so
//! that the data can fetch from memory what some of them touch while it merges others.

use super::local::{Committed, LocalState};
use super::replicas::Replicas;
use crate::consensus::LogIndex;
use crate::placement::GroupId;
use env::prefetch::prefetch_lines;

/// How much of an entry is fetched from memory before it is read: all of one of a few columns.
const FETCHED_BYTES: usize = 512;

impl<W> Replicas<W> {
    /// Entries of a group up to an index are committed and durable here.
    pub(super) fn committed(&mut self, id: GroupId, up_to: LogIndex) {
        let Some(replica) = self.groups.get_mut(&id) else { return };
        let was_marked = replica.is_held_back();
        if replica.deliver(up_to) && !(was_marked && self.committed.contains(&id)) {
            self.committed.push(id);
        }
    }

    /// Applies what was committed, and says who waited for it.
    pub(super) fn apply_committed(&mut self, state: &mut impl LocalState) {
        if self.committed.is_empty() {
            return;
        }
        let committed = self.committed.iter().filter_map(|id| Some((*id, self.groups.get(id)?)));
        let entries = || committed.clone().flat_map(|(id, replica)| replica.to_apply(id));
        for Committed { payload, .. } in entries() {
            prefetch_lines(&payload[..payload.len().min(FETCHED_BYTES)]);
        }
        let held_back = state.apply(entries());
        for id in self.committed.drain(..) {
            let Some(replica) = self.groups.get_mut(&id) else { continue };
            let first = held_back.iter().find(|(group, _)| *group == id).map(|(_, index)| *index);
            replica.has_applied(first, &mut self.decided.applied);
            replica.trim(&mut self.spare_payloads);
        }
    }

    /// Applies what was held back, as far as that can be done now.
    pub fn apply_held_back(&mut self, state: &mut impl LocalState) {
        let held_back = self.groups.iter().filter(|(_, replica)| replica.is_held_back());
        self.committed.extend(held_back.map(|(&id, _)| id));
        self.committed.sort_unstable();
        self.committed.dedup();
        self.apply_committed(state);
    }
}
