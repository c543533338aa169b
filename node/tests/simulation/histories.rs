//! The workloads of the crate `jepsen` on simulated clusters: its clients ask here what they ask of
//! real processes, while the nodes die, lose power, stand still and lose each other; its checkers
//! judge what they were told. A seed has one history, to the byte.
//!
//! Clients end up with another node only for pages that they ask of one node after the other.
//! What a workload wants in a node's configuration is not given to simulated nodes.

use crate::client::{Client, ClientError, Dialect, Home, Page};
use crate::clients::HasClients;
use crate::cluster::Cluster;
use crate::faults::{Fault, inflict};
use crate::joining::{NODES, wait_for_members};
use crate::seeds;
use crate::statements::Statement;
use bytes::Bytes;
use cql::wire::Consistency;
use env::EntropySource;
use jepsen::checker::Verdict;
use jepsen::connection::{Asked, Cell, Connection, Failure, Level, Nodes, Row};
use jepsen::history::{self, Event, Kind};
use jepsen::load::{Load, LoadOptions, create_tables};
use jepsen::workload::Workload;
use jepsen::workload::append::Appends;
use jepsen::workload::batch::Batches;
use jepsen::workload::convergence::Replicas;
use jepsen::workload::counter::Counters;
use jepsen::workload::isolation::Partitions;
use jepsen::workload::log::Log;
use jepsen::workload::lwt::Transactions;
use jepsen::workload::overwrite::Overwrites;
use jepsen::workload::paging::Pages;
use jepsen::workload::planted::ReadsAtOne;
use jepsen::workload::register::Registers;
use jepsen::workload::schema::Tables;
use jepsen::workload::set::Set;
use std::cell::Cell as Shared;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Clients, and how long each waits between two calls.
const CLIENTS: u32 = 6;
const PAUSE_MILLIS_MAX: u64 = 30;
/// The same between two tables, which cost more than rows.
const TABLE_PAUSE_MILLIS_MAX: u64 = 300;
/// Calls that end well in any run.
const TOLD_MIN: usize = 30;
/// Seeds by which a mistake has to be noticed.
const NOTICED_BY: u64 = 6;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nodes may take to agree on the schema, and how often they are asked.
const AGREEMENT_TIME_MAX: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Faults, ticks between two, and ticks while one lasts, at most.
const FAULT_COUNT: u64 = 5;
const QUIET_TICKS_MAX: u64 = 1_000;
const FAULT_TICKS_MAX: u64 = 2_500;
const FAULTS: [Fault; 9] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::Isolate,
    Fault::Part,
    Fault::Pause,
    Fault::Clock,
    Fault::SlowDisk,
    Fault::FailingDisk,
];

/// The nodes of a simulation.
struct Simulated(Vec<Home>);

impl Nodes for Simulated {
    type Connection = Connected;

    fn count(&self) -> usize {
        self.0.len()
    }

    async fn connect(&self, node: usize) -> Result<Connected, String> {
        Connected::new(&self.0, node).await.map_err(|error| format!("{error:?}"))
    }
}

/// A connection with one of the nodes.
struct Connected {
    homes: Vec<Home>,
    node: usize,
    client: Client,
    /// Connections with others, whose turn it was.
    others: BTreeMap<usize, Client>,
}

impl Connected {
    async fn new(homes: &[Home], node: usize) -> Result<Connected, ClientError> {
        let dialect = Dialect::of(node as u64);
        let mut client = Client::connect_once(&homes[node], "jepsen", dialect).await?;
        client.patience = PATIENCE;
        Ok(Connected { homes: homes.to_vec(), node, client, others: BTreeMap::new() })
    }

    /// Asks another node for a page; nothing if it does not answer.
    async fn page_of(
        &mut self,
        other: usize,
        (level, text, rows): (Level, &str, u32),
        state: Option<Bytes>,
    ) -> Option<Page> {
        let mut client = match self.others.remove(&other) {
            Some(client) => client,
            None => Connected::new(&self.homes, other).await.ok()?.client,
        };
        client.consistency = consistency(level);
        let page = client.read_page(text, rows, state).await.ok()?;
        self.others.insert(other, client);
        Some(page)
    }

    /// Whether all nodes name the same version of the schema.
    async fn is_agreed(&self) -> Result<bool, ClientError> {
        let mut versions = Vec::new();
        for node in 0..self.homes.len() {
            let mut client = Connected::new(&self.homes, node).await?.client;
            versions.push(client.query("SELECT schema_version FROM system.local").await?.rows);
        }
        Ok(versions.iter().all(|version| *version == versions[0]))
    }
}

impl Connection for Connected {
    async fn define(&mut self, text: &str) -> Result<(), Failure> {
        self.client.query(text).await.map(drop).map_err(|error| failure(&error))
    }

    async fn execute_at(
        &mut self,
        level: Level,
        text: &str,
        values: &[Cell],
    ) -> Result<Vec<Row>, Failure> {
        self.client.consistency = consistency(level);
        let values = values.iter().map(|cell| cell.0.clone().expect("nobody writes null"));
        let statement = Statement {
            text: text.to_owned(),
            values: values.collect(),
            is_prepared: true,
            default_timestamp: None,
        };
        self.client.run(&statement).await.map(rows).map_err(|error| failure(&error))
    }

    async fn read_pages(
        &mut self,
        level: Level,
        text: &str,
        page_rows: i32,
        asked: Asked,
    ) -> Result<Vec<Row>, Failure> {
        self.client.consistency = consistency(level);
        let page_rows = page_rows.unsigned_abs();
        let (mut all, mut state, mut turn) = (Vec::new(), None, self.node);
        loop {
            let mut page = None;
            turn = (turn + 1) % self.homes.len();
            if asked == Asked::EachInTurn && turn != self.node {
                page = self.page_of(turn, (level, text, page_rows), state.clone()).await;
            }
            // Whose turn it is may be down; whoever is connected with is asked then.
            let page = if let Some(page) = page {
                page
            } else {
                let page = self.client.read_page(text, page_rows, state.clone()).await;
                page.map_err(|error| failure(&error))?
            };
            state.clone_from(&page.paging_state);
            all.extend(rows(page));
            if state.is_none() {
                return Ok(all);
            }
        }
    }

    async fn agree(&mut self) -> Result<(), Failure> {
        let clock = self.homes[self.node].clock.clone();
        let deadline = clock.now_micros() + AGREEMENT_TIME_MAX.as_micros() as i64;
        while !self.is_agreed().await.map_err(|error| failure(&error))? {
            if clock.now_micros() > deadline {
                return Err(Failure::Unknown("the nodes do not agree".to_owned()));
            }
            clock.sleep(ASK_EVERY).await;
        }
        Ok(())
    }
}

fn consistency(level: Level) -> Consistency {
    match level {
        Level::One => Consistency::One,
        Level::Quorum => Consistency::Quorum,
        Level::Serial => Consistency::Serial,
    }
}

fn failure(error: &ClientError) -> Failure {
    if error.is_not_applied() {
        Failure::Refused(format!("{error:?}"))
    } else {
        Failure::Unknown(format!("{error:?}"))
    }
}

fn rows(page: Page) -> Vec<Row> {
    page.rows.into_iter().map(|row| row.into_iter().map(Cell).collect()).collect()
}

/// What clients were told in a run, and whether that can be true.
fn run<W: Workload + Clone + 'static>(workload: &W, seed: u64) -> (Vec<Event>, Verdict) {
    run_with(workload, seed, &FAULTS, PAUSE_MILLIS_MAX)
}

fn run_with<W: Workload + Clone + 'static>(
    workload: &W,
    seed: u64,
    faults: &[Fault],
    pause_millis_max: u64,
) -> (Vec<Event>, Verdict) {
    let mut cluster = Cluster::new(seed, NODES);
    wait_for_members(&mut cluster);
    let (homes, tables_of) = (cluster.homes(), workload.clone());
    let created = async move {
        create_tables(&Simulated(homes), &tables_of, NODES as u8).await.expect("tables are made");
    };
    cluster.run(created);
    let options = LoadOptions { client_count: CLIENTS, pause_millis_max, seed };
    let is_over = Rc::new(Shared::new(false));
    let (workload, nodes, is_told) =
        (workload.clone(), Simulated(cluster.homes()), is_over.clone());
    let asking = cluster.start(async move {
        let load = Load::new(workload, options);
        load.ask(&nodes, &|| is_told.get()).await;
        load.read_last(&nodes).await.expect("the last reads are told");
        load.into_parts()
    });
    let mut entropy = EntropySource::simulated(seed).generator("faults");
    for _ in 0..FAULT_COUNT {
        cluster.steps(entropy.below(QUIET_TICKS_MAX));
        inflict(&mut cluster, faults, &[0, 1, 2], FAULT_TICKS_MAX, &mut entropy);
    }
    cluster.steps(QUIET_TICKS_MAX);
    is_over.set(true);
    let (workload, events) = cluster.finish(&asking);
    let calls = history::calls(&events).expect("clients ask one thing at a time");
    (events, workload.check(&calls))
}

/// Tables are made while nodes are cut off from the others.
#[cfg(debug_assertions)]
pub(crate) fn make_tables_apart(seed: u64) {
    let (_, verdict) =
        run_with(&Tables::default(), seed, &[Fault::Isolate], TABLE_PAUSE_MILLIS_MAX);
    assert_eq!(verdict, Verdict::Valid, "seed {seed}");
}

fn holds<W: Workload + Clone + 'static>(workload: &W) {
    holds_with(workload, PAUSE_MILLIS_MAX);
}

fn holds_with<W: Workload + Clone + 'static>(workload: &W, pause_millis_max: u64) {
    for seed in seeds(2) {
        let (events, verdict) = run_with(workload, seed, &FAULTS, pause_millis_max);
        assert_eq!(verdict, Verdict::Valid, "seed {seed}");
        let told = events.iter().filter(|event| event.kind == Kind::Ok).count();
        assert!(told > TOLD_MIN, "seed {seed}: hardly anything was asked: {told}");
    }
}

#[test]
fn registers_are_linearizable() {
    holds(&Registers::default());
}

#[test]
fn transactions_and_plain_writes_have_one_order() {
    holds(&Transactions::default());
}

#[test]
fn appends_have_one_order() {
    holds(&Appends::default());
}

#[test]
fn counters_count_once() {
    holds(&Counters);
}

#[test]
fn no_element_is_lost() {
    holds(&Set::default());
}

#[test]
fn logged_batches_are_whole() {
    holds(&Batches::default());
}

#[test]
fn the_change_log_is_the_table() {
    holds(&Log::default());
}

#[test]
fn tables_are_made_once() {
    holds_with(&Tables::default(), TABLE_PAUSE_MILLIS_MAX);
}

#[test]
fn the_highest_timestamp_wins() {
    holds(&Overwrites::default());
}

#[test]
fn nobody_sees_a_part_of_a_write() {
    holds(&Partitions::default());
}

#[test]
fn replicas_become_equal() {
    holds(&Replicas::default());
}

#[test]
fn pages_by_way_of_all_nodes_show_each_element_once() {
    holds(&Pages::default());
}

#[test]
fn a_seed_has_one_history() {
    for seed in seeds(1) {
        let lines = || history::to_lines(&run(&Transactions::default(), seed).0);
        assert!(lines() == lines(), "seed {seed}: two runs have different histories");
    }
}

/// A mistake of the clients, which shows that somebody looks.
#[test]
fn reads_of_any_replica_are_noticed() {
    let is_noticed = (0..NOTICED_BY)
        .any(|seed| matches!(run(&ReadsAtOne::default(), seed).1, Verdict::Invalid(_)));
    assert!(is_noticed, "what any replica said was taken for the newest");
}
