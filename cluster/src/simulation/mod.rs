//! A simulated cluster of the cores: nodes with clocks and disks of their own, groups spread over
//! them, and a network between them, all in one thread and from one seed.
//!
//! It runs [`Replicas`](crate::replica::Replicas), the program's own shell of
//! [`Group`](crate::consensus::Group), [`Leadership`](crate::leadership::Leadership) and
//! [`Link`](crate::link::Link), beside [`ClosedTime`](crate::leadership::ClosedTime) and
//! [`Liveness`](crate::liveness::Liveness), with everything that can go wrong between them:
//! messages are lost, repeated, delayed and reordered, links are cut in one direction or both, nodes
//! crash and lose what was not synced, stop for seconds and go on, clocks drift as far as they may,
//! members change, leaders hand over, logs are cut and snapshots installed.
//!
//! Each group is a register. [`oracle`] knows all, and checks at every step:
//!
//! - election safety, leader completeness, state machine safety, log matching;
//! - that no two members of a group have a lease at the same true time;
//! - that reads under a lease are linearizable;
//! - that nothing is placed at or below a closed time that anybody believed.
//!
//! [`schedule`] chooses what happens, lets the faults end, and checks that every group then works.

mod disk;
mod local;
mod network;
mod node;
mod oracle;
mod schedule;
mod script;
mod world;
