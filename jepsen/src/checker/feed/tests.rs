//! Histories of changefeeds that are right, and those that are wrong in one way each.

use super::*;
use crate::feeds::history::Place;

/// Row 1 gets 10, then 11; row 2 gets 20, of unknown fate; 30 is refused. Their numbers are 100, 110,
/// 120.
fn writes() -> Vec<Entry> {
    let write =
        |began, ended, key, value, outcome| Entry::Write { began, ended, key, value, outcome };
    vec![
        write(1, 5, 1, 10, Written::Ok),
        write(6, 9, 1, 11, Written::Ok),
        write(3, 20, 2, 20, Written::Info),
        write(3, 20, 3, 30, Written::Fail),
    ]
}

fn place(feed: &str) -> Place {
    Place { feed: feed.to_owned(), partition: 0, offset: None }
}

fn begin(feed: &str, above: u64) -> Entry {
    Entry::Begin { feed: feed.to_owned(), above }
}

fn told_of(key: i64, value: i64, sequence: u64) -> Entry {
    Entry::Told { nanos: 50, place: place("f"), key, value, sequence, is_acknowledged: true }
}

/// The event of that number.
fn told(sequence: u64) -> Entry {
    let (key, value) = match sequence {
        100 => (1, 10),
        110 => (1, 11),
        _ => (2, 20),
    };
    told_of(key, value, sequence)
}

fn refused(sequence: u64) -> Entry {
    let mut told = told(sequence);
    if let Entry::Told { is_acknowledged, .. } = &mut told {
        *is_acknowledged = false;
    }
    told
}

fn of_feed(mut entry: Entry, name: &str) -> Entry {
    if let Entry::Told { place, .. } = &mut entry {
        name.clone_into(&mut place.feed);
    }
    entry
}

/// At an offset of a partition of a topic.
fn at(mut entry: Entry, to: u32, number: u64) -> Entry {
    if let Entry::Told { place, .. } | Entry::Mark { place, .. } = &mut entry {
        (place.partition, place.offset) = (to, Some(number));
    }
    entry
}

fn mark(sequence: u64) -> Entry {
    Entry::Mark { nanos: 50, place: place("f"), sequence }
}

fn position(nanos: u64, sequence: u64, epoch: u64) -> Entry {
    Entry::Position { nanos, feed: "f".to_owned(), sequence, epoch }
}

/// A history in which the feed tells this, and the table is as the writes say.
fn verdict(of_feed: &[Entry]) -> Verdict {
    verdict_of(of_feed, &[(1, 11), (2, 20)])
}

fn verdict_of(of_feed: &[Entry], table: &[(i64, i64)]) -> Verdict {
    let table = Entry::Table { rows: table.to_vec() };
    check(&[writes(), vec![begin("f", 0)], of_feed.to_vec(), vec![table]].concat())
}

#[track_caller]
fn is_valid(of_feed: &[Entry]) {
    assert_eq!(verdict(of_feed), Verdict::Valid);
}

#[track_caller]
fn is_wrong(of_feed: &[Entry], reason: &str) {
    let verdict = verdict(of_feed);
    let Verdict::Invalid(text) = &verdict else { panic!("{verdict}") };
    assert!(text.contains(reason), "{text}");
}

#[test]
fn what_feeds_may_do_is_valid() {
    is_valid(&[told(100), told(110), told(120)]);
    is_valid(&[told(120), told(100), told(110)]);
    is_valid(&[refused(100), refused(100), told(100), told(110), told(120)]);
    is_valid(&[told(100), mark(100), mark(105), told(110), told(120), mark(120)]);
    is_valid(&[told(100), told(110), mark(110), position(60, 110, 4), told(120)]);
    // A write of unknown fate was not done.
    assert_eq!(verdict_of(&[told(100), told(110)], &[(1, 11)]), Verdict::Valid);
    // The next owner begins again where the position was, also behind a mark.
    let again =
        [position(50, 0, 3), told(100), told(110), mark(110), position(60, 0, 5), told(100)];
    is_valid(&[&again[..], &[told(110), told(120)]].concat());
}

#[test]
fn a_lost_event_is_noticed() {
    is_wrong(&[told(100), told(120)], "11 was not delivered");
    is_wrong(&[told(100), refused(110), told(120)], "11 was not delivered");
    is_wrong(&[told(100), told(110), refused(120)], "20 was not delivered");
}

#[test]
fn events_that_nobody_wrote_are_noticed() {
    let rest = [told(100), told(110), told(120)];
    is_wrong(&[&rest[..], &[told_of(3, 30, 130)]].concat(), "which was refused");
    is_wrong(&[&rest[..], &[told_of(3, 31, 130)]].concat(), "which nobody wrote");
    is_wrong(&[told(100), told_of(2, 11, 110), told(120)], "of row 2, and written to 1");
    is_wrong(&[&rest[..], &[told_of(1, 11, 111)]].concat(), "11 is number 110 and 111");
    is_wrong(&[told(100), told(110), told_of(2, 20, 110)], "number 110 is 11");
}

#[test]
fn events_out_of_order_are_noticed() {
    is_wrong(&[told(110), told(100), told(120)], "row 1: number 100 comes behind 110");
    // In order by their numbers, but not by when they were written.
    let reversed = [told_of(1, 11, 100), told_of(1, 10, 110), told(120)];
    is_wrong(&reversed, "10 was written before 11, and numbered behind it");
}

#[test]
fn a_mark_that_is_not_kept_is_noticed() {
    is_wrong(&[told(100), mark(110), told(110), told(120)], "number 110 comes behind the mark");
    is_wrong(&[told(100), told(110), mark(130), told(120)], "number 120 comes behind the mark");
}

#[test]
fn a_repeat_without_a_cause_is_noticed() {
    let repeat = [told(100), told(110), told(110), told(120)];
    is_wrong(&repeat, "number 110 was acknowledged 1 times and comes again");
    let epochs = [position(60, 0, 3), position(70, 0, 4)];
    is_valid(&[&repeat[..], &epochs].concat());
    let often = [told(100), told(110), told(110), told(110), told(110), told(120)];
    is_wrong(&[&often[..], &epochs].concat(), "number 110 was acknowledged 3 times");
}

#[test]
fn a_position_ahead_of_the_reader_is_noticed() {
    let late = [told(100), told(110), told(120)];
    is_wrong(&[&[position(49, 110, 3)], &late[..]].concat(), "its position was 110 before");
    is_valid(&[&[position(50, 110, 3)], &late[..]].concat());
}

#[test]
fn a_position_of_a_former_owner_is_noticed() {
    let told = [told(100), told(110), told(120)];
    let positions = [position(60, 110, 3), position(70, 100, 4)];
    is_wrong(&[&told[..], &positions].concat(), "its position was 110 in epoch 3, and 100 in 4");
}

#[test]
fn a_table_that_is_another_is_noticed() {
    let told = [told(100), told(110), told(120)];
    let wrong = verdict_of(&told, &[(1, 10), (2, 20)]);
    assert!(matches!(wrong, Verdict::Invalid(_)), "{wrong}");
    assert!(matches!(verdict_of(&told, &[(1, 11)]), Verdict::Invalid(_)));
}

#[test]
fn a_feed_that_begins_behind_a_number_owes_the_rest() {
    let rest = [told(100), told(110), told(120), begin("g", 100)];
    let of_g = |sequences: &[u64]| {
        let told = sequences.iter().map(|sequence| of_feed(told(*sequence), "g"));
        verdict(&[&rest[..], &told.collect::<Vec<_>>()].concat())
    };
    assert_eq!(of_g(&[110, 120]), Verdict::Valid);
    assert!(matches!(of_g(&[120]), Verdict::Invalid(text) if text.contains("feed g: 11")));
}

#[test]
fn topics_are_judged_by_their_offsets() {
    let topic = [at(told(100), 0, 0), at(told(110), 0, 1), at(told(120), 1, 0)];
    is_valid(&topic);
    // A reader that was killed reads again.
    is_valid(&[&topic[..], &[at(told(100), 0, 0), at(told(110), 0, 1)]].concat());
    // The feed sends again.
    let repeat = [&topic[..], &[at(told(110), 0, 2)]].concat();
    is_wrong(&repeat, "comes again");
    is_valid(&[&repeat[..], &[Entry::Broker { nanos: 7 }]].concat());
    // The reader came back behind what it had read.
    let hole = [at(told(100), 0, 0), at(told(110), 0, 2), at(told(120), 1, 0)];
    is_wrong(&hole, "message 1 of partition 0 was never read");
    let mark = [&topic[..], &[at(mark(130), 1, 1), at(told_of(2, 20, 120), 1, 2)]].concat();
    is_wrong(&mark, "comes again");
}

#[test]
fn a_history_without_an_end_is_no_pass() {
    assert!(matches!(check(&writes()), Verdict::Unknown(_)), "no table");
    assert!(matches!(check(&[Entry::Table { rows: Vec::new() }]), Verdict::Unknown(_)), "no write");
}
