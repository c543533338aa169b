//! One test of real clients: all of them at work while the nemesis is, then healing, then the way back,
//! then the last reads, then the judges.

use super::follower::Follower;
use super::program::Program;
use super::rust_driver::RustDriver;
use super::shell::{self, Shell, Typed};
use super::{
    CLIENTS, HARNESS, JAVA, PYTHON, REGISTERS, RUST, SHELL, TABLES, View, event, nanos, peers,
};
use crate::checker::followed::{self, Change};
use crate::checker::{Verdict, linearizable, set};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::connection::{Connection, Failure};
use crate::history::{self, Event, Kind, Operation, Outcome};
use crate::nemesis::{self, Inflicted, Pace};
use crate::random::Random;
use crate::run::RunOptions;
use scylla::value::CqlTimeuuid;
use scylla_cdc::cdc_types::StreamID;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a client may take to be at work.
const START_TIME_MAX: Duration = Duration::from_mins(2);
/// How long a driver may take to find its way back, on a busy machine.
const SETTLE_TIME_MAX: Duration = Duration::from_mins(2);
/// How long is asked again for what must be known and was refused.
const PATIENCE: Duration = Duration::from_mins(1);
/// Reasons of failures that are told of each client.
const REASONS_MAX: usize = 5;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What came of a test.
#[derive(Debug)]
pub struct ClientsReport {
    /// The judges' word.
    pub verdict: Verdict,
    /// What became of each client's calls.
    pub figures: Vec<Figures>,
    /// How long after the healing each driver was back.
    pub settled: Vec<Settled>,
    /// Changes that scylla-cdc saw.
    pub followed_count: usize,
    /// The longest time that a statement typed into cqlsh took.
    pub longest_typed: Option<Duration>,
    /// What was inflicted.
    pub faults: Vec<Inflicted>,
    /// All of it.
    pub history: Vec<Event>,
}

/// What became of a client's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Which client.
    pub name: &'static str,
    /// Done.
    pub ok_count: usize,
    /// Surely not done.
    pub fail_count: usize,
    /// Perhaps done.
    pub unknown_count: usize,
    /// The first few reasons of the last two.
    pub reasons: Vec<String>,
}

/// A driver that knows all nodes again, and is answered by each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub name: &'static str,
    /// Since the healing.
    pub after: Duration,
}

impl fmt::Display for ClientsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verdict)?;
        for Figures { name, ok_count, fail_count, unknown_count, reasons } in &self.figures {
            writeln!(
                f,
                "{name}: {ok_count} calls done, {fail_count} refused, {unknown_count} unknown"
            )?;
            for reason in reasons {
                writeln!(f, "    {reason:.200}")?;
            }
        }
        for Settled { name, after } in &self.settled {
            writeln!(f, "{name}: back {} ms after the healing", after.as_millis())?;
        }
        if let Some(longest) = self.longest_typed {
            writeln!(f, "cqlsh: {} ms for the slowest statement", longest.as_millis())?;
        }
        write!(f, "scylla-cdc: {} changes; {} faults", self.followed_count, self.faults.len())
    }
}

/// The clients at work.
struct Clients {
    python: Option<&'static peers::Python>,
    programs: Vec<(&'static str, Program)>,
    rust: RustDriver,
    shell: Option<Shell>,
    follower: Follower,
}

/// Runs a test, on this thread. Clients that cannot be had here are left out, visibly.
pub async fn run(options: &RunOptions) -> io::Result<ClientsReport> {
    let (python, java) = (peers::python(), peers::java());
    let cluster = Cluster::start(options.cluster.clone(), options.spare_count()).await?;
    let began = nanos();
    let mut history = create(&cluster, options.replication_factor).await?;
    let folder = &options.cluster.folder;
    let mut clients = Clients::start(&cluster, folder, python, java).await?;

    let (cluster, rests) = (RefCell::new(cluster), Cell::new(false));
    let copies_at = cluster.borrow().address(1);
    let faults = async {
        let now = Instant::now();
        let (pace, random) = (Pace::of(options.cluster.node_count), Random::new(options.seed));
        let span = (now, now + options.duration);
        let faults = nemesis::torment(&cluster, &options.faults, pace, random, span).await;
        rests.set(true);
        faults
    };
    let load = clients.work(folder, (copies_at, options.duration), &rests);
    let (faults, copied) = futures::future::join(faults, load).await;
    let faults = faults?;
    history.extend(copied?);
    let mut cluster = cluster.into_inner();
    cluster.heal()?;
    cluster.wait_until_all_answer().await?;
    let (settled, mut verdict) = clients.settle(&cluster).await?;
    history.extend(read_last(&cluster, python, folder).await?);
    let (events, typed, seen) = clients.end().await?;
    history.extend(events);
    let longest_typed = typed.as_ref().map(|typed| typed.longest);
    if let Some(Typed { events, wrong, .. }) = typed {
        history.extend(events);
        verdict = verdict.and(wrong.map_or(Verdict::Valid, Verdict::Invalid));
    }
    let logged = patiently(async || logged(&cluster).await).await?;
    let rows = patiently(async || rows(&cluster).await).await?;
    verdict = verdict.and(followed::check(&logged, &seen, &rows));

    history.sort_by_key(|event| event.nanos);
    for event in &mut history {
        event.nanos = event.nanos.saturating_sub(began);
    }
    Ok(ClientsReport {
        verdict: verdict.and(judge(&history)?),
        figures: figures(&history)?,
        settled,
        followed_count: seen.len(),
        longest_typed,
        faults,
        history,
    })
}

/// The verdict on a history alone.
pub fn judge(history: &[Event]) -> io::Result<Verdict> {
    let calls = history::calls(history).map_err(io::Error::other)?;
    Ok(set::check(&calls).and(linearizable::check(&calls)))
}

fn figures(history: &[Event]) -> io::Result<Vec<Figures>> {
    let none = |(_, name): &(u32, &'static str)| Figures {
        name,
        ok_count: 0,
        fail_count: 0,
        unknown_count: 0,
        reasons: Vec::new(),
    };
    let mut figures: Vec<Figures> = CLIENTS.iter().map(none).collect();
    let client_of = |process| CLIENTS.partition_point(|(first, _)| *first <= process) - 1;
    for call in history::calls(history).map_err(io::Error::other)? {
        let figures = &mut figures[client_of(call.process)];
        match call.outcome {
            Outcome::Ok { .. } => figures.ok_count += 1,
            Outcome::Failed => figures.fail_count += 1,
            Outcome::Unknown => figures.unknown_count += 1,
        }
    }
    for event in history {
        let reasons = &mut figures[client_of(event.process)].reasons;
        if let Some(error) = &event.error
            && reasons.len() < REASONS_MAX
            && !reasons.contains(error)
        {
            reasons.push(error.clone());
        }
    }
    figures.retain(|it| it.ok_count + it.fail_count + it.unknown_count > 0);
    Ok(figures)
}

impl Clients {
    async fn start(
        cluster: &Cluster,
        folder: &Path,
        python: Option<&'static peers::Python>,
        java: Option<&'static peers::Java>,
    ) -> io::Result<Clients> {
        let addresses: Vec<SocketAddr> = member_addresses(cluster);
        // First, so that it misses nothing.
        let follower = patiently(async || Follower::start(&addresses).await).await?;
        let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let source = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
        let mut programs = Vec::new();
        let mut start = |name, mut command: std::process::Command, file: &str, first_process| {
            command.arg(source(file));
            let (port, log) = (addresses[0].port(), folder.join(file).with_extension("log"));
            let program = Program::start(command, port, first_process, &ips, &log)?;
            programs.push((name, program));
            io::Result::Ok(())
        };
        if let Some(python) = python {
            start("Python driver", python.interpreter(), "client.py", PYTHON)?;
        }
        if let Some(java) = java {
            start("Java driver", java.launcher(), "Client.java", JAVA)?;
        }
        let rust = patiently(async || RustDriver::connect(&addresses).await).await?;
        let shell = match python {
            Some(python) => Some(Shell::start(python, folder, addresses[0], SHELL).await?),
            None => None,
        };
        let mut clients = Clients { python, programs, rust, shell, follower };
        clients.wait_until_at_work().await?;
        Ok(clients)
    }

    async fn wait_until_at_work(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        for (name, program) in &mut self.programs {
            while program.view()?.is_none() {
                if Instant::now() > deadline {
                    return Err(io::Error::other(format!("{name} does not begin")));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Works until it is to rest. Returns what COPY has written meanwhile.
    async fn work(
        &mut self,
        folder: &Path,
        (copies_at, copies_for): (SocketAddr, Duration),
        rests: &Cell<bool>,
    ) -> io::Result<Vec<Event>> {
        let copying = self.python.map(|python| {
            let folder = folder.to_path_buf();
            tokio::task::spawn_blocking(move || {
                shell::copy_in(python, &folder, copies_at, copies_for)
            })
        });
        let shell = async {
            match &mut self.shell {
                Some(shell) => shell.work(rests).await,
                None => Ok(()),
            }
        };
        let ((), typed) = futures::future::join(self.rust.work(RUST, rests), shell).await;
        typed?;
        for (_, program) in &mut self.programs {
            program.rest();
        }
        match copying {
            Some(copying) => copying.await.map_err(io::Error::other)?,
            None => Ok(Vec::new()),
        }
    }

    /// Returns when each driver knows the nodes that there are, and each of them answers it; or else
    /// what is wrong after [`SETTLE_TIME_MAX`].
    async fn settle(&mut self, cluster: &Cluster) -> io::Result<(Vec<Settled>, Verdict)> {
        let members: BTreeSet<IpAddr> = ips_told_by_all(cluster).await?;
        let (healed, began) = (nanos(), Instant::now());
        let (mut settled, mut lost) = (Vec::new(), Vec::new());
        let mut open: Vec<&'static str> = self.programs.iter().map(|(name, _)| *name).collect();
        open.push("Rust driver");
        open.extend(self.shell.as_ref().map(|_| "cqlsh"));
        while !open.is_empty() {
            let mut still_open = Vec::new();
            for name in open {
                let view = self.view(name, &members).await?;
                if view.nanos >= healed && view.is_of(&members) {
                    settled.push(Settled { name, after: began.elapsed() });
                } else if began.elapsed() > SETTLE_TIME_MAX {
                    let View { known, answered, .. } = view;
                    lost.push(format!(
                        "{SETTLE_TIME_MAX:?} after the healing {name} knows {known:?}, of which \
                         {answered:?} answer; there are {members:?}"
                    ));
                } else {
                    still_open.push(name);
                }
            }
            open = still_open;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let verdict =
            if lost.is_empty() { Verdict::Valid } else { Verdict::Invalid(lost.join("; ")) };
        Ok((settled, verdict))
    }

    /// A client's view. cqlsh knows one node: if that answers, its view is all there is to see.
    async fn view(&mut self, name: &str, members: &BTreeSet<IpAddr>) -> io::Result<View> {
        if let Some((_, program)) = self.programs.iter_mut().find(|(it, _)| *it == name) {
            return Ok(program.view()?.unwrap_or_default());
        }
        match &mut self.shell {
            Some(shell) if name == "cqlsh" => {
                let nanos = nanos();
                let answered =
                    if shell.answers().await? { members.clone() } else { BTreeSet::new() };
                Ok(View { nanos, known: members.clone(), answered })
            }
            _ => Ok(self.rust.view().await),
        }
    }

    async fn end(self) -> io::Result<(Vec<Event>, Option<Typed>, Vec<Change>)> {
        let mut events = self.rust.end();
        for (_, program) in self.programs {
            events.extend(program.end()?);
        }
        Ok((events, self.shell.map(Shell::end), self.follower.end().await?))
    }
}

fn member_addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.members().into_iter().map(|node| cluster.address(node)).collect()
}

/// The nodes, of which each must name all in `system.local` and `system.peers`.
async fn ips_told_by_all(cluster: &Cluster) -> io::Result<BTreeSet<IpAddr>> {
    let members: BTreeSet<IpAddr> = member_addresses(cluster).iter().map(SocketAddr::ip).collect();
    let deadline = Instant::now() + PATIENCE;
    for node in cluster.members() {
        loop {
            let told = ips_told_by(cluster, node).await;
            match &told {
                Ok(told) if *told == members => break,
                _ if Instant::now() > deadline => {
                    let text = format!("names {told:?} as nodes, and there are {members:?}");
                    return Err(cluster.complaint(node, &text));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
    Ok(members)
}

async fn ips_told_by(cluster: &Cluster, node: usize) -> io::Result<BTreeSet<IpAddr>> {
    let client = connect(cluster, node).await?;
    let mut told = BTreeSet::new();
    for text in ["SELECT rpc_address FROM system.local", "SELECT rpc_address FROM system.peers"] {
        let rows: Vec<(IpAddr,)> = client.rows(text).await.map_err(failed)?;
        told.extend(rows.into_iter().map(|(ip,)| ip));
    }
    Ok(told)
}

/// Keyspace and tables, and the registers at 0.
async fn create(cluster: &Cluster, replication_factor: u8) -> io::Result<Vec<Event>> {
    let keyspace = format!(
        "CREATE KEYSPACE IF NOT EXISTS jepsen WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
    );
    for text in std::iter::once(keyspace.as_str()).chain(TABLES.iter().copied()) {
        patiently(async || connect(cluster, 0).await?.define(text).await.map_err(failed)).await?;
    }
    // Nobody knows of them yet, so each is one write however often it is done.
    patiently(async || {
        let mut client = connect(cluster, 0).await?;
        for key in 0..REGISTERS {
            let insert = "INSERT INTO jepsen.registers (k, v) VALUES (?, 0)";
            client.execute(insert, &[key.into()]).await.map_err(failed)?;
        }
        Ok(())
    })
    .await?;
    let zeros = (0..REGISTERS).map(|key| Operation::Write { key, value: 0 });
    let note = |write: Operation| {
        [Kind::Invoke, Kind::Ok].map(|kind| event(HARNESS, kind, write.clone(), None))
    };
    Ok(zeros.flat_map(note).collect())
}

/// The rows, as read by a client of ours and as copied out by cqlsh, and all registers.
async fn read_last(
    cluster: &Cluster,
    python: Option<&'static peers::Python>,
    folder: &Path,
) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut note = |kind, operation| events.push(event(HARNESS, kind, operation, None));
    note(Kind::Invoke, Operation::ReadSet { values: Vec::new() });
    let values = patiently(async || rows(cluster).await).await?.into_iter().collect();
    note(Kind::Ok, Operation::ReadSet { values });
    if let Some(python) = python {
        note(Kind::Invoke, Operation::ReadSet { values: Vec::new() });
        let copied =
            patiently(async || shell::copy_out(python, folder, cluster.address(0))).await?;
        note(Kind::Ok, Operation::ReadSet { values: copied.into_iter().collect() });
    }
    let client = patiently(async || connect(cluster, 0).await).await?;
    for key in 0..REGISTERS {
        note(Kind::Invoke, Operation::Read { key, value: None });
        let value = patiently(async || register(&client, key).await).await?;
        note(Kind::Ok, Operation::Read { key, value });
    }
    Ok(events)
}

async fn register(client: &Client, key: i64) -> io::Result<Option<i64>> {
    let text = format!("SELECT v FROM jepsen.registers WHERE k = {key}");
    let rows: Vec<(i64,)> = client.rows(&text).await.map_err(failed)?;
    Ok(rows.first().map(|(value,)| *value))
}

async fn rows(cluster: &Cluster) -> io::Result<BTreeSet<i64>> {
    let client = connect(cluster, 0).await?;
    let rows: Vec<(i64,)> = client.rows("SELECT v FROM jepsen.elements").await.map_err(failed)?;
    Ok(rows.into_iter().map(|(value,)| value).collect())
}

/// The log, in its own order.
async fn logged(cluster: &Cluster) -> io::Result<Vec<Change>> {
    let text = "SELECT \"cdc$stream_id\", \"cdc$time\", \"cdc$batch_seq_no\", v \
                FROM jepsen.elements_scylla_cdc_log";
    let client = connect(cluster, 0).await?;
    let rows: Vec<(Vec<u8>, CqlTimeuuid, i32, i64)> = client.rows(text).await.map_err(failed)?;
    let change = |(stream, time, sequence, value): (Vec<u8>, CqlTimeuuid, i32, i64)| Change {
        stream: StreamID::new(stream).to_string(),
        time: time.as_ref().as_u128(),
        sequence,
        value,
    };
    Ok(rows.into_iter().map(change).collect())
}

/// Asks until it is told, or for [`PATIENCE`].
async fn patiently<T>(ask: impl AsyncFn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
            told => return told,
        }
    }
}

async fn connect(cluster: &Cluster, node: usize) -> io::Result<Client> {
    Client::connect(cluster.address(node)).await.map_err(io::Error::other)
}

#[expect(clippy::needless_pass_by_value, reason = "it serves as a function for `map_err`")]
fn failed(failure: Failure) -> io::Error {
    io::Error::other(format!("{failure:?}"))
}
