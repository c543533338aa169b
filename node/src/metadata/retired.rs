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
mod tests {
    use super::*;
    use crate::metadata::{Command, FeedRelease, Progress, test_feed, test_schema};
    use changefeed::FeedTable;
    use model::Schema;

    const STATEMENTS: [&str; 4] = [
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE a (id int PRIMARY KEY) WITH cdc = {'enabled': true}",
        "CREATE TABLE b (id int PRIMARY KEY) WITH cdc = {'enabled': true}",
        "CREATE TABLE c (id int PRIMARY KEY)",
    ];

    /// Metadata to which commands are applied as they come from the log.
    struct Log(Metadata);

    impl Log {
        /// With the tables of [`STATEMENTS`], and feeds on some of them.
        fn new(feeds: &[(&str, &[&str])]) -> Log {
            let mut log = Log(Metadata::default());
            log.change(&Schema::default(), &test_schema(&STATEMENTS));
            let put = feeds.iter().map(|(name, tables)| {
                let mut feed = test_feed(name, Some(1));
                feed.definition.keyspace = "k".into();
                let table = |name: &&str| FeedTable { id: log.id(name), name: (*name).into() };
                feed.definition.tables = tables.iter().map(table).collect();
                feed
            });
            let put = put.collect();
            log.apply(&Command::ChangeFeeds { put, remove: Vec::new() });
            log
        }

        fn apply(&mut self, command: &Command) {
            let command = Command::from_bytes(&command.to_bytes()).expect("it is JSON");
            self.0.apply(self.0.index + 1, command);
        }

        fn change(&mut self, before: &Schema, after: &Schema) -> Vec<String> {
            let put: Vec<_> = after.keyspaces.values().map(|k| (**k).clone()).collect();
            let gone = before.keyspaces.keys().filter(|name| after.keyspace(name).is_none());
            let remove: Vec<Arc<str>> = gone.cloned().collect();
            let change = SchemaChange { put, remove, ..SchemaChange::default() };
            let (retire, warnings) = self.0.retired_by(&change).expect("nothing is in the way");
            let SchemaChange { put, remove, .. } = change;
            self.apply(&Command::ChangeSchema { put, remove, retire });
            warnings
        }

        fn drop_table(&mut self, name: &str) -> Vec<String> {
            let mut after = self.0.schema.clone();
            let keyspace = Arc::make_mut(after.keyspaces.get_mut("k").expect("it is there"));
            let log = keyspace.tables.remove(name).expect("it is there").cdc_log;
            keyspace.tables.retain(|_, table| Some(table.id) != log);
            let before = self.0.schema.clone();
            self.change(&before, &after)
        }

        fn id(&self, name: &str) -> TableId {
            self.0.schema.table("k", name).expect("it is there").id
        }

        fn closed(&mut self, name: &str, micros: i64) {
            let feed = self.0.feeds.get_mut(name).expect("it is there");
            feed.progress = Progress { closed_micros: Some(micros), ..feed.progress.clone() };
        }

        /// The feeds leave what they have passed; how they stand then: name, state, tables.
        fn leave(&mut self) -> Vec<(String, FeedState, String)> {
            let leaves = self.0.feeds_to_leave();
            if !leaves.is_empty() {
                self.apply(&Command::LeaveTables { leaves });
            }
            let feeds = self.0.feeds.values();
            let told = feeds.map(|feed| {
                let definition = &feed.definition;
                (definition.name.to_string(), feed.state, definition.table_names())
            });
            told.collect()
        }
    }

    #[test]
    fn a_log_is_kept_until_every_feed_has_passed_its_end() {
        let mut log = Log::new(&[("f", &["a"]), ("g", &["a", "b"]), ("h", &["b"])]);
        let (table, of_table) = (log.id("a"), log.0.schema.table("k", "a").unwrap().cdc_log);
        let of_table = of_table.expect("it has a log");
        assert_eq!(log.drop_table("a"), Vec::<String>::new());
        assert!(log.0.schema.table_by_id(of_table).is_none(), "no name leads to it");
        assert!(log.0.is_retired_log(of_table) && !log.0.was_dropped(of_table));
        assert!(log.0.was_dropped(table));
        assert_eq!(log.0.retired[0].dropped_at, log.0.index);
        // Its end is not known yet.
        log.closed("f", 9_000);
        let before = log.leave();
        log.apply(&Command::EndRetired { ends: vec![RetiredEnd { table, ends_at_micros: 50 }] });
        log.apply(&Command::EndRetired { ends: vec![RetiredEnd { table, ends_at_micros: 70 }] });
        assert_eq!(log.0.retired[0].ends_at_micros, Some(50));
        log.closed("f", 49);
        log.closed("g", 50);
        log.closed("h", 50);
        let after = log.leave();
        assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
        assert_eq!(after[1], ("g".to_owned(), FeedState::Running, "b".to_owned()));
        assert_eq!((log.0.feeds["g"].epoch, log.0.feeds["g"].owner), (2, Some(1)));
        log.closed("f", 50);
        assert_eq!(log.leave()[0], ("f".to_owned(), FeedState::Finished, "a".to_owned()));
        assert_eq!((log.0.feeds["f"].owner, log.0.feeds["f"].pinned_at_micros), (None, None));
        assert!(log.0.retired.is_empty() && log.0.was_dropped(of_table));
    }

    #[test]
    fn a_log_that_is_kept_for_nobody_is_forgotten() {
        let mut log = Log::new(&[("f", &["a"]), ("g", &["a", "b"])]);
        log.drop_table("a");
        log.drop_table("c");
        assert_eq!(log.0.retired.len(), 1, "no feed is on c");
        log.apply(&Command::ChangeFeeds { put: Vec::new(), remove: vec!["f".into()] });
        assert_eq!(log.0.retired.len(), 1);
        let release = FeedRelease { name: "g".into(), epoch: 1, reason: "lost".to_owned() };
        log.apply(&Command::ReleaseFeeds { releases: vec![release] });
        assert!(log.0.retired.is_empty());
        assert_eq!(log.0.feeds["g"].definition.table_names(), "b", "it can go on with the other");
    }

    #[test]
    fn a_keyspace_goes_with_all_its_tables_and_its_logs_stay_where_they_are() {
        let mut log = Log::new(&[("f", &["a", "b"])]);
        let feed = log.0.feeds.get_mut("f").unwrap();
        feed.state = FeedState::Paused;
        let before = log.0.schema.clone();
        let warnings = log.change(&before, &Schema::default());
        assert!(warnings.len() == 2 && warnings[0].contains("k.a is kept for changefeed 'f'"));
        assert_eq!(log.0.retired.len(), 2);
        assert_eq!(log.0.settings.len(), 1, "their groups are");
        log.apply(&Command::ChangeFeeds { put: Vec::new(), remove: vec!["f".into()] });
        assert!(log.0.retired.is_empty() && log.0.settings.is_empty());
    }

    #[test]
    fn rows_that_are_to_be_scanned_are_not_dropped() {
        let mut log = Log::new(&[("f", &["a"])]);
        log.0.feeds.get_mut("f").unwrap().progress.scanned = Some(Arc::default());
        let change = SchemaChange { remove: vec!["k".into()], ..SchemaChange::default() };
        let refused = log.0.retired_by(&change).unwrap_err().to_string();
        assert!(refused.starts_with("k.a cannot be dropped while changefeed 'f'"), "{refused}");
    }

    #[test]
    fn what_was_decided_under_another_epoch_is_void() {
        let mut log = Log::new(&[("f", &["a"])]);
        let table = log.id("a");
        log.drop_table("a");
        let leave = |epoch| FeedLeave { name: "f".into(), epoch, tables: vec![table] };
        log.apply(&Command::LeaveTables { leaves: vec![leave(7)] });
        assert_eq!(log.0.feeds["f"].state, FeedState::Running);
        log.apply(&Command::LeaveTables { leaves: vec![leave(1)] });
        assert_eq!(log.0.feeds["f"].state, FeedState::Finished);
    }
}
