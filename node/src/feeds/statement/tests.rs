//! What statements make of the feeds that there are, one after the other, and which are refused.

use super::*;
use crate::metadata::{Command, test_schema};
use changefeed::scan::Scanned;
use cql::syntax::ast::Statement;

const NOW_MICROS: i64 = 1_795_255_200_000_000;

/// Feeds as statements make them, one after the other.
struct Session {
    metadata: Metadata,
    schema: Schema,
}

impl Session {
    fn new() -> Session {
        let schema = test_schema(&[
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
            "CREATE TABLE orders (id int PRIMARY KEY, status text)",
            "CREATE TABLE users (id int PRIMARY KEY)",
            "CREATE TABLE sums (id int PRIMARY KEY, n counter)",
        ]);
        Session { metadata: Metadata::default(), schema }
    }

    /// What a statement comes to; applied.
    fn run(&mut self, text: &str) -> Result<FeedChange, String> {
        let parsed = cql::syntax::parse(text).expect("it is CQL").statement;
        let Statement::Changefeed(statement) = parsed else { panic!("{text}") };
        let circumstances = Circumstances {
            metadata: &self.metadata,
            schema: &self.schema,
            keyspace_in_use: Some("k"),
            now_micros: NOW_MICROS,
            owner: Some(7),
        };
        let change = decide(&statement, &circumstances).map_err(|error| error.to_string())?;
        let (put, remove) = match change.clone() {
            FeedChange::Nothing => return Ok(change),
            FeedChange::Put(feed) => (vec![*feed], Vec::new()),
            FeedChange::Remove(name) => (Vec::new(), vec![name]),
        };
        self.metadata.apply(self.metadata.index + 1, Command::ChangeFeeds { put, remove });
        Ok(change)
    }

    fn feed(&self) -> &FeedRecord {
        &self.metadata.feeds["f"]
    }

    /// As an owner that gave up would.
    fn fail(&mut self) {
        let feed = self.metadata.feeds.get_mut("f").unwrap();
        (feed.state, feed.owner) = (FeedState::Error, None);
        feed.progress.last_error = Some("gone".to_owned());
    }
}

const CREATE: &str = "CREATE CHANGEFEED f FOR TABLE orders INTO KAFKA 'broker:9092/topic'";

#[test]
fn a_feed_begins_with_its_creation() {
    let mut session = Session::new();
    session.run(CREATE).unwrap();
    let feed = session.feed();
    assert_eq!((feed.state, feed.owner), (FeedState::Running, Some(7)));
    assert_eq!(feed.progress.cursor, Cursor::Time(NOW_MICROS));
    assert_eq!(&*feed.definition.keyspace, "k");
    assert_eq!(feed.definition.tables[0].id, session.schema.table("k", "orders").unwrap().id);
    let text = "a feed of that name is there";
    assert_eq!(session.run(CREATE).unwrap_err(), "changefeed 'f' already exists", "{text}");
    let again = CREATE.replace("CHANGEFEED f", "CHANGEFEED IF NOT EXISTS f");
    assert_eq!(session.run(&again), Ok(FeedChange::Nothing));
}

#[test]
fn an_epoch_is_never_used_twice() {
    let mut session = Session::new();
    session.run(CREATE).unwrap();
    session.run("PAUSE CHANGEFEED f").unwrap();
    session.run("RESUME CHANGEFEED f").unwrap();
    let epoch = session.feed().epoch;
    session.run("DROP CHANGEFEED f").unwrap();
    session.run(CREATE).unwrap();
    assert!(session.feed().epoch > epoch);
}

#[test]
fn states_follow_on_each_other_as_the_table_says() {
    let mut session = Session::new();
    session.run(CREATE).unwrap();
    let running = session.feed().clone();
    assert_eq!(session.run("RESUME CHANGEFEED f"), Ok(FeedChange::Nothing));
    assert!(session.run("RESUME CHANGEFEED f FROM BEGINNING").unwrap_err().contains("pause it"));
    assert!(
        session.run("ALTER CHANGEFEED f SET (batch_size = 1)").unwrap_err().contains("pause it")
    );

    session.run("PAUSE CHANGEFEED f").unwrap();
    let paused = session.feed();
    assert_eq!(
        (paused.state, paused.owner, paused.epoch),
        (FeedState::Paused, Some(7), running.epoch)
    );
    assert_eq!(session.run("PAUSE CHANGEFEED f"), Ok(FeedChange::Nothing));
    session.run("ALTER CHANGEFEED f SET (batch_size = 7)").unwrap();
    let altered = session.feed();
    assert_eq!((altered.state, altered.definition.options.batch_size), (FeedState::Paused, 7));
    session.run("RESUME CHANGEFEED f").unwrap();
    let resumed = session.feed();
    assert_eq!((resumed.state, resumed.owner), (FeedState::Running, Some(7)));
    assert_eq!(resumed.progress, running.progress, "it goes on where it stood");

    session.fail();
    session.run("RESUME CHANGEFEED f").unwrap();
    assert_eq!(
        (session.feed().state, session.feed().progress.last_error.clone()),
        (FeedState::Running, None)
    );
    session.fail();
    session.run("PAUSE CHANGEFEED f").unwrap();
    assert_eq!(session.feed().progress.last_error.as_deref(), Some("gone"));
    session.run("DROP CHANGEFEED f").unwrap();
    for statement in ["PAUSE", "RESUME", "DROP"] {
        let error = session.run(&format!("{statement} CHANGEFEED f")).unwrap_err();
        assert_eq!(error, "changefeed 'f' does not exist");
    }
    assert_eq!(session.run("DROP CHANGEFEED IF EXISTS f"), Ok(FeedChange::Nothing));
}

#[test]
fn a_feed_is_resumed_from_where_it_is_told() {
    let mut session = Session::new();
    session.run(CREATE).unwrap();
    let mut cursor = |from: &str| {
        session.run("PAUSE CHANGEFEED f").unwrap();
        session
            .run(&format!("RESUME CHANGEFEED f FROM {from}"))
            .map(|_| session.feed().progress.cursor)
    };
    assert_eq!(cursor("BEGINNING"), Ok(Cursor::Time(0)));
    assert_eq!(cursor("SEQUENCE 77"), Ok(Cursor::Sequence(77)));
    assert_eq!(cursor("TIMESTAMP 1000"), Ok(Cursor::Time(999_999)));
    assert_eq!(cursor("TIMESTAMP '1970-01-01 00:00:02+0000'"), Ok(Cursor::Time(1_999_999)));
    assert!(cursor("SEQUENCE 9007199254740992").is_err());
    assert!(cursor("TIMESTAMP 'soon'").is_err());
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut session = Session::new();
    let mut refused = |text: &str| session.run(text).unwrap_err();
    let into = "INTO KAFKA 'broker:9092/topic'";
    let missing = refused(&format!("CREATE CHANGEFEED f FOR TABLE nothing {into}"));
    assert_eq!(missing, "table nothing does not exist");
    assert!(refused(&format!("CREATE CHANGEFEED f FOR TABLE sums {into}")).contains("counters"));
    assert!(
        refused("CREATE CHANGEFEED f FOR TABLE orders INTO WEBHOOK 'x.com/hook'").contains("http")
    );
    let unknown = refused(&format!("{CREATE} WITH (batch_sise = 5)"));
    assert!(unknown.contains("batch_sise") && unknown.contains("batch_size"), "{unknown}");
    assert!(refused(&format!("{CREATE} WITH (batch_size = 'many')")).contains("batch_size"));
    assert!(
        refused(&format!("{CREATE} WITH (headers = {{'a': '1', 'a': '2'}})")).contains("twice")
    );
}

#[test]
fn logs_have_what_all_feeds_need_together() {
    let mut session = Session::new();
    session.run(&format!("{CREATE} WITH (event_kind = 'delta')")).unwrap();
    let g = "CREATE CHANGEFEED g FOR TABLE orders, users INTO KAFKA 'b:1/t' WITH (include_old_values = true)";
    session.run(g).unwrap();
    let needed = |session: &Session| -> Vec<(String, String)> {
        let feeds = session.metadata.feeds.values();
        let logs = logs_needed(feeds, &session.schema).into_iter();
        logs.map(|((_, table), log)| (table.to_string(), format!("{log:?}"))).collect()
    };
    let full = "Some(FeedLog { preimage: Full, postimage: true, deleted_rows: false })".to_owned();
    let expected = [("orders".to_owned(), full.clone()), ("users".to_owned(), full)];
    assert_eq!(needed(&session), expected);
    session.run("DROP CHANGEFEED g").unwrap();
    let least = "Some(FeedLog { preimage: Off, postimage: false, deleted_rows: false })".to_owned();
    assert_eq!(needed(&session), [("orders".to_owned(), least.clone())]);

    // A scan needs images until all its rows were delivered.
    let scans = "CREATE CHANGEFEED s FOR TABLE orders INTO KAFKA 'b:1/t' WITH (initial_scan = 'yes', \
                 event_kind = 'delta')";
    session.run(scans).unwrap();
    let images =
        "Some(FeedLog { preimage: Touched, postimage: true, deleted_rows: false })".to_owned();
    assert_eq!(needed(&session), [("orders".to_owned(), images.clone())]);
    let scanned = Scanned { is_complete: true, ..Scanned::default() };
    session.metadata.feeds.get_mut("s").unwrap().progress.scanned = Some(scanned.into());
    assert_eq!(needed(&session), [("orders".to_owned(), least)]);
    session.run("CREATE CHANGEFEED h FOR TABLE orders INTO KAFKA 'b:1/t'").unwrap();
    assert_eq!(needed(&session), [("orders".to_owned(), images.clone())], "another feed's stay");

    // Rows under deletes are in the log for as long as a feed tells of them.
    let rows = "CREATE CHANGEFEED r FOR TABLE orders INTO KAFKA 'b:1/t' WITH (event_kind = 'key_only', \
                delete_expansion = 'rows')";
    session.run(rows).unwrap();
    let deleted_rows = images.replace("deleted_rows: false", "deleted_rows: true");
    assert_eq!(needed(&session), [("orders".to_owned(), deleted_rows)]);
    session.run("DROP CHANGEFEED r").unwrap();
    assert_eq!(needed(&session), [("orders".to_owned(), images)]);
}

#[test]
fn a_log_is_kept_from_the_creation_on_and_anew_for_a_feed_that_is_moved_back() {
    let mut session = Session::new();
    session.run(CREATE).unwrap();
    assert_eq!(session.feed().pinned_at_micros, Some(NOW_MICROS));
    let pinned_at = |session: &mut Session, resume: &str| {
        session.run("PAUSE CHANGEFEED f").unwrap();
        let feed = session.metadata.feeds.get_mut("f").unwrap();
        (feed.pinned_at_micros, feed.progress.cursor) = (Some(5), Cursor::Time(1_000_000_000));
        session.run(resume).unwrap();
        session.feed().pinned_at_micros
    };
    for (resume, expected) in [
        ("RESUME CHANGEFEED f", 5),
        ("RESUME CHANGEFEED f FROM TIMESTAMP '2020-01-01'", 5),
        ("RESUME CHANGEFEED f FROM TIMESTAMP '1970-01-01'", NOW_MICROS),
        ("RESUME CHANGEFEED f FROM BEGINNING", NOW_MICROS),
    ] {
        assert_eq!(pinned_at(&mut session, resume), Some(expected), "{resume}");
    }
    session.fail();
    session.metadata.feeds.get_mut("f").unwrap().pinned_at_micros = None;
    session.run("RESUME CHANGEFEED f").unwrap();
    assert_eq!(session.feed().pinned_at_micros, Some(NOW_MICROS), "it was released");
}
