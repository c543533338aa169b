//! Mutations and rows as text, for tests and for people: values as literals, names of columns,
//! one line for each part.
//!
//! ```text
//! k=1
//!   static
//!     s='x' @5
//!   range [c=1, c=1]: deleted @5
//!   row c=2: marker @5 ttl 60
//!     m: emptied @4
//!     m['a']=1 @5 ttl 60
//!     v: deleted @5
//! ```
//!
//! A timestamp that the leader has yet to assign is `@?`, one before it `@?-1`. Bytes that do not
//! decode are shown in hexadecimal: nothing here fails.

use crate::clustering::decode_bound;
use crate::key::PartitionKeyParts;
use crate::list_operation::{ListChange, ListOperation};
use crate::literal::format_value;
use crate::mutation::{MutationItem, MutationView};
use crate::path::{decode_path, field_index};
use crate::row::{Cell, CellContent, Expiry, RowView, UNSTAMPED};
use crate::{ColumnDef, CqlType, TableDef, TimestampMicros};
use std::fmt::Write;

/// A mutation of `table`, ended by a newline.
pub fn dump_mutation(table: &TableDef, mutation: &MutationView) -> String {
    let mut out = dump_key(table, mutation.key());
    out.push('\n');
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion) => {
                line(&mut out, 1, &format!("partition: deleted {}", at(deletion.timestamp)));
            }
            MutationItem::StaticRow(row) => {
                line(&mut out, 1, &format!("static{}", dump_head(row)));
                dump_cells(table, row, &mut out);
            }
            MutationItem::RangeTombstone { start, end, deletion } => {
                let (start, end) = (dump_bound(table, start, true), dump_bound(table, end, false));
                let deleted = at(deletion.timestamp);
                line(&mut out, 1, &format!("range {start}, {end}: deleted {deleted}"));
            }
            MutationItem::Row { clustering, row } => {
                let key = dump_clustering(table, clustering);
                line(&mut out, 1, &format!("row {key}{}", dump_head(row)));
                dump_cells(table, row, &mut out);
            }
        }
    }
    out
}

/// A row of `table`: its head, then a line for each cell.
pub fn dump_row(table: &TableDef, row: RowView) -> String {
    let mut out = String::new();
    line(&mut out, 1, &format!("row{}", dump_head(row)));
    dump_cells(table, row, &mut out);
    out
}

/// A partition key as `a=1 b='x'`.
pub fn dump_key(table: &TableDef, key: &[u8]) -> String {
    let columns = table.partition_key();
    let parts: Result<Vec<_>, _> = PartitionKeyParts::new(columns.len(), key).collect();
    match parts {
        Ok(parts) => dump_values(columns, parts.into_iter()),
        Err(_) => format_value(&CqlType::Blob, key),
    }
}

/// A clustering key or a prefix of one as `a=1 b='x'`; `()` when it is empty.
pub fn dump_clustering(table: &TableDef, clustering: &[u8]) -> String {
    match decode_bound(table, clustering) {
        Ok((values, false)) if values.is_empty() => "()".to_owned(),
        Ok((values, false)) => {
            dump_values(table.clustering_key(), values.iter().map(Vec::as_slice))
        }
        _ => format_value(&CqlType::Blob, clustering),
    }
}

/// A list operation on one line.
pub fn dump_list_operation(table: &TableDef, operation: &ListOperation) -> String {
    let column = table.column_by_id(operation.column);
    let name = column.map_or_else(|| format!("#{}", operation.column), |c| c.name.to_string());
    let element = match column.map(|column| &column.cql_type) {
        Some(CqlType::List { element, .. }) => element,
        _ => &CqlType::Blob,
    };
    let place = match &operation.clustering {
        Some(clustering) => dump_clustering(table, clustering),
        None => "static".to_owned(),
    };
    let change = match &operation.change {
        ListChange::SetIndex { index, value } => {
            let value = value.as_ref().map(|value| format_value(element, value));
            format!("{name}[{index}]={}", value.as_deref().unwrap_or("null"))
        }
        ListChange::DeleteIndex { index } => format!("{name}[{index}]: deleted"),
        ListChange::RemoveValues { values } => {
            let values: Vec<_> = values.iter().map(|value| format_value(element, value)).collect();
            format!("{name}: without {}", values.join(", "))
        }
    };
    format!("{place}: {change} {}{}", at(operation.timestamp), ttl(operation.expiry))
}

fn dump_values<'v>(columns: &[ColumnDef], values: impl Iterator<Item = &'v [u8]>) -> String {
    let pair = |(column, value): (&ColumnDef, &[u8])| {
        format!("{}={}", column.name, format_value(&column.cql_type, value))
    };
    columns.iter().zip(values).map(pair).collect::<Vec<_>>().join(" ")
}

/// A start before its keys and an end behind them include them.
fn dump_bound(table: &TableDef, bound: &[u8], is_start: bool) -> String {
    let Ok((values, is_after)) = decode_bound(table, bound) else {
        return format_value(&CqlType::Blob, bound);
    };
    let values = dump_values(table.clustering_key(), values.iter().map(Vec::as_slice));
    match (is_start, is_after) {
        (true, false) => format!("[{values}"),
        (true, true) => format!("({values}"),
        (false, true) => format!("{values}]"),
        (false, false) => format!("{values})"),
    }
}

fn dump_head(row: RowView) -> String {
    let marker = row.marker().map_or_else(String::new, |marker| {
        format!(": marker {}{}", at(marker.timestamp), ttl(marker.expiry))
    });
    let tombstone = row
        .tombstone()
        .map_or_else(String::new, |tombstone| format!(": deleted {}", at(tombstone.timestamp)));
    marker + &tombstone
}

fn dump_cells(table: &TableDef, row: RowView, out: &mut String) {
    for cell in row.cells() {
        line(out, 2, &dump_cell(table, &cell));
    }
}

fn dump_cell(table: &TableDef, cell: &Cell) -> String {
    let column = table.column_by_id(cell.column);
    let (name, value_type) = match column {
        Some(column) => (element_name(column, cell.path), element_type(column, cell.path)),
        None => (format!("#{}", cell.column), &CqlType::Blob),
    };
    let at = at(cell.timestamp);
    match cell.content {
        CellContent::Live { value, expiry } => {
            let is_set = matches!(column.map(|c| &c.cql_type), Some(CqlType::Set { .. }));
            let value = if is_set && cell.path.is_some() {
                "present".to_owned()
            } else {
                format_value(value_type, value)
            };
            format!("{name}={value} {at}{}", ttl(expiry))
        }
        CellContent::Tombstone { .. } => format!("{name}: deleted {at}"),
        CellContent::CollectionTombstone { .. } => format!("{name}: emptied {at}"),
    }
}

/// `v`, `m['key']`, `u.field`.
fn element_name(column: &ColumnDef, path: Option<&[u8]>) -> String {
    let Some(path) = path else { return column.name.to_string() };
    if let CqlType::Udt(udt) = &column.cql_type {
        let field = field_index(&column.cql_type, path).ok().and_then(|i| udt.fields.get(i));
        return format!("{}.{}", column.name, field.map_or("?", |(name, _)| name));
    }
    let mut key = Vec::new();
    let key = match decode_path(&column.cql_type, path, &mut key) {
        Ok(()) => format_value(
            match &column.cql_type {
                CqlType::Set { element, .. } => element,
                CqlType::Map { key, .. } => key,
                _ => &CqlType::TimeUuid,
            },
            &key,
        ),
        Err(_) => format_value(&CqlType::Blob, path),
    };
    format!("{}[{key}]", column.name)
}

fn element_type<'c>(column: &'c ColumnDef, path: Option<&[u8]>) -> &'c CqlType {
    match (&column.cql_type, path) {
        (column_type, None) => column_type,
        (CqlType::List { element, .. } | CqlType::Map { value: element, .. }, Some(_)) => element,
        (CqlType::Udt(udt), Some(path)) => field_index(&column.cql_type, path)
            .ok()
            .and_then(|index| udt.fields.get(index))
            .map_or(&CqlType::Blob, |(_, field_type)| field_type),
        (_, Some(_)) => &CqlType::Blob,
    }
}

fn at(timestamp: TimestampMicros) -> String {
    match timestamp.wrapping_sub(UNSTAMPED) {
        0 => "@?".to_owned(),
        -1 => "@?-1".to_owned(),
        _ => format!("@{timestamp}"),
    }
}

fn ttl(expiry: Option<Expiry>) -> String {
    expiry.map_or_else(String::new, |expiry| format!(" ttl {}", expiry.ttl_seconds))
}

fn line(out: &mut String, depth: usize, text: &str) {
    writeln!(out, "{:1$}{text}", "", depth * 2).expect("writing to a string does not fail");
}
