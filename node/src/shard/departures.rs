//! Groups that were held here and are held by others from now on: their rows and logs go.
//!
//! Which these are is said by the view: the group's setting is in use, and neither the ring nor a plan
//! places its range on this node. While a plan stands nothing goes, since it may be withdrawn.
//!
//! The order, in which a crash at any point leaves a group that is whole, or one of which it is known
//! that it goes:
//!
//! 1. The replica takes part in nothing any more.
//! 2. The log says that the group was removed, and keeps its term, its vote and its last entry: should
//!    the range come back, the replica that is made anew votes by them (`groups.rs`).
//! 3. What memtables hold of the group becomes files, since a flush says how far a group is in files.
//! 4. One manifest hides its rows, and forgets how far its log was taken up.
//!
//! A crash before 2 is durable leaves the group as it was. A start that finds it, and metadata that place
//! it elsewhere, knows that it goes: a replica that comes by a plan is made only when the metadata that
//! have the plan are durable (`metadata/publish.rs`), so a start never has older ones. After a crash
//! behind 2 a start finds in tables what its log has removed, and goes on with 3. No replica is made
//! anew before 4 is durable.

use super::Shard;
use super::state::ShardState;
use cluster::GroupId;
use cluster::consensus::EntryId;
use cluster::liveness::MonotonicNanos;
use std::rc::Rc;
use storage::commitlog::{LogPosition, Replay};
use storage::{FlushReason, Job};

/// How far a group is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// Its replica is gone, whose last entry was this.
    Begun(EntryId),
    /// The log says so, once it is durable up to here.
    Logged(LogPosition),
    /// Its rows go.
    Rows,
}

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
        let is_logged = state.log_departures();
        let is_any_gone = state.end_departures();
        if is_any_gone {
            // What has gone may have come back meanwhile.
            if let Err(error) = state.adopt_groups(self.index, self.shared.shard_count, now) {
                tracing::error!("shard {}: new groups are not led: {error}", self.index);
            }
        }
        drop(state);
        if is_any_gone {
            self.connect_members();
        }
        if is_logged || is_any_gone {
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
            let last = self.replicas.last(id);
            self.replicas.remove(id);
            self.times.remove(&id);
            self.dormant.remove(&id);
            self.noted.remove(&id);
            self.held_back.remove(&id);
            self.left_behind.retain(|(group, _)| *group != id);
            self.departing.insert(id, Departure::Begun(last));
        }
    }

    /// A job that writes out what memtables hold of groups that go.
    fn departing_flush(&mut self) -> Option<Job> {
        let engine = &mut self.engine;
        self.departing.keys().find_map(|id| engine.flush_job(FlushReason::Log { group: id.0 }))
    }

    /// Has the log say of which groups it is to keep nothing but how they voted; whether any is new.
    fn log_departures(&mut self) -> bool {
        let mut is_any = false;
        for (id, departure) in &mut self.departing {
            if let Departure::Begun(last) = *departure
                // A log without room is told the next time, and one that failed has ended the shard's
                // writes: a start finds the group once more.
                && let Ok(position) = self.log.remove(*id, last)
            {
                *departure = Departure::Logged(position);
                is_any = true;
            }
        }
        is_any
    }

    /// Takes the next step of groups that the log has removed; whether any has gone.
    pub(super) fn end_departures(&mut self) -> bool {
        let mut is_any = false;
        for (id, departure) in self.departing.clone() {
            match departure {
                Departure::Logged(position) if self.log.has_removed(id, position) => {
                    self.departing.insert(id, Departure::Rows);
                    self.remove_rows(id);
                }
                Departure::Rows if self.engine.is_removed(id.0) => {
                    self.departing.remove(&id);
                    is_any = true;
                }
                Departure::Rows if !self.engine.is_removing(id.0) => self.remove_rows(id),
                _ => {}
            }
        }
        is_any
    }

    /// Goes on with groups that the log had removed when the node was ended, and the tables had not.
    pub(super) fn find_departures(&mut self, replay: &Replay) {
        let flushed = self.engine.flushed_indexes();
        let is_in_tables =
            |id: &u64| flushed.contains_key(id) || self.engine.snapshot_base(*id).is_some();
        let found = replay.removed().keys().copied().filter(is_in_tables);
        self.departing.extend(found.map(|id| (GroupId(id), Departure::Rows)));
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
