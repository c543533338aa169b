//! The parser's core: the current token, what was expected of it, names, lists, depth.
//!
//! A recursive descent parser with one token in hand. Where one is not enough it works on a copy
//! of the lexer, or goes back to a [`Checkpoint`]. The grammar itself is in the files beside this
//! one, one for each family of statements or expressions.
//!
//! Every question that the grammar asks of the current token (`accept_…`) is remembered until the
//! token is passed, so that an error can say all that could have stood there.

use super::ast::{Marker, Name, ParsedStatement, Position, QualifiedName};
use super::error::SyntaxError;
use super::lexer::{Lexer, Token, TokenKind};
use super::limits::{
    LIST_LENGTH_MAX, MARKER_COUNT_MAX, NESTING_DEPTH_MAX, NODE_COUNT_MAX, STATEMENT_BYTES_MAX,
};
use super::redaction::without_quotations;
use model::schema::RESERVED_WORDS;
use std::sync::Arc;

/// What the parser's functions return.
pub(super) type Parsed<T> = Result<T, SyntaxError>;

/// Reads the one statement that `text` is; a `;` behind it is allowed. Errors quote no secrets of a
/// changefeed.
pub fn parse(text: &str) -> Result<ParsedStatement, SyntaxError> {
    parse_statement(text).map_err(|error| without_quotations(text, error))
}

fn parse_statement(text: &str) -> Result<ParsedStatement, SyntaxError> {
    let mut parser = Parser::of(text)?;
    let statement = parser.statement()?;
    parser.end_of_statement()?;
    Ok(ParsedStatement { statement, markers: parser.markers })
}

/// Where a text begins.
pub(super) const START: Position = Position { line: 1, column: 0, offset: 0 };

/// A place in a text, and what was read before it.
pub(super) struct Parser<'a> {
    /// Behind `token`.
    lexer: Lexer<'a>,
    /// The token in hand.
    pub(super) token: Token,
    /// What the grammar would have taken instead of `token`.
    expected: Vec<&'static str>,
    /// The markers read so far.
    pub(super) markers: Vec<Marker>,
    /// How many nested things are being read.
    depth: usize,
    /// The greatest depth that any part of the current operator chain has in the tree.
    deepest: usize,
    /// Names, terms and selectors read so far.
    node_count: usize,
}

/// Where to go back to after a guess.
#[derive(Clone, Copy)]
pub(super) struct Checkpoint<'a> {
    lexer: Lexer<'a>,
    token: Token,
    depth: usize,
    deepest: usize,
    node_count: usize,
}

impl<'a> Parser<'a> {
    /// A parser before the first token of a text, whose length is checked.
    pub(super) fn of(text: &'a str) -> Parsed<Parser<'a>> {
        if text.len() > STATEMENT_BYTES_MAX {
            let message = format!("statement is longer than {STATEMENT_BYTES_MAX} bytes");
            return Err(SyntaxError::invalid(START, text, message));
        }
        let mut lexer = Lexer::new(text);
        let token = lexer.next_token()?;
        Ok(Parser {
            lexer,
            token,
            expected: Vec::new(),
            markers: Vec::new(),
            depth: 0,
            deepest: 0,
            node_count: 0,
        })
    }

    // -- Tokens ---------------------------------------------------------------------------------

    /// Where the current token stands.
    pub(super) fn position(&self) -> Position {
        self.token.position
    }

    /// The current token's text, with quotes.
    pub(super) fn text(&self) -> &'a str {
        self.lexer.text_of(self.token)
    }

    /// Passes the current token.
    pub(super) fn advance(&mut self) -> Parsed<()> {
        self.token = self.lexer.next_token()?;
        self.expected.clear();
        Ok(())
    }

    /// The token behind the current one, and its text.
    pub(super) fn peek(&self) -> Parsed<(TokenKind, &'a str)> {
        let mut lexer = self.lexer;
        let token = lexer.next_token()?;
        Ok((token.kind, lexer.text_of(token)))
    }

    /// The kind of the token that is `distance` tokens behind the current one.
    pub(super) fn peek_kind(&self, distance: usize) -> Parsed<TokenKind> {
        let mut lexer = self.lexer;
        let mut kind = self.token.kind;
        for _ in 0..distance {
            kind = lexer.next_token()?.kind;
        }
        Ok(kind)
    }

    /// The same, where a malformed token further on is the business of whoever reaches it.
    pub(super) fn peek_kind_or_end(&self, distance: usize) -> TokenKind {
        self.peek_kind(distance).unwrap_or(TokenKind::End)
    }

    /// Passes the rest of the text unread.
    pub(super) fn skip_rest(&mut self) {
        self.token.kind = TokenKind::End;
    }

    /// Whether the current token is of this kind.
    pub(super) fn at(&self, kind: TokenKind) -> bool {
        self.token.kind == kind
    }

    /// Whether the current token is this keyword, in any case.
    pub(super) fn at_word(&self, word: &str) -> bool {
        self.at(TokenKind::Word) && self.text().eq_ignore_ascii_case(word)
    }

    /// Passes a token of this kind if it is the current one.
    pub(super) fn accept(&mut self, kind: TokenKind) -> Parsed<bool> {
        let found = self.at(kind);
        if found {
            self.advance()?;
        } else {
            self.expected.push(kind.label());
        }
        Ok(found)
    }

    /// Passes a token of this kind, which must be the current one.
    pub(super) fn expect(&mut self, kind: TokenKind) -> Parsed<()> {
        if self.accept(kind)? { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Passes this keyword if it is the current token.
    pub(super) fn accept_word(&mut self, word: &'static str) -> Parsed<bool> {
        let found = self.at_word(word);
        if found {
            self.advance()?;
        } else {
            self.expected.push(word);
        }
        Ok(found)
    }

    /// Passes this keyword, which must be the current token.
    pub(super) fn expect_word(&mut self, word: &'static str) -> Parsed<()> {
        if self.accept_word(word)? { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Passes these keywords if the first is the current token; then all must follow.
    pub(super) fn accept_words(&mut self, words: &[&'static str]) -> Parsed<bool> {
        let Some((first, others)) = words.split_first() else { return Ok(false) };
        if !self.accept_word(first)? {
            return Ok(false);
        }
        for word in others {
            self.expect_word(word)?;
        }
        Ok(true)
    }

    /// IF NOT EXISTS, or nothing.
    pub(super) fn if_not_exists(&mut self) -> Parsed<bool> {
        self.accept_words(&["IF", "NOT", "EXISTS"])
    }

    /// IF EXISTS, or nothing.
    pub(super) fn if_exists(&mut self) -> Parsed<bool> {
        self.accept_words(&["IF", "EXISTS"])
    }

    /// Nothing but semicolons may follow.
    fn end_of_statement(&mut self) -> Parsed<()> {
        while self.at(TokenKind::Semicolon) {
            self.advance()?;
        }
        if self.at(TokenKind::End) {
            return Ok(());
        }
        self.expected.push(TokenKind::End.label());
        Err(self.unexpected())
    }

    // -- Errors ---------------------------------------------------------------------------------

    /// The current token is none of those that were asked for.
    pub(super) fn unexpected(&mut self) -> SyntaxError {
        let mut seen: Vec<&str> = Vec::new();
        for label in &self.expected {
            if !seen.contains(label) {
                seen.push(label);
            }
        }
        let expected = match seen.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => "something else".to_owned(),
        };
        let found = if self.at(TokenKind::End) { "<EOF>" } else { self.text() };
        SyntaxError::unexpected(self.position(), found, expected)
    }

    /// The current token is not `what`, nor anything asked for before.
    pub(super) fn unexpected_instead_of(&mut self, what: &'static str) -> SyntaxError {
        self.expected.push(what);
        self.unexpected()
    }

    /// The current token, or what begins with it, is wrong for the reason that `message` gives.
    pub(super) fn invalid(&self, message: impl Into<String>) -> SyntaxError {
        self.invalid_at(self.position(), message)
    }

    /// The current token is a constant that is no value, for the reason that `message` gives.
    pub(super) fn invalid_value(&self, message: String) -> SyntaxError {
        SyntaxError::invalid_value(self.position(), self.text(), message)
    }

    /// What begins at `position` is wrong for the reason that `message` gives.
    pub(super) fn invalid_at(&self, position: Position, message: impl Into<String>) -> SyntaxError {
        SyntaxError::invalid(position, self.lexer.text_at(position), message.into())
    }

    /// What begins at `position`, and was read already, should have been `what`.
    pub(super) fn unexpected_at(&self, position: Position, what: &str) -> SyntaxError {
        SyntaxError::unexpected(position, self.lexer.text_at(position), what.to_owned())
    }

    // -- Names ----------------------------------------------------------------------------------

    /// Whether the current token can be a name: quoted, or a word that CQL does not reserve.
    pub(super) fn at_name(&self) -> bool {
        match self.token.kind {
            TokenKind::QuotedName => true,
            TokenKind::Word => !is_reserved(self.text()),
            _ => false,
        }
    }

    /// A name; `what` says of what, for the error.
    pub(super) fn name(&mut self, what: &'static str) -> Parsed<Name> {
        if !self.at_name() {
            if self.at(TokenKind::Word) {
                let word = self.text();
                let message = format!(
                    "no viable alternative at input '{word}' (expected {what}; '{word}' is a \
                     reserved word, as a name it must stand in double quotes)"
                );
                let mut error = self.invalid(message);
                what.clone_into(&mut error.expected);
                return Err(error);
            }
            return Err(self.unexpected_instead_of(what));
        }
        self.any_word_as_name()
    }

    /// The current word or quoted name, even if it is reserved.
    pub(super) fn any_word_as_name(&mut self) -> Parsed<Name> {
        self.count_node()?;
        let (text, position) = (self.text(), self.position());
        let text: Arc<str> = if self.at(TokenKind::QuotedName) {
            unquote(text, "\"").into()
        } else {
            text.to_ascii_lowercase().into()
        };
        self.advance()?;
        Ok(Name { text, position })
    }

    /// `name` or `keyspace.name`.
    pub(super) fn qualified_name(&mut self, what: &'static str) -> Parsed<QualifiedName> {
        let first = self.name(what)?;
        if self.accept(TokenKind::Dot)? {
            return Ok(QualifiedName { keyspace: Some(first), name: self.name(what)? });
        }
        Ok(QualifiedName { keyspace: None, name: first })
    }

    // -- Lists ----------------------------------------------------------------------------------

    /// One or more items with commas between.
    pub(super) fn comma_separated<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.separated(|parser| parser.accept(TokenKind::Comma), item)
    }

    /// One or more items with AND between.
    pub(super) fn and_separated<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.separated(|parser| parser.accept_word("AND"), item)
    }

    fn separated<T>(
        &mut self,
        mut separator: impl FnMut(&mut Self) -> Parsed<bool>,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while separator(self)? {
            self.check_list_length(items.len())?;
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item, …)`, at least one.
    pub(super) fn parenthesised<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(TokenKind::ParenthesisOpen)?;
        let items = self.comma_separated(item)?;
        self.expect(TokenKind::ParenthesisClose)?;
        Ok(items)
    }

    /// `(item, …)`, at least one, where a comma may stand before the end.
    pub(super) fn definitions<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(TokenKind::ParenthesisOpen)?;
        let mut items = vec![item(self)?];
        while !self.accept(TokenKind::ParenthesisClose)? {
            self.expect(TokenKind::Comma)?;
            if !self.at(TokenKind::ParenthesisClose) {
                self.check_list_length(items.len())?;
                items.push(item(self)?);
            }
        }
        Ok(items)
    }

    /// `(item, …)` or `()`.
    pub(super) fn parenthesised_or_empty<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.expect(TokenKind::ParenthesisOpen)?;
        if self.accept(TokenKind::ParenthesisClose)? {
            return Ok(Vec::new());
        }
        let items = self.comma_separated(item)?;
        self.expect(TokenKind::ParenthesisClose)?;
        Ok(items)
    }

    // -- Limits ---------------------------------------------------------------------------------

    /// Reads something that is one level deeper in the tree.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.count_node()?;
        self.check_depth(self.depth + 1)?;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads a chain (`a + b + c`, `a.b.c`), whose tree grows to the left without recursion here:
    /// each link ([`Parser::link`]) puts all that was read of the chain one level deeper.
    pub(super) fn chain<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let outside = std::mem::replace(&mut self.deepest, self.depth);
        let result = read(self);
        self.deepest = self.deepest.max(outside);
        result
    }

    /// One more link of the current chain.
    pub(super) fn link(&mut self) -> Parsed<()> {
        self.deepest += 1;
        self.check_depth(self.deepest)
    }

    /// Whether a list of `count` items may grow.
    fn check_list_length(&self, count: usize) -> Parsed<()> {
        if count < LIST_LENGTH_MAX {
            return Ok(());
        }
        Err(self.invalid(format!("more than {LIST_LENGTH_MAX} items in a list")))
    }

    fn check_depth(&self, depth: usize) -> Parsed<()> {
        if depth <= NESTING_DEPTH_MAX {
            return Ok(());
        }
        Err(self.invalid(format!("nested more than {NESTING_DEPTH_MAX} levels deep")))
    }

    fn count_node(&mut self) -> Parsed<()> {
        self.node_count += 1;
        if self.node_count <= NODE_COUNT_MAX {
            return Ok(());
        }
        Err(self.invalid(format!("more than {NODE_COUNT_MAX} names and values in a statement")))
    }

    /// The bind marker at the current token, if there is one; its index.
    pub(super) fn accept_marker(&mut self) -> Parsed<Option<u16>> {
        let position = self.position();
        let name = match self.token.kind {
            TokenKind::Question => {
                self.advance()?;
                None
            }
            TokenKind::Colon => {
                self.advance()?;
                Some(self.name("the name of a bind marker")?)
            }
            _ => {
                self.expected.push("a bind marker");
                return Ok(None);
            }
        };
        let count = self.markers.len();
        match u16::try_from(count) {
            Ok(index) if count < MARKER_COUNT_MAX => {
                self.markers.push(Marker { name, position });
                Ok(Some(index))
            }
            _ => {
                Err(self.invalid_at(position, format!("more than {MARKER_COUNT_MAX} bind markers")))
            }
        }
    }

    // -- Guesses --------------------------------------------------------------------------------

    /// Remembers the place. No marker may be read between here and [`Parser::go_back`].
    pub(super) fn checkpoint(&self) -> Checkpoint<'a> {
        let Parser { lexer, token, depth, deepest, node_count, .. } = *self;
        Checkpoint { lexer, token, depth, deepest, node_count }
    }

    /// Goes back to a place: the guess was wrong.
    pub(super) fn go_back(&mut self, to: Checkpoint<'a>) {
        (self.lexer, self.token, self.node_count) = (to.lexer, to.token, to.node_count);
        (self.depth, self.deepest) = (to.depth, to.deepest);
        self.expected.clear();
    }
}

/// Words that are constants, and in no list of keywords.
const CONSTANT_WORDS: &[&str] = &["true", "false"];

/// Words that Cassandra quotes when it prints them, and takes for names without quotes.
const QUOTED_THOUGH_FREE: &[&str] = &["default", "mbean", "mbeans", "replace", "unset"];

/// Whether an unquoted word can never be a name.
pub(super) fn is_reserved(word: &str) -> bool {
    let lower = || word.bytes().map(|byte| byte.to_ascii_lowercase());
    let is = |other: &&str| word.eq_ignore_ascii_case(other);
    // Every name asks this: the list is sorted (a test says so), a walk would cost more than the
    // rest of the parser.
    let listed = RESERVED_WORDS.binary_search_by(|other| other.bytes().cmp(lower())).is_ok();
    (listed && !QUOTED_THOUGH_FREE.iter().any(is)) || CONSTANT_WORDS.iter().any(is)
}

/// What stands between quotes, doubled quotes read as one.
pub(super) fn unquote(text: &str, quote: &str) -> String {
    let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner.unwrap_or(text).replace(&quote.repeat(2), quote)
}
