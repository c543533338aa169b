//! Many at one place: clients that write the same few rows at once, whose images must be exact, and
//! pages that end wherever they end, and show every row once.

use crate::change_log::{self, table_def};
use crate::client::{Client, Dialect, Home};
use crate::clients::HasClients;
use crate::seeds;
use crate::world::World;
use model::{ColumnKind, CqlType, TableDef};
use std::collections::BTreeSet;
use std::sync::Arc;

const WRITERS: i32 = 6;
const WRITES: i32 = 25;
/// Rows that all of them write.
const ROWS: i32 = 2;
/// Partitions of the table that is read by pages, and rows of each.
const PARTITIONS: i32 = 70;
const PARTITION_ROWS: i32 = 3;
const KEYSPACE: &str = "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
                        'replication_factor': 1}";

fn base_table() -> Arc<TableDef> {
    let key = ("p", CqlType::Int, ColumnKind::PartitionKey(0));
    table_def("t", &[key, ("v", CqlType::Int, ColumnKind::Regular)])
}

async fn write(home: Home, writer: i32) {
    let name = format!("writer {writer}");
    let mut client = Client::connect(&home, &name, Dialect::of(writer as u64)).await;
    for number in 0..WRITES {
        let (p, v) = (number % ROWS, writer * WRITES + number);
        let text = match number % 5 {
            4 => format!("DELETE FROM ks.t WHERE p = {p}"),
            _ => format!("INSERT INTO ks.t (p, v) VALUES ({p}, {v})"),
        };
        client.query(&text).await.unwrap();
    }
}

/// Writers that meet at the same rows: every image is of its own moment.
pub(crate) fn write_together(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    let schema = home.clone();
    world.run(async move {
        let mut client = Client::connect(&schema, "schema", Dialect::of(1)).await;
        client.query(KEYSPACE).await.unwrap();
        let cdc = "{'enabled': true, 'preimage': 'full', 'postimage': true}";
        let table = format!("CREATE TABLE ks.t (p int PRIMARY KEY, v int) WITH cdc = {cdc}");
        client.query(&table).await.unwrap();
    });
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| world.start(write(home.clone(), writer))).collect();
    while writers.iter().any(|done| done.borrow().is_none()) {
        world.step();
    }
    let checked = world.run(async move {
        let mut client = Client::connect(&home, "reader", Dialect::of(2)).await;
        let contents = change_log::read_table(&mut client, &base_table()).await.unwrap();
        let log = change_log::read_log(&mut client, &base_table()).await.unwrap();
        change_log::check(&base_table(), true, &log, &contents, home.clock.now_seconds())
    });
    checked.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
}

/// Reads a table of many ranges by pages of several sizes.
pub(crate) fn read_pages(seed: u64) {
    let mut world = World::new(seed);
    let home = world.home().clone();
    world.run(async move {
        let mut client = Client::connect(&home, "client", Dialect::of(seed)).await;
        client.query(KEYSPACE).await.unwrap();
        client.query("CREATE TABLE ks.wide (p int, c int, PRIMARY KEY (p, c))").await.unwrap();
        for (p, c) in (0..PARTITIONS).flat_map(|p| (0..PARTITION_ROWS).map(move |c| (p, c))) {
            client.query(&format!("INSERT INTO ks.wide (p, c) VALUES ({p}, {c})")).await.unwrap();
        }
        for page_rows in [1, 2, 7, 20, 100] {
            let page = client.read_all("SELECT p, c FROM ks.wide", page_rows).await.unwrap();
            let shown: BTreeSet<_> = page.rows.iter().collect();
            let (shown, count) = (shown.len(), page.rows.len());
            assert_eq!(shown, count, "seed {seed}: by pages of {page_rows} rows some come twice");
            let expected = (PARTITIONS * PARTITION_ROWS) as usize;
            assert_eq!(count, expected, "seed {seed}: by pages of {page_rows} rows");
        }
    });
}

#[test]
fn images_of_writers_that_meet_are_exact() {
    seeds(3).for_each(write_together);
}

#[test]
fn pages_show_every_row_once() {
    seeds(1).for_each(read_pages);
}
