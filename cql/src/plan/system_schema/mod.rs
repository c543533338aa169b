//! The system's own keyspaces: what their tables look like, and the rows that describe a schema.
//!
//! The definitions are data ([`system_keyspaces`]); clients know these tables by heart, so names
//! and types are Cassandra 5's, with ScyllaDB's beside them where its clients ask for them. A
//! [`model::Schema`] that a node works with contains them like any other keyspace.
//! [`system_schema_mutations`] turns a schema into the rows of `system_schema` and
//! `system_virtual_schema`. Rows of all other system tables (`local`, `peers`, `clients`, …) are
//! made by those who know the facts; [`SystemRows`] writes them.

mod content;
mod definitions;
mod rows;

pub use content::system_schema_mutations;
pub(in crate::plan) use content::{replication_map, shown_compression};
pub use rows::{RowError, SystemRows, value};

use super::ddl::system_table;
use definitions::KEYSPACES;
use model::schema::Replication;
use model::{KeyspaceDef, TableDef, TableId};
use std::sync::Arc;

/// Whether a keyspace is the system's, so that no statement may change it.
pub fn is_system_keyspace(name: &str) -> bool {
    name == "system_auth" || KEYSPACES.iter().any(|(keyspace, _)| *keyspace == name)
}

/// Whether a keyspace's tables are made when they are read. Clients find these in
/// `system_virtual_schema`, all others in `system_schema`.
pub fn is_virtual_keyspace(name: &str) -> bool {
    matches!(name, "system_views" | "system_virtual_schema")
}

/// The system's keyspaces, by name. The same on every node and in every run: ids follow from the
/// names.
pub fn system_keyspaces() -> Vec<KeyspaceDef> {
    let keyspace = |(name, tables): &(&str, &[(&str, &str)])| {
        let tables = tables.iter().map(|(comment, statement)| {
            let mut table: TableDef = system_table(name, statement);
            table.id = id_of(name, &table.name);
            (*comment).clone_into(&mut table.options.comment);
            table.options.gc_grace_seconds = 0;
            (table.name.clone(), Arc::new(table))
        });
        KeyspaceDef {
            name: (*name).into(),
            replication: Replication::Local,
            durable_writes: true,
            tables: tables.collect(),
            types: std::collections::BTreeMap::new(),
        }
    };
    KEYSPACES.iter().map(keyspace).collect()
}

/// A name-based UUID (version 8): FNV-1a over both names. It never meets a table of a user, whose
/// id is of version 1.
fn id_of(keyspace: &str, table: &str) -> TableId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = keyspace.bytes().chain([0]).chain(table.bytes());
    let hash = bytes.fold(OFFSET, |hash, b| (hash ^ u128::from(b)).wrapping_mul(PRIME));
    let (version, variant) = (0xf << 76, 0b11 << 62);
    TableId(hash & !version & !variant | 0x8 << 76 | 0b10 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn definitions_are_whole_and_ids_are_fixed_and_distinct() {
        let keyspaces = system_keyspaces();
        let names: Vec<&str> = keyspaces.iter().map(|k| &*k.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.iter().all(|name| is_system_keyspace(name)));
        let tables: Vec<_> = keyspaces.iter().flat_map(|k| k.tables.values()).collect();
        let ids: BTreeSet<TableId> = tables.iter().map(|t| t.id).collect();
        assert_eq!(ids.len(), tables.len());
        let local = tables.iter().find(|t| &*t.name == "local").unwrap();
        assert_eq!(local.id.0, 0x4710_b309_8fee_8c29_8ea9_9f35_6142_d4cf, "{:x}", local.id.0);
        assert_eq!(local.column("tokens").unwrap().cql_type.to_string(), "set<text>");
    }
}
