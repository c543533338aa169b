//! CQL's types: their structure and their names in CQL text.
//!
//! A [`CqlType`] knows whether it is frozen: a collection or user type that is not `frozen` is
//! stored as separate cells, everything else as one value. Types inside a frozen type are frozen
//! too, and constructors of nested types keep it so ([`CqlType::freeze`]).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A column's type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CqlType {
    /// Text of ASCII characters.
    Ascii,
    /// 64-bit signed integer.
    BigInt,
    /// Any bytes.
    Blob,
    /// True or false.
    Boolean,
    /// A distributed counter.
    Counter,
    /// Decimal number of any precision: a 32-bit scale and a varint.
    Decimal,
    /// IEEE 754 binary64.
    Double,
    /// IEEE 754 binary32.
    Float,
    /// 32-bit signed integer.
    Int,
    /// Milliseconds since the Unix epoch.
    Timestamp,
    /// Any UUID.
    Uuid,
    /// UTF-8 text; `text` and `varchar` are the same type.
    Text,
    /// Integer of any size, two's complement, big endian.
    Varint,
    /// A version 1 UUID, ordered by time.
    TimeUuid,
    /// IPv4 or IPv6 address.
    Inet,
    /// Days; 2^31 is the Unix epoch.
    Date,
    /// Nanoseconds since midnight.
    Time,
    /// 16-bit signed integer.
    SmallInt,
    /// 8-bit signed integer.
    TinyInt,
    /// Months, days and nanoseconds, each a zigzag vint.
    Duration,
    /// An ordered list.
    List {
        /// Type of the elements.
        element: Arc<CqlType>,
        /// Whether it is one value.
        frozen: bool,
    },
    /// A sorted set.
    Set {
        /// Type of the elements.
        element: Arc<CqlType>,
        /// Whether it is one value.
        frozen: bool,
    },
    /// A map sorted by key.
    Map {
        /// Type of the keys.
        key: Arc<CqlType>,
        /// Type of the values.
        value: Arc<CqlType>,
        /// Whether it is one value.
        frozen: bool,
    },
    /// A tuple; always one value.
    Tuple(Arc<[CqlType]>),
    /// A user-defined type.
    Udt(Arc<UdtType>),
    /// `vector<element, dimension>`; always one value.
    Vector {
        /// Type of the elements.
        element: Arc<CqlType>,
        /// How many elements.
        dimension: u16,
    },
}

/// A user-defined type as it is used by a column: fields resolved, frozen or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UdtType {
    /// The keyspace that holds the type.
    pub keyspace: Arc<str>,
    /// The type's name.
    pub name: Arc<str>,
    /// Fields in declaration order.
    pub fields: Vec<(Arc<str>, CqlType)>,
    /// Whether it is one value.
    pub frozen: bool,
}

impl CqlType {
    /// Whether a column of this type is stored as several cells (with paths).
    pub fn is_multi_cell(&self) -> bool {
        match self {
            CqlType::List { frozen, .. }
            | CqlType::Set { frozen, .. }
            | CqlType::Map { frozen, .. } => !frozen,
            CqlType::Udt(udt) => !udt.frozen,
            _ => false,
        }
    }

    /// Whether its values are made of values of other types.
    #[inline]
    pub fn has_parts(&self) -> bool {
        matches!(
            self,
            CqlType::List { .. }
                | CqlType::Set { .. }
                | CqlType::Map { .. }
                | CqlType::Vector { .. }
                | CqlType::Tuple(_)
                | CqlType::Udt(_)
        )
    }

    /// Whether it is a duration or holds one at any depth: such values have no order.
    pub fn holds_duration(&self) -> bool {
        match self {
            CqlType::Duration => true,
            CqlType::List { element, .. }
            | CqlType::Set { element, .. }
            | CqlType::Vector { element, .. } => element.holds_duration(),
            CqlType::Map { key, value, .. } => key.holds_duration() || value.holds_duration(),
            CqlType::Tuple(fields) => fields.iter().any(CqlType::holds_duration),
            CqlType::Udt(udt) => udt.fields.iter().any(|(_, field)| field.holds_duration()),
            _ => false,
        }
    }

    /// Whether this is a list, set or map.
    pub fn is_collection(&self) -> bool {
        matches!(self, CqlType::List { .. } | CqlType::Set { .. } | CqlType::Map { .. })
    }

    /// The same type as one value, inside and out.
    pub fn freeze(&self) -> CqlType {
        match self {
            CqlType::List { element, .. } => {
                CqlType::List { element: Arc::new(element.freeze()), frozen: true }
            }
            CqlType::Set { element, .. } => {
                CqlType::Set { element: Arc::new(element.freeze()), frozen: true }
            }
            CqlType::Map { key, value, .. } => CqlType::Map {
                key: Arc::new(key.freeze()),
                value: Arc::new(value.freeze()),
                frozen: true,
            },
            CqlType::Tuple(fields) => CqlType::Tuple(fields.iter().map(CqlType::freeze).collect()),
            CqlType::Udt(udt) => CqlType::Udt(Arc::new(UdtType {
                keyspace: udt.keyspace.clone(),
                name: udt.name.clone(),
                fields: udt.fields.iter().map(|(n, t)| (n.clone(), t.freeze())).collect(),
                frozen: true,
            })),
            other => other.clone(),
        }
    }

    /// Whether `keyspace.name` is used anywhere inside this type.
    pub fn mentions_udt(&self, keyspace: &str, name: &str) -> bool {
        match self {
            CqlType::List { element, .. }
            | CqlType::Set { element, .. }
            | CqlType::Vector { element, .. } => element.mentions_udt(keyspace, name),
            CqlType::Map { key, value, .. } => {
                key.mentions_udt(keyspace, name) || value.mentions_udt(keyspace, name)
            }
            CqlType::Tuple(fields) => fields.iter().any(|f| f.mentions_udt(keyspace, name)),
            CqlType::Udt(udt) => {
                (&*udt.keyspace == keyspace && &*udt.name == name)
                    || udt.fields.iter().any(|(_, t)| t.mentions_udt(keyspace, name))
            }
            _ => false,
        }
    }

    /// The native type with this CQL name, if there is one.
    pub fn native_from_name(name: &str) -> Option<CqlType> {
        Some(match name {
            "ascii" => CqlType::Ascii,
            "bigint" => CqlType::BigInt,
            "blob" => CqlType::Blob,
            "boolean" => CqlType::Boolean,
            "counter" => CqlType::Counter,
            "decimal" => CqlType::Decimal,
            "double" => CqlType::Double,
            "float" => CqlType::Float,
            "int" => CqlType::Int,
            "timestamp" => CqlType::Timestamp,
            "uuid" => CqlType::Uuid,
            "text" | "varchar" => CqlType::Text,
            "varint" => CqlType::Varint,
            "timeuuid" => CqlType::TimeUuid,
            "inet" => CqlType::Inet,
            "date" => CqlType::Date,
            "time" => CqlType::Time,
            "smallint" => CqlType::SmallInt,
            "tinyint" => CqlType::TinyInt,
            "duration" => CqlType::Duration,
            _ => return None,
        })
    }
}

/// Writes the type as CQL text, with `frozen<…>` where a collection or user type is frozen.
impl fmt::Display for CqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let native = match self {
            CqlType::Ascii => "ascii",
            CqlType::BigInt => "bigint",
            CqlType::Blob => "blob",
            CqlType::Boolean => "boolean",
            CqlType::Counter => "counter",
            CqlType::Decimal => "decimal",
            CqlType::Double => "double",
            CqlType::Float => "float",
            CqlType::Int => "int",
            CqlType::Timestamp => "timestamp",
            CqlType::Uuid => "uuid",
            CqlType::Text => "text",
            CqlType::Varint => "varint",
            CqlType::TimeUuid => "timeuuid",
            CqlType::Inet => "inet",
            CqlType::Date => "date",
            CqlType::Time => "time",
            CqlType::SmallInt => "smallint",
            CqlType::TinyInt => "tinyint",
            CqlType::Duration => "duration",
            CqlType::List { element, frozen } => {
                return write_frozen(f, *frozen, format_args!("list<{element}>"));
            }
            CqlType::Set { element, frozen } => {
                return write_frozen(f, *frozen, format_args!("set<{element}>"));
            }
            CqlType::Map { key, value, frozen } => {
                return write_frozen(f, *frozen, format_args!("map<{key}, {value}>"));
            }
            CqlType::Tuple(fields) => {
                f.write_str("frozen<tuple<")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{field}")?;
                }
                return f.write_str(">>");
            }
            CqlType::Udt(udt) => {
                let name = crate::schema::quote_identifier(&udt.name);
                return write_frozen(f, udt.frozen, format_args!("{name}"));
            }
            CqlType::Vector { element, dimension } => {
                return write!(f, "vector<{element}, {dimension}>");
            }
        };
        f.write_str(native)
    }
}

fn write_frozen(f: &mut fmt::Formatter<'_>, frozen: bool, inner: fmt::Arguments) -> fmt::Result {
    if frozen { write!(f, "frozen<{inner}>") } else { f.write_fmt(inner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_for_native_types() {
        for name in ["ascii", "bigint", "text", "timeuuid", "duration", "tinyint"] {
            assert_eq!(CqlType::native_from_name(name).unwrap().to_string(), name);
        }
    }

    #[test]
    fn freezing_reaches_nested_types() {
        let list = CqlType::List { element: Arc::new(CqlType::Int), frozen: false };
        let map =
            CqlType::Map { key: Arc::new(CqlType::Text), value: Arc::new(list), frozen: false };
        assert!(map.is_multi_cell());
        assert_eq!(map.freeze().to_string(), "frozen<map<text, frozen<list<int>>>>");
    }
}
