//! The metadata group: what all nodes agree on, and the statements that change it.
//!
//! Metadata is one more replicated log, held by shard 0. A DDL statement is decided there against
//! the newest state, one statement at a time, proposed as a [`Command`], and answered when every
//! shard acts by it.
//!
//! Clients that ask for it are told: of schema changes by whoever made them, of nodes by comparing
//! one state with the next ([`events`]).

mod change;
mod events;
mod snapshot;
mod state;

pub(crate) use change::{DdlError, DdlRequest, DdlResult, MetadataRequest};
pub(crate) use snapshot::{load, save};
pub(crate) use state::{Command, GenerationRecord, Metadata, NodeRecord};
