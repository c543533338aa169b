//! Which rows a write is about: the WHERE clause of UPDATE and DELETE, the key columns of INSERT.
//!
//! Writes name partitions by `=` and `IN` on every column of the partition key, and rows by a
//! prefix of the clustering columns, each by `=` or `IN`, alone or several as a tuple; DELETE may
//! end the prefix with a range. Several `IN`s multiply. Everything is bound into the encoded forms
//! of [`model::key`] and [`model::clustering`], so that what follows compares bytes.

use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, Marker, PreparedTerm};
use model::clustering::{AFTER, encode_component};
use model::key::{KEY_BYTES_MAX, encode_partition_key};
use model::value::{ListView, TupleView};
use model::{ColumnDef, TableDef};
use std::borrow::Cow;
use std::ops::Range;

/// Most keys that the `IN`s of one statement may come to: partitions, rows or ranges in each, and
/// those two multiplied.
pub const KEYS_PER_STATEMENT_MAX: usize = 65_535;

/// Room for a clustering key of a few columns, so that it is allocated once.
const CLUSTERING_BYTES_USUAL: usize = 64;

/// The key part of a write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct KeySelection {
    /// One for each column of the partition key.
    pub(super) partition: Vec<Choice>,
    /// The restricted prefix of the clustering columns, side by side from the first.
    pub(super) clustering: Vec<ClusteringChoice>,
    /// Where the range behind the prefix begins.
    pub(super) start: Option<RangeBound>,
    /// Where it ends.
    pub(super) end: Option<RangeBound>,
}

/// The values that a column, or a tuple of columns, may have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Choice {
    /// `= term`
    One(PreparedTerm),
    /// `IN (terms)`
    Terms(Vec<PreparedTerm>),
    /// `IN ?`: the marker of a list.
    List(Marker),
}

/// The values of some clustering columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClusteringChoice {
    /// Which columns, by their position in the clustering key.
    pub(super) columns: Range<usize>,
    /// Whether each value is a tuple.
    pub(super) is_tuple: bool,
    /// The values.
    pub(super) choice: Choice,
}

/// One end of a range of clustering keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RangeBound {
    /// The columns that the value is for.
    pub(super) columns: Range<usize>,
    /// Whether the value is a tuple.
    pub(super) is_tuple: bool,
    /// The value.
    pub(super) term: PreparedTerm,
    /// Whether the position is behind the keys that begin with the value, or before them.
    pub(super) is_after: bool,
}

/// Encoded keys, ascending, each once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Keys {
    /// The usual case, without a list around it.
    One(Vec<u8>),
    /// Any number.
    Many(Vec<Vec<u8>>),
}

impl Keys {
    pub(super) const NONE: Keys = Keys::Many(Vec::new());

    fn sorted(mut keys: Vec<Vec<u8>>) -> Keys {
        keys.sort_unstable();
        keys.dedup();
        Keys::Many(keys)
    }

    pub(super) fn as_slice(&self) -> &[Vec<u8>] {
        match self {
            Keys::One(key) => std::slice::from_ref(key),
            Keys::Many(keys) => keys,
        }
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = Vec<u8>> {
        let (one, many) = match self {
            Keys::One(key) => (Some(key), Vec::new()),
            Keys::Many(keys) => (None, keys),
        };
        one.into_iter().chain(many)
    }
}

impl Choice {
    fn bind<'a>(
        &'a self,
        column: &ColumnDef,
        values: &BoundValues<'a>,
        context: &mut BindContext,
    ) -> Result<Vec<Cow<'a, [u8]>>, PlanError> {
        match self {
            Choice::One(term) => Ok(vec![bind_key_value(term, column, values, context)?]),
            Choice::Terms(terms) => {
                terms.iter().map(|term| bind_key_value(term, column, values, context)).collect()
            }
            Choice::List(marker) => match marker.bind(values)? {
                BoundTerm::Value(Cow::Borrowed(list)) => Ok(ListView::list(list)?
                    .map(|element| element.map(Cow::Borrowed))
                    .collect::<Result<_, _>>()?),
                BoundTerm::Value(Cow::Owned(list)) => Ok(ListView::list(&list)?
                    .map(|element| element.map(|element| Cow::Owned(element.to_vec())))
                    .collect::<Result<_, _>>()?),
                BoundTerm::Null => Err(null_element(column)),
                BoundTerm::Unset => Err(unset_value(column)),
            },
        }
    }
}

fn bind_key_value<'a>(
    term: &'a PreparedTerm,
    column: &ColumnDef,
    values: &BoundValues<'a>,
    context: &mut BindContext,
) -> Result<Cow<'a, [u8]>, PlanError> {
    match term.bind(values, context)? {
        BoundTerm::Value(bytes) => Ok(bytes),
        BoundTerm::Null => Err(null_value(column)),
        BoundTerm::Unset => Err(unset_value(column)),
    }
}

fn null_value(column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!("Invalid null value in condition for column {}", column.name))
}

/// A null inside a tuple, or for a whole list.
fn null_element(column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!("Invalid null value for column {}", column.name))
}

fn unset_value(column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!("Invalid unset value for column {}", column.name))
}

impl KeySelection {
    /// Whether every clustering column has its values.
    pub(super) fn has_full_clustering(&self, table: &TableDef) -> bool {
        self.clustering_column_count() == table.clustering_count()
    }

    /// How many clustering columns have values, not counting those of the range.
    pub(super) fn clustering_column_count(&self) -> usize {
        self.clustering.last().map_or(0, |last| last.columns.end)
    }

    /// Whether any clustering column is restricted.
    pub(super) fn restricts_clustering(&self) -> bool {
        !self.clustering.is_empty() || self.start.is_some() || self.end.is_some()
    }

    /// The serialized keys of the partitions.
    pub(super) fn bind_partitions(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Keys, PlanError> {
        let columns = table.partition_key();
        if let ([column], [Choice::One(term)]) = (columns, self.partition.as_slice()) {
            let value = bind_key_value(term, column, values, context)?;
            return Ok(Keys::One(encode_partition_key(&[&value])?));
        }
        let choices = self
            .partition
            .iter()
            .zip(columns)
            .map(|(choice, column)| choice.bind(column, values, context))
            .collect::<Result<Vec<_>, _>>()?;
        let count = checked_product(choices.iter().map(Vec::len))?;
        let mut keys = Vec::with_capacity(count);
        let mut parts: Vec<&[u8]> = Vec::with_capacity(choices.len());
        for mut number in 0..count {
            parts.clear();
            for choice in &choices {
                parts.push(&choice[number % choice.len()]);
                number /= choice.len();
            }
            keys.push(encode_partition_key(&parts)?);
        }
        Ok(Keys::sorted(keys))
    }

    /// The encoded prefixes that the clustering choices come to. They are the rows' keys if every
    /// clustering column has its values.
    pub(super) fn bind_clusterings(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Keys, PlanError> {
        let columns = table.clustering_key();
        let singles = self.clustering.iter().take_while(|c| matches!(c.choice, Choice::One(_)));
        let single_count = singles.clone().count();
        let mut first_prefix = Prefix::default();
        if single_count > 0 {
            first_prefix.encoded.reserve(CLUSTERING_BYTES_USUAL);
        }
        for choice in singles {
            let columns = &columns[choice.columns.clone()];
            let Choice::One(term) = &choice.choice else { break };
            let value = bind_key_value(term, &columns[0], values, context)?;
            first_prefix.push(columns, choice.is_tuple, &value)?;
        }
        if single_count == self.clustering.len() {
            return Ok(Keys::One(first_prefix.encoded));
        }
        let mut prefixes = vec![first_prefix];
        for choice in &self.clustering[single_count..] {
            let first = &columns[choice.columns.start];
            let bound = choice.choice.bind(first, values, context)?;
            checked_product([prefixes.len(), bound.len()].into_iter())?;
            let mut longer = Vec::with_capacity(prefixes.len() * bound.len());
            for prefix in &prefixes {
                for value in &bound {
                    let mut prefix = prefix.clone();
                    prefix.push(&columns[choice.columns.clone()], choice.is_tuple, value)?;
                    longer.push(prefix);
                }
            }
            prefixes = longer;
        }
        Ok(Keys::sorted(prefixes.into_iter().map(|prefix| prefix.encoded).collect()))
    }

    /// Start and end of the range behind a prefix, as positions.
    pub(super) fn bind_range(
        &self,
        table: &TableDef,
        prefix: &[u8],
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<(Vec<u8>, Vec<u8>), PlanError> {
        let mut position = |bound: &Option<RangeBound>, open_is_after: bool| {
            let mut position = Prefix { encoded: prefix.to_vec(), value_bytes: 0 };
            let mut is_after = open_is_after;
            if let Some(bound) = bound {
                let columns = &table.clustering_key()[bound.columns.clone()];
                let value = bind_key_value(&bound.term, &columns[0], values, context)?;
                position.push(columns, bound.is_tuple, &value)?;
                is_after = bound.is_after;
            }
            if is_after {
                position.encoded.push(AFTER);
            }
            Ok::<_, PlanError>(position.encoded)
        };
        Ok((position(&self.start, false)?, position(&self.end, true)?))
    }
}

/// A clustering prefix while it grows.
#[derive(Clone, Debug, Default)]
struct Prefix {
    encoded: Vec<u8>,
    /// Bytes of the values in it, before they were encoded.
    value_bytes: usize,
}

impl Prefix {
    fn push(
        &mut self,
        columns: &[ColumnDef],
        is_tuple: bool,
        value: &[u8],
    ) -> Result<(), PlanError> {
        if !is_tuple {
            return columns.iter().try_for_each(|column| self.push_component(column, value));
        }
        let mut fields = TupleView::new(value);
        for column in columns {
            let field = fields.next().transpose()?.flatten().ok_or_else(|| null_element(column))?;
            self.push_component(column, field)?;
        }
        Ok(())
    }

    fn push_component(&mut self, column: &ColumnDef, value: &[u8]) -> Result<(), PlanError> {
        self.value_bytes += value.len();
        if self.value_bytes > KEY_BYTES_MAX {
            return Err(PlanError::invalid(format!(
                "The sum of all clustering columns is too long ({} > {KEY_BYTES_MAX})",
                self.value_bytes
            )));
        }
        Ok(encode_component(&column.cql_type, column.descending, value, &mut self.encoded)?)
    }
}

pub(super) fn checked_product(counts: impl Iterator<Item = usize>) -> Result<usize, PlanError> {
    let mut product = 1_usize;
    for count in counts {
        product = product.saturating_mul(count);
    }
    if product > KEYS_PER_STATEMENT_MAX {
        return Err(PlanError::invalid(format!(
            "The IN restrictions select {product} keys, more than the maximum of \
             {KEYS_PER_STATEMENT_MAX}"
        )));
    }
    Ok(product)
}
