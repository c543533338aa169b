//! Times to live that run out, through flushes, merges and restarts: nothing is seen when its time
//! is over, nothing goes before, and table, replayed log and images agree with a model at every
//! second.

use crate::change_log::{self, Contents, RowKey, table_def};
use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::world::World;
use env::disk::Survival;
use env::{Entropy, EntropySource};
use model::clustering::encode_clustering;
use model::path::encode_path;
use model::{ColumnKind, CqlType, TableDef};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: u64 = 7;
const STATEMENTS: u64 = 25;
const KEYS: u64 = 3;
const TTLS: [Option<i64>; 6] = [None, Some(1), Some(2), Some(5), Some(20), Some(60)];
/// Statements begin within so much of a second, and so end within it.
const SECOND_USED_MICROS: i64 = 800_000;
/// Each table, its options, and whether its log has images.
const TABLES: [(&str, &str, bool); 3] = [
    ("plain", "gc_grace_seconds = 3", false),
    ("deltas", "gc_grace_seconds = 3 AND cdc = {'enabled': true}", false),
    ("images", "cdc = {'enabled': true, 'preimage': 'full', 'postimage': true}", true),
];

/// A cell: the column, and the key of a map's entry.
type Place = (&'static str, Option<i32>);

/// A value and the second in which it is gone.
#[derive(Clone, Debug)]
struct Written {
    value: Vec<u8>,
    gone_at: i64,
}

/// What was written to a row, whether it is gone or not.
#[derive(Clone, Debug, Default)]
struct Row {
    /// When the row's own mark, which INSERT leaves, is gone.
    mark_gone_at: i64,
    cells: BTreeMap<Place, Written>,
}

/// Rows by table, partition and clustering key; the static row has none.
type Model = BTreeMap<(usize, i32, Option<i32>), Row>;

fn base_table(name: &str) -> Arc<TableDef> {
    let int = || Arc::new(CqlType::Int);
    let map = CqlType::Map { key: int(), value: int(), frozen: false };
    table_def(
        name,
        &[
            ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("c", CqlType::Int, ColumnKind::Clustering(0)),
            ("a", CqlType::Int, ColumnKind::Regular),
            ("m", map, ColumnKind::Regular),
            ("pad", CqlType::Text, ColumnKind::Regular),
            ("st", CqlType::Int, ColumnKind::Static),
        ],
    )
}

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 1}";
    client.query(keyspace).await.unwrap();
    for (name, options, _) in TABLES {
        let columns = "(p int, c int, a int, m map<int, int>, pad text, st int static, \
                       PRIMARY KEY (p, c))";
        client.query(&format!("CREATE TABLE ks.{name} {columns} WITH {options}")).await.unwrap();
    }
}

/// Waits until there is enough left of the second, which it returns.
async fn settle(home: &Home) -> i64 {
    loop {
        let micros = home.clock.now_micros();
        let rest = 1_000_000 - micros.rem_euclid(1_000_000);
        if rest > 1_000_000 - SECOND_USED_MICROS {
            return micros.div_euclid(1_000_000);
        }
        home.clock.sleep(Duration::from_micros(rest as u64)).await;
    }
}

fn int(number: i32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// One statement and what it does to the model.
fn statement(entropy: &mut Entropy, number: i32, now: i64, model: &mut Model) -> String {
    let index = entropy.below(TABLES.len() as u64) as usize;
    let (p, c) = (entropy.below(KEYS) as i32, entropy.below(KEYS) as i32);
    let ttl = TTLS[entropy.below(TTLS.len() as u64) as usize];
    let using = ttl.map_or(String::new(), |ttl| format!(" USING TTL {ttl}"));
    let gone_at = ttl.map_or(i64::MAX, |ttl| now + ttl);
    let written = |value| Written { value, gone_at };
    let table = format!("ks.{}", TABLES[index].0);
    let place = format!("WHERE p = {p} AND c = {c}");
    let entry = number % 3;
    let row = model.entry((index, p, Some(c))).or_default();
    match entropy.below(11) {
        0..=3 => {
            let pad = "x".repeat(number as usize % 4 * 400);
            row.mark_gone_at = gone_at;
            row.cells.insert(("a", None), written(int(number)));
            row.cells.insert(("pad", None), written(pad.clone().into_bytes()));
            let values = format!("({p}, {c}, {number}, '{pad}')");
            format!("INSERT INTO {table} (p, c, a, pad) VALUES {values}{using}")
        }
        4 | 5 => {
            row.cells.insert(("a", None), written(int(number)));
            format!("UPDATE {table}{using} SET a = {number} {place}")
        }
        6 => {
            row.cells.insert(("m", Some(entry)), written(int(number)));
            format!("UPDATE {table}{using} SET m[{entry}] = {number} {place}")
        }
        7 => {
            row.cells.retain(|(column, _), _| *column != "m");
            row.cells.insert(("m", Some(entry)), written(int(number)));
            format!("UPDATE {table}{using} SET m = {{{entry}: {number}}} {place}")
        }
        8 => {
            row.cells.remove(&("a", None));
            format!("DELETE a FROM {table} {place}")
        }
        9 => {
            *row = Row::default();
            format!("DELETE FROM {table} {place}")
        }
        _ => {
            let row = model.entry((index, p, None)).or_default();
            row.cells.insert(("st", None), written(int(number)));
            format!("UPDATE {table}{using} SET st = {number} WHERE p = {p}")
        }
    }
}

/// What a table must hold in a second.
fn contents_of(model: &Model, index: usize, table: &TableDef, now: i64) -> Contents {
    let map = &table.column("m").expect("it has one").cql_type;
    let mut contents = Contents::new();
    for ((of, p, c), row) in model.iter().filter(|((of, ..), _)| *of == index) {
        assert_eq!(*of, index);
        let clustering = c.map(|c| encode_clustering(table, &[&c.to_be_bytes()]).unwrap());
        let key: RowKey = (int(*p), clustering);
        if row.mark_gone_at > now {
            contents.entry(key.clone()).or_default();
        }
        for ((column, entry), written) in row.cells.iter().filter(|(_, w)| w.gone_at > now) {
            let mut path = Vec::new();
            if let Some(entry) = entry {
                encode_path(map, &int(*entry), &mut path).unwrap();
            }
            let columns = contents.entry(key.clone()).or_default();
            columns.entry((*column).into()).or_default().push((path, written.value.clone()));
        }
    }
    contents
}

/// What one run keeps between its rounds.
struct State {
    entropy: Entropy,
    model: Model,
    number: i32,
    steps: Vec<String>,
}

async fn work(home: Home, mut state: State) -> Result<State, (String, Vec<String>)> {
    let name = format!("writer {}", state.number);
    let mut client = Client::connect(&home, &name, Dialect::of(state.entropy.u64())).await;
    for _ in 0..STATEMENTS {
        if state.entropy.below(4) == 0 {
            let pause = Duration::from_millis(state.entropy.below(6_000));
            home.clock.sleep(pause).await;
        }
        let now = settle(&home).await;
        if state.entropy.below(5) == 0 {
            if let Err(why) = check(&home, &mut client, &state.model).await {
                return Err((why, state.steps));
            }
            continue;
        }
        state.number += 1;
        let text = statement(&mut state.entropy, state.number, now, &mut state.model);
        state.steps.push(format!("{now}: {text}"));
        client.query(&text).await.unwrap();
        assert_eq!(home.clock.now_seconds(), now, "a statement took more than its second");
    }
    Ok(state)
}

/// Table, model and log agree in this second.
async fn check(home: &Home, client: &mut Client, model: &Model) -> Result<(), String> {
    for (index, (name, _, has_images)) in TABLES.into_iter().enumerate() {
        let table = base_table(name);
        let (contents, log, now) = loop {
            let now = settle(home).await;
            let contents = change_log::read_table(client, &table).await.unwrap();
            let log = match name {
                "plain" => Vec::new(),
                _ => change_log::read_log(client, &table).await.unwrap(),
            };
            if home.clock.now_seconds() == now {
                break (contents, log, now);
            }
        };
        let expected = contents_of(model, index, &table, now);
        if contents != expected {
            return Err(format!("{name} at {now}: is\n{contents:?}\n and should be\n{expected:?}"));
        }
        if name != "plain" {
            change_log::check(&table, has_images, &log, &contents, now)
                .map_err(|why| format!("{name} at {now}: {why}"))?;
        }
    }
    Ok(())
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let entropy = EntropySource::simulated(seed).generator("expiry");
    let mut state = State { entropy, model: Model::new(), number: 0, steps: Vec::new() };
    for _ in 0..ROUNDS {
        state = world.run(work(home.clone(), state)).unwrap_or_else(|(why, steps)| {
            panic!("seed {seed}: {why}\nafter {steps:#?}");
        });
        match state.entropy.below(3) {
            0 => world.restart_in_order(),
            1 => world.cut_power(Survival::SyncedOnly),
            _ => continue,
        }
        state.steps.push("restart".to_owned());
    }
}

#[test]
fn what_has_a_time_to_live_is_there_until_then_and_not_after() {
    for seed in seeds(4) {
        run(seed);
    }
}
