//! Feeds that begin with a scan, under random writes, deletes of every kind, sinks that fail and
//! owners that die: whoever takes the events by key has the tables.

use super::{Chunk, InitialScan, Place, Reading, Scan, Scanned};
use crate::event::tests::{COLUMNS, Documents, Random, apply, comparable, expected, random_body};
use crate::feed::{BoundTable, FeedRender};
use crate::memory::FeedMemory;
use crate::options::{Delivery, EventKind};
use crate::position::Position;
use crate::pump::{Backoff, End, Host, Pace, Pump, Status, Stop};
use crate::sequence::Sequencer;
use crate::sink::{
    Failure, Message, Reached, Recovering, Sending, Sink, SinkError, TransactionalSink,
};
use crate::source::MemoryLog;
use crate::testing::Feed;
use bytes::Bytes;
use cdc::testing::base_table;
use cdc::testing::range::KEY;
use env::{Clock, EntropySource};
use model::read::{Page, ResumePoint};
use model::row::RowView;
use model::schema::Partitioner;
use model::token::token_of;
use model::{CdcOptions, TableId};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const TABLES: [(TableId, &str); 2] = [(TableId(1), "t"), (TableId(5), "u")];
const START: i64 = 1_800_000_000_000_000;
const NOW_SECONDS: i64 = START / 1_000_000;
/// Memory for two or three messages and a chunk or two.
const SHORT_BYTES: usize = 8_192;

/// The tables, each with one partition, and their log.
struct Tables {
    feeds: Vec<Feed>,
    /// The highest log time of each.
    placed: Vec<i64>,
    log: MemoryLog,
    clock: i64,
}

impl Tables {
    fn new(random: &mut Random, options: &str) -> Tables {
        let feeds = TABLES.map(|(id, name)| {
            let has_clustering = random.below(4) > 0;
            let keys = if has_clustering { "p int, c int, s int static" } else { "p int" };
            let options = Feed::new("p int, a int", options).options;
            let images = options.images(true);
            let cdc_options = CdcOptions {
                preimage: images.preimage,
                postimage: images.postimage,
                ..CdcOptions::default()
            };
            let mut base = base_table(&format!("{keys}, {COLUMNS}"));
            (base.id, base.name) = (id, name.into());
            Feed::on(base, cdc_options, options)
        });
        let mut tables = Tables {
            feeds: feeds.into(),
            placed: vec![i64::MIN; TABLES.len()],
            log: MemoryLog::default(),
            clock: START,
        };
        tables.set_clock(START);
        tables
    }

    fn is_exact(&self) -> bool {
        self.feeds[0].options.delivery == Delivery::ExactlyOnce
    }

    fn set_clock(&mut self, clock: i64) {
        self.clock = clock;
        self.feeds.iter_mut().for_each(|feed| feed.range.clock = clock);
    }

    /// A write to one of the tables, on time, late, or far ahead. The log has it if it is there yet.
    fn write(&mut self, random: &mut Random, is_logged: bool) -> String {
        let at = random.below(self.feeds.len());
        let feed = &mut self.feeds[at];
        let has_clustering = !feed.range.layout.base().clustering_key().is_empty();
        let timestamp = match random.below(20) {
            0 => self.clock + 7_000_000,
            1 => self.clock - 1_000,
            _ => self.clock + random.below(9) as i64 - 4,
        };
        let text = format!("{} @{timestamp}", random_body(random, has_clustering));
        let rows = feed.write(&text).unwrap();
        for row in rows {
            self.placed[at] = self.placed[at].max(row.key.micros());
            if is_logged {
                self.log.append(row);
            }
        }
        format!("{}: {text}", TABLES[at].1)
    }

    fn close(&mut self, closed: i64) {
        self.feeds.iter_mut().for_each(|feed| feed.range.publish(closed));
        self.log.close(closed);
    }
}

/// Reads a few rows at a time, none of them at the same moment.
struct ModelScan {
    tables: Rc<RefCell<Tables>>,
    clock: Clock,
    random: Random,
}

impl ModelScan {
    async fn read_chunk(&mut self, after: Option<&Place>) -> Chunk {
        let is_left = |(id, _): &(TableId, &str)| {
            after.is_none_or(|after| {
                *id > after.table || (*id == after.table && after.within.is_some())
            })
        };
        let Some(at) = TABLES.iter().position(is_left) else {
            return Chunk::empty(after.unwrap().clone(), true);
        };
        let after = after.filter(|after| after.table == TABLES[at].0);
        let within = after.and_then(|after| after.within.as_ref());
        let mut page = Page::default();
        let mut last = within.and_then(|within| within.clustering.clone());
        // The partition was read to its end.
        let mut is_full = false;
        if within.is_none_or(|within| within.clustering.is_some()) {
            self.add_static_row(at, &mut page);
            for _ in 0..=self.random.below(3) {
                self.clock.sleep(Duration::from_millis(self.random.below(4) as u64)).await;
                is_full = self.add_row(at, &mut last, &mut page);
            }
        }
        if is_full {
            let (key, clustering) = (Box::from(KEY.as_slice()), last);
            page.resume = Some(ResumePoint { key, clustering, partition_rows: 0 });
        }
        let tables = self.tables.borrow();
        let feed = &tables.feeds[at];
        let (layout, shape) = (&feed.range.layout, &feed.shape);
        let mut chunk = Chunk::of_page(layout, shape, &page, after, NOW_SECONDS).unwrap();
        chunk.placed = tables.placed[at];
        chunk.is_last = chunk.end == Place::end_of(TABLES[TABLES.len() - 1].0);
        chunk
    }

    fn add_static_row(&self, at: usize, page: &mut Page) {
        let stored = self.tables.borrow().feeds[at].range.stored();
        let Some(row) = stored.effective_static_row() else { return };
        if RowView::new(&row).is_live(NOW_SECONDS) {
            page.partition(TABLES[at].0, &KEY, |out| out.encoded_static_row(RowView::new(&row)));
        }
    }

    /// Adds the next live row; `false` if there is none.
    fn add_row(&self, at: usize, last: &mut Option<Box<[u8]>>, page: &mut Page) -> bool {
        let stored = self.tables.borrow().feeds[at].range.stored();
        let start = last.as_ref().map_or_else(Vec::new, |last| [last, &[0][..]].concat());
        let next = stored
            .effective_rows(&start, &[0xff])
            .find(|(_, row)| RowView::new(row).is_live(NOW_SECONDS));
        let Some((clustering, row)) = next else { return false };
        if page.len_bytes() == 0 {
            page.partition(TABLES[at].0, &KEY, |_| ());
        }
        page.row(clustering, RowView::new(&row));
        *last = Some(clustering.into());
        true
    }
}

impl Scan for ModelScan {
    fn read<'a>(&'a mut self, after: Option<&'a Place>, _: usize) -> Reading<'a> {
        Box::pin(async move { Ok(self.read_chunk(after).await) })
    }
}

/// What arrived, with the owner that sent it; and what the cluster knows of the feed.
#[derive(Debug, Default)]
struct Outside {
    received: RefCell<Vec<(u64, Value)>>,
    epoch: Cell<u64>,
    position: Cell<Option<Position>>,
    scanned: RefCell<Scanned>,
    closed: Cell<i64>,
    /// What came with the last messages, if the sink keeps it.
    committed: RefCell<Option<Reached>>,
}

struct Owner {
    outside: Rc<Outside>,
    epoch: u64,
}

impl Host for Owner {
    fn may_send(&self) -> bool {
        self.outside.epoch.get() == self.epoch
    }

    fn report(&self, status: &Status) {
        assert_eq!(self.outside.epoch.get(), self.epoch, "former owners are dead");
        self.outside.position.set(status.position.or(self.outside.position.get()));
        self.outside.scanned.replace(status.scanned.as_deref().unwrap().clone());
        if let Some(resolved) = status.resolved {
            self.outside.closed.set(resolved.closed);
        }
    }
}

struct ShakySink {
    outside: Rc<Outside>,
    epoch: u64,
    clock: Clock,
    random: Random,
    is_exact: bool,
}

impl Sink for ShakySink {
    fn open(&mut self) -> Sending<'_> {
        Box::pin(async { Ok(()) })
    }

    fn send<'a>(&'a mut self, batch: &'a [Message]) -> Sending<'a> {
        Box::pin(async move {
            let fails = self.random.below(10) == 0;
            let count = if fails { self.random.below(batch.len() + 1) } else { batch.len() };
            for message in &batch[..count] {
                let event = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
                self.outside.received.borrow_mut().push((self.epoch, event));
            }
            self.clock.sleep(Duration::from_millis(self.random.below(8) as u64)).await;
            if fails { Err(SinkError::transient("shaky")) } else { Ok(()) }
        })
    }

    fn transactional(&mut self) -> Option<&mut dyn TransactionalSink> {
        if self.is_exact { Some(self) } else { None }
    }

    fn mark<'a>(&'a mut self, _: &'a Bytes) -> Sending<'a> {
        Box::pin(async { Ok(()) })
    }
}

impl TransactionalSink for ShakySink {
    fn recover(&mut self) -> Recovering<'_> {
        Box::pin(async { Ok(self.outside.committed.borrow().clone()) })
    }

    /// Takes all or nothing, and does not always say which.
    fn commit<'a>(&'a mut self, batch: &'a [Message], reached: Reached) -> Sending<'a> {
        Box::pin(async move {
            let pause = Duration::from_millis(self.random.below(8) as u64);
            self.clock.sleep(pause).await;
            if self.outside.epoch.get() != self.epoch {
                let error = SinkError::transient("another owner sends");
                return Err(SinkError { failure: Failure::Overtaken, ..error });
            }
            let (fails, arrives) = (self.random.below(8) == 0, self.random.below(2) == 0);
            let is_repeat = self.outside.committed.borrow().as_ref() == Some(&reached);
            if !is_repeat && (arrives || !fails) {
                for message in batch {
                    let event = serde_json::from_slice(message.value.as_ref().unwrap()).unwrap();
                    self.outside.received.borrow_mut().push((self.epoch, event));
                }
                self.outside.committed.replace(Some(reached));
            }
            self.clock.sleep(pause).await;
            if fails { Err(SinkError::transient("shaky")) } else { Ok(()) }
        })
    }
}

/// One feed and its owners.
struct World {
    tables: Rc<RefCell<Tables>>,
    outside: Rc<Outside>,
    clock: Clock,
    begins_at: i64,
    is_all: bool,
    /// The sink keeps how far the feed has come.
    is_exact: bool,
}

impl World {
    fn appoint(&self, random: &mut Random) -> (tokio::task::JoinHandle<End>, Stop) {
        let epoch = self.outside.epoch.get() + 1;
        self.outside.epoch.set(epoch);
        let committed = self.outside.committed.borrow().clone();
        let position = self.outside.position.get().max(committed.as_ref().map(|at| at.position));
        let mut scanned = self.outside.scanned.borrow().clone();
        if let Some(committed) = committed.and_then(|committed| committed.scanned) {
            scanned = scanned.further(&committed).clone();
        }
        let (sequencer, above) = match &position {
            Some(position) => Sequencer::resume(position),
            None => Sequencer::start(self.begins_at + 1),
        };
        let tables = self.tables.borrow();
        let bound: Vec<_> = tables
            .feeds
            .iter()
            .map(|feed| Arc::new(BoundTable { shape: feed.shape.clone(), filter: None }))
            .collect();
        let find = move |id| bound.iter().find(|bound| bound.shape.table == id).cloned();
        let mut fork = || Random(random.below(1 << 30) as u64 | 1);
        let scan =
            ModelScan { tables: self.tables.clone(), clock: self.clock.clone(), random: fork() };
        let stop = Stop::default();
        let pump = Pump {
            source: tables.log.open(above, 5),
            scan: Some(InitialScan {
                rows: Box::new(scan),
                scanned,
                begins_at: position.map_or(self.begins_at, |position| position.key.micros()),
                is_all: self.is_all,
            }),
            render: FeedRender::new("f", &tables.feeds[0].options, sequencer, find),
            sink: Box::new(ShakySink {
                outside: self.outside.clone(),
                epoch,
                clock: self.clock.clone(),
                random: fork(),
                is_exact: self.is_exact,
            }),
            host: Owner { outside: self.outside.clone(), epoch },
            pace: Pace {
                batch_size: 4,
                flush_interval: Duration::from_millis(5),
                mark_interval: None,
                retry_max: None,
                skips_too_large: false,
                skips_refused: false,
            },
            stop: stop.clone(),
            clock: self.clock.clone(),
            backoff: Backoff::new(EntropySource::simulated(epoch).generator("backoff")),
            // Every other owner has little, so that chunks wait for their messages to be sent.
            memory: match epoch % 2 {
                0 => FeedMemory::new(SHORT_BYTES, 2, Arc::default()),
                _ => FeedMemory::ample(),
            },
        };
        (tokio::task::spawn_local(pump.run()), stop)
    }

    /// The documents of each table, for a reader that passes over what it knows of a key.
    fn replayed(&self, kind: EventKind) -> Vec<Documents> {
        let mut documents = vec![Documents::new(); TABLES.len()];
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for (_, event) in self.outside.received.borrow().iter() {
            let at = TABLES.iter().position(|(_, name)| event["table"] == *name).unwrap();
            let sequence = event["sequence"].as_u64().unwrap();
            let key = format!("{} {} {:?}", event["table"], event["key"], event.get("range"));
            let known = last.entry(key).or_insert(0);
            if sequence > *known {
                *known = sequence;
                apply(&mut documents[at], event, kind);
            }
        }
        documents
    }

    /// How many rows came more than once as scanned rows.
    fn scanned_twice(&self) -> usize {
        let mut scans: BTreeMap<String, usize> = BTreeMap::new();
        let received = self.outside.received.borrow();
        for (_, event) in received.iter().filter(|(_, event)| event.get("snapshot").is_some()) {
            *scans.entry(format!("{} {}", event["table"], event["key"])).or_default() += 1;
        }
        scans.values().filter(|count| **count > 1).count()
    }

    /// No event came twice, whoever sent it.
    fn check_that_all_came_once(&self) {
        let mut seen = BTreeSet::new();
        for (_, event) in self.outside.received.borrow().iter() {
            assert!(seen.insert(event.to_string()), "{event} came twice");
        }
    }

    /// What one owner sends of a key ascends, but for what it sends again.
    fn check_order(&self) {
        if self.is_exact {
            self.check_that_all_came_once();
        }
        let mut newest: BTreeMap<(u64, String), u64> = BTreeMap::new();
        let mut sent = BTreeSet::new();
        for (epoch, event) in self.outside.received.borrow().iter() {
            let sequence = event["sequence"].as_u64().unwrap();
            let key = format!("{} {} {:?}", event["table"], event["key"], event.get("range"));
            if sent.insert((*epoch, event.to_string())) {
                let former = newest.insert((*epoch, key), sequence);
                assert!(former.is_none_or(|former| former < sequence), "{event}");
            }
        }
    }
}

fn run<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { test().await })
}

/// Counts owners, and rows that were sent by two of them.
async fn history(seed: u64, options: &str) -> (u64, usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut tables = Tables::new(&mut random, options);
    let kind = tables.feeds[0].options.event_kind;
    let mut steps = Vec::new();
    for _ in 0..random.below(12) {
        steps.push(tables.write(&mut random, false));
        let clock = tables.clock + random.below(4) as i64;
        tables.set_clock(clock);
    }
    // What was placed ahead of the clock before the feed is not its to tell.
    let begins_at = tables.clock.max(tables.placed.iter().copied().max().unwrap());
    tables.close(begins_at);
    tables.set_clock(begins_at + 1);
    let tables = Rc::new(RefCell::new(tables));
    let (clock, _) = Clock::simulated_on_tokio(0);
    let outside = Rc::default();
    let is_exact = tables.borrow().is_exact();
    let world =
        World { tables: tables.clone(), outside, clock, begins_at, is_all: false, is_exact };
    let (mut running, mut stop) = world.appoint(&mut random);
    for _ in 0..20 + random.below(40) {
        {
            let mut tables = tables.borrow_mut();
            for _ in 0..random.below(3) {
                steps.push(tables.write(&mut random, true));
            }
            let clock = tables.clock + random.below(6) as i64;
            tables.set_clock(clock);
            tables.close(clock - random.below(8) as i64);
        }
        world.clock.sleep(Duration::from_millis(random.below(6) as u64)).await;
        match random.below(12) {
            0 => {
                running.abort();
                assert!(running.await.is_err(), "it was under way");
                steps.push("another owner".to_owned());
                (running, stop) = world.appoint(&mut random);
            }
            1 => {
                stop.request();
                assert_eq!(running.await.unwrap(), End::Stopped);
                steps.push("pause".to_owned());
                (running, stop) = world.appoint(&mut random);
            }
            _ => {}
        }
    }
    let end = tables.borrow().placed.iter().copied().max().unwrap().max(tables.borrow().clock);
    tables.borrow_mut().close(end + 1);
    let is_done = || world.outside.scanned.borrow().is_complete && world.outside.closed.get() > end;
    for _ in 0..10_000 {
        if is_done() {
            break;
        }
        world.clock.sleep(Duration::from_millis(5)).await;
    }
    assert!(is_done(), "seed {seed}: {:?}", world.outside.scanned);
    stop.request();
    running.await.unwrap();
    world.check_order();
    for (at, (found, feed)) in
        world.replayed(kind).into_iter().zip(&tables.borrow().feeds).enumerate()
    {
        let (found, wanted) = (comparable(found), comparable(expected(feed)));
        let name = TABLES[at].1;
        assert_eq!(found, wanted, "seed {seed}, {options}, table {name}: {steps:#?}");
    }
    (world.outside.epoch.get(), world.scanned_twice())
}

/// How many rows were scanned twice.
fn histories(options: &str) -> usize {
    let (mut owners, mut scanned_twice) = (0, 0);
    for seed in 0..120 {
        let (some, twice) = run(|| history(seed, options));
        owners += some;
        scanned_twice += twice;
    }
    // The histories have in them what they are for.
    assert!(owners > 400, "{owners}");
    scanned_twice
}

#[test]
fn whole_rows_by_key_are_the_tables() {
    assert!(histories("initial_scan=yes event_kind=full") > 8);
}

#[test]
fn deletes_that_are_told_row_by_row_leave_the_tables() {
    for kind in ["full", "delta"] {
        histories(&format!("initial_scan=yes event_kind={kind} delete_expansion=rows"));
    }
}

#[test]
fn scanned_rows_and_deltas_by_key_are_the_tables() {
    assert!(histories("initial_scan=yes event_kind=delta") > 8);
}

#[test]
fn scanned_rows_and_patches_by_key_are_the_tables() {
    assert!(histories("initial_scan=yes event_kind=patch") > 8);
}

#[test]
fn rows_and_changes_come_once_where_the_sink_keeps_how_far_the_feed_has_come() {
    for kind in ["full", "delta", "patch"] {
        histories(&format!("initial_scan=yes event_kind={kind} delivery=exactly_once"));
    }
}

#[test]
fn changes_that_a_scan_misses_are_noticed() {
    use env::planted::{Bug, is_noticed};
    let test = |seed| {
        run(|| history(seed, "initial_scan=yes event_kind=full"));
    };
    assert!(is_noticed(Bug::ScansMissChanges, 0..120, test), "nothing noticed");
}

#[test]
fn a_feed_that_is_a_scan_alone_ends_with_it() {
    for seed in 1..60 {
        run(async || {
            let mut random = Random(seed);
            let mut tables = Tables::new(&mut random, "initial_scan=only");
            for _ in 0..12 {
                tables.write(&mut random, false);
                let clock = tables.clock + 1;
                tables.set_clock(clock);
            }
            let begins_at = tables.clock.max(tables.placed.iter().copied().max().unwrap());
            tables.close(begins_at);
            let tables = Rc::new(RefCell::new(tables));
            let (clock, _) = Clock::simulated_on_tokio(0);
            let world = World {
                tables: tables.clone(),
                outside: Rc::default(),
                clock,
                begins_at,
                is_all: true,
                is_exact: seed % 2 == 0,
            };
            let (running, _) = world.appoint(&mut random);
            assert_eq!(running.await.unwrap(), End::Finished);
            // Whoever takes over before that is known has nothing to do.
            let received = world.outside.received.borrow().len();
            let (again, _) = world.appoint(&mut random);
            assert_eq!(again.await.unwrap(), End::Finished);
            assert_eq!(world.outside.received.borrow().len(), received);
            assert!(world.outside.scanned.borrow().is_complete);
            for (found, feed) in
                world.replayed(EventKind::Full).into_iter().zip(&tables.borrow().feeds)
            {
                assert_eq!(comparable(found), comparable(expected(feed)), "seed {seed}");
            }
            let received = world.outside.received.borrow();
            assert!(received.iter().all(|(_, event)| event["snapshot"] == true));
            assert!(received.iter().all(|(_, event)| event["operation"] == "INSERT"));
        });
    }
}

#[test]
fn a_scanned_row_is_marked_as_such_in_every_envelope() {
    let mut feed = Feed::new("p int, c int, a int, s int static", "initial_scan=yes");
    feed.write("insert 1 a=5 @120 + update static s=7 @120").unwrap();
    let mut page = Page::default();
    let stored = feed.range.stored();
    let static_row = stored.effective_static_row().unwrap();
    page.partition(TableId(1), &KEY, |out| out.encoded_static_row(RowView::new(&static_row)));
    for (clustering, row) in stored.effective_rows(&[], &[0xff]) {
        page.row(clustering, RowView::new(&row));
    }
    let chunk = Chunk::of_page(&feed.range.layout, &feed.shape, &page, None, 0).unwrap();
    assert_eq!(chunk.end, Place::end_of(TableId(1)));
    let rows: Vec<_> = chunk.into_rows().collect();
    let position = crate::sequence::position_at(1_000_000, 77);
    let mut render = |envelope| -> Vec<Value> {
        feed.options.envelope = envelope;
        let renderer = crate::Renderer::new("a_feed", &feed.options);
        let mut messages = Vec::new();
        for row in &rows {
            renderer.render_scanned(&feed.shape, row, position, None, &mut messages).unwrap();
        }
        let values = messages.iter().map(|message| message.value.as_ref().unwrap());
        values.map(|value| serde_json::from_slice(value).unwrap()).collect()
    };
    let plain = render(crate::options::Envelope::Plain);
    let texts: Vec<String> = plain.iter().map(Value::to_string).collect();
    let expected = |key: &str, row: &str| -> Value {
        serde_json::from_str(&format!(
            r#"{{"sequence":77,"timestamp":"1970-01-01T00:00:01.000000Z","table":"t",
            "operation":"INSERT","key":{key},"new_row":{row},"old_row":null,"snapshot":true}}"#
        ))
        .unwrap()
    };
    assert_eq!(plain[0], expected(r#"{"p":7}"#, r#"{"p":7,"s":7}"#), "{texts:?}");
    assert_eq!(plain[1], expected(r#"{"p":7,"c":1}"#, r#"{"p":7,"c":1,"a":5}"#), "{texts:?}");
    let debezium = &render(crate::options::Envelope::Debezium)[1];
    assert_eq!((&debezium["op"], &debezium["before"]), (&"r".into(), &Value::Null));
    assert_eq!(debezium["source"]["snapshot"], "true");
    let clouds = render(crate::options::Envelope::CloudEvents);
    assert_eq!(clouds[1]["id"], r#"77-t:{"p":7,"c":1}"#);
    assert_eq!(clouds[1]["type"], "tethys.row.read");
}

#[test]
fn a_page_of_something_else_is_an_error() {
    let feed = Feed::new("p int, c int, a int", "initial_scan=yes");
    let mut page = Page::default();
    let mut row = Vec::new();
    let head = model::row::RowHead { marker: None, tombstone: None };
    model::row::RowWriter::new(&mut row, 1, head);
    page.partition(TableId(1), &KEY, |_| ());
    page.row(b"x", RowView::new(&row));
    let error = Chunk::of_page(&feed.range.layout, &feed.shape, &page, None, 0).unwrap_err();
    assert!(error.to_string().contains("no live row"), "{error}");
    assert_eq!(token_of(Partitioner::Murmur3, &KEY), feed.range.layout.base().token(&KEY));
}
