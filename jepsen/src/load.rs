//! Load: clients that ask a workload's questions, each one thing at a time, until the load is over;
//! and the last reads, when all is well again.
//!
//! It knows no process and no clock but tokio's, which a simulation moves: the same clients work on
//! both, and what they were told is judged by the same checkers.

use crate::connection::{Connection, Failure, Nodes};
use crate::history::{Event, Kind, Operation};
use crate::random::Random;
use crate::workload::Workload;
use std::cell::RefCell;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a client rests after a call that did not end well.
const REST: Duration = Duration::from_millis(50);
/// How long the tables may take to be made: nodes that have just found each other refuse for a moment.
const TABLE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long the last reads may be tried.
const LAST_READ_TIME_MAX: Duration = Duration::from_mins(1);

/// A workload while clients work on it, and what all of them write into.
#[derive(Debug)]
pub struct Load<W> {
    workload: RefCell<W>,
    began: Instant,
    events: RefCell<Vec<Event>>,
    options: LoadOptions,
}

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Clients at work, spread over the nodes.
    pub client_count: u32,
    /// A client waits up to so long between two calls.
    pub pause_millis_max: u64,
    /// What the questions follow from.
    pub seed: u64,
}

impl<W: Workload> Load<W> {
    /// Nothing has been asked yet; time begins.
    pub fn new(workload: W, options: LoadOptions) -> Load<W> {
        let (workload, events) = (RefCell::new(workload), RefCell::default());
        Load { workload, began: Instant::now(), events, options }
    }

    /// All clients ask until it is over.
    pub async fn ask(&self, nodes: &impl Nodes, is_over: &impl Fn() -> bool) {
        let clients = (0..self.options.client_count).map(|process| {
            let random = Random::new(self.options.seed ^ u64::from(process + 1) << 32);
            self.work(nodes, process, random, is_over)
        });
        futures::future::join_all(clients).await;
    }

    /// One client: connects anew whenever something went wrong. Those at the place of a node that is
    /// not there yet work when it is.
    async fn work(
        &self,
        nodes: &impl Nodes,
        process: u32,
        mut random: Random,
        is_over: &impl Fn() -> bool,
    ) {
        let node = process as usize % nodes.count();
        while !is_over() {
            if let Ok(mut client) = nodes.connect(node).await {
                self.ask_until_failure(&mut client, process, &mut random, is_over).await;
            }
            sleep(REST).await;
        }
    }

    async fn ask_until_failure(
        &self,
        client: &mut impl Connection,
        process: u32,
        random: &mut Random,
        is_over: &impl Fn() -> bool,
    ) {
        while !is_over() {
            if self.options.pause_millis_max > 0 {
                sleep(Duration::from_millis(random.below(self.options.pause_millis_max))).await;
            }
            let operation = self.workload.borrow_mut().next(random);
            if self.call(client, process, operation).await.is_err() {
                return;
            }
        }
    }

    /// Asks one thing, and notes what came of it.
    async fn call(
        &self,
        client: &mut impl Connection,
        process: u32,
        operation: Operation,
    ) -> Result<Operation, Failure> {
        self.note(process, Kind::Invoke, operation.clone(), None);
        let told = W::perform(client, operation.clone()).await;
        match told.clone() {
            Ok(told) => self.note(process, Kind::Ok, told, None),
            Err(Failure::Refused(why)) => self.note(process, Kind::Fail, operation, Some(why)),
            Err(Failure::Unknown(why)) => self.note(process, Kind::Info, operation, Some(why)),
        }
        told
    }

    fn note(&self, process: u32, kind: Kind, operation: Operation, error: Option<String>) {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.events.borrow_mut().push(Event { nanos, process, kind, operation, error });
    }

    /// Asks what must be known for the verdict, until it is told, and until it shows what stays.
    pub async fn read_last(&self, nodes: &impl Nodes) -> io::Result<()> {
        let deadline = Instant::now() + LAST_READ_TIME_MAX;
        loop {
            let mut told = Vec::new();
            let last_reads = self.workload.borrow().last_reads();
            for operation in last_reads {
                told.push(self.read_until_told(nodes, operation, deadline).await?);
            }
            if W::has_settled(&told) || Instant::now() > deadline {
                return Ok(());
            }
            sleep(REST).await;
        }
    }

    async fn read_until_told(
        &self,
        nodes: &impl Nodes,
        operation: Operation,
        deadline: Instant,
    ) -> io::Result<Operation> {
        let process = self.options.client_count;
        loop {
            let why = match nodes.connect(W::node_of(&operation)).await {
                Ok(mut client) => match self.call(&mut client, process, operation.clone()).await {
                    Ok(told) => return Ok(told),
                    Err(failure) => format!("{failure:?}"),
                },
                Err(why) => why,
            };
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{operation:?}: {why}")));
            }
            sleep(REST).await;
        }
    }

    /// What was asked, and all that was told.
    pub fn into_parts(self) -> (W, Vec<Event>) {
        (self.workload.into_inner(), self.events.into_inner())
    }
}

/// Makes the keyspace of all workloads, and the tables of one. What is refused was not done, so it is
/// asked again for a while.
pub async fn create_tables(
    nodes: &impl Nodes,
    workload: &impl Workload,
    replication_factor: u8,
) -> io::Result<()> {
    let deadline = Instant::now() + TABLE_TIME_MAX;
    let mut client = nodes.connect(0).await.map_err(io::Error::other)?;
    let keyspace = format!(
        "CREATE KEYSPACE jepsen WITH replication = \
         {{'class': 'NetworkTopologyStrategy', 'replication_factor': {replication_factor}}}"
    );
    for text in std::iter::once(keyspace.as_str()).chain(workload.tables().iter().copied()) {
        loop {
            match client.define(text).await {
                Ok(()) => break,
                Err(Failure::Refused(_)) if Instant::now() < deadline => sleep(REST).await,
                Err(failure) => return Err(io::Error::other(format!("{text}: {failure:?}"))),
            }
        }
    }
    Ok(())
}
