//! Reading what is applied here, without ever waiting for the disk on the shard's thread.

use super::state::ShardState;
use super::{Message, Shard};
use crate::statement::Foreseen;
use crate::view::{PlacedTable, View};
use cluster::consensus::{LogIndex, Term};
use cluster::liveness::MonotonicNanos;
use cluster::{GroupId, HostId};
use cql::plan::select::{PointRead, SelectPlan};
use model::read::{Page, ReadCommand, ReadScope};
use model::row::RowView;
use model::schema::Replication;
use model::{EpochSeconds, Token};
use std::fmt;
use std::rc::Rc;
use storage::{BlockMiss, ReadProgress, StorageError};
use tokio::sync::oneshot;

/// What must hold for a read to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// The entries that are undecided when the read arrives are decided first. A CDC log read at
    /// QUORUM wants them: they are placed already, and a reader of windows would not come back for
    /// them.
    pub undecided: bool,
    /// This replica leads every range that is read, before the read and after it. Else whatever is
    /// applied here is the answer: a prefix of what was acknowledged. While a range moves, that is
    /// said only by who has all of it ([`Shard::check_holds`]).
    pub by_leader: bool,
}

/// Why a read has no answer. The texts are for the user.
#[derive(Clone, Debug)]
pub(crate) enum ReadError {
    /// The data is damaged, or the disk failed: named, never served.
    Storage(String),
    /// The table is gone.
    UnknownTable,
    /// It took longer than it may.
    TimedOut,
    /// The node is going down or has too much to do.
    Overloaded(&'static str),
    /// Another replica leads a range that was to be read, perhaps this one.
    NotLeader { hint: Option<HostId> },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Storage(reason) => f.write_str(reason),
            ReadError::UnknownTable => f.write_str("the table was dropped"),
            ReadError::TimedOut => f.write_str("Operation timed out - received only 0 responses."),
            ReadError::Overloaded(reason) => f.write_str(reason),
            ReadError::NotLeader { .. } => f.write_str("this node does not lead the range"),
        }
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        tracing::error!("a read failed: {error}");
        ReadError::Storage(error.to_string())
    }
}

impl Shard {
    /// Reads one page of partitions whose replicas are here.
    pub(crate) async fn read(
        self: &Rc<Self>,
        command: &ReadCommand,
        barrier: Barrier,
    ) -> Result<Page, ReadError> {
        self.check_may_answer(command, barrier)?;
        if barrier.undecided {
            self.wait_for_undecided(command).await?;
        }
        let mut progress = ReadProgress::default();
        loop {
            let attempt = self.state.borrow_mut().engine.read(command, &mut progress);
            match attempt {
                Ok(page) => {
                    self.check_may_answer(command, barrier)?;
                    return Ok(page);
                }
                Err(reason) => self.overcome(reason).await?,
            }
        }
    }

    fn check_may_answer(&self, command: &ReadCommand, barrier: Barrier) -> Result<(), ReadError> {
        if barrier.by_leader { self.check_leads(command) } else { self.check_holds(command) }
    }

    /// Errors unless this replica holds every range that the command reads from. One that comes does
    /// so as soon as it has a vote; one that goes may have been left out and not know it, and answers
    /// only while it leads.
    fn check_holds(&self, command: &ReadCommand) -> Result<(), ReadError> {
        let view = self.view();
        // The node's own tables are nobody else's.
        let of_users =
            view.placed_table(command.table).filter(|t| t.replication != Replication::Local);
        let Some(table) = of_users else { return Ok(()) };
        let (first, last) = tokens_of(command, table);
        for range in view.ranges_between(first, last) {
            let (placement, us) = (&table.placement, self.shared.host_id);
            if placement.stays(range, view.local) {
                continue;
            }
            let (state, group) = (self.state.borrow(), placement.group(range));
            let holds = if placement.coming(range).contains(&view.local) {
                state.replicas.members(group).is_some_and(|members| members.is_voter(us))
            } else {
                placement.replicas(range).contains(&view.local)
                    && state.may_serve(group, &self.shared.env.clock)
            };
            if !holds {
                return Err(ReadError::NotLeader { hint: state.replicas.leader(group) });
            }
        }
        Ok(())
    }

    /// Errors unless this replica leads every range that the command reads from, under a lease.
    fn check_leads(&self, command: &ReadCommand) -> Result<(), ReadError> {
        let view = self.view();
        let table = view.placed_table(command.table).ok_or(ReadError::UnknownTable)?;
        let (first, last) = tokens_of(command, table);
        let state = self.state.borrow();
        for range in view.ranges_between(first, last) {
            let group = table.placement.group(range);
            // Who alone holds a range has nobody to lose it to.
            let is_sole = table.placement.all(range) == [view.local];
            let may_serve = if is_sole {
                state.replicas.is_settled(group)
            } else {
                state.may_serve(group, &self.shared.env.clock)
            };
            if !may_serve {
                return Err(ReadError::NotLeader { hint: state.replicas.leader(group) });
            }
        }
        Ok(())
    }

    /// Whether this shard decides the writes of a group.
    pub(crate) fn decides(&self, group: GroupId) -> bool {
        self.state.borrow().replicas.may_decide(group)
    }

    /// Who leads a group, as far as a replica on this shard knows.
    pub(crate) fn replica_leader(&self, group: GroupId) -> Option<HostId> {
        self.state.borrow().replicas.leader(group)
    }

    /// Returns when the entry at `index` of a group's log is applied here; `false` when this shard
    /// will not get to know.
    pub(crate) async fn wait_until_applied(&self, group: GroupId, index: LogIndex) -> bool {
        loop {
            {
                let state = self.state.borrow();
                if state.failure.is_some() || !state.replicas.contains(group) {
                    return false;
                }
                if state.replicas.applied(group) >= index {
                    return true;
                }
            }
            self.settled.notified().await;
        }
    }

    /// The same, on whichever shard of this node.
    pub(crate) async fn wait_until_applied_on(
        &self,
        shard: u16,
        group: GroupId,
        index: LogIndex,
    ) -> bool {
        if shard == self.index {
            return self.wait_until_applied(group, index).await;
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::Applied(group, index, reply);
        let is_sent = self.shared.shards[usize::from(shard)].try_send(message).is_ok();
        is_sent && answer.await.unwrap_or(false)
    }

    /// Waits until every entry that is undecided now, in the groups that the command reads from,
    /// has been applied.
    async fn wait_for_undecided(&self, command: &ReadCommand) -> Result<(), ReadError> {
        let waited_for = self.undecided_for(command)?;
        loop {
            {
                let state = self.state.borrow();
                if state.failure.is_some() {
                    return Err(ReadError::Overloaded("this node cannot write any more"));
                }
                let missing =
                    waited_for.iter().find(|(id, _, end)| state.replicas.applied(*id) < *end);
                let Some((id, term, _)) = missing else { return Ok(()) };
                // Under another leader something else may come to stand there, or nothing.
                if state.replicas.term(*id) != *term {
                    return Err(ReadError::NotLeader { hint: state.replicas.leader(*id) });
                }
            }
            self.settled.notified().await;
        }
    }

    /// The groups that a command reads from and that have undecided entries: the term they are in,
    /// and the last of those.
    fn undecided_for(
        &self,
        command: &ReadCommand,
    ) -> Result<Vec<(GroupId, Term, LogIndex)>, ReadError> {
        let view = self.view();
        let table = view.placed_table(command.table).ok_or(ReadError::UnknownTable)?;
        let (first, last) = tokens_of(command, table);
        let (first, last) = (view.ranges.range_of(first), view.ranges.range_of(last));
        let is_read = |group: GroupId| {
            view.place_of(group).is_some_and(|(_, range)| {
                first <= range && range <= last && table.placement.group(range) == group
            })
        };
        let state = self.state.borrow();
        let ends = state.replicas.undecided_ends();
        let read = ends.into_iter().filter(|(group, _)| is_read(*group));
        Ok(read.map(|(group, end)| (group, state.replicas.term(group), end)).collect())
    }

    /// Reads one row when all of it is in memory; otherwise says what is missing, and `answer` was
    /// not called. Neither was it when the row was to be read `under_lease` of a group, and this
    /// replica has none.
    pub(crate) fn read_row<R>(
        &self,
        plan: &SelectPlan,
        (token, point): (Token, &PointRead),
        now: EpochSeconds,
        under_lease: Option<GroupId>,
        answer: impl FnOnce(Option<RowView>, Option<RowView>) -> R,
    ) -> Result<Option<R>, storage::ReadError> {
        let (table, with_static) = (plan.table.id, plan.wants_static_row());
        let ShardState { engine, replicas, support, .. } = &mut *self.state.borrow_mut();
        let answer = |static_row: Option<RowView>, row: Option<RowView>| {
            // After the read, and not by the turn's time.
            let may_serve = under_lease.is_none_or(|group| {
                let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
                replicas.may_serve(group, &**support, now)
            });
            may_serve.then(|| answer(static_row, row))
        };
        engine.read_row(table, token, &point.key, &point.clustering, now, with_static, answer)
    }

    /// Begins to fetch partitions into the processor's cache, as far as they are in memory.
    pub(crate) fn prefetch(&self, partitions: impl Iterator<Item = Foreseen> + Clone) {
        let engine = &self.state.borrow().engine;
        for Foreseen { table, token, .. } in partitions.clone() {
            engine.prefetch_index(table, token);
        }
        for Foreseen { table, token, .. } in partitions.clone() {
            engine.prefetch_partition(table, token);
        }
        for Foreseen { table, token, .. } in partitions.filter(|foreseen| foreseen.is_decided) {
            engine.prefetch_row(table, token);
        }
    }

    /// Does what a read needs before it can go on.
    pub(super) async fn overcome(&self, reason: storage::ReadError) -> Result<(), ReadError> {
        match reason {
            storage::ReadError::Miss(miss) => self.load(miss).await,
            storage::ReadError::Paused => {
                tokio::task::yield_now().await;
                Ok(())
            }
            storage::ReadError::UnknownTable(_) => Err(ReadError::UnknownTable),
            storage::ReadError::Storage(error) => Err(error.into()),
        }
    }

    /// Brings a block into memory, away from the shard's thread.
    async fn load(&self, miss: BlockMiss) -> Result<(), ReadError> {
        let loaded = self.shared.env.tasks.run_blocking(move || miss.load()).await?;
        self.state.borrow_mut().engine.block_loaded(loaded);
        Ok(())
    }
}

/// The tokens that a command reads, both ends included.
pub(crate) fn tokens_of(command: &ReadCommand, table: &PlacedTable) -> (Token, Token) {
    match &command.scope {
        ReadScope::Partition(key) => {
            let token = View::token(&table.definition, key);
            (token, token)
        }
        ReadScope::TokenRange { first, last } => (Token(*first), Token(*last)),
    }
}
