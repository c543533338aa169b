//! Writes: INSERT, UPDATE, DELETE and BATCH, from syntax tree to mutations.
//!
//! ```text
//! Modification --prepare--> WritePlan --bind--> BoundWrite: one mutation for each partition
//! ```
//!
//! A mutation holds what the statement says and nothing else: where it names no timestamp, rows
//! carry none and the leader of the range stamps them; where a list operation has to read first,
//! it is handed on beside the mutation ([`model::list_operation`]).
//!
//! Timestamps inside a mutation are all the write's own, but for one: the tombstone with which a
//! collection is overwritten is one microsecond older than the new elements, which it must not
//! cover. `DELETE c` writes its tombstone at the write's own time.
//!
//! A statement with IF is bound to a [`ConditionalWrite`] instead: the change, and what is asked
//! before ([`super::condition`]).

mod attributes;
mod batch;
mod bind;
mod cells;
mod codec;
mod conditional;
mod conditional_codec;
mod counter;
#[cfg(test)]
mod golden_tests;
mod operation;
mod prepare;

pub use attributes::{TIMEOUT_NANOS_MAX, TTL_SECONDS_MAX, bind_timeout};
pub use batch::{BatchItem, BatchPlan, bind_batch};
pub use bind::{BoundWrite, MUTATION_BYTES_MAX, PartitionWrite, WRITE_BYTES_MAX};
pub use codec::{PartitionWriteError, fuzz_partition_write};
pub use conditional::{
    BatchConditions, BoundConditional, ConditionalAnswer, ConditionalOutcome, ConditionalWrite,
    Content, RefusedRows, ShownColumns,
};
pub use conditional_codec::fuzz_conditional_write;
pub use counter::check_batch_kind;
pub use prepare::WritePlan;
