//! Golden scripts of reads: tables, writes and SELECTs in, rows out.
//!
//! Lines that begin with `> ` are the input: one statement, then perhaps `with` and its values.
//! CREATE TABLE and CREATE TYPE define; writes go into a table in memory, each a microsecond after
//! the one before, the first at microsecond 1. A SELECT is run without paging, and again in pages
//! of one, two and three rows, which must give the same. `UPDATE_GOLDEN=1` writes the results.

use super::{BoundSelect, PageRequest, RowScratch, SelectExecution, SelectPlan};
use crate::plan::testing::{TestValue, context, define, values_of};
use crate::plan::{BoundValues, Plan, PlanError, prepare};
use crate::syntax::parse;
use crate::wire::{ResponseHead, RowsHead, Version};
use model::codec::Cursor;
use model::golden;
use model::literal::format_value;
use model::memory_table::MemoryTable;
use model::mutation::{MutationItem, MutationView, stamp};
use model::read::{ReadCommand, ReadScope, Slice};
use model::{KeyspaceDef, Schema, TableId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts/select", |script| Database::new().run_script(script));
}

/// Rows as text, and the paging state.
type Rows = (Vec<Vec<String>>, Option<Vec<u8>>);

struct Database {
    schema: Schema,
    tables: BTreeMap<TableId, MemoryTable>,
    clock_micros: i64,
}

impl Database {
    fn new() -> Database {
        let mut schema = Schema::default();
        let keyspace = KeyspaceDef {
            name: "ks".into(),
            replication: model::schema::Replication::Local,
            durable_writes: true,
            tables: BTreeMap::new(),
            types: BTreeMap::new(),
        };
        schema.keyspaces.insert("ks".into(), Arc::new(keyspace));
        Database { schema, tables: BTreeMap::new(), clock_micros: 0 }
    }

    fn run_script(&mut self, script: &str) -> String {
        let mut output = String::new();
        let mut input: Vec<&str> = Vec::new();
        for line in script.lines().chain([""]) {
            if let Some(text) = line.strip_prefix("> ") {
                input.push(text);
                writeln!(output, "{line}").unwrap();
            } else if line.is_empty() && !input.is_empty() {
                let result = self.run(&input);
                output.push_str(&result.unwrap_or_else(|error| format!("error: {error}\n")));
                output.push('\n');
                input.clear();
            } else if line.starts_with('#') {
                writeln!(output, "{line}\n").unwrap();
            }
        }
        output
    }

    fn run(&mut self, input: &[&str]) -> Result<String, PlanError> {
        let text: Vec<&str> =
            input.iter().filter(|line| !line.starts_with("with ")).copied().collect();
        let parsed = parse(&text.join("\n"))?;
        if define(&mut self.schema, &parsed.statement)? {
            return Ok(String::new());
        }
        let prepared = prepare(&parsed, &self.schema, Some("ks"))?;
        let mut out = String::new();
        if !prepared.bind_specs.is_empty() {
            let specs = prepared.bind_specs.iter();
            let specs: Vec<_> = specs.map(|s| format!("{} {}", s.name, s.cql_type)).collect();
            writeln!(
                out,
                "markers: {}; key: {:?}",
                specs.join(", "),
                prepared.partition_key_indexes
            )
            .unwrap();
        }
        let written = input.iter().find_map(|line| line.strip_prefix("with ")).unwrap_or("");
        let values = values_of(&self.schema, &prepared.bind_specs, written);
        let slots: Vec<_> = values.iter().map(TestValue::as_wire).collect();
        let values = BoundValues::new(&slots);
        values.check_count(prepared.bind_specs.len())?;
        match &prepared.plan {
            Plan::Write(plan) => {
                let bound = context(|context| plan.bind(values, context))?;
                self.clock_micros += 1;
                for mut write in bound.partitions {
                    stamp(&mut write.mutation, self.clock_micros).unwrap();
                    let table = self.tables.entry(write.table.id);
                    let table = table.or_insert_with(|| MemoryTable::new(&write.table));
                    table.apply(&MutationView::check(&write.mutation).unwrap());
                }
                Ok(String::new())
            }
            Plan::Select(plan) => {
                let rows = self.select(plan, &values);
                out.push_str(&rows.unwrap_or_else(|error| format!("error: {error}\n")));
                Ok(out)
            }
            _ => panic!("neither a write nor a SELECT"),
        }
    }

    fn select(&self, plan: &Arc<SelectPlan>, values: &BoundValues) -> Result<String, PlanError> {
        let bind = || context(|context| plan.bind(values, context));
        let (rows, state) = self.page(bind()?, None, None)?;
        assert_eq!(state, None, "a result without paging has no paging state");
        for page_size in 1..4 {
            let mut paged = Vec::new();
            let mut state: Option<Vec<u8>> = None;
            loop {
                let page = match self.page(bind()?, Some(page_size), state.as_deref()) {
                    Err(error) if error.message.starts_with("Cannot page") => {
                        paged.clone_from(&rows);
                        break;
                    }
                    page => page?,
                };
                let is_last = page.1.is_none();
                assert!(is_last || !page.0.is_empty(), "an empty page of {page_size}");
                paged.extend(page.0);
                state = page.1;
                if is_last {
                    break;
                }
            }
            assert_eq!(paged, rows, "pages of {page_size}");
        }
        if plan.is_point_read() {
            assert_eq!(self.point_read(plan, values)?, rows, "as a point read");
        }
        let mut out = String::new();
        let names: Vec<_> =
            plan.columns().iter().map(|c| format!("{} {}", c.name, c.cql_type)).collect();
        if let Some(warning) = plan.warning {
            writeln!(out, "warning: {warning}").unwrap();
        }
        writeln!(out, "{}", names.join(" | ")).unwrap();
        for row in rows {
            writeln!(out, "  {}", row.join(" | ")).unwrap();
        }
        Ok(out)
    }

    fn page(
        &self,
        select: BoundSelect,
        page_size: Option<i32>,
        paging_state: Option<&[u8]>,
    ) -> Result<Rows, PlanError> {
        let plan = select.plan.clone();
        let request = PageRequest {
            page_size,
            paging_state,
            head: ResponseHead::new(Version::V4, 0),
            skip_metadata: true,
            new_metadata_id: None,
        };
        let before = b"frames before".to_vec();
        let mut execution = SelectExecution::new(select, &request, before.clone())?;
        while let Some(command) = execution.next_command() {
            if let Err(error) = execution.feed(&self.read(&command)) {
                assert_eq!(execution.abandon(), before);
                return Err(error);
            }
        }
        let out = execution.finish()?;
        Ok(read_response(&plan, out.strip_prefix(before.as_slice()).unwrap()))
    }

    fn read(&self, command: &ReadCommand) -> model::read::Page {
        // Small pages try how reads are continued.
        let command = ReadCommand { page_bytes: 60, ..command.clone() };
        self.tables.get(&command.table).map(|table| table.read(&command)).unwrap_or_default()
    }

    fn point_read(
        &self,
        plan: &SelectPlan,
        values: &BoundValues,
    ) -> Result<Vec<Vec<String>>, PlanError> {
        let point = context(|context| plan.bind_point(values, context))?;
        let now = context(|context| context.now_seconds);
        let mut end = point.clustering.clone();
        end.push(0xff);
        let slice = Slice { start: point.clustering.as_slice().into(), end: end.into() };
        let page = self.read(&ReadCommand {
            table: plan.table.id,
            scope: ReadScope::Partition(point.key.as_slice().into()),
            slices: [slice].into(),
            reversed: false,
            include_static: plan.wants_static_row(),
            now,
            row_limit: 1,
            partition_row_limit: 1,
            page_bytes: 0,
            resume: None,
        });
        let (mut static_row, mut row) = (None, None);
        for partition in page.partitions() {
            for item in partition.unwrap().items() {
                match item {
                    MutationItem::StaticRow(found) => static_row = Some(found),
                    MutationItem::Row { row: found, .. } => row = Some(found),
                    other => panic!("a page holds {other:?}"),
                }
            }
        }
        let rows_head =
            RowsHead { metadata: &plan.metadata, skip_metadata: true, new_metadata_id: None };
        let head = ResponseHead::new(Version::V4, 0);
        let mut scratch = RowScratch::default();
        let mut out = Vec::new();
        plan.write_point(&point, static_row, row, now, &head, &rows_head, &mut scratch, &mut out)?;
        Ok(read_response(plan, &out).0)
    }
}

/// The rows and the paging state of a RESULT without metadata.
fn read_response(plan: &SelectPlan, frame: &[u8]) -> Rows {
    let mut cursor = Cursor::new(&frame[9..]);
    let int = |cursor: &mut Cursor| i32::from_be_bytes(cursor.array().unwrap());
    assert_eq!(int(&mut cursor), 2, "rows");
    let flags = int(&mut cursor);
    let column_count = int(&mut cursor);
    assert_eq!(column_count as usize, plan.columns().len());
    let bytes = |cursor: &mut Cursor| {
        let length = usize::try_from(int(cursor)).ok()?;
        Some(cursor.bytes(length).unwrap().to_vec())
    };
    let state = if flags & 2 != 0 { bytes(&mut cursor) } else { None };
    let row_count = bytes_count(&mut cursor);
    let mut rows = Vec::new();
    for _ in 0..row_count {
        let row = plan.columns().iter().map(|column| match bytes(&mut cursor) {
            Some(value) => format_value(&column.cql_type, &value),
            None => "null".to_owned(),
        });
        rows.push(row.collect());
    }
    assert!(cursor.is_empty(), "bytes behind the last row");
    (rows, state)
}

fn bytes_count(cursor: &mut Cursor) -> i32 {
    i32::from_be_bytes(cursor.array().unwrap())
}
