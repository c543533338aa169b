//! Statement texts as they may be shown to others than their author: without the secrets that the
//! statements of changefeeds carry.
//!
//! What may be secret is not found out, and need not be: everything behind the head of such a
//! statement is left out, since DESCRIBE and SHOW tell the options anyway. That also covers options
//! whose names are misspelt, and texts that are no statements.
//!
//! ```text
//! CREATE CHANGEFEED f FOR TABLE t INTO WEBHOOK <redacted>
//! ALTER CHANGEFEED f SET <redacted>
//! ```

use super::error::SyntaxError;
use std::borrow::Cow;

/// What stands in the place of what is not shown.
const REDACTED: &str = "<redacted>";
/// A text with one of these words may hold secrets.
const WORDS: &[&str] = &["CHANGEFEED", "HMAC_SECRET", "SASL"];
/// Behind one of these, options follow.
const BEFORE_OPTIONS: &[&str] = &["WITH", "SET"];

/// The text, as far as it may be shown.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    match shown_part(text) {
        Some(shown) => Cow::Owned(format!("{} {REDACTED}", shown.trim_end())),
        None => Cow::Borrowed(text),
    }
}

/// The error without what it quotes from the part of its text that is not to be shown.
pub(super) fn without_quotations(text: &str, error: SyntaxError) -> SyntaxError {
    let Some(shown) = shown_part(text) else { return error };
    let is_shown = shown.contains(&error.found) || is_name_of_option(text, &error.found);
    if is_shown || !error.found.contains(char::is_alphanumeric) {
        return error;
    }
    let message = match error.message.split_once('\'') {
        Some((before, _)) if error.expected.is_empty() => format!("{before}'{REDACTED}'"),
        Some((before, _)) => format!("{before}'{REDACTED}' (expected {})", error.expected),
        None => error.message,
    };
    SyntaxError { found: REDACTED.to_owned(), message, ..error }
}

/// Whether a word stands before an equals sign.
fn is_name_of_option(text: &str, word: &str) -> bool {
    let mut behind =
        text.match_indices(word).filter_map(|(at, _)| text.get(at..)?.get(word.len()..));
    behind.any(|behind| behind.trim_start().starts_with('='))
}

/// The beginning that may be shown of a text that may hold secrets behind it.
fn shown_part(text: &str) -> Option<&str> {
    let is_one_of = |words: &[&str], word: &str| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    let has = |list: &[&str]| words(text).any(|(_, word)| is_one_of(list, word));
    if !has(WORDS) || !(has(&["INTO"]) || has(BEFORE_OPTIONS) || text.contains('=')) {
        return None;
    }
    let options = words(text).find(|(_, word)| is_one_of(BEFORE_OPTIONS, word));
    let behind_word = options.map(|(start, word)| start.saturating_add(word.len()));
    let end = text.find(['\'', '=', '$']).into_iter().chain(behind_word).min()?;
    text.get(..end)
}

/// The words of a text and where they begin, whatever stands between them.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_apart = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let parts = text.split_inclusive(is_apart).scan(0_usize, |end, part| {
        let start = *end;
        *end = start.saturating_add(part.len());
        Some((start, part))
    });
    parts.map(move |(start, part)| (start, part.trim_end_matches(is_apart)))
}

#[cfg(test)]
mod tests {
    use super::without_secrets;
    use crate::syntax::parse;

    #[test]
    fn what_may_hold_secrets_is_shown_up_to_its_head() {
        for (text, shown) in [
            (
                "CREATE CHANGEFEED f FOR TABLE t INTO WEBHOOK 'https://h?key=hush' WITH a = 'hush'",
                "CREATE CHANGEFEED f FOR TABLE t INTO WEBHOOK <redacted>",
            ),
            (
                "alter /* ü */ changefeed f set (x 'hush')",
                "alter /* ü */ changefeed f set <redacted>",
            ),
            ("ALTER CHANGEFEED f WITH $$hush$$", "ALTER CHANGEFEED f WITH <redacted>"),
            ("ALTER CHANGEFEED f hmac_secret = hush", "ALTER CHANGEFEED f hmac_secret <redacted>"),
            (
                "CREATE CHANGEFED f INTO KAFKA 'b/t' WITH kafka.sasl.password = 'hush'",
                "CREATE CHANGEFED f INTO KAFKA <redacted>",
            ),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
        for text in [
            "DROP CHANGEFEED f",
            "SELECT a FROM t WHERE b = 'c'",
            "",
            "RESUME CHANGEFEED f FROM TIMESTAMP '2026'",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn errors_do_not_quote_what_is_not_shown() {
        for (text, said) in [
            ("ALTER CHANGEFEED f SET (hmac_secret 'hush')", "'<redacted>' (expected '.' or '='"),
            ("ALTER CHANGEFEED f SET (hmac_secret = 'hush' hush)", "'<redacted>' (expected"),
            (
                "ALTER CHANGEFEED f SET (hmac_secret = 'hush)",
                "unterminated string at input '<redacted>'",
            ),
            (
                "ALTER CHANGEFEED f SET (hmac_secret = $$hush)",
                "unterminated string at input '<redacted>'",
            ),
            (
                "ALTER CHANGEFEED f SET (hmac_secret = 7hush)",
                "malformed number at input '<redacted>'",
            ),
            ("ALTER CHANGEFEED hush.hush SET (a = 1)", "its name has no dot"),
            ("ALTER CHANGEFEED f SET (a = )", "input ')'"),
        ] {
            let error = parse(text).expect_err("it is none").to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let error = parse("ALTER CHANGEFEED f.g SET (hmac_secret = 'hush')").unwrap_err();
        assert_eq!(error.found, ".");
    }
}
