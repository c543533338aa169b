//! Pieces of CQL text: names, strings, maps; the statements of keyspaces and types.

use super::super::names::qualified_name;
use super::super::system_schema::{is_virtual_keyspace, replication_map};
use model::schema::quote_identifier;
use model::{KeyspaceDef, UserType};
use std::fmt::Write;

/// The package of replication strategies, which their short names leave out.
const STRATEGIES: &str = "org.apache.cassandra.locator.";

/// A string as a CQL constant.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A map of strings as a CQL constant, in the order given.
pub(super) fn quote_map<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let entries = entries.into_iter();
    let entries: Vec<String> =
        entries.map(|(key, value)| format!("{}: {}", quote_text(key), quote_text(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// A statement that is not to be run, as a comment. What would end the comment early is taken
/// apart: a user writes names and comments as they like.
pub(super) fn commented(introduction: &str, statement: &str) -> String {
    format!("/* {introduction}\n{}\n*/", statement.replace("*/", "* /"))
}

/// CREATE KEYSPACE.
pub(super) fn keyspace_statement(keyspace: &KeyspaceDef) -> String {
    let name = quote_identifier(&keyspace.name);
    if is_virtual_keyspace(&keyspace.name) {
        return format!(
            "/*\nWarning: Keyspace {name} is a virtual keyspace and cannot be recreated with CQL.\n\
             Structure, for reference:*/\nVIRTUAL KEYSPACE {name};"
        );
    }
    let mut options = replication_map(&keyspace.replication);
    let class = options.remove("class").unwrap_or_default();
    let class = (&"class".to_owned(), &class.replace(STRATEGIES, ""));
    let replication = quote_map(std::iter::once(class).chain(&options));
    let durable_writes = keyspace.durable_writes;
    format!(
        "CREATE KEYSPACE {name} WITH replication = {replication}  AND durable_writes = \
         {durable_writes};"
    )
}

/// CREATE TYPE.
pub(super) fn type_statement(keyspace: &str, user_type: &UserType) -> String {
    let mut out = format!("CREATE TYPE {} (", qualified_name(keyspace, &user_type.name));
    for (place, (field, cql_type)) in user_type.fields.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let field = quote_identifier(field);
        write!(out, "{comma}\n    {field} {cql_type}").expect("a string takes all");
    }
    out.push_str("\n);");
    out
}
