//! What workloads ask through: a connection with one node, of a driver or of a simulation.
//!
//! It is as little as all workloads need, so that the same generators and checkers judge real
//! processes and simulated clusters. Values cross it as the bytes of the protocol, since that is
//! what both sides have; a [`Cell`] reads them as what the workload knows to be there.

use scylla::value::CqlTimeuuid;
use std::fmt;
use std::future::Future;

/// Why a call did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request was not done, and will not be.
    Refused(String),
    /// It may have been done, or be done later.
    Unknown(String),
}

/// The consistency of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Any replica answers, with what it has.
    One,
    /// A majority stands behind the answer.
    Quorum,
    /// The same, behind every transaction that is under way.
    Serial,
}

/// Who is asked for the pages of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The node of the connection.
    ThisNode,
    /// One node after the other, as far as they answer.
    EachInTurn,
}

/// Rows of a page, where nobody cares.
pub const PAGE_ROWS: i32 = 5_000;

/// A client's connection with one node, through which it asks one thing at a time.
pub trait Connection {
    /// Runs a statement that changes the schema.
    fn define(&mut self, text: &str) -> impl Future<Output = Result<(), Failure>>;

    /// Prepares a statement unless that was done before, and runs it with values; returns the rows
    /// of the answer, which are no more than fit one page.
    fn execute_at(
        &mut self,
        level: Level,
        text: &str,
        values: &[Cell],
    ) -> impl Future<Output = Result<Vec<Row>, Failure>>;

    /// Reads all rows of a query by pages of so many, each asked for when the one before has been
    /// read.
    fn read_pages(
        &mut self,
        level: Level,
        text: &str,
        page_rows: i32,
        asked: Asked,
    ) -> impl Future<Output = Result<Vec<Row>, Failure>>;

    /// Returns when all nodes say that they know the same schema.
    fn agree(&mut self) -> impl Future<Output = Result<(), Failure>>;

    /// [`Connection::execute_at`] QUORUM.
    fn execute(
        &mut self,
        text: &str,
        values: &[Cell],
    ) -> impl Future<Output = Result<Vec<Row>, Failure>> {
        self.execute_at(Level::Quorum, text, values)
    }

    /// All rows of a query, at QUORUM.
    fn read_all(&mut self, text: &str) -> impl Future<Output = Result<Vec<Row>, Failure>> {
        self.read_pages(Level::Quorum, text, PAGE_ROWS, Asked::ThisNode)
    }
}

/// The nodes of a cluster, as clients reach them.
pub trait Nodes {
    /// How they are spoken with.
    type Connection: Connection;

    /// How many places of nodes there are. A node may be away, or not there yet.
    fn count(&self) -> usize;

    /// Connects with a node; the text says why it cannot be.
    fn connect(&self, node: usize) -> impl Future<Output = Result<Self::Connection, String>>;
}

/// The cells of a row, in the order of the query.
pub type Row = Vec<Cell>;

/// A value as the protocol writes it; `None` is null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell(pub Option<Vec<u8>>);

impl From<i64> for Cell {
    /// A bigint, or what is added to a counter.
    fn from(number: i64) -> Cell {
        Cell(Some(number.to_be_bytes().to_vec()))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell(Some(text.as_bytes().to_vec()))
    }
}

impl From<&[i64]> for Cell {
    /// A list of bigints: how many, then each behind its length.
    fn from(numbers: &[i64]) -> Cell {
        let mut bytes = (numbers.len() as u32).to_be_bytes().to_vec();
        for number in numbers {
            bytes.extend_from_slice(&(size_of::<i64>() as u32).to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Cell(Some(bytes))
    }
}

impl Cell {
    /// A whole number, of the width of its column; nothing if it is null.
    pub fn number(&self) -> Result<Option<i64>, Failure> {
        let Some(bytes) = &self.0 else { return Ok(None) };
        let number = match bytes.len() {
            1 => self.array().map(i8::from_be_bytes).map(i64::from),
            4 => self.array().map(i32::from_be_bytes).map(i64::from),
            _ => self.array().map(i64::from_be_bytes),
        };
        number.map(Some)
    }

    /// A truth value.
    pub fn boolean(&self) -> Result<bool, Failure> {
        self.array().map(|[byte]| byte != 0)
    }

    /// A text.
    pub fn text(&self) -> Result<&str, Failure> {
        let bytes = self.0.as_deref().ok_or_else(|| malformed("null for a text"))?;
        std::str::from_utf8(bytes).map_err(malformed)
    }

    /// A time UUID, which compares by its time.
    pub fn time(&self) -> Result<CqlTimeuuid, Failure> {
        self.array().map(CqlTimeuuid::from_bytes)
    }

    /// A list of bigints; null is an empty one.
    pub fn numbers(&self) -> Result<Vec<i64>, Failure> {
        const ELEMENT_BYTES: usize = 4 + size_of::<i64>();
        let Some(bytes) = &self.0 else { return Ok(Vec::new()) };
        let elements = bytes.get(4..).unwrap_or_default().chunks(ELEMENT_BYTES);
        let number = |element: &[u8]| {
            let number = element.get(4..).and_then(|bytes| bytes.try_into().ok());
            number.map(i64::from_be_bytes).ok_or_else(|| malformed("no list of bigints"))
        };
        elements.map(number).collect()
    }

    fn array<const BYTES: usize>(&self) -> Result<[u8; BYTES], Failure> {
        let bytes = self.0.as_deref().and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| malformed(format!("{self:?} is not of {BYTES} bytes")))
    }
}

/// The numbers of rows that have so many columns, all of them numbers and none of them null.
pub fn numbers<const COLUMNS: usize>(rows: &[Row]) -> Result<Vec<[i64; COLUMNS]>, Failure> {
    let cell = |cell: &Cell| cell.number()?.ok_or_else(|| malformed("null for a number"));
    let numbers = |row: &Row| {
        let numbers: Vec<i64> = row.iter().map(cell).collect::<Result<_, _>>()?;
        numbers.try_into().map_err(|row| malformed(format!("{row:?} has not {COLUMNS} columns")))
    };
    rows.iter().map(numbers).collect()
}

/// An answer of another shape than asked for, which leaves open what was done.
pub fn malformed(error: impl fmt::Display) -> Failure {
    Failure::Unknown(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_as_they_were_written() {
        assert_eq!(Cell::from(-7).number(), Ok(Some(-7)));
        assert_eq!(Cell(Some(vec![0xff])).number(), Ok(Some(-1)));
        assert_eq!(Cell(Some(vec![0, 0, 1, 0])).number(), Ok(Some(256)));
        assert_eq!(Cell(None).number(), Ok(None));
        assert_eq!(Cell::from("ab").text(), Ok("ab"));
        assert_eq!(Cell(Some(vec![1])).boolean(), Ok(true));
        assert_eq!(Cell::from(&[3, -4][..]).numbers(), Ok(vec![3, -4]));
        assert_eq!(Cell(None).numbers(), Ok(vec![]));
    }

    #[test]
    fn cells_of_another_shape_are_named() {
        assert!(Cell(Some(vec![1, 2])).number().is_err());
        assert!(Cell(None).boolean().is_err());
        assert!(Cell(Some(vec![0, 0, 0, 1, 0, 0])).numbers().is_err());
        assert!(Cell(None).text().is_err());
        assert!(numbers::<1>(&[vec![Cell(None)]]).is_err());
        assert!(numbers::<2>(&[vec![Cell::from(1)]]).is_err());
        assert_eq!(numbers::<2>(&[vec![Cell::from(1), Cell::from(2)]]), Ok(vec![[1, 2]]));
    }
}
