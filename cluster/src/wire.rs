//! Reading and writing the bytes that members of a cluster send each other.
//!
//! Numbers are little endian and of fixed width: what is sent is small beside the rows it carries,
//! and a reader of fixed fields has fewer ways to be wrong. What comes in is hostile: a [`Reader`]
//! is asked for what should follow and says what is wrong, nothing is allocated by a length that
//! was announced, and bytes that are left over are an error.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use crate::consensus::{EntryId, LogIndex, Term};
use crate::liveness::{Epoch, Incarnation};
use std::fmt;

/// Indexes that are believed: one more entry can be counted behind each, many times over.
const INDEX_MAX: u64 = u64::MAX >> 2;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends too early.
    Cut,
    /// Bytes follow its end.
    Trailing,
    /// There is no such kind of thing.
    UnknownKind {
        /// Of what.
        what: &'static str,
        /// The kind.
        found: u8,
    },
    /// A field has a value that it cannot have.
    Impossible(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Cut => f.write_str("it ends too early"),
            DecodeError::Trailing => f.write_str("bytes follow its end"),
            DecodeError::UnknownKind { what, found } => write!(f, "there is no {what} {found}"),
            DecodeError::Impossible(what) => write!(f, "its {what} cannot be"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A cursor over bytes that came.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Cut)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Impossible("truth value")),
        }
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn term(&mut self) -> Result<Term, DecodeError> {
        self.u64().map(Term)
    }

    pub(crate) fn index(&mut self) -> Result<LogIndex, DecodeError> {
        let index = self.u64()?;
        if index > INDEX_MAX {
            return Err(DecodeError::Impossible("index"));
        }
        Ok(LogIndex(index))
    }

    /// An index and a term.
    pub(crate) fn entry_id(&mut self) -> Result<EntryId, DecodeError> {
        Ok(EntryId { index: self.index()?, term: self.term()? })
    }

    /// A life and a round.
    pub(crate) fn epoch(&mut self) -> Result<Epoch, DecodeError> {
        Ok(Epoch { incarnation: Incarnation(self.u64()?), round: self.u64()? })
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Writes an index and a term.
pub(crate) fn put_entry_id(entry: EntryId, out: &mut Vec<u8>) {
    put_u64s([entry.index.0, entry.term.0], out);
}

/// Writes a life and a round.
pub(crate) fn put_epoch(epoch: Epoch, out: &mut Vec<u8>) {
    put_u64s([epoch.incarnation.0, epoch.round], out);
}

/// Writes numbers of 8 bytes.
pub(crate) fn put_u64s<const N: usize>(numbers: [u64; N], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}
