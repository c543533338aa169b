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

use model::CqlType;
use std::fmt;
use std::sync::Arc;

/// Where something stands in the statement's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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

/// An identifier, folded to lower case unless it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The name of a table, type, function or index, with its keyspace if that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualifiedName {
    /// `ks` of `ks.name`.
    pub keyspace: Option<Name>,
    /// The name in the keyspace.
    pub name: Name,
}

/// A statement and the values it waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedStatement {
    /// The statement.
    pub statement: Statement,
    /// Bind markers in order of appearance; [`TermKind::Marker`] is an index into them. Two
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
    /// A statement that is CQL, but not served. Only its first words were read.
    Unsupported {
        /// Its first words in capitals, for example `CREATE INDEX`.
        what: &'static str,
        /// Where the statement begins.
        position: Position,
    },
}

// ---------------------------------------------------------------------------------------------
// Terms: values that do not depend on the row.

/// A value: literal, marker, or computed from those.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub kind: TermKind,
}

/// What a [`Term`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum TermKind {
    /// A constant.
    Literal(Literal),
    /// The bind marker of that index in [`ParsedStatement::markers`].
    Marker(u16),
    /// `[a, b]`: a list or a vector. May be empty.
    List(Vec<Term>),
    /// `{a, b}`, never empty.
    Set(Vec<Term>),
    /// `{k: v, …}`, never empty; in the order written, keys may repeat.
    Map(Vec<(Term, Term)>),
    /// `{}`: an empty set or an empty map, as the column's type decides.
    EmptySetOrMap,
    /// `{field: v, …}`, never empty.
    UserType(Vec<(Name, Term)>),
    /// `(a, b)`, never empty. `(a)` is a tuple of one unless it belongs to arithmetic: the parser
    /// reads it as one where no operator stands beside it.
    Tuple(Vec<Term>),
    /// `f(a, b)`.
    Function(FunctionCall<Term>),
    /// `(type) term`.
    Cast {
        /// The type that the term is taken as.
        type_name: TypeName,
        /// The value.
        term: Box<Term>,
    },
    /// `a + b`.
    Arithmetic {
        /// Left operand.
        left: Box<Term>,
        /// The operation.
        operator: ArithmeticOperator,
        /// Right operand.
        right: Box<Term>,
    },
    /// `-a` where `a` is not a number (the sign of a number belongs to its literal).
    Negate(Box<Term>),
}

/// A constant, not yet of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Decimal digits with an optional `-`, of any length.
    Integer(String),
    /// A number with a fraction or an exponent, of any length, or `NaN`, `Infinity`, `-NaN`,
    /// `-Infinity` (spelt so, whatever the case in the text).
    Float(String),
    /// `'…'` or `$$…$$`, without the quotes, `''` read as `'`.
    String(String),
    /// A UUID as its 128 bits, the first written digit highest.
    Uuid(u128),
    /// `0x…`.
    Blob(Vec<u8>),
    /// `true` or `false`.
    Boolean(bool),
    /// A duration, as written: months, days and nanoseconds, all of one sign.
    Duration {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// Nanoseconds.
        nanoseconds: i64,
    },
    /// `null`.
    Null,
}

/// A call of a function on `A`rguments: terms, or selectors in a SELECT.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionCall<A> {
    /// The function, folded like every name (`toDate` is `todate`).
    pub function: QualifiedName,
    /// Its arguments, possibly none.
    pub arguments: Vec<A>,
}

/// An operator between numbers (and times and durations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOperator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// A type as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// A native type; never a collection, tuple, vector or user type.
    Native(CqlType),
    /// `list<t>`
    List(Box<TypeName>),
    /// `set<t>`
    Set(Box<TypeName>),
    /// `map<k, v>`
    Map(Box<TypeName>, Box<TypeName>),
    /// `frozen<t>`, whatever `t` is.
    Frozen(Box<TypeName>),
    /// `tuple<a, b>`, never empty.
    Tuple(Vec<TypeName>),
    /// `vector<t, n>`
    Vector {
        /// Type of the elements.
        element: Box<TypeName>,
        /// How many; not checked against the limits of vectors.
        dimension: u32,
    },
    /// A user type.
    User(QualifiedName),
    /// `'java.class.Name'`
    Custom {
        /// The class name.
        class: String,
        /// Where it was written.
        position: Position,
    },
}

// ---------------------------------------------------------------------------------------------
// SELECT.

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
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub kind: SelectorKind,
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
        /// The type that it is converted to.
        type_name: TypeName,
    },
    /// `writetime(column)` and its kin, also of an element or a field of a column.
    CellMetadata {
        /// Which metadata.
        function: CellMetadataFunction,
        /// [`SelectorKind::Column`], [`SelectorKind::Element`] or [`SelectorKind::Field`].
        cell: Box<Selector>,
    },
    /// `m['k']`
    Element {
        /// The collection.
        collection: Box<Selector>,
        /// Key of the map, element of the set.
        key: Term,
    },
    /// `m['a'..'c']`
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

// ---------------------------------------------------------------------------------------------
// WHERE and IF.

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
        /// Index in [`ParsedStatement::markers`].
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

// ---------------------------------------------------------------------------------------------
// INSERT, UPDATE, DELETE, BATCH.

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

// ---------------------------------------------------------------------------------------------
// Definitions.

/// `name = value` in a WITH clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The property, folded to lower case.
    pub name: Name,
    /// Its value.
    pub value: PropertyValue,
}

/// The value of a [`Property`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// A constant as text, without quotes: `'x'` and `x` cannot be told apart.
    Text(String),
    /// A map of constants as text, in the order written; keys may repeat, case is kept.
    Map(Vec<(String, String)>),
}

/// CREATE KEYSPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKeyspace {
    /// The keyspace.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// WITH; may repeat a name.
    pub properties: Vec<Property>,
}

/// ALTER KEYSPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterKeyspace {
    /// The keyspace.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
    /// WITH; may repeat a name.
    pub properties: Vec<Property>,
}

/// DROP KEYSPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropKeyspace {
    /// The keyspace.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
}

/// DROP TABLE, DROP TYPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// What is dropped.
    pub name: QualifiedName,
    /// IF EXISTS.
    pub if_exists: bool,
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// The table.
    pub table: QualifiedName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns in the order written; may repeat a name.
    pub columns: Vec<ColumnDefinition>,
    /// Every PRIMARY KEY that was written, behind a column or on its own; one is right.
    pub primary_keys: Vec<PrimaryKey>,
    /// WITH.
    pub properties: TableProperties,
}

/// A column of CREATE TABLE or ALTER TABLE ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// The column.
    pub name: Name,
    /// Its type.
    pub type_name: TypeName,
    /// STATIC.
    pub is_static: bool,
}

/// PRIMARY KEY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryKey {
    /// Where it was written.
    pub position: Position,
    /// Columns of the partition key, at least one.
    pub partition: Vec<Name>,
    /// Clustering columns.
    pub clustering: Vec<Name>,
}

/// The WITH clause of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableProperties {
    /// `name = value`, `id` among them; may repeat a name.
    pub properties: Vec<Property>,
    /// CLUSTERING ORDER BY; empty without it.
    pub clustering_order: Vec<(Name, Direction)>,
    /// Where COMPACT STORAGE was written, if it was.
    pub compact_storage: Option<Position>,
}

/// ALTER TABLE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterTable {
    /// The table.
    pub table: QualifiedName,
    /// IF EXISTS behind TABLE.
    pub if_exists: bool,
    /// What changes.
    pub action: AlterTableAction,
}

/// What ALTER TABLE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterTableAction {
    /// ADD.
    Add {
        /// IF NOT EXISTS behind ADD.
        if_not_exists: bool,
        /// The columns, at least one.
        columns: Vec<ColumnDefinition>,
    },
    /// DROP.
    Drop {
        /// IF EXISTS behind DROP.
        if_exists: bool,
        /// The columns, at least one.
        columns: Vec<Name>,
        /// USING TIMESTAMP, microseconds.
        timestamp: Option<i64>,
    },
    /// RENAME a TO b AND c TO d.
    Rename {
        /// IF EXISTS behind RENAME.
        if_exists: bool,
        /// Old and new names, at least one pair.
        columns: Vec<(Name, Name)>,
    },
    /// ALTER column TYPE type.
    AlterType {
        /// IF EXISTS behind ALTER.
        if_exists: bool,
        /// The column.
        column: Name,
        /// Its new type.
        type_name: TypeName,
    },
    /// DROP COMPACT STORAGE.
    DropCompactStorage,
    /// WITH.
    With(TableProperties),
}

/// CREATE TYPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateType {
    /// The type.
    pub name: QualifiedName,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Fields in order, at least one; may repeat a name.
    pub fields: Vec<(Name, TypeName)>,
}

/// ALTER TYPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterType {
    /// The type.
    pub name: QualifiedName,
    /// IF EXISTS behind TYPE.
    pub if_exists: bool,
    /// What changes.
    pub action: AlterTypeAction,
}

/// What ALTER TYPE changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlterTypeAction {
    /// ADD field type.
    Add {
        /// IF NOT EXISTS behind ADD.
        if_not_exists: bool,
        /// The field.
        field: Name,
        /// Its type.
        type_name: TypeName,
    },
    /// RENAME a TO b AND c TO d.
    Rename {
        /// IF EXISTS behind RENAME.
        if_exists: bool,
        /// Old and new names, at least one pair.
        fields: Vec<(Name, Name)>,
    },
    /// ALTER field TYPE type.
    AlterField {
        /// IF EXISTS behind ALTER.
        if_exists: bool,
        /// The field.
        field: Name,
        /// Its new type.
        type_name: TypeName,
    },
}

// ---------------------------------------------------------------------------------------------
// DESCRIBE.

/// DESCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe {
    /// What is described.
    pub target: DescribeTarget,
    /// WITH INTERNALS.
    pub with_internals: bool,
    /// WITH INTERNALS AND PASSWORDS.
    pub with_passwords: bool,
}

/// What DESCRIBE describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescribeTarget {
    /// CLUSTER.
    Cluster,
    /// SCHEMA, with the system keyspaces if FULL.
    Schema {
        /// FULL SCHEMA.
        full: bool,
    },
    /// KEYSPACES.
    Keyspaces,
    /// KEYSPACE.
    Keyspace {
        /// The keyspace, or the one in use.
        name: Option<Name>,
        /// ONLY: without what it contains.
        only: bool,
    },
    /// TABLES.
    Tables,
    /// TABLE t.
    Table(QualifiedName),
    /// TYPES.
    Types,
    /// TYPE t.
    Type(QualifiedName),
    /// FUNCTIONS.
    Functions,
    /// FUNCTION f.
    Function(QualifiedName),
    /// AGGREGATES.
    Aggregates,
    /// AGGREGATE a.
    Aggregate(QualifiedName),
    /// INDEX i.
    Index(QualifiedName),
    /// MATERIALIZED VIEW v.
    MaterializedView(QualifiedName),
    /// A bare name: a keyspace, or a table, index or view.
    Any(QualifiedName),
}
