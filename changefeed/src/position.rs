//! A place in the log of several tables, and what a feed saves of it.
//!
//! The log of a feed is one sequence: the log rows of all its tables, ordered by time (microseconds),
//! table, stream, group (the rest of `cdc$time`, which keeps the order of commits) and
//! `cdc$batch_seq_no`. [`LogKey`] is a row's place in it and compares in that order, whichever node
//! reads the row.
//!
//! A [`Position`] says "everything up to here was delivered". As JSON, with bytes as hexadecimal
//! digits:
//!
//! ```text
//! {"time":"…32 digits…","table":"…32 digits…","stream":"…32 digits…","batch_seq_no":0,"sequence":7}
//! ```

use cdc::stream::StreamId;
use model::timeuuid::{TimeUuidBytes, timeuuid_micros};
use model::value::compare_values;
use model::{CqlType, TableId, TimestampMicros};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;

/// A change's number within a feed: it rises with the log, and fits 53 bits, so that every JSON
/// reader has it exactly. 0 is before all changes.
pub type Sequence = u64;

/// A log row's place in the log of several tables; see the module for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogKey {
    /// `cdc$time`.
    #[serde(with = "hex_bytes")]
    pub time: TimeUuidBytes,
    /// The base table.
    #[serde(with = "hex_table")]
    pub table: TableId,
    /// `cdc$stream_id`.
    #[serde(with = "hex_bytes")]
    pub stream: StreamId,
    /// `cdc$batch_seq_no`.
    pub batch_seq_no: i32,
}

impl LogKey {
    /// The log time in microseconds since the epoch.
    pub fn micros(&self) -> TimestampMicros {
        timeuuid_micros(&self.time)
    }

    /// Whether both are rows of one group: one change of one partition.
    pub fn is_same_group(&self, other: &LogKey) -> bool {
        (self.time, self.table, self.stream) == (other.time, other.table, other.stream)
    }
}

impl Ord for LogKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_group = || compare_values(&CqlType::TimeUuid, &self.time, &other.time);
        (self.micros().cmp(&other.micros()))
            .then_with(|| (self.table, self.stream).cmp(&(other.table, other.stream)))
            .then_with(by_group)
            .then_with(|| self.batch_seq_no.cmp(&other.batch_seq_no))
    }
}

impl PartialOrd for LogKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How far a feed has delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The last log row that was delivered.
    #[serde(flatten)]
    pub key: LogKey,
    /// Its number, so that those after it get the same numbers again.
    pub sequence: Sequence,
}

/// Sixteen bytes as text.
mod hex_bytes {
    use super::{Deserializer, Serializer, hex_table};
    use model::TableId;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        hex_table::serialize(&TableId(u128::from_be_bytes(*bytes)), to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        Ok(hex_table::deserialize(from)?.0.to_be_bytes())
    }
}

/// A table's id as text: JSON readers lose numbers of 128 bits.
pub(crate) mod hex_table {
    use super::{Deserialize, Deserializer, Serializer};
    use model::TableId;
    use serde::de::Error;
    use std::borrow::Cow;

    pub(crate) fn serialize<S: Serializer>(table: &TableId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", table.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TableId, D::Error> {
        let text = Cow::<str>::deserialize(from)?;
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(TableId).ok_or_else(|| D::Error::custom("32 hexadecimal digits are expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc::time_uuid::log_time_uuid;

    fn key(micros: i64, counter: u64, table: u128, stream: u8, batch_seq_no: i32) -> LogKey {
        let time = log_time_uuid(micros, counter);
        LogKey { time, table: TableId(table), stream: [stream; 16], batch_seq_no }
    }

    #[test]
    fn keys_are_ordered_by_time_table_stream_group_and_number() {
        let ascending = [
            key(999, 9, 9, 9, 9),
            key(1_000, 5, 1, 1, 0),
            key(1_000, 5, 1, 1, 1),
            key(1_000, 200, 1, 1, 0),
            key(1_000, 1, 1, 2, 0),
            key(1_000, 0, 2, 1, 0),
            key(1_001, 0, 0, 0, 0),
        ];
        assert!(ascending.is_sorted_by(|a, b| a < b));
        assert!(ascending[1].is_same_group(&ascending[2]));
        assert!(!ascending[1].is_same_group(&ascending[3]));
    }

    #[test]
    fn a_position_is_kept_as_json() {
        let position = Position { key: key(1_000, 1, u128::MAX, 0xab, 3), sequence: 7 };
        let text = serde_json::to_string(&position).unwrap();
        let ids = format!(r#""table":"{}","stream":"{}""#, "f".repeat(32), "ab".repeat(16));
        assert_eq!(
            text,
            format!(
                r#"{{"time":"138167101dd211b28000000000000001",{ids},"batch_seq_no":3,"sequence":7}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
        for wrong in [text.replace("ffff", "fff"), text.replace("ab", "+b"), "{}".to_owned()] {
            assert!(serde_json::from_str::<Position>(&wrong).is_err(), "{wrong}");
        }
    }
}
