//! Descriptions of columns, encoded once when a statement is prepared.
//!
//! Running a prepared statement then copies bytes. The encodings differ by version only where a
//! type is younger than the version; equal ones share their bytes.

use std::sync::Arc;

use model::CqlType;

use super::encode::{put_count, put_flags, put_int, put_short, put_string};
use super::frame::Version;
use super::types::put_type;

/// Flags of metadata.
pub(crate) mod metadata_flags {
    pub(crate) const GLOBAL_TABLE_SPEC: u32 = 0x01;
    pub(crate) const HAS_MORE_PAGES: u32 = 0x02;
    pub(crate) const NO_METADATA: u32 = 0x04;
    pub(crate) const METADATA_CHANGED: u32 = 0x08;
}

/// A column of a result, or a bind marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The keyspace of its table.
    pub keyspace: Arc<str>,
    /// Its table.
    pub table: Arc<str>,
    /// Its name as the client sees it.
    pub name: Arc<str>,
    /// Its type.
    pub cql_type: CqlType,
}

/// Columns in the bytes of every version: the table once if it is the same for all, then each
/// column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EncodedColumns {
    column_count: i32,
    is_one_table: bool,
    /// For v3, v4 and v5.
    by_version: [Arc<[u8]>; 3],
}

impl EncodedColumns {
    fn new(columns: &[ColumnSpec]) -> Self {
        let is_one_table = is_one_table(columns);
        let v3 = encode_columns(columns, is_one_table, Version::V3);
        let v4 = shared(encode_columns(columns, is_one_table, Version::V4), &v3);
        let v5 = shared(encode_columns(columns, is_one_table, Version::V5), &v4);
        let column_count = i32::try_from(columns.len()).unwrap_or(i32::MAX);
        EncodedColumns { column_count, is_one_table, by_version: [v3, v4, v5] }
    }

    fn bytes(&self, version: Version) -> &[u8] {
        let [v3, v4, v5] = &self.by_version;
        match version {
            Version::V3 => v3,
            Version::V4 => v4,
            Version::V5 => v5,
        }
    }

    fn flags(&self) -> u32 {
        if self.is_one_table { metadata_flags::GLOBAL_TABLE_SPEC } else { 0 }
    }
}

fn is_one_table(columns: &[ColumnSpec]) -> bool {
    columns.first().is_some_and(|first| {
        columns.iter().all(|c| c.keyspace == first.keyspace && c.table == first.table)
    })
}

fn shared(bytes: Arc<[u8]>, earlier: &Arc<[u8]>) -> Arc<[u8]> {
    if bytes == *earlier { earlier.clone() } else { bytes }
}

fn encode_columns(columns: &[ColumnSpec], is_one_table: bool, version: Version) -> Arc<[u8]> {
    let mut out = Vec::new();
    if let Some(first) = columns.first().filter(|_| is_one_table) {
        put_string(&mut out, &first.keyspace);
        put_string(&mut out, &first.table);
    }
    for column in columns {
        if !is_one_table {
            put_string(&mut out, &column.keyspace);
            put_string(&mut out, &column.table);
        }
        put_string(&mut out, &column.name);
        put_type(&mut out, &column.cql_type, version);
    }
    out.into()
}

/// The columns of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultMetadata {
    columns: EncodedColumns,
}

impl ResultMetadata {
    /// Encodes the columns; none for statements that return no rows.
    pub fn new(columns: &[ColumnSpec]) -> Self {
        ResultMetadata { columns: EncodedColumns::new(columns) }
    }

    /// How many columns.
    pub fn column_count(&self) -> i32 {
        self.columns.column_count
    }

    /// The columns as this version encodes them. Equal bytes describe equal columns, so a hash of
    /// the bytes of [`Version::V5`] can be the metadata's id.
    pub fn encoded(&self, version: Version) -> &[u8] {
        self.columns.bytes(version)
    }

    pub(crate) fn flags(&self) -> u32 {
        match self.columns.column_count {
            0 => metadata_flags::NO_METADATA,
            _ => self.columns.flags(),
        }
    }
}

/// The bind markers of a prepared statement.
#[derive(Clone, Debug)]
pub struct BindMetadata {
    markers: EncodedColumns,
    partition_key_markers: Vec<u16>,
}

impl BindMetadata {
    /// Encodes the markers. `partition_key_markers` holds, for each column of the partition key in
    /// order, the marker that binds it; empty unless markers bind all of them. Drivers route by
    /// it, so a wrong one sends requests to the wrong node.
    pub fn new(markers: &[ColumnSpec], partition_key_markers: &[u16]) -> Self {
        BindMetadata {
            markers: EncodedColumns::new(markers),
            partition_key_markers: partition_key_markers.to_vec(),
        }
    }

    /// How many markers.
    pub fn marker_count(&self) -> i32 {
        self.markers.column_count
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, version: Version, more_flags: u32) {
        put_flags(out, self.markers.flags() | more_flags);
        put_int(out, self.markers.column_count);
        if version >= Version::V4 {
            put_count(out, self.partition_key_markers.len());
            for &marker in &self.partition_key_markers {
                put_short(out, marker);
            }
        }
        out.extend_from_slice(self.markers.bytes(version));
    }
}
