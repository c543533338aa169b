//! Clustering keys as bytes whose order is the order of the values.
//!
//! Everything below CQL (memtables, sstables, slices, range tombstones, the CDC log) compares
//! clustering keys as plain bytes and never looks into them. This file makes those bytes and takes
//! them apart again.
//!
//! # Position space
//!
//! ```text
//! key       = component component …            in the order of the clustering columns
//! component = tag payload                      all bytes inverted when the column is descending
//! tag       = EMPTY (a value of zero bytes) | VALUE
//! ```
//!
//! A component delimits itself, and its first byte lies between 0x01 and 0xFE. So the first k
//! components of a key are a *prefix position*, all keys with that prefix lie between `prefix` and
//! `prefix 0xFF`, and every interval of rows is half open, `[start, end)`:
//!
//! | bound                          | position      |
//! |--------------------------------|---------------|
//! | inclusive start, exclusive end | `prefix`      |
//! | exclusive start, inclusive end | `prefix 0xFF` |
//! | the whole partition            | from empty to `0xFF` |
//!
//! # Payloads
//!
//! | type                       | payload                                                         |
//! |----------------------------|-----------------------------------------------------------------|
//! | integers, timestamp        | the value, sign bit flipped                                     |
//! | date, time, boolean        | the value                                                       |
//! | float, double              | negative: all bits inverted; else sign bit set; one NaN, last   |
//! | ascii, text, blob, inet    | bytes, then 00; inside, 00 is 01 01 and 01 is 01 02             |
//! | uuid                       | version (4 bits), then v1: time, clock and node; else the rest  |
//! | timeuuid                   | version, time, the low half with every byte's sign bit flipped  |
//! | varint                     | 80 + length or FF and 4 bytes of length, shortest bytes; the    |
//! |                            | length part inverted when negative                              |
//! | decimal                    | 01 negative, 02 zero, 03 positive; exponent (8 bytes, sign bit  |
//! |                            | flipped), pairs of digits + 1, 00; inverted when negative       |
//! | list, set, map             | components of the elements (key, value, …), then 01             |
//! | tuple, user type           | 02 for null or a component for each field up to the last that   |
//! |                            | is not null, then 01                                            |
//! | vector                     | components of the elements                                      |
//!
//! # What comes back
//!
//! Decoding gives the value that was encoded, except where values with different bytes are the
//! same key in CQL. Those come back in one form: a varint without redundant sign bytes; a decimal
//! without trailing zeros of its fraction (`1.50` and `1.5` are one row); NaN as Java's canonical
//! NaN; `true` as 1; a tuple or user-defined type with all declared fields, missing ones null.
//!
//! Durations and counters have no order, and no encoding.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{decode_bound, decode_clustering, decode_component};
pub use encode::{encode_clustering, encode_component};

pub(crate) use encode::{ordered_double, ordered_float, ordered_timeuuid, ordered_uuid};

use crate::value::ValueError;

/// Above every component: ends the range of a prefix. See the table above.
pub const AFTER: u8 = 0xff;

/// Tag of a value of zero bytes, which sorts first.
const TAG_EMPTY: u8 = 0x10;
/// Tag of any other value.
const TAG_VALUE: u8 = 0x20;
/// Inside a payload: no further element or field. Below every tag, so that shorter sorts first.
const END: u8 = 0x01;
/// Inside the payload of a tuple: a null field. Above [`END`], since trailing nulls are left out.
const NULL: u8 = 0x02;
const _: () = assert!(END < NULL && NULL < TAG_EMPTY && TAG_EMPTY < TAG_VALUE);
const _: () = assert!(!END < AFTER && !TAG_EMPTY < AFTER && !TAG_VALUE > 0x00);

/// Ends a string of bytes; bytes 0x00 and 0x01 inside it become [`ESCAPE`] and 0x01 or 0x02.
const TERMINATOR: u8 = 0x00;
/// See [`TERMINATOR`].
const ESCAPE: u8 = 0x01;

/// Varints up to this many bytes have their length in the first byte of the payload, longer ones
/// in four bytes after it.
const SHORT_VARINT_BYTES_MAX: usize = 0x7e;
/// First byte of a non-negative varint is this plus its length; of a negative one, the inverse.
const VARINT_POSITIVE: u8 = 0x80;

/// Signs of a decimal.
const DECIMAL_NEGATIVE: u8 = 1;
const DECIMAL_ZERO: u8 = 2;
const DECIMAL_POSITIVE: u8 = 3;

fn not_orderable(cql_type: &crate::types::CqlType) -> ValueError {
    ValueError::new(format!("Values of type {cql_type} have no order and cannot be part of a key"))
}
