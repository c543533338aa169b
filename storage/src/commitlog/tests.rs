//! The golden bytes, the limits, failing disks, recycling, and the fuzz entry's corpus.

use std::path::Path;

use env::disk::{Disk, OpenMode, OperationKind, SimDiskControl};

use super::format::BLOCK_BYTES;
use super::options::{FIRST_SEGMENT_BYTES, LogOptions, SEGMENT_BYTES_MIN, SyncMode};
use super::replay::{FormerEnd, HardState, LogStart, Replay, TornTail};
use super::scan::fuzz_segment;
use super::{
    Corruption, EntryKind, LogCore, LogError, LogPosition, LogWriter, MEMBER_BYTES_MAX,
    ReadEntries, ReadPlace, WantedEntries,
};

const DIRECTORY: &str = "/log";

fn options() -> LogOptions {
    let segment_bytes = SEGMENT_BYTES_MIN;
    LogOptions { segment_bytes, spare_segments_max: 2, ..LogOptions::new(7, 0x5EED) }
}

fn open(disk: &Disk) -> Result<(LogCore, LogWriter, Replay), LogError> {
    LogCore::open(disk, Path::new(DIRECTORY), options())
}

fn new_log() -> (Disk, SimDiskControl, LogCore, LogWriter) {
    let (disk, control) = Disk::simulated(1);
    let (log, writer, _) = open(&disk).expect("a new log opens");
    (disk, control, log, writer)
}

/// Executes jobs until there are none.
fn run(log: &mut LogCore, writer: &mut LogWriter) -> Result<LogPosition, LogError> {
    while let Some(job) = log.next_job() {
        log.complete(writer.execute(job))?;
    }
    log.check_invariants();
    log.synced()
}

fn entries(replay: &Replay) -> Vec<(u64, u64, u64, Vec<u8>)> {
    let mut entries = Vec::new();
    let result = replay.entries(
        |_| 0,
        |entry| {
            entries.push((entry.group, entry.term, entry.index, entry.payload.to_vec()));
            Ok::<(), ()>(())
        },
    );
    assert_eq!(result, Ok(()));
    entries
}

/// A log with a record of every kind in its second segment file.
fn golden_disk() -> Disk {
    let (disk, _, mut log, mut writer) = new_log();
    let vote = Some(0x0123_4567_89AB_CDEF_0011_2233_4455_6677);
    log.append_hard_state(1, HardState { term: 2, vote }).expect("there is room");
    log.append_start(1, LogStart { index: 4, term: 1 }, &[]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (mut log, mut writer, _) = open(&disk).expect("the log opens");
    log.append_entry(1, 2, 5, &[b"hello ", b"", b"world"]).expect("there is room");
    log.append_entry(1, 2, 6, &[&[0xAB; 5000]]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    log.append_truncate(1, 6).expect("there is room");
    log.append_entry(2, 9, 100, &[]).expect("there is room");
    log.append_entry_of_kind(EntryKind::NoOp, 2, 9, 101, &[]).expect("there is room");
    log.append_entry_of_kind(EntryKind::Membership, 2, 9, 102, &[b"members"]).expect("room");
    log.append_committed(1, 5).expect("there is room");
    log.append_remove(2, FormerEnd { term: 9, index: 102 }).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    log.request_close();
    run(&mut log, &mut writer).expect("the disk works");
    disk
}

fn golden_segment() -> Vec<u8> {
    let path = Path::new(DIRECTORY).join("segment-0000000000000002.log");
    golden_disk().read(&path, SEGMENT_BYTES_MIN).expect("the second segment is there")
}

/// Changing the format is a deliberate act: a new version, a line in the history of
/// docs/formats/commitlog.md, and a reader for the old one once a release has
/// written it.
#[test]
fn the_bytes_on_disk_are_those_of_format_version_4() {
    let segment = golden_segment();
    assert_eq!(segment.len() as u64, SEGMENT_BYTES_MIN);
    assert_eq!(segment[..12], *b"TETHYSCL\x04\0\0\0");
    let block = BLOCK_BYTES as usize;
    // The states' batch: the group's vote and start.
    assert_eq!(segment[block + 4..block + 8], *b"TCLB");
    assert_eq!(segment[block + 12..block + 16], 2_u32.to_le_bytes());
    // The first entry of the next batch.
    let record = &segment[2 * block + 32..];
    assert_eq!(record[4..8], 47_u32.to_le_bytes());
    assert_eq!(record[8..12], [1, 0, 0, 0]);
    assert_eq!(record[12..20], 1_u64.to_le_bytes());
    assert_eq!(record[20..28], 2_u64.to_le_bytes());
    assert_eq!(record[28..36], 5_u64.to_le_bytes());
    assert_eq!(record[36..47], *b"hello world");
    assert_eq!(crc32fast::hash(&segment), GOLDEN_SEGMENT_CRC32);
}

const GOLDEN_SEGMENT_CRC32: u32 = 2_459_023_028;

/// Rows of version 1 lack a flag that is relied on now.
#[test]
fn a_segment_of_version_1_is_refused() {
    let disk = golden_disk();
    let mut segment = golden_segment();
    segment[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let crc = crc32fast::hash(&segment[..48]);
    segment[48..52].copy_from_slice(&crc.to_le_bytes());
    let path = Path::new(DIRECTORY).join("segment-0000000000000002.log");
    disk.write_atomic(&path, &segment).expect("the disk works");
    let error = open(&disk).map(|_| ()).expect_err("it is of another version").to_string();
    assert!(error.contains("format version 1 is not the known 4"), "{error}");
}

#[test]
fn the_golden_log_replays() {
    let (_, _, replay) = open(&golden_disk()).expect("the golden log opens");
    assert_eq!(entries(&replay), [(1, 2, 5, b"hello world".to_vec())]);
    let group = &replay.groups()[&1];
    assert_eq!(group.hard_state.term, 2);
    assert_eq!(group.hard_state.vote, Some(0x0123_4567_89AB_CDEF_0011_2233_4455_6677));
    assert_eq!(group.start, LogStart { index: 4, term: 1 });
    assert_eq!(group.committed, 5);
    assert_eq!(group.last_index, Some(5));
    assert_eq!(group.term_runs, [(5, 2)]);
    assert_eq!(replay.groups().len(), 1, "the removed group is back");
    assert_eq!(replay.torn_tail(), None);
}

#[test]
fn positions_become_synced_batch_by_batch() {
    let (_, _, mut log, mut writer) = new_log();
    let first = log.append_entry(1, 1, 1, &[b"a"]).expect("there is room");
    let job = log.next_job().expect("there is a batch");
    let second = log.append_entry(1, 1, 2, &[b"b"]).expect("there is room");
    assert!(log.next_job().is_none(), "two writes are in flight");
    assert!(log.synced().expect("the disk works") < first);
    log.complete(writer.execute(job)).expect("the disk works");
    assert_eq!(log.synced().expect("the disk works"), first);
    assert_eq!(run(&mut log, &mut writer).expect("the disk works"), second);
}

#[test]
fn limits_are_errors_before_anything_is_appended() {
    let (disk, _, mut log, mut writer) = new_log();
    let payload_bytes_max = options().payload_bytes_max();
    let largest = vec![1; payload_bytes_max];
    let too_large = vec![1; payload_bytes_max + 1];
    let refused = log.append_entry(1, 1, 1, &[&too_large]);
    assert!(matches!(refused, Err(LogError::EntryTooLarge { .. })), "{refused:?}");

    log.append_entry(1, 1, 1, &[&largest]).expect("the largest entry fits");
    let refused = log.append_entry(1, 1, 2, &[]);
    assert!(matches!(refused, Err(LogError::LogFull { .. })), "{refused:?}");
    run(&mut log, &mut writer).expect("the disk works");
    log.append_entry(1, 1, 2, &[]).expect("there is room again");
    run(&mut log, &mut writer).expect("the disk works");

    let group_count_max = options().group_count_max() as u64;
    for group in 1..=group_count_max {
        log.append_hard_state(group, HardState { term: 1, vote: Some(1) }).expect("there is room");
    }
    let refused = log.append_hard_state(0, HardState::default());
    assert!(matches!(refused, Err(LogError::TooManyGroups { .. })), "{refused:?}");
    log.append_entry(1, 1, 3, &[&largest[..largest.len() / 2]]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    // A segment that begins with the states of all groups takes the largest entry still.
    log.append_entry(1, 1, 4, &[&largest]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (_, _, replay) = open(&disk).expect("the log opens");
    assert_eq!(replay.groups().len() as u64, group_count_max);
    assert_eq!(entries(&replay).len(), 4);
}

/// A shard with a full log refused its clients, and then failed for good when a group had to vote.
#[test]
fn the_shards_own_records_find_room_where_data_does_not() {
    let (disk, _, mut log, mut writer) = new_log();
    let group_count = options().group_count_max() as u64;
    for group in 1..=group_count {
        log.append_hard_state(group, HardState { term: 1, vote: Some(1) }).expect("there is room");
    }
    run(&mut log, &mut writer).expect("the disk works");
    let largest = vec![1; options().payload_bytes_max()];
    // Twice, so that one such batch begins a segment, behind the states of all groups.
    for round in 0..2 {
        log.append_entry(1, 1, 2 * round + 1, &[&largest]).expect("there is room");
        assert!(matches!(log.check_room(1, 0), Err(LogError::LogFull { .. })));
        let refused = log.append_entry(1, 1, 2 * round + 2, &[]);
        assert!(matches!(refused, Err(LogError::LogFull { .. })), "{refused:?}");
        let no_op = EntryKind::NoOp;
        log.append_entry_of_kind(no_op, 1, 1, 2 * round + 2, &[]).expect("a leader has its first");
        log.append_committed(1, 1).expect("it is noted");
        let vote = HardState { term: 2 + round, vote: Some(7) };
        let voted = (1..=group_count).map_while(|id| log.append_hard_state(id, vote).ok()).count();
        assert!((50..100).contains(&voted), "{voted} groups voted: not without limit");
        run(&mut log, &mut writer).expect("the disk works");
        log.check_invariants();
    }
    let (_, _, replay) = open(&disk).expect("the log opens");
    assert_eq!(entries(&replay).len(), 4);
    assert_eq!(replay.groups()[&1].hard_state.term, 3);
}

#[test]
#[should_panic(expected = "entry 3 of group 1 after 1")]
fn a_gap_is_a_defect_of_the_caller() {
    let (_, _, mut log, _) = new_log();
    log.append_entry(1, 1, 1, &[]).expect("there is room");
    log.append_entry(1, 1, 3, &[]).ok();
}

/// After a failure nothing is acknowledged, the error stays, and the disk is left alone.
#[test]
fn a_failed_disk_poisons_the_log() {
    for kind in [OperationKind::Write, OperationKind::Sync] {
        let (disk, control) = Disk::simulated(5);
        let sync = match kind {
            OperationKind::Write => options().sync,
            _ => SyncMode::Periodic { every: std::time::Duration::from_secs(1) },
        };
        let options = LogOptions { sync, ..options() };
        let (mut log, mut writer, _) =
            LogCore::open(&disk, Path::new(DIRECTORY), options).expect("a new log opens");
        log.append_entry(1, 1, 1, &[b"held"]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
        log.append_entry(1, 1, 2, &[b"lost"]).expect("there is room");
        log.request_sync();
        control.fail_nth(kind, 1);
        let failed = run(&mut log, &mut writer);
        assert!(matches!(failed, Err(LogError::Disk { .. })), "{kind:?}: {failed:?}");
        assert!(matches!(log.synced(), Err(LogError::Disk { .. })));
        assert!(matches!(log.append_entry(1, 1, 3, &[]), Err(LogError::Disk { .. })));
        assert!(log.next_job().is_none(), "a failed log gives the writer work");
        let operations = control.operation_count();
        let again = writer.execute(super::LogJob(super::writer::Job::Sync));
        assert!(matches!(again.result, Err(LogError::Disk { .. })));
        assert_eq!(control.operation_count(), operations, "a failed writer went on");
    }
}

#[test]
fn a_full_disk_poisons_the_log_at_the_next_segment() {
    let (_, control, mut log, mut writer) = new_log();
    control.limit_space(Some(0));
    let half = vec![0; options().payload_bytes_max()];
    log.append_entry(1, 1, 1, &[&half]).expect("there is room");
    run(&mut log, &mut writer).expect("the segment was allocated before");
    log.append_entry(1, 1, 2, &[&half]).expect("there is room");
    let failed = run(&mut log, &mut writer);
    let Err(LogError::Disk { cause, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
}

/// A spare file made ahead is the next segment's; that there was no room for one is no failure yet.
#[test]
fn the_next_segments_file_is_made_ahead() {
    let (disk, control, mut log, mut writer) = new_log();
    let half = vec![0; options().payload_bytes_max()];
    assert!(!writer.can_prepare(), "an empty segment needs no successor");
    log.append_entry(1, 1, 1, &[&half]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    control.limit_space(Some(SEGMENT_BYTES_MIN / 2));
    writer.prepare();
    assert!(!writer.can_prepare(), "it tries again and again");
    let names = disk.list(Path::new(DIRECTORY)).expect("the directory is there");
    assert_eq!(names.len(), 1, "a file that cannot be completed stays: {names:?}");
    control.limit_space(Some(SEGMENT_BYTES_MIN));
    log.append_entry(1, 1, 2, &[&half]).expect("there is room");
    run(&mut log, &mut writer).expect("there is room on the disk again");
    control.limit_space(Some(SEGMENT_BYTES_MIN));
    while writer.can_prepare() {
        writer.prepare();
    }
    control.limit_space(Some(0));
    log.append_entry(1, 1, 3, &[&half]).expect("there is room");
    run(&mut log, &mut writer).expect("the file was made ahead");
    control.limit_space(None);
    let (_, _, replay) = open(&disk).expect("the log opens");
    assert_eq!(entries(&replay).len(), 3);
}

/// Rule 7 of the log's rules: oldest first, and only what is flushed whole.
#[test]
fn segments_are_recycled_oldest_first_once_flushed() {
    let (disk, _, mut log, mut writer) = new_log();
    let half = vec![0; options().payload_bytes_max()];
    for index in 1..=6 {
        log.append_entry(index % 2, 1, index.div_ceil(2), &[&half]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    }
    assert_eq!(log.segment_count(), 6);
    assert_eq!(log.oldest_holders().collect::<Vec<_>>(), [(1, 1)]);
    let flush_one = |group| if group == 1 { 3 } else { 0 };
    assert_eq!(log.release(flush_one), 1, "group 0 holds the second segment");
    assert_eq!(log.release(|_| 2), 3);
    assert_eq!(log.release(|_| u64::MAX), 1, "the active segment is given up");
    run(&mut log, &mut writer).expect("the disk works");
    let names = disk.list(Path::new(DIRECTORY)).expect("the directory is there");
    let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((count("segment-"), count("spare-")), (1, 2), "{names:?}");

    // A recycled file's former life is not taken for this one's.
    log.append_entry(0, 1, 4, &[b"new"]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (_, _, replay) = open(&disk).expect("the log opens");
    let found: Vec<_> =
        entries(&replay).into_iter().map(|(group, _, index, _)| (group, index)).collect();
    assert_eq!(found, [(0, 3), (0, 4)]);
}

/// A replica that is made anew where another was removed has to vote as that one would have.
#[test]
fn of_a_removed_group_its_vote_and_its_end_stay() {
    let (disk, _, mut log, mut writer) = new_log();
    let end = |term, index| FormerEnd { term, index };
    let vote = HardState { term: 7, vote: Some(3) };
    log.append_hard_state(1, vote).expect("there is room");
    log.append_entry(1, 6, 1, &[b"a"]).expect("there is room");
    assert_eq!(log.former(1), Default::default(), "it is here");
    log.append_remove(1, end(6, 1)).expect("there is room");
    assert_eq!(log.former(1), (vote, end(6, 1)));
    run(&mut log, &mut writer).expect("the disk works");
    let (mut log, mut writer, replay) = open(&disk).expect("the log opens");
    assert!(replay.groups().is_empty() && entries(&replay).is_empty());
    assert_eq!(replay.removed()[&1].former_end, end(6, 1));
    drop(replay);

    // The segments that said so go, and the group comes back and goes once more.
    run(&mut log, &mut writer).expect("the disk works");
    assert_eq!(log.release(|_| u64::MAX), 1);
    run(&mut log, &mut writer).expect("the disk works");
    let (mut log, mut writer, _) = open(&disk).expect("the log opens");
    assert_eq!(log.former(1), (vote, end(6, 1)));
    log.append_start(1, LogStart::default(), b"members").expect("there is room");
    assert_eq!(log.former(1), Default::default(), "it is here again");
    log.append_entry(1, 6, 1, &[b"a"]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (mut log, mut writer, replay) = open(&disk).expect("the log opens");
    let group = &replay.groups()[&1];
    assert_eq!((group.hard_state, group.former_end), (vote, end(6, 1)));
    assert_eq!(entries(&replay), [(1, 6, 1, b"a".to_vec())]);
    log.append_remove(1, end(5, 9)).expect("there is room");
    assert_eq!(log.former(1), (vote, end(6, 1)), "the later term counts");
    run(&mut log, &mut writer).expect("the disk works");
}

#[test]
fn a_replay_keeps_its_segments_from_being_recycled() {
    let (disk, _, mut log, mut writer) = new_log();
    log.append_entry(1, 1, 1, &[b"a"]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (mut log, mut writer, replay) = open(&disk).expect("the log opens");
    assert_eq!(log.release(|_| 1), 0);
    assert_eq!(entries(&replay).len(), 1);
    drop(replay);
    assert_eq!(log.release(|_| 1), 1);
    run(&mut log, &mut writer).expect("the disk works");
}

#[test]
fn the_flushed_index_is_skipped_and_conflicts_are_void() {
    let (disk, _, mut log, mut writer) = new_log();
    for (term, index) in [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)] {
        log.append_entry(1, term, index, &[&[term as u8]]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    }
    let (_, _, replay) = open(&disk).expect("the log opens");
    let found: Vec<_> =
        entries(&replay).iter().map(|(_, term, index, _)| (*term, *index)).collect();
    assert_eq!(found, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(replay.groups()[&1].term_runs, [(1, 1), (2, 2), (3, 3)]);
    let mut rest = Vec::new();
    let stopped = replay.entries(
        |_| 1,
        |entry| {
            rest.push(entry.index);
            Err(entry.term)
        },
    );
    assert_eq!((stopped, rest), (Err(2), vec![2]), "the callback's error ends the replay");
}

/// One write in flight reached the disk in part: its valid prefix stays, the rest is cut, and the
/// next opening agrees because the new segment says where the old one ends.
#[test]
fn a_torn_batch_is_cut_and_stays_cut() {
    let (disk, control, mut log, mut writer) = new_log();
    log.append_entry(1, 1, 1, &[b"synced"]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    log.append_entry(1, 1, 2, &[b"first of the batch"]).expect("there is room");
    log.append_entry(1, 1, 3, &[&[3; 9000]]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let segment = Path::new(DIRECTORY).join("segment-0000000000000001.log");
    control.flip_bit(&segment, (3 * BLOCK_BYTES + 5000) * 8).expect("the segment is there");
    let offset = 3 * BLOCK_BYTES + 32 + 36 + 18;
    for opening in 0..3 {
        let (_, _, replay) = open(&disk).expect("a torn tail is no corruption");
        assert_eq!(entries(&replay).len(), 2);
        let torn = (opening == 0).then_some(TornTail { segment: 1, offset });
        assert_eq!(replay.torn_tail(), torn);
    }
}

#[test]
fn a_log_of_another_shard_or_an_older_copy_does_not_open() {
    let disk = golden_disk();
    let other = LogOptions { shard: 8, ..options() };
    let refused = LogCore::open(&disk, Path::new(DIRECTORY), other).map(|_| ());
    let expected = Corruption::Shard { found: 7 };
    assert!(
        matches!(refused, Err(LogError::Corrupt { corruption, .. }) if corruption == expected),
        "{refused:?}"
    );
    let first = Path::new(DIRECTORY).join("segment-0000000000000001.log");
    let second = Path::new(DIRECTORY).join("segment-0000000000000002.log");
    disk.rename(&second, &first).expect("both are there");
    let refused = open(&disk).map(|_| ());
    let expected = Corruption::Sequence { found: 2 };
    assert!(
        matches!(refused, Err(LogError::Corrupt { corruption, .. }) if corruption == expected),
        "{refused:?}"
    );
}

/// The corpus of the fuzz target is this one file.
#[test]
fn the_golden_segment_stands_in_the_corpus() {
    let seeds = [("golden".to_owned(), golden_segment())].into();
    let files = model::golden::check_corpus("corpus/segments", &seeds);
    assert_eq!(files.len(), 1);
}

/// The golden segment cut, with bytes changed, and with lengths made extreme.
#[test]
fn hostile_segments_do_no_harm() {
    let golden = golden_segment();
    assert_eq!(fuzz_segment(&golden), 11);
    assert_eq!(fuzz_segment(&[]), 0);
    for length in (0..golden.len()).step_by(97) {
        fuzz_segment(&golden[..length]);
    }
    for offset in (0..5 * BLOCK_BYTES as usize).filter(|o| o % BLOCK_BYTES as usize <= 160) {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut segment = golden.clone();
            segment[offset..offset + 4].fill(value);
            fuzz_segment(&segment);
        }
    }
}

/// Lengths whose checksum is right: the decoder's own checks must hold.
#[test]
fn a_batch_that_claims_more_than_it_has_is_refused() {
    let (_, seed) = super::format::SegmentHeader::decode(&golden_segment()).expect("it is golden");
    for (length, record_count) in [(0, 0), (31, 0), (u32::MAX, 1), (64, u32::MAX), (32, 9)] {
        let mut segment = golden_segment();
        let offset = 2 * BLOCK_BYTES;
        let header =
            super::format::BatchHeader { length, record_count, offset, synced_offset: offset };
        let (bytes, _) = header.encode(seed);
        segment[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(fuzz_segment(&segment), 2, "more than the states' batch was read");
    }
}

#[test]
fn an_opening_begins_with_a_short_segment_and_goes_on_with_whole_ones() {
    let (disk, _control) = Disk::simulated(1);
    let options = LogOptions { segment_bytes: 4 * FIRST_SEGMENT_BYTES, ..options() };
    let open = || LogCore::open(&disk, Path::new(DIRECTORY), options).expect("the log opens");
    let lengths = || -> Vec<u64> {
        let names = disk.list(Path::new(DIRECTORY)).expect("the directory lists");
        let segments = names.iter().filter(|name| name.starts_with("segment-"));
        let open = |name| disk.open(&Path::new(DIRECTORY).join(name), OpenMode::Read);
        segments.map(|name| open(name).and_then(|file| file.len()).expect("it opens")).collect()
    };
    let (mut log, mut writer, _) = open();
    assert_eq!(lengths(), [FIRST_SEGMENT_BYTES]);
    let payload = vec![0xCD; 300_000];
    for index in 1..=8 {
        log.append_entry(1, 1, index, &[&payload]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    }
    assert_eq!(lengths(), [FIRST_SEGMENT_BYTES, 4 * FIRST_SEGMENT_BYTES]);
    assert_eq!(log.release(|_| 3), 1, "the short one is given up");
    run(&mut log, &mut writer).expect("the disk works");
    let (_, _, replay) = open();
    let indexes: Vec<u64> = entries(&replay).iter().map(|entry| entry.2).collect();
    assert_eq!(indexes, [4, 5, 6, 7, 8]);
    assert_eq!(lengths().last(), Some(&FIRST_SEGMENT_BYTES), "no spare file was ready");
}

/// Syncs and recycling once waited until there was nothing to write, which under load is never.
#[test]
fn a_log_that_is_always_written_to_syncs_and_recycles_too() {
    let (disk, _) = Disk::simulated(9);
    let sync = SyncMode::Periodic { every: std::time::Duration::from_secs(10) };
    let options = LogOptions { sync, ..options() };
    let (mut log, mut writer, _) =
        LogCore::open(&disk, Path::new(DIRECTORY), options).expect("a new log opens");
    for index in 1..=400 {
        let end = log.append_entry(1, 1, index, &[&[7; 1_000]]).expect("there is room");
        if index.is_multiple_of(10) {
            log.release(|_| index - 1);
            log.request_sync();
        }
        let job = log.next_job().expect("there is something to write");
        let report = writer.execute(job);
        log.complete(report).expect("the disk works");
        let lag_bytes = end.0 - log.durable().0;
        assert!(lag_bytes < 50_000, "entry {index}: {lag_bytes} bytes behind");
    }
    let files = disk.list(Path::new(DIRECTORY)).expect("the directory is there");
    assert!(files.len() <= 5, "segments are not recycled: {files:?}");
}

/// What a follower that lags is sent: read while the log goes on, in pieces, over segments, and
/// never an entry that another took the place of.
#[test]
fn entries_are_read_back_by_index_and_term() {
    let (_, _, mut log, mut writer) = new_log();
    let payload = |term: u64, index: u64| vec![(term * 50 + index) as u8; 700];
    for index in 1..=60 {
        log.append_entry(1, 1, index, &[&payload(1, index)]).expect("there is room");
        log.append_entry(2, 1, index, &[b"another group's"]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    }
    assert!(log.segment_count() > 1, "the entries lie in several segments");
    for index in 41..=80 {
        log.append_entry(1, 2, index, &[&payload(2, index)]).expect("there is room");
    }
    run(&mut log, &mut writer).expect("the disk works");
    let start = log.read_start(1, 1).expect("the log has it");
    let wanted = |first, bytes_max, from: Option<ReadPlace>| WantedEntries {
        group: 1,
        first,
        last: 80,
        terms: vec![(1, 1), (41, 2)],
        bytes_max,
        from: from.unwrap_or(start),
    };
    let read_one = |log: &LogCore, wanted: WantedEntries| {
        let read = log.read(vec![wanted]).run().expect("the disk works");
        <[ReadEntries; 1]>::try_from(read).expect("one for each")
    };
    let (mut next, mut place) = (1, None);
    while next <= 80 {
        let [read] = read_one(&log, wanted(next, 5_000, place));
        assert!(read.entries.len() <= 8, "no more than was asked for");
        for entry in &read.entries {
            let term = if next <= 40 { 1 } else { 2 };
            assert_eq!((entry.index, entry.term), (next, term));
            assert_eq!(entry.payload, payload(term, next));
            next += 1;
        }
        assert!(!read.entries.is_empty(), "entry {next} is not found");
        place = read.place;
    }
    let other = WantedEntries { terms: vec![(1, 3)], ..wanted(1, 5_000, None) };
    assert_eq!(read_one(&log, other), [ReadEntries::default()], "the log has another");
    assert_eq!(read_one(&log, wanted(10, 1, place)), [ReadEntries::default()], "too late a place");
    let later = log.read_start(1, 45).expect("the log has it");
    assert!(later > start, "segments that have nothing of it are passed over");
    assert_eq!(read_one(&log, wanted(45, 1, Some(later)))[0].entries.len(), 1);
    assert_eq!(log.read_start(1, 81), None);

    let of_another =
        WantedEntries { group: 2, last: 60, terms: vec![(1, 1)], ..wanted(58, 99, None) };
    let several =
        vec![wanted(79, 5_000, place), of_another, wanted(3, 1, None), wanted(79, 1, place)];
    let read = log.read(several).run().expect("the disk works");
    let indexes = |read: &ReadEntries| read.entries.iter().map(|e| e.index).collect::<Vec<_>>();
    let found: Vec<_> = read.iter().map(indexes).collect();
    assert_eq!(found, [vec![79, 80], vec![58, 59, 60], vec![3], vec![79]], "each has its own");

    assert!(log.release(|_| 30) > 0, "some segment goes");
    run(&mut log, &mut writer).expect("the disk works");
    assert!(read_one(&log, wanted(1, 5_000, None))[0].entries.is_empty());
}

/// Entries that lie far apart do not have what is between read again for each.
#[test]
fn a_pass_over_the_log_ends_after_so_many_bytes_and_says_where_to_go_on() {
    let options = LogOptions { segment_bytes: 32 << 20, ..LogOptions::new(7, 9) };
    let (disk, _) = Disk::simulated(1);
    let (mut log, mut writer, _) =
        LogCore::open(&disk, Path::new(DIRECTORY), options).expect("a new log opens");
    let filler = vec![7; 8 << 20];
    let mut append = |group, index, payload: &[u8]| {
        log.append_entry(group, 1, index, &[payload]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    };
    append(1, 1, b"first");
    append(2, 1, b"first");
    (1..=12).for_each(|index| append(3, index, &filler));
    append(1, 2, b"second");
    let wanted = |group, first, last, from| WantedEntries {
        group,
        first,
        last,
        terms: vec![(1, 1)],
        bytes_max: 1 << 20,
        from,
    };
    let start = log.read_start(1, 1).expect("the log has it");
    let all = vec![wanted(1, 2, 2, start), wanted(2, 1, 1, start), wanted(3, 1, 12, start)];
    let read = log.read(all).run().expect("the disk works");
    assert_eq!(read[1].entries.len(), 1);
    assert!(read[0].entries.is_empty(), "it lies further than a pass goes");
    let place = read[0].place.expect("the pass says where to go on");
    assert!(place > start);
    let read = log.read(vec![wanted(1, 2, 2, place)]).run().expect("the disk works");
    assert_eq!(read[0].entries.len(), 1);

    let all = WantedEntries { bytes_max: usize::MAX, ..wanted(3, 1, 12, start) };
    let read = log.read(vec![all]).run().expect("the disk works");
    assert_eq!(
        read[0].entries.len(),
        2,
        "a pass ends when what it found takes its share of memory"
    );
}

#[test]
fn kinds_of_entries_and_what_is_committed_come_back() {
    let (disk, _, mut log, mut writer) = new_log();
    let kinds = [EntryKind::NoOp, EntryKind::Membership, EntryKind::Data, EntryKind::Membership];
    for (index, kind) in (1..).zip(kinds) {
        log.append_entry_of_kind(kind, 1, 1, index, &[b"four"]).expect("there is room");
    }
    log.append_committed(1, 2).expect("there is room");
    log.append_entry(1, 2, 4, &[b"instead"]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    let (_, _, replay) = open(&disk).expect("the log opens");
    let mut found = Vec::new();
    replay
        .entries(
            |_| 0,
            |entry| {
                found.push(entry.kind);
                Ok::<(), ()>(())
            },
        )
        .expect("nothing fails");
    assert_eq!(found, [EntryKind::NoOp, EntryKind::Membership, EntryKind::Data, EntryKind::Data]);
    let group = &replay.groups()[&1];
    assert_eq!(group.committed, 2);
    assert_eq!(group.memberships, [(2, b"four".to_vec())], "the second was voided");
}

/// What an entry named is not forgotten with the segment that held the entry, and neither is what no
/// entry ever named.
#[test]
fn members_stand_at_the_start_of_every_segment() {
    let (disk, _, mut log, mut writer) = new_log();
    log.append_start(1, LogStart::default(), b"founders").expect("there is room");
    log.append_start(2, LogStart::default(), b"others").expect("there is room");
    log.append_entry_of_kind(EntryKind::Membership, 1, 1, 1, &[b"later"]).expect("there is room");
    for index in 2..60 {
        log.append_entry(1, 1, index, &[&[7; 3_000]]).expect("there is room");
        run(&mut log, &mut writer).expect("the disk works");
    }
    assert!(log.segment_count() > 2, "the log has gone on in other segments");
    let start = LogStart { index: 30, term: 1 };
    log.append_start(1, start, b"later").expect("there is room");
    log.append_start(1, LogStart { index: 31, term: 1 }, &[]).expect("there is room");
    run(&mut log, &mut writer).expect("the disk works");
    assert!(log.release(|_| 31) > 0, "the first segment goes");
    run(&mut log, &mut writer).expect("the disk works");
    log.check_invariants();
    drop((log, writer));
    for _ in 0..2 {
        let (_, _, replay) = open(&disk).expect("the log opens");
        let groups = replay.groups();
        assert_eq!(groups[&1].start, LogStart { index: 31, term: 1 });
        assert_eq!(groups[&1].start_members.as_deref(), Some(&b"later"[..]));
        assert_eq!(groups[&2].start_members.as_deref(), Some(&b"others"[..]), "without an entry");
    }

    let (mut log, ..) = open(&disk).expect("the log opens");
    let members = vec![1; MEMBER_BYTES_MAX];
    let taken = (3..).map(|group| log.append_start(group, LogStart::default(), &members));
    let refused = taken.into_iter().find_map(Result::err);
    assert!(matches!(refused, Some(LogError::TooManyGroups { .. })), "{refused:?}");
}
