//! INSERT, UPDATE, DELETE and BATCH.

use super::{Condition, Name, QualifiedName, Relation, Term};

/// A statement that a batch can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Modification {
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
}

impl Modification {
    /// Whether it has an IF clause.
    pub fn is_conditional(&self) -> bool {
        match self {
            Modification::Insert(insert) => insert.if_not_exists,
            Modification::Update(update) => update.condition.is_some(),
            Modification::Delete(delete) => delete.condition.is_some(),
        }
    }
}

/// The USING clause of a modification or batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Using {
    /// TIMESTAMP: an integer or a marker, microseconds.
    pub timestamp: Option<Term>,
    /// TTL: an integer or a marker, seconds; never in DELETE or BATCH.
    pub ttl: Option<Term>,
    /// TIMEOUT: a duration or a marker.
    pub timeout: Option<Term>,
}

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// INTO.
    pub table: QualifiedName,
    /// What is inserted.
    pub values: InsertValues,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// USING.
    pub using: Using,
}

/// The two forms of INSERT.
#[derive(Clone, Debug, PartialEq)]
pub enum InsertValues {
    /// `(columns) VALUES (terms)`; the two may differ in length.
    Columns {
        /// The columns, at least one.
        columns: Vec<Name>,
        /// The values, at least one.
        values: Vec<Term>,
    },
    /// `JSON '…'`
    Json {
        /// A string or a marker.
        value: Term,
        /// DEFAULT UNSET: columns that the document does not mention stay as they are. Otherwise
        /// (DEFAULT NULL, or nothing said) they are deleted.
        default_unset: bool,
    },
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The table.
    pub table: QualifiedName,
    /// USING.
    pub using: Using,
    /// SET, at least one.
    pub assignments: Vec<Assignment>,
    /// WHERE, joined by AND, at least one.
    pub relations: Vec<Relation>,
    /// IF.
    pub condition: Option<Condition>,
}

/// One assignment of SET.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The column that changes.
    pub column: Name,
    /// How it changes.
    pub operation: AssignmentOperation,
}

/// How an UPDATE changes a column.
#[derive(Clone, Debug, PartialEq)]
pub enum AssignmentOperation {
    /// `v = term`
    Set(Term),
    /// `v = v + term`, `v += term`: append, add, increment.
    Add(Term),
    /// `v = term + v`: prepend to a list.
    Prepend(Term),
    /// `v = v - term`, `v -= term`: remove, decrement.
    Subtract(Term),
    /// `v[key] = term`: key of a map or index of a list.
    SetElement {
        /// Key or index.
        key: Term,
        /// The value.
        value: Term,
    },
    /// `v[SCYLLA_TIMEUUID_LIST_INDEX(id)] = term`: the list's cell of that timeuuid.
    SetListCell {
        /// The cell's timeuuid.
        cell: Term,
        /// The value.
        value: Term,
    },
    /// `v.field = term`
    SetField {
        /// The field.
        field: Name,
        /// The value.
        value: Term,
    },
}

/// DELETE.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// FROM.
    pub table: QualifiedName,
    /// What is deleted from each row; the whole rows if empty.
    pub targets: Vec<DeleteTarget>,
    /// USING, never with a TTL.
    pub using: Using,
    /// WHERE, joined by AND, at least one.
    pub relations: Vec<Relation>,
    /// IF.
    pub condition: Option<Condition>,
}

/// Something that DELETE deletes from a row.
#[derive(Clone, Debug, PartialEq)]
pub enum DeleteTarget {
    /// `v`
    Column(Name),
    /// `v[key]`: key of a map, index of a list, element of a set.
    Element {
        /// The collection.
        column: Name,
        /// Key, index or element.
        key: Term,
    },
    /// `v.field`
    Field {
        /// The column of a user type.
        column: Name,
        /// The field.
        field: Name,
    },
}

/// BEGIN BATCH … APPLY BATCH.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// LOGGED (nothing said), UNLOGGED or COUNTER.
    pub kind: BatchKind,
    /// USING, never with a TTL.
    pub using: Using,
    /// The statements, at most 65,535, possibly none.
    pub statements: Vec<Modification>,
}

/// What a batch promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// All or nothing.
    Logged,
    /// Statements are applied each for itself.
    Unlogged,
    /// Counter updates.
    Counter,
}
