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
//! - [`source`]: log rows as a feed reads them, how a table's columns stand in them, and the
//!   [`Source`](source::Source) that hands them out.
//! - [`definition`]: what a feed is by its statement.
//! - [`options`]: what a statement asks of a feed, checked and typed.
//! - [`position`]: a place in the log of several tables.
//! - [`sequence`]: the numbers of changes, the same on every replay.
//! - [`event`]: what happened to a row, from the log rows of one change.
//! - [`envelope`]: events as messages.
//! - [`feed`]: all of it together, as the pump asks for it.
//! - [`pump`]: one feed's work: reading, rendering, delivering, and the position behind it.
//! - [`scan`]: a snapshot of the tables before the stream of their changes.
//! - [`memory`]: what all feeds hold in memory together, under one limit.
//! - [`sink`]: where messages go, and what a destination's failures mean.

pub mod definition;
pub mod envelope;
pub mod event;
pub mod feed;
pub mod memory;
pub mod options;
pub mod position;
pub mod pump;
pub mod scan;
pub mod sequence;
pub mod sink;
pub mod source;
#[cfg(test)]
mod testing;

pub use definition::{Cursor, Definition, FeedTable};
pub use envelope::Renderer;
pub use feed::{BoundTable, FeedRender, SharedMessages};
pub use options::{Options, SinkAddress, SinkKind};
pub use position::{LogKey, Position};
pub use source::{LogRow, TableShape};
