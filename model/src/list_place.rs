//! Where elements stand that a leader puts into a list.
//!
//! An element's place is a time uuid (`model::path`), made by whoever plans the statement: elements
//! that several coordinators append stand in the order of those nodes' clocks, whichever was appended
//! first. That is what plain writes promise, and no more. Conditional writes have one order, that of
//! the log, and a list that was read may not get an element in its middle from an append that comes
//! later. So the leader, which alone knows that order, gives the elements of a conditional write places
//! at the write's own timestamp, which is above everything that the partition holds.

use crate::mutation::{MutationItem, MutationView, MutationWriter};
use crate::path::{decode_path, encode_path};
use crate::row::{Cell, CellContent, RowView};
use crate::timeuuid::{TimeUuidBytes, reversed_timeuuid, timeuuid_from_micros};
use crate::{ColumnId, CqlType, TableDef, TimestampMicros};

/// Places below are those of prepended elements, which run backwards from 2010
/// ([`reversed_timeuuid`]): 2010-01-01 in microseconds since the Unix epoch.
const FORWARD_FROM_MICROS: i64 = 1_262_304_000_000_000;

/// The mutation with all elements that it puts into lists at `timestamp`, in the order in which they
/// stand in it: what it prepends before, what it appends after the elements of earlier timestamps.
/// `None` if it puts nothing into a list. All rows have that timestamp as their base.
pub fn place_elements(
    mutation: &MutationView,
    table: &TableDef,
    timestamp: TimestampMicros,
) -> Option<Vec<u8>> {
    let is_list = |cell: &Cell| {
        matches!(cell.content, CellContent::Live { .. })
            && cell.path.is_some()
            && list_type(table, cell.column).is_some()
    };
    let has_lists = |item| row_of(&item).is_some_and(|row| row.cells().any(|cell| is_list(&cell)));
    if !mutation.items().any(has_lists) {
        return None;
    }
    let mut bytes = Vec::with_capacity(mutation.as_bytes().len());
    let mut writer = MutationWriter::new(
        &mut bytes,
        mutation.table(),
        mutation.schema_version(),
        mutation.key(),
    );
    for item in mutation.items() {
        match item {
            MutationItem::PartitionTombstone(deletion) => writer.partition_tombstone(deletion),
            MutationItem::RangeTombstone { start, end, deletion } => {
                writer.range_tombstone(start, end, deletion);
            }
            MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => {
                let (head, cells) = row.parts();
                let placed = placed_paths(row, table, timestamp);
                let mut paths = placed.iter();
                let write = |out: &mut crate::row::RowWriter| {
                    for cell in cells {
                        let path = if is_list(&cell) { paths.next() } else { None };
                        out.cell(&Cell { path: path.map(Vec::as_slice).or(cell.path), ..cell });
                    }
                };
                match item {
                    MutationItem::Row { clustering, .. } => {
                        writer.row(clustering, timestamp, head, write);
                    }
                    _ => writer.static_row(timestamp, head, write),
                }
            }
        }
    }
    Some(bytes)
}

fn row_of<'a>(item: &MutationItem<'a>) -> Option<RowView<'a>> {
    match item {
        MutationItem::StaticRow(row) | MutationItem::Row { row, .. } => Some(*row),
        MutationItem::PartitionTombstone(_) | MutationItem::RangeTombstone { .. } => None,
    }
}

/// The type of a column whose elements have places.
fn list_type(table: &TableDef, column: ColumnId) -> Option<&CqlType> {
    let column = table.columns.iter().find(|of_table| of_table.id == column)?;
    matches!(column.cql_type, CqlType::List { frozen: false, .. }).then_some(&column.cql_type)
}

/// The new paths of a row's list elements, in the order of the old ones.
fn placed_paths(row: RowView, table: &TableDef, timestamp: TimestampMicros) -> Vec<Vec<u8>> {
    let elements: Vec<(&CqlType, &[u8])> = row
        .cells()
        .filter(|cell| matches!(cell.content, CellContent::Live { .. }))
        .filter_map(|cell| Some((list_type(table, cell.column)?, cell.path?)))
        .collect();
    let count = elements.len() as u64;
    (0..count)
        .zip(elements)
        .map(|(number, (cql_type, path))| {
            let mut place = Vec::with_capacity(size_of::<TimeUuidBytes>());
            let is_known = decode_path(cql_type, path, &mut place).is_ok();
            let is_forward = !is_known || is_forward(&place);
            // Of those that run backwards the first has the greatest number.
            let place = if is_forward {
                place_at(timestamp, number)
            } else {
                reversed_timeuuid(&place_at(timestamp, count - number))
            };
            let mut path = Vec::with_capacity(size_of::<TimeUuidBytes>() + 1);
            encode_path(cql_type, &place, &mut path).expect("a time uuid is a place in a list");
            path
        })
        .collect()
}

fn is_forward(place: &[u8]) -> bool {
    let place = TimeUuidBytes::try_from(place);
    place.map_or(true, |place| crate::timeuuid::timeuuid_micros(&place) >= FORWARD_FROM_MICROS)
}

/// A place at a timestamp: the higher its number, the later. Bytes of time uuids compare as signed
/// ones, so seven bits of each are used, and the first has the variant.
fn place_at(timestamp: TimestampMicros, number: u64) -> TimeUuidBytes {
    let groups = (0..7).map(|group| (number >> (7 * group) & 0x7f) << (8 * group));
    timeuuid_from_micros(timestamp, 0x80 << 56 | groups.sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowHead;
    use crate::schema::{ColumnDef, ColumnKind, Partitioner, TableOptions};
    use crate::timeuuid::{ietf_low_bits, timeuuid_micros};
    use crate::{TableId, partition::Partition};
    use std::sync::Arc;

    const LIST: ColumnId = 3;
    const NOW: i64 = 1_800_000_000_000_000;

    fn table() -> TableDef {
        let element = Arc::new(CqlType::Int);
        let column = |id, name: &str, kind, cql_type| ColumnDef {
            id,
            name: name.into(),
            cql_type,
            kind,
            descending: false,
        };
        TableDef {
            id: TableId(1),
            keyspace: "ks".into(),
            name: "t".into(),
            columns: vec![
                column(1, "k", ColumnKind::PartitionKey(0), CqlType::Int),
                column(LIST, "l", ColumnKind::Regular, CqlType::List { element, frozen: false }),
                column(4, "v", ColumnKind::Regular, CqlType::Int),
            ],
            dropped_columns: Vec::new(),
            next_column_id: 5,
            version: 1,
            partitioner: Partitioner::Murmur3,
            cdc_base: None,
            cdc_log: None,
            options: TableOptions::default(),
        }
    }

    /// A row whose list gets these elements at these places, and a value beside it.
    fn mutation(elements: &[(TimeUuidBytes, &[u8])], timestamp: i64) -> Vec<u8> {
        let table = table();
        let mut paths: Vec<(Vec<u8>, &[u8])> = Vec::new();
        for (place, value) in elements {
            let mut path = Vec::new();
            encode_path(&table.columns[1].cql_type, place, &mut path).unwrap();
            paths.push((path, value));
        }
        paths.sort();
        let mut bytes = Vec::new();
        let mut writer = MutationWriter::new(&mut bytes, TableId(1), 1, b"key");
        writer.row(b"c", timestamp, RowHead { marker: None, tombstone: None }, |row| {
            for (path, value) in &paths {
                let content = CellContent::Live { value, expiry: None };
                row.cell(&Cell { column: LIST, path: Some(path), timestamp, content });
            }
            let content = CellContent::Live { value: b"v", expiry: None };
            row.cell(&Cell { column: 4, path: None, timestamp, content });
        });
        bytes
    }

    fn uuid(micros: i64) -> TimeUuidBytes {
        timeuuid_from_micros(micros, ietf_low_bits(0x5555_aaaa_5555_aaaa))
    }

    /// The list after mutations, in order.
    fn list(mutations: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut partition = Partition::default();
        for bytes in mutations {
            partition.apply(&MutationView::check(bytes).unwrap());
        }
        let row = partition.effective_row(b"c").unwrap();
        let cells = RowView::new(&row);
        let values = cells.column(LIST).filter_map(|cell| cell.live_value(0).map(<[u8]>::to_vec));
        values.collect()
    }

    fn placed(elements: &[(TimeUuidBytes, &[u8])], timestamp: i64) -> Vec<u8> {
        let bytes = mutation(elements, timestamp);
        place_elements(&MutationView::new(&bytes).unwrap(), &table(), timestamp).unwrap()
    }

    #[test]
    fn elements_stand_in_the_order_of_the_writes_whatever_the_clocks_of_their_planners() {
        // Planned by one node, and later, by a clock that is behind, by another.
        let first = placed(&[(uuid(NOW + 500), b"1"), (uuid(NOW + 501), b"2")], NOW);
        let second = placed(&[(uuid(NOW - 900), b"3"), (uuid(NOW - 800), b"4")], NOW + 1);
        let all: [&[u8]; 4] = [b"1", b"2", b"3", b"4"];
        assert_eq!(list(&[first.clone(), second.clone()]), all);
        let prepended = |micros| reversed_timeuuid(&uuid(micros));
        let third = placed(&[(prepended(NOW), b"b"), (prepended(NOW + 1), b"a")], NOW + 2);
        let fourth = placed(&[(prepended(NOW - 700), b"x")], NOW + 3);
        let all: [&[u8]; 7] = [b"x", b"a", b"b", b"1", b"2", b"3", b"4"];
        assert_eq!(list(&[fourth, second, third, first]), all);
    }

    #[test]
    fn many_elements_of_one_write_keep_their_order() {
        let values: Vec<[u8; 2]> = (0..1_000_u16).map(u16::to_be_bytes).collect();
        let elements: Vec<(TimeUuidBytes, &[u8])> =
            (0..).zip(&values).map(|(number, value)| (uuid(NOW + number), &value[..])).collect();
        assert_eq!(list(&[placed(&elements, NOW)]), values);
        assert_eq!(timeuuid_micros(&place_at(NOW, 999)), NOW);
    }

    #[test]
    fn what_puts_nothing_into_a_list_stays_as_it_is() {
        let bytes = mutation(&[], NOW);
        assert_eq!(place_elements(&MutationView::new(&bytes).unwrap(), &table(), NOW), None);
    }
}
