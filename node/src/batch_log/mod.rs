//! Logged batches over several ranges: all of it or nothing, whatever crashes and whoever leads.
//!
//! 1. *Stamped*: every change has its timestamp, the client's or the coordinator's.
//! 2. *Decided*: the entry of one group, the *first*, carries that group's own changes and, in the
//!    same entry, a [record](record) of the changes of all others. Once that entry is committed the
//!    batch is decided. The client of one that is not known to be hears a timeout of type
//!    `BATCH_LOG`, after that one of type `BATCH`.
//! 3. *Done*: the others are written, and the record is deleted. The coordinator does it; if it
//!    dies, or another node is away for long, the leader of the first group does ([`finish`]).
//!
//! Writing a change twice is harmless, since every change has its timestamp from the beginning (and
//! a CDC log does not tell twice of a write that changes nothing).
//!
//! Changes of a list by index or value become changes of cells before the batch is decided, since
//! they may be refused, and since a second look would see another list. If one group has such
//! changes it is the first, and its leader looks in the very step in which it decides. Of several
//! the last is the first group; the others are looked at before, and between the look and the end of
//! the batch no other such change may look at those partitions: they are held
//! ([`crate::shard::ListHold`]). Where other nodes hold them too, they are not: two such changes at
//! once may mean the same element there, as in Cassandra. After a crash every such change waits until the batches of before
//! are finished, as far as this node alone holds their ranges.
//!
//! A record that cannot be read is named in the log and counted, and stays where it is.

mod finish;
mod record;

pub(crate) use finish::OpenBatches;
pub(crate) use record::{BatchId, TABLE, TABLE_ID};

use crate::coordinator::Routed;
use crate::remote::{Deadline, WriteTerms};
use crate::shard::{
    Barrier, Change, ListHold, PartitionId, Shard, WriteError, above_all, resolve_lists, slices_of,
};
use crate::view::View;
use cluster::GroupId;
use cql::plan::write::PartitionWrite;
use finish::TAKEOVER_AGE;
use model::mutation::stamp;
use model::partition::Partition;
use model::read::{ReadCommand, ReadScope};
use model::{Consistency, TimestampMicros};
use record::Record;
use std::cell::Cell;
use std::rc::Rc;
use tokio::sync::oneshot;

impl Shard {
    /// Makes a logged batch over several groups. After an error other than `Unknown` and
    /// `Unfinished` nothing of it was or will be applied.
    pub(crate) async fn write_logged(
        self: &Rc<Self>,
        routed: Routed,
        terms: WriteTerms,
    ) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        let is_decided = Rc::new(Cell::new(false));
        // A client that waits no longer must not leave a decided batch behind.
        tokio::task::spawn_local(self.clone().carry_out(routed, terms, is_decided.clone(), answer));
        let time_left = terms.deadline.to_report().time_left(self);
        match tokio::time::timeout(time_left, answered).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(WriteError::going_down())),
            Err(_) if is_decided.get() => Err(WriteError::Unfinished),
            Err(_) => Err(WriteError::timed_out()),
        }
    }

    async fn carry_out(
        self: Rc<Self>,
        mut routed: Routed,
        terms: WriteTerms,
        is_decided: Rc<Cell<bool>>,
        mut answer: oneshot::Sender<Result<(), WriteError>>,
    ) {
        let Some(first) = first_group(&routed) else { return drop(answer.send(Ok(()))) };
        let holds = tokio::select! {
            holds = self.hold_lists(&routed, first) => holds,
            () = answer.closed() => return,
        };
        let takeover = Deadline::after(&self, TAKEOVER_AGE);
        let decided = match holds {
            Ok(holds) => self.decide_batch(&mut routed, first, terms).await.map(|d| (d, holds)),
            Err(error) => Err(error),
        };
        let ((record, shortfall), holds) = match decided {
            Ok(decided) => decided,
            Err(error) => return drop(answer.send(Err(error))),
        };
        is_decided.set(true);
        let terms = WriteTerms { clock_floor: record.timestamp, is_decided: true, ..terms };
        let result = self.write_routed(routed, terms).await;
        let is_done = result.is_ok();
        let told = match (result, shortfall) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(shortfall)) => Err(shortfall),
            (Err(short @ WriteError::TooFewApplied { .. }), _) => Err(short),
            (Err(_), _) => Err(WriteError::Unfinished),
        };
        drop(answer.send(told));
        if is_done {
            drop(holds);
            self.forget(record.group, record.id, record.timestamp).await;
        } else {
            self.finish_own(&record, takeover).await;
            drop(holds);
        }
    }

    /// Lets nobody else change a list by index or value in the partitions where the batch does,
    /// but for those of the first group. Groups are asked in their order, the first last, so that
    /// two batches never wait for each other.
    async fn hold_lists(
        self: &Rc<Self>,
        routed: &Routed,
        first: GroupId,
    ) -> Result<Vec<ListHold>, WriteError> {
        let mut holds = Vec::new();
        let view = self.view();
        for (group, writes) in routed.iter().filter(|(group, _)| **group != first) {
            let lists = writes.iter().filter(|write| !write.list_operations.is_empty());
            let partitions: Vec<PartitionId> =
                lists.map(|write| (write.table.id, write.key().to_vec())).collect();
            if let Some(shard) = sole_shard(&view, *group).filter(|_| !partitions.is_empty()) {
                holds.push(self.hold_on(shard, partitions).await?);
            }
        }
        Ok(holds)
    }

    /// Stamps the batch, turns changes of lists into changes of cells, and writes the first group's
    /// part with the record of the others, which `routed` keeps. What comes along with the record
    /// is that fewer replicas have it than the level names.
    async fn decide_batch(
        self: &Rc<Self>,
        routed: &mut Routed,
        first: GroupId,
        terms: WriteTerms,
    ) -> Result<(Record, Option<WriteError>), WriteError> {
        // Every shard that takes part raises its clock to this, so no key goes back in time.
        let clock = &self.shared.env.clock;
        let wall = clock.now_micros();
        if !self.shared.wall_clock.is_trusted(wall, clock.monotonic_nanos()) {
            let reason = "this node's clock is not right: it stamps no batch".to_owned();
            return Err(WriteError::Overloaded(reason));
        }
        let timestamp = above_all(&self.shared.clocks, wall);
        let view = self.view();
        for (group, writes) in routed.iter_mut() {
            for write in writes {
                stamp_write(write, timestamp);
                if *group != first && !write.list_operations.is_empty() {
                    let shard = sole_shard(&view, *group);
                    self.look_at_lists(shard, write, wall, terms.deadline).await?;
                }
            }
        }
        let mut writes = routed.remove(&first).unwrap_or_default();
        let place = view.place_of(first);
        let end = place.map(|(_, range)| view.ranges.end_token(range));
        let end = end.ok_or_else(|| WriteError::Invalid("the keyspace was dropped".to_owned()))?;
        let id = BatchId::new(end, self.entropy.borrow_mut().u64());
        let parts: Vec<PartitionWrite> = routed.values().flatten().cloned().collect();
        let record = Record { id, group: first, timestamp, parts };
        writes.push(record.to_write());
        let terms = WriteTerms { clock_floor: timestamp, ..terms };
        match self.write_to_group(first, Change::Write(writes), terms).await {
            Ok(_) => Ok((record, None)),
            Err(short @ WriteError::TooFewApplied { .. }) => Ok((record, Some(short))),
            Err(error) => Err(error),
        }
    }

    /// Replaces changes of lists by the cells they come to; `shard` is where this node alone holds
    /// them, if it does.
    async fn look_at_lists(
        self: &Rc<Self>,
        shard: Option<u16>,
        write: &mut PartitionWrite,
        wall: TimestampMicros,
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        let now = wall / 1_000_000;
        let operations = std::mem::take(&mut write.list_operations);
        let command = ReadCommand {
            table: write.table.id,
            scope: ReadScope::Partition(write.key().into()),
            slices: slices_of(&operations).into(),
            reversed: false,
            include_static: operations.iter().any(|operation| operation.clustering.is_none()),
            now,
            row_limit: u32::MAX,
            partition_row_limit: u32::MAX,
            page_bytes: usize::MAX,
            resume: None,
        };
        let page = if let Some(shard) = shard {
            let barrier = Barrier { undecided: true, by_leader: false };
            self.read_on(shard, command, barrier).await?
        } else {
            let by_leader = (Consistency::Quorum, deadline);
            self.read_range(write.token, command, true, by_leader).await?
        };
        if page.resume.is_some() {
            return Err(WriteError::Invalid("the lists are too large for a batch".to_owned()));
        }
        let mut content = Partition::default();
        for partition in page.partitions() {
            let partition = partition.map_err(|error| WriteError::Read(error.to_string()))?;
            content.apply(&partition);
        }
        write.mutation = resolve_lists(&write.mutation, &operations, &content, now)
            .map_err(|error| WriteError::Invalid(error.to_string()))?;
        Ok(())
    }
}

/// The group whose entry decides a batch: the last that has changes of lists by index or value, else
/// the first of all.
fn first_group(routed: &Routed) -> Option<GroupId> {
    let has_lists =
        |writes: &[PartitionWrite]| writes.iter().any(|write| !write.list_operations.is_empty());
    let with_lists = routed.iter().rev().find(|(_, writes)| has_lists(writes));
    with_lists.or_else(|| routed.first_key_value()).map(|(group, _)| *group)
}

/// The shard of this node that alone holds a group. Lists are held there only: a hold is in the
/// memory of the leader, and does not outlive it or reach another node.
fn sole_shard(view: &View, group: GroupId) -> Option<u16> {
    let place = view.place_of(group);
    let sole = place.filter(|(setting, range)| setting.placement.all(*range) == [view.local]);
    sole.map(|(_, range)| view.shard_on(view.local, range))
}

/// Gives a change the batch's timestamp unless it has one of its own.
fn stamp_write(write: &mut PartitionWrite, timestamp: TimestampMicros) {
    if write.is_stamped {
        return;
    }
    stamp(&mut write.mutation, timestamp).expect("the planner's bytes are well-formed");
    for operation in &mut write.list_operations {
        operation.timestamp = timestamp;
    }
    write.is_stamped = true;
}
