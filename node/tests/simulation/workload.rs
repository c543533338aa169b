//! Clients that work on a cluster whatever becomes of its nodes, and what must hold for them at every
//! moment and in the end:
//!
//! - what was acknowledged is there, whichever node is asked at QUORUM;
//! - counters and conditional writes count every step once;
//! - the replicas are the same, and on each of them the log, replayed by its times, gives the table;
//! - the log tells of every insert and of every step once, if it was made, and of nothing else, in a
//!   stream of the generation that operated at the time.
//!
//! A write without an answer may still be on its way when its client goes on, so clients send
//! timestamps of their own, that rise: one that comes late loses against those after it. Some
//! clients' clocks are slow or fast enough that the log has to place their writes elsewhere.

use crate::change_log::{self, Contents, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::{HasClients, Outcome};
use crate::cluster::Cluster;
use crate::generations;
use crate::statements::Statement;
use crate::told::{self, Written};
use cdc::fold::LogRow;
use cql::wire::{BatchKind, Consistency};
use env::{Entropy, EntropySource};
use model::clustering::encode_clustering;
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Far behind, right, and far ahead, in microseconds.
const CLIENT_CLOCKS: [i64; 3] = [-8_000_000, 0, 7_000_000];
/// Partitions of each client and rows of each, in every table.
const PARTITIONS: i32 = 3;
const ROWS: i32 = 2;
/// Rows that all clients count in.
const COUNTED: usize = 2;
/// How long nodes may take to form a cluster, and replicas to become equal.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How long a client waits for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// How long a client rests between two calls, at most. A few calls in the time in which a fault is
/// noticed are as good as a hundred, and what is written has to be read back and folded.
const REST_MILLIS_MAX: u64 = 20;
const SWITCH_PAUSE: Duration = Duration::from_millis(700);

/// Each table with rows of one client each: its name, its options, and whether every change of it
/// has images.
const TABLES: [(&str, &str, bool); 3] = [
    ("plain", "", false),
    ("deltas", " WITH cdc = {'enabled': true}", false),
    ("images", " WITH cdc = {'enabled': true, 'preimage': 'full', 'postimage': true}", true),
];
/// The table of conditional writes.
const COMPARED: (&str, &str) = ("compared", " WITH cdc = {'enabled': true, 'preimage': true}");

/// A row: its table's position in [`TABLES`], its partition and its clustering key.
type Key = (usize, i32, i32);

/// The table of rows that have the servers' timestamps.
const STAMPED: (&str, &str) = ("stamped", " WITH cdc = {'enabled': true}");
/// Tables whose logs are followed.
pub(crate) const FOLLOWED: [&str; 4] = ["deltas", "images", COMPARED.0, STAMPED.0];
/// Where those two are in [`defined`].
const COMPARED_AT: usize = TABLES.len();
const STAMPED_AT: usize = TABLES.len() + 1;

/// A table as it is read back.
struct Defined {
    table: Arc<TableDef>,
    has_log: bool,
    has_images: bool,
}

/// All tables but that of the counters.
fn defined() -> Vec<Defined> {
    let p = ("p", CqlType::Int, ColumnKind::PartitionKey(0));
    let c = ("c", CqlType::Int, ColumnKind::Clustering(0));
    let (v, n) = (("v", CqlType::Int), ("n", CqlType::BigInt));
    let regular = |(name, cql_type)| (name, cql_type, ColumnKind::Regular);
    let of_clients = TABLES.map(|(name, cdc, has_images)| Defined {
        table: table_def(name, &[p.clone(), c.clone(), regular(v.clone())]),
        has_log: !cdc.is_empty(),
        has_images,
    });
    let compared = table_def(COMPARED.0, &[p.clone(), regular(n)]);
    let stamped = table_def(STAMPED.0, &[p.clone(), regular(v.clone())]);
    let mut all = Vec::from(of_clients);
    all.push(Defined { table: compared, has_log: true, has_images: true });
    all.push(Defined { table: stamped, has_log: true, has_images: false });
    all
}

/// Tries until it works: nodes may still be finding each other.
pub(crate) async fn insist(client: &mut Client, home: &Home, text: &str) {
    let deadline = home.clock.now_micros() + PATIENCE.as_micros() as i64;
    while let Err(error) = client.query(text).await {
        let is_there = matches!(&error, ClientError::Refused(0x2400, _));
        if is_there {
            return;
        }
        assert!(home.clock.now_micros() < deadline, "{text}: {error:?}");
        home.clock.sleep(PAUSE).await;
    }
}

async fn make_tables(home: Home, factor: usize) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = format!(
        "CREATE KEYSPACE ks WITH replication = {{'class': 'SimpleStrategy', \
         'replication_factor': {factor}}}"
    );
    insist(&mut client, &home, &keyspace).await;
    for (name, cdc, _) in TABLES {
        let text = format!("CREATE TABLE ks.{name} (p int, c int, v int, PRIMARY KEY (p, c)){cdc}");
        insist(&mut client, &home, &text).await;
    }
    let (name, cdc) = COMPARED;
    let compared = format!("CREATE TABLE ks.{name} (p int PRIMARY KEY, n bigint){cdc}");
    insist(&mut client, &home, &compared).await;
    let (name, cdc) = STAMPED;
    let stamped = format!("CREATE TABLE ks.{name} (p int PRIMARY KEY, v int){cdc}");
    insist(&mut client, &home, &stamped).await;
    insist(&mut client, &home, "CREATE TABLE ks.counted (p int PRIMARY KEY, n counter)").await;
    for row in 0..COUNTED {
        let insert = format!("INSERT INTO ks.compared (p, n) VALUES ({row}, 0) IF NOT EXISTS");
        insist(&mut client, &home, &insert).await;
    }
}

/// Switches the images of a log on and off, from any of the nodes.
async fn switch_images(homes: Vec<Home>, seed: u64, is_to_end: Rc<Cell<bool>>) {
    let mut entropy = EntropySource::simulated(seed).generator("switch");
    let mut has_images = false;
    while !is_to_end.get() {
        for home in &homes {
            has_images = !has_images;
            let mut client = Client::connect_to_any(&homes, "switch", &mut entropy).await;
            client.patience = ANSWER_PATIENCE;
            let options = format!("{{'enabled': true, 'preimage': {has_images}}}");
            // Whether it is done does not matter.
            client.query(&format!("ALTER TABLE ks.deltas WITH cdc = {options}")).await.ok();
            home.clock.sleep(SWITCH_PAUSE).await;
        }
    }
}

/// What a row may hold: what each attempt would have left, from the last that is known to be made.
#[derive(Clone, Debug)]
struct Attempts(Vec<Option<i32>>);

impl Default for Attempts {
    fn default() -> Self {
        Attempts(vec![None])
    }
}

impl Attempts {
    /// The last attempt was made, and all before it are over.
    fn acknowledge(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    /// A client was shown this: whatever came before is over.
    fn see(&mut self, found: Option<i32>) -> Result<(), String> {
        let position = self.0.iter().position(|possible| *possible == found);
        let position = position.ok_or_else(|| format!("{found:?}, not one of {:?}", self.0))?;
        self.0.drain(..position);
        Ok(())
    }
}

/// What a client knows of a row whose timestamps are the servers'. A write without an answer may be
/// made at any time, also after later ones.
#[derive(Clone, Debug, Default)]
struct Stamped {
    acknowledged: Option<i32>,
    unknown: BTreeSet<i32>,
}

impl Stamped {
    fn check(&self, found: Option<i32>) -> Result<(), String> {
        let is_unknown = found.is_some_and(|number| self.unknown.contains(&number));
        let is_possible = found == self.acknowledged || is_unknown;
        if is_possible { Ok(()) } else { Err(format!("{found:?}, not one of {self:?}")) }
    }
}

/// What a client knows of a row that all count in.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    applied: i64,
    unanswered: i64,
    /// The largest number that a client was told of.
    seen: i64,
}

/// What a client knows.
#[derive(Clone, Debug, Default)]
struct Known {
    rows: BTreeMap<Key, Attempts>,
    stamped: BTreeMap<i32, Stamped>,
    counters: [Count; COUNTED],
    compared: [Count; COUNTED],
    acknowledged: u64,
    unknown: u64,
    written: Written,
}

impl Known {
    /// Writes of which it is not known whether they were made.
    fn unanswered(&self) -> u64 {
        let counts =
            self.counters.iter().chain(&self.compared).map(|count| count.unanswered as u64);
        let stamped = self.stamped.values().map(|row| row.unknown.len() as u64);
        self.unknown + counts.sum::<u64>() + stamped.sum::<u64>()
    }
}

/// A client's life: it works until it is told to end.
struct Worker {
    homes: Vec<Home>,
    number: i32,
    entropy: Entropy,
    client: Client,
    known: Known,
    next: i32,
    timestamp: i64,
}

async fn work(homes: Vec<Home>, number: i32, seed: u64, is_to_end: Rc<Cell<bool>>) -> Known {
    let name = format!("worker {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let client = Client::connect_to_any(&homes, &name, &mut entropy).await;
    let known = Known::default();
    let mut worker = Worker { homes, number, entropy, client, known, next: 0, timestamp: 0 };
    worker.client.patience = ANSWER_PATIENCE;
    while !is_to_end.get() {
        worker.do_something().await;
        worker.rest().await;
    }
    worker.known
}

impl Worker {
    /// Lets some time pass.
    async fn rest(&mut self) {
        let millis = self.entropy.below(REST_MILLIS_MAX);
        self.homes[0].clock.sleep(Duration::from_millis(millis)).await;
    }

    /// Goes on with any of the nodes.
    async fn reconnect(&mut self) {
        self.homes[0].clock.sleep(PAUSE).await;
        let name = format!("worker {}", self.number);
        self.client = Client::connect_to_any(&self.homes, &name, &mut self.entropy).await;
        self.client.patience = ANSWER_PATIENCE;
    }

    async fn do_something(&mut self) {
        let is_answered = match self.entropy.below(14) {
            0 | 1 => self.count_up().await,
            2 | 3 => self.compare_and_set().await,
            4 | 5 => self.read().await,
            6 => self.write_several().await,
            7 | 8 => self.write_stamped().await,
            9 => self.read_stamped().await,
            _ => self.write_one().await,
        };
        if !is_answered {
            self.reconnect().await;
        }
    }

    fn key(&mut self) -> Key {
        let mut below = |bound: i32| self.entropy.below(bound as u64) as i32;
        let (table, partition, row) = (below(3) as usize, below(PARTITIONS), below(ROWS));
        (table, self.number * PARTITIONS + partition, row)
    }

    fn timestamp(&mut self) -> i64 {
        let clock = self.homes[0].clock.now_micros() + CLIENT_CLOCKS[self.number as usize];
        self.timestamp = clock.max(self.timestamp + 1);
        self.timestamp
    }

    async fn write_one(&mut self) -> bool {
        let (key, timestamp) = (self.key(), self.timestamp());
        self.next += 1;
        let content = (self.entropy.below(5) > 0).then_some(self.next);
        let result = self.client.run(&write_of(key, content, timestamp)).await.map(drop);
        self.tried(&[key], content, &result)
    }

    /// A logged batch.
    async fn write_several(&mut self) -> bool {
        let timestamp = self.timestamp();
        self.next += 1;
        let content = Some(self.next);
        let keys: BTreeSet<Key> = (0..2 + self.entropy.below(3)).map(|_| self.key()).collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let writes: Vec<Statement> =
            keys.iter().map(|key| write_of(*key, content, timestamp)).collect();
        let result = self.client.batch(BatchKind::Logged, &writes, None).await.map(drop);
        self.tried(&keys, content, &result)
    }

    fn tried(&mut self, keys: &[Key], made: Option<i32>, result: &Result<(), ClientError>) -> bool {
        let is_made = match result {
            Ok(()) => true,
            Err(error) if error.is_not_applied() => return false,
            Err(_) => false,
        };
        for key in keys {
            let attempts = self.known.rows.entry(*key).or_default();
            attempts.0.push(made);
            if is_made {
                attempts.acknowledge();
            }
            if let Some(number) = made {
                self.known.written.note((key.0, key.1, Some(key.2), number), is_made);
            }
        }
        self.known.acknowledged += u64::from(is_made);
        self.known.unknown += u64::from(!is_made);
        is_made
    }

    /// What was acknowledged is there, and nothing else.
    async fn read(&mut self) -> bool {
        let key = self.key();
        let (table, p, c) = (TABLES[key.0].0, key.1, key.2);
        let text = format!("SELECT v FROM ks.{table} WHERE p = {p} AND c = {c}");
        let Ok(page) = self.client.query(&text).await else { return false };
        let found = page.rows.first().and_then(|row| int(row[0].as_ref()));
        if let Err(why) = self.known.rows.entry(key).or_default().see(found) {
            panic!("{table} {p} {c}: {why}");
        }
        true
    }

    fn stamped_key(&mut self) -> i32 {
        self.number * PARTITIONS + self.entropy.below(PARTITIONS as u64) as i32
    }

    /// A write whose timestamp is the leader's, so that leaders have to follow each other in time.
    async fn write_stamped(&mut self) -> bool {
        let key = self.stamped_key();
        self.next += 1;
        let insert = format!("INSERT INTO ks.stamped (p, v) VALUES ({key}, {})", self.next);
        let result = self.client.query(&insert).await;
        let known = self.known.stamped.entry(key).or_default();
        match &result {
            Ok(_) => known.acknowledged = Some(self.next),
            Err(error) if error.is_not_applied() => return false,
            Err(_) => drop(known.unknown.insert(self.next)),
        }
        self.known.written.note((STAMPED_AT, key, None, self.next), result.is_ok());
        result.is_ok()
    }

    async fn read_stamped(&mut self) -> bool {
        let key = self.stamped_key();
        let text = format!("SELECT v FROM ks.stamped WHERE p = {key}");
        let Ok(page) = self.client.query(&text).await else { return false };
        let found = page.rows.first().and_then(|row| int(row[0].as_ref()));
        if let Err(why) = self.known.stamped.entry(key).or_default().check(found) {
            panic!("stamped {key}: {why}");
        }
        true
    }

    async fn count_up(&mut self) -> bool {
        let row = self.entropy.below(COUNTED as u64) as usize;
        let text = format!("UPDATE ks.counted SET n = n + 1 WHERE p = {row}");
        let result = self.client.query(&text).await;
        let known = &mut self.known.counters[row];
        match &result {
            Ok(_) => known.applied += 1,
            Err(error) if error.is_not_applied() => {}
            Err(_) => known.unanswered += 1,
        }
        result.is_ok()
    }

    async fn compare_and_set(&mut self) -> bool {
        let row = self.entropy.below(COUNTED as u64) as usize;
        let known = &mut self.known.compared[row];
        let from = known.seen;
        let to = from + 1;
        let text = format!("UPDATE ks.compared SET n = {to} WHERE p = {row} IF n = {from}");
        match self.client.query(&text).await {
            Ok(page) if page.rows[0][0].as_deref() == Some(&[1]) => {
                known.applied += 1;
                known.seen = to;
            }
            Ok(page) => {
                assert_eq!(page.columns, ["[applied]", "n"]);
                known.seen = bigint(page.rows[0][1].as_ref());
                assert!(known.seen > from, "{text}: refused at {}", known.seen);
            }
            Err(error) => {
                known.unanswered += i64::from(!error.is_not_applied());
                return false;
            }
        }
        true
    }
}

fn int(cell: Option<&Vec<u8>>) -> Option<i32> {
    cell.map(|bytes| i32::from_be_bytes(bytes.as_slice().try_into().expect("an int")))
}

fn bigint(cell: Option<&Vec<u8>>) -> i64 {
    cell.map_or(0, |bytes| i64::from_be_bytes(bytes.as_slice().try_into().expect("a bigint")))
}

fn write_of((table, p, c): Key, content: Option<i32>, timestamp: i64) -> Statement {
    let table = TABLES[table].0;
    Statement::of_text(&match content {
        Some(v) => format!(
            "INSERT INTO ks.{table} (p, c, v) VALUES ({p}, {c}, {v}) USING TIMESTAMP {timestamp}"
        ),
        None => {
            format!("DELETE FROM ks.{table} USING TIMESTAMP {timestamp} WHERE p = {p} AND c = {c}")
        }
    })
}

/// What one replica holds: each table with its log, and the counters.
#[derive(Clone, Debug, PartialEq)]
struct Replica {
    tables: Vec<(Contents, Vec<LogRow>)>,
    counters: Vec<i64>,
}

impl Replica {
    /// Reads at ONE, which a node answers from what it holds itself.
    async fn read(home: &Home) -> Result<Replica, ClientError> {
        let mut client = Client::connect(home, "replica", Dialect::of(2)).await;
        client.consistency = Consistency::One;
        let mut tables = Vec::new();
        for Defined { table, has_log, .. } in defined() {
            let contents = change_log::read_table(&mut client, &table).await?;
            let log =
                if has_log { change_log::read_log(&mut client, &table).await? } else { Vec::new() };
            tables.push((contents, log));
        }
        let mut counters = Vec::new();
        for row in 0..COUNTED {
            let select = format!("SELECT n FROM ks.counted WHERE p = {row}");
            let page = client.query(&select).await?;
            counters.push(page.rows.first().map_or(0, |row| bigint(row[0].as_ref())));
        }
        Ok(Replica { tables, counters })
    }

    /// A column of a row of one of the tables in [`defined`].
    fn value(&self, table: usize, p: i32, c: Option<i32>, column: &str) -> Option<&Vec<u8>> {
        let clustering: Vec<[u8; 4]> = c.iter().map(|c| c.to_be_bytes()).collect();
        let clustering: Vec<&[u8]> = clustering.iter().map(<[u8; 4]>::as_slice).collect();
        let key = encode_clustering(&defined()[table].table, &clustering).unwrap();
        let row = self.tables[table].0.get(&(p.to_be_bytes().to_vec(), Some(key)))?;
        Some(&row.get(column)?.first()?.1)
    }
}

/// Waits until all replicas are the same.
async fn read_replicas(homes: Vec<Home>) -> (Replica, i64) {
    let clock = homes[0].clock.clone();
    let deadline = clock.now_micros() + PATIENCE.as_micros() as i64;
    loop {
        let mut replicas = Vec::new();
        for home in &homes {
            if let Ok(replica) = Replica::read(home).await {
                replicas.push(replica);
            }
        }
        let is_same = replicas.len() == homes.len() && replicas.iter().all(|r| *r == replicas[0]);
        if is_same {
            return (replicas.swap_remove(0), clock.now_seconds());
        }
        let is_late = clock.now_micros() > deadline;
        assert!(!is_late, "the replicas stay different:\n{replicas:#?}");
        clock.sleep(PAUSE * 10).await;
    }
}

fn check(known: &mut [Known], replica: &Replica, now: i64) {
    for (defined, (contents, log)) in defined().iter().zip(&replica.tables) {
        let Defined { table, has_log, has_images } = defined;
        if *has_log && let Err(why) = change_log::check(table, *has_images, log, contents, now) {
            panic!("{}: {why}", table.name);
        }
    }
    for known in &mut *known {
        for (&(table, p, c), attempts) in &mut known.rows {
            let found = replica.value(table, p, Some(c), "v");
            if let Err(why) = attempts.see(int(found)) {
                panic!("{} {p} {c}: {why}", TABLES[table].0);
            }
        }
        for (&p, row) in &known.stamped {
            if let Err(why) = row.check(int(replica.value(STAMPED_AT, p, None, "v"))) {
                panic!("stamped {p}: {why}");
            }
        }
    }
    let mut reached = Vec::new();
    for row in 0..COUNTED {
        let value = bigint(replica.value(COMPARED_AT, row as i32, None, "n"));
        check_count("compared", value, known.iter().map(|known| known.compared[row]));
        reached.push(value);
        let sum = replica.counters[row];
        check_count("counted", sum, known.iter().map(|known| known.counters[row]));
    }
    check_told(known, replica, &reached);
}

/// Every change is told of once.
fn check_told(known: &[Known], replica: &Replica, reached: &[i64]) {
    let mut written = Written::default();
    for known in known {
        written.add(known.written.clone());
    }
    for (index, defined) in defined().iter().enumerate() {
        let (_, log) = &replica.tables[index];
        let checked = match (defined.has_log, index) {
            (false, _) => Ok(()),
            (true, COMPARED_AT) => told::check_steps(log, reached),
            (true, _) => written.check(index, log),
        };
        if let Err(why) = checked {
            panic!("the log of {}: {why}", defined.table.name);
        }
    }
}

fn check_count(what: &str, sum: i64, known: impl Iterator<Item = Count>) {
    let (mut least, mut most, mut seen) = (0, 0, 0);
    for count in known {
        least += count.applied;
        most += count.applied + count.unanswered;
        seen = seen.max(count.seen);
    }
    let possible = least.max(seen)..=most;
    assert!(possible.contains(&sum), "{what} is {sum}, not in {possible:?}");
}

/// The clients of a cluster, while they work.
pub(crate) struct Workload {
    is_to_end: Rc<Cell<bool>>,
    workers: Vec<Outcome<Known>>,
    switching: Outcome<()>,
    watching: Outcome<()>,
}

impl Workload {
    /// Makes the tables, so many copies of each row, and lets clients work on them from all nodes
    /// that serve.
    pub(crate) fn start(cluster: &mut Cluster, first: usize, factor: usize) -> Workload {
        let seed = cluster.seed;
        cluster.run(make_tables(cluster.home(first), factor));
        let is_to_end = Rc::new(Cell::new(false));
        let workers = (0..CLIENT_CLOCKS.len() as i32)
            .map(|number| cluster.start(work(cluster.homes(), number, seed, is_to_end.clone())))
            .collect();
        let switching = cluster.start(switch_images(cluster.homes(), seed, is_to_end.clone()));
        let watching = generations::watch(cluster.homes(), seed, is_to_end.clone());
        let watching = cluster.start(watching);
        Workload { is_to_end, workers, switching, watching }
    }

    /// Lets the clients end, and checks what is left against what they know, on these nodes. Returns
    /// how many writes were not answered, or not as made or not made.
    pub(crate) fn end(self, cluster: &mut Cluster, members: &[usize]) -> u64 {
        self.is_to_end.set(true);
        let mut known: Vec<Known> =
            self.workers.iter().map(|worker| cluster.finish(worker)).collect();
        cluster.finish(&self.switching);
        cluster.finish(&self.watching);
        let acknowledged: u64 = known.iter().map(|known| known.acknowledged).sum();
        assert!(acknowledged > 20, "seed {}: hardly anything was written", cluster.seed);
        let homes: Vec<Home> = members.iter().map(|node| cluster.home(*node)).collect();
        let (replica, now) = cluster.run(read_replicas(homes.clone()));
        check(&mut known, &replica, now);
        let all = cluster.run(generations::read(homes[0].clone()));
        for (_, log) in &replica.tables {
            if let Err(why) = all.check(log) {
                panic!("seed {}: {why}", cluster.seed);
            }
        }
        known.iter().map(Known::unanswered).sum()
    }
}
