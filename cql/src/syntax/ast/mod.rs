//! The syntax tree of one CQL statement.
//!
//! What it promises:
//!
//! - Names are ready for comparison with the schema: unquoted ones are in lower case, quoted ones
//!   are exact and without their quotes.
//! - Nothing is resolved: a [`TypeName`] may name a user type that does not exist, a number is
//!   still the text that was written (its type comes from the column), a relation may name any
//!   column.
//! - Positions are kept wherever a semantic error has to point at something.
//! - The tree is at most [`NESTING_DEPTH_MAX`](super::NESTING_DEPTH_MAX) deep in terms, selectors
//!   and types together, so that recursion over it is safe.
//!
//! What it does not know: keyspaces, tables, types, what any function does.

mod changefeeds;
mod definitions;
mod modifications;
mod selections;
mod statement;
mod terms;

pub use changefeeds::{
    AlterChangefeed, ChangefeedStatement, CreateChangefeed, DropChangefeed, ResumeChangefeed,
    ResumeFrom, SinkKind,
};
pub use definitions::{
    AlterKeyspace, AlterTable, AlterTableAction, AlterType, AlterTypeAction, ColumnDefinition,
    CreateKeyspace, CreateTable, CreateType, Describe, DescribeTarget, Drop, DropKeyspace,
    PrimaryKey, Property, PropertyValue, TableProperties,
};
pub use modifications::{
    Assignment, AssignmentOperation, Batch, BatchKind, Delete, DeleteTarget, Insert, InsertValues,
    Modification, Update, Using,
};
pub use selections::{
    CellMetadataFunction, Comparison, Condition, Direction, InValues, Operand, Predicate, Relation,
    Select, SelectedColumn, Selection, Selector, SelectorKind,
};
pub use statement::{Marker, Name, ParsedStatement, Position, QualifiedName, Statement};
pub use terms::{ArithmeticOperator, FunctionCall, Literal, Term, TermKind, TypeName};
