//! The parser's fuzz entry: any bytes, no panic.

use super::parser::parse;

/// Longest error: excerpts and the list of what was expected, never a name or value as a whole.
const ERROR_BYTES_MAX: usize = 2_000;

/// Parses the bytes as a statement if they are text. An error must point into the text.
pub fn fuzz_statement(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(text) {
        Ok(parsed) => {
            // The tree must be safe to walk: copying and printing recurse over all of it.
            let copy = parsed.clone();
            assert_eq!(copy, parsed, "a copy equals its source");
            assert!(!format!("{:?}", copy.statement).is_empty(), "a tree prints");
        }
        Err(error) => {
            let line = usize::try_from(error.line).unwrap_or(usize::MAX);
            let line_text = line.checked_sub(1).and_then(|index| text.split('\n').nth(index));
            let length = line_text.map_or(0, |line| line.chars().count());
            let column = usize::try_from(error.column).unwrap_or(usize::MAX);
            assert!(column <= length, "error points behind its line: {error}");
            assert!(line_text.is_some(), "error points behind the text: {error}");
            assert!(error.to_string().len() < ERROR_BYTES_MAX, "an error has no bound: {error}");
        }
    }
}
