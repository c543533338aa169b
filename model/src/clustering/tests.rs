//! Clustering keys: the stored bytes are pinned, byte order is value order for random types and
//! values, decoding undoes encoding, and malformed keys are errors.

use super::*;
use crate::golden;
use crate::hex::push_hex;
use crate::literal::parse_literal;
use crate::schema::{ColumnDef, ColumnKind, Partitioner, TableDef, TableId, TableOptions};
use crate::types::CqlType;
use crate::value::compare_values;
use crate::value::testing::{Random, random_type, random_value, tuple_of};
use std::cmp::Ordering;
use std::sync::Arc;

/// A table `(k blob, c0 …, PRIMARY KEY (k, c0 …))`.
fn table(columns: &[(CqlType, bool)]) -> TableDef {
    let mut all = vec![ColumnDef {
        id: 0,
        name: "k".into(),
        cql_type: CqlType::Blob,
        kind: ColumnKind::PartitionKey(0),
        descending: false,
    }];
    all.extend(columns.iter().enumerate().map(|(i, (cql_type, descending))| ColumnDef {
        id: i as u32 + 1,
        name: format!("c{i}").into(),
        cql_type: cql_type.clone(),
        kind: ColumnKind::Clustering(i as u16),
        descending: *descending,
    }));
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        next_column_id: all.len() as u32,
        columns: all,
        dropped_columns: Vec::new(),
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    }
}

fn encode(cql_type: &CqlType, descending: bool, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_component(cql_type, descending, value, &mut out).unwrap();
    out
}

/// Encodings are stored: the script holds their bytes. `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn encodings_are_the_stored_ones() {
    golden::check_scripts("testscripts/clustering", with_encodings);
}

fn with_encodings(script: &str) -> String {
    let mut actual = String::new();
    for line in script.lines() {
        match line.split_once(" =>") {
            None => actual.push_str(line),
            Some((input, _)) => {
                let (name, text) = input.split_once(' ').unwrap();
                let cql_type = CqlType::native_from_name(name).unwrap();
                let value = parse_literal(&cql_type, text.trim_matches('\'')).unwrap();
                actual.push_str(input);
                actual.push_str(" => ");
                push_hex(&mut actual, &encode(&cql_type, false, &value));
                actual.push(' ');
                push_hex(&mut actual, &encode(&cql_type, true, &value));
            }
        }
        actual.push('\n');
    }
    actual
}

/// The stored form of types that have no constants.
#[test]
fn nested_encodings_are_the_stored_ones() {
    let list = CqlType::List { element: Arc::new(CqlType::TinyInt), frozen: true };
    let two = [0, 0, 0, 2, 0, 0, 0, 1, 5, 0, 0, 0, 1, 0xff];
    assert_eq!(encode(&list, false, &two), [0x20, 0x20, 0x85, 0x20, 0x7f, 0x01]);
    assert_eq!(encode(&list, true, &two), [0xdf, 0xdf, 0x7a, 0xdf, 0x80, 0xfe]);
    let map =
        CqlType::Map { key: Arc::new(CqlType::Text), value: Arc::new(CqlType::Int), frozen: true };
    let one = [0, 0, 0, 1, 0, 0, 0, 1, b'k', 0, 0, 0, 0];
    assert_eq!(encode(&map, false, &one), [0x20, 0x20, b'k', 0x00, 0x10, 0x01]);
    let tuple = tuple_of(&[CqlType::TinyInt, CqlType::TinyInt, CqlType::TinyInt]);
    let fields = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 5, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(encode(&tuple, false, &fields), [0x20, 0x02, 0x20, 0x85, 0x01]);
    let vector = CqlType::Vector { element: Arc::new(CqlType::Boolean), dimension: 2 };
    assert_eq!(encode(&vector, false, &[0, 7]), [0x20, 0x20, 0x00, 0x20, 0x01]);
}

#[test]
fn byte_order_is_value_order_for_random_types_and_values() {
    for seed in 0..6_000 {
        let mut random = Random::new(seed);
        let cql_type = random_type(&mut random, 3);
        let values: Vec<_> = (0..6).map(|_| random_value(&mut random, &cql_type)).collect();
        for a in &values {
            for b in &values {
                let expected = compare_values(&cql_type, a, b);
                let (up_a, up_b) = (encode(&cql_type, false, a), encode(&cql_type, false, b));
                assert_eq!(up_a.cmp(&up_b), expected, "{seed}: {cql_type} {a:x?} {b:x?}");
                let (down_a, down_b) = (encode(&cql_type, true, a), encode(&cql_type, true, b));
                assert_eq!(down_a.cmp(&down_b), expected.reverse(), "{seed}: {cql_type} desc");
            }
        }
    }
}

#[test]
fn decoding_gives_the_value_back_or_one_that_is_equal() {
    for seed in 0..6_000 {
        let mut random = Random::new(seed);
        let cql_type = random_type(&mut random, 3);
        let descending = random.one_in(2);
        let value = random_value(&mut random, &cql_type);
        let encoded = encode(&cql_type, descending, &value);
        let (mut input, mut decoded) = (encoded.as_slice(), Vec::new());
        decode_component(&cql_type, descending, &mut input, &mut decoded).unwrap();
        assert!(input.is_empty());
        let order = compare_values(&cql_type, &value, &decoded);
        assert_eq!(order, Ordering::Equal, "{seed}: {cql_type} {value:x?} {decoded:x?}");
        assert_eq!(value.is_empty(), decoded.is_empty());
        assert_eq!(encode(&cql_type, descending, &decoded), encoded, "one form per key");
        if let CqlType::Text | CqlType::Blob | CqlType::BigInt | CqlType::Uuid | CqlType::TimeUuid =
            cql_type
        {
            assert_eq!(decoded, value);
        }
    }
}

#[test]
fn whole_keys_compare_column_by_column_and_lie_inside_their_prefix() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let columns: Vec<_> = (0..=random.below(3))
            .map(|_| (random_type(&mut random, 1), random.one_in(2)))
            .collect();
        let table = table(&columns);
        let row = |random: &mut Random| -> Vec<Vec<u8>> {
            columns.iter().map(|(cql_type, _)| random_value(random, cql_type)).collect()
        };
        let (a, b) = (row(&mut random), row(&mut random));
        let key = |row: &[Vec<u8>]| {
            encode_clustering(&table, &row.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
        };
        let expected = columns.iter().zip(a.iter().zip(&b)).fold(
            Ordering::Equal,
            |order, ((cql_type, descending), (a, b))| {
                let next = compare_values(cql_type, a, b);
                order.then(if *descending { next.reverse() } else { next })
            },
        );
        assert_eq!(key(&a).cmp(&key(&b)), expected, "{seed}");

        for length in 0..=columns.len() {
            let mut bound = key(&a[..length]);
            assert!(bound <= key(&a));
            assert_eq!(decode_bound(&table, &bound).unwrap().0.len(), length);
            bound.push(AFTER);
            assert!(bound > key(&a));
            let (prefix, after) = decode_bound(&table, &bound).unwrap();
            assert!(after);
            assert_eq!(key(&prefix), key(&a[..length]));
        }
        assert_eq!(key(&decode_clustering(&table, &key(&a)).unwrap()), key(&a));
    }
}

#[test]
fn a_decimal_keeps_its_value_and_a_readable_scale() {
    let decimal = |scale: i32, unscaled: &[u8]| [&scale.to_be_bytes(), unscaled].concat();
    let minus_ten_to_127 = (-num_bigint::BigInt::from(10).pow(127)).to_signed_bytes_be();
    for (given, back) in [
        (decimal(2, &[0, 150]), decimal(1, &[15])),
        (decimal(0, &[100]), decimal(0, &[100])),
        (decimal(-2, &[1]), decimal(0, &[100])),
        (decimal(9, &[0]), decimal(0, &[0])),
        (decimal(-127, &[0xff]), decimal(0, &minus_ten_to_127)),
        (decimal(-128, &[1]), decimal(-128, &[1])),
        (decimal(1, &[0xff]), decimal(1, &[0xff])),
    ] {
        let encoded = encode(&CqlType::Decimal, false, &given);
        let mut decoded = Vec::new();
        decode_component(&CqlType::Decimal, false, &mut encoded.as_slice(), &mut decoded).unwrap();
        assert_eq!(decoded, back);
    }
}

/// A decimal of the greatest length and a small negative scale once came back with its zeros
/// written out, too long to be encoded again.
#[test]
fn the_longest_decimal_goes_in_again() {
    let mut value = (-64_i32).to_be_bytes().to_vec();
    value.resize(4 + crate::value::NUMBER_BYTES_MAX, 0x55);
    let encoded = encode(&CqlType::Decimal, false, &value);
    let mut decoded = Vec::new();
    decode_component(&CqlType::Decimal, false, &mut encoded.as_slice(), &mut decoded).unwrap();
    assert_eq!(encode(&CqlType::Decimal, false, &decoded), encoded);
}

/// A tuple's encoding must not change when its type gains a field (`ALTER TYPE … ADD`).
#[test]
fn a_type_that_gains_a_field_keeps_its_keys() {
    let old = tuple_of(&[CqlType::Int]);
    let new = tuple_of(&[CqlType::Int, CqlType::Text]);
    let value = [0, 0, 0, 4, 0, 0, 0, 7];
    let encoded = encode(&old, false, &value);
    assert_eq!(encode(&new, false, &value), encoded);
    let mut decoded = Vec::new();
    decode_component(&new, false, &mut encoded.as_slice(), &mut decoded).unwrap();
    assert_eq!(decoded, [&value[..], &[0xff; 4]].concat());
}

#[test]
fn durations_counters_and_wrong_lengths_are_refused_and_leave_no_trace() {
    for (cql_type, value) in [
        (CqlType::Duration, &[0, 0, 0][..]),
        (CqlType::Counter, &[0; 8]),
        (CqlType::Int, &[1, 2, 3]),
        (CqlType::Decimal, &[1]),
        (CqlType::Uuid, &[1; 15]),
    ] {
        let mut out = b"before".to_vec();
        assert!(encode_component(&cql_type, true, value, &mut out).is_err(), "{cql_type}");
        assert_eq!(out, b"before");
    }
}

#[test]
fn too_many_or_too_long_values_are_refused() {
    let table = table(&[(CqlType::Blob, false)]);
    assert!(encode_clustering(&table, &[b"a", b"b"]).is_err());
    let error = encode_clustering(&table, &[&vec![0; 65_536]]).unwrap_err();
    assert_eq!(error.to_string(), "The sum of all clustering columns is too long (65536 > 65535)");
}

/// Every cut and every changed byte of a valid key either decodes or gives an error.
#[test]
fn malformed_keys_never_panic() {
    for seed in 0..1_000 {
        let mut random = Random::new(seed);
        let cql_type = random_type(&mut random, 3);
        let descending = random.one_in(2);
        let value = random_value(&mut random, &cql_type);
        let mut encoded = encode(&cql_type, descending, &value);
        encoded.truncate(2_000);
        let table = table(&[(cql_type, descending)]);
        for length in 0..encoded.len().min(100) {
            if length > 0 {
                assert!(decode_clustering(&table, &encoded[..length]).is_err(), "seed {seed}");
            }
            let mut changed = encoded.clone();
            changed[length] = random.number() as u8;
            drop(decode_bound(&table, &changed));
        }
    }
}
