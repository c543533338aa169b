//! What the operator chose: flags over environment over file over defaults.
//!
//! The file is YAML with cassandra.yaml's key names, so that an existing file can be used. A key
//! that Cassandra or ScyllaDB knows and Tethys does not need is accepted with a log line; a key
//! nobody knows is a warning that names the nearest one. A value that cannot be understood is an
//! error that names the key: a node never starts on a guess.

mod seed;

pub use seed::Seed;

use crate::status::StatusFlags;
use clap::{Parser, Subcommand};
use cluster::peer::limits::CLUSTER_NAME_BYTES_MAX;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Command line of `tethys`. Every flag is also an environment variable.
#[derive(Debug, Parser)]
#[command(
    name = "tethys",
    version,
    args_override_self = true,
    about = "A distributed wide-column database that speaks CQL."
)]
pub struct Flags {
    /// What to do; without one, the node is started.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// Configuration file (YAML, cassandra.yaml's key names).
    #[arg(long, env = "TETHYS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the node keeps its data [default: ./data]
    #[arg(long, env = "TETHYS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to listen on, for clients and for other nodes [default: 127.0.0.1]
    #[arg(long, env = "TETHYS_ADDRESS")]
    pub address: Option<String>,
    /// Nodes to find the cluster by, as HOST or HOST:PORT with commas between; all nodes are given
    /// the same ones [default: none, a cluster of its own]
    #[arg(long, env = "TETHYS_SEEDS", value_name = "HOSTS")]
    pub seeds: Option<String>,
    /// Port for other nodes [default: 7000]
    #[arg(long, env = "TETHYS_STORAGE_PORT", value_name = "PORT")]
    pub storage_port: Option<u16>,
    /// Address to listen on for other nodes [default: that of --address]
    #[arg(long, env = "TETHYS_LISTEN_ADDRESS", value_name = "ADDRESS")]
    pub listen_address: Option<String>,
    /// Address at which other nodes reach this one [default: that of --listen-address]
    #[arg(long, env = "TETHYS_BROADCAST_ADDRESS", value_name = "ADDRESS")]
    pub broadcast_address: Option<String>,
    /// Address at which clients are told to reach this node [default: that of --address]
    #[arg(long, env = "TETHYS_BROADCAST_RPC_ADDRESS", value_name = "ADDRESS")]
    pub broadcast_rpc_address: Option<String>,
    /// Port for CQL clients [default: 9042]
    #[arg(long, env = "TETHYS_PORT")]
    pub port: Option<u16>,
    /// Port for shard-aware CQL clients [default: 19042]
    #[arg(long, env = "TETHYS_SHARD_AWARE_PORT", value_name = "PORT")]
    pub shard_aware_port: Option<u16>,
    /// Port for /metrics, /healthz and /readyz [default: 9180]
    #[arg(long, env = "TETHYS_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// How many shards, each one thread [default: one per core]
    #[arg(long, env = "TETHYS_SHARDS")]
    pub shards: Option<u16>,
    /// Memory for data in all shards together, such as 512M or 4G [default: a quarter of the
    /// machine's]
    #[arg(long, env = "TETHYS_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// When a write is answered: group (synced), batch (the same), or periodic (before the sync)
    #[arg(long, env = "TETHYS_COMMITLOG_SYNC", value_name = "MODE")]
    pub commitlog_sync: Option<String>,
    /// The cluster's name, the same on all nodes [default: Test Cluster]
    #[arg(long, env = "TETHYS_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// The data centre this node stands in [default: datacenter1]
    #[arg(long, env = "TETHYS_DC", value_name = "NAME")]
    pub dc: Option<String>,
    /// The rack within the data centre [default: rack1]
    #[arg(long, env = "TETHYS_RACK", value_name = "NAME")]
    pub rack: Option<String>,
    /// How log lines look: text or json
    #[arg(long, env = "TETHYS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// What `tethys` does beside running a node.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the nodes of a running cluster, as nodetool does.
    Status(StatusFlags),
}

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
}

/// The name of a cluster that was given none: Cassandra's.
const CLUSTER_NAME_DEFAULT: &str = "Test Cluster";
/// Most shards a node can have: the ring is cut at that many even points.
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
    /// Combines flags (which hold the environment too), the file's text and the machine's facts.
    /// Returns the warnings to log once logging runs.
    pub fn resolve(
        flags: &Flags,
        file: Option<&str>,
        machine: Machine,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let mut config = Config::defaults(machine);
        let mut warnings = Vec::new();
        if let Some(text) = file {
            let keys: BTreeMap<String, Value> = if text.trim().is_empty() {
                BTreeMap::new()
            } else {
                serde_saphyr::from_str(text)
                    .map_err(|e| ConfigError(format!("the configuration file is not YAML: {e}")))?
            };
            config.apply_file(&keys, &mut warnings)?;
        }
        config.apply_flags(flags)?;
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
            shard_count: None,
            core_count: machine.core_count,
            memory_bytes: (machine.memory_bytes / 4).max(MEMORY_BYTES_MIN),
            commitlog_sync: CommitLogSync::Group,
            log_format: LogFormat::Text,
        }
    }

    fn apply_file(
        &mut self,
        keys: &BTreeMap<String, Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        for (key, value) in keys {
            match key.as_str() {
                "cluster_name" => self.cluster_name = Some(text(key, value)?),
                "dc" => self.data_center = text(key, value)?,
                "rack" => self.rack = text(key, value)?,
                "rpc_address" | "native_transport_address" => self.address = address(key, value)?,
                "broadcast_rpc_address" | "broadcast_native_address" => {
                    self.broadcast_rpc_address = Some(address(key, value)?);
                }
                "listen_address" => self.listen_address = Some(address(key, value)?),
                "broadcast_address" => self.broadcast_address = Some(address(key, value)?),
                "storage_port" => self.storage_port = number(key, value)?,
                "seeds" => self.seeds = seed::from_value(key, value)?,
                "seed_provider" => self.seeds = seed::from_provider(key, value)?,
                "native_transport_port" => self.port = number(key, value)?,
                "native_shard_aware_transport_port" => self.shard_aware_port = number(key, value)?,
                "prometheus_port" => self.http_port = number(key, value)?,
                "num_tokens" => self.token_count = number(key, value)?,
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
                "log_format" => self.log_format = parse_log_format(key, &text(key, value)?)?,
                _ if KNOWN_UNUSED_KEYS.contains(&key.as_str()) => {
                    warnings.push(format!("configuration key `{key}` has no effect in Tethys"));
                }
                _ => warnings.push(format!(
                    "unknown configuration key `{key}`; the nearest known key is `{}`",
                    nearest_key(key)
                )),
            }
        }
        Ok(())
    }

    fn apply_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
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
        self.apply_network_flags(flags)?;
        self.shard_aware_port = flags.shard_aware_port.unwrap_or(self.shard_aware_port);
        self.http_port = flags.http_port.unwrap_or(self.http_port);
        self.shard_count = flags.shards.or(self.shard_count);
        if let Some(size) = &flags.memory {
            self.memory_bytes = parse_size("--memory", size)?;
        }
        if let Some(mode) = &flags.commitlog_sync {
            self.set_sync("--commitlog-sync", mode)?;
        }
        if let Some(format) = &flags.log_format {
            self.log_format = parse_log_format("--log-format", format)?;
        }
        Ok(())
    }

    fn apply_network_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        if let Some(text) = &flags.address {
            self.address = parse_address("--address", text)?;
        }
        for (key, flag, value) in [
            ("--listen-address", &flags.listen_address, &mut self.listen_address),
            ("--broadcast-address", &flags.broadcast_address, &mut self.broadcast_address),
            (
                "--broadcast-rpc-address",
                &flags.broadcast_rpc_address,
                &mut self.broadcast_rpc_address,
            ),
        ] {
            if let Some(text) = flag {
                *value = Some(parse_address(key, text)?);
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
                     which it is reached"
                )));
            }
        }
        Ok(())
    }
}

fn address(key: &str, value: &Value) -> Result<IpAddr, ConfigError> {
    parse_address(key, &text(key, value)?)
}

/// An IP address, or `localhost`, which is what cassandra.yaml comes with.
fn parse_address(key: &str, address: &str) -> Result<IpAddr, ConfigError> {
    if address == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    address.parse().map_err(|_| ConfigError(format!("{key}: `{address}` is not an IP address")))
}

fn text(key: &str, value: &Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(ConfigError(format!("{key}: expected a text, got {value}"))),
    }
}

fn number(key: &str, value: &Value) -> Result<u16, ConfigError> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).ok_or_else(|| {
        ConfigError(format!("{key}: expected a number from 0 to 65535, got {value}"))
    })
}

fn data_directory(key: &str, value: &Value) -> Result<PathBuf, ConfigError> {
    match value {
        Value::Array(list) if list.len() == 1 => Ok(PathBuf::from(text(key, &list[0])?)),
        Value::Array(_) => {
            Err(ConfigError(format!("{key}: expected one directory; Tethys uses exactly one")))
        }
        other => Ok(PathBuf::from(text(key, other)?)),
    }
}

fn parse_log_format(key: &str, name: &str) -> Result<LogFormat, ConfigError> {
    match name {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ConfigError(format!("{key}: `{name}` is not a format; use text or json"))),
    }
}

/// A size such as `512M`, `4G`, `4GiB` or plain bytes.
fn parse_size(key: &str, size: &str) -> Result<usize, ConfigError> {
    let error = || ConfigError(format!("{key}: `{size}` is not a size; write 512M or 4G"));
    let (digits, unit) = split_number(size);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(error()),
    };
    let count: usize = digits.parse().map_err(|_| error())?;
    count.checked_mul(1 << shift).ok_or_else(error)
}

/// A duration such as `10s`, `5000ms`, `1m`; a bare number is milliseconds.
fn parse_duration(key: &str, duration: &str) -> Result<Duration, ConfigError> {
    let error =
        || ConfigError(format!("{key}: `{duration}` is not a duration; write 10s or 500ms"));
    let (digits, unit) = split_number(duration);
    let count: u64 = digits.parse().map_err(|_| error())?;
    match unit {
        "" | "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count.checked_mul(60).ok_or_else(error)?)),
        _ => Err(error()),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn nearest_key(key: &str) -> &'static str {
    USED_KEYS
        .iter()
        .chain(KNOWN_UNUSED_KEYS)
        .min_by_key(|known| edit_distance(key, known))
        .copied()
        .unwrap_or("cluster_name")
}

fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const USED_KEYS: &[&str] = &[
    "cluster_name",
    "dc",
    "rack",
    "rpc_address",
    "broadcast_rpc_address",
    "listen_address",
    "broadcast_address",
    "storage_port",
    "seeds",
    "seed_provider",
    "native_transport_port",
    "native_shard_aware_transport_port",
    "prometheus_port",
    "num_tokens",
    "shards",
    "memory",
    "data_file_directories",
    "commitlog_sync",
    "commitlog_sync_period",
    "log_format",
];

/// Keys of cassandra.yaml and scylla.yaml that people set and that mean nothing here: the log is
/// the repair, hints and snitches do not exist, or every node says itself where it stands.
const KNOWN_UNUSED_KEYS: &[&str] = &[
    "allocate_tokens_for_local_replication_factor",
    "authenticator",
    "authorizer",
    "auto_snapshot",
    "batchlog_endpoint_strategy",
    "cdc_enabled",
    "column_index_size",
    "commitlog_directory",
    "commitlog_segment_size",
    "commitlog_total_space",
    "compaction_throughput",
    "concurrent_compactors",
    "concurrent_reads",
    "concurrent_writes",
    "developer_mode",
    "disk_optimization_strategy",
    "endpoint_snitch",
    "hinted_handoff_enabled",
    "hints_directory",
    "incremental_backups",
    "internode_compression",
    "key_cache_size",
    "max_hint_window",
    "memtable",
    "partitioner",
    "row_cache_size",
    "saved_caches_directory",
    "start_native_transport",
    "trickle_fsync",
];

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { core_count: 2, memory_bytes: 8 << 30 };

    fn flags(arguments: &[&str]) -> Flags {
        let arguments = std::iter::once("tethys").chain(arguments.iter().copied());
        Flags::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = "native_transport_port: 7777\nshards: 3\ndata_file_directories: [/x]\n";
        let arguments = flags(&["--port", "1", "--dc", "north", "--port", "8888"]);
        let (config, warnings) = Config::resolve(&arguments, Some(file), MACHINE).unwrap();
        assert_eq!((&*config.data_center, &*config.rack), ("north", "rack1"));
        assert_eq!((config.port, config.shard_count), (8888, Some(3)));
        assert_eq!(config.data_dir, PathBuf::from("/x"));
        assert_eq!(config.memory_bytes, 2 << 30);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_file_of_cassandra_says_where_the_others_are() {
        let file = "
cluster_name: north
storage_port: 7001
listen_address: localhost
broadcast_address: 10.0.0.5
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"10.0.0.5, node2:7005\"
";
        let (config, warnings) = Config::resolve(&flags(&[]), Some(file), MACHINE).unwrap();
        assert_eq!(config.cluster_name(), "north");
        assert_eq!(config.listen_address(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(config.broadcast_address, Some(IpAddr::from([10, 0, 0, 5])));
        assert_eq!(config.storage_port, 7001);
        let seed = |host: &str, port| Seed { host: host.to_owned(), port };
        assert_eq!(config.seeds, [seed("10.0.0.5", None), seed("node2", Some(7005))]);
        assert!(warnings.is_empty(), "{warnings:?}");
        let arguments = flags(&["--seeds", "[::1]:7000"]);
        let (config, _) = Config::resolve(&arguments, Some(file), MACHINE).unwrap();
        assert_eq!(config.seeds, [seed("::1", Some(7000))]);
    }

    #[test]
    fn unknown_keys_are_warned_of_with_the_nearest_one() {
        let (_, warnings) =
            Config::resolve(&flags(&[]), Some("clustername: x\nendpoint_snitch: y\n"), MACHINE)
                .unwrap();
        assert!(warnings[0].contains("`clustername`") && warnings[0].contains("`cluster_name`"));
        assert!(warnings[1].contains("has no effect"));
    }

    #[test]
    fn values_that_make_no_sense_name_their_key() {
        for (arguments, file, key) in [
            (&["--shards", "65"][..], None, "shards"),
            (&["--memory", "12Q"], None, "--memory"),
            (&["--memory", "1M"], None, "memory"),
            (&["--address", "nowhere"], None, "--address"),
            (&["--seeds", "a:b"], None, "--seeds"),
            (&["--seeds", "a", "--address", "0.0.0.0"], None, "broadcast_address"),
            (&["--broadcast-rpc-address", "0.0.0.0"], None, "broadcast_rpc_address"),
            (&["--rack", ""], None, "rack"),
            (&[], Some("cluster_name: ''"), "cluster_name"),
            (&[], Some("seed_provider: here"), "seed_provider"),
            (&[], Some("listen_address: eth0"), "listen_address"),
            (&["--commitlog-sync", "never"], None, "--commitlog-sync"),
            (&[], Some("num_tokens: many"), "num_tokens"),
            (&[], Some("data_file_directories: [a, b]"), "data_file_directories"),
            (&[], Some("}{"), "YAML"),
        ] {
            let error = Config::resolve(&flags(arguments), file, MACHINE).unwrap_err();
            assert!(error.0.contains(key), "{error:?}");
        }
    }

    #[test]
    fn sizes_and_durations_take_the_usual_spellings() {
        assert_eq!(parse_size("k", "4GiB").unwrap(), 4 << 30);
        assert_eq!(parse_size("k", "512m").unwrap(), 512 << 20);
        assert_eq!(parse_duration("k", "10s").unwrap(), Duration::from_secs(10));
        assert_eq!(parse_duration("k", "500").unwrap(), Duration::from_millis(500));
    }
}
