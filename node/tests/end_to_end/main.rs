//! The program as its users meet it: a real node, real sockets, real clients.
//!
//! Every test starts a node of its own on a free port with a temporary folder for its data, and
//! ends it. The clients from elsewhere (cqlsh, the drivers for Python and Node) are fetched once
//! into `target/peers`, and so is Kafka; where Python, Node or Java is missing, their tests say
//! `skipped: …` and pass, unless `TETHYS_REQUIRE_PEERS=1` makes that a failure.
//!
//! All of it is one test program, since linking it many times would take longer than running it.

#![expect(clippy::disallowed_methods, reason = "these tests live outside the node, as clients do")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the test runner shows it on failure"
)]

mod bad_input;
mod cdc_cluster;
mod cdc_consumer;
mod cdc_watermarks;
mod changefeed_clocks;
mod changefeed_deletes;
mod changefeed_drops;
mod changefeed_positions;
mod changefeed_scans;
mod changefeeds;
mod changefeeds_kafka;
mod changefeeds_log;
mod clients_of_several;
mod consistency;
mod containers;
mod contention;
mod cqlsh;
mod crash;
mod first_scripts;
mod founding;
mod held_up_changes;
mod joined_nodes;
#[path = "../../../changefeed/tests/broker/kafka/mod.rs"]
mod kafka;
mod leader_changes;
mod lost_data;
mod node_driver;
mod node_port;
mod orderly_stop;
mod python_driver;
mod replication;
mod ring_changes;
mod rust_driver;
mod several_nodes;
mod small_logs;
mod snapshots;
mod status;
mod support;
mod timeouts;
