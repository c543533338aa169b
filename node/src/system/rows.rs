//! Rows of virtual tables, made from named values.

use model::mutation::MutationWriter;
use model::row::{Cell, CellContent, RowHead, RowWriter};
use model::{ColumnKind, TableDef};
use std::collections::BTreeMap;

/// A value of a virtual row.
#[derive(Clone, Debug)]
pub(super) enum Datum {
    /// A serialized value.
    Value(Vec<u8>),
    /// The serialized elements of a set.
    Set(Vec<Vec<u8>>),
    /// The serialized entries of a map.
    Map(Vec<(Vec<u8>, Vec<u8>)>),
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Datum::Value(text.as_bytes().to_vec())
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Datum::Value(text.into_bytes())
    }
}

impl From<i32> for Datum {
    fn from(number: i32) -> Self {
        Datum::Value(number.to_be_bytes().to_vec())
    }
}

impl From<i64> for Datum {
    fn from(number: i64) -> Self {
        Datum::Value(number.to_be_bytes().to_vec())
    }
}

impl From<bool> for Datum {
    fn from(flag: bool) -> Self {
        Datum::Value(vec![u8::from(flag)])
    }
}

impl From<[u8; 16]> for Datum {
    fn from(uuid: [u8; 16]) -> Self {
        Datum::Value(uuid.to_vec())
    }
}

impl From<std::net::IpAddr> for Datum {
    fn from(address: std::net::IpAddr) -> Self {
        Datum::Value(match address {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        })
    }
}

/// Collects the rows of one virtual table.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    table: &'a TableDef,
    mutations: Vec<Vec<u8>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &'a TableDef) -> Self {
        Rows { table, mutations: Vec::new() }
    }

    /// The rows as mutations.
    pub(super) fn finish(self) -> Vec<Vec<u8>> {
        self.mutations
    }

    /// Adds a row. Columns that the table does not have are left out, so that one list of values
    /// serves several versions of a table; a key column that is missing drops the row.
    pub(super) fn add(&mut self, values: Vec<(&str, Datum)>) {
        let mut by_name: BTreeMap<&str, Datum> = values.into_iter().collect();
        let mut key_values = Vec::new();
        let mut clustering_values = Vec::new();
        for column in &self.table.columns {
            let target = match column.kind {
                ColumnKind::PartitionKey(_) => &mut key_values,
                ColumnKind::Clustering(_) => &mut clustering_values,
                _ => continue,
            };
            let Some(Datum::Value(value)) = by_name.remove(&*column.name) else { return };
            target.push(value);
        }
        let key_parts: Vec<&[u8]> = key_values.iter().map(Vec::as_slice).collect();
        let clustering_parts: Vec<&[u8]> = clustering_values.iter().map(Vec::as_slice).collect();
        let Ok(key) = model::key::encode_partition_key(&key_parts) else { return };
        let Ok(clustering) = model::clustering::encode_clustering(self.table, &clustering_parts)
        else {
            return;
        };
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, self.table.id, 0, &key);
        let marker = Some(model::row::Marker { timestamp: 0, expiry: None });
        let mut data: Vec<_> = self.table.data_columns().iter().collect();
        data.sort_by_key(|column| column.id);
        writer.row(&clustering, 0, RowHead { marker, tombstone: None }, |row| {
            for column in data {
                if let Some(datum) = by_name.remove(&*column.name) {
                    write_cells(row, column.id, &column.cql_type, datum);
                }
            }
        });
        self.mutations.push(mutation);
    }
}

fn write_cells(row: &mut RowWriter, column: u32, cql_type: &model::CqlType, datum: Datum) {
    let mut put = |path: Option<&[u8]>, value: &[u8]| {
        let content = CellContent::Live { value, expiry: None };
        row.cell(&Cell { column, path, timestamp: 0, content });
    };
    let mut entries = match datum {
        Datum::Value(value) => return put(None, &value),
        Datum::Set(elements) => elements.into_iter().map(|e| (e, Vec::new())).collect(),
        Datum::Map(entries) => entries,
    };
    if !cql_type.is_multi_cell() {
        return put(None, &frozen(&entries, cql_type));
    }
    let mut cells: Vec<(Vec<u8>, Vec<u8>)> = entries
        .drain(..)
        .filter_map(|(key, value)| {
            let mut path = Vec::new();
            model::path::encode_path(cql_type, &key, &mut path).ok()?;
            Some((path, value))
        })
        .collect();
    cells.sort_unstable();
    cells.dedup_by(|a, b| a.0 == b.0);
    for (path, value) in cells {
        put(Some(&path), &value);
    }
}

/// A frozen set or map from its parts.
fn frozen(entries: &[(Vec<u8>, Vec<u8>)], cql_type: &model::CqlType) -> Vec<u8> {
    let is_map = matches!(cql_type, model::CqlType::Map { .. });
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable();
    let mut out = (sorted.len() as i32).to_be_bytes().to_vec();
    let mut put = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    for (key, value) in sorted {
        put(key);
        if is_map {
            put(value);
        }
    }
    out
}
