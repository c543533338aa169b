//! What one feed reads: its share of a log that is read for all feeds on the same tables, as long as
//! what it has yet to read is still there ([`super::expiry`]).

use super::{ClusterLogs, expiry};
use crate::node::Shared;
use changefeed::source::shared::{SharedLogs, SharedSource};
use changefeed::source::{Batch, Source, SourceError};
use model::{TableId, TimestampMicros};
use std::rc::Rc;
use std::sync::Arc;

/// The log of a feed's tables.
pub(in super::super) struct FeedSource {
    shared: Arc<Shared>,
    tables: Vec<TableId>,
    source: SharedSource<ClusterLogs>,
    /// What has ended by its TTL is not missed: whoever reads from the beginning gets what is left.
    takes_what_is_left: bool,
}

impl FeedSource {
    /// The log of these base tables above a time in microseconds; what is left of it when that is not
    /// above 0.
    pub(in super::super) fn open(
        shared: &Arc<Shared>,
        logs: &Rc<SharedLogs<ClusterLogs>>,
        tables: &[TableId],
        above: TimestampMicros,
    ) -> FeedSource {
        let takes_what_is_left = above <= 0;
        let view = shared.views().newest();
        // Nothing is placed before the first generation of streams.
        let first = view.generations.list().first();
        let above = first.map_or(above, |first| above.max(first.starts_at_micros() - 1));
        let (shared, source) = (shared.clone(), logs.follow(tables, above));
        FeedSource { shared, tables: tables.to_vec(), source, takes_what_is_left }
    }

    /// Errors when rows that are yet to be handed out may have ended.
    fn check_expiry(&mut self) -> Result<(), SourceError> {
        let (now, view) = (self.shared.env.clock.now_micros(), self.shared.views().newest());
        let ended_of = |table: &TableId| {
            let options = view.table(*table)?.cdc_enabled()?;
            expiry::ended_micros(now, options.ttl_seconds)
        };
        let ended = self.tables.iter().filter_map(ended_of).max();
        let place = self.source.place();
        match ended.filter(|ended| place < *ended) {
            Some(ended) if !self.takes_what_is_left => Err(expiry::lost(place, ended)),
            Some(_) => Ok(()),
            None => {
                self.takes_what_is_left = false;
                Ok(())
            }
        }
    }
}

impl Source for FeedSource {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        self.check_expiry()?;
        self.source.next().await
    }

    fn held_by(&self) -> Option<String> {
        self.source.held_by()
    }
}
