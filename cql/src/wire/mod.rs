//! Native protocol frames, v3 to v5: bytes in, bytes out.
//!
//! ```text
//! socket -> FrameDecoder -> Frame -> Request::parse -> Request + Values
//! OpenRows, write_void, ErrorResponse, … -> Vec<u8> -> Framing::pack -> socket
//! ```
//!
//! What comes in is hostile until parsed: every count and length is checked against the bytes that
//! are there before anything is allocated, and every error says whether it costs the connection or
//! the one request ([`ErrorScope`]). Not here: sockets, time-outs, authentication, paging states,
//! and snappy (v3 and v4 clients are offered lz4 alone).

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

pub mod client;
mod compression;
mod cursor;
mod decoder;
mod encode;
mod error;
mod error_body;
mod event;
mod extensions;
mod frame;
pub mod fuzz;
mod metadata;
mod peek;
mod request;
mod response;
mod rows;
mod segment;
mod types;
mod values;
mod write_type;

#[cfg(test)]
mod decoder_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;

pub use compression::Compression;
pub use decoder::{FrameDecoder, Framing, READ_BYTES_MIN, RECEIVE_BUFFER_BYTES};
pub use error::{ErrorScope, WireError};
pub use error_body::{ErrorBody, ErrorResponse};
pub use event::{ChangeKind, Event, EventKind, SchemaChange, SchemaTarget};
pub use extensions::Extensions;
pub use frame::{
    Direction, FRAME_BODY_BYTES_MAX, FRAME_BODY_BYTES_MAX_PROTOCOL,
    FRAME_BODY_BYTES_MAX_UNINITIALIZED, Frame, FrameHeader, HEADER_BYTES, Opcode, Version,
    frame_flags,
};
pub use metadata::{BindMetadata, ColumnSpec, ResultMetadata};
pub use model::Consistency;
pub use peek::PeekedExecute;
pub use request::{BatchKind, BatchStatement, QueryParameters, Request, Startup, StatementSource};
pub use response::{
    EVENT_STREAM, OpenFrame, Prepared, ResponseHead, ResponseTooLarge, write_auth_success,
    write_authenticate, write_event, write_prepared, write_ready, write_schema_change,
    write_set_keyspace, write_supported, write_void,
};
pub use rows::{OpenCell, OpenRows, RowsHead, write_cell};
pub use segment::SEGMENT_PAYLOAD_BYTES_MAX;
pub use values::{BoundValues, Value, Values};
pub use write_type::WriteType;
