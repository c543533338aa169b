//! A script to its statements: texts with `;` between, as people keep them in files.

use super::error::SyntaxError;
use super::lexer::{Lexer, Token, TokenKind};
use super::parser::START;

/// Longest script that is read.
pub const SCRIPT_BYTES_MAX: usize = 16 << 20;

/// One statement of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptStatement<'s> {
    /// Without the `;` behind it, and without comments before it.
    pub text: &'s str,
    /// The line on which it begins, from 1.
    pub line: u32,
}

/// The statements of a script, none of them parsed. A `;` in a text, in a comment or within
/// `BEGIN … APPLY BATCH` ends none. The error is of a text or a comment that does not end, or of
/// characters that begin nothing.
pub fn split_script(text: &str) -> Result<Vec<ScriptStatement<'_>>, SyntaxError> {
    if text.len() > SCRIPT_BYTES_MAX {
        let message = format!("the script is longer than {SCRIPT_BYTES_MAX} bytes");
        return Err(SyntaxError::invalid(START, text, message));
    }
    let mut lexer = Lexer::new(text);
    let mut statements = Vec::new();
    loop {
        let first = lexer.next_token()?;
        match first.kind {
            TokenKind::End => return Ok(statements),
            TokenKind::Semicolon => continue,
            _ => {}
        }
        let last = last_of_statement(&mut lexer, first)?;
        let end = (last.position.offset as usize).saturating_add(last.length);
        let text = text.get(first.position.offset as usize..end).unwrap_or_default();
        statements.push(ScriptStatement { text, line: first.position.line });
    }
}

/// The last token of the statement that begins with `first`; the `;` behind it is passed.
fn last_of_statement(lexer: &mut Lexer<'_>, first: Token) -> Result<Token, SyntaxError> {
    let is_word = |lexer: &Lexer, token: Token, word: &str| {
        token.kind == TokenKind::Word && lexer.text_of(token).eq_ignore_ascii_case(word)
    };
    let mut is_in_batch = is_word(lexer, first, "BEGIN");
    let mut last = first;
    loop {
        let token = lexer.next_token()?;
        match token.kind {
            TokenKind::End => return Ok(last),
            TokenKind::Semicolon if !is_in_batch => return Ok(last),
            _ => {}
        }
        if is_word(lexer, last, "APPLY") && is_word(lexer, token, "BATCH") {
            is_in_batch = false;
        }
        last = token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_a_reader_would_end_them() {
        let script = "-- a; comment\nUSE ks;;\n\
                      INSERT INTO t (a) VALUES (';''') /* ; */ ; // ;\n\
                      begin unlogged batch INSERT INTO t (a) VALUES (1);\n UPDATE t SET b = 1; \
                      apply batch; CREATE FUNCTION f() AS $$ return 1; $$;\nSELECT \";\" FROM t";
        let statements = split_script(script).unwrap();
        let texts: Vec<&str> = statements.iter().map(|statement| statement.text).collect();
        assert_eq!(
            texts,
            [
                "USE ks",
                "INSERT INTO t (a) VALUES (';''')",
                "begin unlogged batch INSERT INTO t (a) VALUES (1);\n UPDATE t SET b = 1; \
                 apply batch",
                "CREATE FUNCTION f() AS $$ return 1; $$",
                "SELECT \";\" FROM t",
            ]
        );
        let lines: Vec<u32> = statements.iter().map(|statement| statement.line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 6]);
        for empty in ["", " ; ;\n", "-- nothing", "/* nothing */"] {
            assert_eq!(split_script(empty), Ok(Vec::new()), "{empty:?}");
        }
    }

    #[test]
    fn what_does_not_end_is_an_error_with_its_place() {
        for (script, line) in [("USE a;\nUSE 'b", 2), ("USE a;\n\n/* b", 3), ("\u{7}", 1)] {
            assert_eq!(split_script(script).unwrap_err().line, line, "{script:?}");
        }
        assert!(split_script(&" ".repeat(SCRIPT_BYTES_MAX + 1)).is_err());
    }
}
