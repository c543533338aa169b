//! What data is: types, values and their order, keys, tokens, schema, mutations, and the merge.
//!
//! Every other crate stands on this one, and it stands on nothing: no IO, no clock, no
//! randomness, no `unsafe`. What it promises:
//!
//! - [`merge`] is the only place that decides which cell wins; the merge is commutative,
//!   associative and idempotent, so replicas that hold the same writes hold the same data.
//! - A row has one byte form ([`row`]), used as it stands in the commit log, in memtables, in
//!   sstables and between nodes. Readers view it without copying.
//! - Clustering keys ([`clustering`]) are encoded so that comparing bytes compares values.

pub mod clustering;
pub mod codec;
pub mod consistency;
pub mod counter;
pub mod dump;
pub mod entry;
pub mod filter;
pub mod fuzz;
#[cfg(any(test, feature = "testing"))]
pub mod golden;
mod hex;
pub mod id_map;
pub mod json;
pub mod key;
pub mod list_operation;
pub mod list_place;
pub mod literal;
pub mod memory_table;
pub mod merge;
pub mod mutation;
pub mod nearest;
pub mod partition;
pub mod path;
pub mod range_tombstones;
pub mod read;
pub mod row;
pub mod schema;
pub mod timeuuid;
pub mod token;
pub mod types;
pub mod value;
pub mod value_row;

pub use consistency::Consistency;
pub use id_map::IdMap;
pub use schema::{
    CdcOptions, ColumnDef, ColumnId, ColumnKind, DeltaMode, FeedLog, KeyspaceDef, PreimageMode,
    Schema, TableDef, TableId, TableOptions, UserType,
};
pub use token::Token;
pub use types::CqlType;
pub use value::ValueError;

/// Microseconds since the Unix epoch: the timestamp of a write.
pub type TimestampMicros = i64;
/// Seconds since the Unix epoch, by the clock of the node that made the cell.
pub type EpochSeconds = i64;
