//! DESCRIBE: a schema as the statements that make it.
//!
//! [`DescribePlan`] knows the columns of the answer from the statement alone, so a DESCRIBE can be
//! prepared; the rows are made when it is run, page by page. What it promises:
//!
//! - The texts are Cassandra 5's, and every statement that can be replayed gives the same keyspace,
//!   type or table when it is: only properties that CREATE accepts are printed (`table`).
//! - A CDC log that is attached is made by its base table, so it is not listed, and in its place
//!   stands an ALTER TABLE with its properties (`elements`).
//! - A page never mixes two schemas (`page`).
//!
//! It does not know: what the cluster is like (the trait [`ClusterFacts`]), how the option `cdc` is
//! spelled (the trait [`CdcTables`]), who may see what.

mod elements;
mod page;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod types;

pub use elements::DescribedFeed;
pub use page::{ClusterFacts, DescribeContext, DescribePlan};

#[cfg(doc)]
use super::ddl::CdcTables;
