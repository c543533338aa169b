//! Single bits that rot, in table files and in the log: what they hurt is refused by name, never
//! answered wrongly, and everything else goes on.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::world::World;
use env::disk::Survival;
use env::{Entropy, EntropySource};
use model::token::murmur3_token;
use std::collections::BTreeMap;
use std::path::PathBuf;

const TABLES: [(&str, &str); 3] =
    [("one", ""), ("two", ""), ("logged", " WITH cdc = {'enabled': true}")];
const PARTITIONS: i32 = 40;
const SHARDS: u128 = 2;

/// By table and partition the number that was acknowledged last.
type Known = BTreeMap<(usize, i32), i32>;

async fn make_tables(home: Home) {
    let mut client = Client::connect(&home, "schema", Dialect::of(1)).await;
    let keyspace = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                    'replication_factor': 1}";
    client.query(keyspace).await.unwrap();
    for (name, cdc) in TABLES {
        let text = format!("CREATE TABLE ks.{name} (p int PRIMARY KEY, v int, pad text){cdc}");
        client.query(&text).await.unwrap();
    }
}

/// Writes every partition of every table, in a random order; also says in which.
async fn write(home: Home, first: i32, mut entropy: Entropy) -> (Known, Vec<(usize, i32)>) {
    let name = format!("writer {first}");
    let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
    let mut keys: Vec<(usize, i32)> =
        (0..TABLES.len()).flat_map(|table| (0..PARTITIONS).map(move |p| (table, p))).collect();
    for at in (1..keys.len()).rev() {
        keys.swap(at, entropy.below(at as u64 + 1) as usize);
    }
    let mut known = Known::new();
    for (number, (table, p)) in (first..).zip(&keys) {
        let pad = "x".repeat(number as usize % 3 * 500);
        let table_name = TABLES[*table].0;
        let text =
            format!("INSERT INTO ks.{table_name} (p, v, pad) VALUES ({p}, {number}, '{pad}')");
        client.query(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        known.insert((*table, *p), number);
    }
    (known, keys)
}

/// What one look at everything met.
#[derive(Debug, Default)]
struct Found {
    rows: Known,
    /// Tables of whose reads some were refused for damage, logs included.
    hurt: Vec<String>,
}

/// Reads every partition by itself, and each table and log as a whole.
async fn read(home: Home, boots: u64) -> Found {
    let mut client = Client::connect(&home, &format!("reader {boots}"), Dialect::of(1)).await;
    let mut found = Found::default();
    let number = |cell: &Option<Vec<u8>>| {
        i32::from_be_bytes(cell.clone().expect("every row has it").try_into().unwrap())
    };
    for (table, (name, cdc)) in TABLES.iter().enumerate() {
        for p in 0..PARTITIONS {
            match client.query(&format!("SELECT v FROM ks.{name} WHERE p = {p}")).await {
                Ok(page) => {
                    if let Some(row) = page.rows.first() {
                        found.rows.insert((table, p), number(&row[0]));
                    }
                }
                Err(error) => found.hurt.push(damaged(name, error)),
            }
        }
        let mut names = vec![(*name).to_owned()];
        if !cdc.is_empty() {
            names.push(format!("{name}_scylla_cdc_log"));
        }
        for name in names {
            match client.read_all(&format!("SELECT p, v FROM ks.{name}"), 7).await {
                Ok(page) if name == TABLES[table].0 => {
                    for row in &page.rows {
                        let before = found.rows.insert((table, number(&row[0])), number(&row[1]));
                        let is_same = before.is_none_or(|before| before == number(&row[1]));
                        assert!(is_same, "{name}: two reads differ");
                    }
                }
                Ok(_) => {}
                Err(error) => found.hurt.push(damaged(&name, error)),
            }
        }
    }
    found.hurt.dedup();
    found
}

/// The table that an error of damage is about. Panics for any other error.
fn damaged(table: &str, error: ClientError) -> String {
    match error {
        ClientError::Refused(0x1300, why) if why.contains("corrupt") => table.to_owned(),
        other => panic!("{table}: damage has another name: {other:?}"),
    }
}

/// Flips a random bit of a byte that is not zero, in a random file of that kind: what was never
/// written is no loss.
fn flip(world: &World, entropy: &mut Entropy, folder: &str, ending: &str) -> (String, u64) {
    let mut files = Vec::new();
    for shard in 0..SHARDS {
        let directory = PathBuf::from(format!("/data/shard-{shard}/{folder}"));
        let names = world.disk.list(&directory).unwrap();
        files.extend(names.iter().filter(|n| n.ends_with(ending)).map(|n| directory.join(n)));
    }
    files.sort();
    let path = files[entropy.below(files.len() as u64) as usize].clone();
    let bytes = world.disk.read(&path, 1 << 30).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let byte = used[entropy.below(used.len() as u64) as usize];
    let bit = byte as u64 * 8 + entropy.below(8);
    world.control.disk.flip_bit(&path, bit).unwrap();
    (path.display().to_string(), bit)
}

fn rot_a_table_file(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("bit rot");
    let (mut known, _) =
        world.run(write(home.clone(), 1, EntropySource::simulated(seed).generator("a")));
    world.stop_in_order(Survival::SyncedOnly);
    let (path, bit) = flip(&world, &mut entropy, "tables", ".sst");
    world.start_node();
    if let Err(why) = world.wait_for_start() {
        let is_named = why.contains("corrupt") && why.contains(".sst");
        assert!(is_named, "seed {seed}: {path} bit {bit}: {why}");
        return;
    }
    let found = world.run(read(home.clone(), 1));
    assert!(found.hurt.len() <= 1, "seed {seed}: {path} bit {bit} hurts {:?}", found.hurt);
    for (key, number) in &known {
        let name = TABLES[key.0].0;
        let answer = found.rows.get(key);
        let is_refused = answer.is_none() && found.hurt.iter().any(|hurt| hurt == name);
        assert!(answer == Some(number) || is_refused, "seed {seed}: {path} bit {bit}: {key:?}");
    }
    // Writes go on, of the hurt table too: its newest rows need no file.
    let (later, _) =
        world.run(write(home.clone(), 1_000, EntropySource::simulated(seed).generator("b")));
    known.extend(later);
    let found = world.run(read(home, 2));
    for (key, number) in &known {
        let is_hurt = found.hurt.iter().any(|hurt| hurt == TABLES[key.0].0);
        let answer = found.rows.get(key);
        assert!(answer == Some(number) || (answer.is_none() && is_hurt), "seed {seed}: {key:?}");
    }
}

fn shard_of(p: i32) -> u128 {
    let token = murmur3_token(&p.to_be_bytes()).0;
    let place = (i128::from(token) + (1_i128 << 63)) as u128;
    (place * SHARDS) >> 64
}

/// A bit of the log: the node names the damage and does not start, or nothing is lost but the last
/// write of a shard, which cannot be told from one that was never finished.
pub(crate) fn rot_the_log(seed: u64) -> bool {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(make_tables(home.clone()));
    let mut entropy = EntropySource::simulated(seed).generator("bit rot");
    let (known, order) =
        world.run(write(home.clone(), 1, EntropySource::simulated(seed).generator("a")));
    world.control.disk.power_off();
    world.crash_node(Survival::Everything);
    let (path, bit) = flip(&world, &mut entropy, "log", ".log");
    world.start_node();
    if let Err(why) = world.wait_for_start() {
        let is_named = why.contains("corrupt") || why.contains("its end is damaged");
        assert!(is_named, "seed {seed}: {path} bit {bit}: {why}");
        return true;
    }
    let found = world.run(read(home, 1));
    assert!(found.hurt.is_empty(), "seed {seed}: {path} bit {bit}: {:?}", found.hurt);
    let lost: Vec<_> = known.iter().filter(|(key, v)| found.rows.get(key) != Some(v)).collect();
    for (key, _) in lost {
        assert!(!found.rows.contains_key(key), "seed {seed}: {key:?} has a wrong value");
        let last = order.iter().rfind(|(_, p)| shard_of(*p) == shard_of(key.1));
        assert_eq!(last, Some(key), "seed {seed}: {path} bit {bit} loses an earlier write");
    }
    false
}

#[test]
fn a_rotten_table_file_is_refused_by_name_and_the_rest_is_served() {
    for seed in seeds(12) {
        rot_a_table_file(seed);
    }
}

#[test]
fn a_rotten_log_is_refused_by_name() {
    let asked = seeds(12);
    let count = asked.end - asked.start;
    let refused = asked.map(rot_the_log).filter(|is_refused| *is_refused).count() as u64;
    assert!(refused > count / 2, "only {refused} of {count} flips were found");
}
