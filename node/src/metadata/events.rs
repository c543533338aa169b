//! What clients are told when the nodes of the cluster change: that drivers look at `system.peers`
//! again, and open or give up connections.

use super::{Metadata, NodeRecord};
use cql::wire::Event;
use std::net::SocketAddr;

/// The events between two states. A node whose address for clients changed has left the one and
/// joined at the other, as drivers know nodes by their addresses.
pub(super) fn topology_events(before: &Metadata, after: &Metadata) -> Vec<Event> {
    let address_in = |metadata: &Metadata, node: &NodeRecord| {
        metadata.node(node.host_id).map(NodeRecord::cql_address)
    };
    let gone = before.nodes.values().filter_map(|node| {
        let address = node.cql_address();
        (address_in(after, node) != Some(address)).then_some(Event::NodeRemoved(address))
    });
    let new = after.nodes.values().filter_map(|node| {
        let address = node.cql_address();
        (address_in(before, node) != Some(address)).then_some(Event::NodeAdded(address))
    });
    gone.chain(new).collect()
}

impl NodeRecord {
    /// Where clients reach it.
    fn cql_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.cql_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Command;

    fn node(host_id: u128, cql_port: u16) -> NodeRecord {
        NodeRecord {
            host_id,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            address: [127, 0, 0, 1].into(),
            cql_port,
            internode_address: SocketAddr::from(([127, 0, 0, 1], 7000)),
            tokens: vec![host_id as i64],
            shard_count: 1,
        }
    }

    fn metadata(nodes: &[(u128, u16)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (index, (host_id, port)) in (1..).zip(nodes) {
            let node = node(*host_id, *port);
            metadata.apply(index, Command::AddNode { cluster_name: "c".to_owned(), node });
        }
        metadata
    }

    #[test]
    fn nodes_that_come_go_and_move_are_told_of() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let before = metadata(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(topology_events(&before, &before), []);
        let after = metadata(&[(1, 10), (3, 31), (4, 40)]);
        let expected = [
            Event::NodeRemoved(address(20)),
            Event::NodeRemoved(address(30)),
            Event::NodeAdded(address(31)),
            Event::NodeAdded(address(40)),
        ];
        assert_eq!(topology_events(&before, &after), expected);
    }

    #[test]
    fn a_cluster_is_known_by_the_node_that_founded_it() {
        assert_eq!(metadata(&[(5, 10), (2, 20)]).cluster_id, 5);
    }
}
