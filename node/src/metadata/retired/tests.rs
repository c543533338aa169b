//! Tables that are dropped under feeds, by the commands of the log: what is kept, for whom, until when.

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
