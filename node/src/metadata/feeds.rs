//! Changefeeds in the metadata: what each is, whether it runs, whose it is, how far it has come.
//!
//! A feed that runs has an *owner*, the node that delivers it, under an *epoch* that rises with every
//! change of owner and every statement about the feed. What an owner says of a feed's progress counts
//! only under the epoch that the feed has when the command is applied: that is the fence. A node that
//! was taken for dead and goes on for a while can repeat messages, but never move the position of
//! whoever came after it.
//!
//! A feed *pins* the log that it has not delivered ([`FeedRecord::pinned_at_micros`]): rows that have
//! ended by their TTL since then are kept for it on every node (`feeds::retention`).
//!
//! Progress is the one command that comes by itself, several times a second. It leaves
//! [`Metadata::index`] as it is, so that no view is made for it: whoever wants the newest progress
//! asks shard 0.

use super::Metadata;
use changefeed::scan::Scanned;
use changefeed::sink::Reached;
use changefeed::{Cursor, Definition};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a feed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FeedState {
    /// It is delivered, or will be as soon as a node has it.
    Running,
    /// A statement stopped it. It has an owner until that one has settled what it had begun.
    Paused,
    /// Its owner gave up; [`FeedRecord::last_error`] says why.
    Error,
    /// There is nothing left to do: it was to scan its tables and nothing else, or its table was
    /// dropped and all of it is delivered.
    Finished,
}

impl FeedState {
    /// As SHOW CHANGEFEEDS says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FeedState::Running => "Running",
            FeedState::Paused => "Paused",
            FeedState::Error => "Error",
            FeedState::Finished => "Finished",
        }
    }
}

/// A feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedRecord {
    pub definition: Definition,
    pub created_at_millis: i64,
    pub state: FeedState,
    /// The node that delivers it.
    pub owner: Option<u128>,
    /// Raised by every change of owner, state or definition.
    pub epoch: u64,
    /// The epoch of the statement that last said where in the log the feed begins: positions of an
    /// earlier one mean nothing any more.
    #[serde(default)]
    pub line: u64,
    pub progress: Progress,
    /// Since when, by the clock of whoever led then, in microseconds, the log behind its position is
    /// kept for it: what had not ended by its TTL before is there. Nothing: it is not kept.
    #[serde(default)]
    pub pinned_at_micros: Option<i64>,
}

/// How far a feed has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What lies behind it is delivered next.
    pub cursor: Cursor,
    /// The number of the last event that was delivered; 0 before the first.
    pub last_sequence: u64,
    /// Events since the feed was made.
    pub events_delivered: u64,
    /// Batches that were sent again, since the feed was made.
    pub retries: u64,
    /// Events that were left out by the feed's policies, since the feed was made.
    #[serde(default)]
    pub skipped: u64,
    /// Which was the last of them, and why.
    #[serde(default)]
    pub last_skipped: Option<Arc<str>>,
    /// What went wrong last, since the feed last ran well.
    pub last_error: Option<String>,
    /// Up to which log time, in microseconds, the owner has seen all there will ever be; nothing
    /// before it has.
    pub closed_micros: Option<i64>,
    /// How far the scan has come that the feed began with; nothing if it began without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned: Option<Arc<Scanned>>,
}

/// What an owner says of one of its feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedReport {
    pub name: Arc<str>,
    /// Under which it owns the feed.
    pub epoch: u64,
    /// Nothing if it has not touched the feed.
    pub progress: Option<Progress>,
    /// Whether it has stopped, and delivers nothing more under this epoch.
    pub stop: Option<FeedStop>,
}

/// Why an owner has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FeedStop {
    /// It was asked to, and has settled what it had begun.
    Settled,
    /// It cannot go on; the reason is `last_error` of its progress.
    Failed,
    /// There is nothing left to do.
    Finished,
}

/// What a node has to say of the feeds that it owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedNews {
    pub reports: Vec<FeedReport>,
    /// Feeds that it is about to deliver, which get a new epoch for that. The view that has the epoch
    /// has all progress of before, also what this node itself reported before it was started again.
    pub claims: Vec<FeedAssignment>,
    /// Feeds for which this node keeps more of their logs than they may have kept.
    #[serde(default)]
    pub overfull: Vec<FeedKept>,
    /// Its clock is off, so it lets go of its feeds, and is to be given none.
    #[serde(default)]
    pub is_unfit: bool,
}

/// What a node keeps of the logs of a feed for it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedKept {
    pub name: Arc<str>,
    pub epoch: u64,
    pub bytes: u64,
}

/// Another owner for a feed, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedAssignment {
    pub name: Arc<str>,
    /// The epoch that the feed had when this was decided; under another one it is void.
    pub epoch: u64,
    pub owner: Option<u128>,
}

/// The log is not kept any longer for a feed that has been behind for too long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedRelease {
    pub name: Arc<str>,
    /// The epoch that the feed had when this was decided; under another one it is void.
    pub epoch: u64,
    /// For the user: what is lost by it.
    pub reason: String,
}

impl FeedRecord {
    /// Whether it needs the logs of its tables.
    pub(crate) fn needs_logs(&self) -> bool {
        self.state != FeedState::Finished
    }

    /// Whether it has yet to send rows of the scan that it began with.
    pub(crate) fn is_scanning(&self) -> bool {
        self.progress.scanned.as_ref().is_some_and(|scanned| !scanned.is_complete)
    }

    /// Whether a node is to deliver it.
    pub(crate) fn runs_on(&self, host_id: u128) -> bool {
        self.state == FeedState::Running && self.owner == Some(host_id)
    }
}

impl Progress {
    /// A destination may know that the feed has come further than is saved, with its position, with its
    /// scan, or with both.
    pub(crate) fn advance_to(&mut self, reached: Reached) {
        self.cursor = self.cursor.or_further(reached.position);
        let Some(scanned) = reached.scanned else { return };
        let is_news = self.scanned.as_ref().is_none_or(|own| own.further(&scanned) != &**own);
        if is_news {
            self.scanned = Some(scanned);
        }
    }
}

impl Metadata {
    /// Feeds that are new or another, and feeds that are no more.
    pub(super) fn change_feeds(&mut self, put: Vec<FeedRecord>, remove: &[Arc<str>]) {
        for name in remove {
            self.feeds.remove(name);
        }
        self.feeds.extend(put.into_iter().map(|feed| (feed.definition.name.clone(), feed)));
    }

    pub(super) fn assign_feeds(&mut self, assignments: Vec<FeedAssignment>) {
        for assignment in assignments {
            let Some(feed) = self.feeds.get_mut(&assignment.name) else { continue };
            if feed.epoch == assignment.epoch {
                feed.owner = assignment.owner;
                feed.epoch += 1;
            }
        }
    }

    /// Feeds are in error, and pin nothing from here on.
    pub(super) fn release_feeds(&mut self, releases: Vec<FeedRelease>) {
        for release in releases {
            let Some(feed) = self.feeds.get_mut(&release.name) else { continue };
            if feed.epoch == release.epoch {
                feed.state = FeedState::Error;
                feed.progress.last_error = Some(release.reason);
                (feed.owner, feed.pinned_at_micros) = (None, None);
                feed.epoch += 1;
            }
        }
    }

    pub(super) fn note_progress(&mut self, node: u128, reports: Vec<FeedReport>) {
        for report in reports {
            let Some(feed) = self.feeds.get_mut(&report.name) else { continue };
            if feed.epoch != report.epoch || feed.owner != Some(node) {
                continue;
            }
            feed.progress = report.progress.unwrap_or_else(|| feed.progress.clone());
            let Some(stop) = report.stop else { continue };
            feed.owner = None;
            match stop {
                FeedStop::Failed if feed.state == FeedState::Running => {
                    feed.state = FeedState::Error;
                }
                // Also if it was paused a moment ago: there is nothing to resume.
                FeedStop::Finished => {
                    feed.state = FeedState::Finished;
                    feed.pinned_at_micros = None;
                }
                FeedStop::Failed | FeedStop::Settled => {}
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metadata::Command;
    use changefeed::options::{Given, Options, SinkAddress, SinkKind};

    /// A feed on the table `t` of `ks` that a node has under epoch 1.
    pub(crate) fn feed(name: &str, owner: Option<u128>) -> FeedRecord {
        FeedRecord {
            definition: Definition {
                name: name.into(),
                keyspace: "ks".into(),
                tables: Vec::new(),
                sink: SinkAddress::parse(SinkKind::Webhook, "http://127.0.0.1:1/x").unwrap(),
                given: Given::new(),
                options: Options::default(),
            },
            created_at_millis: 5,
            state: FeedState::Running,
            owner,
            epoch: 1,
            line: 1,
            progress: progress(0),
            pinned_at_micros: Some(5_000),
        }
    }

    fn progress(events: u64) -> Progress {
        Progress {
            cursor: Cursor::Time(i64::try_from(events).unwrap()),
            last_sequence: events,
            events_delivered: events,
            retries: 0,
            skipped: 0,
            last_skipped: None,
            last_error: None,
            closed_micros: None,
            scanned: None,
        }
    }

    /// What an owner says.
    pub(crate) fn test_news() -> FeedNews {
        let claim = FeedAssignment { name: "g".into(), epoch: 3, owner: Some(7) };
        let overfull = vec![FeedKept { name: "h".into(), epoch: 4, bytes: 1 << 40 }];
        FeedNews {
            reports: vec![report(1, 2, Some(FeedStop::Settled))],
            claims: vec![claim],
            overfull,
            is_unfit: true,
        }
    }

    fn report(epoch: u64, events: u64, stop: Option<FeedStop>) -> FeedReport {
        FeedReport { name: "f".into(), epoch, progress: Some(progress(events)), stop }
    }

    /// Applies commands to metadata with the feed `f` of node 1, as they go through the log.
    fn apply(commands: Vec<Command>) -> Metadata {
        let mut metadata = Metadata::default();
        let put = Command::ChangeFeeds { put: vec![feed("f", Some(1))], remove: Vec::new() };
        for (index, command) in (1..).zip(std::iter::once(put).chain(commands)) {
            metadata.apply(index, Command::from_bytes(&command.to_bytes()).unwrap());
        }
        metadata
    }

    fn assign(epoch: u64, owner: Option<u128>) -> Command {
        let assignment = FeedAssignment { name: "f".into(), epoch, owner };
        Command::AssignFeeds { assignments: vec![assignment] }
    }

    fn progress_of(node: u128, reports: Vec<FeedReport>) -> Command {
        Command::FeedProgress { node, feeds: reports }
    }

    #[test]
    fn progress_counts_for_the_owner_under_its_epoch_alone() {
        let metadata = apply(vec![
            progress_of(1, vec![report(1, 10, None)]),
            progress_of(2, vec![report(1, 11, None)]),
            assign(1, Some(2)),
            progress_of(1, vec![report(1, 12, None)]),
            progress_of(1, vec![report(2, 13, None)]),
            progress_of(2, vec![report(1, 14, None)]),
        ]);
        let feed = &metadata.feeds["f"];
        assert_eq!((feed.progress.events_delivered, feed.owner, feed.epoch), (10, Some(2), 2));
        let metadata = apply(vec![assign(1, Some(2)), progress_of(2, vec![report(2, 15, None)])]);
        assert_eq!(metadata.feeds["f"].progress, progress(15));
    }

    #[test]
    fn a_feed_has_come_as_far_as_its_destination_knows() {
        let position = |micros| changefeed::sequence::position_at(micros, 7);
        let scanned = |rows, is_complete| Some(Arc::new(Scanned { to: None, rows, is_complete }));
        let saved = Progress { scanned: scanned(1, false), ..progress(50) };
        let after = |at, scanned| {
            let mut progress = saved.clone();
            progress.advance_to(Reached { position: position(at), scanned });
            (progress.cursor, progress.scanned)
        };
        let (behind, done) = (scanned(1, false), scanned(9, true));
        assert_eq!(after(49, behind.clone()), (Cursor::Time(50), behind.clone()));
        assert_eq!(after(51, behind.clone()), (Cursor::Row(position(51)), behind));
        assert_eq!(after(50, done.clone()), (Cursor::Time(50), done.clone()));
        assert_eq!(after(51, None).1, saved.scanned);
        assert_eq!(after(51, done.clone()), (Cursor::Row(position(51)), done));
    }

    #[test]
    fn progress_makes_no_new_index() {
        let index = apply(Vec::new()).index;
        assert_eq!(apply(vec![progress_of(1, vec![report(1, 1, None)])]).index, index);
        assert_eq!(apply(vec![assign(1, None)]).index, index + 1);
    }

    #[test]
    fn an_assignment_is_void_under_another_epoch() {
        let metadata = apply(vec![assign(1, Some(2)), assign(1, Some(3)), assign(2, None)]);
        assert_eq!((metadata.feeds["f"].owner, metadata.feeds["f"].epoch), (None, 3));
    }

    #[test]
    fn an_owner_that_stops_lets_go() {
        let failed = apply(vec![progress_of(1, vec![report(1, 1, Some(FeedStop::Failed))])]);
        assert_eq!((failed.feeds["f"].state, failed.feeds["f"].owner), (FeedState::Error, None));
        let paused = FeedRecord { state: FeedState::Paused, ..feed("f", Some(1)) };
        let pause = Command::ChangeFeeds { put: vec![paused], remove: Vec::new() };
        for stop in [FeedStop::Settled, FeedStop::Failed] {
            let report = report(1, 1, Some(stop));
            let stopped = apply(vec![pause.clone(), progress_of(1, vec![report])]);
            let feed = &stopped.feeds["f"];
            assert_eq!((feed.state, feed.owner), (FeedState::Paused, None));
        }
    }

    #[test]
    fn a_feed_that_pins_nothing_any_more_is_in_error() {
        let release = |epoch| Command::ReleaseFeeds {
            releases: vec![FeedRelease { name: "f".into(), epoch, reason: "lost".to_owned() }],
        };
        let metadata = apply(vec![progress_of(1, vec![report(1, 3, None)]), release(1)]);
        let feed = &metadata.feeds["f"];
        assert_eq!((feed.state, feed.owner, feed.epoch), (FeedState::Error, None, 2));
        assert_eq!(feed.pinned_at_micros, None);
        let expected = Progress { last_error: Some("lost".to_owned()), ..progress(3) };
        assert_eq!(feed.progress, expected, "its position is kept");
        assert_eq!(apply(vec![release(2)]).feeds["f"], super::tests::feed("f", Some(1)));
    }

    #[test]
    fn what_is_said_of_a_feed_that_is_gone_is_void() {
        let remove = Command::ChangeFeeds { put: Vec::new(), remove: vec!["f".into()] };
        let metadata = apply(vec![
            remove,
            assign(1, Some(1)),
            progress_of(1, vec![report(1, 1, Some(FeedStop::Failed))]),
        ]);
        assert!(metadata.feeds.is_empty());
    }

    /// What is on disks and in logs stays readable.
    #[test]
    fn the_json_of_feeds_does_not_change_unnoticed() {
        let text = serde_json::to_string(&progress_of(1, vec![report(1, 2, None)])).unwrap();
        let expected = r#"{"FeedProgress":{"node":1,"feeds":[{"name":"f","epoch":1,"progress":{"cursor":{"Time":2},"last_sequence":2,"events_delivered":2,"retries":0,"skipped":0,"last_skipped":null,"last_error":null,"closed_micros":null},"stop":null}]}}"#;
        assert_eq!(text, expected);
        let text = serde_json::to_string(&assign(4, None)).unwrap();
        let expected = r#"{"AssignFeeds":{"assignments":[{"name":"f","epoch":4,"owner":null}]}}"#;
        assert_eq!(text, expected);
        let record = serde_json::to_value(feed("f", Some(1))).unwrap();
        let fields: Vec<&String> = record.as_object().unwrap().keys().collect();
        let expected = [
            "created_at_millis",
            "definition",
            "epoch",
            "line",
            "owner",
            "pinned_at_micros",
            "progress",
            "state",
        ];
        assert_eq!(fields, expected);
    }
}
