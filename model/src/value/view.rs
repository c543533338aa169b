//! Zero-copy readers of serialized collections, tuples and vectors.
//!
//! They read hostile bytes: every element is an `Err` or lies inside the value, and bytes after the
//! last element are an error as well. After an error a reader yields nothing more. Elements are not
//! checked against their type; [`crate::value::validate`] does that.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use super::ValueError;
use super::vint::read_unsigned_vint;
use crate::codec::Cursor;
use crate::types::CqlType;

/// The elements of a serialized list or set.
#[derive(Clone, Debug)]
pub struct ListView<'a> {
    elements: Elements<'a>,
    name: &'static str,
}

impl<'a> ListView<'a> {
    /// Reads a list.
    pub fn list(bytes: &'a [u8]) -> Result<ListView<'a>, ValueError> {
        Ok(ListView { elements: Elements::new(bytes, 1, "list")?, name: "list" })
    }

    /// Reads a set.
    pub fn set(bytes: &'a [u8]) -> Result<ListView<'a>, ValueError> {
        Ok(ListView { elements: Elements::new(bytes, 1, "set")?, name: "set" })
    }

    /// How many elements are still to be read.
    pub fn remaining(&self) -> usize {
        self.elements.remaining
    }
}

impl<'a> Iterator for ListView<'a> {
    type Item = Result<&'a [u8], ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.elements.remaining == 0 {
            return self.elements.end(self.name);
        }
        self.elements.remaining -= 1;
        Some(self.elements.read(self.name))
    }
}

/// The entries of a serialized map.
#[derive(Clone, Debug)]
pub struct MapView<'a> {
    elements: Elements<'a>,
}

impl<'a> MapView<'a> {
    /// Reads a map.
    pub fn new(bytes: &'a [u8]) -> Result<MapView<'a>, ValueError> {
        Ok(MapView { elements: Elements::new(bytes, 2, "map")? })
    }

    /// How many entries are still to be read.
    pub fn remaining(&self) -> usize {
        self.elements.remaining
    }

    fn read(&mut self) -> Result<(&'a [u8], &'a [u8]), ValueError> {
        Ok((self.elements.read("map")?, self.elements.read("map")?))
    }
}

impl<'a> Iterator for MapView<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.elements.remaining == 0 {
            return self.elements.end("map");
        }
        self.elements.remaining -= 1;
        Some(self.read())
    }
}

/// A count in four bytes, then elements, each after its length in four bytes.
#[derive(Clone, Debug)]
struct Elements<'a> {
    cursor: Cursor<'a>,
    remaining: usize,
}

impl<'a> Elements<'a> {
    /// The count is checked against the bytes that are there, so callers may allocate for it.
    fn new(bytes: &'a [u8], parts: usize, name: &str) -> Result<Elements<'a>, ValueError> {
        let mut cursor = Cursor::new(bytes);
        let count = cursor.array().map(i32::from_be_bytes).map_err(|_| not_enough(name))?;
        let remaining = usize::try_from(count)
            .map_err(|_| ValueError::new(format!("The {name} has a negative size ({count})")))?;
        if remaining > cursor.rest().len() / (4 * parts) {
            return Err(not_enough(name));
        }
        Ok(Elements { cursor, remaining })
    }

    fn read(&mut self, name: &str) -> Result<&'a [u8], ValueError> {
        let value = match read_component(&mut self.cursor) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => Err(ValueError::new("Null value read when not allowed")),
            Err(_) => Err(not_enough(name)),
        };
        *self = Elements { cursor: Cursor::new(&[]), remaining: 0 };
        value
    }

    /// What follows the last element: nothing, or one error.
    fn end<T>(&mut self, name: &str) -> Option<Result<T, ValueError>> {
        if self.cursor.is_empty() {
            return None;
        }
        self.cursor = Cursor::new(&[]);
        Some(Err(ValueError::new(format!("Unexpected extraneous bytes after {name} value"))))
    }
}

fn not_enough(name: &str) -> ValueError {
    ValueError::new(format!("Not enough bytes to read a {name}"))
}

/// The bytes end too early: inside a length, or inside the value.
enum Truncated {
    Length,
    Value,
}

/// A length in four bytes and that many bytes; a negative length is null.
fn read_component<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Truncated> {
    let length = i32::from_be_bytes(cursor.array().map_err(|_| Truncated::Length)?);
    match usize::try_from(length) {
        Ok(length) => cursor.bytes(length).map(Some).map_err(|_| Truncated::Value),
        Err(_) => Ok(None),
    }
}

/// The fields of a serialized tuple or user-defined type, null as `None`.
///
/// Yields the fields that are there: a value may have fewer than its type declares (the others are
/// null) and this reader does not know how many there may be.
#[derive(Clone, Debug)]
pub struct TupleView<'a> {
    cursor: Cursor<'a>,
    index: usize,
}

impl<'a> TupleView<'a> {
    /// Reads a tuple or user-defined type.
    pub fn new(bytes: &'a [u8]) -> TupleView<'a> {
        TupleView { cursor: Cursor::new(bytes), index: 0 }
    }
}

impl<'a> Iterator for TupleView<'a> {
    type Item = Result<Option<&'a [u8]>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let field = read_component(&mut self.cursor);
        if field.is_err() {
            self.cursor = Cursor::new(&[]);
        }
        Some(field.map_err(|truncated| {
            let what = match truncated {
                Truncated::Length => "size of ",
                Truncated::Value => "",
            };
            ValueError::new(format!("Not enough bytes to read {what}{index}th component"))
        }))
    }
}

/// The elements of a serialized vector: side by side when the element type has a fixed length,
/// else each after its length as an unsigned vint.
#[derive(Clone, Debug)]
pub struct VectorView<'a> {
    cursor: Cursor<'a>,
    remaining: u16,
    element: &'a CqlType,
    dimension: u16,
    element_bytes: Option<usize>,
}

impl<'a> VectorView<'a> {
    /// Reads a `vector<element, dimension>`.
    pub fn new(element: &'a CqlType, dimension: u16, bytes: &'a [u8]) -> VectorView<'a> {
        VectorView {
            cursor: Cursor::new(bytes),
            remaining: dimension,
            element,
            dimension,
            element_bytes: fixed_bytes_in_vector(element),
        }
    }

    fn name(&self) -> String {
        format!("vector<{}, {}>", self.element, self.dimension)
    }

    fn read(&mut self) -> Option<&'a [u8]> {
        let length = match self.element_bytes {
            Some(length) => length,
            None => usize::try_from(read_unsigned_vint(&mut self.cursor)?).ok()?,
        };
        self.cursor.bytes(length).ok()
    }
}

impl<'a> Iterator for VectorView<'a> {
    type Item = Result<&'a [u8], ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            if self.cursor.is_empty() {
                return None;
            }
            let count = self.cursor.rest().len();
            self.cursor = Cursor::new(&[]);
            let name = self.name();
            let text = format!("Unexpected {count} extraneous bytes after {name} value");
            return Some(Err(ValueError::new(text)));
        }
        self.remaining -= 1;
        let element = self.read();
        if element.is_none() {
            self.remaining = 0;
            self.cursor = Cursor::new(&[]);
        }
        Some(element.ok_or_else(|| not_enough(&self.name())))
    }
}

/// The length in bytes of every element of this type inside a vector, `None` when each element
/// carries its own length. Cassandra treats the small integers, dates and times as variable.
pub fn fixed_bytes_in_vector(element: &CqlType) -> Option<usize> {
    match element {
        CqlType::Boolean => Some(1),
        CqlType::Int | CqlType::Float => Some(4),
        CqlType::BigInt | CqlType::Double | CqlType::Timestamp => Some(8),
        CqlType::Uuid | CqlType::TimeUuid => Some(16),
        CqlType::Vector { element, dimension } => {
            fixed_bytes_in_vector(element)?.checked_mul(usize::from(*dimension))
        }
        _ => None,
    }
}
