//! Power cuts at any moment: what was acknowledged is there, with its log rows; what was not is
//! there as a whole or not at all.
//!
//! Each client owns its keys and writes them one after the other, so that it knows what each must
//! hold. A write whose outcome it was not told is looked for after the restart, and from then on
//! it is known. In the end the log must tell exactly the changes that were made, in order.

use crate::change_log::{self, Contents, RowKey, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::Statement;
use crate::world::World;
use cdc::fold::LogRow;
use cql::wire::BatchKind;
use env::disk::Survival;
use env::{Entropy, EntropySource};
use model::clustering::encode_clustering;
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: i32 = 3;
const CUTS: u64 = 5;
/// Partitions of each client and rows of each, in every table.
const PARTITIONS: i32 = 3;
const ROWS: i32 = 2;
/// A cut comes within so many changes of the disk, counted from the one before.
const OPERATIONS_MAX: u64 = 300;
/// Ticks until the cut when the disk has not got so far.
const TICKS_MAX: u64 = 5_000;
/// Ticks that a node without a disk goes on at most until its power is gone too.
const AGONY_TICKS_MAX: u64 = 20;
/// How long the rest of a logged batch may take after a restart.
const BATCH_PATIENCE: Duration = Duration::from_secs(30);
const TABLES: [(&str, &str); 3] = [
    ("plain", ""),
    ("deltas", " WITH cdc = {'enabled': true}"),
    ("images", " WITH cdc = {'enabled': true, 'preimage': 'full', 'postimage': true}"),
];

/// A row of a table, by its position in [`TABLES`].
type Key = (usize, i32, i32);
/// What a row holds: the number that was written last, or nothing.
type State = BTreeMap<Key, i32>;

/// What a client tries.
#[derive(Clone, Debug)]
enum Attempt {
    /// One statement, or a logged batch of several: each key gets the number.
    Put(Vec<Key>, i32),
    Delete(Key),
    Create(String),
}

/// What a client knows to have happened.
#[derive(Debug, Default)]
struct Known {
    rows: State,
    /// The changes of each row in order; `None` is a delete.
    changes: BTreeMap<Key, Vec<Option<i32>>>,
    tables: BTreeSet<String>,
    acknowledged: u64,
    unknown: u64,
}

impl Known {
    fn apply(&mut self, attempt: &Attempt) {
        match attempt {
            Attempt::Put(keys, number) => {
                for key in keys {
                    self.rows.insert(*key, *number);
                    self.changes.entry(*key).or_default().push(Some(*number));
                }
            }
            Attempt::Delete(key) => {
                self.rows.remove(key);
                self.changes.entry(*key).or_default().push(None);
            }
            Attempt::Create(name) => {
                self.tables.insert(name.clone());
            }
        }
    }
}

fn base_table(name: &str) -> Arc<TableDef> {
    table_def(
        name,
        &[
            ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("c", CqlType::Int, ColumnKind::Clustering(0)),
            ("pad", CqlType::Text, ColumnKind::Regular),
            ("v", CqlType::Int, ColumnKind::Regular),
        ],
    )
}

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 1}";
    client.query(keyspace).await.unwrap();
    for (name, cdc) in TABLES {
        let columns = "(p int, c int, v int, pad text, PRIMARY KEY (p, c))";
        client.query(&format!("CREATE TABLE ks.{name} {columns}{cdc}")).await.unwrap();
    }
}

/// What a client and the test say to each other.
#[derive(Clone, Debug)]
struct Signals {
    is_to_end: Rc<Cell<bool>>,
    boots: Rc<Cell<u64>>,
}

/// A client's life: writes until it is told to end.
struct Writer {
    home: Home,
    signals: Signals,
    number: i32,
    entropy: Entropy,
    client: Client,
    known: Known,
    next: i32,
}

async fn write(home: Home, signals: Signals, number: i32, seed: u64) -> Known {
    let name = format!("writer {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    let known = Known::default();
    let mut writer = Writer { home, signals, number, entropy, client, known, next: 0 };
    while !writer.signals.is_to_end.get() {
        writer.try_something().await;
    }
    writer.verify().await;
    writer.known
}

impl Writer {
    async fn try_something(&mut self) {
        let attempt = self.attempt();
        let boots = self.signals.boots.get();
        match self.make(&attempt).await {
            Ok(()) => {
                self.known.acknowledged += 1;
                self.known.apply(&attempt);
            }
            Err(error) => {
                let is_unknown = !error.is_not_applied();
                // A node whose disk is gone says so until it is gone too.
                while self.signals.boots.get() == boots && !self.signals.is_to_end.get() {
                    self.home.clock.sleep(Duration::from_millis(5)).await;
                }
                let name = format!("writer {}", self.number);
                let dialect = Dialect::of(self.entropy.u64());
                self.client = Client::connect(&self.home, &name, dialect).await;
                if is_unknown {
                    self.known.unknown += 1;
                    if self.happened(&attempt).await {
                        self.known.apply(&attempt);
                    }
                }
                self.verify().await;
            }
        }
    }

    fn attempt(&mut self) -> Attempt {
        self.next += 1;
        let key = self.key();
        match self.entropy.below(16) {
            0 if self.number == 0 => Attempt::Create(format!("extra_{}", self.next)),
            1 | 2 if self.known.rows.contains_key(&key) => Attempt::Delete(key),
            3..=7 => {
                let keys: BTreeSet<Key> =
                    (0..2 + self.entropy.below(3)).map(|_| self.key()).collect();
                Attempt::Put(keys.into_iter().collect(), self.next)
            }
            _ => Attempt::Put(vec![key], self.next),
        }
    }

    fn key(&mut self) -> Key {
        let mut below = |bound: i32| self.entropy.below(bound as u64) as i32;
        let (table, partition, row) = (below(3) as usize, below(PARTITIONS), below(ROWS));
        (table, self.number * PARTITIONS + partition, row)
    }

    async fn make(&mut self, attempt: &Attempt) -> Result<(), ClientError> {
        let result = match attempt {
            Attempt::Put(keys, number) => {
                let puts: Vec<Statement> = keys.iter().map(|key| put(*key, *number)).collect();
                match puts.as_slice() {
                    [single] => self.client.run(single).await,
                    several => self.client.batch(BatchKind::Logged, several, None).await,
                }
            }
            Attempt::Delete((table, p, c)) => {
                let table = TABLES[*table].0;
                let text = format!("DELETE FROM ks.{table} WHERE p = {p} AND c = {c}");
                self.client.query(&text).await
            }
            Attempt::Create(name) => {
                self.client.query(&format!("CREATE TABLE ks.{name} (k int PRIMARY KEY)")).await
            }
        };
        result.map(drop)
    }

    /// Whether an attempt without an answer was made. Part of a logged batch may still be missing
    /// when the node has just started; in the end all of it is there or nothing.
    async fn happened(&mut self, attempt: &Attempt) -> bool {
        match attempt {
            Attempt::Create(name) => self.has_table(name).await,
            Attempt::Delete(key) => !self.read().await.contains_key(key),
            Attempt::Put(keys, number) => {
                let deadline = self.home.clock.now_micros() + BATCH_PATIENCE.as_micros() as i64;
                loop {
                    let rows = self.read().await;
                    let made = keys.iter().filter(|key| rows.get(key) == Some(number)).count();
                    if made == keys.len() {
                        return true;
                    }
                    if made == 0 {
                        return false;
                    }
                    let is_late = self.home.clock.now_micros() > deadline;
                    assert!(!is_late, "{attempt:?} is there by half: {rows:?}");
                    self.home.clock.sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// What is acknowledged is there, and nothing else.
    async fn verify(&mut self) {
        let rows = self.read().await;
        assert_eq!(
            rows, self.known.rows,
            "writer {}: left what is, right what should",
            self.number
        );
        for name in self.known.tables.clone() {
            assert!(self.has_table(&name).await, "the table {name} is gone");
        }
    }

    /// The client's rows. Tries again until the node has answered.
    async fn read(&mut self) -> State {
        'again: loop {
            let mut rows = State::new();
            for (index, (table, _)) in TABLES.iter().enumerate() {
                for partition in 0..PARTITIONS {
                    let p = self.number * PARTITIONS + partition;
                    let text = format!("SELECT c, v FROM ks.{table} WHERE p = {p}");
                    let Ok(page) = self.client.query(&text).await else {
                        self.reconnect().await;
                        continue 'again;
                    };
                    for row in &page.rows {
                        let int = |cell: &Option<Vec<u8>>| {
                            let bytes = cell.as_deref().expect("a row without a cell");
                            i32::from_be_bytes(bytes.try_into().unwrap())
                        };
                        rows.insert((index, p, int(&row[0])), int(&row[1]));
                    }
                }
            }
            return rows;
        }
    }

    async fn has_table(&mut self, name: &str) -> bool {
        loop {
            match self.client.query(&format!("SELECT * FROM ks.{name}")).await {
                Ok(_) => return true,
                Err(ClientError::Refused(0x2200, _)) => return false,
                Err(_) => self.reconnect().await,
            }
        }
    }

    async fn reconnect(&mut self) {
        self.home.clock.sleep(Duration::from_millis(5)).await;
        let name = format!("writer {}", self.number);
        self.client = Client::connect(&self.home, &name, Dialect::of(self.entropy.u64())).await;
    }
}

fn put((table, p, c): Key, number: i32) -> Statement {
    let int = |number: i32| number.to_be_bytes().to_vec();
    let table = TABLES[table].0;
    Statement {
        text: format!("INSERT INTO ks.{table} (p, c, v, pad) VALUES (?, ?, ?, ?)"),
        values: vec![int(p), int(c), int(number), vec![b'x'; number as usize % 4 * 300]],
        is_prepared: number % 2 == 0,
        default_timestamp: None,
    }
}

/// The whole history of a table: what its log tells must be the changes that were made.
async fn read_history(home: Home) -> (Vec<(Contents, Vec<LogRow>)>, i64) {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    let mut tables = Vec::new();
    for (name, cdc) in TABLES {
        let table = base_table(name);
        let contents = change_log::read_table(&mut client, &table).await.unwrap();
        let has_log = !cdc.is_empty();
        let log = if has_log {
            change_log::read_log(&mut client, &table).await.unwrap()
        } else {
            Vec::new()
        };
        tables.push((contents, log));
    }
    (tables, home.clock.now_seconds())
}

fn told_changes(index: usize, log: &[LogRow]) -> BTreeMap<Key, Vec<Option<i32>>> {
    let mut changes: BTreeMap<Key, Vec<Option<i32>>> = BTreeMap::new();
    for row in log.iter().filter(|row| !matches!(row.operation, 0 | 9)) {
        let int = |name: &str| {
            let value = row.columns.get(name).map(Vec::as_slice);
            value.map(|bytes| i32::from_be_bytes(bytes.try_into().unwrap()))
        };
        let key = (index, int("p").unwrap(), int("c").unwrap());
        let change = match row.operation {
            2 => Some(int("v").expect("every insert has its number")),
            3 => None,
            other => panic!("nobody did {other}: {row:?}"),
        };
        changes.entry(key).or_default().push(change);
    }
    changes
}

fn check_history(known: &[Known], tables: &[(Contents, Vec<LogRow>)], now: i64) {
    for (index, (contents, log)) in tables.iter().enumerate() {
        let (name, cdc) = TABLES[index];
        let table = base_table(name);
        let of_table = |key: &&Key| key.0 == index;
        let expected: BTreeSet<RowKey> = known
            .iter()
            .flat_map(|k| k.rows.keys().filter(of_table))
            .map(|k| row_key(&table, *k))
            .collect();
        let found: BTreeSet<RowKey> = contents.keys().cloned().collect();
        assert_eq!(found, expected, "{name}: the rows of a full scan");
        if cdc.is_empty() {
            continue;
        }
        let has_images = name == "images";
        if let Err(why) = change_log::check(&table, has_images, log, contents, now) {
            panic!("{name}: {why}");
        }
        let told = told_changes(index, log);
        let made: BTreeMap<Key, Vec<Option<i32>>> = known
            .iter()
            .flat_map(|k| k.changes.iter().filter(|(key, _)| key.0 == index))
            .map(|(key, changes)| (*key, changes.clone()))
            .collect();
        assert_eq!(told, made, "{name}: left what the log tells, right what was done");
    }
}

fn row_key(table: &TableDef, (_, p, c): Key) -> RowKey {
    let clustering = encode_clustering(table, &[&c.to_be_bytes()]).unwrap();
    (p.to_be_bytes().to_vec(), Some(clustering))
}

pub(crate) fn run(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("power cuts");
    let boots = Rc::new(Cell::new(world.boots()));
    let signals = Signals { is_to_end: Rc::default(), boots };
    let writers: Vec<_> =
        (0..CLIENTS).map(|n| world.start(write(home.clone(), signals.clone(), n, seed))).collect();
    for _ in 0..CUTS {
        let disk = world.control.disk.clone();
        disk.crash_at_operation(disk.operation_count() + 1 + entropy.below(OPERATIONS_MAX));
        for _ in 0..TICKS_MAX {
            if disk.is_off() {
                break;
            }
            world.step();
        }
        for _ in 0..entropy.below(AGONY_TICKS_MAX) {
            world.step();
        }
        world.cut_power(match entropy.below(4) {
            0 => Survival::SyncedOnly,
            1 => Survival::Everything,
            2 => Survival::LastFileTorn,
            _ => Survival::Random,
        });
        signals.boots.set(world.boots());
        // Somebody sets the clock: the node's own timestamps must not go back with it.
        world.control.clock.jump_wall(entropy.below(2_000_000) as i64 - 1_000_000);
    }
    for _ in 0..200 {
        world.step();
    }
    signals.is_to_end.set(true);
    while writers.iter().any(|known| known.borrow().is_none()) {
        world.step();
    }
    let known: Vec<Known> = writers.iter().map(|k| k.take().expect("it has ended")).collect();
    assert!(known.iter().map(|k| k.acknowledged).sum::<u64>() > 50, "hardly anything was written");
    world.restart_in_order();
    let (tables, now) = world.run(read_history(home));
    check_history(&known, &tables, now);
}

#[test]
fn what_was_acknowledged_survives_with_its_log_rows() {
    for seed in seeds(10) {
        run(seed);
    }
}
