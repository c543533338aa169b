//! Partition keys as bytes.
//!
//! One column: the value's own bytes. Several: for each, its length in two bytes (big endian), the
//! value, and a zero byte. It is the form that drivers hash for token-aware routing.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use crate::codec::Cursor;
use crate::value::ValueError;

/// Longest partition key, and longest sum of clustering values, in bytes: lengths of keys are
/// unsigned 16-bit numbers in CQL's world.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// The bytes of a partition key from the serialized values of its columns, in order.
///
/// Errors when the key is empty or longer than [`KEY_BYTES_MAX`].
pub fn encode_partition_key(values: &[&[u8]]) -> Result<Vec<u8>, ValueError> {
    let key = match values {
        [value] => value.to_vec(),
        _ => encode_composite(values)?,
    };
    check_partition_key(&key)?;
    Ok(key)
}

/// Checks the length of a serialized partition key. A key of one column is the column's value.
pub fn check_partition_key(key: &[u8]) -> Result<(), ValueError> {
    if key.is_empty() {
        return Err(ValueError::new("Key may not be empty"));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(key_too_long(key.len()));
    }
    Ok(())
}

fn encode_composite(values: &[&[u8]]) -> Result<Vec<u8>, ValueError> {
    let length = values.iter().map(|value| value.len() + 3).sum();
    let mut key = Vec::with_capacity(length);
    for value in values {
        let value_length = u16::try_from(value.len()).map_err(|_| key_too_long(length))?;
        key.extend_from_slice(&value_length.to_be_bytes());
        key.extend_from_slice(value);
        key.push(0);
    }
    Ok(key)
}

fn key_too_long(length: usize) -> ValueError {
    ValueError::new(format!("Key length of {length} is longer than maximum of {KEY_BYTES_MAX}"))
}

/// The values of a partition key's columns, read from its bytes without copying.
///
/// Yields exactly as many values as the table has partition key columns, or an error and then
/// nothing.
#[derive(Clone, Debug)]
pub struct PartitionKeyParts<'a> {
    cursor: Cursor<'a>,
    composite: bool,
    remaining: usize,
}

impl<'a> PartitionKeyParts<'a> {
    /// Reads `key` as that of a table with `column_count` partition key columns
    /// ([`crate::TableDef::partition_key_count`]).
    pub fn new(column_count: usize, key: &'a [u8]) -> PartitionKeyParts<'a> {
        PartitionKeyParts {
            cursor: Cursor::new(key),
            composite: column_count > 1,
            remaining: column_count,
        }
    }

    fn read(&mut self) -> Option<&'a [u8]> {
        if !self.composite {
            return self.cursor.bytes(self.cursor.rest().len()).ok();
        }
        let length = u16::from_be_bytes(self.cursor.array().ok()?);
        let value = self.cursor.bytes(usize::from(length)).ok()?;
        let is_last = self.remaining == 0;
        (self.cursor.u8() == Ok(0) && (!is_last || self.cursor.is_empty())).then_some(value)
    }
}

impl<'a> Iterator for PartitionKeyParts<'a> {
    type Item = Result<&'a [u8], ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let value = self.read();
        if value.is_none() {
            self.remaining = 0;
        }
        Some(value.ok_or_else(|| ValueError::new("Malformed composite partition key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(column_count: usize, key: &[u8]) -> Result<Vec<&[u8]>, ValueError> {
        PartitionKeyParts::new(column_count, key).collect()
    }

    #[test]
    fn one_column_is_its_own_bytes() {
        assert_eq!(encode_partition_key(&[b"abc"]).unwrap(), b"abc");
        assert_eq!(parts(1, b"abc").unwrap(), [b"abc"]);
    }

    #[test]
    fn several_columns_are_framed() {
        let key = encode_partition_key(&[b"ab", b"", b"c"]).unwrap();
        assert_eq!(key, b"\0\x02ab\0\0\0\0\0\x01c\0");
        assert_eq!(parts(3, &key).unwrap(), [&b"ab"[..], b"", b"c"]);
    }

    #[test]
    fn empty_and_long_keys_are_refused() {
        assert_eq!(encode_partition_key(&[b""]).unwrap_err().to_string(), "Key may not be empty");
        let long = vec![1; KEY_BYTES_MAX];
        assert!(encode_partition_key(&[&long]).is_ok());
        let error = encode_partition_key(&[&long, b"x"]).unwrap_err();
        assert_eq!(error.to_string(), "Key length of 65542 is longer than maximum of 65535");
        assert!(encode_partition_key(&[&vec![1; 70_000], b"x"]).is_err());
        assert!(encode_partition_key(&[&vec![1; 70_000]]).is_err());
    }

    #[test]
    fn malformed_keys_end_in_an_error() {
        let key = encode_partition_key(&[b"ab", b"c"]).unwrap();
        for length in 0..key.len() {
            assert!(parts(2, &key[..length]).is_err(), "{length} bytes");
        }
        assert!(parts(3, &key).is_err());
        let mut trailing = key.clone();
        trailing.push(0);
        assert!(parts(2, &trailing).is_err());
        let mut wrong_end = key;
        wrong_end[4] = 1;
        assert!(parts(2, &wrong_end).is_err());
    }
}
