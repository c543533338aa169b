//! Golden scripts of DESCRIBE, and its promise that what it prints can be replayed.
//!
//! Lines that begin with `> ` are one statement. Schema statements print nothing but errors.
//! DESCRIBE prints its columns, then each row; statements stand under their row. Every answer is
//! also read in pages of one, two and three rows, which must give the same, and so must the
//! prepared statement. `#` begins a comment. Under `UPDATE_GOLDEN=1` the results are written
//! instead of compared.

use super::{ClusterFacts, DescribeContext, DescribePlan, DescribedFeed};
use crate::plan::ddl::tests::{RealCdc, Session};
use crate::plan::select::PageRequest;
use crate::plan::{Plan, PlanError, prepare};
use crate::syntax::ast::Statement;
use crate::syntax::parse;
use crate::wire::{ResponseHead, Version};
use model::codec::Cursor;
use model::golden;
use model::literal::format_value;
use model::{CqlType, KeyspaceDef, TableDef, TableId};
use std::fmt::Write as _;
use std::sync::Arc;

struct TestCluster;

impl ClusterFacts for TestCluster {
    fn name(&self) -> &'static str {
        "Test Cluster"
    }

    fn partitioner(&self) -> &'static str {
        "Murmur3Partitioner"
    }

    fn snitch(&self) -> &'static str {
        "TestSnitch"
    }

    fn range_ownership(&self, keyspace: &str) -> Vec<(String, Vec<String>)> {
        vec![
            ("-5".to_owned(), vec!["/127.0.0.1:7000".to_owned()]),
            ("3".to_owned(), vec![format!("a node of {keyspace}"), "b".to_owned()]),
        ]
    }
}

/// Rows as text, and the paging state.
type Page = (Vec<Vec<String>>, Option<Vec<u8>>);

fn plan(session: &Session, text: &str) -> Result<Arc<DescribePlan>, PlanError> {
    let in_use = session.keyspace_in_use.as_deref();
    match prepare(&parse(text)?, &session.schema, in_use)?.plan {
        Plan::Describe(plan) => Ok(plan),
        other => panic!("{text} is no DESCRIBE but {other:?}"),
    }
}

fn page(
    session: &Session,
    plan: &DescribePlan,
    page_size: Option<i32>,
    paging_state: Option<&[u8]>,
) -> Result<Page, PlanError> {
    let feeds = [DescribedFeed {
        keyspace: "ks".into(),
        name: "orders_feed".into(),
        create_statement: "CREATE CHANGEFEED orders_feed …".to_owned(),
    }];
    let context = DescribeContext {
        schema: &session.schema,
        feeds: &feeds,
        cdc: &RealCdc,
        cluster: &TestCluster,
    };
    let request = PageRequest {
        page_size,
        paging_state,
        head: ResponseHead::new(Version::V4, 0),
        skip_metadata: true,
        new_metadata_id: None,
    };
    let before = b"frames before".to_vec();
    let mut out = before.clone();
    let written = plan.write_page(&context, &request, &mut out);
    let frame = out.strip_prefix(before.as_slice()).unwrap();
    if let Err(error) = written {
        assert!(frame.is_empty(), "bytes of a failed answer");
        return Err(error);
    }
    Ok(read_response(plan, frame))
}

/// The rows and the paging state of a RESULT without metadata.
fn read_response(plan: &DescribePlan, frame: &[u8]) -> Page {
    let mut cursor = Cursor::new(&frame[9..]);
    let int = |cursor: &mut Cursor| i32::from_be_bytes(cursor.array().unwrap());
    let bytes = |cursor: &mut Cursor| {
        let length = usize::try_from(int(cursor)).unwrap();
        cursor.bytes(length).unwrap().to_vec()
    };
    assert_eq!(int(&mut cursor), 2, "rows");
    let flags = int(&mut cursor);
    assert_eq!(int(&mut cursor) as usize, plan.columns().len());
    let state = (flags & 2 != 0).then(|| bytes(&mut cursor));
    let row_count = int(&mut cursor);
    let mut cell = |cql_type: &CqlType| match (cql_type, bytes(&mut cursor)) {
        (CqlType::Text, text) => String::from_utf8(text).unwrap(),
        (cql_type, value) => format_value(cql_type, &value),
    };
    let rows = (0..row_count).map(|_| plan.columns().iter().map(|c| cell(&c.cql_type)).collect());
    let rows = rows.collect();
    assert!(cursor.is_empty(), "bytes behind the last row");
    (rows, state)
}

/// Every row, read in one page and in small ones.
fn rows(session: &Session, plan: &DescribePlan) -> Result<Vec<Vec<String>>, PlanError> {
    let (rows, state) = page(session, plan, None, None)?;
    assert_eq!(state, None, "a result without paging has no paging state");
    for page_size in 1..4 {
        let (mut paged, mut state) = page(session, plan, Some(page_size), None)?;
        while let Some(before) = state {
            let next = page(session, plan, Some(page_size), Some(&before))?;
            assert!(!next.0.is_empty(), "an empty page of {page_size}");
            paged.extend(next.0);
            state = next.1;
        }
        assert_eq!(paged, rows, "pages of {page_size}");
    }
    Ok(rows)
}

fn run(session: &mut Session, text: &str) -> Result<String, PlanError> {
    let statement = parse(text)?.statement;
    match &statement {
        Statement::Use(name) => session.keyspace_in_use = Some(name.as_str().to_owned()),
        Statement::Describe(_) => {
            let plan = plan(session, text)?;
            let mut out = String::new();
            let columns: Vec<&str> = plan.columns().iter().map(|c| &*c.name).collect();
            writeln!(out, "{}", columns.join(" | ")).unwrap();
            for row in rows(session, &plan)? {
                let (row, statement) = row.split_at(row.len().min(3));
                writeln!(out, "  {}", row.join(" | ")).unwrap();
                let lines = statement.iter().flat_map(|statement| statement.lines());
                lines.for_each(|line| {
                    writeln!(out, "{}", format!("    {line}").trim_end()).unwrap();
                });
            }
            return Ok(out);
        }
        _ => {
            session.apply(&statement)?;
        }
    }
    Ok(String::new())
}

fn run_script(script: &str) -> String {
    let mut session = Session::new();
    let mut output = String::new();
    let mut statement: Vec<&str> = Vec::new();
    for line in script.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("> ") {
            statement.push(text);
            writeln!(output, "{line}").unwrap();
        } else if !statement.is_empty() {
            let result = run(&mut session, &statement.join("\n"));
            let result = result.unwrap_or_else(|e| format!("{:?}: {e}\n", e.kind));
            writeln!(output, "{result}").unwrap();
            statement.clear();
        } else if line.starts_with('#') {
            writeln!(output, "{line}\n").unwrap();
        }
    }
    output
}

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts/describe", run_script);
}

const KEYSPACE: &str =
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";

/// Properties of CREATE TABLE and values of each, the absence of the property among them.
const PROPERTIES: &[&[&str]] = &[
    &["", "additional_write_policy = 'never'", "additional_write_policy = 'MIN(50ms,99p)'"],
    &[
        "",
        "bloom_filter_fp_chance = 0.0001",
        "bloom_filter_fp_chance = 6.8e-5",
        "bloom_filter_fp_chance = 1",
    ],
    &["", "caching = {'keys': 'none', 'rows_per_partition': '10', 'enabled': 'false'}"],
    &[
        "",
        "cdc = false",
        "cdc = {'preimage': 'full'}",
        "cdc = {'enabled': 'false'}",
        "cdc = {'enabled': true, 'preimage': 'full', 'postimage': true, 'delta': 'keys', 'ttl': 0}",
        "cdc = {'enabled': true}",
    ],
    &["", "comment = 'it''s */ \n a comment; -- ö'"],
    &[
        "",
        "compaction = {'class': 'LeveledCompactionStrategy', 'sstable_size_in_mb': 64}",
        "compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': 2, 'compaction_window_unit': 'HOURS'}",
        "compaction = {'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4, L10'}",
    ],
    &[
        "",
        "compression = {'enabled': false}",
        "compression = {'class': 'ZstdCompressor', 'compression_level': '-3'}",
    ],
    &["", "crc_check_chance = 0.5"],
    &["", "default_time_to_live = 3600"],
    &["", "gc_grace_seconds = 0"],
    &["", "max_index_interval = 4096", "min_index_interval = 1"],
    &["", "memtable_flush_period_in_ms = 60000"],
    &["", "read_repair = 'NONE'"],
    &["", "speculative_retry = '10ms'", "speculative_retry = 'ALWAYS'"],
    &["", "tombstone_gc = {'mode': 'timeout', 'propagation_delay_in_seconds': '10'}"],
];

const STRUCTURES: &[(&str, &str)] = &[
    ("(k int PRIMARY KEY)", ""),
    ("(k int PRIMARY KEY, v list<int>, \"V\" frozen<map<text, set<uuid>>>)", ""),
    ("(a int, b text, v vector<float, 3>, PRIMARY KEY ((a, b)))", ""),
    (
        "(\"select\" int, c timeuuid, \"d\"\"q\" inet, s tuple<int, frozen<list<text>>> static, v \
         duration, PRIMARY KEY (\"select\", c, \"d\"\"q\"))",
        "CLUSTERING ORDER BY (c DESC, \"d\"\"q\" ASC)",
    ),
    ("(k int, c int, u addr, f list<frozen<addr>>, PRIMARY KEY (k, c))", ""),
];

/// The keyspace with what two runs give differently made equal.
fn comparable(keyspace: &KeyspaceDef) -> KeyspaceDef {
    let place = |id: TableId| keyspace.tables.values().position(|table| table.id == id);
    let place = |id: TableId| TableId(place(id).expect("a table of the keyspace") as u128);
    let tables = keyspace.tables.values().map(|table| {
        let mut table = TableDef::clone(table);
        table.id = place(table.id);
        table.cdc_base = table.cdc_base.map(place);
        table.cdc_log = table.cdc_log.map(place);
        // An ALTER TABLE follows every log.
        table.version = 1;
        (table.name.clone(), Arc::new(table))
    });
    let tables = tables.collect();
    KeyspaceDef { tables, ..keyspace.clone() }
}

#[test]
fn what_is_printed_makes_the_same_tables() {
    // A linear congruential generator: the same choices in every run.
    let mut state: u64 = 7;
    let mut choose = |count: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    let new_session = || {
        let mut session = Session::new();
        run(&mut session, KEYSPACE).unwrap();
        run(&mut session, "CREATE TYPE ks.\"Zip\" (code int)").unwrap();
        run(&mut session, "CREATE TYPE ks.addr (zip frozen<\"Zip\">, \"no\" frozen<list<int>>)")
            .unwrap();
        session
    };
    let mut logs = 0;
    for _ in 0..80 {
        let (columns, order) = STRUCTURES[choose(STRUCTURES.len())];
        let mut with = vec![order];
        with.extend(PROPERTIES.iter().map(|values| values[choose(values.len())]));
        with.retain(|property| !property.is_empty());
        let with =
            if with.is_empty() { String::new() } else { format!(" WITH {}", with.join(" AND ")) };
        let statement = format!("CREATE TABLE ks.\"T\" {columns}{with}");
        let mut session = new_session();
        // Ids that a session without this table would not give out.
        run(&mut session, "CREATE TABLE ks.other (k int PRIMARY KEY)").unwrap();
        run(&mut session, "DROP TABLE ks.other").unwrap();
        run(&mut session, &statement).unwrap_or_else(|error| panic!("{statement}: {error}"));

        let has_log = session.schema.keyspace("ks").unwrap().tables.len() == 2;
        if has_log {
            logs += 1;
            let alter = "ALTER TABLE ks.\"T_scylla_cdc_log\" WITH gc_grace_seconds = 1";
            run(&mut session, alter).unwrap();
        }
        for internals in ["", " WITH INTERNALS"] {
            let describe = plan(&session, &format!("DESCRIBE KEYSPACE ks{internals}")).unwrap();
            let mut replayed = Session::new();
            for row in rows(&session, &describe).unwrap() {
                run(&mut replayed, &row[3]).unwrap_or_else(|error| panic!("{}: {error}", row[3]));
            }
            let keyspaces = [&session, &replayed].map(|s| s.schema.keyspace("ks").unwrap());
            if !internals.is_empty() {
                let ids = keyspaces.map(|keyspace| keyspace.tables["T"].id);
                assert_eq!(ids[0], ids[1], "{statement}");
            }
            let [original, copy] = keyspaces.map(|keyspace| comparable(keyspace));
            assert_eq!(copy, original, "{statement}");
        }
    }
    assert!(logs > 15, "{logs} tables with a log are too few to say anything");
}

#[test]
fn a_page_of_another_schema_and_a_forged_paging_state_are_refused() {
    let mut session = Session::new();
    let plan = plan(&session, "DESCRIBE KEYSPACES").unwrap();
    let (_, state) = page(&session, &plan, Some(1), None).unwrap();
    let state = state.unwrap();
    assert!(page(&session, &plan, Some(1), Some(&state)).is_ok());
    for length in 0..state.len() {
        assert!(page(&session, &plan, Some(1), Some(&state[..length])).is_err());
    }
    let mut far = state.clone();
    far[9..].fill(0xff);
    assert_eq!(page(&session, &plan, Some(1), Some(&far)).unwrap(), (Vec::new(), None));
    run(&mut session, KEYSPACE).unwrap();
    let error = page(&session, &plan, Some(1), Some(&state)).unwrap_err();
    assert!(error.message.starts_with("The schema has changed"), "{error}");
}
