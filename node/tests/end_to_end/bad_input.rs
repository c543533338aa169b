//! Hostile and broken clients: the node answers with an error or hangs up, stays within its memory,
//! and serves everybody else meanwhile.

use crate::support::{Node, Random, Raw, Reply, frame};
use rustix::process::{Resource, getrlimit, setrlimit};

const STARTUP: u8 = 1;
const OPTIONS: u8 = 5;
const QUERY: u8 = 7;
const PREPARE: u8 = 9;
const EXECUTE: u8 = 10;
const REGISTER: u8 = 11;
const BATCH: u8 = 13;

const PROTOCOL: u32 = 0x000A;
const SYNTAX: u32 = 0x2000;
const INVALID: u32 = 0x2200;
const UNPREPARED: u32 = 0x2500;

/// More than a node holds at rest and with what these tests give it to hold, and far less than what
/// they pretend to send.
const MEMORY_BYTES_MAX: u64 = 600 << 20;

/// Many for one node, few enough for the file descriptors of a usual machine.
const IDLE_CONNECTIONS: usize = 5_000;
/// What they may cost: 64 KiB each.
const IDLE_BYTES_MAX: u64 = 320 << 20;

/// Clients that ask for pages of 1 MiB and do not read.
const GREEDY_CONNECTIONS: usize = 400;
/// What everybody else asks meanwhile.
const GREEDY_ROUNDS: usize = 200;
/// A node of 64 MiB with all of them: without a common limit they held 4 MiB each.
const GREEDY_BYTES_MAX: u64 = 300 << 20;

/// The node still runs, still answers, and has not grown.
fn assert_healthy(node: &mut Node, after: &str) {
    assert!(node.runs(), "the node ended after {after}");
    let rows = Raw::ready(node).query("SELECT key FROM system.local");
    assert!(matches!(rows, Reply::Frame(8, _)), "after {after}: {rows:?}");
    let bytes = node.resident_bytes();
    assert!(bytes < MEMORY_BYTES_MAX, "{bytes} bytes after {after}");
}

/// An error of one of these kinds. The connection may end with it.
fn assert_error(reply: &Reply, codes: &[u32], what: &str) {
    assert!(matches!(reply, Reply::Error(code, _) if codes.contains(code)), "{what}: {reply:x?}");
}

fn long_string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).expect("a test's text").to_be_bytes(), text].concat()
}

/// QUERY's body: text, consistency, flags and what follows them.
fn query_body(text: &[u8], consistency: u16, flags: u8, rest: &[u8]) -> Vec<u8> {
    [&long_string(text)[..], &consistency.to_be_bytes(), &[flags], rest].concat()
}

#[test]
fn what_is_no_conversation_is_refused() {
    let mut node = Node::start();
    let versions = "Invalid or unsupported protocol version (66); \
                    the lowest supported version is 3 and the greatest is 5";
    let mut raw = Raw::connect(&node);
    raw.send(&frame(0x42, STARTUP, b"\0\0"));
    assert_eq!(raw.reply(), Reply::Error(PROTOCOL, versions.to_owned()));

    let huge = |length: u32| [&[4, 0, 0, 1, QUERY][..], &length.to_be_bytes(), b"x"].concat();
    let beginnings: Vec<(&str, Vec<u8>)> = vec![
        ("a version below all", frame(2, STARTUP, b"\0\0")),
        ("a version above all", frame(0x7F, OPTIONS, b"")),
        ("a response", frame(0x84, STARTUP, b"\0\0")),
        ("zeros", vec![0; 64]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, and on".to_vec()),
        ("a length above all", huge(u32::MAX)),
        ("a negative length", huge(1 << 31)),
        ("a length just too large", huge((256 << 20) + 1)),
        ("an opcode that nobody knows", frame(4, 0x55, b"")),
        ("an opcode of responses", frame(4, 8, b"")),
        ("a query before the start", frame(4, QUERY, &query_body(b"SELECT", 1, 0, b""))),
        ("a start without its version", frame(4, STARTUP, b"\0\0")),
        ("a start that is cut", frame(4, STARTUP, b"\xff\xff\0\x0bCQL_VER")),
        ("a start in no UTF-8", frame(4, STARTUP, b"\0\x01\0\x02\xff\xfe\0\x01\xff")),
        (
            "a compression that nobody knows",
            frame(4, STARTUP, b"\0\x02\0\x0bCQL_VERSION\0\x053.0.0\0\x0bCOMPRESSION\0\x03zip"),
        ),
        ("an empty start", frame(4, STARTUP, b"")),
    ];
    for (what, bytes) in beginnings {
        let mut raw = Raw::connect(&node);
        raw.send(&bytes);
        assert_error(&raw.reply(), &[PROTOCOL], what);
    }
    assert_healthy(&mut node, "conversations that were none");
}

#[test]
fn bodies_that_lie_are_refused() {
    let mut node = Node::start();
    let select = b"SELECT key FROM system.local";
    let with_values = |values: &[u8]| frame(4, QUERY, &query_body(select, 1, 1, values));
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("a text of negative length", frame(4, QUERY, b"\xff\xff\xff\xff\0\x01\0")),
        ("a text longer than its frame", frame(4, QUERY, b"\x7f\xff\xff\xffSELECT")),
        ("a text in no UTF-8", frame(4, QUERY, &query_body(b"SELECT '\xc3\x28'", 1, 0, b""))),
        ("no consistency", frame(4, QUERY, &long_string(select))),
        ("an unknown consistency", frame(4, QUERY, &query_body(select, 0x99, 0, b""))),
        ("no values where some are told", with_values(b"\xff\xff")),
        ("a value of impossible length", with_values(b"\0\x01\xff\xff\xff\xfd")),
        ("a value longer than its frame", with_values(b"\0\x01\x7f\xff\xff\xff?")),
        ("more than was told", frame(4, QUERY, &query_body(select, 1, 0, b"more"))),
        ("a page of no size", frame(4, QUERY, &query_body(select, 1, 4, b"\0"))),
        ("an empty body", frame(4, QUERY, b"")),
        ("an empty PREPARE", frame(4, PREPARE, b"")),
        ("an id longer than its frame", frame(4, EXECUTE, b"\xff\xffid")),
        ("a batch of no kind", frame(4, BATCH, b"\x09\0\0\0\x01\0")),
        ("a batch of too many", frame(4, BATCH, b"\0\xff\xff")),
        ("a batch of nothing known", frame(4, BATCH, b"\0\0\x01\x07\0\0\0\x01x")),
        ("an event that nobody knows", frame(4, REGISTER, b"\0\x01\0\x05WEDGE")),
        ("a list longer than its frame", frame(4, REGISTER, b"\xff\xff")),
        ("a second start", frame(4, STARTUP, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0")),
        ("compression that was not agreed", {
            let mut bytes = frame(4, QUERY, b"\x7f\xff\xff\xff\x1f\0\x01\0\xff\xff\xff\xff");
            bytes[1] = 1;
            bytes
        }),
    ];
    for (what, bytes) in bodies {
        let mut raw = Raw::ready(&node);
        raw.send(&bytes);
        assert_error(&raw.reply(), &[PROTOCOL, INVALID, SYNTAX], what);
    }
    let mut raw = Raw::ready(&node);
    raw.send(&frame(4, EXECUTE, b"\0\x04none\0\x01\0"));
    assert_error(&raw.reply(), &[UNPREPARED], "an id that nobody prepared");
    // An error of one request is not the end of its connection.
    raw.run("SELECT key FROM system.local");
    assert_healthy(&mut node, "bodies that lie");
}

/// Bytes that say they are two gigabytes, and that are no LZ4 at all.
#[test]
fn compressed_bombs_do_not_burst() {
    let mut node = Node::start();
    let start = b"\0\x02\0\x0bCQL_VERSION\0\x053.0.0\0\x0bCOMPRESSION\0\x03lz4";
    let lz4_of_a_megabyte = [&b"\x1fa\x01\0"[..], &[0xff; 4096], b"\0\x50aaaaa"].concat();
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("two gigabytes", [b"\x7f\xff\xff\xff", &lz4_of_a_megabyte[..]].concat()),
        ("a negative length", [b"\xff\xff\xff\xff", &lz4_of_a_megabyte[..]].concat()),
        ("a wrong length", [b"\0\0\0\x09", &lz4_of_a_megabyte[..]].concat()),
        ("no LZ4", b"\0\0\x10\0 this is something else".to_vec()),
        ("nothing", b"".to_vec()),
        ("less than a length", b"\0\0".to_vec()),
    ];
    for (what, body) in bodies {
        let mut raw = Raw::connect(&node);
        raw.send(&frame(4, STARTUP, start));
        assert_eq!(raw.reply(), Reply::Frame(2, Vec::new()));
        let mut bytes = frame(4, QUERY, &body);
        bytes[1] = 1;
        raw.send(&bytes);
        assert_error(&raw.reply(), &[PROTOCOL], what);
        assert_healthy(&mut node, what);
    }
}

#[test]
fn damaged_segments_end_the_connection() {
    let mut node = Node::start();
    let segments: [(&str, &[u8]); 3] = [
        ("a wrong header checksum", b"\x05\0\x02\0\0\0hello\0\0\0\0"),
        ("zeros", &[0; 64]),
        ("noise", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8\xf7\xf6\xf5\xf4"),
    ];
    for (what, bytes) in segments {
        let mut raw = Raw::connect(&node);
        raw.send(&frame(5, STARTUP, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0"));
        assert_eq!(raw.reply(), Reply::Frame(2, Vec::new()), "READY comes without a segment");
        raw.send(bytes);
        // What comes before the end is an error in a segment, which is not looked into here.
        while raw.reply() != Reply::Closed {}
        assert_healthy(&mut node, what);
    }
}

#[test]
fn statements_that_nest_too_deep_are_refused() {
    let mut node = Node::start();
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
             'replication_factor': 1}",
    );
    raw.run("CREATE TABLE ks.t (k int PRIMARY KEY, v int)");
    let deep = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(50_000), close.repeat(50_000))
    };
    let statements = [
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("(", "1", ")")),
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("[", "1", "]")),
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("{", "1", "}")),
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("{a: ", "1", "}")),
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("f(", "1", ")")),
        format!("INSERT INTO ks.t (k, v) VALUES (1, {})", deep("(int) ", "1", "")),
        format!("SELECT {} FROM ks.t", deep("f(", "v", ")")),
        format!("SELECT {} FROM ks.t", deep("CAST(", "v", " AS int)")),
        format!("SELECT * FROM ks.t WHERE {}", deep("(", "k", ")")),
        format!("CREATE TABLE ks.u (k int PRIMARY KEY, v {})", deep("frozen<list<", "int", ">>")),
        format!("CREATE TABLE ks.u (k int PRIMARY KEY, v {})", deep("tuple<", "int", ">")),
        deep("(", "", ""),
        deep("/*", "", ""),
        "-".repeat(100_000),
        "'".repeat(99_999),
        format!("SELECT * FROM ks.t WHERE k IN ({})", vec!["1"; 100_000].join(", ")) + "(",
    ];
    for text in &statements {
        let what = &text[..60.min(text.len())];
        assert_error(&raw.query(text), &[SYNTAX, INVALID], what);
    }
    assert_healthy(&mut node, "deep statements");
}

#[test]
fn values_of_a_wrong_form_are_refused() {
    let mut node = Node::start();
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
             'replication_factor': 1}",
    );
    raw.run(
        "CREATE TABLE ks.t (k int PRIMARY KEY, i bigint, t text, a ascii, b boolean, \
             l list<int>, m map<text, int>, f frozen<set<int>>, p tuple<int, text>, d decimal, \
             v varint, n inet, u timeuuid, e date, o duration, c time)",
    );
    let wrong: &[(&str, &[&[u8]])] = &[
        ("k", &[b"", b"\0\0\x01", b"\0\0\0\0\x01"]),
        ("i", &[b"\0", b"123456789"]),
        ("t", &[b"\xff", b"\xc3\x28", b"\xed\xa0\x80"]),
        ("a", &[b"\x80", "é".as_bytes()]),
        ("b", &[b"\0\0"]),
        ("l", &[b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x01\0\0\0\x03abc"]),
        ("l", &[b"\0\0\0\x01\0\0\0\x04abcdmore", b"\0\0\0\x01\xff\xff\xff\xff"]),
        ("m", &[b"\0\0\0\x01\0\0\0\x01a", b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\x04\0\0\0\x01"]),
        ("f", &[b"\0\0\0\x02\0\0\0\x04\0\0\0\x01", b"\x10\0\0\0"]),
        ("p", &[b"\0\0\0\x03abc", b"\0\0\0\x04\0\0\0\x01\0\0\0\x01x\0\0\0\x01y"]),
        ("d", &[b"\0\0", b"\0\0\0"]),
        ("n", &[b"\x7f\0\0", b"12345"]),
        ("u", &[b"short", &[0x11; 15], &[0x44; 16]]),
        ("e", &[b"\0"]),
        ("o", &[b"", b"\x02\x01"]),
        ("c", &[b"\0\0\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff\xff\xff"]),
    ];
    for (column, values) in wrong {
        let text = match *column {
            "k" => "INSERT INTO ks.t (k) VALUES (?)".to_owned(),
            column => format!("INSERT INTO ks.t ({column}, k) VALUES (?, 1)"),
        };
        for value in *values {
            let rest = [b"\0\x01", &long_string(value)[..]].concat();
            raw.send(&frame(4, QUERY, &query_body(text.as_bytes(), 1, 1, &rest)));
            assert_error(&raw.reply(), &[INVALID], &format!("{column}: {value:x?}"));
        }
    }
    let rows = raw.run("SELECT k FROM ks.t");
    assert_eq!(rows[rows.len() - 4..], [0; 4], "none was written");
    assert_healthy(&mut node, "wrong values");
}

#[test]
fn noise_is_survived() {
    let mut node = Node::start();
    let mut random = Random::from_environment("TETHYS_NOISE_SEED");
    let valid =
        frame(4, QUERY, &query_body(b"SELECT * FROM system.local", 1, 5, b"\0\0\0\0\0\x64"));
    for _ in 0..400 {
        let mut raw = if random.below(4) == 0 { Raw::connect(&node) } else { Raw::ready(&node) };
        let mut bytes = valid.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(1 + random.below(bytes.len() as u64) as usize);
        raw.send(&bytes);
        // Half of them go before the node has said anything.
        if random.below(2) == 0 {
            raw.stream.shutdown(std::net::Shutdown::Write).expect("our own socket");
            while raw.reply() != Reply::Closed {}
        }
    }
    assert_healthy(&mut node, "noise");
}

#[test]
fn half_a_frame_holds_nobody_up() {
    let mut node = Node::start();
    let mut waiting = Vec::new();
    for length in 1..200 {
        let mut raw = Raw::ready(&node);
        let bytes = frame(4, QUERY, &query_body(&[b'x'; 300], 1, 0, b""));
        raw.send(&bytes[..length]);
        waiting.push(raw);
    }
    // A header that announces much is no reason to set memory aside for it.
    for _ in 0..200 {
        let mut raw = Raw::ready(&node);
        raw.send(&[&[4, 0, 0, 1, QUERY][..], &(200_u32 << 20).to_be_bytes(), b"x"].concat());
        waiting.push(raw);
    }
    assert_healthy(&mut node, "half frames");
    drop(waiting);
    assert_healthy(&mut node, "half frames that went");
}

/// A client that asks and never reads fills what its connection may hold, and nothing more.
#[test]
fn who_never_reads_is_held_back() {
    let mut node = Node::start();
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
             'replication_factor': 1}",
    );
    raw.run("CREATE TABLE ks.t (k int PRIMARY KEY, v text)");
    let value = "x".repeat(500_000);
    raw.run(&format!("INSERT INTO ks.t (k, v) VALUES (1, '{value}')"));

    let greedy: Vec<Raw> = (0..4).map(|_| Raw::ready(&node)).collect();
    let request = frame(4, QUERY, &query_body(b"SELECT v FROM ks.t WHERE k = 1", 1, 0, b""));
    let mut asked = 0_u64;
    for raw in &greedy {
        raw.stream.set_nonblocking(true).expect("our own socket");
        // Two gigabytes of answers each, if the node takes that many requests.
        for _ in 0..4_000 {
            match std::io::Write::write(&mut &raw.stream, &request) {
                Ok(_) => asked += 1,
                Err(_) => std::thread::yield_now(),
            }
        }
    }
    assert!(asked > 1_000, "{asked} requests went out");
    for _ in 0..20 {
        assert_healthy(&mut node, "answers that nobody reads");
        assert!(matches!(raw.query("SELECT v FROM ks.t WHERE k = 1"), Reply::Frame(8, _)));
    }
    drop(greedy);
    assert_healthy(&mut node, "those who never read have gone");
}

/// Hundreds of clients that ask for large pages and never read: together they get what the shards'
/// connections may hold, and the others are served meanwhile.
#[test]
fn hundreds_who_never_read_are_held_back_together() {
    let mut node = Node::start_with(&["--memory", "64M"]);
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
             'replication_factor': 1}",
    );
    raw.run("CREATE TABLE ks.t (k int, c int, v text, PRIMARY KEY (k, c))");
    let value = "x".repeat(20_000);
    for c in 0..80 {
        raw.run(&format!("INSERT INTO ks.t (k, c, v) VALUES (1, {c}, '{value}')"));
    }
    let page = "SELECT v FROM ks.t WHERE k = 1";
    let greedy: Vec<Raw> = (0..GREEDY_CONNECTIONS).map(|_| Raw::ready(&node)).collect();
    let request = frame(4, QUERY, &query_body(page.as_bytes(), 1, 0, b""));
    for raw in &greedy {
        // What one connection alone may have waiting, and more.
        let requests = request.repeat(8);
        drop(std::io::Write::write_all(&mut &raw.stream, &requests));
    }
    let mut most_bytes = 0;
    for c in 0..GREEDY_ROUNDS {
        let text = format!("INSERT INTO ks.t (k, c, v) VALUES (2, {c}, '')");
        assert!(matches!(raw.query(&text), Reply::Frame(8, _)), "a write is served");
        let text = format!("SELECT v FROM ks.t WHERE k = 2 AND c = {c}");
        assert!(matches!(raw.query(&text), Reply::Frame(8, _)), "a read of one row is served");
        most_bytes = most_bytes.max(node.resident_bytes());
    }
    // A page waits for room, at most until those who hold it have been ended.
    let mut tries = (0..10).map(|_| raw.query(page));
    assert!(tries.any(|reply| matches!(reply, Reply::Frame(8, _))), "a page is served");
    let bytes = most_bytes.max(node.resident_bytes());
    assert!(bytes < GREEDY_BYTES_MAX, "{bytes} bytes for {GREEDY_CONNECTIONS} connections");
    drop(greedy);
    assert_healthy(&mut node, "hundreds who never read have gone");
}

#[test]
fn who_reads_late_gets_everything() {
    let mut node = Node::start();
    let mut raw = Raw::ready(&node);
    raw.run(
        "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', \
             'replication_factor': 1}",
    );
    raw.run("CREATE TABLE ks.t (k int PRIMARY KEY, v text)");
    let value = "x".repeat(400_000);
    for k in 0..8 {
        raw.run(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, '{value}')"));
    }
    for round in 0..3 {
        let count = 300;
        for number in 0..count {
            let text = format!("SELECT v FROM ks.t WHERE k = {}", number % 8);
            raw.send(&frame(4, QUERY, &query_body(text.as_bytes(), 1, 0, b"")));
        }
        for number in 0..count {
            let reply = raw.reply();
            let is_whole = matches!(&reply, Reply::Frame(8, body) if body.len() > value.len());
            assert!(is_whole, "answer {number} of round {round}");
        }
    }
    assert_healthy(&mut node, "late reading");
}

#[test]
fn thousands_of_idle_connections_cost_little() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the maximum");
    // The node inherits the limit.
    let mut node = Node::start();
    let before = node.resident_bytes();
    let mut idle: Vec<Raw> = (0..IDLE_CONNECTIONS).map(|_| Raw::ready(&node)).collect();
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < IDLE_BYTES_MAX, "{grown} bytes for {IDLE_CONNECTIONS} connections");
    assert_healthy(&mut node, "thousands of connections");
    for raw in idle.iter_mut().step_by(500) {
        raw.run("SELECT key FROM system.local");
    }
    drop(idle);
    assert_healthy(&mut node, "thousands of connections that went");
}
