//! Measures snapshots on a real disk: reading a group's data as a stream, and writing it as table
//! files, against reading and writing as many bytes of table files as they stand.
//!
//! `cargo run --release -p storage --example snapshot_rate -- DIRECTORY`
//!
//! One table of rows of 300 bytes in four files that overlap, of which every row is in one; then the
//! same with half of the ring's tokens. The directory should be new.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::path::{Path, PathBuf};

use env::{Clock, Disk};
use model::mutation::{MutationView, MutationWriter};
use model::row::{Cell, CellContent, RowHead};
use model::schema::Partitioner;
use model::{TableDef, TableId, TableOptions};
use storage::{Engine, EngineOptions, FlushReason, SnapshotBase, SnapshotPart, TokenInterval};

const TABLE: TableId = TableId(7);
const GROUP: u64 = 1;
const ROWS: u64 = 800_000;
const FILES: u64 = 4;
const VALUE_BYTES: usize = 280;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("the directory is missing")?);
    let (disk, clock) = (Disk::real(), Clock::real());
    let mut sender = open(&disk, &directory.join("sender"))?;
    fill(&disk, &mut sender)?;
    for (name, tokens) in [
        ("all tokens", TokenInterval::ALL),
        ("half of the tokens", TokenInterval { first: 0, last: i64::MAX }),
    ] {
        let mut receiver = open(&disk, &directory.join(name.replace(' ', "-")))?;
        let parts = [SnapshotPart { table: TABLE, tokens }];
        let base = SnapshotBase { index: ROWS, term: 1, ..SnapshotBase::default() };
        let mut export = sender.export(GROUP, base, &parts);
        let mut chunks = Vec::new();
        let start = clock.monotonic_nanos();
        while let Some(chunk) = export.next_chunk()? {
            chunks.push(chunk);
        }
        let read = clock.monotonic_nanos();
        let mut import = receiver.import(GROUP, &parts);
        chunks.iter().try_for_each(|chunk| import.feed(chunk))?;
        let imported = import.finish()?;
        let written = clock.monotonic_nanos();
        let (_, row_count) = imported.counts();
        let stream_bytes: usize = chunks.iter().map(Vec::len).sum();
        let row_bytes = row_count * (VALUE_BYTES as u64 + 20);
        println!(
            "{name}: {row_count} rows, {} MB as a stream, {} MB of files",
            stream_bytes / 1_000_000,
            imported.file_bytes() / 1_000_000
        );
        let rate = |nanos: u64| row_bytes as f64 * 1e3 / nanos as f64;
        println!("  out {:.0} MB/s of rows, in {:.0}", rate(read - start), rate(written - read));
        receiver.install(imported)?;
    }
    copy_files(&disk, &clock, &directory)
}

fn open(disk: &Disk, directory: &Path) -> Result<Engine, Box<dyn std::error::Error>> {
    let mut engine = Engine::open(disk.clone(), directory, EngineOptions::default())?;
    engine.configure_table(&TableDef {
        id: TABLE,
        keyspace: "ks".into(),
        name: "t".into(),
        columns: Vec::new(),
        dropped_columns: Vec::new(),
        next_column_id: 2,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    });
    Ok(engine)
}

fn fill(disk: &Disk, engine: &mut Engine) -> Result<(), Box<dyn std::error::Error>> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    for index in 1..=ROWS {
        let mut value = [0; VALUE_BYTES];
        // Half of it does not compress.
        for byte in &mut value[..VALUE_BYTES / 2] {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        bytes.clear();
        let head = RowHead { marker: None, tombstone: None };
        let content = CellContent::Live { value: &value, expiry: None };
        MutationWriter::new(&mut bytes, TABLE, 1, &index.to_be_bytes()).row(b"", 1, head, |row| {
            row.cell(&Cell { column: 1, path: None, timestamp: 1, content });
        });
        engine.apply(GROUP, index, &MutationView::new(&bytes)?);
        if index.is_multiple_of(ROWS / FILES) {
            let reason = FlushReason::Everything;
            while let Some(job) = engine.flush_job(reason).or_else(|| engine.manifest_job()) {
                engine.finish(job.run(disk))?;
            }
        }
    }
    Ok(())
}

/// What a copy of the files would cost at least: their bytes read, checked, written and synced.
fn copy_files(
    disk: &Disk,
    clock: &Clock,
    directory: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let from = directory.join("sender");
    let start = clock.monotonic_nanos();
    let mut byte_count = 0;
    for name in disk.list(&from)?.iter().filter(|name| name.strip_suffix(".sst").is_some()) {
        let bytes = disk.read(&from.join(name), 1 << 30)?;
        byte_count += bytes.len();
        disk.write_atomic(&directory.join(name), &bytes)?;
    }
    let nanos = clock.monotonic_nanos() - start;
    let rate = byte_count as f64 * 1e3 / nanos as f64;
    println!("files as they stand: {} MB at {rate:.0} MB/s", byte_count / 1_000_000);
    Ok(())
}
