//! WHERE of a SELECT with the values of one execution: keys, tokens, slices, filters.

use super::analyse::{PartitionRestriction, Restrictions};
use super::filter::BoundFilter;
use super::keys::OneOrMany;
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::term::BoundTerm;
use crate::syntax::ast::Comparison;
use model::TableDef;
use model::read::Slice;
use std::sync::Arc;

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
            PartitionRestriction::Keys(keys) => {
                let keys = keys.bind(table, values, context)?.into_items().map(Arc::from);
                let mut keys: Vec<Arc<[u8]>> = keys.collect();
                if !self.tokens.is_empty() {
                    keys.retain(|key| (first..=last).contains(&table.token(key).0));
                }
                BoundScope::Keys(keys)
            }
        };
        let slices = self.clustering.bind_slices(table, values, context)?.into();
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
        let PartitionRestriction::Keys(keys) = &self.partition else {
            return Err(PlanError::invalid("The statement does not name one partition"));
        };
        let key = keys.bind(table, values, context)?;
        let clustering = self.clustering.bind_prefixes(table, values, context)?;
        match (key, clustering) {
            (OneOrMany::One(key), OneOrMany::One(prefix)) => Ok((key.into_owned(), prefix.encoded)),
            _ => Err(PlanError::invalid("The statement does not name one row")),
        }
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
