//! The ring changes: nodes join, leave, are removed and replaced while there are data
//! (docs/decisions/0014-the-ring-changes-by-a-plan.md).
//!
//! ```text
//! decide   whether a node may come or go; makes the plan, on the node that leads the metadata
//! finish   asks all nodes how far they are, and ends the plan; on the node that leads the metadata
//! gone     what becomes of a node that is no member any more: it ends, and others refuse it
//! http     where operators ask for it
//! command  `tethys decommission`, `tethys remove`, `tethys withdraw`
//! ```
//!
//! That groups move is each shard's own work (`shard/moves.rs`, `shard/departures.rs`).

mod command;
mod decide;
mod finish;
mod gone;
mod http;

pub use command::{DecommissionFlags, RemoveFlags, WithdrawFlags, decommission, remove, withdraw};
pub(crate) use decide::RingRequest;
pub(crate) use finish::{answer_moves, own_moves};
pub(crate) use gone::{Departure, refuse_gone};
pub(crate) use http::{serve_decommission, serve_remove, serve_withdraw};
