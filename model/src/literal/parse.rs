//! Text to values.

use super::datetime::{parse_date, parse_time, parse_timestamp};
use super::duration::{parse_duration, serialize_duration};
use super::shown;
use crate::hex::parse_hex;
use crate::timeuuid::is_timeuuid;
use crate::types::CqlType;
use crate::value::{NUMBER_BYTES_MAX, ValueError};
use num_bigint::{BigInt, Sign};
use std::net::IpAddr;

/// Most digits a varint or decimal may have: more would not fit [`NUMBER_BYTES_MAX`].
const DIGITS_MAX: usize = NUMBER_BYTES_MAX * 5 / 2;

/// The serialized value of a constant of a native type.
///
/// `text` is the constant without quotes: `abc` for `'abc'`, `0xff`, `NaN`, `2020-01-02`. Errors
/// speak Cassandra's words. Types made of others have no constants and are refused.
pub fn parse_literal(cql_type: &CqlType, text: &str) -> Result<Vec<u8>, ValueError> {
    match cql_type {
        CqlType::Text => Ok(text.as_bytes().to_vec()),
        CqlType::Ascii if text.is_ascii() => Ok(text.as_bytes().to_vec()),
        CqlType::Ascii => Err(ValueError::new("Invalid ASCII character in string literal")),
        CqlType::Blob => parse_blob(text),
        CqlType::Boolean => parse_boolean(text),
        CqlType::TinyInt => integer(text, i8::to_be_bytes, "byte"),
        CqlType::SmallInt => integer(text, i16::to_be_bytes, "short"),
        CqlType::Int => integer(text, i32::to_be_bytes, "int"),
        CqlType::BigInt | CqlType::Counter => integer(text, i64::to_be_bytes, "long"),
        CqlType::Varint => parse_varint(text),
        CqlType::Decimal => parse_decimal(text),
        CqlType::Float => float(text, f32::to_be_bytes, "float"),
        CqlType::Double => float(text, f64::to_be_bytes, "double"),
        CqlType::Timestamp if text.is_empty() => Ok(Vec::new()),
        CqlType::Timestamp => Ok(parse_timestamp(text)?.to_be_bytes().to_vec()),
        CqlType::Date => Ok(parse_date(text)?.to_be_bytes().to_vec()),
        CqlType::Time => Ok(parse_time(text)?.to_be_bytes().to_vec()),
        CqlType::Duration => parse_duration(text).map(serialize_duration),
        CqlType::Inet if text.is_empty() => Ok(Vec::new()),
        CqlType::Inet => parse_inet(text),
        CqlType::Uuid => Ok(parse_uuid(text)?.to_vec()),
        CqlType::TimeUuid => {
            let uuid = parse_uuid(text)?;
            if is_timeuuid(&uuid) {
                Ok(uuid.to_vec())
            } else {
                Err(ValueError::new("TimeUUID supports only version 1 UUIDs"))
            }
        }
        CqlType::List { .. }
        | CqlType::Set { .. }
        | CqlType::Map { .. }
        | CqlType::Tuple(_)
        | CqlType::Udt(_)
        | CqlType::Vector { .. } => {
            Err(ValueError::new(format!("A constant cannot be a value of type {cql_type}")))
        }
    }
}

fn unable(name: &str, text: &str) -> ValueError {
    ValueError::new(format!("Unable to make {name} from '{}'", shown(text)))
}

fn parse_boolean(text: &str) -> Result<Vec<u8>, ValueError> {
    if text.eq_ignore_ascii_case("true") {
        Ok(vec![1])
    } else if text.eq_ignore_ascii_case("false") {
        Ok(vec![0])
    } else {
        Err(unable("boolean", text))
    }
}

fn integer<T: std::str::FromStr, const N: usize>(
    text: &str,
    serialize: fn(T) -> [u8; N],
    name: &str,
) -> Result<Vec<u8>, ValueError> {
    let number = text.parse().map_err(|_| unable(name, text))?;
    Ok(serialize(number).to_vec())
}

fn parse_blob(text: &str) -> Result<Vec<u8>, ValueError> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        let text = shown(text);
        let error = format!("String representation of blob is missing 0x prefix: {text}");
        return Err(ValueError::new(error));
    };
    let wrong = || ValueError::new(format!("cannot parse '{}' as hex bytes", shown(digits)));
    parse_hex(digits).ok_or_else(wrong)
}

/// Decimal notation, `NaN`, `Infinity`. Too large is infinite, too small is zero.
fn float<T: std::str::FromStr, const N: usize>(
    text: &str,
    serialize: fn(T) -> [u8; N],
    name: &str,
) -> Result<Vec<u8>, ValueError> {
    let special = matches!(text.trim_start_matches(['-', '+']), "NaN" | "Infinity");
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number = (special || decimal).then(|| text.parse().ok()).flatten();
    number.map(|number| serialize(number).to_vec()).ok_or_else(|| unable(name, text))
}

/// An optional sign, then the rest.
fn split_sign(text: &str) -> (Sign, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (Sign::Minus, rest),
        None => (Sign::Plus, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The shortest two's complement bytes of decimal digits; `None` when they are not digits, or too
/// many.
fn bytes_of_digits(sign: Sign, digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let digits = digits
        .bytes()
        .map(|byte| byte.is_ascii_digit().then(|| byte - b'0'))
        .collect::<Option<Vec<_>>>()?;
    let bytes = BigInt::from_radix_be(sign, &digits, 10)?.to_signed_bytes_be();
    (bytes.len() <= NUMBER_BYTES_MAX).then_some(bytes)
}

fn parse_varint(text: &str) -> Result<Vec<u8>, ValueError> {
    let (sign, digits) = split_sign(text);
    bytes_of_digits(sign, digits)
        .ok_or_else(|| ValueError::new(format!("unable to make int from '{}'", shown(text))))
}

fn parse_decimal(text: &str) -> Result<Vec<u8>, ValueError> {
    decimal_bytes(text)
        .ok_or_else(|| ValueError::new(format!("unable to make BigDecimal from '{}'", shown(text))))
}

/// `digits[.digits][e[sign]digits]`: the scale is the count of fraction digits less the exponent.
fn decimal_bytes(text: &str) -> Option<Vec<u8>> {
    let (sign, unsigned) = split_sign(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unscaled = bytes_of_digits(sign, &[whole, fraction].concat())?;
    let scale = i32::try_from((fraction.len() as i64).checked_sub(exponent)?).ok()?;
    Some([&scale.to_be_bytes(), unscaled.as_slice()].concat())
}

/// IPv6 addresses that stand for IPv4 ones become those, as in Java.
fn parse_inet(text: &str) -> Result<Vec<u8>, ValueError> {
    let address = text.parse().map_err(|_| unable("inet address", text))?;
    Ok(match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.octets().to_vec(),
            None => address.octets().to_vec(),
        },
    })
}

/// 8-4-4-4-12 hexadecimal digits.
fn parse_uuid(text: &str) -> Result<[u8; 16], ValueError> {
    let groups: Vec<&str> = text.split('-').take(6).collect();
    let well_formed = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
    well_formed
        .then(|| parse_hex(&groups.concat()))
        .flatten()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| unable("UUID", text))
}
