//! Frames out of bytes: however they arrive, whatever surrounds them, and when they are wrong.

use super::client::RequestWriter;
use super::decoder::{READ_BYTES_MIN, RECEIVE_BUFFER_BYTES};
use super::segment::put_segment;
use super::*;

fn options_frame(stream: u8) -> [u8; 9] {
    [4, 0, 0, stream, 5, 0, 0, 0, 0]
}

#[test]
fn frames_come_out_whole_however_the_bytes_arrive() {
    let mut bytes = options_frame(1).to_vec();
    bytes.extend([4, 0, 0, 2, 0x0F, 0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend(options_frame(3));
    for chunk_bytes in 1..=bytes.len() {
        let mut decoder = FrameDecoder::for_requests();
        let mut streams = Vec::new();
        for chunk in bytes.chunks(chunk_bytes) {
            decoder.feed(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                assert_eq!(frame.body.len(), frame.header.body_bytes as usize);
                streams.push(frame.header.stream);
            }
        }
        assert_eq!(streams, [1, 2, 3]);
        assert_eq!(decoder.bytes_buffered(), 0);
    }
}

#[test]
fn bodies_are_views_of_the_receive_buffer() {
    let mut decoder = FrameDecoder::for_requests();
    let buffer = decoder.read_buffer();
    buffer.extend_from_slice(&[4, 0, 0, 2, 0x0F, 0, 0, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF]);
    let body_address = buffer[9..].as_ptr();
    assert_eq!(decoder.next_frame().unwrap().unwrap().body.as_ptr(), body_address);
}

#[test]
fn a_length_beyond_the_limit_ends_the_connection_before_the_body_comes() {
    let mut decoder = FrameDecoder::for_requests();
    decoder.feed(&[4, 0, 0, 9, 7, 0xFF, 0xFF, 0xFF, 0xFF]);
    let error = decoder.next_frame().unwrap_err();
    assert_eq!((error.scope, error.stream), (ErrorScope::Connection, 9));
    assert_eq!(decoder.answer_version(), Version::V4);
    decoder.feed(&options_frame(1));
    assert_eq!(decoder.next_frame().unwrap_err(), error);
}

#[test]
fn the_limit_is_small_before_startup_and_the_configured_one_after() {
    let header = [4, 0, 0, 0, 7, 0, 1, 0x86, 0xA1]; // 100 001 bytes
    let mut decoder = FrameDecoder::for_requests();
    decoder.feed(&header);
    assert!(decoder.next_frame().is_err());
    let mut decoder = FrameDecoder::for_requests();
    decoder.started(Version::V4, Framing::Plain, 200_000);
    decoder.feed(&header);
    assert_eq!(decoder.next_frame(), Ok(None));
    assert_eq!(decoder.bytes_missing(), 100_001);
}

#[test]
fn room_grows_with_what_arrived_and_not_with_what_was_announced() {
    let mut decoder = FrameDecoder::for_requests();
    decoder.started(Version::V4, Framing::Plain, 16 << 20);
    decoder.feed(&[4, 0, 0, 0, 7, 0, 0xFF, 0xFF, 0xFF]); // nearly 16 MiB
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.read_buffer().capacity() <= 2 * RECEIVE_BUFFER_BYTES);
}

#[test]
fn an_error_of_one_frame_leaves_the_next_one_readable() {
    let mut decoder = FrameDecoder::for_requests();
    decoder.feed(&[4, frame_flags::COMPRESSED, 0, 6, 7, 0, 0, 0, 2, 1, 2]);
    decoder.feed(&options_frame(7));
    let error = decoder.next_frame().unwrap_err();
    assert_eq!((error.scope, error.stream), (ErrorScope::Stream, 6));
    assert_eq!(decoder.next_frame().unwrap().unwrap().header.stream, 7);
}

#[test]
fn version_may_not_change_once_started_and_responses_are_not_requests() {
    let mut decoder = FrameDecoder::for_requests();
    decoder.started(Version::V4, Framing::Plain, 1000);
    decoder.feed(&[3, 0, 0, 0, 5, 0, 0, 0, 0]);
    assert!(decoder.next_frame().unwrap_err().message.contains("previous messages"));
    let mut decoder = FrameDecoder::for_requests();
    decoder.feed(&[0x84, 0, 0, 0, 5, 0, 0, 0, 0]);
    assert_eq!(decoder.next_frame().unwrap_err().scope, ErrorScope::Connection);
}

const LZ4: Compression = Compression::Lz4;

/// AUTH_RESPONSE frames with tokens of these lengths, filled with their number.
fn frames_with_tokens(version: Version, token_lengths: &[usize]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (stream, &length) in (0..).zip(token_lengths) {
        let token = vec![stream as u8; length];
        RequestWriter { out: &mut frames, version, stream }.auth_response(Some(&token));
    }
    frames
}

fn started(version: Version, framing: Framing) -> FrameDecoder {
    let mut decoder = FrameDecoder::for_requests();
    decoder.started(version, framing, FRAME_BODY_BYTES_MAX);
    decoder
}

#[test]
fn every_framing_gives_back_what_was_packed_however_it_arrives() {
    let lengths = [0, 5, 60_000, 80_000, 300_000, 131_071 - 13, 131_072 - 13, 1, 1];
    for version in [Version::V3, Version::V4, Version::V5] {
        for compression in [Compression::None, LZ4] {
            let framing = Framing::after_startup(version, compression);
            let frames = frames_with_tokens(version, &lengths);
            let mut packed = Vec::new();
            framing.pack(&frames, &mut packed);
            assert_eq!(packed.len() < frames.len() / 2, compression == LZ4);
            for chunk_bytes in [7919, 65_536, packed.len()] {
                let mut decoder = started(version, framing);
                let mut received = Vec::new();
                for chunk in packed.chunks(chunk_bytes) {
                    decoder.feed(chunk);
                    while let Some(frame) = decoder.next_frame().unwrap() {
                        received.push(frame.body.slice(4..));
                    }
                }
                assert_eq!((decoder.bytes_buffered(), decoder.bytes_missing()), (0, 0));
                assert_eq!(received.len(), lengths.len());
                for (stream, (token, length)) in received.iter().zip(lengths).enumerate() {
                    assert_eq!(token, &vec![stream as u8; length]);
                }
            }
        }
    }
}

#[test]
fn whole_frames_share_a_segment_up_to_its_limit() {
    // Header, token length and token: 100 bytes.
    let frames = frames_with_tokens(Version::V5, &[87; 1311]);
    let mut packed = Vec::new();
    Framing::Segments(Compression::None).pack(&frames, &mut packed);
    // 1310 frames fit below 131 071 bytes, the last one has a segment of its own.
    assert_eq!(packed.len(), 131_100 + 2 * 10);
}

#[test]
fn one_byte_at_a_time_through_segments_reports_what_is_missing() {
    let frames = frames_with_tokens(Version::V5, &[10, 20]);
    let framing = Framing::Segments(Compression::None);
    let mut packed = Vec::new();
    framing.pack(&frames, &mut packed);
    let mut decoder = started(Version::V5, framing);
    for (position, byte) in packed.iter().enumerate() {
        if position > 0 {
            assert!(decoder.bytes_missing() > 0);
        }
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.feed(&[*byte]);
    }
    assert_eq!(decoder.next_frame().unwrap().unwrap().body.len(), 14);
    assert_eq!(decoder.next_frame().unwrap().unwrap().body.len(), 24);
}

/// Segments made by hand: each a payload and whether it is self-contained.
fn error_of_segments(segments: &[(&[u8], bool)]) -> WireError {
    let mut bytes = Vec::new();
    for (payload, is_self_contained) in segments {
        put_segment(payload, *is_self_contained, Compression::None, &mut bytes);
    }
    let mut decoder = started(Version::V5, Framing::Segments(Compression::None));
    decoder.feed(&bytes);
    loop {
        match decoder.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "no error"),
            Err(error) => return error,
        }
    }
}

#[test]
fn segments_that_do_not_fit_together_end_the_connection() {
    let frame = frames_with_tokens(Version::V5, &[10]);
    let cut_off = error_of_segments(&[(&frame[..20], true)]);
    assert!(cut_off.message.contains("cut off"), "{cut_off}");
    let cut_off = error_of_segments(&[(&frame[..5], true)]);
    assert!(cut_off.message.contains("cut off"), "{cut_off}");
    let within = error_of_segments(&[(&frame[..12], false), (&frame, true)]);
    assert!(within.message.contains("self-contained segment within"), "{within}");
    let after = error_of_segments(&[(&[&frame[..], &[0]].concat(), false)]);
    assert!(after.message.contains("bytes after"), "{after}");
    let huge = [5, 0, 0, 9, 7, 0x7F, 0, 0, 0];
    let too_long = error_of_segments(&[(&huge, false)]);
    assert!(too_long.message.contains("at most 16777216"), "{too_long}");
    for error in [cut_off, within, after, too_long] {
        assert_eq!(error.scope, ErrorScope::Connection);
    }
    let mut compressed = frame;
    compressed[1] = frame_flags::COMPRESSED;
    let error = error_of_segments(&[(&compressed, true)]);
    assert_eq!(error.scope, ErrorScope::Stream);
}

#[test]
fn a_bad_compressed_body_costs_one_request() {
    let mut decoder = started(Version::V4, Framing::Lz4Bodies);
    let bomb = [4, frame_flags::COMPRESSED, 0, 6, 7, 0, 0, 0, 5, 0x7F, 0xFF, 0xFF, 0xFF, 0];
    decoder.feed(&bomb);
    decoder.feed(&options_frame(7));
    let error = decoder.next_frame().unwrap_err();
    assert_eq!((error.scope, error.stream), (ErrorScope::Stream, 6));
    assert!(error.message.contains("2147483647"));
    assert_eq!(decoder.next_frame().unwrap().unwrap().header.stream, 7);
}

#[test]
fn requests_in_work_do_not_make_every_read_allocate() {
    let mut decoder = started(Version::V4, Framing::Plain);
    let mut in_work = Vec::new();
    let mut buffer_count = 0;
    let mut buffer_end = std::ptr::null();
    for _ in 0..100 {
        let buffer = decoder.read_buffer();
        assert!(buffer.capacity() - buffer.len() >= READ_BYTES_MIN);
        buffer.extend_from_slice(&frames_with_tokens(Version::V4, &[100]));
        let end = buffer.as_ptr().wrapping_add(buffer.capacity());
        buffer_count += usize::from(end != buffer_end);
        buffer_end = end;
        let frame = decoder.next_frame().unwrap().unwrap();
        in_work.push(frame);
    }
    // 11 300 bytes, of which a buffer takes 12 KiB.
    assert_eq!(buffer_count, 1);
}
