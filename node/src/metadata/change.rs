//! Changing the metadata, on the node that leads its group: decided on shard 0 against the newest
//! state, one change at a time, proposed as a [`Command`], and answered when every live node acts
//! by it.
//!
//! A change is decided only when nothing undecided is in the group's log, whoever proposed it: what
//! would come before it is known. If no majority answers in time, it is not known what becomes of
//! it, and the next change waits until it is.

use super::freshness::LEAD_MIN;
use super::{Command, FeedNews, GenerationRecord, Metadata, NodeRecord};
use crate::feeds::FeedWait;
use crate::remote::{Answer, Deadline};
use crate::ring_change::RingRequest;
use crate::shard::{Change, Shard, WriteError, WriteRequest};
use crate::view::View;
use cdc::stream::{Generation, Generations};
use cluster::consensus::LogIndex;
use cluster::peer::Peer;
use cluster::{GroupId, HostId};
use cql::plan::PlanError;
use cql::plan::ddl::{self, ChangeTarget, DdlContext, SchemaChange};
use cql::syntax::ast::Statement;
use cql::wire::{ChangeKind, SchemaChange as SchemaEvent, SchemaTarget};
use env::planted::{Bug, is_planted};
use model::TimestampMicros;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;

/// How far before its announcement the first generation begins: writes that are still on time may
/// be placed that far back.
const FIRST_GENERATION_BACK_MILLIS: i64 = 6_000;

/// How often it is looked whether a change that is under way has been decided.
const DECISION_PAUSE: Duration = Duration::from_millis(5);
/// How long a node may take to say that it acts by a change, before it is looked whether it lives.
const ADOPTION_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a change waits for the nodes that decide while too few of them are heard: nodes that
/// have just formed a cluster, or are busy, are heard a moment later. Well before drivers give up,
/// which is after 10 s, their client hears that there is no majority.
const MINORITY_TIME_MAX: Duration = Duration::from_secs(5);
/// How often it is looked who lives while a change is under way.
pub(super) const LIFE_PAUSE: Duration = Duration::from_millis(100);

/// A change of the metadata.
#[derive(Clone, Debug)]
pub(crate) enum MetadataRequest {
    /// The text of a DDL statement, with the keyspace in use.
    Statement { text: Arc<str>, keyspace: Option<Arc<str>> },
    /// A new CDC generation that starts so many milliseconds from now.
    Generation { starts_in_millis: i64 },
    /// What a node says of the changefeeds that it owns.
    Feeds { node: u128, news: Box<FeedNews> },
    /// A member is configured otherwise than its record says.
    Node(Box<NodeRecord>),
    /// A node is to go.
    Ring(RingRequest),
    /// Nothing is changed: how far have the metadata come?
    Index,
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DdlOutcome {
    /// The index of the metadata that has it.
    pub index: u64,
    /// What clients are told; nothing when the statement changed nothing.
    pub events: Vec<SchemaEvent>,
    pub warnings: Vec<String>,
}

/// Why the metadata was not changed.
#[derive(Clone, Debug)]
pub(crate) enum DdlError {
    /// The statement is refused.
    Plan(PlanError),
    /// Not changed: too few of the nodes that decide on the metadata answer.
    NoMajority { alive: u32, required: u32 },
    /// The change could not be written.
    Write(WriteError),
}

impl DdlOutcome {
    /// Nothing that clients are told.
    pub(crate) fn unseen(index: u64) -> DdlOutcome {
        DdlOutcome { index, events: Vec::new(), warnings: Vec::new() }
    }
}

impl fmt::Display for DdlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DdlError::Plan(error) => error.fmt(f),
            DdlError::NoMajority { alive, required } if alive < required => write!(
                f,
                "the schema and the ring cannot be changed: of the nodes that decide on them \
                 {alive} live, and {required} are needed"
            ),
            DdlError::NoMajority { .. } => f.write_str(
                "the schema and the ring cannot be changed now: the nodes that decide on them have \
                 found no leader yet",
            ),
            DdlError::Write(error) => error.fmt(f),
        }
    }
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

/// The same as an answer to another node.
pub(crate) type DdlAnswer = Answer<DdlOutcome, DdlError>;

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

/// Another replication would place the tables of a keyspace elsewhere, and nothing moves data then;
/// and while the ring changes, groups of a new setting would be placed by two rings.
fn check_replication(view: &View, change: &SchemaChange) -> Result<(), PlanError> {
    let is_alone = view.ring.nodes().len() < 2;
    for after in &change.put {
        let is_new = !view.metadata.settings.iter().any(|s| s.replication == after.replication);
        if let Some(plan) = view.metadata.plan.as_ref().filter(|_| is_new) {
            return Err(PlanError::invalid(format!(
                "keyspace {} cannot get its replication now, since the ring changes: {plan}; try \
                 again when that is finished",
                after.name
            )));
        }
        let before = view.schema.keyspace(&after.name).filter(|before| !before.tables.is_empty());
        if !is_alone && before.is_some_and(|before| before.replication != after.replication) {
            return Err(PlanError::invalid(format!(
                "the replication of keyspace {} cannot be changed: it has tables, and this version \
                 does not move data between nodes",
                after.name
            )));
        }
    }
    Ok(())
}

impl Shard {
    /// Makes a change if this node leads the metadata group; on shard 0.
    pub(crate) async fn change_here(
        self: &Rc<Self>,
        request: &MetadataRequest,
        deadline: Deadline,
    ) -> DdlAnswer {
        assert_eq!(self.index, 0, "the metadata group is on shard 0");
        match self.change(request, deadline).await {
            Ok(outcome) => Answer::Done(outcome),
            Err(DdlError::Write(WriteError::NotLeader { hint })) => Answer::NotLeader { hint },
            Err(error) => Answer::Failed(error),
        }
    }

    async fn change(self: &Rc<Self>, request: &MetadataRequest, deadline: Deadline) -> DdlResult {
        match request {
            MetadataRequest::Statement { text, keyspace } => {
                let turn = self.turn_to_change(deadline).await?;
                let changed = self.change_by_statement(text, keyspace.as_deref(), deadline).await?;
                // Others need not wait for a feed as well.
                drop(turn);
                let (mut outcome, wait) = changed;
                if let Some(wait) = wait {
                    outcome.warnings.extend(self.wait_for_feed(wait, deadline).await);
                }
                Ok(outcome)
            }
            MetadataRequest::Generation { starts_in_millis } => {
                let lead_min = LEAD_MIN.as_millis() as i64;
                if *starts_in_millis < lead_min && self.view().metadata.nodes.len() > 1 {
                    let reason = format!(
                        "a generation starts {lead_min} ms after it is announced, or later, so that \
                         every node that places rows hears of it first"
                    );
                    return Err(WriteError::Invalid(reason).into());
                }
                let _turn = self.turn_to_change(deadline).await?;
                let now = self.micros_to_decide_by()? / 1_000;
                self.change_generations(now + starts_in_millis, deadline).await
            }
            MetadataRequest::Node(record) => {
                let _turn = self.turn_to_change(deadline).await?;
                self.change_node(record, deadline).await
            }
            MetadataRequest::Ring(request) => {
                let _turn = self.turn_to_change(deadline).await?;
                self.change_ring(*request, deadline).await
            }
            // What is said under another epoch is void, so it takes no turn with other changes.
            MetadataRequest::Feeds { node, news } => self.note_feeds(*node, (**news).clone()).await,
            // Who asks how far they have come need not wait for what is not acknowledged.
            MetadataRequest::Index => {
                self.decide_again(deadline).await?;
                self.found(Ok(DdlOutcome::unseen(self.view().index())))
            }
        }
    }

    /// Waits until it is this change's turn and this node decides on it; the turn ends with what is
    /// returned.
    async fn turn_to_change(&self, deadline: Deadline) -> Result<MutexGuard<'_, ()>, DdlError> {
        let turn = self.ddl_turn.lock();
        let Ok(turn) = tokio::time::timeout(deadline.time_left(self), turn).await else {
            let reason = "other changes of the schema are under way".to_owned();
            return Err(WriteError::Overloaded(reason).into());
        };
        self.decide_again(deadline).await?;
        self.micros_to_decide_by()?;
        Ok(turn)
    }

    /// The time by which tables are numbered, streams begin, and feeds start. Who cannot trust its clock
    /// does not decide: another will in a moment.
    pub(crate) fn micros_to_decide_by(&self) -> Result<TimestampMicros, WriteError> {
        self.trusted_micros().ok_or(WriteError::NotLeader { hint: None })
    }

    /// Waits until this node decides on the metadata, or says who does.
    pub(crate) async fn decide_again(&self, deadline: Deadline) -> Result<(), WriteError> {
        if self.decides_metadata(deadline).await {
            return Ok(());
        }
        Err(WriteError::NotLeader { hint: self.metadata_leader() })
    }

    /// Waits until this node leads the metadata group, nothing of it is undecided, and this shard
    /// sees the state that follows. False if another leads, or the time is over.
    pub(crate) async fn decides_metadata(&self, deadline: Deadline) -> bool {
        while self.leads_metadata() {
            let applied = self.applied_metadata().map_or(0, |metadata| metadata.index);
            if self.metadata_is_decided() && self.shared.views().newest().index() >= applied {
                return true;
            }
            if deadline.time_left(self) <= DECISION_PAUSE {
                return false;
            }
            self.shared.env.clock.sleep(DECISION_PAUSE).await;
        }
        false
    }

    /// Who leads the metadata group, as far as this node knows, if it is another.
    pub(crate) fn metadata_leader(&self) -> Option<HostId> {
        self.replica_leader(GroupId::METADATA).filter(|leader| *leader != self.shared.host_id)
    }

    /// What was found without a change, which holds if nobody else leads by now.
    pub(crate) fn found(&self, result: DdlResult) -> DdlResult {
        if self.may_serve_metadata() {
            return result;
        }
        Err(WriteError::NotLeader { hint: self.metadata_leader() }.into())
    }

    async fn change_by_statement(
        self: &Rc<Self>,
        text: &str,
        keyspace: Option<&str>,
        deadline: Deadline,
    ) -> Result<(DdlOutcome, Option<FeedWait>), DdlError> {
        let statement = match cql::syntax::parse(text) {
            Ok(parsed) => parsed.statement,
            Err(error) => return Err(PlanError::from(error).into()),
        };
        if let Statement::Changefeed(statement) = &statement {
            return self.change_feeds(statement, keyspace, deadline).await;
        }
        let plan = |view: &View| {
            let apply =
                |context: &mut DdlContext| ddl::apply(&statement, &view.schema, keyspace, context);
            let change = self.with_ddl_context(view, apply)?;
            check_replication(view, &change)?;
            Ok(change)
        };
        self.make_schema_change(plan, deadline).await.map(|outcome| (outcome, None))
    }

    /// Makes the change that `plan` wants of the schema as it is. To be called when this node decides
    /// on the metadata.
    pub(crate) async fn make_schema_change(
        self: &Rc<Self>,
        plan: impl Fn(&View) -> Result<SchemaChange, PlanError>,
        deadline: Deadline,
    ) -> DdlResult {
        let ((change, retire), view) = loop {
            let view = self.view();
            let planned = plan(&view).and_then(|change| {
                let retired = self.with_metadata(|metadata| metadata.retired_by(&change))?;
                Ok((change, retired))
            });
            let (change, retired) = match planned {
                Ok(planned) => planned,
                Err(error) => return self.found(Err(error.into())),
            };
            let mut tables = change.put.iter().flat_map(|keyspace| keyspace.tables.values());
            let logs_changes = tables.any(|table| table.cdc_enabled().is_some());
            if !logs_changes || !view.generations.list().is_empty() {
                break ((change, retired), view);
            }
            let now = self.micros_to_decide_by()? / 1_000;
            self.announce_generation(now - FIRST_GENERATION_BACK_MILLIS, deadline).await?;
            if !self.decides_metadata(deadline).await {
                return Err(WriteError::NotLeader { hint: self.metadata_leader() }.into());
            }
        };
        let SchemaChange { put, remove, events, mut warnings, logs_switched } = change;
        let (retire, notes) = retire;
        warnings.extend(notes);
        let is_change = !put.is_empty() || !remove.is_empty();
        let index = if is_change {
            self.propose_command(&Command::ChangeSchema { put, remove, retire }, deadline).await?
        } else {
            self.found(Ok(DdlOutcome::unseen(view.index())))?.index
        };
        let heard = self.tell_of_switches(&logs_switched, index, deadline);
        let (behind, heard) = tokio::join!(self.wait_for_nodes(index, deadline), heard);
        heard?;
        warnings.extend(behind);
        let events = events.iter().map(wire_event).collect();
        Ok(DdlOutcome { index, events, warnings })
    }

    /// Plans a change under the circumstances of this moment.
    pub(crate) fn with_ddl_context<R>(
        &self,
        view: &View,
        plan: impl FnOnce(&mut DdlContext) -> R,
    ) -> R {
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
        plan(&mut context)
    }

    /// Returns the index of the metadata that has it.
    async fn announce_generation(
        self: &Rc<Self>,
        starts_at_millis: i64,
        deadline: Deadline,
    ) -> Result<u64, WriteError> {
        let view = self.view();
        let last = view.generations.list().last().map(Generation::starts_at_millis);
        if last.is_some_and(|last| last >= starts_at_millis) {
            return Err(WriteError::Invalid(
                "a generation that starts later is announced already".to_owned(),
            ));
        }
        let range_ends = view.ranges.iter().map(|r| view.ranges.end_token(r).0).collect();
        let generation = GenerationRecord { starts_at_millis, range_ends };
        self.propose_command(&Command::AnnounceGeneration { generation }, deadline).await
    }

    async fn change_generations(
        self: &Rc<Self>,
        starts_at_millis: i64,
        deadline: Deadline,
    ) -> DdlResult {
        let index = self.announce_generation(starts_at_millis, deadline).await?;
        let warnings = self.wait_for_nodes(index, deadline).await;
        Ok(DdlOutcome { index, events: Vec::new(), warnings })
    }

    /// Takes over what a member says of itself.
    async fn change_node(self: &Rc<Self>, record: &NodeRecord, deadline: Deadline) -> DdlResult {
        let view = self.view();
        let index = match view.metadata.judge_record(record) {
            Err(reason) => return self.found(Err(WriteError::Invalid(reason).into())),
            Ok(false) => return self.found(Ok(DdlOutcome::unseen(view.index()))),
            Ok(true) => {
                let node = record.clone();
                self.propose_command(&Command::UpdateNode { node }, deadline).await?
            }
        };
        let warnings = self.wait_for_nodes(index, deadline).await;
        Ok(DdlOutcome { index, events: Vec::new(), warnings })
    }

    /// Writes a command to the metadata group's log, and returns when it is applied: the index of
    /// the metadata that has it. To be called in the step in which it was decided.
    pub(crate) async fn propose_command(
        self: &Rc<Self>,
        command: &Command,
        deadline: Deadline,
    ) -> Result<u64, WriteError> {
        let (alive, required) = self.metadata_voters();
        if !self.metadata_is_decided() || alive < required {
            return Err(WriteError::NotLeader { hint: self.metadata_leader() });
        }
        let change = Change::Metadata(command.to_bytes());
        let writing = self.write(WriteRequest::new(GroupId::METADATA, change));
        let time_left = deadline.time_left(self);
        tokio::select! {
            made = writing => return Ok(made?.index.0),
            () = self.majority_is_gone() => {}
            () = self.shared.env.clock.sleep(time_left) => {}
        }
        if is_planted(Bug::SchemaByAMinority) {
            return Ok(self.view().index());
        }
        Err(WriteError::Unknown(
            "no majority of the nodes that decide on the schema has answered in time: the change \
             may be made later"
                .to_owned(),
        ))
    }

    /// Returns when too few of the nodes that decide have lived for a while.
    async fn majority_is_gone(&self) {
        let mut minority = Minority::default();
        while !minority.lasts(self) {
            self.shared.env.clock.sleep(LIFE_PAUSE).await;
        }
    }

    /// Waits until this node and all others that live act by the metadata of that index. Says who
    /// does not when the time is over.
    pub(crate) async fn wait_for_nodes(
        self: &Rc<Self>,
        index: u64,
        deadline: Deadline,
    ) -> Vec<String> {
        let mut waiting = JoinSet::new();
        for node in self.view().ring.nodes() {
            let (shard, host) = (self.clone(), node.host_id);
            waiting.spawn_local(async move {
                let has_adopted = shard.node_adopts(host, index, deadline).await;
                (!has_adopted).then(|| format!("node {host} does not act by it yet"))
            });
        }
        let mut warnings = Vec::new();
        while let Some(waited) = waiting.join_next().await {
            warnings.extend(waited.ok().flatten());
        }
        warnings.sort_unstable();
        warnings
    }

    /// Whether a node acts by the metadata of that index, or is dead, before the time is over.
    async fn node_adopts(self: &Rc<Self>, host: HostId, index: u64, deadline: Deadline) -> bool {
        if host == self.shared.host_id {
            let adopted = self.wait_until_adopted(index);
            return tokio::time::timeout(deadline.time_left(self), adopted).await.is_ok();
        }
        let peer = Peer { host_id: host, shard: 0 };
        while self.is_live(host) {
            let time_left = deadline.time_left(self);
            if time_left <= DECISION_PAUSE {
                return false;
            }
            let until = Deadline::after(self, time_left.min(ADOPTION_TIME_MAX));
            let (group, index) = (GroupId::METADATA, LogIndex(index));
            if self.has_applied(peer, false, group, index, until).await {
                return true;
            }
            self.shared.env.clock.sleep(DECISION_PAUSE).await;
        }
        true
    }
}

/// For how long too few of the nodes that decide have lived, each time it was looked.
#[derive(Default)]
pub(super) struct Minority {
    /// When that was seen first, if it has been so since.
    until: Option<Deadline>,
}

impl Minority {
    /// Looks, and says whether it has been so for too long.
    pub(super) fn lasts(&mut self, shard: &Shard) -> bool {
        let (alive, required) = shard.metadata_voters();
        if alive >= required {
            self.until = None;
            return false;
        }
        if is_planted(Bug::SchemaByAMinority) {
            return true;
        }
        let until = self.until.get_or_insert_with(|| Deadline::after(shard, MINORITY_TIME_MAX));
        until.time_left(shard).is_zero()
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
