//! The thread that delivers the feeds of this node: it starts and ends their pumps after the newest
//! view.
//!
//! A feed that comes to this node is *claimed* first: it gets a new epoch, and the view that has that
//! epoch has its position as well, also if it was this node that last reported it, in an earlier life.
//!
//! A pump ends gently when its feed is paused (it settles what it has begun) and at once when the feed
//! is another node's, or gone. One that ends for want of support starts again where it stood. A node whose
//! wall clock is off lets go of all its feeds.

use super::ownership::may_send;
use super::pump::Pumps;
use super::reports::Reports;
use crate::metadata::{FeedRecord, FeedState, FeedStop, Progress};
use crate::node::Shared;
use changefeed::Cursor;
use changefeed::pump::{End, Host, Status, Stop};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

/// How often it is looked for feeds whose pumps have to be started again.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a node that goes down waits for its pumps.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// A position that is so far behind the closed time is given up for it: all between was seen.
const POSITION_AGE_MICROS_MAX: i64 = 10_000_000;

/// Delivers the feeds of this node until it is told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: oneshot::Receiver<()>) {
    tokio::select! {
        () = shared.wait_for_view() => {}
        _ = &mut stop => return,
    }
    let reports = Rc::new(Reports::new(shared.clone()));
    let reporting = tokio::task::spawn_local(reports.clone().run());
    let mut runner = Runner {
        pumps_of_feeds: Pumps::new(shared.clone()),
        shared,
        reports,
        running: BTreeMap::new(),
        pumps: JoinSet::new(),
    };
    loop {
        runner.follow_view();
        tokio::select! {
            _ = &mut stop => break,
            () = runner.shared.feeds.changed.notified() => {}
            Some(Ok((name, epoch, end))) = runner.pumps.join_next() => {
                runner.ended(&name, epoch, end);
            }
            () = runner.shared.env.clock.beat(LOOK_INTERVAL) => {}
        }
    }
    reporting.abort();
    tokio::time::timeout(STOP_TIME_MAX, runner.settle_all()).await.ok();
}

struct Runner {
    shared: Arc<Shared>,
    reports: Rc<Reports>,
    pumps_of_feeds: Pumps,
    /// The feeds whose pumps run.
    running: BTreeMap<Arc<str>, Running>,
    pumps: JoinSet<(Arc<str>, u64, End)>,
}

struct Running {
    epoch: u64,
    stop: Stop,
    task: AbortHandle,
}

impl Runner {
    /// Starts and ends pumps after the newest view.
    fn follow_view(&mut self) {
        let view = self.shared.views().newest();
        let feeds = &view.metadata.feeds;
        let us = Some(self.shared.host_id.0);
        let is_off = self.is_off();
        let ours = |name: &str, epoch: u64| {
            feeds.get(name).filter(|feed| feed.owner == us && feed.epoch == epoch)
        };
        self.running.retain(|name, running| {
            let Some(feed) = ours(name, running.epoch) else {
                running.task.abort();
                return false;
            };
            if feed.state != FeedState::Running || is_off {
                running.stop.request();
            }
            true
        });
        self.reports.retain(|name, epoch| ours(name, epoch).is_some());
        for feed in feeds.values().filter(|feed| feed.owner == us) {
            self.follow(feed);
        }
    }

    /// Does what a feed of this node asks for.
    fn follow(&mut self, feed: &FeedRecord) {
        let (name, epoch) = (&feed.definition.name, feed.epoch);
        if self.running.contains_key(name) || self.reports.has_stopped(name, epoch) {
            return;
        }
        if feed.state != FeedState::Running || self.is_off() {
            // There is nothing to settle.
            self.reports.stopped(name, epoch, &feed.progress, FeedStop::Settled);
        } else if may_send(&self.shared) && self.reports.claim(name, epoch) {
            self.start(feed.clone());
        }
    }

    /// Whether this node's clock is known to be off.
    fn is_off(&self) -> bool {
        self.shared.wall_clock.ahead_micros().is_some()
    }

    fn start(&mut self, mut feed: FeedRecord) {
        let (name, epoch) = (feed.definition.name.clone(), feed.epoch);
        feed.progress = self.reports.begin(&name, epoch, &feed.progress);
        let stop = Stop::default();
        let owner = Owner {
            shared: self.shared.clone(),
            reports: self.reports.clone(),
            name: name.clone(),
            epoch,
            base: feed.progress.clone(),
            latest: RefCell::new(feed.progress.clone()),
        };
        tracing::info!("changefeed '{name}' is delivered from here (epoch {epoch})");
        let pumping = self.pumps_of_feeds.run(feed, owner, stop.clone());
        let of_task = name.clone();
        let task = self.pumps.spawn_local(async move { (of_task, epoch, pumping.await) });
        self.running.insert(name, Running { epoch, stop, task });
    }

    /// A pump has ended.
    fn ended(&mut self, name: &Arc<str>, epoch: u64, end: End) {
        let Some(running) = self.running.remove(name) else { return };
        if running.epoch != epoch {
            // What has ended was another life of the feed.
            self.running.insert(name.clone(), running);
            return;
        }
        let reason = match end {
            End::Stopped => return self.reports.settled(name, epoch, FeedStop::Settled, None),
            End::Finished => return self.reports.settled(name, epoch, FeedStop::Finished, None),
            // It starts again when there is support, if it is still this node's then.
            End::Lost => return,
            End::Failed(reason) => reason,
            End::SourceEnded(error) => error.to_string(),
        };
        tracing::warn!("changefeed '{name}' stops: {reason}");
        self.reports.settled(name, epoch, FeedStop::Failed, Some(reason));
    }

    /// Ends all pumps gently, and says how far they have come.
    async fn settle_all(mut self) {
        for running in self.running.values() {
            running.stop.request();
        }
        while self.pumps.join_next().await.is_some() {}
        self.reports.send().await;
    }
}

/// The node as one pump sees it.
pub(super) struct Owner {
    shared: Arc<Shared>,
    reports: Rc<Reports>,
    name: Arc<str>,
    epoch: u64,
    /// Where the pump began.
    base: Progress,
    latest: RefCell<Progress>,
}

impl Owner {
    /// The pump begins further on than was saved.
    pub(super) fn begin_from(&mut self, progress: &Progress) {
        self.base = progress.clone();
    }
}

impl Host for Owner {
    fn may_send(&self) -> bool {
        may_send(&self.shared)
    }

    fn report(&self, status: &Status) {
        let mut latest = self.latest.borrow_mut();
        let before = std::mem::replace(&mut *latest, progress_of(&self.base, status));
        if latest.skipped > before.skipped {
            let count = latest.skipped - before.skipped;
            let what = latest.last_skipped.as_deref().unwrap_or_default();
            tracing::warn!("changefeed '{}' leaves out {count} event(s): {what}", self.name);
        }
        self.reports.note(&self.name, self.epoch, latest.clone());
    }
}

/// How a feed stands whose pump began with `base`.
fn progress_of(base: &Progress, status: &Status) -> Progress {
    // A reader begins before its place, to count what lies there: what is closed below that place says
    // nothing.
    let closed = status.resolved.map(|resolved| resolved.closed);
    let closed = closed.filter(|closed| *closed >= base.cursor.lies_up_to());
    let stands = status.position.map_or(base.cursor, Cursor::Row);
    let cursor = match (stands, closed) {
        (Cursor::Row(position), Some(closed))
            if closed.saturating_sub(position.key.micros()) <= POSITION_AGE_MICROS_MAX =>
        {
            stands
        }
        (_, Some(closed)) => Cursor::Time(closed),
        (_, None) => stands,
    };
    let sequence = status.position.map_or(0, |position| position.sequence);
    Progress {
        cursor,
        last_sequence: base.last_sequence.max(sequence),
        events_delivered: base.events_delivered + status.events_delivered,
        retries: base.retries + status.retries,
        skipped: base.skipped + status.skipped.event_count,
        last_skipped: status.skipped.last.clone().or_else(|| base.last_skipped.clone()),
        last_error: status.last_error.clone(),
        closed_micros: closed.or(base.closed_micros),
        scanned: status.scanned.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::test_feed;
    use changefeed::Position;
    use changefeed::pump::Resolved;
    use changefeed::sequence::position_at;

    /// 2026-01-01, in microseconds and as a number.
    const NOW: i64 = 1_767_225_600_000_000;
    const SEQUENCE: u64 = (1_767_225_600_000 - 1_577_836_800_000) << 12;

    fn cursor_after(begun: Cursor, position: Option<Position>, closed: i64) -> Progress {
        let base = Progress { cursor: begun, ..test_feed("f", None).progress };
        let resolved = Some(Resolved { closed, sequence: 0 });
        progress_of(&base, &Status { position, resolved, ..Status::default() })
    }

    #[test]
    fn time_that_passes_without_changes_moves_a_feed_wherever_it_began() {
        let row = position_at(NOW, SEQUENCE);
        for (begun, near) in [
            (Cursor::Time(NOW), Cursor::Time(NOW + 1_000)),
            (Cursor::Row(row), Cursor::Row(row)),
            (Cursor::Sequence(SEQUENCE), Cursor::Time(NOW + 1_000)),
        ] {
            let told = |closed| cursor_after(begun, None, closed);
            // A reader begins before its place.
            assert_eq!((told(NOW - 1).cursor, told(NOW - 1).closed_micros), (begun, None));
            assert_eq!(told(NOW + 1_000).cursor, near);
            assert_eq!(told(NOW + 1_000).closed_micros, Some(NOW + 1_000));
            let far = NOW + POSITION_AGE_MICROS_MAX + 1;
            assert_eq!(told(far).cursor, Cursor::Time(far), "{begun:?}");
        }
        let next = position_at(NOW + 500, SEQUENCE + 1);
        let moved = cursor_after(Cursor::Sequence(SEQUENCE), Some(next), NOW + 1_000);
        assert_eq!((moved.cursor, moved.last_sequence), (Cursor::Row(next), SEQUENCE + 1));
    }
}
