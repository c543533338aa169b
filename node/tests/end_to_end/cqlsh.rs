//! The shell that every user of Cassandra has: cqlsh from PyPI, unchanged, fed through its standard
//! input. What it prints is compared as it stands; the expected texts are what it prints before a
//! Cassandra 5, but for the server's own name.

use crate::support::{Finished, Node, python, run};

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
