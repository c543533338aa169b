//! Table files as a whole: the bytes on the disk, and wide partitions.

use super::table::FOOTER_BYTES;
use super::*;
use crate::error::ReadError;
use env::disk::Disk;
use model::Token;
use model::mutation::MutationItem;
use model::partition::Partition;
use model::row::{Cell, CellContent, Deletion, Marker, RowHead, RowView, RowWriter};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn row(timestamp: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let marker = Some(Marker { timestamp, expiry: None });
    let mut writer = RowWriter::new(&mut out, timestamp, RowHead { marker, tombstone: None });
    let content = CellContent::Live { value, expiry: None };
    writer.cell(&Cell { column: 3, path: None, timestamp, content });
    out
}

fn write(disk: &Disk, is_compressed: bool, fill: impl FnOnce(&mut TableWriter)) -> Vec<u8> {
    let dir = Path::new("/t");
    disk.create_dir_all(dir).unwrap();
    let options = WriterOptions { is_compressed, block_bytes: 200, false_positive_chance: 0.01 };
    let mut writer = TableWriter::create(disk, dir, 7, options).unwrap();
    fill(&mut writer);
    let span = crate::memtable::IndexSpan { first: 3, last: 9 };
    writer.finish(disk, BTreeMap::from([(1, span)])).unwrap();
    disk.read(&table_path(dir, 7), 1 << 30).unwrap()
}

fn head() -> Partition {
    let mut head = Partition::default();
    let deletion = Deletion { timestamp: 5, deleted_at: 6 };
    head.apply_item(MutationItem::PartitionTombstone(deletion));
    head.apply_item(MutationItem::StaticRow(RowView::new(&row(10, b"static"))));
    head.apply_item(MutationItem::RangeTombstone { start: b"b", end: b"c", deletion });
    head
}

#[test]
fn the_bytes_on_disk_are_those_of_format_version_2() {
    let (disk, _control) = Disk::simulated(1);
    let bytes = write(&disk, false, |writer| {
        writer.partition(Token(-9), b"one", &Partition::default()).unwrap();
        for clustering in 0..20_u8 {
            writer.row(&[clustering], RowView::new(&row(20, b"value"))).unwrap();
        }
        writer.partition(Token(4), b"two", &head()).unwrap();
    });
    assert_eq!(&bytes[bytes.len() - 8..], b"TethysT1");
    // The checksum of all bytes does not see these, since their own checksum follows them.
    assert_eq!(bytes[bytes.len() - 16..bytes.len() - 12], 2_u32.to_le_bytes());
    let found = (bytes.len(), crc32fast::hash(&bytes));
    assert_eq!(found, (999, 962_273_698), "a changed format needs a new version");
}

/// Rows of version 1 lack a flag that is relied on now.
#[test]
fn a_file_of_version_1_is_refused() {
    let (disk, _control) = Disk::simulated(1);
    let mut bytes = write(&disk, false, |writer| {
        writer.partition(Token(-9), b"one", &Partition::default()).unwrap();
        writer.row(b"", RowView::new(&row(20, b"value"))).unwrap();
    });
    let footer = bytes.len() - FOOTER_BYTES;
    bytes[footer + 44..footer + 48].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[footer..footer + 48]);
    bytes[footer + 48..footer + 52].copy_from_slice(&crc.to_le_bytes());
    let dir = Path::new("/t");
    disk.write_atomic(&table_path(dir, 7), &bytes).unwrap();
    let error = SsTable::open(&disk, dir, 7).unwrap_err().to_string();
    assert!(error.contains("the format's version is unknown"), "{error}");
}

#[test]
fn a_wide_partition_is_read_at_any_row_in_both_directions() {
    for is_compressed in [false, true] {
        let (disk, _control) = Disk::simulated(1);
        let name = |i: u32| format!("{i:05}").into_bytes();
        write(&disk, is_compressed, |writer| {
            writer.partition(Token(1), b"before", &Partition::default()).unwrap();
            writer.row(b"", RowView::new(&row(1, b""))).unwrap();
            writer.partition(Token(2), b"wide", &head()).unwrap();
            for i in 0..2_000 {
                writer.row(&name(i * 2), RowView::new(&row(20, &i.to_le_bytes()))).unwrap();
            }
            writer.partition(Token(2), b"wide-too", &Partition::default()).unwrap();
            writer.row(b"", RowView::new(&row(1, b""))).unwrap();
        });
        let table = Arc::new(SsTable::open(&disk, Path::new("/t"), 7).unwrap());
        let mut blocks = BlockingBlocks::default();
        let mut found_head = Partition::default();
        let key: Arc<[u8]> = Arc::from(&b"wide"[..]);
        let mut rows =
            TableRows::open(&table, 2, &key, &mut found_head, &mut blocks).unwrap().unwrap();
        assert_eq!(found_head, head());
        for start in [0, 1, 2, 777, 1_998, 3_998] {
            rows.seek(&name(start), &mut blocks).unwrap();
            let mut expected = start.div_ceil(2);
            while let Some((clustering, _)) = rows.current().unwrap() {
                assert_eq!(clustering, name(expected * 2));
                expected += 1;
                rows.step(&mut blocks).unwrap();
            }
            assert_eq!(expected, 2_000);
            rows.seek_before(&name(start), &mut blocks).unwrap();
            let mut expected = start.div_ceil(2);
            while let Some((clustering, _)) = rows.current().unwrap() {
                expected -= 1;
                assert_eq!(clustering, name(expected * 2));
                rows.step_back(&mut blocks).unwrap();
            }
            assert_eq!(expected, 0);
        }
        for i in 0..4_001 {
            let mut found = None;
            let mut found_head = Partition::default();
            read_row(&table, 2, b"wide", &name(i), &mut found_head, &mut blocks, |row| {
                found = Some(row.to_vec());
                Ok(())
            })
            .unwrap();
            assert_eq!(found_head, head(), "the head is found from any row");
            let expected = (i % 2 == 0 && i < 4_000).then(|| row(20, &(i / 2).to_le_bytes()));
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_cold_block_is_a_miss_that_another_thread_can_load() {
    let (disk, control) = Disk::simulated(1);
    write(&disk, true, |writer| {
        writer.partition(Token(2), b"key", &Partition::default()).unwrap();
        writer.row(b"c", RowView::new(&row(1, b"v"))).unwrap();
    });
    let table = SsTable::open(&disk, Path::new("/t"), 7).unwrap();
    control.set_page_cache_cold(true);
    let mut cache = crate::cache::BlockCache::new(0);
    let mut misses = 0;
    loop {
        let mut blocks = CachedBlocks { cache: &mut cache };
        let mut found = false;
        let mut head = Partition::default();
        let read = read_row(&table, 2, b"key", b"c", &mut head, &mut blocks, |_| {
            found = true;
            Ok(())
        });
        match read {
            Err(ReadError::Miss(miss)) => {
                misses += 1;
                let LoadedBlock { file_id, block } = miss.load().unwrap();
                cache.insert(file_id, block);
            }
            other => {
                other.unwrap();
                assert!(found);
                break;
            }
        }
    }
    assert_eq!(misses, 2, "an index page and a data block");
}
