//! Changing the metadata: decided on shard 0, answered when every shard acts by it.

use super::events::topology_events;
use super::{Command, GenerationRecord, Metadata};
use crate::remote::WriteTerms;
use crate::shard::{Change, Message, Shard, WriteError, WriteRequest};
use crate::view::View;
use cdc::stream::{Generation, Generations};
use cluster::GroupId;
use cql::plan::PlanError;
use cql::plan::ddl::{self, ChangeTarget, DdlContext, SchemaChange};
use cql::syntax::ast::Statement;
use cql::wire::{ChangeKind, Event, SchemaChange as SchemaEvent, SchemaTarget};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How far before its announcement the first generation begins: writes that are still on time may
/// be placed that far back.
const FIRST_GENERATION_BACK_MILLIS: i64 = 6_000;

/// How long the ranges of a table may take to hear that its images were switched.
const IMAGES_TIMEOUT: Duration = Duration::from_secs(30);

/// What shard 0 is asked to change.
#[derive(Debug)]
pub(crate) struct DdlRequest {
    pub request: MetadataRequest,
}

/// A change of the metadata.
#[derive(Debug)]
pub(crate) enum MetadataRequest {
    /// A DDL statement, with the keyspace in use.
    Statement { statement: Box<Statement>, keyspace: Option<Arc<str>> },
    /// A new CDC generation that starts so many milliseconds from now.
    Generation { starts_in_millis: i64 },
}

/// What a change came to.
#[derive(Debug)]
pub(crate) struct DdlOutcome {
    /// What clients are told; nothing when the statement changed nothing.
    pub events: Vec<SchemaEvent>,
    pub warnings: Vec<String>,
}

/// Why the metadata was not changed.
#[derive(Debug)]
pub(crate) enum DdlError {
    /// The statement is refused.
    Plan(PlanError),
    /// The change could not be written.
    Write(WriteError),
}

impl From<PlanError> for DdlError {
    fn from(error: PlanError) -> Self {
        DdlError::Plan(error)
    }
}

impl From<WriteError> for DdlError {
    fn from(error: WriteError) -> Self {
        DdlError::Write(error)
    }
}

pub(crate) type DdlResult = Result<DdlOutcome, DdlError>;

impl Metadata {
    /// The generations as the CDC code uses them.
    pub(crate) fn cdc_generations(&self) -> Generations {
        let mut generations = Generations::new();
        for record in &self.generations {
            generations.push(Generation::new(record.starts_at_millis, &record.range_ends));
        }
        generations
    }
}

impl Shard {
    /// Makes a change; on shard 0.
    pub(crate) async fn change_metadata(self: &Rc<Self>, request: DdlRequest) -> DdlResult {
        assert_eq!(self.index, 0, "the metadata group is on shard 0");
        let _turn = self.ddl_turn.lock().await;
        match request.request {
            MetadataRequest::Statement { statement, keyspace } => {
                self.change_schema(&statement, keyspace.as_deref()).await
            }
            MetadataRequest::Generation { starts_in_millis } => {
                let now = self.shared.env.clock.now_micros() / 1_000;
                self.announce_generation(now + starts_in_millis).await?;
                self.publish(&[]).await;
                Ok(DdlOutcome { events: Vec::new(), warnings: Vec::new() })
            }
        }
    }

    async fn change_schema(
        self: &Rc<Self>,
        statement: &Statement,
        keyspace: Option<&str>,
    ) -> DdlResult {
        let view = self.view();
        let change = self.plan_change(&view, statement, keyspace)?;
        let SchemaChange { put, remove, events, warnings, images_switched } = change;
        if put.is_empty() && remove.is_empty() {
            return Ok(DdlOutcome { events: Vec::new(), warnings });
        }
        let logs_changes =
            put.iter().flat_map(|k| k.tables.values()).any(|t| t.cdc_enabled().is_some());
        if logs_changes && view.generations.list().is_empty() {
            let now = self.shared.env.clock.now_micros() / 1_000;
            self.announce_generation(now - FIRST_GENERATION_BACK_MILLIS).await?;
        }
        self.propose_command(&Command::ChangeSchema { put, remove }).await?;
        let events: Vec<SchemaEvent> = events.iter().map(wire_event).collect();
        let for_clients: Vec<Event> = events.iter().cloned().map(Event::Schema).collect();
        self.publish(&for_clients).await;
        for table in images_switched {
            self.close_images(table).await?;
        }
        Ok(DdlOutcome { events, warnings })
    }

    fn plan_change(
        &self,
        view: &View,
        statement: &Statement,
        keyspace: Option<&str>,
    ) -> Result<SchemaChange, PlanError> {
        let mut entropy = self.entropy.borrow_mut();
        let now_micros = self.shared.env.clock.now_micros();
        let mut data_centres: BTreeMap<String, u32> = BTreeMap::new();
        for node in view.metadata.nodes.values() {
            *data_centres.entry(node.data_center.clone()).or_default() += 1;
        }
        let mut fresh_table_id = || {
            let low_bits = model::timeuuid::ietf_low_bits(entropy.u64());
            u128::from_be_bytes(model::timeuuid::timeuuid_from_micros(now_micros, low_bits))
        };
        let mut context = DdlContext {
            now_micros,
            fresh_table_id: &mut fresh_table_id,
            is_dropped_id: &|id| view.metadata.dropped_tables.contains(&id),
            data_centres: &data_centres,
            cdc: &crate::cdc_tables::CdcLogTables,
        };
        ddl::apply(statement, &view.schema, keyspace, &mut context)
    }

    async fn announce_generation(self: &Rc<Self>, starts_at_millis: i64) -> Result<(), WriteError> {
        let view = self.view();
        let last = view.generations.list().last().map(Generation::starts_at_millis);
        if last.is_some_and(|last| last >= starts_at_millis) {
            return Err(WriteError::Invalid(
                "a generation that starts later is announced already".to_owned(),
            ));
        }
        let range_ends = view.ranges.iter().map(|r| view.ranges.end_token(r).0).collect();
        let generation = GenerationRecord { starts_at_millis, range_ends };
        self.propose_command(&Command::AnnounceGeneration { generation }).await
    }

    /// The metadata as it was last applied.
    fn newest_metadata(&self) -> Metadata {
        self.applied_metadata().expect("shard 0 holds the metadata group")
    }

    /// Writes a command to the metadata group's log, and returns when it is applied.
    async fn propose_command(self: &Rc<Self>, command: &Command) -> Result<(), WriteError> {
        let change = Change::Metadata(command.to_bytes());
        self.write(WriteRequest::new(GroupId::METADATA, change)).await.map(drop)
    }

    /// Makes the newest metadata everybody's view, and returns when every shard acts by it.
    pub(crate) async fn publish(self: &Rc<Self>, events: &[Event]) {
        let metadata = self.newest_metadata();
        let mut events = events.to_vec();
        events.extend(topology_events(&self.shared.views().newest().metadata, &metadata));
        match View::new(metadata, &self.shared.system_keyspaces, self.shared.host_id) {
            Ok(view) => self.shared.views().publish(Arc::new(view)),
            Err(error) => {
                tracing::error!("the metadata makes no ring: {error}");
                return;
            }
        }
        let events: Arc<[Event]> = events.into();
        let mut answers = Vec::new();
        for shard in &self.shared.shards {
            let (reply, answer) = oneshot::channel();
            let message = Message::ViewChanged(events.clone(), reply);
            if shard.try_send(message).is_ok() {
                answers.push(answer);
            }
        }
        for answer in answers {
            // A shard that is stopping does not answer.
            answer.await.ok();
        }
    }

    /// Closes what was placed so far in every range of a table whose images were switched.
    async fn close_images(self: &Rc<Self>, table: model::TableId) -> Result<(), WriteError> {
        let view = self.view();
        let Some(definition) = view.table(table) else { return Ok(()) };
        for group in view.groups_of_keyspace(&definition.keyspace) {
            let terms = WriteTerms::own(self, IMAGES_TIMEOUT);
            self.write_to_group(group, Change::Images(table), terms).await?;
        }
        Ok(())
    }
}

/// An event in the protocol's words.
fn wire_event(event: &ddl::SchemaEvent) -> SchemaEvent {
    SchemaEvent {
        kind: match event.change {
            ddl::ChangeKind::Created => ChangeKind::Created,
            ddl::ChangeKind::Updated => ChangeKind::Updated,
            ddl::ChangeKind::Dropped => ChangeKind::Dropped,
        },
        keyspace: event.keyspace.clone(),
        target: match event.target {
            ChangeTarget::Keyspace => SchemaTarget::Keyspace,
            ChangeTarget::Table => SchemaTarget::Table(event.name.clone()),
            ChangeTarget::Type => SchemaTarget::Type(event.name.clone()),
        },
    }
}
