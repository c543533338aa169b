//! Column types as they are described to clients.
//!
//! A type is an `[option]`: a code and what the code asks for. Types that a version does not know
//! are sent as custom types, named by Cassandra's Java class; drivers read those names.

use std::fmt::{self, Write as _};

use model::CqlType;

use super::encode::{put_short, put_string};
use super::frame::Version;

const CODE_CUSTOM: u16 = 0x00;
const CODE_LIST: u16 = 0x20;
const CODE_MAP: u16 = 0x21;
const CODE_SET: u16 = 0x22;
const CODE_UDT: u16 = 0x30;
const CODE_TUPLE: u16 = 0x31;

/// The package of the classes that custom types are named by.
const MARSHAL_PACKAGE: &str = "org.apache.cassandra.db.marshal.";

/// Appends the type.
pub(crate) fn put_type(out: &mut Vec<u8>, cql_type: &CqlType, version: Version) {
    match cql_type {
        CqlType::List { element, .. } => {
            put_short(out, CODE_LIST);
            put_type(out, element, version);
        }
        CqlType::Set { element, .. } => {
            put_short(out, CODE_SET);
            put_type(out, element, version);
        }
        CqlType::Map { key, value, .. } => {
            put_short(out, CODE_MAP);
            put_type(out, key, version);
            put_type(out, value, version);
        }
        CqlType::Tuple(fields) => {
            put_short(out, CODE_TUPLE);
            put_short(out, u16::try_from(fields.len()).unwrap_or(u16::MAX));
            for field in fields.iter().take(usize::from(u16::MAX)) {
                put_type(out, field, version);
            }
        }
        CqlType::Udt(udt) => {
            put_short(out, CODE_UDT);
            put_string(out, &udt.keyspace);
            put_string(out, &udt.name);
            put_short(out, u16::try_from(udt.fields.len()).unwrap_or(u16::MAX));
            for (name, field) in udt.fields.iter().take(usize::from(u16::MAX)) {
                put_string(out, name);
                put_type(out, field, version);
            }
        }
        simple => match native_code(simple) {
            Some((code, since)) if version >= since => put_short(out, code),
            _ => {
                put_short(out, CODE_CUSTOM);
                put_string(out, &MarshalName { cql_type: simple, in_frozen: false }.to_string());
            }
        },
    }
}

/// The code of a type without parameters, and the version since which it has one.
fn native_code(cql_type: &CqlType) -> Option<(u16, Version)> {
    Some(match cql_type {
        CqlType::Ascii => (0x01, Version::V3),
        CqlType::BigInt => (0x02, Version::V3),
        CqlType::Blob => (0x03, Version::V3),
        CqlType::Boolean => (0x04, Version::V3),
        CqlType::Counter => (0x05, Version::V3),
        CqlType::Decimal => (0x06, Version::V3),
        CqlType::Double => (0x07, Version::V3),
        CqlType::Float => (0x08, Version::V3),
        CqlType::Int => (0x09, Version::V3),
        CqlType::Timestamp => (0x0B, Version::V3),
        CqlType::Uuid => (0x0C, Version::V3),
        CqlType::Text => (0x0D, Version::V3),
        CqlType::Varint => (0x0E, Version::V3),
        CqlType::TimeUuid => (0x0F, Version::V3),
        CqlType::Inet => (0x10, Version::V3),
        CqlType::Date => (0x11, Version::V4),
        CqlType::Time => (0x12, Version::V4),
        CqlType::SmallInt => (0x13, Version::V4),
        CqlType::TinyInt => (0x14, Version::V4),
        CqlType::Duration => (0x15, Version::V5),
        CqlType::List { .. }
        | CqlType::Set { .. }
        | CqlType::Map { .. }
        | CqlType::Tuple(_)
        | CqlType::Udt(_)
        | CqlType::Vector { .. } => return None,
    })
}

/// A type's name as Cassandra's class and its parameters.
struct MarshalName<'t> {
    cql_type: &'t CqlType,
    /// Inside a frozen type, where freezing is not said again.
    in_frozen: bool,
}

impl fmt::Display for MarshalName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_frozen_collection = match self.cql_type {
            CqlType::List { frozen, .. }
            | CqlType::Set { frozen, .. }
            | CqlType::Map { frozen, .. } => *frozen,
            CqlType::Udt(udt) => udt.frozen,
            _ => false,
        };
        let says_frozen = is_frozen_collection && !self.in_frozen;
        if says_frozen {
            write!(f, "{MARSHAL_PACKAGE}FrozenType(")?;
        }
        write!(f, "{MARSHAL_PACKAGE}{}", class_name(self.cql_type))?;
        self.write_parameters(f, self.in_frozen || is_frozen_collection)?;
        if says_frozen {
            f.write_char(')')?;
        }
        Ok(())
    }
}

impl MarshalName<'_> {
    fn write_parameters(&self, f: &mut fmt::Formatter<'_>, in_frozen: bool) -> fmt::Result {
        let name = |cql_type| MarshalName { cql_type, in_frozen };
        match self.cql_type {
            CqlType::List { element, .. } | CqlType::Set { element, .. } => {
                write!(f, "({})", name(element))
            }
            CqlType::Map { key, value, .. } => write!(f, "({},{})", name(key), name(value)),
            CqlType::Vector { element, dimension } => {
                write!(f, "({} , {dimension})", name(element))
            }
            CqlType::Tuple(fields) => {
                for (position, cql_type) in fields.iter().enumerate() {
                    let separator = if position == 0 { '(' } else { ',' };
                    write!(f, "{separator}{}", MarshalName { cql_type, in_frozen: true })?;
                }
                f.write_char(')')
            }
            CqlType::Udt(udt) => {
                write!(f, "({},{}", udt.keyspace, Hex(&udt.name))?;
                for (field, cql_type) in &udt.fields {
                    write!(f, ",{}:{}", Hex(field), name(cql_type))?;
                }
                f.write_char(')')
            }
            _ => Ok(()),
        }
    }
}

fn class_name(cql_type: &CqlType) -> &'static str {
    match cql_type {
        CqlType::Ascii => "AsciiType",
        CqlType::BigInt => "LongType",
        CqlType::Blob => "BytesType",
        CqlType::Boolean => "BooleanType",
        CqlType::Counter => "CounterColumnType",
        CqlType::Decimal => "DecimalType",
        CqlType::Double => "DoubleType",
        CqlType::Float => "FloatType",
        CqlType::Int => "Int32Type",
        CqlType::Timestamp => "TimestampType",
        CqlType::Uuid => "UUIDType",
        CqlType::Text => "UTF8Type",
        CqlType::Varint => "IntegerType",
        CqlType::TimeUuid => "TimeUUIDType",
        CqlType::Inet => "InetAddressType",
        CqlType::Date => "SimpleDateType",
        CqlType::Time => "TimeType",
        CqlType::SmallInt => "ShortType",
        CqlType::TinyInt => "ByteType",
        CqlType::Duration => "DurationType",
        CqlType::List { .. } => "ListType",
        CqlType::Set { .. } => "SetType",
        CqlType::Map { .. } => "MapType",
        CqlType::Tuple(_) => "TupleType",
        CqlType::Udt(_) => "UserType",
        CqlType::Vector { .. } => "VectorType",
    }
}

/// A name of a user type or field: hexadecimal, so that any name can stand in a class name.
struct Hex<'t>(&'t str);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::types::UdtType;

    use super::*;

    fn encoded(cql_type: &CqlType, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        put_type(&mut out, cql_type, version);
        out
    }

    fn custom(name: &str) -> Vec<u8> {
        let mut out = vec![0, 0];
        put_string(&mut out, name);
        out
    }

    #[test]
    fn types_younger_than_the_version_are_custom() {
        assert_eq!(encoded(&CqlType::Duration, Version::V5), [0, 0x15]);
        let name = "org.apache.cassandra.db.marshal.DurationType";
        assert_eq!(encoded(&CqlType::Duration, Version::V4), custom(name));
        assert_eq!(encoded(&CqlType::TinyInt, Version::V4), [0, 0x14]);
        let name = "org.apache.cassandra.db.marshal.ByteType";
        assert_eq!(encoded(&CqlType::TinyInt, Version::V3), custom(name));
        assert_eq!(encoded(&CqlType::Text, Version::V3), [0, 0x0D]);
    }

    #[test]
    fn nested_types_are_spelled_out() {
        let list = Arc::new(CqlType::List { element: Arc::new(CqlType::Int), frozen: true });
        let map = CqlType::Map { key: Arc::new(CqlType::Text), value: list, frozen: false };
        assert_eq!(encoded(&map, Version::V4), [0, 0x21, 0, 0x0D, 0, 0x20, 0, 9]);
        let tuple = CqlType::Tuple([CqlType::Int, CqlType::Boolean].into());
        assert_eq!(encoded(&tuple, Version::V4), [0, 0x31, 0, 2, 0, 9, 0, 4]);
        let udt = CqlType::Udt(Arc::new(UdtType {
            keyspace: "k".into(),
            name: "u".into(),
            fields: vec![("f".into(), CqlType::Int)],
            frozen: true,
        }));
        let expected = [0, 0x30, 0, 1, b'k', 0, 1, b'u', 0, 1, 0, 1, b'f', 0, 9];
        assert_eq!(encoded(&udt, Version::V4), expected);
    }

    #[test]
    fn vectors_are_custom_in_every_version() {
        let vector = CqlType::Vector { element: Arc::new(CqlType::Float), dimension: 3 };
        let name = "org.apache.cassandra.db.marshal.VectorType(\
                    org.apache.cassandra.db.marshal.FloatType , 3)";
        assert_eq!(encoded(&vector, Version::V5), custom(name));
    }

    #[test]
    fn freezing_is_said_once_in_class_names() {
        let inner = Arc::new(CqlType::Set { element: Arc::new(CqlType::Int), frozen: true });
        let outer = Arc::new(CqlType::List { element: inner, frozen: true });
        let vector = CqlType::Vector { element: outer, dimension: 2 };
        let name = MarshalName { cql_type: &vector, in_frozen: false }.to_string();
        let short = name.replace(MARSHAL_PACKAGE, "");
        assert_eq!(short, "VectorType(FrozenType(ListType(SetType(Int32Type))) , 2)");
    }
}
