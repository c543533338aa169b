//! The one door to the operating system: files, time, entropy, threads, sockets, signals.
//!
//! Each part has a real side and a simulated side, chosen at run time by whoever builds the
//! value. The types above it are the same: no generics, no traits, no feature that would turn a
//! whole build into a simulated one. Nothing else in the tree knows which side it runs on, and
//! nothing else calls std for these things (clippy.toml bans it).
//!
//! | part | real | simulated |
//! |---|---|---|
//! | [`disk`] | system calls | files in memory that know what is durable; power cuts, errors, bit rot |
//! | [`clock`] | the machine's clocks | moved by hand, or tokio's paused time, or turmoil's; jumps |
//! | [`entropy`] | ChaCha seeded by the system | a sequence per seed and label |
//! | [`tasks`] | a thread per shard and worker, a pool | local tasks of one thread, calls in line |
//! | [`net`] | tokio's sockets | turmoil's (feature `sim`): latency, loss, partitions |
//! | [`signals`] | SIGTERM, SIGINT | none |
//! | [`memory`] | advice about pages | the same |
//! | [`prefetch`] | hints to the processor | the same |
//!
//! And [`planted`]: bugs that tests switch on to see them noticed.
//!
//! The feature `sim` only adds turmoil, a large dependency; it changes nothing that is there
//! without it, so that Cargo's unification of features is harmless.
//!
//! # What a simulation can rely on
//!
//! One thread, one seed: the same seed gives the same run. It is broken by
//! - a clock, a thread or a random number that does not come from here, `spawn_blocking` and
//!   `tokio::fs` included;
//! - the order of a std `HashMap` or `HashSet`, which is random, where it reaches an outcome;
//! - tokio's `select!` without `biased`, unless built with `--cfg tokio_unstable`, with which
//!   turmoil seeds it;
//! - addresses of memory, thread ids and the like in an outcome.
//!
//! Not simulated: how long disk calls and computation take, clocks at a wrong rate, name
//! resolution that fails, socket options, a system short of memory or files.

pub mod clock;
pub mod disk;
pub mod entropy;
mod injected;
pub mod memory;
pub mod net;
pub mod planted;
pub mod prefetch;
mod random;
pub mod signals;
pub mod tasks;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use disk::Disk;
pub use entropy::{Entropy, EntropySource};
pub use injected::FILE_VARIABLE as FAULTS_VARIABLE;
pub use net::Net;
pub use tasks::Tasks;

/// Everything a node needs of the world. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    /// Time.
    pub clock: Clock,
    /// Files.
    pub disk: Disk,
    /// Where generators of random numbers come from.
    pub entropy: EntropySource,
    /// Sockets.
    pub net: Net,
    /// Threads.
    pub tasks: Tasks,
}

impl Env {
    /// The machine's.
    pub fn real() -> Env {
        injected::start();
        Env {
            clock: Clock::real(),
            disk: Disk::real(),
            entropy: EntropySource::real(),
            net: Net::real(),
            tasks: Tasks::real(),
        }
    }

    /// One simulated node's, to be used inside a turmoil simulation: its own disk, and the
    /// simulation's time and network. The wall clock stood at `start_micros` when the simulation
    /// began. Nodes need seeds that differ.
    #[cfg(feature = "sim")]
    pub fn simulated(seed: u64, start_micros: i64) -> (Env, SimControl) {
        let (clock, clock_control) = Clock::simulated_on_turmoil(start_micros);
        let (disk, disk_control) = Disk::simulated(seed);
        let (tasks, tasks_control) = Tasks::simulated_with_disk();
        let (entropy, net) = (EntropySource::simulated(seed), Net::simulated());
        let env = Env { clock, disk, entropy, net, tasks };
        (env, SimControl { clock: clock_control, disk: disk_control, tasks: tasks_control })
    }
}

/// The hand of a test on one simulated node; its network is turmoil's to control.
#[cfg(feature = "sim")]
#[derive(Clone, Debug)]
pub struct SimControl {
    /// Time.
    pub clock: clock::SimClockControl,
    /// Files.
    pub disk: disk::SimDiskControl,
    /// How slow they are.
    pub tasks: tasks::SimTasksControl,
}
