//! The bytes of a partition's write, as it travels to the leader of its range.
//!
//! ```text
//! write := flags:u8 mutation:slice [count:varint operation*]
//! flags := 1 stamped | 2 operations | 4 values are increments of counters
//! ```
//!
//! A mutation is as in [`model::mutation`], an operation on a list as in [`model::list_operation`].
//! The table's definition does not travel: the receiver has its own, and finds it by the mutation's
//! table id. Under which version of it the write was planned is in the mutation
//! ([`PartitionWrite::planned_version`]); to compare the two is the receiver's.

#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use super::bind::{MUTATION_BYTES_MAX, PartitionWrite};
use model::codec::{Cursor, DecodeError, put_slice, put_varint};
use model::list_operation::ListOperation;
use model::mutation::MutationView;
use model::token::token_of;
use model::{TableDef, TableId};
use std::fmt;
use std::sync::Arc;

const FLAG_STAMPED: u8 = 1;
const FLAG_LIST_OPERATIONS: u8 = 2;
const FLAG_COUNTER: u8 = 4;

/// Why bytes are no write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionWriteError {
    /// They are not what they claim to be.
    Malformed(DecodeError),
    /// The receiver knows no table of that id: it was dropped, or is not known here yet.
    UnknownTable(TableId),
}

impl From<DecodeError> for PartitionWriteError {
    fn from(error: DecodeError) -> Self {
        PartitionWriteError::Malformed(error)
    }
}

impl fmt::Display for PartitionWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionWriteError::Malformed(error) => error.fmt(f),
            PartitionWriteError::UnknownTable(id) => write!(f, "no table has the id {:032x}", id.0),
        }
    }
}

impl std::error::Error for PartitionWriteError {}

impl PartitionWrite {
    /// The version of the table under which it was planned.
    pub fn planned_version(&self) -> u64 {
        MutationView::new(&self.mutation).map_or(0, |mutation| mutation.schema_version())
    }

    /// Appends the write's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let stamped = if self.is_stamped { FLAG_STAMPED } else { 0 };
        let operations = if self.list_operations.is_empty() { 0 } else { FLAG_LIST_OPERATIONS };
        let counter = if self.is_counter { FLAG_COUNTER } else { 0 };
        out.push(stamped | operations | counter);
        put_slice(out, &self.mutation);
        if !self.list_operations.is_empty() {
            put_varint(out, self.list_operations.len() as u64);
            for operation in &self.list_operations {
                operation.write(out);
            }
        }
    }

    /// Reads bytes of [`PartitionWrite::write`], and checks all of the mutation.
    pub fn read(
        cursor: &mut Cursor,
        table_of: impl Fn(TableId) -> Option<Arc<TableDef>>,
    ) -> Result<PartitionWrite, PartitionWriteError> {
        let flags = cursor.u8()?;
        if flags & !(FLAG_STAMPED | FLAG_LIST_OPERATIONS | FLAG_COUNTER) != 0 {
            return Err(DecodeError("unknown flags of a write").into());
        }
        let bytes = cursor.slice()?;
        if bytes.len() > MUTATION_BYTES_MAX {
            return Err(DecodeError("a mutation longer than any statement makes").into());
        }
        let mutation = MutationView::check(bytes)?;
        let mut list_operations = Vec::new();
        if flags & FLAG_LIST_OPERATIONS != 0 {
            // Each takes bytes, so the input bounds how many come; the count reserves nothing.
            for _ in 0..cursor.varint()? {
                list_operations.push(ListOperation::read(cursor)?);
            }
        }
        let id = mutation.table();
        let table = table_of(id).ok_or(PartitionWriteError::UnknownTable(id))?;
        Ok(PartitionWrite {
            token: token_of(table.partitioner, mutation.key()),
            table,
            mutation: bytes.to_vec(),
            is_stamped: flags & FLAG_STAMPED != 0,
            is_counter: flags & FLAG_COUNTER != 0,
            list_operations,
        })
    }
}

/// Reads `data` as a write of a table that has its id: an error, or a write that reads back.
pub fn fuzz_partition_write(data: &[u8], table: &Arc<TableDef>) {
    let known = |id| (id == table.id).then(|| table.clone());
    let Ok(write) = PartitionWrite::read(&mut Cursor::new(data), known) else { return };
    let mut bytes = Vec::new();
    write.write(&mut bytes);
    let again = PartitionWrite::read(&mut Cursor::new(&bytes), known);
    assert_eq!(again.as_ref(), Ok(&write), "a write reads back");
    assert_eq!(write.planned_version(), again.map_or(0, |write| write.planned_version()));
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::plan::testing::table;
    use model::Token;
    use model::list_operation::ListChange;
    use model::mutation::MutationWriter;
    use model::row::{Cell, CellContent, RowHead};

    fn a_write(list_operations: Vec<ListOperation>) -> PartitionWrite {
        let table = Arc::new(table());
        let key = 7_i32.to_be_bytes();
        let mut mutation = Vec::new();
        let mut writer = MutationWriter::new(&mut mutation, table.id, table.version, &key);
        writer.row(&[], 5, RowHead { marker: None, tombstone: None }, |row| {
            let content = CellContent::Live { value: b"v", expiry: None };
            row.cell(&Cell { column: 1, path: None, timestamp: 5, content });
        });
        PartitionWrite {
            token: token_of(table.partitioner, &key),
            table,
            mutation,
            is_stamped: list_operations.is_empty(),
            is_counter: false,
            list_operations,
        }
    }

    fn operation(index: i32) -> ListOperation {
        ListOperation {
            clustering: None,
            column: 1,
            timestamp: 5,
            expiry: None,
            deleted_at: 9,
            change: ListChange::DeleteIndex { index },
        }
    }

    fn bytes_of(write: &PartitionWrite) -> Vec<u8> {
        let mut bytes = Vec::new();
        write.write(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<PartitionWrite, PartitionWriteError> {
        let table = Arc::new(table());
        let mut cursor = Cursor::new(bytes);
        let write =
            PartitionWrite::read(&mut cursor, |id| (id == table.id).then(|| table.clone()))?;
        cursor.finish()?;
        Ok(write)
    }

    #[test]
    fn a_write_reads_back_and_every_cut_is_an_error() {
        let counter = PartitionWrite { is_counter: true, ..a_write(Vec::new()) };
        for write in [a_write(Vec::new()), a_write(vec![operation(1), operation(-1)]), counter] {
            let bytes = bytes_of(&write);
            assert_eq!(read(&bytes), Ok(write));
            for length in 0..bytes.len() {
                assert!(read(&bytes[..length]).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn the_bytes_of_a_write_do_not_change_unnoticed() {
        let bytes = bytes_of(&a_write(vec![operation(1)]));
        let shown: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown.concat(),
            "022901000000000000000000000000000000010400000007\
             04000d000000050000000000000000010001760100010500000000000000120202"
        );
    }

    #[test]
    fn the_receivers_table_is_found_by_its_id() {
        let write = a_write(Vec::new());
        assert_eq!(write.planned_version(), 1);
        let bytes = bytes_of(&write);
        let unknown = PartitionWrite::read(&mut Cursor::new(&bytes), |_| None);
        assert_eq!(unknown, Err(PartitionWriteError::UnknownTable(TableId(1))));
        assert_ne!(write.token, Token(0));
        assert_eq!(read(&bytes).map(|write| write.token), Ok(write.token));
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let bytes = bytes_of(&a_write(vec![operation(1), operation(2)]));
        let table = Arc::new(table());
        for at in 0..bytes.len() {
            for byte in [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                fuzz_partition_write(&damaged, &table);
                damaged.insert(at, byte);
                fuzz_partition_write(&damaged, &table);
            }
        }
    }
}
