//! A Tethys node: the program's parts, put together.
//!
//! ```text
//! connection   sockets, frames          statement    parse, plan, bind, answer
//! coordinator  ranges, levels           shard        one thread: decide, log, apply, read
//! metadata     what nodes agree on      view         its snapshot, for everybody
//! internode    what nodes say
//! system       the system's tables      http         metrics, health
//! remote       data on other nodes      config       what the operator chose
//! founding     a cluster's first start  status       the cluster as operators see it
//! feeds        changefeeds
//! clock_check  whether the node's clock is right
//! client       the node asks itself     health       whether it serves
//! init_scripts a cluster's first schema  ring_change  nodes come and go while there are data
//! write_failure  when a log has failed
//! ```
//!
//! A node decides little itself: the language is `cql`'s, placement `cluster`'s, log rows `cdc`'s,
//! data `storage`'s. It reaches the operating system through `env` alone, so a whole node also runs
//! inside a simulation.

mod batch_log;
mod cdc_tables;
mod client;
mod clock_check;
mod config;
mod connection;
mod coordinator;
mod data_directory;
mod feeds;
mod founding;
mod health;
mod http;
mod init_scripts;
mod internode;
pub mod logging;
mod metadata;
mod node;
mod peer_file;
mod remote;
mod ring_change;
mod shard;
mod statement;
mod status;
mod system;
mod traces;
mod view;
mod write_failure;

pub use config::{
    CONFIG_FILE_BYTES_MAX, CommitLogSync, Config, ConfigError, Flags, Limits, LogFormat, LookUp,
    Machine, Seed, Sources, UnusedFlags, Verb, Webhooks, is_variable_for_node,
};
pub use health::check_health;
pub use node::{Node, StartError};
pub use ring_change::{
    DecommissionFlags, RemoveFlags, WithdrawFlags, decommission, remove, withdraw,
};
pub use status::{StatusFlags, StatusFormat, show_status};
