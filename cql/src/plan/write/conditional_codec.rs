//! The bytes of a conditional write, as it travels to the leader of its range, and of what became
//! of it, as that comes back.
//!
//! ```text
//! conditional := shown conditions:varint condition* write       write: super::codec
//! shown       := flags:u8 columns:varint column:varint*         flags: 1 statics, 2 regulars
//! condition   := kind:u8 [clustering:slice] [tests:varint test*]
//!                kind: 1 not exists, 2 exists, 3 tests of columns; + 4 of a row, else the static
//! test        := column:varint part question
//! part        := 0 | 1 key:slice | 2 index:varint | 3 field:varint
//! question    := 0..5 value          compares: =, !=, <, <=, >, >=
//!              | 6 values:varint value*       is one of
//!              | 7 element:slice | 8 key:slice
//! value       := 0 | 1 slice         null or not
//! outcome     := 0 | 1 rows:varint cells:slice
//! ```
//!
//! Conditions ascend, that of the static row first. Values are not checked against their types:
//! what is no value of a type compares as bytes.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::bind::PartitionWrite;
use super::codec::PartitionWriteError;
use super::conditional::{ConditionalOutcome, ConditionalWrite, RefusedRows, ShownColumns};
use crate::plan::condition::{ColumnPart, ColumnTest, RowCondition, RowTest, ValueTest};
use crate::syntax::ast::Comparison;
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::{TableDef, TableId};
use std::sync::Arc;

const SHOWS_STATIC: u8 = 1;
const SHOWS_REGULAR: u8 = 2;

const NOT_EXISTS: u8 = 1;
const EXISTS: u8 = 2;
const COLUMNS: u8 = 3;
const FLAG_ROW: u8 = 4;

const WHOLE: u8 = 0;
const KEY: u8 = 1;
const INDEX: u8 = 2;
const FIELD: u8 = 3;

/// In the order of their bytes.
const COMPARISONS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
];
const ONE_OF: u8 = 6;
const CONTAINS: u8 = 7;
const CONTAINS_KEY: u8 = 8;

const APPLIED: u8 = 0;
const REFUSED: u8 = 1;

impl ConditionalWrite {
    /// Appends the write's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let ShownColumns { columns, shows_static, shows_regular } = &self.shown;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(flag(*shows_static, SHOWS_STATIC) | flag(*shows_regular, SHOWS_REGULAR));
        put_varint(out, columns.len() as u64);
        columns.iter().for_each(|column| put_varint(out, u64::from(*column)));
        put_varint(out, self.conditions.len() as u64);
        self.conditions.iter().for_each(|condition| write_condition(condition, out));
        self.write.write(out);
    }

    /// Reads bytes of [`ConditionalWrite::write`], and checks all but the types of values.
    pub fn read(
        cursor: &mut Cursor,
        table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
    ) -> Result<ConditionalWrite, PartitionWriteError> {
        let flags = cursor.u8()?;
        if flags & !(SHOWS_STATIC | SHOWS_REGULAR) != 0 {
            return Err(DecodeError("unknown flags of shown columns").into());
        }
        let columns = many(cursor, |cursor| narrow(cursor.varint()?))?;
        let conditions = many(cursor, read_condition)?;
        if !conditions.is_sorted_by(|a, b| a.clustering < b.clustering) {
            return Err(DecodeError("conditions are out of order").into());
        }
        let write = PartitionWrite::read(cursor, table_of)?;
        if write.is_stamped || write.is_counter {
            return Err(DecodeError("a conditional write has a timestamp or counters").into());
        }
        let shown = ShownColumns {
            columns: columns.into(),
            shows_static: flags & SHOWS_STATIC != 0,
            shows_regular: flags & SHOWS_REGULAR != 0,
        };
        Ok(ConditionalWrite { write, conditions, shown })
    }
}

impl ConditionalOutcome {
    /// Appends the outcome's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            ConditionalOutcome::Applied => out.push(APPLIED),
            ConditionalOutcome::Refused(rows) => {
                out.push(REFUSED);
                put_varint(out, u64::from(rows.row_count));
                put_slice(out, &rows.cells);
            }
        }
    }

    /// Reads bytes of [`ConditionalOutcome::write`]. Whether the cells are so many rows is not
    /// checked: they are the client's.
    pub fn read(cursor: &mut Cursor) -> Result<ConditionalOutcome, DecodeError> {
        match cursor.u8()? {
            APPLIED => Ok(ConditionalOutcome::Applied),
            REFUSED => {
                let row_count = narrow(cursor.varint()?)?;
                let cells = cursor.slice()?.to_vec();
                Ok(ConditionalOutcome::Refused(Box::new(RefusedRows { row_count, cells })))
            }
            _ => Err(DecodeError("unknown outcome of a conditional write")),
        }
    }
}

fn write_condition(condition: &RowCondition, out: &mut Vec<u8>) {
    let kind = match &condition.test {
        RowTest::NotExists => NOT_EXISTS,
        RowTest::Exists => EXISTS,
        RowTest::Columns(_) => COLUMNS,
    };
    out.push(if condition.clustering.is_some() { kind | FLAG_ROW } else { kind });
    if let Some(clustering) = &condition.clustering {
        put_slice(out, clustering);
    }
    if let RowTest::Columns(tests) = &condition.test {
        put_varint(out, tests.len() as u64);
        for test in tests {
            write_test(test, out);
        }
    }
}

fn read_condition(cursor: &mut Cursor) -> Result<RowCondition, DecodeError> {
    let kind = cursor.u8()?;
    let clustering = if kind & FLAG_ROW == 0 { None } else { Some(cursor.slice()?.to_vec()) };
    let test = match kind & !FLAG_ROW {
        NOT_EXISTS => RowTest::NotExists,
        EXISTS => RowTest::Exists,
        COLUMNS => RowTest::Columns(many(cursor, read_test)?),
        _ => return Err(DecodeError("unknown condition")),
    };
    Ok(RowCondition { clustering, test })
}

fn write_test(test: &ColumnTest, out: &mut Vec<u8>) {
    put_varint(out, u64::from(test.column));
    match &test.part {
        ColumnPart::Whole => out.push(WHOLE),
        ColumnPart::Key(key) => {
            out.push(KEY);
            put_slice(out, key);
        }
        ColumnPart::Index(index) => {
            out.push(INDEX);
            put_varint(out, u64::from(*index));
        }
        ColumnPart::Field(field) => {
            out.push(FIELD);
            put_varint(out, u64::from(*field));
        }
    }
    match &test.test {
        ValueTest::Compare(comparison, value) => {
            let codes = 0_u8..;
            let mut found = codes.zip(COMPARISONS).filter(|(_, other)| other == comparison);
            out.push(found.next().map_or(0, |(code, _)| code));
            write_value(value.as_deref(), out);
        }
        ValueTest::OneOf(values) => {
            out.push(ONE_OF);
            put_varint(out, values.len() as u64);
            for value in values {
                write_value(value.as_deref(), out);
            }
        }
        ValueTest::Contains(element) => {
            out.push(CONTAINS);
            put_slice(out, element);
        }
        ValueTest::ContainsKey(key) => {
            out.push(CONTAINS_KEY);
            put_slice(out, key);
        }
    }
}

fn read_test(cursor: &mut Cursor) -> Result<ColumnTest, DecodeError> {
    let column = narrow(cursor.varint()?)?;
    let part = match cursor.u8()? {
        WHOLE => ColumnPart::Whole,
        KEY => ColumnPart::Key(cursor.slice()?.to_vec()),
        INDEX => ColumnPart::Index(narrow(cursor.varint()?)?),
        FIELD => ColumnPart::Field(narrow(cursor.varint()?)?),
        _ => return Err(DecodeError("unknown part of a column")),
    };
    let code = cursor.u8()?;
    let test = match (COMPARISONS.get(usize::from(code)), code) {
        (Some(comparison), _) => {
            let value = read_value(cursor)?;
            let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            if value.is_none() && !is_equality {
                return Err(DecodeError("null in an inequality"));
            }
            ValueTest::Compare(*comparison, value)
        }
        (None, ONE_OF) => ValueTest::OneOf(many(cursor, read_value)?),
        (None, CONTAINS) => ValueTest::Contains(cursor.slice()?.to_vec()),
        (None, CONTAINS_KEY) => ValueTest::ContainsKey(cursor.slice()?.to_vec()),
        _ => return Err(DecodeError("unknown test of a value")),
    };
    Ok(ColumnTest { column, part, test })
}

fn write_value(value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put_slice(out, value);
    }
}

fn read_value(cursor: &mut Cursor) -> Result<Option<Vec<u8>>, DecodeError> {
    match cursor.u8()? {
        0 => Ok(None),
        1 => Ok(Some(cursor.slice()?.to_vec())),
        _ => Err(DecodeError("unknown value of a condition")),
    }
}

/// A count, and so many items. Each takes bytes, so the input bounds how many come; the count
/// reserves nothing.
fn many<'a, T>(
    cursor: &mut Cursor<'a>,
    item: impl Fn(&mut Cursor<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::new();
    for _ in 0..cursor.varint()? {
        items.push(item(cursor)?);
    }
    Ok(items)
}

fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| DecodeError("a number of a condition is too large"))
}

/// Reads `data` as a conditional write of a table that has its id, and as an outcome: an error, or
/// what reads back.
pub fn fuzz_conditional_write(data: &[u8], table: &Arc<TableDef>) {
    let known = |id| (id == table.id).then(|| table.clone());
    if let Ok(write) = ConditionalWrite::read(&mut Cursor::new(data), known) {
        let mut bytes = Vec::new();
        write.write(&mut bytes);
        let again = ConditionalWrite::read(&mut Cursor::new(&bytes), known);
        assert_eq!(again, Ok(write), "a conditional write reads back");
    }
    if let Ok(outcome) = ConditionalOutcome::read(&mut Cursor::new(data)) {
        let mut bytes = Vec::new();
        outcome.write(&mut bytes);
        let again = ConditionalOutcome::read(&mut Cursor::new(&bytes));
        assert_eq!(again, Ok(outcome), "an outcome reads back");
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::plan::testing::table;
    use model::mutation::MutationWriter;
    use model::row::UNSTAMPED;
    use model::row::{Deletion, RowHead};
    use model::token::token_of;

    fn a_write() -> ConditionalWrite {
        let table = Arc::new(table());
        let key = 7_i32.to_be_bytes();
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, table.id, table.version, &key);
        let tombstone = Some(Deletion { timestamp: UNSTAMPED, deleted_at: 1 });
        writer.row(b"r", UNSTAMPED, RowHead { marker: None, tombstone }, |_| ());
        let test = |part, test| ColumnTest { column: 300, part, test };
        let tests = vec![
            test(ColumnPart::Whole, ValueTest::Compare(Comparison::Equal, None)),
            test(
                ColumnPart::Key(b"k".to_vec()),
                ValueTest::Compare(Comparison::GreaterOrEqual, Some(b"v".to_vec())),
            ),
            test(ColumnPart::Index(9), ValueTest::OneOf(vec![None, Some(Vec::new())])),
            test(ColumnPart::Field(2), ValueTest::Contains(b"e".to_vec())),
            test(ColumnPart::Whole, ValueTest::ContainsKey(b"k".to_vec())),
        ];
        let conditions = vec![
            RowCondition { clustering: None, test: RowTest::Exists },
            RowCondition { clustering: Some(b"a".to_vec()), test: RowTest::NotExists },
            RowCondition { clustering: Some(b"b".to_vec()), test: RowTest::Columns(tests) },
        ];
        ConditionalWrite {
            write: PartitionWrite {
                token: token_of(table.partitioner, &key),
                table,
                mutation,
                is_stamped: false,
                is_counter: false,
                list_operations: Vec::new(),
            },
            conditions,
            shown: ShownColumns {
                columns: [0, 300].into(),
                shows_static: true,
                shows_regular: false,
            },
        }
    }

    fn read(bytes: &[u8]) -> Result<ConditionalWrite, PartitionWriteError> {
        let table = Arc::new(table());
        let mut cursor = Cursor::new(bytes);
        let known = |id| (id == table.id).then(|| table.clone());
        let write = ConditionalWrite::read(&mut cursor, known)?;
        cursor.finish()?;
        Ok(write)
    }

    fn bytes_of(write: &ConditionalWrite) -> Vec<u8> {
        let mut bytes = Vec::new();
        write.write(&mut bytes);
        bytes
    }

    #[test]
    fn a_conditional_write_reads_back_and_every_cut_is_an_error() {
        let write = a_write();
        let bytes = bytes_of(&write);
        assert_eq!(read(&bytes), Ok(write));
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn conditions_out_of_order_and_stamped_writes_are_refused() {
        let mut unordered = a_write();
        unordered.conditions.swap(0, 1);
        assert!(read(&bytes_of(&unordered)).is_err());
        let mut stamped = a_write();
        stamped.write.is_stamped = true;
        assert!(read(&bytes_of(&stamped)).is_err());
    }

    #[test]
    fn the_bytes_of_a_conditional_write_do_not_change_unnoticed() {
        let mut bytes = bytes_of(&a_write());
        let write = a_write().write;
        let mut tail = Vec::new();
        write.write(&mut tail);
        bytes.truncate(bytes.len() - tail.len());
        let shown: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown.concat(),
            "010200ac02030205016107016205ac02000000ac0201016b05010176ac020209060200\
             0100ac020302070165ac020008016b"
        );
    }

    #[test]
    fn outcomes_read_back() {
        let rows = RefusedRows { row_count: 2, cells: b"cells".to_vec() };
        for outcome in [ConditionalOutcome::Applied, ConditionalOutcome::Refused(Box::new(rows))] {
            let mut bytes = Vec::new();
            outcome.write(&mut bytes);
            assert_eq!(ConditionalOutcome::read(&mut Cursor::new(&bytes)), Ok(outcome));
            for length in 0..bytes.len() {
                ConditionalOutcome::read(&mut Cursor::new(&bytes[..length])).unwrap_err();
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let bytes = bytes_of(&a_write());
        let table = Arc::new(table());
        for at in 0..bytes.len() {
            for byte in [0, 1, 2, 3, 4, 6, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                fuzz_conditional_write(&damaged, &table);
                damaged.insert(at, byte);
                fuzz_conditional_write(&damaged, &table);
            }
        }
    }
}
