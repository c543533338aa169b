//! Watermarks of the change log: whatever clients write with whatever timestamps, and whoever leads,
//! nothing appears at or below a time that `system.cdc_watermarks` has told.

use crate::several_nodes::QUORUM;
use crate::support::{Node, Random, Raw};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const TIME_MAX: Duration = Duration::from_mins(1);
const KEYS: u64 = 12;
/// How far ahead of the clock some writes are.
const AHEAD_MICROS_MAX: u64 = 1_500_000;
/// Between the writes of one client.
const PAUSE: Duration = Duration::from_millis(8);
const TABLES: [&str; 2] = ["plain", "imaged"];

type Stream = [u8; 16];
/// The time in microseconds and the number in its group.
type Place = (i64, Vec<u8>, i32);

fn micros_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_micros()).expect("before the year 294,000")
}

fn array(cell: Option<&Vec<u8>>) -> [u8; 16] {
    cell.expect("a value").as_slice().try_into().expect("16 bytes")
}

/// Runs a read until it is answered.
fn read(raw: &mut Raw, text: &str, level: u16) -> Vec<Vec<Option<Vec<u8>>>> {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match raw.rows_at(text, level) {
            Ok(rows) => return rows,
            Err(error) => assert!(Instant::now() < deadline, "{text}: {error:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Each stream's watermark, in microseconds.
fn watermarks(raw: &mut Raw) -> BTreeMap<Stream, i64> {
    let text = "SELECT stream_id, closed FROM system.cdc_watermarks WHERE keyspace_name = 'ks'";
    let rows = read(raw, text, 1);
    let row = |row: &Vec<Option<Vec<u8>>>| {
        (array(row[0].as_ref()), model::timeuuid::timeuuid_micros(&array(row[1].as_ref())))
    };
    rows.iter().map(row).collect()
}

/// All rows of a log, by stream.
fn log(raw: &mut Raw, table: &str) -> BTreeMap<Stream, BTreeSet<Place>> {
    let text = format!(
        "SELECT \"cdc$stream_id\", \"cdc$time\", \"cdc$batch_seq_no\" FROM ks.{table}_scylla_cdc_log"
    );
    let mut rows: BTreeMap<Stream, BTreeSet<Place>> = BTreeMap::new();
    for row in read(raw, &text, QUORUM) {
        let time = array(row[1].as_ref());
        let number = row[2].as_deref().expect("a number").try_into().expect("an int");
        let micros = model::timeuuid::timeuuid_micros(&time);
        let place = (micros, time.to_vec(), i32::from_be_bytes(number));
        rows.entry(array(row[0].as_ref())).or_default().insert(place);
    }
    rows
}

/// What is final, as it was told so far.
#[derive(Default)]
struct Witness {
    /// By table and stream: the watermark, and the rows up to it.
    told: BTreeMap<(&'static str, Stream), (i64, BTreeSet<Place>)>,
}

impl Witness {
    /// Reads watermarks, then the logs; says the lowest watermark.
    fn look(&mut self, watermarks_at: &mut Raw, logs_at: &mut Raw) -> i64 {
        let marks = watermarks(watermarks_at);
        for table in TABLES {
            let log = log(logs_at, table);
            assert!(log.keys().all(|stream| marks.contains_key(stream)), "a stream is not told");
            for (&stream, &mark) in &marks {
                let rows = log.get(&stream).cloned().unwrap_or_default();
                let up_to = |mark: i64| -> BTreeSet<Place> {
                    rows.iter().filter(|(at, ..)| *at <= mark).cloned().collect()
                };
                let known = self.told.entry((table, stream)).or_insert((mark, up_to(mark)));
                assert_eq!(up_to(known.0), known.1, "{table} changed at or below {}", known.0);
                let told = mark.max(known.0);
                *known = (told, up_to(told));
            }
        }
        marks.values().copied().min().expect("there are streams")
    }

    /// Looks until everything up to a time is told to be final.
    fn look_until(&mut self, watermarks_at: &mut Raw, logs_at: &mut Raw, time: i64) {
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let lowest = self.look(watermarks_at, logs_at);
            if lowest >= time {
                return;
            }
            assert!(Instant::now() < deadline, "closed up to {lowest}, not {time}");
        }
    }

    fn row_count(&self) -> usize {
        self.told.values().map(|(_, rows)| rows.len()).sum()
    }
}

/// A write with a timestamp of the present, from long ago, or ahead.
fn statement(random: &mut Random, writer: u64) -> String {
    let now = micros_now();
    let timestamp = match random.below(6) {
        0 => None,
        1 => Some(now - 8_000_000),
        2 => Some(now - random.below(3_000_000) as i64),
        3 => Some(now + random.below(AHEAD_MICROS_MAX) as i64),
        _ => Some(now),
    };
    let using = timestamp.map_or(String::new(), |at| format!(" USING TIMESTAMP {at}"));
    let table = TABLES[random.below(2) as usize];
    let (k, c) = (random.below(KEYS), random.below(3));
    match random.below(6) {
        0 => format!("DELETE FROM ks.{table}{using} WHERE k = {k} AND c = {c}"),
        1 => format!("DELETE FROM ks.{table}{using} WHERE k = {k}"),
        2 => format!("UPDATE ks.{table}{using} SET v = {writer} WHERE k = {k} AND c = {c}"),
        _ => format!("INSERT INTO ks.{table} (k, c, v) VALUES ({k}, {c}, {now}){using}"),
    }
}

/// Clients that write until they are told to stop.
struct Writers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Writers {
    /// At each of these nodes.
    fn start(nodes: &[&Node], random: &mut Random) -> Writers {
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |(number, node): (u64, &&Node)| {
            let (mut raw, is_over) = (Raw::ready(node), is_over.clone());
            let mut random = Random::new(random.next());
            thread::spawn(move || {
                let mut acknowledged = 0;
                while !is_over.load(Ordering::SeqCst) {
                    let text = statement(&mut random, number);
                    acknowledged += u64::from(raw.rows_at(&text, QUORUM).is_ok());
                    thread::sleep(PAUSE);
                }
                acknowledged
            })
        };
        let threads = (0..).zip(nodes).map(start).collect();
        Writers { is_over, threads }
    }

    /// Ends them; how many writes were acknowledged.
    fn stop(self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().expect("a writer")).sum()
    }
}

fn make_tables(node: &Node, copies: usize) {
    let mut raw = Raw::ready(node);
    raw.run(&format!(
        "CREATE KEYSPACE ks WITH replication = \
         {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
    ));
    let columns = "(k int, c int, v bigint, PRIMARY KEY (k, c))";
    for (table, images) in [("plain", ""), ("imaged", ", 'preimage': 'full', 'postimage': true")] {
        let options = format!("cdc = {{'enabled': true{images}}}");
        raw.run(&format!("CREATE TABLE ks.{table} {columns} WITH {options}"));
    }
}

#[test]
fn nothing_appears_below_a_watermark_while_leaders_die() {
    let mut random = Random::from_environment("WATERMARKS_SEED");
    let mut nodes = Node::start_together::<3>(&["--memory", "64M"]);
    make_tables(&nodes[0], 3);
    let mut witness = Witness::default();
    let (mut one, mut other) = (Raw::ready(&nodes[1]), Raw::ready(&nodes[2]));
    witness.look_until(&mut one, &mut other, micros_now() - 1_000_000);
    let writers = Writers::start(&[&nodes[1], &nodes[2], &nodes[2]], &mut random);
    witness.look_until(&mut one, &mut other, micros_now() + 1_000_000);
    nodes[0].kill();
    witness.look_until(&mut one, &mut other, micros_now() + 2_000_000);
    nodes[0].restart();
    witness.look_until(&mut one, &mut other, micros_now() + 3_000_000);
    assert!(writers.stop() > 0);
    // Past all that was written, what is ahead of the clock included.
    witness.look_until(&mut one, &mut other, micros_now() + AHEAD_MICROS_MAX as i64);
    assert!(witness.row_count() > 20, "{} rows", witness.row_count());
}

#[test]
fn watermarks_of_one_node_never_fall_over_its_death() {
    let mut random = Random::from_environment("WATERMARKS_SEED");
    let mut node = Node::start();
    make_tables(&node, 1);
    let mut witness = Witness::default();
    let mut before = BTreeMap::new();
    for _ in 0..3 {
        let (mut one, mut other) = (Raw::ready(&node), Raw::ready(&node));
        let after = watermarks(&mut one);
        for (stream, told) in &before {
            assert!(after[stream] >= *told, "{} is below {told}", after[stream]);
        }
        let writers = Writers::start(&[&node, &node], &mut random);
        witness.look_until(&mut one, &mut other, micros_now() + 500_000);
        assert!(writers.stop() > 0);
        witness.look(&mut one, &mut other);
        before = watermarks(&mut one);
        node.kill();
        node.restart();
    }
    let (mut one, mut other) = (Raw::ready(&node), Raw::ready(&node));
    witness.look_until(&mut one, &mut other, micros_now() + AHEAD_MICROS_MAX as i64);
    assert!(witness.row_count() > 20, "{} rows", witness.row_count());
}
