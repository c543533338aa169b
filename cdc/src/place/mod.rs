//! Where a write stands in the log's time, and what the log says of it there.
//!
//! The rules, their reasons and the schedules that break each of them are in `docs/log-time.md`;
//! numbers in comments (rule 5) refer to it. In one step per partition the leader of a range
//!
//! 1. asks [`need`] what it must have read before it can decide: mostly nothing;
//! 2. calls [`decide`], which places the write and makes its log rows;
//! 3. proposes base and log mutations as one entry that carries the new [`Placement`].
//!
//! No other write of the partition may be decided in between. The partition's content for step 2 is
//! what is stored and what was proposed but is not yet committed; so a write that changes nothing
//! may be acknowledged only when the entries proposed before it are committed.
//!
//! What it does not know: consensus, storage, and clocks. Who calls it keeps N (the partition's
//! newest own timestamp) and, for image tables, the partition's last log time; a last log time that
//! is not above C may be forgotten.

mod deleted_rows;
mod deletes;
mod look;
#[cfg(test)]
mod model_test;
mod need;
mod split;
mod timeline;

pub use deleted_rows::Room;
pub use need::{Look, Need, need};
pub use split::TIMESTAMPS_MAX;

pub(crate) use look::Kept;

use crate::content::Content;
use crate::delta::{Bound, Delta, RowDelta};
use crate::error::{CdcError, invalid};
use crate::layout::LogLayout;
use crate::log_buffer::{LogBuffer, Space, emptied};
use crate::rows::{
    GroupPlace, ImageOf, Images, PlannedRow, plan_deltas, plan_one_row, postimage_of, preimage_of,
};
use crate::stream::Generations;
use crate::time_uuid::log_time_uuid;
use look::{Told, look};
use model::entry::Placement;
use model::merge::{is_overwritten, merge_rows};
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::partition::Partition;
use model::row::RowView;
use model::{EpochSeconds, TimestampMicros, Token};
use split::{OwnDeletes, Write, split};
use timeline::Timeline;

/// How far the closed time may trail the clock, and how far a timestamp may be ahead of it and
/// still count as on time, in microseconds.
pub const LATENESS_MICROS_MAX: i64 = 5_000_000;

/// What the leader of a range knows of its place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// C, M and FAR, undecided entries included.
    pub times: Placement,
    /// M when this leader began to lead.
    pub started_at: TimestampMicros,
}

/// A write to one partition, and all that its decision depends on but the partition's content.
#[derive(Clone, Copy, Debug)]
pub struct WriteInput<'a> {
    /// The base table and its log.
    pub layout: &'a LogLayout,
    /// All generations of streams; at least one.
    pub generations: &'a Generations,
    /// The base table's change, checked and stamped.
    pub mutation: MutationView<'a>,
    /// The token of its key.
    pub token: Token,
    /// N: the newest own timestamp in the partition, undecided entries included; a collection
    /// tombstone counts one more. Too high is safe. `None` when there is nothing.
    pub newest: Option<TimestampMicros>,
    /// The leader's place in time before the write.
    pub leader: Leader,
    /// The leader's clock.
    pub clock_micros: TimestampMicros,
    /// The time that decides about expired cells.
    pub now_seconds: EpochSeconds,
    /// Image tables: the partition's last log time, when it is known.
    pub last_log_time: Option<TimestampMicros>,
    /// How many rows under deletes may be told one by one, if the content has all that [`need`]
    /// wanted of them; else the deletes are told as ranges alone.
    pub room: Option<Room>,
}

/// What becomes of the base table's mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseChange {
    /// It is proposed as it came.
    AsItStands,
    /// What it would not change was taken out.
    Reduced(Vec<u8>),
    /// It changes nothing: a retry, or a write that newer ones have made void.
    Nothing,
}

/// What the leader proposes for a write, beside the log mutations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The base table's part.
    pub base: BaseChange,
    /// C, M and FAR after the write; the entry carries them.
    pub times: Placement,
    /// The partition's last log time after the write, when this or an earlier one is known.
    pub last_log_time: Option<TimestampMicros>,
    /// What is left of the room that the write had for rows under deletes.
    pub room: Option<Room>,
}

/// Places a write and makes its log rows, which are in `log` afterwards.
///
/// `content` is the partition as far as [`need`] asked for it, tombstones included; `uuid_counter`
/// gives numbers that grow from group to group (see [`log_time_uuid`]). Errors when the mutation's
/// keys or paths do not decode, or when it has more than [`TIMESTAMPS_MAX`] timestamps; nothing was
/// decided then.
pub fn decide(
    input: &WriteInput,
    content: Option<Content>,
    uuid_counter: &mut dyn FnMut() -> u64,
    log: &mut LogBuffer,
) -> Result<Decision, CdcError> {
    log.clear();
    let writes = split(&input.mutation)?;
    let writes = writes.as_slice();
    let mut timeline = Timeline::new(input);
    let (mut newest, mut room) = (input.newest, input.room);
    let nothing_loaded = Partition::default();
    let mut state = State::Given(content.unwrap_or(Content::Partition(&nothing_loaded)));
    let mut kept = std::mem::take(&mut log.space.kept);
    kept.clear();
    for write in writes {
        let view = MutationView::new(&write.mutation)?;
        let place = timeline.place(write.timestamp, newest);
        let looks = write.looks(newest)?;
        let reads = looks || input.layout.has_images();
        assert!(!reads || content.is_some(), "the leader reads what need() asks for");
        let before = state.content();
        if let (Some(row), false) = (upserted_row(&view), looks) {
            let mut groups = Groups { input, uuid_counter, log };
            if groups.write_row(row, before, place.time)? {
                timeline.use_up_to(write.timestamp, &place, place.time);
                newest = newest.max(Some(write.timestamp));
                if writes.len() > 1 && content.is_some() {
                    state.apply(&view);
                }
                kept.push(Kept::All);
                continue;
            }
        }
        let rows = emptied(std::mem::take(&mut log.space.delta_rows));
        let Told { mut delta, survivors, kept: part } = if looks {
            look(input, &view, before, write.timestamp, place.relog, rows)
        } else {
            let delta = Delta::as_it_stands(&view, rows);
            Told { delta, survivors: Delta::default(), kept: Kept::All }
        };
        if input.layout.tells_deleted_rows {
            deleted_rows::tell(input, write.timestamp, &before, &mut delta, &mut room);
        }
        newest = newest.max(Some(write.timestamp));
        let change = part.bytes(write).map(MutationView::new).transpose()?;
        let mut groups = Groups { input, uuid_counter, log };
        let last = groups.write(delta, survivors, &view, before, change, place.time)?;
        if let Some(last) = last {
            timeline.use_up_to(write.timestamp, &place, last);
        }
        // Later writes of the mutation see this one; the last has none, and without content none
        // of them looks.
        if let Some(change) = change.filter(|_| writes.len() > 1 && content.is_some()) {
            state.apply(&change);
        }
        kept.push(part);
    }
    let base = base_change(input, writes, &mut kept)?;
    log.space.kept = kept;
    let (times, last_log_time) = (timeline.times, timeline.last_log_time);
    Ok(Decision { base, times, last_log_time, room })
}

/// The partition between the writes of a mutation.
enum State<'a> {
    Given(Content<'a>),
    Changed(Box<Partition>),
}

impl State<'_> {
    fn content(&self) -> Content<'_> {
        match self {
            State::Given(content) => *content,
            State::Changed(partition) => Content::Partition(partition),
        }
    }

    fn apply(&mut self, change: &MutationView) {
        if let State::Given(content) = self {
            *self = State::Changed(Box::new(content.to_partition()));
        }
        if let State::Changed(partition) = self {
            partition.apply(change);
        }
    }
}

/// Rule 25: the place in time of the entry that switches a table's images on or off.
pub fn close_for_images(times: &Placement) -> Placement {
    Placement { closed: times.closed.max(times.placed), ..*times }
}

fn base_change(
    input: &WriteInput,
    writes: &[Write],
    kept: &mut [Kept],
) -> Result<BaseChange, CdcError> {
    if !kept.is_empty() && kept.iter().all(|k| *k == Kept::All) {
        return Ok(BaseChange::AsItStands);
    }
    if kept.iter().all(|k| *k == Kept::Nothing) {
        return Ok(BaseChange::Nothing);
    }
    if let [Kept::Part(bytes)] = kept {
        return Ok(BaseChange::Reduced(std::mem::take(bytes)));
    }
    let mut all = Partition::default();
    for (write, kept) in writes.iter().zip(kept) {
        if let Some(bytes) = kept.bytes(write) {
            all.apply(&MutationView::new(bytes)?);
        }
    }
    let mutation = &input.mutation;
    let mut out = Vec::with_capacity(mutation.as_bytes().len());
    let mut writer =
        MutationWriter::new(&mut out, mutation.table(), mutation.schema_version(), mutation.key());
    all.write(&mut writer);
    Ok(BaseChange::Reduced(out))
}

/// Makes the groups of a write.
struct Groups<'g, 'a> {
    input: &'g WriteInput<'a>,
    uuid_counter: &'g mut dyn FnMut() -> u64,
    log: &'g mut LogBuffer,
}

impl Groups<'_, '_> {
    /// Makes one group, or two when something survives a delete, and says which microsecond was the
    /// last one used. An empty delta makes none (rule 21).
    fn write(
        &mut self,
        mut delta: Delta,
        mut survivors: Delta,
        write: &MutationView,
        before: Content,
        change: Option<MutationView>,
        time: TimestampMicros,
    ) -> Result<Option<TimestampMicros>, CdcError> {
        let (layout, now) = (self.input.layout, self.input.now_seconds);
        if delta.is_empty() && survivors.is_empty() {
            self.log.space.delta_rows = emptied(delta.rows);
            return Ok(None);
        }
        let mut images = Images::with_space(emptied(std::mem::take(&mut self.log.space.touched)));
        let mut row_after = std::mem::take(&mut self.log.space.row_after);
        let partition_after;
        let mut rows = emptied(std::mem::take(&mut self.log.space.planned));
        if layout.has_images() {
            images.touch(layout, &delta);
            images.touch(layout, &survivors);
            images.sort();
            images.plan_before(layout, &before, now, &mut rows);
        }
        plan_deltas(&layout.base, &mut delta, &mut rows)?;
        let mut last = time;
        if !survivors.is_empty() {
            self.group(last, rows.iter())?;
            rows.clear();
            last = last.saturating_add(1);
            plan_deltas(&layout.base, &mut survivors, &mut rows)?;
        }
        if layout.options.postimage {
            let after = match (before, change) {
                (before, None) => before,
                (Content::Row { clustering, row }, Some(change)) => {
                    merge_row(row, &change, &mut row_after);
                    Content::Row { clustering, row: Some(RowView::new(&row_after)) }
                }
                (Content::Partition(content), Some(change)) => {
                    let mut after = Partition::default();
                    images.copy_rows(content, &mut after);
                    after.apply(&change);
                    partition_after = after;
                    Content::Partition(&partition_after)
                }
            };
            let own = OwnDeletes::of(write);
            let covers = |row: ImageOf| match row {
                ImageOf::StaticRow => own.partition,
                ImageOf::Row(clustering) => own.cover(clustering),
            };
            images.plan_after(layout, &after, now, covers, &mut rows);
        }
        self.group(last, rows.iter())?;
        let space = &mut self.log.space;
        space.planned = emptied(rows);
        space.delta_rows = emptied(delta.rows);
        space.touched = emptied(images.into_space());
        space.row_after = row_after;
        Ok(Some(last))
    }

    /// Makes the group of a write that upserts one row, is newer than all that is there, and is
    /// told as it stands: what [`Groups::write`] makes of it, with less on the way. `false`, and
    /// nothing was made, when it takes more than that.
    fn write_row<'a>(
        &mut self,
        (clustering, row): (&'a [u8], RowView<'a>),
        before: Content<'a>,
        time: TimestampMicros,
    ) -> Result<bool, CdcError> {
        let (layout, now) = (self.input.layout, self.input.now_seconds);
        let delta = RowDelta::as_it_stands(row);
        let old = match before {
            Content::Row { row, .. } => row,
            Content::Partition(_) if !layout.has_images() => None,
            Content::Partition(_) => return Ok(false),
        };
        let preimage = preimage_of(layout, clustering, &delta, &before, now);
        let Ok(planned) = plan_one_row(Some(Bound::Position(clustering)), delta) else {
            return Ok(false);
        };
        let mut merged = std::mem::take(&mut self.log.space.row_after);
        let after = match old {
            Some(old) if layout.options.postimage && !is_overwritten(old, row) => {
                merged.clear();
                merge_rows(old, row, &mut merged);
                RowView::new(&merged)
            }
            _ => row,
        };
        let after = Content::Row { clustering, row: Some(after) };
        let postimage = postimage_of(layout, clustering, &after, now);
        let rows = [preimage, Some(planned), postimage];
        self.group(time, rows.iter().flatten())?;
        self.log.space.row_after = merged;
        Ok(true)
    }

    fn group<'r>(
        &mut self,
        time: TimestampMicros,
        rows: impl Iterator<Item = &'r PlannedRow<'r>>,
    ) -> Result<(), CdcError> {
        let generations = self.input.generations;
        let generation = generations
            .operating_at(time)
            .or(generations.list().first())
            .ok_or_else(|| invalid("No generation of CDC streams is known yet"))?;
        let place = GroupPlace {
            stream: generation.stream_of(self.input.token.0),
            time,
            time_uuid: log_time_uuid(time, (self.uuid_counter)()),
            now: self.input.now_seconds,
        };
        let LogBuffer { bytes, ends, space: Space { writer, .. } } = &mut *self.log;
        writer.write(self.input.layout, self.input.mutation.key(), &place, rows, bytes)?;
        ends.push(bytes.len());
        Ok(())
    }
}

/// The row that is all a write changes, and that it only upserts.
fn upserted_row<'a>(write: &MutationView<'a>) -> Option<(&'a [u8], RowView<'a>)> {
    let mut items = write.items();
    match (items.next(), items.next()) {
        (Some(MutationItem::Row { clustering, row }), None) if row.tombstone().is_none() => {
            Some((clustering, row))
        }
        _ => None,
    }
}

/// The row that a change of it alone leaves, in `out`.
fn merge_row(row: Option<RowView>, change: &MutationView, out: &mut Vec<u8>) {
    out.clear();
    for item in change.items() {
        let MutationItem::Row { row: new, .. } = item else {
            unreachable!("need() asks for a row alone when the write changes nothing else");
        };
        match row {
            Some(old) => merge_rows(old, new, out),
            None => out.extend_from_slice(new.as_bytes()),
        }
    }
}
