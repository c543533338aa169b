//! Responses, appended to one output buffer.
//!
//! A response is written where it is sent from: the header with an empty length, the body behind
//! it, and then the length is put in ([`OpenFrame`]). So a connection answers any number of
//! requests into one `Vec<u8>` without copying. Rows have their own writer ([`super::OpenRows`]).

use std::fmt;

use super::encode::{
    patch_int, put_bytes, put_flags, put_int, put_short, put_short_bytes, put_string,
    put_string_list,
};
use super::event::{Event, SchemaChange};
use super::frame::{
    Direction, FRAME_BODY_BYTES_MAX_PROTOCOL, FrameHeader, HEADER_BYTES, Opcode, Version,
    frame_flags,
};
use super::metadata::{BindMetadata, ResultMetadata};

/// The stream of events, which no request asked for.
pub const EVENT_STREAM: i16 = -1;

/// Codes of the kinds of RESULT.
pub(crate) mod result_kind {
    pub(crate) const VOID: i32 = 1;
    pub(crate) const ROWS: i32 = 2;
    pub(crate) const SET_KEYSPACE: i32 = 3;
    pub(crate) const PREPARED: i32 = 4;
    pub(crate) const SCHEMA_CHANGE: i32 = 5;
}

/// What precedes every response: where it goes and what comes along with it.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// The version of the connection.
    pub version: Version,
    /// The stream of the request.
    pub stream: i16,
    /// The tracing session, if the request asked for one.
    pub tracing_id: Option<[u8; 16]>,
    /// Warnings for the user (v4+; left out below).
    pub warnings: &'a [String],
    /// Keys and values for drivers that know them (v4+; left out below).
    pub custom_payload: &'a [(&'a str, &'a [u8])],
}

impl ResponseHead<'_> {
    /// A response with nothing beside it.
    pub fn new(version: Version, stream: i16) -> Self {
        ResponseHead { version, stream, tracing_id: None, warnings: &[], custom_payload: &[] }
    }
}

/// A response beyond what the protocol can express; nothing of it is left in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTooLarge {
    /// How long its body would have been.
    pub body_bytes: usize,
}

impl fmt::Display for ResponseTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = FRAME_BODY_BYTES_MAX_PROTOCOL;
        write!(f, "result of {} bytes, a frame holds at most {max}", self.body_bytes)
    }
}

impl std::error::Error for ResponseTooLarge {}

/// A frame whose body is being written at the end of a buffer.
///
/// It must be finished or discarded, before another frame begins.
#[must_use = "the frame's length is still missing"]
#[derive(Debug)]
pub struct OpenFrame {
    start: usize,
}

impl OpenFrame {
    /// Writes the header and what precedes the message.
    pub fn begin(out: &mut Vec<u8>, head: &ResponseHead<'_>, opcode: Opcode) -> Self {
        let start = out.len();
        let has_prefix = head.version >= Version::V4;
        let warnings = if has_prefix { head.warnings } else { &[] };
        let custom_payload = if has_prefix { head.custom_payload } else { &[] };
        let mut flags = 0;
        if head.tracing_id.is_some() {
            flags |= frame_flags::TRACING;
        }
        if !warnings.is_empty() {
            flags |= frame_flags::WARNING;
        }
        if !custom_payload.is_empty() {
            flags |= frame_flags::CUSTOM_PAYLOAD;
        }
        let header = FrameHeader {
            version: head.version,
            direction: Direction::Response,
            flags,
            stream: head.stream,
            opcode: opcode.code(),
            body_bytes: 0,
        };
        out.extend_from_slice(&header.encode());
        if let Some(id) = head.tracing_id {
            out.extend_from_slice(&id);
        }
        if !warnings.is_empty() {
            put_string_list(out, warnings);
        }
        if !custom_payload.is_empty() {
            put_short(out, u16::try_from(custom_payload.len()).unwrap_or(u16::MAX));
            for (key, value) in custom_payload.iter().take(usize::from(u16::MAX)) {
                put_string(out, key);
                put_bytes(out, Some(value));
            }
        }
        OpenFrame { start }
    }

    /// Bytes of the frame so far, header included.
    pub fn bytes_written(&self, out: &[u8]) -> usize {
        out.len() - self.start
    }

    /// Puts the length into the header; a body that is too large is taken back.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ResponseTooLarge> {
        self.finish_within(out, FRAME_BODY_BYTES_MAX_PROTOCOL)
    }

    /// As [`OpenFrame::finish`], with another limit.
    pub(crate) fn finish_within(
        self,
        out: &mut Vec<u8>,
        body_bytes_max: u32,
    ) -> Result<(), ResponseTooLarge> {
        let body_bytes = self.bytes_written(out) - HEADER_BYTES;
        match u32::try_from(body_bytes) {
            Ok(length) if length <= body_bytes_max => {
                patch_int(out, self.start + HEADER_BYTES - 4, length);
                Ok(())
            }
            _ => {
                self.discard(out);
                Err(ResponseTooLarge { body_bytes })
            }
        }
    }

    /// Takes the frame back, as if it had not begun.
    pub fn discard(self, out: &mut Vec<u8>) {
        out.truncate(self.start);
    }
}

/// READY.
pub fn write_ready(out: &mut Vec<u8>, head: &ResponseHead<'_>) -> Result<(), ResponseTooLarge> {
    OpenFrame::begin(out, head, Opcode::Ready).finish(out)
}

/// AUTHENTICATE: the client must answer with a token for this authenticator's class.
pub fn write_authenticate(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    class: &str,
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Authenticate);
    put_string(out, class);
    frame.finish(out)
}

/// AUTH_SUCCESS, with the authenticator's last word if it has one.
pub fn write_auth_success(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    token: Option<&[u8]>,
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::AuthSuccess);
    put_bytes(out, token);
    frame.finish(out)
}

/// SUPPORTED: keys and the values that each can take.
///
/// Drivers need `CQL_VERSION` and `COMPRESSION` among the keys.
pub fn write_supported(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    options: &[(&str, &[&str])],
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Supported);
    put_short(out, u16::try_from(options.len()).unwrap_or(u16::MAX));
    for (key, values) in options.iter().take(usize::from(u16::MAX)) {
        put_string(out, key);
        put_string_list(out, values);
    }
    frame.finish(out)
}

/// RESULT without anything.
pub fn write_void(out: &mut Vec<u8>, head: &ResponseHead<'_>) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Result);
    put_int(out, result_kind::VOID);
    frame.finish(out)
}

/// RESULT of USE.
pub fn write_set_keyspace(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    keyspace: &str,
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Result);
    put_int(out, result_kind::SET_KEYSPACE);
    put_string(out, keyspace);
    frame.finish(out)
}

/// RESULT of a statement that changed the schema.
pub fn write_schema_change(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    change: &SchemaChange,
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Result);
    put_int(out, result_kind::SCHEMA_CHANGE);
    change.write(out, head.version);
    frame.finish(out)
}

/// EVENT, on the stream of events.
pub fn write_event(
    out: &mut Vec<u8>,
    version: Version,
    event: &Event,
) -> Result<(), ResponseTooLarge> {
    let head = ResponseHead::new(version, EVENT_STREAM);
    let frame = OpenFrame::begin(out, &head, Opcode::Event);
    event.write(out, version);
    frame.finish(out)
}

/// What a client learns about a prepared statement.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'a> {
    /// The statement's id.
    pub id: &'a [u8],
    /// The id of `result`, if [`super::Extensions::has_result_metadata_id`].
    pub result_metadata_id: Option<&'a [u8]>,
    /// The markers.
    pub bind: &'a BindMetadata,
    /// Bits to add to the markers' flags: [`super::Extensions::bind_flags`].
    pub bind_flags: u32,
    /// The columns of the result.
    pub result: &'a ResultMetadata,
}

/// RESULT of PREPARE.
pub fn write_prepared(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    prepared: &Prepared<'_>,
) -> Result<(), ResponseTooLarge> {
    let frame = OpenFrame::begin(out, head, Opcode::Result);
    put_int(out, result_kind::PREPARED);
    put_short_bytes(out, prepared.id);
    if let Some(id) = prepared.result_metadata_id {
        put_short_bytes(out, id);
    }
    prepared.bind.write(out, head.version, prepared.bind_flags);
    put_flags(out, prepared.result.flags());
    put_int(out, prepared.result.column_count());
    out.extend_from_slice(prepared.result.encoded(head.version));
    frame.finish(out)
}
