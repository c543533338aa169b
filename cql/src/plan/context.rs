//! What binding a statement needs besides the statement: the values, the time, fresh UUIDs.
//!
//! Planning reads no clock and draws no randomness; whoever runs a statement says what the time is
//! and hands out UUIDs. One context serves one execution, so that every `now()` of a statement and
//! every TTL count from the same moment.

use super::error::PlanError;
use super::insert_json::JsonDocument;
use super::markers::BindSpec;
use crate::wire::{self, Value};
use model::{EpochSeconds, TimestampMicros};
use std::fmt;

/// The values of one execution, one for each marker in order of appearance.
#[derive(Clone, Copy, Debug)]
pub struct BoundValues<'a> {
    source: Source<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Frame(wire::BoundValues<'a>),
    Slots(&'a [Value<'a>]),
}

impl<'a> BoundValues<'a> {
    /// Values in the order of the markers.
    pub fn new(slots: &'a [Value<'a>]) -> BoundValues<'a> {
        BoundValues { source: Source::Slots(slots) }
    }

    /// Values of a request that names none; for those that do, see [`slots_from_names`].
    pub fn from_request(values: wire::BoundValues<'a>) -> BoundValues<'a> {
        BoundValues { source: Source::Frame(values) }
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        match self.source {
            Source::Frame(values) => values.len(),
            Source::Slots(slots) => slots.len(),
        }
    }

    /// Errors unless there is one value for each of `marker_count` markers.
    pub fn check_count(&self, marker_count: usize) -> Result<(), PlanError> {
        if self.count() == marker_count {
            return Ok(());
        }
        Err(PlanError::invalid(format!(
            "Invalid amount of bind variables: there were {marker_count} markers(?) in CQL but {} \
             bound variables",
            self.count()
        )))
    }

    /// The value of a marker; unset when there is none, which [`Self::check_count`] rules out.
    #[inline]
    pub fn slot(&self, index: u16) -> Value<'a> {
        let index = usize::from(index);
        let value = match self.source {
            Source::Frame(values) => values.get(index),
            Source::Slots(slots) => slots.get(index).copied(),
        };
        value.unwrap_or(Value::Unset)
    }
}

/// Puts the values of a request that names them into the order of the markers. A name may serve
/// several markers; a name that no marker has is ignored.
pub fn slots_from_names<'a>(
    specs: &[BindSpec],
    values: &wire::BoundValues<'a>,
) -> Result<Vec<Value<'a>>, PlanError> {
    let value_of = |spec: &BindSpec| {
        values.position_of(&spec.name).and_then(|position| values.get(position)).ok_or_else(|| {
            let name = &spec.name;
            PlanError::invalid(format!("Invalid amount of bind variables: no value for {name}"))
        })
    };
    specs.iter().map(value_of).collect()
}

/// The circumstances of one execution.
pub struct BindContext<'a> {
    /// The time, in microseconds since the epoch: what `currentTimestamp()` and its kin say.
    pub now_micros: TimestampMicros,
    /// The time that TTLs and deletions count from, in seconds; the request may set it.
    pub now_seconds: EpochSeconds,
    /// The timestamp that came with the request (the driver's), unless the statement names one.
    pub default_timestamp: Option<TimestampMicros>,
    /// A version 1 UUID of the present, later than all that it has returned before.
    pub fresh_timeuuid: &'a mut dyn FnMut() -> [u8; 16],
    /// A version 4 UUID.
    pub fresh_uuid: &'a mut dyn FnMut() -> [u8; 16],
    /// The JSON text that was read last, for further columns that ask for it; none at first.
    pub json: Option<Box<JsonDocument>>,
}

impl fmt::Debug for BindContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindContext")
            .field("now_micros", &self.now_micros)
            .field("now_seconds", &self.now_seconds)
            .field("default_timestamp", &self.default_timestamp)
            .finish_non_exhaustive()
    }
}
