//! From a bound statement to the replicas that hold its data, and back.
//!
//! For each partition: token, range, group, shard. What a consistency level asks is judged before
//! anything is sent ([`cluster::consistency`]); `Unavailable` therefore always means not applied.
//! With one node every replica is one of its own shards; other nodes come in here, behind the same
//! three calls.

use crate::shard::{Barrier, Change, Message, Outcome, ReadError, Shard, WriteError, WriteRequest};
use crate::view::{Location, View};
use cluster::consistency::{self, Replica};
use cluster::{Access, GroupId, Unavailable};
use cql::plan::write::PartitionWrite;
use model::read::{Page, ReadCommand, ReadScope, ResumePoint};
use model::{Consistency, TableDef, TableId, TimestampMicros, Token};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a statement was not carried out.
#[derive(Debug)]
pub(crate) enum CoordinatorError {
    /// Too few replicas live for the level. Not applied.
    Unavailable(Unavailable),
    Write(WriteError),
    Read(ReadError),
}

impl From<WriteError> for CoordinatorError {
    fn from(error: WriteError) -> Self {
        CoordinatorError::Write(error)
    }
}

impl From<ReadError> for CoordinatorError {
    fn from(error: ReadError) -> Self {
        CoordinatorError::Read(error)
    }
}

/// The changes of one write, by the group that is to make them.
pub(crate) type Routed = BTreeMap<(GroupId, u16), Vec<PartitionWrite>>;

/// Who makes a write.
pub(crate) enum Destination {
    /// This group of this shard, all of it.
    Here(GroupId, Vec<PartitionWrite>),
    /// Others, or several.
    Routed(Routed),
}

impl Shard {
    /// Finds the group of each partition and judges the consistency level.
    pub(crate) fn route(
        &self,
        view: &View,
        writes: Vec<PartitionWrite>,
        level: Consistency,
    ) -> Result<Routed, Unavailable> {
        let mut routed = Routed::new();
        for write in writes {
            let at = self.location_for_write(view, &write, level)?;
            routed.entry((at.group, at.shard)).or_default().push(write);
        }
        Ok(routed)
    }

    /// As [`Shard::route`], but tells apart what one group of this shard makes alone: that is the
    /// usual case, and takes no map.
    pub(crate) fn destination(
        &self,
        view: &View,
        writes: Vec<PartitionWrite>,
        level: Consistency,
    ) -> Result<Destination, Unavailable> {
        if let [only] = writes.as_slice() {
            let at = self.location_for_write(view, only, level)?;
            if at.shard == self.index {
                return Ok(Destination::Here(at.group, writes));
            }
        }
        let mut routed = self.route(view, writes, level)?;
        let is_here = routed.len() == 1 && routed.keys().all(|(_, at)| *at == self.index);
        if is_here && let Some(((group, _), writes)) = routed.pop_first() {
            return Ok(Destination::Here(group, writes));
        }
        Ok(Destination::Routed(routed))
    }

    /// Where a partition is written.
    pub(crate) fn location_for_write(
        &self,
        view: &View,
        write: &PartitionWrite,
        level: Consistency,
    ) -> Result<Location, Unavailable> {
        self.judged_location(view, write.table.id, write.token, Access::Write, level)
    }

    /// Where a partition is read.
    pub(crate) fn location_for_read(
        &self,
        view: &View,
        table: &TableDef,
        token: Token,
        level: Consistency,
    ) -> Result<Location, Unavailable> {
        self.judged_location(view, table.id, token, Access::Read, level)
    }

    fn judged_location(
        &self,
        view: &View,
        table: TableId,
        token: Token,
        access: Access,
        level: Consistency,
    ) -> Result<Location, Unavailable> {
        let nothing = Unavailable { consistency: level, required: 1, alive: 0 };
        let table = view.placed_table(table).ok_or(nothing)?;
        let location = view.locate(&table.placement, token, self.shared.shard_count);
        let nodes = table.placement.replicas(location.range);
        let replicas = nodes.iter().map(|node| Replica {
            data_centre: &view.ring.node(*node).data_centre,
            is_alive: *node == view.local,
        });
        let local_centre = &view.ring.node(view.local).data_centre;
        consistency::judge(access, level, &table.replication, local_centre, replicas)?;
        Ok(location)
    }

    /// Makes the changes of each group; returns when all are applied. Groups are independent: a
    /// failure of one says nothing of the others. Their shards give out no timestamp at or below
    /// `clock_floor` afterwards.
    pub(crate) async fn write_routed(
        self: &Rc<Self>,
        routed: Routed,
        clock_floor: TimestampMicros,
    ) -> Result<(), WriteError> {
        let mut first_error = None;
        let mut answers = Vec::with_capacity(routed.len());
        for ((group, shard), writes) in routed {
            let request = WriteRequest { group, change: Change::Write(writes), clock_floor };
            answers.push(self.start_write(shard, request));
        }
        for answer in answers {
            let result = answer.await.unwrap_or_else(|_| Err(WriteError::going_down()));
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Begins a write on the shard that leads its group.
    fn start_write(
        self: &Rc<Self>,
        shard: u16,
        request: WriteRequest,
    ) -> oneshot::Receiver<Result<Outcome, WriteError>> {
        let (reply, answer) = oneshot::channel();
        if shard == self.index {
            let here = self.clone();
            tokio::task::spawn_local(async move {
                reply.send(here.write(request).await).ok();
            });
        } else {
            let message = Message::Write(Box::new(request), reply);
            if let Err(refused) = self.shared.shards[usize::from(shard)].try_send(message)
                && let Message::Write(_, reply) = refused.into_item()
            {
                let reason = "the shard has too many requests waiting".to_owned();
                reply.send(Err(WriteError::Overloaded(reason))).ok();
            }
        }
        answer
    }

    /// Removes every row of a table, on all ranges.
    pub(crate) async fn truncate(self: &Rc<Self>, table: &Arc<TableDef>) -> Result<(), WriteError> {
        let view = self.view();
        for place in view.groups_of_keyspace(&table.keyspace, self.shared.shard_count) {
            self.write_anywhere(place, Change::Truncate(table.id)).await?;
        }
        Ok(())
    }

    /// Reads a page, from whichever shards hold it.
    pub(crate) async fn read_page(
        self: &Rc<Self>,
        table: &TableDef,
        command: ReadCommand,
        level: Consistency,
    ) -> Result<Page, CoordinatorError> {
        let view = self.view();
        let is_weak = matches!(level, Consistency::Any | Consistency::One | Consistency::LocalOne);
        let barrier =
            if table.is_cdc_log() && !is_weak { Barrier::Undecided } else { Barrier::None };
        match &command.scope {
            ReadScope::Partition(key) => {
                let token = View::token(table, key);
                let location = self
                    .judged_location(&view, table.id, token, Access::Read, level)
                    .map_err(CoordinatorError::Unavailable)?;
                Ok(self.read_on(location.shard, command, barrier).await?)
            }
            ReadScope::TokenRange { first, last } => {
                let (first, last) = (*first, *last);
                self.judged_location(&view, table.id, Token(first), Access::Read, level)
                    .map_err(CoordinatorError::Unavailable)?;
                Ok(self.scan(&view, table, command, barrier, first, last).await?)
            }
        }
    }

    /// Reads a range of tokens shard by shard, in the order of tokens, until the page is full.
    async fn scan(
        self: &Rc<Self>,
        view: &View,
        table: &TableDef,
        mut command: ReadCommand,
        barrier: Barrier,
        first: i64,
        last: i64,
    ) -> Result<Page, ReadError> {
        let mut page = Page::default();
        let from = command.resume.as_ref().map_or(first, |r| View::token(table, &r.key).0);
        let row_limit = command.row_limit;
        for shard in 0..self.shared.shard_count {
            let interval = view.tokens_of_shard(shard, self.shared.shard_count);
            let (start, end) = (interval.first.max(from), interval.last.min(last));
            if start > end {
                continue;
            }
            if page.row_count >= row_limit {
                page.resume = page.last_key().map(|key| ResumePoint {
                    key: key.into(),
                    clustering: None,
                    partition_rows: 0,
                });
                return Ok(page);
            }
            command.scope = ReadScope::TokenRange { first: start, last: end };
            command.row_limit = row_limit - page.row_count;
            let part = self.read_on(shard, command.clone(), barrier).await?;
            page.append(part);
            if page.resume.is_some() {
                return Ok(page);
            }
            command.resume = None;
        }
        Ok(page)
    }

    /// Reads partitions that one shard has.
    pub(crate) async fn read_on(
        self: &Rc<Self>,
        shard: u16,
        command: ReadCommand,
        barrier: Barrier,
    ) -> Result<Page, ReadError> {
        if shard == self.index {
            return self.read(&command, barrier).await;
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::Read(Box::new(command), barrier, reply);
        self.shared.shards[usize::from(shard)]
            .try_send(message)
            .map_err(|_| ReadError::Overloaded("the shard has too many requests waiting"))?;
        answer.await.unwrap_or(Err(ReadError::Overloaded("the node is going down")))
    }
}
