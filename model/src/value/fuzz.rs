//! The fuzz entry for everything in this crate that reads a value's bytes: hostile input gives an
//! error or a value on which all functions agree, and never a panic.
//!
//! Its corpus is in `corpus/values/`; a unit test runs it with mutations.

use super::{compare_values, normalize, validate};
use crate::clustering::{decode_component, encode_component};
use crate::codec::Cursor;
use crate::key::PartitionKeyParts;
use crate::literal::{format_value, parse_literal};
use crate::path::decode_path;
use crate::types::{CqlType, UdtType};
use std::cmp::Ordering;
use std::sync::Arc;

/// Types made from fuzz input nest at most this deep.
const DEPTH_MAX: usize = 4;

/// Reads a type from the first bytes of `data` and takes the rest for a value of it.
///
/// Panics when the functions of this crate contradict each other.
pub fn fuzz_value(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let cql_type = read_type(&mut cursor, DEPTH_MAX);
    let value = cursor.rest();

    read_as_everything(&cql_type, value);
    if validate(&cql_type, value).is_ok() {
        check_valid(&cql_type, value);
    }
}

/// Functions that must survive any bytes.
fn read_as_everything(cql_type: &CqlType, value: &[u8]) {
    let (head, tail) = value.split_at(value.len() / 2);
    let _: Ordering = compare_values(cql_type, head, tail);
    let _: String = format_value(cql_type, value);
    drop(normalize(cql_type, value));
    for descending in [false, true] {
        let mut decoded = Vec::new();
        drop(decode_component(cql_type, descending, &mut &*value, &mut decoded));
        drop(encode_component(cql_type, descending, value, &mut decoded));
    }
    drop(decode_path(cql_type, value, &mut Vec::new()));
    PartitionKeyParts::new(1 + value.len() % 4, value).for_each(drop);
    if let Ok(text) = std::str::from_utf8(value)
        && let Ok(parsed) = parse_literal(cql_type, text)
    {
        assert_eq!(validate(cql_type, &parsed), Ok(()), "a constant is a valid value");
    }
}

/// What must hold for a valid value.
fn check_valid(cql_type: &CqlType, value: &[u8]) {
    let normal = normalize(cql_type, value).expect("a valid value has a normal form");
    assert_eq!(validate(cql_type, &normal), Ok(()), "the normal form is valid");
    let again = normalize(cql_type, &normal).expect("so has the normal form");
    assert_eq!(again, normal, "normalizing is idempotent");
    assert_eq!(compare_values(cql_type, value, value), Ordering::Equal, "a value equals itself");

    for descending in [false, true] {
        check_encoding(cql_type, descending, value);
    }
}

fn check_encoding(cql_type: &CqlType, descending: bool, value: &[u8]) {
    let mut encoded = Vec::new();
    if encode_component(cql_type, descending, value, &mut encoded).is_err() {
        return;
    }
    let (mut rest, mut decoded) = (encoded.as_slice(), Vec::new());
    decode_component(cql_type, descending, &mut rest, &mut decoded).expect("an encoding decodes");
    assert!(rest.is_empty(), "a component delimits itself");
    assert_eq!(compare_values(cql_type, value, &decoded), Ordering::Equal, "and means the same");
    assert_eq!(validate(cql_type, &decoded), Ok(()), "what comes back is valid");
}

/// A byte chooses the type; those made of others read more. No bytes left is a blob.
fn read_type(cursor: &mut Cursor<'_>, depth: usize) -> CqlType {
    const NATIVE: [CqlType; 20] = [
        CqlType::Blob,
        CqlType::Ascii,
        CqlType::BigInt,
        CqlType::Boolean,
        CqlType::Counter,
        CqlType::Decimal,
        CqlType::Double,
        CqlType::Float,
        CqlType::Int,
        CqlType::Timestamp,
        CqlType::Uuid,
        CqlType::Text,
        CqlType::Varint,
        CqlType::TimeUuid,
        CqlType::Inet,
        CqlType::Date,
        CqlType::Time,
        CqlType::SmallInt,
        CqlType::TinyInt,
        CqlType::Duration,
    ];
    const NESTED_COUNT: usize = 6;

    let choice = usize::from(cursor.u8().unwrap_or(0));
    let choice_count = if depth == 0 { NATIVE.len() } else { NATIVE.len() + NESTED_COUNT };
    let choice = choice % choice_count;
    if let Some(native) = NATIVE.get(choice) {
        return native.clone();
    }
    let element = Arc::new(read_type(cursor, depth - 1));
    match choice - NATIVE.len() {
        0 => CqlType::List { element, frozen: true },
        1 => CqlType::Set { element, frozen: true },
        2 => {
            let value = Arc::new(read_type(cursor, depth - 1));
            CqlType::Map { key: element, value, frozen: true }
        }
        3 => {
            let second = read_type(cursor, depth - 1);
            CqlType::Tuple(Arc::from([(*element).clone(), second]))
        }
        4 => {
            let second = read_type(cursor, depth - 1);
            CqlType::Udt(Arc::new(UdtType {
                keyspace: "ks".into(),
                name: "u".into(),
                fields: vec![("a".into(), (*element).clone()), ("b".into(), second)],
                frozen: true,
            }))
        }
        _ => {
            let dimension = 1 + u16::from(cursor.u8().unwrap_or(0) % 4);
            CqlType::Vector { element, dimension }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::value::testing::{Random, mutate};
    use std::collections::BTreeMap;

    const MUTATIONS_PER_FILE: u64 = 400;

    fn corpus() -> BTreeMap<String, Vec<u8>> {
        golden::check_corpus("corpus/values", &BTreeMap::new())
    }

    /// Files whose names begin with `valid-` hold valid values, or the checks of valid values would
    /// run on none.
    #[test]
    fn the_corpus_runs_and_holds_what_its_names_say() {
        let files = corpus();
        assert!(files.len() >= 20);
        for (name, data) in files {
            fuzz_value(&data);
            let mut cursor = Cursor::new(&data);
            let cql_type = read_type(&mut cursor, DEPTH_MAX);
            let valid = validate(&cql_type, cursor.rest()).is_ok();
            assert_eq!(valid, name.starts_with("valid-"), "{name}: {cql_type}");
        }
    }

    #[test]
    fn mutations_of_the_corpus_never_panic() {
        for (_, data) in corpus() {
            for seed in 0..MUTATIONS_PER_FILE {
                fuzz_value(&mutate(&data, &mut Random::new(seed)));
            }
        }
    }
}
