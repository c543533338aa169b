//! Golden scripts of writes: statement and values in, mutations out.
//!
//! Lines that begin with `> ` are the input: one statement, then perhaps `with` and its values
//! (literals, `null`, `unset`), or `at` and the timestamp of the request. CREATE TABLE and CREATE
//! TYPE define what the statements after them write to. `UPDATE_GOLDEN=1` writes the results.

use super::{BoundConditional, BoundWrite};
use crate::plan::condition::RowCondition;
use crate::plan::testing::{context, define, values_of};
use crate::plan::{BindContext, BoundValues, Plan, PlanError, prepare};
use crate::syntax::parse;
use crate::wire::Value;
use model::dump::{dump_list_operation, dump_mutation};
use model::golden;
use model::mutation::MutationView;
use model::{KeyspaceDef, Schema};
use std::fmt::Write as _;
use std::sync::Arc;

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts/write", run_script);
}

/// Values of a hostile client: any bytes for any marker. Whatever is accepted makes a well-formed
/// mutation, with all its cells in order.
#[test]
fn any_bytes_for_any_marker_are_refused_or_make_a_mutation() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % bound
    };
    let mut accepted = 0;
    for path in golden::files("testscripts/write") {
        let script = golden::read(&path);
        let mut schema = empty_schema();
        for block in script.split("\n\n") {
            let input: Vec<&str> =
                block.lines().filter_map(|line| line.strip_prefix("> ")).take(1).collect();
            let Ok(parsed) = parse(&input.join("\n")) else { continue };
            if define(&mut schema, &parsed.statement) == Ok(true) {
                continue;
            }
            let Ok(prepared) = prepare(&parsed, &schema, Some("ks")) else { continue };
            for _ in 0..200 {
                let values: Vec<Vec<u8>> =
                    prepared.bind_specs.iter().map(|_| hostile_bytes(&mut below)).collect();
                let slots: Vec<Value> = values
                    .iter()
                    .map(|bytes| match below(12) {
                        0 => Value::Null,
                        1 => Value::Unset,
                        _ => Value::Set(bytes),
                    })
                    .collect();
                let values = BoundValues::new(&slots);
                let Ok(bound) = context(|context| bind(&prepared.plan, values, context)) else {
                    continue;
                };
                for write in &bound.0.partitions {
                    let view = MutationView::check(&write.mutation).unwrap();
                    dump_mutation(&write.table, &view);
                    accepted += u32::from(!slots.is_empty());
                }
            }
        }
    }
    assert!(accepted > 1_000, "too few random values are valid: {accepted}");
}

/// Short bytes, often of the lengths and counts that types have.
fn hostile_bytes(below: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
    match below(6) {
        // A collection of short elements that may be out of order and repeat.
        0..=2 => {
            let count = below(4);
            let mut bytes = (count as i32).to_be_bytes().to_vec();
            for _ in 0..count {
                let length = [0, 1, 4, 4][below(4) as usize];
                bytes.extend_from_slice(&i32::to_be_bytes(length));
                bytes.extend((0..length).map(|_| below(3) as u8));
            }
            bytes
        }
        3 => vec![0, 0, 0, below(3) as u8],
        _ => (0..below(17)).map(|_| below(256) as u8).collect(),
    }
}

/// What the statement changes, and what it asks before.
fn bind(
    plan: &Plan,
    values: BoundValues,
    context: &mut BindContext,
) -> Result<(BoundWrite, Vec<RowCondition>), PlanError> {
    let conditional = match plan {
        Plan::Write(plan) if plan.is_conditional() => plan.bind_conditional(values, context)?,
        Plan::Batch(plan) if plan.is_conditional() => plan.bind_conditional(values, context)?,
        Plan::Write(plan) => return Ok((plan.bind(values, context)?, Vec::new())),
        Plan::Batch(plan) => return Ok((plan.bind(values, context)?, Vec::new())),
        _ => panic!("not a write"),
    };
    let BoundConditional { write, timeout_nanos, .. } = conditional;
    Ok((BoundWrite { partitions: vec![write.write], timeout_nanos }, write.conditions))
}

fn empty_schema() -> Schema {
    let mut schema = Schema::default();
    let keyspace = KeyspaceDef {
        name: "ks".into(),
        replication: model::schema::Replication::Local,
        durable_writes: true,
        tables: std::collections::BTreeMap::new(),
        types: std::collections::BTreeMap::new(),
    };
    schema.keyspaces.insert("ks".into(), Arc::new(keyspace));
    schema
}

fn run_script(script: &str) -> String {
    let mut schema = empty_schema();
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
        bind(&prepared.plan, values, context)
    });
    let (bound, conditions) = match bound {
        Ok(bound) => bound,
        Err(error) => return Ok(format!("{out}error: {error}\n")),
    };
    for RowCondition { clustering, test } in &conditions {
        writeln!(out, "if {clustering:?} {test:?}").unwrap();
    }
    for write in &bound.partitions {
        let view = MutationView::check(&write.mutation).unwrap();
        assert_eq!(model::token::token_of(write.table.partitioner, view.key()), write.token);
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
