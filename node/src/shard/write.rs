//! A write on the shard that leads its range: decided, proposed, held, committed, applied,
//! answered.

use super::Shard;
use super::decide::{Attempt, CLOSED_TRAILS_MICROS, Proposal};
use super::read::ReadError;
use super::state::ShardState;
use crate::clock_check::describe;
use crate::metadata::Metadata;
use crate::statement::WriteAnswer;
use crate::view::View;
use cluster::consensus::LogIndex;
use cluster::liveness::MonotonicNanos;
use cluster::replica::{Decided, ProposeError};
use cluster::{GroupId, HostId, Unavailable};
use cql::plan::write::{ConditionalOutcome, ConditionalWrite, PartitionWrite};
use env::planted::{Bug, is_planted};
use model::TimestampMicros;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use storage::commitlog::LogError;
use tokio::sync::oneshot;

/// Changes of partitions of one range, to be made together.
#[derive(Clone, Debug)]
pub(crate) struct WriteRequest {
    pub group: GroupId,
    pub change: Change,
    /// The timestamp that a coordinator has given a part of a batch: this shard gives out none at
    /// or below it afterwards. A client's timestamps never move the clock.
    pub clock_floor: TimestampMicros,
}

impl WriteRequest {
    /// A change that has its timestamps from the client, or gets them here.
    pub(crate) fn new(group: GroupId, change: Change) -> Self {
        WriteRequest { group, change, clock_floor: TimestampMicros::MIN }
    }
}

/// What is proposed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Mutations, after what has to be read for them.
    Write(Vec<PartitionWrite>),
    /// A mutation, if its conditions hold.
    Conditional(Box<ConditionalWrite>),
    /// Everything of a table in the range goes.
    Truncate(model::TableId),
    /// The log of a table was turned on or off, or its images were, by the metadata of this index.
    Switch(u64),
    /// Nothing, but that the range may be closed up to this time between entries; its leader's own.
    Reservation(TimestampMicros),
    /// A command of the metadata group.
    Metadata(Vec<u8>),
}

impl Change {
    /// Whether making it twice, even behind others, is the same as once: it says what the cells are,
    /// at timestamps that are fixed. A CDC log tells of it once, as it changes nothing then. So is
    /// that a log was switched: what it raises it does not lower.
    pub(crate) fn may_be_repeated(&self) -> bool {
        let is_fixed = |write: &PartitionWrite| {
            let is_stamped = write.is_stamped || is_planted(Bug::RepeatsUndated);
            (is_stamped && !write.is_counter && write.list_operations.is_empty())
                || (write.is_counter && is_planted(Bug::RepeatsIncrements))
        };
        match self {
            Change::Write(writes) => writes.iter().all(is_fixed),
            Change::Conditional(_) => is_planted(Bug::RepeatsConditions),
            Change::Switch(_) => true,
            _ => false,
        }
    }

    /// The changes of partitions in it.
    pub(crate) fn writes(&self) -> &[PartitionWrite] {
        match self {
            Change::Write(writes) => writes,
            Change::Conditional(conditional) => std::slice::from_ref(&conditional.write),
            Change::Truncate(_)
            | Change::Switch(_)
            | Change::Reservation(_)
            | Change::Metadata(_) => &[],
        }
    }
}

/// What came of a conditional write; nothing of any other.
pub(crate) type Outcome = Option<ConditionalOutcome>;

/// A write that is applied.
#[derive(Debug)]
pub(crate) struct Made {
    /// The index of the group's log by which it is.
    pub index: LogIndex,
    pub outcome: Outcome,
}

/// What became of a write that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It changes nothing, and nothing that is undecided bears on that.
    Nothing(Outcome),
    /// It is on its way, as this entry.
    Proposed(LogIndex),
}

/// Why a write was not acknowledged. Only `Unknown`, `Unfinished` and `TooFewApplied` may have been
/// applied.
#[derive(Clone, Debug)]
pub(crate) enum WriteError {
    /// Not applied: the node has too much to do.
    Overloaded(String),
    /// Not applied: the statement does not fit the data.
    Invalid(String),
    /// Not applied: what had to be read first could not be.
    Read(String),
    /// Not applied: this node cannot write any more.
    Failed(String),
    /// Perhaps applied: the log failed while the write was on its way, or no answer came in time.
    Unknown(String),
    /// A logged batch that is decided: it is applied in part, and soon as a whole.
    Unfinished,
    /// Applied at the leader, and in time by fewer replicas than the level names.
    TooFewApplied {
        /// How many have applied it.
        received: u32,
    },
    /// Not applied: another replica leads the range, perhaps this one.
    NotLeader { hint: Option<HostId> },
    /// Not applied: the table has changed since the write was planned; the new version is known
    /// from this index of the metadata on.
    Outdated { index: u64 },
    /// Not applied: too few replicas live.
    Unavailable(Unavailable),
}

impl WriteError {
    /// The node stops before the outcome is known.
    pub(crate) fn going_down() -> Self {
        WriteError::Unknown("the node is going down".to_owned())
    }

    /// Another node leads the range, and its log has something else in this write's place. A third
    /// one may still know the write.
    pub(crate) fn lost_leader() -> Self {
        WriteError::Unknown("another node took over the range".to_owned())
    }

    /// Whether it says that nothing was or will be applied.
    pub(crate) fn is_not_applied(&self) -> bool {
        !matches!(
            self,
            WriteError::Unknown(_) | WriteError::Unfinished | WriteError::TooFewApplied { .. }
        )
    }

    /// It took longer than it may.
    pub(crate) fn timed_out() -> Self {
        WriteError::Unknown("Operation timed out - received only 0 responses.".to_owned())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Overloaded(reason)
            | WriteError::Invalid(reason)
            | WriteError::Read(reason)
            | WriteError::Failed(reason)
            | WriteError::Unknown(reason) => f.write_str(reason),
            WriteError::TooFewApplied { received } => {
                write!(f, "Operation timed out - received only {received} responses.")
            }
            WriteError::Unfinished => {
                f.write_str("Operation timed out - the batch is logged and will be finished.")
            }
            WriteError::NotLeader { .. } => f.write_str("this node does not lead the range"),
            WriteError::Outdated { .. } => {
                f.write_str("the table has changed since the statement was planned")
            }
            WriteError::Unavailable(unavailable) => unavailable.fmt(f),
        }
    }
}

impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Overloaded(reason) => WriteError::Overloaded(reason.to_owned()),
            other => WriteError::Read(other.to_string()),
        }
    }
}

/// What waits for an entry to be applied.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A task of this node, and what it is told.
    Task(oneshot::Sender<Result<Outcome, WriteError>>, Outcome),
    /// A client, with nothing between the log and its answer.
    Client(WaitingClient),
    /// Nobody: the shard's own entry.
    Nobody,
}

/// A client that waits for its write, until a moment of the monotonic clock.
#[derive(Debug)]
pub(crate) struct WaitingClient {
    pub answer: WriteAnswer,
    /// What it is told.
    pub outcome: Outcome,
    pub deadline_nanos: u64,
}

impl Waiter {
    fn finish(self, result: Result<(), WriteError>) {
        match self {
            Waiter::Task(task, outcome) => {
                task.send(result.map(|()| outcome)).ok();
            }
            Waiter::Client(WaitingClient { answer, outcome, .. }) => {
                answer.send(result.map(|()| outcome));
            }
            Waiter::Nobody => {}
        }
    }
}

impl Shard {
    /// Makes a write, and returns when it is applied: the index of the group's log by which it is.
    pub(crate) async fn write(
        self: &Rc<Self>,
        mut request: WriteRequest,
    ) -> Result<Made, WriteError> {
        loop {
            let (task, applied) = oneshot::channel();
            match self.try_write(&mut request, |outcome| Waiter::Task(task, outcome)) {
                // True by what is applied already.
                Ok(Written::Nothing(outcome)) => {
                    let index = self.state.borrow().replicas.applied(request.group);
                    return Ok(Made { index, outcome });
                }
                Ok(Written::Proposed(index)) => {
                    let applied = applied.await.unwrap_or_else(|_| Err(WriteError::going_down()));
                    return applied.map(|outcome| Made { index, outcome });
                }
                Err(Attempt::NeedsRead(reason)) => self.overcome(reason).await?,
                Err(Attempt::ListsAreHeld) => self.wait_for_lists().await,
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
    }

    /// Decides and proposes in one step, or says what has to be read first. The waiter is made
    /// when, and only when, the write was proposed.
    pub(crate) fn try_write(
        &self,
        request: &mut WriteRequest,
        waiter: impl FnOnce(Outcome) -> Waiter,
    ) -> Result<Written, Attempt> {
        if self.must_wait_for_lists(request) {
            return Err(Attempt::ListsAreHeld);
        }
        let view = self.view();
        let (wall, now) = (self.now_micros(), MonotonicNanos(self.monotonic_nanos()));
        let mut state = self.state.borrow_mut();
        if let Some(failure) = &state.failure {
            return Err(Attempt::Failed(WriteError::Failed(failure.clone())));
        }
        // Only who has applied all that was committed before knows what a write meets.
        if !state.replicas.may_decide(request.group) {
            let hint = state.replicas.leader(request.group);
            return Err(Attempt::Failed(WriteError::NotLeader { hint }));
        }
        if !self.shared.wall_clock.is_trusted(wall, now.0) {
            self.refuse_by_clock(&state, request)?;
        }
        if !self.shared.known_generations.reach(now.0) {
            refuse_by_generations(&state, &view, request)?;
        }
        let (proposal, outcome) = state.decide(&view, request, wall, &self.shared.env.clock)?;
        let Some(proposal) = proposal else {
            return Ok(Written::Nothing(outcome));
        };
        let Proposal { payload, partitions, times, log_times } = proposal;
        let group = request.group;
        let state = &mut *state;
        let proposed = state.with_replicas(now, |replicas, local| {
            replicas.propose(group, payload, partitions, || waiter(outcome), local)
        });
        match proposed {
            Ok(index) => {
                state.times.insert(group, times);
                state.log_times.extend(&log_times, wall.saturating_sub(CLOSED_TRAILS_MICROS));
                state.counters.writes += 1;
                self.wake_log();
                Ok(Written::Proposed(index))
            }
            Err(error) => {
                let error = match propose_error(error) {
                    WriteError::NotLeader { .. } => {
                        WriteError::NotLeader { hint: state.replicas.leader(group) }
                    }
                    other => other,
                };
                Err(Attempt::Failed(error))
            }
        }
    }

    /// What a leader decides has times by its clock, so one whose clock cannot be trusted decides
    /// nothing: others are about to lead, or the clock to be compared. Where nobody else could, that is
    /// said. The metadata have no such times.
    fn refuse_by_clock(&self, state: &ShardState, request: &WriteRequest) -> Result<(), Attempt> {
        let error = match self.shared.wall_clock.ahead_micros() {
            _ if request.group == GroupId::METADATA => return Ok(()),
            Some(ahead) if state.replicas.is_alone(request.group) => WriteError::Failed(format!(
                "{}, and this node alone has these rows: it stamps no write until that is set right",
                describe(ahead)
            )),
            _ => WriteError::NotLeader { hint: None },
        };
        Err(Attempt::Failed(error))
    }

    /// Whether the shard's log has failed: nothing is written any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.borrow().failure.is_some()
    }

    /// The metadata as it was last applied, on shard 0.
    pub(crate) fn applied_metadata(&self) -> Option<Metadata> {
        self.state.borrow().metadata().cloned()
    }

    /// Looks at the metadata as it was last applied; on shard 0.
    pub(crate) fn with_metadata<R>(&self, look: impl FnOnce(&Metadata) -> R) -> R {
        look(self.state.borrow().metadata().expect("shard 0 holds the metadata group"))
    }

    /// Writes appended entries or hands them to the log's thread, applies what is held, and sends
    /// what others have to know; ends campaigns and asks again as time passes.
    pub(super) async fn run_log(self: Rc<Self>) {
        let mut decided = Decided::default();
        loop {
            let next = self.state.borrow().replicas.next_tick();
            let tick = async {
                match next {
                    Some(moment) => self.shared.env.clock.sleep_until(moment.0).await,
                    None => std::future::pending().await,
                }
            };
            let reported = tokio::select! {
                biased;
                reported = poll_fn(|context| {
                    self.state.borrow_mut().log.poll_completed(context)
                }) => reported,
                () = self.log_work.notified() => Ok(()),
                () = tick => Ok(()),
            };
            // A client's request is here by one task, a peer's message by four. Where there is more than
            // one of them, all that is ready is taken in one turn: one write of the log, one envelope
            // to each peer. What comes alone does not wait for another look at the sockets.
            if self.log_work_count.get() > 1 {
                tokio::task::yield_now().await;
            }
            self.log_work_count.set(0);
            let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
            self.adopt_board(now);
            let result = reported.and_then(|()| {
                let mut state = self.state.borrow_mut();
                let advanced = state.advance_log(now);
                state.replicas.take_decided(&mut decided);
                if let Some(metadata) = state.metadata() {
                    self.publication.applied(metadata.index);
                }
                advanced
            });
            for waiter in decided.applied.drain(..) {
                waiter.finish(Ok(()));
            }
            for waiter in decided.unknown.drain(..) {
                waiter.finish(Err(WriteError::lost_leader()));
            }
            self.settled.notify_waiters();
            self.tell_tail_news();
            if let Err(error) = result {
                self.fail(&error);
                return;
            }
            self.send_envelopes(now);
        }
    }

    /// Answers the clients whose writes take too long; what becomes of those is not known.
    pub(super) fn end_late_writes(&self) {
        let now = self.shared.env.clock.monotonic_nanos();
        let is_late = |waiter: &Waiter| match waiter {
            Waiter::Task(..) | Waiter::Nobody => false,
            Waiter::Client(client) => client.deadline_nanos <= now,
        };
        let late = self.state.borrow_mut().replicas.take_waiters(is_late);
        for waiter in late {
            waiter.finish(Err(WriteError::timed_out()));
        }
    }

    /// The log has failed: nothing is acknowledged any more, and the node ends unless it is alone.
    fn fail(&self, error: &LogError) {
        tracing::error!(
            "shard {} stops writing: {error}. Make the disk well, and start the node again",
            self.index
        );
        let mut state = self.state.borrow_mut();
        let reason = format!("this node cannot write any more: {error}");
        self.shared.write_failure.note(&reason);
        let waiters = state.replicas.abandon();
        state.failure = Some(reason.clone());
        drop(state);
        for waiter in waiters {
            waiter.finish(Err(WriteError::Unknown(reason.clone())));
        }
        self.settled.notify_waiters();
    }
}

/// A write of a table with a log is placed by somebody who knows in which generation of streams.
fn refuse_by_generations(
    state: &ShardState,
    view: &View,
    request: &WriteRequest,
) -> Result<(), Attempt> {
    let is_placed = match &request.change {
        Change::Write(writes) => {
            writes.iter().any(|write| view.log_layout(write.table.id).is_some())
        }
        Change::Conditional(_) => !view.generations.list().is_empty(),
        _ => false,
    };
    if !is_placed {
        return Ok(());
    }
    if !state.replicas.is_alone(request.group) {
        return Err(Attempt::Failed(WriteError::NotLeader { hint: None }));
    }
    let reason = "this node has not heard for long from those that decide on schema and CDC \
                  generations: it cannot say in which stream a change is to be logged";
    Err(Attempt::Failed(WriteError::Failed(reason.to_owned())))
}

fn propose_error(error: ProposeError<LogError>) -> WriteError {
    match error {
        ProposeError::UnknownGroup | ProposeError::NotLeader { .. } => {
            WriteError::NotLeader { hint: None }
        }
        ProposeError::Log(LogError::EntryTooLarge { payload_bytes, payload_bytes_max }) => {
            WriteError::Invalid(format!(
                "Mutation of {payload_bytes} bytes is too large for the maximum size of \
                 {payload_bytes_max}"
            ))
        }
        ProposeError::Log(error @ (LogError::LogFull { .. } | LogError::TooManyGroups { .. })) => {
            WriteError::Overloaded(error.to_string())
        }
        ProposeError::Log(error) => WriteError::Failed(error.to_string()),
    }
}
