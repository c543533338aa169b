//! `CAST(value AS type)` between native types.
//!
//! Numbers convert as in Java: whole numbers keep their low bytes, floating ones and decimals lose
//! their fraction, what becomes a varint goes through 64 bits. Most native types have a text. Times
//! convert as the functions `toTimestamp` and `toDate` do it.

use crate::plan::error::PlanError;
use model::CqlType;
use model::literal::{format_value, parse_literal};
use model::timeuuid::timeuuid_millis;
use num_bigint::BigInt;

const DAY_MILLIS: i64 = 86_400_000;
/// The date type's number of the Unix epoch's day.
const DATE_OF_EPOCH: i64 = 1 << 31;

/// Whether values of one type convert to the other.
pub(super) fn can_cast(from: &CqlType, to: &CqlType) -> bool {
    from == to || castable_to(to).contains(from)
}

/// The other types whose values convert to the type.
pub(super) fn castable_to(to: &CqlType) -> Vec<CqlType> {
    use CqlType::{
        Ascii, BigInt, Boolean, Counter, Date, Decimal, Double, Float, Inet, Int, SmallInt, Text,
        Time, TimeUuid, Timestamp, TinyInt, Uuid, Varint,
    };
    let mut from = vec![TinyInt, SmallInt, Int, BigInt, Float, Double, Decimal, Varint, Counter];
    match to {
        Text | Ascii => {
            from.extend([Boolean, Inet, Date, Time, Timestamp, TimeUuid, Uuid]);
            if *to == Text {
                from.push(Ascii);
            }
        }
        Timestamp => from = vec![TimeUuid, Date],
        Date => from = vec![TimeUuid, Timestamp],
        to if *to != Counter && is_number(to) => from.retain(|from| from != to),
        _ => from.clear(),
    }
    from
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
        (CqlType::Varint | CqlType::Decimal, CqlType::Float | CqlType::Double)
        | (CqlType::Varint, CqlType::Decimal) => {
            Ok(Some(parse_literal(to, &format_value(from, value))?))
        }
        (CqlType::Varint, _) => whole(low_bytes(value), to),
        (CqlType::Decimal, _) => {
            let Some((scale, unscaled)) = value.split_first_chunk() else { return Ok(None) };
            let number = whole_part(i32::from_be_bytes(*scale), unscaled);
            whole(low_bytes(&number.to_signed_bytes_be()), to)
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
        CqlType::Varint => parse_literal(to, &(number as i64).to_string())?,
        // Narrow integers go through the 32-bit one, which ends at its bounds.
        CqlType::BigInt | CqlType::Counter => (number as i64).to_be_bytes().to_vec(),
        _ => narrowed(i64::from(number as i32), to),
    }))
}

/// The last eight bytes, or all.
fn low_bytes(number: &[u8]) -> &[u8] {
    number.get(number.len().saturating_sub(8)..).unwrap_or(number)
}

/// A decimal without its fraction, at least its low 64 bits: they are zero where 64 zeros or more
/// are appended, since each ten brings a factor of two.
fn whole_part(scale: i32, unscaled: &[u8]) -> BigInt {
    let unscaled = BigInt::from_signed_bytes_be(unscaled);
    let ten_to = |exponent: u32| BigInt::from(10).pow(exponent);
    match u32::try_from(scale) {
        Ok(scale) if u64::from(scale) > unscaled.bits() => BigInt::ZERO,
        Ok(scale) => unscaled / ten_to(scale),
        Err(_) if scale <= -64 => BigInt::ZERO,
        Err(_) => unscaled * ten_to(scale.unsigned_abs()),
    }
}

fn narrowed(number: i64, to: &CqlType) -> Vec<u8> {
    match to {
        CqlType::TinyInt => (number as i8).to_be_bytes().to_vec(),
        CqlType::SmallInt => (number as i16).to_be_bytes().to_vec(),
        CqlType::Int => (number as i32).to_be_bytes().to_vec(),
        _ => number.to_be_bytes().to_vec(),
    }
}
