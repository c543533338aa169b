//! Logged batches over several ranges: all of it or nothing, whatever crashes.
//!
//! The first range's entry carries that range's own changes and, in the same entry, a row of the
//! internal table [`TABLE`] with the changes of all others. Once that entry is applied the batch is
//! decided: the others are written, and the row is deleted. A node that finds a row when it starts
//! finishes the batch; writing a change twice is harmless, since every change has its timestamp
//! from the beginning (and a CDC log does not tell twice of a write that changes nothing).
//!
//! Changes of a list by index or value become changes of cells before the batch is decided, since
//! they may be refused, and since a second look after a crash would see another list. Between the
//! look and the end of the batch no other such change may look at those partitions: they are held
//! ([`crate::shard::ListHolds`]), and after a crash every such change waits until the batches of
//! before are finished.
//!
//! A record that cannot be read is named in the log and counted, and stays where it is.

use crate::coordinator::Routed;
use crate::remote::WriteTerms;
use crate::shard::{
    Barrier, Change, ListHold, PartitionId, Shard, WriteError, above_all, resolve_lists, slices_of,
};
use crate::view::View;
use cluster::GroupId;
use cql::plan::write::PartitionWrite;
use model::literal::format_value;
use model::mutation::{MutationItem, MutationView, MutationWriter, stamp};
use model::partition::Partition;
use model::read::{ReadCommand, ReadScope, Slice};
use model::row::{Cell, CellContent, Deletion, RowHead};
use model::schema::Partitioner;
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions, TimestampMicros};
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long to wait before the rest of a decided batch is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long one attempt to write the rest of a decided batch may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Records of unfinished batches that are read at once when a node starts.
const RECORDS_PER_PAGE_MAX: u32 = 1_000;
const PARTS_COLUMN: u32 = 1;

/// The table of unfinished batches: in every shard's engine, and in no schema.
pub(crate) static TABLE: LazyLock<Arc<TableDef>> = LazyLock::new(|| {
    let column = |id, name: &str, kind| ColumnDef {
        id,
        name: name.into(),
        cql_type: CqlType::Blob,
        kind,
        descending: false,
    };
    Arc::new(TableDef {
        id: TableId(1),
        keyspace: "system".into(),
        name: "batches".into(),
        columns: vec![
            column(0, "id", ColumnKind::PartitionKey(0)),
            column(PARTS_COLUMN, "parts", ColumnKind::Regular),
        ],
        dropped_columns: Vec::new(),
        next_column_id: PARTS_COLUMN + 1,
        version: 0,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions { gc_grace_seconds: 0, ..TableOptions::default() },
    })
});

/// A batch that is decided: its record is applied, its other parts are not yet.
struct Decided {
    id: [u8; 16],
    /// Where the record lies.
    first: GroupId,
    /// Every change has its timestamp, and none is of a list by index or value.
    rest: Vec<PartitionWrite>,
    timestamp: TimestampMicros,
}

/// Why a record says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordError {
    /// The key is no id, or the row has no parts.
    NotARecord,
    /// A part's length goes beyond the end, or it is no mutation.
    DamagedPart {
        /// Which, from 0.
        index: usize,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::NotARecord => f.write_str("it has no id or no parts"),
            RecordError::DamagedPart { index } => write!(f, "its part {index} is damaged"),
        }
    }
}

impl Shard {
    /// Makes a logged batch over several groups. After an error other than `Unknown` nothing of
    /// it was or will be applied.
    pub(crate) async fn write_logged(
        self: &Rc<Self>,
        routed: Routed,
        terms: WriteTerms,
    ) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        // A client that waits no longer must not leave a decided batch behind.
        tokio::task::spawn_local(self.clone().carry_out(routed, terms, answer));
        answered.await.unwrap_or_else(|_| Err(WriteError::going_down()))
    }

    async fn carry_out(
        self: Rc<Self>,
        mut routed: Routed,
        terms: WriteTerms,
        mut answer: oneshot::Sender<Result<(), WriteError>>,
    ) {
        let holds = tokio::select! {
            holds = self.hold_lists(&routed) => holds,
            () = answer.closed() => return,
        };
        let holds = match holds {
            Ok(holds) => holds,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let decided = match self.decide_batch(&mut routed, terms).await {
            Ok(Some(decided)) => decided,
            Ok(None) => return drop(answer.send(Ok(()))),
            Err(error) => return drop(answer.send(Err(error))),
        };
        let terms = WriteTerms { clock_floor: decided.timestamp, is_decided: true, ..terms };
        let result = self.write_routed(routed, terms).await;
        let is_finished = result.is_ok();
        let told = result.map_err(|_| {
            WriteError::Unknown("the batch is logged and will be finished".to_owned())
        });
        drop(answer.send(told));
        if is_finished {
            drop(holds);
            return self.forget_batch(&decided).await;
        }
        self.finish_batch(decided).await;
        drop(holds);
    }

    /// Lets nobody else change a list by index or value in the partitions where the batch does.
    /// Groups are asked in their order, so that two batches never wait for each other.
    async fn hold_lists(self: &Rc<Self>, routed: &Routed) -> Result<Vec<ListHold>, WriteError> {
        let mut holds = Vec::new();
        let view = self.view();
        for (group, writes) in routed {
            let lists = writes.iter().filter(|write| !write.list_operations.is_empty());
            let partitions: Vec<PartitionId> =
                lists.map(|write| (write.table.id, write.key().to_vec())).collect();
            if !partitions.is_empty() {
                holds.push(self.hold_on(sole_shard(&view, *group)?, partitions).await?);
            }
        }
        Ok(holds)
    }

    /// Stamps the batch, turns changes of lists into changes of cells, and writes the first group's
    /// part with the record of the others, which `routed` keeps.
    async fn decide_batch(
        self: &Rc<Self>,
        routed: &mut Routed,
        terms: WriteTerms,
    ) -> Result<Option<Decided>, WriteError> {
        // Every shard that takes part raises its clock to this, so no key goes back in time.
        let wall = self.shared.env.clock.now_micros();
        let timestamp = above_all(&self.shared.clocks, wall);
        let view = self.view();
        for (group, writes) in routed.iter_mut() {
            for write in writes {
                stamp_write(write, timestamp);
                if !write.list_operations.is_empty() {
                    self.look_at_lists(sole_shard(&view, *group)?, write, wall).await?;
                }
            }
        }
        let Some((first, mut writes)) = routed.pop_first() else { return Ok(None) };
        let id = self.fresh_uuid();
        let rest: Vec<PartitionWrite> = routed.values().flatten().cloned().collect();
        writes.push(record(id, &parts_of(&rest), timestamp));
        let terms = WriteTerms { clock_floor: timestamp, ..terms };
        self.write_to_group(first, Change::Write(writes), terms).await?;
        Ok(Some(Decided { id, first, rest, timestamp }))
    }

    /// Replaces changes of lists by the cells they come to.
    async fn look_at_lists(
        self: &Rc<Self>,
        shard: u16,
        write: &mut PartitionWrite,
        wall: TimestampMicros,
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
        let barrier = Barrier { undecided: true, by_leader: false };
        let page = self.read_on(shard, command, barrier).await?;
        let mut content = Partition::default();
        for partition in page.partitions() {
            let partition = partition.map_err(|error| WriteError::Read(error.to_string()))?;
            content.apply(&partition);
        }
        write.mutation = resolve_lists(&write.mutation, &operations, &content, now)
            .map_err(|error| WriteError::Invalid(error.to_string()))?;
        Ok(())
    }

    /// Writes what is left of a decided batch until it succeeds, and deletes the record.
    async fn finish_batch(self: &Rc<Self>, decided: Decided) {
        self.unfinished_batches.set(self.unfinished_batches.get() + 1);
        loop {
            let view = self.view();
            let terms = WriteTerms {
                clock_floor: decided.timestamp,
                is_decided: true,
                ..WriteTerms::own(self, FINISH_TIMEOUT)
            };
            // A table that was dropped meanwhile takes its changes with it.
            let mut rest = decided.rest.clone();
            rest.retain(|write| view.table(write.table.id).is_some());
            let error = match self.route(&view, rest, terms.level) {
                Ok(rest) => match self.write_routed(rest, terms).await {
                    Ok(()) => break,
                    Err(error) => error,
                },
                Err(unavailable) => WriteError::Overloaded(unavailable.to_string()),
            };
            tracing::warn!("a logged batch is not finished yet: {error}");
            if self.has_failed() {
                // The next start finishes it.
                return;
            }
            self.shared.env.clock.sleep(RETRY_PAUSE).await;
        }
        self.unfinished_batches.set(self.unfinished_batches.get() - 1);
        self.forget_batch(&decided).await;
    }

    async fn forget_batch(self: &Rc<Self>, batch: &Decided) {
        let timestamp = batch.timestamp;
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, TABLE.id, 0, &batch.id);
        writer.partition_tombstone(Deletion { timestamp, deleted_at: timestamp / 1_000_000 });
        let write = partition_write(batch.id, mutation);
        let terms = WriteTerms::own(self, FINISH_TIMEOUT);
        if let Err(error) =
            self.write_to_group(batch.first, Change::Write(vec![write]), terms).await
        {
            tracing::warn!("a finished batch is still recorded: {error}");
        }
    }

    /// Finishes the batches that were decided and not finished when the node last stopped.
    pub(crate) async fn finish_batches(self: Rc<Self>) {
        let mut resume = None;
        loop {
            let command = ReadCommand {
                table: TABLE.id,
                scope: ReadScope::TokenRange { first: i64::MIN, last: i64::MAX },
                slices: [Slice::all()].into(),
                reversed: false,
                include_static: false,
                now: self.shared.env.clock.now_seconds(),
                row_limit: RECORDS_PER_PAGE_MAX,
                partition_row_limit: u32::MAX,
                page_bytes: usize::MAX,
                resume: resume.take(),
            };
            let page = match self.read(&command, Barrier::default()).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!("unfinished batches are not read yet: {error}");
                    self.shared.env.clock.sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            for partition in page.partitions() {
                match partition.map_err(|_| RecordError::NotARecord) {
                    Ok(partition) => self.finish_record(&partition).await,
                    Err(error) => self.report_unreadable(&[], error),
                }
            }
            resume = page.resume;
            if resume.is_none() {
                break;
            }
        }
        self.shared.shards_with_old_batches.fetch_sub(1, Ordering::Release);
    }

    async fn finish_record(self: &Rc<Self>, partition: &MutationView<'_>) {
        // The record lies in whichever group; any of this shard deletes it.
        let view = self.view();
        let groups = view.groups_of_shard(self.index, self.shared.shard_count);
        let Some(group) = groups.keys().next() else { return };
        match read_record(partition, |id| view.table(id).cloned()) {
            Ok((id, timestamp, rest)) => {
                tracing::info!("finishing a logged batch of {} more changes", rest.len());
                self.finish_batch(Decided { id, first: *group, rest, timestamp }).await;
            }
            Err(error) => self.report_unreadable(partition.key(), error),
        }
    }

    /// Nobody can tell what the batch was to change, so it stays unfinished, for an operator to see.
    fn report_unreadable(&self, id: &[u8], error: RecordError) {
        self.unreadable_batches.set(self.unreadable_batches.get() + 1);
        let id = format_value(&CqlType::Blob, id);
        tracing::error!(
            "shard {}: the record of logged batch {id} cannot be read: {error}; what it was to \
             change besides its first range is not made, and the record stays",
            self.index
        );
    }
}

/// The shard of this node that alone holds a group. Lists can be held there only: a hold is in the
/// memory of the leader, and does not outlive it or reach another node yet.
fn sole_shard(view: &View, group: GroupId) -> Result<u16, WriteError> {
    let place = view.place_of(group);
    let sole = place.filter(|(setting, range)| setting.placement.replicas(*range) == [view.local]);
    sole.map(|(_, range)| view.shard_on(view.local, range)).ok_or_else(|| {
        WriteError::Invalid(
            "A logged batch over several partitions cannot change a list by index or value when \
             other nodes hold it; use an unlogged batch, or change whole elements"
                .to_owned(),
        )
    })
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

/// Changes, one behind the other, each behind its length.
fn parts_of(writes: &[PartitionWrite]) -> Vec<u8> {
    let mut parts = Vec::new();
    for write in writes {
        parts.extend_from_slice(&(write.mutation.len() as u32).to_le_bytes());
        parts.extend_from_slice(&write.mutation);
    }
    parts
}

/// The changes of a record whose tables still exist.
fn split_parts(
    mut parts: &[u8],
    table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
) -> Result<Vec<PartitionWrite>, RecordError> {
    let mut writes = Vec::new();
    let mut index = 0;
    while !parts.is_empty() {
        let damaged = || RecordError::DamagedPart { index };
        let (length, rest) = parts.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (bytes, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let mutation = MutationView::check(bytes).map_err(|_| damaged())?;
        // A table that was dropped meanwhile takes its changes with it.
        if let Some(table) = table_of(mutation.table()) {
            writes.push(PartitionWrite {
                token: View::token(&table, mutation.key()),
                table,
                mutation: bytes.to_vec(),
                is_stamped: true,
                is_counter: false,
                list_operations: Vec::new(),
            });
        }
        parts = rest;
        index += 1;
    }
    Ok(writes)
}

fn record(id: [u8; 16], parts: &[u8], timestamp: i64) -> PartitionWrite {
    let mut mutation = Vec::with_capacity(parts.len() + 64);
    let mut writer = MutationWriter::new(&mut mutation, TABLE.id, 0, &id);
    let head = RowHead { marker: None, tombstone: None };
    writer.row(&[], timestamp, head, |row| {
        row.cell(&Cell {
            column: PARTS_COLUMN,
            path: None,
            timestamp,
            content: CellContent::Live { value: parts, expiry: None },
        });
    });
    partition_write(id, mutation)
}

fn partition_write(id: [u8; 16], mutation: Vec<u8>) -> PartitionWrite {
    PartitionWrite {
        table: TABLE.clone(),
        token: View::token(&TABLE, &id),
        mutation,
        is_stamped: true,
        is_counter: false,
        list_operations: Vec::new(),
    }
}

/// The id, the timestamp and the changes of a record.
fn read_record(
    partition: &MutationView,
    table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
) -> Result<([u8; 16], TimestampMicros, Vec<PartitionWrite>), RecordError> {
    let id = partition.key().try_into().map_err(|_| RecordError::NotARecord)?;
    let row = partition.items().find_map(|item| match item {
        MutationItem::Row { row, .. } => Some(row),
        _ => None,
    });
    let cell =
        row.and_then(|row| row.column(PARTS_COLUMN).next()).ok_or(RecordError::NotARecord)?;
    let parts = cell.live_value(0).ok_or(RecordError::NotARecord)?;
    Ok((id, cell.timestamp, split_parts(parts, table_of)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record: &PartitionWrite) -> Result<Vec<PartitionWrite>, RecordError> {
        let known = |id| (id == TABLE.id).then(|| TABLE.clone());
        let view = MutationView::check(&record.mutation).expect("a record is a mutation");
        let (id, timestamp, writes) = read_record(&view, known)?;
        assert_eq!((id, timestamp), ([7; 16], 5));
        Ok(writes)
    }

    #[test]
    fn a_record_gives_back_its_parts() {
        let parts = [record([1; 16], b"one", 3), record([2; 16], b"two", 4)];
        assert_eq!(read(&record([7; 16], &parts_of(&parts), 5)), Ok(parts.to_vec()));
        assert_eq!(read(&record([7; 16], b"", 5)), Ok(Vec::new()));
    }

    #[test]
    fn a_part_of_a_dropped_table_is_left_out() {
        let mut gone = Vec::new();
        MutationWriter::new(&mut gone, TableId(99), 0, b"k");
        let parts = [partition_write([1; 16], gone), record([2; 16], b"two", 4)];
        let read = read(&record([7; 16], &parts_of(&parts), 5));
        assert_eq!(read, Ok(parts[1..].to_vec()));
    }

    #[test]
    fn a_damaged_record_is_an_error_and_never_half_a_batch() {
        let parts = parts_of(&[record([1; 16], b"one", 3), record([2; 16], b"two", 4)]);
        let first_ends = parts.len() / 2;
        for length in (1..parts.len()).filter(|length| *length != first_ends) {
            let index = usize::from(length > first_ends);
            let read = read(&record([7; 16], &parts[..length], 5));
            assert_eq!(read, Err(RecordError::DamagedPart { index }), "cut at {length}");
        }
        let mut empty = Vec::new();
        MutationWriter::new(&mut empty, TABLE.id, 0, &[7; 16]);
        assert_eq!(read(&partition_write([7; 16], empty)), Err(RecordError::NotARecord));
        let mut odd = Vec::new();
        MutationWriter::new(&mut odd, TABLE.id, 0, b"not an id");
        assert_eq!(read(&partition_write([7; 16], odd)), Err(RecordError::NotARecord));
    }
}
