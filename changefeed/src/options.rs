//! The options of a changefeed: what `WITH (…)` says, checked and typed.
//!
//! A statement gives names and values ([`Given`]); [`parse`] makes [`Options`] of them or says what
//! is wrong: an option that nobody knows (with the nearest that is known), a value outside its
//! range, options that exclude each other or do not go with the sink. What is known but not built
//! is refused, never accepted and ignored. What was given is kept beside it, for SHOW and DESCRIBE,
//! and [`to_cql`] prints it without its secrets.

mod address;
mod known;
mod value;

pub use address::SinkAddress;
pub use known::is_fixed_at_creation;
pub use value::{Given, OptionError, OptionValue, Secret, shown, to_cql};

use model::PreimageMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a feed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkKind {
    /// A topic of a Kafka cluster.
    Kafka,
    /// An HTTP endpoint.
    Webhook,
}

/// What an event says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The whole row.
    Full,
    /// The columns that changed.
    Delta,
    /// The key alone.
    KeyOnly,
    /// Operations of a JSON patch (RFC 6902) that lead from the row before to the row after.
    Patch,
}

/// What stands around a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Envelope {
    /// The event alone.
    Plain,
    /// Debezium's: `before`, `after`, `source`, `op`, `ts_ms`.
    Debezium,
    /// CloudEvents 1.0, with the event as its data.
    CloudEvents,
}

/// What becomes of an event above `max_message_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LargeMessage {
    /// The feed stops with an error.
    Error,
    /// The event is sent without its rows.
    KeyOnly,
    /// The event is left out.
    Skip,
}

/// What becomes of a feed whose destination refuses an event for what it says, or of whose log rows
/// no event can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnError {
    /// It stops with an error.
    Pause,
    /// The event is left out, and counted.
    Skip,
}

/// How the delete of a range or of a partition is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteExpansion {
    /// As one event with its bounds.
    Range,
    /// As one event for each row that was there.
    Rows,
}

/// How often a reader sees an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Once, or again after a failure.
    AtLeastOnce,
    /// Once, if it reads what is committed only: messages and position are one transaction.
    ExactlyOnce,
}

/// Where in the log a new feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAt {
    /// Behind the change with this number.
    Sequence(u64),
    /// With the first change at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
}

/// Whether a new feed begins with the rows that are in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitialScan {
    /// It tells of changes after its creation alone.
    No,
    /// It does, and goes on with the changes.
    Yes,
    /// It does, and ends with the last row.
    Only,
}

/// Which rows the log must hold beside the changes for a feed to say what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesNeeded {
    /// The row before.
    pub preimage: PreimageMode,
    /// The row after.
    pub postimage: bool,
}

/// How long a feed keeps what it has not delivered beyond the log's TTL, unless it says otherwise.
pub const RETENTION_AGE_MS_DEFAULT: u64 = 4 * 86_400_000;
/// And how many bytes of it, on any one node.
pub const RETENTION_BYTES_DEFAULT: u64 = 10 << 30;

/// All options, with their defaults where none were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Whether UPDATE and DELETE events carry the row before.
    pub include_old_values: bool,
    /// Most events in one batch.
    pub batch_size: usize,
    /// Longest wait before an incomplete batch is sent.
    pub flush_interval_ms: u64,
    /// Which events are sent; the text of an expression.
    pub filter: Option<String>,
    /// What an event says of a row.
    pub event_kind: EventKind,
    /// What stands around it.
    pub envelope: Envelope,
    /// Where a new feed begins; `None`: with the changes after its creation.
    pub cursor: Option<StartAt>,
    /// Whether a new feed begins with the rows that are in its tables.
    pub initial_scan: InitialScan,
    /// How often a mark is sent that says up to where everything was; `None`: never.
    pub resolved_interval_ms: Option<u64>,
    /// How often a reader sees an event.
    pub delivery: Delivery,
    /// How the delete of a range or of a partition is told.
    pub delete_expansion: DeleteExpansion,
    /// Whether a DELETE is followed by a message with the key and no value.
    pub tombstones: bool,
    /// What becomes of the feed when an event is refused.
    pub on_error: OnError,
    /// How often a batch is sent again before the feed stops; `None`: without end.
    pub retry_max: Option<u32>,
    /// What becomes of an event above `max_message_bytes`.
    pub large_message: LargeMessage,
    /// Largest event, in bytes.
    pub max_message_bytes: usize,
    /// How far behind a feed may be whose changes have passed the log's TTL and are kept for it, in
    /// milliseconds; `None`: without end.
    pub retention_age_ms_max: Option<u64>,
    /// How many bytes of such changes are kept for it on any one node; `None`: without end.
    pub retention_bytes_max: Option<u64>,
    /// What webhook requests are signed with.
    pub hmac_secret: Option<Secret>,
    /// More headers of webhook requests.
    pub headers: BTreeMap<String, Secret>,
    /// How long a webhook may take to answer.
    pub timeout_ms: u64,
    /// Settings of the Kafka client, without their prefix `kafka.`.
    pub kafka: BTreeMap<String, Secret>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            include_old_values: false,
            batch_size: 100,
            flush_interval_ms: 1_000,
            filter: None,
            event_kind: EventKind::Full,
            envelope: Envelope::Plain,
            cursor: None,
            initial_scan: InitialScan::No,
            resolved_interval_ms: None,
            delivery: Delivery::AtLeastOnce,
            delete_expansion: DeleteExpansion::Range,
            tombstones: false,
            on_error: OnError::Pause,
            retry_max: None,
            large_message: LargeMessage::Error,
            max_message_bytes: 1_000_000,
            retention_age_ms_max: Some(RETENTION_AGE_MS_DEFAULT),
            retention_bytes_max: Some(RETENTION_BYTES_DEFAULT),
            hmac_secret: None,
            headers: BTreeMap::new(),
            timeout_ms: 3_000,
            kafka: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The images that the log must hold for this feed.
    ///
    /// Whole rows need the row after, and to tell INSERT from UPDATE whether there was one before,
    /// which a preimage of any size says. Patches lead from the one to the other. A filter sees the
    /// row after; that there is none is only known where rows before are told as well. A feed that
    /// `scans`, until it has sent all rows of its scan, merges changes into what it has read, row by
    /// row, and so needs what a filter does; and so does one that tells of deleted rows, to know which
    /// of them a write has left.
    pub fn images(&self, scans: bool) -> ImagesNeeded {
        let expands = self.delete_expansion == DeleteExpansion::Rows;
        let needs_rows = self.filter.is_some() || scans || expands;
        let preimage = match self.event_kind {
            _ if self.include_old_values => PreimageMode::Full,
            EventKind::Patch => PreimageMode::Full,
            EventKind::Full => PreimageMode::Touched,
            _ if needs_rows => PreimageMode::Touched,
            EventKind::Delta | EventKind::KeyOnly => PreimageMode::Off,
        };
        let tells_row = matches!(self.event_kind, EventKind::Full | EventKind::Patch);
        ImagesNeeded { preimage, postimage: tells_row || needs_rows }
    }
}

/// The options that a statement gives for a feed into such a sink.
pub fn parse(sink: SinkKind, given: &Given) -> Result<Options, OptionError> {
    let mut options = Options::default();
    for (name, value) in given {
        known::set(&mut options, sink, name, value)?;
    }
    if options.envelope == Envelope::Debezium && sink == SinkKind::Kafka {
        options.tombstones |= !given.contains_key("tombstones");
    }
    if options.delivery == Delivery::ExactlyOnce && sink == SinkKind::Webhook {
        return Err(OptionError::new(
            "delivery 'exactly_once' is for feeds into Kafka, which commits events and the feed's \
             position together: this one goes into a webhook, where an event that comes again has \
             the same sequence",
        ));
    }
    check_together(&options)?;
    Ok(options)
}

/// What one option cannot tell of itself.
fn check_together(options: &Options) -> Result<(), OptionError> {
    if options.envelope == Envelope::Debezium && options.event_kind != EventKind::Full {
        return Err(OptionError::new(
            "envelope 'debezium' carries whole rows: it goes with event_kind 'full' only",
        ));
    }
    if options.cursor.is_some() && options.initial_scan != InitialScan::No {
        return Err(OptionError::new(
            "cursor and initial_scan exclude each other: a scan begins with the rows as they are",
        ));
    }
    if options.include_old_values && options.event_kind == EventKind::KeyOnly {
        return Err(OptionError::new(
            "include_old_values and event_kind 'key_only' exclude each other",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
