//! WHERE of UPDATE and DELETE to a [`KeySelection`].

use super::keys::{Choice, ClusteringChoice, KeySelection, RangeBound};
use crate::plan::error::PlanError;
use crate::plan::markers::Receiver;
use crate::plan::names::{receiver_of, table_column};
use crate::plan::term::Marker;
use crate::plan::term_preparer::TermPreparer;
use crate::plan::term_text::predicate_text;
use crate::syntax::ast::{Comparison, InValues, Name, Operand, Predicate, Relation};
use model::{ColumnDef, ColumnKind, CqlType, TableDef};
use std::ops::Range;
use std::sync::Arc;

/// Prepares a WHERE clause; `statement` is `UPDATE` or `DELETE`.
pub(super) fn prepare_where(
    preparer: &mut TermPreparer,
    relations: &[Relation],
    statement: &str,
) -> Result<KeySelection, PlanError> {
    let table = preparer.table;
    let mut collected = Collected {
        partition: vec![None; table.partition_key_count()],
        clustering: Vec::new(),
        bounds: Vec::new(),
        statement,
    };
    let mut not_keys: Vec<&str> = Vec::new();
    for relation in relations {
        match &relation.operand {
            Operand::Column(name) => {
                let column = table_column(table, name)?;
                match column.kind {
                    ColumnKind::PartitionKey(index) => {
                        collected.add_partition(preparer, column, index, &relation.predicate)?;
                    }
                    ColumnKind::Clustering(index) => {
                        let columns = usize::from(index)..usize::from(index) + 1;
                        let receiver = receiver_of(column);
                        collected.add_clustering(
                            preparer,
                            columns,
                            &receiver,
                            false,
                            &relation.predicate,
                        )?;
                    }
                    ColumnKind::Static | ColumnKind::Regular => not_keys.push(&column.name),
                }
            }
            Operand::Columns(names) => {
                let (columns, receiver) = tuple_columns(table, names, &relation.predicate)?;
                collected.add_clustering(
                    preparer,
                    columns,
                    &receiver,
                    true,
                    &relation.predicate,
                )?;
            }
            Operand::Token(_) => {
                return Err(PlanError::invalid(format!(
                    "The token function cannot be used in WHERE clauses for {statement} statements"
                )));
            }
            Operand::Element { column, .. } | Operand::Field { column, .. } => {
                not_keys.push(column.as_str());
            }
        }
    }
    if !not_keys.is_empty() {
        return Err(PlanError::invalid(format!(
            "Non PRIMARY KEY columns found in where clause: {}",
            not_keys.join(", ")
        )));
    }
    collected.finish(table)
}

/// Restrictions in the order they were written.
struct Collected<'s> {
    partition: Vec<Option<Choice>>,
    clustering: Vec<ClusteringChoice>,
    /// Whether it is the start, and the bound.
    bounds: Vec<(bool, RangeBound)>,
    statement: &'s str,
}

impl Collected<'_> {
    fn add_partition(
        &mut self,
        preparer: &mut TermPreparer,
        column: &ColumnDef,
        index: u16,
        predicate: &Predicate,
    ) -> Result<(), PlanError> {
        let Some(choice) = prepare_choice(preparer, &receiver_of(column), predicate)? else {
            return Err(PlanError::invalid(format!(
                "Only EQ and IN relation are supported on the partition key (unless you use the \
                 token() function) for {} statements",
                self.statement
            )));
        };
        match self.partition.get_mut(usize::from(index)) {
            Some(slot @ None) => *slot = Some(choice),
            _ => return Err(restricted_twice(&column.name)),
        }
        Ok(())
    }

    fn add_clustering(
        &mut self,
        preparer: &mut TermPreparer,
        columns: Range<usize>,
        receiver: &Receiver,
        is_tuple: bool,
        predicate: &Predicate,
    ) -> Result<(), PlanError> {
        let overlaps =
            |other: &Range<usize>| other.start < columns.end && columns.start < other.end;
        if self.clustering.iter().any(|choice| overlaps(&choice.columns)) {
            return Err(restricted_twice(&receiver.name));
        }
        if let Some(choice) = prepare_choice(preparer, receiver, predicate)? {
            if self.bounds.iter().any(|(_, bound)| overlaps(&bound.columns)) {
                return Err(restricted_twice(&receiver.name));
            }
            self.clustering.push(ClusteringChoice { columns, is_tuple, choice });
            return Ok(());
        }
        let Predicate::Compare(comparison, term) = predicate else {
            return Err(unsupported(predicate, &receiver.name));
        };
        if self.statement != "DELETE" {
            return Err(PlanError::invalid(format!(
                "Slice restrictions are not supported on the clustering columns in {} statements",
                self.statement
            )));
        }
        let is_greater = match comparison {
            Comparison::Greater | Comparison::GreaterOrEqual => true,
            Comparison::Less | Comparison::LessOrEqual => false,
            Comparison::Equal | Comparison::NotEqual => {
                return Err(unsupported(predicate, &receiver.name));
            }
        };
        let descending = one_direction(&preparer.table.clustering_key()[columns.clone()])?;
        let is_start = is_greater != descending;
        let is_inclusive =
            matches!(comparison, Comparison::GreaterOrEqual | Comparison::LessOrEqual);
        if self.bounds.iter().any(|(other, bound)| *other == is_start && overlaps(&bound.columns)) {
            return Err(PlanError::invalid(format!(
                "More than one restriction was found for the {} bound on {}",
                if is_greater { "start" } else { "end" },
                receiver.name
            )));
        }
        let term = preparer.prepare(term, receiver)?;
        // An inclusive start is before its keys, an inclusive end behind them.
        let is_after = is_start != is_inclusive;
        self.bounds.push((is_start, RangeBound { columns, is_tuple, term, is_after }));
        Ok(())
    }

    fn finish(mut self, table: &TableDef) -> Result<KeySelection, PlanError> {
        let missing: Vec<&str> = self
            .partition
            .iter()
            .zip(table.partition_key())
            .filter(|(choice, _)| choice.is_none())
            .map(|(_, column)| &*column.name)
            .collect();
        if !missing.is_empty() {
            return Err(PlanError::invalid(format!(
                "Some partition key parts are missing: {}",
                missing.join(", ")
            )));
        }
        self.clustering.sort_by_key(|choice| choice.columns.start);
        self.bounds.sort_by_key(|(_, bound)| bound.columns.start);
        let columns = table.clustering_key();
        let mut next = 0;
        for choice in &self.clustering {
            if choice.columns.start != next {
                let bounded = self.bounds.iter().any(|(_, bound)| bound.columns.contains(&next));
                return Err(not_a_prefix(columns, next, choice.columns.start, bounded));
            }
            next = choice.columns.end;
        }
        for (_, bound) in &self.bounds {
            if bound.columns.start != next {
                let bounded = self.bounds.iter().any(|(_, bound)| bound.columns.start == next);
                return Err(not_a_prefix(columns, next, bound.columns.start, bounded));
            }
        }
        let mut selection = KeySelection {
            partition: self.partition.into_iter().flatten().collect(),
            clustering: self.clustering,
            start: None,
            end: None,
        };
        for (is_start, bound) in self.bounds {
            *(if is_start { &mut selection.start } else { &mut selection.end }) = Some(bound);
        }
        Ok(selection)
    }
}

/// The choice that `=` or IN leaves; `None` for other predicates.
fn prepare_choice(
    preparer: &mut TermPreparer,
    receiver: &Receiver,
    predicate: &Predicate,
) -> Result<Option<Choice>, PlanError> {
    Ok(Some(match predicate {
        Predicate::Compare(Comparison::Equal, term) => {
            Choice::One(preparer.prepare(term, receiver)?)
        }
        Predicate::In(InValues::Terms(terms)) => {
            let terms = terms.iter().map(|term| preparer.prepare(term, receiver));
            Choice::Terms(terms.collect::<Result<_, _>>()?)
        }
        Predicate::In(InValues::Marker { index, .. }) => {
            let element = Arc::new(receiver.cql_type.freeze());
            let list = CqlType::List { element, frozen: false };
            let name = receiver.name.trim_start_matches('(').trim_end_matches(')');
            let receiver = Receiver::new(format!("in({name})"), list);
            let (keyspace, name) = (&preparer.table.keyspace, &preparer.table.name);
            preparer.markers.assign(*index, keyspace, name, &receiver)?;
            Choice::List(Marker { slot: *index, cql_type: receiver.cql_type })
        }
        _ => return Ok(None),
    }))
}

/// The clustering columns of `(a, b)`, and a receiver of such tuples.
fn tuple_columns(
    table: &TableDef,
    names: &[Name],
    predicate: &Predicate,
) -> Result<(Range<usize>, Receiver), PlanError> {
    let joined = names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ");
    let mut columns: Range<usize> = 0..0;
    let mut types = Vec::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        let column = table_column(table, name)?;
        let ColumnKind::Clustering(index) = column.kind else {
            return Err(PlanError::invalid(format!(
                "Multi-column relations can only be applied to clustering columns but was applied \
                 to: {}",
                column.name
            )));
        };
        let index = usize::from(index);
        if position == 0 {
            columns = index..index;
        }
        if index != columns.end {
            return Err(PlanError::invalid(format!(
                "Clustering columns must appear in the PRIMARY KEY order in multi-column \
                 relations: ({joined}) {}",
                predicate_text(predicate)
            )));
        }
        columns.end += 1;
        types.push(column.cql_type.freeze());
    }
    let receiver =
        Receiver::new(format!("({})", joined.replace(' ', "")), CqlType::Tuple(types.into()));
    Ok((columns, receiver))
}

/// Whether these columns are all descending or all ascending: only then is a range of tuples one
/// range of keys.
fn one_direction(columns: &[ColumnDef]) -> Result<bool, PlanError> {
    let descending = columns.iter().filter(|column| column.descending).count();
    if descending != 0 && descending != columns.len() {
        return Err(PlanError::invalid(
            "Multi-column ranges over clustering columns of different orders are not supported in \
             DELETE statements",
        ));
    }
    Ok(descending > 0)
}

fn not_a_prefix(
    columns: &[ColumnDef],
    missing: usize,
    restricted: usize,
    bounded: bool,
) -> PlanError {
    let name = |index: usize| columns.get(index).map_or("", |column| &column.name);
    let (missing, restricted) = (name(missing), name(restricted));
    PlanError::invalid(if bounded {
        format!(
            "Clustering column \"{restricted}\" cannot be restricted (preceding column \
             \"{missing}\" is restricted by a non-EQ relation)"
        )
    } else {
        format!(
            "PRIMARY KEY column \"{restricted}\" cannot be restricted as preceding column \
             \"{missing}\" is not restricted"
        )
    })
}

fn restricted_twice(name: &str) -> PlanError {
    PlanError::invalid(format!(
        "{name} cannot be restricted by more than one relation if it includes an Equal"
    ))
}

fn unsupported(predicate: &Predicate, name: &str) -> PlanError {
    let text = predicate_text(predicate);
    let operator = text.split(' ').next().unwrap_or("");
    PlanError::invalid(format!("Unsupported \"{operator}\" relation: {name} {text}"))
}
