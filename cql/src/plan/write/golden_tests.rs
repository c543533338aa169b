//! Golden scripts of writes: statement and values in, mutations out.
//!
//! Lines that begin with `> ` are the input: one statement, then perhaps `with` and its values
//! (literals, `null`, `unset`), or `at` and the timestamp of the request. CREATE TABLE and CREATE
//! TYPE define what the statements after them write to. `UPDATE_GOLDEN=1` writes the results.

use crate::plan::testing::{context, define, values_of};
use crate::plan::{BoundValues, Plan, PlanError, prepare};
use crate::syntax::parse;
use model::dump::{dump_list_operation, dump_mutation};
use model::mutation::MutationView;
use model::{KeyspaceDef, Schema};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
#[expect(clippy::disallowed_methods, reason = "test data lies on the real disk")]
fn golden_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/plan");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("write_"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no test data");
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let actual = run_script(&script);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &actual).unwrap();
        } else {
            assert_eq!(actual, script, "{}", path.display());
        }
    }
}

fn run_script(script: &str) -> String {
    let mut schema = Schema::default();
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: model::schema::Replication::Local,
        durable_writes: true,
        tables: std::collections::BTreeMap::new(),
        types: std::collections::BTreeMap::new(),
    };
    schema.keyspaces.insert("ks".into(), Arc::new(keyspace));
    let mut output = String::new();
    let mut input: Vec<&str> = Vec::new();
    for line in script.lines().chain([""]) {
        if let Some(text) = line.strip_prefix("> ") {
            input.push(text);
            writeln!(output, "{line}").unwrap();
        } else if line.is_empty() && !input.is_empty() {
            let result = run(&mut schema, &input);
            output.push_str(&result.unwrap_or_else(|error| format!("error: {error}\n")));
            output.push('\n');
            input.clear();
        } else if line.starts_with('#') {
            writeln!(output, "{line}\n").unwrap();
        }
    }
    output
}

fn run(schema: &mut Schema, input: &[&str]) -> Result<String, PlanError> {
    let is_option = |line: &&&str| line.starts_with("with ") || line.starts_with("at ");
    let text: Vec<&str> = input.iter().filter(|line| !is_option(line)).copied().collect();
    let parsed = parse(&text.join("\n"))?;
    if define(schema, &parsed.statement)? {
        return Ok("defined\n".to_owned());
    }
    let prepared = prepare(&parsed, schema, Some("ks"))?;
    let mut out = String::new();
    if !prepared.bind_specs.is_empty() {
        let spec = |spec: &crate::plan::BindSpec| format!("{} {}", spec.name, spec.cql_type);
        let specs: Vec<_> = prepared.bind_specs.iter().map(spec).collect();
        write!(out, "markers: {}", specs.join(", ")).unwrap();
        if !prepared.partition_key_indexes.is_empty() {
            write!(out, "; key: {:?}", prepared.partition_key_indexes).unwrap();
        }
        out.push('\n');
    }
    let written = input.iter().find_map(|line| line.strip_prefix("with ")).unwrap_or("");
    let values = values_of(schema, &prepared.bind_specs, written);
    let slots: Vec<_> = values.iter().map(crate::plan::testing::TestValue::as_wire).collect();
    let values = BoundValues::new(&slots);
    if let Err(error) = values.check_count(prepared.bind_specs.len()) {
        return Ok(format!("{out}error: {error}\n"));
    }
    let timestamp = input.iter().find_map(|line| line.strip_prefix("at "));
    let bound = context(|context| {
        context.default_timestamp = timestamp.map(|text| text.parse().unwrap());
        match &prepared.plan {
            Plan::Write(plan) => plan.bind(values, context),
            Plan::Batch(plan) => plan.bind(values, context),
            Plan::Select(_) | Plan::Use(_) | Plan::Truncate(_) => panic!("not a write"),
        }
    });
    let bound = match bound {
        Ok(bound) => bound,
        Err(error) => return Ok(format!("{out}error: {error}\n")),
    };
    for write in &bound.partitions {
        let view = MutationView::check(&write.mutation).unwrap();
        assert_eq!(view.key(), write.key);
        out.push_str(&dump_mutation(&write.table, &view));
        for operation in &write.list_operations {
            writeln!(out, "  list {}", dump_list_operation(&write.table, operation)).unwrap();
        }
    }
    if let Some(nanos) = bound.timeout_nanos {
        writeln!(out, "timeout {nanos} ns").unwrap();
    }
    Ok(out)
}
