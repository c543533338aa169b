//! What is on record of a logged batch: its bytes, and the table that they lie in.
//!
//! A record is a partition of [`TABLE`] with one row: the changes of all groups but the first, and
//! the first group itself, in whose log the record is an entry. Its key begins with the end token
//! of that group's range, so that it lies where the group's data lies, and goes where that goes.

use crate::view::View;
use cluster::GroupId;
use cql::plan::write::PartitionWrite;
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::row::{Cell, CellContent, Deletion, RowHead};
use model::schema::Partitioner;
use model::{
    ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions, TimestampMicros, Token,
};
use std::fmt;
use std::sync::{Arc, LazyLock};

const PARTS_COLUMN: u32 = 1;
const GROUP_COLUMN: u32 = 2;

/// Its id.
pub(crate) const TABLE_ID: TableId = TableId(1);

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
        id: TABLE_ID,
        keyspace: "system".into(),
        name: "batches".into(),
        columns: vec![
            column(0, "id", ColumnKind::PartitionKey(0)),
            column(PARTS_COLUMN, "parts", ColumnKind::Regular),
            column(GROUP_COLUMN, "first_group", ColumnKind::Regular),
        ],
        dropped_columns: Vec::new(),
        next_column_id: GROUP_COLUMN + 1,
        version: 0,
        // The first eight bytes of the key are its token.
        partitioner: Partitioner::CdcStream,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions { gc_grace_seconds: 0, ..TableOptions::default() },
    })
});

/// The key of a record: a token, and a number that no other batch of the range has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchId(pub [u8; 16]);

impl BatchId {
    /// A key in the range that ends at `end`.
    pub(super) fn new(end: Token, number: u64) -> BatchId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&end.0.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        BatchId(id)
    }
}

/// A batch that is decided: its record is applied, its other parts perhaps not yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub id: BatchId,
    /// The group whose log the record is in.
    pub group: GroupId,
    pub timestamp: TimestampMicros,
    /// The changes of the other groups. Every one has its timestamp, and none is of a list by index
    /// or value.
    pub parts: Vec<PartitionWrite>,
}

/// Why a record says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    /// The key is no id, or the row has no parts or no group.
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
            RecordError::NotARecord => f.write_str("it has no id, no parts or no group"),
            RecordError::DamagedPart { index } => write!(f, "its part {index} is damaged"),
        }
    }
}

impl Record {
    /// The change that puts the batch on record.
    pub(super) fn to_write(&self) -> PartitionWrite {
        let parts = parts_of(&self.parts);
        let mut mutation = Vec::with_capacity(parts.len() + 96);
        let mut writer = MutationWriter::new(&mut mutation, TABLE.id, 0, &self.id.0);
        let head = RowHead { marker: None, tombstone: None };
        let cells = [(PARTS_COLUMN, &parts[..]), (GROUP_COLUMN, &self.group.0.to_le_bytes())];
        writer.row(&[], self.timestamp, head, |row| {
            for (column, value) in cells {
                row.cell(&Cell {
                    column,
                    path: None,
                    timestamp: self.timestamp,
                    content: CellContent::Live { value, expiry: None },
                });
            }
        });
        partition_write(self.id, mutation)
    }

    /// The change that strikes a batch off the record.
    pub(super) fn deletion(id: BatchId, timestamp: TimestampMicros) -> PartitionWrite {
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, TABLE.id, 0, &id.0);
        writer.partition_tombstone(Deletion { timestamp, deleted_at: timestamp / 1_000_000 });
        partition_write(id, mutation)
    }

    /// Reads what is on record. Parts of tables that are gone are left out.
    pub(super) fn read(
        partition: &MutationView,
        table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
    ) -> Result<Record, RecordError> {
        let id = id_of(partition).ok_or(RecordError::NotARecord)?;
        let row = partition.items().find_map(|item| match item {
            MutationItem::Row { row, .. } => Some(row),
            _ => None,
        });
        let row = row.ok_or(RecordError::NotARecord)?;
        let cell = |column| row.column(column).next().ok_or(RecordError::NotARecord);
        let (parts, group) = (cell(PARTS_COLUMN)?, cell(GROUP_COLUMN)?);
        let timestamp = parts.timestamp;
        let live = |cell: Cell<'_>| match cell.content {
            CellContent::Live { value, .. } => Ok(value.to_vec()),
            _ => Err(RecordError::NotARecord),
        };
        let group = live(group)?.try_into().map_err(|_| RecordError::NotARecord)?;
        let parts = split_parts(&live(parts)?, table_of)?;
        Ok(Record { id, group: GroupId(u64::from_le_bytes(group)), timestamp, parts })
    }
}

/// Whose record a partition of [`TABLE`] is.
pub(super) fn id_of(partition: &MutationView) -> Option<BatchId> {
    partition.key().try_into().ok().map(BatchId)
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

fn partition_write(id: BatchId, mutation: Vec<u8>) -> PartitionWrite {
    PartitionWrite {
        table: TABLE.clone(),
        token: View::token(&TABLE, &id.0),
        mutation,
        is_stamped: true,
        is_counter: false,
        list_operations: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, parts: Vec<PartitionWrite>) -> Record {
        let id = BatchId::new(Token(-9), number);
        Record { id, group: GroupId(77), timestamp: 5, parts }
    }

    fn read(write: &PartitionWrite) -> Result<Record, RecordError> {
        let known = |id| (id == TABLE.id).then(|| TABLE.clone());
        let view = MutationView::check(&write.mutation).expect("a record is a mutation");
        Record::read(&view, known)
    }

    #[test]
    fn a_record_gives_back_its_parts_and_lies_at_its_token() {
        let parts = vec![record(1, Vec::new()).to_write(), record(2, Vec::new()).to_write()];
        let record = record(7, parts);
        let write = record.to_write();
        assert_eq!(read(&write), Ok(record));
        assert_eq!(write.token, Token(-9));
    }

    #[test]
    fn a_part_of_a_dropped_table_is_left_out() {
        let mut gone = Vec::new();
        MutationWriter::new(&mut gone, TableId(99), 0, b"k");
        let kept = record(2, Vec::new()).to_write();
        let gone = partition_write(BatchId::new(Token(1), 1), gone);
        let read = read(&record(7, vec![gone, kept.clone()]).to_write());
        assert_eq!(read.map(|record| record.parts), Ok(vec![kept]));
    }

    #[test]
    fn a_damaged_record_is_an_error_and_never_half_a_batch() {
        let one = record(1, Vec::new()).to_write();
        let parts = parts_of(&[one.clone(), one]);
        let known = |id| (id == TABLE.id).then(|| TABLE.clone());
        let first_ends = parts.len() / 2;
        for length in (1..parts.len()).filter(|length| *length != first_ends) {
            let index = usize::from(length > first_ends);
            let read = split_parts(&parts[..length], known);
            assert_eq!(read, Err(RecordError::DamagedPart { index }), "cut at {length}");
        }
        assert_eq!(
            read(&Record::deletion(BatchId::new(Token(1), 1), 5)),
            Err(RecordError::NotARecord),
            "there is no row"
        );
        let mut odd = Vec::new();
        MutationWriter::new(&mut odd, TABLE.id, 0, b"not an id");
        let odd = partition_write(BatchId::new(Token(1), 1), odd);
        assert_eq!(read(&odd), Err(RecordError::NotARecord));
    }
}
