//! One bit of a file is wrong: every read gives the right answer or an error that names the file,
//! never a wrong answer and never a panic.

use super::*;
use crate::error::{ReadError, StorageError};

fn filled(seed: u64) -> (Disk, env::disk::SimDiskControl, Model) {
    let (disk, control) = Disk::simulated(seed);
    let mut engine = new_engine(&disk, TableOptions::default());
    shrink_blocks(&mut engine);
    let mut random = Random(seed);
    let mut model = Model::new();
    for index in 1..120 {
        let bytes = random_mutation(&mut random, 8);
        engine.apply(1, index, &MutationView::check(&bytes).unwrap());
        apply_to_model(&mut model, &bytes);
        if index % 40 == 0 {
            run_jobs(&mut engine, FlushReason::Everything);
        }
    }
    run_jobs(&mut engine, FlushReason::Everything);
    (disk, control, model)
}

fn names_a_file(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupt(corruption) => corruption.path.starts_with("/shard"),
        StorageError::Io { path, .. } => path.starts_with("/shard"),
        StorageError::RowTooLarge { .. } => false,
    }
}

/// Opens, reads everything and merges everything; whether damage was met.
fn meets_damage(disk: &Disk, model: &Model) -> bool {
    let options = EngineOptions::default();
    let mut engine = match Engine::open(disk.clone(), Path::new("/shard"), options) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(names_a_file(&error), "{error}");
            return true;
        }
    };
    engine.configure_table(&table_def(TABLE, TableOptions::default()));
    let mut is_met = false;
    for ((token, key), expected) in model {
        let slices = [Slice::all()];
        match retry(&mut engine, |e| e.load_partition(TABLE, *token, key, &slices)) {
            Ok(found) => assert_eq!(found.deletion, expected.deletion),
            Err(ReadError::Storage(error)) => {
                assert!(names_a_file(&error), "{error}");
                is_met = true;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let mut progress = ReadProgress::default();
    match retry(&mut engine, |e| e.read(&whole_table(), &mut progress)) {
        Ok(_) => check_read(&mut engine, model, whole_table()),
        Err(ReadError::Storage(error)) => {
            assert!(names_a_file(&error), "{error}");
            is_met = true;
        }
        Err(other) => panic!("{other}"),
    }
    let job = engine.major_compaction_job(TABLE, NOW).unwrap();
    if let Err(error) = engine.finish(job.run(disk)) {
        assert!(names_a_file(&error), "{error}");
        is_met = true;
    }
    is_met
}

#[test]
pub(super) fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let (disk, control, model) = filled(11);
    assert!(!meets_damage(&control.fork(1).0, &model), "the whole files are sound");
    let dir = Path::new("/shard");
    let mut random = Random(5);
    for name in disk.list(dir).unwrap() {
        let path = dir.join(&name);
        let bits = disk.read(&path, 1 << 30).unwrap().len() as u64 * 8;
        let mut met = 0;
        for _ in 0..60 {
            let (disk, control) = control.fork(1);
            control.flip_bit(&path, random.below(bits)).unwrap();
            met += u64::from(meets_damage(&disk, &model));
        }
        assert!(met > 50, "{met} of 60 flips in {name} were met: every byte is covered");
    }
}

#[test]
fn a_cut_file_and_one_in_anothers_place_are_errors() {
    let (disk, control, model) = filled(12);
    let dir = Path::new("/shard");
    let names = disk.list(dir).unwrap();
    for name in &names {
        let path = dir.join(name);
        let bytes = disk.read(&path, 1 << 30).unwrap();
        for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let (disk, _control) = control.fork(1);
            let file = disk.open(&path, env::disk::OpenMode::ReadWrite).unwrap();
            file.set_len(length as u64).unwrap();
            assert!(meets_damage(&disk, &model), "{name} cut to {length} bytes");
        }
    }
    let tables: Vec<_> = names.iter().filter(|n| n.strip_suffix(".sst").is_some()).collect();
    let (disk, _control) = control.fork(1);
    let bytes = disk.read(&dir.join(tables[0]), 1 << 30).unwrap();
    let file = disk.open(&dir.join(tables[1]), env::disk::OpenMode::Create).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    assert!(meets_damage(&disk, &model), "a file in another's place");
}
