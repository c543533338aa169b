//! Bytes as they arrive from a socket to complete frames.
//!
//! One [`FrameDecoder`] per connection and direction. The socket reads into its buffer
//! ([`FrameDecoder::read_buffer`]); [`FrameDecoder::next_frame`] yields each complete frame as a
//! view of that buffer. Frames are plain until [`FrameDecoder::started`]; then their bodies may be
//! compressed (v3, v4) or they come in segments (v5), as [`Framing`] says. It promises:
//!
//! - No length that a peer sent is ever allocated for. The buffer grows as bytes arrive, at most
//!   doubling, and a frame beyond the limit is refused when its header is read. Inflating needs
//!   the inflated length at once, which is checked against the limit and the bytes received.
//! - After an error of [`super::ErrorScope::Connection`] it yields that error for ever.
//! - After an error of [`super::ErrorScope::Stream`] it stands at the next frame.
//!
//! It knows nothing of sockets and time: whoever owns the socket limits how long a frame may stay
//! incomplete ([`FrameDecoder::bytes_missing`]).

use bytes::{Buf, Bytes, BytesMut};

use super::compression::{Compression, compress_bodies, inflate_body};
use super::error::{ErrorScope, WireError};
use super::frame::{
    Direction, FRAME_BODY_BYTES_MAX_PROTOCOL, FRAME_BODY_BYTES_MAX_UNINITIALIZED, Frame,
    FrameHeader, HEADER_BYTES, Version, frame_flags,
};
use super::segment::{encode_segments, segment_bytes_missing, take_segment};

/// Room for one read from the socket, in bytes, below which more is made.
pub const READ_BYTES_MIN: usize = 4 * 1024;
/// Room made at once, in bytes. Several times the minimum: while requests are in work they hold
/// the buffer, and what they hold cannot be used again, so every making of room allocates.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
/// Room made at once at most, in bytes, for a frame of which as much has been received.
const RECEIVE_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What surrounds frames on a connection, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: before STARTUP, and in v3 and v4 without compression.
    Plain,
    /// Bodies may be compressed: v3 and v4 with compression.
    Lz4Bodies,
    /// Segments: v5.
    Segments(Compression),
}

impl Framing {
    /// The framing after STARTUP agreed on a version and a compression. The answer to STARTUP
    /// itself (READY or AUTHENTICATE) is still plain.
    pub fn after_startup(version: Version, compression: Compression) -> Self {
        match (version, compression) {
            (Version::V5, compression) => Framing::Segments(compression),
            (Version::V3 | Version::V4, Compression::None) => Framing::Plain,
            (Version::V3 | Version::V4, Compression::Lz4) => Framing::Lz4Bodies,
        }
    }

    /// Appends `frames`, finished frames one behind the other as the writers of this module leave
    /// them, in this framing. Plain ones can be sent as they are, without this copy. Panics if
    /// `frames` ends within a frame.
    pub fn pack(self, frames: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Plain => out.extend_from_slice(frames),
            Framing::Lz4Bodies => compress_bodies(frames, out),
            Framing::Segments(compression) => encode_segments(frames, compression, out),
        }
    }
}

/// Splits a connection's bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    expected: Direction,
    framing: Framing,
    received: BytesMut,
    /// The frames left of the last self-contained segment.
    segment: Bytes,
    /// The parts so far of a frame that is spread over segments.
    spread: BytesMut,
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
            framing: Framing::Plain,
            received: BytesMut::new(),
            segment: Bytes::new(),
            spread: BytesMut::new(),
            body_bytes_max,
            version: None,
            version_is_fixed: false,
            broken: None,
        }
    }

    /// STARTUP succeeded: what follows comes in `framing`, frames of other versions are errors,
    /// and bodies may be as long as `body_bytes_max`, inflated too (capped at
    /// [`FRAME_BODY_BYTES_MAX_PROTOCOL`]). A server calls it when it has read STARTUP, a client
    /// when it has read the answer.
    pub fn started(&mut self, version: Version, framing: Framing, body_bytes_max: u32) {
        self.version = Some(version);
        self.version_is_fixed = true;
        self.framing = framing;
        self.body_bytes_max = body_bytes_max.min(FRAME_BODY_BYTES_MAX_PROTOCOL);
    }

    /// The version to answer with: that of the last frame, or the greatest we speak.
    pub fn answer_version(&self) -> Version {
        self.version.unwrap_or(Version::MAX)
    }

    /// The buffer to append received bytes to, with room for more.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < READ_BYTES_MIN {
            let missing = self.bytes_missing().min(self.received.len());
            let room_bytes = missing.clamp(RECEIVE_BUFFER_BYTES, RECEIVE_BUFFER_BYTES_MAX);
            self.received.reserve(room_bytes);
        }
        &mut self.received
    }

    /// Appends received bytes, for callers that have them elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// How many bytes are known to be missing from the frame or segment that has begun to arrive;
    /// 0 when none has, or when it is complete or broken. More may turn out to be missing once
    /// these are there.
    pub fn bytes_missing(&self) -> usize {
        if self.broken.is_some() {
            return 0;
        }
        match self.framing {
            Framing::Segments(_) if self.received.is_empty() => frame_bytes_missing(&self.spread),
            Framing::Segments(compression) => segment_bytes_missing(&self.received, compression),
            Framing::Plain | Framing::Lz4Bodies => frame_bytes_missing(&self.received),
        }
    }

    /// Bytes received and not yet handed out.
    pub fn bytes_buffered(&self) -> usize {
        self.received.len() + self.segment.len() + self.spread.len()
    }

    /// The next complete frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let result = match self.framing {
            Framing::Plain | Framing::Lz4Bodies => self.next_frame_received(),
            Framing::Segments(compression) => self.next_frame_in_segments(compression),
        };
        if let Err(error) = &result
            && error.scope == ErrorScope::Connection
        {
            self.received = BytesMut::new();
            self.segment = Bytes::new();
            self.spread = BytesMut::new();
            self.broken = Some(error.clone());
        }
        result
    }

    fn next_frame_received(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = FrameHeader::decode(&self.received)? else { return Ok(None) };
        self.check_header(&header)?;
        if self.received.len() < frame_bytes(&header) {
            return Ok(None);
        }
        self.received.advance(HEADER_BYTES);
        let body = self.received.split_to(body_bytes(&header)).freeze();
        self.complete(header, body).map(Some)
    }

    fn next_frame_in_segments(
        &mut self,
        compression: Compression,
    ) -> Result<Option<Frame>, WireError> {
        loop {
            if !self.segment.is_empty() {
                return self.next_frame_of_segment().map(Some);
            }
            let Some(segment) = take_segment(&mut self.received, compression)? else {
                return Ok(None);
            };
            if segment.is_self_contained {
                if !self.spread.is_empty() {
                    return Err(WireError::connection(
                        "self-contained segment within a frame spread over segments",
                    ));
                }
                self.segment = segment.payload;
            } else {
                self.spread.extend_from_slice(&segment.payload);
                if let Some(frame) = self.spread_frame()? {
                    return Ok(Some(frame));
                }
            }
        }
    }

    fn next_frame_of_segment(&mut self) -> Result<Frame, WireError> {
        let cut_off = || WireError::connection("frame cut off in a self-contained segment");
        let header = FrameHeader::decode(&self.segment)?.ok_or_else(cut_off)?;
        self.check_header(&header)?;
        if self.segment.len() < frame_bytes(&header) {
            return Err(cut_off().on_stream(header.stream));
        }
        self.segment.advance(HEADER_BYTES);
        let body = self.segment.split_to(body_bytes(&header));
        self.complete(header, body)
    }

    /// The frame spread over segments, once its last part is there.
    fn spread_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(header) = FrameHeader::decode(&self.spread)? else { return Ok(None) };
        self.check_header(&header)?;
        match self.spread.len().cmp(&frame_bytes(&header)) {
            std::cmp::Ordering::Less => Ok(None),
            std::cmp::Ordering::Equal => {
                let body = std::mem::take(&mut self.spread).freeze().slice(HEADER_BYTES..);
                self.complete(header, body).map(Some)
            }
            std::cmp::Ordering::Greater => {
                let error = WireError::connection("bytes after a frame spread over segments");
                Err(error.on_stream(header.stream))
            }
        }
    }

    /// Checks what can be known before the body is there.
    fn check_header(&mut self, header: &FrameHeader) -> Result<(), WireError> {
        let error = if header.direction != self.expected {
            WireError::connection("frame of the wrong direction")
        } else if self.version_is_fixed && self.version != Some(header.version) {
            WireError::connection(format!(
                "Invalid message version. Got {}/v{0} but previous messages on this connection \
                 had version {}/v{1}",
                header.version.number(),
                self.answer_version().number()
            ))
        } else if header.body_bytes > self.body_bytes_max {
            self.version = Some(header.version);
            WireError::connection(format!(
                "frame body of {} bytes, at most {} are allowed",
                header.body_bytes, self.body_bytes_max
            ))
        } else {
            self.version = Some(header.version);
            return Ok(());
        };
        Err(error.on_stream(header.stream))
    }

    /// Inflates the body if it is compressed. The frame has been taken already, so that an error
    /// leaves the next one in front.
    fn complete(&self, header: FrameHeader, body: Bytes) -> Result<Frame, WireError> {
        if !header.has(frame_flags::COMPRESSED) {
            return Ok(Frame { header, body });
        }
        let inflated = match self.framing {
            Framing::Lz4Bodies => inflate_body(&body, self.body_bytes_max),
            Framing::Plain => {
                Err(WireError::frame("compressed frame, but no compression was agreed on"))
            }
            Framing::Segments(_) => {
                Err(WireError::frame("compressed frame, but v5 compresses segments"))
            }
        };
        let body = inflated.map_err(|error| error.on_stream(header.stream))?;
        Ok(Frame { header, body })
    }
}

fn body_bytes(header: &FrameHeader) -> usize {
    usize::try_from(header.body_bytes).expect("usize has at least 32 bits")
}

fn frame_bytes(header: &FrameHeader) -> usize {
    HEADER_BYTES.saturating_add(body_bytes(header))
}

/// How many bytes the frame at the front lacks; 0 if there is none.
fn frame_bytes_missing(bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    match FrameHeader::decode(bytes) {
        Ok(None) => HEADER_BYTES - bytes.len(),
        Ok(Some(header)) => frame_bytes(&header).saturating_sub(bytes.len()),
        Err(_) => 0,
    }
}
