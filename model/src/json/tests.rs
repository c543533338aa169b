//! Runs `testscripts/json/as-cassandra-prints.txt`: a type, a value's bytes and its JSON, as Apache
//! Cassandra 5.0.9 answered `SELECT JSON`. What is kept differently on purpose is tested here.

use super::*;
use crate::golden;
use crate::hex::parse_hex;
use crate::types::UdtType;
use crate::value::testing::{Random, mutate, random_type, random_value};
use std::path::Path;
use std::sync::Arc;

/// `list<int>`, `frozen<map<text, int>>`, `vector<float,3>`; `u` is the user type
/// `(a int, "B" text, "c d" frozen<list<int>>)`.
fn parse_type(text: &str) -> CqlType {
    let text = text.trim();
    let Some((name, arguments)) = text.strip_suffix('>').and_then(|text| text.split_once('<'))
    else {
        return CqlType::native_from_name(text).unwrap_or_else(user_type);
    };
    let mut depth = 0;
    let arguments: Vec<&str> = arguments
        .split(|c: char| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            c == ',' && depth == 0
        })
        .collect();
    let argument = |index: usize| Arc::new(parse_type(arguments[index]));
    match name {
        "frozen" => argument(0).freeze(),
        "list" => CqlType::List { element: argument(0), frozen: true },
        "set" => CqlType::Set { element: argument(0), frozen: true },
        "map" => CqlType::Map { key: argument(0), value: argument(1), frozen: true },
        "tuple" => CqlType::Tuple(arguments.iter().map(|text| parse_type(text)).collect()),
        "vector" => {
            CqlType::Vector { element: argument(0), dimension: arguments[1].parse().unwrap() }
        }
        name => panic!("unknown type {name}"),
    }
}

fn user_type() -> CqlType {
    let list = parse_type("list<int>");
    let fields = [("a", CqlType::Int), ("B", CqlType::Text), ("c d", list)];
    CqlType::Udt(Arc::new(UdtType {
        keyspace: "ks".into(),
        name: "u".into(),
        fields: fields.map(|(name, field)| (name.into(), field)).into(),
        frozen: true,
    }))
}

fn json(style: JsonStyle, cql_type: &CqlType, value: &[u8]) -> Result<String, ValueError> {
    let mut out = String::new();
    push_json_value(&mut out, style, cql_type, value)?;
    Ok(out)
}

#[test]
fn values_are_printed_as_cassandra_prints_them() {
    let script = golden::read(Path::new("testscripts/json/as-cassandra-prints.txt"));
    let mut count = 0;
    for line in script.lines().filter(|line| !line.starts_with('#')) {
        let [name, hex, expected] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("type, bytes and JSON: {line}");
        };
        let (cql_type, value) = (parse_type(name), parse_hex(hex).unwrap());
        assert_eq!(json(JsonStyle::Spaced, &cql_type, &value).unwrap(), expected, "{line}");
        count += 1;
    }
    assert!(count > 90, "{count}");
}

#[test]
fn what_cassandra_loses_is_kept() {
    let before_christ = (-62_167_219_200_001_i64).to_be_bytes();
    let spaced = |cql_type: &CqlType, value: &[u8]| json(JsonStyle::Spaced, cql_type, value);
    assert_eq!(
        spaced(&CqlType::Timestamp, &before_christ).unwrap(),
        r#""-0001-12-31 23:59:59.999Z""#
    );
    assert_eq!(spaced(&CqlType::Duration, &[0, 0, 0]).unwrap(), r#""0s""#);
}

#[test]
fn compact_json_has_no_blanks_but_in_keys() {
    let map = parse_type("map<frozen<list<int>>,frozen<tuple<int,int>>>");
    let one = [0, 0, 0, 4, 0, 0, 0, 1];
    let list = [&[0, 0, 0, 2][..], &one, &one].concat();
    let mut value = vec![0, 0, 0, 1];
    crate::value::push_value(&mut value, Some(&list));
    crate::value::push_value(&mut value, Some(&one));
    assert_eq!(json(JsonStyle::Compact, &map, &value).unwrap(), r#"{"[1, 1]":[1,null]}"#);
    let empty: &[u8] = &[];
    let tuple = parse_type("tuple<int,int>");
    assert_eq!(json(JsonStyle::Compact, &tuple, empty).unwrap(), "[null,null]");
}

#[test]
fn hostile_values_are_errors_and_all_else_is_json() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let cql_type = random_type(&mut random, 3);
        let value = random_value(&mut random, &cql_type);
        let text = json(JsonStyle::Compact, &cql_type, &value).unwrap();
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{seed}: {text}");
        if let Ok(text) = json(JsonStyle::Spaced, &cql_type, &mutate(&value, &mut random)) {
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{seed}: {text}");
        }
    }
}
