//! The log of a set of tables as one sequence, from all shards of the cluster.
//!
//! Every shard that may lead ranges of the tables is followed by a task of its own, which asks it
//! again and again what was logged above the time it has reached ([`TailAsk`]). The answers meet in a
//! [`Merge`]; what is complete over the whole ring is handed out. A shard without news is silent for
//! [`WAIT`]: when rows of another shard wait for its closed time, it is asked once more, to answer as
//! soon as it has closed that time (*hurried*). So an idle log costs a few questions a second and
//! shard, and a row comes out some milliseconds after its commit.
//!
//! Whoever leads a range answers for it, whoever that was before: a range that changes its leader is
//! asked for from where it stood, and one without a leader holds all, which loses nothing.
//!
//! The feeds of a node that are on the same tables are behind one such source
//! ([`changefeed::source::shared`]); what one of them has lost by the log's TTL ends that one alone
//! ([`feed`]).

pub(super) mod expiry;
mod feed;
mod merge;

use crate::node::Shared;
use crate::remote::shards_of;
use crate::shard::{Message, TailAnswer, TailAsk};
use crate::view::View;
use changefeed::memory::Account;
use changefeed::source::shared::OpenLog;
use changefeed::source::{Batch, Source, SourceError};
use changefeed::{LogRow, TableShape};
use cluster::RangeIndex;
use cluster::peer::Peer;
use merge::Merge;
use model::codec::{Cursor, DecodeError};
use model::mutation::MutationView;
use model::{TableId, TimestampMicros, Token};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

pub(super) use feed::FeedSource;

/// How long a shard without news waits before it answers.
const WAIT: Duration = Duration::from_millis(100);
/// The least time between two questions to one shard.
const PACE: Duration = Duration::from_millis(1);
/// How often a shard that is not asked for rows is asked what it leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The pause after a question that was not answered.
const PAUSE: Duration = Duration::from_millis(30);
/// How often it is looked whether there is a newer view.
const VIEW_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of rows that wait for the slowest range or for whoever takes batches; beyond it, or while the
/// memory of all feeds is short, only the slowest shards are asked.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Bytes of rows in a batch, about. A feed that is stuck holds one, which may be others' too.
const BATCH_BYTES: usize = 256 << 10;
/// A batch without rows says that at least so much time has passed.
const IDLE_MICROS: i64 = 50_000;
/// A row whose time is further ahead is not waited for: some clients write into the future.
const SOON_MICROS: i64 = 5_000;
/// The span of the log that is read at once when the first answer comes from files, and the longest.
const WINDOW_MICROS_MIN: i64 = 1_000_000;
const WINDOW_MICROS_MAX: i64 = 6 * 3_600_000_000;
/// When nothing has been closed for so long, something holds the log back.
const HELD_NANOS: u64 = 2_000_000_000;

/// A source over the cluster. It lives on a thread with a `LocalSet`, and ends its tasks when dropped.
pub(crate) struct ClusterSource {
    /// The base tables.
    tables: Vec<TableId>,
    inner: Rc<Inner>,
    followers: JoinSet<()>,
}

/// Opens sources over the cluster.
pub(crate) struct ClusterLogs(pub Arc<Shared>);

impl OpenLog for ClusterLogs {
    type Source = ClusterSource;

    fn open_log(
        &self,
        tables: &[TableId],
        above: TimestampMicros,
        memory: Rc<Account>,
    ) -> Result<ClusterSource, SourceError> {
        ClusterSource::open(&self.0, tables, above, memory)
    }
}

/// What the tasks share.
struct Inner {
    shared: Arc<Shared>,
    state: RefCell<State>,
    /// Told when answers came.
    progress: Notify,
    /// Told when rows wait for what other shards have closed.
    hurry: Notify,
    /// Told when rows were handed out.
    room: Notify,
    memory: Rc<Account>,
    /// What is held there of rows in the merge.
    held_bytes: Cell<usize>,
}

struct State {
    view: Arc<View>,
    logs: Vec<LogsOfPlacement>,
    shapes: BTreeMap<TableId, TableShape>,
    merge: Merge,
    /// The monotonic clock when the whole ring was last closed further.
    moved_at_nanos: u64,
    /// An answer could not be read.
    failure: Option<String>,
}

/// Logs whose data lie together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogsOfPlacement {
    logs: Vec<TableId>,
    peers: BTreeSet<Peer>,
}

impl ClusterSource {
    /// The log of these base tables above a time in microseconds, as far as it is there. Rows that
    /// wait to be taken are held in `memory`.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        tables: &[TableId],
        above: TimestampMicros,
        memory: Rc<Account>,
    ) -> Result<ClusterSource, SourceError> {
        let view = shared.views().newest();
        let (logs, shapes) = layout(&view, tables)?;
        // Nothing is placed before the first generation of streams.
        let first = view.generations.list().first();
        let above = first.map_or(above, |first| above.max(first.starts_at_micros() - 1));
        let state = State {
            merge: Merge::new(logs.len() * view.ranges.len(), above),
            view,
            logs,
            shapes,
            moved_at_nanos: shared.env.clock.monotonic_nanos(),
            failure: None,
        };
        let inner = Inner {
            shared: shared.clone(),
            state: RefCell::new(state),
            progress: Notify::new(),
            hurry: Notify::new(),
            room: Notify::new(),
            memory,
            held_bytes: Cell::new(0),
        };
        let tables = tables.to_vec();
        let (inner, followers) = (Rc::new(inner), JoinSet::new());
        let mut source = ClusterSource { tables, inner, followers };
        source.follow();
        Ok(source)
    }

    /// Follows every shard that may lead ranges of the logs.
    fn follow(&mut self) {
        // Those before end with their set.
        self.followers = JoinSet::new();
        let logs = self.inner.state.borrow().logs.clone();
        for (number, LogsOfPlacement { peers, .. }) in logs.into_iter().enumerate() {
            for peer in peers {
                let follower = Follower::new(self.inner.clone(), number, peer);
                self.followers.spawn_local(follower.run());
            }
        }
    }

    /// Acts by the newest view.
    fn adopt_view(&mut self) -> Result<(), SourceError> {
        let views = self.inner.shared.views();
        if !views.is_newer(&self.inner.state.borrow().view) {
            return Ok(());
        }
        let view = views.newest();
        let (logs, shapes) = layout(&view, &self.tables)?;
        let is_same = {
            let mut state = self.inner.state.borrow_mut();
            let tables = |logs: &[LogsOfPlacement]| -> Vec<Vec<TableId>> {
                logs.iter().map(|logs| logs.logs.clone()).collect()
            };
            if tables(&logs) != tables(&state.logs) {
                state.merge = Merge::new(logs.len() * view.ranges.len(), state.merge.handed());
            }
            self.inner.count(&state.merge);
            let is_same = logs == state.logs;
            (state.view, state.logs, state.shapes) = (view, logs, shapes);
            is_same
        };
        if !is_same {
            self.follow();
        }
        Ok(())
    }

    /// What is complete, if it is worth a batch.
    fn take(&self) -> Option<Batch> {
        let mut state = self.inner.state.borrow_mut();
        let taken = state.merge.take(BATCH_BYTES, IDLE_MICROS)?;
        self.inner.count(&state.merge);
        drop(state);
        self.inner.room.notify_waiters();
        Some(taken)
    }
}

impl Inner {
    /// Holds as much memory as the rows take that wait.
    fn count(&self, merge: &Merge) {
        let before = self.held_bytes.replace(merge.bytes());
        match merge.bytes().checked_sub(before) {
            Some(more) => self.memory.hold(more),
            None => self.memory.release(before - merge.bytes()),
        }
    }
}

impl Source for ClusterSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            self.adopt_view()?;
            if let Some(batch) = self.take() {
                return Ok(batch);
            }
            if let Some(failure) = self.inner.state.borrow().failure.clone() {
                return Err(SourceError::Failed(failure));
            }
            tokio::select! {
                biased;
                () = self.inner.progress.notified() => {}
                () = self.inner.shared.env.clock.sleep(VIEW_INTERVAL) => {}
            }
        }
    }

    fn held_by(&self) -> Option<String> {
        let state = self.inner.state.borrow();
        let now = self.inner.shared.env.clock.monotonic_nanos();
        let is_held = now.saturating_sub(state.moved_at_nanos) > HELD_NANOS;
        let (held, all) = state.merge.held_ranges();
        is_held.then(|| format!("{held} of {all} ranges have no leader that answers"))
    }
}

/// The logs of base tables by their placements, and the shapes of their rows by log.
fn layout(
    view: &View,
    tables: &[TableId],
) -> Result<(Vec<LogsOfPlacement>, BTreeMap<TableId, TableShape>), SourceError> {
    let mut logs: Vec<LogsOfPlacement> = Vec::new();
    let mut shapes = BTreeMap::new();
    let mut settings = Vec::new();
    for table in tables {
        let gone = || SourceError::TableGone(*table);
        let (base, log) = view.followed_table(*table).ok_or_else(gone)?;
        let shape = TableShape::new(base, &log.definition)
            .map_err(|error| SourceError::Failed(error.to_string()))?;
        let id = log.definition.id;
        shapes.insert(id, shape);
        if let Some(at) = settings.iter().position(|setting| *setting == &log.replication) {
            logs[at].logs.push(id);
        } else {
            settings.push(&log.replication);
            logs.push(LogsOfPlacement { logs: vec![id], peers: shards_of(view, &log.placement) });
        }
    }
    Ok((logs, shapes))
}

/// Asks one shard for the logs of one placement.
struct Follower {
    inner: Rc<Inner>,
    /// Which of the placements.
    number: usize,
    peer: Peer,
    /// The ranges, as numbered in the merge, that it led when it last answered.
    led: Vec<usize>,
    window_micros: i64,
}

impl Follower {
    fn new(inner: Rc<Inner>, number: usize, peer: Peer) -> Follower {
        Follower { inner, number, peer, led: Vec::new(), window_micros: WINDOW_MICROS_MIN }
    }

    async fn run(mut self) {
        let clock = self.inner.shared.env.clock.clone();
        loop {
            self.wait_for_room().await;
            let asked = self.question();
            let mut asking = std::pin::pin!(ask(self.inner.clone(), self.peer, asked.clone()));
            let answer = loop {
                tokio::select! {
                biased;
                    answer = &mut asking => break answer,
                    () = self.inner.hurry.notified() => {}
                }
                let hurried = self.question();
                let is_asked = asked.wanted < i64::MAX && asked.wanted >= hurried.wanted;
                if hurried.wanted < i64::MAX && !is_asked {
                    let answer = ask(self.inner.clone(), self.peer, hurried.clone()).await;
                    if let Some(answer) = answer {
                        self.absorb(&hurried, &answer);
                    }
                }
            };
            match answer {
                Some(answer) => {
                    self.absorb(&asked, &answer);
                    clock.sleep(PACE).await;
                }
                None => clock.sleep(PAUSE).await,
            }
        }
    }

    /// Returns when this shard may be asked: there is room for rows, or all wait for it.
    async fn wait_for_room(&mut self) {
        let clock = self.inner.shared.env.clock.clone();
        loop {
            {
                let State { merge, .. } = &*self.inner.state.borrow();
                let is_ready = || merge.is_ready(IDLE_MICROS);
                let is_slowest = || self.lowest(merge) <= merge.closed() && !is_ready();
                // Where no rows wait, nobody would tell of room.
                let is_room = merge.bytes() == 0
                    || (merge.bytes() <= WAITING_BYTES_MAX && self.inner.memory.has_room());
                if is_room || is_slowest() {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = self.inner.room.notified() => {}
                () = self.inner.hurry.notified() => {}
                () = clock.sleep(LOOK_INTERVAL) => self.look().await,
            }
        }
    }

    /// Asks which ranges the shard leads, and for no rows. All may wait for a range that nobody led when
    /// there was room to ask.
    async fn look(&mut self) {
        let (above, wanted) = (i64::MAX, i64::MAX);
        let asked = TailAsk { above, wanted, wait: Duration::ZERO, ..self.question() };
        if let Some(answer) = ask(self.inner.clone(), self.peer, asked).await {
            self.led = self.led_by(&answer);
        }
    }

    /// The ranges that the shard led when it answered, as numbered in the merge.
    fn led_by(&self, answer: &TailAnswer) -> Vec<usize> {
        let view = &self.inner.state.borrow().view;
        let offset = self.number * view.ranges.len();
        let led = view.ranges.iter().filter(|range| answer.ranges.contains(*range));
        led.map(|range| offset + range.0 as usize).collect()
    }

    /// How far all ranges are that it led.
    fn lowest(&self, merge: &Merge) -> TimestampMicros {
        merge.lowest(self.led.iter().copied()).unwrap_or_else(|| merge.closed())
    }

    fn question(&self) -> TailAsk {
        let State { merge, logs, .. } = &*self.inner.state.borrow();
        let above = self.lowest(merge);
        let soon = self.inner.shared.env.clock.now_micros().saturating_add(SOON_MICROS);
        let is_due = |row: &TimestampMicros| !self.led.is_empty() && above < *row && *row <= soon;
        let wanted = merge.awaited().filter(is_due).unwrap_or(i64::MAX);
        let tables = logs.get(self.number).map(|logs| logs.logs.clone()).unwrap_or_default();
        TailAsk { tables, above, wanted, window_micros: self.window_micros, wait: WAIT }
    }

    fn absorb(&mut self, asked: &TailAsk, answer: &TailAnswer) {
        let advanced = answer.closed.saturating_sub(asked.above);
        let window =
            if advanced >= asked.window_micros { asked.window_micros * 2 } else { advanced };
        self.window_micros = window.clamp(WINDOW_MICROS_MIN / 1_000, WINDOW_MICROS_MAX);
        self.led = self.led_by(answer);
        let state = &mut *self.inner.state.borrow_mut();
        let State { view, merge, shapes, .. } = state;
        let offset = self.number * view.ranges.len();
        let rows = match rows_of(&answer.rows, shapes) {
            Ok(rows) => rows,
            Err(error) => {
                state.failure = Some(format!("a row of a CDC log cannot be read: {error}"));
                self.inner.progress.notify_one();
                return;
            }
        };
        let range_of = |row: &LogRow| -> RangeIndex {
            view.ranges.range_of(Token(model::token::cdc_stream_token(&row.key.stream).0))
        };
        let before = merge.closed();
        let placed = rows.into_iter().map(|row| (offset + range_of(&row).0 as usize, row));
        merge.absorb(&self.led, (asked.above, answer.closed), placed);
        self.inner.count(merge);
        if merge.closed() > before {
            state.moved_at_nanos = self.inner.shared.env.clock.monotonic_nanos();
        }
        if merge.awaited().is_some() {
            self.inner.hurry.notify_waiters();
        }
        self.inner.progress.notify_one();
    }
}

/// Asks a shard, over one of this node; nothing if there is no answer.
async fn ask(inner: Rc<Inner>, peer: Peer, ask: TailAsk) -> Option<TailAnswer> {
    let shared = &inner.shared;
    let over =
        if peer.host_id == shared.host_id { peer.shard } else { peer.shard % shared.shard_count };
    let (reply, answer) = oneshot::channel();
    let message = Message::Tail(peer, Box::new(ask), reply);
    shared.shards.get(usize::from(over))?.try_send(message).ok()?;
    answer.await.ok().flatten()
}

/// The rows of an answer.
fn rows_of(
    bytes: &[u8],
    shapes: &BTreeMap<TableId, TableShape>,
) -> Result<Vec<LogRow>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let length = u32::from_le_bytes(cursor.array()?);
        let mutation = MutationView::new(cursor.bytes(length as usize)?)?;
        // Of a table that is not followed any more.
        let Some(shape) = shapes.get(&mutation.table()) else { continue };
        shape.read_rows(&mutation, &mut rows)?;
    }
    Ok(rows)
}
