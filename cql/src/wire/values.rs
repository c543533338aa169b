//! The values that a request binds, as views of its frame.
//!
//! [`Values`] is one vector of positions, reused from request to request: reading a request with a
//! hundred values allocates nothing once the vector has grown. It holds the frame's body, so it
//! can travel to the shard that runs the request; [`Values::clear`] lets go of it.

use std::ops::Range;

use bytes::Bytes;

use super::cursor::Cursor;
use super::error::WireError;
use super::frame::Version;

/// A bound value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    /// Serialized bytes of the marker's type; may be empty.
    Set(&'v [u8]),
    /// Null.
    Null,
    /// Leave the column as it is (v4+).
    Unset,
}

/// Where a value lies in the body. A length below zero is the protocol's: null or unset.
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    length: i32,
}

const LENGTH_NULL: i32 = -1;
const LENGTH_UNSET: i32 = -2;

/// The bound values of one request, of all statements of a batch.
///
/// Invariants: every slot and name lies within `body`; `names` is empty or as long as `slots`;
/// names are UTF-8.
#[derive(Clone, Debug, Default)]
pub struct Values {
    body: Bytes,
    slots: Vec<Slot>,
    names: Vec<Range<u32>>,
}

impl Values {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the values and the frame, keeps the room.
    pub fn clear(&mut self) {
        self.body = Bytes::new();
        self.slots.clear();
        self.names.clear();
    }

    /// The body of the frame that they are in.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// All values of a QUERY or EXECUTE.
    pub fn all(&self) -> BoundValues<'_> {
        self.range(0..self.slots.len())
    }

    /// The values of one statement of a batch; positions beyond the end are left out.
    pub fn range(&self, range: Range<usize>) -> BoundValues<'_> {
        let slots = self.slots.get(range.clone()).unwrap_or_default();
        let names = self.names.get(range).unwrap_or_default();
        BoundValues { body: &self.body, slots, names }
    }

    /// How many values there are, of all statements.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Begins a request: forgets the last one, holds this body.
    pub(crate) fn begin(&mut self, body: &Bytes) {
        self.clear();
        self.body = body.clone();
    }

    /// Reads `[short]` n and n values, with names before each if `named`.
    pub(crate) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        version: Version,
        named: bool,
    ) -> Result<(), WireError> {
        let item_bytes_min = if named { NAMED_VALUE_BYTES_MIN } else { VALUE_BYTES_MIN };
        let count = cursor.count(item_bytes_min, "number of values")?;
        self.slots.reserve(count);
        for _ in 0..count {
            if named {
                let name = cursor.string("name of a value")?;
                let end = position(cursor)?;
                let name_bytes = u32::try_from(name.len()).map_err(|_| too_long())?;
                self.names.push(end.saturating_sub(name_bytes)..end);
            }
            let length = cursor.int("value length")?;
            let start = position(cursor)?;
            match usize::try_from(length) {
                Ok(byte_count) => {
                    cursor.take(byte_count, "value")?;
                }
                Err(_) if length == LENGTH_NULL => {}
                Err(_) if length == LENGTH_UNSET && version >= Version::V4 => {}
                Err(_) => return Err(wrong_length(length)),
            }
            self.slots.push(Slot { start, length });
        }
        Ok(())
    }
}

/// A length alone.
const VALUE_BYTES_MIN: usize = 4;
/// The length of a name and that of a value.
const NAMED_VALUE_BYTES_MIN: usize = 6;

fn position(cursor: &Cursor<'_>) -> Result<u32, WireError> {
    u32::try_from(cursor.position()).map_err(|_| too_long())
}

#[cold]
fn wrong_length(length: i32) -> WireError {
    if length == LENGTH_UNSET {
        return WireError::frame("value of length -2: unset exists since v4");
    }
    WireError::frame(format!("the value has the length {length}"))
}

#[cold]
fn too_long() -> WireError {
    WireError::frame("body beyond 4 GiB")
}

/// The values of one statement, by position or by name.
#[derive(Clone, Copy, Debug)]
pub struct BoundValues<'v> {
    body: &'v Bytes,
    slots: &'v [Slot],
    names: &'v [Range<u32>],
}

impl<'v> BoundValues<'v> {
    /// How many values.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the client named them; then they are found by name, in no order.
    pub fn are_named(&self) -> bool {
        !self.names.is_empty()
    }

    /// The value at a position.
    pub fn get(&self, position: usize) -> Option<Value<'v>> {
        let slot = self.slots.get(position)?;
        Some(match slot.length {
            LENGTH_NULL => Value::Null,
            LENGTH_UNSET => Value::Unset,
            _ => Value::Set(self.body.get(slot.range())?),
        })
    }

    /// The bytes of the value at a position as a view that keeps the frame alive; `None` if it is
    /// null, unset, or not there.
    pub fn bytes(&self, position: usize) -> Option<Bytes> {
        match self.get(position)? {
            Value::Set(bytes) => Some(self.body.slice_ref(bytes)),
            Value::Null | Value::Unset => None,
        }
    }

    /// The name of the value at a position, if values are named.
    pub fn name(&self, position: usize) -> Option<&'v str> {
        let name = self.names.get(position)?;
        std::str::from_utf8(self.body.get(index(name.start)..index(name.end))?).ok()
    }

    /// The position of the value with this name: the last, if the client sent several.
    pub fn position_of(&self, name: &str) -> Option<usize> {
        (0..self.names.len()).rev().find(|&position| self.name(position) == Some(name))
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'v>> + use<'v> {
        let values = *self;
        (0..values.len()).filter_map(move |position| values.get(position))
    }
}

impl Slot {
    fn range(self) -> Range<usize> {
        let start = index(self.start);
        start..start + index(self.length.unsigned_abs())
    }
}

fn index(position: u32) -> usize {
    usize::try_from(position).expect("usize has at least 32 bits")
}
