//! Tests of links: what is gathered, what is cut, and that nothing is lost unnoticed.

use super::*;
use crate::consensus::{EntryId, LogIndex, Message, Term};
use crate::liveness::{Incarnation, MonotonicNanos};
use crate::placement::GroupId;

const NOW: MonotonicNanos = MonotonicNanos(1_000);
const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

/// Entries of one size, all there; everybody leads everything.
struct Sized(usize);

impl EntryBytes for Sized {
    fn commit(&self, _: GroupId, term: Term) -> Option<LogIndex> {
        (term == Term(1)).then_some(LogIndex(0))
    }

    fn entry(&self, _: GroupId, index: LogIndex) -> Option<(EntryId, usize)> {
        Some((EntryId { index, term: Term(1) }, self.0))
    }

    fn missing(&self, _: GroupId, rest: Item) {
        unreachable!("every entry is there: {rest:?}");
    }
}

fn append(previous: u64, last: u64) -> Item {
    let previous = EntryId { index: LogIndex(previous), term: Term(1) };
    Item::Append { term: Term(1), previous, last: LogIndex(last), commit: LogIndex(0) }
}

fn accepted(matched: u64) -> Item {
    Item::Consensus(Message::AppendAccepted { term: Term(1), matched: LogIndex(matched) })
}

fn receive(link: &mut Link, envelope: Envelope) -> Vec<Event> {
    let mut events = Vec::new();
    link.receive(envelope, NOW, &mut events);
    events
}

#[test]
fn what_waits_becomes_one_item_per_group() {
    let mut link = Link::new(Incarnation(1));
    for index in 1..=100 {
        link.push(ONE, append(index - 1, index));
        link.push(TWO, accepted(index));
    }
    let envelope = link.take(&Sized(10), NOW).unwrap();
    assert_eq!(envelope.items, [(ONE, append(0, 100)), (TWO, accepted(100))]);
    link.push(ONE, append(100, 101));
    link.push(ONE, append(50, 51));
    let envelope = link.take(&Sized(10), NOW).unwrap();
    let both = [(ONE, append(100, 101)), (ONE, append(50, 51))];
    assert_eq!(envelope.items, both, "a repeated append does not continue the one before");
}

#[test]
fn what_is_committed_is_said_with_the_append_that_waits() {
    let mut link = Link::new(Incarnation(1));
    let committed = |commit| Item::Consensus(Message::Commit { term: Term(1), commit });
    link.push(ONE, append(0, 1));
    link.push(ONE, committed(LogIndex(1)));
    link.push(TWO, committed(LogIndex(1)));
    link.push(TWO, committed(LogIndex(2)));
    let envelope = link.take(&Sized(10), NOW).unwrap();
    let [(ONE, Item::Append { commit: LogIndex(1), .. }), commit] = &envelope.items[..] else {
        panic!("an append that says it, and by itself: {:?}", envelope.items);
    };
    assert_eq!(*commit, (TWO, committed(LogIndex(2))));
    link.push(ONE, committed(LogIndex(1)));
    link.push(ONE, append(1, 2));
    assert_eq!(link.take(&Sized(10), NOW).unwrap().items, [(ONE, append(1, 2))]);
}

#[test]
fn a_full_envelope_cuts_an_append_and_a_slow_peer_stops_the_link() {
    let mut link = Link::new(Incarnation(1));
    link.push(ONE, append(0, 1_000));
    let size = BYTES_PER_ENVELOPE_MAX / 4;
    let mut next = 0;
    let mut envelopes = Vec::new();
    while let Some(envelope) = link.take(&Sized(size), NOW) {
        let [(ONE, Item::Append { previous, last, .. })] = envelope.items[..] else {
            panic!("one append");
        };
        assert_eq!(previous.index.0, next, "without a gap");
        assert!(last.0 - next <= 4);
        next = last.0;
        envelopes.push(envelope);
    }
    assert!(link.in_flight_bytes() < BYTES_IN_FLIGHT_MAX + 2 * BYTES_PER_ENVELOPE_MAX);
    assert!(next < 100, "bytes are not fetched before there is room");

    let mut other = Link::new(Incarnation(1));
    for envelope in envelopes {
        assert!(matches!(receive(&mut other, envelope)[..], [Event::Items(_)]));
    }
    let answer = other.take(&Sized(size), NOW).unwrap();
    assert!(receive(&mut link, answer).is_empty());
    assert_eq!(link.in_flight_bytes(), 0);
    assert!(link.take(&Sized(size), NOW).is_some(), "and it goes on");
}

#[test]
fn a_silent_link_stays_silent() {
    let (mut link, mut other) = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
    link.push(ONE, accepted(1));
    let envelope = link.take(&Sized(1), NOW).unwrap();
    receive(&mut other, envelope);
    assert_eq!(other.take(&Sized(1), NOW), None, "it says what it took when it is asked");
    let question = link.take(&Sized(1), link.next_tick().unwrap()).unwrap();
    receive(&mut other, question);
    let answer = other.take(&Sized(1), NOW).unwrap();
    assert!(receive(&mut link, answer).is_empty());
    for end in [&mut link, &mut other] {
        assert_eq!(end.take(&Sized(1), NOW.after(1 << 60)), None);
        assert_eq!(end.next_tick(), None);
    }
}

#[test]
fn what_is_sent_anyhow_says_what_was_taken() {
    let (mut link, mut other) = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
    link.push(ONE, append(0, 1));
    let envelope = link.take(&Sized(1), NOW).unwrap();
    receive(&mut other, envelope);
    other.push(ONE, accepted(1));
    let answer = other.take(&Sized(1), NOW).unwrap();
    assert_eq!(receive(&mut link, answer).len(), 1);
    assert_eq!((link.in_flight_bytes(), link.next_tick()), (0, None));
}

#[test]
fn a_lost_last_envelope_is_noticed_by_what_is_said_again() {
    let (mut link, mut other) = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
    link.push(ONE, accepted(1));
    drop(link.take(&Sized(1), NOW).unwrap());
    assert_eq!(link.take(&Sized(1), NOW), None, "it waits for the answer");
    let again = link.take(&Sized(1), NOW.after(REPEAT_NANOS)).unwrap();
    assert!(again.items.is_empty(), "nothing is sent twice");
    assert_eq!(receive(&mut other, again), [Event::Reset]);
    let refusal = other.take(&Sized(1), NOW).unwrap();
    assert_eq!(receive(&mut link, refusal.clone()), [Event::Reset]);
    assert!(receive(&mut link, refusal).is_empty(), "once");

    link.push(ONE, accepted(2));
    let envelope = link.take(&Sized(1), NOW.after(REST_NANOS)).unwrap();
    let items = vec![(ONE, accepted(2))];
    assert_eq!(receive(&mut other, envelope.clone()), [Event::Items(items)]);
    assert!(receive(&mut other, envelope).is_empty(), "a repeated envelope is not taken twice");
}

/// What a log had no room for was sent again as fast as the connection carried it.
#[test]
fn what_was_refused_is_sent_again_after_a_rest() {
    let (mut link, mut other) = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
    link.push(ONE, append(0, 1));
    receive(&mut other, link.take(&Sized(1), NOW).unwrap());
    other.refuse(&mut Vec::new());
    other.push(TWO, append(0, 1));
    let refusal = other.take(&Sized(1), NOW).unwrap();
    assert_eq!(receive(&mut link, refusal)[0], Event::Reset);
    assert_eq!(
        (link.take(&Sized(1), NOW), link.next_tick()),
        (None, None),
        "it has nothing to say"
    );

    link.push(ONE, append(0, 1));
    let end = NOW.after(REST_NANOS);
    assert_eq!((link.take(&Sized(1), NOW), link.next_tick()), (None, Some(end)));
    let question = other.take(&Sized(1), NOW.after(REPEAT_NANOS)).unwrap();
    receive(&mut link, question);
    let answer = link.take(&Sized(1), NOW).unwrap();
    assert_eq!((answer.items.len(), answer.taken.count), (0, 1), "what it took is said meanwhile");
    let again = link.take(&Sized(1), end).unwrap();
    assert_eq!(receive(&mut other, again), [Event::Items(vec![(ONE, append(0, 1))])]);

    other.refuse(&mut Vec::new());
    other.push(TWO, accepted(1));
    receive(&mut link, other.take(&Sized(1), NOW).unwrap());
    link.break_off(&mut Vec::new());
    link.push(ONE, append(0, 1));
    assert!(link.take(&Sized(1), NOW).is_some(), "another connection is another start");
}

#[test]
fn a_restarted_peer_is_noticed_from_both_sides() {
    let (mut link, mut other) = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
    for _ in 0..2 {
        link.push(ONE, accepted(1));
        let envelope = link.take(&Sized(1), NOW).unwrap();
        receive(&mut other, envelope);
    }
    other.push(TWO, accepted(1));
    let envelope = other.take(&Sized(1), NOW).unwrap();
    receive(&mut link, envelope);

    let mut other = Link::new(Incarnation(2));
    other.push(TWO, accepted(1));
    let first = other.take(&Sized(1), NOW).unwrap();
    let events = receive(&mut link, first);
    assert_eq!(events, [Event::Reset, Event::Items(vec![(TWO, accepted(1))])]);
    link.push(ONE, accepted(2));
    let third = link.take(&Sized(1), NOW).unwrap();
    assert_eq!(receive(&mut other, third), [Event::Reset], "it has not seen the first two");
}

#[test]
fn an_append_of_a_term_that_is_over_is_not_sent() {
    let mut link = Link::new(Incarnation(1));
    let previous = EntryId::default();
    let (term, last, commit) = (Term(2), LogIndex(3), LogIndex(0));
    link.push(ONE, Item::Append { term, previous, last, commit });
    assert_eq!(link.take(&Sized(1), NOW), None);
    link.push(ONE, accepted(2));
    assert_eq!(link.take(&Sized(1), NOW).unwrap().items, [(ONE, accepted(2))]);
}
