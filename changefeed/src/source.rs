//! Log rows as a feed reads them, whoever read them from a log table, and where a base table's
//! columns stand in its log's rows.
//!
//! A [`LogRow`] has what every log row has as fields, and the rest as cells: pairs of a log column's
//! id and a serialised value, in rising order of ids, in one piece of shared memory. Ids are never
//! used twice, so a row can be read with any later version of its table: what was dropped since is
//! skipped, what was added since is absent.
//!
//! A cell that is absent says nothing of its column. Whether a column was set to null is another
//! column's to say (`cdc$deleted_…`), as in the log itself: docs/cdc.md.
//!
//! ```text
//! row between nodes := time:16 table:u128be stream:16 batch_seq_no:i32be operation:i8 flags:u8
//!                      ttl_seconds:varint cells:slice          (ttl_seconds 0: none)
//! flags             := 1 end of batch | 2 of a delete that is told row by row
//! cells             := (column:varint value:slice)*            columns ascend
//! ```

mod batch;
pub mod shared;

pub use batch::{Batch, MemoryLog, MemorySource, Source, SourceError};

use crate::position::LogKey;
use bytes::Bytes;
use cdc::log_table::{
    BATCH_SEQ_NO, DELETED_ELEMENTS_PREFIX, DELETED_PREFIX, END_OF_BATCH, OPERATION, TIME, TTL,
};
pub use cdc::rows::Operation;
use cdc::stream::StreamId;
use model::clustering::decode_component;
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::mutation::{MutationItem, MutationView};
use model::row::{CellContent, RowView};
use model::schema::Partitioner;
use model::timeuuid::TimeUuidBytes;
use model::{ColumnDef, ColumnId, ColumnKind, CqlType, TableDef, TableId};
use std::ops::Range;
use std::sync::Arc;

const FLAG_END_OF_BATCH: u8 = 1;
const FLAG_BY_ROW: u8 = 2;

/// One row of a log table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its place: time, table, stream and number in its group.
    pub key: LogKey,
    /// What it tells of.
    pub operation: Operation,
    /// Whether it is the last row of its group.
    pub end_of_batch: bool,
    /// TTL of the written values in seconds; 0 is none.
    pub ttl_seconds: u32,
    /// Whether it is of a delete that the log tells row by row, or of a row that it tells with one.
    pub is_by_row: bool,
    /// Well-formed: checked where it was made.
    cells: Bytes,
}

impl LogRow {
    /// The log columns that are not null, key columns included, with their serialised values, in
    /// rising order of their ids.
    pub fn cells(&self) -> LogCells<'_> {
        LogCells { cursor: Cursor::new(&self.cells) }
    }

    /// A row that tells of no column.
    #[cfg(test)]
    pub(crate) fn without_cells(key: LogKey, operation: Operation, end_of_batch: bool) -> LogRow {
        let cells = Bytes::new();
        LogRow { key, operation, end_of_batch, ttl_seconds: 0, is_by_row: false, cells }
    }

    /// What the row takes in memory, about.
    pub fn len_bytes(&self) -> usize {
        size_of::<LogRow>() + self.cells.len()
    }

    /// Appends the row's bytes, as nodes exchange them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.time);
        out.extend_from_slice(&self.key.table.0.to_be_bytes());
        out.extend_from_slice(&self.key.stream);
        out.extend_from_slice(&self.key.batch_seq_no.to_be_bytes());
        out.extend_from_slice(&(self.operation as i8).to_be_bytes());
        let end_of_batch = u8::from(self.end_of_batch) * FLAG_END_OF_BATCH;
        out.push(end_of_batch | (u8::from(self.is_by_row) * FLAG_BY_ROW));
        put_varint(out, u64::from(self.ttl_seconds));
        put_slice(out, &self.cells);
    }

    /// Takes rows of [`LogRow::encode`] until the bytes end; they share the memory of `bytes`.
    ///
    /// Errors when the bytes are not such rows. Values are not checked against their types.
    pub fn decode_all(bytes: &Bytes) -> Result<Vec<LogRow>, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let mut rows = Vec::new();
        while !cursor.is_empty() {
            rows.push(LogRow::decode(bytes, &mut cursor)?);
        }
        Ok(rows)
    }

    fn decode(bytes: &Bytes, cursor: &mut Cursor) -> Result<LogRow, DecodeError> {
        let key = LogKey {
            time: cursor.array()?,
            table: TableId(u128::from_be_bytes(cursor.array()?)),
            stream: cursor.array()?,
            batch_seq_no: i32::from_be_bytes(cursor.array()?),
        };
        let operation = Operation::from_code(i8::from_be_bytes(cursor.array()?))
            .ok_or(DecodeError("unknown operation of a log row"))?;
        let flags = cursor.u8()?;
        if flags > FLAG_END_OF_BATCH | FLAG_BY_ROW {
            return Err(DecodeError("unknown flags of a log row"));
        }
        let ttl_seconds = u32::try_from(cursor.varint()?)
            .map_err(|_| DecodeError("a log row's TTL is too large"))?;
        let cells = cursor.slice()?;
        check_cells(cells)?;
        Ok(LogRow {
            key,
            operation,
            end_of_batch: flags & FLAG_END_OF_BATCH != 0,
            ttl_seconds,
            is_by_row: flags & FLAG_BY_ROW != 0,
            cells: bytes.slice_ref(cells),
        })
    }
}

/// The cells of a row; see [`LogRow::cells`].
#[derive(Clone, Debug)]
pub struct LogCells<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for LogCells<'a> {
    type Item = (ColumnId, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let column = self.cursor.varint().ok()?;
        Some((column as ColumnId, self.cursor.slice().ok()?))
    }
}

/// Whether these bytes are cells, in order.
fn check_cells(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut next_column = 0;
    while !cursor.is_empty() {
        let column = cursor.varint()?;
        if column < next_column || column > u64::from(ColumnId::MAX) {
            return Err(DecodeError("the columns of a log row do not ascend"));
        }
        next_column = column + 1;
        cursor.slice()?;
    }
    Ok(())
}

/// A key column of the base table.
#[derive(Clone, Debug)]
pub struct KeyColumn {
    /// Its identity in the base table.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub cql_type: CqlType,
    /// Whether rows are in descending order of it.
    pub is_descending: bool,
}

/// A static or regular column of the base table.
#[derive(Clone, Debug)]
pub struct DataColumn {
    /// Its identity in the base table.
    pub id: ColumnId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type in the base table.
    pub cql_type: CqlType,
    /// The type of its values in the log: frozen, a list as a map from its elements' time uuids.
    pub logged_type: CqlType,
    /// Whether it is static.
    pub is_static: bool,
}

/// What a log column tells of the base table; the number is the column's among those of its kind
/// in the [`TableShape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogColumn {
    /// A partition key column's value.
    PartitionKey(usize),
    /// A clustering column's value.
    Clustering(usize),
    /// A data column's value, or its new elements.
    Value(usize),
    /// Whether a data column was set to null, or replaced as a whole.
    Deleted(usize),
    /// Which elements of a data column were deleted.
    DeletedElements(usize),
}

/// A base table as a feed sees it: its columns, and where they stand in the rows of its log.
#[derive(Clone, Debug)]
pub struct TableShape {
    /// The base table.
    pub table: TableId,
    /// Its keyspace.
    pub keyspace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Where its partitions lie on the ring.
    pub partitioner: Partitioner,
    /// Partition key columns in order.
    pub partition_key: Vec<KeyColumn>,
    /// Clustering columns in order.
    pub clustering_key: Vec<KeyColumn>,
    /// Static and regular columns by name.
    pub columns: Vec<DataColumn>,
    /// By log column, ascending.
    log_columns: Vec<(ColumnId, LogColumn)>,
    operation: ColumnId,
    ttl: ColumnId,
    end_of_batch: ColumnId,
}

impl TableShape {
    /// The shape of a base table and its log.
    ///
    /// Errors with the name of a column that the log lacks: it was not brought in step.
    pub fn new(base: &TableDef, log: &TableDef) -> Result<TableShape, ColumnMissing> {
        let find = |name: &str| match log.column(name) {
            Some(column) => Ok(column.id),
            None => Err(ColumnMissing { log: log.name.clone(), column: name.into() }),
        };
        let mut log_columns = Vec::with_capacity(log.columns.len());
        for (index, column) in base.partition_key().iter().enumerate() {
            log_columns.push((find(&column.name)?, LogColumn::PartitionKey(index)));
        }
        for (index, column) in base.clustering_key().iter().enumerate() {
            log_columns.push((find(&column.name)?, LogColumn::Clustering(index)));
        }
        for (index, column) in base.data_columns().iter().enumerate() {
            let name = &*column.name;
            log_columns.push((find(name)?, LogColumn::Value(index)));
            let deleted = find(&format!("{DELETED_PREFIX}{name}"))?;
            log_columns.push((deleted, LogColumn::Deleted(index)));
            if column.cql_type.is_multi_cell() {
                let elements = find(&format!("{DELETED_ELEMENTS_PREFIX}{name}"))?;
                log_columns.push((elements, LogColumn::DeletedElements(index)));
            }
        }
        log_columns.sort_unstable_by_key(|(id, _)| *id);
        let key = |column: &ColumnDef| KeyColumn {
            id: column.id,
            name: column.name.clone(),
            cql_type: column.cql_type.clone(),
            is_descending: column.descending,
        };
        let data = |column: &ColumnDef| DataColumn {
            id: column.id,
            name: column.name.clone(),
            cql_type: column.cql_type.clone(),
            logged_type: cdc::log_table::logged_type(&column.cql_type),
            is_static: column.kind == ColumnKind::Static,
        };
        Ok(TableShape {
            table: base.id,
            keyspace: base.keyspace.clone(),
            name: base.name.clone(),
            partitioner: base.partitioner,
            partition_key: base.partition_key().iter().map(key).collect(),
            clustering_key: base.clustering_key().iter().map(key).collect(),
            columns: base.data_columns().iter().map(data).collect(),
            log_columns,
            operation: find(OPERATION)?,
            ttl: find(TTL)?,
            end_of_batch: find(END_OF_BATCH)?,
        })
    }

    /// What the cells of a row of this table's log tell, in the order of the row; columns that the
    /// base table has no more are left out.
    pub fn cells<'a>(&'a self, row: &'a LogRow) -> impl Iterator<Item = (LogColumn, &'a [u8])> {
        let mut known = self.log_columns.as_slice();
        row.cells().filter_map(move |(id, value)| {
            while let Some(((candidate, column), rest)) = known.split_first() {
                if *candidate > id {
                    break;
                }
                known = rest;
                if *candidate == id {
                    return Some((*column, value));
                }
            }
            None
        })
    }

    /// Appends the log rows in a mutation, or a part of a page, of this table's log, in its order.
    ///
    /// Errors when it is not a well-formed part of that log; nothing is appended then.
    pub fn read_rows(
        &self,
        mutation: &MutationView,
        out: &mut Vec<LogRow>,
    ) -> Result<(), DecodeError> {
        let stream: StreamId =
            mutation.key().try_into().map_err(|_| DecodeError("a stream id has 16 bytes"))?;
        let mut cells = Vec::new();
        let mut heads: Vec<(LogRow, Range<usize>)> = Vec::new();
        for item in mutation.items() {
            let MutationItem::Row { clustering, row } = item else {
                return Err(DecodeError("a log has rows only"));
            };
            let start = cells.len();
            let mut head = self.read_head(stream, clustering)?;
            self.read_cells(row, &mut head, &mut cells)?;
            heads.push((head, start..cells.len()));
        }
        let cells = Bytes::from(cells);
        out.extend(
            heads.into_iter().map(|(head, range)| LogRow { cells: cells.slice(range), ..head }),
        );
        Ok(())
    }

    fn read_head(&self, stream: StreamId, clustering: &[u8]) -> Result<LogRow, DecodeError> {
        let mut rest = clustering;
        let mut value = Vec::with_capacity(size_of::<TimeUuidBytes>());
        let malformed = |name| DecodeError(name);
        decode_component(&CqlType::TimeUuid, false, &mut rest, &mut value)
            .map_err(|_| malformed(TIME))?;
        let time = value.as_slice().try_into().map_err(|_| malformed(TIME))?;
        value.clear();
        decode_component(&CqlType::Int, false, &mut rest, &mut value)
            .map_err(|_| malformed(BATCH_SEQ_NO))?;
        let number = value.as_slice().try_into().map_err(|_| malformed(BATCH_SEQ_NO))?;
        let batch_seq_no = i32::from_be_bytes(number);
        Ok(LogRow {
            key: LogKey { time, table: self.table, stream, batch_seq_no },
            operation: Operation::Update,
            end_of_batch: false,
            ttl_seconds: 0,
            is_by_row: false,
            cells: Bytes::new(),
        })
    }

    fn read_cells(
        &self,
        row: RowView,
        head: &mut LogRow,
        cells: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let mut operation = None;
        for cell in row.cells() {
            let CellContent::Live { value, .. } = cell.content else { continue };
            if cell.column == self.operation {
                let [code] = value else { return Err(DecodeError(OPERATION)) };
                operation = Operation::from_code(*code as i8);
            } else if cell.column == self.ttl {
                let ttl: [u8; 8] = value.try_into().map_err(|_| DecodeError(TTL))?;
                head.ttl_seconds =
                    u32::try_from(i64::from_be_bytes(ttl)).map_err(|_| DecodeError(TTL))?;
                head.is_by_row = head.ttl_seconds == 0;
            } else if cell.column == self.end_of_batch {
                head.end_of_batch = value == [1];
            } else {
                put_varint(cells, u64::from(cell.column));
                put_slice(cells, value);
            }
        }
        head.operation = operation.ok_or(DecodeError(OPERATION))?;
        Ok(())
    }
}

/// A log that has no column for one of its base table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMissing {
    /// The log table's name.
    pub log: Arc<str>,
    /// The column it should have.
    pub column: Arc<str>,
}

impl std::fmt::Display for ColumnMissing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the CDC log {} does not have column {}", self.log, self.column)
    }
}

impl std::error::Error for ColumnMissing {}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc::new_log_table;
    use cdc::time_uuid::log_time_uuid;
    use model::clustering::encode_component;
    use model::mutation::MutationWriter;

    fn base() -> TableDef {
        let column = |id, name: &str, cql_type, kind| ColumnDef {
            id,
            name: name.into(),
            cql_type,
            kind,
            descending: false,
        };
        let list = CqlType::List { element: Arc::new(CqlType::Int), frozen: false };
        TableDef {
            id: TableId(7),
            keyspace: "shop".into(),
            name: "orders".into(),
            columns: vec![
                column(0, "id", CqlType::Int, ColumnKind::PartitionKey(0)),
                column(2, "line", CqlType::Int, ColumnKind::Clustering(0)),
                column(3, "items", list, ColumnKind::Regular),
                column(1, "status", CqlType::Text, ColumnKind::Regular),
            ],
            dropped_columns: Vec::new(),
            next_column_id: 4,
            version: 1,
            partitioner: Partitioner::Murmur3,
            cdc_base: None,
            cdc_log: Some(TableId(8)),
            options: model::TableOptions::default(),
        }
    }

    /// A mutation of the log with one row that has these columns.
    fn mutation(log: &TableDef, columns: &[(&str, &[u8])]) -> Vec<u8> {
        let mut clustering = Vec::new();
        let time = log_time_uuid(1_000, 1);
        encode_component(&CqlType::TimeUuid, false, &time, &mut clustering).unwrap();
        encode_component(&CqlType::Int, false, &[0, 0, 0, 3], &mut clustering).unwrap();
        let mut out = Vec::new();
        let mut writer = MutationWriter::new(&mut out, log.id, 1, &[5; 16]);
        let written = writer.value_row(&clustering, 1_000, None, |row| {
            for (name, value) in columns {
                row.value(log.column(name).unwrap().id, value);
            }
            Ok::<_, DecodeError>(())
        });
        written.unwrap();
        out
    }

    fn read(shape: &TableShape, mutation: &[u8]) -> Result<Vec<LogRow>, DecodeError> {
        let mut rows = Vec::new();
        shape.read_rows(&MutationView::new(mutation)?, &mut rows)?;
        Ok(rows)
    }

    #[test]
    fn a_row_of_the_log_is_read_and_travels() {
        let base = base();
        let log = new_log_table(&base, TableId(8)).unwrap();
        let shape = TableShape::new(&base, &log).unwrap();
        let bytes = mutation(
            &log,
            &[
                (OPERATION, &[1]),
                (TTL, &60_i64.to_be_bytes()),
                (END_OF_BATCH, &[1]),
                ("id", &[0, 0, 0, 9]),
                ("line", &[0, 0, 0, 1]),
                ("status", b"new"),
                ("cdc$deleted_items", &[1]),
            ],
        );
        let rows = read(&shape, &bytes).unwrap();
        let [row] = rows.as_slice() else { panic!("one row") };
        assert_eq!(
            (row.operation, row.ttl_seconds, row.end_of_batch),
            (Operation::Update, 60, true)
        );
        assert_eq!((row.key.micros(), row.key.batch_seq_no), (1_000, 3));
        assert_eq!((row.key.table, row.key.stream), (TableId(7), [5; 16]));
        let cells: Vec<_> = shape.cells(row).collect();
        assert_eq!(
            cells,
            [
                (LogColumn::PartitionKey(0), &[0, 0, 0, 9][..]),
                (LogColumn::Clustering(0), &[0, 0, 0, 1]),
                (LogColumn::Value(1), b"new"),
                (LogColumn::Deleted(0), &[1]),
            ]
        );

        // Without the column `status`, its cells are passed over.
        let mut without = base.clone();
        without.columns.retain(|column| &*column.name != "status");
        let shape = TableShape::new(&without, &log).unwrap();
        assert_eq!(shape.cells(row).count(), 3);

        let mut sent = Vec::new();
        rows.iter().chain(&rows).for_each(|row| row.encode(&mut sent));
        let received = LogRow::decode_all(&Bytes::from(sent.clone())).unwrap();
        assert_eq!(received, [rows[0].clone(), rows[0].clone()]);
        for length in 1..sent.len() / 2 {
            assert!(LogRow::decode_all(&Bytes::copy_from_slice(&sent[..length])).is_err());
        }
    }

    #[test]
    fn what_is_no_row_of_the_log_is_refused() {
        let base = base();
        let log = new_log_table(&base, TableId(8)).unwrap();
        let shape = TableShape::new(&base, &log).unwrap();
        for columns in [&[][..], &[(OPERATION, &[77][..])], &[(OPERATION, &[1, 1])]] {
            assert_eq!(read(&shape, &mutation(&log, columns)), Err(DecodeError(OPERATION)));
        }
        let negative_ttl: &[(&str, &[u8])] = &[(OPERATION, &[1]), (TTL, &[0xff; 8])];
        assert_eq!(read(&shape, &mutation(&log, negative_ttl)), Err(DecodeError(TTL)));
        assert_eq!(
            check_cells(&[1, 0, 0, 0]).unwrap_err().0,
            "the columns of a log row do not ascend"
        );
        assert_eq!(
            TableShape::new(&base, &base).unwrap_err().to_string(),
            "the CDC log orders does not have column cdc$deleted_items"
        );
    }
}
