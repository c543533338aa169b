//! The power fails at every change of the disk, with everything a medium may keep or lose: the
//! engine opens, and with the log replayed from where it said it needs it, nothing is missing,
//! nothing is twice, and nothing truncated is back.

use super::*;
use env::disk::{SimDiskControl, Survival};

enum LogEntry {
    Write(Vec<u8>),
    Truncate(TokenInterval),
}

fn script(seed: u64) -> Vec<LogEntry> {
    let mut random = Random(seed);
    (0..50)
        .map(|index| {
            if index == 31 {
                LogEntry::Truncate(TokenInterval { first: i64::MIN, last: 0 })
            } else {
                LogEntry::Write(random_mutation(&mut random, 5))
            }
        })
        .collect()
}

fn apply(engine: &mut Engine, index: u64, entry: &LogEntry) {
    match entry {
        LogEntry::Write(bytes) => {
            engine.apply(1, index, &MutationView::check(bytes).unwrap());
        }
        LogEntry::Truncate(tokens) => engine.truncate(1, index, TABLE, *tokens),
    }
}

fn model_of(entries: &[LogEntry]) -> Model {
    let mut model = Model::new();
    for entry in entries {
        match entry {
            LogEntry::Write(bytes) => apply_to_model(&mut model, bytes),
            LogEntry::Truncate(tokens) => model.retain(|(token, _), _| !tokens.contains(*token)),
        }
    }
    model
}

/// How far a run got: entries applied, and the first one that the engine still needed.
struct Reached {
    applied: usize,
    needed: u64,
}

fn try_jobs(engine: &mut Engine, reached: &mut Reached, with_merge: bool) -> bool {
    let disk = engine.disk().clone();
    let mut merge = if with_merge { engine.major_compaction_job(TABLE, NOW) } else { None };
    loop {
        let job = merge.take().or_else(|| engine.flush_job(FlushReason::Everything));
        let Some(job) = job.or_else(|| engine.manifest_job()) else { return true };
        if engine.finish(job.run(&disk)).is_err() {
            return false;
        }
        let needed = engine.needed_indexes().get(&1).copied();
        reached.needed = needed.unwrap_or(reached.applied as u64 + 1);
    }
}

/// Runs the script until the power fails.
fn run(disk: &Disk, script: &[LogEntry]) -> Reached {
    let mut reached = Reached { applied: 0, needed: 1 };
    let opened = Engine::open(disk.clone(), Path::new("/shard"), EngineOptions::default());
    let Ok(mut engine) = opened else { return reached };
    engine.configure_table(&table_def(TABLE, TableOptions::default()));
    for (round, entries) in script.chunks(10).enumerate() {
        for entry in entries {
            reached.applied += 1;
            apply(&mut engine, reached.applied as u64, entry);
        }
        if !try_jobs(&mut engine, &mut reached, round == 2 || round == 4) {
            return reached;
        }
    }
    reached
}

fn check_restart(control: &SimDiskControl, script: &[LogEntry], reached: &Reached) {
    for survival in [
        Survival::SyncedOnly,
        Survival::Everything,
        Survival::LastFileTorn,
        Survival::Random,
        Survival::Random,
    ] {
        let (disk, control) = control.fork(seed_of(survival, reached));
        control.restart(survival);
        let mut engine = new_engine(&disk, TableOptions::default());
        for index in reached.needed..=reached.applied as u64 {
            apply(&mut engine, index, &script[index as usize - 1]);
        }
        let model = model_of(&script[..reached.applied]);
        check_partitions(&mut engine, &model);
        check_read(&mut engine, &model, whole_table());
        run_jobs(&mut engine, FlushReason::Everything);
        let mut engine = reopen(engine);
        check_read(&mut engine, &model, whole_table());
    }
}

fn seed_of(survival: Survival, reached: &Reached) -> u64 {
    reached.applied as u64 * 7 + survival as u64
}

#[test]
fn nothing_is_lost_or_back_wherever_the_power_fails() {
    let script = script(0x5eed);
    let (disk, control) = Disk::simulated(1);
    let all = run(&disk, &script);
    assert_eq!((all.applied, all.needed), (50, 51), "the whole script is in files");
    let operations = control.operation_count();
    assert!(operations > 50, "the workload changes the disk {operations} times");
    for number in 1..=operations {
        let (disk, control) = Disk::simulated(1);
        control.crash_at_operation(number);
        let reached = run(&disk, &script);
        check_restart(&control, &script, &reached);
    }
}

#[test]
fn a_failed_job_is_handed_out_again() {
    let (disk, control) = Disk::simulated(3);
    let mut engine = new_engine(&disk, TableOptions::default());
    let script = script(7);
    for (index, entry) in script.iter().enumerate() {
        apply(&mut engine, index as u64 + 1, entry);
    }
    for attempt in 1..4 {
        control.fail_nth(env::disk::OperationKind::Sync, attempt);
        let job = engine.flush_job(FlushReason::Everything).or_else(|| engine.manifest_job());
        if let Some(job) = job {
            let result = engine.finish(job.run(&disk));
            assert!(attempt > 1 || result.is_err(), "the first sync fails");
        }
    }
    control.restart(Survival::Everything);
    let needed = engine.needed_indexes().get(&1).copied().unwrap_or(51);
    let mut engine = reopen(engine);
    for index in needed..=script.len() as u64 {
        apply(&mut engine, index, &script[index as usize - 1]);
    }
    run_jobs(&mut engine, FlushReason::Everything);
    assert!(engine.needed_indexes().is_empty());
    check_partitions(&mut engine, &model_of(&script));
}

/// A disk ran full, and the files that a flush and a merge had begun took the little room that was left:
/// the node could not even start any more.
#[test]
fn a_job_that_finds_the_disk_full_leaves_no_file() {
    let (disk, control) = Disk::simulated(4);
    let mut engine = new_engine(&disk, TableOptions::default());
    let fill = |engine: &mut Engine, indexes: std::ops::RangeInclusive<u64>| {
        for (index, entry) in indexes.zip(&script(8)) {
            apply(engine, index, entry);
        }
    };
    fill(&mut engine, 1..=50);
    run_jobs(&mut engine, FlushReason::Everything);
    let files = || disk.list(Path::new("/shard")).unwrap();
    let before = files();

    control.limit_space(Some(64));
    fill(&mut engine, 51..=80);
    let flush = engine.flush_job(FlushReason::Everything).unwrap();
    engine.finish(flush.run(&disk)).unwrap_err();
    assert_eq!(files(), before);
    let merge = engine.major_compaction_job(TABLE, NOW).unwrap();
    engine.finish(merge.run(&disk)).unwrap_err();
    assert_eq!(files(), before);

    control.limit_space(None);
    run_jobs(&mut engine, FlushReason::Everything);
    assert!(engine.needed_indexes().is_empty());
}
