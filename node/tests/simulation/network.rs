//! A network that fails between clients and node: cut, cut one way, held back, and connections that
//! break in the middle of a frame. What was acknowledged is there and in the log once; what was not
//! is there as a whole or not at all; what was never sent as a whole never happened.
//!
//! A frame that was held back may arrive long after its client has gone on. So clients send
//! timestamps of their own, that rise: a write that comes late loses against those after it.

use crate::change_log::{self, Contents, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::Statement;
use crate::world::{LinkFault, World};
use cdc::fold::LogRow;
use env::{Entropy, EntropySource};
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: u64 = 4;
const FAULTS: u64 = 8;
const ROWS: u64 = 4;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
const TABLES: [(&str, &str); 2] = [
    ("deltas", "{'enabled': true}"),
    ("images", "{'enabled': true, 'preimage': 'full', 'postimage': true}"),
];

/// A row: its table's position in [`TABLES`], its partition and its clustering key.
type Key = (usize, i32, i32);

/// What became of a number that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Unknown,
    /// Its frame was cut off.
    NeverSent,
}

/// The numbers that a client wrote to each row, in order.
type Known = BTreeMap<Key, Vec<(i32, Outcome)>>;

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
        client.query(&format!("CREATE TABLE ks.{name} {columns} WITH cdc = {cdc}")).await.unwrap();
    }
}

/// A client that loses its connections.
struct Writer {
    home: Home,
    name: String,
    entropy: Entropy,
    client: Client,
    timestamp: i64,
}

impl Writer {
    async fn reconnect(&mut self) {
        let dialect = Dialect::of(self.entropy.u64());
        self.client = Client::connect(&self.home, &self.name, dialect).await;
        self.client.patience = PATIENCE;
    }

    fn put(&mut self, (table, p, c): Key, number: i32) -> Statement {
        let int = |number: i32| number.to_be_bytes().to_vec();
        self.timestamp = self.home.clock.now_micros().max(self.timestamp + 1);
        Statement {
            text: format!("INSERT INTO ks.{} (p, c, v, pad) VALUES (?, ?, ?, ?)", TABLES[table].0),
            values: vec![int(p), int(c), int(number), vec![b'x'; number as usize % 5 * 900]],
            is_prepared: number % 2 == 0,
            default_timestamp: Some(self.timestamp),
        }
    }

    /// The row's number. Tries again until the node has answered.
    async fn read(&mut self, (table, p, c): Key) -> Option<i32> {
        let text = format!("SELECT v FROM ks.{} WHERE p = {p} AND c = {c}", TABLES[table].0);
        loop {
            match self.client.query(&text).await {
                Ok(page) => {
                    let bytes = page.rows.first()?[0].clone().expect("every row has its number");
                    return Some(i32::from_be_bytes(bytes.try_into().unwrap()));
                }
                Err(ClientError::Lost(_)) => self.reconnect().await,
                Err(error) => panic!("{text}: {error:?}"),
            }
        }
    }
}

async fn write(home: Home, seed: u64, client: u64, is_to_end: Rc<Cell<bool>>) -> Known {
    let name = format!("writer {client}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut connection = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    connection.patience = PATIENCE;
    let mut writer = Writer { home, name, entropy, client: connection, timestamp: 0 };
    let mut known = Known::new();
    let mut number = 0;
    while !is_to_end.get() {
        number += 1;
        let table = writer.entropy.below(TABLES.len() as u64) as usize;
        let key = (table, client as i32, writer.entropy.below(ROWS) as i32);
        let put = writer.put(key, number);
        let outcome = if writer.entropy.below(20) == 0 {
            let share = writer.entropy.below(1_000) as usize;
            writer.client.run_cut_off(&put, share).await;
            writer.reconnect().await;
            Outcome::NeverSent
        } else {
            match writer.client.run(&put).await {
                Ok(_) => Outcome::Acknowledged,
                Err(ClientError::Lost(_)) => {
                    writer.reconnect().await;
                    Outcome::Unknown
                }
                Err(error) => panic!("{put:?}: {error:?}"),
            }
        };
        let numbers = known.entry(key).or_default();
        numbers.push((number, outcome));
        let found = writer.read(key).await;
        check_row(key, numbers, found);
        let pause = Duration::from_millis(writer.entropy.below(60));
        writer.home.clock.sleep(pause).await;
    }
    known
}

/// A row holds what was acknowledged last, or something unknown that came after it.
fn check_row(key: Key, numbers: &[(i32, Outcome)], found: Option<i32>) {
    let is_acknowledged = |(_, outcome): &&(i32, Outcome)| *outcome == Outcome::Acknowledged;
    let last = numbers.iter().rfind(is_acknowledged).map(|(number, _)| *number);
    let is_unknown = |found| {
        numbers.iter().any(|(number, outcome)| *number == found && *outcome == Outcome::Unknown)
    };
    let is_right =
        found == last || found.is_some_and(|found| Some(found) > last && is_unknown(found));
    assert!(is_right, "{key:?} holds {found:?} after {numbers:?}");
}

async fn read_all(home: Home) -> Vec<(Contents, Vec<LogRow>)> {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    let mut tables = Vec::new();
    for (name, _) in TABLES {
        let table = base_table(name);
        let contents = change_log::read_table(&mut client, &table).await.unwrap();
        tables.push((contents, change_log::read_log(&mut client, &table).await.unwrap()));
    }
    tables
}

/// The log tells of every acknowledged number once, of unknown ones at most once, of nothing else.
fn check_log(index: usize, known: &Known, log: &[LogRow]) {
    let int = |row: &LogRow, name: &str| {
        let bytes = row.columns.get(name).expect("every insert has it").as_slice();
        i32::from_be_bytes(bytes.try_into().unwrap())
    };
    let mut told: BTreeMap<Key, Vec<i32>> = BTreeMap::new();
    for row in log.iter().filter(|row| row.operation == 2) {
        told.entry((index, int(row, "p"), int(row, "c"))).or_default().push(int(row, "v"));
    }
    for (key, told) in &told {
        let distinct: BTreeSet<&i32> = told.iter().collect();
        assert_eq!(distinct.len(), told.len(), "{key:?}: a write is told of twice: {told:?}");
    }
    for (key, numbers) in known.iter().filter(|(key, _)| key.0 == index) {
        let told = told.remove(key).unwrap_or_default();
        for (number, outcome) in numbers {
            let is_told = told.contains(number);
            match outcome {
                Outcome::Acknowledged => assert!(is_told, "{key:?}: {number} is not told of"),
                Outcome::NeverSent => assert!(!is_told, "{key:?}: {number} was never sent"),
                Outcome::Unknown => {}
            }
        }
        let sent: BTreeSet<i32> = numbers.iter().map(|(number, _)| *number).collect();
        assert!(told.iter().all(|number| sent.contains(number)), "{key:?}: nobody sent {told:?}");
    }
    assert!(told.is_empty(), "nobody wrote {told:?}");
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("network");
    let is_to_end = Rc::new(Cell::new(false));
    let mut hosts = Vec::new();
    let writers: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let writer = world.start(write(home.clone(), seed, client, is_to_end.clone()));
            hosts.push(world.newest_client());
            writer
        })
        .collect();
    for _ in 0..FAULTS {
        let host = hosts[entropy.below(CLIENTS) as usize].clone();
        let fault = LinkFault::ALL[entropy.below(LinkFault::ALL.len() as u64) as usize];
        world.break_link(&host, fault);
        for _ in 0..entropy.below(2_500) {
            world.step();
        }
        world.mend_link(&host, fault);
        for _ in 0..entropy.below(500) {
            world.step();
        }
    }
    is_to_end.set(true);
    let mut known = Known::new();
    for writer in writers {
        while writer.borrow().is_none() {
            world.step();
        }
        known.extend(writer.take().expect("it has ended"));
    }
    let count = |wanted| known.values().flatten().filter(|(_, o)| *o == wanted).count();
    assert!(count(Outcome::Acknowledged) > 50, "seed {seed}: hardly anything was written");
    let (tables, now) = world.run(async move {
        // What is still on its way arrives.
        home.clock.sleep(PATIENCE).await;
        (read_all(home.clone()).await, home.clock.now_seconds())
    });
    for (index, (contents, log)) in tables.iter().enumerate() {
        let (name, has_images) = (TABLES[index].0, TABLES[index].0 == "images");
        check_log(index, &known, log);
        change_log::check(&base_table(name), has_images, log, contents, now)
            .unwrap_or_else(|why| panic!("seed {seed}: {name}: {why}"));
    }
}

#[test]
fn what_was_acknowledged_over_a_bad_network_is_there_once() {
    for seed in seeds(4) {
        run(seed);
    }
}
