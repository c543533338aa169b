//! The write path of a table with CDC allocates nothing of its own: a decision makes its log rows,
//! images included, in the space of the decisions before it.

#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]

use cdc::{BaseChange, Content, Generation, Generations, LogBuffer, LogLayout, Need, WriteInput};
use model::entry::Placement;
use model::mutation::{MutationItem, MutationView, MutationWriter};
use model::row::{Cell, CellContent, Marker, RowHead, RowView};
use model::schema::Partitioner;
use model::{
    CdcOptions, ColumnDef, ColumnId, ColumnKind, CqlType, DeltaMode, PreimageMode, TableDef,
    TableId, TableOptions, Token,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const COLUMN_COUNT: ColumnId = 5;

/// `ks.t (k blob PRIMARY KEY, v1 blob, … v5 blob)` and its log.
fn layout(options: CdcOptions) -> LogLayout {
    let column = |id, name: String, kind| ColumnDef {
        id,
        name: name.as_str().into(),
        cql_type: CqlType::Blob,
        kind,
        descending: false,
    };
    let mut columns = vec![column(0, "k".to_owned(), ColumnKind::PartitionKey(0))];
    columns.extend((1..=COLUMN_COUNT).map(|id| column(id, format!("v{id}"), ColumnKind::Regular)));
    let base = TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns,
        dropped_columns: Vec::new(),
        next_column_id: COLUMN_COUNT + 1,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: Some(TableId(2)),
        options: TableOptions { cdc: Some(options), ..TableOptions::default() },
    };
    let log = cdc::new_log_table(&base, TableId(2)).expect("the table can have a log");
    LogLayout::new(Arc::new(base), Arc::new(log)).expect("the log has all columns")
}

/// An INSERT of the first columns.
fn insert(timestamp: i64, column_count: ColumnId) -> Vec<u8> {
    let mut out = Vec::new();
    let head = RowHead { marker: Some(Marker { timestamp, expiry: None }), tombstone: None };
    MutationWriter::new(&mut out, TableId(1), 1, b"a key").row(b"", timestamp, head, |row| {
        for column in 1..=column_count {
            let content = CellContent::Live { value: b"some value", expiry: None };
            row.cell(&Cell { column, path: None, timestamp, content });
        }
    });
    out
}

fn view(mutation: &[u8]) -> MutationView<'_> {
    MutationView::check(mutation).expect("the mutation is well-formed")
}

fn row_of(mutation: &[u8]) -> RowView<'_> {
    let item = view(mutation).items().next();
    let Some(MutationItem::Row { row, .. }) = item else { panic!("it has a row") };
    row
}

/// Decides a write over the row of another; the allocations and the log rows that it made.
fn decide(layout: &LogLayout, old: &[u8], new: &[u8], log: &mut LogBuffer) -> (u64, usize) {
    let old_row = row_of(old);
    let generations: Generations = [Generation::new(0, &[0])].into_iter().collect();
    let before = ALLOCATIONS.get();
    let input = WriteInput {
        layout,
        generations: &generations,
        mutation: view(new),
        token: Token(7),
        newest: old_row.newest_timestamp(),
        leader: cdc::Leader { times: Placement::START, started_at: i64::MIN },
        clock_micros: 1_000,
        now_seconds: 0,
        last_log_time: None,
        room: None,
    };
    let content = match cdc::need(&input).expect("the write is well-formed") {
        Need::Nothing => None,
        Need::Row(clustering) => Some(Content::Row { clustering, row: Some(old_row) }),
        Need::Content(_) => panic!("the write changes one row"),
    };
    let mut counter = 0;
    let mut uuid_counter = || {
        counter += 1;
        counter
    };
    let decision =
        cdc::decide(&input, content, &mut uuid_counter, log).expect("the write is well-formed");
    assert_eq!(decision.base, BaseChange::AsItStands);
    let allocations = ALLOCATIONS.get() - before;
    let rows = log.mutations().map(|bytes| view(bytes).items().count());
    (allocations, rows.sum())
}

#[test]
fn deciding_a_write_of_one_row_allocates_nothing() {
    let delta = CdcOptions { enabled: true, ..CdcOptions::default() };
    let preimage = CdcOptions { preimage: PreimageMode::Touched, ..delta };
    let both = CdcOptions { preimage: PreimageMode::Full, postimage: true, ..delta };
    let modes =
        [(delta, 1), (CdcOptions { delta: DeltaMode::Keys, ..delta }, 1), (preimage, 2), (both, 3)];
    for (options, row_count) in modes {
        let (layout, mut log) = (layout(options), LogBuffer::new());
        let old = insert(100, COLUMN_COUNT);
        // The second write leaves columns of the old row, so its row afterwards is a merge.
        for (round, column_count) in [(0, COLUMN_COUNT), (0, 2), (1, COLUMN_COUNT), (2, 2)] {
            let new = insert(200, column_count);
            let (allocations, rows) = decide(&layout, &old, &new, &mut log);
            assert_eq!(rows, row_count, "{options:?}");
            assert!(round == 0 || allocations == 0, "{allocations} with {options:?}");
        }
    }
}
