//! A table, its log and a feed on it, for tests: writes are lines of text (`cdc::testing`), the log
//! rows are those that a leader makes of them.

use crate::envelope::{RenderError, Renderer};
use crate::options::{self, DeleteExpansion, Given, InitialScan, OptionValue, Options, SinkKind};
use crate::sequence::Sequencer;
use crate::sink::Message;
use crate::source::{LogRow, TableShape};
use cdc::testing::base_table;
use cdc::testing::range::Range;
use model::filter::Filter;
use model::mutation::MutationView;
use model::{CdcOptions, FeedLog, TableDef};

/// See the module.
pub(crate) struct Feed {
    pub(crate) range: Range,
    pub(crate) shape: TableShape,
    pub(crate) options: Options,
    pub(crate) log: Vec<LogRow>,
    pub(crate) filter: Option<Filter>,
}

impl Feed {
    /// The table `ks.t` with these columns, and a feed with options as `name=value name=value`.
    pub(crate) fn new(columns: &str, options: &str) -> Feed {
        let given: Given = options
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), OptionValue::Text(value.to_owned())))
            .collect();
        let options = options::parse(SinkKind::Kafka, &given).unwrap();
        let images = options.images(options.initial_scan != InitialScan::No);
        let cdc_options = CdcOptions {
            preimage: images.preimage,
            postimage: images.postimage,
            ..CdcOptions::default()
        };
        Feed::on(base_table(columns), cdc_options, options)
    }

    /// A feed on a table that is logged with options of its own.
    pub(crate) fn on(mut base: TableDef, cdc_options: CdcOptions, options: Options) -> Feed {
        let CdcOptions { preimage, postimage, .. } = cdc_options;
        let deleted_rows = options.delete_expansion == DeleteExpansion::Rows;
        base.options.feed_log = Some(FeedLog { preimage, postimage, deleted_rows });
        let mut range = Range::new(base, cdc_options);
        range.clock = 100;
        let shape = TableShape::new(range.layout.base(), range.layout.log()).unwrap();
        Feed { range, shape, options, log: Vec::new(), filter: None }
    }

    /// Makes a write; its log rows.
    pub(crate) fn write(&mut self, text: &str) -> Result<Vec<LogRow>, String> {
        self.range.write(text, &|time| time.parse().unwrap())?;
        let mut rows = Vec::new();
        for mutation in self.range.last_log() {
            let mutation = MutationView::check(mutation).unwrap();
            self.shape.read_rows(&mutation, &mut rows).unwrap();
        }
        self.log.extend(rows.iter().cloned());
        self.log.sort_by_key(|row| row.key);
        Ok(rows)
    }

    /// The messages of these rows, in order, numbered from the beginning.
    pub(crate) fn render(&self, rows: &[LogRow]) -> Result<Vec<Message>, RenderError> {
        let renderer = Renderer::new("a_feed", &self.options);
        let mut messages = Vec::new();
        let (mut sequencer, _) = Sequencer::start(i64::MIN);
        for group in sequencer.number(rows) {
            renderer.render(&self.shape, group, None, self.filter.as_ref(), &mut messages)?;
        }
        Ok(messages)
    }
}
