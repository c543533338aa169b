//! What one feed reads: its share of a log that is read for all feeds on the same tables, if what it
//! has yet to read is still there ([`super::expiry`]).

use super::{ClusterLogs, expiry};
use crate::metadata::FeedRecord;
use crate::node::Shared;
use changefeed::source::shared::{SharedLogs, SharedSource};
use changefeed::source::{Batch, Source, SourceError};
use model::{TableId, TimestampMicros};
use std::rc::Rc;
use std::sync::Arc;

/// The log of a feed's tables.
pub(in super::super) struct FeedSource {
    source: SharedSource<ClusterLogs>,
    /// The feed cannot begin.
    lost: Option<SourceError>,
}

impl FeedSource {
    /// The log of a feed's tables above a time in microseconds, from where it stands or a little before;
    /// what is left of it when that is not above 0.
    pub(in super::super) fn open(
        shared: &Arc<Shared>,
        logs: &Rc<SharedLogs<ClusterLogs>>,
        feed: &FeedRecord,
        above: TimestampMicros,
    ) -> FeedSource {
        let tables: Vec<TableId> = feed.definition.tables.iter().map(|table| table.id).collect();
        let view = shared.views().newest();
        // What had not ended when the log began to be kept for the feed is there.
        let now = shared.env.clock.now_micros();
        let kept_from = feed.pinned_at_micros.map_or(now, |pinned_at| pinned_at.min(now));
        let ended = expiry::ended_of(&view, tables.iter().copied(), kept_from);
        // Nothing is placed before the first generation of streams.
        let first = view.generations.list().first();
        let first = first.map_or(TimestampMicros::MIN, |first| first.starts_at_micros() - 1);
        let stands = feed.progress.cursor.needs_above().max(first);
        let is_lost = |ended: &TimestampMicros| stands < *ended && above > 0;
        FeedSource {
            source: logs.follow(&tables, above.max(first)),
            lost: ended.filter(is_lost).map(|ended| expiry::lost((stands, ended))),
        }
    }
}

impl Source for FeedSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        match &self.lost {
            Some(error) => Err(error.clone()),
            None => self.source.next().await,
        }
    }

    fn held_by(&self) -> Option<String> {
        self.source.held_by()
    }
}
