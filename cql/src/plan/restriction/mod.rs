//! WHERE: from relations to partition keys, clustering slices and filters.
//!
//! ```text
//! relations --analyse--> Restrictions --bind--> BoundRestrictions
//!                         partition: keys or tokens      keys, or a range of tokens
//!                         clustering: prefix and bounds  slices of clustering positions
//!                         filters: what is left          tests of rows that were read
//! ```
//!
//! A relation belongs to the partition when `=` and `IN` name every column of its key, or when it
//! is one of `token()`; to the clustering when it continues a prefix of the clustering columns by
//! `=` or `IN`, or bounds the column behind that prefix. Everything else can only be checked row
//! by row, which needs ALLOW FILTERING. The texts of errors are Cassandra's.

mod analyse;
mod bind;
mod filter;
mod relation;
mod slices;

pub use analyse::{Clustering, PartitionRestriction, Restrictions, TokenBound};
pub use bind::{BoundRestrictions, BoundScope, KEYS_PER_STATEMENT_MAX};
pub use filter::{BoundFilter, Filter};
pub use relation::Choice;
pub(super) use relation::column_index;
