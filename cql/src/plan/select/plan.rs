//! A SELECT, prepared and bound.

use super::json::{JsonRow, json_column};
use super::ordering::{Order, prepare_group_by};
use super::row::{RowParts, RowReader, RowScratch, recycle};
use super::selection::Selection;
use super::selector::{Expression, Scope};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::markers::{MarkerSpecs, Receiver};
use crate::plan::names::find_table;
use crate::plan::restriction::{BoundRestrictions, BoundScope, Filter, Restrictions};
use crate::plan::system_schema::is_virtual_keyspace;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::plan::term_preparer::TermPreparer;
use crate::plan::write::bind_timeout;
use crate::syntax::ast::{InValues, Name, Operand, Predicate, Select, Term};
use crate::wire::{
    ColumnSpec, OpenRows, ResponseHead, ResultMetadata, RowsHead, Version, write_cell,
};
use model::row::RowView;
use model::{ColumnKind, CqlType, EpochSeconds, Schema, TableDef};
use std::sync::Arc;

/// A SELECT, ready to be bound any number of times.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a statement")]
#[derive(Clone, Debug, PartialEq)]
pub struct SelectPlan {
    /// The table, as it was when the statement was prepared.
    pub table: Arc<TableDef>,
    /// The columns of the result, encoded.
    pub metadata: ResultMetadata,
    /// BYPASS CACHE.
    pub bypass_cache: bool,
    pub(super) selection: Selection,
    /// SELECT JSON: the columns of the selection are members of one text.
    json: Option<JsonRow>,
    pub(super) restrictions: Restrictions,
    pub(super) reader: RowReader,
    pub(super) order: Order,
    /// How many clustering columns tell groups apart.
    pub(super) group_by: Option<usize>,
    pub(super) is_distinct: bool,
    /// Whether static rows are read at all.
    pub(super) include_static: bool,
    /// Whether a partition with nothing but a static row is a row of the result.
    pub(super) returns_static_alone: bool,
    /// Tells statements apart in paging states.
    pub(super) fingerprint: u32,
    /// What the client is warned of with every answer.
    pub warning: Option<&'static str>,
    limit: Option<PreparedTerm>,
    per_partition_limit: Option<PreparedTerm>,
    timeout: Option<PreparedTerm>,
}

/// A SELECT with the values of one execution.
#[derive(Clone, Debug)]
pub struct BoundSelect {
    /// The plan.
    pub plan: Arc<SelectPlan>,
    /// USING TIMEOUT, in nanoseconds.
    pub timeout_nanos: Option<u64>,
    pub(super) restrictions: BoundRestrictions,
    pub(super) terms: Vec<Option<Vec<u8>>>,
    pub(super) limit: u32,
    pub(super) per_partition_limit: u32,
    pub(super) now: EpochSeconds,
}

/// The one row that a plan names: see [`SelectPlan::is_point_read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointRead {
    /// The partition key.
    pub key: Vec<u8>,
    /// The clustering key.
    pub clustering: Vec<u8>,
}

impl SelectPlan {
    /// Prepares a statement; what its markers wait for goes into `markers`.
    pub fn prepare(
        select: &Select,
        schema: &Schema,
        keyspace: Option<&str>,
        markers: &mut MarkerSpecs,
    ) -> Result<SelectPlan, PlanError> {
        let table = find_table(schema, keyspace, &select.table)?;
        let mut preparer = TermPreparer { schema, table, markers };
        let mut selection = Selection::prepare(&mut preparer, &select.selection)?;
        if select.distinct {
            // What DISTINCT cannot have is said before what needs ALLOW FILTERING.
            let restrictions = Restrictions::prepare(&mut preparer, &select.relations, true)?;
            check_static_selection(table, &selection, &restrictions)?;
            check_distinct(table, &selection, &restrictions)?;
        }
        // What is made up when it is read, is made up as a whole.
        let may_filter = select.allow_filtering || is_virtual_keyspace(&table.keyspace);
        let restrictions = Restrictions::prepare(&mut preparer, &select.relations, may_filter)?;
        let mut number = |term: &Option<Term>, name: &str, cql_type: CqlType| {
            term.as_ref()
                .map(|term| preparer.prepare(term, &Receiver::new(name, cql_type)))
                .transpose()
        };
        let per_partition_limit =
            number(&select.per_partition_limit, "[per_partition_limit]", CqlType::Int)?;
        let limit = number(&select.limit, "[limit]", CqlType::Int)?;
        let timeout = number(&select.timeout, "[timeout]", CqlType::Duration)?;
        check_static_selection(table, &selection, &restrictions)?;
        let order = Order::prepare(table, &select.order_by, &restrictions)?;
        let group_by = prepare_group_by(table, &select.group_by, &restrictions)?;
        let is_aggregated = group_by.is_some() || !selection.aggregates.is_empty();
        if select.per_partition_limit.is_some() {
            check_per_partition_limit(select.distinct, is_aggregated && group_by.is_none())?;
        }
        let reader = row_reader(table, &selection, &restrictions);
        let returns_static_alone = table.has_static_columns()
            && !restrictions.restricts_clustering
            && !restrictions.restricts_regular;
        let json = select.json.then(|| JsonRow::of(&selection.columns));
        if json.is_some() {
            selection.columns = vec![json_column(table)];
        }
        let metadata = ResultMetadata::new(&selection.columns);
        let mut plan = SelectPlan {
            table: table.clone(),
            include_static: returns_static_alone || reader.reads_static(),
            returns_static_alone,
            bypass_cache: select.bypass_cache,
            is_distinct: select.distinct,
            fingerprint: 0,
            warning: if is_aggregated { aggregation_warning(table, select) } else { None },
            metadata,
            selection,
            json,
            restrictions,
            reader,
            order,
            group_by,
            limit,
            per_partition_limit,
            timeout,
        };
        plan.fingerprint = plan.compute_fingerprint();
        Ok(plan)
    }

    /// The columns of the result.
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.selection.columns
    }

    /// For each column of the partition key the marker that alone gives its value, if one does.
    pub fn partition_key_slots(&self) -> Vec<Option<u16>> {
        self.restrictions.partition_key_slots()
    }

    /// Whether rows are put together, instead of being returned one by one.
    pub(super) fn is_aggregated(&self) -> bool {
        self.group_by.is_some() || !self.selection.aggregates.is_empty()
    }

    /// From what is the same on every node and in every execution.
    fn compute_fingerprint(&self) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(&self.table.id.0.to_be_bytes());
        hash.update(self.metadata.encoded(Version::V5));
        let group_by = self.group_by.map_or(u64::MAX, |count| count as u64);
        hash.update(&group_by.to_be_bytes());
        hash.update(&[u8::from(self.order.is_reversed), u8::from(self.is_distinct)]);
        hash.finalize()
    }

    /// Whether the statement names one row and does nothing else, so that [`Self::bind_point`] and
    /// [`Self::write_point`] can run it.
    pub fn is_point_read(&self) -> bool {
        self.restrictions.is_one_row(&self.table)
            && !self.is_aggregated()
            && !self.is_distinct
            && self.selection.terms.is_empty()
            && self.limit.is_none()
            && self.per_partition_limit.is_none()
            && self.timeout.is_none()
    }

    /// Whether the static row is wanted of storage.
    pub fn wants_static_row(&self) -> bool {
        self.include_static
    }

    /// Binds a point read.
    pub fn bind_point(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<PointRead, PlanError> {
        let (key, clustering) = self.restrictions.bind_row(&self.table, values, context)?;
        Ok(PointRead { key, clustering })
    }

    /// Appends the response of a point read, given what storage has of it, live at `now`.
    #[expect(clippy::too_many_arguments, reason = "one call of the hot path, no struct to fill")]
    pub fn write_point(
        &self,
        point: &PointRead,
        static_row: Option<RowView>,
        row: Option<RowView>,
        now: EpochSeconds,
        head: &ResponseHead,
        rows_head: &RowsHead,
        scratch: &mut RowScratch,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        let mut open = OpenRows::begin(out, head, rows_head);
        if row.is_some() || static_row.is_some() && self.returns_static_alone {
            let row = row.map(|row| (point.clustering.as_slice(), row));
            let parts = RowParts { key: &point.key, static_row, row };
            if let Err(error) = self.write_row(&parts, &[], &[], now, scratch, out) {
                open.discard(out);
                return Err(error);
            }
            open.row_written();
        }
        open.finish(out, None).map_err(|error| PlanError::invalid(error.to_string()))
    }

    /// Appends the cells of one row.
    pub(super) fn write_row(
        &self,
        parts: &RowParts,
        terms: &[Option<Vec<u8>>],
        aggregates: &[Option<Vec<u8>>],
        now: EpochSeconds,
        scratch: &mut RowScratch,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        self.reader.decode_clustering(&self.table, parts, &mut scratch.clustering)?;
        let mut slots = recycle(std::mem::take(&mut scratch.slots));
        self.reader.fill(&self.table, parts, &scratch.clustering, now, &mut slots)?;
        let scope = Scope { table: &self.table, slots: &slots, terms, aggregates, now };
        if let Some(json) = &self.json {
            let expressions = self.selection.expressions.iter();
            json.write(expressions.map(|expression| expression.value(&scope)), out)?;
            scratch.slots = recycle(slots);
            return Ok(());
        }
        for expression in &self.selection.expressions {
            if let Expression::Column(index) = expression
                && let (Some(slot), Some(column)) =
                    (slots.get(*index), self.table.columns.get(*index))
            {
                slot.write(column.id, &column.cql_type, now, out)?;
            } else {
                write_cell(out, expression.value(&scope)?.as_deref());
            }
        }
        scratch.slots = recycle(slots);
        Ok(())
    }

    /// Binds the values of one execution.
    pub fn bind(
        self: &Arc<Self>,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundSelect, PlanError> {
        let restrictions = self.restrictions.bind(&self.table, values, context)?;
        let terms = self.selection.bind_terms(values, context)?;
        let limit = bind_limit(self.limit.as_ref(), values, context)?;
        let mut per_partition_limit =
            bind_limit(self.per_partition_limit.as_ref(), values, context)?;
        if self.is_distinct {
            per_partition_limit = 1;
        }
        let timeout_nanos = match &self.timeout {
            Some(term) => bind_timeout(&term.bind(values, context)?)?,
            None => None,
        };
        Ok(BoundSelect {
            plan: self.clone(),
            timeout_nanos,
            restrictions,
            terms,
            limit,
            per_partition_limit,
            now: context.now_seconds,
        })
    }
}

impl BoundSelect {
    /// The partition keys that the statement names, in the order of the result; `None` when it
    /// reads a range of tokens.
    pub fn partition_keys(&self) -> Option<&[Arc<[u8]>]> {
        match &self.restrictions.scope {
            BoundScope::Keys(keys) => Some(keys),
            BoundScope::Tokens { .. } => None,
        }
    }
}

fn bind_limit(
    term: Option<&PreparedTerm>,
    values: &BoundValues,
    context: &mut BindContext,
) -> Result<u32, PlanError> {
    let Some(term) = term else { return Ok(u32::MAX) };
    let bytes = match term.bind(values, context)? {
        BoundTerm::Unset => return Ok(u32::MAX),
        BoundTerm::Null => return Err(PlanError::invalid("Invalid null value of limit")),
        BoundTerm::Value(bytes) => bytes,
    };
    let limit = bytes.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
    match u32::try_from(limit) {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err(PlanError::invalid("LIMIT must be strictly positive")),
    }
}

fn check_per_partition_limit(is_distinct: bool, is_one_group: bool) -> Result<(), PlanError> {
    if is_distinct {
        return Err(PlanError::invalid(
            "PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries",
        ));
    }
    if is_one_group {
        return Err(PlanError::invalid(
            "PER PARTITION LIMIT is not allowed with aggregate queries.",
        ));
    }
    Ok(())
}

/// Aggregates over more than one partition may read very much.
fn aggregation_warning(table: &TableDef, select: &Select) -> Option<&'static str> {
    let is_key = |name: &Name| table.partition_key().iter().any(|c| *c.name == *name.text);
    let mut is_restricted = false;
    for relation in &select.relations {
        match &relation.operand {
            Operand::Token(_) => is_restricted = true,
            Operand::Column(name) if is_key(name) => {
                // IN of one value is an equality.
                let is_one = |terms: &[Term]| terms.len() == 1;
                if let Predicate::In(values) = &relation.predicate
                    && !matches!(values, InValues::Terms(terms) if is_one(terms))
                {
                    return Some(
                        "Aggregation query used on multiple partition keys (IN restriction)",
                    );
                }
                is_restricted = true;
            }
            _ => {}
        }
    }
    (!is_restricted).then_some("Aggregation query used without partition key")
}

fn row_reader(table: &TableDef, selection: &Selection, restrictions: &Restrictions) -> RowReader {
    let mut is_wanted = vec![false; table.columns.len()];
    selection.for_each_column(&mut |index| is_wanted[index] = true);
    for index in restrictions.filters.iter().flat_map(Filter::columns) {
        is_wanted[*index] = true;
    }
    RowReader::new(table, &is_wanted)
}

fn check_static_selection(
    table: &TableDef,
    selection: &Selection,
    restrictions: &Restrictions,
) -> Result<(), PlanError> {
    let (mut has_static, mut has_others) = (false, selection.is_wildcard);
    selection.for_each_column(&mut |index| match table.columns[index].kind {
        ColumnKind::PartitionKey(_) => {}
        ColumnKind::Static => has_static = true,
        ColumnKind::Clustering(_) | ColumnKind::Regular => has_others = true,
    });
    if has_static && !has_others && restrictions.restricts_clustering {
        return Err(PlanError::invalid(
            "Cannot restrict clustering columns when selecting only static columns",
        ));
    }
    Ok(())
}

fn check_distinct(
    table: &TableDef,
    selection: &Selection,
    restrictions: &Restrictions,
) -> Result<(), PlanError> {
    if restrictions.restricts_clustering || restrictions.restricts_regular {
        return Err(PlanError::invalid(
            "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or \
             static columns.",
        ));
    }
    let mut is_selected = vec![false; table.columns.len()];
    selection.for_each_column(&mut |index| is_selected[index] = true);
    let selected = table.columns.iter().zip(&is_selected);
    for (column, _) in selected.clone().filter(|(_, is_selected)| **is_selected) {
        if matches!(column.kind, ColumnKind::Clustering(_) | ColumnKind::Regular) {
            return Err(PlanError::invalid(format!(
                "SELECT DISTINCT queries must only request partition key columns and/or static \
                 columns (not {})",
                column.name
            )));
        }
    }
    let mut key = selected.take(table.partition_key_count());
    // With one partition named, some of its key columns may do.
    if restrictions.names_several_partitions()
        && let Some((missing, _)) = key.find(|(_, is_selected)| !**is_selected)
    {
        return Err(PlanError::invalid(format!(
            "SELECT DISTINCT queries must request all the partition key columns (missing {})",
            missing.name
        )));
    }
    Ok(())
}
