//! JSON to values, as Cassandra's `INSERT JSON` takes them.
//!
//! ```text
//! numbers         a number, or a string that holds one
//! boolean         true, false, or a string that says so
//! other natives   a string as literals are written; of a timestamp also its milliseconds
//! list, set, vector, tuple, map, user type
//!                 a list or an object, or a string that holds one; a map's keys are strings, which
//!                 hold the JSON of keys that are not
//! ```
//!
//! Fields of user types are named like columns: lower case, unless they stand in double quotes.
//! Errors are in Cassandra's words where it names what it met.

use super::document::Json;
use crate::literal::parse_literal;
use crate::types::{CqlType, UdtType};
use crate::value::{ValueError, fixed_bytes_in_vector, normalize, push_value, write_unsigned_vint};
use std::borrow::Cow;

/// The serialized value; none for `null`.
///
/// Errors when the JSON is no value of the type.
pub fn value_from_json(cql_type: &CqlType, json: &Json) -> Result<Option<Vec<u8>>, ValueError> {
    let mut out = Vec::new();
    if !push_from_json(&mut out, cql_type, json)? {
        return Ok(None);
    }
    Ok(Some(match normalize(cql_type, &out)? {
        Cow::Borrowed(_) => out,
        Cow::Owned(normal) => normal,
    }))
}

/// The name of a column or field that a JSON object gives.
pub fn name_from_json(name: &str) -> Cow<'_, str> {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => Cow::Borrowed(quoted),
        None if name.chars().any(char::is_uppercase) => Cow::Owned(name.to_lowercase()),
        None => Cow::Borrowed(name),
    }
}

/// Appends the value; false for null.
fn push_from_json(out: &mut Vec<u8>, cql_type: &CqlType, json: &Json) -> Result<bool, ValueError> {
    if *json == Json::Null {
        return Ok(false);
    }
    if !cql_type.has_parts() {
        out.extend(native(cql_type, json)?);
        return Ok(true);
    }
    // A part may be the text of its JSON: so the keys of maps come.
    if let Json::Text(text) = json {
        let inner = Json::parse(text).map_err(|error| {
            ValueError::new(format!("Could not decode JSON string '{}': {error}", shown(json)))
        })?;
        return match inner {
            Json::Text(_) => Err(expected(wanted(cql_type), &inner)),
            inner => push_from_json(out, cql_type, &inner),
        };
    }
    match (cql_type, json) {
        (CqlType::List { element, .. }, Json::List(items)) => {
            push_elements(out, "list", element, items)?;
        }
        (CqlType::Set { element, .. }, Json::List(items)) => {
            push_elements(out, "set", element, items)?;
        }
        (CqlType::Vector { element, dimension }, Json::List(items)) => {
            if items.len() != usize::from(*dimension) {
                return Err(ValueError::new(format!(
                    "List had incorrect size: expected {dimension} but given {}; {}",
                    items.len(),
                    shown(json)
                )));
            }
            push_vector(out, element, items)?;
        }
        (CqlType::Tuple(fields), Json::List(items)) => {
            if items.len() != fields.len() {
                let is = if items.len() < fields.len() { "is missing" } else { "contains extra" };
                return Err(ValueError::new(format!(
                    "Tuple {is} items (expected {}): {}",
                    fields.len(),
                    shown(json)
                )));
            }
            for (field, item) in fields.iter().zip(items) {
                push_part(out, field, item)?;
            }
        }
        (CqlType::Map { key, value, .. }, Json::Object(members)) => {
            push_map(out, key, value, members)?;
        }
        (CqlType::Udt(udt), Json::Object(members)) => push_fields(out, udt, members)?,
        _ => return Err(expected(wanted(cql_type), json)),
    }
    Ok(true)
}

/// The fields of a user type; those that are not given are null.
fn push_fields(
    out: &mut Vec<u8>,
    udt: &UdtType,
    members: &[(String, Json)],
) -> Result<(), ValueError> {
    let names: Vec<Cow<'_, str>> = members.iter().map(|(name, _)| name_from_json(name)).collect();
    let is_field = |name: &str| udt.fields.iter().any(|(field, _)| **field == *name);
    if let Some(unknown) = names.iter().find(|name| !is_field(name)) {
        return Err(ValueError::new(format!(
            "Unknown field '{unknown}' in value of user defined type {}",
            udt.name
        )));
    }
    for (name, field) in &udt.fields {
        let given = names.iter().rposition(|given| **given == **name);
        let value = given.and_then(|index| members.get(index)).map(|(_, value)| value);
        push_part(out, field, value.unwrap_or(&Json::Null))?;
    }
    Ok(())
}

/// A part with its length before it, or null.
fn push_part(out: &mut Vec<u8>, cql_type: &CqlType, json: &Json) -> Result<(), ValueError> {
    let mut part = Vec::new();
    let is_set = push_from_json(&mut part, cql_type, json)?;
    push_value(out, is_set.then_some(&part));
    Ok(())
}

fn push_elements(
    out: &mut Vec<u8>,
    kind: &str,
    element: &CqlType,
    items: &[Json],
) -> Result<(), ValueError> {
    let count = i32::try_from(items.len()).map_err(|_| ValueError::new("too many elements"))?;
    out.extend_from_slice(&count.to_be_bytes());
    for item in items {
        if *item == Json::Null {
            return Err(ValueError::new(format!("Invalid null element in {kind}")));
        }
        push_part(out, element, item)?;
    }
    Ok(())
}

fn push_map(
    out: &mut Vec<u8>,
    key: &CqlType,
    value: &CqlType,
    members: &[(String, Json)],
) -> Result<(), ValueError> {
    let count = i32::try_from(members.len()).map_err(|_| ValueError::new("too many entries"))?;
    out.extend_from_slice(&count.to_be_bytes());
    for (name, member) in members {
        if *member == Json::Null {
            return Err(ValueError::new("Invalid null value in map"));
        }
        push_part(out, key, &Json::Text(name.clone()))?;
        push_part(out, value, member)?;
    }
    Ok(())
}

fn push_vector(out: &mut Vec<u8>, element: &CqlType, items: &[Json]) -> Result<(), ValueError> {
    for item in items {
        let mut part = Vec::new();
        if !push_from_json(&mut part, element, item)? {
            return Err(ValueError::new("Invalid null element in vector"));
        }
        if fixed_bytes_in_vector(element).is_none() {
            write_unsigned_vint(part.len() as u64, out);
        }
        out.extend(part);
    }
    Ok(())
}

/// The value of a type without parts.
fn native(cql_type: &CqlType, json: &Json) -> Result<Vec<u8>, ValueError> {
    use CqlType as Type;
    let wrong = || expected(wanted(cql_type), json);
    match (cql_type, json) {
        (Type::Blob, Json::Text(text)) => parse_literal(cql_type, text).map_err(|error| {
            let text = shown(json);
            ValueError::new(format!("Value '{text}' is not a valid blob representation: {error}"))
        }),
        (_, Json::Text(text)) => parse_literal(cql_type, text),
        (Type::Boolean, Json::Boolean(value)) => Ok(vec![u8::from(*value)]),
        (Type::Float | Type::Double | Type::Decimal, Json::Number(number)) => {
            parse_literal(cql_type, number)
        }
        (Type::Varint, Json::Number(number)) if !is_whole(number) => Err(ValueError::new(format!(
            "Value '{number}' is not a valid representation of a varint value"
        ))),
        (
            Type::TinyInt
            | Type::SmallInt
            | Type::Int
            | Type::BigInt
            | Type::Varint
            | Type::Timestamp,
            Json::Number(number),
        ) if is_whole(number) => parse_literal(cql_type, number),
        _ => Err(wrong()),
    }
}

/// Whether a number has neither a fraction nor an exponent.
fn is_whole(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

fn expected(wanted: &str, found: &Json) -> ValueError {
    let class = match found {
        Json::Null => "null",
        Json::Boolean(_) => "Boolean",
        Json::Text(_) => "String",
        Json::List(_) => "ArrayList",
        Json::Object(_) => "LinkedHashMap",
        Json::Number(number) if !is_whole(number) => "Double",
        Json::Number(number) if number.parse::<i32>().is_ok() => "Integer",
        Json::Number(number) if number.parse::<i64>().is_ok() => "Long",
        Json::Number(_) => "BigInteger",
    };
    ValueError::new(format!("Expected {wanted}, but got a {class}: {}", shown(found)))
}

/// What values of a type come from, in the words of Cassandra's errors.
fn wanted(cql_type: &CqlType) -> &'static str {
    match cql_type {
        CqlType::Text => "a UTF-8 string",
        CqlType::Ascii => "an ASCII string",
        CqlType::Blob => "a string representation of a blob value",
        CqlType::Boolean => "a boolean value",
        CqlType::TinyInt => "a byte value",
        CqlType::SmallInt => "a short value",
        CqlType::Int => "an int value",
        CqlType::BigInt | CqlType::Counter => "a bigint value",
        CqlType::Varint => "a varint value",
        CqlType::Decimal => "a decimal value",
        CqlType::Float => "a float value",
        CqlType::Double => "a double value",
        CqlType::Timestamp => "a long or a datestring representation of a timestamp value",
        CqlType::Date => "a string representation of a date value",
        CqlType::Time => "a string representation of a time value",
        CqlType::Duration => "a string representation of a duration",
        CqlType::Inet => "a string representation of an inet value",
        CqlType::Uuid => "a string representation of a uuid",
        CqlType::TimeUuid => "a string representation of a timeuuid",
        CqlType::List { .. } | CqlType::Vector { .. } | CqlType::Tuple(_) => "a list",
        CqlType::Set { .. } => "a list (representing a set)",
        CqlType::Map { .. } | CqlType::Udt(_) => "a map",
    }
}

/// JSON in an error: its beginning, as Java shows it.
fn shown(json: &Json) -> String {
    const SHOWN_BYTES_MAX: usize = 100;
    let mut out = String::new();
    push_shown(&mut out, json, SHOWN_BYTES_MAX);
    out.truncate(out.floor_char_boundary(SHOWN_BYTES_MAX));
    out
}

fn push_shown(out: &mut String, json: &Json, bytes_max: usize) {
    if out.len() > bytes_max {
        return;
    }
    match json {
        Json::Null => out.push_str("null"),
        Json::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(text) | Json::Text(text) => out.push_str(text),
        Json::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                push_shown(out, item, bytes_max);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(name);
                out.push('=');
                push_shown(out, member, bytes_max);
            }
            out.push('}');
        }
    }
}
