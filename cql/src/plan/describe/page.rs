//! The answer to a DESCRIBE: its columns, its rows, its pages.
//!
//! Texts are made for the rows of one page only. A paging state is the version of the schema and
//! the number of rows before the page:
//!
//! ```text
//! state := version:u8 schema_version:u64be rows_before:u32be
//! ```
//!
//! It is good on every node that has the same schema; under another one the client is told to
//! begin anew, since rows may have moved.

use super::super::PlanError;
use super::super::ddl::CdcTables;
use super::super::select::PageRequest;
use super::super::system_schema::{is_system_keyspace, value};
use super::elements::{DescribedFeed, Element, find};
use crate::syntax::ast::{Describe, DescribeTarget};
use crate::wire::{ColumnSpec, OpenRows, ResultMetadata, RowsHead, write_cell};
use model::codec::{Cursor, DecodeError};
use model::schema::quote_identifier;
use model::{CqlType, Schema};
use std::fmt;
use std::sync::Arc;

/// A page that has reached that many bytes ends, if the client pages at all.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The first byte of a paging state.
const PAGING_STATE_VERSION: u8 = 1;

/// What DESCRIBE CLUSTER shows.
pub trait ClusterFacts {
    /// The cluster's name.
    fn name(&self) -> &str;

    /// The partitioner, by its short name.
    fn partitioner(&self) -> &'static str;

    /// The snitch, by its short name.
    fn snitch(&self) -> &'static str;

    /// The ranges of the ring by their end tokens, each with the nodes that hold the keyspace's
    /// data there, in the order of the ring.
    fn range_ownership(&self, keyspace: &str) -> Vec<(String, Vec<String>)>;
}

/// What a DESCRIBE is answered from.
#[derive(Clone, Copy)]
pub struct DescribeContext<'a> {
    /// The schema, the system's keyspaces included.
    pub schema: &'a Schema,
    /// The changefeeds by name.
    pub feeds: &'a [DescribedFeed],
    /// How the option `cdc` is spelled.
    pub cdc: &'a dyn CdcTables,
    /// What the cluster is like.
    pub cluster: &'a dyn ClusterFacts,
}

impl fmt::Debug for DescribeContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DescribeContext").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A DESCRIBE whose answer has known columns.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribePlan {
    describe: Describe,
    keyspace_in_use: Option<Arc<str>>,
    columns: Vec<ColumnSpec>,
    /// The columns of its rows.
    pub metadata: ResultMetadata,
}

impl DescribePlan {
    /// Prepares a DESCRIBE. What it names is looked up when it is run.
    pub fn prepare(
        describe: &Describe,
        keyspace_in_use: Option<&str>,
    ) -> Result<DescribePlan, PlanError> {
        if describe.with_passwords {
            return Err(PlanError::invalid("DESCRIBE … AND PASSWORDS is not supported"));
        }
        let columns = columns(&describe.target, keyspace_in_use);
        Ok(DescribePlan {
            describe: describe.clone(),
            keyspace_in_use: keyspace_in_use.map(Arc::from),
            metadata: ResultMetadata::new(&columns),
            columns,
        })
    }

    /// The columns of its rows.
    pub fn columns(&self) -> &[ColumnSpec] {
        &self.columns
    }

    /// Appends the frame of one page to `out`, which is unchanged after an error.
    ///
    /// Errors when the statement names what is not there, and when the paging state is no state of
    /// this schema.
    pub fn write_page(
        &self,
        context: &DescribeContext<'_>,
        request: &PageRequest<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), PlanError> {
        let rows_before = match request.paging_state {
            None => 0,
            Some(state) => rows_before(state, context.schema)?,
        };
        let known = (context.schema, context.feeds);
        let elements = find(&self.describe.target, known, self.keyspace_in_use.as_deref())?;
        let head = RowsHead {
            metadata: &self.metadata,
            skip_metadata: request.skip_metadata,
            new_metadata_id: request.new_metadata_id,
        };
        let mut rows = OpenRows::begin(out, &request.head, &head);
        if self.describe.target == DescribeTarget::Cluster {
            self.write_cluster(context.cluster, out);
            rows.row_written();
            return finish(rows, out, None);
        }
        let page_rows = request.page_size.and_then(|size| u32::try_from(size).ok());
        let page_rows = page_rows.filter(|size| *size > 0);
        let mut remaining = elements.iter().skip(rows_before as usize).peekable();
        while let Some(element) = remaining.next() {
            self.write_element(element, context.cdc, out);
            rows.row_written();
            let Some(page_rows) = page_rows else { continue };
            let is_full =
                rows.row_count() >= page_rows || rows.bytes_written(out) >= PAGE_BYTES_MAX;
            if is_full && remaining.peek().is_some() {
                let state = paging_state(rows_before + rows.row_count(), context.schema);
                return finish(rows, out, Some(&state));
            }
        }
        finish(rows, out, None)
    }

    fn write_element(&self, element: &Element<'_>, cdc: &dyn CdcTables, out: &mut Vec<u8>) {
        write_cell(out, Some(quote_identifier(element.keyspace()).as_bytes()));
        write_cell(out, Some(element.kind().as_bytes()));
        write_cell(out, Some(quote_identifier(element.name()).as_bytes()));
        if !is_list(&self.describe.target) {
            let statement = element.create_statement(cdc, self.describe.with_internals);
            write_cell(out, Some(statement.as_bytes()));
        }
    }

    fn write_cluster(&self, cluster: &dyn ClusterFacts, out: &mut Vec<u8>) {
        for fact in [cluster.name(), cluster.partitioner(), cluster.snitch()] {
            write_cell(out, Some(fact.as_bytes()));
        }
        if let Some(keyspace) = owned_keyspace(self.keyspace_in_use.as_deref()) {
            let ranges = cluster.range_ownership(keyspace);
            let ranges: Vec<(&str, Vec<u8>)> = ranges
                .iter()
                .map(|(end, nodes)| (&**end, value::texts(nodes.iter().map(String::as_str))))
                .collect();
            let ranges = ranges.iter().map(|(end, nodes)| (*end, nodes.as_slice()));
            write_cell(out, Some(&value::map(ranges)));
        }
    }
}

fn finish(rows: OpenRows, out: &mut Vec<u8>, state: Option<&[u8]>) -> Result<(), PlanError> {
    rows.finish(out, state).map_err(|error| PlanError::invalid(error.to_string()))
}

/// The keyspace whose ranges DESCRIBE CLUSTER shows: one of a user, in use.
fn owned_keyspace(keyspace_in_use: Option<&str>) -> Option<&str> {
    keyspace_in_use.filter(|name| !is_system_keyspace(name))
}

/// Whether only names are shown.
fn is_list(target: &DescribeTarget) -> bool {
    matches!(
        target,
        DescribeTarget::Keyspaces
            | DescribeTarget::Tables
            | DescribeTarget::Types
            | DescribeTarget::Functions
            | DescribeTarget::Aggregates
    )
}

fn columns(target: &DescribeTarget, keyspace_in_use: Option<&str>) -> Vec<ColumnSpec> {
    let column = |name: &str, cql_type| ColumnSpec {
        keyspace: "system".into(),
        table: "describe".into(),
        name: name.into(),
        cql_type,
    };
    let text = |name: &str| column(name, CqlType::Text);
    if *target == DescribeTarget::Cluster {
        let mut columns = vec![text("cluster"), text("partitioner"), text("snitch")];
        if owned_keyspace(keyspace_in_use).is_some() {
            let nodes = CqlType::List { element: Arc::new(CqlType::Text), frozen: false };
            let (key, value) = (Arc::new(CqlType::Text), Arc::new(nodes));
            columns.push(column("range_ownership", CqlType::Map { key, value, frozen: false }));
        }
        return columns;
    }
    let mut columns = vec![text("keyspace_name"), text("type"), text("name")];
    if !is_list(target) {
        columns.push(text("create_statement"));
    }
    columns
}

fn paging_state(rows_before: u32, schema: &Schema) -> Vec<u8> {
    let mut state = vec![PAGING_STATE_VERSION];
    state.extend_from_slice(&schema.version.to_be_bytes());
    state.extend_from_slice(&rows_before.to_be_bytes());
    state
}

/// The rows before the page; client's bytes, so anything can be in them.
fn rows_before(state: &[u8], schema: &Schema) -> Result<u32, PlanError> {
    let decode = || -> Result<(u8, u64, u32), DecodeError> {
        let mut cursor = Cursor::new(state);
        let [version] = cursor.array()?;
        let schema_version = u64::from_be_bytes(cursor.array()?);
        let rows_before = u32::from_be_bytes(cursor.array()?);
        cursor.finish()?;
        Ok((version, schema_version, rows_before))
    };
    match decode() {
        Ok((PAGING_STATE_VERSION, version, rows_before)) if version == schema.version => {
            Ok(rows_before)
        }
        Ok((PAGING_STATE_VERSION, ..)) => Err(PlanError::invalid(
            "The schema has changed since the previous page of the DESCRIBE statement result. \
             Please retry the DESCRIBE statement.",
        )),
        _ => Err(PlanError::invalid("Invalid value for the paging state")),
    }
}
