//! Changefeeds of a real node: from the write of a row to the answer of a webhook, how many events
//! pass, what they cost the node, and what they cost the writers.
//!
//! ```text
//! tethys --data-dir DIR --webhook-allow-http --webhook-allow-private-addresses &
//! cargo run --release -p benches --example node_feeds -- --feeds 10 --rate 2000 --server-pid $!
//! ```
//!
//! The feeds go to a receiver in this program, a thread for each, which answers every request with
//! 204; or, with `--kafka HOST:PORT`, to a new topic of that broker, and are read back by a consumer
//! in this program. Writes bring the time of their sending as their timestamp, and an event carries
//! it: what is printed is from there to the answer, or to the consumer, the write itself included.
//! The processor time is the node's, writes included, so compare with `--feeds 0`, or with a table
//! that has the same log without feeds (`--cdc`).
//!
//! `--pairs N` asks what feeds cost the writers: N times, the same table with the same log is written
//! to without feeds and with them, and what is printed at last is the median of each side. One run's
//! p99 is noise; ten pairs of thirty seconds say something.
//!
//! `--stuck N` asks what feeds do whose receiver hangs ([`stuck`]): how much memory the node takes, and
//! what is left to the writers of their tables.
//!
//! `--scan` measures an initial scan instead: all keys are written once, then a feed of
//! `initial_scan = 'only'` sends them. Printed are the rows a second from the statement to the last
//! row's answer, and the node's processor time for a row.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]
#![expect(clippy::disallowed_methods, reason = "a measuring program stands outside of the node")]

mod stuck;

use benches::client::{Client, ClientError};
use benches::dataset::create_table;
use benches::load::{Plan, Workload, run};
use benches::process::ProcessorTime;
use benches::receiver::acknowledge;
use clap::Parser;
use cql::wire::Consistency;
use hdrhistogram::Histogram;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long it is waited for events when none come.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Feeds that an earlier run may have left.
const FEEDS_LEFT_MAX: usize = 200;
/// The table, in the keyspace `feeds`.
const ROWS: &str = "rows";
/// A log with all that feeds ask for, without any.
const IMAGES: &str = "{'enabled': true, 'preimage': true, 'postimage': true}";
/// How many feeds are made at a time.
const CREATORS: usize = 8;
/// What is looked for in a body, and the length of the time behind it.
const TIMESTAMP: &[u8] = b"\"timestamp\":\"";
const TIMESTAMP_BYTES: usize = "2026-11-21T10:00:00.000001Z".len();

/// Measures the changefeeds of a node.
#[derive(Debug, Parser)]
struct Flags {
    /// The node
    #[arg(long, default_value = "127.0.0.1:9042")]
    address: SocketAddr,
    /// How many feeds are on the table
    #[arg(long, default_value_t = 1)]
    feeds: usize,
    /// Writes a second; without it: as fast as they are answered
    #[arg(long)]
    rate: Option<f64>,
    /// How long to write
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Writes in flight on each connection
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// How many rows there are
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// The feeds' options beside `flush_interval_ms = 5`, such as "batch_size = 1000"
    #[arg(long, default_value = "batch_size = 100")]
    options: String,
    /// A broker to send to, as host:port, instead of the receiver
    #[arg(long)]
    kafka: Option<String>,
    /// The table's own cdc option
    #[arg(long)]
    cdc: Option<String>,
    /// How many times to write without feeds and then with them
    #[arg(long, conflicts_with = "scan")]
    pairs: Option<usize>,
    /// Measure so many feeds whose receiver hangs, in pairs with none
    #[arg(long, conflicts_with_all = ["scan", "kafka"])]
    stuck: Option<usize>,
    /// How many tables they are on
    #[arg(long, default_value_t = 4, requires = "stuck")]
    tables: usize,
    /// Measure an initial scan of all keys, so many times over
    #[arg(long, num_args = 0..=1, default_missing_value = "1")]
    scan: Option<usize>,
    /// The node's process
    #[arg(long)]
    server_pid: u32,
}

/// What the receivers have seen.
struct Received {
    events: u64,
    latency_micros: Histogram<u64>,
    last: Instant,
}

impl Received {
    /// Nothing so far.
    fn begin(&mut self) {
        self.events = 0;
        self.latency_micros.reset();
        self.last = Instant::now();
    }
}

fn main() -> ExitCode {
    match measure(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node_feeds: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(flags: &Flags) -> Result<(), ClientError> {
    if let Some(feed_count) = flags.stuck {
        return stuck::measure(flags, feed_count);
    }
    let latency_micros = Histogram::new(3).map_err(|error| ClientError(error.to_string()))?;
    let received = Received { events: 0, latency_micros, last: Instant::now() };
    let received = Arc::new(Mutex::new(received));
    let topic = format!("feeds-{}", std::process::id());
    let sink = match &flags.kafka {
        Some(broker) => format!("KAFKA '{broker}/{topic}'"),
        None => format!("WEBHOOK 'http://{}/'", listen(&received)?),
    };
    let mut client = Client::connect(flags.address)?;
    set_up(flags, &mut client)?;
    if flags.scan.is_some() {
        run(&plan(flags, Workload::Load))?;
    } else if flags.pairs.is_none() {
        create_feeds(flags, flags.feeds, &sink, |_| ROWS.to_owned())?;
    }
    if let Some(broker) = &flags.kafka {
        consume(broker, &topic, &received)?;
    }
    match (flags.scan, flags.pairs) {
        (Some(_), _) => scan(flags, &mut client, &sink, &received),
        (None, Some(count)) => write_in_pairs(flags, &mut client, &sink, &received, count),
        (None, None) => write(flags, flags.feeds, &received).map(drop),
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until so many events were received, or none come any more.
fn wait_for(wanted: u64, received: &Mutex<Received>) {
    while lock(received).events < wanted && lock(received).last.elapsed() < SILENCE_MAX {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn plan(flags: &Flags, workload: Workload) -> Plan {
    Plan {
        addresses: vec![flags.address],
        is_routed: false,
        consistency: Consistency::One,
        keyspace: "feeds".to_owned(),
        table: ROWS.to_owned(),
        workload,
        connection_count: flags.connections,
        in_flight: flags.in_flight,
        rate: flags.rate,
        warmup: Duration::ZERO,
        measured: Duration::from_secs_f64(flags.seconds),
        key_count: flags.keys,
        with_timestamps: true,
        server_process_ids: vec![flags.server_pid],
        accepts_any_values: true,
        seed: 1,
    }
}

/// Writes with so many feeds on the table, and prints what came of it; the writers' p50 and p99 in
/// milliseconds.
fn write(
    flags: &Flags,
    feed_count: usize,
    received: &Mutex<Received>,
) -> Result<(f64, f64), ClientError> {
    lock(received).begin();
    let before = ProcessorTime::of(flags.server_pid)?;
    let began = Instant::now();
    let report = run(&plan(flags, Workload::Write))?;
    let wanted = report.answered * feed_count as u64;
    wait_for(wanted, received);
    let busy = ProcessorTime::of(flags.server_pid)?.since(before).seconds();
    let received = lock(received);
    let seconds = (received.last - began).as_secs_f64().max(f64::MIN_POSITIVE);
    println!("{report}");
    let quantile = |q| received.latency_micros.value_at_quantile(q) as f64 / 1e3;
    println!(
        "{feed_count} feeds, {} writes: {} events of {wanted}, {:.0} events/s; node {busy:.2} s of \
         processor, {:.1} us an event; sent to answered: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        report.answered,
        received.events,
        received.events as f64 / seconds,
        busy * 1e6 / received.events.max(1) as f64,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    let millis = |q| report.latencies.value_at_quantile(q) as f64 / 1e6;
    Ok((millis(0.5), millis(0.99)))
}

/// Writes by turns without feeds and with them.
fn write_in_pairs(
    flags: &Flags,
    client: &mut Client,
    sink: &str,
    received: &Mutex<Received>,
    pair_count: usize,
) -> Result<(), ClientError> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..pair_count.max(1) {
        without.push(write(flags, 0, received)?);
        create_feeds(flags, flags.feeds, sink, |_| ROWS.to_owned())?;
        with.push(write(flags, flags.feeds, received)?);
        drop_feeds(flags, client)?;
    }
    let told = |name: &str, runs: &[(f64, f64)]| {
        let p50 = Spread::of(runs.iter().map(|(p50, _)| *p50));
        let p99 = Spread::of(runs.iter().map(|(_, p99)| *p99));
        println!("writers, {name}: p50 {p50} ms, p99 {p99} ms");
    };
    told("without feeds", &without);
    told(&format!("with {}", flags.feeds), &with);
    let ratios = |of: fn(&(f64, f64)) -> f64| {
        Spread::of(without.iter().zip(&with).map(|(before, after)| of(after) / of(before)))
    };
    println!(
        "with to without, pair by pair: p50 {}, p99 {}",
        ratios(|run| run.0),
        ratios(|run| run.1)
    );
    Ok(())
}

/// Some figures of the same thing.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let (last, middle) = (figures.len().saturating_sub(1), figures.len() / 2);
        let median = if figures.len().is_multiple_of(2) {
            at(middle).midpoint(at(last - middle))
        } else {
            at(middle)
        };
        Spread { median, least: at(0), most: at(last), count: figures.len() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread { median, least, most, count } = self;
        write!(f, "{median:.2} ({least:.2} to {most:.2}, {count} runs)")
    }
}

/// Scans all rows, as often as is asked.
fn scan(
    flags: &Flags,
    client: &mut Client,
    sink: &str,
    received: &Mutex<Received>,
) -> Result<(), ClientError> {
    for turn in 0..flags.scan.unwrap_or(1) {
        lock(received).begin();
        let (began, before) = (Instant::now(), ProcessorTime::of(flags.server_pid)?);
        create_feed(
            client,
            turn,
            ROWS,
            sink,
            &format!("initial_scan = 'only', {}", flags.options),
        )?;
        wait_for(flags.keys, received);
        let busy = ProcessorTime::of(flags.server_pid)?.since(before).seconds();
        let received = lock(received);
        let seconds = (received.last - began).as_secs_f64().max(f64::MIN_POSITIVE);
        println!(
            "scan: {} rows of {} in {seconds:.2} s, {:.0} rows/s; node {busy:.2} s of processor, \
             {:.2} us a row",
            received.events,
            flags.keys,
            received.events as f64 / seconds,
            busy * 1e6 / received.events.max(1) as f64,
        );
    }
    Ok(())
}

/// A new keyspace with a table without feeds.
fn set_up(flags: &Flags, client: &mut Client) -> Result<(), ClientError> {
    set_up_keyspace(flags, client)?;
    // Writes without feeds are to be logged as they are with them.
    let cdc = flags.cdc.clone().or_else(|| flags.pairs.map(|_| IMAGES.to_owned()));
    let options = cdc.map(|cdc| format!("cdc = {cdc}")).unwrap_or_default();
    client.query(&create_table("feeds", ROWS, &options)).map(drop)
}

fn set_up_keyspace(flags: &Flags, client: &mut Client) -> Result<(), ClientError> {
    drop_feeds(flags, client)?;
    client.query("DROP KEYSPACE IF EXISTS feeds")?;
    let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
    client.query(&format!("CREATE KEYSPACE feeds WITH replication = {replication}")).map(drop)
}

/// Drops the feeds of this run, and those that another may have left.
fn drop_feeds(flags: &Flags, client: &mut Client) -> Result<(), ClientError> {
    for number in 0..flags.feeds.max(FEEDS_LEFT_MAX) {
        client.query(&format!("DROP CHANGEFEED IF EXISTS bench_{number}"))?;
    }
    Ok(())
}

/// Makes feeds on the tables of their numbers, several at a time: each statement waits until its feed
/// has begun.
fn create_feeds(
    flags: &Flags,
    feed_count: usize,
    sink: &str,
    table_of: impl Fn(usize) -> String + Sync,
) -> Result<(), ClientError> {
    let options = format!("flush_interval_ms = 5, {}", flags.options);
    let create = |first: usize| -> Result<(), ClientError> {
        let mut client = Client::connect(flags.address)?;
        for number in (first..feed_count).step_by(CREATORS) {
            create_feed(&mut client, number, &table_of(number), sink, &options)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let create = &create;
        let creators: Vec<_> =
            (0..CREATORS).map(|first| scope.spawn(move || create(first))).collect();
        for creator in creators {
            creator.join().map_err(|_| ClientError("a thread has panicked".to_owned()))??;
        }
        Ok::<_, ClientError>(())
    })
}

fn create_feed(
    client: &mut Client,
    number: usize,
    table: &str,
    sink: &str,
    options: &str,
) -> Result<(), ClientError> {
    let create = format!(
        "CREATE CHANGEFEED bench_{number} FOR TABLE feeds.{table} INTO {sink} WITH ({options})"
    );
    client.query(&create).map(drop)
}

/// Receives webhooks on threads of their own; at which address.
fn listen(received: &Arc<Mutex<Received>>) -> Result<SocketAddr, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let received = received.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let received = received.clone();
            std::thread::spawn(move || while_asked(stream, &received));
        }
    });
    Ok(address)
}

/// Answers the requests of one connection with 204, and notes what was in them.
fn while_asked(stream: TcpStream, received: &Mutex<Received>) {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut body = Vec::new();
    while acknowledge(&mut reader, &mut body).is_some() {
        note(&body, received);
    }
}

/// Reads a topic from its beginning, on a thread of its own.
fn consume(broker: &str, topic: &str, received: &Arc<Mutex<Received>>) -> Result<(), ClientError> {
    let failed = |error: rdkafka::error::KafkaError| ClientError(error.to_string());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("group.id", topic)
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "5")
        .create()
        .map_err(failed)?;
    let known = consumer.fetch_metadata(Some(topic), SILENCE_MAX).map_err(failed)?;
    let mut partitions = TopicPartitionList::new();
    for found in known.topics() {
        for partition in found.partitions() {
            let id = partition.id();
            partitions.add_partition_offset(topic, id, Offset::Beginning).map_err(failed)?;
        }
    }
    consumer.assign(&partitions).map_err(failed)?;
    let received = received.clone();
    std::thread::spawn(move || {
        loop {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                note(message.payload().unwrap_or_default(), &received);
            }
        }
    });
    Ok(())
}

/// Notes the events in a body.
fn note(body: &[u8], received: &Mutex<Received>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let times: Vec<i64> = times(body).collect();
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.last = Instant::now();
    received.events += times.len() as u64;
    for time in times {
        let waited = now.saturating_sub(time).max(0).unsigned_abs();
        received.latency_micros.record(waited).ok();
    }
}

/// The times of the events in a body, in microseconds since 1970.
fn times(body: &[u8]) -> impl Iterator<Item = i64> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = rest.windows(TIMESTAMP.len()).position(|window| window == TIMESTAMP)?;
        let text = rest.get(at + TIMESTAMP.len()..)?;
        rest = text.get(TIMESTAMP_BYTES..)?;
        micros(&text[..TIMESTAMP_BYTES])
    })
}

/// `2026-11-21T10:00:00.000001Z`
fn micros(text: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        std::str::from_utf8(text.get(range)?).ok()?.parse().ok()
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days since 1970, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + number(20..26)?)
}
