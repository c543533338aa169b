//! Feeds whose receiver hangs: it takes whatever is sent, and never answers.
//!
//! By turns writers write to some tables without feeds and with all feeds on them, as fast as they are
//! answered or at a rate. Printed are the rows a second and the writers' latency, the most that the
//! node's process had in memory meanwhile, and the ratios pair by pair.

use super::{Flags, IMAGES, Spread, create_feeds, drop_feeds, plan, set_up_keyspace};
use benches::client::{Client, ClientError};
use benches::dataset::create_table;
use benches::load::{Plan, Workload, run};
use benches::process::memory_bytes;
use benches::report::Report;
use hdrhistogram::Histogram;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the node's memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What writers and memory came to in one turn.
struct Turn {
    writes_per_second: f64,
    p50_millis: f64,
    p99_millis: f64,
    resident_mebibytes: f64,
}

/// Writes in pairs of turns, without and with so many feeds that are stuck.
pub(super) fn measure(flags: &Flags, feed_count: usize) -> Result<(), ClientError> {
    if flags.tables == 0 {
        return Err(ClientError("there is nothing to write to".to_owned()));
    }
    let mut client = Client::connect(flags.address)?;
    set_up_keyspace(flags, &mut client)?;
    for number in 0..flags.tables {
        let options = format!("cdc = {IMAGES}");
        client.query(&create_table("feeds", &table(number), &options))?;
    }
    let sink = format!("WEBHOOK 'http://{}/'", hang()?);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..flags.pairs.unwrap_or(1).max(1) {
        without.push(write(flags, "no feeds")?);
        create_feeds(flags, feed_count, &sink, |number| table(number % flags.tables))?;
        with.push(write(flags, &format!("{feed_count} stuck feeds"))?);
        drop_feeds(flags, &mut client)?;
    }
    let ratio = |name: &str, of: fn(&Turn) -> f64| {
        let ratios = without.iter().zip(&with).map(|(before, after)| of(after) / of(before));
        println!("{name}, with to without: {}", Spread::of(ratios));
    };
    ratio("writes a second", |turn| turn.writes_per_second);
    ratio("p50", |turn| turn.p50_millis);
    ratio("p99", |turn| turn.p99_millis);
    Ok(())
}

fn table(number: usize) -> String {
    format!("rows_{number}")
}

/// Writes to all tables at once.
fn write(flags: &Flags, name: &str) -> Result<Turn, ClientError> {
    let plans: Vec<Plan> = (0..flags.tables).map(|number| plan_of(flags, number)).collect();
    let has_ended = AtomicBool::new(false);
    let failed = |_| ClientError("a thread has panicked".to_owned());
    let (reports, most_bytes) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(flags.server_pid, &has_ended));
        let writers: Vec<_> = plans.iter().map(|plan| scope.spawn(move || run(plan))).collect();
        let reports: Result<Vec<Report>, ClientError> =
            writers.into_iter().map(|writer| writer.join().map_err(failed)?).collect();
        has_ended.store(true, Ordering::Relaxed);
        Ok::<_, ClientError>((reports?, looking.join().map_err(failed)??))
    })?;
    let answered: u64 = reports.iter().map(|report| report.answered).sum();
    let other = |error: &dyn std::error::Error| ClientError(error.to_string());
    let mut latencies = Histogram::<u64>::new(3).map_err(|error| other(&error))?;
    for report in &reports {
        latencies.add(&report.latencies).map_err(|error| other(&error))?;
    }
    let millis = |q| latencies.value_at_quantile(q) as f64 / 1e6;
    let turn = Turn {
        writes_per_second: answered as f64 / flags.seconds,
        p50_millis: millis(0.5),
        p99_millis: millis(0.99),
        resident_mebibytes: most_bytes as f64 / f64::from(1 << 20),
    };
    let Turn { writes_per_second, p50_millis, p99_millis, resident_mebibytes } = &turn;
    println!(
        "{name}: {writes_per_second:.0} writes/s, p50 {p50_millis:.2} ms, p99 {p99_millis:.2} ms; \
         the node's memory: {resident_mebibytes:.0} MiB at most"
    );
    Ok(turn)
}

/// One table's part of all that is written.
fn plan_of(flags: &Flags, number: usize) -> Plan {
    let all = plan(flags, Workload::Write);
    Plan {
        table: table(number),
        connection_count: (all.connection_count / flags.tables).max(1),
        rate: all.rate.map(|rate| rate / flags.tables as f64),
        ..all
    }
}

/// The most that a process has in memory until the writers have ended.
fn look(process_id: u32, has_ended: &AtomicBool) -> io::Result<u64> {
    let mut most = 0;
    while !has_ended.load(Ordering::Relaxed) {
        most = most.max(memory_bytes(process_id, "VmRSS")?);
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(most)
}

/// Takes connections and whatever comes over them, on threads of their own, and says nothing; at which
/// address.
fn hang() -> Result<SocketAddr, ClientError> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
        }
    });
    Ok(address)
}
