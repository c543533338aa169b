//! Three copies on three nodes, of which one and then two are away: what each consistency level gives
//! then, and what it says when it gives nothing. The figures are Cassandra's, but for one thing: a
//! write needs a majority of its replicas at every level.

use crate::several_nodes::{
    ALL, EACH_QUORUM, LOCAL_ONE, ONE, QUORUM, SERIAL, TWO, UNAVAILABLE, run,
};
use crate::support::{Node, Raw};
use std::thread;
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_mins(1);
const ANY: u16 = 0;
const THREE: u16 = 3;
const LOCAL_QUORUM: u16 = 6;
const LOCAL_SERIAL: u16 = 9;
const TRUNCATE_ERROR: u32 = 0x1003;
const WRITE_TIMEOUT: u32 = 0x1100;
const READ_TIMEOUT: u32 = 0x1200;

const SCHEMA: [&str; 4] = [
    "CREATE KEYSPACE simple WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE KEYSPACE centres WITH replication = \
     {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE simple.t (k int PRIMARY KEY, v int)",
    "CREATE TABLE centres.t (k int PRIMARY KEY, v int)",
];
/// Enough that each node leads some of their ranges.
const KEYS: i32 = 12;

/// What a statement comes to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Rows(Vec<i32>),
    Unavailable { level: u16, required: i32, alive: i32 },
    Other(u32),
}

/// What a statement comes to, once the node that is asked knows who is alive: on a busy machine
/// nodes may lose sight of each other for a moment. The statement may be repeated.
fn outcome(raw: &mut Raw, text: &str, level: u16, alive_count: i32) -> Outcome {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match tried(raw, text, level) {
            Outcome::Unavailable { alive, .. } if alive != alive_count => {}
            Outcome::Other(WRITE_TIMEOUT | READ_TIMEOUT) => {}
            outcome => return outcome,
        }
        assert!(Instant::now() < deadline, "{text}: not with {alive_count} nodes");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a statement comes to.
fn tried(raw: &mut Raw, text: &str, level: u16) -> Outcome {
    match run(raw, text, level) {
        Ok(rows) => Outcome::Rows(rows),
        Err(UNAVAILABLE) => {
            let [l0, l1, rest @ ..] = &raw.details[..] else { panic!("it has figures") };
            let figure = |bytes: &[u8]| i32::from_be_bytes(bytes.try_into().expect("an int"));
            let (required, alive) = (figure(&rest[..4]), figure(&rest[4..]));
            Outcome::Unavailable { level: u16::from_be_bytes([*l0, *l1]), required, alive }
        }
        Err(code) => Outcome::Other(code),
    }
}

fn unavailable(level: u16, required: i32, alive: i32) -> Outcome {
    Outcome::Unavailable { level, required, alive }
}

/// Waits until the nodes that live are missed by none, and the others are by all.
fn wait_until_seen(nodes: &[Node], alive: usize) {
    let deadline = Instant::now() + TIME_MAX;
    for node in &nodes[..alive] {
        let mut raw = Raw::ready(node);
        loop {
            let counted = match tried(&mut raw, "SELECT v FROM simple.t WHERE k = 0", ALL) {
                Outcome::Rows(_) => nodes.len(),
                Outcome::Unavailable { alive, .. } => usize::try_from(alive).expect("a count"),
                Outcome::Other(_) => 0,
            };
            if counted == alive {
                break;
            }
            assert!(Instant::now() < deadline, "{counted} of {alive} are seen:\n{}", node.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Writes at a level from each live node, and reads what was written at those levels that show it.
fn writes_and_is_read(raws: &mut [Raw], keyspace: &str, level: u16, reads: &[u16], v: &mut i32) {
    let alive = raws.len() as i32;
    for k in 0..KEYS {
        *v += 1;
        let writer = k as usize % raws.len();
        let insert = format!("INSERT INTO {keyspace}.t (k, v) VALUES ({k}, {v}) USING TIMEOUT 15s");
        let written = outcome(&mut raws[writer], &insert, level, alive);
        assert_eq!(written, Outcome::Rows(Vec::new()), "{keyspace} at level {level}");
        for raw in raws.iter_mut() {
            for read in reads {
                let select = format!("SELECT v FROM {keyspace}.t WHERE k = {k} USING TIMEOUT 15s");
                let rows = outcome(raw, &select, *read, alive);
                assert_eq!(rows, Outcome::Rows(vec![*v]), "{keyspace}: {level}, then {read}");
            }
        }
    }
}

/// A compare-and-set from each live node, with its answer.
fn compares_and_sets(raws: &mut [Raw], keyspace: &str, v: &mut i32) {
    let alive = raws.len() as i32;
    for k in 0..KEYS {
        let writer = k as usize % raws.len();
        *v += 1;
        let insert = format!("INSERT INTO {keyspace}.t (k, v) VALUES ({k}, {v}) USING TIMEOUT 15s");
        assert_eq!(outcome(&mut raws[writer], &insert, QUORUM, alive), Outcome::Rows(Vec::new()));
        let update = |seen: i32| {
            format!(
                "UPDATE {keyspace}.t USING TIMEOUT 15s SET v = {} WHERE k = {k} IF v = {seen}",
                seen + 1
            )
        };
        let raw = &mut raws[writer];
        assert_eq!(outcome(raw, &update(*v), QUORUM, alive), Outcome::Rows(vec![1]), "applied");
        assert_eq!(outcome(raw, &update(*v), QUORUM, alive), Outcome::Rows(vec![0]), "refused");
        *v += 1;
        let select = format!("SELECT v FROM {keyspace}.t WHERE k = {k} USING TIMEOUT 15s");
        for raw in raws.iter_mut() {
            assert_eq!(outcome(raw, &select, SERIAL, alive), Outcome::Rows(vec![*v]));
        }
    }
}

const STRONG: [u16; 6] = [QUORUM, LOCAL_QUORUM, EACH_QUORUM, TWO, SERIAL, LOCAL_SERIAL];

#[test]
fn each_level_gives_what_it_can_and_says_what_it_lacks() {
    let mut nodes = Node::start_together::<3>(&["--memory", "64M"]);
    for statement in SCHEMA {
        Raw::ready(&nodes[0]).run(statement);
    }
    let mut v = 0;
    wait_until_seen(&nodes, 3);
    let mut raws: Vec<Raw> = nodes.iter().map(Raw::ready).collect();
    for keyspace in ["simple", "centres"] {
        for level in [ANY, ONE, TWO, QUORUM, LOCAL_QUORUM, EACH_QUORUM, LOCAL_ONE] {
            writes_and_is_read(&mut raws, keyspace, level, &[QUORUM, SERIAL, ALL], &mut v);
        }
        for level in [THREE, ALL] {
            let every = [ONE, LOCAL_ONE, THREE, ALL, QUORUM];
            writes_and_is_read(&mut raws, keyspace, level, &every, &mut v);
        }
        compares_and_sets(&mut raws, keyspace, &mut v);
    }

    nodes[2].kill();
    raws.truncate(2);
    wait_until_seen(&nodes, 2);
    for keyspace in ["simple", "centres"] {
        for level in [ANY, ONE, TWO, QUORUM, LOCAL_QUORUM, EACH_QUORUM, LOCAL_ONE] {
            writes_and_is_read(&mut raws, keyspace, level, &STRONG, &mut v);
        }
        compares_and_sets(&mut raws, keyspace, &mut v);
        let insert = format!("INSERT INTO {keyspace}.t (k, v) VALUES (0, 0)");
        let select = format!("SELECT v FROM {keyspace}.t WHERE k = 0");
        for level in [ALL, THREE] {
            for text in [&insert, &select] {
                assert_eq!(
                    outcome(&mut raws[0], text, level, 2),
                    unavailable(level, 3, 2),
                    "{text}"
                );
            }
        }
        let all: Outcome = outcome(&mut raws[1], &format!("SELECT k FROM {keyspace}.t"), QUORUM, 2);
        assert!(matches!(all, Outcome::Rows(rows) if rows.len() == KEYS as usize));
    }
    assert_eq!(outcome(&mut raws[0], "TRUNCATE simple.t", ONE, 2), Outcome::Rows(Vec::new()));
    assert_eq!(outcome(&mut raws[1], "SELECT v FROM simple.t", ONE, 2), Outcome::Rows(Vec::new()));

    nodes[1].kill();
    raws.truncate(1);
    wait_until_seen(&nodes, 1);
    let raw = &mut raws[0];
    let one = |k: i32| format!("SELECT k FROM centres.t WHERE k = {k}");
    for level in [ONE, LOCAL_ONE] {
        for k in 0..KEYS {
            assert_eq!(outcome(raw, &one(k), level, 1), Outcome::Rows(vec![k]));
        }
    }
    let insert = "INSERT INTO centres.t (k, v) VALUES (0, 0)";
    for (level, required) in
        STRONG.map(|level| (level, 2)).into_iter().chain([(THREE, 3), (ALL, 3)])
    {
        assert_eq!(outcome(raw, &one(0), level, 1), unavailable(level, required, 1));
        if ![SERIAL, LOCAL_SERIAL].contains(&level) {
            assert_eq!(outcome(raw, insert, level, 1), unavailable(level, required, 1));
        }
    }
    for level in [ANY, ONE, LOCAL_ONE] {
        assert_eq!(outcome(raw, insert, level, 1), unavailable(level, 2, 1), "no majority");
    }
    let update = "UPDATE centres.t SET v = 1 WHERE k = 0 IF v = 0";
    assert_eq!(outcome(raw, update, ONE, 1), unavailable(SERIAL, 2, 1));
    assert_eq!(outcome(raw, "TRUNCATE centres.t", ONE, 1), Outcome::Other(TRUNCATE_ERROR));
}
