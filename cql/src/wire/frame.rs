//! Frame headers: versions, opcodes, flags, limits.
//!
//! ```text
//!  0         1       2       3       4        5       6       7       8
//! +---------+-------+-------+-------+--------+-------+-------+-------+-------+
//! | version | flags |    stream     | opcode |          body length          |
//! +---------+-------+---------------+--------+-------------------------------+
//! ```
//! All integers are big endian. The top bit of the version byte is set in responses. Versions 3, 4
//! and 5 share this header; what surrounds it differs (see [`super::decoder`]).

use bytes::Bytes;

use super::error::WireError;

/// Length of a frame header in bytes.
pub const HEADER_BYTES: usize = 9;
/// Largest body taken from a client by default, in bytes; as Cassandra since 4.1.
pub const FRAME_BODY_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Largest body that the protocol allows, in bytes: the bound of any configured limit, and of
/// what we send.
pub const FRAME_BODY_BYTES_MAX_PROTOCOL: u32 = 256 * 1024 * 1024;
/// Largest body before STARTUP succeeded, in bytes: strangers get little memory.
pub const FRAME_BODY_BYTES_MAX_UNINITIALIZED: u32 = 100_000;

const RESPONSE_BIT: u8 = 0x80;

/// Header flags; the bits can be combined.
pub mod frame_flags {
    /// The body is compressed (v3 and v4 only).
    pub const COMPRESSED: u8 = 0x01;
    /// A request asks for tracing; a response begins with the tracing session's id.
    pub const TRACING: u8 = 0x02;
    /// A bytes map precedes the message (v4+).
    pub const CUSTOM_PAYLOAD: u8 = 0x04;
    /// A string list of warnings precedes the message (v4+, responses only).
    pub const WARNING: u8 = 0x08;
    /// The client accepts a version that is not final.
    pub const USE_BETA: u8 = 0x10;
}

/// A version of the native protocol that this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// Version 3.
    V3 = 3,
    /// Version 4.
    V4 = 4,
    /// Version 5.
    V5 = 5,
}

impl Version {
    /// The lowest version spoken.
    pub const MIN: Version = Version::V3;
    /// The greatest version spoken; it also answers versions that are not.
    pub const MAX: Version = Version::V5;

    /// The version with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            3 => Some(Version::V3),
            4 => Some(Version::V4),
            5 => Some(Version::V5),
            _ => None,
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Opcode {
    Error = 0x00,
    Startup = 0x01,
    Ready = 0x02,
    Authenticate = 0x03,
    Options = 0x05,
    Supported = 0x06,
    Query = 0x07,
    Result = 0x08,
    Prepare = 0x09,
    Execute = 0x0A,
    Register = 0x0B,
    Event = 0x0C,
    Batch = 0x0D,
    AuthChallenge = 0x0E,
    AuthResponse = 0x0F,
    AuthSuccess = 0x10,
}

impl Opcode {
    /// The opcode with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Opcode::Error,
            0x01 => Opcode::Startup,
            0x02 => Opcode::Ready,
            0x03 => Opcode::Authenticate,
            0x05 => Opcode::Options,
            0x06 => Opcode::Supported,
            0x07 => Opcode::Query,
            0x08 => Opcode::Result,
            0x09 => Opcode::Prepare,
            0x0A => Opcode::Execute,
            0x0B => Opcode::Register,
            0x0C => Opcode::Event,
            0x0D => Opcode::Batch,
            0x0E => Opcode::AuthChallenge,
            0x0F => Opcode::AuthResponse,
            0x10 => Opcode::AuthSuccess,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to server.
    Request,
    /// Server to client.
    Response,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The protocol version of this frame.
    pub version: Version,
    /// Request or response.
    pub direction: Direction,
    /// Bits of [`frame_flags`].
    pub flags: u8,
    /// Which request a response belongs to; -1 for events.
    pub stream: i16,
    /// The code of an [`Opcode`], or one that does not exist.
    pub opcode: u8,
    /// Length of the body in bytes.
    pub body_bytes: u32,
}

impl FrameHeader {
    /// Reads the header at the front of `bytes`; `None` while it is incomplete.
    ///
    /// A version that is not spoken is an error as soon as the stream id is known. The text is
    /// the one that drivers look for when they negotiate downwards.
    pub fn decode(bytes: &[u8]) -> Result<Option<FrameHeader>, WireError> {
        let Some(&[first, flags, stream_high, stream_low]) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let stream = i16::from_be_bytes([stream_high, stream_low]);
        let number = first & !RESPONSE_BIT;
        let Some(version) = Version::from_number(number) else {
            // Versions 1 and 2 had one byte for the stream.
            let stream = if number < 3 { i16::from(stream_high.cast_signed()) } else { stream };
            return Err(unsupported_version(number, flags).on_stream(stream));
        };
        let Some(&[.., opcode, l0, l1, l2, l3]) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let direction =
            if first & RESPONSE_BIT == 0 { Direction::Request } else { Direction::Response };
        let body_bytes = u32::from_be_bytes([l0, l1, l2, l3]);
        Ok(Some(FrameHeader { version, direction, flags, stream, opcode, body_bytes }))
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let direction = match self.direction {
            Direction::Request => 0,
            Direction::Response => RESPONSE_BIT,
        };
        let [s0, s1] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.body_bytes.to_be_bytes();
        let version = self.version.number() | direction;
        [version, self.flags, s0, s1, self.opcode, l0, l1, l2, l3]
    }

    /// Whether a bit of [`frame_flags`] is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The next protocol version, which is still a draft.
const VERSION_BETA: u8 = 6;

#[cold]
fn unsupported_version(number: u8, flags: u8) -> WireError {
    if number == VERSION_BETA && flags & frame_flags::USE_BETA == 0 {
        return WireError::connection(
            "Beta version of the protocol used (6/v6-beta), but USE_BETA flag is unset",
        );
    }
    WireError::connection(format!(
        "Invalid or unsupported protocol version ({number}); the lowest supported version is {} \
         and the greatest is {}",
        Version::MIN.number(),
        Version::MAX.number()
    ))
}

/// A complete frame; the body is not compressed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header as it was received; its length is that of the body as it was sent.
    pub header: FrameHeader,
    /// The body, a view of the receive buffer.
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips() {
        let bytes = [0x84, 0x0A, 0xFF, 0xFE, 0x08, 0, 0, 1, 2];
        let header = FrameHeader::decode(&bytes).unwrap().unwrap();
        assert_eq!(header.version, Version::V4);
        assert_eq!(header.direction, Direction::Response);
        assert_eq!((header.stream, header.opcode, header.body_bytes), (-2, 8, 258));
        assert!(header.has(frame_flags::TRACING) && !header.has(frame_flags::COMPRESSED));
        assert_eq!(header.encode(), bytes);
        for length in 0..HEADER_BYTES {
            assert_eq!(FrameHeader::decode(&bytes[..length]), Ok(None));
        }
    }

    #[test]
    fn unknown_versions_get_the_text_that_drivers_look_for() {
        // DSE_V2, the first thing the Python and Node drivers try.
        let error = FrameHeader::decode(&[0x42, 0, 0, 7, 5, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(
            error.message,
            "Invalid or unsupported protocol version (66); the lowest supported version is 3 and \
             the greatest is 5"
        );
        assert_eq!(error.stream, 7);
        assert_eq!(error.scope, super::super::ErrorScope::Connection);
        // Version 2 has the stream in one byte and a header of 8.
        let error = FrameHeader::decode(&[2, 0, 5, 1, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(error.stream, 5);
    }

    #[test]
    fn version_6_is_refused_as_beta_unless_beta_is_asked_for() {
        let error = FrameHeader::decode(&[6, 0, 0, 1]).unwrap_err();
        assert!(error.message.contains("Beta version of the protocol used"));
        let error = FrameHeader::decode(&[6, frame_flags::USE_BETA, 0, 1]).unwrap_err();
        assert!(error.message.contains("unsupported protocol version (6)"));
    }
}
