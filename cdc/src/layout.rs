//! Which log columns a base column is written to, looked up once per version of the two tables and
//! then used by every write.

use crate::error::{CdcError, log_lacks_column};
use crate::log_table::{
    DELETED_ELEMENTS_PREFIX, DELETED_PREFIX, END_OF_BATCH, OPERATION, TTL, deleted_elements_type,
};
use model::{CdcOptions, ColumnId, CqlType, PreimageMode, TableDef};
use std::sync::Arc;

/// A base table, its log, and how columns of the one become columns of the other.
#[derive(Clone, Debug)]
pub struct LogLayout {
    pub(crate) base: Arc<TableDef>,
    pub(crate) log: Arc<TableDef>,
    pub(crate) options: CdcOptions,
    /// Whether rows under deletes are told one by one: a feed asks for it. The log has images then.
    pub(crate) tells_deleted_rows: bool,
    pub(crate) operation: ColumnId,
    pub(crate) ttl: ColumnId,
    pub(crate) end_of_batch: ColumnId,
    /// Log columns of the partition key's columns.
    pub(crate) partition_key: Vec<ColumnId>,
    /// Log columns of the clustering columns.
    pub(crate) clustering_key: Vec<ColumnId>,
    /// Static and regular columns by the base column's id.
    columns: Vec<LoggedColumn>,
}

/// Where the changes of one static or regular column are logged.
#[derive(Clone, Debug)]
pub(crate) struct LoggedColumn {
    pub(crate) base_id: ColumnId,
    pub(crate) is_static: bool,
    pub(crate) cql_type: CqlType,
    /// Whether it is a collection or user type whose parts are cells of their own.
    pub(crate) is_multi_cell: bool,
    pub(crate) value: ColumnId,
    pub(crate) deleted: ColumnId,
    /// Set when the column has elements.
    pub(crate) deleted_elements: Option<ColumnId>,
}

impl LogLayout {
    /// The layout for a base table with CDC on and its log.
    ///
    /// Errors when the log lacks a column of the base: it was not brought in step.
    pub fn new(base: Arc<TableDef>, log: Arc<TableDef>) -> Result<Self, CdcError> {
        let find = |name: &str, base_name: &str| {
            log.column(name).map(|c| c.id).ok_or_else(|| log_lacks_column(&log, base_name))
        };
        let own = |name: &str| find(name, name);
        let keys = |columns: &[model::ColumnDef]| {
            columns.iter().map(|c| find(&c.name, &c.name)).collect::<Result<Vec<_>, _>>()
        };
        let mut columns = base
            .data_columns()
            .iter()
            .map(|column| {
                let name = &*column.name;
                let has_elements = deleted_elements_type(&column.cql_type).is_some();
                Ok(LoggedColumn {
                    base_id: column.id,
                    is_static: column.kind == model::ColumnKind::Static,
                    cql_type: column.cql_type.clone(),
                    is_multi_cell: column.cql_type.is_multi_cell(),
                    value: find(name, name)?,
                    deleted: find(&format!("{DELETED_PREFIX}{name}"), name)?,
                    deleted_elements: has_elements
                        .then(|| find(&format!("{DELETED_ELEMENTS_PREFIX}{name}"), name))
                        .transpose()?,
                })
            })
            .collect::<Result<Vec<_>, CdcError>>()?;
        columns.sort_by_key(|column| column.base_id);
        // A partition without clustering columns is a row, and told as one in any case.
        let asked = base.options.feed_log.is_some_and(|feeds| feeds.deleted_rows);
        Ok(LogLayout {
            options: base.cdc_enabled().or(base.options.cdc).unwrap_or_default(),
            tells_deleted_rows: asked && base.clustering_count() > 0,
            operation: own(OPERATION)?,
            ttl: own(TTL)?,
            end_of_batch: own(END_OF_BATCH)?,
            partition_key: keys(base.partition_key())?,
            clustering_key: keys(base.clustering_key())?,
            columns,
            base,
            log,
        })
    }

    /// The base table.
    pub fn base(&self) -> &Arc<TableDef> {
        &self.base
    }

    /// The log table.
    pub fn log(&self) -> &Arc<TableDef> {
        &self.log
    }

    /// Whether rows before or after a change are logged.
    pub fn has_images(&self) -> bool {
        self.options.postimage || self.options.preimage != PreimageMode::Off
    }

    /// The columns of a static or of an ordinary row, each with its number, by the base's ids.
    pub(crate) fn columns_of(
        &self,
        is_static: bool,
    ) -> impl Iterator<Item = (usize, &LoggedColumn)> {
        let columns = self.columns.iter().enumerate();
        columns.filter(move |(_, column)| column.is_static == is_static)
    }

    /// The column and its number; `None` for a column that the base has no more. Columns are looked
    /// up in rising order of their ids: `near` is the number of the last one, or 0.
    #[inline]
    pub(crate) fn column(&self, base_id: ColumnId, near: usize) -> Option<(usize, &LoggedColumn)> {
        for index in [near, near + 1] {
            if let Some(column) = self.columns.get(index).filter(|c| c.base_id == base_id) {
                return Some((index, column));
            }
        }
        let index = self.columns.binary_search_by_key(&base_id, |column| column.base_id).ok()?;
        Some((index, self.column_at(index)))
    }

    /// The column of a number that [`LogLayout::column`] gave.
    pub(crate) fn column_at(&self, number: usize) -> &LoggedColumn {
        &self.columns[number]
    }
}

/// A set of columns by their numbers in the layout.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnSet {
    first: u64,
    /// Bits of the numbers from 64 on.
    rest: Vec<u64>,
}

impl ColumnSet {
    pub(crate) fn insert(&mut self, number: usize) {
        let bit = 1 << (number % 64);
        match (number / 64).checked_sub(1) {
            None => self.first |= bit,
            Some(word) => {
                if self.rest.len() <= word {
                    self.rest.resize(word + 1, 0);
                }
                self.rest[word] |= bit;
            }
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        let word = match (number / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.rest.get(word).copied().unwrap_or(0),
        };
        word >> (number % 64) & 1 == 1
    }

    pub(crate) fn union(&mut self, other: &ColumnSet) {
        self.first |= other.first;
        if self.rest.len() < other.rest.len() {
            self.rest.resize(other.rest.len(), 0);
        }
        self.rest.iter_mut().zip(&other.rest).for_each(|(own, bits)| *own |= bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_columns_holds_what_was_put_in() {
        let (mut low, mut high) = (ColumnSet::default(), ColumnSet::default());
        let numbers = [0, 1, 63, 64, 65, 127, 128, 1_000];
        numbers[..3].iter().for_each(|number| low.insert(*number));
        numbers[3..].iter().for_each(|number| high.insert(*number));
        low.union(&high);
        let found: Vec<usize> = (0..2_000).filter(|number| low.contains(*number)).collect();
        assert_eq!(found, numbers);
    }
}
