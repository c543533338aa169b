//! What has ended is kept, and can be read, for whoever has yet to read it.

use super::*;
use env::disk::Disk;

/// A row that was written at a timestamp and expires at a time.
fn write(engine: &mut Engine, index: u64, timestamp: i64, expires_at: EpochSeconds) {
    let mut bytes = Vec::new();
    let mut writer = MutationWriter::new(&mut bytes, TABLE, 1, &index.to_be_bytes());
    let expiry = Some(Expiry { ttl_seconds: 10, expires_at });
    let head = RowHead { marker: Some(Marker { timestamp, expiry }), tombstone: None };
    writer.row(b"c", timestamp, head, |_| {});
    engine.apply(1, index, &MutationView::check(&bytes).unwrap());
}

fn rows_at(engine: &mut Engine, now: EpochSeconds) -> usize {
    let command = ReadCommand { now, ..whole_table() };
    let mut progress = ReadProgress::default();
    let page = retry(engine, |e| e.read(&command, &mut progress)).unwrap();
    page.partitions().count()
}

#[test]
fn what_ended_is_kept_since_a_time_and_counted() {
    let (disk, _control) = Disk::simulated(1);
    let mut engine = new_engine(&disk, TableOptions { gc_grace_seconds: 0, ..Default::default() });
    for (index, expires_at) in [(1, 300), (2, 500)] {
        write(&mut engine, index, expires_at * 10, expires_at);
        run_jobs(&mut engine, FlushReason::Everything);
    }
    engine.keep_ended_since(TABLE, 400);
    run_compactions(&mut engine, NOW);
    major_compaction(&mut engine, NOW);
    assert_eq!((rows_at(&mut engine, NOW), rows_at(&mut engine, 400)), (0, 1));
    let bytes = engine.ended_bytes(TABLE, NOW, 4_000);
    assert!(bytes > 0);
    assert_eq!(engine.ended_bytes(TABLE, NOW, 5_000), 0, "all of it was read");
    assert_eq!(engine.ended_bytes(TABLE, 499, 4_000), 0, "it has not ended");
    engine.keep_ended_since(TABLE, i64::MIN);
    major_compaction(&mut engine, NOW);
    assert_eq!(rows_at(&mut engine, 400), 1);
    engine.keep_ended_since(TABLE, i64::MAX);
    run_compactions(&mut engine, NOW);
    assert_eq!((rows_at(&mut engine, 400), live_files(&engine).len()), (0, 0));
}
