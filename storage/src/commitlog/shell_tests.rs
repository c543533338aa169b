//! The log with its writer on a thread, over the simulated disk and a clock moved by hand.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use env::clock::{Clock, SimClockControl};
use env::disk::{Disk, OperationKind, SimDiskControl, Survival};
use env::tasks::{Task, Tasks};

use super::options::{LogOptions, SEGMENT_BYTES_MIN, SyncMode};
use super::{CommitLog, LogError, Replay};

const DIRECTORY: &str = "/log";
const EVERY: Duration = Duration::from_secs(10);

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

fn options(sync: SyncMode) -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES_MIN, sync, ..LogOptions::new(1, 99) }
}

struct Node {
    disk: Disk,
    control: SimDiskControl,
    clock: SimClockControl,
    log: CommitLog,
    task: Task,
}

fn start(sync: SyncMode) -> Node {
    let (disk, control) = Disk::simulated(1);
    let (clock, clock_control) = Clock::simulated(0);
    let directory = Path::new(DIRECTORY);
    let (log, _, task) =
        CommitLog::open_with_thread(&disk, directory, options(sync), &Tasks::real(), &clock)
            .expect("a new log opens");
    Node { disk, control, clock: clock_control, log, task }
}

fn indexes(replay: &Replay) -> Vec<u64> {
    let mut indexes = Vec::new();
    let result = replay.entries(
        |_| 0,
        |entry| {
            indexes.push(entry.index);
            Ok::<(), ()>(())
        },
    );
    assert_eq!(result, Ok(()));
    indexes
}

fn replay(disk: &Disk, sync: SyncMode) -> Vec<u64> {
    let (_, replay) =
        CommitLog::open(disk, Path::new(DIRECTORY), options(sync)).expect("the log opens");
    indexes(&replay)
}

#[test]
fn batches_form_while_the_thread_writes_and_all_are_held() {
    let Node { disk, control, mut log, task, .. } = start(SyncMode::Group);
    block_on(async {
        let mut index = 0;
        for _ in 0..200 {
            for _ in 0..3 {
                index += 1;
                log.append_entry(1, 1, index, &[&[7; 100]]).expect("there is room");
                log.submit().expect("the disk works");
            }
            if index % 30 == 0 {
                let position = log.appended();
                log.synced(position).await.expect("the disk works");
                log.release(|_| index - 10);
            }
        }
        let position = log.appended();
        log.synced(position).await.expect("the disk works");
        assert!(log.poll_synced().expect("the disk works") >= position);
        drop(log);
        task.finished().await.expect("the thread ends with its log");
    });
    control.restart(Survival::SyncedOnly);
    let found = replay(&disk, SyncMode::Group);
    assert_eq!(found.last(), Some(&600));
    assert!(found.iter().zip(found.iter().skip(1)).all(|(one, next)| one + 1 == *next));
    assert!(found.len() < 400, "nothing was recycled");
}

#[test]
fn a_failure_on_the_thread_reaches_every_later_call() {
    let Node { control, mut log, .. } = start(SyncMode::Group);
    control.fail_nth(OperationKind::Write, 1);
    let position = log.append_entry(1, 1, 1, &[b"lost"]).expect("there is room");
    let failed = block_on(log.synced(position));
    assert!(matches!(failed, Err(LogError::Disk { .. })), "{failed:?}");
    assert!(log.append_entry(1, 1, 2, &[]).is_err());
    assert!(log.submit().is_err());
    assert!(log.poll_synced().is_err());
    assert!(block_on(log.completed()).is_err());
}

/// What the log would have after a power cut now.
fn synced_so_far(control: &SimDiskControl, sync: SyncMode) -> Vec<u64> {
    let (disk, fork) = control.fork(1);
    fork.restart(Survival::SyncedOnly);
    replay(&disk, sync)
}

#[test]
fn periodic_mode_acknowledges_at_once_and_syncs_when_its_time_has_come() {
    let sync = SyncMode::Periodic { every: EVERY };
    let Node { disk, control, clock, mut log, task } = start(sync);
    log.append_entry(1, 1, 1, &[b"long before"]).expect("there is room");
    assert_eq!(log.poll_synced().ok(), Some(log.appended()), "held without another thread's help");
    clock.advance(EVERY.saturating_sub(Duration::from_nanos(1)));
    log.append_entry(1, 1, 2, &[b"just in time"]).expect("there is room");
    assert_eq!(log.poll_synced().ok(), Some(log.appended()));
    assert_eq!(synced_so_far(&control, sync), [0; 0], "synced before its time");
    clock.advance(Duration::from_nanos(1));
    while synced_so_far(&control, sync) != [1, 2] {
        thread::yield_now();
    }
    log.append_entry(1, 1, 3, &[b"not synced"]).expect("there is room");
    assert_eq!(log.poll_synced().ok(), Some(log.appended()));
    control.power_off();
    drop(log);
    block_on(task.finished()).expect("the thread ends with its log");
    control.restart(Survival::SyncedOnly);
    assert_eq!(replay(&disk, sync), [1, 2]);
}

#[test]
fn what_periodic_mode_acknowledged_survives_the_process_whoever_wrote_it() {
    for is_slow in [false, true] {
        let sync = SyncMode::Periodic { every: EVERY };
        let Node { disk, control, mut log, clock, .. } = start(sync);
        if is_slow {
            log.find_page_cache_slow();
        }
        let mut expected = Vec::new();
        // Several segments; a slow page cache is tried again every second.
        for index in 1..=300 {
            log.append_entry(1, 1, index, &[&[7; 1_000]]).expect("there is room");
            let position = log.appended();
            block_on(log.synced(position)).expect("the disk works");
            expected.push(index);
            if index % 50 == 0 {
                clock.advance(Duration::from_secs(1));
                let (disk, fork) = control.fork(index);
                fork.restart(Survival::Everything);
                assert_eq!(replay(&disk, sync), expected);
            }
        }
        assert!(log.segment_count() > 3);
        block_on(log.close()).expect("the disk works");
        control.restart(Survival::SyncedOnly);
        assert_eq!(replay(&disk, sync), expected);
    }
}

#[test]
fn much_that_is_not_synced_is_synced_ahead_of_its_time() {
    let sync = SyncMode::Periodic { every: EVERY };
    let (disk, control) = Disk::simulated(1);
    let (clock, _clock_control) = Clock::simulated(0);
    let options = LogOptions { sync, ..LogOptions::new(1, 99) };
    let directory = Path::new(DIRECTORY);
    let (mut log, _, _task) =
        CommitLog::open_with_thread(&disk, directory, options, &Tasks::real(), &clock)
            .expect("a new log opens");
    let payload = vec![7; 1 << 20];
    for index in 1..=6 {
        log.append_entry(1, 1, index, &[&payload]).expect("there is room");
        let position = log.appended();
        block_on(log.synced(position)).expect("the disk works");
    }
    while synced_so_far(&control, sync).is_empty() {
        thread::yield_now();
    }
}

#[test]
fn a_failed_sync_reaches_the_next_write_of_the_shard() {
    let Node { control, clock, mut log, .. } = start(SyncMode::Periodic { every: EVERY });
    log.append_entry(1, 1, 1, &[b"written"]).expect("there is room");
    log.submit().expect("the disk works");
    control.fail_nth(OperationKind::Sync, 1);
    let mut index = 2;
    let failed = loop {
        // Each time round: the thread counts from its own first look at the clock.
        clock.advance(EVERY);
        let result = match log.append_entry(1, 1, index, &[b"more"]) {
            Ok(_) => {
                index += 1;
                log.submit()
            }
            // The log's thread is late, or its report of a new segment has not been taken.
            Err(LogError::LogFull { .. }) => log.poll_synced().map(drop),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, LogError::Disk { .. }), "{failed:?}");
    assert!(log.poll_synced().is_err());
}

#[test]
fn a_failed_write_of_the_shard_stops_the_log() {
    let Node { control, mut log, .. } = start(SyncMode::Periodic { every: EVERY });
    control.fail_nth(OperationKind::Write, 1);
    log.append_entry(1, 1, 1, &[b"lost"]).expect("there is room");
    assert!(matches!(log.submit(), Err(LogError::Disk { .. })));
    assert!(log.append_entry(1, 1, 2, &[]).is_err());
    assert!(log.poll_synced().is_err());
    assert!(block_on(log.completed()).is_err());
}

#[test]
fn an_idle_periodic_log_syncs_by_the_clock_and_reports_its_failure() {
    let Node { control, clock, mut log, .. } = start(SyncMode::Periodic { every: EVERY });
    let position = log.append_entry(1, 1, 1, &[b"written"]).expect("there is room");
    block_on(log.synced(position)).expect("the disk works");
    control.fail_nth(OperationKind::Sync, 1);
    clock.advance(EVERY);
    // Nothing was submitted: only the clock can end this wait.
    let failed = block_on(log.completed());
    assert!(matches!(failed, Err(LogError::Disk { .. })), "{failed:?}");
}

#[test]
fn closing_writes_out_what_was_appended() {
    for has_thread in [false, true] {
        let Node { disk, control, log, task, .. } = start(SyncMode::Group);
        let mut log = if has_thread {
            log
        } else {
            drop(log);
            block_on(task.finished()).expect("the thread ends with its log");
            CommitLog::open(&disk, Path::new(DIRECTORY), options(SyncMode::Group))
                .expect("the log opens")
                .0
        };
        log.append_entry(1, 1, 1, &[b"last"]).expect("there is room");
        block_on(log.close()).expect("the disk works");
        control.restart(Survival::SyncedOnly);
        assert_eq!(replay(&disk, SyncMode::Group), [1]);
    }
}
