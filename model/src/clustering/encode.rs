//! From values to ordered bytes.

use super::{
    DECIMAL_NEGATIVE, DECIMAL_POSITIVE, DECIMAL_ZERO, END, ESCAPE, NULL, SHORT_VARINT_BYTES_MAX,
    TAG_EMPTY, TAG_VALUE, TERMINATOR, VARINT_POSITIVE, not_orderable,
};
use crate::key::KEY_BYTES_MAX;
use crate::schema::TableDef;
use crate::types::CqlType;
use crate::value::{
    DecimalValue, ListView, MapView, NUMBER_BYTES_MAX, TupleView, ValueError, VectorView,
    minimal_varint,
};

/// The clustering key, or a prefix of one, from serialized values in the order of the columns.
///
/// Errors when there are more values than columns, when a value is not of its column's type, and
/// when the values together are longer than [`KEY_BYTES_MAX`].
pub fn encode_clustering(table: &TableDef, values: &[&[u8]]) -> Result<Vec<u8>, ValueError> {
    let columns = table.clustering_key();
    if values.len() > columns.len() {
        return Err(ValueError::new("More clustering values than clustering columns"));
    }
    let length: usize = values.iter().map(|value| value.len()).sum();
    if length > KEY_BYTES_MAX {
        return Err(ValueError::new(format!(
            "The sum of all clustering columns is too long ({length} > {KEY_BYTES_MAX})"
        )));
    }
    let mut key = Vec::with_capacity(length + 4 * values.len());
    for (column, value) in columns.iter().zip(values) {
        encode_component(&column.cql_type, column.descending, value, &mut key)?;
    }
    Ok(key)
}

/// Appends one component. `value` is serialized and valid for `cql_type`
/// ([`crate::value::validate`]); one that is not gives an error or comes back as something else,
/// and `out` is left as it was on error.
pub fn encode_component(
    cql_type: &CqlType,
    descending: bool,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let start = out.len();
    let result = encode_ascending(cql_type, value, out);
    if result.is_err() {
        out.truncate(start);
    }
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    result
}

fn encode_ascending(cql_type: &CqlType, value: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if matches!(cql_type, CqlType::Duration | CqlType::Counter) {
        return Err(not_orderable(cql_type));
    }
    if value.is_empty() {
        out.push(TAG_EMPTY);
        return Ok(());
    }
    out.push(TAG_VALUE);
    match cql_type {
        CqlType::Ascii | CqlType::Text | CqlType::Blob | CqlType::Inet => {
            encode_bytes(value, out);
            Ok(())
        }
        CqlType::TinyInt => encode_signed::<1>(cql_type, value, out),
        CqlType::SmallInt => encode_signed::<2>(cql_type, value, out),
        CqlType::Int => encode_signed::<4>(cql_type, value, out),
        CqlType::BigInt | CqlType::Timestamp => encode_signed::<8>(cql_type, value, out),
        CqlType::Boolean => {
            let [byte] = exact(cql_type, value)?;
            out.push(u8::from(byte != 0));
            Ok(())
        }
        CqlType::Date => {
            out.extend_from_slice(&exact::<4>(cql_type, value)?);
            Ok(())
        }
        CqlType::Time => {
            out.extend_from_slice(&exact::<8>(cql_type, value)?);
            Ok(())
        }
        CqlType::Float => {
            let bits = u32::from_be_bytes(exact(cql_type, value)?);
            out.extend_from_slice(&ordered_float(bits).to_be_bytes());
            Ok(())
        }
        CqlType::Double => {
            let bits = u64::from_be_bytes(exact(cql_type, value)?);
            out.extend_from_slice(&ordered_double(bits).to_be_bytes());
            Ok(())
        }
        CqlType::Uuid => {
            out.extend_from_slice(&ordered_uuid(exact(cql_type, value)?));
            Ok(())
        }
        CqlType::TimeUuid => {
            out.extend_from_slice(&ordered_timeuuid(exact(cql_type, value)?));
            Ok(())
        }
        CqlType::Varint => encode_varint(value, out),
        CqlType::Decimal => encode_decimal(value, out),
        CqlType::List { element, .. } => encode_elements(element, ListView::list(value)?, out),
        CqlType::Set { element, .. } => encode_elements(element, ListView::set(value)?, out),
        CqlType::Map { key, value: element, .. } => {
            for entry in MapView::new(value)? {
                let (entry_key, entry_value) = entry?;
                encode_ascending(key, entry_key, out)?;
                encode_ascending(element, entry_value, out)?;
            }
            out.push(END);
            Ok(())
        }
        CqlType::Tuple(fields) => encode_tuple(fields.iter(), value, out),
        CqlType::Udt(udt) => encode_tuple(udt.fields.iter().map(|(_, t)| t), value, out),
        CqlType::Vector { element, dimension } => VectorView::new(element, *dimension, value)
            .try_for_each(|item| encode_ascending(element, item?, out)),
        CqlType::Duration | CqlType::Counter => Err(not_orderable(cql_type)),
    }
}

fn exact<const N: usize>(cql_type: &CqlType, value: &[u8]) -> Result<[u8; N], ValueError> {
    value
        .try_into()
        .map_err(|_| ValueError::new(format!("Expected {N} byte {cql_type} ({})", value.len())))
}

fn encode_signed<const N: usize>(
    cql_type: &CqlType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut bytes: [u8; N] = exact(cql_type, value)?;
    bytes[0] ^= 0x80;
    out.extend_from_slice(&bytes);
    Ok(())
}

fn encode_bytes(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| *byte <= ESCAPE) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[ESCAPE, rest[at] + 1]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(TERMINATOR);
}

/// Java's order of floats: every NaN equal and last, -0.0 below 0.0.
pub(crate) fn ordered_float(bits: u32) -> u32 {
    let bits = if f32::from_bits(bits).is_nan() { 0x7fc0_0000 } else { bits };
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// Like [`ordered_float`].
pub(crate) fn ordered_double(bits: u64) -> u64 {
    let bits = if f64::from_bits(bits).is_nan() { 0x7ff8_0000_0000_0000 } else { bits };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Time first (version in the top four bits, then the 60 bits of time), then the other half as
/// signed bytes.
pub(crate) fn ordered_timeuuid(uuid: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(uuid);
    let low = number as u64 ^ 0x8080_8080_8080_8080;
    join(time_first((number >> 64) as u64), low)
}

/// Version first; then time for version 1, the bytes as they stand for the others; then the other
/// half as unsigned bytes.
pub(crate) fn ordered_uuid(uuid: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(uuid);
    let high = (number >> 64) as u64;
    let version = (high >> 12) & 0xf;
    let high = if version == 1 {
        time_first(high)
    } else {
        version << 60 | (high >> 16) << 12 | high & 0xfff
    };
    join(high, number as u64)
}

/// `time_low 32, time_mid 16, version 4, time_high 12` to `version, time_high, time_mid, time_low`.
fn time_first(high: u64) -> u64 {
    high << 48 | (high >> 16 & 0xffff) << 32 | high >> 32
}

fn join(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Sign and length, then the number's shortest bytes: among numbers of one sign and length these
/// compare as the numbers do.
fn encode_varint(value: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let bytes = minimal_varint(value);
    let too_long = || ValueError::new("Varint is too long");
    let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let start = out.len();
    if bytes.len() <= SHORT_VARINT_BYTES_MAX {
        out.push(VARINT_POSITIVE + length as u8);
    } else {
        out.push(0xff);
        out.extend_from_slice(&length.to_be_bytes());
    }
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Sign, exponent, then two digits a byte (plus one), ended by zero; all after the sign inverted
/// when negative.
fn encode_decimal(value: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if value.len() > NUMBER_BYTES_MAX + 4 {
        return Err(ValueError::new("Decimal is too long"));
    }
    let decimal = DecimalValue::from_bytes(value).ok_or_else(|| {
        ValueError::new(format!("Expected 0 or at least 4 bytes ({})", value.len()))
    })?;
    if decimal.digits.is_empty() {
        out.push(DECIMAL_ZERO);
        return Ok(());
    }
    out.push(if decimal.negative { DECIMAL_NEGATIVE } else { DECIMAL_POSITIVE });
    let start = out.len();
    out.extend_from_slice(&(decimal.exponent ^ i64::MIN).to_be_bytes());
    out.extend(decimal.digits.chunks(2).map(|pair| {
        let second = pair.get(1).copied().unwrap_or(0);
        pair[0] * 10 + second + 1
    }));
    out.push(TERMINATOR);
    if decimal.negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    Ok(())
}

fn encode_elements(
    element: &CqlType,
    mut values: ListView<'_>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    values.try_for_each(|value| encode_ascending(element, value?, out))?;
    out.push(END);
    Ok(())
}

/// Trailing nulls are left out, so a type that gains a field keeps the encodings it had.
fn encode_tuple<'t>(
    mut fields: impl Iterator<Item = &'t CqlType>,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut end = out.len();
    for field in TupleView::new(value) {
        let field = field?;
        let field_type = fields
            .next()
            .ok_or_else(|| ValueError::new("Invalid remaining data after end of tuple value"))?;
        if let Some(bytes) = field {
            encode_ascending(field_type, bytes, out)?;
            end = out.len();
        } else {
            out.push(NULL);
        }
    }
    out.truncate(end);
    out.push(END);
    Ok(())
}
