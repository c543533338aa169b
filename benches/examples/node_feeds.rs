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

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]
#![expect(clippy::disallowed_methods, reason = "a measuring program stands outside of the node")]

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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long it is waited for events when none come.
const SILENCE_MAX: Duration = Duration::from_secs(10);
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
    let latency_micros = Histogram::new(3).map_err(|error| ClientError(error.to_string()))?;
    let received = Received { events: 0, latency_micros, last: Instant::now() };
    let received = Arc::new(Mutex::new(received));
    let topic = format!("feeds-{}", std::process::id());
    let sink = match &flags.kafka {
        Some(broker) => format!("KAFKA '{broker}/{topic}'"),
        None => format!("WEBHOOK 'http://{}/'", listen(&received)?),
    };
    let mut client = Client::connect(flags.address)?;
    set_up(flags, &mut client, &sink)?;
    if let Some(broker) = &flags.kafka {
        consume(broker, &topic, &received)?;
    }
    let plan = Plan {
        addresses: vec![flags.address],
        is_routed: false,
        consistency: Consistency::One,
        keyspace: "feeds".to_owned(),
        table: "rows".to_owned(),
        workload: Workload::Write,
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
    };
    let before = ProcessorTime::of(flags.server_pid)?;
    let began = Instant::now();
    let report = run(&plan)?;
    let wanted = report.answered * flags.feeds as u64;
    let lock = || received.lock().unwrap_or_else(PoisonError::into_inner);
    while lock().events < wanted && lock().last.elapsed() < SILENCE_MAX {
        std::thread::sleep(Duration::from_millis(20));
    }
    let busy = ProcessorTime::of(flags.server_pid)?.since(before).seconds();
    let received = lock();
    let seconds = (received.last - began).as_secs_f64().max(f64::MIN_POSITIVE);
    println!("{report}");
    let quantile = |q| received.latency_micros.value_at_quantile(q) as f64 / 1e3;
    println!(
        "{} feeds, {} writes: {} events of {wanted}, {:.0} events/s; node {busy:.2} s of processor, \
         {:.1} us an event; sent to answered: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        flags.feeds,
        report.answered,
        received.events,
        received.events as f64 / seconds,
        busy * 1e6 / received.events.max(1) as f64,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    Ok(())
}

/// A new table with feeds on it.
fn set_up(flags: &Flags, client: &mut Client, sink: &str) -> Result<(), ClientError> {
    for number in 0..1_000 {
        client.query(&format!("DROP CHANGEFEED IF EXISTS bench_{number}"))?;
        if number > flags.feeds && number > 200 {
            break;
        }
    }
    client.query("DROP KEYSPACE IF EXISTS feeds")?;
    client.query(
        "CREATE KEYSPACE feeds WITH replication = {'class': 'SimpleStrategy', \
         'replication_factor': 1}",
    )?;
    let options = flags.cdc.as_ref().map(|cdc| format!("cdc = {cdc}")).unwrap_or_default();
    client.query(&create_table("feeds", "rows", &options))?;
    // Each statement waits until its feed has begun.
    let create = |first: usize| -> Result<(), ClientError> {
        let mut client = Client::connect(flags.address)?;
        for number in (first..flags.feeds).step_by(CREATORS) {
            client.query(&format!(
                "CREATE CHANGEFEED bench_{number} FOR TABLE feeds.rows INTO {sink} WITH \
                 (flush_interval_ms = 5, {})",
                flags.options
            ))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let creators: Vec<_> =
            (0..CREATORS).map(|first| scope.spawn(move || create(first))).collect();
        for creator in creators {
            creator.join().map_err(|_| ClientError("a thread has panicked".to_owned()))??;
        }
        Ok::<_, ClientError>(())
    })?;
    Ok(())
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
