//! The program `tethys`: reads the configuration, starts a node, and ends when it is told to.

mod config;

fn main() {}
