//! Whether bytes are a value of a type. Everything a client sends passes here before it is stored,
//! so that readers of stored values meet only valid ones.
//!
//! The rules and the words are Cassandra's: most types admit the empty value; the small integers,
//! dates, times, durations, collections and vectors do not. Stricter than Cassandra where it
//! stores what the protocol forbids: the time of day must be within a day, a collection's size
//! must not be negative, nothing may follow a duration; and numbers are at most
//! [`NUMBER_BYTES_MAX`] long.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use super::vint::read_signed_vint;
use super::{ListView, MapView, NUMBER_BYTES_MAX, TupleView, ValueError, VectorView};
use crate::codec::Cursor;
use crate::hex::push_hex;
use crate::types::CqlType;

/// Types nested deeper than this are refused, so that recursion over a type has a bound.
pub const TYPE_DEPTH_MAX: usize = 64;

/// Nanoseconds in a day; times of day are below it.
pub(crate) const DAY_NANOS: i64 = 86_400_000_000_000;

/// Checks that `bytes` is a serialized value of `cql_type`, inside and out.
pub fn validate(cql_type: &CqlType, bytes: &[u8]) -> Result<(), ValueError> {
    validate_at_depth(cql_type, bytes, 0)
}

fn validate_at_depth(cql_type: &CqlType, bytes: &[u8], depth: usize) -> Result<(), ValueError> {
    if depth > TYPE_DEPTH_MAX {
        return Err(ValueError::new(format!("Types are nested deeper than {TYPE_DEPTH_MAX}")));
    }
    match cql_type {
        CqlType::Blob => Ok(()),
        CqlType::Text => match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(_) => Err(ValueError::new("String didn't validate.")),
        },
        CqlType::Ascii => match bytes.iter().find(|byte| !byte.is_ascii()) {
            None => Ok(()),
            Some(byte) => {
                let signed = byte.cast_signed();
                Err(ValueError::new(format!("Invalid byte for ascii: {signed}")))
            }
        },
        CqlType::TinyInt => expect(bytes.len() == 1, bytes, "Expected 1 byte for a tinyint"),
        CqlType::SmallInt => expect(bytes.len() == 2, bytes, "Expected 2 bytes for a smallint"),
        CqlType::Int => expect_or_empty(4, bytes, "Expected 4 or 0 byte int"),
        CqlType::BigInt | CqlType::Counter => {
            expect_or_empty(8, bytes, "Expected 8 or 0 byte long")
        }
        CqlType::Timestamp => expect_or_empty(8, bytes, "Expected 8 or 0 byte long for date"),
        CqlType::Float => expect_or_empty(4, bytes, "Expected 4 or 0 byte value for a float"),
        CqlType::Double => expect_or_empty(8, bytes, "Expected 8 or 0 byte value for a double"),
        CqlType::Boolean => expect_or_empty(1, bytes, "Expected 1 or 0 byte value"),
        CqlType::Date => expect(bytes.len() == 4, bytes, "Expected 4 byte long for date"),
        CqlType::Time => validate_time(bytes),
        CqlType::Uuid => expect_or_empty(16, bytes, "UUID should be 16 or 0 bytes"),
        CqlType::TimeUuid => validate_timeuuid(bytes),
        CqlType::Inet => validate_inet(bytes),
        CqlType::Varint => number_length(bytes.len(), "varint"),
        CqlType::Decimal => {
            let long_enough = bytes.is_empty() || bytes.len() >= 4;
            expect(long_enough, bytes, "Expected 0 or at least 4 bytes")?;
            number_length(bytes.len().saturating_sub(4), "decimal")
        }
        CqlType::Duration => validate_duration(bytes),
        CqlType::List { element, .. } => {
            ListView::list(bytes)?.try_for_each(|item| validate_at_depth(element, item?, depth + 1))
        }
        CqlType::Set { element, .. } => {
            ListView::set(bytes)?.try_for_each(|item| validate_at_depth(element, item?, depth + 1))
        }
        CqlType::Map { key, value, .. } => MapView::new(bytes)?.try_for_each(|entry| {
            let (entry_key, entry_value) = entry?;
            validate_at_depth(key, entry_key, depth + 1)?;
            validate_at_depth(value, entry_value, depth + 1)
        }),
        CqlType::Tuple(fields) => validate_tuple(fields.iter(), "tuple", bytes, depth),
        CqlType::Udt(udt) => validate_tuple(udt.fields.iter().map(|(_, t)| t), "UDT", bytes, depth),
        CqlType::Vector { .. } if bytes.is_empty() => {
            Err(ValueError::new("Invalid empty vector value"))
        }
        CqlType::Vector { element, dimension } => VectorView::new(element, *dimension, bytes)
            .try_for_each(|item| validate_at_depth(element, item?, depth + 1)),
    }
}

fn expect(valid: bool, bytes: &[u8], expected: &str) -> Result<(), ValueError> {
    if valid { Ok(()) } else { Err(ValueError::new(format!("{expected} ({})", bytes.len()))) }
}

fn expect_or_empty(length: usize, bytes: &[u8], expected: &str) -> Result<(), ValueError> {
    expect(bytes.is_empty() || bytes.len() == length, bytes, expected)
}

fn number_length(length: usize, name: &str) -> Result<(), ValueError> {
    if length <= NUMBER_BYTES_MAX {
        return Ok(());
    }
    Err(ValueError::new(format!(
        "Expected a {name} of at most {NUMBER_BYTES_MAX} bytes ({length})"
    )))
}

fn validate_time(bytes: &[u8]) -> Result<(), ValueError> {
    let Ok(array) = bytes.try_into() else {
        return expect(false, bytes, "Expected 8 byte long for time");
    };
    let nanos = i64::from_be_bytes(array);
    if (0..DAY_NANOS).contains(&nanos) {
        return Ok(());
    }
    Err(ValueError::new(format!("Expected time between 0 and {} ns ({nanos})", DAY_NANOS - 1)))
}

fn validate_timeuuid(bytes: &[u8]) -> Result<(), ValueError> {
    expect_or_empty(16, bytes, "UUID should be 16 or 0 bytes")?;
    match bytes.get(6) {
        Some(byte) if byte >> 4 != 1 => {
            let version = byte >> 4;
            Err(ValueError::new(format!("Invalid version for TimeUUID type: 0x{version:x}")))
        }
        _ => Ok(()),
    }
}

fn validate_inet(bytes: &[u8]) -> Result<(), ValueError> {
    if matches!(bytes.len(), 0 | 4 | 16) {
        return Ok(());
    }
    let mut text = "Expected 4 or 16 byte inetaddress; got ".to_owned();
    push_hex(&mut text, bytes.get(..32).unwrap_or(bytes));
    Err(ValueError::new(text))
}

/// Months, days and nanoseconds of a serialized duration.
pub fn read_duration(bytes: &[u8]) -> Result<(i32, i32, i64), ValueError> {
    let mut cursor = Cursor::new(bytes);
    let mut read = || read_signed_vint(&mut cursor);
    let (Some(months), Some(days), Some(nanos)) = (read(), read(), read()) else {
        return Err(ValueError::new(format!(
            "Expected at least 3 bytes for a duration ({})",
            bytes.len()
        )));
    };
    if !cursor.is_empty() {
        return Err(ValueError::new("Unexpected extraneous bytes after duration value"));
    }
    let number_32 = |number: i64, name: &str| {
        i32::try_from(number).map_err(|_| {
            ValueError::new(format!(
                "The duration {name} must be a 32 bits integer but was: {number}"
            ))
        })
    };
    Ok((number_32(months, "months")?, number_32(days, "days")?, nanos))
}

fn validate_duration(bytes: &[u8]) -> Result<(), ValueError> {
    let (months, days, nanos) = read_duration(bytes)?;
    let none_negative = months >= 0 && days >= 0 && nanos >= 0;
    let none_positive = months <= 0 && days <= 0 && nanos <= 0;
    if none_negative || none_positive {
        return Ok(());
    }
    Err(ValueError::new(format!(
        "The duration months, days and nanoseconds must be all of the same sign \
         ({months}, {days}, {nanos})"
    )))
}

fn validate_tuple<'t>(
    mut fields: impl Iterator<Item = &'t CqlType>,
    name: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<(), ValueError> {
    TupleView::new(bytes).try_for_each(|field| {
        let field_type = fields.next().ok_or_else(|| {
            ValueError::new(format!("Invalid remaining data after end of {name} value"))
        })?;
        field?.map_or(Ok(()), |value| validate_at_depth(field_type, value, depth + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::testing::{Random, random_type, random_value, tuple_of};
    use std::sync::Arc;

    fn message(cql_type: &CqlType, bytes: &[u8]) -> String {
        validate(cql_type, bytes).unwrap_err().to_string()
    }

    #[test]
    fn random_values_are_valid_and_their_prefixes_never_panic() {
        for seed in 0..4_000 {
            let mut random = Random::new(seed);
            let cql_type = random_type(&mut random, 3);
            let value = random_value(&mut random, &cql_type);
            assert_eq!(validate(&cql_type, &value), Ok(()), "{seed}: {cql_type} {value:x?}");
            for length in 0..value.len().min(60) {
                drop(validate(&cql_type, &value[..length]));
            }
        }
    }

    #[test]
    fn errors_say_what_was_expected_and_what_came() {
        for (cql_type, bytes, expected) in [
            (CqlType::Int, &[1, 2, 3][..], "Expected 4 or 0 byte int (3)"),
            (CqlType::BigInt, &[1], "Expected 8 or 0 byte long (1)"),
            (CqlType::TinyInt, &[], "Expected 1 byte for a tinyint (0)"),
            (CqlType::SmallInt, &[1], "Expected 2 bytes for a smallint (1)"),
            (CqlType::Date, &[], "Expected 4 byte long for date (0)"),
            (CqlType::Time, &[0; 4], "Expected 8 byte long for time (4)"),
            (CqlType::Boolean, &[1, 1], "Expected 1 or 0 byte value (2)"),
            (CqlType::Text, &[0xc3], "String didn't validate."),
            (CqlType::Ascii, &[0x61, 0xc3], "Invalid byte for ascii: -61"),
            (CqlType::Uuid, &[0; 15], "UUID should be 16 or 0 bytes (15)"),
            (CqlType::TimeUuid, &[0; 16], "Invalid version for TimeUUID type: 0x0"),
            (CqlType::Inet, &[1, 2, 3], "Expected 4 or 16 byte inetaddress; got 010203"),
            (CqlType::Decimal, &[0; 3], "Expected 0 or at least 4 bytes (3)"),
            (CqlType::Duration, &[0; 2], "Expected at least 3 bytes for a duration (2)"),
            (CqlType::Duration, &[], "Expected at least 3 bytes for a duration (0)"),
            (
                CqlType::Duration,
                &[2, 1, 0],
                "The duration months, days and nanoseconds must be all of the same sign (1, -1, 0)",
            ),
        ] {
            assert_eq!(message(&cql_type, bytes), expected);
        }
        let out_of_day = DAY_NANOS.to_be_bytes();
        assert!(message(&CqlType::Time, &out_of_day).starts_with("Expected time between"));
    }

    #[test]
    fn collections_and_tuples_are_checked_inside() {
        let list = CqlType::List { element: Arc::new(CqlType::Int), frozen: true };
        let framed = |count: i32, length: i32, rest: &[u8]| {
            [&count.to_be_bytes(), &length.to_be_bytes(), rest].concat()
        };
        assert_eq!(validate(&list, &framed(1, 4, &[0; 4])), Ok(()));
        assert_eq!(message(&list, b""), "Not enough bytes to read a list");
        assert_eq!(message(&list, &framed(1, 3, &[0; 3])), "Expected 4 or 0 byte int (3)");
        assert_eq!(message(&list, &framed(2, 4, &[0; 4])), "Not enough bytes to read a list");
        assert_eq!(message(&list, &framed(i32::MAX, 0, b"")), "Not enough bytes to read a list");
        assert_eq!(message(&list, &[0xff; 4]), "The list has a negative size (-1)");
        let extra = framed(1, 4, &[0; 5]);
        assert_eq!(message(&list, &extra), "Unexpected extraneous bytes after list value");
        let null = framed(1, -1, b"");
        assert_eq!(message(&list, &null), "Null value read when not allowed");

        let vector = CqlType::Vector { element: Arc::new(CqlType::Int), dimension: 1 };
        assert_eq!(message(&vector, b""), "Invalid empty vector value");
        assert_eq!(message(&vector, &[0; 3]), "Not enough bytes to read a vector<int, 1>");
        assert_eq!(
            message(&vector, &[0; 5]),
            "Unexpected 1 extraneous bytes after vector<int, 1> value"
        );

        let tuple = tuple_of(&[CqlType::Int]);
        assert_eq!(message(&tuple, &[0; 3]), "Not enough bytes to read size of 0th component");
        let short = [0, 0, 0, 4, 1];
        assert_eq!(message(&tuple, &short), "Not enough bytes to read 0th component");
        assert_eq!(validate(&tuple, &(-1_i32).to_be_bytes()), Ok(()));
        let long = [0xff; 8];
        assert_eq!(message(&tuple, &long), "Invalid remaining data after end of tuple value");
    }

    #[test]
    fn nesting_has_a_bound() {
        let mut cql_type = CqlType::Int;
        let mut value = Vec::new();
        for _ in 0..=TYPE_DEPTH_MAX {
            cql_type = tuple_of(&[cql_type]);
            value = [&(value.len() as i32).to_be_bytes(), value.as_slice()].concat();
        }
        assert_eq!(message(&cql_type, &value), "Types are nested deeper than 64");
    }
}
