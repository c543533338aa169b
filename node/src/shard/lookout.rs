//! What a shard looks at beside requests, without waiting for its disk, which may be what is wrong:
//! connections that stall, clients that wait too long, leadership, members that get nothing, and the log's
//! own writes.

use super::Shard;
use cluster::liveness::MonotonicNanos;
use std::rc::Rc;
use std::time::Duration;
use storage::commitlog::LogPosition;

/// How often a shard looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often it looks at all connections and all groups, in intervals.
const WIDE_INTERVALS: u64 = 10;
/// How often it may find the log's disk at one and the same job before the node counts as one that
/// cannot write. Looks and not time: a process that was stopped meanwhile has not waited for its disk.
const JOB_LOOKS_MAX: u32 = 200;
const JOB_TIME_MAX: Duration = INTERVAL.saturating_mul(JOB_LOOKS_MAX);

/// How far the log was when its disk last got on.
#[derive(Debug, Default)]
struct Progress {
    durable: LogPosition,
    /// How often it has not got on since.
    looks: u32,
}

impl Shard {
    /// Looks until the node stops.
    pub(super) async fn run_lookout(self: Rc<Self>) {
        let mut turn: u64 = 0;
        let mut progress = Progress::default();
        let mut standing_count = 0;
        loop {
            self.shared.env.clock.beat(INTERVAL).await;
            turn += 1;
            if turn.is_multiple_of(WIDE_INTERVALS) {
                self.look_wide();
                self.look_after_followers(&mut standing_count);
            }
            self.end_late_writes();
            self.adopt_board(MonotonicNanos(self.monotonic_nanos()));
            if self.index == 0 {
                self.tell_of_lives();
            }
            self.look_at_log(&mut progress);
        }
    }

    fn look_wide(self: &Rc<Self>) {
        let seconds = self.monotonic_seconds();
        for session in self.sessions.borrow().values() {
            session.check_stalled(seconds);
        }
        self.send_leaders_home();
        self.begin_departures();
        let now = MonotonicNanos(self.monotonic_nanos());
        let state = &mut *self.state.borrow_mut();
        state.closing.second_passed(now);
        state.tail.forget(now);
    }

    /// A log whose disk does not answer cannot be written, and can again when it does.
    fn look_at_log(&self, progress: &mut Progress) {
        let (is_job_out, durable) = {
            let log = &self.state.borrow().log.log;
            (log.is_job_out(), log.durable())
        };
        let failure = &self.shared.write_failure;
        if !is_job_out || durable != progress.durable {
            if progress.looks >= JOB_LOOKS_MAX {
                tracing::info!("the log of shard {} is written again", self.index);
                failure.end_stall(self.index);
            }
            *progress = Progress { durable, looks: 0 };
            return;
        }
        progress.looks = progress.looks.saturating_add(1);
        if progress.looks == JOB_LOOKS_MAX {
            tracing::error!(
                "the disk of shard {}'s log has not answered for {JOB_TIME_MAX:?}",
                self.index
            );
            failure.begin_stall(self.index, JOB_TIME_MAX);
        }
    }
}
