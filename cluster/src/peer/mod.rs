//! Node to node: connections between shards that carry messages, requests and bulk streams.
//!
//! Bytes are opaque here: consensus, forwarded requests and snapshots give them meaning.
//!
//! # One pair of shards
//!
//! Shard i of node A and shard j of node B have one connection, over which both send. Either may
//! dial; when both do, one gives way before anything is sent (`link`). It is made when first needed
//! and again whenever it is lost, with a pause that grows ([`limits::BACKOFF_MAX`]).
//!
//! ```text
//!  shard i of A                                                       shard j of B
//!  Peers::send ─▶ outbox ─▶ ┌ gRPC: a batch per message ┐ ─▶ reader ─▶ Inbox::recv
//!                 urgent    │ HTTP/2: flow control      │   checks
//!                 bulk      │ introduction · TCP        │   bounds
//!  Inbox::recv ◀─ reader ◀─ └───────────────────────────┘ ◀─ outbox ◀─ Peers::send
//! ```
//!
//! The acceptor of a node hears each connection's introduction (`hello`) and hands the socket to
//! its shard, before a byte of HTTP/2: so the shard's thread serves it from the start, and nobody
//! who does not belong gets further than a fixed buffer ([`accept_peers`]).
//!
//! # What is promised
//!
//! - At most once, and in order within a class and a connection. Urgent overtakes bulk.
//! - What does not fit is refused at once; what is lost is lost with its connection, and the inbox
//!   says so. Nobody here sends anything twice.
//! - A shard that does not take its inbox costs a bounded amount of memory per peer: the windows
//!   close, the outboxes of its peers fill, their callers are refused.
//! - Nothing is taken from a node that runs on an older copy of its data directory, if this node
//!   has heard of a later start of it (`starts`).
//! - A peer that is frozen, cut off or hostile costs the others nothing: each link has a task of
//!   its own, and every wait has a limit (`limits`).
//!
//! # What it does not know
//!
//! What the bytes mean, who is a member of the cluster (but for [`Registry::remove`]), and who is
//! alive: that a connection stands proves no more than that bytes went through lately.
//!
//! # Where to find what
//!
//! Pure: `limits`, `hello`, `introduction`, `batch`, `outbox`, `link`, `starts`, `throttle`, and
//! `registry`, which has a lock. Async: `acceptor` (introductions), `transport` (HTTP/2, gRPC), `feed`,
//! `session` (one connection), `dialler` and `hub` (the links), `inbox`, `ask`, `stream`, `peers`.

mod acceptor;
mod ask;
mod batch;
mod codec;
mod dialler;
mod feed;
mod hello;
mod hub;
mod inbox;
mod introduction;
pub mod limits;
mod link;
mod outbox;
mod peers;
mod registry;
mod session;
mod starts;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
mod transport;
mod wait;

pub use acceptor::{Accepted, accept_peers, introduce};
pub use ask::{AskError, Responder, Unknown};
pub use batch::BatchError;
pub use hello::{Identity, VERSION};
pub use inbox::{Event, Inbox, Incoming};
pub use introduction::{IntroductionError, RefusalCode};
pub use outbox::Class;
pub use peers::{Figures, Peer, Peers, SendError};
pub use registry::{NameTooLong, Registry};
pub use session::Cause;
pub use starts::{Memory, Overtaken, RememberedStarts, Remembering, Start};
pub use stream::{IncomingStream, OutgoingStream, StreamError};
