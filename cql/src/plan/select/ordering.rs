//! ORDER BY and GROUP BY: both name clustering columns in their order.

use crate::plan::error::PlanError;
use crate::plan::names::column_index;
use crate::plan::restriction::{PartitionRestriction, Restrictions};
use crate::syntax::ast::{Direction, Name, Selector, SelectorKind};
use model::{ColumnKind, TableDef};

/// The order of rows within a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Against the clustering order.
    pub(super) is_reversed: bool,
    /// How many clustering columns decide when the rows of several partitions are sorted; 0
    /// without ORDER BY.
    pub(super) column_count: usize,
}

impl Order {
    pub(super) fn prepare(
        table: &TableDef,
        order_by: &[(Name, Direction)],
        restrictions: &Restrictions,
    ) -> Result<Order, PlanError> {
        if order_by.is_empty() {
            return Ok(Order::default());
        }
        for (name, _) in order_by {
            column_index(table, name)?;
        }
        if restrictions.partition == PartitionRestriction::Ring {
            return Err(PlanError::invalid(
                "ORDER BY is only supported when the partition key is restricted by an EQ or an \
                 IN.",
            ));
        }
        let mut next = 0;
        let mut reversed = None;
        for (name, direction) in order_by {
            let column = &table.columns[column_index(table, name)?];
            let ColumnKind::Clustering(position) = column.kind else {
                return Err(PlanError::invalid(format!(
                    "Order by is currently only supported on the clustered columns of the PRIMARY \
                     KEY, got {}",
                    column.name
                )));
            };
            let position = usize::from(position);
            while next < position && restrictions.has_one_value(next) {
                next += 1;
            }
            if next != position {
                return Err(PlanError::invalid(
                    "Order by currently only supports the ordering of columns following their \
                     declared order in the PRIMARY KEY",
                ));
            }
            next += 1;
            let is_reversed = (*direction == Direction::Descending) != column.descending;
            if reversed.is_some_and(|others| others != is_reversed) {
                return Err(PlanError::invalid("Unsupported order by relation"));
            }
            reversed = Some(is_reversed);
        }
        Ok(Order { is_reversed: reversed.unwrap_or(false), column_count: next })
    }
}

/// How many clustering columns tell groups of a partition apart; `None` without GROUP BY.
pub(super) fn prepare_group_by(
    table: &TableDef,
    group_by: &[Selector],
    restrictions: &Restrictions,
) -> Result<Option<usize>, PlanError> {
    if group_by.is_empty() {
        return Ok(None);
    }
    let key_count = table.partition_key_count();
    let is_fixed = |index: usize| match index.checked_sub(key_count) {
        Some(position) => restrictions.has_one_value(position),
        None => restrictions.has_one_key_value(index),
    };
    let mut next = 0;
    for selector in group_by {
        let SelectorKind::Column(name) = &selector.kind else {
            return Err(PlanError::invalid("GROUP BY is supported on columns only"));
        };
        let index = column_index(table, name)?;
        if index >= key_count + table.clustering_count() {
            return Err(PlanError::invalid(format!(
                "Group by is currently only supported on the columns of the PRIMARY KEY, got {}",
                name.as_str()
            )));
        }
        while next < index && is_fixed(next) {
            next += 1;
        }
        if next != index {
            return Err(PlanError::invalid(
                "Group by currently only support groups of columns following their declared order \
                 in the PRIMARY KEY",
            ));
        }
        next += 1;
    }
    if (next..key_count).any(|index| !is_fixed(index)) {
        return Err(PlanError::invalid(
            "Group by is not supported on only a part of the partition key",
        ));
    }
    Ok(Some(next.saturating_sub(key_count)))
}
