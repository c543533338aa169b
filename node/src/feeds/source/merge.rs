//! The rows of a set of logs, from answers about parts of the ring, as one sequence.
//!
//! Each range has a *frontier*: up to there all its rows are here or were handed out. An answer covers
//! ranges from where it was asked above up to what was closed, so it moves the frontier of a range if
//! that lay in between, and nothing else of it counts for that range. So answers may come twice,
//! late, in any order, and from a range's former leader: a row is taken in once. What lies at or below
//! the lowest frontier is complete, and can be handed out in order.
//!
//! A pure structure: who asks whom is [`super`]'s.

use changefeed::source::Batch;
use changefeed::{LogKey, LogRow};
use env::planted::{Bug, is_planted};
use model::TimestampMicros;
use std::collections::BTreeMap;

/// Rows that wait for their turn.
#[derive(Debug)]
pub(super) struct Merge {
    /// Of every range under every placement, numbered by the caller.
    frontiers: Vec<TimestampMicros>,
    rows: BTreeMap<LogKey, LogRow>,
    bytes: usize,
    /// Everything at or below it was handed out.
    handed: TimestampMicros,
}

impl Merge {
    /// The log above a time, over so many ranges.
    pub(super) fn new(range_count: usize, above: TimestampMicros) -> Merge {
        let frontiers = vec![above; range_count];
        Merge { frontiers, rows: BTreeMap::new(), bytes: 0, handed: above }
    }

    /// What the rows that wait take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to which time all rows are here.
    pub(super) fn closed(&self) -> TimestampMicros {
        let is_heard = |frontier: &TimestampMicros| {
            !is_planted(Bug::ClosesOverThePaused) || frontier.abs_diff(self.foremost()) < 500_000
        };
        self.frontiers.iter().copied().filter(is_heard).min().unwrap_or(self.handed)
    }

    /// Up to which time some range's rows are here.
    fn foremost(&self) -> TimestampMicros {
        self.frontiers.iter().copied().max().unwrap_or(self.handed)
    }

    /// The lowest frontier of these ranges; nothing if there are none.
    pub(super) fn lowest(&self, ranges: impl Iterator<Item = usize>) -> Option<TimestampMicros> {
        ranges.filter_map(|range| self.frontiers.get(range).copied()).min()
    }

    /// The time of the first row that waits, if it waits for other ranges.
    pub(super) fn awaited(&self) -> Option<TimestampMicros> {
        let closed = self.closed();
        let first = self.rows.first_key_value().map(|(key, _)| key.micros());
        first.filter(|first| *first > closed)
    }

    /// Everything at or below it was handed out.
    pub(super) fn handed(&self) -> TimestampMicros {
        self.handed
    }

    /// How many ranges hold the others back, and how many there are.
    pub(super) fn held_ranges(&self) -> (usize, usize) {
        let closed = self.closed();
        let held = self.frontiers.iter().filter(|frontier| **frontier == closed).count();
        (held, self.frontiers.len())
    }

    /// Whether there is something to hand out: rows that are complete, or so much time that has been
    /// closed without any.
    pub(super) fn is_ready(&self, idle_micros: i64) -> bool {
        let closed = self.closed();
        let first = self.rows.first_key_value().map(|(key, _)| key.micros());
        let has_rows = first.is_some_and(|first| first <= closed);
        let least = if has_rows { 1 } else { idle_micros.max(1) };
        closed.saturating_sub(self.handed) >= least
    }

    /// Takes in an answer about these ranges: all their rows above one time and up to another, each
    /// with its range; rows of other ranges or times do not count.
    pub(super) fn absorb(
        &mut self,
        ranges: &[usize],
        (above, closed): (TimestampMicros, TimestampMicros),
        rows: impl Iterator<Item = (usize, LogRow)>,
    ) {
        let is_moved = |frontier: TimestampMicros| above <= frontier && frontier < closed;
        for (range, row) in rows {
            let micros = row.key.micros();
            let frontier = self.frontiers.get(range).copied().filter(|f| is_moved(*f));
            let is_new = frontier.is_some_and(|frontier| frontier < micros && micros <= closed);
            if is_new && ranges.binary_search(&range).is_ok() {
                let bytes = row.len_bytes();
                if self.rows.insert(row.key, row).is_none() {
                    self.bytes += bytes;
                }
            }
        }
        for range in ranges {
            if let Some(frontier) = self.frontiers.get_mut(*range).filter(|f| is_moved(**f)) {
                *frontier = closed;
            }
        }
    }

    /// Hands out what is complete, about so many bytes of it, but whole microseconds; nothing if it is
    /// not ready.
    pub(super) fn take(&mut self, bytes_max: usize, idle_micros: i64) -> Option<Batch> {
        if !self.is_ready(idle_micros) {
            return None;
        }
        let closed = self.closed();
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
        let mut is_cut = false;
        while let Some(entry) = self.rows.first_entry() {
            let micros = entry.key().micros();
            if micros > closed {
                break;
            }
            if bytes >= bytes_max && last != Some(micros) {
                is_cut = true;
                break;
            }
            let row = entry.remove();
            bytes += row.len_bytes();
            last = Some(micros);
            rows.push(row);
        }
        self.bytes -= bytes;
        self.handed = last.filter(|_| is_cut).unwrap_or(closed);
        Some(Batch { rows: rows.into(), closed: self.handed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cdc::time_uuid::log_time_uuid;

    fn row(range: usize, micros: i64, counter: u64) -> LogRow {
        let mut bytes = log_time_uuid(micros, counter).to_vec();
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&[range as u8; 16]);
        // Number 0, an update, the last of its group, without TTL and cells.
        bytes.extend_from_slice(&[0, 0, 0, 0, 1, 1, 0, 0]);
        LogRow::decode_all(&Bytes::from(bytes)).unwrap().remove(0)
    }

    /// Whoever follows the slowest range asks only while nothing is to be handed out: what would not be
    /// handed out must not keep it from asking.
    #[test]
    fn rows_that_wait_for_another_range_are_not_ready_however_little_was_closed_before_them() {
        const IDLE_MICROS: i64 = 50;
        let mut merge = Merge::new(2, 0);
        merge.absorb(&[0], (0, 20), [(0, row(0, 15, 1))].into_iter());
        merge.absorb(&[1], (0, 10), std::iter::empty());
        assert!(merge.closed() > merge.handed() && merge.awaited().is_some());
        assert!(!merge.is_ready(IDLE_MICROS) && merge.take(1, IDLE_MICROS).is_none());
        merge.absorb(&[1], (10, 15), std::iter::empty());
        assert!(merge.is_ready(IDLE_MICROS) && merge.take(1, IDLE_MICROS).is_some());
        merge.absorb(&[0, 1], (15, 60), std::iter::empty());
        assert!(!merge.is_ready(IDLE_MICROS) && merge.take(1, IDLE_MICROS).is_none());
        merge.absorb(&[0, 1], (60, 70), std::iter::empty());
        assert!(merge.is_ready(IDLE_MICROS) && merge.take(1, IDLE_MICROS).is_some());
    }

    /// Shards that lead ranges, and change who does, answer in any order, twice, and late; every row
    /// comes once, in order, and nothing is missing up to what is said to be closed.
    #[test]
    fn every_row_comes_once_in_order_and_complete() {
        const RANGES: usize = 4;
        for seed in 0..300 {
            let mut state: u64 = seed * 0x9E37_79B9 + 1;
            let mut below = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (state >> 33) % bound
            };
            let count = below(60);
            let mut all: Vec<(usize, LogRow)> = (0..count)
                .map(|n| {
                    let range = below(RANGES as u64) as usize;
                    (range, row(range, 1 + below(50) as i64, n))
                })
                .collect();
            all.sort_by_key(|(_, row)| row.key);
            let mut merge = Merge::new(RANGES, 0);
            let mut handed: Vec<LogKey> = Vec::new();
            let mut closed = 0;
            let mut sent: Vec<(Vec<usize>, (i64, i64))> = Vec::new();
            while closed < 50 {
                if sent.is_empty() || below(2) == 0 {
                    let ranges: Vec<usize> = (0..RANGES).filter(|_| below(2) == 0).collect();
                    let lowest = merge.lowest(ranges.iter().copied()).unwrap_or(0);
                    // Sometimes from where another range stands, as one that has just become led.
                    let above = if below(4) == 0 { lowest + below(3) as i64 } else { lowest };
                    sent.push((ranges, (above, (above + below(9) as i64).min(50))));
                }
                let at = below(sent.len() as u64) as usize;
                let (ranges, span) = sent[at].clone();
                if below(3) > 0 {
                    sent.remove(at);
                }
                let inside = |row: &LogRow| span.0 < row.key.micros() && row.key.micros() <= span.1;
                let rows = all.iter().filter(|(range, row)| ranges.contains(range) && inside(row));
                merge.absorb(&ranges, span, rows.cloned());
                while let Some(batch) = merge.take(1 + below(300) as usize, 0) {
                    assert!(batch.closed > closed);
                    let is_inside = |row: &LogRow| {
                        closed < row.key.micros() && row.key.micros() <= batch.closed
                    };
                    assert!(batch.rows.iter().all(is_inside), "seed {seed}");
                    handed.extend(batch.rows.iter().map(|row| row.key));
                    closed = batch.closed;
                    let complete = all.iter().filter(|(_, row)| row.key.micros() <= closed);
                    assert!(handed.iter().eq(complete.map(|(_, row)| &row.key)), "seed {seed}");
                }
            }
            assert_eq!(handed.len() as u64, count, "seed {seed}");
            assert_eq!(merge.bytes(), 0);
        }
    }
}
