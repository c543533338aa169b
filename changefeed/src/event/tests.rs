//! Whoever replays a feed's events has the table: random writes through the real maker of log rows,
//! then events of every kind applied to documents by key, and compared with the table.
//!
//! Documents of `full` events are replaced, those of `delta` events changed as `event::delta` says,
//! those of `patch` events by a library that applies JSON patches.

use crate::options::EventKind;
use crate::testing::Feed;
use cdc::fold::{LiveRow, live_rows};
use model::clustering::decode_clustering;
use model::json::{JsonStyle, push_json_value};
use model::path::decode_path;
use model::{ColumnKind, CqlType};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// xorshift64*
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

pub(crate) const COLUMNS: &str = "a int, b text, m map<text,int>, z set<int>, l list<int>, u udt";

fn random_change(random: &mut Random) -> &'static str {
    random.pick(&[
        "a=1",
        "a=2",
        "a=null",
        "b=x",
        "b=null",
        "m={}",
        "m={a/b:1,k:2}",
        "m+={k:3}",
        "m+={n~:4}",
        "m-={k}",
        "m=null",
        "z={1,2,3}",
        "z+={0,5}",
        "z-={2}",
        "z=null",
        "l={1:10,2:20,5:50}",
        "l+={3:30}",
        "l+={2:21}",
        "l-={1}",
        "l=null",
        "u={a:1,b:x}",
        "u+={a:2}",
        "u+={b:null}",
        "u=null",
    ])
}

pub(crate) fn random_body(random: &mut Random, has_clustering: bool) -> String {
    let row = if has_clustering { random.pick(&["1", "2", "3"]) } else { "-" };
    let ttl = if random.below(8) == 0 { " ttl 1000" } else { "" };
    match random.below(12) {
        0..=3 => format!("insert {row} {}{ttl}", random_change(random)),
        4 => format!("insert {row}"),
        5 if has_clustering => format!("update static s={}", random.pick(&["1", "2", "null"])),
        6 => format!("delete {row}"),
        7 if has_clustering => {
            format!("range {}", random.pick(&["[1,2]", "(1,3)", "[2,)", "(,2)", "[,]"]))
        }
        8 if random.below(3) == 0 => "delete-partition".to_owned(),
        _ => {
            let (one, other) = (random_change(random), random_change(random));
            let is_twice = one.as_bytes()[0] == other.as_bytes()[0];
            if is_twice {
                format!("update {row} {one}{ttl}")
            } else {
                format!("update {row} {one} {other}{ttl}")
            }
        }
    }
}

/// Documents by key, as text; the static row under the partition's key.
pub(crate) type Documents = BTreeMap<String, Value>;

/// The table as `full` events print it.
pub(crate) fn expected(feed: &Feed) -> Documents {
    let base = feed.range.layout.base();
    let mut documents = Documents::new();
    for (clustering, row) in live_rows(&feed.range.stored(), 0) {
        let mut key = Map::new();
        key.insert("p".to_owned(), json!(7));
        for (column, value) in base.clustering_key().iter().zip(
            clustering
                .as_ref()
                .map(|key| decode_clustering(base, key).unwrap())
                .unwrap_or_default(),
        ) {
            key.insert(column.name.to_string(), json_of(&column.cql_type, &value));
        }
        let kind = if clustering.is_some() { ColumnKind::Regular } else { ColumnKind::Static };
        let mut document = key.clone();
        for column in base.data_columns().iter().filter(|column| column.kind == kind) {
            document.insert(column.name.to_string(), column_of(&row, column.id, &column.cql_type));
        }
        documents.insert(Value::from(key).to_string(), Value::from(document));
    }
    documents
}

fn json_of(cql_type: &CqlType, value: &[u8]) -> Value {
    let mut out = String::new();
    push_json_value(&mut out, JsonStyle::Compact, cql_type, value).unwrap();
    serde_json::from_str(&out).unwrap()
}

fn column_of(row: &LiveRow, id: u32, cql_type: &CqlType) -> Value {
    let cells: Vec<_> = row.cells.iter().filter(|((column, _), _)| *column == id).collect();
    if cells.is_empty() {
        return Value::Null;
    }
    let parts = cells.iter().map(|((_, path), value)| {
        let mut key = Vec::new();
        if let Some(path) = path {
            decode_path(cql_type, path, &mut key).unwrap();
        }
        (key, value.as_slice())
    });
    match cql_type {
        CqlType::Map { key, value, .. } => parts
            .map(|(k, v)| (json_of(key, &k).as_str().unwrap().to_owned(), json_of(value, v)))
            .collect::<Map<_, _>>()
            .into(),
        CqlType::Set { element, .. } => parts.map(|(k, _)| json_of(element, &k)).collect(),
        CqlType::List { element, .. } => parts.map(|(_, v)| json_of(element, v)).collect(),
        CqlType::Udt(udt) => {
            let mut fields: Map<String, Value> =
                udt.fields.iter().map(|(name, _)| (name.to_string(), Value::Null)).collect();
            for (index, value) in parts {
                let (name, field) = &udt.fields[usize::from(index[1])];
                fields.insert(name.to_string(), json_of(field, value));
            }
            fields.into()
        }
        _ => json_of(cql_type, cells[0].1),
    }
}

/// Whether a bound, `{"key":{"c":…},"inclusive":…}` or null, lies beyond a clustering value.
fn is_within(range: &Value, clustering: i64) -> bool {
    let bound = |name: &str| -> Option<(i64, bool)> {
        let bound = range.get(name)?;
        let inclusive = bound.get("inclusive")?.as_bool().unwrap();
        bound["key"].get("c").map(|value| (value.as_i64().unwrap(), inclusive))
    };
    bound("start").is_none_or(|(c, inclusive)| clustering > c || (inclusive && clustering == c))
        && bound("end")
            .is_none_or(|(c, inclusive)| clustering < c || (inclusive && clustering == c))
}

/// Replays the events of the whole log.
fn replay(feed: &Feed) -> Documents {
    let mut documents = Documents::new();
    let messages = feed.render(&feed.log).unwrap();
    let mut last = (0, None);
    for message in &messages {
        let event: Value = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
        let number = (event["sequence"].as_u64().unwrap(), event["index"].as_u64());
        let is_next = number.0 > last.0 || (number.0 == last.0 && number.1 > last.1);
        assert!(is_next && number.1.is_none_or(|index| index == 0 || number.0 == last.0));
        last = number;
        let message_key = message.key.strip_prefix(b"t:").unwrap();
        assert_eq!(serde_json::from_slice::<Value>(message_key).unwrap(), event["key"]);
        let was_there = documents.contains_key(&event["key"].to_string());
        assert!(was_there || number.1.is_none(), "it was not there: {event}");
        apply(&mut documents, &event, feed.options.event_kind);
    }
    documents
}

/// Applies an event to the documents of its table.
pub(crate) fn apply(documents: &mut Documents, event: &Value, kind: EventKind) {
    let key = event["key"].to_string();
    if event["operation"] != "DELETE" {
        let document = documents.remove(&key).unwrap_or(Value::Null);
        documents.insert(key, changed(document, event, kind));
    } else if event.get("index").is_some() {
        // Of a row alone, also where that is the static one.
        documents.remove(&key);
    } else if let Some(range) = event.get("range") {
        documents.retain(|_, document| {
            document.get("c").and_then(Value::as_i64).is_none_or(|c| !is_within(range, c))
        });
    } else if event["key"].get("c").is_none() {
        documents.clear();
    } else {
        documents.remove(&key);
    }
}

/// The document after an event that is no DELETE.
fn changed(mut document: Value, event: &Value, kind: EventKind) -> Value {
    if let Some(patch) = event.get("patch") {
        let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
        json_patch::patch(&mut document, &patch).unwrap_or_else(|why| panic!("{why}: {event}"));
        return document;
    }
    let row = event["new_row"].as_object().unwrap();
    if document.is_null() || kind == EventKind::Full {
        document = json!({});
    }
    let columns = document.as_object_mut().unwrap();
    if row.contains_key("l") {
        columns.remove("ids of l");
    }
    columns.extend(row.iter().map(|(name, value)| (name.clone(), value.clone())));
    for (name, change) in event.get("elements").and_then(Value::as_object).into_iter().flatten() {
        change_elements(columns, name, change);
    }
    document
}

/// Lists are kept as pairs of id and value beside their column.
fn change_elements(columns: &mut Map<String, Value>, name: &str, change: &Value) {
    let (set, removed) = (change["set"].as_array().unwrap(), change["removed"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match name {
        "z" => {
            let column = columns.entry(name).or_insert(Value::Null);
            let mut items: Vec<i64> =
                column.as_array().into_iter().flatten().map(|v| v.as_i64().unwrap()).collect();
            items.retain(|item| !removed.contains(&json!(item)));
            items.extend(set.iter().map(|item| item.as_i64().unwrap()));
            items.sort_unstable();
            items.dedup();
            *column = if items.is_empty() { Value::Null } else { json!(items) };
        }
        "l" => {
            let ids = columns.entry("ids of l").or_insert(json!({})).as_object_mut().unwrap();
            if change.get("replaced").is_some() {
                ids.clear();
            }
            for id in removed {
                ids.remove(&text(id));
            }
            ids.extend(set.iter().map(|pair| (text(&pair[0]), pair[1].clone())));
            // The ids that tests give are in the order of their text.
            let values: Vec<Value> = ids.values().cloned().collect();
            let value = if values.is_empty() { Value::Null } else { values.into() };
            columns.insert(name.to_owned(), value);
        }
        _ => {
            let column = columns.entry(name).or_insert(Value::Null);
            if column.is_null() {
                *column = json!({});
            }
            let entries = column.as_object_mut().unwrap();
            if name == "u" {
                entries.entry("a").or_insert(Value::Null);
                entries.entry("b").or_insert(Value::Null);
            }
            for gone in removed {
                if name == "u" {
                    entries.insert(text(gone), Value::Null);
                } else {
                    entries.remove(&text(gone));
                }
            }
            entries.extend(set.iter().map(|pair| (text(&pair[0]), pair[1].clone())));
            if entries.values().all(Value::is_null) {
                *column = Value::Null;
            }
        }
    }
}

/// Rows of nothing but nulls may be there or not: an upsert that leaves nothing is told as an
/// UPDATE. Columns that no `delta` event has named are null.
pub(crate) fn comparable(documents: Documents) -> Documents {
    let mut out = Documents::new();
    for (key, document) in documents {
        let mut columns = document.as_object().unwrap().clone();
        columns.remove("ids of l");
        columns.retain(|name, value| !value.is_null() && name != "p" && name != "c");
        if !columns.is_empty() {
            out.insert(key, columns.into());
        }
    }
    out
}

fn run(seed: u64, options: &str) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let has_clustering = random.below(3) > 0;
    let keys = if has_clustering { "p int, c int, s int static" } else { "p int" };
    let mut feed = Feed::new(&format!("{keys}, {COLUMNS}"), options);
    feed.range.clock = 50_000_000;
    let mut steps = Vec::new();
    for _ in 0..2 + random.below(10) {
        let count = 1 + usize::from(random.below(5) == 0);
        // Some are far ahead: what they leave of a row that is deleted later is told apart.
        let ahead = if random.below(12) == 0 { 7_000_000 } else { 0 };
        let at = feed.range.clock + ahead + random.below(7) as i64 - 3;
        let statements: Vec<String> = (0..count)
            .map(|_| format!("{} @{at}", random_body(&mut random, has_clustering)))
            .collect();
        let write = statements.join(" + ");
        feed.write(&write).unwrap();
        steps.push(write);
        feed.range.clock += random.below(4) as i64;
    }
    let (found, wanted) = (comparable(replay(&feed)), comparable(expected(&feed)));
    assert_eq!(found, wanted, "seed {seed}, {options}: {steps:#?}");
}

#[test]
fn replaying_whole_rows_gives_the_table() {
    (0..400).for_each(|seed| run(seed, "event_kind=full"));
}

/// Whoever takes events by key needs to know nothing of ranges.
#[test]
fn replaying_deletes_row_by_row_gives_the_table() {
    for kind in ["full", "delta", "patch"] {
        (0..400).for_each(|seed| run(seed, &format!("event_kind={kind} delete_expansion=rows")));
    }
}

#[test]
fn replaying_deltas_gives_the_table() {
    (0..400).for_each(|seed| run(seed, "event_kind=delta"));
}

#[test]
fn applying_patches_gives_the_table() {
    (0..400).for_each(|seed| run(seed, "event_kind=patch"));
}
