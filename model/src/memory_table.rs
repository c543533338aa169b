//! A table held in memory whole: the plainest answer to a [`ReadCommand`].
//!
//! Serves the system's virtual tables, and is the judge of what a read means: it follows the
//! definition of slices, order, limits and resuming step by step, and merges nothing that
//! [`crate::merge`] does not merge for everybody. It keeps tombstones for ever.

use crate::mutation::{MutationView, MutationWriter};
use crate::partition::Partition;
use crate::read::{Page, ReadCommand, ReadScope, ResumePoint, Slice};
use crate::row::RowView;
use crate::schema::{Partitioner, TableDef};
use crate::token::{Token, token_of};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};

/// Partitions by token and key.
type Partitions = BTreeMap<(Token, Box<[u8]>), Partition>;

/// A table in memory.
#[derive(Clone, Debug)]
pub struct MemoryTable {
    partitioner: Partitioner,
    partitions: Partitions,
}

impl MemoryTable {
    /// An empty table.
    pub fn new(table: &TableDef) -> MemoryTable {
        MemoryTable { partitioner: table.partitioner, partitions: BTreeMap::new() }
    }

    /// Merges a mutation in.
    pub fn apply(&mut self, mutation: &MutationView) {
        let key = mutation.key();
        let place = (token_of(self.partitioner, key), key.into());
        self.partitions.entry(place).or_default().apply(mutation);
    }

    /// The partitions in order of token and key.
    pub fn partitions(&self) -> impl Iterator<Item = (&[u8], &Partition)> {
        self.partitions.iter().map(|((_, key), partition)| (&**key, partition))
    }

    /// Answers a read.
    pub fn read(&self, command: &ReadCommand) -> Page {
        let mut page = Page::default();
        let mut resume = command.resume.as_ref();
        for ((_, key), partition) in self.partitions.range(self.scope(command)) {
            let resumed = resume.take().filter(|at| *at.key == **key);
            if resumed.is_some_and(|at| at.clustering.is_none()) {
                continue;
            }
            if is_full(&page, command) {
                page.resume = page.resume.take().or_else(|| command.resume.clone());
                return page;
            }
            let read = PartitionRead { command, key, partition };
            page.resume = Some(read.append_to(&mut page, resumed));
            if page.resume.as_ref().is_some_and(|at| at.clustering.is_some()) {
                return page;
            }
        }
        page.resume = None;
        page
    }

    /// The places of the partitions that are still to be read.
    fn scope(&self, command: &ReadCommand) -> RangeInclusive<(Token, Box<[u8]>)> {
        let place = |key: &[u8]| (token_of(self.partitioner, key), Box::from(key));
        match &command.scope {
            ReadScope::Partition(key) => place(key)..=place(key),
            ReadScope::TokenRange { first, last } => {
                let first = command
                    .resume
                    .as_ref()
                    .map_or((Token(*first), Box::default()), |resume| place(&resume.key));
                // Keys are shorter than this one, or below it.
                let last = (Token(*last), vec![0xff; crate::key::KEY_BYTES_MAX + 1].into());
                // A resume point behind the range leaves nothing of it.
                if first <= last { first..=last } else { last.clone()..=last }
            }
        }
    }
}

fn is_full(page: &Page, command: &ReadCommand) -> bool {
    page.row_count >= command.row_limit || page.len_bytes() > command.page_bytes
}

/// One partition of a read.
struct PartitionRead<'a> {
    command: &'a ReadCommand,
    key: &'a [u8],
    partition: &'a Partition,
}

impl<'a> PartitionRead<'a> {
    /// Appends the partition's rows behind `resumed` as far as they fit; where that ended.
    fn append_to(&self, page: &mut Page, resumed: Option<&ResumePoint>) -> ResumePoint {
        let command = self.command;
        let mut partition_rows = resumed.map_or(0, |at| at.partition_rows);
        let static_row = self.static_row();
        let mut chosen: Vec<(&[u8], Cow<[u8]>)> = Vec::new();
        let mut bytes = page.len_bytes();
        let mut is_finished = true;
        for (clustering, row) in self.rows_behind(resumed) {
            if partition_rows >= command.partition_row_limit {
                break;
            }
            let row_count = page.row_count + chosen.len() as u32;
            if row_count >= command.row_limit || bytes > command.page_bytes {
                is_finished = false;
                break;
            }
            bytes += clustering.len() + row.len();
            partition_rows += 1;
            chosen.push((clustering, row));
        }
        let clustering = match chosen.last() {
            _ if is_finished => None,
            Some((clustering, _)) => Some((*clustering).into()),
            None => resumed.and_then(|at| at.clustering.clone()),
        };
        let is_static_alone = partition_rows == 0 && static_row.is_some();
        if is_static_alone || !chosen.is_empty() {
            page.row_count += chosen.len().max(1) as u32;
            page.partition(command.table, self.key, |writer: &mut MutationWriter| {
                if let Some(row) = &static_row {
                    writer.encoded_static_row(RowView::new(row));
                }
                for (clustering, row) in &chosen {
                    writer.encoded_row(clustering, RowView::new(row));
                }
            });
        }
        ResumePoint { key: self.key.into(), clustering, partition_rows }
    }

    fn static_row(&self) -> Option<Cow<'a, [u8]>> {
        self.partition.effective_static_row().filter(|row| {
            self.command.include_static && RowView::new(row).is_live(self.command.now)
        })
    }

    /// The live rows in the slices behind the resume point, in the order of the read.
    fn rows_behind(
        &self,
        resumed: Option<&'a ResumePoint>,
    ) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> {
        let (command, partition) = (self.command, self.partition);
        let last = resumed.and_then(|at| at.clustering.as_deref());
        let is_behind = move |clustering: &[u8]| match last {
            None => true,
            Some(last) if command.reversed => clustering < last,
            Some(last) => clustering > last,
        };
        in_order(command.slices.iter(), command.reversed)
            .flat_map(move |slice| in_order(keys_in(partition, slice), command.reversed))
            .filter(move |clustering| is_behind(clustering))
            .filter_map(move |clustering| Some((clustering, partition.effective_row(clustering)?)))
            .filter(move |(_, row)| RowView::new(row).is_live(command.now))
    }
}

fn keys_in<'a>(
    partition: &'a Partition,
    slice: &'a Slice,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let bounds = (Bound::Included(&*slice.start), Bound::Excluded(&*slice.end));
    let range = (slice.start < slice.end).then(|| partition.rows.range::<[u8], _>(bounds));
    range.into_iter().flatten().map(|(clustering, _)| &**clustering)
}

fn in_order<'a, T: 'a>(
    items: impl DoubleEndedIterator<Item = T> + 'a,
    reversed: bool,
) -> Box<dyn Iterator<Item = T> + 'a> {
    if reversed { Box::new(items.rev()) } else { Box::new(items) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutation::MutationItem;
    use crate::row::{Cell, CellContent, Marker, RowHead};
    use crate::schema::TableOptions;
    use crate::{TableId, TimestampMicros};

    const TABLE: TableId = TableId(1);
    const ALIVE: RowHead =
        RowHead { marker: Some(Marker { timestamp: 1, expiry: None }), tombstone: None };

    /// Partitions `a` and `b` with rows 1 to 3, `s` with a static row alone.
    fn table() -> MemoryTable {
        let definition = TableDef {
            id: TABLE,
            keyspace: "ks".into(),
            name: "t".into(),
            columns: Vec::new(),
            dropped_columns: Vec::new(),
            next_column_id: 0,
            version: 1,
            partitioner: Partitioner::Murmur3,
            cdc_base: None,
            cdc_log: None,
            options: TableOptions::default(),
        };
        let mut table = MemoryTable::new(&definition);
        for key in [b"a", b"b", b"s"] {
            let mut bytes = Vec::new();
            let mut writer = MutationWriter::new(&mut bytes, TABLE, 1, key);
            if key == b"s" {
                writer.static_row(1, RowHead { marker: None, tombstone: None }, static_cell);
            } else {
                for clustering in [b"1", b"2", b"3"] {
                    writer.row(clustering, 1, ALIVE, |_| ());
                }
            }
            table.apply(&MutationView::check(&bytes).unwrap());
        }
        table
    }

    fn static_cell(row: &mut crate::row::RowWriter) {
        let timestamp: TimestampMicros = 1;
        let content = CellContent::Live { value: b"v", expiry: None };
        row.cell(&Cell { column: 0, path: None, timestamp, content });
    }

    fn whole() -> ReadCommand {
        ReadCommand {
            table: TABLE,
            scope: ReadScope::TokenRange { first: i64::MIN, last: i64::MAX },
            slices: [Slice::all()].into(),
            reversed: false,
            include_static: true,
            now: 0,
            row_limit: u32::MAX,
            partition_row_limit: u32::MAX,
            page_bytes: usize::MAX,
            resume: None,
        }
    }

    /// Rows as `key clustering`, of all pages.
    fn read_all(table: &MemoryTable, mut command: ReadCommand) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            let page = table.read(&command);
            assert!(page.row_count <= command.row_limit);
            for partition in page.partitions() {
                let partition = partition.unwrap();
                let key = String::from_utf8_lossy(partition.key()).into_owned();
                for item in partition.items() {
                    match item {
                        MutationItem::Row { clustering, .. } => {
                            out.push(format!("{key} {}", String::from_utf8_lossy(clustering)));
                        }
                        _ => out.push(format!("{key} static")),
                    }
                }
            }
            match page.resume {
                Some(resume) => command.resume = Some(resume),
                None => return out,
            }
        }
    }

    #[test]
    fn pages_of_any_size_add_up_to_the_whole() {
        let table = table();
        let all = read_all(&table, whole());
        assert_eq!(all.len(), 7);
        for reversed in [false, true] {
            let unpaged = read_all(&table, ReadCommand { reversed, ..whole() });
            for row_limit in 1..8 {
                let command = ReadCommand { reversed, row_limit, ..whole() };
                assert_eq!(read_all(&table, command), unpaged, "pages of {row_limit}");
            }
            let command = ReadCommand { reversed, page_bytes: 0, ..whole() };
            assert_eq!(read_all(&table, command), unpaged);
        }
    }

    #[test]
    fn slices_order_and_limits_choose_rows() {
        let table = table();
        let slice = |start: &[u8], end: &[u8]| Slice { start: start.into(), end: end.into() };
        let command = ReadCommand {
            scope: ReadScope::Partition(b"a".as_slice().into()),
            slices: [slice(b"1", b"2"), slice(b"3", b"\xff")].into(),
            ..whole()
        };
        assert_eq!(read_all(&table, command.clone()), ["a 1", "a 3"]);
        let backwards = ReadCommand { reversed: true, row_limit: 1, ..command.clone() };
        assert_eq!(read_all(&table, backwards), ["a 3", "a 1"]);
        let limited = ReadCommand { partition_row_limit: 1, row_limit: 1, ..command };
        assert_eq!(read_all(&table, limited), ["a 1"]);
        let limited = ReadCommand { partition_row_limit: 2, row_limit: 1, ..whole() };
        assert_eq!(read_all(&table, limited).len(), 5);
        let without = ReadCommand { include_static: false, ..whole() };
        assert_eq!(read_all(&table, without).len(), 6);
    }
}
