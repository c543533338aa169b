//! Entries for fuzzers of the decoders.
//!
//! Each takes any bytes, must not panic on them, and checks what decoding promises beyond that:
//! frames do not depend on how the bytes arrive, and memory follows the bytes received. A unit
//! test runs the seeds in `cql/corpus/` and many mutations of them through all entries.

use bytes::{Bytes, BytesMut};

use super::client::Response;
use super::compression::Compression;
use super::decoder::{FrameDecoder, Framing, RECEIVE_BUFFER_BYTES};
use super::error::{ErrorScope, WireError};
use super::extensions::Extensions;
use super::frame::{FRAME_BODY_BYTES_MAX, Frame, FrameHeader, HEADER_BYTES, Version};
use super::request::Request;
use super::segment::{put_raw_segment, put_segment, take_segment};
use super::values::Values;

/// Every state that a connection's decoder can be in; `None` is before STARTUP.
const FRAMINGS: [Option<Framing>; 5] = [
    None,
    Some(Framing::Plain),
    Some(Framing::Lz4Bodies),
    Some(Framing::Segments(Compression::None)),
    Some(Framing::Segments(Compression::Lz4)),
];

/// Decodes `data` as what a client sends, in every framing, at once and in pieces, and parses the
/// requests in the frames.
pub fn fuzz_frame(data: &[u8]) {
    let version = data.first().and_then(|&byte| Version::from_number(byte));
    for framing in FRAMINGS {
        let at_once = decode(data, framing, version, data.len().max(1));
        for piece_bytes in [1, 7] {
            assert_eq!(decode(data, framing, version, piece_bytes), at_once);
        }
        let mut values = Values::new();
        for frame in at_once.iter().filter_map(|result| result.as_ref().ok()) {
            parse(frame, &mut values);
        }
    }
}

/// The frames and errors up to the first that ends the connection.
fn decode(
    data: &[u8],
    framing: Option<Framing>,
    version: Option<Version>,
    piece_bytes: usize,
) -> Vec<Result<Frame, WireError>> {
    let mut decoder = FrameDecoder::for_requests();
    if let Some(framing) = framing {
        decoder.started(version.unwrap_or(Version::MAX), framing, FRAME_BODY_BYTES_MAX);
    }
    let mut results = Vec::new();
    for piece in data.chunks(piece_bytes) {
        decoder.read_buffer().extend_from_slice(piece);
        let room = decoder.read_buffer().capacity();
        assert!(room <= 2 * (RECEIVE_BUFFER_BYTES + data.len()), "{room} bytes for {}", data.len());
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => results.push(Ok(frame)),
                Err(error) => {
                    let is_last = error.scope == ErrorScope::Connection;
                    results.push(Err(error));
                    if is_last {
                        return results;
                    }
                }
            }
        }
    }
    results
}

/// Parses `data`, a header and a body, as a request whose body is as long as it is: a fuzzer need
/// not find the length. Also as one of every version.
pub fn fuzz_request(data: &[u8]) {
    let mut values = Values::new();
    for version in [Version::V3, Version::V4, Version::V5] {
        if let Some(frame) = frame_of(data, version) {
            parse(&frame, &mut values);
        }
    }
}

fn parse(frame: &Frame, values: &mut Values) {
    for result_metadata_id in [false, true] {
        let extensions = Extensions { result_metadata_id, ..Extensions::default() };
        match Request::parse(frame, extensions, values) {
            Err(error) => assert_eq!(error.scope, ErrorScope::Stream),
            Ok(Request::Batch { statements, .. }) => {
                let value_count: usize = statements
                    .iter()
                    .map(|statement| check_values(values, statement.values.clone(), frame))
                    .sum();
                assert_eq!(value_count, values.all().len());
                assert!(statements.len() <= frame.body.len());
            }
            Ok(_) => {
                check_values(values, 0..values.all().len(), frame);
            }
        }
    }
}

/// Every value lies in the body, and every one took its length's four bytes of it.
fn check_values(values: &Values, range: std::ops::Range<usize>, frame: &Frame) -> usize {
    let bound = values.range(range.clone());
    assert_eq!(bound.len(), range.len());
    assert!(bound.len() <= frame.body.len() / 4);
    for position in 0..bound.len() {
        assert!(bound.get(position).is_some(), "a value outside the body");
        assert_eq!(bound.name(position).is_some(), bound.are_named());
    }
    bound.len()
}

/// Parses `data`, a header and a body, as a response, in every version.
pub fn fuzz_response(data: &[u8]) {
    for version in [Version::V3, Version::V4, Version::V5] {
        if let Some(frame) = frame_of(data, version) {
            for result_metadata_id in [false, true] {
                let extensions = Extensions { result_metadata_id, ..Extensions::default() };
                if let Err(error) = Response::parse(&frame, extensions) {
                    assert_eq!(error.scope, ErrorScope::Stream);
                }
            }
        }
    }
}

fn frame_of(data: &[u8], version: Version) -> Option<Frame> {
    let (header, body) = data.split_first_chunk::<HEADER_BYTES>()?;
    let mut header = *header;
    *header.first_mut()? = version.number();
    let header = FrameHeader::decode(&header).ok()??;
    Some(Frame { header, body: Bytes::copy_from_slice(body) })
}

/// Reads `data` as a recipe for segments with correct checksums, which mutations would not find,
/// and decodes them. A recipe is a list of control byte, length (2 bytes), payload. Bits of the
/// control byte: 1 self-contained, 2 the payload is an LZ4 block that says it inflates to 256
/// bytes for each of the upper 6 bits' units.
pub fn fuzz_segment(recipe: &[u8]) {
    for compression in [Compression::None, Compression::Lz4] {
        let mut bytes = Vec::new();
        let mut rest = recipe;
        while let Some((&[control, high, low], tail)) = rest.split_first_chunk::<3>() {
            let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
            let (payload, tail) = tail.split_at_checked(length).unwrap_or((tail, &[]));
            rest = tail;
            let is_self_contained = control & 1 != 0;
            if control & 2 != 0 && compression == Compression::Lz4 {
                let inflated_bytes = usize::from(control >> 2) << 8;
                put_raw_segment(payload, inflated_bytes, is_self_contained, &mut bytes);
            } else {
                put_segment(payload, is_self_contained, compression, &mut bytes);
            }
        }
        let framing = Some(Framing::Segments(compression));
        let at_once = decode(&bytes, framing, Some(Version::V5), bytes.len().max(1));
        assert_eq!(decode(&bytes, framing, Some(Version::V5), 13), at_once);
        // The recipe's own bytes, as a segment without correct checksums.
        drop(take_segment(&mut BytesMut::from(recipe), compression));
    }
}
