//! Statement text to syntax tree, with positions in every error.
//!
//! [`parse`] is a pure function of the text: it knows no schema and resolves nothing, so that its
//! result ([`ast`]) can be kept for as long as the text is. Texts come from clients and may be
//! hostile: length, nesting, markers and lists are bounded, and every recursion is counted.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

pub mod ast;
mod changefeeds;
mod definitions;
pub mod duration;
mod error;
mod filters;
mod fuzz;
mod lexer;
mod limits;
mod modifications;
mod parser;
mod redaction;
mod relations;
mod script;
mod selectors;
mod statements;
mod terms;
#[cfg(test)]
mod tests;
mod types;

pub use error::SyntaxError;
pub use filters::{FilterExpression, FilterPredicate, parse_filter};
pub use fuzz::fuzz_statement;
pub use limits::{
    BATCH_STATEMENT_COUNT_MAX, LIST_LENGTH_MAX, MARKER_COUNT_MAX, NESTING_DEPTH_MAX,
    NODE_COUNT_MAX, STATEMENT_BYTES_MAX,
};
pub use parser::parse;
pub use redaction::without_secrets;
pub use script::{SCRIPT_BYTES_MAX, ScriptStatement, split_script};
