//! Threads: shards, workers beside them, and a pool for single blocking calls.
//!
//! - A *shard* is a thread of its own, pinned to a core when that can be done, with a tokio
//!   runtime for one thread. It must not block.
//! - A *worker* is a thread of its own that may block: the log, flushes, compactions. Its body is
//!   async, so that it can wait for a [`queue`] and for the clock, and calls the disk in between.
//! - [`Tasks::run_blocking`] is for a single call that may block, as a read that missed the page
//!   cache.
//!
//! Bodies are not `Send`: a shard owns its state alone and builds it on its own thread.
//!
//! In simulation shards and workers are tasks of the one thread, and a blocking call is just
//! made: nothing else runs meanwhile, and it takes no simulated time unless a test makes the disk
//! slow ([`SimTasksControl`]). So races between a worker's disk calls and its shard are not explored
//! there, but every order of messages is.

use crate::disk::OpenMode;
use pace::Pace;
use std::future::Future;
use std::io;
use std::path::Path;
use std::thread;

use tokio::sync::oneshot;

mod pace;
mod pool;
pub mod queue;
#[cfg(test)]
mod tests;

/// Starts tasks; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Tasks(Side);

#[derive(Clone, Copy, Debug)]
enum Side {
    Real,
    /// How slow the disk is.
    Sim(&'static Pace),
}

/// How a worker's thread is scheduled against the shards'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// As a shard: requests wait for it.
    Normal,
    /// Behind shards (nice +10): what nobody waits for.
    Background,
}

/// What [`Priority::Background`] adds to the niceness of a thread.
const BACKGROUND_NICENESS: i32 = 10;

impl Tasks {
    /// Threads of the operating system.
    pub fn real() -> Tasks {
        Tasks(Side::Real)
    }

    /// Local tasks of the runtime in which they are started, which must have a `LocalSet`
    /// (turmoil's hosts have one).
    pub fn simulated() -> Tasks {
        Tasks(Side::Sim(&pace::AT_ONCE))
    }

    /// The same, with a disk that can be made slow.
    #[cfg(any(test, feature = "sim"))]
    pub fn simulated_with_disk() -> (Tasks, SimTasksControl) {
        let control = SimTasksControl::new();
        (Tasks(Side::Sim(control.pace())), control)
    }

    /// Starts a shard. `core` counts the cores this process may use, modulo their number; a
    /// thread that cannot be pinned runs unpinned. Its runtime has time and sockets.
    pub fn spawn_shard<Body, Running>(
        &self,
        name: &str,
        core: Option<usize>,
        body: Body,
    ) -> io::Result<Task>
    where
        Body: FnOnce() -> Running + Send + 'static,
        Running: Future<Output = ()> + 'static,
    {
        self.spawn(name, false, body, move || {
            if let Some(core) = core {
                pin_to_core(core);
            }
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        })
    }

    /// Starts a worker. Its runtime has time and no sockets.
    pub fn spawn_worker<Body, Running>(
        &self,
        name: &str,
        priority: Priority,
        body: Body,
    ) -> io::Result<Task>
    where
        Body: FnOnce() -> Running + Send + 'static,
        Running: Future<Output = ()> + 'static,
    {
        self.spawn(name, true, body, move || {
            if priority == Priority::Background {
                lower_priority();
            }
            tokio::runtime::Builder::new_current_thread().enable_time().build()
        })
    }

    /// Runs `body` on a new thread, in the runtime that `prepare` makes there.
    fn spawn<Body, Running, Prepare>(
        self,
        name: &str,
        uses_disk: bool,
        body: Body,
        prepare: Prepare,
    ) -> io::Result<Task>
    where
        Body: FnOnce() -> Running + Send + 'static,
        Running: Future<Output = ()> + 'static,
        Prepare: FnOnce() -> io::Result<tokio::runtime::Runtime> + Send + 'static,
    {
        let (finish, finished) = oneshot::channel();
        match self.0 {
            Side::Real => {
                let (report, prepared) = std::sync::mpsc::sync_channel(1);
                thread::Builder::new().name(name.to_owned()).spawn(move || {
                    let runtime = match prepare() {
                        Ok(runtime) => runtime,
                        // The starter waits for the report, so it gets it.
                        Err(error) => {
                            report.send(Err(error)).ok();
                            return;
                        }
                    };
                    report.send(Ok(())).ok();
                    tokio::task::LocalSet::new().block_on(&runtime, body());
                    drop(runtime);
                    finish.send(()).ok();
                })?;
                prepared.recv().unwrap_or_else(|_| Err(io::Error::other("the thread died")))?;
            }
            Side::Sim(pace) => {
                let pace = if uses_disk { pace } else { &pace::AT_ONCE };
                tokio::task::spawn_local(async move {
                    pace::run_slowly(body(), pace).await;
                    finish.send(()).ok();
                });
            }
        }
        Ok(Task { finished })
    }

    /// Makes a call that may block, elsewhere: the caller's thread goes on meanwhile.
    ///
    /// At most [`BLOCKING_CALLS_MAX`] calls of the process are under way or waiting for a thread;
    /// further callers wait here. A call goes on when its caller stops waiting for it.
    /// A panic in the call goes on in the caller.
    pub async fn run_blocking<T, Call>(&self, call: Call) -> T
    where
        T: Send + 'static,
        Call: FnOnce() -> T + Send + 'static,
    {
        match self.0 {
            Side::Real => pool::run(call).await,
            Side::Sim(pace) => {
                pace::wait(pace).await;
                call()
            }
        }
    }
}

pub use pace::SimTasksControl;
pub use pool::{BLOCKING_CALLS_MAX, BLOCKING_THREADS_MAX};

/// A shard or worker that was started. Dropping this lets it run on.
#[derive(Debug)]
pub struct Task {
    finished: oneshot::Receiver<()>,
}

impl Task {
    /// Waits until the body has returned and its state has been dropped.
    pub async fn finished(self) -> Result<(), TaskDied> {
        self.finished.await.map_err(|_| TaskDied)
    }
}

/// A task panicked, or its runtime was dropped with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskDied;

impl std::fmt::Display for TaskDied {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the task died before it had finished")
    }
}

impl std::error::Error for TaskDied {}

/// The number of cores this process may use, at least 1.
pub fn core_count() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The number of the user whose rights this process has.
pub fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Where a container finds how much memory it may use: cgroups of version 2, and of version 1.
const MEMORY_LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The memory of the machine in bytes, or of the container if that may use less; 1 GiB when the
/// system does not say.
pub fn memory_bytes() -> usize {
    const UNKNOWN_BYTES: usize = 1 << 30;
    let info = rustix::system::sysinfo();
    let of_machine = u64::from(info.mem_unit).saturating_mul(info.totalram);
    // No limit is a word, or a number that no machine has.
    let limits = MEMORY_LIMITS.iter().filter_map(|path| memory_limit(Path::new(path)));
    let bytes = limits.chain([of_machine]).filter(|bytes| *bytes > 0).min();
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(UNKNOWN_BYTES)
}

fn memory_limit(file: &Path) -> Option<u64> {
    // Such a file does not say how long it is.
    let mut text = [0; 64];
    let length = crate::Disk::real().open(file, OpenMode::Read).ok()?.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

/// Pins this thread, or leaves it as it is where the system refuses: pinning is for speed only.
fn pin_to_core(core: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.is_empty() {
        return;
    }
    let mut pinned = CpuSet::new();
    pinned.set(cores[core % cores.len()]);
    sched_setaffinity(None, &pinned).ok();
}

/// Lets another thread have the core, if one waits for it. For a thread with much to do that nobody waits
/// for: the kernel would let it go on for milliseconds, whoever wakes up meanwhile.
pub fn give_way() {
    thread::yield_now();
}

/// Lowers this thread's priority, where the system lets it. On Linux niceness is per thread.
fn lower_priority() {
    let this_thread = Some(rustix::thread::gettid());
    if let Ok(niceness) = rustix::process::getpriority_process(this_thread) {
        rustix::process::setpriority_process(this_thread, niceness + BACKGROUND_NICENESS).ok();
    }
}
