//! Statement text to tokens, one at a time.
//!
//! A [`Lexer`] is a place in the text and nothing else: it is `Copy`, so that looking ahead is
//! working on a copy, and memory does not grow with the text. A [`Token`] is a kind and a range of
//! the text; its value is read out of the text when the parser takes it.
//!
//! Numbers carry no sign here: `a -1` is a subtraction and `VALUES (-1)` a negative number only
//! for the parser.

use super::ast::Position;
use super::duration;
use super::error::{SyntaxError, excerpt};

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Unquoted word: keyword or name.
    Word,
    /// `"…"`, not empty.
    QuotedName,
    /// `'…'`
    QuotedString,
    /// `$$…$$`
    DollarString,
    /// Decimal digits.
    Integer,
    /// Digits with a fraction or an exponent.
    Float,
    /// A UUID.
    Uuid,
    /// `0x…` with whole bytes.
    Blob,
    /// A duration, well-formed but not yet checked for its order and range.
    Duration,
    /// `(`
    ParenthesisOpen,
    /// `)`
    ParenthesisClose,
    /// `[`
    BracketOpen,
    /// `]`
    BracketClose,
    /// `{`
    BraceOpen,
    /// `}`
    BraceClose,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `:`
    Colon,
    /// `.`
    Dot,
    /// `..`
    Range,
    /// `?`
    Question,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `+`
    Plus,
    /// `+=`
    PlusEqual,
    /// `-`
    Minus,
    /// `-=`
    MinusEqual,
    /// `*`
    Star,
    /// `/`
    Slash,
    /// `%`
    Percent,
    /// End of the text.
    End,
}

impl TokenKind {
    /// How an error names it as something expected.
    pub(super) fn label(self) -> &'static str {
        match self {
            TokenKind::Word | TokenKind::QuotedName => "a name",
            TokenKind::QuotedString | TokenKind::DollarString => "a string",
            TokenKind::Integer => "an integer",
            TokenKind::Float => "a number",
            TokenKind::Uuid => "a UUID",
            TokenKind::Blob => "a blob",
            TokenKind::Duration => "a duration",
            TokenKind::ParenthesisOpen => "'('",
            TokenKind::ParenthesisClose => "')'",
            TokenKind::BracketOpen => "'['",
            TokenKind::BracketClose => "']'",
            TokenKind::BraceOpen => "'{'",
            TokenKind::BraceClose => "'}'",
            TokenKind::Comma => "','",
            TokenKind::Semicolon => "';'",
            TokenKind::Colon => "':'",
            TokenKind::Dot => "'.'",
            TokenKind::Range => "'..'",
            TokenKind::Question => "'?'",
            TokenKind::Equal => "'='",
            TokenKind::NotEqual => "'!='",
            TokenKind::Less => "'<'",
            TokenKind::LessOrEqual => "'<='",
            TokenKind::Greater => "'>'",
            TokenKind::GreaterOrEqual => "'>='",
            TokenKind::Plus => "'+'",
            TokenKind::PlusEqual => "'+='",
            TokenKind::Minus => "'-'",
            TokenKind::MinusEqual => "'-='",
            TokenKind::Star => "'*'",
            TokenKind::Slash => "'/'",
            TokenKind::Percent => "'%'",
            TokenKind::End => "end of statement",
        }
    }
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// What it is.
    pub(super) kind: TokenKind,
    /// Where it begins.
    pub(super) position: Position,
    /// How many bytes it has.
    pub(super) length: usize,
}

/// A place in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    /// The whole statement; at most [`super::STATEMENT_BYTES_MAX`] long.
    text: &'a str,
    /// What has not been read.
    rest: &'a str,
    /// Line of `rest`, from 1.
    line: u32,
    /// Characters before `rest` in its line.
    column: u32,
}

impl<'a> Lexer<'a> {
    /// At the beginning of `text`.
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, rest: text, line: 1, column: 0 }
    }

    /// The text of a token of this lexer.
    pub(super) fn text_of(&self, token: Token) -> &'a str {
        let start = token.position.offset as usize;
        self.text.get(start..start.saturating_add(token.length)).unwrap_or_default()
    }

    /// The text of the token that begins at `position`; empty if none does.
    pub(super) fn text_at(&self, position: Position) -> &'a str {
        let rest = self.text.get(position.offset as usize..).unwrap_or_default();
        let token =
            Lexer { rest, line: position.line, column: position.column, ..*self }.next_token();
        token.map_or("", |token| self.text_of(token))
    }

    /// Reads the next token; past the end there is [`TokenKind::End`] for ever.
    pub(super) fn next_token(&mut self) -> Result<Token, SyntaxError> {
        self.skip_blanks()?;
        let position = self.position();
        let (kind, length) = self.scan(position)?;
        self.advance(length);
        Ok(Token { kind, position, length })
    }

    fn position(&self) -> Position {
        let offset = u32::try_from(self.text.len() - self.rest.len()).unwrap_or(u32::MAX);
        Position { line: self.line, column: self.column, offset }
    }

    /// Moves over `length` bytes, which must end at a character's boundary.
    fn advance(&mut self, length: usize) {
        let (passed, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        for character in passed.chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
        }
    }

    /// Moves over white space and comments.
    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            let trimmed = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            self.advance(self.rest.len() - trimmed.len());
            if self.rest.starts_with("--") || self.rest.starts_with("//") {
                self.advance(self.rest.find(['\n', '\r']).unwrap_or(self.rest.len()));
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let Some(length) = comment.find("*/") else {
                    return Err(self.invalid("unterminated comment"));
                };
                self.advance(length + "/**/".len());
            } else {
                return Ok(());
            }
        }
    }

    /// An error about what stands here.
    fn invalid(&self, what: &str) -> SyntaxError {
        let message = format!("{what} at input '{}'", excerpt(self.rest));
        SyntaxError::invalid(self.position(), self.rest, message)
    }

    /// Kind and length of the token that `rest` begins with.
    fn scan(&self, position: Position) -> Result<(TokenKind, usize), SyntaxError> {
        let bytes = self.rest.as_bytes();
        let Some(&first) = bytes.first() else { return Ok((TokenKind::End, 0)) };
        if let Some(found) = symbol(first, bytes.get(1).copied()) {
            return Ok(found);
        }
        match first {
            b'\'' => self.quoted('\'', TokenKind::QuotedString, "unterminated string"),
            b'"' => {
                let found = self.quoted('"', TokenKind::QuotedName, "unterminated quoted name")?;
                if found.1 == 2 { Err(self.invalid("empty name")) } else { Ok(found) }
            }
            b'$' if bytes.get(1) == Some(&b'$') => {
                let body = self.rest.get(2..).unwrap_or_default();
                match body.find("$$") {
                    Some(length) => Ok((TokenKind::DollarString, length + "$$$$".len())),
                    None => Err(self.invalid("unterminated string")),
                }
            }
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => self.word_or_number(position),
            _ => {
                let character = self.rest.chars().next().unwrap_or_default();
                let message = format!("no viable alternative at character '{character}'");
                Err(SyntaxError::invalid(position, &character.to_string(), message))
            }
        }
    }

    /// A token between quotes, which are doubled inside.
    fn quoted(
        &self,
        quote: char,
        kind: TokenKind,
        problem: &str,
    ) -> Result<(TokenKind, usize), SyntaxError> {
        let mut end = 1;
        loop {
            let body = self.rest.get(end..).unwrap_or_default();
            let Some(length) = body.find(quote) else { return Err(self.invalid(problem)) };
            end += length + 1;
            if !self.rest.get(end..).unwrap_or_default().starts_with(quote) {
                return Ok((kind, end));
            }
            end += 1;
        }
    }

    /// A token that begins with a letter or a digit.
    fn word_or_number(&self, position: Position) -> Result<(TokenKind, usize), SyntaxError> {
        if is_uuid(self.rest) {
            return Ok((TokenKind::Uuid, UUID_LENGTH));
        }
        if let Some(length) = duration::iso_length(self.rest) {
            return Ok((TokenKind::Duration, length));
        }
        let word = prefix_while(self.rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == 'µ');
        if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
            // The micro sign belongs to durations only.
            return Ok((TokenKind::Word, word.find('µ').unwrap_or(word.len())));
        }
        if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad(position, word, "blob with something else than hex digits"));
            }
            return Ok((TokenKind::Blob, word.len()));
        }
        let integer = prefix_while(word, |c| c.is_ascii_digit());
        if integer.len() < word.len() && duration::is_units(word) {
            return Ok((TokenKind::Duration, word.len()));
        }
        let length = number_length(self.rest);
        let tail = self.rest.get(length..).unwrap_or_default();
        if tail.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            let whole =
                prefix_while(self.rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            return Err(bad(position, whole, "malformed number"));
        }
        let kind = if length == integer.len() { TokenKind::Integer } else { TokenKind::Float };
        Ok((kind, length))
    }
}

fn bad(position: Position, found: &str, what: &str) -> SyntaxError {
    SyntaxError::invalid(position, found, format!("{what} at input '{}'", excerpt(found)))
}

/// Kind and length of a token of one or two signs.
fn symbol(first: u8, second: Option<u8>) -> Option<(TokenKind, usize)> {
    let equal = second == Some(b'=');
    let kind = match first {
        b'.' if second == Some(b'.') => return Some((TokenKind::Range, 2)),
        b'!' if equal => return Some((TokenKind::NotEqual, 2)),
        b'<' if equal => return Some((TokenKind::LessOrEqual, 2)),
        b'>' if equal => return Some((TokenKind::GreaterOrEqual, 2)),
        b'+' if equal => return Some((TokenKind::PlusEqual, 2)),
        b'-' if equal => return Some((TokenKind::MinusEqual, 2)),
        b'(' => TokenKind::ParenthesisOpen,
        b')' => TokenKind::ParenthesisClose,
        b'[' => TokenKind::BracketOpen,
        b']' => TokenKind::BracketClose,
        b'{' => TokenKind::BraceOpen,
        b'}' => TokenKind::BraceClose,
        b',' => TokenKind::Comma,
        b';' => TokenKind::Semicolon,
        b':' => TokenKind::Colon,
        b'.' => TokenKind::Dot,
        b'?' => TokenKind::Question,
        b'=' => TokenKind::Equal,
        b'<' => TokenKind::Less,
        b'>' => TokenKind::Greater,
        b'+' => TokenKind::Plus,
        b'-' => TokenKind::Minus,
        b'*' => TokenKind::Star,
        b'/' => TokenKind::Slash,
        b'%' => TokenKind::Percent,
        _ => return None,
    };
    Some((kind, 1))
}

/// `8-4-4-4-12` hexadecimal digits.
const UUID_LENGTH: usize = 36;

fn is_uuid(text: &str) -> bool {
    let Some(candidate) = text.as_bytes().get(..UUID_LENGTH) else { return false };
    let shaped = candidate.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let next = text.as_bytes().get(UUID_LENGTH);
    shaped && !next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Length of the number that `text` begins with: digits, fraction, exponent. The dot of a range
/// (`1..2`) is not part of it.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| {
        prefix_while(text.get(from..).unwrap_or_default(), |c| c.is_ascii_digit()).len()
    };
    let at = |index: usize| text.as_bytes().get(index).copied();
    let mut length = digits(0);
    if at(length) == Some(b'.') && at(length + 1) != Some(b'.') {
        length += 1 + digits(length + 1);
    }
    if matches!(at(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(at(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

/// The longest prefix whose characters all satisfy `belongs`.
fn prefix_while(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}
