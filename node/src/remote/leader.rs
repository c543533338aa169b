//! A write at the leader of its range, and a read at whoever may answer it: asking until somebody
//! does or the time is over.

use super::message::{self, Answer};
use crate::coordinator::CoordinatorError;
use crate::shard::{Barrier, Change, Made, ReadError, Shard, WriteError, WriteRequest};
use crate::view::{Setting, View};
use cluster::consensus::LogIndex;
use cluster::peer::Peer;
use cluster::routing::{Destinations, RangeReplicas, Tries};
use cluster::{
    Access, GroupId, HostId, NodeIndex, Placement, RangeIndex, Unavailable, consistency,
};
use env::planted::{Bug, is_planted};
use model::read::{Page, ReadCommand};
use model::schema::Replication;
use model::{Consistency, TableId, TimestampMicros, Token};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first pause when every replica was asked in vain; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause: a new leader is found soon after it was elected.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// How long before a request's time is over it is said how many replicas have applied a write.
const REPORT_NANOS: u64 = 20_000_000;

/// The moment of the monotonic clock at which a request's time is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    nanos: u64,
}

impl Deadline {
    /// In that much time from now.
    pub(crate) fn after(shard: &Shard, timeout: Duration) -> Deadline {
        Deadline { nanos: shard.deadline_nanos(timeout) }
    }

    /// A little earlier, so that there is time to say what was heard until then.
    pub(crate) fn to_report(self) -> Deadline {
        Deadline { nanos: self.nanos.saturating_sub(REPORT_NANOS) }
    }

    /// What is left until then.
    pub(crate) fn time_left(self, shard: &Shard) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(shard.monotonic_nanos()))
    }
}

/// How a write is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteTerms {
    pub level: Consistency,
    /// Shards that take part give out no timestamp at or below it afterwards.
    pub clock_floor: TimestampMicros,
    /// It is part of a batch that is decided, and is not planned again.
    pub is_decided: bool,
    pub deadline: Deadline,
}

impl WriteTerms {
    /// Of a write that the node makes for itself.
    pub(crate) fn own(shard: &Shard, timeout: Duration) -> WriteTerms {
        WriteTerms {
            level: Consistency::Any,
            clock_floor: TimestampMicros::MIN,
            is_decided: false,
            deadline: Deadline::after(shard, timeout),
        }
    }
}

/// Too few replicas of a range live for a level.
pub(crate) enum TooFew {
    /// Others may be back any moment: worth waiting for.
    ForNow(Unavailable),
    Down(Unavailable),
}

/// The growing pause of one request.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(PAUSE_MIN)
    }
}

impl Pause {
    /// Waits; `false` when that would be too long.
    pub(crate) async fn wait(&mut self, shard: &Shard, deadline: Deadline) -> bool {
        if deadline.time_left(shard) <= self.0 {
            return false;
        }
        shard.shared.env.clock.sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        true
    }
}

/// A range, and where its replicas are.
struct Place<'v> {
    view: &'v View,
    replication: &'v Replication,
    placement: &'v Placement,
    range: RangeIndex,
}

impl<'v> Place<'v> {
    fn of_group(view: &'v View, group: GroupId) -> Option<Place<'v>> {
        let (setting, range) = view.place_of(group)?;
        let Setting { replication, placement } = &**setting;
        Some(Place { view, replication, placement, range })
    }

    fn of_token(view: &'v View, table: TableId, token: Token) -> Option<Place<'v>> {
        let table = view.placed_table(table)?;
        let range = view.ranges.range_of(token);
        let (replication, placement) = (&table.replication, &*table.placement);
        Some(Place { view, replication, placement, range })
    }

    fn group(&self) -> GroupId {
        self.placement.group(self.range)
    }

    /// The shard of that node which holds the range.
    fn peer(&self, node: NodeIndex) -> Peer {
        let host_id = self.view.ring.node(node).host_id;
        Peer { host_id, shard: self.view.shard_on(node, self.range) }
    }

    fn replicas(&self, leader: Option<HostId>) -> RangeReplicas<'v> {
        RangeReplicas {
            ring: &self.view.ring,
            replication: self.replication,
            replicas: self.placement.replicas(self.range),
            coming: self.placement.coming(self.range),
            local: self.view.local,
            leader: leader.and_then(|leader| self.view.ring.index_of(leader)),
        }
    }
}

impl Shard {
    /// Whether this node believes another one to be up: it has promised support that still lasts.
    pub(crate) fn is_alive(&self, view: &View, node: NodeIndex) -> bool {
        node == view.local || self.is_live(view.ring.node(node).host_id)
    }

    /// Whom to ask about a range.
    pub(crate) fn destinations(
        &self,
        view: &View,
        replicas: &RangeReplicas<'_>,
        access: Access,
        level: Consistency,
    ) -> Result<Destinations, TooFew> {
        let live = replicas.destinations(access, level, |node| self.is_alive(view, node));
        live.map_err(|error| {
            match replicas.judge(access, level, |node| self.may_be_up(view, node)) {
                Ok(()) => TooFew::ForNow(error),
                Err(_) => TooFew::Down(error),
            }
        })
    }

    /// Whether a node is believed to be up, or may be so any moment: too few live replicas are
    /// `Unavailable` only when too few of them are this.
    pub(crate) fn may_be_up(&self, view: &View, node: NodeIndex) -> bool {
        node == view.local || !self.is_down(view.ring.node(node).host_id)
    }

    /// Makes a change at the leader of its group, and returns what came of it there, once as many
    /// replicas have applied it as the level names.
    ///
    /// What was not made is asked of the next that may lead. What may have been made is so too if
    /// making it twice is as good as once ([`Change::may_be_repeated`]): the death of a leader then
    /// costs the client the time until there is another, and no error.
    pub(crate) async fn write_to_group(
        self: &Rc<Self>,
        group: GroupId,
        change: Change,
        terms: WriteTerms,
    ) -> Result<Made, WriteError> {
        let request = WriteRequest { group, change, clock_floor: terms.clock_floor };
        let may_be_repeated = request.change.may_be_repeated();
        let mut bytes = None;
        let (mut tries, mut pause) = (Tries::default(), Pause::default());
        // Whether an attempt was made of which it is not known what became.
        let mut is_open = false;
        let failed = |is_open, error: WriteError| {
            let is_open = is_open && !is_planted(Bug::UnavailableAfterSending);
            if is_open && error.is_not_applied() { WriteError::timed_out() } else { error }
        };
        loop {
            let view = self.view();
            let Some(place) = Place::of_group(&view, group) else {
                let reason = "the keyspace was dropped".to_owned();
                return Err(failed(is_open, WriteError::Invalid(reason)));
            };
            if place.placement.all(place.range) == [view.local] {
                let shard = view.shard_on(view.local, place.range);
                match self.write_on(shard, request.clone()).await {
                    // The ring has begun to change, or leadership comes any moment.
                    Err(WriteError::NotLeader { .. }) if pause.wait(self, terms.deadline).await => {
                        continue;
                    }
                    result => return result,
                }
            }
            let replicas = place.replicas(self.known_leader(group));
            let destinations = match self.destinations(&view, &replicas, Access::Write, terms.level)
            {
                Ok(destinations) => destinations,
                Err(TooFew::ForNow(_)) if pause.wait(self, terms.deadline).await => continue,
                Err(TooFew::ForNow(error) | TooFew::Down(error)) => {
                    return Err(failed(is_open, WriteError::Unavailable(error)));
                }
            };
            let Some(node) = tries.next(&destinations) else {
                if !pause.wait(self, terms.deadline).await {
                    return Err(WriteError::timed_out());
                }
                tries.begin_again();
                continue;
            };
            match self.write_at(&place, node, &request, &mut bytes, terms).await {
                Answer::Done(made) => {
                    self.note_leader(group, Some(place.peer(node).host_id));
                    self.wait_for_replicas(&place, node, made.index, terms).await?;
                    return Ok(made);
                }
                Answer::Failed(WriteError::Unknown(_)) if may_be_repeated => {
                    is_open = true;
                    self.note_leader(group, None);
                    tries.note_in_vain(node);
                }
                Answer::Failed(error) => return Err(failed(is_open, error)),
                Answer::Outdated { index } => {
                    return Err(failed(is_open, WriteError::Outdated { index }));
                }
                Answer::NotLeader { hint } => {
                    self.note_leader(group, hint);
                    tries.note_in_vain(node);
                }
            }
        }
    }

    /// Has one replica make a write, if it leads. The request's bytes are made once.
    async fn write_at(
        self: &Rc<Self>,
        place: &Place<'_>,
        node: NodeIndex,
        request: &WriteRequest,
        bytes: &mut Option<Vec<u8>>,
        terms: WriteTerms,
    ) -> Answer<Made, WriteError> {
        let (peer, time_left) = (place.peer(node), terms.deadline.time_left(self));
        if node == place.view.local {
            let made = tokio::time::timeout(time_left, self.write_on(peer.shard, request.clone()));
            return answer_of_write(made.await.unwrap_or_else(|_| Err(WriteError::timed_out())));
        }
        if bytes.is_none() {
            *bytes = message::write_bytes(request, place.view.index(), terms.is_decided);
        }
        let Some(bytes) = bytes else { return Answer::Failed(own_change()) };
        self.forwarded_count.set(self.forwarded_count.get() + 1);
        let asking = self.ask_write(peer, bytes, time_left);
        if !request.change.may_be_repeated() {
            return asking.await;
        }
        let answer = self.while_it_lives(peer.host_id, asking).await;
        answer.unwrap_or_else(|| Answer::Failed(WriteError::timed_out()))
    }

    /// Waits until as many replicas have applied the entry at `index` as the level names.
    async fn wait_for_replicas(
        self: &Rc<Self>,
        place: &Place<'_>,
        leader: NodeIndex,
        index: LogIndex,
        terms: WriteTerms,
    ) -> Result<(), WriteError> {
        if !consistency::waits_for_replicas(terms.level) {
            return Ok(());
        }
        let view = place.view;
        let replicas = place.placement.all(place.range);
        let deadline = terms.deadline.to_report();
        let (sender, mut heard) = mpsc::channel(replicas.len().max(1));
        for &node in replicas.iter().filter(|node| **node != leader) {
            let (shard, sender, peer) = (self.clone(), sender.clone(), place.peer(node));
            let (group, is_here) = (place.group(), node == view.local);
            tokio::task::spawn_local(async move {
                if shard.has_applied(peer, is_here, group, index, deadline).await {
                    sender.send(node).await.ok();
                }
            });
        }
        drop(sender);
        let mut applied = vec![leader];
        let centre_of = |node: NodeIndex| &*view.ring.node(node).data_centre;
        loop {
            let centres = applied.iter().map(|node| centre_of(*node));
            let local_centre = centre_of(view.local);
            if consistency::is_reached(terms.level, place.replication, local_centre, centres) {
                return Ok(());
            }
            match heard.recv().await {
                Some(node) => applied.push(node),
                None => return Err(WriteError::TooFewApplied { received: applied.len() as u32 }),
            }
        }
    }

    /// Reads from the range that holds `at`: all that the command names lies in it, or in other
    /// ranges of which the same may be said.
    pub(crate) async fn read_range(
        self: &Rc<Self>,
        at: Token,
        command: ReadCommand,
        undecided: bool,
        (level, deadline): (Consistency, Deadline),
    ) -> Result<Page, CoordinatorError> {
        let (mut tries, mut pause) = (Tries::default(), Pause::default());
        loop {
            let view = self.view();
            let Some(place) = Place::of_token(&view, command.table, at) else {
                return Err(ReadError::UnknownTable.into());
            };
            let group = place.group();
            let replicas = place.replicas(self.known_leader(group));
            let destinations = match self.destinations(&view, &replicas, Access::Read, level) {
                Ok(destinations) => destinations,
                Err(TooFew::ForNow(_)) if pause.wait(self, deadline).await => continue,
                Err(TooFew::ForNow(error) | TooFew::Down(error)) => {
                    return Err(CoordinatorError::Unavailable(error));
                }
            };
            let Some(node) = tries.next(&destinations) else {
                if !pause.wait(self, deadline).await {
                    return Err(ReadError::TimedOut.into());
                }
                tries.begin_again();
                continue;
            };
            let by_leader = destinations.by_leader;
            let barrier = Barrier { undecided, by_leader };
            let peer = place.peer(node);
            match self.read_at(&view, node, peer, command.clone(), barrier, deadline).await {
                Answer::Done(page) => {
                    if by_leader {
                        self.note_leader(group, Some(peer.host_id));
                    }
                    return Ok(page);
                }
                Answer::Failed(error) => return Err(error.into()),
                Answer::Outdated { .. } => tries.note_in_vain(node),
                Answer::NotLeader { hint } => {
                    if by_leader {
                        self.note_leader(group, hint);
                    }
                    tries.note_in_vain(node);
                }
            }
        }
    }

    /// Asks one shard of one node, once.
    pub(crate) async fn read_at(
        self: &Rc<Self>,
        view: &View,
        node: NodeIndex,
        peer: Peer,
        command: ReadCommand,
        barrier: Barrier,
        deadline: Deadline,
    ) -> Answer<Page, ReadError> {
        if node != view.local {
            let bytes = message::read_bytes(&command, barrier, view.index());
            self.forwarded_count.set(self.forwarded_count.get() + 1);
            let asking = self.ask_read(peer, &bytes, deadline.time_left(self));
            let answer = self.while_it_lives(peer.host_id, asking).await;
            return match answer.unwrap_or(Answer::NotLeader { hint: None }) {
                Answer::Done(page) if page.row_count > command.row_limit => {
                    let reason = "a replica has sent more rows than were asked for".to_owned();
                    Answer::Failed(ReadError::Storage(reason))
                }
                answer => answer,
            };
        }
        match self.read_on(peer.shard, command, barrier).await {
            Ok(page) => Answer::Done(page),
            Err(ReadError::NotLeader { hint }) => Answer::NotLeader { hint },
            Err(error) => Answer::Failed(error),
        }
    }

    /// Who leads a group, as this shard knows or has heard.
    pub(crate) fn known_leader(&self, group: GroupId) -> Option<HostId> {
        self.replica_leader(group).or_else(|| self.leaders.borrow().get(&group).copied())
    }

    /// Somebody said who leads a group, or that nobody is known to.
    pub(crate) fn note_leader(&self, group: GroupId, leader: Option<HostId>) {
        let mut leaders = self.leaders.borrow_mut();
        match leader {
            Some(leader) => leaders.insert(group, leader),
            None => leaders.remove(&group),
        };
    }
}

/// The result of a write on a shard of this node, as another node would tell it.
pub(super) fn answer_of_write(result: Result<Made, WriteError>) -> Answer<Made, WriteError> {
    match result {
        Ok(made) => Answer::Done(made),
        Err(WriteError::NotLeader { hint }) => Answer::NotLeader { hint },
        Err(error) => Answer::Failed(error),
    }
}

fn own_change() -> WriteError {
    WriteError::Failed("a change of this kind is made by its own node".to_owned())
}
