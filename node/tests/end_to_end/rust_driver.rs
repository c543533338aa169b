//! The driver for Rust: rows, pages, batches, errors, and that it finds the shards.

use crate::support::{Node, on_runtime};
use futures::TryStreamExt;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::response::PagingState;
use scylla::statement::batch::Batch;
use scylla::value::{CqlTimeuuid, MaybeUnset};
use std::ops::ControlFlow;

/// A session, and the keyspace `ks` in it.
async fn connected(node: &Node) -> Session {
    let session =
        SessionBuilder::new().known_node(node.address()).build().await.expect("a session");
    let create = "CREATE KEYSPACE ks WITH replication = \
                  {'class': 'SimpleStrategy', 'replication_factor': 1}";
    run(&session, create).await;
    session.use_keyspace("ks", false).await.expect("the keyspace is there");
    session
}

async fn run(session: &Session, text: &str) {
    session.query_unpaged(text, ()).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn error_of(session: &Session, text: &str) -> DbError {
    match session.query_unpaged(text, ()).await.expect_err(text) {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => error,
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn rows_come_back_in_pages() {
    let node = Node::start();
    on_runtime(async {
        let session = connected(&node).await;
        run(&session, "CREATE TABLE t (k int, c int, v text, l list<int>, PRIMARY KEY (k, c))")
            .await;
        let insert = session.prepare("INSERT INTO t (k, c, v, l) VALUES (?, ?, ?, ?)").await;
        let insert = insert.expect("it is prepared");
        for c in 0..100 {
            let v = MaybeUnset::Set(format!("v{c}"));
            session.execute_unpaged(&insert, (1, c, v, vec![c, -c])).await.expect("written");
        }
        let unset = (1, 7, MaybeUnset::<String>::Unset, None::<Vec<i32>>);
        session.execute_unpaged(&insert, unset).await.expect("written");

        let mut select =
            session.prepare("SELECT c, v, l FROM t WHERE k = ?").await.expect("prepared");
        select.set_page_size(7);
        let mut state = PagingState::start();
        let mut rows: Vec<(i32, String, Option<Vec<i32>>)> = Vec::new();
        loop {
            let page = session.execute_single_page(&select, (1,), state).await;
            let (page, next) = page.expect("a page");
            let page = page.into_rows_result().expect("rows");
            rows.extend(page.rows().expect("of this type").map(|row| row.expect("well formed")));
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => break,
            }
        }
        let expected = |c: i32| (c, format!("v{c}"), (c != 7).then(|| vec![c, -c]));
        assert_eq!(rows, (0..100).map(expected).collect::<Vec<_>>());

        let streamed = session.execute_iter(select, (1,)).await.expect("rows");
        let streamed = streamed.rows_stream::<(i32, String, Option<Vec<i32>>)>().expect("typed");
        assert_eq!(streamed.try_collect::<Vec<_>>().await.expect("well formed"), rows);
    });
}

#[test]
fn the_schema_the_shards_and_errors_are_seen() {
    let node = Node::start();
    on_runtime(async {
        let session = connected(&node).await;
        run(&session, "CREATE TABLE seen (a int, b text, c int, v int, PRIMARY KEY ((a, b), c))")
            .await;
        session.refresh_metadata().await.expect("metadata");
        let state = session.get_cluster_state();
        let table = &state.get_keyspace("ks").expect("the keyspace").tables["seen"];
        assert_eq!(table.partition_key, ["a", "b"]);
        assert_eq!(table.clustering_key, ["c"]);
        let sharder = state.get_nodes_info()[0].sharder().expect("the node says its shards");
        assert_eq!(sharder.nr_shards.get(), 2);

        let mut batch = Batch::default();
        let mut values = Vec::new();
        for c in 0..10 {
            batch.append_statement("INSERT INTO seen (a, b, c, v) VALUES (?, ?, ?, ?)");
            values.push((1, "b", c, c));
        }
        session.batch(&batch, values).await.expect("written");
        let sum = session.query_unpaged("SELECT sum(v) FROM seen", ()).await.expect("read");
        let sum = sum.into_rows_result().expect("rows").single_row::<(i32,)>().expect("one row");
        assert_eq!(sum, (45,));

        assert!(matches!(error_of(&session, "SELEC").await, DbError::SyntaxError));
        assert!(matches!(error_of(&session, "SELECT * FROM nosuch").await, DbError::Invalid));
        match error_of(&session, "CREATE TABLE seen (k int PRIMARY KEY)").await {
            DbError::AlreadyExists { keyspace, table } => {
                assert_eq!((keyspace.as_str(), table.as_str()), ("ks", "seen"));
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn compression_changes_nothing() {
    let node = Node::start();
    on_runtime(async {
        drop(connected(&node).await);
        let compression = Some(scylla::frame::Compression::Lz4);
        let builder = SessionBuilder::new().known_node(node.address()).compression(compression);
        let session = builder.use_keyspace("ks", false).build().await.expect("a session");
        run(
            &session,
            "CREATE TABLE logged (k int PRIMARY KEY, v text) WITH cdc = {'enabled': true}",
        )
        .await;
        let large = "long ".repeat(50_000);
        let insert = "INSERT INTO logged (k, v) VALUES (1, ?)";
        session.query_unpaged(insert, (&large,)).await.expect("written");
        let select = "SELECT \"cdc$time\", \"cdc$operation\", v FROM logged_scylla_cdc_log";
        let rows = session.query_unpaged(select, ()).await.expect("read");
        let rows = rows.into_rows_result().expect("rows");
        let (_, operation, v) = rows.single_row::<(CqlTimeuuid, i8, String)>().expect("one row");
        assert_eq!((operation, v), (2, large));
    });
}
