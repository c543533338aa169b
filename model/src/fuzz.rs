//! The fuzz entry for the bytes of the replicated log: entries, mutations and rows.
//!
//! Hostile bytes give an error or something on which all functions agree, and never a panic. Its
//! corpus is in `corpus/entries/`; a unit test runs it with mutations.

use crate::entry::Entry;
use crate::mutation::{MutationItem, MutationView, MutationWriter, stamp};
use crate::partition::Partition;
use crate::row::{Cell, CellContent, Marker, RowView};
use crate::{EpochSeconds, TimestampMicros};

const TIMESTAMP: TimestampMicros = 1_800_000_000_000_000;
const NOW: EpochSeconds = 1_800_000_000;

/// Reads `data` as the payload of an entry, and as one mutation.
///
/// Panics when the functions of this crate contradict each other.
pub fn fuzz_entry(data: &[u8]) {
    if let Ok(Entry::Write { mutations, .. }) = Entry::check(data) {
        for mutation in mutations {
            check_mutation(&mutation.expect("a checked entry has nothing but mutations"));
        }
    }
    if let Ok(Entry::Write { mutations, .. }) = Entry::decode(data) {
        let checked: Vec<MutationView> =
            mutations.filter_map(|view| MutationView::check(view.ok()?.as_bytes()).ok()).collect();
        for mutation in &checked {
            check_mutation(mutation);
        }
        check_order_of(&checked);
    }
    if let Ok(mutation) = MutationView::check(data) {
        check_mutation(&mutation);
    }
    // Bytes that nobody checked have to be survived here too.
    drop(stamp(&mut data.to_vec(), TIMESTAMP));
}

/// What must hold for a well-formed mutation.
fn check_mutation(mutation: &MutationView) {
    assert_eq!(mutation.is_empty(), mutation.items().next().is_none());
    mutation.items().for_each(check_item);

    let mut stamped = mutation.as_bytes().to_vec();
    stamp(&mut stamped, TIMESTAMP).expect("a well-formed mutation can be stamped");
    let stamped = MutationView::check(&stamped).expect("and stays well-formed");
    assert_eq!(stamped.items().count(), mutation.items().count());

    let merged = merged(&[*mutation]);
    let mut bytes = Vec::new();
    let mut writer = MutationWriter::new(
        &mut bytes,
        mutation.table(),
        mutation.schema_version(),
        mutation.key(),
    );
    merged.write(&mut writer);
    let written = MutationView::check(&bytes).expect("what is merged is well-formed");
    assert_eq!(merged, self::merged(&[written]), "and reads back");
}

fn check_item(item: MutationItem) {
    let (MutationItem::StaticRow(row) | MutationItem::Row { row, .. }) = item else { return };
    let (head, cells) = row.parts();
    assert_eq!((head.marker, head.tombstone), (row.marker(), row.tombstone()));
    let mut newest = head.marker.map(|m| m.timestamp).max(head.tombstone.map(|t| t.timestamp));
    for cell in cells.clone() {
        newest = newest.max(Some(cell.timestamp));
        assert!(
            row.column(cell.column).any(|other| other == cell),
            "a cell is found by its column"
        );
    }
    assert!(row.newest_timestamp() >= newest);
    if let Some(plain) = row.plain() {
        let marker =
            plain.has_marker.then_some(Marker { timestamp: plain.timestamp, expiry: None });
        assert_eq!((head.marker, head.tombstone), (marker, None));
        let live = |(column, value)| {
            let content = CellContent::Live { value, expiry: None };
            Cell { column, path: None, timestamp: plain.timestamp, content }
        };
        assert!(cells.clone().eq(plain.cells.map(live)), "a plain row is read in another way");
    }
    let is_live = cells.clone().any(|cell| cell.live_value(NOW).is_some())
        || head.marker.is_some_and(|marker| marker.is_live(NOW));
    assert_eq!(row.is_live(NOW), is_live);
    let is_empty = head.marker.is_none() && head.tombstone.is_none() && cells.count() == 0;
    assert_eq!(row.is_empty(), is_empty);
}

/// Any order and any repetition of the same mutations gives the same content.
fn check_order_of(mutations: &[MutationView]) {
    let (forwards, mut turned) = (merged(mutations), mutations.to_vec());
    turned.reverse();
    let mut backwards = merged(&turned);
    assert_eq!(forwards, backwards, "the order of merging shows");
    backwards.merge(&forwards);
    assert_eq!(forwards, backwards, "merging again changes something");
}

/// The content that mutations add up to. Each goes in twice, since a row that does not come from a
/// planner may hold what its own tombstone hides, up to the first merge.
fn merged(mutations: &[MutationView]) -> Partition {
    let mut partition = Partition::default();
    for mutation in mutations.iter().chain(mutations) {
        partition.apply(mutation);
    }
    for (clustering, row) in &partition.rows {
        let effective = partition.effective_row(clustering).expect("it is there");
        RowView::check(&effective).expect("a shadowed row is well-formed");
        RowView::check(row).expect("a merged row is well-formed");
    }
    partition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;
    use crate::entry::{Placement, WriteEntryWriter, write_truncate};
    use crate::row::{Deletion, Expiry, RowHead};
    use crate::value::testing::{Random, mutate};
    use std::collections::BTreeMap;

    const MUTATIONS_PER_FILE: u64 = 2_000;

    fn live(value: &[u8], expiry: Option<Expiry>) -> CellContent<'_> {
        CellContent::Live { value, expiry }
    }

    /// A mutation with a part of every kind.
    fn write_mutation(out: &mut Vec<u8>, at: TimestampMicros) {
        let mut writer = MutationWriter::new(out, TableId(7), 3, b"key");
        let deletion = Deletion { timestamp: at, deleted_at: NOW };
        let expiry = Some(Expiry { ttl_seconds: 60, expires_at: NOW + 60 });
        let marker = Some(Marker { timestamp: at + 1, expiry });
        writer.partition_tombstone(deletion);
        writer.static_row(at, RowHead { marker: None, tombstone: None }, |row| {
            let (column, timestamp) = (9, at + 1);
            row.cell(&Cell { column, path: None, timestamp, content: live(b"st", None) });
        });
        writer.range_tombstone(b"a", b"c", deletion);
        writer.range_tombstone(b"d", b"f", Deletion { timestamp: at - 5, deleted_at: NOW });
        writer.row(b"b", at, RowHead { marker, tombstone: Some(deletion) }, |row| {
            for (column, path, timestamp, content) in [
                (1, None, at + 1, live(b"value", expiry)),
                (2, None, at, CellContent::CollectionTombstone { deleted_at: NOW }),
                (2, Some(&b"1"[..]), at + 1, live(b"", None)),
                (2, Some(b"2"), at + 2, CellContent::Tombstone { deleted_at: NOW }),
            ] {
                row.cell(&Cell { column, path, timestamp, content });
            }
        });
    }

    /// A mutation of two plain rows.
    fn write_plain_mutation(out: &mut Vec<u8>, at: TimestampMicros) {
        let mut writer = MutationWriter::new(out, TableId(7), 3, b"key");
        let marker = Marker { timestamp: at, expiry: None };
        for (clustering, marker) in [(&b"a"[..], Some(marker)), (b"b", None)] {
            writer.row(clustering, at, RowHead { marker, tombstone: None }, |row| {
                for (column, value) in [(1, &b"value"[..]), (2, b""), (300, &[7; 200])] {
                    row.cell(&Cell {
                        column,
                        path: None,
                        timestamp: at,
                        content: live(value, None),
                    });
                }
            });
        }
    }

    /// What the files of the corpus hold.
    fn seeds() -> BTreeMap<String, Vec<u8>> {
        let mut mutation = Vec::new();
        write_mutation(&mut mutation, 1_000);
        let mut plain = Vec::new();
        write_plain_mutation(&mut plain, 1_000);
        let placement = Placement { closed: 1, placed: 2, far: 3, ..Placement::START };
        let mut entry = Vec::new();
        let mut writer = WriteEntryWriter::new(&mut entry);
        for at in [1_000, 990, 1_010] {
            writer.mutation(|out| write_mutation(out, at));
            writer.mutation(|out| write_plain_mutation(out, at));
        }
        writer.finish(&placement, 77);
        let mut truncate = Vec::new();
        write_truncate(&mut truncate, &placement, 5, TableId(1));
        [("mutation", mutation), ("plain", plain), ("write", entry), ("truncate", truncate)]
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .into()
    }

    /// The files of the corpus; the seeds stand there as they are built.
    fn corpus() -> BTreeMap<String, Vec<u8>> {
        crate::golden::check_corpus("corpus/entries", &seeds())
    }

    #[test]
    fn seeds_stand_in_the_corpus_as_they_are_built() {
        assert!(MutationView::check(&corpus()["mutation"]).unwrap().items().count() == 5);
    }

    #[test]
    fn the_corpus_and_mutations_of_it_never_panic() {
        for (_, data) in corpus() {
            fuzz_entry(&data);
            for seed in 0..MUTATIONS_PER_FILE {
                fuzz_entry(&mutate(&data, &mut Random::new(seed)));
            }
        }
    }
}
