//! The log waits for its feeds: what a feed has not delivered is kept for it though its TTL has passed,
//! up to `retention_max_age` and `retention_max_bytes`.
//!
//! A feed *pins* the logs of its tables at its position. The positions are in the metadata, which every
//! node follows, so every node finds by itself what it may forget ([`Pins`]): of a log with feeds
//! nothing that had not ended when the one that is furthest behind stood where it stands. Feeds read by
//! the same measure (`shard/tail/older.rs`); clients by the clock.
//!
//! # Why no node forgets too much
//!
//! - A position only moves forward, so a node that lags keeps more than it need.
//! - A feed that is moved back by a statement, or made there, pins from the moment of that statement
//!   (`FeedRecord::pinned_at_micros`): what had ended before may be gone, and the feed says so when it
//!   begins (`source::expiry`), with a margin for the time until every node has heard of it.
//! - A node that has not heard yet how far the metadata have come since it was started, or that does
//!   not hear of their leader, forgets nothing of any log.
//!
//! # When it ends
//!
//! The leader of the metadata *releases* a feed that has been behind for longer than it may be, or for
//! which some node keeps more bytes than it may have kept: the feed is in error, which names what is
//! lost, and the log waits for it no more. What has not passed its TTL needs no pin and is no reason.

use super::source::expiry;
use crate::metadata::{
    Command, FeedKept, FeedNews, FeedRecord, FeedRelease, FeedState, Metadata, MetadataRequest,
    Standing,
};
use crate::shard::{Change, Message, Shard, WriteRequest};
use crate::view::View;
use cluster::GroupId;
use model::{EpochSeconds, TableId, TimestampMicros};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use storage::Engine;
use tokio::sync::oneshot;

/// What had ended so long before a feed's position is of no use to it: rows are placed up to five
/// seconds ahead of the clock by which they end, and a feed counts from a second before its place.
pub(crate) const KEPT_BEFORE_SECONDS: i64 = 10;

/// So far may the position of a feed that runs be behind what it has seen: where nothing is written it
/// is told now and then only.
const POSITION_LAG_MS_MAX: u64 = 30_000;

/// What feeds pin, as this node knows it.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Nothing while it is not known.
    known: Mutex<Option<Arc<KnownPins>>>,
    /// What each shard keeps of files in which all has ended, by feed and epoch.
    kept: Mutex<BTreeMap<u16, BTreeMap<FeedAtEpoch, u64>>>,
}

type FeedAtEpoch = (Arc<str>, u64);

/// What feeds pin.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownPins {
    /// By log table.
    kept_since: BTreeMap<TableId, EpochSeconds>,
    feeds: Vec<PinOfFeed>,
}

#[derive(Debug, PartialEq, Eq)]
struct PinOfFeed {
    name: Arc<str>,
    epoch: u64,
    logs: Vec<TableId>,
    /// It needs what lies above.
    above: TimestampMicros,
    bytes_max: Option<u64>,
}

impl KnownPins {
    fn of(metadata: &Metadata) -> KnownPins {
        let mut pins = KnownPins::default();
        for feed in metadata.feeds.values().filter(|feed| feed.pinned_at_micros.is_some()) {
            let above = feed.progress.cursor.needs_above();
            let tables = feed.definition.tables.iter();
            let log_of = |id: TableId| {
                let retired = || metadata.retired_table(id).map(|retired| &retired.base);
                metadata.schema.table_by_id(id).or_else(retired)?.cdc_log
            };
            let logs: Vec<TableId> = tables.filter_map(|table| log_of(table.id)).collect();
            for log in &logs {
                let since = pins.kept_since.entry(*log).or_insert(EpochSeconds::MAX);
                *since = (*since).min(read_at(above));
            }
            pins.feeds.push(PinOfFeed {
                name: feed.definition.name.clone(),
                epoch: feed.epoch,
                logs,
                above,
                bytes_max: feed.definition.options.retention_bytes_max,
            });
        }
        pins
    }

    /// What ended before may be forgotten of a log.
    fn kept_since(&self, log: TableId) -> EpochSeconds {
        self.kept_since.get(&log).copied().unwrap_or(EpochSeconds::MAX)
    }
}

/// By which time in seconds a feed that stands at a time in microseconds sees its log: what had not
/// ended by then is there.
pub(crate) fn read_at(above: TimestampMicros) -> EpochSeconds {
    above.div_euclid(1_000_000) - KEPT_BEFORE_SECONDS
}

impl Pins {
    /// Keeps for feeds what they need of the logs on a shard, and notes how much that is.
    pub(crate) fn keep(&self, shard: u16, view: &View, now: EpochSeconds, engine: &mut Engine) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_log = |id: &TableId| view.table(*id).is_some_and(|table| table.is_cdc_log());
        let logs: Vec<TableId> = engine.table_ids().filter(is_log).collect();
        for log in logs {
            let since = known.as_ref().map_or(EpochSeconds::MIN, |known| known.kept_since(log));
            engine.keep_ended_since(log, since);
        }
        let mut kept = BTreeMap::new();
        for feed in known.iter().flat_map(|known| &known.feeds) {
            let kept_of = |log: &TableId| {
                // A log of which no client knows is kept for feeds alone.
                let is_retired = view.metadata.is_retired_log(*log);
                let ended_by = if is_retired { EpochSeconds::MAX } else { now };
                engine.ended_bytes(*log, ended_by, feed.above)
            };
            let bytes = feed.logs.iter().map(kept_of).sum();
            kept.insert((feed.name.clone(), feed.epoch), bytes);
        }
        let mut of_shards = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        of_shards.insert(shard, kept);
    }

    /// Of each feed, what all shards together keep for it beyond what they may.
    fn overfull(&self, pins: &KnownPins) -> Vec<FeedKept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut overfull = Vec::new();
        for feed in &pins.feeds {
            let of_feed = (feed.name.clone(), feed.epoch);
            let bytes: u64 = kept.values().filter_map(|shard| shard.get(&of_feed)).sum();
            if feed.bytes_max.is_some_and(|bytes_max| bytes > bytes_max) {
                overfull.push(FeedKept { name: feed.name.clone(), epoch: feed.epoch, bytes });
            }
        }
        overfull
    }
}

impl Shard {
    /// Finds what feeds pin, for all shards of this node, and says what they keep too much of; on
    /// shard 0.
    pub(super) fn find_pins(&self) {
        let pins = &self.shared.feeds.pins;
        let is_fresh = *self.shared.standing.borrow() == Standing::CaughtUp
            && (self.leads_metadata()
                || self.metadata_leader().is_some_and(|leader| self.is_live(leader)));
        let known = is_fresh.then(|| Arc::new(self.with_metadata(KnownPins::of)));
        let overfull = known.as_ref().map(|known| pins.overfull(known)).unwrap_or_default();
        *pins.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        // By a wrong clock much has ended that has not.
        if overfull.is_empty() || self.trusted_micros().is_none() {
            return;
        }
        // What is not answered is said again.
        let (reply, _) = oneshot::channel();
        let node = self.shared.host_id.0;
        let news = FeedNews { overfull, ..FeedNews::default() };
        let request = MetadataRequest::Feeds { node, news: Box::new(news) };
        self.shared.shards[0].try_send(Message::Ddl(Box::new(request), reply)).ok();
    }

    /// Ends the pins of feeds that have been behind for too long, or of which some node keeps too much;
    /// on the leader of the metadata.
    pub(super) async fn release_feeds(self: &Rc<Self>, overfull: &[FeedKept]) {
        let Some(now) = self.trusted_micros() else { return };
        let view = self.view();
        let releases = self.with_metadata(|metadata| {
            let feeds = metadata.feeds.values();
            feeds.filter_map(|feed| release(feed, overfull, &view, now)).collect::<Vec<_>>()
        });
        if releases.is_empty() {
            return;
        }
        for release in &releases {
            tracing::warn!("changefeed '{}' stops: {}", release.name, release.reason);
        }
        let change = Change::Metadata(Command::ReleaseFeeds { releases }.to_bytes());
        if let Err(error) = self.write(WriteRequest::new(GroupId::METADATA, change)).await {
            tracing::debug!("changefeeds pin their logs still: {error}");
        }
    }
}

/// Why the log is not kept any longer for a feed, if so.
fn release(
    feed: &FeedRecord,
    overfull: &[FeedKept],
    view: &View,
    now: TimestampMicros,
) -> Option<FeedRelease> {
    let tables = || feed.definition.tables.iter().map(|table| table.id);
    let ended = expiry::ended_of(view, tables(), now);
    // What is in the log of a table that was dropped is there for feeds alone.
    let retired = tables().filter_map(|table| view.metadata.retired_table(table));
    let retired = retired.map(|table| table.ends_at_micros.map_or(now, |end| end.min(now))).max();
    let ended = Ended { to: ended.max(retired)?, is_of_dropped: retired >= ended };
    release_after(feed, overfull, ended, now)
}

/// What nobody but feeds has a use for.
#[derive(Clone, Copy)]
struct Ended {
    to: TimestampMicros,
    /// Since a table was dropped; else by the log's TTL.
    is_of_dropped: bool,
}

/// The same, where so much has ended.
fn release_after(
    feed: &FeedRecord,
    overfull: &[FeedKept],
    ended: Ended,
    now: TimestampMicros,
) -> Option<FeedRelease> {
    let (pinned_at, above) = (feed.pinned_at_micros?, feed.progress.cursor.needs_above());
    if ended.to <= above {
        return None;
    }
    let (name, epoch) = (&feed.definition.name, feed.epoch);
    let options = &feed.definition.options;
    // A feed that was moved back has that long to come to where it was moved.
    let age_ms = now.saturating_sub(above.max(pinned_at)).max(0).unsigned_abs() / 1_000;
    let is_running = feed.state == FeedState::Running;
    let age_ms = age_ms.saturating_sub(if is_running { POSITION_LAG_MS_MAX } else { 0 });
    let kept = overfull.iter().find(|kept| kept.name == *name && kept.epoch == epoch);
    let why = match (options.retention_age_ms_max, kept) {
        (Some(age_ms_max), _) if age_ms > age_ms_max => {
            format!("retention_max_age, {} s", age_ms_max / 1_000)
        }
        (_, Some(kept)) => {
            let bytes_max = options.retention_bytes_max.filter(|max| kept.bytes > *max)?;
            format!("retention_max_bytes, {bytes_max}")
        }
        _ => return None,
    };
    let kept = if ended.is_of_dropped {
        "the table was dropped, and its CDC log was kept for the feed"
    } else {
        "the CDC log was kept for the feed beyond its ttl"
    };
    let mut reason =
        expiry::lost_text((above, ended.to), &format!("are lost: {kept}, up to {why}"));
    if !ended.is_of_dropped {
        reason.push_str(expiry::HOW_TO_GO_ON);
    }
    Some(FeedRelease { name: name.clone(), epoch, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{test_feed, test_schema};
    use changefeed::{Cursor, FeedTable};

    const DAY: i64 = 86_400_000_000;

    fn feed(position: i64, pinned_at: Option<i64>) -> FeedRecord {
        let mut feed = test_feed("f", Some(1));
        feed.progress.cursor = Cursor::Time(position);
        (feed.pinned_at_micros, feed.state) = (pinned_at, FeedState::Paused);
        feed
    }

    fn reason(feed: &FeedRecord, kept: &[FeedKept], ended: i64, now: i64) -> Option<String> {
        let ended = Ended { to: ended, is_of_dropped: false };
        release_after(feed, kept, ended, now).map(|release| release.reason)
    }

    #[test]
    fn a_feed_is_released_when_it_was_behind_for_too_long_and_something_has_ended() {
        let behind = feed(DAY, Some(0));
        assert_eq!(reason(&behind, &[], 4 * DAY, 5 * DAY), None, "it is four days");
        let text = reason(&behind, &[], 4 * DAY, 5 * DAY + 1_000).expect("it is more");
        assert!(
            text.starts_with("changes from 1970-01-02T00:00:00.000000Z to 1970-01-05T"),
            "{text}"
        );
        assert!(
            text.contains("are lost") && text.contains("retention_max_age, 345600 s"),
            "{text}"
        );
        let running = FeedRecord { state: FeedState::Running, ..behind.clone() };
        assert_eq!(
            reason(&running, &[], 4 * DAY, 5 * DAY + 30_000_000),
            None,
            "it may have seen all"
        );
        assert!(reason(&running, &[], 4 * DAY, 5 * DAY + 30_001_000).is_some());
        assert_eq!(reason(&behind, &[], DAY, 9 * DAY), None, "nothing has ended");
        assert_eq!(reason(&feed(DAY, None), &[], 4 * DAY, 9 * DAY), None, "it pins nothing");
        assert_eq!(
            reason(&feed(0, Some(6 * DAY)), &[], 8 * DAY, 9 * DAY),
            None,
            "it was moved back"
        );
    }

    #[test]
    fn a_feed_is_released_when_a_node_keeps_too_much_for_it() {
        let mut behind = feed(DAY, Some(0));
        let kept = |epoch, bytes| [FeedKept { name: "f".into(), epoch, bytes }];
        assert_eq!(reason(&behind, &kept(2, 1 << 40), 2 * DAY, 3 * DAY), None, "another epoch");
        let text = reason(&behind, &kept(1, 1 << 40), 2 * DAY, 3 * DAY).expect("a TiB");
        assert!(text.contains("retention_max_bytes, 10737418240"), "{text}");
        behind.definition.options.retention_bytes_max = None;
        assert_eq!(reason(&behind, &kept(1, 1 << 40), 2 * DAY, 3 * DAY), None);
    }

    #[test]
    fn a_log_is_kept_for_the_feed_that_is_furthest_behind() {
        let schema = test_schema(&[
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
            "CREATE TABLE t (id int PRIMARY KEY) WITH cdc = {'enabled': true}",
        ]);
        let table = schema.table("k", "t").unwrap().clone();
        let log = table.cdc_log.expect("it has a log");
        let mut metadata = Metadata { schema, ..Metadata::default() };
        for (name, position, pinned_at) in
            [("a", 90_000_000, Some(1)), ("b", 60_500_000, Some(1)), ("c", 0, None)]
        {
            let mut feed = feed(position, pinned_at);
            feed.definition.name = name.into();
            feed.definition.tables = vec![FeedTable { id: table.id, name: "t".into() }];
            metadata.feeds.insert(name.into(), feed);
        }
        let pins = KnownPins::of(&metadata);
        assert_eq!(pins.kept_since(log), 60 - KEPT_BEFORE_SECONDS);
        assert_eq!(pins.kept_since(table.id), EpochSeconds::MAX, "it is no log of a feed's");
        let shared = Pins::default();
        for shard in 0..2 {
            let kept = BTreeMap::from([(("b".into(), 1), 6 << 30), (("a".into(), 1), 1)]);
            shared.kept.lock().unwrap().insert(shard, kept);
        }
        let expected = FeedKept { name: "b".into(), epoch: 1, bytes: 12 << 30 };
        assert_eq!(shared.overfull(&pins), [expected]);
    }
}
