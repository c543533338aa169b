//! OPTIONS and STARTUP: what the server offers, and what the client takes.

use super::Reply;
use crate::connection::Session;
use cluster::HostId;
use cql::wire::{
    Compression, EventKind, Extensions, FRAME_BODY_BYTES_MAX, Framing, Startup, Version,
};
use std::rc::Rc;

/// The CQL version that is announced; any from 3.0 on is accepted in STARTUP.
const CQL_VERSION: &str = "3.4.7";
/// Options kept of one client, for `system.clients`; more are counted as hostile and left out.
const OPTIONS_MAX: usize = 32;
/// Length of a kept option's value in bytes.
const OPTION_BYTES_MAX: usize = 4096;

/// How a connection goes on after STARTUP.
#[derive(Debug)]
pub(crate) struct Started {
    pub version: Version,
    pub framing: Framing,
    pub frame_bytes_max: u32,
}

/// Answers OPTIONS, in any state.
pub(super) fn options(session: &Session, reply: &Reply) {
    let shared = &session.shard().shared;
    let shard = session.shard().index.to_string();
    let shard_count = shared.shard_count.to_string();
    let host_id = format_uuid(shared.host_id.0);
    let port = shared.shard_aware_port().to_string();
    let versions: &[&str] = &["3/v3", "4/v4", "5/v5"];
    let versioned_shards = [
        ("SCYLLA_SHARD", shard.as_str()),
        ("SCYLLA_NR_SHARDS", shard_count.as_str()),
        ("SCYLLA_PARTITIONER", "org.apache.cassandra.dht.Murmur3Partitioner"),
        ("SCYLLA_SHARDING_ALGORITHM", "biased-token-round-robin"),
        ("SCYLLA_SHARDING_IGNORE_MSB", "0"),
        ("SCYLLA_SHARD_AWARE_PORT", port.as_str()),
        ("SCYLLA_HOST_ID", host_id.as_str()),
    ];
    let singles: Vec<[&str; 1]> = versioned_shards.iter().map(|(_, value)| [*value]).collect();
    let mut offered: Vec<(&str, &[&str])> = vec![
        ("CQL_VERSION", &[CQL_VERSION]),
        ("COMPRESSION", &Compression::SUPPORTED),
        ("PROTOCOL_VERSIONS", versions),
    ];
    let keys = versioned_shards.iter().map(|(key, _)| *key);
    offered.extend(keys.zip(&singles).map(|(key, value)| (key, value.as_slice())));
    let extensions = Extensions::SUPPORTED.map(|(key, value)| (key, [value]));
    offered.extend(extensions.iter().map(|(key, value)| (*key, value.as_slice())));
    reply.supported(&offered);
}

/// Answers STARTUP.
pub(super) fn startup(session: &Rc<Session>, reply: &Reply, startup: &Startup) -> Option<Started> {
    if session.is_started.get() {
        reply.protocol_error("the connection has begun already");
        return None;
    }
    let Some(cql_version) = startup.get("CQL_VERSION") else {
        reply.protocol_error("Missing value CQL_VERSION in STARTUP message");
        return None;
    };
    if !is_version_3(cql_version) {
        let message = format!("Invalid CQL version {cql_version}; from 3.0.0 on is supported");
        reply.protocol_error(&message);
        return None;
    }
    let compression = match startup.get("COMPRESSION") {
        None | Some("") => Compression::None,
        Some(name) => {
            let Some(compression) = Compression::from_name(name) else {
                reply.protocol_error(&format!("Unknown compression algorithm: {name}"));
                return None;
            };
            compression
        }
    };
    let version = reply.version;
    session.version.set(version);
    session.extensions.set(Extensions::from_startup(startup));
    session.is_started.set(true);
    let kept = startup.options.iter().filter(|(_, value)| value.len() <= OPTION_BYTES_MAX);
    session.info.borrow_mut().options =
        kept.take(OPTIONS_MAX).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    session.info.borrow_mut().protocol_version = version.number();
    reply.ready();
    let framing = Framing::after_startup(version, compression);
    session.outbox().set_framing(framing);
    Some(Started { version, framing, frame_bytes_max: FRAME_BODY_BYTES_MAX })
}

fn is_version_3(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    // Drivers also send 4.0.0: the language, as Cassandra 4 numbers it.
    major.is_some_and(|major| major == 3 || major == 4)
}

/// A node's host id, as `tethys status` shows it.
pub(crate) fn format_uuid(id: u128) -> String {
    HostId(id).to_string()
}

const _: () = assert!((EventKind::SchemaChange as u8) < 8, "a session keeps kinds in eight bits");
