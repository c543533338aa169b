//! Tables for tests, from a line of text: `p int, c text desc, s int static, v int`.
//!
//! The first column is the partition key; `c`, `c1`, `c2` … are the clustering key. Types are
//! native ones, lists, sets and maps of them, and `udt`, which has the fields `a int, b text`.

#![allow(clippy::unwrap_used, reason = "tests say what is wrong by failing")]

#[cfg(test)]
mod golden;
pub mod range;
pub mod statement;

use model::schema::Partitioner;
use model::types::UdtType;
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use std::sync::Arc;

/// The table `ks.t` with these columns, ids in the order given.
pub fn base_table(columns: &str) -> TableDef {
    let mut columns: Vec<ColumnDef> = split_outside_brackets(columns)
        .enumerate()
        .map(|(id, text)| {
            let mut words = text.trim().splitn(3, ' ');
            let name = words.next().unwrap();
            let cql_type = column_type(words.next().unwrap());
            let rest = words.next().unwrap_or("");
            let is_clustering =
                name == "c" || name.strip_prefix('c').is_some_and(|n| n.parse::<u16>().is_ok());
            let kind = match id {
                0 => ColumnKind::PartitionKey(0),
                _ if is_clustering => ColumnKind::Clustering(id as u16 - 1),
                _ if rest == "static" => ColumnKind::Static,
                _ => ColumnKind::Regular,
            };
            let descending = rest == "desc";
            ColumnDef { id: id as u32, name: name.into(), cql_type, kind, descending }
        })
        .collect();
    let next_column_id = columns.len() as u32;
    let keys = columns
        .iter()
        .take_while(|c| !matches!(c.kind, ColumnKind::Static | ColumnKind::Regular))
        .count();
    columns[keys..].sort_by(|a, b| a.name.cmp(&b.name));
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns,
        dropped_columns: Vec::new(),
        next_column_id,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(TableId(2)),
        options: TableOptions::default(),
    }
}

/// The type of that name, collections not frozen.
pub fn column_type(name: &str) -> CqlType {
    if let Some(native) = CqlType::native_from_name(name) {
        return native;
    }
    if name == "udt" {
        return CqlType::Udt(Arc::new(UdtType {
            keyspace: "ks".into(),
            name: "udt".into(),
            fields: vec![("a".into(), CqlType::Int), ("b".into(), CqlType::Text)],
            frozen: false,
        }));
    }
    let (outer, inner) = name.strip_suffix('>').unwrap().split_once('<').unwrap();
    let mut inner = split_outside_brackets(inner).map(|t| Arc::new(column_type(t.trim())));
    let first = inner.next().unwrap();
    match outer {
        "list" => CqlType::List { element: first, frozen: false },
        "set" => CqlType::Set { element: first, frozen: false },
        "map" => CqlType::Map { key: first, value: inner.next().unwrap(), frozen: false },
        "frozen" => first.freeze(),
        _ => panic!("no such type: {name}"),
    }
}

/// Splits at commas that no bracket encloses.
pub fn split_outside_brackets(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |ch: char| {
        match ch {
            '<' | '(' | '{' | '[' => depth += 1,
            '>' | ')' | '}' | ']' => depth -= 1,
            _ => {}
        }
        ch == ',' && depth == 0
    })
}
