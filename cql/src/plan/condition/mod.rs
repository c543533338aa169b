//! IF: what is asked of rows before they are changed.
//!
//! ```text
//! syntax --prepare--> Condition    columns found, terms checked
//!        --bind-----> RowTest      plain values: it travels to the leader of the range
//!        --holds----> yes or no    asked of the rows as they are
//! ```
//!
//! A condition is asked by the leader, in the step that decides the write, and by nobody else; all
//! of it is a function of the rows and of the time. The rules are Cassandra's: null equals null, is
//! different from every value, and is neither less nor greater than any; a collection that is
//! stored as several cells is null when it is empty; what cannot be compared with null is refused.
//! Where Cassandra refuses only once it has found that all conditions before hold, this refuses
//! always: an error does not depend on what the row holds.

mod bind;
mod evaluate;
mod prepare;

pub(super) use prepare::Condition;

use crate::syntax::ast::Comparison;
use model::ColumnId;

/// What one row is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCondition {
    /// The row's clustering key; `None` for the static row.
    pub clustering: Option<Vec<u8>>,
    /// What is asked.
    pub test: RowTest,
}

/// What can be asked of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowTest {
    /// IF NOT EXISTS
    NotExists,
    /// IF EXISTS
    Exists,
    /// All of these; a row that does not exist has null in every column.
    Columns(Vec<ColumnTest>),
}

/// What one column of a row is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnTest {
    /// Which column.
    pub column: ColumnId,
    /// What of it is looked at.
    pub part: ColumnPart,
    /// What it is asked.
    pub test: ValueTest,
}

/// What of a column is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnPart {
    /// Its value.
    Whole,
    /// The value at a key of a map.
    Key(Vec<u8>),
    /// The element of a list, from 0.
    Index(u32),
    /// A field of a user type.
    Field(u16),
}

/// What can be asked of a value. Values are serialized and of the type of what they are compared
/// with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTest {
    /// It compares so; null with `=` and `!=` alone.
    Compare(Comparison, Option<Vec<u8>>),
    /// It is one of these, null perhaps among them.
    OneOf(Vec<Option<Vec<u8>>>),
    /// The collection has this element, or this value of a map.
    Contains(Vec<u8>),
    /// The map has this key.
    ContainsKey(Vec<u8>),
}
