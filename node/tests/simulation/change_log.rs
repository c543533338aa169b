//! A table and its CDC log as a client reads them, and the law between them: replaying the log by
//! its times gives the table, cell by cell, and images tell of the table before and after.
//!
//! The elements of a list are compared in order, without the identities that only the log shows.

use crate::client::{Client, ClientError};
use cdc::fold::{Fold, Image, LogRow, live_rows};
use model::clustering::encode_clustering;
use model::key::encode_partition_key;
use model::path::{encode_path, field_path};
use model::schema::Partitioner;
use model::value::{ListView, MapView, TupleView, compare_values};
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows that a page of the log or of the table has.
const PAGE_ROWS: u32 = 100;

/// The serialised partition key, and the encoded clustering key; `None` for the static row.
pub(crate) type RowKey = (Vec<u8>, Option<Vec<u8>>);
/// Element by path, or by position in a list; a column without elements has one of no path.
type Elements = Vec<(Vec<u8>, Vec<u8>)>;
/// Rows and what each column holds, nulls left out.
pub(crate) type Contents = BTreeMap<RowKey, BTreeMap<Arc<str>, Elements>>;

/// A table of keyspace `ks` as the tests know it.
pub(crate) fn table_def(name: &str, columns: &[(&str, CqlType, ColumnKind)]) -> Arc<TableDef> {
    let columns = columns.iter().enumerate().map(|(id, (name, cql_type, kind))| ColumnDef {
        id: id as u32,
        name: (*name).into(),
        cql_type: cql_type.clone(),
        kind: *kind,
        descending: false,
    });
    Arc::new(TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: name.into(),
        next_column_id: columns.len() as u32,
        columns: columns.collect(),
        dropped_columns: Vec::new(),
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(TableId(2)),
        options: TableOptions::default(),
    })
}

/// Everything that a table holds.
pub(crate) async fn read_table(
    client: &mut Client,
    table: &TableDef,
) -> Result<Contents, ClientError> {
    let text = format!("SELECT * FROM ks.{}", table.name);
    let page = client.read_all(&text, PAGE_ROWS).await?;
    let mut contents = Contents::new();
    for row in &page.rows {
        let row: BTreeMap<&str, &Option<Vec<u8>>> =
            page.columns.iter().map(String::as_str).zip(row).collect();
        let values = |columns: &[ColumnDef]| -> Vec<Vec<u8>> {
            columns.iter().filter_map(|column| row[&*column.name].clone()).collect()
        };
        let partition = values(table.partition_key());
        let partition: Vec<&[u8]> = partition.iter().map(Vec::as_slice).collect();
        let partition = encode_partition_key(&partition).unwrap();
        let clustering = values(table.clustering_key());
        if clustering.len() == table.clustering_count() {
            let clustering: Vec<&[u8]> = clustering.iter().map(Vec::as_slice).collect();
            let clustering = encode_clustering(table, &clustering).unwrap();
            contents.entry((partition.clone(), Some(clustering.clone()))).or_default();
        }
        for column in table.data_columns() {
            let Some(value) = row[&*column.name] else { continue };
            let clustering = (column.kind == ColumnKind::Regular).then(|| {
                let values = values(table.clustering_key());
                let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                encode_clustering(table, &values).unwrap()
            });
            let cells = contents.entry((partition.clone(), clustering)).or_default();
            cells.insert(column.name.clone(), elements(&column.cql_type, value));
        }
    }
    Ok(contents)
}

fn elements(cql_type: &CqlType, value: &[u8]) -> Elements {
    let path = |key: &[u8]| {
        let mut path = Vec::new();
        encode_path(cql_type, key, &mut path).unwrap();
        path
    };
    match cql_type {
        CqlType::List { frozen: false, .. } => {
            let values = ListView::list(value).unwrap().map(|value| value.unwrap().to_vec());
            values.enumerate().map(|(index, value)| (position(index), value)).collect()
        }
        CqlType::Set { frozen: false, .. } => {
            let keys = ListView::set(value).unwrap();
            keys.map(|key| (path(key.unwrap()), Vec::new())).collect()
        }
        CqlType::Map { frozen: false, .. } => {
            let entries = MapView::new(value).unwrap().map(Result::unwrap);
            entries.map(|(key, value)| (path(key), value.to_vec())).collect()
        }
        CqlType::Udt(udt) if !udt.frozen => {
            let fields = (0..).zip(TupleView::new(value));
            let set = fields.filter_map(|(index, field)| {
                Some((field_path(index).to_vec(), field.unwrap()?.to_vec()))
            });
            set.collect()
        }
        _ => vec![(Vec::new(), value.to_vec())],
    }
}

fn position(index: usize) -> Vec<u8> {
    (index as u32).to_be_bytes().to_vec()
}

/// A table's whole log, in the order of its times.
pub(crate) async fn read_log(
    client: &mut Client,
    table: &TableDef,
) -> Result<Vec<LogRow>, ClientError> {
    let text = format!("SELECT * FROM ks.{}_scylla_cdc_log", table.name);
    let page = client.read_all(&text, PAGE_ROWS).await?;
    let mut rows: Vec<LogRow> = page.rows.iter().map(|row| log_row(&page.columns, row)).collect();
    rows.sort_by(|a, b| {
        compare_values(&CqlType::TimeUuid, &a.time, &b.time)
            .then(a.stream.cmp(&b.stream))
            .then(a.batch_seq_no.cmp(&b.batch_seq_no))
    });
    Ok(rows)
}

fn log_row(names: &[String], row: &[Option<Vec<u8>>]) -> LogRow {
    let cells = names.iter().zip(row).filter_map(|(name, value)| Some((name, value.clone()?)));
    let mut columns: BTreeMap<Arc<str>, Vec<u8>> =
        cells.map(|(name, value)| (Arc::from(name.as_str()), value)).collect();
    let mut take = |name: &str| columns.remove(name);
    let fixed = |value: Option<Vec<u8>>| value.expect("every log row has it");
    LogRow {
        stream: fixed(take("cdc$stream_id")),
        time: fixed(take("cdc$time")).try_into().unwrap(),
        batch_seq_no: i32::from_be_bytes(fixed(take("cdc$batch_seq_no")).try_into().unwrap()),
        operation: i8::from_be_bytes(fixed(take("cdc$operation")).try_into().unwrap()),
        ttl_seconds: take("cdc$ttl").map(|ttl| i64::from_be_bytes(ttl.try_into().unwrap())),
        end_of_batch: take("cdc$end_of_batch").as_deref() == Some(&[1]),
        columns,
    }
}

/// Checks the law at a moment of the wall clock.
pub(crate) fn check(
    table: &Arc<TableDef>,
    has_images: bool,
    log: &[LogRow],
    contents: &Contents,
    now: i64,
) -> Result<(), String> {
    let mut fold = Fold::new(table.clone());
    for group in log.chunk_by(|a, b| a.time == b.time && a.stream == b.stream) {
        check_numbers(group)?;
        let before = fold.clone();
        for row in group {
            fold.apply(row).map_err(|error| format!("{error:?}: {row:?}"))?;
        }
        // What an image shows was there at its own time, whatever has run out since.
        let then = group[0].micros().div_euclid(1_000_000);
        check_images(table, has_images, group, [&before, &fold], then)?;
    }
    let told = contents_of(table, &fold, now);
    let keys: BTreeSet<&RowKey> = told.keys().chain(contents.keys()).collect();
    for key in keys {
        if told.get(key) != contents.get(key) {
            return Err(format!(
                "row {key:?}:\n the table has {:?}\n the log tells {:?}",
                contents.get(key),
                told.get(key)
            ));
        }
    }
    Ok(())
}

/// What the replayed log holds, as a client would read it.
fn contents_of(table: &TableDef, fold: &Fold, now: i64) -> Contents {
    let mut contents = Contents::new();
    for (partition, rows) in &fold.partitions {
        for (clustering, row) in live_rows(rows, now) {
            let columns = contents.entry((partition.clone(), clustering)).or_default();
            for ((id, path), value) in row.cells {
                let column = table.column_by_id(id).expect("the fold knows the table's columns");
                let elements: &mut Elements = columns.entry(column.name.clone()).or_default();
                let is_list = matches!(column.cql_type, CqlType::List { frozen: false, .. });
                let path =
                    if is_list { position(elements.len()) } else { path.unwrap_or_default() };
                elements.push((path, value));
            }
        }
    }
    contents
}

fn check_numbers(group: &[LogRow]) -> Result<(), String> {
    for (index, row) in group.iter().enumerate() {
        let is_last = index + 1 == group.len();
        if row.batch_seq_no as usize != index || row.end_of_batch != is_last {
            return Err(format!("a group is numbered wrongly: {group:?}"));
        }
    }
    Ok(())
}

/// Images tell the table before and after their group, and all rows that should have them do.
fn check_images(
    table: &Arc<TableDef>,
    has_images: bool,
    group: &[LogRow],
    [before, after]: [&Fold; 2],
    then: i64,
) -> Result<(), String> {
    let rows = |fold: &Fold, key: &[u8]| {
        fold.partitions.get(key).map(|partition| live_rows(partition, then)).unwrap_or_default()
    };
    let mut imaged = [BTreeSet::new(), BTreeSet::new()];
    for row in group {
        let Some(image) = Image::of(table, row).map_err(|error| format!("{error:?}"))? else {
            continue;
        };
        let is_after = row.operation == 9;
        let rows = rows(if is_after { after } else { before }, &image.key);
        let mut expected = rows.get(&image.clustering).cloned().unwrap_or_default().cells;
        expected.retain(|(column, _), _| image.columns.contains(column));
        if image.cells != expected {
            return Err(format!("{image:?}\n of {group:?}\n is not the row: {expected:?}"));
        }
        imaged[usize::from(is_after)].insert((image.key, image.clustering));
    }
    if !has_images {
        return Ok(());
    }
    for row in group.iter().filter(|row| matches!(row.operation, 1..=3)) {
        let image = LogRow { operation: 0, ..row.clone() };
        let image = Image::of(table, &image).map_err(|error| format!("{error:?}"))?;
        let image = image.expect("a row with operation 0 is an image");
        let was_there = rows(before, &image.key).contains_key(&image.clustering);
        if was_there != imaged[0].contains(&(image.key.clone(), image.clustering.clone())) {
            return Err(format!("no image of the row before: {group:?}"));
        }
    }
    Ok(())
}
