//! What a filter may be, and what is said of one that may not.

use super::*;
use crate::plan::testing::define;
use crate::syntax::parse;
use model::KeyspaceDef;
use model::schema::Replication;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `ks.t (k int, c text, s int static, v text, n int, d duration, m map<int, int>, ts timestamp)`.
fn filter(text: &str) -> Result<Filter, String> {
    let mut schema = Schema::default();
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: Replication::Simple { factor: 1 },
        durable_writes: true,
        tables: BTreeMap::new(),
        types: BTreeMap::new(),
    };
    schema.keyspaces.insert("ks".into(), Arc::new(keyspace));
    let create = parse(
        "CREATE TABLE ks.t (k int, c text, s int static, v text, n int, d duration, \
         m map<int, int>, ts timestamp, PRIMARY KEY (k, c))",
    );
    assert!(define(&mut schema, &create.unwrap().statement).unwrap());
    let table = schema.keyspaces["ks"].tables["t"].clone();
    prepare_filter(&schema, &table, text).map_err(|error| error.message.into_owned())
}

/// Of a row with k = 1, c = 'x', v = 'shipped', n null.
fn outcome(text: &str) -> Option<bool> {
    let one = 1_i32.to_be_bytes();
    filter(text).unwrap().evaluate(&|column| match &*column.name {
        "k" => Some(&one[..]),
        "c" => Some(b"x"),
        "v" => Some(b"shipped"),
        "ts" => Some(&[0; 8]),
        _ => None,
    })
}

#[test]
fn filters_say_what_they_mean() {
    for (text, expected) in [
        ("v = 'shipped'", Some(true)),
        ("v != 'shipped'", Some(false)),
        ("k > 0 AND v = 'open'", Some(false)),
        ("k > 0 and (v = 'open' or v = 'shipped')", Some(true)),
        ("NOT k = 1", Some(false)),
        ("NOT NOT k = 1", Some(true)),
        ("k IN (2, 1)", Some(true)),
        ("k NOT IN (2, 1)", Some(false)),
        ("v LIKE 'ship%'", Some(true)),
        ("v NOT LIKE '%x%'", Some(true)),
        ("n IS NULL", Some(true)),
        ("n IS NOT NULL", Some(false)),
        ("m IS NULL", Some(true)),
        ("n = 1", None),
        ("n = 1 OR k = 1", Some(true)),
        ("k = -1 + 2", Some(true)),
        ("ts < '2020-01-01'", Some(true)),
        ("\"v\" = $$shipped$$", Some(true)),
        // AND binds tighter than OR.
        ("k = 1 OR k = 2 AND k = 3", Some(true)),
    ] {
        assert_eq!(outcome(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_column_and_place() {
    for (text, message) in [
        (
            "",
            "the filter does not parse: line 1:0 no viable alternative at input '<EOF>' (expected NOT, '(' or a column)",
        ),
        ("k = ", "the filter does not parse: line 1:4 "),
        ("k == 1", "the filter does not parse: line 1:3 "),
        ("k = 1 v = 2", "the filter does not parse: line 1:6 "),
        ("k = ?", "the filter does not parse: line 1:4 a filter has no bind markers"),
        ("(k = 1", "the filter does not parse: line 1:6 "),
        ("k NOT = 1", "the filter does not parse: line 1:6 "),
        ("k = 1;", "the filter does not parse: line 1:5 "),
        ("k = 1 AND x = 2", "the filter is wrong: line 1:10 table t has no column x"),
        (
            "s = 2",
            "the filter is wrong: line 1:0 column s is static: a filter sees the row that changed",
        ),
        ("n = 'a'", "the filter is wrong: line 1:4 "),
        ("n = null", "the filter is wrong: line 1:4 column n is compared with null: use IS NULL"),
        ("ts > now()", "the filter is wrong: line 1:5 "),
        ("n LIKE 'a'", "the filter is wrong: line 1:0 LIKE is for text: column n is of type int"),
        (
            "m = {1: 2}",
            "the filter is wrong: line 1:0 column m of type map<int, int> cannot be compared in a filter",
        ),
        (
            "d > 1h",
            "the filter is wrong: line 1:0 column d of type duration cannot be compared in a filter",
        ),
    ] {
        let error = filter(text).unwrap_err();
        assert!(error.starts_with(message), "{text}: {error}");
    }
}

#[test]
fn hostile_filters_are_refused() {
    let deep = format!("{}k = 1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(filter(&deep).unwrap_err().starts_with("the filter does not parse"));
    let negated = format!("{}k = 1", "NOT ".repeat(100_000));
    assert!(filter(&negated).unwrap_err().starts_with("the filter does not parse"));
}
