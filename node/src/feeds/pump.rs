//! A feed's pump put together: source, rendering, sink and pace, from its definition and the view.

use super::runner::Owner;
use super::scan::ClusterScan;
use super::sink::{self, WebhookTerms};
use super::source::{ClusterLogs, FeedSource};
use super::statement::FEEDS_MAX;
use crate::metadata::FeedRecord;
use crate::node::Shared;
use crate::view::View;
use changefeed::feed::Tables;
use changefeed::memory::FeedMemory;
use changefeed::options::{InitialScan, LargeMessage, OnError, Options, StartAt};
use changefeed::pump::{Backoff, End, Pace, Pump, Stop, recover};
use changefeed::scan;
use changefeed::sequence::Sequencer;
use changefeed::source::shared::SharedLogs;
use changefeed::{BoundTable, Cursor, FeedRender, SharedMessages, TableShape};
use cql::plan::prepare_filter;
use model::{TableId, TimestampMicros};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Of each feed there are so many holders of memory: what it has rendered, the part of its tables that
/// it is scanning, and a reader of the log.
const HOLDERS_PER_FEED: usize = 3;
/// Of two and more feeds that tell alike there is one besides: the messages that they share.
const SHARING_FEEDS_MAX: usize = FEEDS_MAX / 2;

/// What the pumps of this node have in common.
pub(super) struct Pumps {
    shared: Arc<Shared>,
    webhooks: Rc<Result<WebhookTerms, String>>,
    /// What they read, once for all on the same tables.
    logs: Rc<SharedLogs<ClusterLogs>>,
    /// What they tell, once for all that tell it alike.
    messages: Rc<SharedMessages>,
    /// What all of them hold.
    memory: Rc<FeedMemory>,
}

impl Pumps {
    pub(super) fn new(shared: Arc<Shared>) -> Pumps {
        let webhooks = WebhookTerms::new(&shared);
        if let Err(reason) = &webhooks {
            tracing::error!("changefeeds into webhooks cannot run: {reason}");
        }
        let feeds = &shared.feeds;
        let holders = HOLDERS_PER_FEED * FEEDS_MAX + SHARING_FEEDS_MAX;
        let memory = FeedMemory::new(feeds.memory_bytes_max, holders, feeds.memory_bytes.clone());
        let logs = SharedLogs::new(ClusterLogs(shared.clone()), memory.clone());
        let messages = Rc::new(SharedMessages::new(memory.clone()));
        Pumps { shared, webhooks: Rc::new(webhooks), logs, messages, memory }
    }

    /// The pump of a feed, from where it stands; to be run on the thread of feeds.
    pub(super) fn run(
        &self,
        mut feed: FeedRecord,
        mut owner: Owner,
        stop: Stop,
    ) -> impl Future<Output = End> + use<> {
        let (shared, webhooks) = (self.shared.clone(), self.webhooks.clone());
        let (logs, messages, memory) =
            (self.logs.clone(), self.messages.clone(), self.memory.clone());
        async move {
            let mut sink = match sink::open(&shared, &webhooks, &feed) {
                Ok(sink) => sink,
                Err(reason) => return End::Failed(reason),
            };
            let entropy = shared.env.entropy.generator(&format!("feed {}", feed.definition.name));
            let (clock, mut backoff) = (shared.env.clock.clone(), Backoff::new(entropy));
            match recover(&mut *sink, &owner, &stop, &clock, &mut backoff).await {
                Ok(Some(reached)) => {
                    feed.progress.advance_to(reached);
                    owner.begin_from(&feed.progress);
                }
                Ok(None) => {}
                Err(end) => return end,
            }
            let (definition, options) = (&feed.definition, &feed.definition.options);
            let cursor = feed.progress.cursor;
            let (sequencer, above) = match cursor {
                Cursor::Time(micros) => Sequencer::start(micros.saturating_add(1)),
                Cursor::Row(position) => Sequencer::resume(&position),
                Cursor::Sequence(sequence) => Sequencer::start_at(StartAt::Sequence(sequence)),
            };
            let source = FeedSource::open(&shared, &logs, &feed, above);
            let tables: Vec<TableId> = definition.tables.iter().map(|table| table.id).collect();
            let scan = initial_scan(&shared, &feed, &tables);
            let bound = NewestTables {
                shared: shared.clone(),
                filter: options.filter.clone(),
                view: shared.views().newest(),
                bound: BTreeMap::new(),
            };
            let render = FeedRender::new(&definition.name, options, sequencer, bound);
            let render = render.sharing(&messages);
            let pace = pace(options);
            let host = owner;
            Pump { source, scan, render, sink, host, pace, stop, clock, backoff, memory }
                .run()
                .await
        }
    }
}

/// What a feed has left of the scan that it began with.
fn initial_scan(
    shared: &Arc<Shared>,
    feed: &FeedRecord,
    tables: &[TableId],
) -> Option<scan::InitialScan> {
    Some(scan::InitialScan {
        rows: Box::new(ClusterScan::new(shared, tables)),
        scanned: feed.progress.scanned.as_deref()?.clone(),
        begins_at: match feed.progress.cursor {
            Cursor::Time(micros) => micros,
            Cursor::Row(position) => position.key.micros(),
            // A feed that scans has begun at a time.
            Cursor::Sequence(_) => TimestampMicros::MIN,
        },
        is_all: feed.definition.options.initial_scan == InitialScan::Only,
    })
}

/// The tables of a feed by the newest view, with its filter. What is logged by a definition that is
/// newer than the view is found by the next view, which is there before anything is logged by it.
struct NewestTables {
    shared: Arc<Shared>,
    filter: Option<String>,
    view: Arc<View>,
    /// Of that view.
    bound: BTreeMap<TableId, Arc<BoundTable>>,
}

impl Tables for NewestTables {
    fn table(&mut self, table: TableId) -> Option<Arc<BoundTable>> {
        if self.shared.views().is_newer(&self.view) {
            self.view = self.shared.views().newest();
            self.bound.clear();
        }
        if let Some(bound) = self.bound.get(&table) {
            return Some(bound.clone());
        }
        let (base, log) = self.view.followed_table(table)?;
        let shape = TableShape::new(base, &log.definition).ok()?;
        let filter = match &self.filter {
            // A filter that names what is gone lets nothing pass, so the feed stops instead.
            Some(text) => Some(prepare_filter(&self.view.schema, base, text).ok()?),
            None => None,
        };
        let bound = Arc::new(BoundTable { shape, filter });
        self.bound.insert(table, bound.clone());
        Some(bound)
    }
}

fn pace(options: &Options) -> Pace {
    Pace {
        batch_size: options.batch_size,
        flush_interval: Duration::from_millis(options.flush_interval_ms),
        mark_interval: options.resolved_interval_ms.map(Duration::from_millis),
        retry_max: options.retry_max,
        skips_too_large: options.large_message == LargeMessage::Skip,
        skips_refused: options.on_error == OnError::Skip,
    }
}
