//! One seed, one history: what clients send and get, and what is on the disk in the end.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::statements::{COLUMNS, CREATE_TYPE, Shapes, Statement, Within};
use crate::trace::hash;
use crate::world::World;
use cql::wire::BatchKind;
use env::EntropySource;
use env::disk::Survival;

const CLIENTS: u64 = 3;
const STATEMENTS: u64 = 60;
const TABLES: [&str; 3] = ["ks.plain", "ks.deltas", "ks.images"];

async fn make_schema(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let statements = [
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}"
            .to_owned(),
        CREATE_TYPE.to_owned(),
        format!("CREATE TABLE ks.plain {COLUMNS}"),
        format!("CREATE TABLE ks.deltas {COLUMNS} WITH cdc = {{'enabled': true}}"),
        format!(
            "CREATE TABLE ks.images {COLUMNS} WITH cdc = {{'enabled': true, \
             'preimage': 'full', 'postimage': true}}"
        ),
    ];
    for statement in statements {
        client.query(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Writes, batches, reads and pages; gives up when the node goes.
async fn random_work(home: Home, seed: u64, number: u64) {
    let name = format!("client {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    for _ in 0..STATEMENTS {
        let table = TABLES[entropy.below(3) as usize];
        let result = match entropy.below(8) {
            0 => {
                let batch = random_batch(&mut entropy);
                client.batch(BatchKind::Logged, &batch, None).await
            }
            1 => client.query(&format!("SELECT * FROM {table} WHERE p = 1")).await,
            2 => client.read_all(&format!("SELECT * FROM {table}"), 2).await,
            3 => {
                let log = ["ks.deltas", "ks.images"][entropy.below(2) as usize];
                client.read_all(&format!("SELECT * FROM {log}_scylla_cdc_log"), 10).await
            }
            _ => {
                let write = Shapes::new(table, &mut entropy).write(None, Within::Alone);
                client.run(&write).await
            }
        };
        if let Err(ClientError::Lost(_)) = result {
            client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
        }
    }
}

fn random_batch(entropy: &mut env::Entropy) -> Vec<Statement> {
    (0..2 + entropy.below(3))
        .map(|_| {
            let table = TABLES[entropy.below(3) as usize];
            Shapes::new(table, entropy).write(None, Within::Batch)
        })
        .collect()
}

/// Everything that clients saw, and last what the disk holds.
fn history(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_schema(home.clone()));
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| world.start(random_work(home.clone(), seed, n))).collect();
    for _ in 0..100 {
        world.step();
    }
    world.cut_power(Survival::Random);
    while clients.iter().any(|done| done.borrow().is_none()) {
        world.step();
    }
    world.restart_in_order();
    let mut lines = home.trace.lines();
    lines.push(format!("disk {:016x}", world.control.disk.fingerprint()));
    lines
}

#[test]
fn a_seed_has_one_history() {
    let mut hashes = Vec::new();
    for seed in seeds(3) {
        let (first, second) = (history(seed), history(seed));
        for (index, (one, other)) in first.iter().zip(&second).enumerate() {
            assert_eq!(one, other, "seed {seed}: the histories part at event {index}");
        }
        assert_eq!(first.len(), second.len(), "seed {seed}: one history ends early");
        assert!(first.len() as u64 > 2 * CLIENTS * STATEMENTS, "seed {seed}: hardly anything ran");
        hashes.push(hash(first.join("\n").as_bytes()));
    }
    let count = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), count, "two seeds have the same history");
}
