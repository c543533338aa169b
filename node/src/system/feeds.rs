//! Changefeeds as tables: as the cluster has agreed on them, and as they stand now.
//!
//! What stands in the metadata is behind: a quarter of a second where events are delivered, ten where
//! only time passes. `system_views.changefeeds` has what the feeds' owners say when it is read.

use super::rows::{Datum, Rows};
use crate::feeds::figures_of_cluster;
use crate::metadata::{FeedRecord, FeedState};
use crate::shard::{Message, Shard};
use crate::view::View;
use changefeed::Cursor;
use changefeed::options::{InitialScan, shown};
use cql::plan::describe::DescribedFeed;
use model::TableDef;
use std::rc::Rc;
use tokio::sync::oneshot;

/// The feeds as DESCRIBE shows them.
pub(crate) fn described(view: &View) -> Vec<DescribedFeed> {
    let feeds = view.metadata.feeds.values().map(|feed| DescribedFeed {
        keyspace: feed.definition.keyspace.clone(),
        name: feed.definition.name.clone(),
        create_statement: feed.definition.create_statement(),
    });
    feeds.collect()
}

/// `system.changefeeds`
pub(super) async fn saved(shard: &Rc<Shard>, table: &TableDef) -> Vec<Vec<u8>> {
    let mut rows = Rows::new(table);
    for feed in all(shard).await {
        let definition = &feed.definition;
        let names = definition.tables.iter().map(|table| table.name.as_bytes());
        let mut values = common(&feed);
        values.extend([
            ("epoch", whole(feed.epoch)),
            ("sequence", whole(feed.progress.last_sequence)),
            ("tables", Datum::list(names)),
        ]);
        match feed.progress.cursor {
            Cursor::Row(position) => values.push(("position_time", position.key.time.into())),
            Cursor::Time(micros) => {
                let time = model::timeuuid::min_timeuuid(micros.div_euclid(1_000));
                values.push(("position_time", time.into()));
            }
            Cursor::Sequence(_) => {}
        }
        rows.add(values);
    }
    rows.finish()
}

/// `system_views.changefeeds`
pub(super) async fn live(shard: &Rc<Shard>, table: &TableDef) -> Vec<Vec<u8>> {
    let feeds = all(shard).await;
    let figures = figures_of_cluster(shard, &feeds).await;
    let now_micros = shard.shared.wall_clock.right_micros(&shard.shared.env.clock);
    let mut rows = Rows::new(table);
    for mut feed in feeds {
        let figures = figures.get(&feed.definition.name).filter(|known| known.epoch == feed.epoch);
        if let Some(figures) = figures {
            feed.progress = figures.progress.clone();
        }
        let mut values = common(&feed);
        values.extend([
            ("last_sequence", whole(feed.progress.last_sequence)),
            ("skipped", whole(feed.progress.skipped)),
            ("phase", phase(&feed, shard.view().metadata.is_draining(&feed)).into()),
            ("table", feed.definition.table_names().into()),
        ]);
        if let Some(skipped) = &feed.progress.last_skipped {
            values.push(("last_skipped", (**skipped).into()));
        }
        if let Some(scanned) = &feed.progress.scanned {
            let tables = feed.definition.tables.iter().map(|table| table.id);
            values.push(("scan_progress", scanned.fraction(tables).into()));
        }
        if let Some(closed) = feed.progress.closed_micros {
            values.push(("resolved", closed.div_euclid(1_000).into()));
            if feed.state == FeedState::Running {
                let lag_ms = now_micros.saturating_sub(closed).max(0) / 1_000;
                values.push(("lag_ms", lag_ms.into()));
            }
        }
        rows.add(values);
    }
    rows.finish()
}

/// What both tables have.
fn common(feed: &FeedRecord) -> Vec<(&'static str, Datum)> {
    let (definition, progress) = (&feed.definition, &feed.progress);
    let options = shown(&definition.given);
    let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut values = vec![
        ("keyspace_name", (*definition.keyspace).into()),
        ("name", (*definition.name).into()),
        ("created_at", feed.created_at_millis.into()),
        ("events_delivered", whole(progress.events_delivered)),
        ("options", Datum::map(options)),
        ("retries", whole(progress.retries)),
        ("sink", definition.sink.to_string().into()),
        ("state", feed.state.name().into()),
    ];
    if let Some(error) = &progress.last_error {
        values.push(("last_error", error.clone().into()));
    }
    if let Some(owner) = feed.owner {
        values.push(("owner", owner.to_be_bytes().into()));
    }
    values
}

/// What a feed is about; `is_draining`: a table that it is on was dropped.
fn phase(feed: &FeedRecord, is_draining: bool) -> &'static str {
    let is_scan = feed.definition.options.initial_scan == InitialScan::Only;
    match feed.state {
        FeedState::Paused if feed.owner.is_some() => "settling",
        FeedState::Paused | FeedState::Error => "stopped",
        FeedState::Finished if is_scan => "finished",
        FeedState::Finished => "table dropped",
        FeedState::Running if feed.owner.is_none() => "waiting for a node",
        FeedState::Running if feed.progress.closed_micros.is_none() => "starting",
        FeedState::Running if feed.progress.last_error.is_some() => "retrying",
        FeedState::Running if feed.is_scanning() => "scanning",
        FeedState::Running if is_draining => "draining",
        FeedState::Running => "streaming",
    }
}

async fn all(shard: &Shard) -> Vec<FeedRecord> {
    let (reply, answer) = oneshot::channel();
    if shard.shared.shards[0].try_send(Message::Feeds(reply)).is_err() {
        return Vec::new();
    }
    answer.await.unwrap_or_default()
}

fn whole(number: u64) -> Datum {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}
