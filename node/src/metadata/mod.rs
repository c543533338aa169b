//! The metadata group: what all nodes agree on, and the statements that change it.
//!
//! Metadata is one more replicated log, held by shard 0 of every node. A DDL statement goes to the
//! node that leads it ([`request`]), is decided there against the newest state, one statement at a
//! time, proposed as a [`Command`], and answered when every shard of every live node acts by it
//! ([`change`]). One that turns a log on or off is told to the ranges of its table besides
//! ([`switches`]).
//!
//! The log of a table that was dropped stays while changefeeds have yet to deliver it ([`retired`]).
//!
//! The ring of nodes changes by a plan, which is a part of the state ([`plan`]).
//!
//! Views follow the log ([`publish`]), and clients that ask for it are told what changed, found by
//! comparing one state with the next ([`events`]). A node that starts lets clients in when it knows
//! of every change that was acknowledged ([`catch_up`]), and goes on asking how far they have come, for
//! the sake of CDC's generations ([`freshness`]).

mod catch_up;
mod change;
mod events;
mod feeds;
mod freshness;
mod message;
mod plan;
mod publish;
mod request;
mod retired;
mod snapshot;
mod state;
mod switches;

pub(crate) use catch_up::Standing;
pub(crate) use change::{DdlError, DdlOutcome, DdlResult, MetadataRequest};
#[cfg(test)]
pub(crate) use events::tests::{metadata as test_metadata, schema as test_schema};
#[cfg(test)]
pub(crate) use feeds::tests::{feed as test_feed, test_news};
pub(crate) use feeds::{
    FeedAssignment, FeedKept, FeedNews, FeedRecord, FeedRelease, FeedReport, FeedState, FeedStop,
    Progress,
};
pub(crate) use freshness::KnownGenerations;
#[cfg(test)]
pub(crate) use plan::tests::record as test_node;
pub(crate) use plan::{MadeRings, PlanKind, PlanRecord};
pub(crate) use publish::Publication;
pub(crate) use request::serve_change;
pub(crate) use retired::{RetiredEnd, RetiredTable};
pub(crate) use snapshot::{GroupBase, Snapshot, load, save};
pub(crate) use state::{Command, GenerationRecord, Metadata, NodeRecord};
