//! Sets of clustering positions: sorted lists of intervals, and how relations become them.
//!
//! An interval is half open over encoded positions ([`model::clustering`]), so that relations on
//! columns of either direction, alone or as tuples, all become intervals, and "and" is the common
//! part of two lists.

use model::clustering::{AFTER, encode_component};
use model::key::KEY_BYTES_MAX;
use model::read::Slice;
use model::{ColumnDef, ValueError};

use crate::syntax::ast::Comparison;

/// A clustering key, or the first components of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The encoded components.
    pub encoded: Vec<u8>,
    /// Bytes of the values in it, before they were encoded.
    value_bytes: usize,
}

impl Prefix {
    /// Appends the value of the next column.
    pub(super) fn push(&mut self, column: &ColumnDef, value: &[u8]) -> Result<(), ValueError> {
        self.value_bytes += value.len();
        if self.value_bytes > KEY_BYTES_MAX {
            return Err(ValueError::new(format!(
                "The sum of all clustering columns is too long ({} > {KEY_BYTES_MAX})",
                self.value_bytes
            )));
        }
        encode_component(&column.cql_type, column.descending, value, &mut self.encoded)
    }
}

/// The position behind everything that begins with these bytes.
fn after(prefix: &[u8]) -> Box<[u8]> {
    let mut position = Vec::with_capacity(prefix.len() + 1);
    position.extend_from_slice(prefix);
    position.push(AFTER);
    position.into()
}

/// All positions that begin with these bytes.
pub(super) fn within(prefix: &[u8]) -> Slice {
    Slice { start: prefix.into(), end: after(prefix) }
}

/// The positions behind `prefix` at which the columns compare with the values as asked:
/// lexicographically, each column in the order of its type.
pub(super) fn compared(
    prefix: &Prefix,
    columns: &[ColumnDef],
    comparison: Comparison,
    values: &[&[u8]],
) -> Result<Vec<Slice>, ValueError> {
    let (is_greater, is_inclusive) = match comparison {
        Comparison::Greater => (true, false),
        Comparison::GreaterOrEqual => (true, true),
        Comparison::Less => (false, false),
        Comparison::LessOrEqual => (false, true),
        Comparison::Equal | Comparison::NotEqual => {
            return Err(ValueError::new("Only inequalities bound a range"));
        }
    };
    let mut slices = Vec::with_capacity(values.len() + 1);
    let mut equal = prefix.clone();
    for (column, value) in columns.iter().zip(values) {
        let before = within(&equal.encoded);
        equal.push(column, value)?;
        // Rows equal so far, and decided by this column.
        slices.push(if is_greater == column.descending {
            Slice { start: before.start, end: equal.encoded.as_slice().into() }
        } else {
            Slice { start: after(&equal.encoded), end: before.end }
        });
    }
    if is_inclusive {
        slices.push(within(&equal.encoded));
    }
    Ok(normalised(slices))
}

/// Sorted, without empty ones, touching and overlapping ones joined.
pub(super) fn normalised(mut slices: Vec<Slice>) -> Vec<Slice> {
    slices.retain(|slice| slice.start < slice.end);
    slices.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    let mut joined: Vec<Slice> = Vec::with_capacity(slices.len());
    for slice in slices {
        match joined.last_mut() {
            Some(last) if slice.start <= last.end => {
                if slice.end > last.end {
                    last.end = slice.end;
                }
            }
            _ => joined.push(slice),
        }
    }
    joined
}

/// The positions in both of two normalised lists.
pub(super) fn intersection(a: &[Slice], b: &[Slice]) -> Vec<Slice> {
    let mut common = Vec::new();
    let (mut rest_a, mut rest_b) = (a, b);
    while let ([first_a, tail_a @ ..], [first_b, tail_b @ ..]) = (rest_a, rest_b) {
        let start = (&first_a.start).max(&first_b.start);
        let end = (&first_a.end).min(&first_b.end);
        if start < end {
            common.push(Slice { start: start.clone(), end: end.clone() });
        }
        if first_a.end <= first_b.end { rest_a = tail_a } else { rest_b = tail_b }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ColumnKind, CqlType};

    fn columns(descending: &[bool]) -> Vec<ColumnDef> {
        let column = |(index, descending): (usize, &bool)| ColumnDef {
            id: index as u32,
            name: format!("c{index}").into(),
            cql_type: CqlType::TinyInt,
            kind: ColumnKind::Clustering(index as u16),
            descending: *descending,
        };
        descending.iter().enumerate().map(column).collect()
    }

    fn contains(slices: &[Slice], position: &[u8]) -> bool {
        slices.iter().any(|s| *s.start <= *position && *position < *s.end)
    }

    /// Every tuple against every bound, in every mixture of directions, checked by comparing the
    /// values.
    #[test]
    fn comparisons_of_tuples_choose_the_rows_that_compare_so() {
        let comparisons = [
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ];
        for directions in 0..4_u8 {
            let columns = columns(&[directions & 1 != 0, directions & 2 != 0]);
            for (bound, length) in (0..9_i8).flat_map(|b| [(b, 1), (b, 2)]) {
                let bound = [bound / 3, bound % 3];
                let bytes = bound.map(i8::to_be_bytes);
                let values: Vec<&[u8]> = bytes[..length].iter().map(<[u8; 1]>::as_slice).collect();
                for comparison in comparisons {
                    let prefix = Prefix::default();
                    let slices = compared(&prefix, &columns, comparison, &values).unwrap();
                    for row in (0..9_i8).map(|row| [row / 3, row % 3]) {
                        let mut position = Prefix::default();
                        for (column, value) in columns.iter().zip(row) {
                            position.push(column, &value.to_be_bytes()).unwrap();
                        }
                        let order = row[..length].cmp(&bound[..length]);
                        let expected = match comparison {
                            Comparison::Less => order.is_lt(),
                            Comparison::LessOrEqual => order.is_le(),
                            Comparison::Greater => order.is_gt(),
                            _ => order.is_ge(),
                        };
                        assert_eq!(contains(&slices, &position.encoded), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn the_common_part_of_two_lists_is_what_lies_in_both() {
        let slice = |start: u8, end: u8| Slice { start: [start].into(), end: [end].into() };
        let a = normalised(vec![slice(7, 9), slice(1, 3), slice(3, 5), slice(6, 6)]);
        assert_eq!(a, [slice(1, 5), slice(7, 9)]);
        let b = [slice(2, 3), slice(4, 8)];
        assert_eq!(intersection(&a, &b), [slice(2, 3), slice(4, 5), slice(7, 8)]);
        assert!(intersection(&a, &[]).is_empty());
    }
}
