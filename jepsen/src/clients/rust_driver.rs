//! A client by the driver for Rust, with its default policies. It does what the programs in other
//! languages do.

use super::{
    ANSWER_TIME_MAX, PARTITIONS, PAUSE, RAISE_ONE_OF, RAISES_IN_TURN, REGISTERS, VALUES_OF_PROCESS,
    View, event, nanos,
};
use crate::client::failure;
use crate::connection::{Failure, malformed};
use crate::history::{Event, Kind, Operation};
use futures::future::join_all;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;

/// Tasks of this client.
const TASKS: u32 = 2;

/// The client.
pub(super) struct RustDriver {
    session: Session,
    insert: PreparedStatement,
    select: PreparedStatement,
    update: PreparedStatement,
    events: RefCell<Vec<Event>>,
}

impl RustDriver {
    /// Connects to a cluster whose nodes answer at these addresses.
    pub(super) async fn connect(addresses: &[SocketAddr]) -> io::Result<RustDriver> {
        let profile = ExecutionProfile::builder().consistency(Consistency::Quorum).build();
        let session = SessionBuilder::new()
            .known_nodes_addr(addresses)
            .use_keyspace("jepsen", false)
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .map_err(io::Error::other)?;
        let prepare = async |text| session.prepare(text).await.map_err(io::Error::other);
        let mut insert = prepare("INSERT INTO elements (k, v) VALUES (?, ?)").await?;
        insert.set_is_idempotent(true);
        let mut select = prepare("SELECT v FROM registers WHERE k = ?").await?;
        select.set_consistency(Consistency::Serial);
        let update = prepare("UPDATE registers SET v = ? WHERE k = ? IF v = ?").await?;
        Ok(RustDriver { session, insert, select, update, events: RefCell::default() })
    }

    /// Works until it is to rest.
    pub(super) async fn work(&self, first_process: u32, rests: &Cell<bool>) {
        join_all((0..TASKS).map(|task| self.work_alone(first_process + task, rests))).await;
    }

    async fn work_alone(&self, process: u32, rests: &Cell<bool>) {
        let mut number = 0;
        while !rests.get() {
            self.add(process, i64::from(process) * VALUES_OF_PROCESS + number).await;
            if number % RAISE_ONE_OF == 0 {
                let key = number / RAISE_ONE_OF / RAISES_IN_TURN % REGISTERS;
                self.raise(process, key).await;
            }
            number += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn add(&self, process: u32, value: i64) {
        let operation = Operation::Add { value };
        self.note(process, Kind::Invoke, operation.clone(), None);
        match self.session.execute_unpaged(&self.insert, (value % PARTITIONS, value)).await {
            Ok(_) => self.note(process, Kind::Ok, operation, None),
            // The driver tells of its last attempt only, and one before it may have done the write.
            Err(error) => self.note(process, Kind::Info, operation, Some(error.to_string())),
        }
    }

    /// Nothing that may have been done is tried again by the driver, for neither statement is
    /// idempotent.
    async fn raise(&self, process: u32, key: i64) {
        self.note(process, Kind::Invoke, Operation::Read { key, value: None }, None);
        let value = match self.read(key).await {
            Ok(value) => value,
            Err(failed) => return self.fail(process, Operation::Read { key, value: None }, failed),
        };
        self.note(process, Kind::Ok, Operation::Read { key, value }, None);
        let Some(from) = value else { return };
        let to = from + 1;
        let update = |applied| Operation::CompareAndSet { key, from, to, applied };
        self.note(process, Kind::Invoke, update(None), None);
        match self.compare_and_set(key, from, to).await {
            Ok(applied) => self.note(process, Kind::Ok, update(Some(applied)), None),
            Err(failed) => self.fail(process, update(None), failed),
        }
    }

    async fn read(&self, key: i64) -> Result<Option<i64>, Failure> {
        let answer = self.session.execute_unpaged(&self.select, (key,)).await;
        let rows =
            answer.map_err(|error| failure(&error))?.into_rows_result().map_err(malformed)?;
        let row = rows.maybe_first_row::<(i64,)>().map_err(malformed)?;
        Ok(row.map(|(value,)| value))
    }

    async fn compare_and_set(&self, key: i64, from: i64, to: i64) -> Result<bool, Failure> {
        let answer = self.session.execute_unpaged(&self.update, (to, key, from)).await;
        let rows =
            answer.map_err(|error| failure(&error))?.into_rows_result().map_err(malformed)?;
        // A refusal also shows the value that was found.
        let row = rows.first_row::<Row>().map_err(malformed)?;
        match row.columns.first() {
            Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
            other => Err(malformed(format!("applied is {other:?}"))),
        }
    }

    fn fail(&self, process: u32, operation: Operation, failure: Failure) {
        match failure {
            Failure::Refused(error) => self.note(process, Kind::Fail, operation, Some(error)),
            Failure::Unknown(error) => self.note(process, Kind::Info, operation, Some(error)),
        }
    }

    fn note(&self, process: u32, kind: Kind, operation: Operation, error: Option<String>) {
        self.events.borrow_mut().push(event(process, kind, operation, error));
    }

    /// Which nodes the driver knows, and which of them answer a statement that is prepared already.
    pub(super) async fn view(&self) -> View {
        let nanos = nanos();
        let state = self.session.get_cluster_state();
        let known: Vec<SocketAddr> = state
            .get_nodes_info()
            .iter()
            .map(|node| SocketAddr::new(node.address.ip(), node.address.port()))
            .collect();
        let asked = join_all(known.iter().map(|address| self.answers(*address))).await;
        let answered = known.iter().zip(asked).filter(|(_, answers)| *answers);
        View {
            nanos,
            known: known.iter().map(SocketAddr::ip).collect(),
            answered: answered.map(|(address, _)| address.ip()).collect(),
        }
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        let target = NodeIdentifier::NodeAddress(address);
        let profile = ExecutionProfile::builder()
            .load_balancing_policy(SingleTargetLoadBalancingPolicy::new(target, None))
            .request_timeout(Some(ANSWER_TIME_MAX))
            .build();
        let mut select = self.select.clone();
        select.set_execution_profile_handle(Some(profile.into_handle()));
        self.session.execute_unpaged(&select, (0_i64,)).await.is_ok()
    }

    /// All that it has asked and heard.
    pub(super) fn end(self) -> Vec<Event> {
        self.events.into_inner()
    }
}
