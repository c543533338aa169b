//! The Apache driver for Node, with its script in `node/`.

use crate::support::{Node, npm, run};
use std::path::Path;
use std::process::Command;

#[test]
fn the_driver_for_node_is_at_home() {
    let Some(folder) = npm() else { return };
    let node = Node::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/node/driver.js");
    let mut command = Command::new("node");
    command.env("NODE_PATH", folder.join("node_modules"));
    command.arg(script).arg(node.cql_port().to_string());
    let printed = run(&mut command, "").expect("Node runs").success();
    assert_eq!(printed.matches("ok test_").count(), 6, "{printed}");
}
