//! Segments: what surrounds the frames of v5 once a connection has started.
//!
//! ```text
//! uncompressed                          with LZ4 agreed on
//! +------------------------+---------+  +------------------------+---------+
//! | payload length         | 17 bits |  | length as sent         | 17 bits |
//! | is self-contained      |  1 bit  |  | inflated length        | 17 bits |  0: sent as it is
//! | unused                 |  6 bits |  | is self-contained      |  1 bit  |
//! | CRC24 of these 3 bytes | 3 bytes |  | unused                 |  5 bits |
//! +------------------------+---------+  | CRC24 of these 5 bytes | 3 bytes |
//! | payload                |         |  +------------------------+---------+
//! | CRC32 of the payload   | 4 bytes |  | payload, CRC32 as on the left    |
//! +------------------------+---------+  +----------------------------------+
//! ```
//! All little endian. A self-contained segment holds whole frames, one or many. A frame that does
//! not fit into a segment is spread over several that are not self-contained and hold nothing
//! else. After any mismatch the borders are lost, so every error costs the connection.

use bytes::{Buf, Bytes, BytesMut};

use super::compression::{Compression, DEFLATE_BYTES_MIN, deflate, inflate};
use super::error::WireError;
use super::frame::{FrameHeader, HEADER_BYTES};

/// Longest payload of a segment in bytes, inflated or not: what 17 bits can say.
pub const SEGMENT_PAYLOAD_BYTES_MAX: usize = (1 << LENGTH_BITS) - 1;

const LENGTH_BITS: u32 = 17;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
const CRC24_BYTES: usize = 3;
const CRC32_BYTES: usize = 4;

const CRC24_INITIAL: u32 = 0x87_5060;
const CRC24_POLYNOMIAL: u32 = 0x197_4F0B;
/// The CRC32 of the bytes FA 2D 55 CA, which the protocol puts before every payload.
const CRC32_INITIAL: u32 = 0x4477_7ED3;

/// A segment's payload, inflated, its checksums verified.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) payload: Bytes,
    pub(crate) is_self_contained: bool,
}

/// A segment's header, its checksum verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SegmentHeader {
    sent_bytes: usize,
    /// `None` if the payload is sent as it is.
    inflated_bytes: Option<usize>,
    is_self_contained: bool,
}

/// Bytes of a header before its CRC24.
fn header_bytes(compression: Compression) -> usize {
    match compression {
        Compression::None => 3,
        Compression::Lz4 => 5,
    }
}

impl SegmentHeader {
    /// Reads the header at the front of `bytes`; `None` while it is incomplete.
    fn decode(bytes: &[u8], compression: Compression) -> Result<Option<Self>, WireError> {
        let Some((fields, rest)) = bytes.split_at_checked(header_bytes(compression)) else {
            return Ok(None);
        };
        let Some(&[c0, c1, c2]) = rest.first_chunk::<CRC24_BYTES>() else { return Ok(None) };
        if crc24(fields) != u32::from_le_bytes([c0, c1, c2, 0]) {
            return Err(WireError::connection("corrupt segment header: CRC24 mismatch"));
        }
        let mut bits = fields.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        let sent_bytes = take_length(&mut bits);
        let inflated_bytes = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(take_length(&mut bits)).filter(|&length| length > 0),
        };
        Ok(Some(SegmentHeader { sent_bytes, inflated_bytes, is_self_contained: bits & 1 == 1 }))
    }

    fn encode(self, compression: Compression, out: &mut Vec<u8>) {
        let start = out.len();
        let mut bits = u64::from(self.is_self_contained);
        if compression == Compression::Lz4 {
            put_length(&mut bits, self.inflated_bytes.unwrap_or(0));
        }
        put_length(&mut bits, self.sent_bytes);
        let bytes = bits.to_le_bytes();
        out.extend_from_slice(bytes.get(..header_bytes(compression)).unwrap_or_default());
        let crc = crc24(out.get(start..).unwrap_or_default());
        let [c0, c1, c2, _] = crc.to_le_bytes();
        out.extend_from_slice(&[c0, c1, c2]);
    }

    /// Length of the whole segment.
    fn segment_bytes(&self, compression: Compression) -> usize {
        header_bytes(compression) + CRC24_BYTES + self.sent_bytes + CRC32_BYTES
    }
}

fn take_length(bits: &mut u64) -> usize {
    let length = *bits & LENGTH_MASK;
    *bits >>= LENGTH_BITS;
    usize::try_from(length).expect("17 bits fit")
}

fn put_length(bits: &mut u64, length: usize) {
    assert!(length <= SEGMENT_PAYLOAD_BYTES_MAX, "payloads are cut to what a segment holds");
    *bits = *bits << LENGTH_BITS | length as u64;
}

/// Takes the segment at the front of `received`, if it is complete.
pub(crate) fn take_segment(
    received: &mut BytesMut,
    compression: Compression,
) -> Result<Option<Segment>, WireError> {
    let Some(header) = SegmentHeader::decode(received, compression)? else { return Ok(None) };
    if received.len() < header.segment_bytes(compression) {
        return Ok(None);
    }
    received.advance(header_bytes(compression) + CRC24_BYTES);
    let payload = received.split_to(header.sent_bytes).freeze();
    if crc32(&payload) != received.get_u32_le() {
        return Err(WireError::connection("corrupt segment payload: CRC32 mismatch"));
    }
    let payload = match header.inflated_bytes {
        None => payload,
        Some(inflated_bytes) => match inflate(&payload, inflated_bytes) {
            Ok(inflated) => Bytes::from(inflated),
            Err(error) => return Err(WireError::connection(error.message)),
        },
    };
    Ok(Some(Segment { payload, is_self_contained: header.is_self_contained }))
}

/// How many bytes the segment at the front lacks; 0 if it is complete or broken.
pub(crate) fn segment_bytes_missing(received: &[u8], compression: Compression) -> usize {
    match SegmentHeader::decode(received, compression) {
        Ok(None) => header_bytes(compression) + CRC24_BYTES - received.len(),
        Ok(Some(header)) => header.segment_bytes(compression).saturating_sub(received.len()),
        Err(_) => 0,
    }
}

/// Appends complete frames as segments: as many whole frames in each as fit, and frames that do
/// not fit into one cut over several.
pub(crate) fn encode_segments(frames: &[u8], compression: Compression, out: &mut Vec<u8>) {
    let mut packed_start = 0;
    let mut packed_end = 0;
    for frame in frames_of(frames) {
        let fits = packed_end - packed_start + frame.len() <= SEGMENT_PAYLOAD_BYTES_MAX;
        if !fits {
            put_packed(frames, packed_start..packed_end, compression, out);
            packed_start = packed_end;
        }
        packed_end += frame.len();
        if frame.len() > SEGMENT_PAYLOAD_BYTES_MAX {
            for part in frame.chunks(SEGMENT_PAYLOAD_BYTES_MAX) {
                put_segment(part, false, compression, out);
            }
            packed_start = packed_end;
        }
    }
    put_packed(frames, packed_start..packed_end, compression, out);
}

fn put_packed(
    frames: &[u8],
    range: std::ops::Range<usize>,
    compression: Compression,
    out: &mut Vec<u8>,
) {
    match frames.get(range) {
        None | Some([]) => {}
        Some(packed) => put_segment(packed, true, compression, out),
    }
}

pub(crate) fn put_segment(
    payload: &[u8],
    is_self_contained: bool,
    compression: Compression,
    out: &mut Vec<u8>,
) {
    let mut deflated = Vec::new();
    let is_deflated = compression == Compression::Lz4
        && payload.len() >= DEFLATE_BYTES_MIN
        && deflate(payload, &mut deflated);
    let (sent, inflated_bytes) =
        if is_deflated { (deflated.as_slice(), Some(payload.len())) } else { (payload, None) };
    let header = SegmentHeader { sent_bytes: sent.len(), inflated_bytes, is_self_contained };
    put_sent(header, sent, compression, out);
}

/// Appends a segment of an LZ4 connection whose payload is already a block, or claims to be one:
/// for the fuzzer. An inflated length of 0 says that it is sent as it is.
pub(crate) fn put_raw_segment(
    block: &[u8],
    inflated_bytes: usize,
    is_self_contained: bool,
    out: &mut Vec<u8>,
) {
    let inflated_bytes = Some(inflated_bytes);
    let header = SegmentHeader { sent_bytes: block.len(), inflated_bytes, is_self_contained };
    put_sent(header, block, Compression::Lz4, out);
}

fn put_sent(header: SegmentHeader, sent: &[u8], compression: Compression, out: &mut Vec<u8>) {
    out.reserve(header.segment_bytes(compression));
    header.encode(compression, out);
    out.extend_from_slice(sent);
    out.extend_from_slice(&crc32(sent).to_le_bytes());
}

/// The frames in a buffer that our own writers filled, header and body together.
pub(crate) fn frames_of(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if frames.is_empty() {
            return None;
        }
        let header = FrameHeader::decode(frames).ok().flatten();
        let header = header.expect("what is packed was written frame by frame");
        let body_bytes = usize::try_from(header.body_bytes).expect("usize has at least 32 bits");
        let parts = frames.split_at_checked(HEADER_BYTES + body_bytes);
        let (frame, rest) = parts.expect("what is packed are finished frames");
        frames = rest;
        Some(frame)
    })
}

/// The checksum of headers: 24 bits, so that a header with one stays within a word.
fn crc24(bytes: &[u8]) -> u32 {
    let mut crc = CRC24_INITIAL;
    for &byte in bytes {
        crc ^= u32::from(byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x100_0000 != 0 {
                crc ^= CRC24_POLYNOMIAL;
            }
        }
    }
    crc
}

fn crc32(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(CRC32_INITIAL);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What cassandra-driver 3.30.1 computes for the same bytes.
    #[test]
    fn checksums_are_those_of_other_implementations() {
        assert_eq!(crc24(&[0x56, 0x34, 0x12]), 0xF5_230F);
        assert_eq!(crc24(&[0, 0, 0]), 0x7D_E777);
        assert_eq!(crc24(&[0x90, 0x78, 0x56, 0x34, 0x12]), 0x56_49A6);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[0xFA, 0x2D, 0x55, 0xCA]);
        assert_eq!(hasher.finalize(), CRC32_INITIAL);
    }

    fn take(bytes: &[u8], compression: Compression) -> Result<Option<Segment>, WireError> {
        take_segment(&mut BytesMut::from(bytes), compression)
    }

    // Made by cassandra-driver 3.30.1 from b"hello".
    const HELLO: [u8; 15] =
        [5, 0, 2, 0x19, 0x99, 0x9A, b'h', b'e', b'l', b'l', b'o', 0x74, 0x80, 0x0E, 0xB6];

    #[test]
    fn a_segment_of_the_python_driver_reads_and_encodes_the_same() {
        let segment = take(&HELLO, Compression::None).unwrap().unwrap();
        assert_eq!(segment.payload, &b"hello"[..]);
        assert!(segment.is_self_contained);
        let mut out = Vec::new();
        put_segment(b"hello", true, Compression::None, &mut out);
        assert_eq!(out, HELLO);
    }

    #[test]
    fn an_lz4_segment_of_the_python_driver_reads() {
        // An AUTH_RESPONSE of 64 letters; the block has no length before it.
        let bytes = [
            0x18, 0x00, 0x9A, 0x00, 0x04, 0x71, 0xD5, 0x9A, 0xEF, 0x05, 0x00, 0x00, 0x01, 0x0F,
            0x00, 0x00, 0x00, 0x44, 0x00, 0x00, 0x00, 0x40, 0x61, 0x01, 0x00, 0x27, 0x50, 0x61,
            0x61, 0x61, 0x61, 0x61, 0x03, 0x36, 0xE2, 0x36,
        ];
        let segment = take(&bytes, Compression::Lz4).unwrap().unwrap();
        assert_eq!(segment.payload.len(), 77);
        assert_eq!(segment.payload[13..], [b'a'; 64]);
        // One that did not shrink, so that its inflated length says 0.
        let bytes =
            [9, 0, 0, 0, 4, 0xC2, 0xB8, 0x95, 5, 0, 0, 1, 5, 0, 0, 0, 0, 0xB5, 0x55, 0x74, 0x86];
        let segment = take(&bytes, Compression::Lz4).unwrap().unwrap();
        assert_eq!(segment.payload.len(), 9);
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_any_prefix_waits() {
        for position in 0..HELLO.len() {
            assert!(take(&HELLO[..position], Compression::None).unwrap().is_none());
            let missing = segment_bytes_missing(&HELLO[..position], Compression::None);
            assert!(missing > 0 && position + missing <= HELLO.len());
            for bit in 0..8 {
                let mut bytes = HELLO;
                bytes[position] ^= 1 << bit;
                assert!(take(&bytes, Compression::None).is_err(), "byte {position} bit {bit}");
            }
        }
    }
}
