//! Fault tests of whole clusters: real processes, real clients, real faults, and proof afterwards.
//!
//! Clients work on a cluster while a *nemesis* kills, stops and cuts off its nodes; what they asked
//! and were told is a *history*, and a *checker* says whether it can be true of a database that
//! keeps its promises.
//!
//! ```text
//!   cluster.rs    nodes as processes, each with its address and its folder of data
//!   network.rs    what nodes say to each other goes through it, or does not
//!   connection.rs what workloads need of a client: a driver's, or one in a simulation
//!   client.rs     a driver's session whose errors tell: refused, or perhaps done
//!   nemesis.rs    which faults, when
//!   workload/     what clients ask, and which checker judges it
//!   catalogue.rs  the workloads by their names
//!   load.rs       clients that ask, on processes and on simulated nodes alike
//!   run.rs        all of it together: load, faults, healing, last reads, verdict
//!   history.rs    what was asked and answered
//!   feeds/        changefeeds: a table, its readers, their faults, a history of their own
//!   clients/      real clients: drivers, cqlsh and scylla-cdc, and their way back
//!   page.rs       a page about one test, in a folder with its history and logs
//!   campaign.rs   many tests, and a page that says what came of them
//!   checker/      whether that can be true; pure, and tested on histories that are wrong
//! ```
//! `cargo run --release -p jepsen --example jepsen -- --help` runs one test, or checks a history
//! again.
//!
//! All of it is behind the feature `harness`, which the tests and the example turn on.

#![cfg(feature = "harness")]
#![expect(
    clippy::disallowed_methods,
    reason = "it stands outside of the nodes, in real time, with real processes and ports"
)]

pub mod campaign;
pub mod catalogue;
pub mod checker;
pub mod client;
pub mod clients;
pub mod cluster;
pub mod connection;
pub mod feeds;
pub mod history;
pub mod load;
pub mod nemesis;
pub mod network;
pub mod page;
pub mod random;
pub mod run;
pub mod workload;
