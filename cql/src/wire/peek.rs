//! A look into an EXECUTE whose turn has not come yet.
//!
//! Whoever holds several requests wants to know what partitions they are about before it runs the
//! first, so that memory is fetched meanwhile. This finds the statement's id and single values, and
//! promises nothing else: whether the frame is well-formed is for [`super::Request::parse`] to say.

use super::cursor::{Cursor, RawValue};
use super::extensions::Extensions;
use super::frame::{Frame, Opcode, Version, frame_flags};
use super::request::query_flags;

/// An EXECUTE, seen from afar.
#[derive(Clone, Debug)]
pub struct PeekedExecute<'f> {
    /// The prepared statement.
    pub id: &'f [u8],
    value_count: u16,
    values: Cursor<'f>,
}

impl<'f> PeekedExecute<'f> {
    /// Looks into a frame. `None` when it is anything but an EXECUTE with values by position.
    pub fn new(frame: &'f Frame, extensions: Extensions) -> Option<Self> {
        let Frame { header, body } = frame;
        if header.opcode != Opcode::Execute as u8 || header.has(frame_flags::CUSTOM_PAYLOAD) {
            return None;
        }
        let mut cursor = Cursor::new(body);
        let id = cursor.short_bytes("prepared statement id").ok()?;
        if extensions.has_result_metadata_id(header.version) {
            cursor.short_bytes("result metadata id").ok()?;
        }
        cursor.short("consistency level").ok()?;
        let flags = if header.version >= Version::V5 {
            u32::from_be_bytes(cursor.array("flags").ok()?)
        } else {
            u32::from(cursor.byte("flags").ok()?)
        };
        if flags & (query_flags::VALUES | query_flags::NAMES) != query_flags::VALUES {
            return None;
        }
        let value_count = cursor.short("number of values").ok()?;
        Some(PeekedExecute { id, value_count, values: cursor })
    }

    /// The value at a position, unless it is null, unset or not there.
    pub fn value(&self, position: u16) -> Option<&'f [u8]> {
        if position >= self.value_count {
            return None;
        }
        let mut values = self.values.clone();
        for _ in 0..position {
            values.value().ok()?;
        }
        match values.value().ok()? {
            RawValue::Set(bytes) => Some(bytes),
            RawValue::Null | RawValue::Unset => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, Values};
    use bytes::Bytes;

    /// EXECUTE in v4 of statement "id" with the values "ab", null and "c".
    fn execute() -> Vec<u8> {
        let mut body = vec![0, 2, b'i', b'd', 0, 1, 0x01, 0, 3];
        body.extend([0, 0, 0, 2, b'a', b'b']);
        body.extend([0xFF; 4]);
        body.extend([0, 0, 0, 1, b'c']);
        body
    }

    fn frame(version: u8, opcode: u8, body: &[u8]) -> Frame {
        let [l0, l1, l2, l3] = (body.len() as u32).to_be_bytes();
        let header = [version, 0, 0, 1, opcode, l0, l1, l2, l3];
        let header = crate::wire::FrameHeader::decode(&header).unwrap().unwrap();
        Frame { header, body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn id_and_values_are_those_that_parsing_finds() {
        let frame = frame(4, Opcode::Execute as u8, &execute());
        let peeked = PeekedExecute::new(&frame, Extensions::default()).unwrap();
        let mut values = Values::new();
        let parsed = Request::parse(&frame, Extensions::default(), &mut values).unwrap();
        assert!(matches!(parsed, Request::Execute { id, .. } if id == peeked.id));
        let found: Vec<_> = (0..4).map(|position| peeked.value(position)).collect();
        assert_eq!(found, [Some(&b"ab"[..]), None, Some(&b"c"[..]), None]);
    }

    #[test]
    fn other_frames_and_cut_ones_show_nothing_that_is_not_there() {
        let body = execute();
        let query = frame(4, Opcode::Query as u8, &body);
        assert!(PeekedExecute::new(&query, Extensions::default()).is_none());
        for version in [3, 4, 5] {
            for length in 0..body.len() {
                let cut = frame(version, Opcode::Execute as u8, &body[..length]);
                if let Some(peeked) = PeekedExecute::new(&cut, Extensions::default()) {
                    assert_eq!(peeked.value(2), None);
                    assert_eq!(peeked.value(u16::MAX), None);
                }
            }
        }
    }
}
