//! Tables that were dropped while changefeeds had yet to tell of them.
//!
//! To clients such a table is gone, name and all. Its log is kept where it was, and its definition
//! beside it, as long as a changefeed needs them ([`RetiredTable`]):
//!
//! ```text
//! DROP TABLE ─▶ retired ─▶ its end is known ─▶ each of its feeds has passed the end ─▶ forgotten
//! ```
//!
//! The *end* is a time at or above everything that is in the log: what was placed when no node wrote
//! to the table any more. A feed that is closed up to there has delivered everything, and leaves the
//! table: it goes on with its others, or has finished. A log that no feed pins is forgotten by the very
//! command that ended the last pin, whatever it was: a feed that left, DROP CHANGEFEED, or the limit of
//! `retention_max_age` or `retention_max_bytes`.
//!
//! Who finds the ends, and who has passed them, is `feeds::retired`; what follows from it is here, and
//! the same on every node. The statement's part is [`Metadata::retired_by`].

use super::{FeedRecord, FeedState, Metadata};
use cql::plan::PlanError;
use cql::plan::ddl::SchemaChange;
use model::schema::{Replication, TableDef};
use model::{TableId, TimestampMicros};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A table that is no more, with what its feeds read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetiredTable {
    /// As it was last.
    pub base: Arc<TableDef>,
    /// Its log, which no name leads to any more.
    pub log: Arc<TableDef>,
    /// Where the log lies.
    pub replication: Replication,
    /// The index of the command that dropped it.
    pub dropped_at: u64,
    /// Nothing in the log lies above; nothing while that is not known.
    pub ends_at_micros: Option<TimestampMicros>,
}

/// Up to which time there is anything in the log of a table that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetiredEnd {
    /// The table's own id.
    pub table: TableId,
    pub ends_at_micros: TimestampMicros,
}

/// A feed has delivered everything of tables that were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedLeave {
    pub name: Arc<str>,
    /// The epoch that the feed had when this was decided; under another one it is void.
    pub epoch: u64,
    pub tables: Vec<TableId>,
}

impl FeedRecord {
    pub(super) fn is_on(&self, table: TableId) -> bool {
        self.definition.tables.iter().any(|of_feed| of_feed.id == table)
    }

    /// Whether the log of a table is kept for it.
    fn pins(&self, table: TableId) -> bool {
        self.pinned_at_micros.is_some() && self.needs_logs() && self.is_on(table)
    }
}

impl Metadata {
    /// The retired table of that id.
    pub(crate) fn retired_table(&self, table: TableId) -> Option<&RetiredTable> {
        self.retired.iter().find(|retired| retired.base.id == table)
    }

    /// Whether a table is the log of a retired one.
    pub(crate) fn is_retired_log(&self, log: TableId) -> bool {
        self.retired.iter().any(|retired| retired.log.id == log)
    }

    /// Whether a feed is on a table that was dropped, and has yet to tell of it.
    pub(crate) fn is_draining(&self, feed: &FeedRecord) -> bool {
        feed.needs_logs() && self.retired.iter().any(|retired| feed.is_on(retired.base.id))
    }

    /// The tables that a change drops and feeds have yet to tell of; with what the user should know.
    ///
    /// Errors when a feed has rows of such a table left to scan: they would be gone.
    pub(super) fn retired_by(
        &self,
        change: &SchemaChange,
    ) -> Result<(Vec<RetiredTable>, Vec<String>), PlanError> {
        let (mut retired, mut warnings) = (Vec::new(), Vec::new());
        if self.feeds.is_empty() {
            return Ok((retired, warnings));
        }
        let after = change.applied_to(&self.schema, self.schema.version + 1);
        for keyspace in self.schema.keyspaces.values() {
            for base in keyspace.tables.values() {
                let log = base.cdc_log.and_then(|log| self.schema.table_by_id(log));
                let Some(log) = log.filter(|_| after.table_by_id(base.id).is_none()) else {
                    continue;
                };
                let feeds: Vec<&FeedRecord> =
                    self.feeds.values().filter(|feed| feed.pins(base.id)).collect();
                if feeds.is_empty() {
                    continue;
                }
                for feed in feeds {
                    check_scanned(feed, base)?;
                    warnings.extend(note_of(feed, base));
                }
                retired.push(RetiredTable {
                    base: base.clone(),
                    log: log.clone(),
                    replication: keyspace.replication.clone(),
                    dropped_at: 0,
                    ends_at_micros: None,
                });
            }
        }
        Ok((retired, warnings))
    }

    /// Tables were dropped by the command at this index.
    pub(super) fn retire(&mut self, index: u64, tables: Vec<RetiredTable>) {
        let tables = tables.into_iter();
        self.retired.extend(tables.map(|table| RetiredTable { dropped_at: index, ..table }));
    }

    /// What was found first holds.
    pub(super) fn end_retired(&mut self, ends: &[RetiredEnd]) {
        for end in ends {
            let retired = self.retired.iter_mut().find(|retired| retired.base.id == end.table);
            if let Some(retired) = retired {
                retired.ends_at_micros.get_or_insert(end.ends_at_micros);
            }
        }
    }

    /// The feeds that have delivered everything of tables that were dropped.
    pub(crate) fn feeds_to_leave(&self) -> Vec<FeedLeave> {
        let mut leaves = Vec::new();
        for (name, feed) in &self.feeds {
            let closed = feed.progress.closed_micros;
            let is_over = |retired: &&RetiredTable| {
                let end = retired.ends_at_micros;
                feed.pins(retired.base.id) && end.zip(closed).is_some_and(|(end, to)| to >= end)
            };
            let over = self.retired.iter().filter(is_over);
            let tables: Vec<TableId> = over.map(|retired| retired.base.id).collect();
            if !tables.is_empty() {
                leaves.push(FeedLeave { name: name.clone(), epoch: feed.epoch, tables });
            }
        }
        leaves
    }

    pub(super) fn leave_tables(&mut self, leaves: Vec<FeedLeave>) {
        for FeedLeave { name, epoch, tables } in leaves {
            let Some(feed) = self.feeds.get_mut(&name).filter(|feed| feed.epoch == epoch) else {
                continue;
            };
            feed.epoch += 1;
            if feed.definition.tables.iter().all(|table| tables.contains(&table.id)) {
                feed.state = FeedState::Finished;
                (feed.owner, feed.pinned_at_micros) = (None, None);
                feed.progress.last_error = None;
            } else {
                feed.definition.tables.retain(|table| !tables.contains(&table.id));
            }
        }
    }

    /// Forgets logs that are kept for nobody, and feeds forget tables that are gone, but for the last.
    pub(super) fn purge_retired(&mut self) {
        let feeds = &self.feeds;
        self.retired.retain(|retired| feeds.values().any(|feed| feed.pins(retired.base.id)));
        let (schema, retired) = (&self.schema, &self.retired);
        let is_there = |table: TableId| {
            schema.table_by_id(table).is_some() || retired.iter().any(|r| r.base.id == table)
        };
        for feed in self.feeds.values_mut() {
            let tables = &mut feed.definition.tables;
            if tables.len() > 1 && tables.iter().any(|table| is_there(table.id)) {
                tables.retain(|table| is_there(table.id));
            }
        }
    }
}

fn check_scanned(feed: &FeedRecord, table: &TableDef) -> Result<(), PlanError> {
    if !feed.is_scanning() {
        return Ok(());
    }
    let (keyspace, table, feed) = (&table.keyspace, &table.name, &feed.definition.name);
    Err(PlanError::invalid(format!(
        "{keyspace}.{table} cannot be dropped while changefeed '{feed}' has rows of its initial scan \
         left: wait until the scan is complete, or DROP CHANGEFEED first"
    )))
}

/// What the user should know of a feed that will not deliver the rest by itself.
fn note_of(feed: &FeedRecord, table: &TableDef) -> Option<String> {
    if feed.state == FeedState::Running {
        return None;
    }
    let (keyspace, table, name) = (&table.keyspace, &table.name, &feed.definition.name);
    Some(format!(
        "the log of {keyspace}.{table} is kept for changefeed '{name}', which is not running: RESUME \
         CHANGEFEED delivers the rest, DROP CHANGEFEED lets go of it"
    ))
}

#[cfg(test)]
mod tests;
