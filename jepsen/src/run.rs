//! One test, from an empty cluster to a verdict: load and faults together, then healing, then the
//! last reads, then the judge.

use crate::checker::Verdict;
use crate::client::{Client, Failure};
use crate::cluster::{Cluster, ClusterOptions};
use crate::history::{self, Event, Kind, Operation};
use crate::nemesis::{self, Fault, Inflicted, Pace};
use crate::random::Random;
use crate::workload::Workload;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a client rests after a call that did not end well.
const REST: Duration = Duration::from_millis(50);
/// Places for nodes that join, where some do.
const SPARES: usize = 2;
/// How long the last reads may be tried.
const LAST_READ_TIME_MAX: Duration = Duration::from_mins(1);

/// How a test is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The nodes.
    pub cluster: ClusterOptions,
    /// How many replicas the data has.
    pub replication_factor: u8,
    /// Clients at work, spread over the nodes.
    pub client_count: u32,
    /// What may happen to the nodes; nothing, if there is nothing.
    pub faults: Vec<Fault>,
    /// How long there is load.
    pub duration: Duration,
    /// What the choices follow from.
    pub seed: u64,
}

impl RunOptions {
    /// Places for nodes that join.
    pub fn spare_count(&self) -> usize {
        if self.faults.iter().any(|fault| fault.is_of_the_ring()) { SPARES } else { 0 }
    }

    /// In words.
    pub fn terms(&self) -> String {
        let names: Vec<String> = self.faults.iter().map(|fault| format!("{fault:?}")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        format!(
            "{} nodes, {} clients, {} seconds, faults {names}",
            self.cluster.node_count,
            self.client_count,
            self.duration.as_secs()
        )
    }
}

/// What came of a test.
#[derive(Debug)]
pub struct Report {
    /// The judge's word.
    pub verdict: Verdict,
    /// Calls that ended well, that failed, and whose end is not known.
    pub ok_count: usize,
    /// See above.
    pub fail_count: usize,
    /// See above.
    pub unknown_count: usize,
    /// What was inflicted.
    pub faults: Vec<Inflicted>,
    /// All of it.
    pub history: Vec<Event>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { verdict, ok_count, fail_count, unknown_count, faults, .. } = self;
        let fault_count = faults.len();
        write!(
            f,
            "{verdict} ({ok_count} calls done, {fail_count} refused, {unknown_count} unknown, \
             {fault_count} faults)"
        )
    }
}

/// What all clients write into.
struct Recorder {
    began: Instant,
    events: RefCell<Vec<Event>>,
}

impl Recorder {
    fn add(&self, process: u32, kind: Kind, operation: Operation, error: Option<String>) {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.events.borrow_mut().push(Event { nanos, process, kind, operation, error });
    }
}

/// Runs a test, on this thread.
pub async fn run<W: Workload>(mut workload: W, options: &RunOptions) -> io::Result<Report> {
    let mut cluster = options.cluster.clone();
    cluster.configuration += workload.configuration();
    let mut cluster = Cluster::start(cluster, options.spare_count()).await?;
    create_tables(&cluster, &workload, options.replication_factor).await?;
    if options.faults.contains(&Fault::Rollback) {
        cluster.set_aside().await?;
    }
    let recorder = Recorder { began: Instant::now(), events: RefCell::default() };
    let end = recorder.began + options.duration;
    let (cluster, shared) = (RefCell::new(cluster), RefCell::new(&mut workload));
    let clients = (0..options.client_count).map(|process| {
        // Those at the place of a spare work when there is a node.
        let node = process as usize % cluster.borrow().place_count();
        let address = cluster.borrow().address(node);
        let random = Random::new(options.seed ^ u64::from(process + 1) << 32);
        work(&shared, &recorder, address, process, random, end)
    });
    let pace = Pace::of(options.cluster.node_count);
    let (random, span) = (Random::new(options.seed), (recorder.began, end));
    let faults = nemesis::torment(&cluster, &options.faults, pace, random, span);
    let (faults, _) = futures::future::join(faults, futures::future::join_all(clients)).await;
    let faults = faults?;
    let mut cluster = cluster.into_inner();
    cluster.heal()?;
    cluster.wait_until_all_answer().await?;
    read_last(&cluster, &workload, &recorder, options.client_count).await?;
    judge(&workload, recorder.events.into_inner(), faults)
}

/// The verdict on a history.
pub fn judge<W: Workload>(
    workload: &W,
    history: Vec<Event>,
    faults: Vec<Inflicted>,
) -> io::Result<Report> {
    let calls = history::calls(&history).map_err(io::Error::other)?;
    let count = |kind| history.iter().filter(|event| event.kind == kind).count();
    let (ok_count, fail_count) = (count(Kind::Ok), count(Kind::Fail));
    Ok(Report {
        verdict: workload.check(&calls),
        ok_count,
        fail_count,
        unknown_count: calls.len() - ok_count - fail_count,
        faults,
        history,
    })
}

async fn create_tables<W: Workload>(
    cluster: &Cluster,
    workload: &W,
    replication_factor: u8,
) -> io::Result<()> {
    let client = Client::connect(cluster.address(0)).await.map_err(io::Error::other)?;
    let keyspace = format!(
        "CREATE KEYSPACE jepsen WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
    );
    for text in std::iter::once(keyspace.as_str()).chain(workload.tables().iter().copied()) {
        let created = client.query(text).await;
        created.map_err(|error| io::Error::other(format!("{text}: {error:?}")))?;
    }
    Ok(())
}

/// One client: asks until the end, and connects anew whenever something went wrong.
async fn work<W: Workload>(
    workload: &RefCell<&mut W>,
    recorder: &Recorder,
    address: SocketAddr,
    process: u32,
    mut random: Random,
    end: Instant,
) {
    while Instant::now() < end {
        if let Ok(client) = Client::connect(address).await {
            ask_until_failure(workload, recorder, &client, process, &mut random, end).await;
        }
        tokio::time::sleep(REST).await;
    }
}

async fn ask_until_failure<W: Workload>(
    workload: &RefCell<&mut W>,
    recorder: &Recorder,
    client: &Client,
    process: u32,
    random: &mut Random,
    end: Instant,
) {
    let Ok(prepared) = W::prepare(client).await else { return };
    while Instant::now() < end {
        let operation = workload.borrow_mut().next(random);
        recorder.add(process, Kind::Invoke, operation.clone(), None);
        match W::perform(client, &prepared, operation.clone()).await {
            Ok(told) => recorder.add(process, Kind::Ok, told, None),
            Err(failure) => return record(recorder, process, operation, failure),
        }
    }
}

fn record(recorder: &Recorder, process: u32, operation: Operation, failure: Failure) {
    match failure {
        Failure::Refused(error) => recorder.add(process, Kind::Fail, operation, Some(error)),
        Failure::Unknown(error) => recorder.add(process, Kind::Info, operation, Some(error)),
    }
}

/// Asks what must be known for the verdict, until it is told.
async fn read_last<W: Workload>(
    cluster: &Cluster,
    workload: &W,
    recorder: &Recorder,
    process: u32,
) -> io::Result<()> {
    let deadline = Instant::now() + LAST_READ_TIME_MAX;
    loop {
        let mut told = Vec::new();
        for operation in workload.last_reads() {
            let address = cluster.address(W::node_of(&operation));
            told.push(read_until_told::<W>(address, recorder, process, operation, deadline).await?);
        }
        if W::has_settled(&told) || Instant::now() > deadline {
            return Ok(());
        }
        tokio::time::sleep(REST).await;
    }
}

async fn read_until_told<W: Workload>(
    address: SocketAddr,
    recorder: &Recorder,
    process: u32,
    operation: Operation,
    deadline: Instant,
) -> io::Result<Operation> {
    loop {
        recorder.add(process, Kind::Invoke, operation.clone(), None);
        let told = async {
            let client = Client::connect(address).await.map_err(Failure::Refused)?;
            let prepared = W::prepare(&client).await?;
            W::perform(&client, &prepared, operation.clone()).await
        };
        match told.await {
            Ok(told) => {
                recorder.add(process, Kind::Ok, told.clone(), None);
                return Ok(told);
            }
            Err(failure) if Instant::now() > deadline => {
                return Err(io::Error::other(format!("{operation:?}: {failure:?}")));
            }
            Err(failure) => record(recorder, process, operation.clone(), failure),
        }
        tokio::time::sleep(REST).await;
    }
}
