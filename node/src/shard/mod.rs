//! A shard: one thread that alone owns a part of the node's data.
//!
//! Everything here is `&mut` of one thread: engine, commit log, replicas, sessions. Other threads
//! reach it through its bounded queue of [`Message`]s. A write goes through these steps, in order:
//!
//! 1. *decide* ([`decide`]): timestamps, reads before the write, the CDC log rows; one step without
//!    a pause, so nothing comes between the look and the proposal;
//! 2. *propose*: one entry with all of it is appended to the range's log;
//! 3. *held*: it is written and synced, which the log's thread reports; with periodic sync the
//!    shard writes it itself at the end of its turn, and that is enough;
//! 4. *committed*: a majority holds it, which with one replica is the same moment;
//! 5. *applied*: merged into the memtables, visible from here on;
//! 6. *answered*.
//!
//! The state is behind a `RefCell` that is never borrowed across an `await`.

mod clock;
mod closing;
mod conditional;
mod counters;
mod decide;
mod departures;
mod envelopes;
mod groups;
mod homecoming;
mod lateness;
mod lists;
mod lives;
mod log;
mod log_reads;
mod lookout;
mod maintenance;
mod metadata_group;
mod metadata_snapshot;
mod moves;
mod read;
mod recovery;
mod snapshots;
mod standstill;
mod state;
mod support;
mod tail;
mod write;

pub(crate) use clock::{PublishedClock, above_all};
pub(crate) use closing::ClosedRange;
pub(crate) use decide::{Attempt, resolve_lists, slices_of};
pub(crate) use lists::{ListHold, PartitionId};
pub(crate) use moves::MovesReport;
pub(crate) use read::{Barrier, ReadError, tokens_of};
pub(crate) use recovery::start;
pub(crate) use snapshots::StreamKind;
pub(crate) use standstill::StandingStill;
pub(crate) use state::{ShardStatistics, StorageReport};
pub(crate) use support::Boards;
pub(crate) use tail::{RangeSet, TailAnswer, TailAsk};
pub(crate) use write::{
    Change, Made, Outcome, Waiter, WaitingClient, WriteError, WriteRequest, Written,
};

use crate::batch_log::{BatchId, OpenBatches};
use crate::connection::{self, ConnectionMemory, DecodedFrame, Session};
use crate::feeds::{ScanAnswer, ScanAsk};
use crate::internode;
use crate::metadata::{DdlResult, FeedRecord, MetadataRequest, Publication};
use crate::node::Shared;
use crate::statement::RecentStatements;
use crate::status::{self, ClusterStatus, UnknownKeyspace};
use crate::view::{SeenView, View};
use changefeed::scan::ScanError;
use cluster::consensus::LogIndex;
use cluster::liveness::{Liveness, MonotonicNanos};
use cluster::peer::{Accepted, Inbox, Peer, Peers};
use cluster::{GroupId, HostId};
use cql::plan::select::RowScratch;
use cql::wire::{Event, Values};
use env::Entropy;
use env::net::DetachedStream;
use env::tasks::queue::Receiver;
use model::read::{Page, ReadCommand};
use model::{IdMap, TableId, TimestampMicros};
use snapshots::Snapshots;
use state::ShardState;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tail::TailRanges;
use tokio::sync::{Notify, oneshot};

/// Messages that wait for a shard; beyond it the sender is told that the node is overloaded.
pub(crate) const MESSAGES_MAX: usize = 4096;
/// Messages handled before other tasks of the shard run.
const MESSAGES_PER_TURN_MAX: usize = 256;
/// What one connection's turn reads at most, in bytes.
const READ_BYTES_MAX: usize = 64 << 10;

/// What other threads ask of a shard.
pub(crate) enum Message {
    /// Another node's connection with this shard.
    Peer(Accepted),
    /// A client's connection that this shard is to serve.
    Connection(DetachedStream, SocketAddr),
    /// A write to a range whose replica is here.
    Write(Box<WriteRequest>, oneshot::Sender<Result<Made, WriteError>>),
    /// A read of partitions that are here, once what is undecided now has been decided if so
    /// wanted.
    Read(Box<ReadCommand>, Barrier, oneshot::Sender<Result<Page, ReadError>>),
    /// Whether an entry is applied; answered when it is, or never will be by this shard.
    Applied(GroupId, LogIndex, oneshot::Sender<bool>),
    /// A logged batch is about to look at the lists of these partitions.
    HoldLists(Vec<PartitionId>, oneshot::Sender<ListHold>),
    /// A change of the metadata; shard 0 only.
    Ddl(Box<MetadataRequest>, oneshot::Sender<DdlResult>),
    /// There is a newer view; answered when this shard acts by it. Events go to the clients.
    ViewChanged(Arc<[Event]>, oneshot::Sender<()>),
    /// Events that go to the clients.
    Events(Arc<[Event]>),
    /// The support between nodes has changed: there is a newer board.
    SupportChanged,
    /// What the shard, of this node or, reached over this one, of another, has logged since a time;
    /// nothing if it does not answer.
    Tail(Peer, Box<TailAsk>, oneshot::Sender<Option<TailAnswer>>),
    /// How far the ranges of a table are closed that the shard leads.
    ClosedRanges(TableId, oneshot::Sender<Vec<ClosedRange>>),
    /// A part of a table, for a feed that scans it.
    Scan(Box<ScanAsk>, oneshot::Sender<Result<ScanAnswer, ScanError>>),
    /// What clients are connected, for the virtual tables.
    Clients(oneshot::Sender<Vec<connection::ClientInfo>>),
    /// The changefeeds as they were last applied; shard 0 only.
    Feeds(oneshot::Sender<Vec<FeedRecord>>),
    /// What the shard stores, for the virtual tables.
    Storage(oneshot::Sender<StorageReport>),
    /// The cluster as operators see it, with ownership by a keyspace's replicas if one is named;
    /// shard 0 only.
    ClusterStatus(Option<String>, oneshot::Sender<Result<ClusterStatus, UnknownKeyspace>>),
    /// How far the groups that this shard leads have come with the plan.
    Moves(oneshot::Sender<MovesReport>),
    /// What the shard has done so far, for the metrics.
    Statistics(oneshot::Sender<ShardStatistics>),
    /// Flush what is in memory, release the log, and end.
    Stop(oneshot::Sender<()>),
}

/// Held while a shard serves. Sessions and the shard hold each other, so when its task is dropped, as
/// in a simulated crash, somebody has to let go first, or neither would ever be freed.
struct End(Rc<Shard>);

impl Drop for End {
    fn drop(&mut self) {
        let sessions = self.0.sessions.take();
        let waiters = self.0.state.borrow_mut().replicas.abandon();
        drop((sessions, waiters));
    }
}

/// The time of a turn.
#[derive(Clone, Copy)]
struct TurnTime {
    wall_micros: TimestampMicros,
    monotonic_nanos: u64,
}

/// A shard, as its own tasks see it.
pub(crate) struct Shard {
    pub index: u16,
    pub shared: Arc<Shared>,
    /// The shards of other nodes.
    pub peers: Peers,
    /// What they send; taken by the task that serves it.
    inbox: Cell<Option<Inbox>>,
    /// What followers wait for from the log.
    log_reads: RefCell<log_reads::LogReads>,
    /// Messages and requests of no known kind.
    pub unknown_message_count: Cell<u64>,
    /// Support between nodes; on shard 0.
    liveness: RefCell<Option<Liveness>>,
    /// Told when there are nodes that it has not asked.
    liveness_work: Notify,
    /// Told when support was withdrawn from a node.
    withdrawn: Notify,
    /// The nodes that clients were told are up, and where; on shard 0.
    live_nodes: RefCell<BTreeMap<HostId, SocketAddr>>,
    /// The version of the board that is acted by.
    seen_board: Cell<u64>,
    view: RefCell<SeenView>,
    /// The index of the newest view whose tables and groups this shard has.
    pub adopted_index: Cell<u64>,
    /// Who was last heard to lead groups that are led elsewhere.
    pub leaders: RefCell<IdMap<GroupId, HostId>>,
    /// How far groups were heard to be closed, by whoever led them.
    pub closed_heard: RefCell<IdMap<GroupId, TimestampMicros>>,
    /// The time of the turn that is being taken, if any.
    turn_time: Cell<Option<TurnTime>>,
    state: RefCell<ShardState>,
    /// Told when entries were appended and a job may be due.
    log_work: Notify,
    /// How often there was, since it looked.
    log_work_count: Cell<u32>,
    /// Space for the bytes of an envelope.
    envelope_buffer: Cell<Vec<u8>>,
    pub entropy: RefCell<Entropy>,
    pub sessions: RefCell<BTreeMap<u64, Rc<Session>>>,
    /// What connections may hold together.
    pub memory: Rc<ConnectionMemory>,
    next_session: Cell<u64>,
    /// Where connections read into; one is enough, since none keeps bytes in it over a turn.
    pub read_buffer: RefCell<Box<[u8]>>,
    /// One DDL statement at a time; shard 0 only.
    pub ddl_turn: tokio::sync::Mutex<()>,
    /// The node that is being let in; shard 0 of the node that leads the metadata only.
    pub joining: Cell<Option<HostId>>,
    /// Nodes that have gone, and that this shard has no connections with any more.
    pub parted_with: RefCell<BTreeSet<HostId>>,
    /// Held by whoever replaces the metadata snapshot, so that no older one takes the place of a
    /// newer one; shard 0 only.
    metadata_file: tokio::sync::Mutex<()>,
    /// Members that are being sent the metadata as a whole; shard 0 only.
    sending_metadata: RefCell<BTreeSet<HostId>>,
    /// How far the metadata has come on this node; shard 0 only.
    pub publication: Publication,
    /// Told when entries were applied: groups may have become led.
    settled: Notify,
    /// Told when a job of the engine has ended, whoever ran it.
    job_ended: Notify,
    /// Told when followed logs have new rows.
    tail_news: Notify,
    /// The ranges that followers ask for, by the first table.
    tail_ranges: RefCell<BTreeMap<TableId, TailRanges>>,
    /// Snapshots of groups that are sent or received.
    snapshots: Snapshots,
    /// Partitions whose lists stand still for a logged batch.
    list_holds: lists::ListHolds,
    /// Records of logged batches that could not be read.
    pub unreadable_batches: Cell<u64>,
    last_timeuuid_micros: Cell<i64>,
    /// The values of the request in hand; one set of slots serves all requests of the shard.
    pub values: RefCell<Values>,
    /// The statements that were run last.
    pub recent_statements: RefCell<RecentStatements>,
    pub request_count: Cell<u64>,
    /// Writes and reads that were sent to other nodes.
    pub forwarded_count: Cell<u64>,
    /// Room for the frames of one read; empty between turns.
    pub frames: RefCell<VecDeque<DecodedFrame>>,
    /// Room for one row's columns, for all reads of the shard.
    pub row_scratch: RefCell<RowScratch>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shard({})", self.index)
    }
}

impl Shard {
    fn new(
        index: u16,
        shared: Arc<Shared>,
        view: Arc<View>,
        state: ShardState,
        entropy: Entropy,
        (peers, inbox): (Peers, Inbox),
    ) -> Rc<Shard> {
        internode::set_addresses(&peers, &view, shared.host_id, index);
        let memory = ConnectionMemory::new(shared.connection_bytes_max());
        let now = MonotonicNanos(shared.env.clock.monotonic_nanos());
        let index_of_view = view.index();
        let liveness =
            (index == 0).then(|| support::start_liveness(shared.data.identity.incarnation, now));
        let shard = Rc::new(Shard {
            index,
            shared,
            peers,
            inbox: Cell::new(Some(inbox)),
            log_reads: RefCell::default(),
            unknown_message_count: Cell::new(0),
            liveness: RefCell::new(liveness),
            liveness_work: Notify::new(),
            withdrawn: Notify::new(),
            live_nodes: RefCell::default(),
            seen_board: Cell::new(0),
            adopted_index: Cell::new(view.index()),
            leaders: RefCell::default(),
            closed_heard: RefCell::default(),
            view: RefCell::new(Rc::new(view)),
            turn_time: Cell::new(None),
            memory,
            state: RefCell::new(state),
            log_work: Notify::new(),
            log_work_count: Cell::new(0),
            envelope_buffer: Cell::default(),
            entropy: RefCell::new(entropy),
            sessions: RefCell::new(BTreeMap::new()),
            next_session: Cell::new(0),
            read_buffer: RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice()),
            ddl_turn: tokio::sync::Mutex::new(()),
            joining: Cell::new(None),
            parted_with: RefCell::default(),
            metadata_file: tokio::sync::Mutex::new(()),
            sending_metadata: RefCell::default(),
            publication: Publication::new(index_of_view),
            settled: Notify::new(),
            job_ended: Notify::new(),
            tail_news: Notify::new(),
            tail_ranges: RefCell::default(),
            snapshots: Snapshots::default(),
            list_holds: lists::ListHolds::default(),
            unreadable_batches: Cell::new(0),
            last_timeuuid_micros: Cell::new(i64::MIN),
            values: RefCell::new(Values::new()),
            recent_statements: RefCell::default(),
            request_count: Cell::new(0),
            forwarded_count: Cell::new(0),
            frames: RefCell::default(),
            row_scratch: RefCell::new(RowScratch::default()),
        });
        shard.connect_members();
        shard
    }

    /// The newest view.
    pub(crate) fn view(&self) -> SeenView {
        let mut view = self.view.borrow_mut();
        if self.shared.views().is_newer(&view) {
            let newest = self.shared.views().newest();
            if view.images_differ(&newest) {
                self.state.borrow_mut().close_for_images();
            }
            *view = Rc::new(newest);
        }
        view.clone()
    }

    /// Does what takes no waiting, such as the requests of one read, at one time: the clocks are
    /// read once for all of it.
    pub(crate) fn take_turn<R>(&self, work: impl FnOnce() -> R) -> R {
        let clock = &self.shared.env.clock;
        self.turn_time.set(Some(TurnTime {
            wall_micros: clock.now_micros(),
            monotonic_nanos: clock.monotonic_nanos(),
        }));
        let result = work();
        self.turn_time.set(None);
        result
    }

    /// The wall clock, which stands still during a turn.
    pub(crate) fn now_micros(&self) -> TimestampMicros {
        let turn = self.turn_time.get().map(|turn| turn.wall_micros);
        turn.unwrap_or_else(|| self.shared.env.clock.now_micros())
    }

    /// The monotonic clock, which stands still during a turn.
    pub(crate) fn monotonic_nanos(&self) -> u64 {
        let turn = self.turn_time.get().map(|turn| turn.monotonic_nanos);
        turn.unwrap_or_else(|| self.shared.env.clock.monotonic_nanos())
    }

    /// Lets the log's task look for work, once for all that comes up before it does.
    fn wake_log(&self) {
        let count = self.log_work_count.get();
        self.log_work_count.set(count.saturating_add(1));
        if count == 0 {
            self.log_work.notify_one();
        }
    }

    pub(crate) fn next_session_id(&self) -> u64 {
        let id = self.next_session.get();
        self.next_session.set(id + 1);
        id
    }

    /// The moment of the monotonic clock at which something that begins now is late.
    pub(crate) fn deadline_nanos(&self, timeout: Duration) -> u64 {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_nanos().saturating_add(timeout)
    }

    pub(crate) fn monotonic_seconds(&self) -> u64 {
        self.monotonic_nanos() / 1_000_000_000
    }

    /// Serves messages until the node stops.
    pub(crate) async fn run(self: Rc<Self>, mut messages: Receiver<Message>) {
        let _end = End(self.clone());
        tokio::task::spawn_local(self.clone().run_log());
        tokio::task::spawn_local(self.clone().run_maintenance());
        tokio::task::spawn_local(self.clone().run_lookout());
        tokio::task::spawn_local(self.clone().run_compactions());
        tokio::task::spawn_local(self.clone().run_moves());
        tokio::task::spawn_local(self.clone().finish_batches());
        if self.index == 0 {
            self.know_nodes();
            tokio::task::spawn_local(self.clone().run_liveness());
            tokio::task::spawn_local(self.clone().run_publication());
            tokio::task::spawn_local(self.clone().run_plans());
            tokio::task::spawn_local(self.clone().tell_own_record());
            tokio::task::spawn_local(self.clone().catch_up());
            tokio::task::spawn_local(self.clone().watch_clock());
            tokio::task::spawn_local(self.clone().watch_writes());
            tokio::task::spawn_local(self.clone().keep_generations_known());
            tokio::task::spawn_local(self.clone().run_feed_ownership());
            tokio::task::spawn_local(self.clone().run_retirements());
        }
        if let Some(inbox) = self.inbox.take() {
            tokio::task::spawn_local(internode::serve(self.clone(), inbox));
        }
        let mut batch = Vec::new();
        loop {
            if messages.recv_many(&mut batch, MESSAGES_PER_TURN_MAX).await == 0 {
                return;
            }
            for message in batch.drain(..) {
                if let Message::Stop(stopped) = message {
                    self.stop().await;
                    stopped.send(()).ok();
                    return;
                }
                self.handle(message);
            }
            tokio::task::yield_now().await;
        }
    }

    fn tell_clients(&self, reply: oneshot::Sender<Vec<connection::ClientInfo>>) {
        let sessions = self.sessions.borrow();
        let clients = sessions.values().map(|s| s.info.borrow().clone()).collect();
        reply.send(clients).ok();
    }

    fn tell_feeds(&self, reply: oneshot::Sender<Vec<FeedRecord>>) {
        let feeds = self.with_metadata(|m| m.feeds.values().cloned().collect());
        reply.send(feeds).ok();
    }

    fn handle(self: &Rc<Self>, message: Message) {
        let shard = self.clone();
        match message {
            Message::Peer(accepted) => self.peers.accept(accepted),
            Message::Connection(stream, peer) => {
                tokio::task::spawn_local(connection::serve(shard, stream, peer));
            }
            Message::Write(request, reply) => {
                tokio::task::spawn_local(async move {
                    let result = shard.write(*request).await;
                    reply.send(result).ok();
                });
            }
            Message::Read(command, barrier, reply) => {
                tokio::task::spawn_local(async move {
                    reply.send(shard.read(&command, barrier).await).ok();
                });
            }
            Message::Applied(group, index, reply) => {
                tokio::task::spawn_local(async move {
                    reply.send(shard.wait_until_applied(group, index).await).ok();
                });
            }
            Message::HoldLists(partitions, reply) => {
                tokio::task::spawn_local(shard.hold_lists_here(partitions, reply));
            }
            Message::Ddl(request, reply) => {
                tokio::task::spawn_local(async move {
                    reply.send(shard.change_metadata(*request).await).ok();
                });
            }
            Message::ViewChanged(events, reply) => {
                tokio::task::spawn_local(async move {
                    shard.adopt_view().await;
                    shard.send_events(&events);
                    reply.send(()).ok();
                });
            }
            Message::Events(events) => self.send_events(&events),
            Message::SupportChanged => self.adopt_board(MonotonicNanos(self.monotonic_nanos())),
            Message::Tail(peer, ask, reply) => {
                tokio::task::spawn_local(shard.answer_follower(peer, ask, reply));
            }
            Message::ClosedRanges(table, reply) => {
                tokio::task::spawn_local(async move {
                    reply.send(shard.closed_ranges(table).await).ok();
                });
            }
            Message::Scan(ask, reply) => {
                tokio::task::spawn_local(shard.answer_scan(ask, reply));
            }
            Message::Clients(reply) => self.tell_clients(reply),
            Message::Feeds(reply) => self.tell_feeds(reply),
            Message::Storage(reply) => {
                reply.send(self.state.borrow().storage_report()).ok();
            }
            Message::Moves(reply) => {
                reply.send(self.state.borrow().moves.report()).ok();
            }
            Message::ClusterStatus(keyspace, reply) => {
                tokio::task::spawn_local(async move {
                    reply.send(status::of_cluster(&shard, keyspace.as_deref()).await).ok();
                });
            }
            Message::Statistics(reply) => {
                reply.send(self.statistics()).ok();
            }
            Message::Stop(_) => unreachable!("the loop ends with it"),
        }
    }

    /// What the shard has done so far.
    fn statistics(&self) -> ShardStatistics {
        let now = MonotonicNanos(self.monotonic_nanos());
        let mut statistics = self.state.borrow().statistics(now);
        statistics.unknown_messages = self.unknown_message_count.get();
        statistics.connections = self.sessions.borrow().len() as u64;
        statistics.requests = self.request_count.get();
        statistics.forwarded = self.forwarded_count.get();
        statistics.connection_bytes = self.memory.held_bytes() as u64;
        statistics.unreadable_batches = self.unreadable_batches.get();
        statistics.snapshots = self.snapshots.figures();
        statistics.snapshots_under_way += self.snapshots.received_now() as u64;
        statistics
    }

    /// Creates, changes and drops the engine's tables after the newest view, and takes part in the
    /// groups that are new in it.
    pub(crate) async fn adopt_view(self: &Rc<Self>) {
        let view = self.view();
        self.part_with_gone();
        internode::set_addresses(&self.peers, &view, self.shared.host_id, self.index);
        if self.index == 0 {
            self.know_nodes();
            self.reach_metadata_members(&view);
        }
        {
            let now = MonotonicNanos(self.monotonic_nanos());
            let mut state = self.state.borrow_mut();
            state.adopt_tables(&view);
            if let Err(error) = state.adopt_groups(self.index, self.shared.shard_count, now) {
                tracing::error!("shard {}: new groups are not led: {error}", self.index);
            }
            self.wake_log();
        }
        self.connect_members();
        while !self.state.borrow().leads_all() {
            self.settled.notified().await;
        }
        self.adopted_index.set(self.adopted_index.get().max(view.index()));
    }

    /// Does something with the logged batches that are on record here.
    pub(crate) fn with_open_batches<R>(&self, act: impl FnOnce(&mut OpenBatches) -> R) -> R {
        act(&mut self.state.borrow_mut().open_batches)
    }

    /// Logged batches that this shard, as the leader of their groups, has to finish.
    pub(crate) fn due_batches(&self, now: MonotonicNanos, count_max: usize) -> Vec<BatchId> {
        let ShardState { open_batches, replicas, .. } = &mut *self.state.borrow_mut();
        open_batches.due(now, count_max, |group| replicas.may_decide(group))
    }

    /// Connects with the shards that hold replicas of this one's groups.
    fn connect_members(&self) {
        let peers = self.state.borrow().member_shards();
        for peer in peers {
            // The view that names it has said where it is.
            self.peers.connect(peer).ok();
        }
    }

    /// A version 1 UUID of the present that this shard has not given out before.
    pub(crate) fn fresh_timeuuid(&self, now_micros: i64) -> [u8; 16] {
        let micros = now_micros.max(self.last_timeuuid_micros.get() + 1);
        self.last_timeuuid_micros.set(micros);
        let low_bits = model::timeuuid::ietf_low_bits(self.entropy.borrow_mut().u64());
        model::timeuuid::timeuuid_from_micros(micros, low_bits)
    }

    /// A random UUID.
    pub(crate) fn fresh_uuid(&self) -> [u8; 16] {
        crate::data_directory::random_uuid(&mut self.entropy.borrow_mut()).to_be_bytes()
    }

    fn send_events(&self, events: &[Event]) {
        for session in self.sessions.borrow().values() {
            let wanted = events.iter().filter(|event| session.wants(event.kind()));
            for event in wanted {
                let version = session.version.get();
                session.outbox().write(|out| cql::wire::write_event(out, version, event));
            }
        }
    }
}
