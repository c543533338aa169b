//! Reading what is applied here, without ever waiting for the disk on the shard's thread.

use super::Shard;
use cql::plan::select::{PointRead, SelectPlan};
use model::read::{Page, ReadCommand};
use model::row::RowView;
use model::{EpochSeconds, TableId, Token};
use std::fmt;
use std::rc::Rc;
use storage::{BlockMiss, ReadProgress, StorageError};

/// What a read waits for before it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Nothing: what is applied is what every acknowledged write left.
    None,
    /// The entries that are undecided when the read arrives. A CDC log read at QUORUM wants them:
    /// they are placed already, and a reader of windows would not come back for them.
    Undecided,
}

/// Why a read has no answer. The texts are for the user.
#[derive(Clone, Debug)]
pub(crate) enum ReadError {
    /// The data is damaged, or the disk failed: named, never served.
    Storage(String),
    /// The table is gone.
    UnknownTable,
    /// It took longer than it may.
    TimedOut,
    /// The node is going down or has too much to do.
    Overloaded(&'static str),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Storage(reason) => f.write_str(reason),
            ReadError::UnknownTable => f.write_str("the table was dropped"),
            ReadError::TimedOut => f.write_str("Operation timed out - received only 0 responses."),
            ReadError::Overloaded(reason) => f.write_str(reason),
        }
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        tracing::error!("a read failed: {error}");
        ReadError::Storage(error.to_string())
    }
}

impl Shard {
    /// Reads one page of partitions whose replicas are here.
    pub(crate) async fn read(
        self: &Rc<Self>,
        command: &ReadCommand,
        barrier: Barrier,
    ) -> Result<Page, ReadError> {
        if barrier == Barrier::Undecided {
            self.wait_for_undecided().await?;
        }
        let mut progress = ReadProgress::default();
        loop {
            let attempt = self.state.borrow_mut().engine.read(command, &mut progress);
            match attempt {
                Ok(page) => return Ok(page),
                Err(reason) => self.overcome(reason).await?,
            }
        }
    }

    /// Waits until every entry that is undecided now has been applied.
    async fn wait_for_undecided(&self) -> Result<(), ReadError> {
        let waited_for = self.state.borrow().replicas.undecided_ends();
        loop {
            {
                let state = self.state.borrow();
                if state.failure.is_some() {
                    return Err(ReadError::Overloaded("this node cannot write any more"));
                }
                if waited_for.iter().all(|(id, end)| state.replicas.applied(*id) >= *end) {
                    return Ok(());
                }
            }
            self.settled.notified().await;
        }
    }

    /// Reads one row when all of it is in memory; otherwise says what is missing, and `answer` was
    /// not called.
    pub(crate) fn read_row<R>(
        &self,
        plan: &SelectPlan,
        token: Token,
        point: &PointRead,
        now: EpochSeconds,
        answer: impl FnOnce(Option<RowView>, Option<RowView>) -> R,
    ) -> Result<R, storage::ReadError> {
        let (table, with_static) = (plan.table.id, plan.wants_static_row());
        let engine = &mut self.state.borrow_mut().engine;
        engine.read_row(table, token, &point.key, &point.clustering, now, with_static, answer)
    }

    /// Begins to fetch partitions into the processor's cache, as far as they are in memory.
    pub(crate) fn prefetch(&self, partitions: impl Iterator<Item = (TableId, Token)> + Clone) {
        let engine = &self.state.borrow().engine;
        for (table, token) in partitions.clone() {
            engine.prefetch_index(table, token);
        }
        for (table, token) in partitions {
            engine.prefetch_partition(table, token);
        }
    }

    /// Does what a read needs before it can go on.
    pub(super) async fn overcome(&self, reason: storage::ReadError) -> Result<(), ReadError> {
        match reason {
            storage::ReadError::Miss(miss) => self.load(miss).await,
            storage::ReadError::Paused => {
                tokio::task::yield_now().await;
                Ok(())
            }
            storage::ReadError::UnknownTable(_) => Err(ReadError::UnknownTable),
            storage::ReadError::Storage(error) => Err(error.into()),
        }
    }

    /// Brings a block into memory, away from the shard's thread.
    async fn load(&self, miss: BlockMiss) -> Result<(), ReadError> {
        let loaded = self.shared.env.tasks.run_blocking(move || miss.load()).await?;
        self.state.borrow_mut().engine.block_loaded(loaded);
        Ok(())
    }
}
