//! A [`WritePlan`] and the values of one execution to mutations.

use super::attributes::BoundAttributes;
use super::cells::CellMaker;
use super::prepare::{Target, WritePlan};
use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::restriction::{OneOrMany, Prefix, checked_product};
use model::list_operation::ListOperation;
use model::mutation::{MutationView, MutationWriter};
use model::read::Slice;
use model::row::{Deletion, Marker, RowHead, UNSTAMPED};
use model::token::token_of;
use model::{TableDef, Token};
use std::sync::Arc;

/// A write of one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundWrite {
    /// What changes, partition by partition; none twice.
    pub partitions: Vec<PartitionWrite>,
    /// USING TIMEOUT, in nanoseconds.
    pub timeout_nanos: Option<u64>,
}

/// The change of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionWrite {
    /// The table, as the statement was prepared for it.
    pub table: Arc<TableDef>,
    /// The token of the partition's key.
    pub token: Token,
    /// A [`model::mutation`]; it may change nothing. Without timestamps where none was given.
    pub mutation: Vec<u8>,
    /// Whether every part has its timestamp; otherwise none has.
    pub is_stamped: bool,
    /// Whether values are increments of counters, of which the leader makes sums.
    pub is_counter: bool,
    /// What the leader adds to the mutation after a look at the rows.
    pub list_operations: Vec<ListOperation>,
}

impl PartitionWrite {
    /// The serialized partition key.
    pub fn key(&self) -> &[u8] {
        MutationView::new(&self.mutation).map_or(&[], |mutation| mutation.key())
    }
}

/// Longest mutation of one partition, in bytes, as in Cassandra with its default segments: it has to
/// fit a message and a segment of the log.
pub const MUTATION_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes of mutations that one statement, or all of a batch, may come to. A short statement
/// can write a long value to many rows, so the request's length is no bound.
pub const WRITE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Room for a mutation of a few columns, so that it is allocated once.
const MUTATION_BYTES_USUAL: usize = 256;

const NOTHING: RowHead = RowHead { marker: None, tombstone: None };

impl WritePlan {
    /// The mutations of one execution.
    pub fn bind(
        &self,
        values: BoundValues,
        context: &mut BindContext,
    ) -> Result<BoundWrite, PlanError> {
        let default_ttl_seconds = self.table.options.default_time_to_live;
        let mut attributes = self.attributes.bind(&values, context, default_ttl_seconds)?;
        if self.is_counter {
            attributes.timestamp = UNSTAMPED;
        }
        let keys = self.keys.partition.bind(&self.table, &values, context)?;
        let (rows, ranges) = self.bind_rows(&values, context)?;
        let rows = rows.as_slice();
        let key_count = keys.as_slice().len();
        checked_product([key_count, (rows.len() + ranges.len()).max(1)].into_iter())?;
        let mut maker = CellMaker::new(values, context, attributes);
        let mut partitions = Vec::with_capacity(key_count);
        let mut byte_count = 0;
        for key in keys.into_items() {
            let write = self.bind_partition(&key, rows, &ranges, &mut maker)?;
            byte_count += write.mutation.len();
            check_length(byte_count, WRITE_BYTES_MAX)?;
            partitions.push(write);
        }
        Ok(BoundWrite { partitions, timeout_nanos: attributes.timeout_nanos })
    }

    /// The rows, and the ranges of rows, that change in each partition.
    #[inline]
    pub(super) fn bind_rows(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<(OneOrMany<Prefix>, Vec<Slice>), PlanError> {
        let (table, clustering) = (&*self.table, &self.keys.clustering);
        Ok(match self.target {
            Target::StaticRow | Target::DeletedPartition => (OneOrMany::NONE, Vec::new()),
            Target::DeletedRanges => {
                (OneOrMany::NONE, clustering.bind_slices(table, values, context)?)
            }
            _ => (clustering.bind_prefixes(table, values, context)?, Vec::new()),
        })
    }

    pub(super) fn bind_partition(
        &self,
        key: &[u8],
        rows: &[Prefix],
        ranges: &[Slice],
        maker: &mut CellMaker,
    ) -> Result<PartitionWrite, PlanError> {
        let mut mutation = Vec::with_capacity(MUTATION_BYTES_USUAL);
        let table = &self.table;
        let mut writer = MutationWriter::new(&mut mutation, table.id, table.version, key);
        let BoundAttributes { timestamp, expiry, .. } = maker.attributes;
        let deletion = Deletion { timestamp, deleted_at: maker.context.now_seconds };
        if self.target == Target::DeletedPartition {
            writer.partition_tombstone(deletion);
        }
        if !self.static_operations.is_empty() {
            writer.try_static_row(timestamp, NOTHING, |row| {
                maker.write(self.static_operations.iter(), None, row)
            })?;
        }
        let head = match self.target {
            Target::StaticRow | Target::DeletedPartition => NOTHING,
            Target::Rows | Target::DeletedRanges => NOTHING,
            Target::InsertedRows => {
                RowHead { marker: Some(Marker { timestamp, expiry }), tombstone: None }
            }
            Target::DeletedRows => RowHead { marker: None, tombstone: Some(deletion) },
        };
        for range in ranges {
            writer.range_tombstone(&range.start, &range.end, deletion);
            check_length(writer.byte_count(), MUTATION_BYTES_MAX)?;
        }
        for row in rows {
            let clustering = row.encoded.as_slice();
            writer.try_row(clustering, timestamp, head, |row| {
                maker.write(self.row_operations.iter(), Some(clustering), row)
            })?;
            check_length(writer.byte_count(), MUTATION_BYTES_MAX)?;
        }
        let list_operations = std::mem::take(&mut maker.list_operations);
        Ok(PartitionWrite {
            table: self.table.clone(),
            token: token_of(table.partitioner, key),
            mutation,
            is_stamped: timestamp != UNSTAMPED,
            is_counter: self.is_counter,
            list_operations,
        })
    }
}

/// Errors when a write has become too long.
pub(super) fn check_length(byte_count: usize, byte_count_max: usize) -> Result<(), PlanError> {
    if byte_count <= byte_count_max {
        return Ok(());
    }
    Err(PlanError::invalid(format!(
        "A mutation of {byte_count} bytes is too large for the maximum size of {byte_count_max}"
    )))
}
