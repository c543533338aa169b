//! From a bound statement to the replicas that hold its data, and back.
//!
//! For each partition: token, range, group, and whether this shard can answer by itself. What a
//! consistency level asks is judged before anything is sent ([`cluster::consistency`]);
//! `Unavailable` therefore always means not applied. What this shard cannot answer goes to another
//! shard of the node, or to another node ([`crate::remote`]).

use crate::remote::{Answer, Deadline, Pause, TooFew, WriteTerms};
use crate::shard::{Barrier, Change, Made, Message, ReadError, Shard, WriteError, WriteRequest};
use crate::view::{Location, PlacedTable, SeenView, View};
use cluster::consistency::{self, Replica};
use cluster::peer::Peer;
use cluster::routing::{RangeReplicas, Stretch, stretches};
use cluster::{Access, GroupId, NodeIndex, RangeIndex, Unavailable};
use cql::plan::write::PartitionWrite;
use env::planted::{Bug, is_planted};
use model::read::{Page, ReadCommand, ReadScope, ResumePoint};
use model::{Consistency, TableDef, TableId, Token};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Stretches of the ring that one scan asks for at once, at most; it begins with one and doubles,
/// so that a small table of many ranges takes few round trips, and a large one reads little in
/// vain.
const SCAN_AHEAD_MAX: usize = 16;

/// Ranges that a TRUNCATE changes at once.
const TRUNCATED_AT_ONCE_MAX: usize = 64;

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
        match error {
            WriteError::Unavailable(unavailable) => CoordinatorError::Unavailable(unavailable),
            other => CoordinatorError::Write(other),
        }
    }
}

impl From<CoordinatorError> for WriteError {
    /// Of a write that had to read first.
    fn from(error: CoordinatorError) -> Self {
        match error {
            CoordinatorError::Unavailable(unavailable) => WriteError::Unavailable(unavailable),
            CoordinatorError::Write(error) => error,
            CoordinatorError::Read(error) => error.into(),
        }
    }
}

impl From<ReadError> for CoordinatorError {
    fn from(error: ReadError) -> Self {
        CoordinatorError::Read(error)
    }
}

/// The changes of one write, by the group that is to make them.
pub(crate) type Routed = BTreeMap<GroupId, Vec<PartitionWrite>>;

/// Who makes a write.
pub(crate) enum Destination {
    /// This group, which this shard leads, all of it.
    Here(GroupId, Vec<PartitionWrite>),
    /// Others, or several.
    Routed(Routed),
}

/// Where the answer for a stretch of a scan comes.
type PageReceiver = oneshot::Receiver<Answer<Page, ReadError>>;

/// Who answers for one stretch of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reader {
    node: NodeIndex,
    peer: Peer,
    by_leader: bool,
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
            routed.entry(at.group).or_default().push(write);
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
        let Some((first, rest)) = writes.split_first() else {
            return Ok(Destination::Routed(Routed::new()));
        };
        let at = self.location_for_write(view, first, level)?;
        let mut is_here = at.shard == self.index && self.makes_alone(&at, level);
        for write in rest {
            is_here = is_here && self.location_for_write(view, write, level)?.group == at.group;
        }
        if is_here {
            return Ok(Destination::Here(at.group, writes));
        }
        Ok(Destination::Routed(self.route(view, writes, level)?))
    }

    /// Whether a write that this shard makes is acknowledged with what this node knows.
    pub(crate) fn makes_alone(&self, at: &Location, level: Consistency) -> bool {
        let is_led = || at.is_local && self.decides(at.group);
        at.is_sole || (!consistency::waits_for_replicas(level) && is_led())
    }

    /// Whether what this node holds of a partition is an answer as it stands. A leader with
    /// followers has to ask for its lease after the read.
    pub(crate) fn answers_alone(at: &Location, level: Consistency) -> bool {
        let is_strong = || consistency::is_answered_by_leader(Access::Read, level);
        at.is_sole || (at.is_local && !is_strong())
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
        let coming = table.placement.coming(location.range);
        let nodes = table.placement.all(location.range);
        let replicas = nodes.iter().map(|node| Replica {
            data_centre: &view.ring.node(*node).data_centre,
            is_alive: self.may_be_up(view, *node),
            is_coming: coming.contains(node),
        });
        let local_centre = &view.ring.node(view.local).data_centre;
        consistency::judge(access, level, &table.replication, local_centre, replicas)?;
        Ok(location)
    }

    /// How many replicas the level names for a table: the number that clients are told.
    pub(crate) fn required(view: &View, table: TableId, level: Consistency) -> u32 {
        view.placed_table(table).map_or(1, |table| {
            let local_centre = &view.ring.node(view.local).data_centre;
            consistency::required(level, &table.replication, local_centre)
        })
    }

    /// Makes the changes of each group; returns when all are applied. Groups are independent: a
    /// failure of one says nothing of the others.
    pub(crate) async fn write_routed(
        self: &Rc<Self>,
        mut routed: Routed,
        terms: WriteTerms,
    ) -> Result<(), WriteError> {
        if routed.len() == 1
            && let Some((group, writes)) = routed.pop_first()
        {
            return self.write_to_group(group, Change::Write(writes), terms).await.map(|_| ());
        }
        self.make_all(routed.into_iter().map(|(group, w)| (group, Change::Write(w), terms))).await
    }

    /// Makes changes of several groups at once; all are tried, whatever becomes of one.
    async fn make_all(
        self: &Rc<Self>,
        changes: impl Iterator<Item = (GroupId, Change, WriteTerms)>,
    ) -> Result<(), WriteError> {
        let mut answers = Vec::new();
        for (group, change, terms) in changes {
            let (reply, answer) = oneshot::channel();
            let here = self.clone();
            tokio::task::spawn_local(async move {
                reply.send(here.write_to_group(group, change, terms).await).ok();
            });
            answers.push(answer);
        }
        let (mut is_any_done, mut refused, mut left_open) = (false, None, None);
        for answer in answers {
            match answer.await.unwrap_or_else(|_| Err(WriteError::going_down())) {
                Ok(_) => is_any_done = true,
                Err(error) if error.is_not_applied() => drop(refused.get_or_insert(error)),
                Err(error) => drop(left_open.get_or_insert(error)),
            }
        }
        match (left_open, refused) {
            (None, None) => Ok(()),
            (None, Some(error)) if !is_any_done => Err(error),
            (Some(error), None) => Err(error),
            // Of the whole it cannot be said that nothing was applied.
            (_, Some(error)) => {
                Err(WriteError::Unknown(format!("a part of the write was not made: {error}")))
            }
        }
    }

    /// Makes a write on the shard of this node that holds its range.
    pub(crate) async fn write_on(
        self: &Rc<Self>,
        shard: u16,
        request: WriteRequest,
    ) -> Result<Made, WriteError> {
        if shard == self.index {
            return self.write(request).await;
        }
        let (reply, answer) = oneshot::channel();
        let message = Message::Write(Box::new(request), reply);
        self.shared.shards[usize::from(shard)].try_send(message).map_err(|_| {
            WriteError::Overloaded("the shard has too many requests waiting".to_owned())
        })?;
        answer.await.unwrap_or_else(|_| Err(WriteError::going_down()))
    }

    /// Removes every row of a table, on all ranges; begins only if each of them can be written.
    /// Returns when all replicas that live have done so, since Cassandra does, though a majority
    /// of each range would be enough not to lose it.
    pub(crate) async fn truncate(
        self: &Rc<Self>,
        table: &Arc<TableDef>,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let view = self.view();
        let placed = view.placed_table(table.id);
        let placed = placed.ok_or_else(|| WriteError::Invalid("the table was dropped".into()))?;
        let mut changes = Vec::new();
        for range in view.ranges.iter() {
            let nodes = placed.placement.replicas(range);
            let replicas = RangeReplicas {
                ring: &view.ring,
                replication: &placed.replication,
                replicas: nodes,
                coming: placed.placement.coming(range),
                local: view.local,
                leader: None,
            };
            let is_alive = |node| self.is_alive(&view, node);
            replicas
                .judge(Access::Write, Consistency::Any, |node| self.may_be_up(&view, node))
                .map_err(WriteError::Unavailable)?;
            let is_whole = replicas.judge(Access::Write, Consistency::All, is_alive).is_ok();
            let level = if is_whole { Consistency::All } else { Consistency::Any };
            let terms = WriteTerms { level, ..WriteTerms::own(self, timeout) };
            changes.push((placed.placement.group(range), terms));
        }
        for some in changes.chunks(TRUNCATED_AT_ONCE_MAX) {
            let change = |(group, terms): &(_, _)| (*group, Change::Truncate(table.id), *terms);
            self.make_all(some.iter().map(change)).await?;
        }
        Ok(())
    }

    /// Reads a page, from whoever holds it.
    pub(crate) async fn read_page(
        self: &Rc<Self>,
        table: &TableDef,
        command: ReadCommand,
        level: Consistency,
        deadline: Deadline,
    ) -> Result<Page, CoordinatorError> {
        let view = self.view();
        let is_strong = consistency::is_answered_by_leader(Access::Read, level);
        let undecided = table.is_cdc_log() && is_strong;
        match &command.scope {
            ReadScope::Partition(key) => {
                let token = View::token(table, key);
                let location = self
                    .location_for_read(&view, table, token, level)
                    .map_err(CoordinatorError::Unavailable)?;
                if location.is_sole {
                    let barrier = Barrier { undecided, by_leader: false };
                    match self.read_on(location.shard, command.clone(), barrier).await {
                        // The ring has begun to change.
                        Err(ReadError::NotLeader { .. }) => {}
                        result => return Ok(result?),
                    }
                }
                self.read_range(token, command, undecided, (level, deadline)).await
            }
            ReadScope::TokenRange { first, last } => {
                let interval = (*first, *last);
                self.scan(table, command, undecided, interval, (level, deadline)).await
            }
        }
    }

    /// Reads a range of tokens in their order, until the page is full.
    async fn scan(
        self: &Rc<Self>,
        table: &TableDef,
        mut command: ReadCommand,
        undecided: bool,
        (first, last): (i64, i64),
        terms: (Consistency, Deadline),
    ) -> Result<Page, CoordinatorError> {
        let mut page = Page::default();
        let mut at = command.resume.as_ref().map_or(first, |r| View::token(table, &r.key).0);
        if is_planted(Bug::PagesSkipARange) && command.resume.take().is_some() {
            let ranges = &self.view().ranges;
            at = ranges.end_token(ranges.range_of(Token(at))).0.saturating_add(1);
        }
        let (row_limit, mut ahead, mut pause) = (command.row_limit, 1, Pause::default());
        'chunks: while at <= last {
            if page.row_count >= row_limit {
                page.resume = behind_last_partition(&page);
                return Ok(page);
            }
            command.row_limit = row_limit - page.row_count;
            let view = self.view();
            let placed = view.placed_table(table.id).ok_or(ReadError::UnknownTable)?;
            let mut stretches = match self.readers(&view, placed, (at, last), terms.0) {
                Ok(stretches) => stretches,
                Err(TooFew::ForNow(_)) if pause.wait(self, terms.1).await => continue,
                Err(TooFew::ForNow(error) | TooFew::Down(error)) => {
                    return Err(CoordinatorError::Unavailable(error));
                }
            };
            stretches.truncate(ahead);
            let answers = self.start_reads(&view, &command, undecided, stretches, terms.1);
            for (stretch, answer) in answers {
                let end = match answer.await.unwrap_or(Answer::NotLeader { hint: None }) {
                    Answer::Failed(error) => return Err(error.into()),
                    // More than there is room for by now: asked again for what is left.
                    Answer::Done(part) if part.row_count > row_limit - page.row_count => {
                        ahead = 1;
                        continue 'chunks;
                    }
                    Answer::Done(part) => {
                        page.append(part);
                        stretch.last.0
                    }
                    Answer::NotLeader { .. } | Answer::Outdated { .. } => {
                        // Its first range alone, from whoever answers for that.
                        ahead = 1;
                        let range = view.ranges.range_of(Token(at));
                        let end = view.ranges.end_token(range).0.min(last);
                        let mut command = command.clone();
                        command.row_limit = row_limit - page.row_count;
                        command.scope = ReadScope::TokenRange { first: at, last: end };
                        page.append(self.read_range(Token(at), command, undecided, terms).await?);
                        end
                    }
                };
                command.resume = None;
                let Some(next) = end.checked_add(1) else { return Ok(page) };
                at = next;
                if page.resume.is_some() {
                    return Ok(page);
                }
                if end != stretch.last.0 || page.row_count >= row_limit {
                    continue 'chunks;
                }
            }
            ahead = (ahead * 2).min(SCAN_AHEAD_MAX);
        }
        Ok(page)
    }

    /// Who is asked first for each part of an interval of tokens.
    fn readers(
        &self,
        view: &View,
        table: &PlacedTable,
        (first, last): (i64, i64),
        level: Consistency,
    ) -> Result<Vec<Stretch<Reader>>, TooFew> {
        stretches(&view.ranges, Token(first), Token(last), |range: RangeIndex| {
            let nodes = table.placement.replicas(range);
            let replicas = RangeReplicas {
                ring: &view.ring,
                replication: &table.replication,
                replicas: nodes,
                coming: table.placement.coming(range),
                local: view.local,
                leader: self
                    .known_leader(table.placement.group(range))
                    .and_then(|leader| view.ring.index_of(leader)),
            };
            let destinations = self.destinations(view, &replicas, Access::Read, level)?;
            let node = destinations.nodes.first().copied().unwrap_or(view.local);
            let host_id = view.ring.node(node).host_id;
            let peer = Peer { host_id, shard: view.shard_on(node, range) };
            // Who alone holds a range leads it.
            let by_leader = destinations.by_leader && table.placement.all(range) != [view.local];
            Ok(Reader { node, peer, by_leader })
        })
    }

    /// Asks for several stretches at once; the first alone goes on where a page ended.
    fn start_reads(
        self: &Rc<Self>,
        view: &SeenView,
        command: &ReadCommand,
        undecided: bool,
        stretches: Vec<Stretch<Reader>>,
        deadline: Deadline,
    ) -> Vec<(Stretch<Reader>, PageReceiver)> {
        let mut resume = command.resume.clone();
        let mut answers = Vec::with_capacity(stretches.len());
        for stretch in stretches {
            let (first, last) = (stretch.first.0, stretch.last.0);
            let command = ReadCommand {
                scope: ReadScope::TokenRange { first, last },
                resume: resume.take(),
                ..command.clone()
            };
            let Reader { node, peer, by_leader } = stretch.what;
            let barrier = Barrier { undecided, by_leader };
            let (reply, answer) = oneshot::channel();
            let (shard, view) = (self.clone(), view.clone());
            tokio::task::spawn_local(async move {
                reply.send(shard.read_at(&view, node, peer, command, barrier, deadline).await).ok();
            });
            answers.push((stretch, answer));
        }
        answers
    }

    /// Reads partitions that one shard of this node has.
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

/// Where what follows on a page goes on that ends with a whole partition.
fn behind_last_partition(page: &Page) -> Option<ResumePoint> {
    page.last_key().map(|key| ResumePoint { key: key.into(), clustering: None, partition_rows: 0 })
}
