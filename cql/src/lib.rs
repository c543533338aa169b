//! The language and the wire: CQL's frames and statements, as functions of bytes and text.
//!
//! - [`wire`]: native protocol v3 to v5, bytes in and bytes out, no sockets.
//! - [`syntax`]: statement text to syntax tree, with positions in every error.
//! - [`plan`]: syntax tree and schema to an executable plan; markers, binding, results.
//!
//! This crate does no IO, reads no clock and draws no randomness. Nothing here allocates from an
//! unchecked length, and no input makes it panic.

pub mod plan;
pub mod syntax;
pub mod wire;
