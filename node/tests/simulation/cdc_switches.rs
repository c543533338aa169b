//! CDC and its images switched on and off under load: a write under one setting is told of by that
//! setting, whichever shard it was on, and one that meets a switch by either.
//!
//! Each writer counts upwards in a partition of its own, so what a row held before is known.

use crate::change_log::{self, table_def};
use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::world::World;
use cdc::fold::LogRow;
use env::EntropySource;
use env::disk::Survival;
use model::{ColumnKind, CqlType, TableDef};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const WRITERS: i32 = 4;
const SWITCHES: u64 = 14;
const ROWS: i32 = 3;
const SETTINGS: [Setting; 5] = [
    Setting { cdc: "{'enabled': false}", is_on: false, before: false, after: false },
    Setting { cdc: "{'enabled': true}", is_on: true, before: false, after: false },
    Setting { cdc: "{'enabled': true, 'preimage': true}", is_on: true, before: true, after: false },
    Setting {
        cdc: "{'enabled': true, 'postimage': true}",
        is_on: true,
        before: false,
        after: true,
    },
    Setting {
        cdc: "{'enabled': true, 'preimage': 'full', 'postimage': true}",
        is_on: true,
        before: true,
        after: true,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setting {
    cdc: &'static str,
    is_on: bool,
    before: bool,
    after: bool,
}

/// When something was asked for and when it was answered, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    asked: i64,
    answered: i64,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    row: i32,
    number: i32,
    /// What the row held.
    before: Option<i32>,
    span: Span,
}

fn base_table() -> Arc<TableDef> {
    table_def(
        "t",
        &[
            ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("c", CqlType::Int, ColumnKind::Clustering(0)),
            ("pad", CqlType::Text, ColumnKind::Regular),
            ("v", CqlType::Int, ColumnKind::Regular),
        ],
    )
}

async fn make_table(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    for text in [
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
        // The log has to be there for the reader, whatever is drawn.
        "CREATE TABLE ks.t (p int, c int, v int, pad text, PRIMARY KEY (p, c)) \
         WITH cdc = {'enabled': true}",
    ] {
        client.query(text).await.unwrap();
    }
}

async fn write(home: Home, seed: u64, writer: i32, is_to_end: Rc<Cell<bool>>) -> Vec<Write> {
    let name = format!("writer {writer}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    let (mut writes, mut rows) = (Vec::new(), BTreeMap::new());
    let mut number = 0;
    while !is_to_end.get() {
        number += 1;
        let row = entropy.below(ROWS as u64) as i32;
        let pad = "x".repeat(number as usize % 4 * 200);
        let text =
            format!("UPDATE ks.t SET v = {number}, pad = '{pad}' WHERE p = {writer} AND c = {row}");
        let asked = home.clock.now_micros();
        client.query(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let span = Span { asked, answered: home.clock.now_micros() };
        writes.push(Write { row, number, before: rows.insert(row, number), span });
        home.clock.sleep(Duration::from_millis(entropy.below(20))).await;
    }
    writes
}

/// The settings in their order; the first one holds from the beginning.
async fn switch(home: Home, seed: u64, is_to_end: Rc<Cell<bool>>) -> Vec<(Setting, Span)> {
    let mut entropy = EntropySource::simulated(seed).generator("switches");
    let mut client = Client::connect(&home, "switches", Dialect::of(1)).await;
    let start = Span { asked: i64::MIN, answered: i64::MIN };
    let mut settings = vec![(SETTINGS[1], start)];
    for _ in 0..SWITCHES {
        home.clock.sleep(Duration::from_millis(entropy.below(300))).await;
        let setting = SETTINGS[entropy.below(SETTINGS.len() as u64) as usize];
        let asked = home.clock.now_micros();
        let text = format!("ALTER TABLE ks.t WITH cdc = {}", setting.cdc);
        client.query(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        settings.push((setting, Span { asked, answered: home.clock.now_micros() }));
    }
    home.clock.sleep(Duration::from_millis(200)).await;
    is_to_end.set(true);
    settings
}

/// The setting that held during all of a span, if one did.
fn setting_of(settings: &[(Setting, Span)], span: Span) -> Option<Setting> {
    let at = settings.iter().rposition(|(_, switch)| switch.answered <= span.asked)?;
    let next = settings.get(at + 1);
    next.is_none_or(|(_, switch)| switch.asked >= span.answered).then(|| settings[at].0)
}

/// What the log tells of one write.
#[derive(Clone, Debug, Default)]
struct Told {
    changes: Vec<i32>,
    before: Vec<Option<i32>>,
    after: Vec<Option<i32>>,
}

fn column(row: &LogRow, name: &str) -> Option<i32> {
    let bytes = row.columns.get(name)?.as_slice();
    Some(i32::from_be_bytes(bytes.try_into().unwrap()))
}

/// What the log tells, by partition and number.
type AllTold = BTreeMap<(i32, i32), Told>;

/// What the log tells, and the numbers of each partition in the log's order.
fn told(log: &[LogRow]) -> (AllTold, BTreeMap<i32, Vec<i32>>) {
    let (mut told, mut order) = (AllTold::new(), BTreeMap::<i32, Vec<i32>>::new());
    for group in log.chunk_by(|a, b| a.time == b.time && a.stream == b.stream) {
        let change = group.iter().find(|row| row.operation == 1).expect("a group has a change");
        let writer = column(change, "p").expect("every row names its partition");
        let number = column(change, "v").expect("every update sets it");
        order.entry(writer).or_default().push(number);
        let told: &mut Told = told.entry((writer, number)).or_default();
        for row in group {
            match row.operation {
                0 => told.before.push(column(row, "v")),
                9 => told.after.push(column(row, "v")),
                1 => told.changes.push(column(row, "c").expect("every row has its key")),
                other => panic!("nobody did {other}: {row:?}"),
            }
        }
    }
    (told, order)
}

/// Says how many writes lay within one setting.
fn check(
    writer: i32,
    writes: &[Write],
    settings: &[(Setting, Span)],
    told: &AllTold,
) -> Result<usize, String> {
    let mut certain = 0;
    for write in writes {
        let told = told.get(&(writer, write.number)).cloned().unwrap_or_default();
        let fails = |why: &str| Err(format!("{why}: writer {writer}, {write:?}, {told:?}"));
        if told.changes.len() > 1 || told.changes.iter().any(|row| *row != write.row) {
            return fails("a write is told of wrongly");
        }
        // Whatever the setting, an image that is there is right.
        let is_right = told.before.iter().all(|v| v.is_some() && *v == write.before)
            && told.after.iter().all(|v| *v == Some(write.number));
        if !is_right {
            return fails("a wrong image");
        }
        let Some(setting) = setting_of(settings, write.span) else { continue };
        certain += 1;
        if told.changes.len() != usize::from(setting.is_on) {
            return fails(setting.cdc);
        }
        let has_before = setting.before && write.before.is_some();
        if told.before.len() != usize::from(has_before)
            || told.after.len() != usize::from(setting.after)
        {
            return fails(setting.cdc);
        }
    }
    Ok(certain)
}

async fn read_log(home: Home) -> Vec<LogRow> {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    change_log::read_log(&mut client, &base_table()).await.unwrap()
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_table(home.clone()));
    let is_to_end = Rc::new(Cell::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| world.start(write(home.clone(), seed, writer, is_to_end.clone())))
        .collect();
    let settings = world.run(switch(home.clone(), seed, is_to_end));
    while writers.iter().any(|writes| writes.borrow().is_none()) {
        world.step();
    }
    if seed.is_multiple_of(2) {
        world.cut_power(Survival::SyncedOnly);
    }
    let log = world.run(read_log(home));
    let (told, order) = told(&log);
    for numbers in order.values() {
        assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: out of order: {numbers:?}");
    }
    let mut certain = 0;
    for (writer, writes) in (0..).zip(&writers) {
        let writes = writes.take().expect("it has ended");
        certain += check(writer, &writes, &settings, &told)
            .unwrap_or_else(|why| panic!("seed {seed}: {why}\nof {settings:#?}"));
    }
    assert!(certain > 100, "seed {seed}: only {certain} writes lay within one setting");
}

#[test]
fn each_write_is_told_of_by_the_setting_under_which_it_was_made() {
    for seed in seeds(5) {
        run(seed);
    }
}
