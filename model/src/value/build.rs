//! Builders of serialized collections and tuples, and their normal form.
//!
//! The normal form of a collection is the one CQL promises to return: a set sorted without
//! duplicates, a map sorted by key with one value per key. Clients may send frozen collections in
//! any order; what is stored, compared and hashed is the normal form.

use super::{
    ListView, MapView, TupleView, ValueError, VectorView, compare_values, fixed_bytes_in_vector,
    write_unsigned_vint,
};
use crate::types::CqlType;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Appends elements to a serialized list, set or map, and counts them.
#[derive(Debug)]
pub struct CollectionBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: i32,
}

impl<'a> CollectionBuilder<'a> {
    /// Begins a collection at the end of `out`. Sets and maps are given in their order.
    pub fn new(out: &'a mut Vec<u8>) -> CollectionBuilder<'a> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        CollectionBuilder { out, start, count: 0 }
    }

    /// Adds an element of a list or set.
    pub fn element(&mut self, value: &[u8]) {
        self.count += 1;
        push_value(self.out, Some(value));
    }

    /// Adds an entry of a map.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.count += 1;
        push_value(self.out, Some(key));
        push_value(self.out, Some(value));
    }

    /// Writes the count.
    pub fn finish(self) {
        self.out[self.start..self.start + 4].copy_from_slice(&self.count.to_be_bytes());
    }
}

/// Appends a value behind its length in four bytes, null as length -1: a field of a tuple or
/// user-defined type.
pub fn push_value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return;
    };
    debug_assert!(i32::try_from(value.len()).is_ok(), "values are bounded by the frame size");
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

/// The normal form of a valid value; borrowed when the value is in it already, which costs one
/// pass and no allocation.
///
/// Sets and maps at any depth are sorted and rid of duplicates, of equal map keys the last wins.
pub fn normalize<'v>(cql_type: &CqlType, value: &'v [u8]) -> Result<Cow<'v, [u8]>, ValueError> {
    if !may_need_normalizing(cql_type) || is_normal(cql_type, value)? {
        return Ok(Cow::Borrowed(value));
    }
    let mut out = Vec::with_capacity(value.len());
    write_normal(cql_type, value, &mut out)?;
    Ok(Cow::Owned(out))
}

fn may_need_normalizing(cql_type: &CqlType) -> bool {
    match cql_type {
        CqlType::Set { .. } | CqlType::Map { .. } => true,
        CqlType::List { element, .. } | CqlType::Vector { element, .. } => {
            may_need_normalizing(element)
        }
        CqlType::Tuple(fields) => fields.iter().any(may_need_normalizing),
        CqlType::Udt(udt) => udt.fields.iter().any(|(_, t)| may_need_normalizing(t)),
        _ => false,
    }
}

fn is_normal(cql_type: &CqlType, value: &[u8]) -> Result<bool, ValueError> {
    match cql_type {
        CqlType::List { element, .. } => all_normal(element, ListView::list(value)?),
        CqlType::Vector { element, dimension } => {
            all_normal(element, VectorView::new(element, *dimension, value))
        }
        CqlType::Set { element, .. } => {
            let mut previous = None;
            for item in ListView::set(value)? {
                let item = item?;
                if !follows(element, previous, item) || !is_normal(element, item)? {
                    return Ok(false);
                }
                previous = Some(item);
            }
            Ok(true)
        }
        CqlType::Map { key, value: element, .. } => {
            let mut previous = None;
            for entry in MapView::new(value)? {
                let (entry_key, entry_value) = entry?;
                if !follows(key, previous, entry_key)
                    || !is_normal(key, entry_key)?
                    || !is_normal(element, entry_value)?
                {
                    return Ok(false);
                }
                previous = Some(entry_key);
            }
            Ok(true)
        }
        CqlType::Tuple(fields) => tuple_is_normal(fields.iter(), value),
        CqlType::Udt(udt) => tuple_is_normal(udt.fields.iter().map(|(_, t)| t), value),
        _ => Ok(true),
    }
}

fn follows(cql_type: &CqlType, previous: Option<&[u8]>, item: &[u8]) -> bool {
    previous.is_none_or(|previous| compare_values(cql_type, previous, item) == Ordering::Less)
}

fn all_normal<'v>(
    element: &CqlType,
    items: impl Iterator<Item = Result<&'v [u8], ValueError>>,
) -> Result<bool, ValueError> {
    for item in items {
        if !is_normal(element, item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn tuple_is_normal<'t>(
    fields: impl Iterator<Item = &'t CqlType>,
    value: &[u8],
) -> Result<bool, ValueError> {
    for (field_type, field) in fields.zip(TupleView::new(value)) {
        if let Some(field) = field?
            && !is_normal(field_type, field)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_normal(cql_type: &CqlType, value: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    match cql_type {
        CqlType::List { element, .. } => {
            let mut builder = CollectionBuilder::new(out);
            for item in ListView::list(value)? {
                builder.element(&normalize(element, item?)?);
            }
            builder.finish();
        }
        CqlType::Set { element, .. } => {
            let mut items = ListView::set(value)?
                .map(|item| normalize(element, item?))
                .collect::<Result<Vec<_>, _>>()?;
            items.sort_by(|a, b| compare_values(element, a, b));
            items.dedup_by(|a, b| compare_values(element, a, b) == Ordering::Equal);
            let mut builder = CollectionBuilder::new(out);
            for item in &items {
                builder.element(item);
            }
            builder.finish();
        }
        CqlType::Map { key, value: element, .. } => write_normal_map(key, element, value, out)?,
        CqlType::Tuple(fields) => write_normal_tuple(fields.iter(), value, out)?,
        CqlType::Udt(udt) => write_normal_tuple(udt.fields.iter().map(|(_, t)| t), value, out)?,
        CqlType::Vector { element, dimension } => {
            for item in VectorView::new(element, *dimension, value) {
                let item = normalize(element, item?)?;
                if fixed_bytes_in_vector(element).is_none() {
                    write_unsigned_vint(item.len() as u64, out);
                }
                out.extend_from_slice(&item);
            }
        }
        _ => out.extend_from_slice(value),
    }
    Ok(())
}

fn write_normal_map(
    key: &CqlType,
    element: &CqlType,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mut entries = MapView::new(value)?
        .map(|entry| {
            let (entry_key, entry_value) = entry?;
            Ok((normalize(key, entry_key)?, normalize(element, entry_value)?))
        })
        .collect::<Result<Vec<_>, ValueError>>()?;
    // A stable sort of the reversed entries puts the last one sent first among equals, and the
    // first of equals is the one that stays.
    entries.reverse();
    entries.sort_by(|a, b| compare_values(key, &a.0, &b.0));
    entries.dedup_by(|a, b| compare_values(key, &a.0, &b.0) == Ordering::Equal);
    let mut builder = CollectionBuilder::new(out);
    for (entry_key, entry_value) in &entries {
        builder.entry(entry_key, entry_value);
    }
    builder.finish();
    Ok(())
}

fn write_normal_tuple<'t>(
    fields: impl Iterator<Item = &'t CqlType>,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    for (field_type, field) in fields.zip(TupleView::new(value)) {
        match field? {
            Some(field) => push_value(out, Some(&normalize(field_type, field)?)),
            None => push_value(out, None),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::testing::{Random, random_type, random_value, tuple_of};
    use crate::value::validate;
    use std::sync::Arc;

    fn collection(items: &[&[u8]], parts: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut builder = CollectionBuilder::new(&mut out);
        for item in items.chunks(parts) {
            match item {
                [key, value] => builder.entry(key, value),
                _ => builder.element(item[0]),
            }
        }
        builder.finish();
        out
    }

    #[test]
    fn sets_are_sorted_by_value_without_duplicates() {
        let set = CqlType::Set { element: Arc::new(CqlType::TinyInt), frozen: true };
        let sent = collection(&[&[1], &[0xff], &[1], &[0]], 1);
        let normal = normalize(&set, &sent).unwrap();
        assert_eq!(*normal, collection(&[&[0xff], &[0], &[1]], 1));
        assert!(matches!(normalize(&set, &normal), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn of_equal_map_keys_the_last_wins() {
        let map = CqlType::Map {
            key: Arc::new(CqlType::Text),
            value: Arc::new(CqlType::Text),
            frozen: true,
        };
        let sent = collection(&[b"b", b"1", b"a", b"2", b"b", b"3", b"a", b"4"], 2);
        let normal = normalize(&map, &sent).unwrap();
        assert_eq!(*normal, collection(&[b"a", b"4", b"b", b"3"], 2));
    }

    #[test]
    fn nested_sets_are_normalized_inside_lists_and_tuples() {
        let set = CqlType::Set { element: Arc::new(CqlType::TinyInt), frozen: true };
        let tuple = tuple_of(&[set]);
        let list = CqlType::List { element: Arc::new(tuple), frozen: true };
        let nest = |items: &[&[u8]]| {
            let mut field = Vec::new();
            push_value(&mut field, Some(&collection(items, 1)));
            collection(&[&field], 1)
        };
        let sent = nest(&[&[2], &[1]]);
        assert_eq!(*normalize(&list, &sent).unwrap(), nest(&[&[1], &[2]]));
    }

    #[test]
    fn normalizing_is_idempotent_and_keeps_values_valid() {
        for seed in 0..4_000 {
            let mut random = Random::new(seed);
            let cql_type = random_type(&mut random, 3);
            let value = random_value(&mut random, &cql_type);
            let once = normalize(&cql_type, &value).unwrap().into_owned();
            assert_eq!(validate(&cql_type, &once), Ok(()), "{seed}: {cql_type}");
            assert!(matches!(normalize(&cql_type, &once), Ok(Cow::Borrowed(_))), "{seed}");
        }
    }
}
