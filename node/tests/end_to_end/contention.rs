//! Many clients count in the same few rows, by counters and by conditional writes, and nothing is
//! counted twice or lost, also when the node is killed in between.
//!
//! Whatever was acknowledged is in the sum; whatever was refused is not; what the kill left
//! unanswered is in it once or not at all. A conditional write goes up from what its client saw
//! last, so each that is applied is one step.

use crate::support::{Node, on_runtime};
use futures::future::join_all;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::prepared::PreparedStatement;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: usize = 24;
/// Rows that they share.
const ROWS: i32 = 3;
const STEPS: usize = 40;

/// What became of the steps of all clients.
#[derive(Default)]
struct Tally {
    applied: Cell<i64>,
    unknown: Cell<i64>,
}

impl Tally {
    fn note(&self, step: Step) {
        let count = match step {
            Step::Applied => &self.applied,
            Step::Unknown => &self.unknown,
            Step::Refused => return,
        };
        count.set(count.get() + 1);
    }

    fn check(&self, sum: i64, what: &str) {
        let (applied, unknown) = (self.applied.get(), self.unknown.get());
        assert!(
            (applied..=applied + unknown).contains(&sum),
            "{what}: the sum is {sum}, {applied} were acknowledged and {unknown} are unknown"
        );
    }
}

#[derive(Clone, Copy)]
enum Step {
    Applied,
    Refused,
    /// Sent, and never answered.
    Unknown,
}

async fn connected(node: &Node) -> Session {
    SessionBuilder::new().known_node(node.address()).build().await.expect("a session")
}

async fn prepared(session: &Session, text: &str) -> PreparedStatement {
    let mut statement = session.prepare(text).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    // A retry that the driver makes on its own would count again.
    statement.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
    statement.set_request_timeout(Some(Duration::from_secs(10)));
    statement
}

async fn create(session: &Session) {
    for text in [
        "CREATE KEYSPACE ks WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE ks.counted (k int PRIMARY KEY, n counter)",
        "CREATE TABLE ks.compared (k int PRIMARY KEY, n bigint)",
        "CREATE TABLE ks.logged (k int PRIMARY KEY, n bigint) \
         WITH cdc = {'enabled': true, 'preimage': true}",
    ] {
        session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    for table in ["compared", "logged"] {
        for k in 0..ROWS {
            let text = format!("INSERT INTO ks.{table} (k, n) VALUES ({k}, 0) IF NOT EXISTS");
            session.query_unpaged(text, ()).await.expect("inserted");
        }
    }
}

async fn count(session: &Session, update: &PreparedStatement, client: usize) -> Step {
    let key = client as i32 % ROWS;
    match session.execute_unpaged(update, (key,)).await {
        Ok(_) => Step::Applied,
        Err(_) => Step::Unknown,
    }
}

/// One attempt to go from `seen` to the next number; `seen` is then what the row held.
async fn compare(
    session: &Session,
    update: &PreparedStatement,
    client: usize,
    seen: &mut i64,
) -> Step {
    let key = client as i32 % ROWS;
    let Ok(result) = session.execute_unpaged(update, (*seen + 1, key, *seen)).await else {
        return Step::Unknown;
    };
    let result = result.into_rows_result().expect("a conditional write returns a row");
    if result.column_specs().len() == 1 {
        assert_eq!(result.single_row::<(bool,)>().expect("[applied]"), (true,));
        *seen += 1;
        return Step::Applied;
    }
    let (is_applied, now) = result.single_row::<(bool, i64)>().expect("[applied] and n");
    assert!(!is_applied && now != *seen, "refused although the row held {now}");
    *seen = now;
    Step::Refused
}

/// Every client takes steps until it has taken enough or one is not answered.
async fn contend(session: &Session, counters: &Tally, compared: [&Tally; 2]) {
    let add = prepared(session, "UPDATE ks.counted SET n = n + 1 WHERE k = ?").await;
    let update = |table| format!("UPDATE ks.{table} SET n = ? WHERE k = ? IF n = ?");
    let plain = prepared(session, &update("compared")).await;
    let logged = prepared(session, &update("logged")).await;
    assert!(plain.is_confirmed_lwt() && !add.is_confirmed_lwt(), "the mark tells the driver");
    let counting = join_all((0..CLIENTS).map(async |client| {
        for _ in 0..STEPS {
            let step = count(session, &add, client).await;
            let is_last = matches!(step, Step::Unknown);
            counters.note(step);
            if is_last {
                return;
            }
        }
    }));
    let comparing = join_all(
        (0..CLIENTS)
            .flat_map(|client| [(client, &plain, compared[0]), (client, &logged, compared[1])])
            .map(async |(client, update, tally)| {
                let mut seen = 0;
                for _ in 0..STEPS {
                    let step = compare(session, update, client, &mut seen).await;
                    let is_last = matches!(step, Step::Unknown);
                    tally.note(step);
                    if is_last {
                        return;
                    }
                }
            }),
    );
    futures::future::join(counting, comparing).await;
}

/// The sum of a table's numbers.
async fn sum(session: &Session, table: &str) -> i64 {
    let mut sum = 0;
    for k in 0..ROWS {
        let text = format!("SELECT n FROM ks.{table} WHERE k = {k}");
        let result = session.query_unpaged(text, ()).await.expect("read");
        let rows = result.into_rows_result().expect("rows");
        let row = rows.maybe_first_row::<(Option<scylla::value::CqlValue>,)>().expect("typed");
        sum += match row.and_then(|(n,)| n) {
            Some(scylla::value::CqlValue::Counter(counter)) => counter.0,
            Some(scylla::value::CqlValue::BigInt(n)) => n,
            _ => 0,
        };
    }
    sum
}

/// How many changes of a row the log of `logged` tells of.
async fn logged_count(session: &Session) -> i64 {
    let text = "SELECT COUNT(*) FROM ks.logged_scylla_cdc_log WHERE \"cdc$operation\" = 1 \
                ALLOW FILTERING";
    let result = session.query_unpaged(text, ()).await.expect("read");
    let rows = result.into_rows_result().expect("rows");
    rows.single_row::<(i64,)>().expect("a count").0
}

async fn check(session: &Session, counters: &Tally, compared: [&Tally; 2]) {
    counters.check(sum(session, "counted").await, "counters");
    compared[0].check(sum(session, "compared").await, "conditional writes");
    let logged = sum(session, "logged").await;
    compared[1].check(logged, "conditional writes of a table with a log");
    assert_eq!(logged_count(session).await, logged, "what was applied is logged, and no more");
}

#[test]
fn every_step_counts_once_also_across_a_kill() {
    let mut node = Node::start();
    on_runtime(async {
        let (counters, plain, logged) = (Tally::default(), Tally::default(), Tally::default());
        let session = connected(&node).await;
        create(&session).await;
        contend(&session, &counters, [&plain, &logged]).await;
        assert_eq!(counters.applied.get(), (CLIENTS * STEPS) as i64, "none fails");
        assert!(plain.applied.get() > 0 && plain.unknown.get() == 0);
        check(&session, &counters, [&plain, &logged]).await;

        let contending = contend(&session, &counters, [&plain, &logged]);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            node.kill();
        };
        futures::future::join(contending, killing).await;
        node.restart();
        let session = connected(&node).await;
        check(&session, &counters, [&plain, &logged]).await;
        contend(&session, &counters, [&plain, &logged]).await;
        check(&session, &counters, [&plain, &logged]).await;
    });
}
