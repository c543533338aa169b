//! Restrictions with the values of one execution: keys, tokens, slices.

use super::analyse::{Clustering, ClusteringChoice, PartitionRestriction, Restrictions};
use super::filter::BoundFilter;
use super::relation::Choice;
use super::slices::{Prefix, compared, intersection, normalised, within};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::syntax::ast::Comparison;
use model::key::encode_partition_key;
use model::read::Slice;
use model::value::{ListView, TupleView, compare_values};
use model::{ColumnDef, ColumnKind, TableDef};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// Room for a clustering key of a few columns, so that it is allocated once.
const CLUSTERING_BYTES_USUAL: usize = 64;

/// Most partitions, and most prefixes of clustering keys, that the `IN`s of one statement may come
/// to.
pub const KEYS_PER_STATEMENT_MAX: usize = 65_535;

/// Restrictions, bound.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundRestrictions {
    /// Which partitions.
    pub scope: BoundScope,
    /// Which rows of each: ascending, without overlaps.
    pub slices: Arc<[Slice]>,
    /// What rows are checked against.
    pub filters: Vec<BoundFilter>,
}

/// Which partitions are read.
#[derive(Clone, Debug, PartialEq)]
pub enum BoundScope {
    /// Those with these keys, each once, in the order of the key columns' values.
    Keys(Vec<Arc<[u8]>>),
    /// Those with tokens in `[first, last]`; none when `first` is greater.
    Tokens {
        /// Lowest token.
        first: i64,
        /// Highest token.
        last: i64,
    },
}

impl Restrictions {
    /// Binds the values of one execution.
    pub fn bind(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundRestrictions, PlanError> {
        let (first, last) = self.bind_tokens(values, context)?;
        let scope = match &self.partition {
            PartitionRestriction::Ring => BoundScope::Tokens { first, last },
            PartitionRestriction::Keys(choices) => {
                let mut keys = bind_keys(table, choices, values, context)?;
                if !self.tokens.is_empty() {
                    keys.retain(|key| (first..=last).contains(&table.token(key).0));
                }
                BoundScope::Keys(keys)
            }
        };
        let slices = self.clustering.bind(table, values, context)?;
        let filters = self
            .filters
            .iter()
            .map(|filter| filter.bind(table, values, context))
            .collect::<Result<_, _>>()?;
        Ok(BoundRestrictions { scope, slices, filters })
    }

    /// Binds restrictions that name one row ([`Self::is_one_row`]): its partition key and its
    /// clustering key.
    pub fn bind_row(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<(Vec<u8>, Vec<u8>), PlanError> {
        let PartitionRestriction::Keys(choices) = &self.partition else {
            return Err(PlanError::invalid("The statement does not name one partition"));
        };
        let key = bind_one_key(table, choices, values, context)?;
        let mut clustering = Prefix::default();
        if !self.clustering.prefix.is_empty() {
            clustering.encoded.reserve(CLUSTERING_BYTES_USUAL);
        }
        for choice in &self.clustering.prefix {
            let Choice::One(term) = &choice.choice else {
                return Err(PlanError::invalid("The statement does not name one row"));
            };
            let columns = &table.clustering_key()[choice.columns.clone()];
            let value = bind_value(term, &columns[0], values, context)?;
            push_value(&mut clustering, columns, choice.is_tuple, &value)?;
        }
        Ok((key, clustering.encoded))
    }

    fn bind_tokens(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<(i64, i64), PlanError> {
        let (mut first, mut last) = (i64::MIN, i64::MAX);
        let nothing = (i64::MAX, i64::MIN);
        for bound in &self.tokens {
            let bytes = match bound.term.bind(values, context)? {
                BoundTerm::Value(bytes) => bytes,
                BoundTerm::Null | BoundTerm::Unset => {
                    return Err(PlanError::invalid("Invalid null token value"));
                }
            };
            let token = bytes.first_chunk().copied().map(i64::from_be_bytes);
            let token = token.ok_or_else(|| PlanError::invalid("Invalid empty token value"))?;
            match bound.comparison {
                Comparison::Greater => match token.checked_add(1) {
                    Some(above) => first = first.max(above),
                    None => return Ok(nothing),
                },
                Comparison::GreaterOrEqual => first = first.max(token),
                // As an end, the minimum token is where the ring closes: no bound.
                Comparison::Less | Comparison::LessOrEqual if token == i64::MIN => {}
                Comparison::Less => last = last.min(token - 1),
                Comparison::LessOrEqual => last = last.min(token),
                Comparison::Equal | Comparison::NotEqual => {
                    first = first.max(token);
                    last = last.min(token);
                }
            }
        }
        Ok((first, last))
    }
}

/// The value of a term that may be neither null nor unset.
pub(super) fn bind_value<'a>(
    term: &'a PreparedTerm,
    column: &ColumnDef,
    values: &BoundValues<'a>,
    context: &mut BindContext,
) -> Result<Cow<'a, [u8]>, PlanError> {
    match term.bind(values, context)? {
        BoundTerm::Value(bytes) => Ok(bytes),
        BoundTerm::Null => Err(null_value(column)),
        BoundTerm::Unset => {
            Err(PlanError::invalid(format!("Invalid unset value for column {}", column.name)))
        }
    }
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

/// All values of a choice, in the order written.
pub(super) fn bind_choice<'a>(
    choice: &'a Choice,
    column: &ColumnDef,
    values: &BoundValues<'a>,
    context: &mut BindContext,
) -> Result<Vec<Cow<'a, [u8]>>, PlanError> {
    match choice {
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
            BoundTerm::Null => Err(null_value(column)),
            BoundTerm::Unset => {
                Err(PlanError::invalid(format!("Invalid unset value for column {}", column.name)))
            }
        },
    }
}

fn bind_one_key(
    table: &TableDef,
    choices: &[Choice],
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Vec<u8>, PlanError> {
    // The usual key of one column is allocated once, as the key itself.
    if let ([Choice::One(term)], [column]) = (choices, table.partition_key()) {
        return Ok(encode_partition_key(&[&bind_value(term, column, values, context)?])?);
    }
    let mut parts = Vec::with_capacity(choices.len());
    for (choice, column) in choices.iter().zip(table.partition_key()) {
        let Choice::One(term) = choice else {
            return Err(PlanError::invalid("The statement does not name one partition"));
        };
        parts.push(bind_value(term, column, values, context)?);
    }
    let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
    Ok(encode_partition_key(&parts)?)
}

/// The keys of the partitions, each once, in the order of their columns' values, as Cassandra
/// returns them.
fn bind_keys(
    table: &TableDef,
    choices: &[Choice],
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Vec<Arc<[u8]>>, PlanError> {
    if choices.iter().all(|choice| matches!(choice, Choice::One(_))) {
        return Ok(vec![bind_one_key(table, choices, values, context)?.into()]);
    }
    let columns = table.partition_key();
    let mut bound = Vec::with_capacity(choices.len());
    for (choice, column) in choices.iter().zip(columns) {
        let mut values = bind_choice(choice, column, values, context)?;
        let order = |a: &Cow<[u8]>, b: &Cow<[u8]>| compare_values(&column.cql_type, a, b);
        values.sort_by(|a, b| order(a, b).then_with(|| a.cmp(b)));
        values.dedup();
        bound.push(values);
    }
    let count = checked_product(bound.iter().map(Vec::len))?;
    let mut keys = Vec::with_capacity(count);
    let mut parts: Vec<&[u8]> = vec![&[]; bound.len()];
    for number in 0..count {
        // The last column varies fastest, which keeps the order.
        let mut rest = number;
        for (part, values) in parts.iter_mut().zip(&bound).rev() {
            *part = &values[rest % values.len()];
            rest /= values.len();
        }
        keys.push(encode_partition_key(&parts)?.into());
    }
    Ok(keys)
}

fn checked_product(counts: impl Iterator<Item = usize>) -> Result<usize, PlanError> {
    let product = counts.fold(1_usize, usize::saturating_mul);
    if product > KEYS_PER_STATEMENT_MAX {
        return Err(PlanError::invalid(format!(
            "The IN restrictions select {product} keys, more than the maximum of \
             {KEYS_PER_STATEMENT_MAX}"
        )));
    }
    Ok(product)
}

impl Clustering {
    fn bind(
        &self,
        table: &TableDef,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Arc<[Slice]>, PlanError> {
        let mut prefixes = vec![Prefix::default()];
        for choice in &self.prefix {
            prefixes = extend_prefixes(prefixes, table, choice, values, context)?;
        }
        let mut slices = Vec::with_capacity(prefixes.len());
        for prefix in &prefixes {
            slices.extend(self.bind_bounds(table, prefix, values, context)?);
        }
        Ok(if slices.len() > 1 { normalised(slices) } else { slices }.into())
    }

    /// The slices behind one prefix.
    fn bind_bounds(
        &self,
        table: &TableDef,
        prefix: &Prefix,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Vec<Slice>, PlanError> {
        let mut slices = vec![within(&prefix.encoded)];
        for bound in &self.bounds {
            let columns = &table.clustering_key()[bound.columns.clone()];
            let value = bind_value(&bound.term, &columns[0], values, context)?;
            let positions = if bound.is_tuple {
                let fields = tuple_fields(columns, &value)?;
                compared(prefix, columns, bound.comparison, &fields)?
            } else {
                compared(prefix, columns, bound.comparison, &[&value])?
            };
            slices = intersection(&slices, &positions);
        }
        Ok(slices)
    }
}

fn extend_prefixes(
    mut prefixes: Vec<Prefix>,
    table: &TableDef,
    choice: &ClusteringChoice,
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<Vec<Prefix>, PlanError> {
    let columns = &table.clustering_key()[choice.columns.clone()];
    if let (Choice::One(term), [prefix]) = (&choice.choice, prefixes.as_mut_slice()) {
        let value = bind_value(term, &columns[0], values, context)?;
        push_value(prefix, columns, choice.is_tuple, &value)?;
        return Ok(prefixes);
    }
    let bound = bind_choice(&choice.choice, &columns[0], values, context)?;
    checked_product([prefixes.len(), bound.len()].into_iter())?;
    let mut longer = Vec::with_capacity(prefixes.len() * bound.len());
    for prefix in &prefixes {
        for value in &bound {
            let mut prefix = prefix.clone();
            push_value(&mut prefix, columns, choice.is_tuple, value)?;
            longer.push(prefix);
        }
    }
    longer.sort_unstable();
    longer.dedup_by(|a, b| a.encoded.cmp(&b.encoded) == Ordering::Equal);
    Ok(longer)
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
    for (column, field) in columns.iter().zip(tuple_fields(columns, value)?) {
        prefix.push(column, field)?;
    }
    Ok(())
}

/// The fields of a tuple: one for each column, or fewer for a shorter tuple in an inequality.
fn tuple_fields<'v>(columns: &[ColumnDef], tuple: &'v [u8]) -> Result<Vec<&'v [u8]>, PlanError> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut view = TupleView::new(tuple);
    for column in columns {
        let field = view.next().transpose()?.flatten();
        fields.push(field.ok_or_else(|| null_value(column))?);
    }
    Ok(fields)
}
