//! A range with one partition, its leader and its log, in miniature: what golden scripts and the
//! random test drive.
//!
//! Every entry is kept, so that a change of leader can lose a tail of them, and so that the table
//! and the log can be rebuilt and compared at any time ([`Range::check`]).

use super::statement::parse_write;
use crate::fold::{Fold, Image, LogRow, live_rows, read_log_rows};
use crate::place::close_for_images;
use crate::{
    BaseChange, Content, Decision, Generation, Generations, Leader, LogBuffer, LogLayout, Look,
    Need, Room, WriteInput, decide, need, new_log_table,
};
use model::entry::Placement;
use model::mutation::MutationView;
use model::partition::Partition;
use model::row::RowView;
use model::value::compare_values;
use model::{CdcOptions, CqlType, PreimageMode, TableDef, TableId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Serialised partition key of the one partition: the int 7.
pub const KEY: [u8; 4] = 7_i32.to_be_bytes();

/// An entry of the range's log.
struct Entry {
    /// As the client sent it.
    original: Vec<u8>,
    /// As it was proposed.
    stored: Option<Vec<u8>>,
    log: Vec<Vec<u8>>,
    times: Placement,
}

/// A range's leader and its log, in one partition, whose key is [`KEY`].
pub struct Range {
    /// The table and its log.
    pub layout: LogLayout,
    /// The leader's clock, in microseconds.
    pub clock: i64,
    /// How many rows under deletes are told one by one, where the table has a feed that asks for it.
    pub room: Room,
    pub(crate) times: Placement,
    pub(crate) started_at: i64,
    pub(crate) last_log_time: Option<i64>,
    generations: Generations,
    entries: Vec<Entry>,
    published: i64,
    /// How many entries are known to be committed: no leader can lose them.
    committed: usize,
    counter: u64,
    buffer: LogBuffer,
}

impl Range {
    /// An empty partition of a table that is logged with these options.
    pub fn new(base: TableDef, options: CdcOptions) -> Self {
        let mut base = base;
        base.options.cdc = Some(CdcOptions { enabled: true, ..options });
        let log = new_log_table(&base, TableId(2)).unwrap();
        Range {
            layout: LogLayout::new(Arc::new(base), Arc::new(log)).unwrap(),
            clock: 0,
            room: Room::OF_ENTRY,
            times: Placement::START,
            started_at: i64::MIN,
            last_log_time: None,
            generations: [Generation::new(0, &[0, i64::MAX])].into_iter().collect(),
            entries: Vec::new(),
            published: i64::MIN,
            committed: 0,
            counter: 0,
            buffer: LogBuffer::new(),
        }
    }

    /// When generations of streams start, in milliseconds.
    pub fn set_generations(&mut self, starts_millis: &[i64]) {
        let all = starts_millis.iter().map(|start| Generation::new(*start, &[0, i64::MAX]));
        self.generations = all.collect();
    }

    fn now(&self) -> i64 {
        self.clock.div_euclid(1_000_000)
    }

    /// The base table's partition, stored and undecided.
    pub fn stored(&self) -> Partition {
        let mut partition = Partition::default();
        for bytes in self.entries.iter().filter_map(|entry| entry.stored.as_deref()) {
            partition.apply(&MutationView::check(bytes).unwrap());
        }
        partition
    }

    /// Decides a write and proposes it. The leader sees only what it asks for.
    pub fn write(
        &mut self,
        text: &str,
        timestamp: &dyn Fn(&str) -> i64,
    ) -> Result<Decision, String> {
        let original = parse_write(&self.layout.base, &KEY, text, self.now(), timestamp);
        let stored = self.stored();
        let input = WriteInput {
            layout: &self.layout,
            generations: &self.generations,
            mutation: MutationView::check(&original).unwrap(),
            token: self.layout.base.token(&KEY),
            newest: stored.newest_timestamp(),
            leader: Leader { times: self.times, started_at: self.started_at },
            clock_micros: self.clock,
            now_seconds: self.now(),
            last_log_time: self.last_log_time,
            room: None,
        };
        let needed = need(&input).map_err(|e| e.to_string())?;
        let seen = needed.clone().look().map(|look| seen_through(&stored, &look));
        let input = WriteInput { room: Some(self.room), ..input };
        let content = seen.as_ref().map(|seen| match needed {
            Need::Row(clustering) if is_bare(seen) => {
                let row = seen.rows.get(clustering).map(|row| RowView::new(row));
                Content::Row { clustering, row }
            }
            _ => Content::Partition(seen),
        });
        let mut counter = self.counter;
        let mut next = || {
            counter += 1;
            counter
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let decision =
            decide(&input, content, &mut next, &mut buffer).map_err(|e| e.to_string())?;
        self.counter = counter;
        let log: Vec<Vec<u8>> = buffer.mutations().map(<[u8]>::to_vec).collect();
        self.buffer = buffer;
        self.propose(original, &decision, log)?;
        Ok(decision)
    }

    fn propose(
        &mut self,
        original: Vec<u8>,
        decision: &Decision,
        log: Vec<Vec<u8>>,
    ) -> Result<(), String> {
        for row in self.rows_of(&log) {
            if row.micros() <= self.published {
                return Err(format!("a row at {}, closed {}", row.micros(), self.published));
            }
        }
        self.times = decision.times;
        self.last_log_time = decision.last_log_time;
        let stored = match &decision.base {
            BaseChange::AsItStands => Some(original.clone()),
            BaseChange::Reduced(bytes) => Some(bytes.clone()),
            BaseChange::Nothing => None,
        };
        self.entries.push(Entry { original, stored, log, times: self.times });
        Ok(())
    }

    /// The log mutations of the last write.
    pub fn last_log(&self) -> &[Vec<u8>] {
        self.entries.last().map_or(&[], |entry| &entry.log)
    }

    /// How many entries the range's log has.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The leader closes time and says so; what was proposed before is committed.
    pub fn publish(&mut self, closed: i64) {
        self.times.closed = self.times.closed.max(closed);
        self.published = self.published.max(self.times.closed);
        self.committed = self.entries.len();
    }

    /// A new leader; up to `lost` entries that nobody was told of are gone.
    pub fn change_leader(&mut self, lost: usize, clock: i64) {
        let kept = self.entries.len().saturating_sub(lost).max(self.committed);
        self.entries.truncate(kept);
        let mut times = Placement::START;
        self.entries.iter().for_each(|entry| times.raise(&entry.times));
        times.closed = times.closed.max(self.published);
        self.times = times;
        self.started_at = times.placed;
        self.last_log_time = None;
        self.clock = clock;
    }

    /// `ALTER TABLE … WITH cdc`: takes effect once its entry is committed.
    pub fn switch_images(&mut self, preimage: PreimageMode, postimage: bool) {
        let mut base = (*self.layout.base).clone();
        let old = base.options.cdc.unwrap_or_default();
        base.options.cdc = Some(CdcOptions { preimage, postimage, ..old });
        self.layout = LogLayout::new(Arc::new(base), self.layout.log.clone()).unwrap();
        self.times = close_for_images(&self.times);
        let nothing = parse_write(&self.layout.base, &KEY, "update - @0", 0, &|_| 0);
        let (times, log) = (self.times, Vec::new());
        self.entries.push(Entry { original: nothing, stored: None, log, times });
        self.committed = self.entries.len();
    }

    pub(crate) fn rows_of(&self, log_mutations: &[Vec<u8>]) -> Vec<LogRow> {
        let mut rows = Vec::new();
        for bytes in log_mutations {
            let mutation = MutationView::check(bytes).unwrap();
            rows.extend(read_log_rows(&self.layout.log, &mutation).unwrap());
        }
        rows
    }

    /// The whole log, in the order of its times.
    pub fn log_rows(&self) -> Vec<LogRow> {
        let mut rows: Vec<LogRow> =
            self.entries.iter().flat_map(|entry| self.rows_of(&entry.log)).collect();
        rows.sort_by(|a, b| {
            compare_values(&CqlType::TimeUuid, &a.time, &b.time)
                .then(a.batch_seq_no.cmp(&b.batch_seq_no))
        });
        rows
    }

    /// Replays the log; every row must be one that a log may hold.
    pub fn fold(&self) -> Result<Partition, String> {
        let mut fold = Fold::new(self.layout.base.clone());
        for group in self.log_rows().chunk_by(|a, b| a.time == b.time) {
            self.check_group(group)?;
            let before = partition_of(&fold);
            for row in group {
                fold.apply(row).map_err(|e| e.to_string())?;
            }
            self.check_images(group, &before, &partition_of(&fold))?;
        }
        Ok(partition_of(&fold))
    }

    fn check_group(&self, group: &[LogRow]) -> Result<(), String> {
        for (index, row) in group.iter().enumerate() {
            let is_last = index + 1 == group.len();
            if row.batch_seq_no as usize != index || row.end_of_batch != is_last {
                return Err(format!("a group is numbered wrongly: {group:?}"));
            }
            let operating = self.generations.operating_at(row.micros());
            let streams: Vec<_> = operating.map(|g| g.streams().collect()).unwrap_or_default();
            if !streams.iter().any(|stream| stream[..] == row.stream[..]) {
                return Err(format!("not a stream of its time: {row:?}"));
            }
        }
        Ok(())
    }

    /// Images tell the table before and after the group, and all rows that should have them do.
    fn check_images(
        &self,
        group: &[LogRow],
        before: &Partition,
        after: &Partition,
    ) -> Result<(), String> {
        let (before, after) = (live_rows(before, self.now()), live_rows(after, self.now()));
        let mut imaged = [BTreeSet::new(), BTreeSet::new()];
        for row in group {
            let Some(image) = Image::of(&self.layout.base, row).map_err(|e| e.to_string())? else {
                continue;
            };
            let (table, name) =
                if row.operation == 0 { (&before, "before") } else { (&after, "after") };
            let mut expected = table.get(&image.clustering).cloned().unwrap_or_default().cells;
            expected.retain(|(column, _), _| image.columns.contains(column));
            if image.cells != expected {
                return Err(format!("image {image:?} is not the row {name}: {expected:?}"));
            }
            imaged[usize::from(row.operation == 9)].insert(image.clustering);
        }
        // Images were switched on for this group if it has any.
        let changed = group.iter().filter(|row| matches!(row.operation, 1..=3));
        for row in changed.filter(|_| !imaged[0].is_empty()) {
            let image = LogRow { operation: 0, ..row.clone() };
            let image = Image::of(&self.layout.base, &image).map_err(|e| e.to_string())?;
            let clustering = image.and_then(|image| image.clustering);
            if before.contains_key(&clustering) != imaged[0].contains(&clustering) {
                return Err(format!("no image of the row before: {row:?}"));
            }
        }
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        self.check_deleted_rows(group, &gone.collect())
    }

    /// A delete that is told row by row names each row that goes with it, and no other.
    fn check_deleted_rows(
        &self,
        group: &[LogRow],
        gone: &BTreeSet<&Option<Vec<u8>>>,
    ) -> Result<(), String> {
        let mut named = BTreeSet::new();
        let has_room = self.room == Room::OF_ENTRY && self.layout.tells_deleted_rows;
        let mut is_by_row = false;
        for row in group {
            let marked = row.ttl_seconds == Some(0);
            if matches!(row.operation, 4..=8) {
                is_by_row |= marked;
                if has_room && !marked {
                    return Err(format!("a delete is not told row by row: {row:?}"));
                }
                continue;
            }
            let image = LogRow { operation: 0, ..row.clone() };
            let image = Image::of(&self.layout.base, &image).map_err(|e| e.to_string())?;
            let key = image.and_then(|image| image.clustering);
            if marked && !gone.contains(&key) {
                return Err(format!("a row that does not go is told as deleted: {row:?}"));
            }
            if matches!(row.operation, 1..=3) {
                named.insert(key);
            }
        }
        match gone.iter().find(|key| is_by_row && !named.contains(**key)) {
            Some(key) => Err(format!("a row goes and is not told: {key:?} in {group:?}")),
            None => Ok(()),
        }
    }

    /// The law: replaying the log gives the table.
    pub fn check(&self) -> Result<(), String> {
        let mut table = Partition::default();
        for entry in &self.entries {
            table.apply(&MutationView::check(&entry.original).unwrap());
        }
        let table = live_rows(&table, self.now());
        let stored = live_rows(&self.stored(), self.now());
        if table != stored {
            return Err(format!("reducing lost something:\n table {table:?}\n stored {stored:?}"));
        }
        let folded = live_rows(&self.fold()?, self.now());
        if table != folded {
            return Err(format!(
                "the log tells of another table:\n table {table:?}\n log {folded:?}"
            ));
        }
        Ok(())
    }
}

fn partition_of(fold: &Fold) -> Partition {
    fold.partitions.get(&KEY[..]).cloned().unwrap_or_default()
}

/// Whether nothing lies over its rows.
fn is_bare(partition: &Partition) -> bool {
    partition.deletion.is_none() && partition.range_tombstones.is_empty()
}

/// The parts of a partition that were asked for, and no others.
fn seen_through(partition: &Partition, look: &Look) -> Partition {
    let mut seen = Partition { deletion: partition.deletion, ..Partition::default() };
    if look.static_row {
        seen.static_row.clone_from(&partition.static_row);
    }
    for slice in &look.with_deleted_rows() {
        for (clustering, row) in &partition.rows {
            if slice.start <= *clustering && *clustering < slice.end {
                seen.rows.insert(clustering.clone(), row.clone());
            }
        }
    }
    for range in &partition.range_tombstones {
        let wanted = look.rows.iter().chain(&look.tombstones).chain(&look.deleted_rows);
        if wanted.into_iter().any(|s| s.start < range.end && range.start < s.end) {
            seen.range_tombstones.insert(&range.start, &range.end, range.deletion);
        }
    }
    seen
}
