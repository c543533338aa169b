//! Values to text.

use super::datetime::{format_date, format_time, format_timestamp};
use super::duration::format_duration;
use crate::hex::push_hex;
use crate::schema::quote_identifier;
use crate::types::CqlType;
use crate::value::{
    ListView, MapView, NUMBER_BYTES_MAX, TupleView, ValueError, VectorView, read_duration,
};
use num_bigint::BigInt;
use std::fmt::Write;
use std::net::Ipv6Addr;

/// The value as a CQL literal: strings, dates and addresses quoted, bytes in hexadecimal, empty
/// values of other types as `null`. Bytes that are not a value of the type are shown as a blob.
///
/// As Cassandra shows them, except for what would not read back as the same value: timestamps
/// before the year 1 have a negative year (not the year of an era), the zero duration is `0s`
/// (not nothing). Floats have the fewest digits that tell them apart, as Java has since 19.
pub fn format_value(cql_type: &CqlType, value: &[u8]) -> String {
    let mut out = String::new();
    write_value(cql_type, value, &mut out);
    out
}

fn write_value(cql_type: &CqlType, value: &[u8], out: &mut String) {
    let start = out.len();
    if write_valid(cql_type, value, out).is_none() {
        out.truncate(start);
        out.push_str("0x");
        push_hex(out, value);
    }
}

/// `None` when the bytes are not a value of the type; what was written then is to be removed.
fn write_valid(cql_type: &CqlType, value: &[u8], out: &mut String) -> Option<()> {
    match cql_type {
        CqlType::Text | CqlType::Ascii => push_quoted(out, std::str::from_utf8(value).ok()?),
        CqlType::Blob => {
            out.push_str("0x");
            push_hex(out, value);
        }
        CqlType::Tuple(fields) => {
            out.push('(');
            let mut fields = fields.iter();
            write_all(out, TupleView::new(value), |out, field| {
                write_field(fields.next()?, field, out);
                Some(())
            })?;
            out.push(')');
        }
        CqlType::Udt(udt) => {
            out.push('{');
            let mut fields = udt.fields.iter();
            write_all(out, TupleView::new(value), |out, field| {
                let (name, field_type) = fields.next()?;
                out.push_str(&quote_identifier(name));
                out.push_str(": ");
                write_field(field_type, field, out);
                Some(())
            })?;
            out.push('}');
        }
        _ if value.is_empty() => out.push_str("null"),
        CqlType::List { element, .. } => {
            write_elements(element, ListView::list(value).ok()?, ["[", "]"], out)?;
        }
        CqlType::Set { element, .. } => {
            write_elements(element, ListView::set(value).ok()?, ["{", "}"], out)?;
        }
        CqlType::Vector { element, dimension } => {
            write_elements(element, VectorView::new(element, *dimension, value), ["[", "]"], out)?;
        }
        CqlType::Map { key, value: element, .. } => {
            out.push('{');
            write_all(out, MapView::new(value).ok()?, |out, (entry_key, entry_value)| {
                write_value(key, entry_key, out);
                out.push_str(": ");
                write_value(element, entry_value, out);
                Some(())
            })?;
            out.push('}');
        }
        _ => write_native(cql_type, value, out)?,
    }
    Some(())
}

fn write_all<T>(
    out: &mut String,
    items: impl Iterator<Item = Result<T, ValueError>>,
    mut write: impl FnMut(&mut String, T) -> Option<()>,
) -> Option<()> {
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        write(out, item.ok()?)?;
    }
    Some(())
}

fn write_elements<'v>(
    element: &CqlType,
    items: impl Iterator<Item = Result<&'v [u8], ValueError>>,
    [open, close]: [&str; 2],
    out: &mut String,
) -> Option<()> {
    out.push_str(open);
    write_all(out, items, |out, item| {
        write_value(element, item, out);
        Some(())
    })?;
    out.push_str(close);
    Some(())
}

fn write_field(field_type: &CqlType, field: Option<&[u8]>, out: &mut String) {
    match field {
        Some(value) => write_value(field_type, value, out),
        None => out.push_str("null"),
    }
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('\'');
    out.push_str(&text.replace('\'', "''"));
    out.push('\'');
}

fn write_native(cql_type: &CqlType, value: &[u8], out: &mut String) -> Option<()> {
    let is_quoted =
        matches!(cql_type, CqlType::Timestamp | CqlType::Date | CqlType::Time | CqlType::Inet);
    if is_quoted {
        out.push('\'');
    }
    push_native(cql_type, value, out)?;
    if is_quoted {
        out.push('\'');
    }
    Some(())
}

/// Appends a value of a native type other than text and blob, without quotes. `None` when the bytes
/// are not a value of the type.
pub(crate) fn push_native(cql_type: &CqlType, value: &[u8], out: &mut String) -> Option<()> {
    match cql_type {
        CqlType::Boolean => out.push_str(if exact::<1>(value)? == [0] { "false" } else { "true" }),
        CqlType::TinyInt => push(out, i8::from_be_bytes(exact(value)?)),
        CqlType::SmallInt => push(out, i16::from_be_bytes(exact(value)?)),
        CqlType::Int => push(out, i32::from_be_bytes(exact(value)?)),
        CqlType::BigInt | CqlType::Counter => push(out, i64::from_be_bytes(exact(value)?)),
        CqlType::Float => {
            let number = f32::from_be_bytes(exact(value)?);
            push_float(out, &format!("{number:e}"));
        }
        CqlType::Double => {
            let number = f64::from_be_bytes(exact(value)?);
            push_float(out, &format!("{number:e}"));
        }
        CqlType::Varint if value.len() <= NUMBER_BYTES_MAX => {
            push(out, BigInt::from_signed_bytes_be(value));
        }
        CqlType::Decimal if value.len() <= NUMBER_BYTES_MAX + 4 => {
            let (scale, unscaled) = value.split_first_chunk()?;
            push_decimal(out, i32::from_be_bytes(*scale), unscaled);
        }
        CqlType::Timestamp => out.push_str(&format_timestamp(i64::from_be_bytes(exact(value)?))),
        CqlType::Date => out.push_str(&format_date(u32::from_be_bytes(exact(value)?))),
        CqlType::Time => {
            let nanos = i64::from_be_bytes(exact(value)?);
            out.push_str(&(nanos >= 0).then(|| format_time(nanos))?);
        }
        CqlType::Duration => {
            let (months, days, nanos) = read_duration(value).ok()?;
            out.push_str(&format_duration(months, days, nanos));
        }
        CqlType::Inet => out.push_str(&inet_text(value)?),
        CqlType::Uuid | CqlType::TimeUuid => push_uuid(out, exact(value)?),
        _ => return None,
    }
    Some(())
}

fn exact<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

fn push(out: &mut String, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("writing to a string");
}

/// As Java writes floats, from Rust's shortest scientific notation (`-1.5e-7`): plain between a
/// thousandth and ten million, else `1.5E-7`; always with a fraction.
fn push_float(out: &mut String, scientific: &str) {
    let unsigned = scientific.trim_start_matches('-');
    let Some((mantissa, exponent)) = unsigned.split_once('e') else {
        let infinite = if scientific.starts_with('-') { "-Infinity" } else { "Infinity" };
        out.push_str(if unsigned == "inf" { infinite } else { "NaN" });
        return;
    };
    if unsigned.len() < scientific.len() {
        out.push('-');
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    if !(-3..7).contains(&exponent) {
        let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
        push(out, format_args!("{}.{fraction}E{exponent}", &digits[..1]));
    } else if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        push(out, format_args!("0.{zeros}{digits}"));
    } else {
        let whole = exponent as usize + 1;
        let padded = format!("{digits:0<width$}", width = whole + 1);
        push(out, format_args!("{}.{}", &padded[..whole], &padded[whole..]));
    }
}

/// As Java's BigDecimal: plain when the scale is not negative and at most five zeros follow the
/// point, else with an exponent.
fn push_decimal(out: &mut String, scale: i32, unscaled: &[u8]) {
    let number = BigInt::from_signed_bytes_be(unscaled).to_string();
    let digits = number.trim_start_matches('-');
    if digits.len() < number.len() {
        out.push('-');
    }
    let adjusted = digits.len() as i64 - 1 - i64::from(scale);
    if scale >= 0 && adjusted >= -6 {
        let scale = scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        out.push_str(whole);
        if !fraction.is_empty() {
            push(out, format_args!(".{fraction}"));
        }
        return;
    }
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        push(out, format_args!(".{}", &digits[1..]));
    }
    push(out, format_args!("E{adjusted:+}"));
}

/// As Java writes addresses: IPv6 in eight groups, nothing left out; those that stand for IPv4 as
/// IPv4.
fn inet_text(value: &[u8]) -> Option<String> {
    if let Some([a, b, c, d]) = exact(value) {
        return Some(format!("{a}.{b}.{c}.{d}"));
    }
    let address = Ipv6Addr::from(exact::<16>(value)?);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped.to_string());
    }
    Some(address.segments().map(|segment| format!("{segment:x}")).join(":"))
}

fn push_uuid(out: &mut String, uuid: [u8; 16]) {
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        push_hex(out, &[*byte]);
    }
}
