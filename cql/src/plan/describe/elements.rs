//! What a DESCRIBE shows: parts of the schema, found by name, in the order of the answer.
//!
//! | asked for            | found                                                                |
//! |----------------------|----------------------------------------------------------------------|
//! | KEYSPACES            | every keyspace, the system's too                                     |
//! | TABLES, TYPES, …     | those of the keyspace in use, or of every one                        |
//! | SCHEMA, KEYSPACE     | the keyspace, its types behind those they use, its tables by name    |
//! | TABLE, TYPE          | the one of that name                                                 |
//! | a name               | a keyspace, or else a table, or else a type of the keyspace in use   |
//! | CHANGEFEEDS          | the feeds on tables of the keyspace in use, or all                   |
//! | CHANGEFEED           | the one of that name; a name alone finds it last                     |
//!
//! A table with an attached log brings a second element: the properties of the log; not so one that
//! is attached for changefeeds alone, since CREATE TABLE would not make it.

use super::super::PlanError;
use super::super::ddl::CdcTables;
use super::super::system_schema::is_system_keyspace;
use super::table::{attached_log_statement, log_properties_statement, table_statement};
use super::text::{keyspace_statement, type_statement};
use super::types::in_dependency_order;
use crate::syntax::ast::{DescribeTarget, Name, QualifiedName};
use model::{KeyspaceDef, Schema, TableDef, TableId, UserType};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A changefeed as it is described; secrets are gone from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedFeed {
    /// The keyspace of its tables.
    pub keyspace: Arc<str>,
    /// The feed.
    pub name: Arc<str>,
    /// The statement that makes it.
    pub create_statement: String,
}

/// One row of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Element<'s> {
    Keyspace(&'s KeyspaceDef),
    Type(&'s KeyspaceDef, &'s UserType),
    /// A table that CREATE TABLE makes.
    Table(&'s TableDef),
    /// The properties of a log that its base makes.
    LogProperties(&'s TableDef),
    /// A log that its base makes, itself.
    AttachedLog(&'s TableDef),
    Feed(&'s DescribedFeed),
}

impl<'s> Element<'s> {
    pub(super) fn keyspace(&self) -> &'s str {
        match self {
            Element::Keyspace(keyspace) | Element::Type(keyspace, _) => &keyspace.name,
            Element::Table(table) | Element::LogProperties(table) | Element::AttachedLog(table) => {
                &table.keyspace
            }
            Element::Feed(feed) => &feed.keyspace,
        }
    }

    pub(super) fn name(&self) -> &'s str {
        match self {
            Element::Keyspace(keyspace) => &keyspace.name,
            Element::Type(_, user_type) => &user_type.name,
            Element::Table(table) | Element::LogProperties(table) | Element::AttachedLog(table) => {
                &table.name
            }
            Element::Feed(feed) => &feed.name,
        }
    }

    /// What it is, in the answer's word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Element::Keyspace(_) => "keyspace",
            Element::Type(..) => "type",
            Element::Table(_) | Element::LogProperties(_) | Element::AttachedLog(_) => "table",
            Element::Feed(_) => "changefeed",
        }
    }

    /// The statement that makes it.
    pub(super) fn create_statement(&self, cdc: &dyn CdcTables, with_internals: bool) -> String {
        match self {
            Element::Keyspace(keyspace) => keyspace_statement(keyspace),
            Element::Type(keyspace, user_type) => type_statement(&keyspace.name, user_type),
            Element::Table(table) => table_statement(table, cdc, with_internals),
            Element::LogProperties(log) => log_properties_statement(log, cdc),
            Element::AttachedLog(log) => attached_log_statement(log, cdc, with_internals),
            Element::Feed(feed) => feed.create_statement.clone(),
        }
    }
}

/// Everything that the target names. `keyspace_in_use` serves names without a keyspace.
pub(super) fn find<'s>(
    target: &DescribeTarget,
    (schema, feeds): (&'s Schema, &'s [DescribedFeed]),
    keyspace_in_use: Option<&str>,
) -> Result<Vec<Element<'s>>, PlanError> {
    let finder = Finder { schema, feeds, keyspace_in_use };
    match target {
        // The one row of CLUSTER is no part of the schema.
        DescribeTarget::Cluster => Ok(Vec::new()),
        DescribeTarget::Schema { full } => {
            let shown = schema.keyspaces.values();
            let shown = shown.filter(|keyspace| *full || !is_system_keyspace(&keyspace.name));
            Ok(shown.flat_map(|keyspace| keyspace_elements(keyspace)).collect())
        }
        DescribeTarget::Keyspaces => {
            Ok(schema.keyspaces.values().map(|keyspace| Element::Keyspace(keyspace)).collect())
        }
        DescribeTarget::Keyspace { name, only } => {
            let keyspace = finder.keyspace(name.as_ref())?;
            if *only {
                return Ok(vec![Element::Keyspace(keyspace)]);
            }
            Ok(keyspace_elements(keyspace))
        }
        DescribeTarget::Tables => Ok(finder.listed()?.into_iter().flat_map(tables).collect()),
        DescribeTarget::Types => Ok(finder.listed()?.into_iter().flat_map(types_by_name).collect()),
        // There are none.
        DescribeTarget::Functions | DescribeTarget::Aggregates => {
            finder.listed().map(|_| Vec::new())
        }
        DescribeTarget::Table(name) => finder.table(name),
        DescribeTarget::Type(name) => finder.user_type(name),
        DescribeTarget::Function(name) => finder.none(name, "User defined function"),
        DescribeTarget::Aggregate(name) => finder.none(name, "User defined aggregate"),
        DescribeTarget::Index(name) => finder.none(name, "Table for existing index"),
        DescribeTarget::MaterializedView(name) => finder.none(name, "Materialized view"),
        DescribeTarget::Changefeeds => Ok(finder.listed_feeds()),
        DescribeTarget::Changefeed(name) => finder.feed(name.as_str()).ok_or_else(|| {
            PlanError::invalid(format!("changefeed '{}' does not exist", name.as_str()))
        }),
        DescribeTarget::Any(name) => finder.any(name),
    }
}

/// Where names are looked up.
#[derive(Clone, Copy)]
struct Finder<'s, 'k> {
    schema: &'s Schema,
    feeds: &'s [DescribedFeed],
    keyspace_in_use: Option<&'k str>,
}

impl<'s> Finder<'s, '_> {
    /// The keyspace of that name, or the one in use.
    fn keyspace(&self, name: Option<&Name>) -> Result<&'s KeyspaceDef, PlanError> {
        let name = name
            .map(Name::as_str)
            .or(self.keyspace_in_use)
            .ok_or_else(|| PlanError::invalid("No keyspace specified and no current keyspace"))?;
        self.keyspace_named(name)
    }

    fn keyspace_named(&self, name: &str) -> Result<&'s KeyspaceDef, PlanError> {
        let keyspace = self.schema.keyspace(name).map(|keyspace| &**keyspace);
        keyspace.ok_or_else(|| PlanError::invalid(format!("'{name}' not found in keyspaces")))
    }

    /// The keyspaces whose parts are listed: the one in use, or all.
    fn listed(&self) -> Result<Vec<&'s KeyspaceDef>, PlanError> {
        match self.keyspace_in_use {
            Some(name) => Ok(vec![self.keyspace_named(name)?]),
            None => Ok(self.schema.keyspaces.values().map(|keyspace| &**keyspace).collect()),
        }
    }

    fn table(&self, name: &QualifiedName) -> Result<Vec<Element<'s>>, PlanError> {
        let keyspace = self.keyspace(name.keyspace.as_ref())?;
        let name = name.name.as_str();
        described_table(keyspace, name).ok_or_else(|| {
            let keyspace = &keyspace.name;
            PlanError::invalid(format!("Table '{name}' not found in keyspace '{keyspace}'"))
        })
    }

    fn user_type(&self, name: &QualifiedName) -> Result<Vec<Element<'s>>, PlanError> {
        let keyspace = self.keyspace(name.keyspace.as_ref())?;
        match keyspace.types.get(name.name.as_str()) {
            Some(user_type) => Ok(vec![Element::Type(keyspace, user_type)]),
            None => self.none(name, "User defined type"),
        }
    }

    /// The error about a part that is not there.
    fn none(&self, name: &QualifiedName, what: &str) -> Result<Vec<Element<'s>>, PlanError> {
        let keyspace = &self.keyspace(name.keyspace.as_ref())?.name;
        let name = name.name.as_str();
        Err(PlanError::invalid(format!("{what} '{name}' not found in '{keyspace}'")))
    }

    fn listed_feeds(&self) -> Vec<Element<'s>> {
        let is_listed =
            |feed: &&DescribedFeed| self.keyspace_in_use.is_none_or(|used| used == &*feed.keyspace);
        self.feeds.iter().filter(is_listed).map(Element::Feed).collect()
    }

    fn feed(&self, name: &str) -> Option<Vec<Element<'s>>> {
        let feed = self.feeds.iter().find(|feed| *feed.name == *name)?;
        Some(vec![Element::Feed(feed)])
    }

    fn any(&self, name: &QualifiedName) -> Result<Vec<Element<'s>>, PlanError> {
        let feed = || self.feed(name.name.as_str()).filter(|_| name.keyspace.is_none());
        self.part_of_schema(name).or_else(|error| feed().ok_or(error))
    }

    fn part_of_schema(&self, name: &QualifiedName) -> Result<Vec<Element<'s>>, PlanError> {
        let text = name.name.as_str();
        let keyspace = match &name.keyspace {
            Some(keyspace) => keyspace.as_str(),
            None => match self.schema.keyspace(text) {
                Some(keyspace) => return Ok(keyspace_elements(keyspace)),
                None => self.keyspace_in_use.unwrap_or(text),
            },
        };
        let keyspace = self.keyspace_named(keyspace)?;
        let user_type = || {
            let user_type = keyspace.types.get(text)?;
            Some(vec![Element::Type(keyspace, user_type)])
        };
        described_table(keyspace, text).or_else(user_type).ok_or_else(|| {
            PlanError::invalid(format!("'{text}' not found in keyspace '{}'", keyspace.name))
        })
    }
}

/// A keyspace and everything in it, in an order in which it can be made.
fn keyspace_elements(keyspace: &KeyspaceDef) -> Vec<Element<'_>> {
    let mut elements = vec![Element::Keyspace(keyspace)];
    let types = in_dependency_order(keyspace).into_iter();
    elements.extend(types.map(|user_type| Element::Type(keyspace, user_type)));
    let logs = attached_logs(keyspace);
    for table in keyspace.tables.values().filter(|table| !logs.contains(&table.id)) {
        elements.push(Element::Table(table));
        elements.extend(log_properties(keyspace, table));
    }
    elements
}

/// A table, and the properties of its log; or the log itself.
fn described_table<'s>(keyspace: &'s KeyspaceDef, name: &str) -> Option<Vec<Element<'s>>> {
    let table = keyspace.tables.get(name)?;
    if attached_logs(keyspace).contains(&table.id) {
        return Some(vec![Element::AttachedLog(table)]);
    }
    Some(std::iter::once(Element::Table(table)).chain(log_properties(keyspace, table)).collect())
}

fn log_properties<'s>(keyspace: &'s KeyspaceDef, base: &TableDef) -> Option<Element<'s>> {
    let id = base.cdc_log.filter(|_| base.options.cdc.is_some_and(|cdc| cdc.enabled))?;
    let log = keyspace.tables.values().find(|table| table.id == id)?;
    Some(Element::LogProperties(log))
}

/// The tables that statements about their base make.
fn attached_logs(keyspace: &KeyspaceDef) -> BTreeSet<TableId> {
    keyspace.tables.values().filter_map(|base| base.cdc_log).collect()
}

fn tables(keyspace: &KeyspaceDef) -> Vec<Element<'_>> {
    let logs = attached_logs(keyspace);
    let tables = keyspace.tables.values().filter(|table| !logs.contains(&table.id));
    tables.map(|table| Element::Table(table)).collect()
}

fn types_by_name(keyspace: &KeyspaceDef) -> Vec<Element<'_>> {
    keyspace.types.values().map(|user_type| Element::Type(keyspace, user_type)).collect()
}
