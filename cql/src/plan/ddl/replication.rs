//! The property `replication` of a keyspace.
//!
//! `SimpleStrategy` and `NetworkTopologyStrategy`, by short or full class name. The latter's
//! `replication_factor` stands for every data centre that is not named; in ALTER it leaves those
//! alone that have a factor already, as Cassandra does, so that nothing is lost by surprise.

use super::super::PlanError;
use model::schema::Replication;
use std::collections::BTreeMap;

const FACTOR: &str = "replication_factor";
const PACKAGE: &str = "org.apache.cassandra.locator.";

/// The strategy that `options` describe for `keyspace`, which had `previous` before.
pub(super) fn parse_replication(
    keyspace: &str,
    mut options: BTreeMap<String, String>,
    previous: Option<&Replication>,
    data_centres: &BTreeMap<String, u32>,
) -> Result<Replication, PlanError> {
    let class = options
        .remove("class")
        .ok_or_else(|| PlanError::config("Missing replication strategy class"))?;
    match class.strip_prefix(PACKAGE).unwrap_or(&class) {
        "SimpleStrategy" => {
            let factor = options.remove(FACTOR);
            check_no_option_left("SimpleStrategy", keyspace, options.keys())?;
            let factor = factor.map_or(Ok(1), |factor| parse_factor(&factor))?;
            if factor == 0 {
                return Err(PlanError::config("Replication factor must be at least 1, found 0"));
            }
            Ok(Replication::Simple { factor })
        }
        "NetworkTopologyStrategy" => network_topology(keyspace, options, previous, data_centres),
        "LocalStrategy" => Err(PlanError::invalid(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use.",
        )),
        short => {
            let package = if short.contains('.') { "" } else { PACKAGE };
            Err(PlanError::config(format!(
                "Unable to find replication strategy class '{package}{short}'"
            )))
        }
    }
}

fn network_topology(
    keyspace: &str,
    mut options: BTreeMap<String, String>,
    previous: Option<&Replication>,
    data_centres: &BTreeMap<String, u32>,
) -> Result<Replication, PlanError> {
    let default = match (options.is_empty(), previous) {
        (true, Some(Replication::Simple { factor })) => Some(*factor),
        (true, _) => Some(1),
        (false, _) => options.remove(FACTOR).map(|factor| parse_factor(&factor)).transpose()?,
    };
    let unknown = options.keys().filter(|name| !data_centres.contains_key(*name));
    check_no_option_left("NetworkTopologyStrategy", keyspace, unknown)?;
    let mut factors = BTreeMap::new();
    for (data_centre, factor) in options {
        factors.insert(data_centre, parse_factor(&factor)?);
    }
    if let Some(default) = default {
        if let Some(Replication::NetworkTopology { factors: previous }) = previous {
            for (data_centre, factor) in previous {
                factors.entry(data_centre.clone()).or_insert(*factor);
            }
        }
        for data_centre in data_centres.keys() {
            factors.entry(data_centre.clone()).or_insert(default);
        }
    }
    factors.retain(|_, factor| *factor > 0);
    if factors.is_empty() {
        return Err(PlanError::config("Configuration for at least one datacenter must be present"));
    }
    Ok(Replication::NetworkTopology { factors })
}

fn parse_factor(text: &str) -> Result<u32, PlanError> {
    let factor: i32 = text.parse().map_err(|_| {
        PlanError::config(format!("Replication factor must be a number, found {text}"))
    })?;
    u32::try_from(factor).map_err(|_| {
        PlanError::config(format!("Replication factor must be non-negative, found {factor}"))
    })
}

fn check_no_option_left<'a>(
    strategy: &str,
    keyspace: &str,
    mut options: impl Iterator<Item = &'a String>,
) -> Result<(), PlanError> {
    match options.next() {
        None => Ok(()),
        Some(option) => Err(PlanError::config(format!(
            "Unrecognized strategy option {{{option}}} passed to {strategy} for keyspace {keyspace}"
        ))),
    }
}

/// What a user who asks for more copies than there are nodes is told.
pub(super) fn factor_warnings(
    keyspace: &str,
    replication: &Replication,
    data_centres: &BTreeMap<String, u32>,
) -> Vec<String> {
    let warning = |factor: u32, nodes: u32| {
        format!(
            "Your replication factor {factor} for keyspace {keyspace} is higher than the number of \
             nodes {nodes}"
        )
    };
    match replication {
        Replication::Local => Vec::new(),
        Replication::Simple { factor } => {
            let nodes = data_centres.values().sum();
            if *factor > nodes { vec![warning(*factor, nodes)] } else { Vec::new() }
        }
        Replication::NetworkTopology { factors } => factors
            .iter()
            .filter_map(|(data_centre, factor)| {
                let nodes = data_centres.get(data_centre).copied().unwrap_or(0);
                let text = format!("{} for datacenter {data_centre}", warning(*factor, nodes));
                (*factor > nodes).then_some(text)
            })
            .collect(),
    }
}
