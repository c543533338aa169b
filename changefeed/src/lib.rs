//! Changefeeds: the log of a set of tables, turned into events and handed to a sink.
//!
//! A feed is a cursor over the log of its tables, in the order of log time and cut at the closed
//! time. This crate has what a feed is made of; where log rows come from, who owns a feed and where
//! its position is kept is the node's, behind traits.
//!
//! ```text
//! source ──▶ event ──▶ envelope ──▶ sink
//! log rows   changes   messages     Kafka, webhook
//! ```
//!
//! - [`options`]: what a statement asks of a feed, checked and typed.
//! - [`source`]: log rows as a feed reads them, how a table's columns stand in them, and the
//!   [`Source`](source::Source) that hands them out.
//! - [`position`]: a place in the log of several tables.
//! - [`pump`]: one feed's work: reading, rendering, delivering, and the position behind it.
//! - [`sink`]: where messages go, and what a destination's failures mean.

pub mod options;
pub mod position;
pub mod pump;
pub mod sink;
pub mod source;

pub use options::{Options, SinkAddress, SinkKind};
pub use position::{LogKey, Position};
pub use source::{LogRow, TableShape};
