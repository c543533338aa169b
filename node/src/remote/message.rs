//! The bytes of requests to nodes that hold data, and of their answers.
//!
//! ```text
//! write   := 1 flags planned_at:varint clock_floor:i64le group:u64le change
//! change  := 1 count:varint write*  |  2 table:u128le (truncate)  |  3 index:varint (a log switched)
//!          | 4 conditional
//! read    := 2 flags planned_at:varint command
//! applied := 7 group:u64le index:varint
//! answer  := 0 what was asked for  |  1 kind text  |  2 [leader:u128le]  |  3 index:varint
//! made    := index:varint [outcome]
//! ```
//!
//! The first byte of a request is its kind ([`crate::internode::AskKind`]); the decoders here begin
//! behind it. Everything comes from another node and is checked whole before it is used.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use crate::internode::AskKind;
use crate::shard::{Barrier, Change, Made, ReadError, WriteError, WriteRequest};
use cluster::consensus::LogIndex;
use cluster::{GroupId, HostId};
use cql::plan::write::{ConditionalOutcome, ConditionalWrite, PartitionWrite, PartitionWriteError};
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::read::{Page, ReadCommand};
use model::{TableDef, TableId};
use std::sync::Arc;

/// Room for what is around the mutations of a write, as far as it is usual.
const WRITE_HEAD_BYTES: usize = 64;
/// Room for a read of one row.
const READ_BYTES_USUAL: usize = 192;
/// Room for an answer without rows.
const ANSWER_BYTES_USUAL: usize = 32;

const CHANGE_WRITE: u8 = 1;
const CHANGE_TRUNCATE: u8 = 2;
const CHANGE_SWITCH: u8 = 3;
const CHANGE_CONDITIONAL: u8 = 4;

const FLAG_DECIDED: u8 = 1;
const FLAG_BY_LEADER: u8 = 1;
const FLAG_UNDECIDED: u8 = 2;

const ANSWER_DONE: u8 = 0;
const ANSWER_FAILED: u8 = 1;
const ANSWER_NOT_LEADER: u8 = 2;
const ANSWER_OUTDATED: u8 = 3;

/// What an addressed replica says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<T, E> {
    /// What was asked for.
    Done(T),
    /// It was tried, and failed.
    Failed(E),
    /// Nothing was done: another replica leads, perhaps this one.
    NotLeader { hint: Option<HostId> },
    /// Nothing was done: a table has changed since the request was planned; at this index of the
    /// metadata the new version is known.
    Outdated { index: u64 },
}

/// The head of a write, read before its tables are looked up.
pub(crate) struct WriteHead {
    /// The index of the metadata under which it was planned.
    pub planned_at: u64,
    /// It is part of a batch that is decided: it is made whatever version its tables have now.
    pub is_decided: bool,
    clock_floor: i64,
    group: GroupId,
}

/// The bytes of a write, its kind first. `None` for a change that only its own node makes.
pub(crate) fn write_bytes(
    request: &WriteRequest,
    planned_at: u64,
    is_decided: bool,
) -> Option<Vec<u8>> {
    let mutations = request.change.writes().iter().map(|write| write.mutation.len());
    let mut out = Vec::with_capacity(WRITE_HEAD_BYTES + mutations.sum::<usize>());
    out.extend([AskKind::Write as u8, if is_decided { FLAG_DECIDED } else { 0 }]);
    put_varint(&mut out, planned_at);
    out.extend_from_slice(&request.clock_floor.to_le_bytes());
    out.extend_from_slice(&request.group.0.to_le_bytes());
    match &request.change {
        Change::Write(writes) => {
            out.push(CHANGE_WRITE);
            put_varint(&mut out, writes.len() as u64);
            for write in writes {
                write.write(&mut out);
            }
        }
        Change::Truncate(table) => {
            out.push(CHANGE_TRUNCATE);
            out.extend_from_slice(&table.0.to_le_bytes());
        }
        Change::Switch(index) => {
            out.push(CHANGE_SWITCH);
            put_varint(&mut out, *index);
        }
        Change::Conditional(conditional) => {
            out.push(CHANGE_CONDITIONAL);
            conditional.write(&mut out);
        }
        Change::Reservation(_) | Change::Metadata(_) => return None,
    }
    Some(out)
}

/// Reads the head of a write; the change follows in the cursor.
pub(crate) fn read_write_head(cursor: &mut Cursor) -> Result<WriteHead, DecodeError> {
    let flags = cursor.u8()?;
    if flags & !FLAG_DECIDED != 0 {
        return Err(DecodeError("unknown flags of a write"));
    }
    Ok(WriteHead {
        planned_at: cursor.varint()?,
        is_decided: flags & FLAG_DECIDED != 0,
        clock_floor: i64::from_le_bytes(cursor.array()?),
        group: GroupId(u64::from_le_bytes(cursor.array()?)),
    })
}

/// Reads the change behind a write's head, and all that is left.
pub(crate) fn read_change(
    head: &WriteHead,
    mut cursor: Cursor,
    table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
) -> Result<WriteRequest, PartitionWriteError> {
    let change = match cursor.u8()? {
        CHANGE_WRITE => {
            // Each takes bytes, so the input bounds how many come; the count reserves nothing.
            let mut writes = Vec::new();
            for _ in 0..cursor.varint()? {
                writes.push(PartitionWrite::read(&mut cursor, &table_of)?);
            }
            Change::Write(writes)
        }
        CHANGE_TRUNCATE => Change::Truncate(TableId(u128::from_le_bytes(cursor.array()?))),
        CHANGE_SWITCH => Change::Switch(cursor.varint()?),
        CHANGE_CONDITIONAL => {
            Change::Conditional(Box::new(ConditionalWrite::read(&mut cursor, &table_of)?))
        }
        _ => return Err(DecodeError("unknown change").into()),
    };
    cursor.finish()?;
    Ok(WriteRequest { group: head.group, change, clock_floor: head.clock_floor })
}

/// The bytes of a read, its kind first.
pub(crate) fn read_bytes(command: &ReadCommand, barrier: Barrier, planned_at: u64) -> Vec<u8> {
    let by_leader = if barrier.by_leader { FLAG_BY_LEADER } else { 0 };
    let undecided = if barrier.undecided { FLAG_UNDECIDED } else { 0 };
    let mut out = Vec::with_capacity(READ_BYTES_USUAL);
    out.extend([AskKind::Read as u8, by_leader | undecided]);
    put_varint(&mut out, planned_at);
    command.write(&mut out);
    out
}

/// What is read, behind which barrier, and the index of the metadata it was planned under.
pub(crate) fn read_read(bytes: &[u8]) -> Result<(ReadCommand, Barrier, u64), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let flags = cursor.u8()?;
    if flags & !(FLAG_BY_LEADER | FLAG_UNDECIDED) != 0 {
        return Err(DecodeError("unknown flags of a read"));
    }
    let barrier =
        Barrier { by_leader: flags & FLAG_BY_LEADER != 0, undecided: flags & FLAG_UNDECIDED != 0 };
    let planned_at = cursor.varint()?;
    Ok((ReadCommand::from_bytes(cursor.rest())?, barrier, planned_at))
}

/// The bytes of the question whether an entry has been applied, its kind first.
pub(crate) fn applied_bytes(group: GroupId, index: LogIndex) -> Vec<u8> {
    let mut out = vec![AskKind::Applied as u8];
    out.extend_from_slice(&group.0.to_le_bytes());
    put_varint(&mut out, index.0);
    out
}

/// Which entry is asked for.
pub(crate) fn read_applied(bytes: &[u8]) -> Result<(GroupId, LogIndex), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let group = GroupId(u64::from_le_bytes(cursor.array()?));
    let index = LogIndex(cursor.varint()?);
    cursor.finish()?;
    Ok((group, index))
}

/// What an answer is about, as bytes.
pub(crate) trait Body: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Result<Self, DecodeError>;
}

impl<T: Body, E: Body> Answer<T, E> {
    /// The answer's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ANSWER_BYTES_USUAL);
        match self {
            Answer::Done(what) => {
                out.push(ANSWER_DONE);
                what.write(&mut out);
            }
            Answer::Failed(error) => {
                out.push(ANSWER_FAILED);
                error.write(&mut out);
            }
            Answer::NotLeader { hint } => {
                out.push(ANSWER_NOT_LEADER);
                if let Some(leader) = hint {
                    out.extend_from_slice(&leader.0.to_le_bytes());
                }
            }
            Answer::Outdated { index } => {
                out.push(ANSWER_OUTDATED);
                put_varint(&mut out, *index);
            }
        }
        out
    }

    /// Reads bytes of [`Answer::to_bytes`], all of them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let answer = match cursor.u8()? {
            ANSWER_DONE => return T::read(cursor.rest()).map(Answer::Done),
            ANSWER_FAILED => return E::read(cursor.rest()).map(Answer::Failed),
            ANSWER_NOT_LEADER if cursor.is_empty() => Answer::NotLeader { hint: None },
            ANSWER_NOT_LEADER => {
                let leader = HostId(u128::from_le_bytes(cursor.array()?));
                Answer::NotLeader { hint: Some(leader) }
            }
            ANSWER_OUTDATED => Answer::Outdated { index: cursor.varint()? },
            _ => return Err(DecodeError("unknown answer")),
        };
        cursor.finish()?;
        Ok(answer)
    }
}

impl Body for Made {
    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.index.0);
        if let Some(outcome) = &self.outcome {
            outcome.write(out);
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let index = LogIndex(cursor.varint()?);
        let outcome =
            if cursor.is_empty() { None } else { Some(ConditionalOutcome::read(&mut cursor)?) };
        cursor.finish()?;
        Ok(Made { index, outcome })
    }
}

impl Body for Page {
    fn write(&self, out: &mut Vec<u8>) {
        Page::write(self, out);
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        Page::from_bytes(bytes)
    }
}

/// Longest text of an error that is taken over from another node, in bytes.
const ERROR_TEXT_BYTES_MAX: usize = 64 << 10;

fn put_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    let end = text.floor_char_boundary(ERROR_TEXT_BYTES_MAX);
    put_slice(out, text.get(..end).unwrap_or_default().as_bytes());
}

fn read_text(bytes: &[u8]) -> Result<(u8, String), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let kind = cursor.u8()?;
    let text = cursor.slice()?;
    cursor.finish()?;
    if text.len() > ERROR_TEXT_BYTES_MAX {
        return Err(DecodeError("the text of an error is too long"));
    }
    let text = std::str::from_utf8(text).map_err(|_| DecodeError("text is not UTF-8"))?;
    Ok((kind, text.to_owned()))
}

impl Body for WriteError {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = match self {
            WriteError::Overloaded(_) => 1,
            WriteError::Invalid(_) => 2,
            WriteError::Read(_) => 3,
            WriteError::Failed(_) => 4,
            WriteError::Unknown(_) | WriteError::Unfinished | WriteError::TooFewApplied { .. } => 5,
            // Those that have an answer of their own travel as that.
            WriteError::NotLeader { .. }
            | WriteError::Outdated { .. }
            | WriteError::Unavailable(_) => 1,
        };
        put_text(out, kind, &self.to_string());
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, text) = read_text(bytes)?;
        Ok(match kind {
            1 => WriteError::Overloaded(text),
            2 => WriteError::Invalid(text),
            3 => WriteError::Read(text),
            4 => WriteError::Failed(text),
            5 => WriteError::Unknown(text),
            _ => return Err(DecodeError("unknown error of a write")),
        })
    }
}

impl Body for ReadError {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = match self {
            ReadError::Storage(_) => 1,
            ReadError::UnknownTable => 2,
            ReadError::TimedOut => 3,
            ReadError::Overloaded(_) | ReadError::NotLeader { .. } => 4,
        };
        put_text(out, kind, &self.to_string());
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, text) = read_text(bytes)?;
        Ok(match kind {
            1 => ReadError::Storage(text),
            2 => ReadError::UnknownTable,
            3 => ReadError::TimedOut,
            4 => ReadError::Overloaded("the replica has too much to do"),
            _ => return Err(DecodeError("unknown error of a read")),
        })
    }
}

#[cfg(test)]
mod tests;
