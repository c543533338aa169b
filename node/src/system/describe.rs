//! What DESCRIBE CLUSTER shows.

use super::PARTITIONER;
use crate::view::View;
use cql::plan::describe::ClusterFacts;

/// The snitch whose behaviour is ours: every node says itself where it stands.
const SNITCH: &str = "GossipingPropertyFileSnitch";

/// The cluster as one view knows it.
pub(crate) struct DescribedCluster<'v> {
    view: &'v View,
}

impl<'v> DescribedCluster<'v> {
    pub(crate) fn new(view: &'v View) -> Self {
        DescribedCluster { view }
    }
}

impl ClusterFacts for DescribedCluster<'_> {
    fn name(&self) -> &str {
        &self.view.metadata.cluster_name
    }

    fn partitioner(&self) -> &'static str {
        PARTITIONER.rsplit('.').next().unwrap_or(PARTITIONER)
    }

    fn snitch(&self) -> &'static str {
        SNITCH
    }

    fn range_ownership(&self, keyspace: &str) -> Vec<(String, Vec<String>)> {
        let view = self.view;
        let Some(placement) = view.placement(keyspace) else { return Vec::new() };
        let node = |index| format!("/{}", view.ring.node(index).internode_address);
        view.ranges
            .iter()
            .map(|range| {
                let replicas = placement.replicas(range).iter();
                let nodes = replicas.map(|index| node(*index)).collect();
                (view.ranges.end_token(range).0.to_string(), nodes)
            })
            .collect()
    }
}
