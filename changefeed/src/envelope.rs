//! Events as the bytes of messages.
//!
//! ```text
//! key         orders:{"id":1001}                                       table, primary key
//! plain       {"sequence":…,"timestamp":"…","table":"…","operation":"…","key":{…},
//!              "new_row":{…}|null,"old_row":{…}|null}                  then what options add
//! debezium    {"before":…,"after":…,"source":{…},"op":"c"|"u"|"d","ts_ms":…}
//! cloudevents {"specversion":"1.0",…,"data":{the plain event}}
//! tombstone   the key, and no value, behind a DELETE
//! resolved    {"resolved":"<time>","sequence":…}
//! ```
//!
//! What plain events have beyond the seven: `range` (a deleted range's bounds), `index` and `expanded`
//! (`delete_expansion = 'rows'`: which of the rows that went with a delete it is of, and that the log
//! does not name those), `elements`
//! (`event_kind = 'delta'`, see `event::delta`), `patch` (`event_kind = 'patch'`), `omitted`
//! (`large_message = 'key_only'`: the rows did not fit), `snapshot` (`initial_scan`: the row was there
//! when the tables were scanned; such an event is an INSERT of the whole row).
//! Debezium's `before` of a DELETE holds the key alone when old values were not asked for.
//! A CloudEvent's `id` is the sequence, so a repeated event has the same; those of rows that share a
//! sequence have more behind it, scanned ones the message's key, deleted ones their index.

mod debezium;
#[cfg(test)]
mod tests;

use crate::event::body::{Members, Rfc3339, push_key, push_range, push_row_or_null};
use crate::event::{Change, Event, EventError, Expansion, GroupCells, RowCells};
use crate::options::{Envelope, EventKind, LargeMessage, OnError, Options};
use crate::position::{Position, Sequence};
use crate::pump::Skipped;
use crate::scan::Scanning;
use crate::sequence::Group;
use crate::sink::Message;
use crate::source::{LogRow, TableShape};
use bytes::Bytes;
use model::filter::{Filter, FilterColumn};
use model::{TimestampMicros, ValueError};
use std::fmt::{self, Write};

/// Why a change cannot be told. The feed stops before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// No event can be made of its log rows.
    Event(EventError),
    /// Its event is larger than the feed's `max_message_bytes`.
    TooLarge {
        /// The event's key.
        key: String,
        /// Its number.
        sequence: Sequence,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
}

impl RenderError {
    /// With the number of the change, where the text does not have it.
    fn of(&self, sequence: Sequence) -> String {
        match self {
            RenderError::Event(error) => format!("the change {sequence}: {error}"),
            RenderError::TooLarge { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderError::Event(error) => error.fmt(f),
            RenderError::TooLarge { key, sequence, bytes, bytes_max } => write!(
                f,
                "the event {sequence} of {key} has {bytes} bytes, more than max_message_bytes \
                 ({bytes_max})"
            ),
        }
    }
}

impl std::error::Error for RenderError {}

impl From<EventError> for RenderError {
    fn from(error: EventError) -> Self {
        RenderError::Event(error)
    }
}

impl From<ValueError> for RenderError {
    fn from(error: ValueError) -> Self {
        RenderError::Event(error.into())
    }
}

/// What became of a group's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Events that became messages.
    pub event_count: usize,
    /// Events that the filter left out.
    pub filtered_count: usize,
    /// Events that are left out by the feed's policies: too large, or not to be told. A group of
    /// whose rows no events can be made counts as one.
    pub skipped: Skipped,
}

/// Most events are no longer than this; for others the text grows while it is written.
const EVENT_BYTES: usize = 1_024;

/// Makes the messages of one feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Renderer {
    feed: String,
    options: Options,
}

impl Renderer {
    /// For a feed of that name.
    pub fn new(feed: &str, options: &Options) -> Renderer {
        Renderer { feed: feed.to_owned(), options: options.clone() }
    }

    /// This one without what no message of a change shows: two that are equal so make the same
    /// messages of the same rows of the same tables.
    pub(crate) fn likeness(&self) -> Renderer {
        let Options {
            include_old_values,
            filter,
            event_kind,
            envelope,
            initial_scan,
            delete_expansion,
            tombstones,
            on_error,
            large_message,
            max_message_bytes,
            batch_size: _,
            flush_interval_ms: _,
            cursor: _,
            resolved_interval_ms: _,
            delivery: _,
            retry_max: _,
            retention_age_ms_max: _,
            retention_bytes_max: _,
            hmac_secret: _,
            headers: _,
            timeout_ms: _,
            kafka: _,
        } = self.options.clone();
        let options = Options {
            include_old_values,
            filter,
            event_kind,
            envelope,
            initial_scan,
            delete_expansion,
            tombstones,
            on_error,
            large_message,
            max_message_bytes,
            ..Options::default()
        };
        let feed = if envelope == Envelope::Plain { String::new() } else { self.feed.clone() };
        Renderer { feed, options }
    }

    /// Appends the messages of a group's events, in order, those that a scan under way and the filter
    /// let through. The filter is bound to the table of this shape. After an error nothing was
    /// appended.
    pub fn render(
        &self,
        shape: &TableShape,
        group: Group,
        scan: Option<&mut Scanning>,
        filter: Option<&Filter>,
        out: &mut Vec<Message>,
    ) -> Result<Rendered, RenderError> {
        let start = out.len();
        let first = group.position(0);
        match self.render_events(shape, group, scan, filter, out) {
            Err(error) => {
                out.truncate(start);
                if !self.skips(&error) {
                    return Err(error);
                }
                let mut rendered = Rendered::default();
                rendered.skipped.add(error.of(first.sequence));
                Ok(rendered)
            }
            rendered => rendered,
        }
    }

    fn render_events(
        &self,
        shape: &TableShape,
        group: Group,
        mut scan: Option<&mut Scanning>,
        filter: Option<&Filter>,
        out: &mut Vec<Message>,
    ) -> Result<Rendered, RenderError> {
        let cells = GroupCells::new(shape, group)?;
        let mut rendered = Rendered::default();
        for event in cells.events(&self.options, scan.is_some())? {
            let event = match &mut scan {
                Some(scan) => scan.admit(event)?,
                None => Some(event),
            };
            // A delete that is told row by row is taken notice of, and not sent.
            if let Some(event) = event.filter(|event| event.expansion != Expansion::Done) {
                self.render_event(&event, filter, &mut rendered, out)?;
            }
        }
        Ok(rendered)
    }

    /// Appends the message of a row that was scanned, if the filter lets it through; `position` is
    /// where in the log the row was so.
    pub fn render_scanned(
        &self,
        shape: &TableShape,
        row: &LogRow,
        position: Position,
        filter: Option<&Filter>,
        out: &mut Vec<Message>,
    ) -> Result<Rendered, RenderError> {
        let cells = RowCells::new(shape, row)?;
        let event = Event::of_scanned_row(shape, &cells, position);
        let mut rendered = Rendered::default();
        self.render_event(&event, filter, &mut rendered, out)?;
        Ok(rendered)
    }

    fn render_event(
        &self,
        event: &Event,
        filter: Option<&Filter>,
        rendered: &mut Rendered,
        out: &mut Vec<Message>,
    ) -> Result<(), RenderError> {
        if filter.is_some_and(|filter| !event.passes(filter)) {
            rendered.filtered_count += 1;
            return Ok(());
        }
        match self.push_messages(event, out) {
            Ok(()) => rendered.event_count += 1,
            Err(error) if self.skips(&error) => {
                rendered.skipped.add(error.of(event.position.sequence));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the feed goes on without what cannot be told.
    fn skips(&self, error: &RenderError) -> bool {
        let options = &self.options;
        let skips_large = options.large_message == LargeMessage::Skip;
        let is_large = matches!(error, RenderError::TooLarge { .. });
        options.on_error == OnError::Skip || (is_large && skips_large)
    }

    /// The mark that no change at or below a time, or a number, will follow.
    pub fn resolved(&self, closed: TimestampMicros, sequence: Sequence) -> Bytes {
        let time = Rfc3339(closed);
        Bytes::from(format!("{{\"resolved\":\"{time}\",\"sequence\":{sequence}}}"))
    }

    fn push_messages(&self, event: &Event, out: &mut Vec<Message>) -> Result<(), RenderError> {
        let mut key = String::with_capacity(64);
        key.push_str(&event.shape.name);
        key.push(':');
        push_key(&mut key, event)?;
        let mut value = self.value(event, &key, false)?;
        let is_large = value.len() > self.options.max_message_bytes;
        if is_large && self.options.large_message == LargeMessage::KeyOnly {
            value = self.value(event, &key, true)?;
        }
        if value.len() > self.options.max_message_bytes {
            return Err(RenderError::TooLarge {
                key: key[..key.floor_char_boundary(200)].to_owned(),
                sequence: event.position.sequence,
                bytes: value.len(),
                bytes_max: self.options.max_message_bytes,
            });
        }
        let key = Bytes::from(key);
        // A copy has the size that it is counted as; what it was written into is larger.
        let value = Some(Bytes::copy_from_slice(value.as_bytes()));
        out.push(Message { key: key.clone(), value });
        if self.options.tombstones && event.change == Change::Delete && event.range.is_none() {
            out.push(Message { key, value: None });
        }
        Ok(())
    }

    fn value(&self, event: &Event, key: &str, omits_rows: bool) -> Result<String, ValueError> {
        let mut out = String::with_capacity(EVENT_BYTES);
        match self.options.envelope {
            Envelope::Plain => self.push_plain(&mut out, event, omits_rows)?,
            Envelope::Debezium => self.push_debezium(&mut out, event, omits_rows)?,
            Envelope::CloudEvents => self.push_cloudevent(&mut out, event, key, omits_rows)?,
        }
        Ok(out)
    }

    /// The seven fields that every event has, and those that options add.
    fn push_plain(
        &self,
        out: &mut String,
        event: &Event,
        omits_rows: bool,
    ) -> Result<(), ValueError> {
        let sequence = event.position.sequence;
        let mut members = Members::open(out);
        push_number(members.name("sequence"), sequence);
        push_time(members.name("timestamp"), event.micros());
        members.string("table", &event.shape.name);
        members.string("operation", event.change.name());
        push_key(members.name("key"), event)?;
        self.push_new_row(members.name("new_row"), event, omits_rows)?;
        let old_row = event.before.filter(|_| self.has_old_row(event) && !omits_rows);
        push_row_or_null(members.name("old_row"), event, old_row)?;
        if let Some(bounds) = event.range {
            push_range(members.name("range"), event, bounds)?;
        }
        push_expansion(&mut members, event);
        if omits_rows {
            members.string("omitted", "rows");
        } else if self.options.event_kind == EventKind::Delta {
            members.elements(event)?;
        } else if self.options.event_kind == EventKind::Patch {
            members.patch(event)?;
        }
        if event.change == Change::Read {
            members.name("snapshot").push_str("true");
        }
        members.close();
        Ok(())
    }

    fn push_new_row(
        &self,
        out: &mut String,
        event: &Event,
        omits_rows: bool,
    ) -> Result<(), ValueError> {
        if event.change == Change::Delete || omits_rows {
            out.push_str("null");
            return Ok(());
        }
        match self.options.event_kind {
            EventKind::Full => push_row_or_null(out, event, event.after),
            EventKind::Delta => crate::event::push_changed_columns(out, event),
            EventKind::KeyOnly | EventKind::Patch => {
                out.push_str("null");
                Ok(())
            }
        }
    }

    fn has_old_row(&self, event: &Event) -> bool {
        self.options.include_old_values && event.change != Change::Insert
    }

    /// CloudEvents 1.0, structured mode.
    fn push_cloudevent(
        &self,
        out: &mut String,
        event: &Event,
        key: &str,
        omits_rows: bool,
    ) -> Result<(), ValueError> {
        let mut members = Members::open(out);
        members.string("specversion", "1.0");
        let sequence = event.position.sequence;
        members.string(
            "id",
            &match (event.change, event.expansion) {
                (Change::Read, _) => format!("{sequence}-{key}"),
                (_, Expansion::Row(index)) => format!("{sequence}-{index}"),
                _ => sequence.to_string(),
            },
        );
        members.string("source", &format!("/changefeeds/{}", uri_segment(&self.feed)));
        members.string(
            "type",
            match event.change {
                Change::Insert => "tethys.row.insert",
                Change::Update => "tethys.row.update",
                Change::Delete => "tethys.row.delete",
                Change::Read => "tethys.row.read",
            },
        );
        members.string("subject", &event.shape.name);
        push_time(members.name("time"), event.micros());
        members.string("datacontenttype", "application/json");
        self.push_plain(members.name("data"), event, omits_rows)?;
        members.close();
        Ok(())
    }
}

/// The column that keeps a filter from being used with these options, if there is one: a DELETE
/// without the old values is known by its key alone.
pub fn column_unknown_at_delete<'f>(
    filter: &'f Filter,
    options: &Options,
) -> Option<&'f FilterColumn> {
    filter.find_column(&|column| !options.include_old_values && !column.is_key())
}

/// `index` of a row that went with a delete; `expanded`, when the rows that did are not known.
fn push_expansion(members: &mut Members, event: &Event) {
    match event.expansion {
        Expansion::Row(index) => push_number(members.name("index"), index),
        Expansion::Missing => members.name("expanded").push_str("false"),
        Expansion::None | Expansion::Done => {}
    }
}

/// A name as a part of a URI's path.
fn uri_segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_formatted(&mut out, format_args!("%{byte:02X}"));
        }
    }
    out
}

pub(crate) fn push_number(out: &mut String, number: impl fmt::Display) {
    push_formatted(out, format_args!("{number}"));
}

fn push_time(out: &mut String, micros: TimestampMicros) {
    out.push('"');
    model::literal::push_rfc3339_micros(out, micros);
    out.push('"');
}

fn push_formatted(out: &mut String, what: fmt::Arguments) {
    out.write_fmt(what).expect("writing to a string");
}
