//! Values as text: what CQL's literals and strings mean, and values written as literals.
//!
//! [`parse_literal`] takes the text of one constant of a native type, without its quotes; the CQL
//! parser takes collections, tuples and user types apart and asks for each constant in turn. What
//! is accepted is what Apache Cassandra 5.0 accepts, except where that needs something this crate
//! does not have: a clock (`'now'` as a timestamp), a resolver (host names as `inet`), or a time
//! zone database (`PST`, `Europe/Berlin`; offsets, `Z`, `UTC` and `GMT` are understood).
//!
//! [`format_value`] writes any value as a literal, as Cassandra shows it.

mod datetime;
mod duration;
mod format;
mod parse;
#[cfg(test)]
mod tests;

pub use datetime::{add_months, push_rfc3339_micros};
pub use duration::{format_duration, parse_duration};
pub use format::format_value;
pub(crate) use format::push_native;
pub use parse::parse_literal;

/// Texts are quoted in errors up to this many bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// The text as an error shows it.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}
