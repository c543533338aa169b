//! Whether a response is the right one.
//!
//! Every response has its kind looked at, and of rows their number; one in [`SAMPLE_EVERY`] is read
//! in full, and its values compared with those that belong to its key. A fast server that answers
//! wrong is worth nothing.

use crate::dataset::{COLUMN_COUNT, Values};
use bytes::Bytes;
use cql::wire::client::{Message, Response};
use cql::wire::{Extensions, Frame, FrameHeader, Opcode};
use std::collections::BTreeMap;

/// One response in so many is read in full.
pub const SAMPLE_EVERY: u64 = 64;

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a row; the answer is void.
    Write,
    /// Reads a row that is there.
    Read,
    /// Reads a row that is not there.
    ReadAbsent,
    /// Writes a row if it is there, which it is; the answer is one row that says so.
    Conditional,
}

/// What came back, counted.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// The right answers.
    pub right: u64,
    /// Those of them that were read in full.
    pub sampled: u64,
    /// Answers that no error of the server explains.
    pub wrong: u64,
    /// What was wrong the first time.
    pub first_wrong: Option<String>,
    /// By the protocol's code: how many errors, and the text of the first.
    pub errors: BTreeMap<i32, (u64, String)>,
    /// Values of rows are not compared.
    accepts_any_values: bool,
}

impl Outcomes {
    /// Nothing yet; values are compared with those of the data set, unless any are accepted.
    pub fn new(accepts_any_values: bool) -> Self {
        Outcomes { accepts_any_values, ..Outcomes::default() }
    }

    /// Looks at one response.
    pub fn note(
        &mut self,
        header: FrameHeader,
        body: &[u8],
        operation: Operation,
        number: u64,
        values: &Values,
    ) {
        let is_sampled = self.right.is_multiple_of(SAMPLE_EVERY);
        if !is_sampled && looks_right(header, body, operation) {
            self.right += 1;
            return;
        }
        // In full: a sample, an error, metadata that was not asked for, or nonsense.
        let frame = Frame { header, body: Bytes::copy_from_slice(body) };
        let values = Some(values).filter(|_| !self.accepts_any_values);
        match read_in_full(&frame, operation, number, values) {
            Verdict::Right => {
                self.right += 1;
                self.sampled += 1;
            }
            Verdict::Error(code, message) => {
                self.errors.entry(code).or_insert((0, message)).0 += 1;
            }
            Verdict::Wrong(reason) => {
                self.wrong += 1;
                self.first_wrong.get_or_insert(reason);
            }
        }
    }

    /// All errors together.
    pub fn error_count(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }
}

/// The words with which the usual answers begin.
const KIND_VOID: u32 = 1;
const KIND_ROWS: u32 = 2;
const FLAGS_NO_METADATA: u32 = 4;

fn looks_right(header: FrameHeader, body: &[u8], operation: Operation) -> bool {
    if header.opcode != Opcode::Result.code() || header.flags != 0 {
        return false;
    }
    let word =
        |index: usize| body.get(index * 4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    match operation {
        Operation::Write => body.len() == 4 && word(0) == Some(KIND_VOID),
        // The metadata comes with the row, whose only column is the last byte: true.
        Operation::Conditional => {
            word(0) == Some(KIND_ROWS) && body.ends_with(&[0, 0, 0, 1, 0, 0, 0, 1, 1])
        }
        Operation::Read | Operation::ReadAbsent => {
            let row_count = u32::from(operation == Operation::Read);
            word(0) == Some(KIND_ROWS)
                && word(1) == Some(FLAGS_NO_METADATA)
                && word(2) == Some(COLUMN_COUNT as u32)
                && word(3) == Some(row_count)
        }
    }
}

enum Verdict {
    Right,
    Error(i32, String),
    Wrong(String),
}

fn read_in_full(
    frame: &Frame,
    operation: Operation,
    number: u64,
    values: Option<&Values>,
) -> Verdict {
    let message = match Response::parse(frame, Extensions::default()) {
        Ok(response) => response.message,
        Err(error) => return Verdict::Wrong(error.message.into_owned()),
    };
    match (message, operation) {
        (Message::Error { code, message, .. }, _) => Verdict::Error(code, message.to_owned()),
        (Message::Void, Operation::Write) => Verdict::Right,
        (Message::Rows(rows), Operation::ReadAbsent) if rows.row_count == 0 => Verdict::Right,
        (Message::Rows(rows), Operation::Conditional) if rows.cells == [Some(&[1_u8][..])] => {
            Verdict::Right
        }
        (Message::Rows(rows), Operation::Read) if rows.row_count == 1 => {
            let is_expected = |values: &Values| {
                let expected = (0..COLUMN_COUNT).map(|column| Some(values.value(number, column)));
                rows.cells.iter().copied().eq(expected)
            };
            if values.is_none_or(is_expected) {
                Verdict::Right
            } else {
                Verdict::Wrong(format!("row {number} has other values than were written"))
            }
        }
        (Message::Rows(rows), _) => {
            Verdict::Wrong(format!("row {number}: {} rows for {operation:?}", rows.row_count))
        }
        (other, _) => Verdict::Wrong(format!("{operation:?} was answered with {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cql::wire::{
        ErrorBody, ErrorResponse, HEADER_BYTES, OpenRows, ResponseHead, ResponseTooLarge,
        ResultMetadata, RowsHead, Version, write_cell, write_void,
    };

    fn noted(
        write: impl Fn(&mut Vec<u8>, &ResponseHead) -> Result<(), ResponseTooLarge>,
        operation: Operation,
        number: u64,
        times: usize,
    ) -> Outcomes {
        let mut out = Vec::new();
        write(&mut out, &ResponseHead::new(Version::V4, 5)).unwrap();
        let header = FrameHeader::decode(&out).unwrap().unwrap();
        let mut outcomes = Outcomes::default();
        for _ in 0..times {
            outcomes.note(header, &out[HEADER_BYTES..], operation, number, &Values::new());
        }
        outcomes
    }

    fn row(out: &mut Vec<u8>, head: &ResponseHead, number: u64) -> Result<(), ResponseTooLarge> {
        let columns: Vec<_> = (0..COLUMN_COUNT)
            .map(|column| cql::wire::ColumnSpec {
                keyspace: "k".into(),
                table: "t".into(),
                name: format!("c{column}").into(),
                cql_type: model::CqlType::Blob,
            })
            .collect();
        let metadata = ResultMetadata::new(&columns);
        let rows = RowsHead { metadata: &metadata, skip_metadata: true, new_metadata_id: None };
        let mut open = OpenRows::begin(out, head, &rows);
        let values = Values::new();
        for column in 0..COLUMN_COUNT {
            write_cell(out, Some(values.value(number, column)));
        }
        open.row_written();
        open.finish(out, None)
    }

    #[test]
    fn right_answers_are_counted_and_one_in_so_many_is_read() {
        let times = 2 * usize::try_from(SAMPLE_EVERY).unwrap();
        let outcomes = noted(write_void, Operation::Write, 1, times);
        assert_eq!((outcomes.right, outcomes.sampled, outcomes.wrong), (128, 2, 0));
        let outcomes = noted(|out, head| row(out, head, 9), Operation::Read, 9, times);
        assert_eq!((outcomes.right, outcomes.sampled, outcomes.wrong), (128, 2, 0));
    }

    #[test]
    fn a_row_of_another_key_is_wrong() {
        let outcomes = noted(|out, head| row(out, head, 8), Operation::Read, 9, 1);
        assert_eq!((outcomes.right, outcomes.wrong), (0, 1));
        let outcomes = noted(|out, head| row(out, head, 9), Operation::ReadAbsent, 9, 1);
        assert_eq!((outcomes.right, outcomes.wrong), (0, 1));
        let outcomes = noted(write_void, Operation::Read, 9, 1);
        assert_eq!((outcomes.right, outcomes.wrong), (0, 1));
    }

    #[test]
    fn errors_are_counted_by_code() {
        let error = ErrorResponse::new(ErrorBody::Overloaded, "too much");
        let outcomes = noted(|out, head| error.write(out, head), Operation::Write, 1, 3);
        assert_eq!(outcomes.errors[&0x1001], (3, "too much".to_owned()));
        assert_eq!((outcomes.right, outcomes.wrong, outcomes.error_count()), (0, 0, 3));
    }
}
