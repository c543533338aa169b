//! The statements about changefeeds.
//!
//! ```text
//! CREATE CHANGEFEED [IF NOT EXISTS] name FOR TABLE table, … INTO KAFKA | WEBHOOK 'address'
//!     [WITH (option = value, …)]
//! ALTER CHANGEFEED name SET (option = value, …)
//! PAUSE CHANGEFEED name
//! RESUME CHANGEFEED name [FROM SEQUENCE n | FROM TIMESTAMP 't' | FROM BEGINNING]
//! DROP CHANGEFEED [IF EXISTS] name
//! SHOW CHANGEFEEDS | LIST CHANGEFEEDS
//! ```
//!
//! Options may stand without parentheses and with AND between, as the properties of a table do.
//! None of the words is reserved.

use super::ast::{
    AlterChangefeed, ChangefeedStatement, CreateChangefeed, DropChangefeed, Literal, Name,
    Property, ResumeChangefeed, ResumeFrom, SinkKind, Statement,
};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};

impl Parser<'_> {
    /// A statement about changefeeds whose first word is its own; nothing more is read if it is
    /// none.
    pub(super) fn accept_changefeed_statement(&mut self) -> Parsed<Option<Statement>> {
        if (self.at_word("SHOW") || self.at_word("LIST")) && self.is_followed_by("CHANGEFEEDS")? {
            self.advance()?;
            self.expect_word("CHANGEFEEDS")?;
            return Ok(Some(Statement::ShowChangefeeds));
        }
        if self.accept_words(&["PAUSE", "CHANGEFEED"])? {
            let name = self.changefeed_name()?;
            return Ok(Some(Statement::Changefeed(ChangefeedStatement::Pause(name))));
        }
        if self.accept_words(&["RESUME", "CHANGEFEED"])? {
            let name = self.changefeed_name()?;
            let from = if self.accept_word("FROM")? { Some(self.resume_from()?) } else { None };
            let resume = ResumeChangefeed { name, from };
            return Ok(Some(Statement::Changefeed(ChangefeedStatement::Resume(resume))));
        }
        Ok(None)
    }

    /// The rest of CREATE CHANGEFEED.
    pub(super) fn create_changefeed(&mut self) -> Parsed<Statement> {
        let if_not_exists = self.if_not_exists()?;
        let name = self.changefeed_name()?;
        self.expect_word("FOR")?;
        self.expect_word("TABLE")?;
        let tables = self.comma_separated(|parser| parser.qualified_name("a table"))?;
        self.expect_word("INTO")?;
        let sink = if self.accept_word("KAFKA")? {
            SinkKind::Kafka
        } else if self.accept_word("WEBHOOK")? {
            SinkKind::Webhook
        } else {
            return Err(self.unexpected());
        };
        let address = self.string()?;
        let options = if self.accept_word("WITH")? { self.options()? } else { Vec::new() };
        let create = CreateChangefeed { name, if_not_exists, tables, sink, address, options };
        Ok(Statement::Changefeed(ChangefeedStatement::Create(create)))
    }

    /// The rest of ALTER CHANGEFEED.
    pub(super) fn alter_changefeed(&mut self) -> Parsed<Statement> {
        let name = self.changefeed_name()?;
        if !self.accept_word("WITH")? {
            self.expect_word("SET")?;
        }
        let options = self.options()?;
        Ok(Statement::Changefeed(ChangefeedStatement::Alter(AlterChangefeed { name, options })))
    }

    /// The rest of DROP CHANGEFEED.
    pub(super) fn drop_changefeed(&mut self) -> Parsed<Statement> {
        let if_exists = self.if_exists()?;
        let name = self.changefeed_name()?;
        Ok(Statement::Changefeed(ChangefeedStatement::Drop(DropChangefeed { name, if_exists })))
    }

    /// Feeds belong to no keyspace.
    fn changefeed_name(&mut self) -> Parsed<Name> {
        let name = self.name("a changefeed")?;
        if self.at(TokenKind::Dot) {
            let message = "a changefeed belongs to no keyspace: its name has no dot";
            return Err(self.invalid(message));
        }
        Ok(name)
    }

    fn resume_from(&mut self) -> Parsed<ResumeFrom> {
        if self.accept_word("BEGINNING")? {
            return Ok(ResumeFrom::Beginning);
        }
        if self.accept_word("SEQUENCE")? {
            let digits = self.text();
            self.expect(TokenKind::Integer)?;
            return Ok(ResumeFrom::Sequence(digits.to_owned()));
        }
        self.expect_word("TIMESTAMP")?;
        let digits = self.text();
        if self.accept(TokenKind::Integer)? {
            return Ok(ResumeFrom::Timestamp(digits.to_owned()));
        }
        Ok(ResumeFrom::Timestamp(self.string()?))
    }

    fn string(&mut self) -> Parsed<String> {
        if matches!(self.token.kind, TokenKind::QuotedString | TokenKind::DollarString)
            && let Some(Literal::String(text)) = self.accept_literal()?
        {
            return Ok(text);
        }
        Err(self.unexpected_instead_of("a string"))
    }

    /// `(name = value, …)`, or `name = value AND …`.
    fn options(&mut self) -> Parsed<Vec<Property>> {
        let options = if self.at(TokenKind::ParenthesisOpen) {
            self.parenthesised(Self::option)?
        } else {
            self.and_separated(Self::option)?
        };
        self.check_unique(&options)?;
        Ok(options)
    }

    /// `name = value`
    fn option(&mut self) -> Parsed<Property> {
        let name = self.option_name()?;
        self.expect(TokenKind::Equal)?;
        Ok(Property { name, value: self.property_value()? })
    }

    /// A word or words with dots between, none of them reserved here, or all of it in quotes.
    fn option_name(&mut self) -> Parsed<Name> {
        if !matches!(self.token.kind, TokenKind::Word | TokenKind::QuotedName) {
            return Err(self.unexpected_instead_of("an option"));
        }
        let mut name = self.any_word_as_name()?;
        while self.accept(TokenKind::Dot)? {
            if !self.at(TokenKind::Word) {
                return Err(self.unexpected_instead_of("the rest of an option's name"));
            }
            let word = self.any_word_as_name()?;
            name.text = format!("{}.{}", name.text, word.text).into();
        }
        Ok(name)
    }
}
