//! `CAST(value AS type)` between native types.
//!
//! Numbers convert as in Java: whole numbers keep their low bytes, floating ones lose their
//! fraction. Anything native has a text. Times convert as the functions `toTimestamp` and `toDate`
//! do it. Decimals and varints convert to text and to each other's wider types, not to narrower
//! numbers.

use crate::plan::error::PlanError;
use model::CqlType;
use model::literal::{format_value, parse_literal};
use model::timeuuid::timeuuid_millis;

const DAY_MILLIS: i64 = 86_400_000;
/// The date type's number of the Unix epoch's day.
const DATE_OF_EPOCH: i64 = 1 << 31;

/// Whether values of one type convert to the other.
pub(super) fn can_cast(from: &CqlType, to: &CqlType) -> bool {
    use CqlType::{Ascii, Boolean, Date, Decimal, Text, TimeUuid, Timestamp, Varint};
    let is_native = |t: &CqlType| CqlType::native_from_name(&t.to_string()).is_some();
    match (from, to) {
        (from, to) if from == to => true,
        (_, Text) => is_native(from) && *from != CqlType::Blob,
        (_, Ascii) => is_number(from) || matches!(from, Boolean | Date | Timestamp | TimeUuid),
        (TimeUuid, Timestamp | Date) | (Timestamp, Date) | (Date, Timestamp) => true,
        (Decimal, CqlType::Double | CqlType::Float) => true,
        (Varint, Decimal | CqlType::Double | CqlType::Float) => true,
        (Decimal | Varint, _) => false,
        (CqlType::Float | CqlType::Double, Varint) => false,
        (from, to) => is_number(from) && is_number(to),
    }
}

fn is_number(cql_type: &CqlType) -> bool {
    crate::plan::arithmetic::result_type(cql_type, cql_type).is_some()
}

/// The value as the other type; null when it has no bytes.
pub(super) fn cast(
    from: &CqlType,
    to: &CqlType,
    value: &[u8],
) -> Result<Option<Vec<u8>>, PlanError> {
    use CqlType::{Date, TimeUuid, Timestamp};
    if from == to {
        return Ok(Some(value.to_vec()));
    }
    if value.is_empty() && !matches!(from, CqlType::Ascii | CqlType::Text) {
        return Ok(None);
    }
    match (from, to) {
        (_, CqlType::Text | CqlType::Ascii) => Ok(Some(text(from, value).into_bytes())),
        (TimeUuid | Timestamp | Date, _) => Ok(millis_of(from, value).map(|millis| {
            if *to == Date {
                let day = millis.div_euclid(DAY_MILLIS) + DATE_OF_EPOCH;
                return (day.clamp(0, i64::from(u32::MAX)) as u32).to_be_bytes().to_vec();
            }
            millis.to_be_bytes().to_vec()
        })),
        (CqlType::Float, _) => {
            let bytes = value.first_chunk().copied().unwrap_or_default();
            floating(f64::from(f32::from_be_bytes(bytes)), to)
        }
        (CqlType::Double, _) => {
            floating(f64::from_be_bytes(value.first_chunk().copied().unwrap_or_default()), to)
        }
        (CqlType::Varint | CqlType::Decimal, _) => {
            Ok(Some(parse_literal(to, &format_value(from, value))?))
        }
        _ => whole(value, to),
    }
}

/// Text as it stands, everything else as a literal has it, without quotes.
fn text(from: &CqlType, value: &[u8]) -> String {
    let literal = match from {
        CqlType::Ascii | CqlType::Text => return String::from_utf8_lossy(value).into_owned(),
        _ => format_value(from, value),
    };
    match literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(inner) => inner.to_owned(),
        None => literal,
    }
}

fn millis_of(from: &CqlType, value: &[u8]) -> Option<i64> {
    match from {
        CqlType::TimeUuid => Some(timeuuid_millis(value.first_chunk()?)),
        CqlType::Date => {
            let day = u32::from_be_bytes(*value.first_chunk()?);
            Some((i64::from(day) - DATE_OF_EPOCH) * DAY_MILLIS)
        }
        _ => Some(i64::from_be_bytes(*value.first_chunk()?)),
    }
}

fn whole(value: &[u8], to: &CqlType) -> Result<Option<Vec<u8>>, PlanError> {
    let is_negative = value.first().is_some_and(|byte| *byte >= 0x80);
    let start = if is_negative { -1 } else { 0 };
    let number = value.iter().fold(start, |number: i64, byte| number << 8 | i64::from(*byte));
    Ok(Some(match to {
        CqlType::Float => (number as f32).to_be_bytes().to_vec(),
        CqlType::Double => (number as f64).to_be_bytes().to_vec(),
        CqlType::Varint | CqlType::Decimal => parse_literal(to, &number.to_string())?,
        _ => narrowed(number, to),
    }))
}

fn floating(number: f64, to: &CqlType) -> Result<Option<Vec<u8>>, PlanError> {
    Ok(Some(match to {
        CqlType::Float => (number as f32).to_be_bytes().to_vec(),
        CqlType::Double => number.to_be_bytes().to_vec(),
        CqlType::Decimal => parse_literal(to, &number.to_string())?,
        // Narrow integers go through the 32-bit one, which ends at its bounds.
        CqlType::BigInt | CqlType::Counter => (number as i64).to_be_bytes().to_vec(),
        _ => narrowed(i64::from(number as i32), to),
    }))
}

fn narrowed(number: i64, to: &CqlType) -> Vec<u8> {
    match to {
        CqlType::TinyInt => (number as i8).to_be_bytes().to_vec(),
        CqlType::SmallInt => (number as i16).to_be_bytes().to_vec(),
        CqlType::Int => (number as i32).to_be_bytes().to_vec(),
        _ => number.to_be_bytes().to_vec(),
    }
}
