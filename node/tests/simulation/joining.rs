//! Three nodes that find each other and agree on the schema, while the power of any of them is cut
//! and what is between two of them is: in the end each is a member once, all have one schema, and
//! what was acknowledged is in it.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut};
use crate::seeds;
use env::Entropy;
use env::EntropySource;
use env::disk::Survival;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

pub(crate) const NODES: usize = 3;
/// How long nodes that nothing harms any more may take to agree, in simulated time.
const AGREEMENT_TIME_MAX: Duration = Duration::from_mins(2);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);
/// Names that the clients make tables of, all of them the same.
const TABLES: u64 = 12;

type Rows = Vec<Vec<Option<Vec<u8>>>>;

/// What a node says, once it says something.
async fn ask(home: &Home, text: &str) -> Rows {
    loop {
        let mut client = Client::connect(home, "reader", Dialect::of(1)).await;
        client.patience = PATIENCE;
        if let Ok(page) = client.query(text).await {
            return page.rows;
        }
        home.clock.sleep(PAUSE).await;
    }
}

/// Waits until all nodes show the same rows, and as many as wanted.
async fn wait_until_agreed(homes: Vec<Home>, text: &'static str, count: Option<usize>) -> Rows {
    let deadline = homes[0].clock.now_micros() + AGREEMENT_TIME_MAX.as_micros() as i64;
    loop {
        let mut shown = Vec::new();
        for home in &homes {
            shown.push(ask(home, text).await);
        }
        let is_meant = count.is_none_or(|count| shown[0].len() == count);
        if is_meant && shown.iter().all(|rows| *rows == shown[0]) {
            return shown.remove(0);
        }
        assert!(homes[0].clock.now_micros() < deadline, "{text}: {shown:?}");
        homes[0].clock.sleep(PAUSE).await;
    }
}

/// Makes and drops tables until it is told to end. Returns those that were acknowledged as made,
/// of which none is ever dropped.
async fn define(
    home: Home,
    seed: u64,
    number: usize,
    is_to_end: Rc<Cell<bool>>,
) -> BTreeSet<String> {
    let name = format!("definer {number}");
    let mut entropy = EntropySource::simulated(seed).generator(&name);
    let mut acknowledged = BTreeSet::new();
    while !is_to_end.get() {
        let mut client = Client::connect(&home, &name, Dialect::of(entropy.u64())).await;
        client.patience = PATIENCE;
        while !is_to_end.get() {
            match define_one(&mut client, &mut entropy, number).await {
                Ok(made) => acknowledged.extend(made),
                // Not made, or perhaps.
                Err(ClientError::Refused(..)) => home.clock.sleep(PAUSE).await,
                Err(ClientError::Lost(_)) => break,
            }
        }
    }
    acknowledged
}

/// One statement; the table that is there afterwards for good.
async fn define_one(
    client: &mut Client,
    entropy: &mut Entropy,
    number: usize,
) -> Result<Option<String>, ClientError> {
    let table = format!("t{}", entropy.below(TABLES));
    let statement = match entropy.below(4) {
        // Of its own, come and gone.
        0 => format!("CREATE TABLE IF NOT EXISTS ks.own{number} (k int PRIMARY KEY)"),
        1 => format!("DROP TABLE IF EXISTS ks.own{number}"),
        _ => {
            let create = format!("CREATE TABLE IF NOT EXISTS ks.{table} (k int PRIMARY KEY)");
            client.query(&create).await?;
            // Who was answered has it.
            let select = format!("SELECT k FROM ks.{table} WHERE k = 1");
            match client.query(&select).await {
                Err(ClientError::Refused(0x2200, text)) => panic!("{select}: {text}"),
                Err(ClientError::Lost(text)) => return Err(ClientError::Lost(text)),
                _ => return Ok(Some(table)),
            }
        }
    };
    client.query(&statement).await.map(|_| None)
}

/// Harms nodes and networks for a while, and leaves them whole.
fn harm(world: &mut Cluster, entropy: &mut Entropy, faults: u64, networks_too: bool) {
    for _ in 0..faults {
        world.steps(entropy.below(1_500));
        let node = entropy.below(NODES as u64) as usize;
        if networks_too && entropy.below(2) == 0 {
            let others = (0..NODES).filter(|other| *other != node);
            let parted: Vec<usize> = others.filter(|_| entropy.below(3) > 0).collect();
            for other in &parted {
                world.cut(node, *other, Cut::BothWays);
            }
            world.steps(entropy.below(6_000));
            for other in &parted {
                world.mend(node, *other, Cut::BothWays);
            }
        } else {
            world.crash(node, Survival::Random);
            world.restart(node);
        }
    }
}

/// Every node knows all the others, and each once.
pub(crate) fn wait_for_members(world: &mut Cluster) {
    wait_for_members_of(world, &[0, 1, 2]);
}

/// The same for a cluster of these nodes.
pub(crate) fn wait_for_members_of(world: &mut Cluster, nodes: &[usize]) {
    let peers = "SELECT peer, schema_version FROM system.peers_v2";
    for node in nodes {
        let one = vec![world.home(*node)];
        world.run(wait_until_agreed(one, peers, Some(nodes.len() - 1)));
    }
}

fn history(seed: u64) {
    let mut world = Cluster::new(seed, NODES);
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    let homes = world.homes();

    // While they join.
    let faults = entropy.below(8);
    harm(&mut world, &mut entropy, faults, false);
    let version = "SELECT schema_version FROM system.local";
    wait_for_members(&mut world);
    let create = "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
                  {'class': 'SimpleStrategy', 'replication_factor': 3}";
    let first = homes[0].clone();
    world.run(async move { ask(&first, create).await });

    // While they change the schema.
    let is_to_end = Rc::new(Cell::new(false));
    let clients: Vec<_> = (0..NODES)
        .map(|node| world.start(define(world.home(node), seed, node, is_to_end.clone())))
        .collect();
    harm(&mut world, &mut entropy, 6, true);
    is_to_end.set(true);
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        while client.borrow().is_none() {
            world.steps(1);
        }
        acknowledged.extend(client.take().expect("it is done"));
    }
    let tables = "SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = 'ks'";
    let shown = world.run(wait_until_agreed(homes.clone(), tables, None));
    world.run(wait_until_agreed(homes, version, Some(1)));
    let names: BTreeSet<String> = shown
        .iter()
        .map(|row| String::from_utf8(row[0].clone().expect("a name")).expect("UTF-8"))
        .collect();
    let missing: Vec<&String> = acknowledged.difference(&names).collect();
    assert!(missing.is_empty(), "seed {seed}: acknowledged and not there: {missing:?}");
    assert!(!acknowledged.is_empty(), "seed {seed}: hardly anything ran");
}

#[test]
fn nodes_join_and_agree_whenever_power_and_network_fail() {
    for seed in seeds(1) {
        history(seed);
    }
}

/// A node that found the cluster is killed at any moment around the second's coming, and comes back.
#[test]
fn a_founder_that_is_killed_at_any_moment_leads_or_follows_again() {
    const MOMENTS: u64 = 12;
    for seed in seeds(1) {
        for moment in 1..=MOMENTS {
            let mut world = Cluster::new(seed, 2);
            world.steps(moment * 37);
            world.crash(0, Survival::SyncedOnly);
            world.steps(50);
            world.restart(0);
            wait_for_members_of(&mut world, &[0, 1]);
        }
    }
}
