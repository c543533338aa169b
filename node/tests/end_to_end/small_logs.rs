//! A member of a range cannot take what its leader can: its commit log has smaller segments. It says
//! so, goes on with all other ranges, and comes back when it is set right.

use crate::several_nodes::{ONE, QUORUM, cluster, run};
use crate::status::status;
use crate::support::{Node, Raw, metric};
use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what has to come.
const TIME_MAX: Duration = Duration::from_mins(2);

const SCHEMA: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v text)",
];
const SMALL: &str = "commitlog_segment_size: 256KiB\n";
const LARGE: &str = "commitlog_segment_size: 1MiB\n";
const INVALID: u32 = 0x2200;
const MANY: i32 = 200;

fn wait_for(what: &str, node: &Node, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain for {what}\n{}", node.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn restart_with(node: &mut Node, settings: &str) {
    node.kill();
    let path = node.scratch().join("tethys.yaml");
    fs::write(&path, settings).expect("written");
    node.restart_with(&["--config", path.to_str().expect("a temporary folder")]);
}

/// Writes a row; false if whoever leads its range cannot take it.
fn write(raw: &mut Raw, k: i32, v: &str) -> bool {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        match run(raw, &format!("INSERT INTO ks.t (k, v) VALUES ({k}, '{v}')"), QUORUM) {
            Ok(_) => return true,
            Err(INVALID) => return false,
            Err(code) => assert!(Instant::now() < deadline, "{code:#x}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The keys of the rows that a node holds itself.
fn shown(node: &Node) -> BTreeSet<i32> {
    let rows = run(&mut Raw::ready(node), "SELECT k FROM ks.t", ONE);
    rows.unwrap_or_default().into_iter().collect()
}

#[test]
fn a_member_with_a_smaller_log_says_what_it_cannot_take_and_goes_on_with_the_rest() {
    let mut nodes = cluster(&SCHEMA);
    restart_with(&mut nodes[2], SMALL);
    let mut raw = Raw::ready(&nodes[0]);
    let large = "x".repeat(200_000);
    let key = (0..MANY).find(|&k| write(&mut raw, k, &large)).expect("two of three nodes take it");
    let small = &nodes[2];
    wait_for("the error", small, || metric(small, "groups_standing_still") > 0);

    let advice = "goes no further here: the commit log of this node takes at most 131004; set \
                  commitlog_segment_size to at least 39";
    assert_eq!(small.log().matches(advice).count(), 1, "{}", small.log());
    let table = status(&nodes[0], &["--host", &nodes[0].ip().to_string()]).success();
    assert!(table.contains("1 groups of replicas stand still: entry "), "{table}");

    let written: BTreeSet<i32> = (1_000..1_000 + MANY).collect();
    for &k in &written {
        assert!(write(&mut raw, k, "small"), "{k}");
    }
    wait_for("other ranges", small, || {
        shown(small).intersection(&written).count() > written.len() / 2
    });
    assert_eq!(small.log().matches("goes no further here").count(), 1, "{}", small.log());

    restart_with(&mut nodes[2], LARGE);
    let small = &nodes[2];
    wait_for("what it lacked", small, || {
        let keys = shown(small);
        keys.is_superset(&written) && keys.contains(&key)
    });
    assert_eq!(metric(small, "groups_standing_still"), 0);
}
