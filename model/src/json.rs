//! Values as JSON, as Cassandra's `SELECT JSON` prints them; `document` and `decode` read what its
//! `INSERT JSON` takes.
//!
//! ```text
//! text, ascii                      "…", with ", \ and control characters escaped
//! int … varint, decimal, counter   the number
//! float, double                    the number; NaN and the infinities, which JSON lacks, are null
//! boolean                          true, false
//! blob                             "0x…"
//! dates, times, uuids, inet        "…"
//! list, set, vector, tuple         […], a tuple's missing fields null
//! map                              {…}: a key that is no string is the text of its JSON
//! user type                        {…}, a field's name in double quotes of its own when it is not
//!                                  lower case
//! ```
//!
//! Where Cassandra loses something it is kept, as in [`crate::literal::format_value`]: years before
//! year 1 carry a sign, and the zero duration is `0s`. Empty values of types other than text and blob
//! are `""`, as there.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod decode;
mod document;

pub use decode::{name_from_json, value_from_json};
pub use document::Json;

use crate::hex::push_hex;
use crate::literal::push_native;
use crate::types::CqlType;
use crate::value::{ListView, MapView, TupleView, ValueError, VectorView};

/// What stands between values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStyle {
    /// A blank after every comma and colon, as in `SELECT JSON`.
    Spaced,
    /// Nothing.
    Compact,
}

impl JsonStyle {
    /// What separates elements.
    pub fn comma(self) -> &'static str {
        match self {
            JsonStyle::Spaced => ", ",
            JsonStyle::Compact => ",",
        }
    }

    /// What separates a name from its value.
    pub fn colon(self) -> &'static str {
        match self {
            JsonStyle::Spaced => ": ",
            JsonStyle::Compact => ":",
        }
    }
}

/// Appends the value as JSON.
///
/// Errors when the bytes are not a value of the type; what was appended then is no JSON.
pub fn push_json_value(
    out: &mut String,
    style: JsonStyle,
    cql_type: &CqlType,
    value: &[u8],
) -> Result<(), ValueError> {
    match cql_type {
        CqlType::Text | CqlType::Ascii => push_json_string(out, as_text(value)?),
        CqlType::Blob => {
            out.push_str("\"0x");
            push_hex(out, value);
            out.push('"');
        }
        CqlType::Tuple(fields) => {
            out.push('[');
            push_fields(out, style, fields.iter().map(|field| (None, field)), value)?;
            out.push(']');
        }
        CqlType::Udt(udt) => {
            out.push('{');
            let fields = udt.fields.iter().map(|(name, field)| (Some(&**name), field));
            push_fields(out, style, fields, value)?;
            out.push('}');
        }
        _ if !cql_type.has_parts() => push_native_value(out, cql_type, value)?,
        CqlType::List { element, .. } => {
            push_elements(out, style, element, ListView::list(value)?)?;
        }
        CqlType::Set { element, .. } => push_elements(out, style, element, ListView::set(value)?)?,
        CqlType::Vector { element, dimension } => {
            push_elements(out, style, element, VectorView::new(element, *dimension, value))?;
        }
        CqlType::Map { key, value: element, .. } => {
            out.push('{');
            for (index, entry) in MapView::new(value)?.enumerate() {
                let (entry_key, entry_value) = entry?;
                if index > 0 {
                    out.push_str(style.comma());
                }
                push_json_key(out, key, entry_key)?;
                out.push_str(style.colon());
                push_json_value(out, style, element, entry_value)?;
            }
            out.push('}');
        }
        _ => unreachable!("types with parts are listed above"),
    }
    Ok(())
}

/// Appends a map's key: its JSON when that is a string, else its JSON, with blanks, as a string.
pub fn push_json_key(out: &mut String, cql_type: &CqlType, key: &[u8]) -> Result<(), ValueError> {
    let start = out.len();
    push_json_value(out, JsonStyle::Spaced, cql_type, key)?;
    if out.get(start..).is_some_and(|json| !json.starts_with('"')) {
        let json = out.split_off(start);
        push_json_string(out, &json);
    }
    Ok(())
}

/// Appends the name of a user type's field: names that are not lower case have double quotes inside
/// the string.
pub fn push_field_name(out: &mut String, name: &str) {
    if name.chars().any(char::is_uppercase) {
        push_json_string(out, &format!("\"{name}\""));
    } else {
        push_json_string(out, name);
    }
}

/// Appends a JSON string.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(length) = rest.bytes().position(must_be_escaped) {
        let (plain, from_special) = rest.split_at(length);
        out.push_str(plain);
        let mut chars = from_special.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(control) => {
                out.push_str("\\u00");
                let code = u32::from(control);
                for digit in [code >> 4, code & 0xf] {
                    let digit = char::from_digit(digit, 16).unwrap_or('0');
                    out.push(digit.to_ascii_uppercase());
                }
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn must_be_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn as_text(value: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(value).map_err(|_| ValueError::new("text that is not UTF-8"))
}

fn push_native_value(out: &mut String, cql_type: &CqlType, value: &[u8]) -> Result<(), ValueError> {
    let is_bare = matches!(
        cql_type,
        CqlType::TinyInt
            | CqlType::SmallInt
            | CqlType::Int
            | CqlType::BigInt
            | CqlType::Counter
            | CqlType::Varint
            | CqlType::Decimal
            | CqlType::Float
            | CqlType::Double
            | CqlType::Boolean
    );
    if value.is_empty() {
        out.push_str("\"\"");
        return Ok(());
    }
    let wrong = || ValueError::new(format!("bytes that are no {cql_type}"));
    if !is_bare {
        out.push('"');
    }
    let start = out.len();
    push_native(cql_type, value, out).ok_or_else(wrong)?;
    match cql_type {
        CqlType::Float | CqlType::Double if !out.ends_with(|c: char| c.is_ascii_digit()) => {
            out.truncate(start);
            out.push_str("null");
        }
        CqlType::Timestamp => {
            if let Some(at) = out.rfind('T') {
                out.replace_range(at..=at, " ");
            }
        }
        _ => {}
    }
    if !is_bare {
        out.push('"');
    }
    Ok(())
}

fn push_elements<'v>(
    out: &mut String,
    style: JsonStyle,
    element: &CqlType,
    items: impl Iterator<Item = Result<&'v [u8], ValueError>>,
) -> Result<(), ValueError> {
    out.push('[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(style.comma());
        }
        push_json_value(out, style, element, item?)?;
    }
    out.push(']');
    Ok(())
}

/// The fields of a tuple or user type, with their names if they have some; those that the value
/// ends before are null.
fn push_fields<'t>(
    out: &mut String,
    style: JsonStyle,
    fields: impl Iterator<Item = (Option<&'t str>, &'t CqlType)>,
    value: &[u8],
) -> Result<(), ValueError> {
    let mut values = TupleView::new(value);
    for (index, (name, field_type)) in fields.enumerate() {
        if index > 0 {
            out.push_str(style.comma());
        }
        if let Some(name) = name {
            push_field_name(out, name);
            out.push_str(style.colon());
        }
        match values.next().transpose()?.flatten() {
            Some(field) => push_json_value(out, style, field_type, field)?,
            None => out.push_str("null"),
        }
    }
    match values.next() {
        None => Ok(()),
        Some(_) => Err(ValueError::new("a value has more fields than its type")),
    }
}

#[cfg(test)]
mod tests;
