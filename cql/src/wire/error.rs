//! What can be wrong with bytes that a peer sent, and what the connection does about it.
//!
//! Every decoder of this module reports a [`WireError`]. It says how far the damage reaches
//! ([`ErrorScope`]) and on which stream to answer, so that the connection decides nothing by
//! looking at texts. The answer is always a protocol error (0x000A).

use std::borrow::Cow;
use std::fmt;

/// How much of the connection an error takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorScope {
    /// The position in the byte stream is lost or the peer cannot be understood: answer with
    /// ERROR, let the peer read it, then close.
    Connection,
    /// One frame is wrong, its borders are known: answer with ERROR on its stream and go on.
    Stream,
}

/// Bytes from a peer that do not follow the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// How far the damage reaches.
    pub scope: ErrorScope,
    /// The stream to answer on; 0 when it is not known.
    pub stream: i16,
    /// What is wrong, in words for the peer's developer.
    pub message: Cow<'static, str>,
}

impl WireError {
    /// An error after which the connection must be closed.
    #[cold]
    pub fn connection(message: impl Into<Cow<'static, str>>) -> Self {
        WireError { scope: ErrorScope::Connection, stream: 0, message: message.into() }
    }

    /// An error of one frame.
    #[cold]
    pub fn frame(message: impl Into<Cow<'static, str>>) -> Self {
        WireError { scope: ErrorScope::Stream, stream: 0, message: message.into() }
    }

    /// The same error, to be answered on `stream`.
    pub fn on_stream(self, stream: i16) -> Self {
        WireError { stream, ..self }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WireError {}
