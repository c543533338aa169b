//! Bytes as they arrive from a socket to complete frames.
//!
//! One [`FrameDecoder`] per connection and direction. The socket reads into its buffer
//! ([`FrameDecoder::read_buffer`]); [`FrameDecoder::next_frame`] yields each complete frame as a
//! view of that buffer. It promises:
//!
//! - No length that a peer sent is ever allocated for. The buffer grows as bytes arrive, at most
//!   doubling, and a frame beyond the limit is refused when its header is read.
//! - After an error of [`super::ErrorScope::Connection`] it yields that error for ever.
//! - After an error of [`super::ErrorScope::Stream`] it stands at the next frame.
//!
//! It knows nothing of sockets and time: whoever owns the socket limits how long a frame may stay
//! incomplete ([`FrameDecoder::bytes_missing`]).

use bytes::{Buf, BytesMut};

use super::error::{ErrorScope, WireError};
use super::frame::{
    Direction, FRAME_BODY_BYTES_MAX_PROTOCOL, FRAME_BODY_BYTES_MAX_UNINITIALIZED, Frame,
    FrameHeader, HEADER_BYTES, Version, frame_flags,
};

/// Room made for one read from the socket, in bytes: many small requests, or a page of a big one.
pub const READ_BYTES_MIN: usize = 8 * 1024;
/// Room made at once for a frame that is being received, in bytes.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Splits a connection's bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    expected: Direction,
    received: BytesMut,
    body_bytes_max: u32,
    version: Option<Version>,
    version_is_fixed: bool,
    broken: Option<WireError>,
}

impl FrameDecoder {
    /// A decoder of requests, with the limits that hold before STARTUP.
    pub fn for_requests() -> Self {
        Self::new(Direction::Request, FRAME_BODY_BYTES_MAX_UNINITIALIZED)
    }

    /// A decoder of responses, for clients.
    pub fn for_responses() -> Self {
        Self::new(Direction::Response, FRAME_BODY_BYTES_MAX_PROTOCOL)
    }

    fn new(expected: Direction, body_bytes_max: u32) -> Self {
        FrameDecoder {
            expected,
            received: BytesMut::new(),
            body_bytes_max,
            version: None,
            version_is_fixed: false,
            broken: None,
        }
    }

    /// The connection is set up: frames of other versions are errors from here on, and bodies may
    /// be as long as `body_bytes_max` (capped at [`FRAME_BODY_BYTES_MAX_PROTOCOL`]).
    pub fn started(&mut self, version: Version, body_bytes_max: u32) {
        self.version = Some(version);
        self.version_is_fixed = true;
        self.body_bytes_max = body_bytes_max.min(FRAME_BODY_BYTES_MAX_PROTOCOL);
    }

    /// The version to answer with: that of the last frame, or the greatest we speak.
    pub fn answer_version(&self) -> Version {
        self.version.unwrap_or(Version::MAX)
    }

    /// The buffer to append received bytes to, with room for more.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        let missing = self.bytes_missing().min(self.received.len()).min(READ_BYTES_MAX);
        self.received.reserve(missing.max(READ_BYTES_MIN));
        &mut self.received
    }

    /// Appends received bytes, for callers that have them elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// How many bytes the frame at the front still lacks; 0 when a frame is complete or broken,
    /// and also when nothing of the next frame has arrived.
    pub fn bytes_missing(&self) -> usize {
        if self.broken.is_some() || self.received.is_empty() {
            return 0;
        }
        match FrameHeader::decode(&self.received) {
            Ok(None) => HEADER_BYTES - self.received.len(),
            Ok(Some(header)) => frame_bytes(&header).saturating_sub(self.received.len()),
            Err(_) => 0,
        }
    }

    /// Bytes received and not yet handed out.
    pub fn bytes_buffered(&self) -> usize {
        self.received.len()
    }

    /// The next complete frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let result = self.next_plain_frame();
        if let Err(error) = &result
            && error.scope == ErrorScope::Connection
        {
            self.received = BytesMut::new();
            self.broken = Some(error.clone());
        }
        result
    }

    fn next_plain_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = FrameHeader::decode(&self.received)? else { return Ok(None) };
        self.check_header(&header).map_err(|error| error.on_stream(header.stream))?;
        if self.received.len() < frame_bytes(&header) {
            return Ok(None);
        }
        self.received.advance(HEADER_BYTES);
        let body = self.received.split_to(body_bytes(&header)).freeze();
        if header.has(frame_flags::COMPRESSED) {
            let error = WireError::frame("compressed frame, but no compression was agreed on");
            return Err(error.on_stream(header.stream));
        }
        Ok(Some(Frame { header, body }))
    }

    /// Checks what can be known before the body is there.
    fn check_header(&mut self, header: &FrameHeader) -> Result<(), WireError> {
        if header.direction != self.expected {
            return Err(WireError::connection("frame of the wrong direction"));
        }
        if self.version_is_fixed && self.version != Some(header.version) {
            return Err(WireError::connection(format!(
                "Invalid message version. Got {}/v{0} but previous messages on this connection \
                 had version {}/v{1}",
                header.version.number(),
                self.answer_version().number()
            )));
        }
        self.version = Some(header.version);
        if header.body_bytes > self.body_bytes_max {
            return Err(WireError::connection(format!(
                "frame body of {} bytes, at most {} are allowed",
                header.body_bytes, self.body_bytes_max
            )));
        }
        Ok(())
    }
}

fn body_bytes(header: &FrameHeader) -> usize {
    usize::try_from(header.body_bytes).expect("usize has at least 32 bits")
}

fn frame_bytes(header: &FrameHeader) -> usize {
    HEADER_BYTES.saturating_add(body_bytes(header))
}

#[cfg(test)]
mod tests {
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
        decoder.started(Version::V4, 200_000);
        decoder.feed(&header);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.bytes_missing(), 100_001);
    }

    #[test]
    fn room_grows_with_what_arrived_and_not_with_what_was_announced() {
        let mut decoder = FrameDecoder::for_requests();
        decoder.started(Version::V4, 16 << 20);
        decoder.feed(&[4, 0, 0, 0, 7, 0, 0xFF, 0xFF, 0xFF]); // nearly 16 MiB
        assert_eq!(decoder.next_frame(), Ok(None));
        assert!(decoder.read_buffer().capacity() <= 2 * READ_BYTES_MIN);
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
        decoder.started(Version::V4, 1000);
        decoder.feed(&[3, 0, 0, 0, 5, 0, 0, 0, 0]);
        assert!(decoder.next_frame().unwrap_err().message.contains("previous messages"));
        let mut decoder = FrameDecoder::for_requests();
        decoder.feed(&[0x84, 0, 0, 0, 5, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame().unwrap_err().scope, ErrorScope::Connection);
    }
}
