//! The contract of [`crate::disk`], run on both sides, and what the simulated side adds.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::random::SplitMix64;

use super::{Disk, File, OpenMode, OperationKind, SimDiskControl, Survival};

/// Runs a test of the contract on the real side, in a folder of its own, and on the simulated.
fn on_both_sides(test: impl Fn(&Disk, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    test(&Disk::real(), folder.path());
    let (disk, _control) = simulated();
    test(&disk, Path::new("/data"));
}

fn simulated() -> (Disk, SimDiskControl) {
    let (disk, control) = Disk::simulated(7);
    disk.create_dir_all(Path::new("/data")).unwrap();
    (disk, control)
}

fn create(disk: &Disk, path: &Path, bytes: &[u8]) -> File {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn reads_give_what_was_written() {
    on_both_sides(|disk, folder| {
        let file = create(disk, &folder.join("f"), b"hello");
        file.write_all_at(b"y!", 4).unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut buffer = [0; 4];
        assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 2);
        assert_eq!(&buffer[..2], b"y!");
        assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 60).unwrap(), 0);
        assert_eq!(kind(file.read_exact_at(&mut buffer, 4)), ErrorKind::UnexpectedEof);
        file.read_exact_at(&mut buffer, 2).unwrap();
        assert_eq!(&buffer, b"lly!");
        assert_eq!(file.read_cached_at(&mut buffer, 0).unwrap(), 4);
        assert_eq!(&buffer, b"hell");
        assert_eq!(file.read_cached_at(&mut buffer, 6).unwrap(), 0);
        assert_eq!(disk.read(&folder.join("f"), 6).unwrap(), b"helly!");
        assert_eq!(kind(disk.read(&folder.join("f"), 5)), ErrorKind::InvalidData);
    });
}

#[test]
fn a_write_behind_the_end_leaves_zeros() {
    on_both_sides(|disk, folder| {
        let file = create(disk, &folder.join("f"), b"ab");
        file.write_all_at(b"z", 4).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(disk.read(&folder.join("f"), 100).unwrap(), b"ab\0\0z\0");
        file.set_len(1).unwrap();
        assert_eq!(disk.read(&folder.join("f"), 100).unwrap(), b"a");
        file.write_all_at(b"", 50).unwrap();
        assert_eq!(file.len().unwrap(), 1);
    });
}

#[test]
fn open_modes_create_empty_and_refuse_as_they_say() {
    on_both_sides(|disk, folder| {
        let path = folder.join("f");
        for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::DataSync] {
            assert_eq!(kind(disk.open(&path, mode)), ErrorKind::NotFound);
        }
        assert_eq!(kind(disk.open(&folder.join("no/f"), OpenMode::Create)), ErrorKind::NotFound);
        create(disk, &path, b"old");
        assert_eq!(kind(disk.open(&path, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
        assert_eq!(disk.open(&path, OpenMode::ReadWrite).unwrap().len().unwrap(), 3);
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_all_at(b"x", 0).is_err());
        assert!(reader.set_len(0).is_err());
        assert_eq!(disk.open(&path, OpenMode::Create).unwrap().len().unwrap(), 0);
        assert_eq!(reader.len().unwrap(), 0);
        assert_eq!(kind(disk.open(folder, OpenMode::Read)), ErrorKind::IsADirectory);
    });
}

#[test]
fn directories_list_their_names_in_order() {
    on_both_sides(|disk, folder| {
        let inner = folder.join("a/b");
        disk.create_dir_all(&inner).unwrap();
        disk.create_dir_all(&inner).unwrap();
        create(disk, &folder.join("z"), b"");
        create(disk, &folder.join("A"), b"");
        create(disk, &inner.join("deep"), b"");
        assert_eq!(disk.list(folder).unwrap(), ["A", "a", "z"]);
        assert_eq!(kind(disk.list(&folder.join("none"))), ErrorKind::NotFound);
        assert_eq!(kind(disk.list(&folder.join("z"))), ErrorKind::NotADirectory);
        assert_eq!(kind(disk.create_dir_all(&folder.join("z"))), ErrorKind::AlreadyExists);
        assert!(disk.exists(&inner).unwrap());
        assert!(disk.exists(&inner.join("deep")).unwrap());
        assert!(!disk.exists(&inner.join("deeper")).unwrap());
        assert!(disk.remove_dir(&folder.join("a")).is_err());
        disk.remove_dir(&inner).unwrap();
        assert_eq!(disk.list(&folder.join("a")).unwrap(), [""; 0]);
    });
}

#[test]
fn rename_replaces_and_remove_keeps_open_files() {
    on_both_sides(|disk, folder| {
        let (from, to) = (folder.join("from"), folder.join("to"));
        assert_eq!(kind(disk.rename(&from, &to)), ErrorKind::NotFound);
        assert_eq!(kind(disk.remove(&from)), ErrorKind::NotFound);
        create(disk, &from, b"new");
        let replaced = create(disk, &to, b"old");
        disk.rename(&from, &to).unwrap();
        assert_eq!(disk.list(folder).unwrap(), ["to"]);
        assert_eq!(disk.read(&to, 9).unwrap(), b"new");
        let mapping = disk.open(&to, OpenMode::Read).unwrap().map().unwrap();
        disk.remove(&to).unwrap();
        disk.sync_dir(folder).unwrap();
        let mut buffer = [0; 3];
        replaced.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"old");
        assert_eq!(&*mapping, b"new");
        assert_eq!(kind(disk.rename(folder, &to)), ErrorKind::Unsupported);
        assert_eq!(kind(disk.sync_dir(&folder.join("none"))), ErrorKind::NotFound);
    });
}

#[test]
fn preallocated_files_are_zeros_and_take_synchronous_writes() {
    on_both_sides(|disk, folder| {
        let path = folder.join("segment");
        let length = (3 << 20) + 5;
        create(disk, &path, b"head").preallocate(length).unwrap();
        let file = disk.open(&path, OpenMode::DataSync).unwrap();
        assert_eq!(file.len().unwrap(), length);
        file.write_all_at(b"tail", length - 4).unwrap();
        let bytes = disk.read(&path, length).unwrap();
        assert_eq!(&bytes[..6], b"head\0\0");
        assert!(bytes[4..bytes.len() - 4].iter().all(|byte| *byte == 0));
        assert_eq!(&bytes[bytes.len() - 4..], b"tail");
        file.preallocate(10).unwrap();
        assert_eq!(file.len().unwrap(), length);
    });
}

#[test]
fn reserved_room_reads_as_zeros_and_is_never_cut() {
    on_both_sides(|disk, folder| {
        let path = folder.join("segment");
        let file = create(disk, &path, b"head");
        file.reserve(9_000).unwrap();
        file.write_all_at(b"tail", 8_996).unwrap();
        file.sync_data().unwrap();
        let bytes = disk.read(&path, 9_000).unwrap();
        assert_eq!((&bytes[..4], &bytes[8_996..]), (&b"head"[..], &b"tail"[..]));
        assert!(bytes[4..8_996].iter().all(|byte| *byte == 0));
        file.reserve(10).unwrap();
        assert_eq!(file.len().unwrap(), 9_000);
    });
}

#[test]
fn an_empty_file_can_be_mapped() {
    on_both_sides(|disk, folder| {
        assert_eq!(&*create(disk, &folder.join("f"), b"").map().unwrap(), b"");
    });
}

#[test]
fn write_atomic_replaces_a_file_and_leaves_no_other() {
    on_both_sides(|disk, folder| {
        let path = folder.join("manifest");
        disk.write_atomic(&path, b"first, the longer one").unwrap();
        disk.write_atomic(&path, b"second").unwrap();
        assert_eq!(disk.read(&path, 99).unwrap(), b"second");
        assert_eq!(disk.list(folder).unwrap(), ["manifest"]);
    });
}

#[test]
fn a_directory_has_one_holder_at_a_time() {
    on_both_sides(|disk, folder| {
        let lock = disk.lock_directory(folder).unwrap();
        let error = disk.lock_directory(folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(lock);
        disk.lock_directory(folder).unwrap();
        assert_eq!(kind(disk.lock_directory(&folder.join("none"))), ErrorKind::NotFound);
    });
}

/// One random history on both sides: every call must have the same outcome.
#[test]
fn both_sides_agree_on_random_histories() {
    for seed in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let real = random_history(seed, &Disk::real(), folder.path());
        let (disk, _control) = simulated();
        let sim = random_history(seed, &disk, Path::new("/data"));
        for (step, (real, sim)) in real.iter().zip(&sim).enumerate() {
            assert_eq!(real, sim, "seed {seed}, step {step}");
        }
    }
}

/// Makes 300 random calls on five names, one of them a directory, and tells how each ended.
fn random_history(seed: u64, disk: &Disk, folder: &Path) -> Vec<String> {
    let mut random = SplitMix64::new(seed);
    let mut handles: Vec<File> = Vec::new();
    let mut outcomes = Vec::new();
    disk.create_dir_all(&folder.join("d")).unwrap();
    for _ in 0..300 {
        let names = ["a", "b", "c", "d", "d/a"];
        let mut path = || folder.join(names[random.below(5) as usize]);
        let (path, other) = (path(), path());
        let (offset, length) = (random.below(3_000), random.below(2_000));
        let handle = random.below(handles.len().max(1) as u64) as usize;
        let file = handles.get(handle);
        let outcome = match (random.below(12), file) {
            (0, _) => told(disk.rename(&path, &other)),
            (1, _) => told(disk.remove(&path)),
            (2, _) => told(disk.list(&path)),
            (3, _) => told(disk.exists(&path)),
            (4, _) => told(disk.sync_dir(&path)),
            (5, Some(file)) => told(file.set_len(offset)),
            (6, Some(file)) => {
                told(file.write_all_at(&vec![offset as u8; length as usize], offset))
            }
            (7, Some(file)) => told(file.preallocate(offset)),
            (8, Some(file)) => told(file.map().map(|bytes| bytes.to_vec())),
            (9, Some(file)) => {
                let mut bytes = vec![0; length as usize];
                told(file.read_exact_at(&mut bytes, offset).map(|()| bytes))
            }
            (mode, _) => {
                let mode = match mode {
                    5 | 6 => OpenMode::Create,
                    7 | 8 => OpenMode::CreateNew,
                    9 => OpenMode::DataSync,
                    10 => OpenMode::Read,
                    _ => OpenMode::ReadWrite,
                };
                let opened = disk.open(&path, mode);
                let outcome = told(opened.as_ref().map(|_| mode).map_err(copied));
                handles.extend(opened);
                outcome
            }
        };
        outcomes.push(outcome);
    }
    outcomes
}

fn told<T: std::fmt::Debug>(result: std::io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn copied(error: &std::io::Error) -> std::io::Error {
    error.kind().into()
}

#[test]
fn changes_are_recorded_with_the_numbers_that_crash_points_have() {
    let (disk, control) = simulated();
    control.record_operations(true);
    disk.write_atomic(Path::new("/data/manifest"), b"new").unwrap();
    assert_eq!(
        control.recorded_operations(),
        [
            "2 create /data/manifest.tmp",
            "3 write /data/manifest.tmp at 0: 3 bytes",
            "4 sync /data/manifest.tmp",
            "5 rename /data/manifest.tmp to /data/manifest",
            "6 sync directory /data",
        ]
    );
    assert_eq!(control.operation_count(), 6);
}

/// A scene with every degree of durability.
fn half_synced() -> (Disk, SimDiskControl, PathBuf) {
    let (disk, control) = simulated();
    let folder = PathBuf::from("/data");
    let kept = create(&disk, &folder.join("kept"), b"synced");
    kept.sync_data().unwrap();
    create(&disk, &folder.join("unsynced"), b"bytes");
    disk.sync_dir(&folder).unwrap();
    kept.write_all_at(b"SYN", 0).unwrap();
    let unnamed = create(&disk, &folder.join("unnamed"), b"content");
    unnamed.sync_data().unwrap();
    disk.rename(&folder.join("kept"), &folder.join("renamed")).unwrap();
    (disk, control, folder)
}

#[test]
fn a_power_cut_leaves_what_was_synced() {
    let (disk, control, folder) = half_synced();
    control.restart(Survival::SyncedOnly);
    assert_eq!(disk.list(&folder).unwrap(), ["kept", "unsynced"]);
    assert_eq!(disk.read(&folder.join("kept"), 99).unwrap(), b"synced");
    assert_eq!(disk.read(&folder.join("unsynced"), 99).unwrap(), b"");

    let (disk, control, folder) = half_synced();
    control.restart(Survival::Everything);
    assert_eq!(disk.list(&folder).unwrap(), ["renamed", "unnamed", "unsynced"]);
    assert_eq!(disk.read(&folder.join("renamed"), 99).unwrap(), b"SYNced");
}

#[test]
fn random_survivors_follow_the_seed_and_differ_between_seeds() {
    let (_, control, _) = half_synced();
    let survivors = |seed| {
        let (_, fork) = control.fork(seed);
        fork.restart(Survival::Random);
        fork.fingerprint()
    };
    assert_eq!(survivors(1), survivors(1));
    let distinct: std::collections::BTreeSet<u64> = (0..64).map(survivors).collect();
    assert!(distinct.len() >= 8, "64 seeds gave {} states", distinct.len());
}

#[test]
fn a_torn_write_is_torn_at_sectors() {
    let (disk, control) = simulated();
    let file = create(&disk, Path::new("/data/f"), &[b'a'; 2048]);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    file.write_all_at(&[b'b'; 2000], 40).unwrap();
    let mut was_mixed = false;
    for seed in 0..32 {
        let (disk, control) = control.fork(seed);
        control.restart(Survival::LastFileTorn);
        let bytes = disk.read(Path::new("/data/f"), 2048).unwrap();
        assert_eq!(&bytes[..40], [b'a'; 40]);
        assert_eq!(&bytes[2040..], [b'a'; 8]);
        let sectors: Vec<&[u8]> =
            vec![&bytes[40..512], &bytes[512..1024], &bytes[1024..1536], &bytes[1536..2040]];
        for sector in &sectors {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "torn inside a sector");
        }
        was_mixed |= sectors.iter().any(|sector| sector[0] != sectors[0][0]);
    }
    assert!(was_mixed, "no seed tore the write");
}

#[test]
fn a_synchronous_write_survives_beside_unsynced_ones() {
    let (disk, control) = simulated();
    let path = Path::new("/data/f");
    let plain = create(&disk, path, b"--------");
    plain.sync_data().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    plain.write_all_at(b"PPPP", 0).unwrap();
    disk.open(path, OpenMode::DataSync).unwrap().write_all_at(b"SS", 2).unwrap();
    let (fork, fork_control) = control.fork(0);
    fork_control.restart(Survival::SyncedOnly);
    assert_eq!(fork.read(path, 8).unwrap(), b"--SS----");
    plain.sync_data().unwrap();
    control.restart(Survival::SyncedOnly);
    assert_eq!(disk.read(path, 8).unwrap(), b"PPSS----");
}

#[test]
fn every_crash_point_of_an_atomic_write_leaves_the_old_or_the_new_file() {
    let path = Path::new("/data/manifest");
    let workload = |disk: &Disk| disk.write_atomic(path, b"new");
    let (disk, control) = simulated();
    disk.write_atomic(path, b"old").unwrap();
    let first = control.operation_count() + 1;
    workload(&disk).unwrap();
    let mut outcomes = std::collections::BTreeSet::new();
    for number in first..=control.operation_count() {
        for survival in [Survival::SyncedOnly, Survival::Everything, Survival::Random] {
            let (disk, control) = simulated();
            disk.write_atomic(path, b"old").unwrap();
            control.crash_at_operation(number);
            assert!(workload(&disk).is_err());
            assert!(control.is_off());
            assert!(disk.exists(path).is_err());
            control.restart(survival);
            outcomes.insert(disk.read(path, 99).unwrap());
            workload(&disk).unwrap();
            assert_eq!(disk.read(path, 99).unwrap(), b"new");
        }
    }
    assert_eq!(outcomes, [b"new".to_vec(), b"old".to_vec()].into());
}

#[test]
fn injected_errors_hit_the_call_they_name() {
    let (disk, control) = simulated();
    let path = Path::new("/data/f");
    let file = create(&disk, path, b"0123");
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();

    control.fail_nth(OperationKind::Read, 2);
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert!(file.read_exact_at(&mut byte, 0).is_err());
    file.read_exact_at(&mut byte, 0).unwrap();

    control.limit_space(Some(2));
    file.write_all_at(b"AB", 0).unwrap();
    file.write_all_at(b"45", 4).unwrap();
    assert_eq!(kind(file.write_all_at(b"6", 6)), ErrorKind::StorageFull);
    control.limit_space(None);

    control.set_page_cache_cold(true);
    assert_eq!(kind(file.read_cached_at(&mut byte, 0)), ErrorKind::WouldBlock);

    control.flip_bit(path, 8).unwrap();
    assert_eq!(disk.read(path, 9).unwrap(), b"AC2345");

    // A sync that failed takes its writes with it, even if the next one succeeds.
    control.fail_nth(OperationKind::Sync, 1);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    control.restart(Survival::Everything);
    assert_eq!(disk.read(path, 9).unwrap(), b"0023\0\0");
}

#[test]
fn a_disk_that_breaks_takes_no_write_and_is_read_on() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (disk, control) = Disk::simulated(seed);
        let path = Path::new("/data/f");
        disk.create_dir_all(Path::new("/data")).unwrap();
        create(&disk, path, b"old").sync_data().unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let file = disk.open(path, OpenMode::DataSync).unwrap();
        control.fail_writes();
        assert!(file.write_all_at(b"new", 0).is_err());
        assert!(file.set_len(1).is_err());
        assert!(disk.sync_dir(Path::new("/data")).is_err());
        assert_eq!(disk.read(path, 9).unwrap().len(), 3);
        control.restart(Survival::Everything);
        found.insert(disk.read(path, 9).unwrap());
        disk.open(path, OpenMode::DataSync).unwrap().write_all_at(b"end", 0).unwrap();
    }
    assert_eq!(found, [b"new".to_vec(), b"old".to_vec()].into(), "it may have taken the write");
}

#[test]
fn handles_and_locks_end_with_the_machine() {
    let (disk, control) = simulated();
    let lock = disk.lock_directory(Path::new("/data")).unwrap();
    let file = create(&disk, Path::new("/data/f"), b"x");
    control.power_off();
    assert!(file.len().is_err());
    control.restart(Survival::Everything);
    assert!(file.len().is_err());
    let second = disk.lock_directory(Path::new("/data")).unwrap();
    drop(lock);
    drop(file);
    assert_eq!(kind(disk.lock_directory(Path::new("/data"))), ErrorKind::WouldBlock);
    drop(second);
}
