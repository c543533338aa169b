//! BATCH: several writes as one, those of one partition merged into one mutation.
//!
//! The order of the statements is lost, as in Cassandra: all have the batch's timestamp unless
//! they name their own, and of two values for one cell the merge's rule chooses.

use super::attributes::Attributes;
use super::bind::{BoundWrite, MUTATION_BYTES_MAX, PartitionWrite, WRITE_BYTES_MAX, check_length};
use super::conditional::{BatchConditions, BoundConditional};
use super::counter::{check_batch_kind, merge_counters};
use super::prepare::WritePlan;
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::markers::MarkerSpecs;
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::{Batch, BatchKind, Modification, Using};
use model::codec::DecodeError;
use model::mutation::{MutationView, MutationWriter, stamp, unstamp};
use model::partition::Partition;
use model::row::UNSTAMPED;
use model::{Schema, TableId, TimestampMicros};
use std::collections::BTreeMap;

/// A batch in one text, ready to be bound.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchPlan {
    /// LOGGED, UNLOGGED or COUNTER.
    pub kind: BatchKind,
    attributes: Attributes,
    /// Its statements in order.
    pub statements: Vec<WritePlan>,
    /// What they ask, if any of them is conditional.
    conditions: Option<BatchConditions>,
}

/// A statement of a batch of the protocol, with its values.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem<'a> {
    /// The statement.
    pub plan: &'a WritePlan,
    /// Its values; their number is checked by the caller.
    pub values: BoundValues<'a>,
}

impl BatchPlan {
    /// Prepares a batch; what its markers wait for goes into `markers`.
    pub fn prepare(
        batch: &Batch,
        schema: &Schema,
        keyspace: Option<&str>,
        markers: &mut MarkerSpecs,
    ) -> Result<BatchPlan, PlanError> {
        if batch.using.ttl.is_some() {
            return Err(PlanError::invalid("Global TTL on the BATCH statement is not supported."));
        }
        let names_timestamp = batch.using.timestamp.is_some();
        let is_conditional = batch.statements.iter().any(Modification::is_conditional);
        if names_timestamp && is_conditional {
            return Err(PlanError::invalid(
                "Cannot provide custom timestamp for conditional BATCH",
            ));
        }
        if names_timestamp && batch.statements.iter().any(|s| using(s).timestamp.is_some()) {
            return Err(PlanError::invalid(
                "Timestamp must be set either on BATCH or individual statements",
            ));
        }
        let statements = batch
            .statements
            .iter()
            .map(|statement| WritePlan::prepare(statement, schema, keyspace, markers))
            .collect::<Result<Vec<_>, _>>()?;
        check_batch_kind(batch.kind, &statements.iter(), names_timestamp)?;
        let attributes = match statements.first() {
            Some(first) => {
                let table = &first.table;
                Attributes::prepare(&mut TermPreparer { schema, table, markers }, &batch.using)?
            }
            None => Attributes::default(),
        };
        let conditions = BatchConditions::of(&statements.iter())?;
        Ok(BatchPlan { kind: batch.kind, attributes, statements, conditions })
    }

    /// Whether it is bound by [`Self::bind_conditional`].
    pub fn is_conditional(&self) -> bool {
        self.conditions.is_some()
    }

    /// The change of one execution, if there are conditions, and what these are.
    pub fn bind_conditional(
        &self,
        values: BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundConditional, PlanError> {
        let Some(conditions) = &self.conditions else {
            return Err(PlanError::invalid("The batch has no condition"));
        };
        let attributes = self.attributes.bind(&values, context, 0)?;
        let items = self.statements.iter().map(|plan| BatchItem { plan, values });
        let mut bound = conditions.bind(items, context)?;
        bound.timeout_nanos = attributes.timeout_nanos.or(bound.timeout_nanos);
        Ok(bound)
    }

    /// The mutations of one execution.
    pub fn bind(
        &self,
        values: BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundWrite, PlanError> {
        let attributes = self.attributes.bind(&values, context, 0)?;
        let default_timestamp = context.default_timestamp;
        context.default_timestamp =
            Some(attributes.timestamp).filter(|timestamp| *timestamp != UNSTAMPED);
        let items = self.statements.iter().map(|plan| BatchItem { plan, values });
        let bound = bind_batch(items, context);
        context.default_timestamp = default_timestamp;
        let mut bound = bound?;
        bound.timeout_nanos = attributes.timeout_nanos.or(bound.timeout_nanos);
        Ok(bound)
    }
}

fn using(statement: &Modification) -> &Using {
    match statement {
        Modification::Insert(insert) => &insert.using,
        Modification::Update(update) => &update.using,
        Modification::Delete(delete) => &delete.using,
    }
}

/// Binds the statements of a batch. The shortest time-out counts. The timestamp of the batch is
/// the context's default.
pub fn bind_batch<'a>(
    items: impl Iterator<Item = BatchItem<'a>>,
    context: &mut BindContext,
) -> Result<BoundWrite, PlanError> {
    let mut groups: Vec<Vec<PartitionWrite>> = Vec::new();
    let mut group_of: BTreeMap<(TableId, Vec<u8>), usize> = BTreeMap::new();
    let mut timeout_nanos: Option<u64> = None;
    let mut byte_count = 0;
    for item in items {
        let bound = item.plan.bind(item.values, context)?;
        timeout_nanos = timeout_nanos.into_iter().chain(bound.timeout_nanos).min();
        for write in bound.partitions {
            byte_count += write.mutation.len();
            check_length(byte_count, WRITE_BYTES_MAX)?;
            let place =
                *group_of.entry((write.table.id, write.key().to_vec())).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.push(write),
                None => groups.push(vec![write]),
            }
        }
    }
    let partitions = groups
        .into_iter()
        .map(|group| merge_writes(group, context.now_micros))
        .collect::<Result<_, _>>()?;
    Ok(BoundWrite { partitions, timeout_nanos })
}

/// Merges the writes of one partition into one.
///
/// A time that is not known yet does not compare with others, so statements without a timestamp
/// are merged under a common one. If all are such, it is taken away again and the leader gives one
/// to the whole; otherwise they keep the coordinator's present.
pub(super) fn merge_writes(
    mut writes: Vec<PartitionWrite>,
    now_micros: TimestampMicros,
) -> Result<PartitionWrite, PlanError> {
    const COMMON: TimestampMicros = 0;
    if writes.len() == 1
        && let Some(write) = writes.pop()
    {
        return Ok(write);
    }
    let all_unstamped = writes.iter().all(|write| !write.is_stamped);
    let stand_in = if all_unstamped { COMMON } else { now_micros };
    let is_counter = writes.iter().any(|write| write.is_counter);
    let mut partition = Partition::default();
    for write in &mut writes {
        stamp(&mut write.mutation, stand_in).map_err(|error| broken(&error))?;
        if !is_counter {
            partition.apply(&MutationView::new(&write.mutation).map_err(|error| broken(&error))?);
        }
        if !all_unstamped {
            for operation in &mut write.list_operations {
                if operation.timestamp == UNSTAMPED {
                    operation.timestamp = now_micros;
                }
            }
        }
    }
    if is_counter {
        partition = merge_counters(&writes, stand_in).map_err(|error| broken(&error))?;
    }
    let mut writes = writes.into_iter();
    let Some(mut merged) = writes.next() else {
        return Err(PlanError::invalid("A group of writes is empty"));
    };
    let (table, key) = (&merged.table, merged.key().to_vec());
    merged.mutation.clear();
    let mut writer = MutationWriter::new(&mut merged.mutation, table.id, table.version, &key);
    partition.write(&mut writer);
    check_length(writer.byte_count(), MUTATION_BYTES_MAX)?;
    if all_unstamped {
        unstamp(&mut merged.mutation, COMMON).map_err(|error| broken(&error))?;
    }
    merged.is_stamped = !all_unstamped;
    merged.list_operations.extend(writes.flat_map(|write| write.list_operations));
    Ok(merged)
}

/// Mutations are this module's own work, so this does not happen; the request fails if it does.
fn broken(error: &DecodeError) -> PlanError {
    PlanError::invalid(format!("A mutation of the batch cannot be read: {error}"))
}
