//! Changefeeds in a node: statements, who delivers a feed, and the thread that does.
//!
//! The crate `changefeed` knows how the log of tables becomes messages in a sink. What it does not
//! know is here:
//!
//! - [`statement`]: what a statement makes of the feeds that there are; a pure function.
//! - [`change`]: the same on the leader of the metadata: tables get the logs that their feeds need
//!   before a feed begins, and lose them after the last has ended.
//! - [`ownership`]: the leader gives each running feed to a living node, under a new epoch.
//! - [`runner`]: that node's thread for feeds, with a [`pump`] for each, into a [`sink`].
//! - [`source`]: what a pump reads, from all shards of the cluster.
//! - [`retention`]: the log waits for its feeds, for so long.
//! - [`retired`]: tables that were dropped, until their feeds have told of them.
//! - [`scan`]: the tables' rows, for a feed that begins with them.
//! - [`reports`]: what it says to the leader, and the epochs that it claims.
//! - [`figures`]: how feeds stand this moment, also those of other nodes.
//!
//! What the cluster agrees on is `metadata::feeds`, and so is the fence around positions.

use figures::FiguresOfFeeds;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

mod change;
mod figures;
mod ownership;
mod pump;
mod reports;
pub(crate) mod retention;
mod retired;
mod runner;
mod scan;
mod sink;
pub(crate) mod source;
mod statement;

pub(crate) use change::FeedWait;
pub(crate) use figures::{Figures, answer_figures, figures_of_cluster};
pub(crate) use ownership::{Permit, majority_until};
pub(crate) use runner::run;
pub(crate) use scan::{ScanAnswer, ScanAsk};

/// Of the memory for data, feeds may hold so much besides: one in so many parts.
const MEMORY_PART: usize = 8;

/// What the threads of a node share about its feeds.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    /// What all feeds of this node may hold together,
    pub memory_bytes_max: usize,
    /// and what they hold.
    pub memory_bytes: Arc<AtomicUsize>,
    pub permit: Permit,
    pub pins: retention::Pins,
    /// Told when there is a newer view, or a feed's epoch was granted.
    pub changed: Notify,
    /// The feeds that this node delivers, as they stand now.
    figures: Mutex<FiguresOfFeeds>,
}

impl Feeds {
    /// None yet, beside so many bytes for data.
    pub(crate) fn new(data_bytes_max: usize) -> Feeds {
        Feeds { memory_bytes_max: data_bytes_max / MEMORY_PART, ..Feeds::default() }
    }

    /// All of them.
    pub(crate) fn figures(&self) -> FiguresOfFeeds {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
