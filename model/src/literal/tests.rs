//! Runs `testscripts/literal/*.txt`: every line names a type and a text, and holds what the text
//! is read as and shown as. `UPDATE_GOLDEN=1` rewrites what comes after the arrow.

use super::*;
use crate::golden;
use crate::hex::push_hex;
use crate::types::CqlType;
use crate::value::testing::{Random, random_type, random_value};
use crate::value::{CollectionBuilder, push_value, validate};
use std::sync::Arc;

fn run_script(script: &str) -> String {
    script.lines().map(|line| run_line(line) + "\n").collect()
}

fn run_line(line: &str) -> String {
    if line.is_empty() || line.starts_with('#') {
        return line.to_owned();
    }
    let (input, _) = line.split_once(" => ").expect("type 'text' => result");
    let (name, quoted) = input.split_once(' ').expect("type 'text'");
    let text = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).expect("quotes");
    let cql_type = CqlType::native_from_name(name).expect("a native type");
    let result = match parse_literal(&cql_type, text) {
        Ok(value) => {
            assert_eq!(validate(&cql_type, &value), Ok(()), "{line}");
            let mut shown = String::new();
            push_hex(&mut shown, &value);
            if shown.is_empty() {
                shown.push_str("(empty)");
            }
            format!("{shown} {}", format_value(&cql_type, &value))
        }
        Err(error) => format!("error: {error}"),
    };
    format!("{input} => {result}")
}

#[test]
fn constants_are_read_and_shown_as_the_scripts_say() {
    golden::check_scripts("testscripts/literal", run_script);
}

#[test]
fn what_is_shown_reads_back_as_the_same_value() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let cql_type = match random.below(10) {
            0 => CqlType::Duration,
            _ => random_type(&mut random, 0),
        };
        let value = random_value(&mut random, &cql_type);
        let text = format_value(&cql_type, &value);
        if text == "null" {
            continue;
        }
        let unquoted = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let unquoted = unquoted.map_or(text.clone(), |inner| inner.replace("''", "'"));
        let back = parse_literal(&cql_type, &unquoted).unwrap();
        assert_eq!(format_value(&cql_type, &back), text, "{seed}: {cql_type}");
        if let CqlType::Text | CqlType::Blob | CqlType::Timestamp | CqlType::Date | CqlType::Uuid =
            cql_type
        {
            assert_eq!(back, value, "{seed}: {cql_type} {text}");
        }
    }
}

#[test]
fn nested_values_are_shown_as_literals() {
    let int = || Arc::new(CqlType::Int);
    let one = 1_i32.to_be_bytes();
    let mut list = Vec::new();
    let mut builder = CollectionBuilder::new(&mut list);
    builder.element(&one);
    builder.element(b"");
    builder.finish();
    let list_type = CqlType::List { element: int(), frozen: true };
    assert_eq!(format_value(&list_type, &list), "[1, null]");
    let set_type = CqlType::Set { element: int(), frozen: true };
    assert_eq!(format_value(&set_type, &list), "{1, null}");

    let mut map = Vec::new();
    let mut builder = CollectionBuilder::new(&mut map);
    builder.entry(b"it's", &list);
    builder.finish();
    let map_type = CqlType::Map {
        key: Arc::new(CqlType::Text),
        value: Arc::new(list_type.clone()),
        frozen: true,
    };
    assert_eq!(format_value(&map_type, &map), "{'it''s': [1, null]}");

    let mut tuple = Vec::new();
    push_value(&mut tuple, Some(&one));
    push_value(&mut tuple, None);
    let tuple_type = CqlType::Tuple(Arc::from([CqlType::Int, CqlType::Text]));
    assert_eq!(format_value(&tuple_type, &tuple), "(1, null)");
    let udt_type = CqlType::Udt(Arc::new(crate::types::UdtType {
        keyspace: "ks".into(),
        name: "u".into(),
        fields: vec![("a".into(), CqlType::Int), ("B".into(), CqlType::Text)],
        frozen: true,
    }));
    assert_eq!(format_value(&udt_type, &tuple), "{a: 1, \"B\": null}");
    let vector_type = CqlType::Vector { element: int(), dimension: 1 };
    assert_eq!(format_value(&vector_type, &one), "[1]");
    assert_eq!(format_value(&vector_type, &[1, 2]), "0x0102");
}

#[test]
fn times_are_written_as_rfc_3339() {
    for (micros, text) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_795_266_000_123_456, "2026-11-21T13:00:00.123456Z"),
    ] {
        let mut out = String::new();
        push_rfc3339_micros(&mut out, micros);
        assert_eq!(out, text);
    }
}

#[test]
fn hostile_texts_are_refused_without_panic() {
    let long = "9".repeat(1_000_000);
    for cql_type in ["varint", "decimal", "int", "timestamp", "date", "time", "duration", "inet"] {
        let cql_type = CqlType::native_from_name(cql_type).unwrap();
        let error = parse_literal(&cql_type, &long).unwrap_err().to_string();
        assert!(error.len() < 2 * SHOWN_BYTES_MAX, "{cql_type}");
    }
    for text in ["P", "PT", "-", "é", "1é", "2020-01-02Té", "2020-01-02+é", "1µ", "0x0", "1e", "日"]
    {
        for seed in 0..40 {
            let cql_type = random_type(&mut Random::new(seed), 0);
            drop(parse_literal(&cql_type, text));
        }
        drop(parse_literal(&CqlType::Duration, text));
    }
}
