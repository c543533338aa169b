//! One test of feeds, from an empty cluster to a verdict.

use super::history::{Entry, Written};
use super::receiver::{Receiver, TIMEOUT_MS};
use super::topic::{TOPIC, Topic};
use crate::checker::{Verdict, feed};
use crate::client::Client;
use crate::cluster::{Cluster, built_program};
use crate::connection::{Connection, Failure};
use crate::nemesis::{self, Inflicted, Pace};
use crate::random::Random;
use crate::run::RunOptions;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// The feed into the endpoint, and the one that begins later, in the middle of the first.
const HOOK: &str = "hook";
const AGAIN: &str = "again";
/// Rows that are written again and again.
const KEYS: u64 = 24;
/// Between two writes of a client.
const WRITE_INTERVAL: Duration = Duration::from_millis(3);
/// How long a client rests after something went wrong.
const REST: Duration = Duration::from_millis(50);
/// How often nodes are asked how far feeds have come.
const POSITION_INTERVAL: Duration = Duration::from_millis(100);
/// How long the readers may take to get what is owed once all is healed. Feeds back off for as long as
/// half a minute.
const LAST_TIME_MAX: Duration = Duration::from_mins(2);

const ARGUMENTS: [&str; 2] = ["--webhook-allow-http", "--webhook-allow-private-addresses"];
const TABLE: &str = "CREATE TABLE jepsen.told (k bigint PRIMARY KEY, v bigint)";
const INSERT: &str = "INSERT INTO jepsen.told (k, v) VALUES (?, ?)";

/// What came of a test.
#[derive(Debug)]
pub struct FeedReport {
    /// The judge's word.
    pub verdict: Verdict,
    /// Writes that were acknowledged.
    pub written_count: usize,
    /// Events that readers took, repeats included, of all feeds.
    pub told_count: usize,
    /// Events that a reader had taken before from the same place.
    pub repeat_count: usize,
    /// Calls of the endpoint that were not acknowledged.
    pub refusal_count: usize,
    /// How often the broker died, and how many lives its consumer had; nothing without a broker.
    pub topic: Option<(usize, usize)>,
    /// What was done to nodes.
    pub faults: Vec<Inflicted>,
    /// All of it.
    pub history: Vec<Entry>,
}

impl fmt::Display for FeedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedReport { verdict, written_count, told_count, repeat_count, refusal_count, .. } =
            self;
        write!(
            f,
            "{verdict} ({written_count} writes, {told_count} events of which {repeat_count} came \
             again, {refusal_count} calls refused, {} faults of nodes",
            self.faults.len()
        )?;
        match self.topic {
            Some((deaths, lives)) => {
                write!(f, ", {deaths} deaths of the broker, {lives} lives of its consumer)")
            }
            None => write!(f, ")"),
        }
    }
}

/// What all of a test share, on one thread.
struct Recorder {
    began: Instant,
    entries: RefCell<Vec<Entry>>,
    next_value: Cell<i64>,
}

impl Recorder {
    fn nanos(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn add(&self, entry: Entry) {
        self.entries.borrow_mut().push(entry);
    }
}

/// Runs a test; with a topic, if that is wanted and Kafka can be had.
pub async fn run(options: &RunOptions, with_topic: bool) -> io::Result<FeedReport> {
    let began = Instant::now();
    let receiver = Receiver::start(began, Random::new(options.seed ^ 0x0072_6563))?;
    let topic = if with_topic { Topic::start(&scratch()?) } else { None };
    let mut cluster_options = options.cluster.clone();
    cluster_options.arguments.extend(ARGUMENTS.map(str::to_owned));
    let cluster = Cluster::start(cluster_options, options.spare_count()).await?;
    let recorder = Recorder { began, entries: RefCell::default(), next_value: Cell::new(1) };
    create(&cluster, &recorder, &receiver, topic.as_ref(), options.replication_factor).await?;

    let (began_load, cluster) = (Instant::now(), RefCell::new(cluster));
    let end = began_load + options.duration;
    let addresses: Vec<SocketAddr> = (0..usize::from(options.cluster.node_count))
        .map(|node| cluster.borrow().address(node))
        .collect();
    let clients = (0..options.client_count).map(|client| {
        let address = addresses[client as usize % addresses.len()];
        let random = Random::new(options.seed ^ u64::from(client + 1) << 32);
        write_until(&recorder, address, random, end)
    });
    let watchers = addresses.iter().map(|address| watch_until(&recorder, *address, end));
    let pace = Pace::of(options.cluster.node_count);
    let random = Random::new(options.seed);
    let faults = nemesis::torment(&cluster, &options.faults, pace, random, (began_load, end));
    let random = Random::new(options.seed ^ 0x746f_7069);
    let tormented =
        tokio::task::spawn_blocking(move || topic.map(|topic| topic.torment(random, end)));
    let (faults, topic, ..) = futures::join!(
        faults,
        tormented,
        futures::future::join_all(clients),
        futures::future::join_all(watchers)
    );
    let (faults, topic) = (faults?, topic.map_err(io::Error::other)?);
    receiver.behave();
    let mut cluster = cluster.into_inner();
    cluster.heal()?;
    cluster.wait_until_all_answer().await?;
    finish(&cluster, &recorder, &receiver, topic.as_ref()).await?;

    let mut history = recorder.entries.into_inner();
    history.extend(receiver.entries());
    let mut of_topic = None;
    if let Some(topic) = &topic {
        history.extend(topic.entries(began)?);
        of_topic = Some(topic.figures());
    }
    let report = judge(history);
    Ok(FeedReport { refusal_count: receiver.refusals(), topic: of_topic, faults, ..report })
}

/// The verdict on a history, and what it knows of the figures.
pub fn judge(history: Vec<Entry>) -> FeedReport {
    let written = history
        .iter()
        .filter(|entry| matches!(entry, Entry::Write { outcome: Written::Ok, .. }))
        .count();
    let mut seen = BTreeSet::new();
    let (mut told_count, mut repeat_count) = (0, 0);
    for entry in &history {
        if let Entry::Told { place, sequence, .. } = entry {
            told_count += 1;
            repeat_count += usize::from(!seen.insert((&place.feed, *sequence)));
        }
    }
    FeedReport {
        verdict: feed::check(&history),
        written_count: written,
        told_count,
        repeat_count,
        refusal_count: 0,
        topic: None,
        faults: Vec::new(),
        history,
    }
}

/// Cargo's folder for what tests leave, beside the built program.
fn scratch() -> io::Result<std::path::PathBuf> {
    let program = built_program()?;
    let target = program.parent().and_then(Path::parent);
    let folder = target.map(|target| target.join("tmp"));
    let folder = folder.ok_or_else(|| io::Error::other("the program is not in a target folder"))?;
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn create(
    cluster: &Cluster,
    recorder: &Recorder,
    receiver: &Receiver,
    topic: Option<&Topic>,
    replication_factor: u8,
) -> io::Result<()> {
    let mut client = Client::connect(cluster.address(0)).await.map_err(io::Error::other)?;
    let mut statements = vec![
        format!(
            "CREATE KEYSPACE jepsen WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
        ),
        TABLE.to_owned(),
        into_webhook(HOOK, receiver, ", resolved = '300ms'"),
    ];
    recorder.add(Entry::Begin { feed: HOOK.to_owned(), above: 0 });
    if let Some(topic) = topic {
        statements.push(format!(
            "CREATE CHANGEFEED {TOPIC} FOR TABLE jepsen.told INTO KAFKA '{}' WITH \
             (flush_interval_ms = 5, resolved = '1s')",
            topic.address()
        ));
        recorder.add(Entry::Begin { feed: TOPIC.to_owned(), above: 0 });
    }
    for text in &statements {
        let created = client.define(text).await;
        created.map_err(|error| io::Error::other(format!("{text}: {error:?}")))?;
    }
    Ok(())
}

fn into_webhook(name: &str, receiver: &Receiver, options: &str) -> String {
    format!(
        "CREATE CHANGEFEED {name} FOR TABLE jepsen.told INTO WEBHOOK '{}' WITH \
         (flush_interval_ms = 5, batch_size = 20, timeout_ms = {TIMEOUT_MS}{options})",
        receiver.url(name)
    )
}

/// One client: writes until the end, and connects anew whenever something went wrong.
async fn write_until(recorder: &Recorder, address: SocketAddr, mut random: Random, end: Instant) {
    while Instant::now() < end {
        tokio::time::sleep(REST).await;
        let Ok(mut client) = Client::connect(address).await else { continue };
        while Instant::now() < end {
            let (key, value) = (random.below(KEYS) as i64, recorder.next_value.get());
            recorder.next_value.set(value + 1);
            let began = recorder.nanos();
            let outcome = match client.execute(INSERT, &[key.into(), value.into()]).await {
                Ok(_) => Written::Ok,
                Err(Failure::Refused(_)) => Written::Fail,
                Err(Failure::Unknown(_)) => Written::Info,
            };
            recorder.add(Entry::Write { began, ended: recorder.nanos(), key, value, outcome });
            if outcome != Written::Ok {
                break;
            }
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
    }
}

/// Asks a node again and again how far the feeds have come.
async fn watch_until(recorder: &Recorder, address: SocketAddr, end: Instant) {
    while Instant::now() < end {
        tokio::time::sleep(POSITION_INTERVAL).await;
        let Ok(client) = Client::connect(address).await else { continue };
        while Instant::now() < end && note_positions(recorder, &client).await.is_ok() {
            tokio::time::sleep(POSITION_INTERVAL).await;
        }
    }
}

async fn note_positions(recorder: &Recorder, client: &Client) -> Result<(), Failure> {
    let text = "SELECT name, sequence, epoch FROM system.changefeeds";
    let rows: Vec<(String, i64, i64)> = client.rows(text).await?;
    let nanos = recorder.nanos();
    for (feed, sequence, epoch) in rows {
        let (sequence, epoch) = (sequence as u64, epoch as u64);
        recorder.add(Entry::Position { nanos, feed, sequence, epoch });
    }
    Ok(())
}

/// Waits for what the feeds owe, reads the table, and lets another feed tell the second half again.
async fn finish(
    cluster: &Cluster,
    recorder: &Recorder,
    receiver: &Receiver,
    topic: Option<&Topic>,
) -> io::Result<()> {
    let deadline = Instant::now() + LAST_TIME_MAX;
    let mut entries = Vec::new();
    loop {
        entries.clone_from(&recorder.entries.borrow());
        entries.extend(receiver.entries());
        let told = told_by(&entries, HOOK);
        let owes_topic = match topic {
            Some(topic) => !told.is_subset(&told_by(&topic.entries(recorder.began)?, TOPIC)),
            None => false,
        };
        let owes_hook = !acknowledged(&entries).is_subset(&told.iter().map(|it| it.1).collect());
        if (!owes_hook && !owes_topic) || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(POSITION_INTERVAL).await;
    }
    let mut client = Client::connect(cluster.address(0)).await.map_err(io::Error::other)?;
    let failed = |failure| io::Error::other(format!("{failure:?}"));
    note_positions(recorder, &client).await.map_err(failed)?;
    let mut rows: Vec<(i64, i64)> =
        client.rows("SELECT k, v FROM jepsen.told").await.map_err(failed)?;
    rows.sort_unstable();
    recorder.add(Entry::Table { rows });

    let told: Vec<(u64, i64)> = told_by(&entries, HOOK).into_iter().collect();
    let Some((above, _)) = told.get(told.len() / 2) else { return Ok(()) };
    recorder.add(Entry::Begin { feed: AGAIN.to_owned(), above: *above });
    let cursor = format!(", cursor = '{above}'");
    client.define(&into_webhook(AGAIN, receiver, &cursor)).await.map_err(failed)?;
    let owed = told.len() - told.len() / 2 - 1;
    while told_by(&receiver.entries(), AGAIN).len() < owed && Instant::now() < deadline {
        tokio::time::sleep(POSITION_INTERVAL).await;
    }
    note_positions(recorder, &client).await.map_err(failed)
}

/// Numbers and values that a feed has delivered.
fn told_by(entries: &[Entry], name: &str) -> BTreeSet<(u64, i64)> {
    let told = |entry: &Entry| match entry {
        Entry::Told { place, sequence, value, is_acknowledged: true, .. } if place.feed == name => {
            Some((*sequence, *value))
        }
        _ => None,
    };
    entries.iter().filter_map(told).collect()
}

fn acknowledged(entries: &[Entry]) -> BTreeSet<i64> {
    let written = |entry: &Entry| match entry {
        Entry::Write { value, outcome: Written::Ok, .. } => Some(*value),
        _ => None,
    };
    entries.iter().filter_map(written).collect()
}
