//! Which relation restricts what: partitions, clustering, or rows one by one.

use super::filter::Filter;
use super::relation::{Choice, Place, Prepared, Test};
use crate::plan::error::PlanError;
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{Comparison, Relation};
use model::{ColumnDef, TableDef};
use std::ops::Range;

/// What a SELECT without ALLOW FILTERING is told when it would need it.
const NEEDS_FILTERING: &str = "Cannot execute this query as it might involve data filtering and \
                               thus may have unpredictable performance. If you want to execute \
                               this query despite the performance unpredictability, use ALLOW \
                               FILTERING";

/// A WHERE clause, prepared.
#[derive(Clone, Debug, PartialEq)]
pub struct Restrictions {
    /// Which partitions.
    pub partition: PartitionRestriction,
    /// Bounds of the token, besides.
    pub tokens: Vec<TokenBound>,
    /// Which rows of each.
    pub clustering: Clustering,
    /// What is checked row by row.
    pub filters: Vec<Filter>,
    /// Whether anything is asked of clustering columns, filters included.
    pub restricts_clustering: bool,
    /// Whether anything is asked of regular columns.
    pub restricts_regular: bool,
}

/// Which partitions are read.
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionRestriction {
    /// Those whose key columns have these values: a choice for each column.
    Keys(Vec<Choice>),
    /// All of them.
    Ring,
}

/// `token(key) < term` or another comparison, `=` included.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBound {
    /// How the token compares.
    pub comparison: Comparison,
    /// With what.
    pub term: PreparedTerm,
}

/// The relations that make slices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clustering {
    /// `=` and `IN` on a prefix of the columns, side by side from the first.
    pub(super) prefix: Vec<ClusteringChoice>,
    /// Inequalities on the columns behind the prefix; all hold.
    pub(super) bounds: Vec<ClusteringBound>,
}

/// The values of some clustering columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClusteringChoice {
    /// Which columns, by position in the clustering key.
    pub(super) columns: Range<usize>,
    /// Whether each value is a tuple.
    pub(super) is_tuple: bool,
    /// The values.
    pub(super) choice: Choice,
}

/// An inequality of some clustering columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClusteringBound {
    /// Which columns, by position in the clustering key.
    pub(super) columns: Range<usize>,
    /// Whether the value is a tuple.
    pub(super) is_tuple: bool,
    /// How the columns compare.
    pub(super) comparison: Comparison,
    /// With what.
    pub(super) term: PreparedTerm,
}

impl Restrictions {
    /// Prepares the WHERE clause of a SELECT.
    pub fn prepare(
        preparer: &mut TermPreparer,
        relations: &[Relation],
        allow_filtering: bool,
    ) -> Result<Restrictions, PlanError> {
        let table = preparer.table;
        let mut all: Vec<Prepared> = Vec::with_capacity(relations.len());
        for relation in relations {
            let relation = Prepared::new(preparer, relation)?;
            for other in &all {
                check_pair(table, other, &relation)?;
            }
            all.push(relation);
        }
        let restricts_clustering = all.iter().any(|r| r.place == Place::Clustering);
        let regular = |index: &usize| table.columns[*index].kind == model::ColumnKind::Regular;
        let restricts_regular = all.iter().any(|r| r.columns.iter().any(regular));
        let (tokens, all) = take_tokens(all)?;
        let (partition, all) = take_partition(table, all);
        let is_ring = partition == PartitionRestriction::Ring;
        let (clustering, rest) = take_clustering(table, all);
        if !allow_filtering {
            if is_ring && restricts_clustering || rest.iter().any(|r| r.place != Place::Clustering)
            {
                return Err(PlanError::invalid(NEEDS_FILTERING));
            }
            if let Some(first) = rest.first() {
                return Err(not_a_prefix(table, &clustering, first));
            }
        }
        let filters = rest.into_iter().map(Filter::new).collect();
        Ok(Restrictions {
            partition,
            tokens,
            clustering,
            filters,
            restricts_clustering,
            restricts_regular,
        })
    }

    /// For each column of the partition key the marker that alone gives its value, if one does.
    pub fn partition_key_slots(&self) -> Vec<Option<u16>> {
        let PartitionRestriction::Keys(choices) = &self.partition else { return Vec::new() };
        let slot = |choice: &Choice| match choice {
            Choice::One(term) => term.marker_slot(),
            Choice::Terms(_) | Choice::List(_) => None,
        };
        choices.iter().map(slot).collect()
    }

    /// Whether `IN` may name several partitions.
    pub fn names_several_partitions(&self) -> bool {
        match &self.partition {
            PartitionRestriction::Keys(choices) => choices.iter().any(is_several),
            PartitionRestriction::Ring => true,
        }
    }

    /// Whether this clustering column (by position) has one value.
    pub fn has_one_value(&self, position: usize) -> bool {
        self.clustering
            .prefix
            .iter()
            .any(|choice| choice.columns.contains(&position) && !is_several(&choice.choice))
    }

    /// Whether this partition key column (by position) has one value.
    pub fn has_one_key_value(&self, position: usize) -> bool {
        match &self.partition {
            PartitionRestriction::Keys(choices) => {
                choices.get(position).is_some_and(|choice| !is_several(choice))
            }
            PartitionRestriction::Ring => false,
        }
    }

    /// Whether the relations name one row, or the one row of a partition without clustering
    /// columns, and nothing else has to be checked.
    pub fn is_one_row(&self, table: &TableDef) -> bool {
        let named = self.clustering.prefix.last().map_or(0, |last| last.columns.end);
        !self.names_several_partitions()
            && self.tokens.is_empty()
            && self.filters.is_empty()
            && named == table.clustering_count()
            && !self.clustering.prefix.iter().any(|choice| is_several(&choice.choice))
    }
}

fn is_several(choice: &Choice) -> bool {
    !matches!(choice, Choice::One(_))
}

/// Two relations on a common column must go together.
fn check_pair(table: &TableDef, old: &Prepared, new: &Prepared) -> Result<(), PlanError> {
    if (old.place == Place::Token) != (new.place == Place::Token) {
        return Ok(());
    }
    let common: Vec<&str> = old
        .columns
        .iter()
        .filter(|index| new.columns.contains(index))
        .map(|index| &*table.columns[*index].name)
        .collect();
    let (Some(first), names) = (common.first(), common.join(", ")) else { return Ok(()) };
    let is_start = |comparison: &Comparison| {
        matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual)
    };
    let message = match (&old.test, &new.test) {
        (Test::Choice(Choice::One(_)), _) => {
            format!(
                "{names} cannot be restricted by more than one relation if it includes an Equal"
            )
        }
        (Test::Choice(_), _) => {
            format!("{names} cannot be restricted by more than one relation if it includes a IN")
        }
        (Test::Compare(..), Test::Choice(_)) => format!(
            "Column \"{first}\" cannot be restricted by both an equality and an inequality relation"
        ),
        (Test::Compare(..), Test::Compare(..)) if old.columns.first() != new.columns.first() => {
            format!(
                "Column \"{first}\" cannot be restricted by two inequalities not starting with the \
                 same column"
            )
        }
        (Test::Compare(a, _), Test::Compare(b, _)) if is_start(a) == is_start(b) => format!(
            "More than one restriction was found for the {} bound on {names}",
            if is_start(a) { "start" } else { "end" }
        ),
        _ => return Ok(()),
    };
    Err(PlanError::invalid(message))
}

fn take_tokens(all: Vec<Prepared>) -> Result<(Vec<TokenBound>, Vec<Prepared>), PlanError> {
    let mut bounds = Vec::new();
    let mut rest = Vec::new();
    for relation in all {
        if relation.place != Place::Token {
            rest.push(relation);
            continue;
        }
        let (comparison, term) = match relation.test {
            Test::Choice(Choice::One(term)) => (Comparison::Equal, term),
            Test::Compare(comparison, term) => (comparison, term),
            _ => return Err(PlanError::invalid("IN is not supported on the token function")),
        };
        bounds.push(TokenBound { comparison, term });
    }
    Ok((bounds, rest))
}

/// The choices of the partition key when every column has one, and the other relations.
fn take_partition(table: &TableDef, all: Vec<Prepared>) -> (PartitionRestriction, Vec<Prepared>) {
    let mut choices: Vec<Option<Choice>> = vec![None; table.partition_key_count()];
    for relation in &all {
        if let (Place::Partition, [index], Test::Choice(choice)) =
            (relation.place, relation.columns.as_slice(), &relation.test)
        {
            choices[*index] = Some(choice.clone());
        }
    }
    match choices.into_iter().collect::<Option<Vec<_>>>() {
        Some(choices) => {
            let is_other =
                |r: &Prepared| r.place != Place::Partition || !matches!(r.test, Test::Choice(_));
            let rest = all.into_iter().filter(is_other).collect();
            (PartitionRestriction::Keys(choices), rest)
        }
        None => (PartitionRestriction::Ring, all),
    }
}

/// What makes slices, and the other relations.
fn take_clustering(table: &TableDef, all: Vec<Prepared>) -> (Clustering, Vec<Prepared>) {
    let first_column = table.partition_key_count();
    let (mut candidates, mut rest): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|relation| relation.place == Place::Clustering);
    candidates.sort_by_key(|relation| relation.columns.first().copied());
    let mut clustering = Clustering::default();
    let mut next = 0;
    for relation in candidates {
        let start = relation.columns.first().map_or(0, |index| index - first_column);
        let columns = start..start + relation.columns.len();
        let is_next = start == next;
        match relation.test {
            Test::Choice(choice) if is_next && clustering.bounds.is_empty() => {
                next = columns.end;
                let is_tuple = relation.is_tuple;
                clustering.prefix.push(ClusteringChoice { columns, is_tuple, choice });
            }
            Test::Compare(comparison, term) if is_next => {
                let is_tuple = relation.is_tuple;
                clustering.bounds.push(ClusteringBound { columns, is_tuple, comparison, term });
            }
            test => rest.push(Prepared { test, ..relation }),
        }
    }
    (clustering, rest)
}

/// Why a relation on clustering columns does not make slices.
fn not_a_prefix(table: &TableDef, clustering: &Clustering, rest: &Prepared) -> PlanError {
    let name = |column: &ColumnDef| column.name.clone();
    let restricted = rest.columns.first().map(|index| name(&table.columns[*index]));
    let restricted = restricted.unwrap_or_default();
    if !matches!(rest.test, Test::Choice(_) | Test::Compare(..)) {
        return PlanError::invalid(NEEDS_FILTERING);
    }
    let after_prefix = clustering.prefix.last().map_or(0, |last| last.columns.end);
    let preceding = table.clustering_key().get(after_prefix).map(name).unwrap_or_default();
    PlanError::invalid(if clustering.bounds.is_empty() {
        format!(
            "PRIMARY KEY column \"{restricted}\" cannot be restricted as preceding column \
             \"{preceding}\" is not restricted"
        )
    } else {
        format!(
            "Clustering column \"{restricted}\" cannot be restricted (preceding column \
             \"{preceding}\" is restricted by a non-EQ relation)"
        )
    })
}
