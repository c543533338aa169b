//! Events: what clients that registered are told, and results of schema statements, which have the
//! same form.

use std::net::SocketAddr;
use std::sync::Arc;

use super::encode::{put_inet_address, put_int, put_string, put_string_list};
use super::frame::Version;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Nodes join and leave.
    TopologyChange,
    /// Nodes come up and go down.
    StatusChange,
    /// Keyspaces, tables, types, functions and aggregates change.
    SchemaChange,
}

impl EventKind {
    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "TOPOLOGY_CHANGE" => EventKind::TopologyChange,
            "STATUS_CHANGE" => EventKind::StatusChange,
            "SCHEMA_CHANGE" => EventKind::SchemaChange,
            _ => return None,
        })
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::TopologyChange => "TOPOLOGY_CHANGE",
            EventKind::StatusChange => "STATUS_CHANGE",
            EventKind::SchemaChange => "SCHEMA_CHANGE",
        }
    }
}

/// An event. Addresses are those that clients connect to: the broadcast address for clients, with
/// the native port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node joined: system.peers shows it, with its tokens.
    NodeAdded(SocketAddr),
    /// A node left.
    NodeRemoved(SocketAddr),
    /// A node takes connections.
    NodeUp(SocketAddr),
    /// A node does not answer.
    NodeDown(SocketAddr),
    /// The schema changed: system_schema shows it.
    Schema(SchemaChange),
}

impl Event {
    /// The kind that a client registers for to get it.
    pub fn kind(&self) -> EventKind {
        match self {
            Event::NodeAdded(_) | Event::NodeRemoved(_) => EventKind::TopologyChange,
            Event::NodeUp(_) | Event::NodeDown(_) => EventKind::StatusChange,
            Event::Schema(_) => EventKind::SchemaChange,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, version: Version) {
        put_string(out, self.kind().name());
        match self {
            Event::NodeAdded(address) => put_node_event(out, "NEW_NODE", *address),
            Event::NodeRemoved(address) => put_node_event(out, "REMOVED_NODE", *address),
            Event::NodeUp(address) => put_node_event(out, "UP", *address),
            Event::NodeDown(address) => put_node_event(out, "DOWN", *address),
            Event::Schema(change) => change.write(out, version),
        }
    }
}

fn put_node_event(out: &mut Vec<u8>, change: &str, address: SocketAddr) {
    put_string(out, change);
    put_inet_address(out, address.ip());
    put_int(out, i32::from(address.port()));
}

/// What happened to a part of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is different.
    Updated,
    /// It is gone.
    Dropped,
}

/// A change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// What happened.
    pub kind: ChangeKind,
    /// The keyspace that it happened to or in.
    pub keyspace: Arc<str>,
    /// What it happened to.
    pub target: SchemaTarget,
}

/// A part of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaTarget {
    /// The keyspace itself.
    Keyspace,
    /// A table or view.
    Table(Arc<str>),
    /// A user-defined type.
    Type(Arc<str>),
    /// A function.
    Function {
        /// Its name.
        name: Arc<str>,
        /// CQL types of its arguments.
        argument_types: Vec<String>,
    },
    /// An aggregate.
    Aggregate {
        /// Its name.
        name: Arc<str>,
        /// CQL types of its arguments.
        argument_types: Vec<String>,
    },
}

impl SchemaChange {
    /// Functions and aggregates are unknown to v3, which is told that the keyspace changed.
    pub(crate) fn write(&self, out: &mut Vec<u8>, version: Version) {
        let kind = match self.kind {
            ChangeKind::Created => "CREATED",
            ChangeKind::Updated => "UPDATED",
            ChangeKind::Dropped => "DROPPED",
        };
        let (target, name, argument_types) = match &self.target {
            SchemaTarget::Keyspace => ("KEYSPACE", None, None),
            SchemaTarget::Table(name) => ("TABLE", Some(name), None),
            SchemaTarget::Type(name) => ("TYPE", Some(name), None),
            SchemaTarget::Function { .. } | SchemaTarget::Aggregate { .. }
                if version < Version::V4 =>
            {
                put_string(out, "UPDATED");
                put_string(out, "KEYSPACE");
                put_string(out, &self.keyspace);
                return;
            }
            SchemaTarget::Function { name, argument_types } => {
                ("FUNCTION", Some(name), Some(argument_types))
            }
            SchemaTarget::Aggregate { name, argument_types } => {
                ("AGGREGATE", Some(name), Some(argument_types))
            }
        };
        put_string(out, kind);
        put_string(out, target);
        put_string(out, &self.keyspace);
        if let Some(name) = name {
            put_string(out, name);
        }
        if let Some(argument_types) = argument_types {
            put_string_list(out, argument_types);
        }
    }
}
