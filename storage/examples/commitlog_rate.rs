//! Measures the commit log on a real disk: appends per second in group mode, and replay.
//!
//! `cargo run --release -p storage --example commitlog_rate -- DIRECTORY [RECORDS_IN_FLIGHT]`
//!
//! One shard appends records of 300 bytes, at most so many of them unsynced; then the log is
//! opened again and read through. The directory should be new; its files stay, for a look at them.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use env::{Clock, Disk, Tasks};
use storage::commitlog::{CommitLog, LogError, LogOptions};

const RECORD_COUNT: u64 = 1_792_000;
const PAYLOAD_BYTES: usize = 300;
const GROUP_COUNT: u64 = 64;
const NANOS_PER_SECOND: f64 = 1e9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("the directory is missing")?);
    let in_flight: u64 = arguments.next().map_or(Ok(256), |count| count.parse())?;
    let clock = Clock::real();
    let options = LogOptions::new(0, 1);
    let (mut log, _, task) =
        CommitLog::open_with_thread(&Disk::real(), &directory, options, &Tasks::real(), &clock)?;

    for (index, segments) in ["recycled", "new"].into_iter().enumerate() {
        let first = index as u64 * RECORD_COUNT;
        let start = clock.monotonic_nanos();
        let batch_count = block_on(append(&mut log, first, in_flight, segments == "recycled"))?;
        let seconds = (clock.monotonic_nanos() - start) as f64 / NANOS_PER_SECOND;
        println!(
            "{in_flight} in flight, {segments} segments: {:.0} records/s, {:.0} batches/s",
            RECORD_COUNT as f64 / seconds,
            batch_count as f64 / seconds
        );
    }
    drop(log);
    block_on(task.finished())?;

    let start = clock.monotonic_nanos();
    let (log, replay) = CommitLog::open(&Disk::real(), &directory, options)?;
    let verified = clock.monotonic_nanos();
    let (mut entry_count, mut payload_bytes) = (0, 0);
    replay.entries(
        |_| 0,
        |entry| {
            entry_count += 1;
            payload_bytes += entry.payload.len();
            Ok::<(), LogError>(())
        },
    )?;
    let read = clock.monotonic_nanos();
    println!(
        "replay of {entry_count} entries, {payload_bytes} bytes in {} segments: verified in {:.3} s, \
         read in {:.3} s",
        log.segment_count() - 1,
        (verified - start) as f64 / NANOS_PER_SECOND,
        (read - verified) as f64 / NANOS_PER_SECOND
    );
    Ok(())
}

/// Appends with at most `in_flight` records unsynced; returns the number of batches.
/// `is_flushed` gives every segment up at once.
async fn append(
    log: &mut CommitLog,
    first: u64,
    in_flight: u64,
    is_flushed: bool,
) -> Result<u64, LogError> {
    let payload = [7; PAYLOAD_BYTES];
    let record_bytes = (PAYLOAD_BYTES + 36) as u64;
    let mut batch_count = 0;
    let mut held = log.poll_synced()?;
    for number in first..first + RECORD_COUNT {
        log.append_entry(number % GROUP_COUNT, 1, 1 + number / GROUP_COUNT, &[&payload])?;
        while log.appended().0 - held.0 >= in_flight * record_bytes {
            log.submit()?;
            held = log.completed().await?;
            batch_count += 1;
            if is_flushed {
                log.release(|_| u64::MAX);
            }
        }
    }
    let end = log.appended();
    log.synced(end).await?;
    Ok(batch_count)
}

/// An executor that is nothing but `park`.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
