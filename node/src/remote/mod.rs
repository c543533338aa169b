//! Writes and reads on other nodes: how this node asks for them, and how it serves those of others.
//!
//! ```text
//! coordinator ── leader.rs ──▶ this shard, another shard of this node, or
//!                              ask.rs ─ cluster::peer ─▶ serve.rs ──▶ the shard that holds the range
//! ```
//!
//! A request goes to the shard of the node that is thought to lead its range, or, for a read at
//! ONE, to any that holds it; [`cluster::routing`] has the order. Whoever does not lead says so
//! and whom it takes for the leader, and the next is asked, with short pauses, until the request's
//! time is over. What was sent and not answered may have been applied: a write is not sent again but if
//! every part of it has its timestamp and nothing is read for it, so that making it twice changes
//! nothing and a CDC log does not tell of it twice. Of any other the client hears a timeout.
//!
//! A request names the index of the metadata under which it was planned. A node that is behind
//! waits for it; one that knows a newer version of the table sends the plan back. The bytes are
//! those of `docs/formats/requests.md`.

mod ask;
mod closed;
mod leader;
mod message;
mod serve;
mod tail;

pub(crate) use closed::serve_closed;
pub(crate) use closed::shards_of;
pub(crate) use leader::{Deadline, Pause, TooFew, WriteTerms};
pub(crate) use message::{Answer, Body};
pub(crate) use serve::{serve_applied, serve_read, serve_write};
pub(crate) use tail::serve_tail;
