//! The power fails at every change of the disk while a snapshot is received, installed and worked on:
//! there is the old state with what the log still has, or the new one, and no file that is nobody's.

use super::snapshot::{
    GROUP, OTHERS, Tables, base, engine_of_two_tables, mutation_of_two_tables, parts,
};
use super::*;
use env::disk::{SimDiskControl, Survival};

const TOKENS: TokenInterval = TokenInterval { first: i64::MIN / 2, last: i64::MAX / 3 };
/// Entries of the group that the follower has before the snapshot, that the snapshot has, and all.
const BEFORE: usize = 20;
const AT_BASE: usize = 40;
const ALL: usize = 55;

type Entries = Vec<(Token, Vec<u8>)>;

/// What happens, made once for all runs.
struct Script {
    /// Of the group.
    entries: Entries,
    others: Entries,
    stream: Vec<u8>,
}

impl Script {
    fn new() -> Script {
        let mut random = Random(0x5eed);
        let (mut entries, mut others) = (Entries::new(), Entries::new());
        while entries.len() < ALL || others.len() < ALL {
            let entry = mutation_of_two_tables(&mut random);
            let list = if TOKENS.contains(entry.0) { &mut entries } else { &mut others };
            list.push(entry);
        }
        let (disk, _control) = Disk::simulated(99);
        let mut leader = engine_of_two_tables(&disk);
        apply(&mut leader, GROUP, &entries, 0..AT_BASE);
        let mut export = leader.export(GROUP, base(AT_BASE as u64), &parts(TOKENS));
        let mut stream = Vec::new();
        while let Some(chunk) = export.next_chunk().unwrap() {
            stream.extend(chunk);
        }
        Script { entries, others, stream }
    }

    fn model(&self, count: usize, others_count: usize) -> Tables {
        let mut tables = Tables::default();
        let all = self.entries[..count].iter().chain(&self.others[..others_count]);
        all.for_each(|(token, bytes)| tables.apply(*token, bytes));
        tables
    }
}

fn apply(engine: &mut Engine, group: u64, entries: &Entries, range: std::ops::Range<usize>) {
    for index in range {
        let mutation = MutationView::check(&entries[index].1).unwrap();
        engine.apply(group, index as u64 + 1, &mutation);
    }
}

/// How far a run got. Counts are of entries; what the log may have given up is below `needed`.
#[derive(Default)]
struct Reached {
    /// Of the group, those of the snapshot not counted.
    applied: usize,
    others: usize,
    needed: BTreeMap<u64, u64>,
    is_installed: bool,
    /// Entries after the base.
    later: usize,
}

impl Reached {
    fn note(&mut self, engine: &Engine) {
        // What was needed once and is not named any more is needed from the next entry on.
        let last = if self.is_installed { AT_BASE + self.later } else { self.applied };
        let ends = [(GROUP, last), (OTHERS, self.others)];
        let needed = engine.needed_indexes();
        for (group, last) in ends {
            let first = needed.get(&group).copied().unwrap_or(last as u64 + 1);
            self.needed.insert(group, first);
        }
    }
}

fn try_jobs(engine: &mut Engine, reached: &mut Reached) -> bool {
    let disk = engine.disk().clone();
    loop {
        let job = engine.flush_job(FlushReason::Everything).or_else(|| engine.manifest_job());
        let Some(job) = job else { return true };
        if engine.finish(job.run(&disk)).is_err() {
            return false;
        }
        reached.note(engine);
    }
}

/// Runs until the power fails; false when it did.
fn run(disk: &Disk, script: &Script, reached: &mut Reached) -> bool {
    let opened = Engine::open(disk.clone(), Path::new("/shard"), EngineOptions::default());
    let Ok(engine) = opened else { return false };
    drop(engine);
    let mut engine = engine_of_two_tables(disk);
    reached.note(&engine);
    apply(&mut engine, GROUP, &script.entries, 0..BEFORE / 2);
    apply(&mut engine, OTHERS, &script.others, 0..20);
    (reached.applied, reached.others) = (BEFORE / 2, 20);
    if !try_jobs(&mut engine, reached) {
        return false;
    }
    apply(&mut engine, GROUP, &script.entries, BEFORE / 2..BEFORE);
    apply(&mut engine, OTHERS, &script.others, 20..40);
    (reached.applied, reached.others) = (BEFORE, 40);
    let mut import = engine.import(GROUP, &parts(TOKENS));
    let received = import.feed(&script.stream).and_then(|()| import.finish());
    let Ok(imported) = received else { return false };
    engine.install(imported).unwrap();
    reached.is_installed = true;
    // Nothing that the old state needs may go before the new one is durable.
    let needed = engine.needed_indexes().get(&GROUP).copied();
    assert_eq!(needed, Some(BEFORE as u64 / 2 + 1));
    if !try_jobs(&mut engine, reached) {
        return false;
    }
    assert!(engine.is_installed(GROUP));
    apply(&mut engine, GROUP, &script.entries, AT_BASE..ALL);
    apply(&mut engine, OTHERS, &script.others, 40..ALL);
    (reached.later, reached.others) = (ALL - AT_BASE, ALL);
    try_jobs(&mut engine, reached)
}

/// Whether the new state was found.
fn check_restart(control: &SimDiskControl, script: &Script, reached: &Reached) -> bool {
    let mut is_new_found = false;
    for (number, survival) in [
        Survival::SyncedOnly,
        Survival::Everything,
        Survival::LastFileTorn,
        Survival::Random,
        Survival::Random,
    ]
    .into_iter()
    .enumerate()
    {
        let (disk, control) = control.fork(reached.others as u64 * 7 + number as u64);
        control.restart(survival);
        let mut engine = engine_of_two_tables(&disk);
        let names = disk.list(Path::new("/shard")).unwrap();
        let files = names.iter().filter(|name| name.ends_with(TABLE_SUFFIX)).count();
        assert_eq!(files as u64, engine.statistics().file_count, "every file is a table's");
        let needed = |group: u64| reached.needed.get(&group).map_or(0, |first| *first as usize - 1);
        let is_new = engine.snapshot_base(GROUP).is_some();
        is_new_found |= is_new;
        assert!(reached.is_installed || !is_new);
        let count = if is_new { AT_BASE + reached.later } else { reached.applied };
        apply(&mut engine, OTHERS, &script.others, needed(OTHERS)..reached.others);
        apply(&mut engine, GROUP, &script.entries, needed(GROUP)..count);
        let universe = script.model(ALL, ALL);
        script.model(count, reached.others).check(&mut engine, &universe);
        if !is_new {
            // It is sent once more, over what is there.
            let mut import = engine.import(GROUP, &parts(TOKENS));
            import.feed(&script.stream).unwrap();
            engine.install(import.finish().unwrap()).unwrap();
            script.model(AT_BASE, reached.others).check(&mut engine, &universe);
        }
    }
    is_new_found
}

#[test]
fn there_is_the_old_state_or_the_new_one_wherever_the_power_fails() {
    let script = Script::new();
    let (disk, control) = Disk::simulated(1);
    assert!(run(&disk, &script, &mut Reached::default()), "the whole script runs");
    let operations = control.operation_count();
    let (mut old_count, mut new_count) = (0, 0);
    for number in 1..=operations {
        let (disk, control) = Disk::simulated(1);
        control.crash_at_operation(number);
        let mut reached = Reached::default();
        run(&disk, &script, &mut reached);
        if reached.others == 0 {
            continue;
        }
        if check_restart(&control, &script, &reached) { new_count += 1 } else { old_count += 1 }
    }
    assert!(old_count > 10 && new_count > 10, "{old_count} crashes before, {new_count} after");
}

/// Applies entries of both groups, flushes them, and removes the one group, until the power fails;
/// how far the removal got: not begun, begun, or durable.
fn run_removal(disk: &Disk, script: &Script) -> Option<bool> {
    let opened = Engine::open(disk.clone(), Path::new("/shard"), EngineOptions::default());
    drop(opened.ok()?);
    let mut engine = engine_of_two_tables(disk);
    apply(&mut engine, GROUP, &script.entries, 0..BEFORE);
    apply(&mut engine, OTHERS, &script.others, 0..BEFORE);
    assert!(!engine.remove_group(GROUP, &parts(TOKENS)), "a memtable holds some of it");
    let mut reached = Reached::default();
    if !try_jobs(&mut engine, &mut reached) {
        return None;
    }
    assert!(engine.remove_group(GROUP, &parts(TOKENS)));
    assert!(!engine.is_removed(GROUP), "that is not durable yet");
    script.rest_after_removal().check(&mut engine, &script.model(BEFORE, BEFORE));
    if !try_jobs(&mut engine, &mut reached) {
        return Some(false);
    }
    assert!(engine.is_removed(GROUP) && !engine.is_removed(GROUP), "said once");
    // It comes back, with another history.
    apply(&mut engine, GROUP, &script.entries, 0..1);
    script.model(1, BEFORE).check(&mut engine, &script.model(BEFORE, BEFORE));
    Some(true)
}

impl Script {
    /// What is left without the group.
    fn rest_after_removal(&self) -> Tables {
        self.model(0, BEFORE)
    }
}

#[test]
fn a_group_is_as_it_was_or_gone_wherever_the_power_fails() {
    let script = Script::new();
    let (disk, control) = Disk::simulated(1);
    assert_eq!(run_removal(&disk, &script), Some(true), "the whole script runs");
    let (mut kept_count, mut gone_count) = (0, 0);
    for number in 1..=control.operation_count() {
        let (disk, control) = Disk::simulated(1);
        control.crash_at_operation(number);
        let Some(is_durable) = run_removal(&disk, &script) else { continue };
        for survival in [Survival::SyncedOnly, Survival::Everything, Survival::LastFileTorn] {
            let (disk, control) = control.fork(number);
            control.restart(survival);
            let mut engine = engine_of_two_tables(&disk);
            let names = disk.list(Path::new("/shard")).unwrap();
            let files = names.iter().filter(|name| name.ends_with(TABLE_SUFFIX)).count();
            assert_eq!(files as u64, engine.statistics().file_count, "every file is a table's");
            let is_kept = engine.flushed_indexes().contains_key(&GROUP);
            assert!(!is_kept || !is_durable, "it does not come back");
            let universe = script.model(BEFORE, BEFORE);
            let expected = if is_kept { universe.clone() } else { script.rest_after_removal() };
            expected.check(&mut engine, &universe);
            if is_kept { kept_count += 1 } else { gone_count += 1 }
        }
    }
    assert!(kept_count > 0 && gone_count > 0, "{kept_count} kept, {gone_count} gone");
}
