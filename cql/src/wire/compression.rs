//! LZ4, as versions 3 and 4 use it for bodies and version 5 for segments.
//!
//! A peer declares how long the data will be once inflated. That length is checked twice before
//! anything is allocated: against the caller's limit, and against what LZ4 can possibly make of the
//! bytes that are there, so a peer cannot have more memory than 255 times what it sent.

use bytes::Bytes;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use super::encode::patch_int;
use super::error::WireError;
use super::frame::{FrameHeader, HEADER_BYTES, frame_flags};

/// What client and server agreed on at STARTUP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// LZ4 blocks.
    Lz4,
}

impl Compression {
    /// The names that STARTUP's `COMPRESSION` can have.
    pub const SUPPORTED: [&str; 1] = ["lz4"];

    /// The compression of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        name.eq_ignore_ascii_case("lz4").then_some(Compression::Lz4)
    }
}

/// No byte of an LZ4 block stands for more inflated bytes than this.
const LZ4_RATIO_MAX: usize = 255;
/// Length of the prefix of a compressed body: the inflated length, big endian.
const BODY_PREFIX_BYTES: usize = 4;
/// Shorter bodies and payloads are sent as they are: compressing them costs more than it saves.
pub(crate) const DEFLATE_BYTES_MIN: usize = 512;

/// Inflates a block that must give exactly `inflated_bytes`.
pub(crate) fn inflate(block: &[u8], inflated_bytes: usize) -> Result<Vec<u8>, WireError> {
    if inflated_bytes > block.len().saturating_mul(LZ4_RATIO_MAX) {
        let block_bytes = block.len();
        return Err(WireError::frame(format!(
            "{block_bytes} compressed bytes cannot hold {inflated_bytes}"
        )));
    }
    let mut inflated = vec![0; inflated_bytes];
    match decompress_into(block, &mut inflated) {
        Ok(length) if length == inflated_bytes => Ok(inflated),
        Ok(length) => Err(WireError::frame(format!(
            "compressed data says {inflated_bytes} bytes and holds {length}"
        ))),
        Err(error) => Err(WireError::frame(format!("broken compressed data: {error}"))),
    }
}

/// Appends the block that `data` deflates to; if it is not shorter, appends nothing and says so.
pub(crate) fn deflate(data: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + get_maximum_output_size(data.len()), 0);
    let block = out.get_mut(start..).unwrap_or_default();
    match compress_into(data, block) {
        Ok(length) if length < data.len() => {
            out.truncate(start + length);
            true
        }
        _ => {
            out.truncate(start);
            false
        }
    }
}

/// Inflates a body of v3 or v4: a length and a block.
pub(crate) fn inflate_body(body: &[u8], body_bytes_max: u32) -> Result<Bytes, WireError> {
    let Some((prefix, block)) = body.split_first_chunk::<BODY_PREFIX_BYTES>() else {
        return Err(WireError::frame("compressed body without its length"));
    };
    let declared = u32::from_be_bytes(*prefix);
    if declared > body_bytes_max {
        return Err(WireError::frame(format!(
            "compressed body of {declared} bytes, at most {body_bytes_max} are allowed"
        )));
    }
    let declared = usize::try_from(declared).expect("usize has at least 32 bits");
    if declared == 0 {
        // Some encoders write an empty block, some a block that says so in one byte.
        return Ok(Bytes::new());
    }
    inflate(block, declared).map(Bytes::from)
}

/// Appends complete frames of v3 or v4, their bodies compressed where that makes them shorter.
pub(crate) fn compress_bodies(frames: &[u8], out: &mut Vec<u8>) {
    for frame in super::segment::frames_of(frames) {
        let body = frame.get(HEADER_BYTES..).unwrap_or_default();
        let header = FrameHeader::decode(frame).ok().flatten();
        let start = out.len();
        match header {
            Some(mut header) if body.len() >= DEFLATE_BYTES_MIN => {
                header.flags |= frame_flags::COMPRESSED;
                out.extend_from_slice(&header.encode());
                let inflated_bytes = header.body_bytes;
                out.extend_from_slice(&inflated_bytes.to_be_bytes());
                if deflate(body, out) {
                    let body_bytes = out.len() - start - HEADER_BYTES;
                    let body_bytes = u32::try_from(body_bytes).expect("shorter than the body");
                    patch_int(out, start + HEADER_BYTES - 4, body_bytes);
                } else {
                    out.truncate(start);
                    out.extend_from_slice(frame);
                }
            }
            _ => out.extend_from_slice(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed_body(declared: u32, block: &[u8]) -> Vec<u8> {
        [&declared.to_be_bytes()[..], block].concat()
    }

    #[test]
    fn a_body_that_declares_more_than_the_limit_is_not_inflated() {
        let mut block = Vec::new();
        assert!(deflate(&[7].repeat(100_000), &mut block));
        let body = compressed_body(100_000, &block);
        assert_eq!(inflate_body(&body, 100_000).unwrap(), vec![7; 100_000]);
        assert!(inflate_body(&body, 99_999).unwrap_err().message.contains("at most 99999"));
    }

    #[test]
    fn a_body_that_declares_more_than_its_bytes_can_hold_is_not_inflated() {
        let error = inflate_body(&compressed_body(16 << 20, &[0; 100]), 16 << 20).unwrap_err();
        assert!(error.message.contains("100 compressed bytes cannot hold 16777216"));
    }

    #[test]
    fn broken_blocks_and_wrong_lengths_are_errors() {
        let mut block = Vec::new();
        assert!(deflate(&[7; 1000], &mut block));
        for declared in [999, 1001] {
            assert!(inflate_body(&compressed_body(declared, &block), 1 << 20).is_err());
        }
        assert!(inflate_body(&[0, 0, 0], 1 << 20).is_err());
        assert!(inflate_body(&compressed_body(10, &[0xFF; 3]), 1 << 20).is_err());
        assert_eq!(inflate_body(&compressed_body(0, &[0]), 1 << 20).unwrap(), Bytes::new());
    }

    #[test]
    fn data_that_does_not_shrink_is_left_alone() {
        let mut out = b"before".to_vec();
        assert!(!deflate(b"abc", &mut out));
        assert_eq!(out, b"before");
    }
}
