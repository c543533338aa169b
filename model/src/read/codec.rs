//! The bytes of a read and of its page, as they travel between nodes.
//!
//! ```text
//! command := flags:u8 table:u128le scope now:signed row_limit:varint partition_row_limit:varint
//!            page_bytes:varint slice_count:varint (start:slice end:slice)* [resume]
//! scope   := key:slice                                            one partition
//!          | first:i64le last:i64le                               a range of tokens (flag)
//! resume  := key:slice partition_rows:varint [clustering:slice]   (a flag for each)
//! page    := flags:u8 row_count:varint [resume] (length:u32le mutation)*
//! ```
//!
//! What comes in is checked whole: slices ascend without overlaps, rows and cells are well-formed,
//! so that whoever holds a decoded value need not look again. A page has as many rows as it says,
//! or fewer; it is the sender's word that decides where the next one begins.

#![deny(clippy::indexing_slicing)]

use super::{Page, ReadCommand, ReadScope, ResumePoint, Slice};
use crate::TableId;
use crate::codec::{Cursor, DecodeError, put_signed, put_slice, put_varint};
use crate::mutation::MutationView;

const FLAG_TOKEN_RANGE: u8 = 1;
const FLAG_REVERSED: u8 = 2;
const FLAG_STATIC: u8 = 4;
const FLAG_RESUME: u8 = 8;
const FLAG_RESUME_WITHIN: u8 = 16;
const COMMAND_FLAGS: u8 =
    FLAG_TOKEN_RANGE | FLAG_REVERSED | FLAG_STATIC | FLAG_RESUME | FLAG_RESUME_WITHIN;
const PAGE_FLAGS: u8 = FLAG_RESUME | FLAG_RESUME_WITHIN;

impl ReadCommand {
    /// Appends the command's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let is_range = matches!(self.scope, ReadScope::TokenRange { .. });
        out.push(
            flag(is_range, FLAG_TOKEN_RANGE)
                | flag(self.reversed, FLAG_REVERSED)
                | flag(self.include_static, FLAG_STATIC)
                | resume_flags(self.resume.as_ref()),
        );
        out.extend_from_slice(&self.table.0.to_le_bytes());
        match &self.scope {
            ReadScope::Partition(key) => put_slice(out, key),
            ReadScope::TokenRange { first, last } => {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
        }
        put_signed(out, self.now);
        put_varint(out, u64::from(self.row_limit));
        put_varint(out, u64::from(self.partition_row_limit));
        put_varint(out, self.page_bytes as u64);
        put_varint(out, self.slices.len() as u64);
        for slice in &*self.slices {
            put_slice(out, &slice.start);
            put_slice(out, &slice.end);
        }
        write_resume(out, self.resume.as_ref());
    }

    /// Reads bytes of [`ReadCommand::write`], all of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<ReadCommand, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let flags = known_flags(cursor.u8()?, COMMAND_FLAGS)?;
        let table = TableId(u128::from_le_bytes(cursor.array()?));
        let scope = if flags & FLAG_TOKEN_RANGE == 0 {
            ReadScope::Partition(cursor.slice()?.into())
        } else {
            let first = i64::from_le_bytes(cursor.array()?);
            ReadScope::TokenRange { first, last: i64::from_le_bytes(cursor.array()?) }
        };
        let now = cursor.signed()?;
        let row_limit = limit(&mut cursor)?;
        let partition_row_limit = limit(&mut cursor)?;
        let page_bytes = cursor.length()?;
        let slices = read_slices(&mut cursor)?;
        let resume = read_resume(&mut cursor, flags)?;
        cursor.finish()?;
        Ok(ReadCommand {
            table,
            scope,
            slices: slices.into(),
            reversed: flags & FLAG_REVERSED != 0,
            include_static: flags & FLAG_STATIC != 0,
            now,
            row_limit,
            partition_row_limit,
            page_bytes,
            resume,
        })
    }
}

impl Page {
    /// Appends the page's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(resume_flags(self.resume.as_ref()));
        put_varint(out, u64::from(self.row_count));
        write_resume(out, self.resume.as_ref());
        out.extend_from_slice(&self.bytes);
    }

    /// Reads bytes of [`Page::write`], all of them, and checks the rows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Page, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let flags = known_flags(cursor.u8()?, PAGE_FLAGS)?;
        let row_count = limit(&mut cursor)?;
        let resume = read_resume(&mut cursor, flags)?;
        let partitions = cursor.rest();
        let mut last_partition_at = 0;
        while !cursor.is_empty() {
            last_partition_at = partitions.len() - cursor.rest().len();
            let length = u32::from_le_bytes(cursor.array()?) as usize;
            MutationView::check_in_page(cursor.bytes(length)?)?;
        }
        Ok(Page { bytes: partitions.to_vec(), last_partition_at, row_count, resume })
    }
}

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn known_flags(flags: u8, known: u8) -> Result<u8, DecodeError> {
    if flags & !known != 0 {
        return Err(DecodeError("unknown flags"));
    }
    if flags & (FLAG_RESUME | FLAG_RESUME_WITHIN) == FLAG_RESUME_WITHIN {
        return Err(DecodeError("a row to go on behind, and no partition"));
    }
    Ok(flags)
}

fn limit(cursor: &mut Cursor) -> Result<u32, DecodeError> {
    u32::try_from(cursor.varint()?).map_err(|_| DecodeError("number of rows exceeds 32 bits"))
}

fn read_slices(cursor: &mut Cursor) -> Result<Vec<Slice>, DecodeError> {
    let count = cursor.varint()?;
    // Each takes bytes, so the input bounds how many come; the count itself reserves nothing.
    let mut slices: Vec<Slice> = Vec::new();
    for _ in 0..count {
        let slice = Slice { start: cursor.slice()?.into(), end: cursor.slice()?.into() };
        let is_behind = slices.last().is_none_or(|last| last.end <= slice.start);
        if !is_behind || slice.start >= slice.end {
            return Err(DecodeError("slices do not ascend"));
        }
        slices.push(slice);
    }
    Ok(slices)
}

fn resume_flags(resume: Option<&ResumePoint>) -> u8 {
    let is_within = resume.is_some_and(|resume| resume.clustering.is_some());
    flag(resume.is_some(), FLAG_RESUME) | flag(is_within, FLAG_RESUME_WITHIN)
}

fn write_resume(out: &mut Vec<u8>, resume: Option<&ResumePoint>) {
    let Some(resume) = resume else { return };
    put_slice(out, &resume.key);
    put_varint(out, u64::from(resume.partition_rows));
    if let Some(clustering) = &resume.clustering {
        put_slice(out, clustering);
    }
}

fn read_resume(cursor: &mut Cursor, flags: u8) -> Result<Option<ResumePoint>, DecodeError> {
    if flags & FLAG_RESUME == 0 {
        return Ok(None);
    }
    let key = cursor.slice()?.into();
    let partition_rows = limit(cursor)?;
    let is_within = flags & FLAG_RESUME_WITHIN != 0;
    let clustering = if is_within { Some(cursor.slice()?.into()) } else { None };
    Ok(Some(ResumePoint { key, clustering, partition_rows }))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
pub(crate) mod tests {
    use super::*;
    use crate::row::{Cell, CellContent, RowHead, RowView, RowWriter};
    use crate::value::testing::Random;
    use std::sync::Arc;

    /// A command with a part of every kind.
    pub(crate) fn a_command() -> ReadCommand {
        ReadCommand {
            table: TableId(0x0102),
            scope: ReadScope::Partition(Arc::from(&b"key"[..])),
            slices: [
                Slice::of_row(b"b"),
                Slice { start: b"d".as_slice().into(), end: b"f".as_slice().into() },
            ]
            .into(),
            reversed: true,
            include_static: true,
            now: 1_800_000_000,
            row_limit: 100,
            partition_row_limit: u32::MAX,
            page_bytes: 1 << 20,
            resume: Some(ResumePoint {
                key: b"key".as_slice().into(),
                clustering: Some(b"e".as_slice().into()),
                partition_rows: 7,
            }),
        }
    }

    fn row_bytes(value: &[u8]) -> Vec<u8> {
        let mut row = Vec::new();
        let head = RowHead { marker: None, tombstone: None };
        let content = CellContent::Live { value, expiry: None };
        RowWriter::new(&mut row, 5, head).cell(&Cell {
            column: 1,
            path: None,
            timestamp: 5,
            content,
        });
        row
    }

    /// A page of two partitions, the rows of the first in descending order.
    pub(crate) fn a_page() -> Page {
        let row = row_bytes(b"value");
        let row = RowView::new(&row);
        let mut page = Page::default();
        page.partition(TableId(1), b"a", |writer| writer.encoded_static_row(row));
        page.row(b"2", row);
        page.row(b"1", row);
        page.partition(TableId(1), b"b", |_| ());
        page.row(b"3", row);
        page.row_count = 3;
        page.resume =
            Some(ResumePoint { key: b"b".as_slice().into(), clustering: None, partition_rows: 1 });
        page
    }

    fn bytes_of(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn the_bytes_of_a_read_and_its_page_do_not_change_unnoticed() {
        let golden = [
            "1e02010000000000000000000000000000036b657980c8ceb40d64ffffffff0f808040020162\
             0262ff01640166036b6579070165",
            "0803016201590000000100000000000000000000000000000000016102110000000500000000\
             0000000001000576616c75650401321100000005000000000000000001000576616c75650401\
             311100000005000000000000000001000576616c75652b000000010000000000000000000000\
             000000000001620401331100000005000000000000000001000576616c7565",
        ];
        let written = [bytes_of(|out| a_command().write(out)), bytes_of(|out| a_page().write(out))];
        for (bytes, golden) in written.into_iter().zip(golden) {
            let mut shown = String::new();
            crate::hex::push_hex(&mut shown, &bytes);
            assert_eq!(shown, golden);
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut random = Random::new(7);
        for _ in 0..500 {
            let mut command = a_command();
            if random.one_in(2) {
                let (first, last) = (random.number() as i64, random.number() as i64);
                command.scope = ReadScope::TokenRange { first, last };
            }
            command.reversed = random.one_in(2);
            command.include_static = random.one_in(2);
            command.now = random.number() as i64;
            command.row_limit = random.number() as u32;
            command.page_bytes = random.number() as usize;
            if random.one_in(2) {
                command.slices = [Slice::all()].into();
            }
            if random.one_in(3) {
                command.resume = None;
            } else if let (true, Some(resume)) = (random.one_in(2), &mut command.resume) {
                resume.clustering = None;
            }
            let bytes = bytes_of(|out| command.write(out));
            assert_eq!(ReadCommand::from_bytes(&bytes), Ok(command));
        }
        for page in [a_page(), Page::default()] {
            let bytes = bytes_of(|out| page.write(out));
            assert_eq!(Page::from_bytes(&bytes), Ok(page));
        }
    }

    #[test]
    fn every_cut_is_an_error_and_so_is_what_follows() {
        let bytes = bytes_of(|out| a_command().write(out));
        for length in 0..bytes.len() {
            assert!(ReadCommand::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert!(ReadCommand::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let bytes = bytes_of(|out| a_page().write(out));
        let whole =
            |length: usize| Page::from_bytes(&bytes[..length]).map(|p| p.partitions().count());
        let decoded: Vec<usize> =
            (0..bytes.len()).filter_map(|length| whole(length).ok()).collect();
        assert_eq!(decoded, [0, 1], "a page may end between partitions only");
    }

    #[test]
    fn slices_that_overlap_are_refused() {
        let of = |slices: &[(&[u8], &[u8])]| {
            let slice = |(start, end): &(&[u8], &[u8])| Slice {
                start: (*start).into(),
                end: (*end).into(),
            };
            let slices = slices.iter().map(slice).collect();
            let bytes = bytes_of(|out| ReadCommand { slices, ..a_command() }.write(out));
            ReadCommand::from_bytes(&bytes).map(|_| ())
        };
        assert_eq!(of(&[(b"a", b"b"), (b"b", b"c")]), Ok(()));
        let refused = Err(DecodeError("slices do not ascend"));
        assert_eq!(of(&[(b"a", b"c"), (b"b", b"d")]), refused);
        assert_eq!(of(&[(b"b", b"b")]), refused);
    }

    #[test]
    fn a_page_that_is_no_list_of_rows_is_refused() {
        let with = |write: &dyn Fn(&mut crate::mutation::MutationWriter)| {
            let mut page = Page::default();
            page.partition(TableId(1), b"a", |writer| write(writer));
            Page::from_bytes(&bytes_of(|out| page.write(out))).map(|_| ())
        };
        let deletion = crate::row::Deletion { timestamp: 1, deleted_at: 1 };
        assert!(with(&|writer| writer.partition_tombstone(deletion)).is_err());
        assert!(with(&|writer| writer.encoded_row(b"1", RowView::new(&[0xff, 1]))).is_err());
        assert_eq!(with(&|_| ()), Ok(()));
    }
}
