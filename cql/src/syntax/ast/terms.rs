//! Terms: values that do not depend on the row; and the names of types.

use super::{Name, Position, QualifiedName};
use model::CqlType;
use std::fmt;

/// A value: literal, marker, or computed from those.
#[derive(Clone, PartialEq)]
pub struct Term {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub kind: TermKind,
}

/// Without its position.
impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// What a [`Term`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum TermKind {
    /// A constant.
    Literal(Literal),
    /// The bind marker of that index in [`ParsedStatement::markers`](super::ParsedStatement::markers).
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
    /// `(a, b)`, never empty. `(a)` beside an operator is `a` itself and no tuple; anywhere else it
    /// is a tuple of one, which Cassandra also takes as `a` where no tuple is expected.
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

/// As CQL has it.
impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeName::Native(native) => write!(f, "{native}"),
            TypeName::List(element) => write!(f, "list<{element}>"),
            TypeName::Set(element) => write!(f, "set<{element}>"),
            TypeName::Map(key, value) => write!(f, "map<{key}, {value}>"),
            TypeName::Frozen(inner) => write!(f, "frozen<{inner}>"),
            TypeName::Tuple(fields) => {
                let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
                write!(f, "tuple<{}>", fields.join(", "))
            }
            TypeName::Vector { element, dimension } => write!(f, "vector<{element}, {dimension}>"),
            TypeName::User(name) => match &name.keyspace {
                Some(keyspace) => write!(f, "{}.{}", keyspace.as_str(), name.name.as_str()),
                None => f.write_str(name.name.as_str()),
            },
            TypeName::Custom { class, .. } => write!(f, "'{class}'"),
        }
    }
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
