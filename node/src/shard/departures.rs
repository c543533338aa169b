//! Groups that were held here and are held by others from now on: their rows and logs go.
//!
//! Which these are is said by the view: the group's setting is in use, and neither the ring nor a plan
//! places its range on this node. While a plan stands nothing goes, since it may be withdrawn.
//!
//! The order, in which a crash at any point leaves a group that is found again and goes once more:
//!
//! 1. The replica takes part in nothing any more.
//! 2. What memtables hold of the group becomes files, since a flush says how far a group is in files.
//! 3. One manifest hides its rows, and forgets how far its log was taken up.
//! 4. The log forgets it, and its segments are given up.
//!
//! That a start finds such a group in a log, and metadata that do not place it, means that it goes: a
//! replica that comes by a plan is made only when the metadata that have the plan are durable
//! (`metadata/publish.rs`), so a start never has older ones.

use super::Shard;
use super::state::ShardState;
use cluster::GroupId;
use cluster::liveness::MonotonicNanos;
use std::rc::Rc;
use storage::{FlushReason, Job};

impl Shard {
    /// Looks which groups are to go.
    pub(super) fn begin_departures(&self) {
        self.state.borrow_mut().begin_departures(|group| self.snapshots.is_receiving(group));
    }

    /// Brings what goes a step further.
    pub(super) async fn leave_groups(self: &Rc<Self>) {
        let flush = self.state.borrow_mut().departing_flush();
        if let Some(job) = flush {
            self.run_job(job).await;
            return;
        }
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut state = self.state.borrow_mut();
        if state.end_departures() {
            // What has gone may have come back meanwhile.
            if let Err(error) = state.adopt_groups(self.index, self.shared.shard_count, now) {
                tracing::error!("shard {}: new groups are not led: {error}", self.index);
            }
            drop(state);
            self.connect_members();
            self.wake_log();
        }
    }
}

impl ShardState {
    /// Groups that the view places elsewhere take part in nothing from here on.
    fn begin_departures(&mut self, is_receiving: impl Fn(GroupId) -> bool) {
        let Some(view) = self.adopted.clone() else { return };
        // A node that has gone itself ends, and leaves its data as they are.
        if view.metadata.known_node(self.replicas.me().0).is_none() {
            return;
        }
        let is_elsewhere = |id: &GroupId| {
            *id != GroupId::METADATA
                && !self.intervals.contains_key(id)
                && view.place_of(*id).is_some()
                && !is_receiving(*id)
        };
        let going: Vec<GroupId> = self.replicas.ids().filter(is_elsewhere).collect();
        for id in going {
            tracing::debug!("group {:016x} is held by other nodes", id.0);
            self.replicas.remove(id);
            self.times.remove(&id);
            self.dormant.remove(&id);
            self.noted.remove(&id);
            self.held_back.remove(&id);
            self.left_behind.retain(|(group, _)| *group != id);
            self.departing.insert(id);
        }
    }

    /// A job that writes out what memtables hold of groups that go.
    fn departing_flush(&mut self) -> Option<Job> {
        let engine = &mut self.engine;
        self.departing.iter().find_map(|id| engine.flush_job(FlushReason::Log { group: id.0 }))
    }

    /// Takes the next step of groups that are in files; whether any has gone.
    fn end_departures(&mut self) -> bool {
        let mut is_any = false;
        for id in self.departing.clone() {
            if self.engine.is_removed(id.0) {
                // A log without room is told the next time, and one that failed has ended the shard's
                // writes: a start finds the group once more.
                let is_forgotten = self.log.remove(id).is_ok();
                if is_forgotten {
                    self.departing.remove(&id);
                    is_any = true;
                } else {
                    self.remove_rows(id);
                }
            } else if !self.engine.is_removing(id.0) {
                self.remove_rows(id);
            }
        }
        is_any
    }

    fn remove_rows(&mut self, id: GroupId) {
        let parts = self.snapshot_parts(id);
        // Something may be in memory yet, or in a file that no manifest lists.
        let is_begun = self.engine.remove_group(id.0, &parts);
        if !is_begun {
            tracing::trace!("group {:016x} is not in files yet", id.0);
        }
    }
}
