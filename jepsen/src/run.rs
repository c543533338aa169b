//! One test, from an empty cluster to a verdict: load and faults together, then healing, then the
//! last reads, then the judge.

use crate::checker::Verdict;
use crate::client::Client;
use crate::cluster::{Cluster, ClusterOptions};
use crate::connection::Nodes;
use crate::history::{self, Event, Kind};
use crate::load::{self, Load, LoadOptions};
use crate::nemesis::{self, Fault, Inflicted, Pace};
use crate::random::Random;
use crate::workload::Workload;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// Places for nodes that join, where some do.
const SPARES: usize = 2;

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

/// Runs a test, on this thread.
pub async fn run<W: Workload>(workload: W, options: &RunOptions) -> io::Result<Report> {
    let mut cluster = options.cluster.clone();
    cluster.configuration += workload.configuration();
    let mut cluster = RefCell::new(Cluster::start(cluster, options.spare_count()).await?);
    load::create_tables(&cluster, &workload, options.replication_factor).await?;
    if options.faults.contains(&Fault::Rollback) {
        cluster.get_mut().set_aside().await?;
    }
    let load_options =
        LoadOptions { client_count: options.client_count, pause_millis_max: 0, seed: options.seed };
    let load = Load::new(workload, load_options);
    let began = Instant::now();
    let end = began + options.duration;
    let is_over = || Instant::now() >= end;
    let pace = Pace::of(options.cluster.node_count);
    let random = Random::new(options.seed);
    let faults = nemesis::torment(&cluster, &options.faults, pace, random, (began, end));
    let (faults, ()) = futures::future::join(faults, load.ask(&cluster, &is_over)).await;
    let faults = faults?;
    cluster.get_mut().heal()?;
    cluster.get_mut().wait_until_all_answer().await?;
    load.read_last(&cluster).await?;
    let (workload, history) = load.into_parts();
    judge(&workload, history, faults)
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

impl Nodes for RefCell<Cluster> {
    type Connection = Client;

    fn count(&self) -> usize {
        self.borrow().place_count()
    }

    async fn connect(&self, node: usize) -> Result<Client, String> {
        let address = self.borrow().address(node);
        Client::connect(address).await
    }
}
