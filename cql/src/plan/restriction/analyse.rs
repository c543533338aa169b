//! Which relation restricts what: partitions, clustering, or rows one by one.
//!
//! The steps are the same for every statement; what a kind of statement may ask is in its
//! [`Rules`].

use super::filter::Filter;
use super::keys::{Choice, Clustering, ClusteringBound, ClusteringChoice, PartitionKeys};
use super::relation::{Place, Prepared, Test};
use crate::plan::error::PlanError;
use crate::plan::term::PreparedTerm;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{Comparison, Predicate, Relation};
use model::{ColumnDef, TableDef};

/// What a SELECT without ALLOW FILTERING is told when it would need it.
const NEEDS_FILTERING: &str = "Cannot execute this query as it might involve data filtering and \
                               thus may have unpredictable performance. If you want to execute \
                               this query despite the performance unpredictability, use ALLOW \
                               FILTERING";

/// What a kind of statement may ask in its WHERE clause.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The statement's name in errors.
    name: &'static str,
    /// Whether it changes rows: it then names partitions by their whole keys, and asks nothing of
    /// columns outside of the primary key.
    is_write: bool,
    /// Whether it may be about ranges of rows.
    allows_ranges: bool,
}

impl Rules {
    /// Of SELECT.
    pub const SELECT: Rules = Rules { name: "SELECT", is_write: false, allows_ranges: true };
    /// Of UPDATE.
    pub const UPDATE: Rules = Rules { name: "UPDATE", is_write: true, allows_ranges: false };
    /// Of DELETE.
    pub const DELETE: Rules = Rules { name: "DELETE", is_write: true, allows_ranges: true };

    /// Refuses predicates that the statement cannot have on any column.
    pub(super) fn check(&self, predicate: &Predicate) -> Result<(), PlanError> {
        let operator = match predicate {
            Predicate::Contains(_) if self.is_write => "CONTAINS",
            Predicate::ContainsKey(_) if self.is_write => "CONTAINS KEY",
            _ => return Ok(()),
        };
        Err(PlanError::invalid(format!("Cannot use {} with {operator}", self.name)))
    }
}

/// The WHERE clause of a write, prepared: what it is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeySelection {
    /// Which partitions.
    pub partition: PartitionKeys,
    /// Which rows of each.
    pub clustering: Clustering,
}

impl KeySelection {
    /// Prepares the WHERE clause of an UPDATE or DELETE; `is_static` says that nothing but static
    /// columns are changed.
    pub fn prepare(
        preparer: &mut TermPreparer,
        relations: &[Relation],
        rules: &Rules,
        is_static: bool,
    ) -> Result<KeySelection, PlanError> {
        let table = preparer.table;
        let (tokens, all) = take_tokens(prepare_all(preparer, relations, rules)?)?;
        if !tokens.is_empty() {
            return Err(PlanError::invalid(format!(
                "The token function cannot be used in WHERE clauses for {} statements",
                rules.name
            )));
        }
        let (partition, all) = take_partition(table, all);
        let PartitionRestriction::Keys(partition) = partition else {
            return Err(not_a_partition(table, &all, rules));
        };
        let (clustering, rest) = take_clustering(table, all);
        check_written_rows(table, &clustering, &rest, rules, is_static)?;
        let mut data: Vec<&str> = rest
            .iter()
            .flat_map(|r| &r.columns)
            .map(|index| &*table.columns[*index].name)
            .collect();
        if !data.is_empty() {
            data.sort_unstable();
            return Err(PlanError::invalid(format!(
                "Non PRIMARY KEY columns found in where clause: {} ",
                data.join(", ")
            )));
        }
        Ok(KeySelection { partition, clustering })
    }

    /// Whether every clustering column has its values.
    pub fn has_full_clustering(&self, table: &TableDef) -> bool {
        self.clustering.column_count() == table.clustering_count()
    }
}

/// A write must name partitions.
fn not_a_partition(table: &TableDef, all: &[Prepared], rules: &Rules) -> PlanError {
    let is_missing = |index: &usize| !all.iter().any(|relation| relation.columns.contains(index));
    let missing: Vec<usize> = (0..table.partition_key_count()).filter(is_missing).collect();
    if missing.is_empty() {
        return PlanError::invalid(format!(
            "Only EQ and IN relation are supported on the partition key (unless you use the \
             token() function) for {} statements",
            rules.name
        ));
    }
    let missing = missing.iter().map(|index| &table.columns[*index]);
    keys_missing("partition key parts", missing)
}

/// The clustering columns of a write must name rows, or ranges of them where the rules allow it.
fn check_written_rows(
    table: &TableDef,
    clustering: &Clustering,
    rest: &[Prepared],
    rules: &Rules,
    is_static: bool,
) -> Result<(), PlanError> {
    let rest = rest.iter().filter(|relation| relation.place == Place::Clustering);
    let first = rest.clone().next();
    if is_static {
        if clustering.is_empty() && first.is_none() {
            return Ok(());
        }
        return Err(PlanError::invalid(format!(
            "Invalid restrictions on clustering columns since the {} statement modifies only \
             static columns",
            rules.name
        )));
    }
    if rules.allows_ranges {
        return first.map_or(Ok(()), |first| Err(not_a_prefix(table, clustering, first)));
    }
    if !clustering.bounds.is_empty() || rest.clone().any(|r| !matches!(r.test, Test::Choice(_))) {
        return Err(PlanError::invalid(format!(
            "Slice restrictions are not supported on the clustering columns in {} statements",
            rules.name
        )));
    }
    let first_column = table.partition_key_count();
    let is_missing = |(position, _): &(usize, &ColumnDef)| {
        *position >= clustering.column_count()
            && !rest.clone().any(|relation| relation.columns.contains(&(first_column + position)))
    };
    let mut missing =
        table.clustering_key().iter().enumerate().filter(is_missing).map(|(_, c)| c).peekable();
    match missing.peek() {
        Some(_) => Err(keys_missing("clustering keys", missing)),
        None => Ok(()),
    }
}

/// Some columns of the primary key have no values.
pub fn keys_missing<'c>(what: &str, columns: impl Iterator<Item = &'c ColumnDef>) -> PlanError {
    let names: Vec<&str> = columns.map(|column| &*column.name).collect();
    PlanError::invalid(format!("Some {what} are missing: {}", names.join(", ")))
}

/// The WHERE clause of a SELECT, prepared.
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
    /// Those with these keys.
    Keys(PartitionKeys),
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

impl Restrictions {
    /// Prepares the WHERE clause of a SELECT.
    pub fn prepare(
        preparer: &mut TermPreparer,
        relations: &[Relation],
        allow_filtering: bool,
    ) -> Result<Restrictions, PlanError> {
        let table = preparer.table;
        let all = prepare_all(preparer, relations, &Rules::SELECT)?;
        let restricts_clustering = all.iter().any(|r| r.place == Place::Clustering);
        let regular = |index: &usize| table.columns[*index].kind == model::ColumnKind::Regular;
        let restricts_regular = all.iter().any(|r| r.columns.iter().any(regular));
        let (tokens, all) = take_tokens(all)?;
        let (partition, all) = take_partition(table, all);
        let is_ring = partition == PartitionRestriction::Ring;
        let (clustering, rest) = take_clustering(table, all);
        if !allow_filtering {
            if let Some(first) = rest.iter().find(|r| r.place == Place::Clustering) {
                return Err(not_a_prefix(table, &clustering, first));
            }
            if is_ring && restricts_clustering || !rest.is_empty() {
                return Err(PlanError::invalid(NEEDS_FILTERING));
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
        match &self.partition {
            PartitionRestriction::Keys(keys) => keys.marker_slots(),
            PartitionRestriction::Ring => Vec::new(),
        }
    }

    /// Whether `IN` may name several partitions.
    pub fn names_several_partitions(&self) -> bool {
        match &self.partition {
            PartitionRestriction::Keys(keys) => keys.is_several(),
            PartitionRestriction::Ring => true,
        }
    }

    /// Whether this clustering column (by position) has one value.
    pub fn has_one_value(&self, position: usize) -> bool {
        self.clustering.has_one_value(position)
    }

    /// Whether this partition key column (by position) has one value.
    pub fn has_one_key_value(&self, position: usize) -> bool {
        match &self.partition {
            PartitionRestriction::Keys(keys) => {
                keys.0.get(position).is_some_and(|choice| !choice.is_several())
            }
            PartitionRestriction::Ring => false,
        }
    }

    /// Whether the relations name one row, or the one row of a partition without clustering
    /// columns, and nothing else has to be checked.
    pub fn is_one_row(&self, table: &TableDef) -> bool {
        !self.names_several_partitions()
            && self.tokens.is_empty()
            && self.filters.is_empty()
            && self.clustering.column_count() == table.clustering_count()
            && !self.clustering.prefix.iter().any(|choice| choice.choice.is_several())
    }
}

/// Prepares relations, and refuses those that do not go together.
fn prepare_all(
    preparer: &mut TermPreparer,
    relations: &[Relation],
    rules: &Rules,
) -> Result<Vec<Prepared>, PlanError> {
    let table = preparer.table;
    let mut all: Vec<Prepared> = Vec::with_capacity(relations.len());
    for relation in relations {
        let relation = Prepared::new(preparer, relation, rules)?;
        for other in &all {
            check_pair(table, other, &relation)?;
        }
        all.push(relation);
    }
    Ok(all)
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
    let (Some(first), names) = (common.first(), common.join(" ,")) else { return Ok(()) };
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
            (PartitionRestriction::Keys(PartitionKeys(choices)), rest)
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
        let kind = if rest.is_tuple { "PRIMARY KEY" } else { "Clustering" };
        format!(
            "{kind} column \"{restricted}\" cannot be restricted (preceding column \
             \"{preceding}\" is restricted by a non-EQ relation)"
        )
    })
}
