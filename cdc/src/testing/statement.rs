//! Writes as lines of text, for tests: each line is one mutation.
//!
//! ```text
//! write     := statement (" + " statement)*                  a batch on one partition
//! statement := insert ROW change* | update ROW change* | drop ROW column*
//!            | delete ROW | range [|( PREFIX,PREFIX ]|) | delete-partition
//!              [ttl SECONDS] @TIMESTAMP
//! ROW       := values of the clustering columns joined by "/" | static | -     (no clustering key)
//! change    := column=value | column=null | column={…} | column+={…} | column-={…}
//! ```
//!
//! Values have no spaces in them. Elements of lists are named by their place, a number, so a list is
//! written like a map: `l+={7:x}`.

use model::clustering::{AFTER, encode_clustering};
use model::literal::parse_literal;
use model::mutation::{MutationView, MutationWriter};
use model::partition::Partition;
use model::path::{encode_path, field_path};
use model::read::END_POSITION;
use model::row::{Cell, CellContent, Deletion, Expiry, Marker, RowHead};
use model::timeuuid::timeuuid_from_micros;
use model::{ColumnDef, CqlType, TableDef};

use super::split_outside_brackets;

/// The mutation of a write to the partition with this key.
pub fn parse_write(
    base: &TableDef,
    key: &[u8],
    text: &str,
    now: i64,
    timestamp: &dyn Fn(&str) -> i64,
) -> Vec<u8> {
    let mut all = Partition::default();
    for statement in text.split(" + ") {
        let bytes = parse_statement(base, key, statement.trim(), now, timestamp);
        all.apply(&MutationView::check(&bytes).unwrap());
    }
    let mut out = Vec::new();
    all.write(&mut MutationWriter::new(&mut out, base.id, base.version, key));
    out
}

struct OwnedCell {
    column: u32,
    path: Option<Vec<u8>>,
    timestamp: i64,
    content: OwnedContent,
}

enum OwnedContent {
    Live(Vec<u8>),
    Dead,
    CollectionDead,
}

fn parse_statement(
    base: &TableDef,
    key: &[u8],
    text: &str,
    now: i64,
    timestamp: &dyn Fn(&str) -> i64,
) -> Vec<u8> {
    let (text, at) = text.rsplit_once('@').unwrap_or_else(|| panic!("no timestamp: {text}"));
    let timestamp = timestamp(at.trim());
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut expiry = None;
    if let [.., "ttl", seconds] = words.as_slice() {
        let ttl_seconds: u32 = seconds.parse().unwrap();
        expiry = Some(Expiry { ttl_seconds, expires_at: now + i64::from(ttl_seconds) });
        words.truncate(words.len() - 2);
    }
    let deletion = Deletion { timestamp, deleted_at: now };
    let mut out = Vec::new();
    let mut writer = MutationWriter::new(&mut out, base.id, base.version, key);
    match words.as_slice() {
        ["delete-partition"] => writer.partition_tombstone(deletion),
        ["range", range] => {
            let (start, end) = parse_range(base, range);
            writer.range_tombstone(&start, &end, deletion);
        }
        ["delete", row] => {
            let head = RowHead { marker: None, tombstone: Some(deletion) };
            writer.row(&position(base, row), timestamp, head, |_| ());
        }
        [verb @ ("insert" | "update" | "drop"), row, changes @ ..] => {
            let marker = (*verb == "insert").then_some(Marker { timestamp, expiry });
            let head = RowHead { marker, tombstone: None };
            let mut cells = Vec::new();
            for change in changes {
                parse_change(base, change, timestamp, &mut cells);
            }
            cells.sort_by(|a, b| (a.column, &a.path).cmp(&(b.column, &b.path)));
            let write = |out: &mut model::row::RowWriter| {
                for cell in &cells {
                    out.cell(&cell.view(expiry, now));
                }
            };
            if *row == "static" {
                writer.static_row(timestamp, head, write);
            } else {
                writer.row(&position(base, row), timestamp, head, write);
            }
        }
        _ => panic!("no such statement: {text}"),
    }
    out
}

impl OwnedCell {
    fn view(&self, expiry: Option<Expiry>, now: i64) -> Cell<'_> {
        let content = match &self.content {
            OwnedContent::Live(value) => CellContent::Live { value, expiry },
            OwnedContent::Dead => CellContent::Tombstone { deleted_at: now },
            OwnedContent::CollectionDead => CellContent::CollectionTombstone { deleted_at: now },
        };
        let path = self.path.as_deref();
        Cell { column: self.column, path, timestamp: self.timestamp, content }
    }
}

fn parse_change(base: &TableDef, change: &str, timestamp: i64, cells: &mut Vec<OwnedCell>) {
    let Some((name, value)) = change.split_once('=') else {
        let column = base.column(change).unwrap();
        let content = if column.cql_type.is_multi_cell() {
            OwnedContent::CollectionDead
        } else {
            OwnedContent::Dead
        };
        return cells.push(OwnedCell { column: column.id, path: None, timestamp, content });
    };
    let operator = name.chars().last().filter(|ch| matches!(ch, '+' | '-'));
    let column = base.column(name.trim_end_matches(['+', '-'])).unwrap();
    let push = |cells: &mut Vec<OwnedCell>, path, timestamp, content| {
        cells.push(OwnedCell { column: column.id, path, timestamp, content });
    };
    if !column.cql_type.is_multi_cell() {
        let content = match value {
            "null" => OwnedContent::Dead,
            _ => OwnedContent::Live(parse_literal(&column.cql_type, value).unwrap()),
        };
        return push(cells, None, timestamp, content);
    }
    if operator.is_none() {
        push(cells, None, timestamp - 1, OwnedContent::CollectionDead);
    }
    if value == "null" {
        return;
    }
    let inner = value.strip_prefix('{').and_then(|v| v.strip_suffix('}')).unwrap();
    for element in split_outside_brackets(inner).filter(|element| !element.is_empty()) {
        let (path, value) = parse_element(column, element);
        let content = match (operator, value) {
            (Some('-'), _) | (_, None) => OwnedContent::Dead,
            (_, Some(value)) => OwnedContent::Live(value),
        };
        push(cells, Some(path), timestamp, content);
    }
}

/// The path and the value of an element; a value of `null` is `None`.
fn parse_element(column: &ColumnDef, text: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let (name, value) = text.split_once(':').unwrap_or((text, "null"));
    let literal =
        |cql_type: &CqlType| (value != "null").then(|| parse_literal(cql_type, value).unwrap());
    let (key, value) = match &column.cql_type {
        CqlType::Set { element, .. } => (parse_literal(element, name).unwrap(), Some(Vec::new())),
        CqlType::Map { key, value, .. } => (parse_literal(key, name).unwrap(), literal(value)),
        CqlType::List { element, .. } => (list_place(name).to_vec(), literal(element)),
        CqlType::Udt(udt) => {
            let index = udt.fields.iter().position(|(field, _)| **field == *name).unwrap();
            (field_path(index as u16).to_vec(), literal(&udt.fields[index].1))
        }
        other => panic!("no elements in {other}"),
    };
    let mut path = Vec::new();
    encode_path(&column.cql_type, &key, &mut path).unwrap();
    (path, value)
}

/// The time uuid of the list element that scripts call by this number.
pub fn list_place(name: &str) -> [u8; 16] {
    timeuuid_from_micros(name.parse().unwrap(), 0x8080_8080_8080_8080)
}

fn position(base: &TableDef, row: &str) -> Vec<u8> {
    if matches!(row, "-" | "") {
        return Vec::new();
    }
    let values: Vec<Vec<u8>> = row
        .split('/')
        .zip(base.clustering_key())
        .map(|(text, column)| parse_literal(&column.cql_type, text).unwrap())
        .collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    encode_clustering(base, &values).unwrap()
}

fn parse_range(base: &TableDef, range: &str) -> (Vec<u8>, Vec<u8>) {
    let (start, end) = range.split_once(',').unwrap();
    let (opening, start) = start.split_at(1);
    let (end, closing) = end.split_at(end.len() - 1);
    let mut first = position(base, start);
    if opening == "(" && !start.is_empty() {
        first.push(AFTER);
    }
    let mut last = position(base, end);
    if closing == "]" {
        last.push(AFTER);
    }
    if end.is_empty() {
        last = END_POSITION.to_vec();
    }
    (first, last)
}
