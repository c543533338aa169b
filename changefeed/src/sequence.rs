//! The numbers of changes: a property of the log, not of the delivery.
//!
//! ```text
//! sequence := milliseconds since 2020-01-01 (41 bits) * 4,096 + rank of the log row in its millisecond
//! ```
//!
//! Every log row of the feed's tables counts, whatever the feed's filter says, in the order of
//! [`LogKey`]. A rank beyond 4,095 carries: the rows go on counting into the next milliseconds, whose
//! own rows then begin behind them. Rows are numbered only below the closed time, where none can
//! appear any more, so a replay gives the same numbers.
//!
//! Where a carry began can only be known by whoever has counted since: a [`Position`] keeps the last
//! number, and a reader who starts somewhere new counts from [`WARM_UP_MICROS`] before it. Numbers
//! would differ from an earlier reader's only after a carry that has lasted longer than that.

use crate::options::StartAt;
use crate::position::{LogKey, Position, Sequence};
use crate::source::LogRow;
use model::TimestampMicros;

/// Largest number of a change: JSON readers have integers of 53 bits.
pub const SEQUENCE_MAX: Sequence = (1 << 53) - 1;
/// How far before its start a reader begins to count.
pub const WARM_UP_MICROS: i64 = 1_000_000;

/// 2020-01-01 in milliseconds since the epoch.
const FIRST_MILLI: i64 = 1_577_836_800_000;
const RANK_BITS: u32 = 12;

/// The first number of a millisecond.
fn first_of(micros: TimestampMicros) -> Sequence {
    let millis = micros.div_euclid(1_000).saturating_sub(FIRST_MILLI);
    u64::try_from(millis).unwrap_or(0).min(SEQUENCE_MAX >> RANK_BITS) << RANK_BITS
}

/// The last microsecond of the millisecond that a number was counted in: changes above it have higher
/// ones.
pub fn last_micros_of(sequence: Sequence) -> TimestampMicros {
    let millis = (sequence >> RANK_BITS) as i64 + FIRST_MILLI;
    millis * 1_000 + 999
}

/// The log rows of one change of one partition, numbered.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// In the order of the log; at least one.
    pub rows: &'a [LogRow],
    /// The number of the first row; the others follow without gaps.
    pub first: Sequence,
    /// Events up to this number were delivered before.
    pub delivered: Sequence,
}

impl Group<'_> {
    /// The position of one of its rows.
    pub fn position(&self, index: usize) -> Position {
        Position { key: self.rows[index].key, sequence: self.first + index as u64 }
    }
}

/// What was delivered already of what a reader sees again.
#[derive(Clone, Copy, Debug)]
enum Delivered {
    /// Everything up to a row.
    Position(Position),
    /// Everything up to a number.
    Sequence(Sequence),
    /// Everything below a time.
    Below(TimestampMicros),
}

/// Numbers the log rows of a feed's tables, read in order.
#[derive(Clone, Debug)]
pub struct Sequencer {
    last: Sequence,
    delivered: Delivered,
}

impl Sequencer {
    /// Goes on after a position; also says above which time the log is to be read.
    pub fn resume(position: &Position) -> (Sequencer, TimestampMicros) {
        let delivered = Delivered::Position(*position);
        (Sequencer { last: 0, delivered }, position.key.micros().saturating_sub(1))
    }

    /// Begins at a time, in microseconds, with the changes at or after it.
    pub fn start(micros: TimestampMicros) -> (Sequencer, TimestampMicros) {
        let delivered = Delivered::Below(micros);
        (Sequencer { last: 0, delivered }, micros.saturating_sub(WARM_UP_MICROS))
    }

    /// Begins where a statement says.
    pub fn start_at(start: StartAt) -> (Sequencer, TimestampMicros) {
        match start {
            StartAt::Timestamp(millis) => Sequencer::start(millis.saturating_mul(1_000)),
            StartAt::Sequence(sequence) => {
                let millis = (sequence >> RANK_BITS) as i64 + FIRST_MILLI;
                let delivered = Delivered::Sequence(sequence);
                (Sequencer { last: 0, delivered }, millis * 1_000 - WARM_UP_MICROS)
            }
        }
    }

    /// Numbers the next rows, and hands out the groups of which something is left to deliver. Rows
    /// come in order, each once, groups whole.
    pub fn number<'a>(&mut self, rows: &'a [LogRow]) -> impl Iterator<Item = Group<'a>> {
        let groups = rows.chunk_by(|a, b| a.key.is_same_group(&b.key));
        groups.filter_map(|rows| self.number_group(rows))
    }

    /// Numbers the rows of the next group; `None` when all of it was delivered.
    pub fn number_group<'a>(&mut self, rows: &'a [LogRow]) -> Option<Group<'a>> {
        let (first_key, last_key) = (&rows.first()?.key, &rows.last()?.key);
        let mut first = first_of(first_key.micros()).max(self.last + 1);
        let (delivered, is_left) = match self.delivered {
            Delivered::Position(position) if *last_key <= position.key => {
                // Counted when it was delivered.
                self.last = position.sequence;
                return None;
            }
            Delivered::Position(position) if *first_key <= position.key => {
                let index = rows.partition_point(|row| row.key < position.key) as u64;
                first = position.sequence.saturating_sub(index);
                (position.sequence, true)
            }
            Delivered::Position(position) => {
                first = first.max(position.sequence + 1);
                (position.sequence, true)
            }
            Delivered::Sequence(sequence) => (sequence, first + rows.len() as u64 - 1 > sequence),
            Delivered::Below(micros) => (0, first_key.micros() >= micros),
        };
        self.last = first + rows.len() as u64 - 1;
        is_left.then_some(Group { rows, first, delivered })
    }

    /// A number such that every change after the closed time has a higher one, and every change up to
    /// it is among the rows numbered so far.
    pub fn resolved(&self, closed: TimestampMicros) -> Sequence {
        self.last.max(first_of(closed.saturating_add(1)).saturating_sub(1))
    }
}

/// The position "everything up to this time", for a feed that has delivered nothing after it.
pub fn position_at(closed: TimestampMicros, sequence: Sequence) -> Position {
    let time = cdc::time_uuid::log_time_uuid(closed, u64::MAX);
    let table = model::TableId(u128::MAX);
    let key = LogKey { time, table, stream: [0xff; 16], batch_seq_no: i32::MAX };
    Position { key, sequence }
}

#[cfg(test)]
mod tests;
