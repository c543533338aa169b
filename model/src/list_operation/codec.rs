//! The bytes of an operation on a list, as it travels to the leader of its range.
//!
//! ```text
//! operation := flags:u8 column:varint timestamp:i64le deleted_at:signed
//!              [ttl_seconds:varint expires_at:signed] [clustering:slice] change
//! change    := 1 index:signed [value:slice]     set an element, or delete it
//!            | 2 index:signed                   delete an element
//!            | 3 count:varint value:slice*      remove values
//! ```
//!
//! The timestamp has a fixed width, since the leader may still put it in.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::{ListChange, ListOperation};
use crate::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use crate::row::Expiry;

const FLAG_CLUSTERING: u8 = 1;
const FLAG_EXPIRY: u8 = 2;
const FLAG_VALUE: u8 = 4;

const SET_INDEX: u8 = 1;
const DELETE_INDEX: u8 = 2;
const REMOVE_VALUES: u8 = 3;

impl ListOperation {
    /// Appends the operation's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let has_value = matches!(self.change, ListChange::SetIndex { value: Some(_), .. });
        out.push(
            flag(self.clustering.is_some(), FLAG_CLUSTERING)
                | flag(self.expiry.is_some(), FLAG_EXPIRY)
                | flag(has_value, FLAG_VALUE),
        );
        put_varint(out, u64::from(self.column));
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        put_signed(out, self.deleted_at);
        if let Some(Expiry { ttl_seconds, expires_at }) = self.expiry {
            put_varint(out, u64::from(ttl_seconds));
            put_signed(out, expires_at);
        }
        if let Some(clustering) = &self.clustering {
            put_slice(out, clustering);
        }
        match &self.change {
            ListChange::SetIndex { index, value } => {
                out.push(SET_INDEX);
                put_signed(out, i64::from(*index));
                if let Some(value) = value {
                    put_slice(out, value);
                }
            }
            ListChange::DeleteIndex { index } => {
                out.push(DELETE_INDEX);
                put_signed(out, i64::from(*index));
            }
            ListChange::RemoveValues { values } => {
                out.push(REMOVE_VALUES);
                put_varint(out, values.len() as u64);
                for value in values {
                    put_slice(out, value);
                }
            }
        }
    }

    /// Reads bytes of [`ListOperation::write`].
    pub fn read(cursor: &mut Cursor) -> Result<ListOperation, DecodeError> {
        let flags = cursor.u8()?;
        if flags & !(FLAG_CLUSTERING | FLAG_EXPIRY | FLAG_VALUE) != 0 {
            return Err(DecodeError("unknown flags of a list operation"));
        }
        let column = narrow(cursor.varint()?)?;
        let timestamp = i64::from_le_bytes(cursor.array()?);
        let deleted_at = cursor.signed()?;
        let expiry = if flags & FLAG_EXPIRY != 0 {
            let ttl_seconds = narrow(cursor.varint()?)?;
            Some(Expiry { ttl_seconds, expires_at: cursor.signed()? })
        } else {
            None
        };
        let has_clustering = flags & FLAG_CLUSTERING != 0;
        let clustering = if has_clustering { Some(cursor.slice()?.to_vec()) } else { None };
        let change = read_change(cursor, flags & FLAG_VALUE != 0)?;
        Ok(ListOperation { clustering, column, timestamp, expiry, deleted_at, change })
    }
}

fn read_change(cursor: &mut Cursor, has_value: bool) -> Result<ListChange, DecodeError> {
    let kind = cursor.u8()?;
    if has_value && kind != SET_INDEX {
        return Err(DecodeError("a value of a change that sets none"));
    }
    match kind {
        SET_INDEX => {
            let index = index(cursor)?;
            let value = if has_value { Some(cursor.slice()?.to_vec()) } else { None };
            Ok(ListChange::SetIndex { index, value })
        }
        DELETE_INDEX => Ok(ListChange::DeleteIndex { index: index(cursor)? }),
        REMOVE_VALUES => {
            let count = cursor.varint()?;
            // Each takes bytes, so the input bounds how many come; the count reserves nothing.
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(cursor.slice()?.to_vec());
            }
            Ok(ListChange::RemoveValues { values })
        }
        _ => Err(DecodeError("unknown change of a list")),
    }
}

fn narrow(value: u64) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| DecodeError("number exceeds 32 bits"))
}

fn index(cursor: &mut Cursor) -> Result<i32, DecodeError> {
    i32::try_from(cursor.signed()?).map_err(|_| DecodeError("list index exceeds 32 bits"))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
pub(crate) mod tests {
    use super::*;

    /// An operation of each kind.
    pub(crate) fn operations() -> Vec<ListOperation> {
        let expiry = Some(Expiry { ttl_seconds: 60, expires_at: 1_800_000_060 });
        let changes = [
            ListChange::SetIndex { index: 3, value: Some(b"x".to_vec()) },
            ListChange::SetIndex { index: -1, value: None },
            ListChange::DeleteIndex { index: i32::MAX },
            ListChange::RemoveValues { values: vec![b"a".to_vec(), Vec::new()] },
        ];
        changes
            .into_iter()
            .enumerate()
            .map(|(number, change)| ListOperation {
                clustering: (number % 2 == 0).then(|| b"ck".to_vec()),
                column: 300,
                timestamp: 5_000_000,
                expiry: expiry.filter(|_| number < 2),
                deleted_at: 1_800_000_000,
                change,
            })
            .collect()
    }

    #[test]
    fn the_bytes_of_list_operations_do_not_change_unnoticed() {
        let golden = [
            "07ac02404b4c000000000080c8ceb40d3cf8c8ceb40d02636b01060178",
            "02ac02404b4c000000000080c8ceb40d3cf8c8ceb40d0101",
            "01ac02404b4c000000000080c8ceb40d02636b02feffffff0f",
            "00ac02404b4c000000000080c8ceb40d0302016100",
        ];
        for (operation, golden) in operations().into_iter().zip(golden) {
            let (mut bytes, mut shown) = (Vec::new(), String::new());
            operation.write(&mut bytes);
            crate::hex::push_hex(&mut shown, &bytes);
            assert_eq!(shown, golden, "{operation:?}");
        }
    }

    #[test]
    fn operations_read_back_and_every_cut_is_an_error() {
        for operation in operations() {
            let mut bytes = Vec::new();
            operation.write(&mut bytes);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(ListOperation::read(&mut cursor), Ok(operation));
            assert!(cursor.is_empty());
            for length in 0..bytes.len() {
                let cut = ListOperation::read(&mut Cursor::new(&bytes[..length]));
                assert!(cut.is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn a_count_beyond_the_input_is_an_error() {
        let mut bytes = Vec::new();
        operations()[3].write(&mut bytes);
        // The count of values stands before them: 1 byte each for the lengths, and an "a".
        let at = bytes.len() - 4;
        bytes.splice(at..=at, [0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(ListOperation::read(&mut Cursor::new(&bytes)).is_err());
    }
}
