//! SELECT; and what WHERE and IF ask of rows.

use super::{
    ArithmeticOperator, FunctionCall, Name, Position, QualifiedName, Term, TermKind, TypeName,
};
use std::fmt;

/// SELECT.
#[expect(clippy::struct_excessive_bools, reason = "each is one keyword of the statement")]
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// SELECT JSON.
    pub json: bool,
    /// SELECT DISTINCT.
    pub distinct: bool,
    /// What is selected.
    pub selection: Selection,
    /// FROM.
    pub table: QualifiedName,
    /// WHERE, joined by AND. Empty without it.
    pub relations: Vec<Relation>,
    /// GROUP BY: columns, or functions of them.
    pub group_by: Vec<Selector>,
    /// ORDER BY.
    pub order_by: Vec<(Name, Direction)>,
    /// PER PARTITION LIMIT: an integer or a marker.
    pub per_partition_limit: Option<Term>,
    /// LIMIT: an integer or a marker.
    pub limit: Option<Term>,
    /// ALLOW FILTERING.
    pub allow_filtering: bool,
    /// BYPASS CACHE.
    pub bypass_cache: bool,
    /// USING TIMEOUT: a duration or a marker.
    pub timeout: Option<Term>,
}

/// What a SELECT returns.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// `*`
    All,
    /// Selectors, at least one.
    Selectors(Vec<SelectedColumn>),
}

/// A selector and the name given to its column.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedColumn {
    /// What is selected.
    pub selector: Selector,
    /// `AS name`.
    pub alias: Option<Name>,
}

/// A value computed from a row.
#[derive(Clone, PartialEq)]
pub struct Selector {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub kind: SelectorKind,
}

/// Without its position.
impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// What a [`Selector`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum SelectorKind {
    /// A column.
    Column(Name),
    /// A value that does not depend on the row: never arithmetic, a negation or a function call,
    /// which have forms of their own here.
    Term(TermKind),
    /// `count(*)` or `count(1)`.
    CountRows,
    /// `f(a, b)`, `token(a, b)` among them, `count(column)` too.
    Function(FunctionCall<Selector>),
    /// `CAST(a AS type)`.
    Cast {
        /// The value.
        selector: Box<Selector>,
        /// The native type that it is converted to.
        type_name: TypeName,
    },
    /// `writetime(column)` and its kin, also of an element or a field of a column.
    CellMetadata {
        /// Which metadata.
        function: CellMetadataFunction,
        /// [`SelectorKind::Column`], or [`SelectorKind::Element`], [`SelectorKind::Slice`] and
        /// [`SelectorKind::Field`] of one.
        cell: Box<Selector>,
    },
    /// `m['k']`
    Element {
        /// The collection.
        collection: Box<Selector>,
        /// Key of the map, element of the set.
        key: Term,
    },
    /// `m['a'..'c']`, bounded on one side at least.
    Slice {
        /// The collection.
        collection: Box<Selector>,
        /// First key, if bounded.
        from: Option<Term>,
        /// Last key, inclusive, if bounded.
        to: Option<Term>,
    },
    /// `u.f`
    Field {
        /// The user type's value.
        value: Box<Selector>,
        /// The field.
        field: Name,
    },
    /// `a + b`
    Arithmetic {
        /// Left operand.
        left: Box<Selector>,
        /// The operation.
        operator: ArithmeticOperator,
        /// Right operand.
        right: Box<Selector>,
    },
    /// `-a`
    Negate(Box<Selector>),
    /// `(a)`, where `a` is no term.
    Parentheses(Box<Selector>),
    /// `(type) a`, where `a` is no term.
    Hint {
        /// The type that the value has.
        type_name: TypeName,
        /// The value.
        selector: Box<Selector>,
    },
    /// `[a, b]`: a list or a vector. Like the forms below never of terms alone, which make a
    /// [`SelectorKind::Term`].
    List(Vec<Selector>),
    /// `{a, b}`
    Set(Vec<Selector>),
    /// `{a: b}`: a map, or a user type if the keys are names and the type that is expected says so.
    Map(Vec<(Selector, Selector)>),
    /// `(a, b)`
    Tuple(Vec<Selector>),
}

/// Which metadata of a cell is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellMetadataFunction {
    /// `writetime`: the timestamp, or a list of them for a multi-cell column.
    WriteTime,
    /// `maxwritetime`: the largest timestamp.
    MaxWriteTime,
    /// `ttl`: the seconds left.
    Ttl,
}

/// Sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// ASC, the default.
    Ascending,
    /// DESC.
    Descending,
}

/// One relation of a WHERE clause or one condition of an IF clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// What is compared.
    pub operand: Operand,
    /// With what and how.
    pub predicate: Predicate,
    /// Where the relation begins.
    pub position: Position,
}

/// The left side of a [`Relation`].
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `a`; any predicate.
    Column(Name),
    /// `(a, b)`, at least one, only in WHERE; with [`Predicate::Compare`] or [`Predicate::In`].
    Columns(Vec<Name>),
    /// `token(a, b)`, only in WHERE; with [`Predicate::Compare`].
    Token(Vec<Name>),
    /// `m['k']`; with [`Predicate::Compare`], in IF also [`Predicate::In`].
    Element {
        /// The collection.
        column: Name,
        /// Key of a map, index of a list.
        key: Term,
    },
    /// `u.f`, only in IF; with [`Predicate::Compare`] or [`Predicate::In`].
    Field {
        /// The column of a user type.
        column: Name,
        /// Its field.
        field: Name,
    },
}

/// The operator and right side of a [`Relation`].
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// `= term` and the other comparisons.
    Compare(Comparison, Term),
    /// `IN …`
    In(InValues),
    /// `CONTAINS term`
    Contains(Term),
    /// `CONTAINS KEY term`
    ContainsKey(Term),
    /// `LIKE term`
    Like(Term),
    /// `IS NOT NULL`
    IsNotNull,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
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
}

/// The right side of IN.
#[derive(Clone, Debug, PartialEq)]
pub enum InValues {
    /// `(a, b)`, possibly empty. For [`Operand::Columns`] each is a tuple or a marker of one.
    Terms(Vec<Term>),
    /// `IN ?`: one marker for the whole list.
    Marker {
        /// Index in [`ParsedStatement::markers`](super::ParsedStatement::markers).
        index: u16,
        /// Where it stands.
        position: Position,
    },
}

/// What an IF clause asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// IF EXISTS.
    Exists,
    /// IF relation AND relation …, at least one.
    Relations(Vec<Relation>),
}
