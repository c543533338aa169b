//! The rows of a feed's tables, from all over the cluster: what a pump with an initial scan reads
//! beside the log.
//!
//! A chunk is read over a shard of this node, as a client's SELECT at QUORUM is: by the leaders of its
//! ranges, under their leases. Each of them answers with everything that is applied, so with all that
//! lies at or below the closed time that it, or whoever led before, has told the feed's source.
//! Afterwards those who lead are asked up to which time anything was placed: nothing that was read
//! lies above that.

use crate::coordinator::CoordinatorError;
use crate::node::Shared;
use crate::remote::Deadline;
use crate::shard::{Message, ReadError, Shard};
use changefeed::TableShape;
use changefeed::scan::{Chunk, Place, Reading, Scan, ScanError};
use model::read::{Page, ReadCommand, ReadScope, ResumePoint, Slice};
use model::{Consistency, TableId, TimestampMicros};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Rows of a chunk, at most.
const CHUNK_ROWS_MAX: u32 = 10_000;
/// A chunk ends with the row that passes this size, or a smaller one while memory is short.
const CHUNK_BYTES_MAX: usize = 4 << 20;
/// How long reading one may take.
const READ_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause after a reading that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// A part of a table that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct ScanAsk {
    table: TableId,
    /// The first token.
    first: i64,
    /// Where to go on.
    resume: Option<ResumePoint>,
    /// It ends with the row that passes this size.
    page_bytes: usize,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct ScanAnswer {
    page: Page,
    /// What had expired by then is not in it.
    now: i64,
    /// Nothing in it was placed above this time.
    placed: TimestampMicros,
}

/// A scan over the cluster, for the thread of feeds.
pub(super) struct ClusterScan {
    shared: Arc<Shared>,
    /// The base tables, in the order of their ids.
    tables: Vec<TableId>,
}

impl ClusterScan {
    pub(super) fn new(shared: &Arc<Shared>, tables: &[TableId]) -> ClusterScan {
        let mut tables = tables.to_vec();
        tables.sort_unstable();
        ClusterScan { shared: shared.clone(), tables }
    }

    /// The table that is read next; none when all were.
    fn table_behind(&self, after: Option<&Place>) -> Option<TableId> {
        let Some(after) = after else { return self.tables.first().copied() };
        let is_left = |table: &&TableId| {
            **table > after.table || (**table == after.table && after.within.is_some())
        };
        self.tables.iter().find(is_left).copied()
    }

    async fn read_chunk(
        &self,
        after: Option<&Place>,
        bytes_max: usize,
    ) -> Result<Chunk, ScanError> {
        let Some(table) = self.table_behind(after) else {
            let end = after.cloned().unwrap_or_else(|| Place::end_of(TableId(0)));
            return Ok(Chunk::empty(end, true));
        };
        // A place in another table says nothing of this one.
        let after = after.filter(|after| after.table == table);
        let within = after.and_then(|after| after.within.as_ref());
        let resume = within.map(|within| ResumePoint {
            key: within.key.clone(),
            clustering: within.clustering.clone(),
            partition_rows: 0,
        });
        let first = within.map_or(i64::MIN, |within| within.token);
        let (reply, answer) = oneshot::channel();
        let page_bytes = bytes_max.min(CHUNK_BYTES_MAX);
        let ask = Box::new(ScanAsk { table, first, resume, page_bytes });
        let shard = &self.shared.shards[self.shard_for(first)];
        let busy = || ScanError::Later("the node has too much to do".to_owned());
        shard.try_send(Message::Scan(ask, reply)).map_err(|_| busy())?;
        let ScanAnswer { page, now, placed } = answer.await.unwrap_or_else(|_| Err(busy()))?;
        let view = self.shared.views().newest();
        let gone = || ScanError::Later("the table has no log, or is gone".to_owned());
        let layout = view.log_layout(table).ok_or_else(gone)?;
        let failed = |reason: String| ScanError::Failed(reason);
        let shape = TableShape::new(layout.base(), layout.log())
            .map_err(|error| failed(error.to_string()))?;
        let chunk = Chunk::of_page(layout, &shape, &page, after, now);
        let mut chunk = chunk.map_err(|error| failed(error.to_string()))?;
        chunk.placed = placed;
        chunk.is_last = self.table_behind(Some(&chunk.end)).is_none();
        Ok(chunk)
    }

    /// The shard of this node over which a chunk is read: one after the other, by the token.
    fn shard_for(&self, token: i64) -> usize {
        let position = token.abs_diff(i64::MIN);
        let shard_count = u128::from(self.shared.shard_count);
        usize::try_from((u128::from(position) * shard_count) >> 64).unwrap_or(0)
    }
}

impl Scan for ClusterScan {
    fn read<'a>(&'a mut self, after: Option<&'a Place>, bytes_max: usize) -> Reading<'a> {
        Box::pin(async move {
            let read = self.read_chunk(after, bytes_max).await;
            if let Err(ScanError::Later(reason)) = &read {
                tracing::info!("a table is not scanned further yet: {reason}");
                self.shared.env.clock.sleep(PAUSE).await;
            }
            read
        })
    }
}

impl Shard {
    /// Sends what comes of [`Shard::scan_for_feed`].
    pub(crate) async fn answer_scan(
        self: Rc<Self>,
        ask: Box<ScanAsk>,
        reply: oneshot::Sender<Result<ScanAnswer, ScanError>>,
    ) {
        reply.send(self.scan_for_feed(*ask).await).ok();
    }

    /// Reads a part of a table for a feed's scan.
    async fn scan_for_feed(self: &Rc<Self>, ask: ScanAsk) -> Result<ScanAnswer, ScanError> {
        let view = self.view();
        let gone = || ScanError::Later("the table is gone".to_owned());
        let table = view.table(ask.table).cloned().ok_or_else(gone)?;
        // By a wrong clock rows have ended that are there.
        let wrong = || ScanError::Later("this node's clock is not right".to_owned());
        let now = self.trusted_micros().ok_or_else(wrong)?.div_euclid(1_000_000);
        let command = ReadCommand {
            table: ask.table,
            scope: ReadScope::TokenRange { first: ask.first, last: i64::MAX },
            slices: [Slice::all()].into(),
            reversed: false,
            include_static: true,
            now,
            row_limit: CHUNK_ROWS_MAX,
            partition_row_limit: u32::MAX,
            page_bytes: ask.page_bytes,
            resume: ask.resume,
        };
        let deadline = Deadline::after(self, READ_TIME_MAX);
        let page = self.read_page(&table, command, Consistency::Quorum, deadline).await;
        let page = page.map_err(|error| match error {
            CoordinatorError::Read(error @ ReadError::Storage(_)) => {
                ScanError::Failed(error.to_string())
            }
            CoordinatorError::Read(error) => ScanError::Later(error.to_string()),
            CoordinatorError::Write(error) => ScanError::Later(error.to_string()),
            CoordinatorError::Unavailable(_) => {
                ScanError::Later("too few replicas are alive".to_owned())
            }
        })?;
        let last = page.resume.as_ref().map_or(i64::MAX, |resume| table.token(&resume.key).0);
        let placed = self.placed_between(ask.table, (ask.first, last)).await;
        let unknown = || ScanError::Later("a range has no leader that answers".to_owned());
        Ok(ScanAnswer { page, now, placed: placed.ok_or_else(unknown)? })
    }
}
