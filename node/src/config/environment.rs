//! The variables by which containers of Cassandra are told what to do; and those of ours that nobody
//! knows.
//!
//! They are between file and flags: a `TETHYS_…` variable, which is a flag to us, wins over them.
//! An empty one is as good as none, as in Cassandra's own image. What has no meaning here is
//! warned of.

use super::address::{Addresses, Role};
use super::{Config, ConfigError, Flags, seed};
use clap::{Arg, CommandFactory};
use model::nearest::nearest;

/// Every variable of Cassandra's image begins so, but those of [`UNUSED`].
const PREFIX: &str = "CASSANDRA_";
/// Every variable of ours.
const OUR_PREFIX: &str = "TETHYS_";
/// The only one of ours that is no flag, but for [`env::FAULTS_VARIABLE`] of builds that know it.
const OUR_LOG: &str = "TETHYS_LOG";

/// What has a meaning.
const USED: &[&str] = &[
    "CASSANDRA_BROADCAST_ADDRESS",
    "CASSANDRA_BROADCAST_RPC_ADDRESS",
    "CASSANDRA_CLUSTER_NAME",
    "CASSANDRA_DC",
    "CASSANDRA_LISTEN_ADDRESS",
    "CASSANDRA_NUM_TOKENS",
    "CASSANDRA_RACK",
    "CASSANDRA_RPC_ADDRESS",
    "CASSANDRA_SEEDS",
];

/// What people set for Cassandra, about a Java machine, a snitch or a protocol that are not here.
const UNUSED: &[&str] = &[
    "CASSANDRA_ENDPOINT_SNITCH",
    "CASSANDRA_START_RPC",
    "HEAP_NEWSIZE",
    "JVM_EXTRA_OPTS",
    "JVM_OPTS",
    "MAX_HEAP_SIZE",
];

/// Set by orchestrators for every service that is called cassandra; nobody asked for anything.
const OF_ORCHESTRATORS: &[&str] = &["CASSANDRA_PORT", "CASSANDRA_SERVICE_"];

/// Whether a variable may be one of Cassandra's image, or of ours.
pub fn is_variable_for_node(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(OUR_PREFIX) || UNUSED.contains(&name)
}

/// What is to be said of a variable of ours that nobody knows.
fn warn_of_unknown(name: &str, value: &str) -> Option<String> {
    // What Kubernetes says of services whose names begin with tethys.
    let is_service = name.contains("_SERVICE_") || name.contains("_PORT_") || value.contains("://");
    let flags = Flags::command();
    let known: Vec<&str> = flags
        .get_arguments()
        .filter_map(Arg::get_env)
        .filter_map(|name| name.to_str())
        .chain([OUR_LOG])
        .chain(cfg!(debug_assertions).then_some(env::FAULTS_VARIABLE))
        .collect();
    if is_service || known.contains(&name) {
        return None;
    }
    Some(format!(
        "unknown environment variable {name}; the nearest known one is {}",
        nearest(name, known.into_iter()).unwrap_or_default()
    ))
}

/// Takes the variables of Cassandra's image, and warns of those that mean nothing.
pub(super) fn apply(
    config: &mut Config,
    addresses: &mut Addresses,
    variables: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
        let role = match name.as_str() {
            "CASSANDRA_RPC_ADDRESS" => Some(Role::Rpc),
            "CASSANDRA_BROADCAST_RPC_ADDRESS" => Some(Role::BroadcastRpc),
            "CASSANDRA_LISTEN_ADDRESS" => Some(Role::Listen),
            "CASSANDRA_BROADCAST_ADDRESS" => Some(Role::Broadcast),
            _ => None,
        };
        match name.as_str() {
            "CASSANDRA_SEEDS" => config.seeds = seed::parse_list(name, value)?,
            "CASSANDRA_CLUSTER_NAME" => config.cluster_name = Some(value.clone()),
            "CASSANDRA_DC" => config.data_center.clone_from(value),
            "CASSANDRA_RACK" => config.rack.clone_from(value),
            "CASSANDRA_NUM_TOKENS" => {
                let is_no_number =
                    |_| ConfigError(format!("{name}: `{value}` is not a number of tokens"));
                config.token_count = value.parse().map_err(is_no_number)?;
            }
            name if UNUSED.contains(&name) => {
                warnings.push(format!("environment variable {name} has no effect in Tethys"));
            }
            name if OF_ORCHESTRATORS.iter().any(|prefix| name.starts_with(prefix)) => {}
            name if name.starts_with(OUR_PREFIX) => warnings.extend(warn_of_unknown(name, value)),
            name if role.is_none() && name.starts_with(PREFIX) => warnings.push(format!(
                "unknown environment variable {name}; the nearest known one is {}",
                nearest(name, USED.iter().chain(UNUSED).copied()).unwrap_or_default()
            )),
            _ => {}
        }
        if let Some(role) = role {
            addresses.set(role, name, value);
        }
    }
    Ok(())
}
