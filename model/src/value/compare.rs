//! The order of serialized values: Cassandra's, per type.
//!
//! It orders sets and maps, filters rows, and finds minima and maxima. Clustering keys do not need
//! it: their encoding ([`crate::clustering`]) has the same order as plain bytes, which a property
//! test asserts.

use super::number::{compare_decimals, compare_varints};
use super::{ListView, MapView, TupleView, ValueError, VectorView};
use crate::clustering::{ordered_double, ordered_float, ordered_timeuuid, ordered_uuid};
use crate::types::CqlType;
use std::cmp::Ordering;

/// Order of two serialized values of one type. An empty value comes before every other.
///
/// Durations have no meaningful order; they compare as bytes, so that equality works. Values that
/// are not valid for the type compare as bytes or as what can be read of them.
pub fn compare_values(cql_type: &CqlType, a: &[u8], b: &[u8]) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return b.is_empty().cmp(&a.is_empty());
    }
    match cql_type {
        CqlType::Ascii
        | CqlType::Text
        | CqlType::Blob
        | CqlType::Inet
        | CqlType::Date
        | CqlType::Time
        | CqlType::Duration => a.cmp(b),
        CqlType::TinyInt => by(a, b, i8::from_be_bytes),
        CqlType::SmallInt => by(a, b, i16::from_be_bytes),
        CqlType::Int => by(a, b, i32::from_be_bytes),
        CqlType::BigInt | CqlType::Timestamp | CqlType::Counter => by(a, b, i64::from_be_bytes),
        CqlType::Boolean => by(a, b, |[byte]| byte != 0),
        CqlType::Float => by(a, b, |bytes| ordered_float(u32::from_be_bytes(bytes))),
        CqlType::Double => by(a, b, |bytes| ordered_double(u64::from_be_bytes(bytes))),
        CqlType::Uuid => by(a, b, ordered_uuid),
        CqlType::TimeUuid => by(a, b, ordered_timeuuid),
        CqlType::Varint => compare_varints(a, b),
        CqlType::Decimal => compare_decimals(a, b),
        CqlType::List { element, .. } => {
            compare_elements(element, ListView::list(a), ListView::list(b))
        }
        CqlType::Set { element, .. } => {
            compare_elements(element, ListView::set(a), ListView::set(b))
        }
        CqlType::Map { key, value, .. } => match (MapView::new(a), MapView::new(b)) {
            (Ok(a), Ok(b)) => lexicographic(a, b, |(key_a, value_a), (key_b, value_b)| {
                compare_values(key, key_a, key_b)
                    .then_with(|| compare_values(value, value_a, value_b))
            }),
            _ => a.cmp(b),
        },
        CqlType::Tuple(fields) => compare_tuples(fields.iter(), a, b),
        CqlType::Udt(udt) => compare_tuples(udt.fields.iter().map(|(_, t)| t), a, b),
        CqlType::Vector { element, dimension } => lexicographic(
            VectorView::new(element, *dimension, a),
            VectorView::new(element, *dimension, b),
            |a, b| compare_values(element, a, b),
        ),
    }
}

/// By a key made of exactly `N` bytes; as bytes when the lengths are wrong.
fn by<const N: usize, K: Ord>(a: &[u8], b: &[u8], key: impl Fn([u8; N]) -> K) -> Ordering {
    match (a.try_into(), b.try_into()) {
        (Ok(a), Ok(b)) => key(a).cmp(&key(b)),
        _ => a.cmp(b),
    }
}

fn compare_elements(
    element: &CqlType,
    a: Result<ListView<'_>, ValueError>,
    b: Result<ListView<'_>, ValueError>,
) -> Ordering {
    match (a, b) {
        (Ok(a), Ok(b)) => lexicographic(a, b, |a, b| compare_values(element, a, b)),
        (a, b) => a.is_ok().cmp(&b.is_ok()),
    }
}

/// Element by element; where one sequence ends (or cannot be read any further), it is the lesser.
fn lexicographic<T>(
    mut a: impl Iterator<Item = Result<T, ValueError>>,
    mut b: impl Iterator<Item = Result<T, ValueError>>,
    compare: impl Fn(T, T) -> Ordering,
) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (Some(Ok(a)), Some(Ok(b))) => match compare(a, b) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
            (a, b) => return matches!(a, Some(Ok(_))).cmp(&matches!(b, Some(Ok(_)))),
        }
    }
}

/// Field by field, null first; fields that are missing at the end are null.
fn compare_tuples<'t>(fields: impl Iterator<Item = &'t CqlType>, a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (TupleView::new(a), TupleView::new(b));
    for field in fields {
        let a = a.next().and_then(Result::ok).flatten();
        let b = b.next().and_then(Result::ok).flatten();
        let order = match (a, b) {
            (Some(a), Some(b)) => compare_values(field, a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn assert_ascending(cql_type: &CqlType, values: &[Vec<u8>]) {
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(compare_values(cql_type, a, b), i.cmp(&j), "{cql_type}: {a:x?} {b:x?}");
            }
        }
    }

    #[test]
    fn floats_compare_as_in_java() {
        let values = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 1.5, f64::INFINITY, f64::NAN];
        let bytes: Vec<_> = values.iter().map(|value| value.to_be_bytes().to_vec()).collect();
        assert_ascending(&CqlType::Double, &bytes);
        let negative_nan = 0xfff8_0000_0000_0001_u64.to_be_bytes();
        assert_eq!(compare_values(&CqlType::Double, &negative_nan, &bytes[7]), Ordering::Equal);
    }

    #[test]
    fn timeuuids_compare_by_time_then_by_signed_bytes() {
        let uuid = |high: u64, low: u64| [high.to_be_bytes(), low.to_be_bytes()].concat();
        assert_ascending(
            &CqlType::TimeUuid,
            &[
                uuid(0xffff_ffff_0000_1000, 0x8080_8080_8080_8080),
                uuid(0x0000_0000_0001_1000, 0x8080_8080_8080_8080),
                uuid(0x0000_0000_0001_1000, 0x80ff_8080_8080_8080),
                uuid(0x0000_0000_0001_1000, 0x8000_8080_8080_8080),
                uuid(0x0000_0000_0001_1000, 0x7f7f_7f7f_7f7f_7f7f),
                uuid(0x0000_0000_0000_1001, 0x8080_8080_8080_8080),
            ],
        );
    }

    #[test]
    fn uuids_compare_by_version_then_time_or_bytes() {
        let uuid = |high: u64, low: u64| [high.to_be_bytes(), low.to_be_bytes()].concat();
        assert_ascending(
            &CqlType::Uuid,
            &[
                vec![],
                uuid(0, 0),
                uuid(0xffff_ffff_0000_1000, 0x0000_0000_0000_0000),
                uuid(0x0000_0000_0001_1000, 0x0000_0000_0000_0000),
                uuid(0x0000_0000_0001_1000, 0x8000_0000_0000_0000),
                uuid(0x0000_0000_0000_4fff, 0x8000_0000_0000_0000),
                uuid(0x0100_0000_0000_4000, 0x8000_0000_0000_0000),
            ],
        );
    }

    #[test]
    fn numbers_compare_by_value_not_by_bytes() {
        let decimal = |scale: i32, unscaled: &[u8]| [&scale.to_be_bytes(), unscaled].concat();
        assert_ascending(
            &CqlType::Varint,
            &[vec![], vec![0xff, 0x00], vec![0x80], vec![0xff], vec![0], vec![1], vec![0, 0x80]],
        );
        assert_ascending(
            &CqlType::Decimal,
            &[
                vec![],
                decimal(-3, &[0xff]),
                decimal(0, &[0xff]),
                decimal(1, &[0xff]),
                decimal(7, &[0]),
                decimal(i32::MAX, &[1]),
                decimal(1, &[9]),
                decimal(1, &[10]),
                decimal(1, &[11]),
                decimal(i32::MIN, &[1]),
            ],
        );
        let order = |a: &[u8], b: &[u8]| compare_values(&CqlType::Decimal, a, b);
        assert_eq!(order(&decimal(1, &[10]), &decimal(2, &[100])), Ordering::Equal);
        assert_eq!(order(&decimal(5, &[0]), &decimal(-5, &[0])), Ordering::Equal);
        assert_eq!(compare_values(&CqlType::Varint, &[0, 0, 5], &[5]), Ordering::Equal);
    }

    #[test]
    fn tuples_sort_nulls_first_and_ignore_trailing_ones() {
        let tuple = CqlType::Tuple(Arc::from([CqlType::Int, CqlType::Int]));
        let field = |n: i32| [4_i32.to_be_bytes(), n.to_be_bytes()].concat();
        let null = (-1_i32).to_be_bytes().to_vec();
        assert_ascending(
            &tuple,
            &[
                vec![],
                null.clone(),
                [null.clone(), field(-5)].concat(),
                field(-1),
                field(0),
                [field(0), field(-1)].concat(),
            ],
        );
        let short = field(0);
        assert_eq!(compare_values(&tuple, &short, &[field(0), null].concat()), Ordering::Equal);
    }
}
