//! Replaying a log: what a client makes of the rows, and the judge of those who wrote them.
//!
//! A [`Fold`] takes log rows in the order of `cdc$time` and rebuilds the base table, with the log's
//! times as timestamps. It reads the log by the names of its columns alone and shares nothing with
//! the code that writes rows; cells are merged by `model`, as everywhere. The law of the log is that
//! the rebuilt table equals the base table, cell by cell ([`live_rows`] of both), expiry aside.
//!
//! A deleted collection is a tombstone one microsecond before the row's time, so that elements of
//! the same row outlive it. A range delete is two rows, start and end. Images change nothing;
//! [`Image::of`] reads them.

use crate::error::{CdcError, invalid};
use crate::log_table::{
    BATCH_SEQ_NO, DELETED_ELEMENTS_PREFIX, DELETED_PREFIX, END_OF_BATCH, OPERATION, TIME, TTL,
};
use model::clustering::{AFTER, decode_clustering, encode_clustering};
use model::key::encode_partition_key;
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::partition::Partition;
use model::path::{encode_path, field_path};
use model::read::END_POSITION;
use model::row::{Cell, CellContent, Deletion, Expiry, Marker, RowHead, RowView};
use model::timeuuid::{TimeUuidBytes, timeuuid_micros};
use model::value::{ListView, MapView, TupleView};
use model::{ColumnDef, ColumnId, ColumnKind, CqlType, EpochSeconds, TableDef, TimestampMicros};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One row of a log, as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The stream.
    pub stream: Vec<u8>,
    /// `cdc$time`.
    pub time: TimeUuidBytes,
    /// `cdc$batch_seq_no`.
    pub batch_seq_no: i32,
    /// `cdc$operation`.
    pub operation: i8,
    /// `cdc$ttl`.
    pub ttl_seconds: Option<i64>,
    /// `cdc$end_of_batch`.
    pub end_of_batch: bool,
    /// All other columns that are not null, serialised, by name.
    pub columns: BTreeMap<Arc<str>, Vec<u8>>,
}

impl LogRow {
    /// The log time in microseconds since the epoch.
    pub fn micros(&self) -> TimestampMicros {
        timeuuid_micros(&self.time)
    }
}

/// The rows in a mutation of a log table, in order.
///
/// Errors when it is not a well-formed change of that log.
pub fn read_log_rows(log: &TableDef, mutation: &MutationView) -> Result<Vec<LogRow>, CdcError> {
    mutation
        .items()
        .map(|item| match item {
            MutationItem::Row { clustering, row } => {
                read_log_row(log, mutation.key(), clustering, row)
            }
            _ => Err(invalid("a log has only rows")),
        })
        .collect()
}

fn read_log_row(
    log: &TableDef,
    stream: &[u8],
    clustering: &[u8],
    row: RowView,
) -> Result<LogRow, CdcError> {
    let key = decode_clustering(log, clustering)?;
    let [time, batch_seq_no] = key.as_slice() else {
        return Err(invalid(format!("a log row has {TIME} and {BATCH_SEQ_NO}")));
    };
    let mut columns: BTreeMap<Arc<str>, Vec<u8>> = BTreeMap::new();
    for cell in row.cells() {
        let column = log.column_by_id(cell.column).ok_or_else(|| invalid("unknown log column"))?;
        if let CellContent::Live { value, .. } = cell.content {
            columns.insert(column.name.clone(), value.to_vec());
        }
    }
    let operation = columns.remove(OPERATION).ok_or_else(|| invalid("a row has no operation"))?;
    let ttl = columns.remove(TTL).map(|v| fixed(&v).map(i64::from_be_bytes)).transpose()?;
    Ok(LogRow {
        stream: stream.to_vec(),
        time: fixed(time)?,
        batch_seq_no: i32::from_be_bytes(fixed(batch_seq_no)?),
        operation: i8::from_be_bytes(fixed(&operation)?),
        ttl_seconds: ttl,
        end_of_batch: columns.remove(END_OF_BATCH).as_deref() == Some(&[1]),
        columns,
    })
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], CdcError> {
    value.try_into().map_err(|_| invalid("a log value has the wrong length"))
}

/// The base table as its log tells it.
#[derive(Clone, Debug)]
pub struct Fold {
    base: Arc<TableDef>,
    /// By serialised partition key.
    pub partitions: BTreeMap<Vec<u8>, Partition>,
    /// The start of a range delete whose end has not come yet.
    range_start: Option<Vec<u8>>,
}

impl Fold {
    /// An empty table.
    pub fn new(base: Arc<TableDef>) -> Self {
        Fold { base, partitions: BTreeMap::new(), range_start: None }
    }

    /// Replays one row; rows come in the order of the log.
    ///
    /// Errors when the row is not one that a log may hold there.
    pub fn apply(&mut self, row: &LogRow) -> Result<(), CdcError> {
        if self.range_start.is_some() && !matches!(row.operation, 7 | 8) {
            return Err(invalid("a range delete has a start but no end"));
        }
        let key = self.partition_key(row)?;
        let prefix = self.clustering_prefix(row)?;
        let deletion =
            Deletion { timestamp: row.micros(), deleted_at: row.micros().div_euclid(1_000_000) };
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, self.base.id, self.base.version, &key);
        let after = |prefix: Vec<u8>| [prefix, vec![AFTER]].concat();
        match row.operation {
            0 | 9 => return Ok(()),
            1 | 2 => self.upsert(row, &prefix, &mut writer)?,
            3 | -3 => {
                let head = RowHead { marker: None, tombstone: Some(deletion) };
                writer.row(&prefix, row.micros(), head, |_| ());
            }
            4 | -4 => writer.partition_tombstone(deletion),
            5 => self.range_start = Some(prefix),
            6 => self.range_start = Some(after(prefix)),
            7 | 8 => {
                let Some(start) = self.range_start.take() else {
                    return Err(invalid("a range delete has an end but no start"));
                };
                let end = if row.operation == 7 { after(prefix) } else { prefix };
                let end = if end.is_empty() { END_POSITION.to_vec() } else { end };
                writer.range_tombstone(&start, &end, deletion);
            }
            other => return Err(invalid(format!("unknown operation {other}"))),
        }
        let mutation = MutationView::check(&bytes)?;
        self.partitions.entry(key.clone()).or_default().apply(&mutation);
        Ok(())
    }

    fn partition_key(&self, row: &LogRow) -> Result<Vec<u8>, CdcError> {
        let values = self.base.partition_key().iter().map(|column| {
            let value = row.columns.get(&column.name).map(Vec::as_slice);
            value.ok_or_else(|| invalid(format!("a log row lacks the key column {}", column.name)))
        });
        Ok(encode_partition_key(&values.collect::<Result<Vec<_>, _>>()?)?)
    }

    fn clustering_prefix(&self, row: &LogRow) -> Result<Vec<u8>, CdcError> {
        let values: Vec<&[u8]> = self
            .base
            .clustering_key()
            .iter()
            .map_while(|column| row.columns.get(&column.name).map(Vec::as_slice))
            .collect();
        Ok(encode_clustering(&self.base, &values)?)
    }

    fn upsert(
        &self,
        row: &LogRow,
        clustering: &[u8],
        writer: &mut MutationWriter,
    ) -> Result<(), CdcError> {
        let timestamp = row.micros();
        let expiry = row.ttl_seconds.map(|ttl| Expiry {
            ttl_seconds: ttl as u32,
            expires_at: timestamp.div_euclid(1_000_000).saturating_add(ttl),
        });
        let is_static = clustering.is_empty() && self.base.clustering_count() > 0;
        let kind = if is_static { ColumnKind::Static } else { ColumnKind::Regular };
        let mut cells = Vec::new();
        for column in self.base.columns.iter().filter(|column| column.kind == kind) {
            told_cells(column, row, &mut cells)?;
        }
        cells.sort_by(|a, b| (a.column, &a.path).cmp(&(b.column, &b.path)));
        let marker = (row.operation == 2).then_some(Marker { timestamp, expiry });
        let head = RowHead { marker, tombstone: None };
        let write = |out: &mut model::row::RowWriter| {
            for cell in &cells {
                out.cell(&cell.as_cell(timestamp, expiry));
            }
        };
        if is_static {
            writer.static_row(timestamp, head, write);
        } else {
            writer.row(clustering, timestamp, head, write);
        }
        Ok(())
    }
}

/// A column's or an element's change, owned.
struct ToldCell {
    column: ColumnId,
    path: Option<Vec<u8>>,
    /// `None` when it was deleted.
    value: Option<Vec<u8>>,
    is_collection: bool,
}

impl ToldCell {
    fn as_cell(&self, timestamp: TimestampMicros, expiry: Option<Expiry>) -> Cell<'_> {
        let deleted_at = timestamp.div_euclid(1_000_000);
        let (content, timestamp) = match &self.value {
            Some(value) => (CellContent::Live { value, expiry }, timestamp),
            None if self.is_collection => {
                (CellContent::CollectionTombstone { deleted_at }, timestamp.saturating_sub(1))
            }
            None => (CellContent::Tombstone { deleted_at }, timestamp),
        };
        Cell { column: self.column, path: self.path.as_deref(), timestamp, content }
    }
}

fn told_cells(column: &ColumnDef, row: &LogRow, out: &mut Vec<ToldCell>) -> Result<(), CdcError> {
    let get = |prefix: &str| row.columns.get(&*format!("{prefix}{}", column.name));
    let is_collection = column.cql_type.is_multi_cell();
    if get(DELETED_PREFIX).is_some() {
        out.push(ToldCell { column: column.id, path: None, value: None, is_collection });
    }
    let mut element = |key: &[u8], value: Option<&[u8]>| -> Result<(), CdcError> {
        let mut path = Vec::new();
        encode_path(&column.cql_type, key, &mut path)?;
        let value = value.map(<[u8]>::to_vec);
        out.push(ToldCell { column: column.id, path: Some(path), value, is_collection: false });
        Ok(())
    };
    if let Some(deleted) = get(DELETED_ELEMENTS_PREFIX) {
        for key in ListView::set(deleted)? {
            element(key?, None)?;
        }
    }
    let Some(value) = get("") else { return Ok(()) };
    match &column.cql_type {
        CqlType::Set { frozen: false, .. } => {
            for key in ListView::set(value)? {
                element(key?, Some(&[]))?;
            }
        }
        CqlType::Map { frozen: false, .. } | CqlType::List { frozen: false, .. } => {
            for entry in MapView::new(value)? {
                let (key, value) = entry?;
                element(key, Some(value))?;
            }
        }
        CqlType::Udt(udt) if !udt.frozen => {
            for (index, field) in TupleView::new(value).enumerate() {
                if let Some(field) = field? {
                    element(&field_path(index as u16), Some(field))?;
                }
            }
        }
        _ => out.push(ToldCell {
            column: column.id,
            path: None,
            value: Some(value.clone()),
            is_collection: false,
        }),
    }
    Ok(())
}

/// A row as a reader sees it: whether it has a marker, and its live cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveRow {
    /// Whether it was inserted and the insert stands.
    pub has_marker: bool,
    /// Values by column, and by path for columns that have elements.
    pub cells: BTreeMap<(ColumnId, Option<Vec<u8>>), Vec<u8>>,
}

impl LiveRow {
    fn of(row: &[u8], now: EpochSeconds) -> Option<LiveRow> {
        let row = RowView::new(row);
        row.is_live(now).then(|| LiveRow {
            has_marker: row.marker().is_some_and(|m| m.is_live(now)),
            cells: row
                .cells()
                .filter_map(|cell| {
                    let path = cell.path.map(<[u8]>::to_vec);
                    Some(((cell.column, path), cell.live_value(now)?.to_vec()))
                })
                .collect(),
        })
    }
}

/// A partition as a reader sees it at `now`: the static row under `None`, then rows by their keys.
pub fn live_rows(partition: &Partition, now: EpochSeconds) -> BTreeMap<Option<Vec<u8>>, LiveRow> {
    let static_row = partition.effective_static_row();
    let static_row = static_row.and_then(|row| Some((None, LiveRow::of(&row, now)?)));
    let rows = partition.effective_rows(&[], END_POSITION);
    let rows = rows.filter_map(|(key, row)| Some((Some(key.to_vec()), LiveRow::of(&row, now)?)));
    static_row.into_iter().chain(rows).collect()
}

/// A preimage or postimage: the row that it tells of, and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The serialised partition key.
    pub key: Vec<u8>,
    /// `None` for the static row.
    pub clustering: Option<Vec<u8>>,
    /// The columns that it includes: null or not.
    pub columns: Vec<ColumnId>,
    /// The values of those that are not null.
    pub cells: BTreeMap<(ColumnId, Option<Vec<u8>>), Vec<u8>>,
}

impl Image {
    /// Reads a row with operation 0 or 9; `None` for other rows.
    pub fn of(base: &Arc<TableDef>, row: &LogRow) -> Result<Option<Image>, CdcError> {
        if !matches!(row.operation, 0 | 9) {
            return Ok(None);
        }
        let fold = Fold::new(base.clone());
        let clustering = fold.clustering_prefix(row)?;
        let is_static = clustering.is_empty() && base.clustering_count() > 0;
        let kind = if is_static { ColumnKind::Static } else { ColumnKind::Regular };
        let mut told = Vec::new();
        let mut columns = Vec::new();
        for column in base.columns.iter().filter(|column| column.kind == kind) {
            let before = told.len();
            told_cells(column, row, &mut told)?;
            if told.len() > before || row.operation == 9 {
                columns.push(column.id);
            }
        }
        let cells = told.into_iter().filter_map(|c| Some(((c.column, c.path), c.value?)));
        Ok(Some(Image {
            key: fold.partition_key(row)?,
            clustering: (!is_static).then_some(clustering),
            columns,
            cells: cells.collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::base_table;
    use crate::time_uuid::log_time_uuid;

    fn row(operation: i8, columns: &[(&str, i32)]) -> LogRow {
        LogRow {
            stream: vec![0; 16],
            time: log_time_uuid(100, 0),
            batch_seq_no: 0,
            operation,
            ttl_seconds: None,
            end_of_batch: true,
            columns: columns.iter().map(|(k, v)| ((*k).into(), v.to_be_bytes().into())).collect(),
        }
    }

    fn refusal(rows: &[LogRow]) -> Option<String> {
        let mut fold = Fold::new(Arc::new(base_table("p int, c int, a int, m map<int,int>")));
        rows.iter().find_map(|row| fold.apply(row).err()).map(|error| error.message)
    }

    #[test]
    fn rows_that_no_log_holds_are_refused() {
        let (start, end) = (row(5, &[("p", 1), ("c", 1)]), row(8, &[("p", 1), ("c", 2)]));
        assert_eq!(refusal(&[start.clone(), end.clone()]), None);
        let no_start = Some("a range delete has an end but no start".to_owned());
        assert_eq!(refusal(&[end]), no_start);
        let no_end = Some("a range delete has a start but no end".to_owned());
        assert_eq!(refusal(&[start.clone(), start]), no_end);
        assert_eq!(refusal(&[row(10, &[("p", 1)])]), Some("unknown operation 10".to_owned()));
        let no_key = Some("a log row lacks the key column p".to_owned());
        assert_eq!(refusal(&[row(1, &[("c", 1)])]), no_key);
        assert!(refusal(&[row(1, &[("p", 1), ("c", 1), ("m", 1)])]).is_some());
    }

    #[test]
    fn an_update_without_clustering_values_is_of_the_static_row() {
        let mut fold = Fold::new(Arc::new(base_table("p int, c int, s int static, a int")));
        fold.apply(&row(1, &[("p", 1), ("s", 5)])).unwrap();
        fold.apply(&row(2, &[("p", 1), ("c", 2), ("a", 6)])).unwrap();
        let rows = live_rows(&fold.partitions[&1_i32.to_be_bytes()[..]], 0);
        let shown: Vec<_> = rows
            .iter()
            .map(|(key, row)| (key.is_some(), row.has_marker, row.cells.len()))
            .collect();
        assert_eq!(shown, [(false, false, 1), (true, true, 1)]);
    }
}
