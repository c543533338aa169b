//! Statements of every shape with timestamps of every kind, through CQL, flush and restart: the
//! log, replayed by its times, gives the table.

use crate::change_log::{self, Contents, table_def};
use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::{COLUMNS, CREATE_TYPE, Shapes, Statement, Within};
use crate::world::World;
use cql::wire::BatchKind;
use env::disk::Survival;
use env::{Entropy, EntropySource};
use model::types::UdtType;
use model::{ColumnKind, CqlType, TableDef};
use std::sync::Arc;

const ROUNDS: u64 = 5;
const STATEMENTS: u64 = 12;
/// Each table, its options for CDC, and whether it has both images of every change.
const TABLES: [(&str, &str, bool); 3] = [
    ("deltas", "'enabled': true", false),
    ("images", "'enabled': true, 'preimage': 'full', 'postimage': true", true),
    ("touched", "'enabled': true, 'preimage': true", true),
];

fn base_table(name: &str) -> Arc<TableDef> {
    let (int, text) = (|| Arc::new(CqlType::Int), || Arc::new(CqlType::Text));
    let map = |value| CqlType::Map { key: int(), value, frozen: false };
    let set = |element, frozen| CqlType::Set { element, frozen };
    let list = |element, frozen| CqlType::List { element, frozen };
    let address = |frozen| {
        CqlType::Udt(Arc::new(UdtType {
            keyspace: "ks".into(),
            name: "address".into(),
            fields: vec![("street".into(), CqlType::Text), ("number".into(), CqlType::Int)],
            frozen,
        }))
    };
    table_def(
        name,
        &[
            ("p", CqlType::Int, ColumnKind::PartitionKey(0)),
            ("c", CqlType::Int, ColumnKind::Clustering(0)),
            ("a", CqlType::Int, ColumnKind::Regular),
            ("b", CqlType::Text, ColumnKind::Regular),
            ("f", list(int(), true), ColumnKind::Regular),
            ("l", list(int(), false), ColumnKind::Regular),
            ("m", map(text()), ColumnKind::Regular),
            ("n", map(Arc::new(set(int(), true))), ColumnKind::Regular),
            ("s", set(int(), false), ColumnKind::Regular),
            ("st", CqlType::Int, ColumnKind::Static),
            ("u", address(false), ColumnKind::Regular),
            ("w", set(Arc::new(address(true)), false), ColumnKind::Regular),
            ("x", list(Arc::new(list(int(), true)), false), ColumnKind::Regular),
        ],
    )
}

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 1}";
    client.query(keyspace).await.unwrap();
    client.query(CREATE_TYPE).await.unwrap();
    for (name, cdc, _) in TABLES {
        let text = format!("CREATE TABLE ks.{name} {COLUMNS} WITH cdc = {{{cdc}}}");
        client.query(&text).await.unwrap();
    }
}

/// Near everything that rules compare timestamps with; `None` leaves it to the server.
fn random_timestamp(entropy: &mut Entropy, now: i64, before: &mut Vec<i64>) -> Option<i64> {
    let anchor = match entropy.below(10) {
        0..=2 => return None,
        3 | 4 => now,
        5 => now - 5_000_000,
        6 => now + 5_000_000,
        7 => [now + 60_000_000, 1_000_000][entropy.below(2) as usize],
        _ if before.is_empty() => now,
        _ => before[entropy.below(before.len() as u64) as usize],
    };
    let timestamp = anchor + entropy.below(5) as i64 - 2;
    before.push(timestamp);
    Some(timestamp)
}

/// What one round did, for the message of a failure.
type Steps = Vec<String>;

async fn write(home: Home, number: u64, mut entropy: Entropy) -> (Entropy, Steps) {
    let dialect = Dialect::of(entropy.u64());
    let mut client = Client::connect(&home, &format!("writer {number}"), dialect).await;
    let (mut steps, mut before, mut last) = (Steps::new(), Vec::new(), None);
    for _ in 0..STATEMENTS {
        let table = format!("ks.{}", TABLES[entropy.below(3) as usize].0);
        let timestamp = random_timestamp(&mut entropy, home.clock.now_micros(), &mut before);
        let result = if entropy.below(5) == 0 {
            let batch: Vec<Statement> = (0..2 + entropy.below(2))
                .map(|_| Shapes::new(&table, &mut entropy).write(None, Within::Batch))
                .collect();
            let kind = [BatchKind::Logged, BatchKind::Unlogged][entropy.below(2) as usize];
            steps.push(format!("{kind:?} {timestamp:?} {batch:?}"));
            client.batch(kind, &batch, timestamp).await
        } else {
            let is_retry = entropy.below(6) == 0;
            let statement = last.take().filter(|_| is_retry).unwrap_or_else(|| {
                let is_beside = entropy.below(3) == 0 && dialect.version >= cql::wire::Version::V3;
                let using = timestamp.filter(|_| !is_beside);
                let mut statement = Shapes::new(&table, &mut entropy).write(using, Within::Alone);
                statement.default_timestamp = timestamp.filter(|_| is_beside);
                statement
            });
            steps.push(format!("{statement:?}"));
            let result = client.run(&statement).await;
            last = Some(statement);
            result
        };
        match result {
            Ok(_) => {}
            // Of an unlogged batch, the other partitions may have been written.
            Err(ClientError::Refused(0x2200 | 0x1100, why)) if why.contains("list") => {
                steps.push(format!("refused: {why}"));
            }
            Err(error) => panic!("{error:?} after {steps:#?}"),
        }
    }
    (entropy, steps)
}

/// Checks the law of each table; the tables' contents.
async fn check(home: Home, boots: u64) -> Result<Vec<Contents>, String> {
    let mut client = Client::connect(&home, &format!("reader {boots}"), Dialect::of(2)).await;
    let mut all = Vec::new();
    for (name, _, has_images) in TABLES {
        let table = base_table(name);
        let error = |error: ClientError| format!("{name}: {error:?}");
        let contents = change_log::read_table(&mut client, &table).await.map_err(error)?;
        let log = change_log::read_log(&mut client, &table).await.map_err(error)?;
        let now = home.clock.now_seconds();
        change_log::check(&table, has_images, &log, &contents, now)
            .map_err(|why| format!("{name}: {why}"))?;
        all.push(contents);
    }
    Ok(all)
}

pub(crate) fn run(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("replay");
    let mut steps = Steps::new();
    let fail = |steps: &Steps, why: String| -> ! {
        panic!("seed {seed}: {why}\nafter {steps:#?}");
    };
    for round in 0..ROUNDS {
        let (drawn, done) = world.run(write(home.clone(), round, entropy));
        entropy = drawn;
        steps.extend(done);
        let before = world.run(check(home.clone(), round)).unwrap_or_else(|why| fail(&steps, why));
        match entropy.below(3) {
            0 => world.restart_in_order(),
            1 => world.cut_power(Survival::SyncedOnly),
            _ => continue,
        }
        steps.push("restart".to_owned());
        let after = world.run(check(home.clone(), round)).unwrap_or_else(|why| fail(&steps, why));
        if before != after {
            fail(&steps, format!("a restart changed the tables:\n{before:?}\n{after:?}"));
        }
    }
}

#[test]
fn replaying_the_log_by_its_times_gives_the_table() {
    for seed in seeds(8) {
        run(seed);
    }
}
