//! Changefeeds as their users meet them: statements in, requests at an HTTP endpoint out, on one node
//! and on three, over pauses, restarts and the death of the node that delivers.

use crate::several_nodes::QUORUM;
use crate::support::{Node, Raw, Reply, frame, python, run};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const TIME_MAX: Duration = Duration::from_mins(1);
pub(crate) const ARGUMENTS: &[&str] =
    &["--memory", "256M", "--webhook-allow-http", "--webhook-allow-private-addresses"];

/// How far from its own a receiver lets the time of a request be.
const OFF_TIME_MAX: Duration = Duration::from_mins(10);

/// An HTTP endpoint that acknowledges everything and keeps the events, but for batches that have a
/// row whose status is `poison`, which it refuses. While it is closed it says that it is busy.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    events: Mutex<Vec<Value>>,
    is_closed: AtomicBool,
    /// Requests whose time was wrong.
    misdated: AtomicUsize,
}

impl Receiver {
    pub(crate) fn start() -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<State>::default();
        let of_thread = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = of_thread.clone();
                thread::spawn(move || receive(stream, &state));
            }
        });
        Receiver { address, state }
    }

    /// From here on it is busy, or takes events again.
    pub(crate) fn close(&self, is_closed: bool) {
        self.state.is_closed.store(is_closed, Ordering::SeqCst);
    }

    pub(crate) fn statement(&self, name: &str, table: &str, options: &str) -> String {
        let address = self.address;
        format!(
            "CREATE CHANGEFEED {name} FOR TABLE {table} INTO WEBHOOK 'http://{address}/hook' WITH \
             (flush_interval_ms = 5{options})"
        )
    }

    /// What has come so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.state.events.lock().expect("nobody panics with it").clone()
    }

    /// How many requests bore a time that was wrong.
    pub(crate) fn misdated(&self) -> usize {
        self.state.misdated.load(Ordering::SeqCst)
    }

    pub(crate) fn forget(&self) {
        self.state.events.lock().expect("nobody panics with it").clear();
    }

    /// Waits until every id of `wanted` has come, and returns all events.
    pub(crate) fn wait_for(&self, wanted: std::ops::Range<i64>) -> Vec<Value> {
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let events = self.state.events.lock().expect("nobody panics with it").clone();
            let has = |id: i64| events.iter().any(|event| event["key"]["id"] == id);
            if wanted.clone().all(has) {
                return events;
            }
            assert!(Instant::now() < deadline, "{wanted:?} did not come: {events:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Takes the requests of one connection.
fn receive(mut stream: TcpStream, state: &State) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket can be cloned"));
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !matches!(reader.read_line(&mut line), Ok(1..)) {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if let Some(value) = line.strip_prefix("webhook-timestamp:") {
                let told = Duration::from_secs(value.trim().parse().expect("seconds"));
                let now = SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970");
                let is_wrong = now.abs_diff(told) > OFF_TIME_MAX;
                state.misdated.fetch_add(usize::from(is_wrong), Ordering::SeqCst);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let batch: Vec<Value> = serde_json::from_slice(&body).expect("an array of events");
        let status = if state.is_closed.load(Ordering::SeqCst) {
            "503 Service Unavailable"
        } else if batch.iter().any(|event| event["new_row"]["status"] == "poison") {
            "422 Unprocessable Content"
        } else {
            state.events.lock().expect("nobody panics with it").extend(batch);
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub(crate) fn insert(raw: &mut Raw, ids: std::ops::Range<i64>) {
    for id in ids {
        let text = format!("INSERT INTO shop.orders (id, status) VALUES ({id}, 'new')");
        raw.rows_at(&text, QUORUM).expect("it is written");
    }
}

pub(crate) fn keyspace(factor: usize) -> String {
    format!(
        "CREATE KEYSPACE shop WITH replication = {{'class': 'NetworkTopologyStrategy', \
         'replication_factor': {factor}}}"
    )
}

pub(crate) const TABLE: &str = "CREATE TABLE shop.orders (id int PRIMARY KEY, status text)";

/// State and figures of a feed: name, table, state, last sequence, events.
pub(crate) fn shown(raw: &mut Raw) -> Vec<(String, String, String, i64)> {
    let text =
        |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap_or_default()).expect("text");
    let number = |cell: &Option<Vec<u8>>| {
        let bytes = cell.clone().unwrap_or_default();
        bytes.try_into().map_or(0, i64::from_be_bytes)
    };
    let rows = raw.rows("SHOW CHANGEFEEDS").expect("it is shown");
    rows.iter().map(|row| (text(&row[0]), text(&row[1]), text(&row[2]), number(&row[4]))).collect()
}

/// Waits until the feeds, by their names, are in these states.
pub(crate) fn wait_for_states(raw: &mut Raw, states: &[&str]) {
    let deadline = Instant::now() + TIME_MAX;
    while !shown(raw).iter().map(|feed| &feed.2).eq(states) {
        assert!(Instant::now() < deadline, "{:?} are not {states:?}", shown(raw));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Which of the nodes owns the only feed.
pub(crate) fn owner_among(nodes: &[Node], raw: &mut Raw) -> usize {
    let owner = raw.rows("SELECT owner FROM system_views.changefeeds").expect("it is shown");
    let owner = owner[0][0].clone().expect("it has an owner");
    let host_id = |node: &Node| {
        Raw::ready(node).rows("SELECT host_id FROM system.local").expect("it is there")[0][0]
            .clone()
    };
    let owner = nodes.iter().position(|node| host_id(node).as_ref() == Some(&owner));
    owner.expect("the owner is one of them")
}

#[test]
fn changes_reach_a_webhook_and_go_on_after_a_pause_and_a_restart() {
    let receiver = Receiver::start();
    let mut node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    insert(&mut raw, 0..3);
    raw.run("UPDATE shop.orders SET status = 'shipped' WHERE id = 1");
    raw.run("DELETE FROM shop.orders WHERE id = 2");
    insert(&mut raw, 3..4);
    let events = receiver.wait_for(0..4);
    let told = |id: i64| -> Vec<String> {
        let of_key = events.iter().filter(|event| event["key"]["id"] == id);
        of_key.map(|event| format!("{} {}", event["operation"], event["new_row"])).collect()
    };
    assert_eq!(told(1)[0], r#""INSERT" {"id":1,"status":"new"}"#);
    assert_eq!(told(1)[1], r#""UPDATE" {"id":1,"status":"shipped"}"#);
    assert_eq!(told(2).last().expect("it was deleted"), r#""DELETE" null"#);
    let sequences: Vec<u64> =
        events.iter().filter_map(|event| event["sequence"].as_u64()).collect();
    assert!(sequences.len() == events.len() && sequences.is_sorted(), "{sequences:?}");

    raw.run("PAUSE CHANGEFEED f");
    let paused = shown(&mut raw);
    assert_eq!(paused, [("f".into(), "orders".into(), "Paused".into(), 6)]);
    insert(&mut raw, 4..5);
    raw.run("RESUME CHANGEFEED f");
    receiver.wait_for(4..5);

    node.stop();
    node.restart();
    let mut raw = Raw::ready(&node);
    insert(&mut raw, 5..6);
    let events = receiver.wait_for(0..6);
    // It was settled before each end, so nothing came twice.
    assert_eq!(events.len(), 8, "{events:?}");

    raw.run("PAUSE CHANGEFEED f");
    receiver.forget();
    raw.run("RESUME CHANGEFEED f FROM BEGINNING");
    assert_eq!(receiver.wait_for(0..6)[..8], events, "the log is told again as it was");

    raw.run("DROP CHANGEFEED f");
    assert_eq!(shown(&mut raw), []);
    raw.run("DROP TABLE shop.orders");
}

#[test]
fn an_event_that_the_receiver_refuses_is_left_out_and_shown_where_the_feed_says_so() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    // All in one batch, if they come in time.
    let options = ", flush_interval_ms = 200, on_error = 'skip'";
    let create = receiver.statement("f", "shop.orders", options);
    raw.run(&create.replacen("flush_interval_ms = 5, ", "", 1));
    insert(&mut raw, 0..5);
    raw.run("INSERT INTO shop.orders (id, status) VALUES (5, 'poison')");
    insert(&mut raw, 6..9);
    receiver.wait_for(0..5);
    let events = receiver.wait_for(6..9);
    assert!(events.iter().all(|event| event["key"]["id"] != 5), "{events:?}");
    let query = "SELECT skipped, last_skipped FROM system_views.changefeeds";
    let told = raw.rows(query).expect("it is shown");
    assert_eq!(told[0][0].as_deref(), Some(&1_i64.to_be_bytes()[..]));
    let last = String::from_utf8(told[0][1].clone().expect("one was left out")).expect("text");
    assert!(last.starts_with(r#"orders:{"id":5}: "#) && last.contains("answered 422"), "{last}");
    assert_eq!(shown(&mut raw)[0].2, "Running");

    raw.run("PAUSE CHANGEFEED f");
    raw.run("ALTER CHANGEFEED f SET (on_error = 'pause')");
    raw.run("RESUME CHANGEFEED f FROM BEGINNING");
    let deadline = Instant::now() + TIME_MAX;
    while shown(&mut raw)[0].2 != "Error" {
        assert!(Instant::now() < deadline, "{:?}", shown(&mut raw));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn secrets_of_statements_are_shown_nowhere() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    raw.run(&keyspace(1));
    raw.run(TABLE);
    let secrets = ", hmac_secret = 'hush-hush', headers = {'Authorization': 'Bearer hush-hush'}";
    let create = receiver.statement("f", "shop.orders", secrets);
    let create = create.replace("/hook", "/hook?token=hush-hush");
    let alter = "ALTER CHANGEFEED f SET (hmac_secret = 'hush-hush-hush')";
    let long_string = |text: &str| {
        let mut body = u32::try_from(text.len()).expect("a short text").to_be_bytes().to_vec();
        body.extend(text.as_bytes());
        body
    };
    for text in [&create, alter] {
        raw.send(&frame(4, 9, &long_string(text)));
        let prepared = raw.reply();
        assert!(matches!(prepared, Reply::Frame(8, _)), "{prepared:?}");
    }
    for text in [&create, "PAUSE CHANGEFEED f", alter, &alter.replace(" = ", " ")] {
        let mut traced = frame(4, 7, &[long_string(text), vec![0, 1, 0]].concat());
        traced[1] = 2;
        raw.send(&traced);
        if let Reply::Error(_, message) = raw.reply() {
            assert!(message.contains("expected '.' or '='"), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
    }
    let statements = "SELECT query_string FROM system.prepared_statements";
    let sessions = "SELECT parameters FROM system_traces.sessions";
    for (query, count) in [
        (statements, 2),
        (sessions, 4),
        ("SELECT activity FROM system_traces.events", 1),
        ("SHOW CHANGEFEEDS", 1),
        ("SELECT * FROM system.changefeeds", 1),
        ("DESCRIBE CHANGEFEED f", 1),
    ] {
        let shown = raw.rows(query).expect("it is shown");
        assert!(shown.len() >= count, "{query}: {shown:?}");
        let shown: Vec<_> =
            shown.iter().flatten().flatten().map(|cell| String::from_utf8_lossy(cell)).collect();
        assert!(!shown.concat().contains("hush"), "{query}: {shown:?}");
        if [statements, sessions].contains(&query) {
            assert!(shown.concat().contains("ALTER CHANGEFEED f SET <redacted>"), "{shown:?}");
        }
    }
    assert!(!node.log().contains("hush"), "{}", node.log());
}

#[test]
fn what_a_feed_reads_is_kept_for_it() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let mut raw = Raw::ready(&node);
    for statement in [&keyspace(1), TABLE, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    let (code, message) = raw.rows("TRUNCATE shop.orders").expect_err("a feed is on the table");
    assert!(code == 0x2200 && message.contains("changefeed"), "{message}");
    let wrong = receiver.statement("g", "shop.orders", ", batch_sise = 5");
    let (_, message) = raw.rows(&wrong).expect_err("there is no such option");
    assert!(message.contains("batch_size"), "{message}");
    for (sink, reason) in [
        ("WEBHOOK 'https://0.0.0.0/hook'", "an unspecified address"),
        ("WEBHOOK 'shop.example/hook'", "https://"),
        ("KAFKA 'shop.example:9092/t' WITH (kafka.security.protocol = 'no')", "security.protocol"),
        ("KAFKA 'shop.example:9092/t' WITH (kafka.security.protocol = 'SSL')", "kafka-tls"),
    ] {
        let text = format!("CREATE CHANGEFEED g FOR TABLE shop.orders INTO {sink}");
        let (code, message) = raw.rows(&text).expect_err("nothing can be sent there");
        assert!(code == 0x2200 && message.contains(reason), "{message}");
    }
    for (table, reason) in [
        ("shop.orders_scylla_cdc_log", "is a CDC log itself"),
        ("system.local", "is a table of the system"),
    ] {
        let text = receiver.statement("g", table, "");
        let (code, message) = raw.rows(&text).expect_err("it has no log");
        assert!(code == 0x2200 && message.contains(reason), "{message}");
    }
    let (_, message) = raw.rows(&receiver.statement("f", "shop.orders", "")).expect_err("twice");
    assert_eq!(message, "changefeed 'f' already exists");
}

/// A node that does not deliver a feed asks the one that does, so that what it shows moves while
/// nothing is changed, which is saved every ten seconds only.
fn check_freshness(raw: &mut Raw) {
    let deadline = Instant::now() + TIME_MAX;
    let mut former: Option<i64> = None;
    loop {
        let rows = raw.rows("SELECT resolved FROM system_views.changefeeds").expect("it is shown");
        let cell = rows[0][0].clone().expect("it delivers");
        let resolved = i64::from_be_bytes(cell.try_into().expect("a timestamp"));
        let moved = resolved - former.unwrap_or(resolved);
        if moved > 0 && moved < 5_000 {
            return;
        }
        former = Some(resolved);
        assert!(Instant::now() < deadline, "{resolved} is old");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn another_node_goes_on_when_the_owner_dies() {
    let receiver = Receiver::start();
    let mut nodes: [Node; 3] = Node::start_together(ARGUMENTS);
    let mut raw = Raw::ready(&nodes[0]);
    for statement in [&keyspace(3), TABLE, &receiver.statement("f", "shop.orders", "")] {
        raw.run(statement);
    }
    insert(&mut raw, 0..20);
    receiver.wait_for(0..20);
    let dead = owner_among(&nodes, &mut raw);
    let mut raw = Raw::ready(&nodes[(dead + 1) % 3]);
    check_freshness(&mut raw);
    nodes[dead].kill();
    let deadline = Instant::now() + TIME_MAX;
    for id in 20..40 {
        let text = format!("INSERT INTO shop.orders (id, status) VALUES ({id}, 'new')");
        // Ranges that it led get another leader first.
        while let Err(error) = raw.rows_at(&text, QUORUM) {
            assert!(Instant::now() < deadline, "{error:?}");
        }
    }
    receiver.wait_for(0..40);
}

#[test]
fn cqlsh_takes_the_statements_as_they_stand() {
    let receiver = Receiver::start();
    let node = Node::start_with(ARGUMENTS);
    let create = receiver.statement(
        "detailed_feed",
        "orders",
        ", include_old_values = true, \
         batch_size = 500, filter = 'status = ''shipped'''",
    );
    let commands = format!(
        "{};\nUSE shop;\n{TABLE};\n{create};\nINSERT INTO orders (id, status) VALUES (1, 'new');\n\
         UPDATE orders SET status = 'shipped' WHERE id = 1;\nPAUSE CHANGEFEED detailed_feed;\n\
         SELECT name, state FROM system_views.changefeeds WHERE name = 'detailed_feed';\nRESUME CHANGEFEED detailed_feed;\n\
         DESCRIBE detailed_feed;\nDROP TABLE orders;\nDESCRIBE TABLES;\n",
        keyspace(1)
    );
    let Some(python) = python() else { return };
    let mut command = python.cqlsh(node.scratch());
    command.args(["127.0.0.1", &node.cql_port().to_string()]).current_dir(node.scratch());
    let finished = run(&mut command, &commands).expect("cqlsh runs");
    assert_eq!(finished.stderr, "", "{}", finished.stdout);
    let printed = finished.success();
    assert!(printed.contains("detailed_feed") && printed.contains("Paused"), "{printed}");
    assert!(printed.contains("CREATE CHANGEFEED detailed_feed FOR TABLE shop.orders"), "{printed}");
    let events = receiver.wait_for(1..2);
    assert_eq!(events[0]["operation"], "UPDATE", "the filter lets nothing else pass: {events:?}");
    assert_eq!(events[0]["old_row"]["status"], "new");
    wait_for_states(&mut Raw::ready(&node), &["Finished"]);
}
