//! The log against a model, with the power cut at every change of the disk.
//!
//! The model is the list of records in the order of appending. Whatever the crash, what a replay
//! gives must be the state after some prefix of that list, and the prefix must reach at least to
//! what was reported synced. Then the log is used further, and the next replay must agree again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use env::disk::{Disk, SimDiskControl, Survival};

use super::format::{BLOCK_BYTES, GroupId, Index, Term};
use super::options::{LogOptions, SEGMENT_BYTES_MIN, SyncMode};
use super::{
    Corruption, FormerEnd, GroupReplay, HardState, LogCore, LogError, LogPosition, LogStart,
    LogWriter, Replay,
};

const DIRECTORY: &str = "/data/commitlog";
const SURVIVALS: [Survival; 4] =
    [Survival::SyncedOnly, Survival::Everything, Survival::LastFileTorn, Survival::Random];

/// Numbers that follow from a seed (splitmix64).
struct Chances(u64);

impl Chances {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone, Debug)]
enum Op {
    Entry {
        group: GroupId,
        term: Term,
        index: Index,
        payload: Vec<u8>,
    },
    HardState {
        group: GroupId,
        hard_state: HardState,
    },
    Start {
        group: GroupId,
        start: LogStart,
        members: Vec<u8>,
    },
    Truncate {
        group: GroupId,
        index: Index,
    },
    /// The first record of a removal.
    FormerEnd {
        group: GroupId,
        end: FormerEnd,
    },
    Remove {
        group: GroupId,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ModelGroup {
    hard_state: HardState,
    former_end: FormerEnd,
    is_removed: bool,
    start: LogStart,
    members: Vec<u8>,
    last: Index,
    entries: BTreeMap<Index, (Term, Vec<u8>)>,
}

type Model = BTreeMap<GroupId, ModelGroup>;

fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Entry { group, term, index, payload } => {
            let group = model.entry(*group).or_default();
            group.entries.split_off(index);
            group.entries.insert(*index, (*term, payload.clone()));
            group.last = *index;
        }
        Op::HardState { group, hard_state } => {
            model.entry(*group).or_default().hard_state = *hard_state;
        }
        Op::Start { group, start, members } => {
            let group = model.entry(*group).or_default();
            group.entries = group.entries.split_off(&(start.index + 1));
            group.start = *start;
            if !members.is_empty() {
                group.members.clone_from(members);
            }
            group.last = group.last.max(start.index);
        }
        Op::Truncate { group, index } => {
            let group = model.entry(*group).or_default();
            group.entries.split_off(index);
            group.last = group.last.min(index - 1);
        }
        Op::FormerEnd { group, end } => {
            model.entry(*group).or_default().former_end = *end;
        }
        Op::Remove { group } => {
            let group = model.entry(*group).or_default();
            let ModelGroup { hard_state, former_end, .. } = *group;
            let is_removed = true;
            *group = ModelGroup { hard_state, former_end, is_removed, ..ModelGroup::default() };
        }
    }
}

/// The groups without what is flushed, and without those of whom nothing is left to say.
fn visible(model: &Model, flushed: &BTreeMap<GroupId, Index>) -> Model {
    let mut model = model.clone();
    for (id, group) in &mut model {
        let floor = flushed.get(id).copied().unwrap_or(0).max(group.start.index);
        group.entries = group.entries.split_off(&(floor + 1));
        group.last = group.entries.last_key_value().map_or(0, |(index, _)| *index);
    }
    model.retain(|_, group| *group != ModelGroup::default());
    model
}

fn replayed(replay: &Replay, flushed: &BTreeMap<GroupId, Index>) -> Model {
    let mut model = Model::new();
    for (id, group) in replay.groups().iter().chain(replay.removed()) {
        let GroupReplay { hard_state, former_end, start, .. } = *group;
        let is_removed = replay.removed().contains_key(id);
        let members = group.start_members.as_deref().unwrap_or_default().to_vec();
        let known = ModelGroup {
            hard_state,
            former_end,
            is_removed,
            start,
            members,
            ..ModelGroup::default()
        };
        model.insert(*id, known);
    }
    let floor = |group| flushed.get(&group).copied().unwrap_or(0);
    let result = replay.entries(floor, |entry| {
        let group = model.get_mut(&entry.group).expect("an entry of a group that is not listed");
        assert!(entry.index > group.last, "entries of a group are out of order");
        assert!(entry.index > floor(entry.group), "a flushed entry was handed out");
        group.last = entry.index;
        group.entries.insert(entry.index, (entry.term, entry.payload.to_vec()));
        let runs = &replay.groups()[&entry.group].term_runs;
        let run = runs.iter().rev().find(|(first, _)| *first <= entry.index);
        assert_eq!(run.map(|(_, term)| *term), Some(entry.term), "the term runs are wrong");
        Ok::<(), ()>(())
    });
    assert_eq!(result, Ok(()));
    model.retain(|_, group| *group != ModelGroup::default());
    model
}

/// A log with the model of everything appended to it.
struct Run {
    chances: Chances,
    options: LogOptions,
    ops: Vec<Op>,
    /// The state after all of `ops`.
    latest: Model,
    /// How many of `ops` are durable, as the log says.
    synced: usize,
    /// For each record appended since the log was opened: where it ends, and how many `ops` there
    /// were with it.
    ends: Vec<(LogPosition, usize)>,
    flushed: BTreeMap<GroupId, Index>,
    next_group: GroupId,
}

impl Run {
    fn new(seed: u64, sync: SyncMode) -> Run {
        let segment_bytes = SEGMENT_BYTES_MIN;
        let spare_segments_max = 1;
        Run {
            chances: Chances(seed),
            options: LogOptions {
                segment_bytes,
                spare_segments_max,
                sync,
                ..LogOptions::new(3, seed)
            },
            ops: Vec::new(),
            latest: Model::new(),
            synced: 0,
            ends: Vec::new(),
            flushed: BTreeMap::new(),
            next_group: 4,
        }
    }

    /// A record that a replica could append to this state.
    fn next_op(&mut self) -> Op {
        let choice = self.chances.below(100);
        let group = 1 + self.chances.below(self.next_group - 1);
        let term = 1 + self.ops.len() as u64 / 10;
        if choice < 3 && self.latest.get(&group).is_some_and(|state| !state.is_removed) {
            self.next_group += 1;
            return Op::FormerEnd {
                group,
                end: FormerEnd { term, index: self.latest[&group].last },
            };
        }
        let is_gone = |op: &Op| matches!(op, Op::Remove { group: gone } if *gone == group);
        if self.ops.iter().any(is_gone) {
            let vote = Some(u128::from(self.chances.below(9)) << 64);
            return Op::HardState {
                group: self.next_group - 1,
                hard_state: HardState { term, vote },
            };
        }
        let floor = self.flushed.get(&group).copied().unwrap_or(0);
        let state = self.latest.entry(group).or_default();
        let lowest = floor.max(state.start.index) + 1;
        let last = state.last;
        match choice {
            3..15 => {
                let vote = choice.is_multiple_of(2).then_some(u128::MAX - u128::from(choice));
                Op::HardState { group, hard_state: HardState { term, vote } }
            }
            15..20 if last > lowest => {
                let start = LogStart { index: lowest + self.chances.below(last - lowest), term };
                let members = vec![choice as u8; 7 * self.chances.below(3) as usize];
                Op::Start { group, start, members }
            }
            20..25 if last >= lowest => {
                Op::Truncate { group, index: lowest + self.chances.below(last - lowest + 1) }
            }
            _ => {
                let is_conflict = choice < 35 && last >= lowest;
                let index = if is_conflict {
                    lowest + self.chances.below(last - lowest + 1)
                } else {
                    last.max(lowest - 1) + 1
                };
                let length = if choice > 95 { 20_000 } else { self.chances.below(300) };
                let payload = vec![self.ops.len() as u8; length as usize];
                Op::Entry { group, term, index, payload }
            }
        }
    }

    fn append(&mut self, log: &mut LogCore) -> Result<(), LogError> {
        let op = self.next_op();
        let end = match &op {
            Op::Entry { group, term, index, payload } => {
                let (head, tail) = payload.split_at(payload.len() / 2);
                log.append_entry(*group, *term, *index, &[head, tail])?
            }
            Op::HardState { group, hard_state } => log.append_hard_state(*group, *hard_state)?,
            Op::Start { group, start, members } => log.append_start(*group, *start, members)?,
            Op::Truncate { group, index } => log.append_truncate(*group, *index)?,
            Op::FormerEnd { group, end } => log.append_remove(*group, *end)?,
            Op::Remove { .. } => unreachable!("it comes with the end"),
        };
        let removes = match op {
            Op::FormerEnd { group, .. } => Some(Op::Remove { group }),
            _ => None,
        };
        for op in std::iter::once(op).chain(removes) {
            apply(&mut self.latest, &op);
            self.ops.push(op);
        }
        self.ends.push((end, self.ops.len()));
        Ok(())
    }

    fn state_after(&self, count: usize) -> Model {
        let mut model = Model::new();
        self.ops[..count].iter().for_each(|op| apply(&mut model, op));
        model
    }

    /// Executes one job, if there is one; notes what is durable then.
    fn step(&mut self, log: &mut LogCore, writer: &mut LogWriter) -> Result<(), LogError> {
        if self.chances.below(6) == 0 {
            log.request_sync();
        }
        if self.chances.below(3) == 0 {
            writer.prepare();
        }
        let Some(job) = log.next_job() else { return Ok(()) };
        log.complete(writer.execute(job))?;
        let durable = self.ends.iter().rfind(|(end, _)| *end <= log.durable());
        self.synced = durable.map_or(self.synced, |(_, count)| *count);
        log.check_invariants();
        Ok(())
    }

    fn flush(&mut self, log: &mut LogCore) {
        let durable = self.state_after(self.synced);
        let mut forgotten = BTreeMap::new();
        for group in 1..self.next_group {
            match durable.get(&group) {
                Some(state) if !state.is_removed => {
                    // What a record on its way may void is not committed, so it is not flushed.
                    let lowest_voided = self.ops[self.synced..].iter().filter_map(|op| match op {
                        Op::Entry { group: g, index, .. } | Op::Truncate { group: g, index } => {
                            (*g == group).then_some(*index)
                        }
                        _ => None,
                    });
                    let index = state.last.min(lowest_voided.min().unwrap_or(Index::MAX) - 1);
                    let flushed = self.flushed.entry(group).or_default();
                    *flushed = index.max(*flushed);
                }
                _ => {
                    forgotten.insert(group, Index::MAX);
                }
            }
        }
        let flushed = &self.flushed;
        log.release(|group| {
            let known = forgotten.get(&group).or(flushed.get(&group));
            known.copied().unwrap_or(0)
        });
    }

    /// Opens the log, checks what it replays, and goes on from there.
    fn open(&mut self, disk: &Disk) -> Result<(LogCore, LogWriter), LogError> {
        let (log, writer, replay) = LogCore::open(disk, Path::new(DIRECTORY), self.options)?;
        let found = replayed(&replay, &self.flushed);
        let mut prefix = (self.synced..=self.ops.len())
            .filter(|count| visible(&self.state_after(*count), &self.flushed) == found);
        let Some(count) = prefix.next() else {
            panic!(
                "the replay is no prefix of the {} records, {} of them synced: {found:?}",
                self.ops.len(),
                self.synced
            );
        };
        self.ops.truncate(count);
        self.ends.clear();
        self.latest = self.state_after(count);
        self.synced = count;
        Ok((log, writer))
    }

    fn work(
        &mut self,
        log: &mut LogCore,
        writer: &mut LogWriter,
        steps: usize,
    ) -> Result<(), LogError> {
        for _ in 0..steps {
            for _ in 0..=self.chances.below(5) {
                match self.append(log) {
                    Err(LogError::LogFull { .. }) => break,
                    result => result?,
                }
            }
            if self.chances.below(4) == 0 {
                self.flush(log);
            }
            self.step(log, writer)?;
        }
        Ok(())
    }

    /// A life of the log: open, work, and perhaps a clean end.
    fn live(&mut self, disk: &Disk, steps: usize) -> Result<(), LogError> {
        let (mut log, mut writer) = self.open(disk)?;
        self.work(&mut log, &mut writer, steps)
    }
}

/// Runs the script with the power cut at each change in turn, under each kind of survival.
fn cut_everywhere(seed: u64, sync: SyncMode) {
    let steps = 30;
    let (disk, control) = Disk::simulated(seed);
    Run::new(seed, sync).live(&disk, steps).expect("nothing fails while the power is on");
    let operations = control.operation_count();
    assert!(operations > 30, "the script changes the disk {operations} times only");
    for cut in 1..=operations {
        for survival in SURVIVALS {
            let (disk, control) = Disk::simulated(seed ^ cut);
            let mut run = Run::new(seed, sync);
            control.crash_at_operation(cut);
            let result = run.live(&disk, steps);
            assert!(matches!(result, Err(LogError::Disk { .. })), "cut {cut}: {result:?}");
            control.restart(survival);
            go_on(&mut run, &disk, &control, cut, survival);
        }
    }
}

/// After a restart: crashes once more during the recovery or soon after, then works on and
/// replays.
fn go_on(run: &mut Run, disk: &Disk, control: &SimDiskControl, cut: u64, survival: Survival) {
    control.crash_at_operation(control.operation_count() + 1 + cut % 12);
    match run.live(disk, 3) {
        Ok(()) => control.power_off(),
        Err(error) => {
            assert!(matches!(error, LogError::Disk { .. }), "{cut} {survival:?}: {error}");
        }
    }
    control.restart(survival);
    for _ in 0..2 {
        run.live(disk, 6).unwrap_or_else(|error| panic!("cut {cut}, {survival:?}: {error}"));
    }
}

#[test]
fn synced_records_survive_a_power_cut_at_every_change() {
    for seed in 0..3 {
        cut_everywhere(seed, SyncMode::Group);
    }
}

#[test]
fn periodic_mode_loses_a_suffix_only_behind_the_last_sync() {
    for seed in 10..13 {
        cut_everywhere(seed, SyncMode::Periodic { every: Duration::from_secs(10) });
    }
}

/// Segments come and go over many lives; the state stays that of the model.
#[test]
fn a_long_life_agrees_with_the_model() {
    for seed in 20..24 {
        let (disk, _) = Disk::simulated(seed);
        let mut run = Run::new(seed, SyncMode::Group);
        for _ in 0..6 {
            run.live(&disk, 60).expect("nothing fails while the power is on");
            assert!(run.ops.len() > 100, "the script appends too little");
        }
        let files = disk.list(Path::new(DIRECTORY)).expect("the directory is there");
        assert!(files.len() < 40, "segments are not recycled: {files:?}");
    }
}

/// Builds a log of several segments and hands its disk over; `is_closed`: with a clean end.
fn written_log(seed: u64, is_closed: bool) -> (Run, Disk, SimDiskControl, usize) {
    let (disk, control) = Disk::simulated(seed);
    let mut run = Run::new(seed, SyncMode::Group);
    let mut before_last = 0;
    let (mut log, mut writer) = run.open(&disk).expect("a new log opens");
    while log.segment_count() < 3 {
        before_last = run.synced;
        run.append(&mut log).expect("there is room");
        run.append(&mut log).expect("there is room");
        run.step(&mut log, &mut writer).expect("nothing fails");
        while log.appended() > log.synced().expect("nothing fails") {
            run.step(&mut log, &mut writer).expect("nothing fails");
        }
    }
    if is_closed {
        before_last = run.synced;
        log.request_close();
        while let Some(job) = log.next_job() {
            log.complete(writer.execute(job)).expect("nothing fails");
        }
    }
    (run, disk, control, before_last)
}

/// Flips single bits: every one in the last segment's used part near the ends of batches, and
/// samples elsewhere.
fn flip_bits(is_closed: bool) {
    let (mut run, disk, control, before_last) = written_log(40, is_closed);
    let all = run.ops.len();
    let (mut detected, mut cut) = (0, 0);
    for name in disk.list(Path::new(DIRECTORY)).expect("the directory is there") {
        let path = Path::new(DIRECTORY).join(&name);
        for byte in (0..SEGMENT_BYTES_MIN).filter(|byte| byte % BLOCK_BYTES < 120 || byte % 61 == 0)
        {
            let (disk, control) = control.fork(byte);
            control.flip_bit(&path, byte * 8 + byte % 8).expect("the file is there");
            match LogCore::open(&disk, Path::new(DIRECTORY), run.options) {
                Err(LogError::Corrupt { .. }) => detected += 1,
                Err(error) => panic!("{name} byte {byte}: {error}"),
                Ok((_, _, replay)) => {
                    let found = replayed(&replay, &run.flushed);
                    let count = (before_last..=all)
                        .find(|count| visible(&run.state_after(*count), &run.flushed) == found);
                    let count = count.unwrap_or_else(|| panic!("{name} byte {byte}: wrong answer"));
                    cut += usize::from(count < all);
                }
            }
        }
    }
    assert!(detected > 500, "only {detected} flips were detected");
    assert_eq!(cut > 0, !is_closed, "{cut} flips cut the log");
    run.live(&disk, 3).expect("the undamaged log opens");
    drop(control);
}

#[test]
fn a_flipped_bit_is_detected_or_in_the_last_batch() {
    flip_bits(false);
}

#[test]
fn after_a_clean_end_every_flipped_bit_is_detected() {
    flip_bits(true);
}

#[test]
fn a_missing_or_cut_segment_is_corruption() {
    let (run, _, control, _) = written_log(41, false);
    let second = Path::new(DIRECTORY).join(format!("segment-{:016x}.log", 2));
    let open = |disk: &Disk| LogCore::open(disk, Path::new(DIRECTORY), run.options).map(|_| ());

    let (disk, _) = control.fork(1);
    disk.remove(&second).expect("it is there");
    let missing = open(&disk);
    assert!(
        matches!(
            missing,
            Err(LogError::Corrupt { segment: 2, corruption: Corruption::Missing, .. })
        ),
        "{missing:?}"
    );

    let (disk, _) = control.fork(2);
    let file = disk.open(&second, env::disk::OpenMode::ReadWrite).expect("it is there");
    file.set_len(SEGMENT_BYTES_MIN / 2).expect("it can be cut");
    let cut = open(&disk);
    let found = Corruption::FileLength { found: SEGMENT_BYTES_MIN / 2 };
    assert!(
        matches!(cut, Err(LogError::Corrupt { segment: 2, corruption, .. }) if corruption == found),
        "{cut:?}"
    );
}
