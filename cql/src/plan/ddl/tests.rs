//! Golden scripts of schema statements.
//!
//! A script is a list of cases, blank lines between: lines that begin with `> ` are one statement,
//! the lines under them what it did: events, warnings and switched images, `nothing`, or the error.
//! SELECT from a table of `system_schema` or `system_virtual_schema` prints the mutations that make
//! it, those about the system's keyspaces left out. Each script has a schema of its own, which begins with the system's keyspaces and two nodes in
//! `dc1`, one in `dc2`. The clock stands at a second more with each statement. `#` begins a
//! comment. Under `UPDATE_GOLDEN=1` the results are written instead of compared.

use super::*;
use crate::plan::ErrorKind;
use crate::plan::system_schema::{
    is_system_keyspace, is_virtual_keyspace, system_keyspaces, system_schema_mutations,
};
use crate::plan::testing::NOW_MICROS;
use crate::syntax::ast::ChangefeedStatement;
use ::cdc as rules;
use model::dump::dump_mutation;
use model::golden;
use model::mutation::MutationView;
use model::{CdcOptions, FeedLog, PreimageMode};
use rules::error as cdc_error;
use rules::{CdcError, CdcErrorKind};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The real rules, as the node puts them together.
pub(crate) struct RealCdc;

fn plan_error(error: CdcError) -> PlanError {
    let kind = match error.kind {
        CdcErrorKind::Config => ErrorKind::Config,
        CdcErrorKind::Invalid => ErrorKind::Invalid,
        CdcErrorKind::Unauthorized => ErrorKind::Unauthorized,
    };
    PlanError { kind, message: error.message.into() }
}

impl CdcTables for RealCdc {
    fn parse_for_create(
        &self,
        map: &BTreeMap<String, String>,
    ) -> Result<Option<CdcOptions>, PlanError> {
        rules::options::parse_for_create(map).map_err(plan_error)
    }

    fn parse_for_alter(&self, map: &BTreeMap<String, String>) -> Result<CdcOptions, PlanError> {
        rules::options::parse_for_alter(map).map_err(plan_error)
    }

    fn to_map(&self, options: CdcOptions) -> BTreeMap<String, String> {
        rules::options::to_map(options)
    }

    fn to_blob(&self, options: CdcOptions) -> Vec<u8> {
        rules::options::to_blob(options)
    }

    fn log_table_name(&self, base: &str) -> String {
        rules::log_table_name(base)
    }

    fn new_log_table(&self, base: &TableDef, id: TableId) -> Result<TableDef, PlanError> {
        rules::new_log_table(base, id).map_err(plan_error)
    }

    fn sync_log_table(
        &self,
        base: &TableDef,
        log: &TableDef,
        now_micros: i64,
    ) -> Result<TableDef, PlanError> {
        rules::sync_log_table(base, log, now_micros).map_err(plan_error)
    }

    fn refusal(&self, refusal: CdcRefusal<'_>) -> PlanError {
        plan_error(match refusal {
            CdcRefusal::LogNameTaken { keyspace, base } => {
                cdc_error::log_name_taken(keyspace, base)
            }
            CdcRefusal::NestedLog { keyspace, log } => cdc_error::nested_log(keyspace, log),
            CdcRefusal::CounterColumnAdded { column } => cdc_error::counter_column_added(column),
            CdcRefusal::LogColumnsModified { attached } => {
                cdc_error::log_columns_modified(attached)
            }
            CdcRefusal::LogColumnRenamed { attached } => cdc_error::log_column_renamed(attached),
            CdcRefusal::AttachedLogDropped { log } => cdc_error::attached_log_dropped(log),
            CdcRefusal::LogTombstoneGcRepair => cdc_error::log_tombstone_gc_repair(),
        })
    }
}

/// A node's view of the schema, as scripts change it.
pub(crate) struct Session {
    pub(crate) schema: Schema,
    pub(crate) keyspace_in_use: Option<String>,
    data_centres: BTreeMap<String, u32>,
    statements: i64,
    ids: u128,
    dropped: BTreeSet<TableId>,
}

impl Session {
    pub(crate) fn new() -> Session {
        let keyspaces = system_keyspaces().into_iter().map(|k| (k.name.clone(), Arc::new(k)));
        Session {
            schema: Schema { version: 0, keyspaces: keyspaces.collect() },
            keyspace_in_use: None,
            data_centres: BTreeMap::from([("dc1".to_owned(), 2), ("dc2".to_owned(), 1)]),
            statements: 0,
            ids: 0x5a1c_395e_b41f_11e5_9f22_ba0b_e048_0000,
            dropped: BTreeSet::new(),
        }
    }

    /// Applies one statement; what it changed is in the schema already.
    pub(crate) fn apply(&mut self, statement: &Statement) -> Result<SchemaChange, PlanError> {
        self.statements += 1;
        let ids = &mut self.ids;
        let mut fresh_table_id = || {
            *ids += 1;
            *ids
        };
        let mut context = DdlContext {
            now_micros: NOW_MICROS + self.statements * 1_000_000,
            fresh_table_id: &mut fresh_table_id,
            is_dropped_id: &|id| self.dropped.contains(&id),
            data_centres: &self.data_centres,
            cdc: &RealCdc,
        };
        let in_use = self.keyspace_in_use.as_deref();
        let change = match statement {
            Statement::Changefeed(feed) => {
                let wanted = feed_logs(feed, &self.schema, in_use)?;
                set_feed_logs(&wanted, &self.schema, &mut context)?
            }
            _ => apply(statement, &self.schema, in_use, &mut context)?,
        };
        let before = std::mem::take(&mut self.schema);
        self.schema = change.applied_to(&before, before.version + 1);
        check_invariants(&before, &self.schema);
        let ids = |schema: &Schema| -> BTreeSet<TableId> {
            let tables = schema.keyspaces.values().flat_map(|keyspace| keyspace.tables.values());
            tables.map(|table| table.id).collect()
        };
        self.dropped.extend(ids(&before).difference(&ids(&self.schema)));
        Ok(change)
    }

    fn run(&mut self, text: &str) -> String {
        let statement = match crate::syntax::parse(text) {
            Ok(parsed) => parsed.statement,
            Err(error) => return format!("Syntax: {error}\n"),
        };
        if let Statement::Use(name) = &statement {
            self.keyspace_in_use = Some(name.as_str().to_owned());
            return String::new();
        }
        if let Statement::Select(select) = &statement {
            let keyspace = select.table.keyspace.as_ref().expect("a table of the system");
            return self.schema_rows(keyspace.as_str(), select.table.name.as_str());
        }
        match self.apply(&statement) {
            Ok(change) => render(&change),
            Err(error) => format!("{:?}: {error}\n", error.kind),
        }
    }
}

impl Session {
    /// The rows of a table of the schema tables that are about keyspaces of users.
    fn schema_rows(&self, keyspace: &str, table: &str) -> String {
        let definition = self.schema.table(keyspace, table).expect("a table of the system");
        let mut out = String::new();
        for bytes in system_schema_mutations(keyspace, table, &self.schema, &RealCdc) {
            let mutation = MutationView::check(&bytes).expect("rows are well-formed");
            let about = std::str::from_utf8(mutation.key()).expect("the key is a name");
            if !is_system_keyspace(about) || is_virtual_keyspace(about) {
                writeln!(out, "{}", dump_mutation(definition, &mutation).trim_end()).unwrap();
            }
        }
        out
    }
}

/// What a feed's statement asks of logs: CREATE of the tables named, as if nothing else were on
/// them, and DROP of all tables, as if no feed were left.
fn feed_logs(
    statement: &ChangefeedStatement,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
) -> Result<FeedLogs, PlanError> {
    let name = |table: &Arc<TableDef>| (table.keyspace.clone(), table.name.clone());
    if let ChangefeedStatement::Create(create) = statement {
        let has = |option: &str| create.options.iter().any(|o| o.name.as_str() == option);
        let preimage = if has("old") { PreimageMode::Full } else { PreimageMode::Off };
        let wanted = FeedLog { preimage, postimage: has("new"), deleted_rows: false };
        let tables = feed_tables(&create.tables, schema, keyspace_in_use)?;
        return Ok(tables.iter().map(|table| (name(table), Some(wanted))).collect());
    }
    let tables = schema.keyspaces.values().flat_map(|keyspace| keyspace.tables.values());
    Ok(tables.map(|table| (name(table), None)).collect())
}

fn render(change: &SchemaChange) -> String {
    let mut out = String::new();
    for warning in &change.warnings {
        writeln!(out, "warning: {warning}").unwrap();
    }
    for SchemaEvent { change, target, keyspace, name } in &change.events {
        let dot = if name.is_empty() { "" } else { "." };
        writeln!(out, "{change:?} {target:?} {keyspace}{dot}{name}").unwrap();
    }
    for id in &change.logs_switched {
        writeln!(out, "log switched: {:x}", id.0).unwrap();
    }
    if change.is_empty() {
        out.push_str("nothing\n");
    }
    out
}

/// What holds of every schema, and between a schema and the one before it.
fn check_invariants(before: &Schema, after: &Schema) {
    for (name, keyspace) in &after.keyspaces {
        assert_eq!(*name, keyspace.name);
        for (name, table) in &keyspace.tables {
            assert_eq!((name, &keyspace.name), (&table.name, &table.keyspace));
            let place = |column: &model::ColumnDef| match column.kind {
                model::ColumnKind::PartitionKey(at) => (0, at, "".into()),
                model::ColumnKind::Clustering(at) => (1, at, "".into()),
                _ => (2, 0, column.name.clone()),
            };
            assert!(table.columns.is_sorted_by(|a, b| place(a) < place(b)), "{table:#?}");
            assert!(!table.partition_key().is_empty());
            let ids = table.columns.iter().map(|c| c.id);
            let mut all: Vec<_> = ids.chain(table.dropped_columns.iter().map(|c| c.id)).collect();
            all.sort_unstable();
            assert!(all.is_sorted_by(|a, b| a < b), "an id is used twice: {table:#?}");
            assert!(all.iter().all(|id| *id < table.next_column_id));
            if let Some(old) = before.table_by_id(table.id) {
                assert!(old.next_column_id <= table.next_column_id);
                let differs = **old != **table;
                assert_eq!(old.version < table.version, differs, "{old:#?}\n{table:#?}");
            }
            if let Some(log) = table.cdc_log {
                let log = after.table_by_id(log).expect("the log is there");
                assert_eq!(log.cdc_base, Some(table.id));
            }
            assert_eq!(table.cdc_log.is_some(), table.cdc_enabled().is_some());
        }
    }
}

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts/ddl", run_script);
}

/// The script with the results as they are.
fn run_script(script: &str) -> String {
    let mut session = Session::new();
    let mut output = String::new();
    let mut statement: Vec<&str> = Vec::new();
    for line in script.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("> ") {
            statement.push(text);
            writeln!(output, "{line}").unwrap();
        } else if !statement.is_empty() {
            writeln!(output, "{}", session.run(&statement.join("\n"))).unwrap();
            statement.clear();
        } else if line.starts_with('#') {
            writeln!(output, "{line}\n").unwrap();
        }
    }
    output
}
