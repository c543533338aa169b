//! The one door to the operating system: files, time, entropy, threads, sockets.
//!
//! Each part has a real side and a simulated side, chosen at run time by whoever builds the
//! value; the types above it are the same, and nothing else in the tree knows.

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod net;
mod random;
pub mod tasks;

pub use clock::Clock;
pub use disk::Disk;
pub use entropy::{Entropy, EntropySource};
pub use net::Net;
pub use tasks::Tasks;
