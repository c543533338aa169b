//! Statement text to syntax tree.

pub mod ast;
mod limits;

pub use limits::{
    BATCH_STATEMENT_COUNT_MAX, LIST_LENGTH_MAX, MARKER_COUNT_MAX, NESTING_DEPTH_MAX,
    STATEMENT_BYTES_MAX,
};
