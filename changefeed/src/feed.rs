//! A feed's way from log rows to messages, as the pump takes it: rows are numbered, become events,
//! pass the filter, and are written in the feed's envelope.

mod shared;

pub use shared::{SHARED_BYTES_MAX, SharedMessages};

use crate::envelope::Renderer;
use crate::options::Options;
use crate::position::{Position, Sequence};
use crate::pump::{MarkOf, Render, Skipped};
use crate::scan::Scanning;
use crate::sequence::{Sequencer, position_at};
use crate::sink::Message;
use crate::source::{LogRow, TableShape};
use model::filter::Filter;
use model::{TableId, TimestampMicros};
use shared::Taker;
use std::sync::Arc;

/// A table of a feed, by the newest definition that the node has.
#[derive(Clone, Debug)]
pub struct BoundTable {
    /// Its columns and those of its log.
    pub shape: TableShape,
    /// The feed's filter, bound to it.
    pub filter: Option<Filter>,
}

/// Where the definitions of a feed's tables are found: asked for every group, so cheap.
pub trait Tables {
    /// The table of that id; `None` when it is not the feed's, or is gone.
    fn table(&mut self, table: TableId) -> Option<Arc<BoundTable>>;
}

impl<F: FnMut(TableId) -> Option<Arc<BoundTable>>> Tables for F {
    fn table(&mut self, table: TableId) -> Option<Arc<BoundTable>> {
        self(table)
    }
}

/// Makes the messages of one feed.
#[derive(Debug)]
pub struct FeedRender<T> {
    renderer: Renderer,
    sequencer: Sequencer,
    tables: T,
    skipped: Skipped,
    /// If messages are shared with other feeds.
    shared: Option<Taker>,
}

impl<T: Tables> FeedRender<T> {
    /// For the feed of that name and options. The sequencer says where it begins; the source is to
    /// be opened where the sequencer's maker said.
    pub fn new(feed: &str, options: &Options, sequencer: Sequencer, tables: T) -> FeedRender<T> {
        let (renderer, skipped) = (Renderer::new(feed, options), Skipped::default());
        FeedRender { renderer, sequencer, tables, skipped, shared: None }
    }

    /// Shares what it makes with feeds that tell of changes alike.
    pub fn sharing(mut self, messages: &SharedMessages) -> FeedRender<T> {
        self.shared = Some(messages.join(&self.renderer));
        self
    }
}

impl<T: Tables> Render for FeedRender<T> {
    fn render(
        &mut self,
        rows: &[LogRow],
        scan: Option<&mut Scanning>,
        out: &mut Vec<Message>,
    ) -> Result<Option<Position>, String> {
        let Some(group) = self.sequencer.number_group(rows) else { return Ok(None) };
        let last = group.position(rows.len() - 1);
        // Of other groups not all events are this feed's.
        let mut shared =
            self.shared.as_mut().filter(|_| scan.is_none() && group.delivered < group.first);
        if let Some(skipped) = shared.as_mut().and_then(|shared| shared.take(&group, out)) {
            self.skipped = std::mem::take(&mut self.skipped).then(skipped);
            return Ok(Some(last));
        }
        let Some(table) = self.tables.table(last.key.table) else {
            return Err("a change is of a table that the feed does not know".to_owned());
        };
        let start = out.len();
        let rendered = self.renderer.render(&table.shape, group, scan, table.filter.as_ref(), out);
        let skipped = rendered.map_err(|error| error.to_string())?.skipped;
        if let Some(shared) = shared {
            shared.keep(&group, &out[start..], &skipped);
        }
        self.skipped = std::mem::take(&mut self.skipped).then(skipped);
        Ok(Some(last))
    }

    fn render_scanned(
        &mut self,
        row: &LogRow,
        closed: TimestampMicros,
        out: &mut Vec<Message>,
    ) -> Result<(), String> {
        let Some(table) = self.tables.table(row.key.table) else {
            return Err("a row is of a table that the feed does not know".to_owned());
        };
        let position = position_at(closed, self.sequencer.resolved(closed));
        let (shape, filter) = (&table.shape, table.filter.as_ref());
        let rendered = self.renderer.render_scanned(shape, row, position, filter, out);
        let rendered = rendered.map_err(|error| error.to_string())?;
        self.skipped = std::mem::take(&mut self.skipped).then(rendered.skipped);
        Ok(())
    }

    fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    fn resolved(&self, closed: TimestampMicros) -> Sequence {
        self.sequencer.resolved(closed)
    }

    fn marker(&self) -> MarkOf {
        let renderer = self.renderer.clone();
        Box::new(move |resolved| renderer.resolved(resolved.closed, resolved.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pump::Resolved;
    use crate::testing::Feed;

    fn render_all(feed: &Feed, sequencer: Sequencer) -> (Vec<String>, Option<Position>) {
        let table = Arc::new(BoundTable { shape: feed.shape.clone(), filter: feed.filter.clone() });
        let tables = |id| (id == feed.shape.table).then(|| table.clone());
        let mut render = FeedRender::new("a_feed", &feed.options, sequencer, tables);
        let (mut messages, mut position) = (Vec::new(), None);
        for group in feed.log.chunk_by(|a, b| a.key.is_same_group(&b.key)) {
            position = render.render(group, None, &mut messages).unwrap().or(position);
        }
        let texts = messages
            .iter()
            .map(|message| String::from_utf8(message.value.as_ref().unwrap().to_vec()).unwrap());
        (texts.collect(), position)
    }

    #[test]
    fn a_feed_goes_on_where_it_was() {
        let mut feed = Feed::new("p int, c int, a int", "");
        for write in ["insert 1 a=1 @91 + insert 2 a=2 @91", "update 1 a=3 @92", "delete 2 @93"] {
            feed.write(write).unwrap();
        }
        let (all, end) = render_all(&feed, Sequencer::start(0).0);
        assert_eq!(all.len(), 4);
        // After the first group, of two rows with an image each.
        let position = Position { key: feed.log[3].key, sequence: 4 };
        assert_eq!(feed.log[3].key.batch_seq_no, 3);
        let (rest, _) = render_all(&feed, Sequencer::resume(&position).0);
        assert_eq!(rest, all[2..]);
        let (rest, position) = render_all(&feed, Sequencer::resume(&end.unwrap()).0);
        assert!(rest.is_empty() && position.is_none());
    }

    #[test]
    fn changes_of_other_tables_are_named_as_such() {
        let mut feed = Feed::new("p int, a int", "");
        feed.write("insert - a=1 @91").unwrap();
        let none = |_| None;
        let mut render = FeedRender::new("a_feed", &feed.options, Sequencer::start(0).0, none);
        assert!(
            render.render(&feed.log, None, &mut Vec::new()).unwrap_err().contains("does not know")
        );
        let mark = render.marker()(Resolved { closed: 0, sequence: render.resolved(0) });
        assert_eq!(&mark[..], br#"{"resolved":"1970-01-01T00:00:00.000000Z","sequence":2}"#);
    }
}
