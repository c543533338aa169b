//! A statement as a whole: its kind, its markers, names and positions.

use super::{
    AlterKeyspace, AlterTable, AlterType, Batch, ChangefeedStatement, CreateKeyspace, CreateTable,
    CreateType, Describe, Drop, DropKeyspace, Modification, Select,
};
use std::fmt;
use std::sync::Arc;

/// Where something stands in the statement's text.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Characters before it in the line, from 0.
    pub column: u32,
    /// Bytes before it in the text.
    pub offset: u32,
}

/// `line L:C`, as every syntax error begins.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}:{}", self.line, self.column)
    }
}

/// Short, since trees are full of them.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}:{}", self.line, self.column)
    }
}

/// An identifier, folded to lower case unless it was quoted.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    /// The name as the schema knows it.
    pub text: Arc<str>,
    /// Where it was written.
    pub position: Position,
}

impl Name {
    /// The name as the schema knows it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Without its position.
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&model::schema::quote_identifier(&self.text))
    }
}

/// The name of a table, type, function or index, with its keyspace if that was written.
#[derive(Clone, PartialEq, Eq)]
pub struct QualifiedName {
    /// `ks` of `ks.name`.
    pub keyspace: Option<Name>,
    /// The name in the keyspace.
    pub name: Name,
}

impl fmt::Debug for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(keyspace) = &self.keyspace {
            write!(f, "{keyspace:?}.")?;
        }
        write!(f, "{:?}", self.name)
    }
}

/// A statement and the values it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedStatement {
    /// The statement.
    pub statement: Statement,
    /// Bind markers in order of appearance; [`TermKind::Marker`](super::TermKind::Marker) is an index into them. Two
    /// markers of the same name are two slots, as in Cassandra. At most 65,535.
    pub markers: Vec<Marker>,
}

/// A bind marker, `?` or `:name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The name of a `:name` marker.
    pub name: Option<Name>,
    /// Where it was written.
    pub position: Position,
}

/// One CQL statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// SELECT.
    Select(Box<Select>),
    /// INSERT, UPDATE or DELETE.
    Modification(Modification),
    /// BEGIN BATCH … APPLY BATCH.
    Batch(Batch),
    /// USE keyspace.
    Use(Name),
    /// TRUNCATE `[TABLE]` table.
    Truncate(QualifiedName),
    /// DESCRIBE or DESC.
    Describe(Describe),
    /// CREATE KEYSPACE.
    CreateKeyspace(CreateKeyspace),
    /// ALTER KEYSPACE.
    AlterKeyspace(AlterKeyspace),
    /// DROP KEYSPACE.
    DropKeyspace(DropKeyspace),
    /// CREATE TABLE.
    CreateTable(CreateTable),
    /// ALTER TABLE.
    AlterTable(AlterTable),
    /// DROP TABLE.
    DropTable(Drop),
    /// CREATE TYPE.
    CreateType(CreateType),
    /// ALTER TYPE.
    AlterType(AlterType),
    /// DROP TYPE.
    DropType(Drop),
    /// CREATE, ALTER, PAUSE, RESUME or DROP CHANGEFEED.
    Changefeed(ChangefeedStatement),
    /// SHOW CHANGEFEEDS.
    ShowChangefeeds,
    /// A statement that is CQL, but not served. Only its first words were read.
    Unsupported {
        /// Its first words in capitals, for example `CREATE INDEX`.
        what: &'static str,
        /// Where the statement begins.
        position: Position,
    },
}
