//! WHERE: from relations to partition keys, clustering slices and filters.
//!
//! ```text
//!                    SELECT                                  UPDATE, DELETE
//! relations --analyse--> Restrictions                        KeySelection
//!                         partition: keys or tokens           partition: keys
//!                         clustering: prefix and bounds       clustering: prefix and bounds
//!                         filters: what is left
//!           --bind-----> BoundRestrictions                   keys, rows or slices
//! ```
//!
//! A relation belongs to the partition when `=` and `IN` name every column of its key, or when it
//! is one of `token()`; to the clustering when it continues a prefix of the clustering columns by
//! `=` or `IN`, or bounds the column behind that prefix. Everything else can only be checked row
//! by row, which needs ALLOW FILTERING, and which writes cannot have. An INSERT has no WHERE, but
//! its key columns make a [`KeySelection`] too. The texts of errors are Cassandra's.

mod analyse;
mod bind;
mod filter;
mod keys;
mod relation;
mod slices;

pub use analyse::{
    KeySelection, PartitionRestriction, Restrictions, Rules, TokenBound, keys_missing,
};
pub use bind::{BoundRestrictions, BoundScope};
pub use filter::{BoundFilter, Filter};
pub(in crate::plan) use filter::{contains, entry_of, holds};
pub use keys::{
    Choice, Clustering, ClusteringBound, ClusteringChoice, KEYS_PER_STATEMENT_MAX, OneOrMany,
    PartitionKeys, checked_product,
};
pub use slices::Prefix;
