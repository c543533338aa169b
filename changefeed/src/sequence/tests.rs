//! Numbers are the same however often, and from wherever, the log is read.

use super::*;
use cdc::rows::Operation;
use cdc::time_uuid::log_time_uuid;
use model::TableId;

/// 2026 or so.
const START: i64 = 1_780_000_000_000_000;

/// Groups of so many rows at so many microseconds after [`START`].
fn log(groups: &[(i64, usize)]) -> Vec<LogRow> {
    let mut rows = Vec::new();
    for (counter, (micros, row_count)) in groups.iter().enumerate() {
        let time = log_time_uuid(START + micros, counter as u64);
        for batch_seq_no in 0..*row_count as i32 {
            let key = LogKey { time, table: TableId(1), stream: [1; 16], batch_seq_no };
            let end_of_batch = batch_seq_no as usize == row_count - 1;
            rows.push(LogRow::without_cells(key, Operation::Update, end_of_batch));
        }
    }
    rows
}

/// Every row above a time with its number, those that were delivered left out.
fn numbered(
    (mut sequencer, above): (Sequencer, TimestampMicros),
    log: &[LogRow],
    cuts: usize,
) -> Vec<Position> {
    let rows: Vec<LogRow> = log.iter().filter(|row| row.key.micros() > above).cloned().collect();
    let mut out = Vec::new();
    let microseconds: Vec<&[LogRow]> =
        rows.chunk_by(|a, b| a.key.micros() == b.key.micros()).collect();
    for batch in microseconds.chunks(cuts) {
        let batch = batch.concat();
        for group in sequencer.number(&batch) {
            let positions = (0..group.rows.len()).map(|index| group.position(index));
            out.extend(positions.filter(|position| position.sequence > group.delivered));
        }
    }
    out
}

#[test]
fn numbers_are_made_of_milliseconds_and_ranks() {
    let log = log(&[(0, 2), (999, 1), (1_000, 1), (5_000, 3)]);
    let all = numbered(Sequencer::start(START), &log, 100);
    let first = (START as u64 / 1_000 - FIRST_MILLI as u64) * 4_096;
    let numbers: Vec<u64> = all.iter().map(|position| position.sequence - first).collect();
    assert_eq!(numbers, [0, 1, 2, 4_096, 20_480, 20_481, 20_482]);
    assert!(all.iter().all(|position| position.sequence <= SEQUENCE_MAX));
}

#[test]
fn ranks_carry_into_the_next_millisecond() {
    let log = log(&[(0, 5_000), (1_000, 1), (1_001, 8_000), (2_000, 1), (4_000, 1)]);
    let all = numbered(Sequencer::start(START), &log, 100);
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    let first = all[0].sequence;
    assert_eq!(all[5_000].sequence, first + 5_000);
    assert_eq!(all[13_001].sequence, first + 13_001);
    assert_eq!(all[13_002].sequence, first + 4 * 4_096);
}

#[test]
fn going_on_from_any_row_gives_the_same_numbers() {
    let log =
        log(&[(0, 3), (0, 2), (1, 4_100), (7, 1), (999, 2), (1_000, 1), (1_500, 2), (9_000, 1)]);
    let all = numbered(Sequencer::start(START), &log, 100);
    assert_eq!(all.len(), log.len());
    for (index, position) in
        all.iter().enumerate().filter(|(index, _)| index % 499 == 0 || *index < 9 || *index > 4_100)
    {
        for cuts in [1, 100] {
            let rest = numbered(Sequencer::resume(position), &log, cuts);
            assert_eq!(rest, all[index + 1..], "after row {index}");
            let by_number = Sequencer::start_at(StartAt::Sequence(position.sequence));
            assert_eq!(numbered(by_number, &log, cuts), all[index + 1..], "after row {index}");
        }
    }
}

#[test]
fn going_on_works_when_rows_have_expired() {
    let log = log(&[(0, 3), (1, 1), (2, 2)]);
    let all = numbered(Sequencer::start(START), &log, 100);
    let rest = numbered(Sequencer::resume(&all[2]), &log[3..], 100);
    assert_eq!(rest, all[3..]);
}

#[test]
fn a_start_at_a_time_begins_with_what_is_there() {
    let log = log(&[(-2_000_000, 1), (-10, 4_097), (0, 1), (5_000, 1)]);
    let all = numbered(Sequencer::start(START - 3_000_000), &log, 100);
    let from_start = numbered(Sequencer::start(START), &log, 100);
    assert_eq!(from_start, all[4_098..]);
    let at = Sequencer::start_at(StartAt::Timestamp(START / 1_000));
    assert_eq!(numbered(at, &log, 100), from_start);
}

#[test]
fn nothing_later_is_at_or_below_what_is_resolved() {
    let log = log(&[(0, 5_000), (2_000, 1)]);
    let (mut sequencer, _) = Sequencer::start(START);
    let last = sequencer.number(&log[..5_000]).map(|group| group.first + 4_999).last().unwrap();
    let resolved = sequencer.resolved(START + 1_999);
    assert!(resolved >= last);
    let next = sequencer.number(&log[5_000..]).next().unwrap().first;
    assert!(next > resolved);
    assert!(sequencer.resolved(START + 10_000) > next);

    let position = position_at(START + 1_999, resolved);
    assert_eq!(position.key.micros(), START + 1_999);
    let rest = numbered(Sequencer::resume(&position), &log, 1);
    assert_eq!((rest.len(), rest[0].sequence), (1, next));
}
