//! Nodes that stand still, as under `SIGSTOP`, in the middle of what they do for clients: one that leads
//! what others were asked to write and have sent it, or one that was asked itself. Every client of a node
//! that runs is told something that is true, nothing is made twice, and nothing that was acknowledged
//! is lost.
//!
//! A write that its coordinator gives up, since the leader says nothing, is made by another leader, by
//! the same one when it goes on, or by neither; the coordinator may be told of it or not. So there is one
//! kind of write for each way: those that may be repeated (`dated`), those that may not (`stamped`,
//! `counted`, `compared`), and batches, which others finish.
//!
//! That nodes stop with such writes on their way is seen by planted bugs (`planted`): a coordinator that
//! makes again what may have been made is found, and a batch that two make and both log whole.

use crate::change_log::{read_log, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use crate::statements::Statement;
use crate::told::{self, Written};
use crate::workload::insist;
use cdc::fold::LogRow;
use cql::wire::BatchKind;
use env::{Entropy, EntropySource};
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Clients, which together write to ranges of all leaders at any moment.
const CLIENTS: u64 = 9;
/// Rows that all clients count in.
const COUNTED: usize = 12;
/// Rows of a batch, which no other writes.
const BATCH_ROWS: i32 = 4;
/// How often a node stands still, for how many ticks, and how many pass in between. The shortest time
/// ends before anybody misses it; in the longest, others take over and writes time out.
const STANDSTILLS: usize = 6;
const STILL_TICKS: std::ops::Range<u64> = 300..4_500;
const CALM_TICKS: u64 = 600;
/// Before a node stops, the disks of the others take so much longer for so many ticks: most of what it
/// leads, or asked for, is with them then and not answered.
const DISK_DELAY: Duration = Duration::from_millis(40);
const SLOW_TICKS: u64 = 60;
/// Until every node leads what it is the first replica of.
const HOMECOMING_TICKS: u64 = 15_000;
/// Until whoever still has something to finish has tried it for as long as it may.
const END_TICKS: u64 = 25_000;
/// How long a client waits for an answer: longer than any node stands still, and then takes.
const PATIENCE: Duration = Duration::from_secs(20);
const REST_MILLIS_MAX: u64 = 40;
const WRITE_TIMEOUT: i32 = 0x1100;

/// Tables of rows that are written once: by the client's time, by the leader's, and by batches.
const TABLES: [&str; 3] = ["dated", "stamped", "batched"];
const DATED: usize = 0;
const STAMPED: usize = 1;
const BATCHED: usize = 2;

fn rows_table(name: &str) -> Arc<TableDef> {
    let columns = [
        ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
        ("v", CqlType::Int, ColumnKind::Regular),
    ];
    table_def(name, &columns)
}

fn compared_table() -> Arc<TableDef> {
    let columns = [
        ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
        ("n", CqlType::BigInt, ColumnKind::Regular),
        ("attempt", CqlType::Int, ColumnKind::Regular),
    ];
    table_def("compared", &columns)
}

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 3}";
    insist(&mut client, &home, keyspace).await;
    for name in TABLES {
        let rows = "(p int PRIMARY KEY, v int) WITH cdc = {'enabled': true}";
        insist(&mut client, &home, &format!("CREATE TABLE ks.{name} {rows}")).await;
    }
    let compared = "(p int PRIMARY KEY, n bigint, attempt int) WITH cdc = {'enabled': true}";
    insist(&mut client, &home, &format!("CREATE TABLE ks.compared {compared}")).await;
    insist(&mut client, &home, "CREATE TABLE ks.counted (p int PRIMARY KEY, n counter)").await;
    for p in 0..COUNTED {
        let insert = format!("INSERT INTO ks.compared (p, n) VALUES ({p}, 0) IF NOT EXISTS");
        insist(&mut client, &home, &insert).await;
    }
}

/// What is known of the steps that were taken in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    surely: i64,
    perhaps: i64,
}

/// What a client was told.
#[derive(Debug, Default)]
struct Told {
    written: Written,
    acknowledged: BTreeSet<(usize, i32)>,
    refused: BTreeSet<(usize, i32)>,
    /// The first row of each batch.
    batches: Vec<i32>,
    counted: [Steps; COUNTED],
    /// What became of each conditional write.
    compared: BTreeMap<i32, Fate>,
    unknown_count: u64,
}

/// What became of a write, as the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Made,
    NotMade,
    Unknown,
}

/// What a client is told is an answer: it made no sense to wait longer.
fn fate<T>(result: &Result<T, ClientError>) -> Fate {
    match result {
        Ok(_) => Fate::Made,
        Err(error) if error.is_not_applied() => Fate::NotMade,
        Err(ClientError::Refused(WRITE_TIMEOUT, _)) => Fate::Unknown,
        Err(error) => panic!("a write was not answered: {error:?}"),
    }
}

/// A client of one node, that writes until it is told to end.
struct Writer {
    client: Client,
    entropy: Entropy,
    home: Home,
    next: i32,
    seen: [i64; COUNTED],
    told: Told,
}

async fn write(home: Home, seed: u64, number: u64, is_to_end: Rc<Cell<bool>>) -> Told {
    let name = format!("writer {number}");
    let entropy = EntropySource::simulated(seed).generator(&name);
    let mut client = Client::connect(&home, &name, Dialect::of(number)).await;
    client.patience = PATIENCE;
    let (next, seen) = (number as i32 * 1_000_000, [0; COUNTED]);
    let mut writer = Writer { client, entropy, home, next, seen, told: Told::default() };
    while !is_to_end.get() {
        let fate = match writer.entropy.below(6) {
            0 => writer.write_rows(DATED, 1).await,
            1 => writer.write_rows(STAMPED, 1).await,
            2 => writer.write_rows(BATCHED, BATCH_ROWS).await,
            3 => writer.count().await,
            _ => writer.compare().await,
        };
        writer.told.unknown_count += u64::from(fate == Fate::Unknown);
        let rest = Duration::from_millis(writer.entropy.below(REST_MILLIS_MAX));
        writer.home.clock.sleep(rest).await;
    }
    writer.told
}

impl Writer {
    /// Rows that nobody has written; several are a logged batch.
    async fn write_rows(&mut self, table: usize, count: i32) -> Fate {
        let rows = self.next..self.next + count;
        self.next += count;
        let now = self.home.clock.now_micros();
        let time = if table == DATED { format!(" USING TIMESTAMP {now}") } else { String::new() };
        let insert = |p: i32| {
            let name = TABLES[table];
            Statement::of_text(&format!("INSERT INTO ks.{name} (p, v) VALUES ({p}, {p}){time}"))
        };
        let statements: Vec<Statement> = rows.clone().map(insert).collect();
        let result = match &*statements {
            [statement] => self.client.run(statement).await,
            statements => self.client.batch(BatchKind::Logged, statements, None).await,
        };
        let fate = fate(&result);
        self.told.batches.extend((count > 1).then_some(rows.start));
        for p in rows {
            match fate {
                Fate::Made => drop(self.told.acknowledged.insert((table, p))),
                Fate::NotMade => drop(self.told.refused.insert((table, p))),
                Fate::Unknown => {}
            }
            if fate != Fate::NotMade {
                self.told.written.note((table, p, None, p), fate == Fate::Made);
            }
        }
        fate
    }

    async fn count(&mut self) -> Fate {
        let p = self.entropy.below(COUNTED as u64) as usize;
        let text = format!("UPDATE ks.counted SET n = n + 1 WHERE p = {p}");
        let fate = fate(&self.client.query(&text).await);
        note(&mut self.told.counted[p], fate);
        fate
    }

    /// Takes the next step in a row, behind those that others take meanwhile.
    async fn compare(&mut self) -> Fate {
        let p = self.entropy.below(COUNTED as u64) as usize;
        loop {
            let (from, attempt) = (self.seen[p], self.next);
            self.next += 1;
            let text = format!(
                "UPDATE ks.compared SET n = {}, attempt = {attempt} WHERE p = {p} IF n = {from}",
                from + 1
            );
            let result = self.client.query(&text).await;
            let mut fate = fate(&result);
            let is_refused = |row: &&Vec<Option<Vec<u8>>>| row[0].as_deref() == Some(&[0]);
            let page = result.unwrap_or_default();
            let refusal = page.rows.first().filter(is_refused);
            if let Some(row) = refusal {
                self.seen[p] = bigint(row[1].as_deref());
                assert!(self.seen[p] > from, "{text}: refused at {}", self.seen[p]);
                fate = Fate::NotMade;
            }
            self.told.compared.insert(attempt, fate);
            if refusal.is_none() {
                self.seen[p] += i64::from(fate == Fate::Made);
                return fate;
            }
        }
    }
}

fn note(steps: &mut Steps, fate: Fate) {
    steps.surely += i64::from(fate == Fate::Made);
    steps.perhaps += i64::from(fate == Fate::Unknown);
}

fn bigint(cell: Option<&[u8]>) -> i64 {
    cell.map_or(0, |bytes| i64::from_be_bytes(bytes.try_into().expect("a bigint")))
}

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(bytes.try_into().expect("an int"))
}

/// What is there in the end.
struct Found {
    /// By table: its rows, and its log.
    tables: Vec<(BTreeSet<i32>, Vec<LogRow>)>,
    counted: Vec<i64>,
    compared: Vec<i64>,
    steps: Vec<LogRow>,
}

async fn read(home: Home) -> Found {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    let mut tables = Vec::new();
    for name in TABLES {
        let page = client.read_all(&format!("SELECT p FROM ks.{name}"), 500).await;
        let key = |row: &Vec<Option<Vec<u8>>>| int(row[0].as_deref().expect("a key"));
        let rows = page.expect("all stands").rows.iter().map(key).collect();
        let log = read_log(&mut client, &rows_table(name)).await.expect("all stands");
        tables.push((rows, log));
    }
    let (mut counted, mut compared) = (Vec::new(), Vec::new());
    for p in 0..COUNTED {
        for (name, numbers) in [("counted", &mut counted), ("compared", &mut compared)] {
            let select = format!("SELECT n FROM ks.{name} WHERE p = {p}");
            let page = client.query(&select).await.expect("all stands");
            numbers.push(page.rows.first().map_or(0, |row| bigint(row[0].as_deref())));
        }
    }
    let steps = read_log(&mut client, &compared_table()).await.expect("all stands");
    Found { tables, counted, compared, steps }
}

/// Whether what clients were told is true.
fn check(all: &[Told], found: &Found) -> Result<(), String> {
    for (table, (rows, log)) in found.tables.iter().enumerate() {
        let is_there = |(at, p): &&(usize, i32)| *at == table && rows.contains(p);
        let is_missing = |(at, p): &&(usize, i32)| *at == table && !rows.contains(p);
        let mut written = Written::default();
        for told in all {
            if let Some(lost) = told.acknowledged.iter().find(is_missing) {
                return Err(format!("acknowledged, and not there: {lost:?}"));
            }
            if let Some(made) = told.refused.iter().find(is_there) {
                return Err(format!("refused, and there: {made:?}"));
            }
            written.add(told.written.clone());
        }
        written.check(table, log).map_err(|why| format!("the log of {}: {why}", TABLES[table]))?;
    }
    let batched = &found.tables[BATCHED].0;
    for first in all.iter().flat_map(|told| &told.batches) {
        let count = (*first..first + BATCH_ROWS).filter(|p| batched.contains(p)).count() as i32;
        if count != 0 && count != BATCH_ROWS {
            return Err(format!("{count} of the rows of batch {first} are there"));
        }
    }
    for p in 0..COUNTED {
        check_steps("counted", found.counted[p], all.iter().map(|told| told.counted[p]))?;
    }
    told::check_steps(&found.steps, &found.compared)?;
    check_attempts(&found.steps, all.iter().flat_map(|told| &told.compared))
}

/// Whether the log tells of the conditional writes that were made, and of no other.
fn check_attempts<'t>(
    steps: &[LogRow],
    told: impl Iterator<Item = (&'t i32, &'t Fate)>,
) -> Result<(), String> {
    let attempt = |row: &LogRow| row.columns.get("attempt").map(|bytes| int(bytes));
    let made: BTreeSet<i32> = steps.iter().filter_map(attempt).collect();
    for (attempt, fate) in told {
        match (fate, made.contains(attempt)) {
            (Fate::Made, false) => return Err(format!("made, and not told of: {attempt}")),
            (Fate::NotMade, true) => return Err(format!("refused, and made: {attempt}")),
            _ => {}
        }
    }
    Ok(())
}

fn check_steps(what: &str, sum: i64, told: impl Iterator<Item = Steps>) -> Result<(), String> {
    let (surely, perhaps) =
        told.fold((0, 0), |sum, steps| (sum.0 + steps.surely, sum.1 + steps.perhaps));
    let possible = surely..=surely + perhaps;
    if possible.contains(&sum) {
        return Ok(());
    }
    Err(format!("{what} is {sum}, not in {possible:?}"))
}

/// Who stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Still {
    /// One node after the other, while clients of all of them write: who stood still leads nothing for
    /// long, and the next has come to lead much of that.
    EachInTurn,
    /// The one node whose clients write: it coordinates what they do.
    Asked,
}

/// Writes whose leaders stand still.
pub(crate) fn leaders(seed: u64) {
    run(seed, Still::EachInTurn);
}

/// Writes whose coordinator stands still.
pub(crate) fn coordinators(seed: u64) {
    run(seed, Still::Asked);
}

fn run(seed: u64, still: Still) {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    cluster.run(make_tables(cluster.home(0)));
    cluster.steps(HOMECOMING_TICKS);
    let first = seed as usize % NODES;
    let homes = match still {
        Still::EachInTurn => cluster.homes(),
        Still::Asked => vec![cluster.home(first)],
    };
    let is_to_end = Rc::new(Cell::new(false));
    let writers: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let home = homes[number as usize % homes.len()].clone();
            cluster.start(write(home, seed, number, is_to_end.clone()))
        })
        .collect();
    let mut entropy = EntropySource::simulated(seed).generator("standstills");
    for turn in 0..STANDSTILLS {
        let still = match still {
            Still::EachInTurn => (first + turn) % NODES,
            Still::Asked => first,
        };
        cluster.steps(entropy.below(CALM_TICKS));
        slow_others(&cluster, still, DISK_DELAY);
        cluster.steps(SLOW_TICKS);
        cluster.freeze(still);
        slow_others(&cluster, still, Duration::ZERO);
        cluster.steps(STILL_TICKS.start + entropy.below(STILL_TICKS.end - STILL_TICKS.start));
        cluster.thaw(still);
    }
    is_to_end.set(true);
    let told: Vec<Told> = writers.iter().map(|writer| cluster.finish(writer)).collect();
    cluster.steps(END_TICKS);
    let found = cluster.run(read(cluster.home((first + 1) % NODES)));
    if let Err(why) = check(&told, &found) {
        panic!("seed {seed}: {why}");
    }
    let made: usize = told.iter().map(|told| told.acknowledged.len()).sum();
    let unknown: u64 = told.iter().map(|told| told.unknown_count).sum();
    assert!(made > 50 && unknown > 0, "seed {seed}: {made} rows made, {unknown} writes left open");
}

fn slow_others(cluster: &Cluster, node: usize, delay: Duration) {
    (0..NODES).filter(|other| *other != node).for_each(|other| cluster.slow_disk(other, delay));
}

#[test]
fn what_is_told_of_writes_whose_leader_stands_still_is_true() {
    seeds(1).for_each(leaders);
}

#[test]
fn what_a_coordinator_goes_on_with_that_stood_still_is_made_once() {
    seeds(1).for_each(coordinators);
}
