//! Which keys: the values that columns of the primary key may have, prepared and bound.
//!
//! Partitions are named by `=` and `IN` on every column of the partition key. Rows are named by
//! `=` and `IN` on a prefix of the clustering columns, alone or several as a tuple, and by
//! inequalities behind that prefix. Several `IN`s multiply. Everything is bound into the encoded
//! forms of [`model::key`] and [`model::clustering`], so that what follows compares bytes.

use super::slices::{Prefix, compared, intersection, normalised, within};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, Marker, PreparedTerm};
use crate::syntax::ast::Comparison;
use model::key::{check_partition_key, encode_partition_key};
use model::read::Slice;
use model::value::{ListView, TupleView, compare_values};
use model::{ColumnDef, ColumnKind, TableDef};
use std::borrow::Cow;
use std::ops::Range;

/// Most keys that the `IN`s of one statement may come to: partitions, prefixes of clustering keys,
/// and for a write those two multiplied.
pub const KEYS_PER_STATEMENT_MAX: usize = 65_535;

/// Room for a clustering key of a few columns, so that it is allocated once.
const CLUSTERING_BYTES_USUAL: usize = 64;

/// The values that a column, or a tuple of columns, may have.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// `= term`
    One(PreparedTerm),
    /// `IN (terms)`
    Terms(Vec<PreparedTerm>),
    /// `IN ?`: the marker of a list.
    List(Marker),
}

/// Partitions by name: a choice for each column of the partition key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartitionKeys(pub Vec<Choice>);

/// Rows of a partition; all of them when nothing is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clustering {
    /// `=` and `IN` on a prefix of the columns, side by side from the first.
    pub prefix: Vec<ClusteringChoice>,
    /// Inequalities on the columns behind the prefix; all hold.
    pub bounds: Vec<ClusteringBound>,
}

/// The values of some clustering columns.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusteringChoice {
    /// Which columns, by position in the clustering key.
    pub columns: Range<usize>,
    /// Whether each value is a tuple.
    pub is_tuple: bool,
    /// The values.
    pub choice: Choice,
}

/// An inequality of some clustering columns.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusteringBound {
    /// Which columns, by position in the clustering key.
    pub columns: Range<usize>,
    /// Whether the value is a tuple.
    pub is_tuple: bool,
    /// How the columns compare.
    pub comparison: Comparison,
    /// With what.
    pub term: PreparedTerm,
}

/// Results of a binding: the usual one without a list around it.
#[derive(Clone, Debug, PartialEq)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Any number.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// None at all.
    pub const NONE: OneOrMany<T> = OneOrMany::Many(Vec::new());

    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }

    /// All of them, handed over.
    pub fn into_items(self) -> impl Iterator<Item = T> {
        let (one, many) = match self {
            OneOrMany::One(one) => (Some(one), Vec::new()),
            OneOrMany::Many(many) => (None, many),
        };
        one.into_iter().chain(many)
    }
}

impl Choice {
    /// Whether it may be of more than one value.
    pub fn is_several(&self) -> bool {
        !matches!(self, Choice::One(_))
    }

    /// All values, in the order written.
    pub(super) fn bind<'a>(
        &'a self,
        column: &ColumnDef,
        values: &BoundValues<'a>,
        context: &mut BindContext,
    ) -> Result<Vec<Cow<'a, [u8]>>, PlanError> {
        match self {
            Choice::One(term) => Ok(vec![bind_value(term, column, values, context)?]),
            Choice::Terms(terms) => {
                terms.iter().map(|term| bind_value(term, column, values, context)).collect()
            }
            Choice::List(marker) => match marker.bind(values)? {
                BoundTerm::Value(Cow::Borrowed(list)) => {
                    let items = ListView::list(list)?.map(|item| item.map(Cow::Borrowed));
                    Ok(items.collect::<Result<_, _>>()?)
                }
                BoundTerm::Value(Cow::Owned(list)) => {
                    let items = ListView::list(&list)?.map(|item| item.map(<[u8]>::to_vec));
                    Ok(items.map(|item| item.map(Cow::Owned)).collect::<Result<_, _>>()?)
                }
                BoundTerm::Null => Err(null_element(column)),
                BoundTerm::Unset => Err(unset_value(column)),
            },
        }
    }
}

impl PartitionKeys {
    /// For each column the marker that alone gives its value, if one does.
    pub fn marker_slots(&self) -> Vec<Option<u16>> {
        let slot = |choice: &Choice| match choice {
            Choice::One(term) => term.marker_slot(),
            Choice::Terms(_) | Choice::List(_) => None,
        };
        self.0.iter().map(slot).collect()
    }

    /// Whether `IN` may name several partitions.
    pub fn is_several(&self) -> bool {
        self.0.iter().any(Choice::is_several)
    }

    /// The serialized keys, each once, in the order of their columns' values, as Cassandra returns
    /// partitions.
    pub fn bind<'a>(
        &'a self,
        table: &TableDef,
        values: &BoundValues<'a>,
        context: &mut BindContext,
    ) -> Result<OneOrMany<Cow<'a, [u8]>>, PlanError> {
        let columns = table.partition_key();
        // The usual key of one column is the value, where it stands in the request.
        if let ([column], [Choice::One(term)]) = (columns, self.0.as_slice()) {
            let value = bind_value(term, column, values, context)?;
            check_partition_key(&value)?;
            return Ok(OneOrMany::One(value));
        }
        if !self.is_several() {
            let key = self.bind_one(columns, values, context)?;
            return Ok(OneOrMany::One(Cow::Owned(key)));
        }
        let keys = self.bind_several(columns, values, context)?;
        Ok(OneOrMany::Many(keys.into_iter().map(Cow::Owned).collect()))
    }

    /// The keys, where there may be several.
    fn bind_several(
        &self,
        columns: &[ColumnDef],
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Vec<Vec<u8>>, PlanError> {
        let mut choices = Vec::with_capacity(columns.len());
        for (choice, column) in self.0.iter().zip(columns) {
            let mut values = choice.bind(column, values, context)?;
            let order = |a: &Cow<[u8]>, b: &Cow<[u8]>| compare_values(&column.cql_type, a, b);
            values.sort_by(|a, b| order(a, b).then_with(|| a.cmp(b)));
            values.dedup();
            choices.push(values);
        }
        let count = checked_product(choices.iter().map(Vec::len))?;
        let mut keys = Vec::with_capacity(count);
        let mut parts: Vec<&[u8]> = vec![&[]; choices.len()];
        for number in 0..count {
            // The last column varies fastest, which keeps the order.
            let mut rest = number;
            for (part, values) in parts.iter_mut().zip(&choices).rev() {
                *part = &values[rest % values.len()];
                rest /= values.len();
            }
            keys.push(encode_partition_key(&parts)?);
        }
        Ok(keys)
    }

    /// The key, where no choice is of several values.
    fn bind_one(
        &self,
        columns: &[ColumnDef],
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Vec<u8>, PlanError> {
        let mut parts = Vec::with_capacity(columns.len());
        for (choice, column) in self.0.iter().zip(columns) {
            let Choice::One(term) = choice else { break };
            parts.push(bind_value(term, column, values, context)?);
        }
        assert_eq!(parts.len(), columns.len(), "every column has one value");
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        Ok(encode_partition_key(&parts)?)
    }
}

impl Clustering {
    /// How many clustering columns have values, from the first.
    pub fn column_count(&self) -> usize {
        self.prefix.last().map_or(0, |last| last.columns.end)
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.prefix.is_empty() && self.bounds.is_empty()
    }

    /// Whether this column (by position) has one value.
    pub fn has_one_value(&self, position: usize) -> bool {
        self.prefix
            .iter()
            .any(|choice| choice.columns.contains(&position) && !choice.choice.is_several())
    }

    /// The encoded prefixes that the choices come to, ascending, each once. They are the rows'
    /// keys if every clustering column has its values.
    pub fn bind_prefixes(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<OneOrMany<Prefix>, PlanError> {
        let key = table.clustering_key();
        let mut first = Prefix::default();
        if !self.prefix.is_empty() {
            first.encoded.reserve(CLUSTERING_BYTES_USUAL);
        }
        let mut choices = self.prefix.as_slice();
        while let [choice, others @ ..] = choices
            && let Choice::One(term) = &choice.choice
        {
            let columns = &key[choice.columns.clone()];
            let value = bind_value(term, &columns[0], values, context)?;
            push_value(&mut first, columns, choice.is_tuple, &value)?;
            choices = others;
        }
        if choices.is_empty() {
            return Ok(OneOrMany::One(first));
        }
        extended(first, choices, key, values, context).map(OneOrMany::Many)
    }

    /// The positions of the rows: ascending, apart from each other.
    pub fn bind_slices(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Vec<Slice>, PlanError> {
        let prefixes = self.bind_prefixes(table, values, context)?;
        let prefixes = prefixes.as_slice();
        if self.bounds.is_empty() {
            return Ok(prefixes.iter().map(|prefix| within(&prefix.encoded)).collect());
        }
        let mut bounds = Vec::with_capacity(self.bounds.len());
        for bound in &self.bounds {
            let columns = &table.clustering_key()[bound.columns.clone()];
            let value = bind_value(&bound.term, &columns[0], values, context)?;
            bounds.push((bound, columns, value));
        }
        let mut slices = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let mut common: Option<Vec<Slice>> = None;
            for (bound, columns, value) in &bounds {
                let positions = if bound.is_tuple {
                    let fields = tuple_fields(columns, value, null_value)?;
                    compared(prefix, columns, bound.comparison, &fields)?
                } else {
                    compared(prefix, columns, bound.comparison, &[value])?
                };
                common = Some(match common {
                    Some(others) => intersection(&others, &positions),
                    None => positions,
                });
            }
            slices.extend(common.into_iter().flatten());
        }
        Ok(if slices.len() > 1 { normalised(slices) } else { slices })
    }
}

/// A prefix with everything that more choices add to it: ascending, each once.
fn extended(
    first: Prefix,
    choices: &[ClusteringChoice],
    key: &[ColumnDef],
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Vec<Prefix>, PlanError> {
    let mut prefixes = vec![first];
    for choice in choices {
        let columns = &key[choice.columns.clone()];
        let bound = choice.choice.bind(&columns[0], values, context)?;
        checked_product([prefixes.len(), bound.len()].into_iter())?;
        let mut longer = Vec::with_capacity(prefixes.len() * bound.len());
        for prefix in &prefixes {
            for value in &bound {
                let mut prefix = prefix.clone();
                push_value(&mut prefix, columns, choice.is_tuple, value)?;
                longer.push(prefix);
            }
        }
        prefixes = longer;
    }
    prefixes.sort_unstable();
    prefixes.dedup_by(|a, b| a.encoded == b.encoded);
    Ok(prefixes)
}

/// The value of a term that may be neither null nor unset.
#[inline]
pub(super) fn bind_value<'a>(
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

fn push_value(
    prefix: &mut Prefix,
    columns: &[ColumnDef],
    is_tuple: bool,
    value: &[u8],
) -> Result<(), PlanError> {
    if !is_tuple {
        return Ok(prefix.push(&columns[0], value)?);
    }
    for (column, field) in columns.iter().zip(tuple_fields(columns, value, null_element)?) {
        prefix.push(column, field)?;
    }
    Ok(())
}

/// The fields of a tuple, one for each column.
fn tuple_fields<'v>(
    columns: &[ColumnDef],
    tuple: &'v [u8],
    is_null: fn(&ColumnDef) -> PlanError,
) -> Result<Vec<&'v [u8]>, PlanError> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut view = TupleView::new(tuple);
    for column in columns {
        let field = view.next().transpose()?.flatten();
        fields.push(field.ok_or_else(|| is_null(column))?);
    }
    Ok(fields)
}

fn null_value(column: &ColumnDef) -> PlanError {
    PlanError::invalid(match column.kind {
        ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
            format!("Invalid null value in condition for column {}", column.name)
        }
        ColumnKind::Static | ColumnKind::Regular => {
            format!("Unsupported null value for column {}", column.name)
        }
    })
}

/// A null inside a tuple, or for a whole list.
fn null_element(column: &ColumnDef) -> PlanError {
    PlanError::invalid(format!("Invalid null value for column {}", column.name))
}

fn unset_value(column: &ColumnDef) -> PlanError {
    PlanError::invalid(match column.kind {
        ColumnKind::PartitionKey(_) | ColumnKind::Clustering(_) => {
            format!("Invalid unset value for column {}", column.name)
        }
        ColumnKind::Static | ColumnKind::Regular => {
            format!("Unsupported unset value for column {}", column.name)
        }
    })
}

/// How many keys these counts come to together.
pub fn checked_product(counts: impl Iterator<Item = usize>) -> Result<usize, PlanError> {
    let product = counts.fold(1_usize, usize::saturating_mul);
    if product > KEYS_PER_STATEMENT_MAX {
        return Err(PlanError::invalid(format!(
            "The IN restrictions select {product} keys, more than the maximum of \
             {KEYS_PER_STATEMENT_MAX}"
        )));
    }
    Ok(product)
}
