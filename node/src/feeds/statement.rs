//! What a statement makes of the changefeeds that there are: a pure function of both.
//!
//! | statement | Running          | Paused                  | Error                   | Finished |
//! |-----------|------------------|-------------------------|-------------------------|----------|
//! | PAUSE     | Paused           | nothing                 | Paused                  | nothing  |
//! | RESUME    | nothing          | Running                 | Running                 | refused  |
//! | … FROM    | refused          | Running, elsewhere      | Running, elsewhere      | refused  |
//! | ALTER     | refused          | other options           | other options           | refused  |
//! | DROP      | gone             | gone                    | gone                    | gone     |
//!
//! `… FROM` is refused, too, while a feed has rows of its initial scan left: where it has come to in
//! the tables and in the log belong together.

use crate::metadata::{FeedRecord, FeedState, Metadata, Progress};
use changefeed::options::{self, Given, InitialScan, OptionError, OptionValue, Options, StartAt};
use changefeed::{Cursor, Definition, FeedTable, SinkAddress, SinkKind};
use cql::plan::ddl::{FeedLogs, feed_tables};
use cql::plan::{PlanError, prepare_filter};
use cql::syntax::ast::{
    AlterChangefeed, ChangefeedStatement, CreateChangefeed, Property, PropertyValue, ResumeFrom,
};
use model::{CqlType, FeedLog, Schema, TableDef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Feeds of a cluster.
pub(super) const FEEDS_MAX: usize = 1_000;
/// Longest name of a feed, in bytes.
const NAME_BYTES_MAX: usize = 222;
/// Rows may be placed so far ahead of the clock, which may be another node's.
const AHEAD_MICROS_MAX: i64 = 10_000_000;
/// A sequence is a whole number that every JSON reader has exactly.
const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// What a statement comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FeedChange {
    /// There is nothing to do.
    Nothing,
    /// The feed is new, or another now.
    Put(Box<FeedRecord>),
    /// The feed is no more.
    Remove(Arc<str>),
}

/// The circumstances of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub metadata: &'a Metadata,
    pub schema: &'a Schema,
    pub keyspace_in_use: Option<&'a str>,
    pub now_micros: i64,
    /// The node that a feed which begins to run is given to.
    pub owner: Option<u128>,
}

/// What a statement comes to, or why it is refused.
pub(super) fn decide(
    statement: &ChangefeedStatement,
    circumstances: &Circumstances<'_>,
) -> Result<FeedChange, PlanError> {
    let feeds = &circumstances.metadata.feeds;
    let name = statement.feed().as_str();
    let known = feeds.get(name);
    let existing =
        || known.ok_or_else(|| PlanError::invalid(format!("changefeed '{name}' does not exist")));
    match statement {
        ChangefeedStatement::Create(create) => match known {
            Some(_) if create.if_not_exists => Ok(FeedChange::Nothing),
            Some(_) => refuse(format!("changefeed '{name}' already exists")),
            None if feeds.len() >= FEEDS_MAX => {
                refuse(format!("there are {FEEDS_MAX} changefeeds already"))
            }
            None => create_feed(create, circumstances).map(put),
        },
        ChangefeedStatement::Drop(drop) => match known {
            Some(feed) => Ok(FeedChange::Remove(feed.definition.name.clone())),
            None if drop.if_exists => Ok(FeedChange::Nothing),
            None => existing().map(|_| FeedChange::Nothing),
        },
        ChangefeedStatement::Pause(_) => Ok(pause(existing()?)),
        ChangefeedStatement::Resume(resume) => {
            resumed(existing()?, resume.from.as_ref(), circumstances)
        }
        ChangefeedStatement::Alter(alter) => {
            altered(existing()?, alter, circumstances.schema).map(put)
        }
    }
}

/// What the feeds on every table need of its log; nothing for a table that had feeds and has none.
pub(super) fn logs_needed<'a>(
    feeds: impl Iterator<Item = &'a FeedRecord>,
    schema: &Schema,
) -> FeedLogs {
    let mut needed: FeedLogs = FeedLogs::new();
    for table in schema.keyspaces.values().flat_map(|keyspace| keyspace.tables.values()) {
        if table.options.feed_log.is_some() {
            needed.insert((table.keyspace.clone(), table.name.clone()), None);
        }
    }
    for feed in feeds {
        let log = feed.definition.log_needed(feed.is_scanning());
        for table in &feed.definition.tables {
            let keyspace = &feed.definition.keyspace;
            // Another table may have taken the name of one that was dropped.
            if schema.table(keyspace, &table.name).is_none_or(|named| named.id != table.id) {
                continue;
            }
            let entry = needed.entry((keyspace.clone(), table.name.clone())).or_default();
            *entry = Some(entry.map_or(log, |other: FeedLog| other.union(log)));
        }
    }
    needed
}

fn put(feed: FeedRecord) -> FeedChange {
    FeedChange::Put(Box::new(feed))
}

fn create_feed(
    create: &CreateChangefeed,
    circumstances: &Circumstances<'_>,
) -> Result<FeedRecord, PlanError> {
    let Circumstances { schema, keyspace_in_use, now_micros, owner, .. } = *circumstances;
    if create.name.as_str().len() > NAME_BYTES_MAX {
        return refuse(format!("the name of a changefeed has at most {NAME_BYTES_MAX} bytes"));
    }
    let tables = feed_tables(&create.tables, schema, keyspace_in_use)?;
    let Some(first) = tables.first() else { return refuse("a changefeed is on some table") };
    let kind = match create.sink {
        cql::syntax::ast::SinkKind::Kafka => SinkKind::Kafka,
        cql::syntax::ast::SinkKind::Webhook => SinkKind::Webhook,
    };
    let sink = SinkAddress::parse(kind, &create.address).map_err(option_error)?;
    let given = given(&create.options)?;
    let options = options::parse(kind, &given).map_err(option_error)?;
    for table in &tables {
        check_filter(&options, schema, table)?;
    }
    let cursor = match options.cursor {
        None => Cursor::Time(now_micros),
        Some(StartAt::Sequence(sequence)) => Cursor::Sequence(sequence),
        Some(StartAt::Timestamp(millis)) => {
            Cursor::Time(millis.saturating_mul(1_000).saturating_sub(1))
        }
    };
    if options.cursor.is_some() {
        check_logs(&tables)?;
        check_past(cursor, now_micros)?;
    }
    let scans = options.initial_scan != InitialScan::No;
    let tables = tables.iter().map(|table| FeedTable { id: table.id, name: table.name.clone() });
    let definition = Definition {
        name: create.name.text.clone(),
        keyspace: first.keyspace.clone(),
        tables: tables.collect(),
        sink,
        given,
        options,
    };
    Ok(FeedRecord {
        definition,
        created_at_millis: now_micros / 1_000,
        state: FeedState::Running,
        owner,
        // A feed of that name that was dropped may still be delivered somewhere.
        epoch: circumstances.metadata.index.saturating_add(1),
        line: circumstances.metadata.index.saturating_add(1),
        progress: Progress {
            cursor,
            last_sequence: 0,
            events_delivered: 0,
            retries: 0,
            skipped: 0,
            last_skipped: None,
            last_error: None,
            closed_micros: None,
            scanned: scans.then(Arc::default),
        },
        pinned_at_micros: Some(now_micros),
    })
}

/// The owner keeps the feed until it has settled what it had begun.
fn pause(feed: &FeedRecord) -> FeedChange {
    match feed.state {
        FeedState::Paused | FeedState::Finished => FeedChange::Nothing,
        FeedState::Running | FeedState::Error => {
            put(FeedRecord { state: FeedState::Paused, ..feed.clone() })
        }
    }
}

fn resumed(
    feed: &FeedRecord,
    from: Option<&ResumeFrom>,
    circumstances: &Circumstances<'_>,
) -> Result<FeedChange, PlanError> {
    let name = &feed.definition.name;
    match (feed.state, from) {
        (FeedState::Running, None) => return Ok(FeedChange::Nothing),
        (FeedState::Running, Some(_)) => {
            return refuse(format!(
                "changefeed '{name}' is running: pause it to resume it from somewhere else"
            ));
        }
        (FeedState::Finished, _) => return finished(feed),
        _ if !has_tables(feed, circumstances) => {
            return refuse(format!(
                "the table of changefeed '{name}' was dropped, and nothing of its log is kept: DROP \
                 CHANGEFEED is all that is left"
            ));
        }
        (FeedState::Paused | FeedState::Error, Some(_)) if feed.is_scanning() => {
            return refuse(format!(
                "changefeed '{name}' has not finished its initial scan: RESUME takes it on from where \
                 it stands; to begin elsewhere, drop it and create it again"
            ));
        }
        (FeedState::Paused | FeedState::Error, _) => {}
    }
    let mut feed = FeedRecord {
        state: FeedState::Running,
        owner: circumstances.owner,
        epoch: feed.epoch + 1,
        ..feed.clone()
    };
    feed.progress.last_error = None;
    let stood = feed.progress.cursor.needs_above();
    if let Some(from) = from {
        feed.line = feed.epoch;
        feed.progress.cursor = cursor_of(from)?;
        check_past(feed.progress.cursor, circumstances.now_micros)?;
        feed.progress.closed_micros = None;
    }
    // What lies before the place that it was kept behind has to be there by itself.
    if feed.progress.cursor.needs_above() < stood || feed.pinned_at_micros.is_none() {
        feed.pinned_at_micros = Some(circumstances.now_micros);
    }
    Ok(put(feed))
}

/// Whether there is a log of every table that a feed is on.
fn has_tables(feed: &FeedRecord, circumstances: &Circumstances<'_>) -> bool {
    let Circumstances { metadata, schema, .. } = circumstances;
    feed.definition.tables.iter().all(|table| {
        schema.table_by_id(table.id).is_some() || metadata.retired_table(table.id).is_some()
    })
}

fn finished<T>(feed: &FeedRecord) -> Result<T, PlanError> {
    let name = &feed.definition.name;
    let done = match feed.definition.options.initial_scan {
        InitialScan::Only => "has finished its scan",
        InitialScan::No | InitialScan::Yes => {
            "has delivered all changes of its table, which was dropped"
        }
    };
    refuse(format!("changefeed '{name}' {done}: there is nothing left that it would do"))
}

/// A feed that begins at some change begins in a log that is there.
fn check_logs(tables: &[Arc<TableDef>]) -> Result<(), PlanError> {
    match tables.iter().find(|table| table.cdc_enabled().is_none()) {
        None => Ok(()),
        Some(table) => refuse(format!(
            "cursor: {}.{} has no log so far in which a changefeed could begin. Leave cursor out, or set \
             initial_scan = 'yes' to begin with the rows that are there",
            table.keyspace, table.name
        )),
    }
}

/// What is yet to come would be passed over in silence.
fn check_past(cursor: Cursor, now_micros: i64) -> Result<(), PlanError> {
    if cursor.lies_up_to() <= now_micros.saturating_add(AHEAD_MICROS_MAX) {
        return Ok(());
    }
    let what = match cursor {
        Cursor::Sequence(_) => "sequence",
        Cursor::Time(_) | Cursor::Row(_) => "time",
    };
    refuse(format!("that {what} lies in the future: a changefeed begins at what has happened"))
}

fn cursor_of(from: &ResumeFrom) -> Result<Cursor, PlanError> {
    match from {
        ResumeFrom::Beginning => Ok(Cursor::Time(0)),
        ResumeFrom::Sequence(digits) => match digits.parse() {
            Ok(sequence) if sequence <= SEQUENCE_MAX => Ok(Cursor::Sequence(sequence)),
            _ => refuse(format!("a sequence is a number from 0 to {SEQUENCE_MAX}")),
        },
        ResumeFrom::Timestamp(text) => {
            let value = model::literal::parse_literal(&CqlType::Timestamp, text);
            let value = value.map_err(|error| PlanError::invalid(error.to_string()))?;
            let millis = <[u8; 8]>::try_from(value.as_slice()).map(i64::from_be_bytes);
            let Ok(millis) = millis else { return refuse("the timestamp is empty") };
            // What has the time itself is delivered.
            Ok(Cursor::Time(millis.saturating_mul(1_000).saturating_sub(1)))
        }
    }
}

fn altered(
    feed: &FeedRecord,
    alter: &AlterChangefeed,
    schema: &Schema,
) -> Result<FeedRecord, PlanError> {
    if feed.state == FeedState::Running {
        return refuse(format!(
            "changefeed '{}' is running: pause it to alter it",
            feed.definition.name
        ));
    }
    if feed.state == FeedState::Finished {
        return finished(feed);
    }
    let changed = given(&alter.options)?;
    if let Some(name) = changed.keys().find(|name| options::is_fixed_at_creation(name)) {
        return refuse(format!(
            "{name} says where a new changefeed begins and cannot be altered; RESUME CHANGEFEED … \
             FROM takes it elsewhere"
        ));
    }
    let mut feed = FeedRecord { epoch: feed.epoch + 1, owner: None, ..feed.clone() };
    feed.definition.given.extend(changed);
    let kind = feed.definition.sink_kind();
    feed.definition.options = options::parse(kind, &feed.definition.given).map_err(option_error)?;
    for table in &feed.definition.tables {
        let Some(table) = schema.table_by_id(table.id) else { continue };
        check_filter(&feed.definition.options, schema, table)?;
    }
    Ok(feed)
}

/// A filter must be one over the table, and what it asks must be known of every change: of a DELETE
/// that is the key, unless the feed tells old values.
fn check_filter(options: &Options, schema: &Schema, table: &TableDef) -> Result<(), PlanError> {
    let Some(text) = &options.filter else { return Ok(()) };
    let filter = prepare_filter(schema, table, text)?;
    if options.include_old_values {
        return Ok(());
    }
    match filter.find_column(&|column| !column.is_key()) {
        None => Ok(()),
        Some(column) => refuse(format!(
            "the filter asks for {}, which is not known of a DELETE: it is no part of the primary \
             key. Set include_old_values = true",
            column.name
        )),
    }
}

/// Options as they were written.
fn given(properties: &[Property]) -> Result<Given, PlanError> {
    let mut given = Given::new();
    for Property { name, value } in properties {
        let value = match value {
            PropertyValue::Text(text) => OptionValue::Text(text.clone()),
            PropertyValue::Map(entries) => {
                let map: BTreeMap<String, String> = entries.iter().cloned().collect();
                if map.len() < entries.len() {
                    return refuse(format!("a key is given twice in {}", name.as_str()));
                }
                OptionValue::Map(map)
            }
        };
        given.insert(name.as_str().to_owned(), value);
    }
    Ok(given)
}

fn option_error(error: OptionError) -> PlanError {
    PlanError::invalid(error.message)
}

fn refuse<T>(message: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::invalid(message.into()))
}

#[cfg(test)]
mod tests;
