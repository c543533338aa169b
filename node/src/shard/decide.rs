//! The leader's decision: from what a client asked for to the bytes of one entry.
//!
//! Whatever a write depends on is looked up here, against what is applied and what is proposed and
//! not yet applied (the overlay), in one step without a pause. Followers merge bytes and decide
//! nothing. A step that finds a block missing says so and is made again from the start once the
//! block is there; nothing was proposed meanwhile.

use super::read::ReadError;
use super::state::{LeaderTimes, ShardState};
use super::write::{Change, Outcome, Waiter, WriteError, WriteRequest};
use crate::view::View;
use cdc::{BaseChange, Content, LogLayout, Look, Need, Room, WriteInput};
use cluster::GroupId;
use cluster::liveness::MonotonicNanos;
use cluster::replica::{PartitionMask, Replicas};
use cql::plan::write::PartitionWrite;
use env::Clock;
use env::planted::{Bug, is_planted};
use model::entry::{
    Entry, Placement, WriteEntryWriter, write_reservation, write_switch, write_truncate,
};
use model::list_operation::{ListError, ListOperation};
use model::mutation::{MutationItem, MutationView, MutationWriter, stamp};
use model::partition::Partition;
use model::read::Slice;
use model::row::{Cell, RowHead, RowView, RowWriter};
use model::{EpochSeconds, TableDef, TimestampMicros, Token};
use storage::{Engine, RowInPlace};

/// How far behind the clock a range is closed when nobody reads its closed time, in microseconds:
/// a write that arrives later than this after its own timestamp is a late one.
pub(super) const CLOSED_TRAILS_MICROS: i64 = 5_000_000;

/// A decided entry, to be proposed.
pub(super) struct Proposal {
    pub payload: Vec<u8>,
    pub partitions: PartitionMask,
    pub times: LeaderTimes,
    /// New last log times of partitions with images, by the partition's hash.
    pub log_times: Vec<(u64, TimestampMicros)>,
}

/// Why a decision was not made.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Something has to be read first; then it is tried again.
    NeedsRead(storage::ReadError),
    /// A logged batch holds a list that the write looks at; then it is tried again.
    ListsAreHeld,
    /// The write is refused.
    Failed(WriteError),
}

impl From<storage::ReadError> for Attempt {
    fn from(error: storage::ReadError) -> Self {
        match error {
            storage::ReadError::Storage(error) => Attempt::Failed(ReadError::from(error).into()),
            other => Attempt::NeedsRead(other),
        }
    }
}

/// One decision in the making.
pub(super) struct Step<'a> {
    view: &'a View,
    pub group: GroupId,
    pub wall: TimestampMicros,
    /// The range's place in time after what was decided so far.
    times: LeaderTimes,
    /// Groups of log rows made so far.
    group_count: u64,
    /// New last log times of partitions with images.
    log_times: Vec<(u64, TimestampMicros)>,
    /// For rows under deletes that are told one by one.
    room: Room,
}

impl<'a> Step<'a> {
    fn new(view: &'a View, group: GroupId, wall: TimestampMicros, times: LeaderTimes) -> Self {
        let (group_count, log_times, room) = (0, Vec::new(), Room::OF_ENTRY);
        Step { view, group, wall, times, group_count, log_times, room }
    }
}

/// Bits of a log row group's number within its entry; the entry's index is above them.
const GROUP_NUMBER_BITS: u32 = 15;

/// One partition of a write, as the leader looks at it.
pub(super) struct Target<'a> {
    pub table: &'a TableDef,
    pub key: &'a [u8],
    pub token: Token,
    pub group: GroupId,
    pub mask: PartitionMask,
}

impl ShardState {
    /// Decides a request; there is no proposal when it changes nothing and that can be said now.
    pub(super) fn decide(
        &mut self,
        view: &View,
        request: &mut WriteRequest,
        wall: TimestampMicros,
        clock: &Clock,
    ) -> Result<(Option<Proposal>, Outcome), Attempt> {
        self.clock.raise(request.clock_floor);
        let mut times = self.leader_times(request.group);
        knows_logs(view, times.placement.switched_at)?;
        let closed = wall.saturating_sub(self.closing.trails_micros(request.group));
        times.placement.closed = times.placement.closed.max(closed);
        let mut payload = self.replicas.payload_buffer();
        let mut partitions = PartitionMask::default();
        let mut log_times = Vec::new();
        let mut outcome = None;
        match &mut request.change {
            Change::Truncate(table) => {
                partitions = PartitionMask(u64::MAX);
                write_truncate(&mut payload, &times.placement, self.clock.now(wall), *table);
            }
            Change::Switch(index) => {
                times.placement = switched(view, &times.placement, *index)?;
                write_switch(&mut payload, &times.placement, self.clock.now(wall));
            }
            Change::Reservation(reserved) => {
                times.placement.reserved = times.placement.reserved.max(*reserved);
                write_reservation(&mut payload, &times.placement, self.clock.now(wall));
            }
            // These are decided by whatever the wall clock shows, which no timestamp may follow.
            Change::Metadata(command) => payload.append(command),
            change @ (Change::Write(_) | Change::Conditional(_)) => {
                let mut entry = WriteEntryWriter::new(&mut payload);
                let mut step = Step::new(view, request.group, wall, times);
                let mut is_empty = true;
                match change {
                    Change::Conditional(conditional) => {
                        let decided =
                            self.decide_conditional(&mut step, conditional, &mut entry)?;
                        (partitions, is_empty) = (decided.mask, !decided.has_changed);
                        outcome = Some(decided.outcome);
                    }
                    Change::Write(writes) => {
                        for write in writes {
                            let (mask, changed) =
                                self.decide_partition(&mut step, write, &mut entry)?;
                            partitions = partitions.and(mask);
                            is_empty &= !changed;
                        }
                    }
                    _ => unreachable!("matched above"),
                }
                times = step.times;
                log_times = step.log_times;
                // A write that changes nothing is true once what it repeats is, and a refusal once
                // what it saw is. Both were read, so they are told at once under the lease alone,
                // with the clock read last; else an empty entry finds out who leads.
                if is_empty
                    && self.replicas.undecided(request.group, partitions).next().is_none()
                    && self.may_serve(request.group, clock)
                {
                    self.replicas.give_back(payload);
                    return Ok((None, outcome));
                }
                let time = self.clock.now(wall);
                entry.finish(&times.placement, time);
            }
        }
        Ok((Some(Proposal { payload, partitions, times, log_times }), outcome))
    }

    /// Whether what was read of a group until now is the newest there is: nobody else leads it.
    pub(super) fn may_serve(&self, group: GroupId, clock: &Clock) -> bool {
        // Not the turn's time: the question is whether the lease holds now.
        let now = MonotonicNanos(clock.monotonic_nanos());
        self.replicas.may_serve(group, &*self.support, now)
    }

    pub(super) fn leader_times(&self, group: GroupId) -> LeaderTimes {
        self.times.get(&group).copied().unwrap_or_else(|| {
            let mut placement = self.engine.placement(group.0);
            // What others placed and is not applied here yet counts as well.
            for payload in self.replicas.undecided(group, PartitionMask::ALL) {
                let decoded = Entry::decode(payload).ok();
                if let Some((placed, _)) = decoded.and_then(|entry| entry.place_in_time()) {
                    placement.raise(&placed);
                }
            }
            // Images of a log may have been switched while another led, and the entry that closes
            // what was placed under the other rules not be there yet.
            let placed_at_start = placement.placed;
            let mut placement = cdc::place::close_for_images(&placement);
            // The leader before may have closed what it had reserved.
            placement.closed = placement.closed.max(placement.reserved);
            LeaderTimes { placement, placed_at_start }
        })
    }

    /// Decides the change of one partition and writes it to the entry. Says which partition that
    /// is, and whether anything changes.
    pub(super) fn decide_partition(
        &mut self,
        step: &mut Step,
        write: &mut PartitionWrite,
        entry: &mut WriteEntryWriter,
    ) -> Result<(PartitionMask, bool), Attempt> {
        let (token, group) = (write.token, step.group);
        let mask = partition_mask(&write.table, token);
        let layout = step.view.log_layout(write.table.id);
        // A write with a timestamp and without a log depends on nothing that is there.
        let newest = if layout.is_some() || !write.is_stamped {
            let target = Target { table: &write.table, key: write.key(), token, group, mask };
            self.newest_timestamp(&target)
        } else {
            None
        };
        if !write.is_stamped {
            let mut timestamp = self.clock.next(step.wall, newest);
            if write.is_counter {
                // No client stamps counters: what lies far ahead was given out by a leader whose
                // clock was, and a sum below it would be lost.
                timestamp = timestamp.max(newest.map_or(timestamp, |n| n.saturating_add(1)));
            }
            stamp(&mut write.mutation, timestamp).expect("the planner's bytes are well-formed");
            for operation in &mut write.list_operations {
                operation.timestamp = timestamp;
            }
            write.is_stamped = true;
        }
        let operations = &write.list_operations;
        let table = &*write.table;
        let target = Target { table, key: write.key(), token, group, mask };
        let resolved = if write.is_counter {
            Some(self.add_up_counters(&target, &write.mutation)?)
        } else {
            self.resolve_lists(&target, &write.mutation, operations, step.wall)?
        };
        let bytes = resolved.as_deref().unwrap_or(&write.mutation);
        let mutation = MutationView::new(bytes).expect("the planner's bytes are well-formed");
        if mutation.is_empty() {
            return Ok((mask, false));
        }
        let changed = if let Some(layout) = layout {
            self.decide_logged(step, layout, &target, mutation, newest, entry)?
        } else {
            entry.mutation(|out| out.extend_from_slice(bytes));
            true
        };
        Ok((mask, changed))
    }

    /// Decides a change of a table with CDC on: where it stands in the log's time, and the log rows
    /// that tell of it. Says whether anything changes.
    fn decide_logged(
        &mut self,
        step: &mut Step,
        layout: &LogLayout,
        target: &Target,
        mutation: MutationView,
        newest: Option<TimestampMicros>,
        entry: &mut WriteEntryWriter,
    ) -> Result<bool, Attempt> {
        if self.closing.is_watched(step.group)
            && let Some(newest) = mutation.newest_timestamp()
        {
            self.closing.arrived(step.wall.saturating_sub(newest));
        }
        let has_images = layout.has_images();
        let log_time_key = partition_hash(target.table, target.token);
        let input = WriteInput {
            layout,
            generations: &step.view.generations,
            mutation,
            token: target.token,
            newest: newest.filter(|_| !is_planted(Bug::LateWritesLoggedWhole)),
            leader: cdc::Leader {
                times: step.times.placement,
                started_at: step.times.placed_at_start,
            },
            clock_micros: self.clock.now(step.wall),
            now_seconds: step.wall / 1_000_000,
            last_log_time: has_images.then(|| self.log_times.get(log_time_key)).flatten(),
            room: None,
        };
        let refused =
            |error: cdc::CdcError| Attempt::Failed(WriteError::Invalid(error.to_string()));
        let need = cdc::need(&input).map_err(refused)?;
        let partition;
        let mut room = None;
        let content = match row_in_place(&mut self.engine, &self.replicas, target, &need)? {
            Some(row) => Some(row),
            None => match need.look() {
                None => None,
                Some(look) => {
                    (partition, room) = self.content_before(target, &look, step.room, &mutation)?;
                    Some(Content::Partition(&partition))
                }
            },
        };
        let first_number = (self.replicas.last_index(target.group).0 + 1) << GROUP_NUMBER_BITS;
        let mut uuid_counter = || {
            step.group_count += 1;
            first_number + step.group_count
        };
        let log = &mut self.log_buffer;
        let input = WriteInput { room, ..input };
        let decision = cdc::decide(&input, content, &mut uuid_counter, log).map_err(refused)?;
        step.times.placement = decision.times;
        step.room = decision.room.unwrap_or(step.room);
        let log_time = decision.last_log_time.filter(|_| has_images);
        step.log_times.extend(log_time.map(|time| (log_time_key, time)));
        match &decision.base {
            BaseChange::AsItStands => {
                entry.mutation(|out| out.extend_from_slice(mutation.as_bytes()));
            }
            BaseChange::Reduced(bytes) => entry.mutation(|out| out.extend_from_slice(bytes)),
            BaseChange::Nothing => {}
        }
        for log_mutation in log.mutations().skip(usize::from(is_planted(Bug::LogsAllButOne))) {
            entry.mutation(|out| out.extend_from_slice(log_mutation));
        }
        Ok(decision.base != BaseChange::Nothing || !log.is_empty())
    }

    /// The newest timestamp in a partition, what is undecided included.
    pub(super) fn newest_timestamp(&self, target: &Target) -> Option<TimestampMicros> {
        let applied = self.engine.newest_timestamp(target.table.id, target.token, target.key);
        let mut newest = applied;
        for_undecided(&self.replicas, target, |change| {
            if let UndecidedChange::Mutation(mutation) = change {
                newest = newest.max(mutation.newest_timestamp());
            }
        });
        newest
    }

    /// What a partition holds in these slices, applied and undecided, tombstones kept.
    pub(super) fn content(
        &mut self,
        target: &Target,
        slices: &[Slice],
    ) -> Result<Partition, storage::ReadError> {
        let mut partition =
            self.engine.load_partition(target.table.id, target.token, target.key, slices)?;
        for_undecided(&self.replicas, target, |change| change.add_to(&mut partition));
        Ok(partition)
    }

    /// What a write meets in a partition; with the room for rows under its deletes if they are in it,
    /// which they are if they fit.
    fn content_before(
        &mut self,
        target: &Target,
        look: &Look,
        room: Room,
        mutation: &MutationView,
    ) -> Result<(Partition, Option<Room>), storage::ReadError> {
        let (table, token, key) = (target.table.id, target.token, target.key);
        let small = if look.deleted_rows.is_empty() {
            None
        } else {
            let (slices, limits) = (look.with_deleted_rows(), (room.rows, room.bytes));
            self.engine.load_partition_if_small(table, token, key, &slices, limits)?
        };
        let room = small.is_some().then_some(room);
        let mut partition = match small {
            Some(partition) => partition,
            None => self.engine.load_partition(table, token, key, &look.rows)?,
        };
        for_undecided(&self.replicas, target, |change| change.add_to(&mut partition));
        if is_planted(Bug::PreimageAfterWrite) {
            partition.apply(mutation);
        }
        Ok((partition, room))
    }

    /// Replaces operations on lists by the cells they come to. `None` when there are none.
    fn resolve_lists(
        &mut self,
        target: &Target,
        mutation: &[u8],
        operations: &[ListOperation],
        wall: TimestampMicros,
    ) -> Result<Option<Vec<u8>>, Attempt> {
        if operations.is_empty() {
            return Ok(None);
        }
        let content = self.content(target, &slices_of(operations))?;
        let resolved = resolve_lists(mutation, operations, &content, wall / 1_000_000);
        resolved.map(Some).map_err(|e| Attempt::Failed(WriteError::Invalid(e.to_string())))
    }
}

/// A mutation with the cells that operations on lists come to, given what the partition held
/// before it.
pub(crate) fn resolve_lists(
    mutation: &[u8],
    operations: &[ListOperation],
    content: &Partition,
    now: EpochSeconds,
) -> Result<Vec<u8>, ListError> {
    let view = MutationView::new(mutation).expect("the planner's bytes are well-formed");
    let mut changed = Partition::default();
    changed.apply(&view);
    for operation in operations {
        let row = match &operation.clustering {
            Some(clustering) => content.effective_row(clustering),
            None => content.effective_static_row(),
        };
        let mut cells = Vec::new();
        operation.resolve(row.as_deref().map(RowView::new), now, &mut cells)?;
        add_cells(&mut changed, operation, &cells);
    }
    let mut bytes = Vec::with_capacity(mutation.len() + 64);
    let mut writer =
        MutationWriter::new(&mut bytes, view.table(), view.schema_version(), view.key());
    changed.write(&mut writer);
    Ok(bytes)
}

/// What an undecided entry does to a partition.
pub(super) enum UndecidedChange<'a> {
    Mutation(&'a MutationView<'a>),
    /// All that was there before goes.
    Truncated,
}

impl UndecidedChange<'_> {
    /// Makes the change in what came before it.
    pub(super) fn add_to(&self, partition: &mut Partition) {
        match self {
            UndecidedChange::Mutation(mutation) => partition.apply(mutation),
            UndecidedChange::Truncated => *partition = Partition::default(),
        }
    }
}

/// Refuses what a leader would decide by metadata that lack a log of which its group was told
/// (docs/log-time.md, 26).
fn knows_logs(view: &View, switched_at: u64) -> Result<(), Attempt> {
    if view.index() >= switched_at || is_planted(Bug::LeadsByOlderMetadata) {
        return Ok(());
    }
    Err(Attempt::Failed(WriteError::NotLeader { hint: None }))
}

/// The place in time after the entry that says that a log was switched.
fn switched(view: &View, before: &Placement, index: u64) -> Result<Placement, Attempt> {
    knows_logs(view, index)?;
    let switched_at = before.switched_at.max(index);
    Ok(Placement { switched_at, ..cdc::place::close_for_images(before) })
}

/// Shows every undecided change of a partition, oldest first.
pub(super) fn for_undecided(
    replicas: &Replicas<Waiter>,
    target: &Target,
    mut each: impl FnMut(&UndecidedChange),
) {
    for payload in replicas.undecided(target.group, target.mask) {
        match Entry::decode(payload) {
            Ok(Entry::Write { mutations, .. }) => {
                for mutation in mutations.flatten() {
                    if mutation.table() == target.table.id && mutation.key() == target.key {
                        each(&UndecidedChange::Mutation(&mutation));
                    }
                }
            }
            Ok(Entry::Truncate { table, .. }) if table == target.table.id => {
                each(&UndecidedChange::Truncated);
            }
            _ => {}
        }
    }
}

/// The one row that is needed, when nothing undecided bears on it and all of it lies in one piece
/// in memory, or is brought there.
fn row_in_place<'c>(
    engine: &'c mut Engine,
    replicas: &Replicas<Waiter>,
    target: &Target,
    need: &Need<'c>,
) -> Result<Option<Content<'c>>, storage::ReadError> {
    let Need::Row(clustering) = *need else { return Ok(None) };
    let mut is_decided = true;
    for_undecided(replicas, target, |_| is_decided = is_planted(Bug::ImagesMissUndecided));
    if !is_decided || is_planted(Bug::PreimageAfterWrite) {
        return Ok(None);
    }
    let (table, token, key) = (target.table.id, target.token, target.key);
    if engine.row_in_place(table, token, key, clustering) == RowInPlace::InPieces
        && !engine.gather_row(table, token, key, clustering)?
    {
        return Ok(None);
    }
    Ok(match engine.row_in_place(table, token, key, clustering) {
        RowInPlace::Absent => Some(Content::Row { clustering, row: None }),
        RowInPlace::Whole(row) => Some(Content::Row { clustering, row: Some(row) }),
        RowInPlace::InPieces => None,
    })
}

/// The rows that operations on lists look at, as ascending slices without repeats.
pub(crate) fn slices_of(operations: &[ListOperation]) -> Vec<Slice> {
    let mut keys: Vec<&[u8]> =
        operations.iter().filter_map(|operation| operation.clustering.as_deref()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(Slice::of_row).collect()
}

fn add_cells(changed: &mut Partition, operation: &ListOperation, cells: &[Cell]) {
    if cells.is_empty() {
        return;
    }
    let mut row = Vec::new();
    let head = RowHead { marker: None, tombstone: None };
    let mut writer = RowWriter::new(&mut row, operation.timestamp, head);
    for cell in cells {
        writer.cell(cell);
    }
    changed.apply_item(match &operation.clustering {
        Some(clustering) => MutationItem::Row { clustering, row: RowView::new(&row) },
        None => MutationItem::StaticRow(RowView::new(&row)),
    });
}

/// The mask of a partition among the undecided entries of its group.
pub(super) fn partition_mask(table: &TableDef, token: Token) -> PartitionMask {
    PartitionMask::of(partition_hash(table, token))
}

/// A hash of a partition; the token is one already.
fn partition_hash(table: &TableDef, token: Token) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    (token.0 as u64 ^ table.id.0 as u64).wrapping_mul(ODD)
}
