//! Table files: immutable, sorted, checksummed. The format is described in
//! `docs/formats/sstable.md`, from which a reader could be written.
//!
//! - [`block`]: what is checksummed, compressed, read and cached.
//! - [`data`] and [`index`]: what blocks contain. [`filter`], [`statistics`]: what is known of a
//!   file without reading its blocks.
//! - [`table`]: an open file; [`cursor`]: reading it.

mod block;
mod cursor;
mod data;
mod filter;
mod fuzz;
mod index;
mod statistics;
mod table;
mod writer;

pub(crate) use block::{Block, BlockSource, BlockingBlocks, CachedBlocks};
#[cfg(test)]
pub(crate) use block::{BlockAddress, TableFile};
pub use block::{BlockMiss, LoadedBlock};
pub(crate) use cursor::{TablePartitions, TableRows, read_head, read_row};
pub(crate) use data::has_head;
pub(crate) use filter::KeyHash;
pub(crate) use fuzz::fuzz_block_content;
#[cfg(test)]
pub(crate) use fuzz::fuzz_seeds;

pub(crate) use table::{SsTable, TABLE_SUFFIX, table_path};
pub(crate) use writer::{TableWriter, WriterOptions};

#[cfg(test)]
mod tests;
