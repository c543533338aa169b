//! Why a text is not a statement, as a client sees it (native protocol error 0x2000).

use super::ast::Position;
use std::fmt;

/// Longest excerpt of the statement in an error, in characters: statements can be megabytes.
const FOUND_LENGTH_MAX: usize = 64;

/// A text that is not a CQL statement.
///
/// Displayed the way Cassandra's clients know it: `line L:C what is wrong`, or without the place if
/// it is of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    /// Characters before the place in its line, from 0.
    pub column: u32,
    /// What stands there; `<EOF>` at the end of the text.
    pub found: String,
    /// What could have stood there; empty where no such list helps.
    pub expected: String,
    /// What is wrong, in words, without the position.
    pub message: String,
    /// Whether the text is CQL and a constant in it is no value; clients are told of an invalid
    /// query then.
    pub is_of_value: bool,
}

impl SyntaxError {
    /// Something else should stand at `position`.
    pub(super) fn unexpected(position: Position, found: &str, expected: String) -> SyntaxError {
        let found = excerpt(found);
        let message = format!("no viable alternative at input '{found}' (expected {expected})");
        let (line, column, is_of_value) = (position.line, position.column, false);
        SyntaxError { line, column, found, expected, message, is_of_value }
    }

    /// What stands at `position` is wrong in itself.
    pub(super) fn invalid(position: Position, found: &str, message: String) -> SyntaxError {
        SyntaxError {
            line: position.line,
            column: position.column,
            found: excerpt(found),
            expected: String::new(),
            message,
            is_of_value: false,
        }
    }

    /// The constant at `position` is no value.
    pub(super) fn invalid_value(position: Position, found: &str, message: String) -> SyntaxError {
        SyntaxError { is_of_value: true, ..SyntaxError::invalid(position, found, message) }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_of_value {
            return f.write_str(&self.message);
        }
        write!(f, "line {}:{} {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// The text itself, or its beginning.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(FOUND_LENGTH_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}
