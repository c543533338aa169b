//! `commitlog_sync: periodic`: a power cut takes back the newest writes of each range, at most those
//! since the last sync, and nothing else. What is written after the restart is as good as ever.
//!
//! One client writes partitions whose rows lie in three tables; all of a partition is one range's.
//! What is found after a restart must be what some number of its writes left, counted from the
//! first one, in all tables and logs at once: from there on the partition goes on.

use crate::change_log::{self, Contents, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::Statement;
use crate::world::World;
use cdc::fold::LogRow;
use env::disk::{SimDiskControl, Survival};
use env::{Entropy, EntropySource};
use model::{ColumnKind, CqlType, TableDef};
use node::CommitLogSync;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PERIOD: Duration = Duration::from_secs(1);
/// After this long nothing that was acknowledged is lost any more.
const SAFE_AFTER: Duration = Duration::from_secs(3);
const CUTS: u64 = 6;
const WRITES_MAX: u64 = 150;
const PARTITIONS: u64 = 4;
const ROWS: u64 = 3;
/// A cut in the middle of a round comes within so many changes of the disk.
const OPERATIONS_MAX: u64 = 250;
const TABLES: [(&str, &str); 3] = [
    ("plain", ""),
    ("deltas", " WITH cdc = {'enabled': true}"),
    ("images", " WITH cdc = {'enabled': true, 'preimage': 'full', 'postimage': true}"),
];

/// A row of a partition: its table's position in [`TABLES`], and its clustering key.
type Row = (usize, i32);

/// The writes of one partition: a number for a row, or its delete.
#[derive(Clone, Debug, Default)]
struct History {
    writes: Vec<(Row, Option<i32>)>,
    /// As many of them, from the first on, can be lost no more.
    safe: usize,
}

impl History {
    fn rows_after(&self, count: usize) -> BTreeMap<Row, i32> {
        let mut rows = BTreeMap::new();
        for (row, number) in &self.writes[..count] {
            match number {
                Some(number) => rows.insert(*row, *number),
                None => rows.remove(row),
            };
        }
        rows
    }

    /// Goes on from what was found.
    fn resume(&mut self, found: &BTreeMap<Row, i32>) -> Result<(), String> {
        let mut counts = (self.safe..=self.writes.len()).rev();
        let count = counts.find(|count| self.rows_after(*count) == *found).ok_or_else(|| {
            format!("no end of the writes, {} of them safe: {self:?}\n leaves {found:?}", self.safe)
        })?;
        self.writes.truncate(count);
        self.safe = count;
        Ok(())
    }
}

/// What the client did and knows.
#[derive(Clone, Debug, Default)]
struct Known {
    partitions: BTreeMap<i32, History>,
    /// Numbers of tables, in the order of their creation.
    tables: Vec<i32>,
    safe_tables: usize,
    next: i32,
}

impl Known {
    fn note_safe(&mut self) {
        self.partitions.values_mut().for_each(|history| history.safe = history.writes.len());
        self.safe_tables = self.tables.len();
    }
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
    home.clock.sleep(SAFE_AFTER).await;
}

/// One life's writes, up to the first that is not answered.
async fn write(
    home: Home,
    disk: SimDiskControl,
    mut known: Known,
    mut entropy: Entropy,
) -> (Known, Entropy) {
    let name = format!("writer {}", known.next);
    let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    for _ in 0..entropy.below(WRITES_MAX) {
        known.next += 1;
        let number = known.next;
        let result = if entropy.below(40) == 0 {
            known.tables.push(number);
            create(&mut client, number).await
        } else {
            let partition = entropy.below(PARTITIONS) as i32;
            let row = (entropy.below(TABLES.len() as u64) as usize, entropy.below(ROWS) as i32);
            let number = (entropy.below(8) > 0).then_some(number);
            let history = known.partitions.entry(partition).or_default();
            history.writes.push((row, number));
            change(&mut client, partition, row, number).await
        };
        match result {
            Ok(()) => {}
            Err(ClientError::Refused(0x2200, why)) => panic!("{number}: {why}"),
            Err(_) => return (known, entropy),
        }
    }
    if entropy.below(2) == 0 {
        home.clock.sleep(SAFE_AFTER).await;
        // A planned cut may have come before the sync.
        if !disk.is_off() {
            known.note_safe();
        }
    }
    (known, entropy)
}

/// A table that was made is there.
async fn create(client: &mut Client, number: i32) -> Result<(), ClientError> {
    client.query(&format!("CREATE TABLE ks.extra_{number} (k int PRIMARY KEY)")).await?;
    client.query(&format!("INSERT INTO ks.extra_{number} (k) VALUES (1)")).await.map(drop)
}

/// A change that was acknowledged is seen.
async fn change(
    client: &mut Client,
    p: i32,
    (table, c): Row,
    number: Option<i32>,
) -> Result<(), ClientError> {
    let table = TABLES[table].0;
    let int = |number: i32| number.to_be_bytes().to_vec();
    let statement = match number {
        Some(number) => Statement {
            text: format!("INSERT INTO ks.{table} (p, c, v, pad) VALUES (?, ?, ?, ?)"),
            values: vec![int(p), int(c), int(number), vec![b'x'; number as usize % 7 * 300]],
            is_prepared: number % 2 == 0,
            default_timestamp: None,
        },
        None => Statement::of_text(&format!("DELETE FROM ks.{table} WHERE p = {p} AND c = {c}")),
    };
    client.run(&statement).await?;
    let text = format!("SELECT v FROM ks.{table} WHERE p = {p} AND c = {c}");
    let page = client.query(&text).await?;
    let found = page.rows.first().and_then(|row| row[0].clone());
    assert_eq!(found, number.map(int), "{table}: what was just written to {p}, {c}");
    Ok(())
}

/// The rows of each partition, and the tables that were made.
async fn read(home: Home, known: Known) -> (BTreeMap<i32, BTreeMap<Row, i32>>, Vec<i32>) {
    let name = format!("reader {}", known.next);
    let mut client = Client::connect(&home, &name, Dialect::of(2)).await;
    let mut partitions: BTreeMap<i32, BTreeMap<Row, i32>> = BTreeMap::new();
    for (index, (table, _)) in TABLES.iter().enumerate() {
        let text = format!("SELECT p, c, v FROM ks.{table}");
        for row in client.read_all(&text, 10).await.unwrap().rows {
            let int = |at: usize| {
                let bytes = row[at].as_deref().expect("every row has it");
                i32::from_be_bytes(bytes.try_into().unwrap())
            };
            partitions.entry(int(0)).or_default().insert((index, int(1)), int(2));
        }
    }
    let mut tables = Vec::new();
    for number in known.tables {
        match client.query(&format!("SELECT * FROM ks.extra_{number}")).await {
            Ok(_) => tables.push(number),
            Err(ClientError::Refused(0x2200, _)) => {}
            Err(error) => panic!("extra_{number}: {error:?}"),
        }
    }
    (partitions, tables)
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

/// The tables with a log, and their logs.
async fn read_logs(home: Home) -> Vec<(usize, Contents, Vec<LogRow>)> {
    let mut client = Client::connect(&home, "log reader", Dialect::of(2)).await;
    let mut tables = Vec::new();
    for (index, (name, _)) in TABLES.iter().enumerate().skip(1) {
        let table = base_table(name);
        let contents = change_log::read_table(&mut client, &table).await.unwrap();
        let log = change_log::read_log(&mut client, &table).await.unwrap();
        tables.push((index, contents, log));
    }
    tables
}

/// What is there after a restart is an end of what was done; from there it goes on.
fn resume(world: &mut World, known: &mut Known) -> Result<(), String> {
    let home = world.home().clone();
    let (mut partitions, tables) = world.run(read(home.clone(), known.clone()));
    for (partition, history) in &mut known.partitions {
        let found = partitions.remove(partition).unwrap_or_default();
        history.resume(&found).map_err(|why| format!("partition {partition}: {why}"))?;
    }
    if !partitions.is_empty() {
        return Err(format!("nobody wrote {partitions:?}"));
    }
    let is_end = known.tables.starts_with(&tables) && tables.len() >= known.safe_tables;
    if !is_end {
        return Err(format!("{tables:?} are left of the tables {:?}", known.tables));
    }
    known.tables = tables;
    known.safe_tables = known.tables.len();
    let now = world.run(read_logs(home.clone()));
    let seconds = world.run(async move { home.clock.now_seconds() });
    for (index, contents, log) in now {
        let (name, has_images) = (TABLES[index].0, TABLES[index].0 == "images");
        change_log::check(&base_table(name), has_images, &log, &contents, seconds)
            .map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn run(seed: u64) -> usize {
    let mut world = World::with_sync(seed, CommitLogSync::Periodic(PERIOD));
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("periodic");
    let (mut known, mut lost) = (Known::default(), 0);
    for _ in 0..CUTS {
        let disk = world.control.disk.clone();
        if entropy.below(2) == 0 {
            disk.crash_at_operation(disk.operation_count() + 1 + entropy.below(OPERATIONS_MAX));
        }
        (known, entropy) = world.run(write(home.clone(), disk, known, entropy));
        let written: usize = known.partitions.values().map(|h| h.writes.len()).sum();
        world.cut_power(match entropy.below(4) {
            0 | 1 => Survival::SyncedOnly,
            2 => Survival::LastFileTorn,
            _ => Survival::Random,
        });
        resume(&mut world, &mut known).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        lost += written - known.partitions.values().map(|h| h.writes.len()).sum::<usize>();
    }
    lost
}

#[test]
fn a_power_cut_takes_back_the_newest_writes_and_nothing_else() {
    let lost: usize = seeds(10).map(run).sum();
    assert!(lost > 0, "no cut took anything back, so nothing was tried");
}
