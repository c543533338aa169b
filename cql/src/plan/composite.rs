//! Values made of parts: lists, sets, maps, tuples, user types and vectors from their elements.

use super::error::PlanError;
use super::term::BoundTerm;
use model::CqlType;
use model::value::{CollectionBuilder, fixed_bytes_in_vector, normalize, push_value};
use std::borrow::Cow;

/// The serialized value of that type made of these parts; of a map keys and values in turns, of a
/// tuple or user type the first fields or all.
///
/// Sets and maps come out sorted and each key once; of equal keys the last one counts.
pub(super) fn build(cql_type: &CqlType, parts: &[BoundTerm]) -> Result<Vec<u8>, PlanError> {
    let mut out = Vec::new();
    match cql_type {
        CqlType::Tuple(_) => put_fields(parts, &mut out, |index| {
            format!("Invalid unset value for tuple field number {index}")
        })?,
        // Cassandra takes an unset field for null.
        CqlType::Udt(_) => parts.iter().for_each(|part| push_value(&mut out, part.as_value())),
        CqlType::Vector { element, .. } => {
            let fixed = fixed_bytes_in_vector(element).is_some();
            for part in parts {
                let part = element_of(part, "vectors")?;
                if !fixed {
                    put_vector_length(&mut out, part.len());
                }
                out.extend_from_slice(part);
            }
        }
        _ => {
            let mut builder = CollectionBuilder::new(&mut out);
            let is_map = matches!(cql_type, CqlType::Map { .. });
            let element = |part| element_of(part, "collections");
            for part in parts.chunks(if is_map { 2 } else { 1 }) {
                match part {
                    [key, value] => builder.entry(element(key)?, element(value)?),
                    [value] => builder.element(element(value)?),
                    _ => {}
                }
            }
            builder.finish();
        }
    }
    let reordered = match normalize(cql_type, &out)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(sorted) => Some(sorted),
    };
    Ok(reordered.unwrap_or(out))
}

fn put_fields(
    parts: &[BoundTerm],
    out: &mut Vec<u8>,
    unset: impl Fn(usize) -> String,
) -> Result<(), PlanError> {
    for (index, part) in parts.iter().enumerate() {
        if *part == BoundTerm::Unset {
            return Err(PlanError::invalid(unset(index)));
        }
        push_value(out, part.as_value());
    }
    Ok(())
}

/// The value of an element of what `inside` names.
fn element_of<'a>(part: &'a BoundTerm, inside: &str) -> Result<&'a [u8], PlanError> {
    let what = match part {
        BoundTerm::Value(bytes) => return Ok(bytes),
        BoundTerm::Null => "null",
        BoundTerm::Unset => "unset value",
    };
    Err(PlanError::invalid(format!("{what} is not supported inside {inside}")))
}

/// Elements of no fixed length stand behind it as an unsigned vint: the leading one bits of the
/// first byte count the bytes that follow.
pub(super) fn put_vector_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a value came in a frame of less than 2 GiB");
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x4000 => out.extend_from_slice(&(0x8000 | length as u16).to_be_bytes()),
        0x4000..0x20_0000 => out.extend_from_slice(&(0xc0_0000 | length).to_be_bytes()[1..]),
        0x20_0000..0x1000_0000 => out.extend_from_slice(&(0xe000_0000 | length).to_be_bytes()),
        _ => {
            out.push(0xf0);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}
