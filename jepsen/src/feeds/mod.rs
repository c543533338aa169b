//! Changefeeds under faults: rows are written on a cluster whose nodes die, sleep and are cut off,
//! while feeds of the table go to readers that have faults of their own.
//!
//! ```text
//!   receiver.rs   an HTTP endpoint that refuses, hangs and breaks off, one call in ten
//!   topic.rs      a real Kafka broker that is killed, read by a consumer that is killed
//!   run.rs        clients, nemesis and readers together; then everything that is owed is waited for
//!   history.rs    what was written and told
//!   lag.rs        how late positions were
//! ```
//! The judge is [`crate::checker::feed`]. `cargo run --release -p jepsen --example feeds -- --help`
//! runs a test; a history that it left is judged again by the same program.

pub mod history;
#[path = "../../../changefeed/tests/broker/kafka/mod.rs"]
mod kafka;
mod lag;
mod receiver;
mod run;
mod topic;

pub use lag::{Lag, lags};
pub use run::{FeedReport, judge, run};
