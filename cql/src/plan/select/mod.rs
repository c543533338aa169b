//! SELECT: from syntax tree to rows on the wire, without a hand on storage.
//!
//! ```text
//! Select --prepare--> SelectPlan --bind--> BoundSelect --> SelectExecution
//!                                                          next_command() -> ReadCommand
//!                                                          rows of it, through RowSink or feed()
//!                                                          … until there is no next command
//!                                                          finish() -> the response
//! ```
//!
//! Whoever runs an execution reads its commands from storage, wherever that is, in order; rows are
//! written into the response as they arrive. Filters, limits, groups, aggregates and the paging
//! state live here. A plan that names one row has a shorter way: [`SelectPlan::bind_point`] and
//! [`SelectPlan::write_point`], which allocate nothing for the rows.
//!
//! What differs from Cassandra: `now()` and `uuid()` in a selection have one value for a whole
//! result; functions in GROUP BY are refused.

mod aggregate;
mod cast;
mod collector;
mod composite;
mod execution;
mod generic;
#[cfg(test)]
mod golden_tests;
mod json;
mod ordering;
mod paging_state;
mod plan;
mod row;
mod selection;
mod selector;

pub use execution::{PAGE_BYTES_MAX, PageRequest, SelectExecution};
pub use plan::{BoundSelect, PointRead, SelectPlan};
pub use row::RowScratch;
pub(in crate::plan) use row::column_value;
pub(in crate::plan) use selection::columns_of_wildcard;
