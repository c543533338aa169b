//! What kind of statement a text is; USE, TRUNCATE, DESCRIBE; statements that are not served.

use super::ast::{Describe, DescribeTarget, Statement};
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser};

impl Parser<'_> {
    /// One statement, without the semicolon behind it.
    pub(super) fn statement(&mut self) -> Parsed<Statement> {
        let (start, position) = (self.checkpoint(), self.position());
        if let Some(statement) = self.accept_statement()? {
            return Ok(statement);
        }
        let error = self.unexpected();
        self.go_back(start);
        for what in UNSUPPORTED {
            if self.accept_phrase(what)? {
                // What follows is not read: it need not even be tokens.
                self.skip_rest();
                return Ok(Statement::Unsupported { what, position });
            }
        }
        Err(error)
    }

    fn accept_statement(&mut self) -> Parsed<Option<Statement>> {
        if self.accept_word("SELECT")? {
            return self.select().map(|select| Some(Statement::Select(Box::new(select))));
        }
        if let Some(modification) = self.accept_modification()? {
            return Ok(Some(Statement::Modification(modification)));
        }
        if self.accept_word("BEGIN")? {
            if self.at_word("TRANSACTION") {
                return Ok(None);
            }
            return self.batch().map(Statement::Batch).map(Some);
        }
        if self.accept_word("CREATE")? {
            return self.accept_create();
        }
        if self.accept_word("ALTER")? {
            return self.accept_alter();
        }
        if self.accept_word("DROP")? {
            return self.accept_drop();
        }
        if self.accept_word("USE")? {
            return self.name("a keyspace").map(Statement::Use).map(Some);
        }
        if self.accept_word("TRUNCATE")? {
            self.accept_table_word()?;
            return self.qualified_name("a table").map(Statement::Truncate).map(Some);
        }
        if self.accept_word("DESCRIBE")? || self.accept_word("DESC")? {
            return self.describe().map(Statement::Describe).map(Some);
        }
        self.accept_changefeed_statement()
    }

    /// Whether the next token is this keyword.
    pub(super) fn is_followed_by(&self, word: &str) -> Parsed<bool> {
        let (kind, text) = self.peek()?;
        Ok(kind == TokenKind::Word && text.eq_ignore_ascii_case(word))
    }

    /// Whether the words of `phrase` stand here; passes all but the last of them.
    fn accept_phrase(&mut self, phrase: &'static str) -> Parsed<bool> {
        let start = self.checkpoint();
        let mut words = phrase.split(' ').peekable();
        while let Some(word) = words.next() {
            if !self.at_word(word) {
                self.go_back(start);
                return Ok(false);
            }
            if words.peek().is_some() {
                self.advance()?;
            }
        }
        Ok(true)
    }

    fn describe(&mut self) -> Parsed<Describe> {
        let target = self.describe_target()?;
        let with_internals = self.accept_words(&["WITH", "INTERNALS"])?;
        let with_passwords = with_internals && self.accept_words(&["AND", "PASSWORDS"])?;
        Ok(Describe { target, with_internals, with_passwords })
    }

    fn describe_target(&mut self) -> Parsed<DescribeTarget> {
        // `types.t` is a name, whatever its first word.
        let is_name = self.peek_kind_or_end(1) == TokenKind::Dot;
        if !is_name {
            if let Some(target) = self.accept_described_group()? {
                return Ok(target);
            }
            if let Some(target) = self.accept_described_element()? {
                return Ok(target);
            }
        }
        self.qualified_name("a keyspace or table").map(DescribeTarget::Any)
    }

    /// What is described without a name, or with the keyspace in use for one.
    fn accept_described_group(&mut self) -> Parsed<Option<DescribeTarget>> {
        for (word, target) in [
            ("CLUSTER", DescribeTarget::Cluster),
            ("SCHEMA", DescribeTarget::Schema { full: false }),
            ("KEYSPACES", DescribeTarget::Keyspaces),
            ("TABLES", DescribeTarget::Tables),
            ("TYPES", DescribeTarget::Types),
            ("FUNCTIONS", DescribeTarget::Functions),
            ("AGGREGATES", DescribeTarget::Aggregates),
            ("CHANGEFEEDS", DescribeTarget::Changefeeds),
        ] {
            if self.accept_word(word)? {
                return Ok(Some(target));
            }
        }
        if self.accept_words(&["FULL", "SCHEMA"])? {
            return Ok(Some(DescribeTarget::Schema { full: true }));
        }
        let only = self.at_word("ONLY") && self.is_followed_by("KEYSPACE")?;
        if only {
            self.advance()?;
        }
        if self.accept_word("KEYSPACE")? {
            let name = if self.at_name() { Some(self.name("a keyspace")?) } else { None };
            return Ok(Some(DescribeTarget::Keyspace { name, only }));
        }
        Ok(None)
    }

    /// What is described with a name behind its kind.
    fn accept_described_element(&mut self) -> Parsed<Option<DescribeTarget>> {
        if self.accept_table_word()? {
            return self.qualified_name("a table").map(DescribeTarget::Table).map(Some);
        }
        if self.accept_word("INDEX")? {
            return self.qualified_name("an index").map(DescribeTarget::Index).map(Some);
        }
        if self.accept_words(&["MATERIALIZED", "VIEW"])? {
            return self.qualified_name("a view").map(DescribeTarget::MaterializedView).map(Some);
        }
        // These words are not reserved: alone they are names.
        if !matches!(self.peek_kind_or_end(1), TokenKind::Word | TokenKind::QuotedName)
            || self.peek()?.1.eq_ignore_ascii_case("WITH")
        {
            return Ok(None);
        }
        if self.accept_word("TYPE")? {
            return self.qualified_name("a type").map(DescribeTarget::Type).map(Some);
        }
        if self.accept_word("FUNCTION")? {
            return self.qualified_name("a function").map(DescribeTarget::Function).map(Some);
        }
        if self.accept_word("AGGREGATE")? {
            return self.qualified_name("an aggregate").map(DescribeTarget::Aggregate).map(Some);
        }
        if self.accept_word("CHANGEFEED")? {
            return self.name("a changefeed").map(DescribeTarget::Changefeed).map(Some);
        }
        Ok(None)
    }
}

/// The first words of statements that are CQL (or ours to be) and not served.
const UNSUPPORTED: &[&str] = &[
    "CREATE INDEX",
    "CREATE CUSTOM INDEX",
    "CREATE MATERIALIZED VIEW",
    "CREATE FUNCTION",
    "CREATE OR REPLACE FUNCTION",
    "CREATE AGGREGATE",
    "CREATE OR REPLACE AGGREGATE",
    "CREATE TRIGGER",
    "CREATE ROLE",
    "CREATE USER",
    "CREATE SERVICE LEVEL",
    "CREATE SERVICE_LEVEL",
    "ALTER MATERIALIZED VIEW",
    "ALTER ROLE",
    "ALTER USER",
    "ALTER SERVICE LEVEL",
    "ALTER SERVICE_LEVEL",
    "DROP INDEX",
    "DROP MATERIALIZED VIEW",
    "DROP FUNCTION",
    "DROP AGGREGATE",
    "DROP TRIGGER",
    "DROP ROLE",
    "DROP USER",
    "DROP SERVICE LEVEL",
    "DROP SERVICE_LEVEL",
    "ATTACH SERVICE LEVEL",
    "ATTACH SERVICE_LEVEL",
    "DETACH SERVICE LEVEL",
    "DETACH SERVICE_LEVEL",
    "PRUNE MATERIALIZED VIEW",
    "BEGIN TRANSACTION",
    "GRANT",
    "REVOKE",
    "LIST",
];
