//! What the operator chose: flags over environment over file over defaults.
//!
//! ```text
//!   flags.rs        the command line, which holds `TETHYS_…` variables too
//!   environment.rs  the variables of Cassandra's image
//!   keys.rs         the keys of the file that somebody knows
//!   webhooks.rs     what changefeeds may reach
//!   value.rs        texts, numbers, sizes, durations
//!   address.rs      addresses, names of hosts, `auto`
//!   seed.rs         the nodes by which a node finds its cluster
//! ```
//! The file is YAML with cassandra.yaml's key names, so that an existing file can be used. A key
//! that Cassandra or ScyllaDB knows and Tethys does not need is accepted with a log line; a key
//! nobody knows is a warning that names the nearest one. A value that cannot be understood is an
//! error that names the key: a node never starts on a guess.

mod address;
mod environment;
mod flags;
mod keys;
mod limits;
mod seed;
mod value;
mod webhooks;

pub use address::LookUp;
pub use environment::is_variable_for_node;
pub use flags::{Flags, UnusedFlags, Verb};
pub use limits::Limits;
pub use seed::Seed;
pub use webhooks::Webhooks;

use address::{Addresses, Role};
use cluster::peer::limits::CLUSTER_NAME_BYTES_MAX;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
pub(crate) use value::parse_host_id;
use value::{data_directory, number, parse_duration, parse_log_format, parse_size, text};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When an entry counts as held by this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitLogSync {
    /// Once synced; entries that arrive during a sync share the next one.
    Group,
    /// Once written; synced this often.
    Periodic(Duration),
}

impl std::fmt::Display for CommitLogSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CommitLogSync::Group => "group",
            CommitLogSync::Periodic(_) => "periodic",
        })
    }
}

/// Everything a node needs to know before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cluster's name, if the operator gave one: see [`Config::cluster_name`].
    pub cluster_name: Option<String>,
    /// The data centre the node stands in.
    pub data_center: String,
    /// The rack within it.
    pub rack: String,
    /// Where the node keeps its data.
    pub data_dir: PathBuf,
    /// The address to listen on for clients.
    pub address: IpAddr,
    /// Where clients are told to connect; `None`: `address`.
    pub broadcast_rpc_address: Option<IpAddr>,
    /// The address to listen on for other nodes; `None`: `address`.
    pub listen_address: Option<IpAddr>,
    /// Where other nodes are told to connect; `None`: where this node listens for them.
    pub broadcast_address: Option<IpAddr>,
    /// The port for other nodes.
    pub storage_port: u16,
    /// Who may know the cluster. Without any, or with none but itself, the node founds one.
    pub seeds: Vec<Seed>,
    /// The port for CQL; each port may be 0: any free one.
    pub port: u16,
    /// The port on which a client's own port chooses the shard.
    pub shard_aware_port: u16,
    /// The port for metrics and health.
    pub http_port: u16,
    /// How many tokens a new node takes.
    pub token_count: u16,
    /// The host id of a dead node whose place a new node takes.
    pub replaces: Option<u128>,
    /// `None`: what the data directory has, or else one per core.
    pub shard_count: Option<u16>,
    /// Cores this process may use.
    pub core_count: usize,
    /// Memory for data in all shards together.
    pub memory_bytes: usize,
    /// When a write counts as held.
    pub commitlog_sync: CommitLogSync,
    /// How log lines look.
    pub log_format: LogFormat,
    /// A folder of scripts that a cluster's first start runs.
    pub init_scripts: Option<PathBuf>,
    /// How many nodes must be up for them; `None`: as many as there are seeds.
    pub init_scripts_node_count: Option<u16>,
    /// What the node may take of disk and network.
    pub limits: Limits,
    /// What changefeeds may reach.
    pub webhooks: Webhooks,
}

/// The name of a cluster that was given none: Cassandra's.
const CLUSTER_NAME_DEFAULT: &str = "Test Cluster";
/// Most shards a node can have, as far as drivers and the cuts of the ring go.
pub(crate) const SHARD_COUNT_MAX: u16 = 64;
/// Largest configuration file that is read.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a data centre or a rack, in bytes.
const PLACE_NAME_BYTES_MAX: usize = 128;
/// Least memory a node runs with.
const MEMORY_BYTES_MIN: usize = 64 << 20;
/// How often the log is synced when the file asks for `periodic` and names no period.
const PERIODIC_SYNC_DEFAULT: Duration = Duration::from_secs(10);

/// Facts about the machine that defaults depend on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores this process may use.
    pub core_count: usize,
    /// Memory of the machine.
    pub memory_bytes: usize,
}

/// What a configuration is made from.
pub struct Sources<'s> {
    /// The command line; it holds `TETHYS_…` variables too.
    pub flags: &'s Flags,
    /// Variables of the environment: those that [`is_variable_for_node`].
    pub variables: &'s [(String, String)],
    /// The file's text.
    pub file: Option<&'s str>,
    /// What defaults depend on.
    pub machine: Machine,
    /// This host's name, whose address is `auto`.
    pub host_name: &'s str,
    /// How other hosts are found by their names.
    pub look_up: LookUp<'s>,
}

/// A configuration that cannot be used; the text names the key and the reason.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(
    /// The text for the operator.
    pub String,
);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Config {
    /// Combines all sources. Returns the warnings to log once logging runs.
    pub fn resolve(sources: &Sources) -> Result<(Config, Vec<String>), ConfigError> {
        let mut config = Config::defaults(sources.machine);
        let (mut addresses, mut warnings) = (Addresses::default(), Vec::new());
        if let Some(text) = sources.file {
            let keys: BTreeMap<String, Value> = if text.trim().is_empty() {
                BTreeMap::new()
            } else {
                serde_saphyr::from_str(text)
                    .map_err(|e| ConfigError(format!("the configuration file is not YAML: {e}")))?
            };
            config.apply_file(&keys, &mut addresses, &mut warnings)?;
        }
        environment::apply(&mut config, &mut addresses, sources.variables, &mut warnings)?;
        config.apply_flags(sources.flags, &mut addresses)?;
        for flag in sources.flags.unused.given() {
            warnings.push(format!("{flag} has no effect in Tethys"));
        }
        addresses.settle(&mut config, sources.host_name, sources.look_up)?;
        config.check()?;
        Ok((config, warnings))
    }

    fn defaults(machine: Machine) -> Config {
        Config {
            cluster_name: None,
            data_center: "datacenter1".to_owned(),
            rack: "rack1".to_owned(),
            data_dir: PathBuf::from("data"),
            address: IpAddr::from([127, 0, 0, 1]),
            broadcast_rpc_address: None,
            listen_address: None,
            broadcast_address: None,
            storage_port: 7000,
            seeds: Vec::new(),
            port: 9042,
            shard_aware_port: 19042,
            http_port: 9180,
            token_count: 16,
            replaces: None,
            shard_count: None,
            core_count: machine.core_count,
            memory_bytes: (machine.memory_bytes / 4).max(MEMORY_BYTES_MIN),
            commitlog_sync: CommitLogSync::Group,
            log_format: LogFormat::Text,
            init_scripts: None,
            init_scripts_node_count: None,
            limits: Limits::default(),
            webhooks: Webhooks::default(),
        }
    }

    fn apply_file(
        &mut self,
        keys: &BTreeMap<String, Value>,
        addresses: &mut Addresses,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        for (key, value) in keys {
            match key.as_str() {
                "cluster_name" => self.cluster_name = Some(text(key, value)?),
                "dc" => self.data_center = text(key, value)?,
                "rack" => self.rack = text(key, value)?,
                "rpc_address" | "native_transport_address" => {
                    addresses.set(Role::Rpc, key, &text(key, value)?);
                }
                "broadcast_rpc_address" | "broadcast_native_address" => {
                    addresses.set(Role::BroadcastRpc, key, &text(key, value)?);
                }
                "listen_address" => addresses.set(Role::Listen, key, &text(key, value)?),
                "broadcast_address" => addresses.set(Role::Broadcast, key, &text(key, value)?),
                "storage_port" => self.storage_port = number(key, value)?,
                "seeds" => self.seeds = seed::from_value(key, value)?,
                "seed_provider" => self.seeds = seed::from_provider(key, value)?,
                "native_transport_port" => self.port = number(key, value)?,
                "native_shard_aware_transport_port" => self.shard_aware_port = number(key, value)?,
                "prometheus_port" => self.http_port = number(key, value)?,
                "num_tokens" => self.token_count = number(key, value)?,
                "replace_node_first_boot" => {
                    self.replaces = value::host_id(key, &text(key, value)?)?;
                }
                "shards" | "smp" => self.shard_count = Some(number(key, value)?),
                "memory" => self.memory_bytes = parse_size(key, &text(key, value)?)?,
                "data_file_directories" => self.data_dir = data_directory(key, value)?,
                "data_dir" => self.data_dir = PathBuf::from(text(key, value)?),
                "commitlog_sync" => self.set_sync(key, &text(key, value)?)?,
                "commitlog_sync_period" | "commitlog_sync_period_in_ms" => {
                    let period = parse_duration(key, &text(key, value)?)?;
                    if self.commitlog_sync != CommitLogSync::Group {
                        self.commitlog_sync = CommitLogSync::Periodic(period);
                    }
                }
                "init_scripts" => self.init_scripts = Some(PathBuf::from(text(key, value)?)),
                "init_scripts_nodes" => self.init_scripts_node_count = Some(number(key, value)?),
                "log_format" => self.log_format = parse_log_format(key, &text(key, value)?)?,
                _ if limits::KEYS.contains(&key.as_str()) => {
                    self.limits.set(key, &text(key, value)?)?;
                }
                _ if webhooks::KEYS.contains(&key.as_str()) => {
                    self.webhooks.set(key, &text(key, value)?)?;
                }
                _ if keys::KNOWN_UNUSED_KEYS.contains(&key.as_str()) => {
                    warnings.push(format!("configuration key `{key}` has no effect in Tethys"));
                }
                _ => warnings.push(format!(
                    "unknown configuration key `{key}`; the nearest known key is `{}`",
                    keys::nearest_key(key)
                )),
            }
        }
        Ok(())
    }

    fn apply_flags(&mut self, flags: &Flags, addresses: &mut Addresses) -> Result<(), ConfigError> {
        if let Some(data_dir) = &flags.data_dir {
            self.data_dir.clone_from(data_dir);
        }
        for (flag, value) in [(&flags.dc, &mut self.data_center), (&flags.rack, &mut self.rack)] {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        if flags.cluster_name.is_some() {
            self.cluster_name.clone_from(&flags.cluster_name);
        }
        self.apply_network_flags(flags, addresses)?;
        self.shard_aware_port = flags.shard_aware_port.unwrap_or(self.shard_aware_port);
        self.http_port = flags.http_port.unwrap_or(self.http_port);
        self.token_count = flags.num_tokens.unwrap_or(self.token_count);
        if let Some(host_id) = &flags.replace {
            self.replaces = value::host_id("--replace", host_id)?;
        }
        self.shard_count = flags.shards.or(self.shard_count);
        if let Some(size) = &flags.memory {
            self.memory_bytes = parse_size("--memory", size)?;
        }
        if let Some(mode) = &flags.commitlog_sync {
            self.set_sync("--commitlog-sync", mode)?;
        }
        if flags.init_scripts.is_some() {
            self.init_scripts.clone_from(&flags.init_scripts);
        }
        self.init_scripts_node_count = flags.init_scripts_nodes.or(self.init_scripts_node_count);
        for (key, flag) in [
            ("webhook_allow_http", &flags.webhook_allow_http),
            ("webhook_allow_private_addresses", &flags.webhook_allow_private_addresses),
        ] {
            if let Some(value) = flag {
                self.webhooks.set(key, value)?;
            }
        }
        if let Some(format) = &flags.log_format {
            self.log_format = parse_log_format("--log-format", format)?;
        }
        Ok(())
    }

    fn apply_network_flags(
        &mut self,
        flags: &Flags,
        addresses: &mut Addresses,
    ) -> Result<(), ConfigError> {
        for (role, key, flag) in [
            (Role::Rpc, "--address", &flags.address),
            (Role::BroadcastRpc, "--broadcast-rpc-address", &flags.broadcast_rpc_address),
            (Role::Listen, "--listen-address", &flags.listen_address),
            (Role::Broadcast, "--broadcast-address", &flags.broadcast_address),
        ] {
            if let Some(text) = flag {
                addresses.set(role, key, text);
            }
        }
        if let Some(text) = &flags.seeds {
            self.seeds = seed::parse_list("--seeds", text)?;
        }
        self.port = flags.port.unwrap_or(self.port);
        self.storage_port = flags.storage_port.unwrap_or(self.storage_port);
        Ok(())
    }

    fn set_sync(&mut self, key: &str, mode: &str) -> Result<(), ConfigError> {
        self.commitlog_sync = match mode {
            "group" | "batch" => CommitLogSync::Group,
            "periodic" => CommitLogSync::Periodic(PERIODIC_SYNC_DEFAULT),
            _ => {
                return Err(ConfigError(format!(
                    "{key}: `{mode}` is not a mode; use group, batch or periodic"
                )));
            }
        };
        Ok(())
    }

    /// The cluster's name, for a node that is not a member of one.
    pub fn cluster_name(&self) -> &str {
        self.cluster_name.as_deref().unwrap_or(CLUSTER_NAME_DEFAULT)
    }

    /// Where this node listens for others.
    pub fn listen_address(&self) -> IpAddr {
        self.listen_address.unwrap_or(self.address)
    }

    /// How many nodes must be up before scripts are run.
    pub(crate) fn init_scripts_nodes(&self) -> u16 {
        let seed_count = u16::try_from(self.seeds.len()).unwrap_or(u16::MAX);
        self.init_scripts_node_count.unwrap_or(seed_count).max(1)
    }

    /// How many shards a new data directory gets.
    pub fn shard_count_default(&self) -> u16 {
        self.core_count.clamp(1, usize::from(SHARD_COUNT_MAX)) as u16
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Some(count) = self.shard_count.filter(|n| *n == 0 || *n > SHARD_COUNT_MAX) {
            return Err(ConfigError(format!("shards: {count} is outside 1 to {SHARD_COUNT_MAX}")));
        }
        if self.token_count == 0 || self.token_count > 1024 {
            return Err(ConfigError(format!(
                "num_tokens: {} is outside 1 to 1024",
                self.token_count
            )));
        }
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Err(ConfigError(format!(
                "memory: {} bytes is below the least of 64M",
                self.memory_bytes
            )));
        }
        if self.cluster_name().is_empty() || self.cluster_name().len() > CLUSTER_NAME_BYTES_MAX {
            return Err(ConfigError(format!(
                "cluster_name: expected 1 to {CLUSTER_NAME_BYTES_MAX} bytes"
            )));
        }
        for (key, name) in [("dc", &self.data_center), ("rack", &self.rack)] {
            if name.is_empty() || name.len() > PLACE_NAME_BYTES_MAX {
                return Err(ConfigError(format!(
                    "{key}: expected 1 to {PLACE_NAME_BYTES_MAX} bytes"
                )));
            }
        }
        self.check_addresses()
    }

    /// Whoever is told where this node is must be able to go there. A node alone may leave it
    /// open: clients take the address by which they came.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let told = |address: Option<IpAddr>| address.is_some_and(|ip| !ip.is_unspecified());
        for (key, address) in [
            ("broadcast_address", self.broadcast_address),
            ("broadcast_rpc_address", self.broadcast_rpc_address),
        ] {
            if address.is_some() && !told(address) {
                return Err(ConfigError(format!(
                    "{key}: nobody can connect to the address of all interfaces"
                )));
            }
        }
        if self.seeds.is_empty() {
            return Ok(());
        }
        for (key, heard, address) in [
            ("broadcast_address", self.listen_address(), self.broadcast_address),
            ("broadcast_rpc_address", self.address, self.broadcast_rpc_address),
        ] {
            if heard.is_unspecified() && !told(address) {
                return Err(ConfigError(format!(
                    "{key}: a node with seeds that listens on {heard} must be told the address at \
                     which it is reached; `auto` is that of the host's name"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
