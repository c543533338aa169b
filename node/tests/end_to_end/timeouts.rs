//! A node that holds a part of the data freezes, and what was sent to it is not answered: the client
//! hears what kind of write it was, at which level, and what is known of it.

use crate::several_nodes::{
    ONE, QUORUM, SCHEMA, SERIAL, UNAVAILABLE, cluster, run, wait_until_all_answer,
};
use crate::support::{Node, Raw};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_mins(1);
const WRITE_TIMEOUT: u32 = 0x1100;
const KEYS: i32 = 40;

/// What a timeout tells: the level, how many have answered of how many, and the kind of the write.
#[derive(Debug, PartialEq, Eq)]
struct Timeout {
    level: u16,
    received: i32,
    required: i32,
    kind: String,
}

/// Runs a statement while a node is frozen: its timeout, or nothing if it was answered. That the
/// node is frozen is not known yet when it is sent, or it is thawed and all begins again.
fn timeout_of(nodes: &[Node], raw: &mut Raw, text: &str, level: u16) -> Option<Timeout> {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        nodes[2].freeze();
        let result = run(raw, text, level);
        nodes[2].thaw();
        nodes.iter().for_each(wait_until_all_answer);
        match result {
            Ok(_) => return None,
            Err(WRITE_TIMEOUT) => break,
            Err(UNAVAILABLE) => assert!(Instant::now() < deadline, "it is known to be frozen"),
            Err(code) => panic!("{text}: {code:#x}"),
        }
    }
    let (level, rest) = raw.details.split_at(2);
    let (figures, rest) = rest.split_at(8);
    let figure = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("four bytes"));
    Some(Timeout {
        level: u16::from_be_bytes(level.try_into().expect("two bytes")),
        received: figure(&figures[..4]),
        required: figure(&figures[4..]),
        kind: String::from_utf8(rest[2..].to_vec()).expect("UTF-8"),
    })
}

fn timeout(level: u16, kind: &str) -> Timeout {
    Timeout { level, received: 0, required: 1, kind: kind.to_owned() }
}

fn insert(table: &str, k: i32, v: i32) -> String {
    format!("INSERT INTO ks.{table} (k, v) VALUES ({k}, {v})")
}

/// Keys that the frozen node holds, and keys that it does not.
fn keys(nodes: &[Node], raw: &mut Raw) -> (Vec<i32>, Vec<i32>) {
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + TIME_MAX;
    nodes[2].freeze();
    for k in 0..KEYS {
        // Until it is known to be frozen, what it holds is not answered.
        let is_there = loop {
            match run(raw, &format!("SELECT v FROM ks.t WHERE k = {k}"), ONE) {
                Ok(_) => break false,
                Err(UNAVAILABLE) => break true,
                Err(code) => assert!(Instant::now() < deadline, "key {k}: {code:#x}"),
            }
        };
        if is_there { there.push(k) } else { elsewhere.push(k) }
    }
    nodes[2].thaw();
    nodes.iter().for_each(wait_until_all_answer);
    (there, elsewhere)
}

#[test]
fn a_timeout_says_what_was_left_open() {
    let nodes = cluster(&SCHEMA);
    let mut raw = Raw::ready(&nodes[0]);
    let (there, elsewhere) = keys(&nodes, &mut raw);
    let (k, other) = (there[0], elsewhere[0]);

    let simple = format!("{} USING TIMEOUT 500ms", insert("t", k, 0));
    assert_eq!(timeout_of(&nodes, &mut raw, &simple, ONE), Some(timeout(ONE, "SIMPLE")));
    let count = format!("UPDATE ks.counted USING TIMEOUT 500ms SET n = n + 1 WHERE k = {k}");
    assert_eq!(timeout_of(&nodes, &mut raw, &count, QUORUM), Some(timeout(QUORUM, "COUNTER")));
    let compare = format!("UPDATE ks.t USING TIMEOUT 500ms SET v = 1 WHERE k = {k} IF v = 0");
    assert_eq!(timeout_of(&nodes, &mut raw, &compare, ONE), Some(timeout(SERIAL, "CAS")));

    let batch = |kind: &str, (one, two): (i32, i32), v: i32| {
        let (one, two) = (insert("u", one, v), insert("u", two, v));
        format!("BEGIN {kind} BATCH USING TIMEOUT 500ms {one}; {two}; APPLY BATCH")
    };
    let unlogged = batch("UNLOGGED", (k, other), 1);
    let unlogged = timeout_of(&nodes, &mut raw, &unlogged, ONE);
    assert_eq!(unlogged, Some(timeout(ONE, "UNLOGGED_BATCH")));
    let pairs = there.iter().flat_map(|one| elsewhere.iter().map(move |other| (*one, *other)));
    let mut kinds = BTreeSet::new();
    for (v, pair) in (2..).zip(pairs) {
        let found = timeout_of(&nodes, &mut raw, &batch("", pair, v), ONE);
        let kind = found.expect("a part is at the frozen node").kind;
        wait_until_whole(&mut raw, &kind, pair, v);
        kinds.insert(kind);
        if kinds.len() == 2 {
            return;
        }
    }
    panic!("either part can be the one that decides: {kinds:?}");
}

/// A batch that is on record is made, one that may be is made or not, both as a whole.
fn wait_until_whole(raw: &mut Raw, kind: &str, (one, other): (i32, i32), v: i32) {
    let deadline = Instant::now() + TIME_MAX;
    let may_be_missing = match kind {
        "BATCH" => false,
        "BATCH_LOG" => true,
        kind => panic!("a logged batch of kind {kind}"),
    };
    loop {
        let is_there = [one, other]
            .map(|k| run(raw, &format!("SELECT v FROM ks.u WHERE k = {k}"), QUORUM) == Ok(vec![v]));
        if is_there == [true, true] || may_be_missing && is_there == [false, false] {
            return;
        }
        assert!(Instant::now() < deadline, "{kind}: {is_there:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
