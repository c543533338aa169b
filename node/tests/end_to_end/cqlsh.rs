//! The shell that every user of Cassandra has: cqlsh from PyPI, unchanged, fed through its standard
//! input. What it prints is compared as it stands; the expected texts are what it prints before a
//! Cassandra 5, but for the server's own name.

use crate::support::{Finished, Node, python, run};
use std::fs;

/// What the shell printed for these commands; none where there is no Python.
fn shell(node: &Node, commands: &str) -> Option<Finished> {
    let mut command = python()?.cqlsh(node.scratch());
    command.args(["127.0.0.1", &node.cql_port().to_string()]).current_dir(node.scratch());
    Some(run(&mut command, commands).expect("cqlsh runs"))
}

/// The same, and nothing went wrong.
fn quiet_shell(node: &Node, commands: &str) -> Option<String> {
    let finished = shell(node, commands)?;
    assert_eq!(finished.stderr, "", "{}", finished.stdout);
    Some(finished.success())
}

/// Lines without the blanks at their ends, and without blank lines.
fn dense(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// The cells of every table that the shell printed, each with its header as the first row.
fn tables(text: &str) -> Vec<Vec<Vec<String>>> {
    let cells = |line: &str| line.split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let mut found: Vec<Vec<Vec<String>>> = Vec::new();
    let mut before = "";
    let mut inside = false;
    for line in text.lines() {
        let rule = line.starts_with("---") && line.chars().all(|c| c == '-' || c == '+');
        if rule {
            found.push(vec![cells(before)]);
        } else if inside && !line.trim().is_empty() {
            found.last_mut().expect("a rule came first").push(cells(line));
        }
        inside = rule || (inside && !line.trim().is_empty());
        before = line;
    }
    found
}

const SHOP: &str = "\
CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};
USE shop;
CREATE TYPE address (street text, number int);
CREATE TABLE orders (customer text, day date, id int, total decimal, paid boolean,
  \"where\" frozen<address>, tags set<text>, lines list<text>, prices map<text, double>,
  note text static, at timestamp, raw blob, PRIMARY KEY ((customer, day), id))
  WITH CLUSTERING ORDER BY (id DESC) AND comment = 'what was bought';
INSERT INTO orders (customer, day, id, total, paid, \"where\", tags, lines, prices, note, at, raw)
  VALUES ('Ada', '2026-11-21', 1, 12.50, true, {street: 'Main', number: 7}, {'b', 'a'},
  ['x', 'y'], {'x': 1.5, 'y': 2}, 'regular', '2026-11-21 10:11:12.345+0000', 0xcafe);
INSERT INTO orders (customer, day, id) VALUES ('Ada', '2026-11-21', 2);
";

#[test]
fn rows_look_as_they_do_before_cassandra() {
    let node = Node::start();
    let selects = "\
SELECT id, total, paid, \"where\", tags FROM orders WHERE customer = 'Ada' AND day = '2026-11-21';
SELECT lines, prices, note, at, raw FROM orders WHERE customer = 'Ada' AND day = '2026-11-21';
SELECT * FROM orders WHERE customer = 'Bob' AND day = '2026-11-21';
SELECT count(*) FROM orders WHERE customer = 'Ada' AND day = '2026-11-21';
EXPAND ON;
SELECT id, note FROM orders;
EXPAND OFF;
";
    let Some(printed) = quiet_shell(&node, &format!("{SHOP}{selects}")) else { return };
    let expected = "
 id | total | paid | where                       | tags
----+-------+------+-----------------------------+------------
  2 |  null | null |                        null |       null
  1 | 12.50 | True | {street: 'Main', number: 7} | {'a', 'b'}
(2 rows)
 lines      | prices             | note    | at                              | raw
------------+--------------------+---------+---------------------------------+--------
       null |               null | regular |                            null |   null
 ['x', 'y'] | {'x': 1.5, 'y': 2} | regular | 2026-11-21 10:11:12.345000+0000 | 0xcafe
(2 rows)
 customer | day | id | note | at | lines | paid | prices | raw | tags | total | where
----------+-----+----+------+----+-------+------+--------+-----+------+-------+-------
(0 rows)
 count
-------
     2
(1 rows)
EXPAND set to ON
@ Row 1
------+---------
 id   | 2
 note | regular
@ Row 2
------+---------
 id   | 1
 note | regular
(2 rows)
EXPAND set to OFF";
    assert_eq!(dense(&printed), dense(expected));
}

#[test]
fn the_schema_is_described() {
    let node = Node::start();
    let describes = "\
DESCRIBE KEYSPACES;
DESCRIBE CLUSTER;
DESCRIBE TABLES;
DESCRIBE TYPES;
DESCRIBE TYPE address;
DESCRIBE TABLE orders;
DESCRIBE KEYSPACE shop;
";
    let Some(printed) = quiet_shell(&node, &format!("{SHOP}{describes}")) else { return };
    let printed = dense(&printed);
    let create_type = "\
CREATE TYPE shop.address (
    street text,
    number int
);";
    let create_table = "\
CREATE TABLE shop.orders (
    customer text,
    day date,
    id int,
    note text static,
    at timestamp,
    paid boolean,
    raw blob,
    total decimal,
    \"where\" frozen<address>,
    lines list<text>,
    prices map<text, double>,
    tags set<text>,
    PRIMARY KEY ((customer, day), id)
) WITH CLUSTERING ORDER BY (id DESC)";
    let create_keyspace = "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', \
        'replication_factor': '1'}  AND durable_writes = true;";
    assert_eq!(printed.matches(create_type).count(), 2, "{printed}");
    assert_eq!(printed.matches(create_table).count(), 2, "{printed}");
    assert_eq!(printed.matches("    AND comment = 'what was bought'\n").count(), 2, "{printed}");
    for part in [create_keyspace, "Cluster: Test Cluster\nPartitioner: Murmur3Partitioner\n"] {
        assert!(printed.contains(part), "{part}\nis not in\n{printed}");
    }
    let keyspaces = printed.lines().next().expect("a line");
    for name in ["shop", "system", "system_schema", "system_distributed"] {
        assert!(printed.contains(name), "{name} is not in {keyspaces}");
    }
    assert!(printed.contains("\norders\n") && printed.contains("\naddress\n"), "{printed}");
}

#[test]
fn a_description_makes_the_same_schema_again() {
    let node = Node::start();
    let Some(_) = quiet_shell(&node, SHOP) else { return };
    let describe = "DESCRIBE KEYSPACE shop;\n";
    let first = quiet_shell(&node, describe).expect("Python was there");
    quiet_shell(&node, "DROP KEYSPACE shop;\n").expect("Python was there");
    quiet_shell(&node, &first).expect("Python was there");
    assert_eq!(quiet_shell(&node, describe).expect("Python was there"), first);
}

#[test]
fn the_shells_own_commands_work() {
    let node = Node::start();
    let source = node.scratch().join("more.cql");
    fs::write(&source, "SELECT id FROM shop.orders;\n").expect("the folder is ours");
    let commands = format!(
        "{SHOP}CONSISTENCY;
CONSISTENCY QUORUM;
SERIAL CONSISTENCY;
PAGING 1;
SELECT id FROM orders;
PAGING OFF;
SOURCE '{}';
SHOW VERSION;
SHOW HOST;
",
        source.display()
    );
    let Some(printed) = quiet_shell(&node, &commands) else { return };
    let expected = format!(
        "Current consistency level is ONE.
Consistency level set to QUORUM.
Current serial consistency level is SERIAL.
Page size: 1
 id
----
  2
  1
(2 rows)
PAGING set to OFF
 id
----
  2
  1
(2 rows)
[cqlsh 6.2.2 | Cassandra 5.0.0-tethys{} | CQL spec 3.4.7 | Native protocol v5]
Connected to Test Cluster at 127.0.0.1:{}",
        env!("CARGO_PKG_VERSION"),
        node.cql_port()
    );
    assert_eq!(dense(&printed), expected);
}

#[test]
fn tracing_shows_what_happened() {
    let node = Node::start();
    let commands = format!("{SHOP}TRACING ON;\nSELECT id FROM orders;\nTRACING OFF;\n");
    let Some(printed) = quiet_shell(&node, &commands) else { return };
    assert!(printed.contains("Tracing session: "), "{printed}");
    let trace = tables(&printed).pop().expect("a table of activities");
    assert_eq!(trace[0], ["activity", "timestamp", "source", "source_elapsed", "client"]);
    assert_eq!(trace[1][0], "Execute CQL3 query", "{printed}");
    assert_eq!(trace.last().expect("a last row")[0], "Request complete", "{printed}");
}

#[test]
fn errors_are_told() {
    let node = Node::start();
    let commands = format!(
        "{SHOP}SELECT * FROM nosuch;
SELEC * FROM orders;
SELECT nosuch FROM orders;
INSERT INTO orders (customer, id) VALUES ('x', 1);
CREATE TABLE orders (k int PRIMARY KEY);
DESCRIBE TABLE nosuch;
SELECT * FROM orders WHERE total = 3;
"
    );
    let Some(finished) = shell(&node, &commands) else { return };
    let told: Vec<&str> = finished.stderr.lines().collect();
    let parts = [
        "InvalidRequest: Error from server: code=2200 [Invalid query] \
         message=\"table nosuch does not exist\"",
        "SyntaxException: line 1:0 ",
        "message=\"Undefined column name nosuch in table shop.orders\"",
        "message=\"Some partition key parts are missing: day\"",
        "AlreadyExists: Table 'shop.orders' already exists",
        "Table 'nosuch' not found in keyspace 'shop'",
        "use ALLOW FILTERING",
    ];
    assert_eq!(told.len(), parts.len(), "{}", finished.stderr);
    for (line, part) in told.iter().zip(parts) {
        assert!(line.contains(part), "{part}\nis not in\n{line}");
    }
}

/// The example of ScyllaDB's documentation: three updates of one row, three of another.
const SIX_UPDATES: &str = "\
UPDATE ks.t SET v = 0 WHERE pk = 0 AND ck = 0;
UPDATE ks.t SET v = 1 WHERE pk = 0 AND ck = 0;
UPDATE ks.t SET v = 2 WHERE pk = 0 AND ck = 0;
UPDATE ks.t SET v = 2 WHERE pk = 0 AND ck = 1;
UPDATE ks.t SET v = 1 WHERE pk = 0 AND ck = 1;
UPDATE ks.t SET v = 0 WHERE pk = 0 AND ck = 1;
";

/// The table of the example with this `cdc` option, the updates, and what two queries return: the
/// table's rows, and these columns of the log.
///
/// The log is read by a second shell: cqlsh asks its driver for a table's metadata before it reads,
/// and the driver learns of a table that it did not create itself up to two seconds later.
fn six_updates(node: &Node, cdc: &str, columns: &str) -> Option<[Vec<Vec<String>>; 2]> {
    let commands = format!(
        "CREATE KEYSPACE ks WITH replication = {{'class': 'SimpleStrategy', \
         'replication_factor': 1}};
CREATE TABLE ks.t (pk int, ck int, v int, PRIMARY KEY (pk, ck)) WITH cdc = {cdc};
{SIX_UPDATES}SELECT * FROM ks.t;
"
    );
    let mut printed = quiet_shell(node, &commands)?;
    printed += &quiet_shell(node, &format!("SELECT {columns} FROM ks.t_scylla_cdc_log;\n"))?;
    Some(tables(&printed).try_into().expect("two tables"))
}

#[test]
fn the_log_holds_the_six_updates_in_order() {
    let node = Node::start();
    let columns = "pk, ck, v, \"cdc$operation\", \"cdc$batch_seq_no\", \"cdc$end_of_batch\", \
                   \"cdc$deleted_v\", \"cdc$ttl\"";
    let Some([table, log]) = six_updates(&node, "{'enabled': true}", columns) else { return };
    assert_eq!(table, [["pk", "ck", "v"], ["0", "0", "2"], ["0", "1", "0"]]);
    let changes = [["0", "0"], ["0", "1"], ["0", "2"], ["1", "2"], ["1", "1"], ["1", "0"]];
    assert_eq!(log.len(), 1 + changes.len());
    for (row, [ck, v]) in log[1..].iter().zip(changes) {
        assert_eq!(row[..], ["0", ck, v, "1", "0", "True", "null", "null"]);
    }
    let everything = "SELECT * FROM ks.t_scylla_cdc_log;\nDESCRIBE TABLE ks.t;\nDESCRIBE TABLES;\n";
    let printed = quiet_shell(&node, everything).expect("Python was there");
    let header = [
        "cdc$stream_id",
        "cdc$time",
        "cdc$batch_seq_no",
        "cdc$deleted_v",
        "cdc$end_of_batch",
        "cdc$operation",
        "cdc$ttl",
        "ck",
        "pk",
        "v",
    ];
    assert_eq!(tables(&printed)[0][0], header);
    let option = "AND cdc = {'delta': 'full', 'enabled': 'true', 'postimage': 'false', \
                  'preimage': 'false', 'ttl': '86400'}";
    assert!(printed.contains(option), "{printed}");
    assert!(printed.contains("ALTER TABLE ks.t_scylla_cdc_log WITH "), "{printed}");
}

#[test]
fn the_log_holds_images_before_and_after() {
    let node = Node::start();
    let option = "{'enabled': true, 'preimage': true, 'postimage': true, 'ttl': 3600}";
    let columns = "\"cdc$operation\", ck, v, \"cdc$batch_seq_no\", \"cdc$end_of_batch\", \
                   ttl(\"cdc$operation\")";
    let Some([table, log]) = six_updates(&node, option, columns) else { return };
    assert_eq!(table, [["pk", "ck", "v"], ["0", "0", "2"], ["0", "1", "0"]]);
    let rows: Vec<Vec<&str>> =
        log[1..].iter().map(|row| row[..5].iter().map(String::as_str).collect()).collect();
    let mut expected = Vec::new();
    for (ck, values) in [("0", ["0", "1", "2"]), ("1", ["2", "1", "0"])] {
        let mut before = None;
        for v in values {
            let mut group = vec![("1", v), ("9", v)];
            group.splice(0..0, before.map(|before| ("0", before)));
            for (index, (operation, v)) in group.iter().enumerate() {
                let last = if index + 1 == group.len() { "True" } else { "null" };
                expected.push(vec![*operation, ck, *v, ["0", "1", "2"][index], last]);
            }
            before = Some(v);
        }
    }
    assert_eq!(rows, expected);
    for row in &log[1..] {
        let left: u32 = row[5].parse().expect("every cell of the log expires");
        assert!((3000..=3600).contains(&left), "{left}");
    }
}

#[test]
fn rows_are_copied_out_and_in() {
    let node = Node::start();
    let file = node.scratch().join("copied.csv");
    let file = file.display();
    let insert =
        |k| format!("INSERT INTO ks.copied (k, t, s) VALUES ({k}, 'it''s \"{k}\"', {{{k}}});\n");
    let inserts = (0..300).map(insert).collect::<Vec<_>>().concat();
    let before = format!(
        "CREATE KEYSPACE ks WITH replication = {{'class': 'SimpleStrategy', \
         'replication_factor': 1}};
CREATE TABLE ks.copied (k int PRIMARY KEY, t text, s set<int>);
{inserts}COPY ks.copied (k, t, s) TO '{file}' WITH HEADER = TRUE;
TRUNCATE ks.copied;
SELECT k FROM ks.copied;
COPY ks.copied (k, t, s) FROM '{file}' WITH HEADER = TRUE;
SELECT t, s FROM ks.copied WHERE k = 77;
PAGING OFF;
SELECT k FROM ks.copied;
"
    );
    let Some(finished) = shell(&node, &before) else { return };
    let printed = finished.success();
    assert!(printed.contains("300 rows exported to 1 files"), "{printed}");
    assert!(printed.contains("300 rows imported from 1 files"), "{printed}");
    let tables = tables(&printed);
    assert_eq!(tables.last().expect("a last table").len(), 1 + 300);
    let row = &tables[tables.len() - 2][1];
    assert_eq!(row[..], ["it's \"77\"", "{77}"]);
}
