//! Finishing logged batches that are decided and not done: by their coordinator while it is at it,
//! else by whoever leads the group that has the record.
//!
//! Every member of the group has the record, as it is part of the group's log. So the leader of
//! *now* finds it, whoever led when it was written. It leaves a batch alone for
//! [`TAKEOVER_AGE`], in which the coordinator does the work; after that the coordinator leaves it
//! alone, so that nobody writes parts of a batch that was finished long ago. Two that are at it at
//! once do no harm: a change that is made already changes nothing.

use super::record::{BatchId, Record, RecordError, TABLE, id_of};
use crate::remote::{Deadline, WriteTerms};
use crate::shard::{Barrier, Change, Shard, WriteError};
use crate::view::View;
use cluster::GroupId;
use cluster::liveness::MonotonicNanos;
use cql::plan::write::PartitionWrite;
use model::CqlType;
use model::TimestampMicros;
use model::literal::format_value;
use model::mutation::{MutationItem, MutationView};
use model::read::{ReadCommand, ReadScope, ResumePoint, Slice};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How old a record is when the leader of its group begins to finish the batch.
pub(super) const TAKEOVER_AGE: Duration = Duration::from_secs(10);
/// How often a leader looks for batches to finish.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After so many looks the tables are searched again: records also come with snapshots of ranges,
/// which are no entries that are applied.
const LOOKS_PER_SEARCH: u64 = 60;
/// How long to wait before the rest of a decided batch is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long one attempt to write the rest of a decided batch may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches that a shard finishes at once for others.
const FINISHED_AT_ONCE_MAX: usize = 16;
/// Records of unfinished batches that are read at once when a node starts.
const RECORDS_PER_PAGE_MAX: u32 = 1_000;

/// The records that a shard holds.
#[derive(Debug, Default)]
pub(crate) struct OpenBatches {
    open: BTreeMap<BatchId, OpenBatch>,
}

#[derive(Debug)]
struct OpenBatch {
    /// Nothing while it has not been read.
    group: Option<GroupId>,
    /// When the record came to this shard; nothing if it was here when the shard started.
    since: Option<MonotonicNanos>,
    /// It is being finished, or cannot be read.
    is_in_hand: bool,
}

impl OpenBatches {
    /// A change of [`TABLE`] was applied, as part of an entry of a group.
    pub(crate) fn applied(&mut self, group: GroupId, change: &MutationView, now: MonotonicNanos) {
        let Some(id) = id_of(change) else { return };
        let is_deletion =
            change.items().any(|item| matches!(item, MutationItem::PartitionTombstone(_)));
        if is_deletion {
            self.open.remove(&id);
        } else {
            let batch = OpenBatch { group: Some(group), since: Some(now), is_in_hand: false };
            self.open.insert(id, batch);
        }
    }

    /// A record was found that this shard holds since before it started.
    fn found(&mut self, id: BatchId) {
        let batch = OpenBatch { group: None, since: None, is_in_hand: false };
        self.open.entry(id).or_insert(batch);
    }

    /// Batches that are due, of groups of which `decides` says so.
    pub(crate) fn due(
        &mut self,
        now: MonotonicNanos,
        count_max: usize,
        decides: impl Fn(GroupId) -> bool,
    ) -> Vec<BatchId> {
        let due = self.open.iter_mut().filter(|(_, batch)| {
            !batch.is_in_hand && batch.is_old(now) && batch.group.is_none_or(&decides)
        });
        due.take(count_max)
            .map(|(id, batch)| {
                batch.is_in_hand = true;
                *id
            })
            .collect()
    }

    /// How many batches have been open for so long that something is in their way.
    pub(crate) fn overdue_count(&self, now: MonotonicNanos) -> u64 {
        self.open.values().filter(|batch| batch.is_old(now)).count() as u64
    }
}

impl OpenBatch {
    fn is_old(&self, now: MonotonicNanos) -> bool {
        let is_old = |since: MonotonicNanos| {
            u128::from(now.0.saturating_sub(since.0)) >= TAKEOVER_AGE.as_nanos()
        };
        self.since.is_none_or(is_old)
    }
}

impl Shard {
    /// Writes what is left of a decided batch until it succeeds or is left to the leader of its
    /// group, which is [`TAKEOVER_AGE`] after it was to be decided, however long this node stood still
    /// meanwhile: rows that the batch wrote may have been deleted since, and their tombstones purged.
    pub(super) async fn finish_own(self: &Rc<Self>, record: &Record, takeover: Deadline) {
        loop {
            let time_left = takeover.time_left(self);
            if self.has_failed() || time_left <= RETRY_PAUSE {
                return;
            }
            let timeout = FINISH_TIMEOUT.min(time_left);
            match self.make_parts(record.parts.clone(), record.timestamp, timeout).await {
                Ok(()) => return self.forget(record.group, record.id, record.timestamp).await,
                Err(error) => tracing::warn!("a logged batch is not finished yet: {error}"),
            }
            self.shared.env.clock.sleep(RETRY_PAUSE).await;
        }
    }

    /// Tries once to make the parts of a decided batch.
    async fn make_parts(
        self: &Rc<Self>,
        mut parts: Vec<PartitionWrite>,
        timestamp: TimestampMicros,
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let view = self.view();
        // A table that was dropped meanwhile takes its changes with it.
        parts.retain(|write| view.table(write.table.id).is_some());
        let terms = WriteTerms {
            clock_floor: timestamp,
            is_decided: true,
            ..WriteTerms::own(self, timeout)
        };
        let routed = self.route(&view, parts, terms.level).map_err(WriteError::Unavailable)?;
        self.write_routed(routed, terms).await
    }

    /// Strikes a finished batch off the record.
    pub(super) async fn forget(
        self: &Rc<Self>,
        group: GroupId,
        id: BatchId,
        timestamp: TimestampMicros,
    ) {
        let change = Change::Write(vec![Record::deletion(id, timestamp)]);
        let terms = WriteTerms::own(self, FINISH_TIMEOUT);
        if let Err(error) = self.write_to_group(group, change, terms).await {
            tracing::warn!("a finished batch is still on record: {error}");
        }
    }

    /// Finishes batches for as long as the shard lives: first, as far as it lies with this node,
    /// those of before the start.
    pub(crate) async fn finish_batches(self: Rc<Self>) {
        while !self.find_batches().await {
            self.shared.env.clock.sleep(RETRY_PAUSE).await;
        }
        self.make_own_parts().await;
        self.shared.shards_with_old_batches.fetch_sub(1, Ordering::Release);
        for turn in 1_u64.. {
            self.finish_due();
            self.shared.env.clock.sleep(LOOK_INTERVAL).await;
            if turn.is_multiple_of(LOOKS_PER_SEARCH) {
                self.find_batches().await;
            }
        }
    }

    /// Finds the records that the shard's tables hold; `false` if they could not be read.
    pub(crate) async fn find_batches(self: &Rc<Self>) -> bool {
        let mut resume = None;
        loop {
            let scope = ReadScope::TokenRange { first: i64::MIN, last: i64::MAX };
            let command = self.records_command(scope, resume.take());
            let page = match self.read(&command, Barrier::default()).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!("unfinished batches are not read yet: {error}");
                    return false;
                }
            };
            for partition in page.partitions() {
                match partition.ok().and_then(|partition| id_of(&partition)) {
                    Some(id) => self.with_open_batches(|batches| batches.found(id)),
                    None => self.report_unreadable(&[], RecordError::NotARecord),
                }
            }
            resume = page.resume;
            if resume.is_none() {
                return true;
            }
        }
    }

    /// Makes the parts of old batches that go to ranges which this node alone holds: changes of
    /// lists wait for that.
    async fn make_own_parts(self: &Rc<Self>) {
        let old: Vec<BatchId> = self.with_open_batches(|batches| {
            batches.open.iter().filter(|(_, b)| b.group.is_none()).map(|(id, _)| *id).collect()
        });
        for id in old {
            let Some(record) = self.read_open(id).await else { continue };
            loop {
                let view = self.view();
                let is_own = |write: &PartitionWrite| is_held_alone(&view, write);
                let own = record.parts.iter().filter(|write| is_own(write)).cloned().collect();
                match self.make_parts(own, record.timestamp, FINISH_TIMEOUT).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!("a logged batch is not finished yet: {error}"),
                }
                if self.has_failed() {
                    return;
                }
                self.shared.env.clock.sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Begins to finish batches that their coordinators have not finished, in groups led here.
    fn finish_due(self: &Rc<Self>) {
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        let due = self.due_batches(now, FINISHED_AT_ONCE_MAX);
        for id in due {
            let shard = self.clone();
            tokio::task::spawn_local(async move { shard.finish_open(id).await });
        }
    }

    async fn finish_open(self: &Rc<Self>, id: BatchId) {
        let Some(record) = self.read_open(id).await else { return };
        let (group, timestamp) = (record.group, record.timestamp);
        if !self.decides(group) {
            return self.put_back(id, Some(group));
        }
        tracing::info!("finishing a logged batch of {} more changes", record.parts.len());
        match self.make_parts(record.parts, timestamp, FINISH_TIMEOUT).await {
            Ok(()) => self.forget(group, id, timestamp).await,
            Err(error) => tracing::warn!("a logged batch is not finished yet: {error}"),
        }
        self.put_back(id, Some(group));
    }

    /// Another look at it is worth while, if it is still on record.
    fn put_back(&self, id: BatchId, group: Option<GroupId>) {
        self.with_open_batches(|batches| {
            if let Some(batch) = batches.open.get_mut(&id) {
                batch.group = group;
                batch.is_in_hand = false;
            }
        });
    }

    /// Reads a record, unless it is gone.
    async fn read_open(self: &Rc<Self>, id: BatchId) -> Option<Record> {
        let command = self.records_command(ReadScope::Partition(id.0[..].into()), None);
        let page = match self.read(&command, Barrier::default()).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!("an unfinished batch is not read: {error}");
                self.put_back(id, None);
                return None;
            }
        };
        let Some(partition) = page.partitions().next() else {
            self.with_open_batches(|batches| batches.open.remove(&id));
            return None;
        };
        let view = self.view();
        let record = partition
            .map_err(|_| RecordError::NotARecord)
            .and_then(|partition| Record::read(&partition, |id| view.table(id).cloned()));
        if let Err(error) = &record {
            self.report_unreadable(&id.0, *error);
            self.with_open_batches(|batches| {
                batches.open.entry(id).and_modify(|batch| batch.is_in_hand = true);
            });
        }
        record.ok()
    }

    fn records_command(&self, scope: ReadScope, resume: Option<ResumePoint>) -> ReadCommand {
        ReadCommand {
            table: TABLE.id,
            scope,
            slices: [Slice::all()].into(),
            reversed: false,
            include_static: false,
            now: self.shared.env.clock.now_seconds(),
            row_limit: RECORDS_PER_PAGE_MAX,
            partition_row_limit: u32::MAX,
            page_bytes: usize::MAX,
            resume,
        }
    }

    /// Nobody can tell what the batch was to change, so it stays unfinished, for an operator to see.
    fn report_unreadable(&self, id: &[u8], error: RecordError) {
        self.unreadable_batches.set(self.unreadable_batches.get() + 1);
        let id = format_value(&CqlType::Blob, id);
        tracing::error!(
            "shard {}: the record of logged batch {id} cannot be read: {error}; what it was to \
             change besides its first range is not made, and the record stays",
            self.index
        );
    }
}

/// Whether nobody but this node holds the range of a write.
fn is_held_alone(view: &View, write: &PartitionWrite) -> bool {
    view.placed_table(write.table.id)
        .is_some_and(|table| table.placement.all(view.ranges.range_of(write.token)) == [view.local])
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Token;

    fn put(batches: &mut OpenBatches, write: &PartitionWrite, now: u64) {
        let change = MutationView::check(&write.mutation).expect("it is a mutation");
        batches.applied(GroupId(3), &change, MonotonicNanos(now));
    }

    #[test]
    fn a_batch_is_due_once_it_is_old_and_its_group_is_led_here_and_nobody_is_at_it() {
        let id = BatchId::new(Token(4), 1);
        let record = Record { id, group: GroupId(3), timestamp: 5, parts: Vec::new() };
        let age = TAKEOVER_AGE.as_nanos() as u64;
        let mut batches = OpenBatches::default();
        put(&mut batches, &record.to_write(), 100);
        let due = |batches: &mut OpenBatches, now, leads| {
            batches.due(MonotonicNanos(now), 9, |group| leads && group == GroupId(3))
        };
        assert_eq!(due(&mut batches, age, true), [], "its coordinator is at it");
        assert_eq!(due(&mut batches, age + 100, false), [], "another leads");
        assert_eq!(batches.overdue_count(MonotonicNanos(age + 100)), 1);
        assert_eq!(due(&mut batches, age + 100, true), [id]);
        assert_eq!(due(&mut batches, age + 100, true), [], "it is in hand");
        put(&mut batches, &Record::deletion(id, 5), 200);
        assert_eq!(batches.overdue_count(MonotonicNanos(age + 200)), 0);
        batches.found(id);
        assert_eq!(due(&mut batches, age, false), [id], "whose it is will be read");
    }
}
