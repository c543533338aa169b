//! Logged batches over several ranges: all of it or nothing, whatever crashes.
//!
//! The first range's entry carries that range's own changes and, in the same entry, a row of the
//! internal table [`TABLE`] with the changes of all others. Once that entry is applied the batch is
//! decided: the others are written, and the row is deleted. A node that finds a row when it starts
//! finishes the batch; writing a change twice is harmless, since every change has its timestamp
//! from the beginning (and a CDC log does not tell twice of a write that changes nothing).

use crate::coordinator::Routed;
use crate::shard::{Barrier, Change, Shard, WriteError, WriteRequest, above_all};
use crate::view::View;
use cluster::GroupId;
use cql::plan::write::PartitionWrite;
use model::mutation::{MutationItem, MutationView, MutationWriter, stamp};
use model::read::{ReadCommand, ReadScope, Slice};
use model::row::{Cell, CellContent, Deletion, RowHead};
use model::schema::Partitioner;
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How long to wait before the rest of a decided batch is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Unfinished batches that are read at once when a node starts.
const UNFINISHED_MAX: u32 = 10_000;
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

impl Shard {
    /// Makes a logged batch over several groups. After an error other than `Unknown` nothing of
    /// it was or will be applied.
    pub(crate) async fn write_logged(
        self: &Rc<Self>,
        mut routed: Routed,
    ) -> Result<(), WriteError> {
        // Every shard that takes part raises its clock to this, so no key goes back in time.
        let wall = self.shared.env.clock.now_micros();
        let timestamp = above_all(&self.shared.clocks, wall);
        for write in routed.values_mut().flatten() {
            if !write.list_operations.is_empty() {
                return Err(WriteError::Invalid(
                    "A logged batch over several partitions cannot change a list by index or \
                     value; use an unlogged batch"
                        .to_owned(),
                ));
            }
            if !write.is_stamped {
                stamp(&mut write.mutation, timestamp).expect("the planner's bytes are well-formed");
                write.is_stamped = true;
            }
        }
        let Some((first, mut writes)) = routed.pop_first() else { return Ok(()) };
        let id = self.fresh_uuid();
        writes.push(record(id, &parts_of(&routed), timestamp));
        let (group, at) = first;
        let request = WriteRequest { group, change: Change::Write(writes), clock_floor: timestamp };
        self.write_request(at, request).await?;
        let result = self.write_routed(routed.clone(), timestamp).await;
        let shard = self.clone();
        if result.is_ok() {
            tokio::task::spawn_local(async move { shard.forget_batch(first, id, timestamp).await });
            return Ok(());
        }
        tokio::task::spawn_local(async move {
            shard.finish_batch(first, id, routed, timestamp).await;
        });
        Err(WriteError::Unknown("the batch is logged and will be finished".to_owned()))
    }

    /// Writes what is left of a decided batch until it succeeds.
    async fn finish_batch(
        self: Rc<Self>,
        first: (GroupId, u16),
        id: [u8; 16],
        rest: Routed,
        timestamp: i64,
    ) {
        while let Err(error) = self.write_routed(rest.clone(), timestamp).await {
            tracing::warn!("a logged batch is not finished yet: {error}");
            if matches!(error, WriteError::Failed(_) | WriteError::Unknown(_)) {
                // The log has failed; the next start finishes it.
                return;
            }
            self.shared.env.clock.sleep(RETRY_PAUSE).await;
        }
        self.forget_batch(first, id, timestamp).await;
    }

    async fn forget_batch(self: &Rc<Self>, first: (GroupId, u16), id: [u8; 16], timestamp: i64) {
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, TABLE.id, 0, &id);
        writer.partition_tombstone(Deletion { timestamp, deleted_at: timestamp / 1_000_000 });
        let write = partition_write(id, mutation);
        if let Err(error) = self.write_anywhere(first, Change::Write(vec![write])).await {
            tracing::warn!("a finished batch is still recorded: {error}");
        }
    }

    /// Finishes the batches that were decided and not finished when the node last stopped.
    pub(crate) async fn finish_batches(self: Rc<Self>) {
        let command = ReadCommand {
            table: TABLE.id,
            scope: ReadScope::TokenRange { first: i64::MIN, last: i64::MAX },
            slices: [Slice::all()].into(),
            reversed: false,
            include_static: false,
            now: self.shared.env.clock.now_seconds(),
            row_limit: UNFINISHED_MAX,
            partition_row_limit: u32::MAX,
            page_bytes: usize::MAX,
            resume: None,
        };
        let page = match self.read(&command, Barrier::None).await {
            Ok(page) => page,
            Err(error) => return tracing::error!("unfinished batches were not read: {error}"),
        };
        let view = self.view();
        for (id, timestamp, parts) in page.partitions().flatten().filter_map(|p| unfinished(&p)) {
            let writes = split_parts(&view, &parts);
            tracing::info!("finishing a logged batch of {} more changes", writes.len());
            let Ok(rest) = self.route(&view, writes, model::Consistency::Any) else { continue };
            // The record lies in whichever group; any of this shard deletes it.
            let groups = view.groups_of_shard(self.index, self.shared.shard_count);
            let Some(group) = groups.keys().next() else { continue };
            self.clone().finish_batch((*group, self.index), id, rest, timestamp).await;
        }
    }
}

/// Every change of the other groups, one behind the other.
fn parts_of(routed: &Routed) -> Vec<u8> {
    let mut parts = Vec::new();
    for write in routed.values().flatten() {
        parts.extend_from_slice(&(write.mutation.len() as u32).to_le_bytes());
        parts.extend_from_slice(&write.mutation);
    }
    parts
}

/// The changes of a record whose tables still exist.
fn split_parts(view: &View, mut parts: &[u8]) -> Vec<PartitionWrite> {
    let mut writes = Vec::new();
    while let Some((length, rest)) = parts.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((bytes, rest)) = rest.split_at_checked(length) else { break };
        parts = rest;
        let Ok(mutation) = MutationView::check(bytes) else { break };
        if let Some(table) = view.table(mutation.table()) {
            writes.push(PartitionWrite {
                table: table.clone(),
                token: View::token(table, mutation.key()),
                mutation: bytes.to_vec(),
                is_stamped: true,
                list_operations: Vec::new(),
            });
        }
    }
    writes
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
        list_operations: Vec::new(),
    }
}

/// The id, timestamp and parts of a record.
fn unfinished(partition: &MutationView) -> Option<([u8; 16], i64, Vec<u8>)> {
    let id = partition.key().try_into().ok()?;
    partition.items().find_map(|item| match item {
        MutationItem::Row { row, .. } => {
            let cell = row.column(PARTS_COLUMN).next()?;
            Some((id, cell.timestamp, cell.live_value(0)?.to_vec()))
        }
        _ => None,
    })
}
