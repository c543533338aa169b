//! The end of the logs that feeds read, in memory, and answers to who follows them.
//!
//! Whatever is applied to a *followed* log is kept here as well, by its time, up to
//! [`TAIL_BYTES_MAX`]; so the usual question of a follower, what was logged since a few milliseconds
//! ago, is answered without a read. A log is followed while somebody asks ([`TailAsk`]) and some
//! seconds more. Rows go in when they are applied, whoever leads: a new leader has them too. What is
//! older than the tail is read from the log by its streams (`older.rs`).
//!
//! What is complete: all rows of a followed log above the highest time that was placed in any group
//! here when it began to be followed, and above what has been dropped for want of room.

mod older;
mod serve;

pub(super) use serve::TailRanges;
pub(crate) use serve::{RangeSet, TailAnswer, TailAsk};

use cluster::liveness::MonotonicNanos;
use model::clustering::decode_component;
use model::mutation::{MutationItem, MutationView};
use model::timeuuid::{TimeUuidBytes, timeuuid_micros};
use model::{CqlType, IdMap, TableId, TimestampMicros};
use std::collections::BTreeMap;

/// Most bytes of rows that a shard keeps for followers of all logs.
pub(super) const TAIL_BYTES_MAX: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };
/// What a row counts beside its mutation.
const ROW_BYTES: usize = 64;
/// How long a log stays followed after it was last asked for.
const FOLLOWED_NANOS: u64 = 5_000_000_000;

/// The rows that followed logs got last.
#[derive(Debug, Default)]
pub(super) struct Tail {
    followed: IdMap<TableId, Followed>,
    /// By time, then in the order in which they were applied.
    rows: BTreeMap<(TimestampMicros, u64), Row>,
    bytes: usize,
    next_number: u64,
    /// Rows at or below were dropped.
    dropped_to: TimestampMicros,
    /// Rows came in since this was last looked at.
    has_news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    until: MonotonicNanos,
    /// What lies at or below may lack rows.
    complete_above: TimestampMicros,
}

#[derive(Debug)]
struct Row {
    table: TableId,
    mutation: Box<[u8]>,
}

impl Tail {
    /// Whether rows of this table are kept.
    #[inline]
    pub(super) fn follows(&self, table: TableId) -> bool {
        !self.followed.is_empty() && self.followed.contains_key(&table)
    }

    /// Somebody follows a log. `placed` is the highest time at which anything was placed here.
    fn follow(&mut self, table: TableId, now: MonotonicNanos, placed: TimestampMicros) {
        let until = MonotonicNanos(now.0.saturating_add(FOLLOWED_NANOS));
        let new = Followed { until, complete_above: placed };
        self.followed.entry(table).or_insert(new).until = until;
    }

    /// Forgets logs that nobody follows any more.
    pub(super) fn forget(&mut self, now: MonotonicNanos) {
        let count = self.followed.len();
        self.followed.retain(|_, followed| followed.until > now);
        if self.followed.len() < count {
            let followed = &self.followed;
            self.rows.retain(|_, row| followed.contains_key(&row.table));
            self.bytes = self.rows.values().map(Row::bytes).sum();
        }
    }

    /// A mutation of a followed log was applied.
    pub(super) fn push(&mut self, mutation: &MutationView) {
        let Some(micros) = time_of(mutation) else { return };
        let row = Row { table: mutation.table(), mutation: mutation.as_bytes().into() };
        self.bytes += row.bytes();
        self.rows.insert((micros, self.next_number), row);
        self.next_number += 1;
        self.has_news = true;
        while self.bytes > TAIL_BYTES_MAX
            && let Some(((dropped, _), row)) = self.rows.pop_first()
        {
            self.bytes -= row.bytes();
            self.dropped_to = self.dropped_to.max(dropped);
        }
    }

    /// Rows came here by another way, up to this time.
    pub(super) fn skipped(&mut self, placed: TimestampMicros) {
        for followed in self.followed.values_mut() {
            followed.complete_above = followed.complete_above.max(placed);
        }
    }

    /// Whether rows came in since this was last asked.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Above which time all rows of these logs are here.
    fn complete_above(&self, tables: &[TableId]) -> TimestampMicros {
        let above = |table: &TableId| {
            self.followed.get(table).map_or(i64::MAX, |followed| followed.complete_above)
        };
        tables.iter().map(above).fold(self.dropped_to, i64::max)
    }

    /// The time of the first row of these logs above a time.
    fn first_above(&self, tables: &[TableId], above: TimestampMicros) -> Option<TimestampMicros> {
        let mut rows = self.rows.range((above.saturating_add(1), 0)..);
        rows.find(|(_, row)| tables.contains(&row.table)).map(|((micros, _), _)| *micros)
    }

    /// The rows of these logs above one time and up to another, as `(length:u32le mutation)*`; and up
    /// to which time they are all: earlier if there are more bytes than wanted.
    fn rows_between(
        &self,
        tables: &[TableId],
        (above, up_to): (TimestampMicros, TimestampMicros),
        bytes_max: usize,
    ) -> (Vec<u8>, TimestampMicros) {
        let mut out = Vec::new();
        let mut last = above;
        let from = (above.saturating_add(1), 0);
        for ((micros, _), row) in self.rows.range(from..=(up_to, u64::MAX)) {
            if !tables.contains(&row.table) {
                continue;
            }
            if out.len() >= bytes_max && *micros > last {
                return (out, last);
            }
            last = *micros;
            put_mutation(&mut out, &row.mutation);
        }
        (out, up_to)
    }
}

impl Row {
    fn bytes(&self) -> usize {
        ROW_BYTES + self.mutation.len()
    }
}

/// The time of the rows that a mutation of a log brings: they are one group. Nothing if it brings none.
fn time_of(mutation: &MutationView) -> Option<TimestampMicros> {
    let clustering = mutation.items().find_map(|item| match item {
        MutationItem::Row { clustering, .. } => Some(clustering),
        _ => None,
    });
    let (mut rest, mut value) = (clustering?, Vec::with_capacity(size_of::<TimeUuidBytes>()));
    decode_component(&CqlType::TimeUuid, false, &mut rest, &mut value).ok()?;
    Some(timeuuid_micros(&value.try_into().ok()?))
}

fn put_mutation(out: &mut Vec<u8>, mutation: &[u8]) {
    let length = u32::try_from(mutation.len()).expect("a mutation is below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(mutation);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc::time_uuid::log_time_uuid;
    use model::clustering::encode_component;
    use model::mutation::MutationWriter;

    const LOG: TableId = TableId(8);

    fn push(tail: &mut Tail, table: TableId, micros: i64) {
        let mut clustering = Vec::new();
        let time = log_time_uuid(micros, 1);
        encode_component(&CqlType::TimeUuid, false, &time, &mut clustering).unwrap();
        encode_component(&CqlType::Int, false, &[0; 4], &mut clustering).unwrap();
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, table, 1, &[5; 16]);
        let row = writer.value_row(&clustering, micros, None, |row| {
            row.value(9, &[0; 64]);
            Ok::<_, std::convert::Infallible>(())
        });
        row.unwrap();
        let mutation = MutationView::new(&bytes).unwrap();
        if tail.follows(table) {
            tail.push(&mutation);
        }
    }

    fn times((bytes, closed): (Vec<u8>, i64)) -> (Vec<i64>, i64) {
        let mut cursor = model::codec::Cursor::new(&bytes);
        let mut times = Vec::new();
        while !cursor.is_empty() {
            let length = u32::from_le_bytes(cursor.array().unwrap());
            let mutation = MutationView::new(cursor.bytes(length as usize).unwrap()).unwrap();
            times.push(time_of(&mutation).unwrap());
        }
        (times, closed)
    }

    #[test]
    fn rows_of_followed_logs_come_by_time_and_microseconds_stay_whole() {
        let mut tail = Tail::default();
        push(&mut tail, LOG, 5);
        tail.follow(LOG, MonotonicNanos(0), 7);
        tail.follow(TableId(9), MonotonicNanos(0), 3);
        for micros in [20, 10, 30, 10] {
            push(&mut tail, LOG, micros);
        }
        push(&mut tail, TableId(9), 11);
        assert_eq!((tail.complete_above(&[LOG]), tail.complete_above(&[TableId(9)])), (7, 3));
        assert_eq!(tail.complete_above(&[LOG, TableId(10)]), i64::MAX, "nobody follows it");
        assert_eq!(times(tail.rows_between(&[LOG], (7, 25), 1 << 10)), (vec![10, 10, 20], 25));
        assert_eq!(times(tail.rows_between(&[LOG], (7, 25), 1)), (vec![10, 10], 10));
        let both = tail.rows_between(&[LOG, TableId(9)], (10, 40), 1 << 10);
        assert_eq!(times(both), (vec![11, 20, 30], 40));
        assert_eq!((tail.first_above(&[LOG], 10), tail.first_above(&[LOG], 30)), (Some(20), None));
        assert!(tail.take_news() && !tail.take_news());
        tail.skipped(28);
        assert_eq!(tail.complete_above(&[LOG]), 28);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_all_when_nobody_follows() {
        let mut tail = Tail::default();
        tail.follow(LOG, MonotonicNanos(0), 0);
        (1..=100).for_each(|micros| push(&mut tail, LOG, micros));
        assert!(tail.bytes <= TAIL_BYTES_MAX && tail.rows.len() > 5);
        let first = tail.first_above(&[LOG], 0).unwrap();
        assert_eq!(tail.complete_above(&[LOG]), first - 1);
        tail.forget(MonotonicNanos(FOLLOWED_NANOS - 1));
        assert!(tail.follows(LOG));
        tail.forget(MonotonicNanos(FOLLOWED_NANOS));
        assert!(!tail.follows(LOG) && tail.rows.is_empty() && tail.bytes == 0);
    }
}
