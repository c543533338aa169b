//! Rows of system tables, given by column name, as mutations.
//!
//! Whoever knows the facts of a system table says them as names and serialized values; which of
//! them are keys, how a collection becomes cells, and in what order things stand is seen to here.
//! Every row is a whole one: the mutations are meant for tables that are made anew when read.

use model::clustering::encode_clustering;
use model::key::encode_partition_key;
use model::mutation::MutationWriter;
use model::path::encode_path;
use model::row::{Cell, CellContent, Marker, RowHead, RowWriter};
use model::value::{ListView, MapView, ValueError};
use model::{ColumnDef, ColumnKind, CqlType, TableDef};
use std::collections::BTreeMap;
use std::fmt;

/// The timestamp of the rows: older than any that a user could write.
const TIMESTAMP: i64 = 1;

/// Rows of one table, in whatever order they are given.
#[derive(Debug)]
pub struct SystemRows<'t> {
    table: &'t TableDef,
    /// By partition key, then by clustering key.
    partitions: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, RowValues>>,
}

/// The values of a row's columns, by position of the column.
type RowValues = Vec<(usize, Vec<u8>)>;

/// A row that its table cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// The table has no such column.
    UnknownColumn(String),
    /// A column of the key has no value.
    MissingKey(String),
    /// A value that is not of its column's type.
    Value(ValueError),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::UnknownColumn(name) => write!(f, "the table has no column {name}"),
            RowError::MissingKey(name) => write!(f, "the key column {name} has no value"),
            RowError::Value(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RowError {}

impl From<ValueError> for RowError {
    fn from(error: ValueError) -> Self {
        RowError::Value(error)
    }
}

impl<'t> SystemRows<'t> {
    /// No rows yet.
    pub fn new(table: &'t TableDef) -> Self {
        SystemRows { table, partitions: BTreeMap::new() }
    }

    /// Adds a row, or replaces the one of that key. Values are serialized ([`value`] has the usual
    /// ones); columns that are left out are null.
    pub fn row<'n>(
        &mut self,
        values: impl IntoIterator<Item = (&'n str, Vec<u8>)>,
    ) -> Result<(), RowError> {
        let columns = &self.table.columns;
        let mut row: RowValues = Vec::new();
        for (name, value) in values {
            let position = columns.iter().position(|column| &*column.name == name);
            let position = position.ok_or_else(|| RowError::UnknownColumn(name.to_owned()))?;
            model::value::validate(&columns[position].cql_type, &value)?;
            row.push((position, value));
        }
        let key_value = |column: &ColumnDef| {
            let place = columns.iter().position(|other| other.id == column.id);
            let found = row.iter().find(|(position, _)| Some(*position) == place);
            let missing = || RowError::MissingKey(column.name.to_string());
            found.map(|(_, value)| value.as_slice()).ok_or_else(missing)
        };
        let partition: Vec<&[u8]> =
            self.table.partition_key().iter().map(key_value).collect::<Result<_, _>>()?;
        let clustering: Vec<&[u8]> =
            self.table.clustering_key().iter().map(key_value).collect::<Result<_, _>>()?;
        let partition = encode_partition_key(&partition)?;
        let clustering = encode_clustering(self.table, &clustering)?;
        row.retain(|(position, _)| {
            matches!(columns[*position].kind, ColumnKind::Regular | ColumnKind::Static)
        });
        row.sort_by_key(|(position, _)| columns[*position].id);
        self.partitions.entry(partition).or_default().insert(clustering, row);
        Ok(())
    }

    /// One mutation for each partition.
    pub fn into_mutations(self) -> Result<Vec<Vec<u8>>, RowError> {
        let mut mutations = Vec::with_capacity(self.partitions.len());
        let marker = Marker { timestamp: TIMESTAMP, expiry: None };
        let head = RowHead { marker: Some(marker), tombstone: None };
        for (key, rows) in &self.partitions {
            let mut out = Vec::new();
            let (id, version) = (self.table.id, self.table.version);
            let mut writer = MutationWriter::new(&mut out, id, version, key);
            for (clustering, values) in rows {
                writer.try_row(clustering, TIMESTAMP, head, |row| {
                    values.iter().try_for_each(|(position, value)| {
                        write_value(row, &self.table.columns[*position], value)
                    })
                })?;
            }
            mutations.push(out);
        }
        Ok(mutations)
    }
}

fn write_value(row: &mut RowWriter, column: &ColumnDef, value: &[u8]) -> Result<(), RowError> {
    let mut cell = |path: Option<&[u8]>, value: &[u8]| {
        let content = CellContent::Live { value, expiry: None };
        row.cell(&Cell { column: column.id, path, timestamp: TIMESTAMP, content });
    };
    if !column.cql_type.is_multi_cell() {
        cell(None, value);
        return Ok(());
    }
    let mut elements: BTreeMap<Vec<u8>, &[u8]> = BTreeMap::new();
    let mut element = |key: &[u8], value| -> Result<(), ValueError> {
        let mut path = Vec::new();
        encode_path(&column.cql_type, key, &mut path)?;
        elements.insert(path, value);
        Ok(())
    };
    match &column.cql_type {
        CqlType::Set { .. } => {
            for key in ListView::set(value)? {
                element(key?, &[])?;
            }
        }
        CqlType::Map { .. } => {
            for entry in MapView::new(value)? {
                let (key, value) = entry?;
                element(key, value)?;
            }
        }
        other => unreachable!("system tables have no columns of type {other}"),
    }
    for (path, value) in elements {
        cell(Some(&path), value);
    }
    Ok(())
}

/// Serialized values.
pub mod value {
    use model::value::CollectionBuilder;

    /// `text`
    pub fn text(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    /// `boolean`
    pub fn boolean(value: bool) -> Vec<u8> {
        vec![u8::from(value)]
    }

    /// `int`
    pub fn int(value: i32) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    /// `bigint`, `timestamp` in milliseconds
    pub fn bigint(value: i64) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    /// `double`
    pub fn double(value: f64) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    /// `uuid`, the first written digit highest
    pub fn uuid(value: u128) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    /// `inet`
    pub fn inet(address: std::net::IpAddr) -> Vec<u8> {
        match address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    /// `list<text>`, or `set<text>` when the texts ascend
    pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
        elements(texts.into_iter().map(str::as_bytes))
    }

    /// A list of serialized elements, or a set when they ascend
    pub fn elements<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut builder = CollectionBuilder::new(&mut out);
        for element in elements {
            builder.element(element);
        }
        builder.finish();
        out
    }

    /// `map<text, text>` or `map<text, blob>`; the keys ascend
    pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut builder = CollectionBuilder::new(&mut out);
        for (key, value) in entries {
            builder.entry(key.as_bytes(), value);
        }
        builder.finish();
        out
    }
}
