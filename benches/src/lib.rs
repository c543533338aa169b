//! What the measuring programs in `examples/` share: a raw-frame CQL load generator and its report.
//!
//! ```text
//!   client.rs    one connection, blocking: STARTUP, statements, PREPARE
//!   dataset.rs   keys and rows that follow from a number, so that an answer can be checked
//!   load.rs      many connections on one thread, requests in flight, closed or open loop
//!   request.rs   which request comes next, and its bytes
//!   owners.rs    which of several servers a key belongs to
//!   check.rs     whether a response is the right one
//!   receiver.rs  the other end of a webhook
//!   report.rs    what came out, as text and as JSON
//!   process.rs   processor time and memory of this process, of the server, of the machine
//! ```
//! It speaks protocol v4 to any CQL server, and is made to cost little: about half a microsecond a
//! request when sixteen go in one write, so that one core of load saturates one core of server.
//! `docs/benchmarks.md` says how to measure, and what was measured.
//!
//! A measuring program stands outside of the node: it reads real clocks and opens real sockets, and
//! nothing of `env` is in its way.
//!
//! All of it is behind the feature `tools`, which this crate's programs and benchmarks turn on.

#![cfg(feature = "tools")]

pub mod check;
pub mod client;
pub mod dataset;
pub mod load;
pub mod owners;
pub mod process;
pub mod receiver;
pub mod report;
mod request;
