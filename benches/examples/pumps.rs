//! What changefeeds cost beside the node: from log rows in memory, through events and the pump, to
//! the acknowledgement of a real receiver.
//!
//! All feeds read one log and run on one thread, as in a node. The log gets changes of rows of about
//! 300 bytes at a steady rate, or as fast as they are taken (`--rate 0`), and is closed behind them
//! at once. Printed are the time from there to the acknowledgement, events per second over all
//! feeds, and the processor time of this process for an event, the receiver's own thread left out.
//!
//! ```text
//! cargo run --release -p benches --example pumps -- webhook
//! cargo run --release -p benches --example pumps -- kafka:127.0.0.1:9092/feeds --feeds 10 --rate 5000
//! ```
//!
//! The receiver of webhooks is a thread of this program that answers every request with 204.

#![expect(clippy::print_stdout, reason = "a program for the command line")]
#![expect(clippy::disallowed_methods, reason = "a measuring program stands outside of the node")]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::BufReader;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::process::ProcessorTime;
use benches::receiver::acknowledge;
use bytes::Bytes;
use cdc::time_uuid::log_time_uuid;
use changefeed::memory::FeedMemory;
use changefeed::options::{Given, OptionValue, SinkAddress, SinkKind, parse};
use changefeed::pump::{Backoff, End, Host, Pace, Pump, Status, Stop};
use changefeed::sequence::Sequencer;
use changefeed::sink::kafka::{self, KafkaSink};
use changefeed::sink::webhook::{self, AddressPolicy, Target, Tls, WebhookSink};
use changefeed::sink::{Sink, SinkError};
use changefeed::source::{Batch, LogRow, Operation, Source, SourceError, TableShape};
use changefeed::{BoundTable, FeedRender, Options, SharedMessages};
use clap::Parser;
use env::Env;
use hdrhistogram::Histogram;
use model::codec::{put_slice, put_varint};
use model::schema::Partitioner;
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};
use tokio::sync::Notify;

/// Rows that are appended together when nothing limits the rate.
const RUN_LENGTH: usize = 500;
/// How many changes the log may be ahead of the slowest feed then.
const AHEAD_MAX: i64 = 20_000;
/// 2026-11-21, so that sequences have their usual length.
const FIRST_MICROS: i64 = 1_795_219_200_000_000;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    /// `webhook`, or `kafka:HOST:PORT/TOPIC`
    into: String,
    /// How many feeds read the log
    #[arg(long, default_value_t = 1)]
    feeds: usize,
    /// Changes in all
    #[arg(long, default_value_t = 100_000)]
    changes: u64,
    /// Changes a second; 0: as fast as they are taken
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// The feeds' option
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// The feeds' option
    #[arg(long, default_value_t = 5)]
    flush_interval_ms: u64,
}

/// `ks.orders (id int PRIMARY KEY, customer text, note text)`.
fn table() -> TableDef {
    let column = |id, name: &str, cql_type, kind| ColumnDef {
        id,
        name: name.into(),
        cql_type,
        kind,
        descending: false,
    };
    TableDef {
        id: TableId(7),
        keyspace: "ks".into(),
        name: "orders".into(),
        columns: vec![
            column(0, "id", CqlType::Int, ColumnKind::PartitionKey(0)),
            column(1, "customer", CqlType::Text, ColumnKind::Regular),
            column(2, "note", CqlType::Text, ColumnKind::Regular),
        ],
        dropped_columns: Vec::new(),
        next_column_id: 3,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(TableId(8)),
        options: TableOptions::default(),
    }
}

/// The log rows of one UPDATE: what was set, and the row before and after.
fn change(log: &TableDef, number: u64) -> Fallible<Vec<LogRow>> {
    let note = "x".repeat(200);
    let id = ((number % 10_000) as i32).to_be_bytes();
    let mut cells: Vec<_> =
        [("id", &id[..]), ("customer", b"Ada Lovelace"), ("note", note.as_bytes())]
            .iter()
            .filter_map(|(name, value)| Some((log.column(name)?.id, *value)))
            .collect();
    cells.sort_unstable();
    let mut encoded_cells = Vec::new();
    for (column, value) in cells {
        put_varint(&mut encoded_cells, u64::from(column));
        put_slice(&mut encoded_cells, value);
    }
    let mut rows = Vec::new();
    let operations = [Operation::Preimage, Operation::Update, Operation::Postimage];
    for (batch_seq_no, operation) in operations.into_iter().enumerate() {
        rows.extend_from_slice(&log_time_uuid(FIRST_MICROS + number as i64, number));
        rows.extend_from_slice(&7_u128.to_be_bytes());
        rows.extend_from_slice(&[1; 16]);
        rows.extend_from_slice(&(batch_seq_no as i32).to_be_bytes());
        rows.push(operation as u8);
        rows.push(u8::from(operation == Operation::Postimage));
        put_varint(&mut rows, 0);
        put_slice(&mut rows, &encoded_cells);
    }
    LogRow::decode_all(&Bytes::from(rows)).map_err(|error| error.0.into())
}

/// The tail of the log, which all feeds share.
#[derive(Default)]
struct Tail {
    batches: RefCell<Vec<Batch>>,
    added: Notify,
}

/// One feed's place in it.
struct Reader {
    tail: Rc<Tail>,
    next: usize,
}

impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            let added = self.tail.added.notified();
            if let Some(batch) = self.tail.batches.borrow().get(self.next) {
                self.next += 1;
                return Ok(batch.clone());
            }
            added.await;
        }
    }
}

/// What all feeds tell together.
struct Measured {
    began: Instant,
    /// When each change was closed, from the oldest that some feed may not have delivered.
    closed_at: VecDeque<(i64, Instant)>,
    latency_micros: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

/// One feed's view of it.
struct Feed {
    measured: Rc<RefCell<Measured>>,
    /// The time of the last change that was delivered.
    delivered: Rc<RefCell<i64>>,
}

impl Host for Feed {
    fn may_send(&self) -> bool {
        true
    }

    fn report(&self, status: &Status) {
        let mut measured = self.measured.borrow_mut();
        if let Some(error) = &status.last_error {
            *measured.errors.entry(error.clone()).or_default() += 1;
        }
        let Some(position) = status.position else { return };
        let now = Instant::now();
        let mut delivered = self.delivered.borrow_mut();
        let first = measured.closed_at.partition_point(|(micros, _)| *micros <= *delivered);
        let end =
            measured.closed_at.partition_point(|(micros, _)| *micros <= position.key.micros());
        *delivered = position.key.micros();
        for index in first..end {
            let waited = now - measured.closed_at[index].1;
            measured.latency_micros.record(waited.as_micros() as u64).ok();
        }
    }
}

/// Answers every request on every connection with 204; adds up its threads' processor time.
fn receive(listener: &TcpListener, busy_nanos: &Arc<AtomicU64>) {
    for stream in listener.incoming().flatten() {
        let busy_nanos = Arc::clone(busy_nanos);
        std::thread::spawn(move || {
            let mut before = thread_nanos();
            let (mut reader, mut body) = (BufReader::new(stream), Vec::new());
            while acknowledge(&mut reader, &mut body).is_some() {
                let now = thread_nanos();
                busy_nanos.fetch_add(now - before, Ordering::Relaxed);
                before = now;
            }
        });
    }
}

/// Processor time of this thread.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Where feeds go: the address of a topic, or of the receiver in this program.
fn address(into: &str, busy_nanos: &Arc<AtomicU64>) -> Fallible<SinkAddress> {
    if let Some(topic) = into.strip_prefix("kafka:") {
        return Ok(SinkAddress::parse(SinkKind::Kafka, topic)?);
    }
    if into != "webhook" {
        return Err("the first argument is webhook, or kafka:HOST:PORT/TOPIC".into());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    let busy_nanos = Arc::clone(busy_nanos);
    std::thread::spawn(move || receive(&listener, &busy_nanos));
    Ok(SinkAddress::parse(SinkKind::Webhook, &url)?)
}

fn sink(env: &Env, tls: &Tls, address: &SinkAddress) -> Result<Box<dyn Sink>, SinkError> {
    let timeout = Duration::from_secs(10);
    match address {
        SinkAddress::Kafka { brokers, topic } => {
            let settings = kafka::Settings {
                brokers: brokers.clone(),
                topic: topic.clone(),
                timeout,
                max_message_bytes: 1_000_000,
                passed_on: BTreeMap::new(),
                transactions: None,
            };
            Ok(Box::new(KafkaSink::new(env, settings)))
        }
        SinkAddress::Webhook { url } => {
            let policy = AddressPolicy { allow_http: true, allow_private: true };
            let settings = webhook::Settings {
                feed: "feed".to_owned(),
                target: Target::parse(url, policy).map_err(SinkError::permanent)?,
                policy,
                secret: None,
                headers: webhook::headers([]).map_err(SinkError::permanent)?,
                content_type: "application/json",
                timeout,
            };
            Ok(Box::new(WebhookSink::new(env, tls, settings)))
        }
    }
}

/// Appends changes, at the rate or as fast as the slowest feed takes them, and waits until all were
/// delivered. A batch of the log has the changes of one step.
async fn append(
    arguments: &Arguments,
    changes: &[Vec<LogRow>],
    tail: &Tail,
    measured: &RefCell<Measured>,
    delivered: &[Rc<RefCell<i64>>],
) {
    let began = Instant::now();
    let slowest = || delivered.iter().map(|micros| *micros.borrow()).min().unwrap_or(0);
    let step = if arguments.rate == 0 { RUN_LENGTH } else { 1 };
    let mut count = 0;
    for run in changes.chunks(step) {
        count += run.len();
        let closed = run.last().and_then(|rows| rows.last()).map_or(0, |row| row.key.micros());
        let now = Instant::now();
        let times = run.iter().map(|rows| (rows[0].key.micros(), now));
        measured.borrow_mut().closed_at.extend(times);
        tail.batches.borrow_mut().push(Batch { rows: run.concat().into(), closed });
        tail.added.notify_waiters();
        if arguments.rate > 0 {
            let due = began + Duration::from_secs_f64(count as f64 / arguments.rate as f64);
            tokio::time::sleep_until(due.into()).await;
        } else {
            while closed - slowest().max(FIRST_MICROS) > AHEAD_MAX {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    while slowest() < FIRST_MICROS + changes.len() as i64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn run(arguments: Arguments) -> Fallible<()> {
    let env = Env::real();
    let tls = Tls::new(&env.clock, &[])?;
    let busy_nanos = Arc::new(AtomicU64::new(0));
    let address = address(&arguments.into, &busy_nanos)?;
    let given = Given::from([(
        "batch_size".to_owned(),
        OptionValue::Text(arguments.batch_size.to_string()),
    )]);
    let options: Options = parse(address.kind(), &given)?;
    let definition = cdc::new_log_table(&table(), TableId(8))?;
    let shape = TableShape::new(&table(), &definition)?;
    let feed_table = Arc::new(BoundTable { shape, filter: None });
    let numbers = 1..=arguments.changes;
    let changes =
        numbers.map(|number| change(&definition, number)).collect::<Fallible<Vec<_>>>()?;
    let tail = Rc::new(Tail::default());
    let measured = Rc::new(RefCell::new(Measured {
        began: Instant::now(),
        closed_at: VecDeque::new(),
        latency_micros: Histogram::new(3)?,
        errors: BTreeMap::new(),
    }));
    let messages = SharedMessages::new(FeedMemory::ample());
    let stop = Stop::default();
    let mut delivered = Vec::new();
    let mut pumps = Vec::new();
    for number in 0..arguments.feeds {
        let last = Rc::new(RefCell::new(0));
        let feed_table = Arc::clone(&feed_table);
        let (sequencer, _) = Sequencer::start(FIRST_MICROS);
        let find = move |_| Some(Arc::clone(&feed_table));
        let pump = Pump {
            source: Reader { tail: Rc::clone(&tail), next: 0 },
            scan: None,
            render: FeedRender::new("feed", &options, sequencer, find).sharing(&messages),
            sink: sink(&env, &tls, &address)?,
            host: Feed { measured: Rc::clone(&measured), delivered: Rc::clone(&last) },
            pace: Pace {
                batch_size: arguments.batch_size,
                flush_interval: Duration::from_millis(arguments.flush_interval_ms),
                mark_interval: None,
                retry_max: None,
                skips_too_large: false,
                skips_refused: false,
            },
            stop: stop.clone(),
            clock: env.clock.clone(),
            backoff: Backoff::new(env.entropy.generator(&format!("backoff {number}"))),
            memory: FeedMemory::ample(),
        };
        delivered.push(last);
        pumps.push(tokio::task::spawn_local(pump.run()));
    }
    let before = ProcessorTime::of_this_process()?;
    measured.borrow_mut().began = Instant::now();
    append(&arguments, &changes, &tail, &measured, &delivered).await;
    let seconds = measured.borrow().began.elapsed().as_secs_f64();
    let receiver_seconds = busy_nanos.load(Ordering::Relaxed) as f64 / 1e9;
    let busy = ProcessorTime::of_this_process()?.since(before).seconds() - receiver_seconds;
    stop.request();
    for pump in pumps {
        if let End::Failed(reason) = pump.await? {
            return Err(reason.into());
        }
    }
    print(&arguments, &measured.borrow(), seconds, busy);
    Ok(())
}

fn print(arguments: &Arguments, measured: &Measured, seconds: f64, busy_seconds: f64) {
    let events = (arguments.changes * arguments.feeds as u64) as f64;
    let quantile = |q| measured.latency_micros.value_at_quantile(q) as f64 / 1e3;
    println!(
        "{} feeds: {:.0} events/s, {:.1} us of processor an event; closed to acknowledged: p50 {:.1} ms, \
         p99 {:.1} ms, longest {:.1} ms",
        arguments.feeds,
        events / seconds,
        busy_seconds * 1e6 / events,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    for (error, count) in &measured.errors {
        println!("{count} times: {error}");
    }
}

fn main() -> Fallible<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(arguments))
}
