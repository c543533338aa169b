//! CREATE, ALTER and DROP; DESCRIBE.

use super::{Direction, Name, Position, QualifiedName, TypeName};

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
    /// WITH, at least one, each name once.
    pub properties: Vec<Property>,
}

/// ALTER KEYSPACE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterKeyspace {
    /// The keyspace.
    pub name: Name,
    /// IF EXISTS.
    pub if_exists: bool,
    /// WITH, at least one, each name once.
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
    /// `name = value`, `id` among them, each name once.
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
    /// CHANGEFEEDS.
    Changefeeds,
    /// CHANGEFEED f.
    Changefeed(Name),
    /// A bare name: a keyspace, or a table, index or view.
    Any(QualifiedName),
}
