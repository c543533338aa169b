//! What this node says to the leader of the metadata about the feeds that it delivers.
//!
//! Pumps say often and at once how they stand, here and in [`Figures`]. What is news of it goes to the
//! leader with what is news of all other feeds, at most four times a second, and so do claims. What
//! was not answered is sent again, until the feed has another epoch: reports name absolute figures,
//! and an epoch is theirs or void, so twice is as good as once.

use super::Figures;
use crate::metadata::{FeedAssignment, FeedNews, FeedReport, FeedStop, MetadataRequest, Progress};
use crate::node::Shared;
use crate::shard::Message;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often reports are sent at most.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is told that time has passed in a log without changes.
const CLOSED_INTERVAL_MICROS: i64 = 10_000_000;

/// The feeds of this node as their pumps have them.
pub(super) struct Reports {
    shared: Arc<Shared>,
    feeds: RefCell<BTreeMap<Arc<str>, Said>>,
    /// Epochs that were asked for and not answered, with the epochs that were claimed.
    claims: RefCell<BTreeMap<Arc<str>, Claim>>,
    /// Told when something should be said soon.
    news: Notify,
}

/// What was said of a feed, under one epoch.
struct Said {
    epoch: u64,
    progress: Progress,
    /// Whether anything was delivered under this epoch.
    is_touched: bool,
    /// What the leader knows.
    reported: Option<Progress>,
    /// It was stopped; whether the leader knows.
    stop: Option<(FeedStop, bool)>,
}

#[derive(Clone, Copy)]
struct Claim {
    /// The epoch that the feed had.
    epoch: u64,
    /// The leader has given the next one.
    is_granted: bool,
}

impl Reports {
    pub(super) fn new(shared: Arc<Shared>) -> Reports {
        Reports {
            shared,
            feeds: RefCell::default(),
            claims: RefCell::default(),
            news: Notify::new(),
        }
    }

    /// Whether this node has claimed a feed and got that epoch for it; claims it if not.
    pub(super) fn claim(&self, name: &Arc<str>, epoch: u64) -> bool {
        let mut claims = self.claims.borrow_mut();
        let known = claims.get(name).copied();
        match known {
            Some(claim) if claim.epoch + 1 == epoch => claim.is_granted,
            Some(claim) if claim.epoch == epoch => false,
            _ => {
                claims.insert(name.clone(), Claim { epoch, is_granted: false });
                self.news.notify_one();
                false
            }
        }
    }

    /// A pump begins under an epoch, from that progress; from what it said last if it began before.
    pub(super) fn begin(&self, name: &Arc<str>, epoch: u64, progress: &Progress) -> Progress {
        let mut feeds = self.feeds.borrow_mut();
        let known = feeds.get(name).filter(|said| said.epoch == epoch);
        let progress = known.map_or(progress, |said| &said.progress).clone();
        feeds.entry(name.clone()).or_insert_with(|| Said::new(epoch, &progress));
        drop(feeds);
        self.show(name, epoch, &progress);
        progress
    }

    /// How a feed stands now.
    pub(super) fn note(&self, name: &Arc<str>, epoch: u64, progress: Progress) {
        self.show(name, epoch, &progress);
        let mut feeds = self.feeds.borrow_mut();
        let Some(said) = feeds.get_mut(name).filter(|said| said.epoch == epoch) else { return };
        let is_first = said.progress.closed_micros.is_none() && progress.closed_micros.is_some();
        let is_failure = progress.last_error.is_some() && said.progress.last_error.is_none();
        said.progress = progress;
        said.is_touched = true;
        if is_first || is_failure {
            self.news.notify_one();
        }
    }

    /// A feed is not delivered any more under that epoch.
    pub(super) fn stopped(&self, name: &Arc<str>, epoch: u64, progress: &Progress, stop: FeedStop) {
        let mut feeds = self.feeds.borrow_mut();
        let said = feeds.entry(name.clone()).or_insert_with(|| Said::new(epoch, progress));
        if said.epoch == epoch && said.stop.is_none() {
            said.stop = Some((stop, false));
            self.news.notify_one();
        }
    }

    /// A pump has ended for good under its epoch, perhaps for a reason that stays.
    pub(super) fn settled(
        &self,
        name: &Arc<str>,
        epoch: u64,
        stop: FeedStop,
        reason: Option<String>,
    ) {
        let mut feeds = self.feeds.borrow_mut();
        let Some(said) = feeds.get_mut(name).filter(|said| said.epoch == epoch) else { return };
        if reason.is_some() {
            said.progress.last_error = reason;
            said.is_touched = true;
        }
        let progress = said.progress.clone();
        drop(feeds);
        self.show(name, epoch, &progress);
        self.stopped(name, epoch, &progress, stop);
    }

    /// Whether a feed was stopped under that epoch.
    pub(super) fn has_stopped(&self, name: &str, epoch: u64) -> bool {
        let feeds = self.feeds.borrow();
        feeds.get(name).is_some_and(|said| said.epoch == epoch && said.stop.is_some())
    }

    /// Forgets feeds that are not this node's any more, under the epoch that is known of them.
    pub(super) fn retain(&self, is_ours: impl Fn(&str, u64) -> bool) {
        self.feeds.borrow_mut().retain(|name, said| is_ours(name, said.epoch));
        let mut figures = self.shared.feeds.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.retain(|name, figures| is_ours(name, figures.epoch));
        drop(figures);
        // The view that has the new epoch may be there before the answer is.
        self.claims
            .borrow_mut()
            .retain(|name, claim| is_ours(name, claim.epoch) || is_ours(name, claim.epoch + 1));
    }

    fn show(&self, name: &Arc<str>, epoch: u64, progress: &Progress) {
        let figures = Figures { epoch, progress: progress.clone() };
        let mut all = self.shared.feeds.figures.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), figures);
    }

    /// Sends what is news, for as long as the node runs.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = self.shared.env.clock.beat(REPORT_INTERVAL) => {}
            }
            self.send().await;
        }
    }

    /// Sends what is news once, and waits for the answer.
    pub(super) async fn send(&self) {
        let news = self.gather();
        if news.reports.is_empty() && news.claims.is_empty() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let node = self.shared.host_id.0;
        let request = MetadataRequest::Feeds { node, news: Box::new(news.clone()) };
        let message = Message::Ddl(Box::new(request), reply);
        if self.shared.shards[0].try_send(message).is_err() {
            return;
        }
        match answer.await {
            Ok(Ok(_)) => self.answered(news),
            Ok(Err(error)) => {
                tracing::debug!("what changefeeds have done is not saved yet: {error}");
                self.shared.env.clock.sleep(REPORT_INTERVAL).await;
            }
            // The node goes down.
            Err(_) => {}
        }
    }

    fn gather(&self) -> FeedNews {
        let mut reports = Vec::new();
        let view = self.shared.views().newest();
        let ends: Vec<i64> =
            view.metadata.retired.iter().filter_map(|table| table.ends_at_micros).collect();
        for (name, said) in self.feeds.borrow().iter() {
            let stop = said.stop.as_ref().filter(|(_, is_known)| !is_known);
            if stop.is_some() || said.is_news(&ends) {
                reports.push(FeedReport {
                    name: name.clone(),
                    epoch: said.epoch,
                    progress: said.is_touched.then(|| said.progress.clone()),
                    stop: stop.map(|(stop, _)| stop.clone()),
                });
            }
        }
        let claims = self.claims.borrow();
        let open = claims.iter().filter(|(_, claim)| !claim.is_granted);
        let claims = open.map(|(name, claim)| FeedAssignment {
            name: name.clone(),
            epoch: claim.epoch,
            owner: Some(self.shared.host_id.0),
        });
        let is_unfit = self.shared.wall_clock.ahead_micros().is_some();
        FeedNews { reports, claims: claims.collect(), overfull: Vec::new(), is_unfit }
    }

    fn answered(&self, news: FeedNews) {
        let mut feeds = self.feeds.borrow_mut();
        for report in news.reports {
            let known = feeds.get_mut(&report.name).filter(|said| said.epoch == report.epoch);
            let Some(said) = known else { continue };
            said.reported = report.progress.or(said.reported.take());
            if let (Some((_, is_known)), Some(_)) = (&mut said.stop, report.stop) {
                *is_known = true;
            }
        }
        let mut claims = self.claims.borrow_mut();
        for claimed in news.claims {
            if let Some(claim) = claims.get_mut(&claimed.name).filter(|c| c.epoch == claimed.epoch)
            {
                claim.is_granted = true;
            }
        }
        // The view that has the new epochs may be there already.
        self.shared.feeds.changed.notify_one();
    }
}

impl Said {
    fn new(epoch: u64, progress: &Progress) -> Said {
        Said { epoch, progress: progress.clone(), is_touched: false, reported: None, stop: None }
    }

    /// Whether the leader should hear of it. That time has passed is told now and then, and when one of
    /// these times has.
    fn is_news(&self, ends: &[i64]) -> bool {
        if !self.is_touched {
            return false;
        }
        let Some(reported) = &self.reported else { return true };
        let closed = |progress: &Progress| progress.closed_micros.unwrap_or(i64::MIN);
        let (told, now) = (closed(reported), closed(&self.progress));
        let same_time = Progress {
            cursor: reported.cursor,
            closed_micros: reported.closed_micros,
            ..self.progress.clone()
        };
        same_time != *reported
            || now >= told.saturating_add(CLOSED_INTERVAL_MICROS)
            || ends.iter().any(|end| told < *end && *end <= now)
    }
}
