//! What clients are told when the metadata changes, found by comparing one state with the next, so
//! that clients of every node are told the same, whoever made the change.
//!
//! Of nodes: that drivers look at `system.peers` again, and open or give up connections. Of the
//! schema: what was created, updated and dropped. A part of a keyspace that is new or gone as a
//! whole is not told of; whoever hears of the keyspace looks at all of it.

use super::{Metadata, NodeRecord};
use cql::wire::{ChangeKind, Event, SchemaChange, SchemaTarget};
use model::schema::{KeyspaceDef, Schema};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything that clients are told of a step from one state to a later one.
pub(super) fn events_between(before: &Metadata, after: &Metadata) -> Vec<Event> {
    let mut events = topology_events(before, after);
    events.extend(schema_events(&before.schema, &after.schema).into_iter().map(Event::Schema));
    events
}

/// The changes that make one schema of the other, in the order in which a client can follow them:
/// what goes, what comes, what is another now.
fn schema_events(before: &Schema, after: &Schema) -> Vec<SchemaChange> {
    let mut events = Vec::new();
    for (name, keyspace) in &before.keyspaces {
        if !after.keyspaces.contains_key(name) {
            events.push(change(keyspace, ChangeKind::Dropped, SchemaTarget::Keyspace));
        }
    }
    for (name, keyspace) in &after.keyspaces {
        match before.keyspaces.get(name) {
            None => events.push(change(keyspace, ChangeKind::Created, SchemaTarget::Keyspace)),
            Some(former) if Arc::ptr_eq(former, keyspace) => {}
            Some(former) => events_in_keyspace(former, keyspace, &mut events),
        }
    }
    events
}

fn events_in_keyspace(before: &KeyspaceDef, after: &KeyspaceDef, events: &mut Vec<SchemaChange>) {
    let tables = Parts::new(&before.tables, &after.tables, |former, table| former.id == table.id);
    let types = Parts::new(&before.types, &after.types, |_, _| true);
    let mut tell = |kind, targets: Vec<SchemaTarget>| {
        events.extend(targets.into_iter().map(|target| change(after, kind, target)));
    };
    tell(ChangeKind::Dropped, named(tables.dropped, SchemaTarget::Table));
    tell(ChangeKind::Dropped, named(types.dropped, SchemaTarget::Type));
    tell(ChangeKind::Created, named(types.created, SchemaTarget::Type));
    tell(ChangeKind::Created, named(tables.created, SchemaTarget::Table));
    let is_same =
        before.replication == after.replication && before.durable_writes == after.durable_writes;
    tell(ChangeKind::Updated, if is_same { Vec::new() } else { vec![SchemaTarget::Keyspace] });
    tell(ChangeKind::Updated, named(types.updated, SchemaTarget::Type));
    tell(ChangeKind::Updated, named(tables.updated, SchemaTarget::Table));
}

fn change(keyspace: &KeyspaceDef, kind: ChangeKind, target: SchemaTarget) -> SchemaChange {
    SchemaChange { kind, keyspace: keyspace.name.clone(), target }
}

fn named(names: Vec<&Arc<str>>, target: fn(Arc<str>) -> SchemaTarget) -> Vec<SchemaTarget> {
    names.into_iter().map(|name| target(name.clone())).collect()
}

/// The tables or the types of a keyspace by what became of them, each in the order of the names.
struct Parts<'a> {
    dropped: Vec<&'a Arc<str>>,
    created: Vec<&'a Arc<str>>,
    updated: Vec<&'a Arc<str>>,
}

impl<'a> Parts<'a> {
    /// `is_same` says of two parts of one name whether the later is the earlier, perhaps changed,
    /// and not another that took its place.
    fn new<T: PartialEq>(
        before: &'a BTreeMap<Arc<str>, Arc<T>>,
        after: &'a BTreeMap<Arc<str>, Arc<T>>,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Parts<'a> {
        let lives_on = |name: &Arc<str>| {
            before.get(name).zip(after.get(name)).is_some_and(|(old, new)| is_same(old, new))
        };
        Parts {
            dropped: before.keys().filter(|name| !lives_on(name)).collect(),
            created: after.keys().filter(|name| !lives_on(name)).collect(),
            updated: after
                .iter()
                .filter(|(name, part)| lives_on(name) && before.get(*name) != Some(*part))
                .map(|(name, _)| name)
                .collect(),
        }
    }
}

/// The events between two states. A node whose address for clients changed has left the one and
/// joined at the other, as drivers know nodes by their addresses.
fn topology_events(before: &Metadata, after: &Metadata) -> Vec<Event> {
    let address_in = |metadata: &Metadata, node: &NodeRecord| {
        metadata.node(node.host_id).map(NodeRecord::cql_address)
    };
    let gone = before.nodes.values().filter_map(|node| {
        let address = node.cql_address();
        (address_in(after, node) != Some(address)).then_some(Event::NodeRemoved(address))
    });
    let new = after.nodes.values().filter_map(|node| {
        let address = node.cql_address();
        (address_in(before, node) != Some(address)).then_some(Event::NodeAdded(address))
    });
    gone.chain(new).collect()
}

impl NodeRecord {
    /// Where clients reach it.
    pub(crate) fn cql_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.cql_port)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metadata::Command;
    use cql::plan::ddl::{self, DdlContext};

    fn node(host_id: u128, cql_port: u16) -> NodeRecord {
        NodeRecord {
            host_id,
            data_center: "dc1".to_owned(),
            rack: "r1".to_owned(),
            address: [127, 0, 0, 1].into(),
            cql_port,
            internode_address: SocketAddr::from(([127, 0, 0, 1], 7000)),
            tokens: vec![host_id as i64],
            shard_count: 1,
        }
    }

    /// What is known of nodes with these ids and ports.
    pub(crate) fn metadata(nodes: &[(u128, u16)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (index, (host_id, port)) in (1..).zip(nodes) {
            let node = node(*host_id, *port);
            metadata
                .apply(index, Command::AddNode { cluster_name: "c".to_owned(), cuts: 256, node });
        }
        metadata
    }

    #[test]
    fn nodes_that_come_go_and_move_are_told_of() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let before = metadata(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(topology_events(&before, &before), []);
        let after = metadata(&[(1, 10), (3, 31), (4, 40)]);
        let expected = [
            Event::NodeRemoved(address(20)),
            Event::NodeRemoved(address(30)),
            Event::NodeAdded(address(31)),
            Event::NodeAdded(address(40)),
        ];
        assert_eq!(topology_events(&before, &after), expected);
    }

    /// The schema that statements make, one after the other.
    pub(crate) fn schema(statements: &[&str]) -> Schema {
        let mut schema = Schema::default();
        let mut next_id = 1;
        for text in statements {
            let parsed = cql::syntax::parse(text).expect("it is CQL");
            let mut context = DdlContext {
                now_micros: 0,
                fresh_table_id: &mut || {
                    next_id += 1;
                    next_id
                },
                is_dropped_id: &|_| false,
                data_centres: &BTreeMap::new(),
                cdc: &crate::cdc_tables::CdcLogTables,
            };
            let changed = ddl::apply(&parsed.statement, &schema, Some("k"), &mut context);
            schema = changed.expect("it can be done").applied_to(&schema, schema.version + 1);
        }
        schema
    }

    /// The events of a step as words, whatever made it.
    fn told(before: &[&str], step: &[&str]) -> Vec<String> {
        let after: Vec<&str> = before.iter().chain(step).copied().collect();
        let events = schema_events(&schema(before), &schema(&after));
        let words = |SchemaChange { kind, keyspace, target }| match target {
            SchemaTarget::Keyspace => format!("{kind:?} {keyspace}"),
            SchemaTarget::Table(name) => format!("{kind:?} table {keyspace}.{name}"),
            SchemaTarget::Type(name) => format!("{kind:?} type {keyspace}.{name}"),
            other => panic!("{other:?}"),
        };
        events.into_iter().map(words).collect()
    }

    const KEYSPACE: &str =
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
    const TYPE: &str = "CREATE TYPE pair (a int, b int)";
    const TABLE: &str = "CREATE TABLE t (p int PRIMARY KEY, v frozen<pair>)";

    #[test]
    fn a_schema_that_changes_is_told_of_as_drivers_expect() {
        assert_eq!(told(&[], &[KEYSPACE]), ["Created k"]);
        let all = [KEYSPACE, TYPE, TABLE];
        assert_eq!(told(&all, &[]), Vec::<String>::new());
        assert_eq!(told(&all[..1], &all[1..]), ["Created type k.pair", "Created table k.t"]);
        assert_eq!(told(&all, &["ALTER TABLE t ADD w int"]), ["Updated table k.t"]);
        let field = "ALTER TYPE pair ADD c int";
        assert_eq!(told(&all, &[field]), ["Updated type k.pair", "Updated table k.t"]);
        assert_eq!(told(&all, &["ALTER KEYSPACE k WITH durable_writes = false"]), ["Updated k"]);
        assert_eq!(told(&all, &["DROP TABLE t"]), ["Dropped table k.t"]);
        assert_eq!(
            told(&all, &["DROP TABLE t", "DROP TYPE pair"]),
            ["Dropped table k.t", "Dropped type k.pair"]
        );
        // Another of the same name is not the one that was.
        assert_eq!(
            told(&all, &["DROP TABLE t", TABLE]),
            ["Dropped table k.t", "Created table k.t"]
        );
        assert_eq!(told(&all, &["DROP KEYSPACE k"]), ["Dropped k"], "and not what was in it");
    }

    #[test]
    fn logs_of_changes_are_tables_that_are_told_of() {
        let all = [KEYSPACE, TYPE, TABLE];
        let on = "ALTER TABLE t WITH cdc = {'enabled': true}";
        let log = "table k.t_scylla_cdc_log";
        assert_eq!(told(&all, &[on]), [format!("Created {log}"), "Updated table k.t".to_owned()]);
    }

    #[test]
    fn a_cluster_is_known_by_the_node_that_founded_it() {
        assert_eq!(metadata(&[(5, 10), (2, 20)]).cluster_id, 5);
    }
}
