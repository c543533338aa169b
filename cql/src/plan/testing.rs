//! What the tests of plans share.

use super::context::BindContext;
use model::schema::Partitioner;
use model::timeuuid::{ietf_low_bits, timeuuid_from_micros};
use model::{ColumnDef, ColumnKind, CqlType, TableDef, TableId, TableOptions};

/// The microsecond at which tests run.
pub(crate) const NOW_MICROS: i64 = 1_700_000_000_123_456;

/// Runs with a context whose clock stands still and whose UUIDs count up.
pub(crate) fn context<R>(run: impl FnOnce(&mut BindContext<'_>) -> R) -> R {
    let mut count = 0;
    let mut fresh_timeuuid = || {
        count += 1;
        timeuuid_from_micros(NOW_MICROS + count, ietf_low_bits(0))
    };
    let mut fresh_uuid = || [0x42; 16];
    run(&mut BindContext {
        now_micros: NOW_MICROS,
        now_seconds: NOW_MICROS / 1_000_000,
        default_timestamp: None,
        fresh_timeuuid: &mut fresh_timeuuid,
        fresh_uuid: &mut fresh_uuid,
    })
}

/// `ks.t (k int PRIMARY KEY, v text)`.
pub(crate) fn table() -> TableDef {
    let column = |id, name: &str, cql_type, kind| ColumnDef {
        id,
        name: name.into(),
        cql_type,
        kind,
        descending: false,
    };
    TableDef {
        id: TableId(1),
        keyspace: "ks".into(),
        name: "t".into(),
        columns: vec![
            column(0, "k", CqlType::Int, ColumnKind::PartitionKey(0)),
            column(1, "v", CqlType::Text, ColumnKind::Regular),
        ],
        dropped_columns: Vec::new(),
        next_column_id: 2,
        version: 1,
        partitioner: Partitioner::Murmur3,
        cdc_base: None,
        cdc_log: None,
        options: TableOptions::default(),
    }
}
