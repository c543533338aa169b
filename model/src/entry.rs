//! The payload of an entry of a range's replicated log: what must be true together.
//!
//! ```text
//! payload   := (empty: the first entry of a leader's term)
//!            | 1 placement time:i64le (length:u32le mutation)*     a write
//!            | 2 placement time:i64le table:u128le                 truncate
//!            | 3 placement time:i64le switched_at:u64le            a log switched
//!            | 4 placement time:i64le reserved:i64le               time reserved for closing
//! placement := closed:i64le placed:i64le far:i64le
//! ```
//!
//! A write carries the base mutations, the CDC log rows that tell of them, and the range's place
//! in time after it, so a replica has all of it or nothing.

use crate::codec::{Cursor, DecodeError};
use crate::mutation::MutationView;
use crate::{TableId, TimestampMicros};

const KIND_WRITE: u8 = 1;
const KIND_TRUNCATE: u8 = 2;
const KIND_SWITCH: u8 = 3;
const KIND_RESERVATION: u8 = 4;

/// Times of a log at or above this, 1 January of the year 10000, are nonsense: they are of clocks,
/// never of clients, and whoever took one over could place nothing above it.
const TIME_MICROS_MAX: TimestampMicros = 253_402_300_800_000_000;

/// A range's place in time (`docs/log-time.md`): where its log is closed, how far it was written,
/// the newest own timestamp that was placed below itself, how far its leader may close, and which
/// logs that has to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Nothing will be placed at or below this.
    pub closed: TimestampMicros,
    /// The highest log time placed.
    pub placed: TimestampMicros,
    /// The highest own timestamp that was placed below itself.
    pub far: TimestampMicros,
    /// A leader may close up to here between entries, and its successor begins above it. Entries of
    /// its own raise it; the head of others does not say it.
    pub reserved: TimestampMicros,
    /// The index of the metadata by which a log of a table here was last turned on or off, or its
    /// images were: a leader that acts by older metadata decides nothing. Entries of its own raise
    /// it; the head of others does not say it.
    pub switched_at: u64,
}

impl Placement {
    /// The state of a range that has never been written.
    pub const START: Placement = Placement {
        closed: i64::MIN,
        placed: i64::MIN,
        far: i64::MIN,
        reserved: i64::MIN,
        switched_at: 0,
    };

    /// Raises each part to at least `other`'s: what applying an entry does.
    pub fn raise(&mut self, other: &Placement) {
        self.closed = self.closed.max(other.closed);
        self.placed = self.placed.max(other.placed);
        self.far = self.far.max(other.far);
        self.reserved = self.reserved.max(other.reserved);
        self.switched_at = self.switched_at.max(other.switched_at);
    }

    fn write(&self, out: &mut Vec<u8>) {
        for value in [self.closed, self.placed, self.far] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn read(cursor: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(Placement {
            closed: i64::from_le_bytes(cursor.array()?),
            placed: i64::from_le_bytes(cursor.array()?),
            far: i64::from_le_bytes(cursor.array()?),
            ..Placement::START
        })
    }
}

/// A decoded payload.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// The first entry of a leader's term; it changes nothing.
    Noop,
    /// Mutations that are applied together.
    Write {
        /// The range's place in time after it.
        placement: Placement,
        /// The leader's clock when it was proposed.
        time: TimestampMicros,
        /// The mutations in order.
        mutations: Mutations<'a>,
    },
    /// Removes every row of a table in this range that was applied before.
    Truncate {
        /// The range's place in time after it.
        placement: Placement,
        /// The leader's clock when it was proposed.
        time: TimestampMicros,
        /// The table.
        table: TableId,
    },
    /// The log of a table was turned on or off, or its images were: the range is closed up to what
    /// was placed, and nobody decides any more who does not know of it.
    Switch {
        /// The range's place in time after it, with the metadata that has it.
        placement: Placement,
        /// The leader's clock when it was proposed.
        time: TimestampMicros,
    },
    /// The leader reserves a time, up to which it may close without further entries.
    Reservation {
        /// The range's place in time after it, with what is reserved.
        placement: Placement,
        /// The leader's clock when it was proposed.
        time: TimestampMicros,
    },
}

impl<'a> Entry<'a> {
    /// Decodes the head of a payload; mutations are viewed as they are iterated.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(payload);
        if cursor.is_empty() {
            return Ok(Entry::Noop);
        }
        let kind = cursor.u8()?;
        let placement = Placement::read(&mut cursor)?;
        let time = i64::from_le_bytes(cursor.array()?);
        if kind == KIND_WRITE {
            return Ok(Entry::Write { placement, time, mutations: Mutations { cursor } });
        }
        if kind == KIND_RESERVATION {
            let reserved = i64::from_le_bytes(cursor.array()?);
            cursor.finish()?;
            return Ok(Entry::Reservation { placement: Placement { reserved, ..placement }, time });
        }
        if kind == KIND_SWITCH {
            let switched_at = u64::from_le_bytes(cursor.array()?);
            cursor.finish()?;
            return Ok(Entry::Switch { placement: Placement { switched_at, ..placement }, time });
        }
        if kind != KIND_TRUNCATE {
            return Err(DecodeError("unknown kind of entry"));
        }
        let table = TableId(u128::from_le_bytes(cursor.array()?));
        cursor.finish()?;
        Ok(Entry::Truncate { placement, time, table })
    }
}

impl Entry<'_> {
    /// The range's place in time after it, as far as it says it, and the leader's clock; nothing for
    /// the first entry of a term.
    pub fn place_in_time(&self) -> Option<(Placement, TimestampMicros)> {
        match self {
            Entry::Noop => None,
            Entry::Write { placement, time, .. }
            | Entry::Truncate { placement, time, .. }
            | Entry::Switch { placement, time }
            | Entry::Reservation { placement, time } => Some((*placement, *time)),
        }
    }
}

impl<'a> Entry<'a> {
    /// Decodes a payload of unknown origin after checking all of it, so that it can be applied.
    pub fn check(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let entry = Self::decode(payload)?;
        if let Some((Placement { closed, placed, reserved, .. }, time)) = entry.place_in_time()
            && closed.max(placed).max(reserved).max(time) >= TIME_MICROS_MAX
        {
            return Err(DecodeError("a time of the log is far beyond any clock"));
        }
        if let Entry::Write { mutations, .. } = &entry {
            for mutation in mutations.clone() {
                MutationView::check(mutation?.as_bytes())?;
            }
        }
        Ok(entry)
    }
}

/// Iterates over the mutations of a write.
#[derive(Clone, Debug)]
pub struct Mutations<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Mutations<'a> {
    type Item = Result<MutationView<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.is_empty() {
            return None;
        }
        let next = self.cursor.array().and_then(|length| {
            MutationView::new(self.cursor.bytes(u32::from_le_bytes(length) as usize)?)
        });
        if next.is_err() {
            self.cursor = Cursor::new(&[]);
        }
        Some(next)
    }
}

/// Writes a write's payload at the end of a buffer: mutations first, the place in time when it is
/// known ([`WriteEntryWriter::finish`]).
#[derive(Debug)]
pub struct WriteEntryWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> WriteEntryWriter<'a> {
    /// Begins a payload.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(KIND_WRITE);
        out.extend_from_slice(&[0; 32]);
        WriteEntryWriter { out, start }
    }

    /// Appends a mutation, written by `write`.
    pub fn mutation(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        write(self.out);
        let length = u32::try_from(self.out.len() - at - 4).expect("a mutation is below 4 GiB");
        self.out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Fills in the head.
    pub fn finish(self, placement: &Placement, time: TimestampMicros) {
        let head = &mut self.out[self.start + 1..self.start + 33];
        let fields = [placement.closed, placement.placed, placement.far, time];
        for (place, value) in head.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Writes the payload of a truncate.
pub fn write_truncate(out: &mut Vec<u8>, p: &Placement, time: TimestampMicros, table: TableId) {
    write_head(out, KIND_TRUNCATE, p, time);
    out.extend_from_slice(&table.0.to_le_bytes());
}

/// Writes the payload that says that a log was switched by the metadata of `p.switched_at`.
pub fn write_switch(out: &mut Vec<u8>, p: &Placement, time: TimestampMicros) {
    write_head(out, KIND_SWITCH, p, time);
    out.extend_from_slice(&p.switched_at.to_le_bytes());
}

/// Writes the payload that reserves `p.reserved`.
pub fn write_reservation(out: &mut Vec<u8>, p: &Placement, time: TimestampMicros) {
    write_head(out, KIND_RESERVATION, p, time);
    out.extend_from_slice(&p.reserved.to_le_bytes());
}

fn write_head(out: &mut Vec<u8>, kind: u8, placement: &Placement, time: TimestampMicros) {
    out.push(kind);
    placement.write(out);
    out.extend_from_slice(&time.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::MutationWriter;

    #[test]
    fn a_write_reads_back_and_cut_payloads_are_errors() {
        let placement = Placement { closed: 1, placed: 2, far: 3, ..Placement::START };
        let mut out = Vec::new();
        let mut writer = WriteEntryWriter::new(&mut out);
        for key in [b"a", b"b"] {
            writer.mutation(|out| {
                MutationWriter::new(out, TableId(9), 1, key);
            });
        }
        writer.finish(&placement, 77);
        let Ok(Entry::Write { placement: read, time, mutations }) = Entry::decode(&out) else {
            panic!("not a write");
        };
        assert_eq!((read, time), (placement, 77));
        let keys: Vec<_> = mutations.map(|m| m.unwrap().key().to_vec()).collect();
        assert_eq!(keys, [b"a", b"b"]);
        for length in 1..out.len() {
            let whole = match Entry::decode(&out[..length]) {
                Ok(Entry::Write { mutations, .. }) => mutations.flatten().count(),
                _ => 0,
            };
            assert!(whole < 2);
        }
    }

    #[test]
    fn what_a_check_lets_through_can_be_applied() {
        let write = |placement: Placement, time, mutation: &[u8]| {
            let mut out = Vec::new();
            let mut writer = WriteEntryWriter::new(&mut out);
            writer.mutation(|out| out.extend_from_slice(mutation));
            writer.finish(&placement, time);
            out
        };
        let mut mutation = Vec::new();
        MutationWriter::new(&mut mutation, TableId(9), 1, b"key");
        let good = write(Placement { far: i64::MAX, ..Placement::START }, 5, &mutation);
        assert!(Entry::check(&good).is_ok(), "a client's timestamp may be anything");
        // Its head can be read, so what is wrong shows when it is applied.
        mutation.push(0xee);
        let bad = write(Placement::START, 5, &mutation);
        assert!(Entry::decode(&bad).is_ok() && Entry::check(&bad).is_err());
        for placement in [
            Placement { closed: i64::MAX, ..Placement::START },
            Placement { placed: TIME_MICROS_MAX, ..Placement::START },
        ] {
            assert!(Entry::check(&write(placement, 5, b"")).is_err(), "{placement:?}");
        }
        let mut late = Vec::new();
        write_truncate(&mut late, &Placement::START, i64::MAX, TableId(1));
        assert!(Entry::check(&late).is_err() && Entry::check(&[]).is_ok());
    }

    #[test]
    fn a_truncate_reads_back() {
        let mut out = Vec::new();
        write_truncate(&mut out, &Placement::START, 5, TableId(1));
        assert!(matches!(Entry::decode(&out), Ok(Entry::Truncate { table: TableId(1), .. })));
        out.push(0);
        assert!(Entry::decode(&out).is_err());
        assert!(matches!(Entry::decode(&[]), Ok(Entry::Noop)));
    }

    #[test]
    fn what_other_entries_do_not_say_reads_back() {
        let placement = Placement { closed: 1, placed: 2, far: 3, ..Placement::START };
        let reserved = Placement { reserved: 4, ..placement };
        let switched = Placement { switched_at: 5, ..placement };
        let mut entries = [(reserved, Vec::new()), (switched, Vec::new())];
        write_reservation(&mut entries[0].1, &reserved, 77);
        write_switch(&mut entries[1].1, &switched, 77);
        for (placement, mut out) in entries {
            assert_eq!(Entry::decode(&out).unwrap().place_in_time(), Some((placement, 77)));
            for length in 1..out.len() {
                assert!(Entry::decode(&out[..length]).is_err(), "cut at {length}");
            }
            out.push(0);
            assert!(Entry::decode(&out).is_err());
        }
    }

    #[test]
    fn no_entry_takes_back_what_a_leader_has_to_know() {
        let mut placement = Placement { switched_at: 9, ..Placement::START };
        placement.raise(&Placement { closed: 5, ..Placement::START });
        placement.raise(&Placement { switched_at: 8, ..Placement::START });
        assert_eq!((placement.closed, placement.switched_at), (5, 9));
    }
}
