//! The layout of nodetool's `status`: scripts look for lines that begin with `UN`, and cut columns.

use super::{ClusterStatus, NodeLine, NodeState};
use crate::shard::StandingStill;
use std::collections::BTreeMap;
use std::fmt::Write;

const TITLES: [&str; 7] =
    ["--", "Address", "Load", "Tokens", "Owns (effective)", "Host ID", "Rack"];
/// Without an ownership to speak of, the title says less.
const OWNS_COLUMN: usize = 4;

/// The cluster's table, a block for each data centre.
pub(super) fn print(status: &ClusterStatus) -> String {
    let mut centres: BTreeMap<&str, Vec<&NodeLine>> = BTreeMap::new();
    for node in &status.nodes {
        centres.entry(&node.data_center).or_default().push(node);
    }
    let mut text = String::new();
    for (name, mut nodes) in centres {
        nodes.sort_by_key(|node| (node.address.parse::<std::net::IpAddr>().ok(), &node.host_id));
        let title = format!("Datacenter: {name}");
        let line = "=".repeat(title.chars().count());
        let legend = "Status=Up/Down\n|/ State=Normal/Leaving/Joining/Moving";
        let table = columns(&nodes);
        // Writing into a text does not fail.
        write!(text, "{title}\n{line}\n{legend}\n{table}\n").ok();
    }
    if let Some(change) = &status.change {
        writeln!(text, "The ring changes: {change}").ok();
    }
    for node in status.nodes.iter().filter(|node| node.standing_still.group_count > 0) {
        let StandingStill { group_count, example } = &node.standing_still;
        let host_id = &node.host_id;
        writeln!(text, "Node {host_id}: {group_count} groups of replicas stand still: {example}")
            .ok();
    }
    if status.nodes.iter().any(|node| node.owns.is_none()) {
        text.push_str(
            "Note: keyspaces have different replication; name one to see what nodes own of it\n",
        );
    }
    text
}

/// Columns as wide as their widest cell, the last one included, with two spaces between.
fn columns(nodes: &[&NodeLine]) -> String {
    let mut titles: Vec<String> = TITLES.iter().map(|title| (*title).to_owned()).collect();
    if nodes.iter().all(|node| node.owns.is_none()) {
        "Owns".clone_into(&mut titles[OWNS_COLUMN]);
    }
    let mut rows = vec![titles];
    rows.extend(nodes.iter().map(|node| cells(node)));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..TITLES.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(&padded.join("  "));
        text.push('\n');
    }
    text
}

fn cells(node: &NodeLine) -> Vec<String> {
    vec![
        letters(node).to_owned(),
        node.address.clone(),
        node.load_bytes.map_or_else(|| "?".to_owned(), bytes),
        node.token_count.to_string(),
        node.owns.map_or_else(|| "?".to_owned(), |part| format!("{:.1}%", part * 100.0)),
        node.host_id.clone(),
        node.rack.clone(),
    ]
}

/// Whether a node answers, and whether it comes or goes.
fn letters(node: &NodeLine) -> &'static str {
    match (node.is_up, node.state) {
        (true, NodeState::Normal) => "UN",
        (true, NodeState::Joining) => "UJ",
        (true, NodeState::Leaving) => "UL",
        (false, NodeState::Normal) => "DN",
        (false, NodeState::Joining) => "DJ",
        (false, NodeState::Leaving) => "DL",
    }
}

/// A size with at most two decimals, and none that are 0.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1 << 10 {
        return format!("{count} bytes");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = format!("{size:.2}");
    format!("{} {}", digits.trim_end_matches('0').trim_end_matches('.'), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ChangeLine;

    fn node(address: &str, load_bytes: Option<u64>, centre: &str, owns: Option<f64>) -> NodeLine {
        NodeLine {
            is_up: load_bytes.is_some(),
            state: NodeState::Normal,
            address: address.to_owned(),
            load_bytes,
            token_count: 16,
            owns,
            host_id: crate::statement::format_uuid(
                u128::from_str_radix(&"1f".repeat(16), 16).unwrap(),
            ),
            data_center: centre.to_owned(),
            rack: "rack1".to_owned(),
            standing_still: StandingStill::default(),
        }
    }

    #[test]
    fn a_cluster_looks_as_in_nodetool() {
        let status = ClusterStatus {
            cluster_name: "c".to_owned(),
            nodes: vec![
                node("127.0.0.10", Some(72_000), "dc1", Some(1.0)),
                node("127.0.0.2", None, "dc1", Some(0.625)),
                NodeLine {
                    state: NodeState::Joining,
                    standing_still: StandingStill {
                        group_count: 2,
                        example: "an entry is too large".to_owned(),
                    },
                    ..node("127.0.0.3", Some(0), "dc2", Some(0.0))
                },
            ],
            change: Some(ChangeLine {
                what: "node 1f joins".to_owned(),
                done_count: 3,
                total_count: 85,
                waiting: BTreeMap::from([("node 1f is being filled".to_owned(), 4)]),
            }),
        };
        let expected = "\
Datacenter: dc1
===============
Status=Up/Down
|/ State=Normal/Leaving/Joining/Moving
--  Address     Load       Tokens  Owns (effective)  Host ID                               Rack ␠
DN  127.0.0.2   ?          16      62.5%             1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f  rack1
UN  127.0.0.10  70.31 KiB  16      100.0%            1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f  rack1

Datacenter: dc2
===============
Status=Up/Down
|/ State=Normal/Leaving/Joining/Moving
--  Address    Load     Tokens  Owns (effective)  Host ID                               Rack ␠
UJ  127.0.0.3  0 bytes  16      0.0%              1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f  rack1

The ring changes: node 1f joins: 3 of 85 groups of replicas have moved; 4 wait: node 1f is being filled
Node 1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f: 2 groups of replicas stand still: an entry is too large
";
        assert_eq!(print(&status), expected.replace('␠', ""));
    }

    #[test]
    fn without_one_replication_for_all_nothing_is_said_of_ownership() {
        let nodes = vec![node("127.0.0.1", Some(1 << 20), "dc1", None)];
        let text = print(&ClusterStatus { cluster_name: "c".to_owned(), nodes, change: None });
        assert!(text.contains("Owns  Host ID"), "{text}");
        assert!(text.contains("1 MiB  16      ?     1f1f"), "{text}");
        assert!(text.contains("name one to see"), "{text}");
    }

    #[test]
    fn sizes_have_few_digits() {
        for (count, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (97_075, "94.8 KiB"),
            (5 << 30, "5 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }
}
