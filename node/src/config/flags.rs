//! The command line: what Tethys knows, and what scripts written for ScyllaDB's program give it.

use crate::ring_change::{DecommissionFlags, RemoveFlags, WithdrawFlags};
use crate::status::StatusFlags;
use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

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
    /// Address to listen on, for clients and for other nodes: a number, a host's name, or `auto`,
    /// the address of this host's name [default: 127.0.0.1]
    #[arg(long, alias = "rpc-address", env = "TETHYS_ADDRESS")]
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
    #[arg(long, alias = "native-transport-port", env = "TETHYS_PORT")]
    pub port: Option<u16>,
    /// Port for shard-aware CQL clients [default: 19042]
    #[arg(
        long,
        alias = "native-shard-aware-transport-port",
        env = "TETHYS_SHARD_AWARE_PORT",
        value_name = "PORT"
    )]
    pub shard_aware_port: Option<u16>,
    /// Port for /metrics, /healthz and /readyz [default: 9180]
    #[arg(long, alias = "prometheus-port", env = "TETHYS_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// How many tokens a new node takes [default: 16]
    #[arg(long, env = "TETHYS_NUM_TOKENS", value_name = "COUNT")]
    pub num_tokens: Option<u16>,
    /// How many shards, each one thread [default: one per core]
    #[arg(long, alias = "smp", env = "TETHYS_SHARDS")]
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
    /// Host id of a dead node whose place this new one takes, with its tokens; of no meaning once it
    /// is a member [default: none]
    #[arg(long, alias = "replace-node-first-boot", env = "TETHYS_REPLACE", value_name = "HOST_ID")]
    pub replace: Option<String>,
    /// How log lines look: text or json
    #[arg(long, env = "TETHYS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Folder of scripts (*.cql) that the founder of a cluster runs once [default: none]
    #[arg(long, env = "TETHYS_INIT_SCRIPTS", value_name = "DIR")]
    pub init_scripts: Option<PathBuf>,
    /// How many nodes must be up before they are run [default: as many as seeds]
    #[arg(long, env = "TETHYS_INIT_SCRIPTS_NODES", value_name = "COUNT")]
    pub init_scripts_nodes: Option<u16>,
    /// Whether changefeeds may use http:// webhooks, without TLS [default: false]
    #[arg(
        long,
        env = "TETHYS_WEBHOOK_ALLOW_HTTP",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub webhook_allow_http: Option<String>,
    /// Whether webhooks may reach loopback, private and link-local addresses [default: false]
    #[arg(
        long,
        env = "TETHYS_WEBHOOK_ALLOW_PRIVATE_ADDRESSES",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub webhook_allow_private_addresses: Option<String>,
    /// What has no meaning here.
    #[command(flatten)]
    pub unused: UnusedFlags,
}

impl Flags {
    /// Those of this process. A wrong one ends it.
    pub fn of_process() -> Flags {
        let mut command = without_services(Flags::command());
        let called = std::env::args_os().next().map(PathBuf::from);
        if called.is_some_and(|path| path.file_name().is_some_and(|name| name == "nodetool")) {
            // Nobody means to start a node by that name.
            command = command.subcommand_required(true).arg_required_else_help(true);
        }
        let matches = command.get_matches();
        Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// Kubernetes tells containers in variables where services are: of one that is called tethys,
/// `TETHYS_PORT` is `tcp://10.0.0.1:9042`. That is nothing that anybody has chosen.
fn without_services(command: Command) -> Command {
    let of_service = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.to_string_lossy().contains("://"))
    };
    let forget = |arg| if of_service(&arg) { arg.env(None::<&'static str>) } else { arg };
    command.mut_args(forget).mut_subcommands(without_services)
}

/// Arguments of ScyllaDB's program that people give it in containers: accepted and warned of.
#[derive(Debug, Args)]
pub struct UnusedFlags {
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "1")]
    overprovisioned: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "1")]
    developer_mode: Option<String>,
    #[arg(long, hide = true)]
    reserve_memory: Option<String>,
    #[arg(long, hide = true)]
    cpuset: Option<String>,
    #[arg(long, hide = true)]
    io_setup: Option<String>,
    #[arg(long, hide = true)]
    api_address: Option<String>,
    #[arg(long, hide = true)]
    authenticator: Option<String>,
    #[arg(long, hide = true)]
    authorizer: Option<String>,
    #[arg(long, hide = true)]
    endpoint_snitch: Option<String>,
    #[arg(long, hide = true)]
    experimental_features: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "1")]
    experimental: Option<String>,
    #[arg(long, hide = true)]
    alternator_address: Option<String>,
    #[arg(long, hide = true)]
    alternator_port: Option<String>,
    #[arg(long, hide = true)]
    alternator_write_isolation: Option<String>,
    #[arg(long, hide = true)]
    io_properties_file: Option<String>,
    #[arg(long, hide = true)]
    reactor_backend: Option<String>,
}

impl UnusedFlags {
    /// Those that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        let flags = [
            ("--overprovisioned", self.overprovisioned.is_some()),
            ("--developer-mode", self.developer_mode.is_some()),
            ("--reserve-memory", self.reserve_memory.is_some()),
            ("--cpuset", self.cpuset.is_some()),
            ("--io-setup", self.io_setup.is_some()),
            ("--api-address", self.api_address.is_some()),
            ("--authenticator", self.authenticator.is_some()),
            ("--authorizer", self.authorizer.is_some()),
            ("--endpoint-snitch", self.endpoint_snitch.is_some()),
            ("--experimental-features", self.experimental_features.is_some()),
            ("--experimental", self.experimental.is_some()),
            ("--alternator-address", self.alternator_address.is_some()),
            ("--alternator-port", self.alternator_port.is_some()),
            ("--alternator-write-isolation", self.alternator_write_isolation.is_some()),
            ("--io-properties-file", self.io_properties_file.is_some()),
            ("--reactor-backend", self.reactor_backend.is_some()),
        ];
        flags.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// What `tethys` does beside running a node.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the nodes of a running cluster, as nodetool does.
    Status(StatusFlags),
    /// Has a node leave its cluster: others take over its data, and it ends.
    Decommission(DecommissionFlags),
    /// Removes a node that is dead and does not come back: others take over its data.
    Remove(RemoveFlags),
    /// Takes back a change of the ring that is under way: who joins is sent away, who leaves stays.
    Withdraw(WithdrawFlags),
    /// Ends with 0 if the node that these flags, variables and file describe serves clients.
    Health,
}
