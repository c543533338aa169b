//! Marks of `resolved` in a topic of three partitions: each of them is in every partition, and nothing
//! at or below it comes behind it there.

use super::owners::Three;
use super::{Kafka, TABLE, Told, Writers, wait_for};
use crate::changefeeds::keyspace;
use crate::kafka::{Arrival, Consumer};
use crate::support::{Node, Raw};
use serde_json::Value;
use std::collections::BTreeSet;

const PARTITIONS: usize = 3;

/// What came of a topic, its events and its marks apart.
struct Marked {
    events: Vec<Arrival>,
    /// The numbers of the marks of each partition.
    marks: [Vec<u64>; PARTITIONS],
}

impl Marked {
    /// Reads a topic, and makes sure that of each partition no event comes behind a mark that has its
    /// number or a higher one, but for repeats.
    fn of(consumer: &Consumer) -> Marked {
        let mut marked = Marked { events: Vec::new(), marks: Default::default() };
        let mut seen = BTreeSet::new();
        for arrival in consumer.arrivals() {
            let said: Value = serde_json::from_str(&arrival.record.value).expect("JSON");
            let sequence = said["sequence"].as_u64().expect("a number");
            let marks = &mut marked.marks[arrival.record.partition];
            if said["resolved"].is_string() {
                marks.push(sequence);
                continue;
            }
            let highest = marks.iter().max().copied().unwrap_or(0);
            let is_new = seen.insert(sequence);
            assert!(!is_new || sequence > highest, "{said} comes behind the mark {highest}");
            marked.events.push(arrival);
        }
        marked
    }

    /// Waits until every partition has so many marks, and such events as are asked for.
    fn wait_for(consumer: &Consumer, count: usize, is_enough: impl Fn(&Told) -> bool) -> Marked {
        wait_for(&format!("{count} marks in each partition"), || {
            let marked = Marked::of(consumer);
            let has_marks = marked.marks.iter().all(|marks| marks.len() >= count);
            (has_marks && is_enough(&marked.told())).then_some(marked)
        })
    }

    fn told(&self) -> Told {
        Told::of(&self.events)
    }

    /// Pauses the feed; then every mark that is in one partition is in all.
    fn wait_until_all_have_all(consumer: &Consumer, raw: &mut Raw) {
        raw.run("PAUSE CHANGEFEED f");
        let marked = wait_for("the same marks in all partitions", || {
            let marked = Marked::of(consumer);
            let [one, other, another] = &marked.marks;
            (one == other && other == another).then_some(marked)
        });
        let partitions: BTreeSet<usize> =
            marked.events.iter().map(|arrival| arrival.record.partition).collect();
        assert_eq!(partitions.len(), PARTITIONS, "events are in all of them, too");
    }
}

fn reaches(value: i64) -> impl Fn(&Told) -> bool {
    move |told| told.values().last().is_some_and(|last| *last >= value)
}

#[test]
fn a_mark_is_in_every_partition_and_nothing_at_or_below_it_follows() {
    let Some(kafka) = Kafka::start() else { return };
    let node = Node::start_with(&["--memory", "256M"]);
    let mut raw = Raw::ready(&node);
    let feed = kafka.statement("f", "changes", ", resolved = '20ms'");
    for statement in [&keyspace(1), TABLE, &feed] {
        raw.run(statement);
    }
    let consumer = kafka.broker.follow("changes", "marks");
    let writers = Writers::start(1, [&node, &node, &node]);
    Marked::wait_for(&consumer, 10, reaches(300));
    // What it sends after a pause lies above all that it marked before.
    raw.run("PAUSE CHANGEFEED f");
    writers.wait_for_more(100);
    raw.run("RESUME CHANGEFEED f");
    Marked::wait_for(&consumer, 20, reaches(writers.now() + 100));
    let acknowledged = writers.end();
    let last = acknowledged.last().copied().expect("something was written");
    let marked = Marked::wait_for(&consumer, 20, reaches(last));
    assert_eq!(marked.told().repeats, 0);
    // The marks pass the last event though nothing follows it.
    let newest = marked.told().firsts.iter().map(|first| first.sequence).max().expect("events");
    wait_for("marks behind the last event", || {
        let pass = |marks: &Vec<u64>| marks.last().is_some_and(|mark| *mark >= newest);
        Marked::of(&consumer).marks.iter().all(pass).then_some(())
    });
    Marked::wait_until_all_have_all(&consumer, &mut raw);
}

#[test]
fn marks_hold_where_events_are_told_once_and_the_owner_dies() {
    let Some(kafka) = Kafka::start() else { return };
    let mut three = Three::start(&kafka, ", resolved = '50ms', delivery = 'exactly_once'");
    let consumer = kafka.broker.follow("changes", "marks");
    let dead = three.owner(0).expect("somebody delivers it");
    let left = [(dead + 1) % 3, (dead + 2) % 3];
    let writers = Writers::start(1, left.map(|at| &three.nodes[at]));
    Marked::wait_for(&consumer, 5, reaches(200));
    three.nodes[dead].kill();
    Marked::wait_for(&consumer, 5, reaches(writers.now() + 200));
    let before = Marked::of(&consumer).marks[0].len();
    let acknowledged = writers.end();
    let last = acknowledged.last().copied().expect("something was written");
    let marked = Marked::wait_for(&consumer, before + 5, reaches(last));
    assert_eq!(marked.told().repeats, 0);
    Marked::wait_until_all_have_all(&consumer, &mut Raw::ready(&three.nodes[left[0]]));
}
