//! The pool of threads on which blocking calls are made; one per process.
//!
//! Threads start when a call finds none idle and stay until the process ends. Calls start in
//! the order in which they came. A full pool holds callers back, it refuses nobody: whoever
//! waits for the disk waits the same in either queue.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

/// How many threads make blocking calls. Random reads gain little beyond 32 at once.
pub const BLOCKING_THREADS_MAX: usize = 32;

/// How many blocking calls may be under way or waiting for a thread.
pub const BLOCKING_CALLS_MAX: usize = 1024;

const _: () = assert!(BLOCKING_CALLS_MAX >= BLOCKING_THREADS_MAX, "threads that never run");

type Job = Box<dyn FnOnce() + Send>;

static PERMITS: Semaphore = Semaphore::const_new(BLOCKING_CALLS_MAX);
static JOBS: Mutex<Jobs> =
    Mutex::new(Jobs { waiting: VecDeque::new(), thread_count: 0, idle_count: 0 });
static JOB_CAME: Condvar = Condvar::new();

struct Jobs {
    waiting: VecDeque<Job>,
    thread_count: usize,
    idle_count: usize,
}

fn jobs() -> MutexGuard<'static, Jobs> {
    // Jobs run outside of the lock and catch their panics: the counts are right in any case.
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn run<T, Call>(call: Call) -> T
where
    T: Send + 'static,
    Call: FnOnce() -> T + Send + 'static,
{
    let permit = PERMITS.acquire().await.expect("the semaphore is never closed");
    let (answer, answered) = oneshot::channel();
    submit(Box::new(move || {
        let outcome = catch_unwind(AssertUnwindSafe(call));
        drop(permit);
        // Nobody may be waiting any more.
        answer.send(outcome).ok();
    }));
    match answered.await.expect("a job answers before it is dropped") {
        Ok(value) => value,
        Err(panic) => resume_unwind(panic),
    }
}

fn submit(job: Job) {
    let mut jobs = jobs();
    jobs.waiting.push_back(job);
    if jobs.waiting.len() <= jobs.idle_count || jobs.thread_count == BLOCKING_THREADS_MAX {
        drop(jobs);
        JOB_CAME.notify_one();
        return;
    }
    let name = format!("io-{}", jobs.thread_count);
    match thread::Builder::new().name(name).spawn(serve) {
        Ok(_) => jobs.thread_count += 1,
        // Too many threads in the system: those that run will come to it. With none, here.
        Err(_) if jobs.thread_count > 0 => {}
        Err(_) => {
            let job = jobs.waiting.pop_back();
            drop(jobs);
            if let Some(job) = job {
                job();
            }
        }
    }
}

fn serve() {
    let mut jobs = jobs();
    loop {
        if let Some(job) = jobs.waiting.pop_front() {
            drop(jobs);
            job();
            jobs = self::jobs();
        } else {
            jobs.idle_count += 1;
            jobs = JOB_CAME.wait(jobs).unwrap_or_else(PoisonError::into_inner);
            jobs.idle_count -= 1;
        }
    }
}
