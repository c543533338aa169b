//! Clients write through all nodes while leaders die, freeze and come back: what was acknowledged is
//! there once, what was refused is not, what was left open is there once or not at all, and a strong
//! read never shows less than was acknowledged before it began.

use crate::several_nodes::{ALL, ONE, OVERLOADED, Page, QUORUM, SERIAL, UNAVAILABLE, page, run};
use crate::support::{Node, Raw};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_mins(1);
const WRITE_TIMEOUT: u32 = 0x1100;
const READ_TIMEOUT: u32 = 0x1200;

const SCHEMA: [&str; 6] = [
    "CREATE KEYSPACE ks WITH replication = \
     {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.counted (k int PRIMARY KEY, n counter)",
    "CREATE TABLE ks.compared (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.listed (k int PRIMARY KEY, l list<int>) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.stamped (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
    "CREATE TABLE ks.scanned (k int PRIMARY KEY)",
];
/// Rows that are read page by page, and how many of them a page has at most.
const SCANNED: i32 = 200;
const PAGE_ROWS: i32 = 17;
/// Rows of each table, so that every node leads some of them.
const KEYS: usize = 6;
/// Clients of each kind on each node.
const CLIENTS: usize = 2;

/// What is known of the steps that were tried on one row.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicI64,
    unknown: AtomicI64,
}

type Tallies = Arc<[Tally; KEYS]>;

enum Step {
    Done(Vec<i32>),
    Refused,
    Unknown,
}

/// Runs a write, and says what is known of it.
fn write(raw: &mut Raw, text: &str) -> Step {
    match run(raw, text, QUORUM) {
        Ok(rows) => Step::Done(rows),
        Err(UNAVAILABLE | OVERLOADED) => {
            thread::sleep(Duration::from_millis(10));
            Step::Refused
        }
        Err(WRITE_TIMEOUT) => Step::Unknown,
        Err(code) => panic!("{text}: {code:#x}"),
    }
}

fn note(tally: &Tally, step: &Step) {
    match step {
        Step::Done(_) => tally.acknowledged.fetch_add(1, Ordering::SeqCst),
        Step::Unknown => tally.unknown.fetch_add(1, Ordering::SeqCst),
        Step::Refused => 0,
    };
}

/// Runs a read until it is answered.
fn read(raw: &mut Raw, text: &str, level: u16) -> Vec<i32> {
    read_page(raw, text, level, i32::MAX, None).0
}

/// Asks for a page until it comes.
fn read_page(raw: &mut Raw, text: &str, level: u16, size: i32, state: Option<&[u8]>) -> Page {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match page(raw, text, level, size, state) {
            Ok(page) => return page,
            Err(UNAVAILABLE | OVERLOADED | READ_TIMEOUT) => {}
            Err(code) => panic!("{text}: {code:#x}"),
        }
        assert!(Instant::now() < deadline, "no answer: {text}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Counts up in every row in turn.
fn count(mut raw: Raw, tallies: &Tallies, ends: &AtomicBool) {
    for k in (0..KEYS).cycle() {
        if ends.load(Ordering::SeqCst) {
            return;
        }
        let text = format!("UPDATE ks.counted SET n = n + 1 WHERE k = {k}");
        note(&tallies[k], &write(&mut raw, &text));
    }
}

/// Goes up by one from what it reads; and what it reads is never below what was acknowledged.
fn compare(mut raw: Raw, tallies: &Tallies, ends: &AtomicBool) {
    let mut highest = [0; KEYS];
    for k in (0..KEYS).cycle() {
        if ends.load(Ordering::SeqCst) {
            return;
        }
        let acknowledged = tallies[k].acknowledged.load(Ordering::SeqCst);
        let level = if k % 2 == 0 { SERIAL } else { QUORUM };
        let select = format!("SELECT v FROM ks.compared WHERE k = {k}");
        let seen = read(&mut raw, &select, level)[0];
        assert!(i64::from(seen) >= acknowledged, "row {k}: {seen}, {acknowledged} acknowledged");
        assert!(seen >= highest[k], "row {k}: {seen} after {}", highest[k]);
        highest[k] = seen;
        let text = format!("UPDATE ks.compared SET v = {} WHERE k = {k} IF v = {seen}", seen + 1);
        let step = write(&mut raw, &text);
        if !matches!(&step, Step::Done(applied) if applied == &[0]) {
            note(&tallies[k], &step);
        }
    }
}

/// Writes numbers of its own with timestamps: those are repeated when a leader is lost.
fn write_stamped(mut raw: Raw, first: i32, ends: &AtomicBool) -> (Vec<i32>, Vec<i32>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for number in first.. {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        let k = first + number % KEYS as i32;
        let text = format!(
            "INSERT INTO ks.stamped (k, v) VALUES ({k}, {number}) \
             USING TIMESTAMP {number} AND TIMEOUT 10s"
        );
        match write(&mut raw, &text) {
            Step::Done(_) => acknowledged.push(number),
            Step::Unknown => unknown.push(number),
            Step::Refused => {}
        }
    }
    (acknowledged, unknown)
}

/// Reads all of a table that nobody changes, page by page: each row comes once.
fn scan(mut raw: Raw, level: u16, ends: &AtomicBool) {
    let all: Vec<i32> = (0..SCANNED).collect();
    while !ends.load(Ordering::SeqCst) {
        let (mut found, mut state) = (Vec::new(), None);
        loop {
            let text = "SELECT k FROM ks.scanned";
            let (rows, next) = read_page(&mut raw, text, level, PAGE_ROWS, state.as_deref());
            found.extend(rows);
            state = next;
            if state.is_none() {
                break;
            }
        }
        found.sort_unstable();
        assert_eq!(found, all, "at level {level}");
    }
}

/// Appends numbers of its own, and returns those that were acknowledged and those left open.
fn append(mut raw: Raw, first: i32, ends: &AtomicBool) -> (Vec<i32>, Vec<i32>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for number in first.. {
        if ends.load(Ordering::SeqCst) {
            break;
        }
        let k = number as usize % KEYS;
        let text = format!("UPDATE ks.listed SET l = l + [{number}] WHERE k = {k}");
        match write(&mut raw, &text) {
            Step::Done(_) => acknowledged.push(number),
            Step::Unknown => unknown.push(number),
            Step::Refused => {}
        }
    }
    (acknowledged, unknown)
}

/// All that clients do until they are told to end.
struct Load {
    ends: Arc<AtomicBool>,
    counted: Tallies,
    compared: Tallies,
    clients: Vec<JoinHandle<()>>,
    lists: Vec<JoinHandle<(Vec<i32>, Vec<i32>)>>,
    stamped: Vec<JoinHandle<(Vec<i32>, Vec<i32>)>>,
}

impl Load {
    fn start(nodes: &[Node]) -> Load {
        let ends = Arc::new(AtomicBool::new(false));
        let (counted, compared) = (Tallies::default(), Tallies::default());
        let (mut clients, mut lists, mut stamped) = (Vec::new(), Vec::new(), Vec::new());
        for (number, node) in (0..).zip(nodes.iter().cycle().take(nodes.len() * CLIENTS)) {
            let (raw, tallies, end) = (Raw::ready(node), counted.clone(), ends.clone());
            clients.push(thread::spawn(move || count(raw, &tallies, &end)));
            let (raw, tallies, end) = (Raw::ready(node), compared.clone(), ends.clone());
            clients.push(thread::spawn(move || compare(raw, &tallies, &end)));
            let (raw, end) = (Raw::ready(node), ends.clone());
            lists.push(thread::spawn(move || append(raw, number * 1_000_000, &end)));
            let (raw, end) = (Raw::ready(node), ends.clone());
            stamped.push(thread::spawn(move || write_stamped(raw, number * 1_000_000, &end)));
            let (raw, end) = (Raw::ready(node), ends.clone());
            let level = if number % 2 == 0 { ONE } else { QUORUM };
            clients.push(thread::spawn(move || scan(raw, level, &end)));
        }
        Load { ends, counted, compared, clients, lists, stamped }
    }

    /// Ends the clients, and compares what they know with what is there.
    fn check(self, raw: &mut Raw) {
        self.ends.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("no panic");
        }
        let explains = |tally: &Tally, found: i32, what: &str| {
            let acknowledged = tally.acknowledged.load(Ordering::SeqCst);
            let unknown = tally.unknown.load(Ordering::SeqCst);
            println!("{what}: {acknowledged} acknowledged, {unknown} left open");
            assert!(acknowledged > 0, "{what}: nothing was done");
            assert!(
                (acknowledged..=acknowledged + unknown).contains(&i64::from(found)),
                "{what}: {found}, with {acknowledged} acknowledged and {unknown} left open"
            );
        };
        for k in 0..KEYS {
            let n = read(raw, &format!("SELECT n FROM ks.counted WHERE k = {k}"), QUORUM)[0];
            explains(&self.counted[k], n, "counted");
            let v = read(raw, &format!("SELECT v FROM ks.compared WHERE k = {k}"), SERIAL)[0];
            explains(&self.compared[k], v, "compared");
            let log = "SELECT v FROM ks.compared_scylla_cdc_log WHERE k";
            let mut logged = read(raw, &format!("{log} = {k} ALLOW FILTERING"), QUORUM);
            logged.sort_unstable();
            assert_eq!(logged, (0..=v).collect::<Vec<_>>(), "the log tells of each step once");
        }
        let appended = times_of(raw, "SELECT l FROM ks.listed", 1);
        let logged = times_of(raw, "SELECT l FROM ks.listed_scylla_cdc_log", 2);
        assert_eq!(appended, logged, "the log tells of each once");
        for list in self.lists {
            compare_with(&appended, list.join().expect("no panic"));
        }
        let mut written = BTreeMap::new();
        for number in read(raw, "SELECT v FROM ks.stamped_scylla_cdc_log", QUORUM) {
            *written.entry(number).or_default() += 1;
        }
        for numbers in self.stamped {
            compare_with(&written, numbers.join().expect("no panic"));
        }
    }
}

/// Each number that was acknowledged is there once, each that was left open once at most.
fn compare_with(times: &BTreeMap<i32, usize>, (acknowledged, unknown): (Vec<i32>, Vec<i32>)) {
    assert!(!acknowledged.is_empty(), "nothing was done");
    println!("{} acknowledged, {} left open", acknowledged.len(), unknown.len());
    for number in &acknowledged {
        assert_eq!(times.get(number), Some(&1), "{number} was acknowledged");
    }
    for number in &unknown {
        assert!(times.get(number).is_none_or(|times| *times == 1), "{number} is open");
    }
}

/// How often each number stands in the collections that a statement shows: each has so many values
/// for one element, of which the last is the number.
fn times_of(raw: &mut Raw, text: &str, values_of_one: usize) -> BTreeMap<i32, usize> {
    let deadline = Instant::now() + TIME_MAX;
    let found = loop {
        match raw.rows_at(text, QUORUM) {
            Ok(rows) => break rows,
            Err(error) => assert!(Instant::now() < deadline, "{text}: {error:?}"),
        }
    };
    let mut times = BTreeMap::new();
    for collection in found.iter().flatten().flatten() {
        let (_, mut rest) = collection.split_first_chunk::<4>().expect("a count");
        let mut values = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let (value, behind) = behind.split_at(i32::from_be_bytes(*length) as usize);
            values.push(value);
            rest = behind;
        }
        for element in values.chunks(values_of_one) {
            let number = element[values_of_one - 1].try_into().expect("an int");
            *times.entry(i32::from_be_bytes(number)).or_default() += 1;
        }
    }
    times
}

/// Waits until every node answers for all of the data with all replicas. It reads all ranges one after
/// the other, which takes seconds beside the load on a busy machine, and must not run out of time.
fn wait_until_whole(nodes: &[Node]) {
    let deadline = Instant::now() + TIME_MAX;
    for node in nodes {
        let mut raw = Raw::ready(node);
        while run(&mut raw, "SELECT k FROM ks.compared USING TIMEOUT 60s", ALL).is_err() {
            assert!(Instant::now() < deadline, "a replica is missing:\n{}", node.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Makes a write that may be made twice.
fn surely(raw: &mut Raw, text: &str, level: u16) {
    let deadline = Instant::now() + TIME_MAX;
    while let Err(code) = run(raw, text, level) {
        assert!(Instant::now() < deadline, "{text}: {code:#x}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn cluster() -> [Node; 3] {
    let nodes = Node::start_together::<3>(&["--memory", "64M"]);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in SCHEMA {
        raw.run(statement);
    }
    wait_until_whole(&nodes);
    for k in 0..KEYS {
        let insert = format!("INSERT INTO ks.compared (k, v) VALUES ({k}, 0) USING TIMESTAMP 1");
        surely(&mut raw, &insert, QUORUM);
        surely(&mut raw, &format!("UPDATE ks.counted SET n = n + 0 WHERE k = {k}"), QUORUM);
    }
    let keys = (0..SCANNED).map(|k| format!("INSERT INTO ks.scanned (k) VALUES ({k});"));
    let batch = format!("BEGIN UNLOGGED BATCH {} APPLY BATCH", keys.collect::<Vec<_>>().concat());
    surely(&mut raw, &batch, ALL);
    nodes
}

#[test]
fn nothing_is_done_twice_or_lost_when_leaders_die() {
    let mut nodes = cluster();
    let load = Load::start(&nodes[1..]);
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(1_500));
        nodes[0].kill();
        thread::sleep(Duration::from_secs(3));
        nodes[0].restart();
        wait_until_whole(&nodes);
    }
    load.check(&mut Raw::ready(&nodes[0]));
}

#[test]
fn nothing_is_done_twice_or_lost_when_leaders_freeze() {
    let nodes = cluster();
    let load = Load::start(&nodes);
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(1_500));
        nodes[0].freeze();
        thread::sleep(Duration::from_secs(3));
        nodes[0].thaw();
        wait_until_whole(&nodes);
    }
    load.check(&mut Raw::ready(&nodes[0]));
}
