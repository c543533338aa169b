//! Paths: which element of a non-frozen collection or user-defined type a cell holds.
//!
//! Cells of one column sort by their path's bytes, so a path is the element's ordered encoding
//! ([`crate::clustering`], ascending):
//!
//! | column type | path                                     | as a serialized value |
//! |-------------|------------------------------------------|-----------------------|
//! | set         | the element                              | the element           |
//! | map         | the key                                  | the key               |
//! | list        | a time uuid that gives the place         | timeuuid              |
//! | user type   | the field's index, two bytes, big endian | smallint              |
//!
//! The second form is what clients see (deleted elements in the CDC log, for one).

use crate::clustering::{decode_component, encode_component};
use crate::types::CqlType;
use crate::value::ValueError;

/// Appends the path of the element with this serialized key: the set's element, the map's key, the
/// list's time uuid, the field's index as smallint.
///
/// Errors when the column has no elements, or the key is not valid.
pub fn encode_path(column: &CqlType, key: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    match path_kind(column)? {
        PathKind::Value(cql_type) => encode_component(cql_type, false, key, out),
        PathKind::FieldIndex { .. } => field_index(column, key).map(|_| out.extend_from_slice(key)),
    }
}

/// Appends the serialized key of the element at this path; the inverse of [`encode_path`].
pub fn decode_path(column: &CqlType, path: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    match path_kind(column)? {
        PathKind::Value(cql_type) => {
            let mut rest = path;
            decode_component(cql_type, false, &mut rest, out)?;
            if rest.is_empty() { Ok(()) } else { Err(malformed(column)) }
        }
        PathKind::FieldIndex { .. } => {
            field_index(column, path).map(|_| out.extend_from_slice(path))
        }
    }
}

/// The path of a user-defined type's field.
pub fn field_path(index: u16) -> [u8; 2] {
    index.to_be_bytes()
}

/// Which field of the user-defined type `column` a path names.
pub fn field_index(column: &CqlType, path: &[u8]) -> Result<usize, ValueError> {
    match (path_kind(column)?, path) {
        (PathKind::FieldIndex { count }, [high, low]) => {
            let index = usize::from(u16::from_be_bytes([*high, *low]));
            if index < count { Ok(index) } else { Err(malformed(column)) }
        }
        _ => Err(malformed(column)),
    }
}

/// The type of the serialized keys that [`decode_path`] gives.
pub fn path_type(column: &CqlType) -> Result<&CqlType, ValueError> {
    Ok(match path_kind(column)? {
        PathKind::Value(cql_type) => cql_type,
        PathKind::FieldIndex { .. } => &CqlType::SmallInt,
    })
}

enum PathKind<'t> {
    Value(&'t CqlType),
    FieldIndex { count: usize },
}

fn path_kind(column: &CqlType) -> Result<PathKind<'_>, ValueError> {
    match column {
        CqlType::Set { element, .. } => Ok(PathKind::Value(element)),
        CqlType::Map { key, .. } => Ok(PathKind::Value(key)),
        CqlType::List { .. } => Ok(PathKind::Value(&CqlType::TimeUuid)),
        CqlType::Udt(udt) => Ok(PathKind::FieldIndex { count: udt.fields.len() }),
        _ => Err(ValueError::new(format!("Values of type {column} have no elements"))),
    }
}

fn malformed(column: &CqlType) -> ValueError {
    ValueError::new(format!("Malformed path of an element of {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UdtType;
    use std::sync::Arc;

    fn round_trip(column: &CqlType, key: &[u8]) -> Vec<u8> {
        let (mut path, mut back) = (Vec::new(), Vec::new());
        encode_path(column, key, &mut path).unwrap();
        decode_path(column, &path, &mut back).unwrap();
        assert_eq!(back, key);
        path
    }

    #[test]
    fn paths_sort_as_their_elements_and_come_back() {
        let set = CqlType::Set { element: Arc::new(CqlType::Int), frozen: false };
        let minus = round_trip(&set, &(-1_i32).to_be_bytes());
        let one = round_trip(&set, &1_i32.to_be_bytes());
        assert!(minus < one);
        let map = CqlType::Map {
            key: Arc::new(CqlType::Text),
            value: Arc::new(CqlType::Int),
            frozen: false,
        };
        assert!(round_trip(&map, b"a") < round_trip(&map, b"a\0"));
        let list = CqlType::List { element: Arc::new(CqlType::Int), frozen: false };
        let mut uuid = [0x80; 16];
        uuid[6] = 0x10;
        assert_eq!(round_trip(&list, &uuid).len(), 17);
    }

    #[test]
    fn fields_have_their_index_as_path() {
        let udt = CqlType::Udt(Arc::new(UdtType {
            keyspace: "ks".into(),
            name: "u".into(),
            fields: vec![("a".into(), CqlType::Int), ("b".into(), CqlType::Int)],
            frozen: false,
        }));
        assert_eq!(round_trip(&udt, &[0, 1]), field_path(1));
        assert_eq!(field_index(&udt, &field_path(1)), Ok(1));
        assert!(field_index(&udt, &field_path(2)).is_err());
        assert!(decode_path(&udt, &[0], &mut Vec::new()).is_err());
        assert!(encode_path(&CqlType::Int, &[0; 4], &mut Vec::new()).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let set = CqlType::Set { element: Arc::new(CqlType::Int), frozen: false };
        let mut path = round_trip(&set, &1_i32.to_be_bytes());
        path.push(0);
        assert!(decode_path(&set, &path, &mut Vec::new()).is_err());
    }
}
