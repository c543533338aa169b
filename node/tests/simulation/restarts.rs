//! Nodes that start again know the schema that was acknowledged before anybody asks them, and a change
//! of it waits for nodes that are not heard.
//!
//! What a node has on its disk of a change is at first no more than an entry of a log: whether it
//! was committed, a leader has to say. So a node lets clients in when it has heard that, and serves
//! by what it knows only if too few of the others live.

use crate::client::{Client, ClientError, Dialect, Home};
use crate::clients::HasClients;
use crate::cluster::{Cluster, Cut, Order};
use crate::joining::{NODES, wait_for_members};
use crate::ring_changes::wait_for_votes;
use crate::seeds;
use cql::wire::Consistency;
use env::disk::Survival;
use env::{Entropy, EntropySource};
use std::time::Duration;

/// Tables that are made before each power cut, at most.
const TABLES_MAX: u64 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// How wrong a clock is.
const HOUR_MICROS: i64 = 3_600_000_000;
/// How long a change may be refused because nodes are still finding each other.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a statement until it is done; the tables named in it are there then.
pub(crate) async fn insist(home: Home, text: String) {
    let deadline = home.clock.now_micros() + PATIENCE.as_micros() as i64;
    loop {
        let mut client = Client::connect(&home, "definer", Dialect::of(1)).await;
        match client.query(&text).await {
            Ok(_) => return,
            // It is there already: an attempt without an answer was made.
            Err(ClientError::Refused(0x2400, _)) => return,
            Err(error) => assert!(home.clock.now_micros() < deadline, "{text}: {error:?}"),
        }
        home.clock.sleep(PAUSE).await;
    }
}

/// Asks a node for every table as soon as it lets anybody in.
async fn ask_for_all(home: Home, table_count: u64) {
    let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
    client.consistency = Consistency::One;
    for table in 0..table_count {
        let select = format!("SELECT k FROM ks.t{table} WHERE k = 1");
        let page = client.query(&select).await;
        assert!(page.is_ok(), "{select} at {}: {page:?}", home.node);
    }
}

/// Makes a keyspace, of which everything is on all nodes, and some tables from any of the nodes.
fn make_tables(cluster: &mut Cluster, entropy: &mut Entropy, tables: std::ops::Range<u64>) {
    let keyspace = "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = \
                    {'class': 'SimpleStrategy', 'replication_factor': 3}";
    cluster.run(insist(cluster.home(0), keyspace.to_owned()));
    for table in tables {
        let home = cluster.home(entropy.below(NODES as u64) as usize);
        cluster.run(insist(home, format!("CREATE TABLE ks.t{table} (k int PRIMARY KEY)")));
    }
}

#[test]
fn after_a_power_cut_of_all_nodes_no_acknowledged_table_is_missing() {
    for seed in seeds(2) {
        let mut cluster = Cluster::new(seed, NODES);
        let mut entropy = EntropySource::simulated(seed).generator("power");
        wait_for_members(&mut cluster);
        let mut table_count = 0;
        for _ in 0..4 {
            let former = table_count;
            table_count += 1 + entropy.below(TABLES_MAX);
            make_tables(&mut cluster, &mut entropy, former..table_count);
            cluster.steps(entropy.below(200));
            (0..NODES).for_each(|node| cluster.crash(node, Survival::SyncedOnly));
            (0..NODES).for_each(|node| cluster.restart(node));
            let homes = cluster.homes().into_iter();
            let readers: Vec<_> =
                homes.map(|home| cluster.start(ask_for_all(home, table_count))).collect();
            while readers.iter().any(|reader| reader.borrow().is_none()) {
                cluster.step();
            }
        }
    }
}

#[test]
fn a_node_that_finds_no_majority_serves_reads_at_one() {
    for seed in seeds(1) {
        let mut cluster = Cluster::new(seed, NODES);
        let mut entropy = EntropySource::simulated(seed).generator("power");
        wait_for_members(&mut cluster);
        make_tables(&mut cluster, &mut entropy, 0..2);
        // Until every node has saved what it knows to be committed.
        cluster.steps(1_000);
        (0..NODES).for_each(|node| cluster.crash(node, Survival::SyncedOnly));
        cluster.restart(1);
        cluster.run(ask_for_all(cluster.home(1), 2));
        let home = cluster.home(1);
        cluster.run(async move {
            let mut client = Client::connect(&home, "definer", Dialect::of(1)).await;
            let made = client.query("CREATE TABLE ks.more (k int PRIMARY KEY)").await;
            assert!(matches!(made, Err(ClientError::Refused(0x1000, _))), "{made:?}");
        });
    }
}

/// Nodes that have just formed a cluster may not hear each other yet, and busy ones not for a while.
#[test]
fn a_change_of_the_schema_waits_for_the_nodes_that_decide() {
    for seed in seeds(1) {
        let mut cluster = Cluster::new(seed, NODES);
        wait_for_members(&mut cluster);
        wait_for_votes(&mut cluster);
        let pairs = [(0, 1), (0, 2), (1, 2)];
        for (one, other) in pairs {
            cluster.cut(one, other, Cut::Held);
        }
        // Until no support is left.
        cluster.steps(1_500);
        let home = cluster.home(0);
        let made = cluster.start(async move {
            let mut client = Client::connect(&home, "definer", Dialect::of(1)).await;
            client.query("CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}").await
        });
        cluster.steps(2_000);
        assert!(made.borrow().is_none(), "{:?}", made.borrow());
        for (one, other) in pairs {
            cluster.mend(one, other, Cut::Held);
        }
        let made = cluster.finish(&made);
        assert!(made.is_ok(), "seed {seed}: {made:?}");
    }
}

/// A member is let in by nobody, so it has to find out itself.
#[test]
fn a_member_whose_clock_is_off_does_not_start_and_the_others_go_on() {
    // And half a second, for what the answers take.
    const HOUR_MICROS: i64 = 3_600_500_000;
    for (seed, jump) in seeds(1).flat_map(|seed| [(seed, HOUR_MICROS), (seed, -HOUR_MICROS)]) {
        let mut cluster = Cluster::new(seed, NODES);
        let mut entropy = EntropySource::simulated(seed).generator("clocks");
        wait_for_members(&mut cluster);
        make_tables(&mut cluster, &mut entropy, 0..1);
        cluster.crash(1, Survival::SyncedOnly);
        cluster.jump_wall(1, jump);
        let why = cluster.refuses_to_start(1);
        let side = if jump > 0 { "3600 s ahead of" } else { "3600 s behind" };
        assert!(why.contains(&format!("this node's clock is {side} those of most")), "{why}");
        make_tables(&mut cluster, &mut entropy, 1..2);
        cluster.run(ask_for_all(cluster.home(0), 2));
        cluster.jump_wall(1, -jump);
        cluster.restart(1);
        cluster.run(ask_for_all(cluster.home(1), 2));
    }
}

/// What a node's operator is told.
pub(crate) fn told(cluster: &mut Cluster, node: usize, path: &str) -> (u16, String) {
    cluster.order(node, &Order::get(path));
    cluster.steps(2_000);
    cluster.answer(node).expect("it answers")
}

/// How many groups a node leads.
pub(crate) fn led_count(cluster: &mut Cluster, node: usize) -> u64 {
    let (_, figures) = told(cluster, node, "/metrics");
    let lines = figures.lines().filter(|line| line.starts_with("tethys_led_groups"));
    lines.map(|line| line.split(' ').nth(1).expect("a figure").parse::<u64>().expect("whole")).sum()
}

/// Writes rows by way of all nodes, which give them their times. None of these is wrong.
async fn write_by_the_servers_clocks(homes: Vec<Home>, keys: std::ops::Range<i32>) {
    let clock = homes[0].clock.clone();
    for k in keys {
        let home = &homes[k as usize % homes.len()];
        insist(home.clone(), format!("INSERT INTO ks.timed (k, v) VALUES ({k}, {k})")).await;
        let batch = format!(
            "BEGIN BATCH INSERT INTO ks.timed (k, v) VALUES (-{k}, 1); \
             INSERT INTO ks.timed (k, v) VALUES ({}, 1) APPLY BATCH",
            -1_000 - k
        );
        // A node that does not know the time takes none.
        insist(homes[k as usize % 2 * 2].clone(), batch).await;
        clock.sleep(PAUSE).await;
    }
    let mut client = Client::connect(&homes[0], "reader", Dialect::of(1)).await;
    let written = client.query("SELECT WRITETIME(v) FROM ks.timed").await.expect("rows").rows;
    let now = clock.now_micros();
    for time in written.iter().filter_map(|row| row[0].as_deref()) {
        let time = i64::from_be_bytes(time.try_into().expect("a time"));
        assert!(now.abs_diff(time) < 60_000_000, "{time} was given out, and it is {now}");
    }
}

/// What a node says of the time when it passes on statements is right as well.
async fn write_for_a_while(homes: Vec<Home>, by: usize) {
    let live = "INSERT INTO ks.timed (k, v) VALUES (5000, 1) USING TTL 600";
    insist(homes[by].clone(), live.to_owned()).await;
    for home in &homes {
        let mut client = Client::connect(home, "reader", Dialect::of(1)).await;
        let select = "SELECT TTL(v), toUnixTimestamp(now()) FROM ks.timed WHERE k = 5000";
        let rows = client.query(select).await.expect("it lives").rows;
        let [Some(left), Some(now)] = &rows[0][..] else { panic!("{rows:?}") };
        let left = i32::from_be_bytes(left[..].try_into().expect("seconds"));
        assert!((540..=600).contains(&left), "{left} s are left");
        let now = i64::from_be_bytes(now[..].try_into().expect("milliseconds"));
        let true_millis = homes[0].clock.now_micros() / 1_000;
        assert!(now.abs_diff(true_millis) < 60_000, "it is {true_millis}, not {now}");
    }
}

/// Nodes that each lead some of a table's rows.
fn with_timed_rows(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, NODES);
    let mut entropy = EntropySource::simulated(seed).generator("clocks");
    wait_for_members(&mut cluster);
    make_tables(&mut cluster, &mut entropy, 0..1);
    let table = "CREATE TABLE ks.timed (k int PRIMARY KEY, v int)";
    cluster.run(insist(cluster.home(0), table.to_owned()));
    // The founder leads what was there when it was alone.
    cluster.steps(15_000);
    cluster
}

/// Who could have said that it is wrong is not heard at first.
#[test]
fn a_clock_that_was_set_while_nobody_answers_is_compared_later() {
    for seed in seeds(1) {
        let mut cluster = with_timed_rows(seed);
        for other in [0, 2] {
            cluster.cut(1, other, Cut::BothWays);
        }
        cluster.jump_wall(1, HOUR_MICROS);
        cluster.steps(1_500);
        for other in [0, 2] {
            cluster.mend(1, other, Cut::BothWays);
        }
        cluster.run(write_by_the_servers_clocks(cluster.homes(), 1..60));
        assert_eq!(told(&mut cluster, 1, "/readyz").0, 503);
    }
}

/// Nobody ends a node that runs, but it says that it is not to be used, and decides nothing.
#[test]
fn a_member_whose_clock_is_set_wrong_leads_nothing_until_it_is_right() {
    for (seed, jump) in seeds(1).flat_map(|seed| [(seed, HOUR_MICROS), (seed + 1, -HOUR_MICROS)]) {
        let mut cluster = with_timed_rows(seed);
        assert_eq!(told(&mut cluster, 1, "/readyz").0, 200);
        assert!(led_count(&mut cluster, 1) > 0);

        cluster.jump_wall(1, jump);
        cluster.run(write_by_the_servers_clocks(cluster.homes(), 1..60));
        assert_eq!([0, 1, 2].map(|node| told(&mut cluster, node, "/readyz").0), [200, 503, 200]);
        cluster.run(write_for_a_while(cluster.homes(), 1));
        let (_, why) = told(&mut cluster, 1, "/readyz");
        assert!(why.contains("of most other nodes"), "{why}");
        cluster.steps(12_000);
        assert_eq!(led_count(&mut cluster, 1), 0);

        cluster.jump_wall(1, -jump);
        cluster.run(write_by_the_servers_clocks(cluster.homes(), 60..90));
        cluster.steps(45_000);
        assert_eq!(told(&mut cluster, 1, "/readyz").0, 200);
        assert!(led_count(&mut cluster, 1) > 0, "leadership comes home");
    }
}
