//! Three nodes that hold a part of the data each: any of them answers for all, and a part that is
//! away is missed and nothing else.
//!
//! With one replica of everything there is no leader to elect, so what is tested is the way of a
//! request, and nothing but.

use crate::joined_nodes::wait_for_voters;
use crate::support::{Node, Raw, Reply, frame};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// How long nodes may take to find each other.
const MEETING_TIME_MAX: Duration = Duration::from_mins(1);

pub(crate) const ONE: u16 = 1;
pub(crate) const TWO: u16 = 2;
pub(crate) const QUORUM: u16 = 4;
pub(crate) const ALL: u16 = 5;
pub(crate) const EACH_QUORUM: u16 = 7;
pub(crate) const SERIAL: u16 = 8;
pub(crate) const LOCAL_ONE: u16 = 10;

pub(crate) const UNAVAILABLE: u32 = 0x1000;
pub(crate) const OVERLOADED: u32 = 0x1001;
const INVALID: u32 = 0x2200;

const QUERY: u8 = 7;
const RESULT: u8 = 8;
const FLAG_SKIP_METADATA: u8 = 2;
const FLAG_PAGE_SIZE: u8 = 4;
const FLAG_PAGING_STATE: u8 = 8;

/// The first column of some rows, and where to go on.
pub(crate) type Page = (Vec<i32>, Option<Vec<u8>>);
/// The cells of a row, each as the number that its bytes are.
pub(crate) type Row = Vec<Option<i64>>;

/// One page of a statement's rows, or the code of its error.
pub(crate) fn page(
    raw: &mut Raw,
    text: &str,
    level: u16,
    size: i32,
    state: Option<&[u8]>,
) -> Result<Page, u32> {
    let (rows, state) = rows_page(raw, text, level, size, state)?;
    let first = |row: &Row| i32::try_from(row[0].expect("not null")).expect("small");
    Ok((rows.iter().map(first).collect(), state))
}

/// The rows of a statement that has but a page of them.
pub(crate) fn rows(raw: &mut Raw, text: &str, level: u16) -> Result<Vec<Row>, u32> {
    rows_page(raw, text, level, 5_000, None).map(|(rows, _)| rows)
}

fn rows_page(
    raw: &mut Raw,
    text: &str,
    level: u16,
    size: i32,
    state: Option<&[u8]>,
) -> Result<(Vec<Row>, Option<Vec<u8>>), u32> {
    let length = |bytes: &[u8]| i32::try_from(bytes.len()).expect("short").to_be_bytes();
    let mut body = length(text.as_bytes()).to_vec();
    body.extend(text.as_bytes());
    body.extend(level.to_be_bytes());
    let resumed = if state.is_some() { FLAG_PAGING_STATE } else { 0 };
    body.push(FLAG_SKIP_METADATA | FLAG_PAGE_SIZE | resumed);
    body.extend(size.to_be_bytes());
    if let Some(state) = state {
        body.extend(length(state));
        body.extend(state);
    }
    raw.send(&frame(4, QUERY, &body));
    match raw.reply() {
        Reply::Frame(RESULT, body) => Ok(rows_of(&body)),
        Reply::Error(code, message) => {
            println!("{text}: {code:#x} {message}");
            Err(code)
        }
        other => panic!("{text}: {other:?}"),
    }
}

/// The bytes of a result, from the front on.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, count: usize) -> &'b [u8] {
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))
    }

    fn int(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    fn skip_string(&mut self) {
        let length = usize::from(self.short());
        self.bytes(length);
    }

    /// A column's type: those of the schema here.
    fn skip_type(&mut self) {
        const LIST: u16 = 0x20;
        if self.short() == LIST {
            self.skip_type();
        }
    }

    fn cell(&mut self) -> Option<i64> {
        let length = usize::try_from(self.int()).ok()?;
        Some(self.bytes(length).iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte)))
    }
}

/// The rows of a result, and where to go on.
fn rows_of(body: &[u8]) -> (Vec<Row>, Option<Vec<u8>>) {
    const ONE_TABLE: i32 = 1;
    const HAS_MORE: i32 = 2;
    const NO_METADATA: i32 = 4;
    let mut reader = Reader(body);
    if reader.int() != 2 {
        return (Vec::new(), None);
    }
    let (flags, columns) = (reader.int(), reader.int());
    let state = (flags & HAS_MORE != 0).then(|| {
        let length = usize::try_from(reader.int()).expect("a state");
        reader.bytes(length).to_vec()
    });
    if flags & NO_METADATA == 0 {
        assert!(flags & ONE_TABLE != 0, "all columns are of one table");
        (0..2).for_each(|_| reader.skip_string());
        for _ in 0..columns {
            reader.skip_string();
            reader.skip_type();
        }
    }
    let count = reader.int();
    let rows = (0..count).map(|_| (0..columns).map(|_| reader.cell()).collect());
    (rows.collect(), state)
}

/// Runs a statement at a level; the code of its error.
pub(crate) fn run(raw: &mut Raw, text: &str, level: u16) -> Result<Vec<i32>, u32> {
    page(raw, text, level, 5_000, None).map(|(rows, _)| rows)
}

/// How many rows a statement gives.
fn count(raw: &mut Raw, text: &str, level: u16) -> usize {
    run(raw, text, level).expect("rows").len()
}

/// All rows, page by page.
fn all_pages(raw: &mut Raw, text: &str, level: u16, size: i32) -> Vec<i32> {
    let (mut rows, mut state) = (Vec::new(), None);
    loop {
        let (more, next) = page(raw, text, level, size, state.as_deref()).expect("a page");
        assert!(more.len() <= usize::try_from(size).expect("small"), "a page of {}", more.len());
        rows.extend(more);
        match next {
            Some(next) => state = Some(next),
            None => return rows,
        }
    }
}

/// Nodes of one cluster with that schema.
pub(crate) fn cluster(schema: &[&str]) -> Vec<Node> {
    let nodes = Node::start_together::<3>(&["--memory", "64M"]);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in schema {
        raw.run(statement);
    }
    nodes.iter().for_each(wait_until_all_answer);
    nodes.into()
}

/// Waits until a node can read the whole ring.
pub(crate) fn wait_until_all_answer(node: &Node) {
    let deadline = Instant::now() + MEETING_TIME_MAX;
    let mut raw = Raw::ready(node);
    while run(&mut raw, "SELECT k FROM ks.t", QUORUM).is_err() {
        assert!(Instant::now() < deadline, "the nodes do not meet:\n{}", node.log());
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) const SCHEMA: [&str; 6] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v int, l list<int>)",
    "CREATE TABLE ks.u (k int PRIMARY KEY, v int)",
    "CREATE TABLE ks.counted (k int PRIMARY KEY, n counter)",
    "CREATE TABLE ks.wide (k int, c int, v int, s int static, PRIMARY KEY (k, c))",
    "CREATE TABLE ks.w (k int PRIMARY KEY, v int) WITH cdc = {'enabled': true}",
];
const KEYS: i32 = 200;

#[test]
fn any_node_answers_for_all_of_them() {
    let nodes = cluster(&SCHEMA);
    let [first, second, third] = &mut [0, 1, 2].map(|node| Raw::ready(&nodes[node]));
    let write_levels = [ONE, QUORUM, ALL, EACH_QUORUM, LOCAL_ONE];
    for k in 0..KEYS {
        let level = write_levels[k as usize % write_levels.len()];
        let insert = format!("INSERT INTO ks.t (k, v, l) VALUES ({k}, {}, [1, 2])", k * 10);
        assert_eq!(run(first, &insert, level), Ok(Vec::new()));
    }
    for k in 0..KEYS {
        let level = [ONE, QUORUM, SERIAL, ALL][k as usize % 4];
        let select = format!("SELECT v FROM ks.t WHERE k = {k}");
        assert_eq!(run(second, &select, level), Ok(vec![k * 10]), "at level {level}");
    }
    assert_eq!(run(third, "INSERT INTO ks.t (k, v) VALUES (1, 1)", TWO), Err(UNAVAILABLE));
    assert_eq!(run(third, "SELECT v FROM ks.t WHERE k = 1", TWO), Err(UNAVAILABLE));

    let everything: Vec<i32> = (0..KEYS).collect();
    let mut orders = Vec::new();
    for (raw, size) in [(&mut *first, 7), (&mut *second, 64), (&mut *third, 5_000)] {
        let rows = all_pages(raw, "SELECT k FROM ks.t", QUORUM, size);
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, everything, "pages of {size}");
        orders.push(rows);
        assert_eq!(count(raw, "SELECT k FROM ks.t LIMIT 9", ONE), 9);
    }
    assert!(orders.iter().all(|order| *order == orders[0]), "in the order of tokens everywhere");

    let inserts: Vec<String> =
        (0..20).map(|k| format!("INSERT INTO ks.u (k, v) VALUES ({k}, 5);")).collect();
    let batch = format!("BEGIN BATCH {} APPLY BATCH", inserts.concat());
    assert_eq!(run(second, &batch, QUORUM), Ok(Vec::new()));
    assert_eq!(count(third, "SELECT k FROM ks.u", QUORUM), 20);

    for k in 0..20 {
        let update = format!("UPDATE ks.t SET l[0] = {k}, v = {k} WHERE k = {k}");
        assert_eq!(run(third, &update, QUORUM), Ok(Vec::new()));
        assert_eq!(run(first, &format!("SELECT v FROM ks.t WHERE k = {k}"), ONE), Ok(vec![k]));
    }
    assert_eq!(run(third, "UPDATE ks.t SET l[7] = 1 WHERE k = 1", QUORUM), Err(INVALID));

    assert_eq!(run(second, "TRUNCATE ks.t", ONE), Ok(Vec::new()));
    for raw in [first, second, third] {
        assert_eq!(count(raw, "SELECT k FROM ks.t", QUORUM), 0);
    }
}

#[test]
fn what_a_killed_node_held_is_unavailable_and_the_rest_is_not() {
    let mut nodes = cluster(&SCHEMA);
    let mut raw = Raw::ready(&nodes[0]);
    for k in 0..KEYS {
        let insert = format!("INSERT INTO ks.t (k, v) VALUES ({k}, {k})");
        assert_eq!(run(&mut raw, &insert, ONE), Ok(Vec::new()));
    }
    nodes[2].kill();
    let deadline = Instant::now() + MEETING_TIME_MAX;
    let select = |k: i32| format!("SELECT v FROM ks.t WHERE k = {k}");
    // Until the connection is known to be gone, an answer may be a timeout.
    let (mut lost, mut held) = (Vec::new(), Vec::new());
    for k in 0..KEYS {
        loop {
            match run(&mut raw, &select(k), ONE) {
                Ok(rows) => {
                    assert_eq!(rows, [k]);
                    held.push(k);
                    break;
                }
                Err(UNAVAILABLE) => {
                    lost.push(k);
                    break;
                }
                Err(_) => assert!(Instant::now() < deadline, "the node is not missed"),
            }
        }
    }
    assert!(lost.len() > 10 && held.len() > 10, "{} lost, {} held", lost.len(), held.len());
    let insert = |k: i32| format!("INSERT INTO ks.t (k, v) VALUES ({k}, {})", k + 1);
    assert_eq!(run(&mut raw, &insert(lost[0]), ONE), Err(UNAVAILABLE));
    assert_eq!(run(&mut raw, &insert(held[0]), ONE), Ok(Vec::new()));
    assert_eq!(run(&mut raw, "SELECT k FROM ks.t", ONE), Err(UNAVAILABLE), "a part is missing");

    nodes[2].restart();
    wait_until_all_answer(&nodes[0]);
    for k in lost {
        assert_eq!(run(&mut raw, &select(k), QUORUM), Ok(vec![k]), "nothing acknowledged is lost");
    }
    assert_eq!(run(&mut raw, &select(held[0]), QUORUM), Ok(vec![held[0] + 1]));
}

#[test]
fn a_plan_that_a_leader_calls_outdated_is_made_again() {
    let nodes = cluster(&SCHEMA);
    // With two, one that freezes would leave no majority for the change.
    wait_for_voters(&nodes, 3);
    let mut late = Raw::ready(&nodes[2]);
    nodes[2].freeze();
    Raw::ready(&nodes[1]).run("ALTER TABLE ks.t ADD added int");
    nodes[2].thaw();
    // It plans by the version that it knows, until leaders or the log tell it of the new one; and
    // for a moment it knows of nobody else that lives.
    let deadline = Instant::now() + MEETING_TIME_MAX;
    for k in 0..KEYS {
        let insert = format!("INSERT INTO ks.t (k, v) VALUES ({k}, 5)");
        loop {
            match run(&mut late, &insert, ONE) {
                Ok(_) => break,
                Err(code) => assert_eq!(code, UNAVAILABLE),
            }
            assert!(Instant::now() < deadline, "the nodes do not meet again");
        }
    }
    run(&mut late, "INSERT INTO ks.t (k, added) VALUES (7, 6)", ONE).expect("it knows by now");
    for k in 0..KEYS {
        let select = format!("SELECT v FROM ks.t WHERE k = {k}");
        assert_eq!(run(&mut Raw::ready(&nodes[0]), &select, ONE), Ok(vec![5]));
    }
}

/// Conditional statements of a few keys, each with its rows, from whichever node.
#[test]
fn conditions_are_asked_at_the_leader_and_answered_with_its_rows() {
    let nodes = cluster(&SCHEMA);
    let mut raws = [0, 1, 2].map(|node| Raw::ready(&nodes[node]));
    let applied = || Ok(vec![vec![Some(1)]]);
    for k in 0..30_i64 {
        let [first, second, third] = &mut raws;
        let check = |raw: &mut Raw, text: String, expected: Result<Vec<Row>, u32>| {
            assert_eq!(rows(raw, &text, QUORUM), expected, "{text}");
        };
        let insert = |v: i64| format!("INSERT INTO ks.t (k, v) VALUES ({k}, {v}) IF NOT EXISTS");
        check(first, insert(1), applied());
        // All columns of the row, in the order of SELECT *: k, l, v.
        check(second, insert(2), Ok(vec![vec![Some(0), Some(k), None, Some(1)]]));
        let update =
            |v: i64, seen: i64| format!("UPDATE ks.t SET v = {v} WHERE k = {k} IF v = {seen}");
        check(third, update(3, 1), applied());
        check(first, update(4, 1), Ok(vec![vec![Some(0), Some(3)]]));
        let select = format!("SELECT v FROM ks.t WHERE k = {k}");
        assert_eq!(rows(second, &select, SERIAL), Ok(vec![vec![Some(3)]]));
        check(third, format!("UPDATE ks.t SET l[0] = 1 WHERE k = {k} IF v = 3"), Err(INVALID));
        check(second, format!("DELETE FROM ks.t WHERE k = {k} IF EXISTS"), applied());
        check(first, format!("DELETE FROM ks.t WHERE k = {k} IF EXISTS"), Ok(vec![vec![Some(0)]]));

        let batch = |seen: &str| {
            format!(
                "BEGIN BATCH INSERT INTO ks.wide (k, c, v) VALUES ({k}, 1, 10) IF NOT EXISTS; \
                 UPDATE ks.wide SET s = 7 WHERE k = {k} IF s = {seen}; \
                 UPDATE ks.wide SET v = 20 WHERE k = {k} AND c = 2; APPLY BATCH"
            )
        };
        check(third, batch("null"), applied());
        let refused = vec![Some(0), Some(k), Some(1), Some(7), Some(10)];
        check(second, batch("7"), Ok(vec![refused]));
        let all = format!("SELECT c, s, v FROM ks.wide WHERE k = {k}");
        let row = |c, v| vec![Some(c), Some(7), Some(v)];
        assert_eq!(rows(first, &all, SERIAL), Ok(vec![row(1, 10), row(2, 20)]));
    }
    let [first, second, _] = &mut raws;
    let update = "UPDATE ks.t SET v = 1 WHERE k = 1 IF v = 1";
    assert_eq!(rows(first, update, SERIAL), Err(INVALID), "no level to commit at");
    assert_eq!(rows(second, update, TWO), Err(UNAVAILABLE), "there is one replica");
}

#[test]
fn counters_are_added_up_where_they_are_led() {
    let nodes = cluster(&SCHEMA);
    let writers: Vec<_> = (0..3)
        .map(|node| {
            let mut raw = Raw::ready(&nodes[node]);
            thread::spawn(move || {
                for step in 0..60 {
                    let k = step % 6;
                    let update = format!("UPDATE ks.counted SET n = n + 1 WHERE k = {k}");
                    assert_eq!(run(&mut raw, &update, QUORUM), Ok(Vec::new()));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("no panic");
    }
    let mut raw = Raw::ready(&nodes[1]);
    for k in 0..6 {
        let select = format!("SELECT n FROM ks.counted WHERE k = {k}");
        assert_eq!(run(&mut raw, &select, QUORUM), Ok(vec![30]));
    }
}

#[test]
fn a_logged_batch_changes_a_list_that_another_node_leads() {
    let nodes = cluster(&SCHEMA);
    let mut raw = Raw::ready(&nodes[0]);
    for k in 0..20 {
        let insert = format!("INSERT INTO ks.t (k, v, l) VALUES ({k}, 0, [1, 2, 3])");
        assert_eq!(run(&mut raw, &insert, ONE), Ok(Vec::new()));
        let batch = |index: i32| {
            format!(
                "BEGIN BATCH DELETE l[{index}] FROM ks.t WHERE k = {k}; \
                 INSERT INTO ks.u (k, v) VALUES ({}, {index}); \
                 INSERT INTO ks.w (k, v) VALUES ({}, {index}); APPLY BATCH",
                k + 100,
                k + 200
            )
        };
        assert_eq!(run(&mut raw, &batch(1), QUORUM), Ok(Vec::new()));
        assert_eq!(run(&mut raw, &batch(2), QUORUM), Err(INVALID), "there are two elements left");
        let two = |value: i32| {
            format!(
                "BEGIN BATCH DELETE l[0] FROM ks.t WHERE k = {k}; \
                 UPDATE ks.t SET l = l - [{value}] WHERE k = 5000; APPLY BATCH"
            )
        };
        let insert = "INSERT INTO ks.t (k, l) VALUES (5000, [7, 8, 9])";
        assert_eq!(run(&mut raw, insert, ONE), Ok(Vec::new()));
        assert_eq!(run(&mut raw, &two(8), QUORUM), Ok(Vec::new()));
        for (k, left) in [(k, vec![3]), (5000, vec![7, 9])] {
            let list = format!("SELECT l FROM ks.t WHERE k = {k}");
            let values = raw.rows(&list).expect("a row")[0][0].clone().expect("a list");
            let numbers = values[4..].chunks(8).map(|element| i32::from(element[7]));
            assert_eq!(numbers.collect::<Vec<_>>(), left);
        }
        let one_of = |table: &str, k: i32| format!("SELECT v FROM ks.{table} WHERE k = {k}");
        assert_eq!(run(&mut raw, &one_of("u", k + 100), QUORUM), Ok(vec![1]));
        assert_eq!(run(&mut raw, &one_of("w", k + 200), QUORUM), Ok(vec![1]));
    }
    let log = "SELECT v FROM ks.w_scylla_cdc_log";
    assert_eq!(count(&mut Raw::ready(&nodes[2]), log, QUORUM), 20, "each is told of once");
}

/// A batch whose coordinator dies in the middle is finished by who leads its record.
#[test]
fn a_logged_batch_is_finished_without_its_coordinator() {
    const BATCH_KEYS: i32 = 12;
    let mut nodes = cluster(&SCHEMA);
    let batch = |v: i32| {
        let tables = ["u", "w"].into_iter();
        let rows = tables.flat_map(|table| (0..BATCH_KEYS).map(move |k| (table, k)));
        let inserts: Vec<String> = rows
            .map(|(table, k)| format!("INSERT INTO ks.{table} (k, v) VALUES ({k}, {v});"))
            .collect();
        format!("BEGIN BATCH {} APPLY BATCH", inserts.concat())
    };
    let mut first = Raw::ready(&nodes[0]);
    let writer = thread::spawn(move || {
        let mut acknowledged = 0;
        while run_until_closed(&mut first, &batch(acknowledged + 1)) {
            acknowledged += 1;
        }
        acknowledged
    });
    thread::sleep(Duration::from_millis(300));
    nodes[0].kill();
    let acknowledged = writer.join().expect("no panic");
    nodes[0].restart();
    nodes.iter().for_each(wait_until_all_answer);
    let mut raw = Raw::ready(&nodes[1]);
    let deadline = Instant::now() + MEETING_TIME_MAX;
    loop {
        let mut values = run(&mut raw, "SELECT v FROM ks.u", QUORUM).expect("rows");
        values.extend(run(&mut raw, "SELECT v FROM ks.w", QUORUM).expect("rows"));
        values.sort_unstable();
        values.dedup();
        // The batch of all keys is made as a whole, the last one that was answered or the next.
        if values.len() == 1 && (acknowledged..=acknowledged + 1).contains(&values[0]) {
            break;
        }
        assert!(Instant::now() < deadline, "{acknowledged} were acknowledged, found: {values:?}");
        thread::sleep(Duration::from_millis(100));
    }
    let log = "SELECT v FROM ks.w_scylla_cdc_log";
    let mut told: BTreeMap<i32, i32> = BTreeMap::new();
    for v in all_pages(&mut raw, log, QUORUM, 5_000) {
        *told.entry(v).or_default() += 1;
    }
    let made = told.keys().max().copied().expect("batches were made");
    let expected: BTreeMap<i32, i32> = (1..=made).map(|v| (v, BATCH_KEYS)).collect();
    assert_eq!(told, expected, "each change is told of once, {acknowledged} acknowledged");
}

/// Whether a statement was acknowledged; false when the node has hung up.
fn run_until_closed(raw: &mut Raw, text: &str) -> bool {
    match raw.query(text) {
        Reply::Frame(RESULT, _) => true,
        Reply::Closed => false,
        other => panic!("{text}: {other:?}"),
    }
}
