//! Which crate may reach which, over normal and build dependencies, transitively.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Direct dependencies between the workspace's own crates.
pub(crate) type Edges = BTreeMap<String, BTreeSet<String>>;

/// What each crate may reach. A crate that is not listed offends.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("env", &[]),
    ("cql", &["model"]),
    ("cdc", &["model"]),
    ("storage", &["model", "env"]),
    ("cluster", &["model", "env"]),
    ("changefeed", &["model", "env", "cdc"]),
    ("node", &["model", "env", "cql", "cdc", "storage", "cluster", "changefeed"]),
];

/// Crates that may reach everything, and that nobody may reach.
const ON_TOP: &[&str] = &["benches", "jepsen"];

/// What `cargo metadata` says of the workspace, without looking beyond it.
pub(crate) fn metadata(root: &Path) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

/// The arrows of the workspace. Crates from elsewhere cannot lead back to one of ours.
pub(crate) fn edges(metadata: &Value) -> Edges {
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let name_of = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name_of).collect();
    let targets = |package: &Value| -> BTreeSet<String> {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev" && !dependency["path"].is_null())
            .map(name_of)
            .filter(|name| ours.contains(name))
            .collect()
    };
    packages.iter().map(|package| (name_of(package), targets(package))).collect()
}

/// Everything that can be reached from `from`.
fn reach<'e>(edges: &'e Edges, from: &str) -> BTreeSet<&'e str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(name) = open.pop() {
        for target in edges.get(name).into_iter().flatten() {
            if reached.insert(target.as_str()) {
                open.push(target);
            }
        }
    }
    reached
}

/// One line for each arrow that may not be, and for each crate that nobody placed.
pub(crate) fn offences(edges: &Edges) -> Vec<String> {
    let mut offences = Vec::new();
    for name in edges.keys() {
        let allowed = ALLOWED.iter().find(|(allowed, _)| allowed == name);
        for target in reach(edges, name) {
            let on_top = ON_TOP.contains(&target);
            let granted = allowed.is_some_and(|(_, targets)| targets.contains(&target));
            if on_top || (allowed.is_some() && !granted) {
                offences.push(format!("{name} reaches {target}"));
            }
        }
        if allowed.is_none() && !ON_TOP.contains(&name.as_str()) {
            offences.push(format!("{name} has no place among the arrows"));
        }
    }
    offences
}

#[test]
fn wrong_arrows_are_found() {
    let edges = |list: &[(&str, &[&str])]| -> Edges {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        list.iter().map(|(name, targets)| ((*name).to_owned(), owned(targets))).collect()
    };
    let found = |list: &[(&str, &[&str])]| offences(&edges(list));
    assert_eq!(found(&[("cql", &["model"]), ("jepsen", &["cql", "node"])]), Vec::<String>::new());
    assert_eq!(found(&[("model", &["env"])]), ["model reaches env"]);
    // Through a crate between them, too.
    assert_eq!(
        found(&[("storage", &["model"]), ("model", &["cql"])]),
        ["model reaches cql", "storage reaches cql"]
    );
    assert_eq!(found(&[("node", &["jepsen"])]), ["node reaches jepsen"]);
    assert_eq!(found(&[("helpers", &[])]), ["helpers has no place among the arrows"]);
}

#[test]
fn development_dependencies_are_no_arrows() {
    let metadata = serde_json::json!({"packages": [
        {"name": "env", "dependencies": [
            {"name": "env", "kind": "dev", "path": "env"},
            {"name": "tokio", "kind": null, "path": null},
            {"name": "model", "kind": "build", "path": "model"},
        ]},
        {"name": "model", "dependencies": []},
    ]});
    assert_eq!(offences(&edges(&metadata)), ["env reaches model"]);
}
