//! The log table: its definition follows from the base table's.
//!
//! ```text
//! PRIMARY KEY ("cdc$stream_id", "cdc$time", "cdc$batch_seq_no")
//! cdc$operation tinyint, cdc$ttl bigint, cdc$end_of_batch boolean
//! key column k T          k T
//! one-cell column v T     v T, cdc$deleted_v boolean
//! collection, UDT v T     v (frozen form), cdc$deleted_v boolean, cdc$deleted_elements_v set
//! ```
//!
//! A list is logged as a map from its elements' time uuids, and the deleted elements are time
//! uuids, set elements, map keys or field indexes ([`logged_type`], [`deleted_elements_type`]).
//! Static columns become ordinary ones. Column ids are given once and never reused, so a base
//! column that is dropped and added again gets new log columns.

use crate::error::{self, CdcError, check_base};
use model::schema::{DroppedColumn, Partitioner};
use model::{
    CdcOptions, ColumnDef, ColumnId, ColumnKind, CqlType, TableDef, TableId, TableOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a log's name ends with.
pub const LOG_SUFFIX: &str = "_scylla_cdc_log";

/// Partition key of the log.
pub const STREAM_ID: &str = "cdc$stream_id";
/// First clustering column.
pub const TIME: &str = "cdc$time";
/// Second clustering column.
pub const BATCH_SEQ_NO: &str = "cdc$batch_seq_no";
/// What a row tells of.
pub const OPERATION: &str = "cdc$operation";
/// TTL of the write.
pub const TTL: &str = "cdc$ttl";
/// True on the last row of a group.
pub const END_OF_BATCH: &str = "cdc$end_of_batch";
/// Before a column's name: whether it was deleted.
pub const DELETED_PREFIX: &str = "cdc$deleted_";
/// Before a column's name: which of its elements were deleted.
pub const DELETED_ELEMENTS_PREFIX: &str = "cdc$deleted_elements_";

/// How far in the future a dropped log column counts as dropped, in microseconds, so that log
/// writes under way are older.
const DROP_LEEWAY_MICROS: i64 = 5_000_000;

/// The log aims at this many time windows over its TTL.
const WINDOWS_WANTED: u32 = 24;

/// The name of a table's log.
pub fn log_table_name(base: &str) -> String {
    format!("{base}{LOG_SUFFIX}")
}

/// The name of the table whose log would have this name.
pub fn is_log_name_of(name: &str) -> Option<&str> {
    name.strip_suffix(LOG_SUFFIX).filter(|base| !base.is_empty())
}

/// The log of a table, new, with the properties that follow from the table's CDC options.
///
/// Errors when the table cannot have one.
pub fn new_log_table(base: &TableDef, id: TableId) -> Result<TableDef, CdcError> {
    check_base(base)?;
    check_names(base)?;
    let options = base.cdc_enabled().or(base.options.cdc).unwrap_or_default();
    let mut log = TableDef {
        id,
        keyspace: base.keyspace.clone(),
        name: log_table_name(&base.name).into(),
        columns: Vec::new(),
        dropped_columns: Vec::new(),
        next_column_id: 0,
        version: 1,
        partitioner: Partitioner::CdcStream,
        cdc_base: Some(base.id),
        cdc_log: None,
        options: log_options(base, options),
    };
    for (name, cql_type, kind) in [
        (STREAM_ID, CqlType::Blob, ColumnKind::PartitionKey(0)),
        (TIME, CqlType::TimeUuid, ColumnKind::Clustering(0)),
        (BATCH_SEQ_NO, CqlType::Int, ColumnKind::Clustering(1)),
        (OPERATION, CqlType::TinyInt, ColumnKind::Regular),
        (TTL, CqlType::BigInt, ColumnKind::Regular),
        (END_OF_BATCH, CqlType::Boolean, ColumnKind::Regular),
    ] {
        add_column(&mut log, name.into(), cql_type, kind);
    }
    // Keys first, then the others in the order of a row's cells: so log rows are written without
    // sorting theirs.
    let mut data: Vec<&ColumnDef> = base.data_columns().iter().collect();
    data.sort_by_key(|column| column.id);
    for column in base.partition_key().iter().chain(base.clustering_key()).chain(data) {
        for (name, cql_type) in log_columns_of(column) {
            add_column(&mut log, name, cql_type, ColumnKind::Regular);
        }
    }
    sort_columns(&mut log);
    Ok(log)
}

/// The log after a change of its base table, or on being attached again: columns follow the base's,
/// properties stay as they are. The version is raised when anything changed.
pub fn sync_log_table(
    base: &TableDef,
    existing_log: &TableDef,
    now_micros: i64,
) -> Result<TableDef, CdcError> {
    check_base(base)?;
    check_names(base)?;
    assert!(existing_log.is_cdc_log(), "only a log table is brought in step with a base");
    let mut wanted: BTreeMap<Arc<str>, CqlType> =
        base.columns.iter().flat_map(log_columns_of).collect();
    let mut log = existing_log.clone();
    log.cdc_base = Some(base.id);
    log.name = log_table_name(&base.name).into();
    let is_own = |c: &ColumnDef| c.kind != ColumnKind::Regular || is_metadata(&c.name);
    let mut dropped = Vec::new();
    log.columns.retain_mut(|column| {
        if is_own(column) {
            return true;
        }
        if let Some(cql_type) = wanted.get(&column.name)
            && is_same_or_grown(&column.cql_type, cql_type)
        {
            column.cql_type = cql_type.clone();
            wanted.remove(&column.name);
            return true;
        }
        dropped.push(DroppedColumn {
            id: column.id,
            name: column.name.clone(),
            cql_type: column.cql_type.clone(),
            is_static: false,
            dropped_at_micros: now_micros.saturating_add(DROP_LEEWAY_MICROS),
        });
        false
    });
    log.dropped_columns.retain(|old| dropped.iter().all(|new| new.name != old.name));
    log.dropped_columns.extend(dropped);
    for (name, cql_type) in wanted {
        add_column(&mut log, name, cql_type, ColumnKind::Regular);
    }
    sort_columns(&mut log);
    if log != *existing_log {
        log.version = existing_log.version + 1;
    }
    Ok(log)
}

/// The type in which a base column's values are logged: as one value; lists keyed by time uuid.
pub fn logged_type(column: &CqlType) -> CqlType {
    match column {
        CqlType::List { element, frozen: false } => CqlType::Map {
            key: Arc::new(CqlType::TimeUuid),
            value: Arc::new(element.freeze()),
            frozen: true,
        },
        column if column.is_multi_cell() => column.freeze(),
        column => column.clone(),
    }
}

/// The type of `cdc$deleted_elements_…`, for columns that have elements.
pub fn deleted_elements_type(column: &CqlType) -> Option<CqlType> {
    let element = match column {
        CqlType::Map { key, frozen: false, .. } => key.freeze(),
        CqlType::Set { element, frozen: false } => element.freeze(),
        CqlType::List { frozen: false, .. } => CqlType::TimeUuid,
        CqlType::Udt(udt) if !udt.frozen => CqlType::SmallInt,
        _ => return None,
    };
    Some(CqlType::Set { element: Arc::new(element), frozen: true })
}

fn log_columns_of(column: &ColumnDef) -> Vec<(Arc<str>, CqlType)> {
    let mut out = vec![(column.name.clone(), logged_type(&column.cql_type))];
    if matches!(column.kind, ColumnKind::Static | ColumnKind::Regular) {
        out.push((format!("{DELETED_PREFIX}{}", column.name).into(), CqlType::Boolean));
        if let Some(elements) = deleted_elements_type(&column.cql_type) {
            out.push((format!("{DELETED_ELEMENTS_PREFIX}{}", column.name).into(), elements));
        }
    }
    out
}

/// Refuses base columns that would need two log columns of one name.
fn check_names(base: &TableDef) -> Result<(), CdcError> {
    let mut names = BTreeSet::from(
        [STREAM_ID, TIME, BATCH_SEQ_NO, OPERATION, TTL, END_OF_BATCH].map(Arc::<str>::from),
    );
    for (name, _) in base.columns.iter().flat_map(log_columns_of) {
        if !names.insert(name.clone()) {
            return Err(error::log_column_taken(&base.keyspace, &base.name, &name));
        }
    }
    Ok(())
}

fn is_metadata(name: &str) -> bool {
    matches!(name, OPERATION | TTL | END_OF_BATCH)
}

/// Whether values of the old type read as values of the new one: the same, but for fields that a
/// user type gained.
fn is_same_or_grown(old: &CqlType, new: &CqlType) -> bool {
    match (old, new) {
        (CqlType::Udt(a), CqlType::Udt(b)) => {
            (&a.keyspace, &a.name, a.frozen) == (&b.keyspace, &b.name, b.frozen)
        }
        (CqlType::List { element: a, frozen: x }, CqlType::List { element: b, frozen: y })
        | (CqlType::Set { element: a, frozen: x }, CqlType::Set { element: b, frozen: y }) => {
            x == y && is_same_or_grown(a, b)
        }
        (
            CqlType::Map { key: a, value: a_value, frozen: x },
            CqlType::Map { key: b, value: b_value, frozen: y },
        ) => x == y && is_same_or_grown(a, b) && is_same_or_grown(a_value, b_value),
        (CqlType::Tuple(a), CqlType::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| is_same_or_grown(a, b))
        }
        (
            CqlType::Vector { element: a, dimension: x },
            CqlType::Vector { element: b, dimension: y },
        ) => x == y && is_same_or_grown(a, b),
        _ => old == new,
    }
}

fn add_column(log: &mut TableDef, name: Arc<str>, cql_type: CqlType, kind: ColumnKind) {
    let id: ColumnId = log.next_column_id;
    log.next_column_id += 1;
    log.columns.push(ColumnDef { id, name, cql_type, kind, descending: false });
}

/// Keys first, then by name: the order that a definition promises.
fn sort_columns(log: &mut TableDef) {
    log.columns.sort_by(|a, b| {
        let place = |c: &ColumnDef| match c.kind {
            ColumnKind::PartitionKey(i) => (0, i),
            ColumnKind::Clustering(i) => (1, i),
            ColumnKind::Static | ColumnKind::Regular => (2, 0),
        };
        place(a).cmp(&place(b)).then_with(|| a.name.cmp(&b.name))
    });
}

fn log_options(base: &TableDef, cdc: CdcOptions) -> TableOptions {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    // Written out as ALTER TABLE writes them, so that a described log is the log.
    let mut compaction = map(&[
        ("class", "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy"),
        ("max_threshold", "32"),
        ("min_threshold", "4"),
    ]);
    let mut gc_grace_seconds = TableOptions::default().gc_grace_seconds;
    if cdc.ttl_seconds > 0 {
        let window_seconds = cdc.ttl_seconds.div_ceil(WINDOWS_WANTED);
        let check_seconds = (window_seconds / 2).max(1);
        compaction.extend([
            ("compaction_window_unit".to_owned(), "MINUTES".to_owned()),
            ("compaction_window_size".to_owned(), window_seconds.div_ceil(60).to_string()),
            ("expired_sstable_check_frequency_seconds".to_owned(), check_seconds.to_string()),
        ]);
        gc_grace_seconds = 0;
    }
    TableOptions {
        comment: format!("CDC log for {}.{}", base.keyspace, base.name),
        gc_grace_seconds,
        caching: map(&[("enabled", "false"), ("keys", "NONE"), ("rows_per_partition", "NONE")]),
        compaction,
        tombstone_gc: map(&[("mode", "timeout"), ("propagation_delay_in_seconds", "3600")]),
        ..TableOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{base_table, column_type};

    fn shape(log: &TableDef) -> Vec<String> {
        log.columns.iter().map(|c| format!("{} {}", c.name, c.cql_type)).collect()
    }

    fn base() -> TableDef {
        base_table(
            "p int, c text desc, s int static, v int, m map<int,text>, l list<int>, z set<int>, u udt",
        )
    }

    #[test]
    fn each_kind_of_column_has_its_log_columns() {
        let log = new_log_table(&base(), TableId(2)).unwrap();
        assert_eq!(
            shape(&log),
            [
                "cdc$stream_id blob",
                "cdc$time timeuuid",
                "cdc$batch_seq_no int",
                "c text",
                "cdc$deleted_elements_l frozen<set<timeuuid>>",
                "cdc$deleted_elements_m frozen<set<int>>",
                "cdc$deleted_elements_u frozen<set<smallint>>",
                "cdc$deleted_elements_z frozen<set<int>>",
                "cdc$deleted_l boolean",
                "cdc$deleted_m boolean",
                "cdc$deleted_s boolean",
                "cdc$deleted_u boolean",
                "cdc$deleted_v boolean",
                "cdc$deleted_z boolean",
                "cdc$end_of_batch boolean",
                "cdc$operation tinyint",
                "cdc$ttl bigint",
                "l frozen<map<timeuuid, int>>",
                "m frozen<map<int, text>>",
                "p int",
                "s int",
                "u frozen<udt>",
                "v int",
                "z frozen<set<int>>",
            ]
        );
        assert_eq!((log.partition_key_count(), log.clustering_count()), (1, 2));
        assert!(!log.has_static_columns());
        assert_eq!(&*log.name, "t_scylla_cdc_log");
        assert_eq!(is_log_name_of(&log.name), Some("t"));
        assert_eq!(is_log_name_of("t"), None);
    }

    #[test]
    fn properties_follow_from_the_ttl() {
        let mut base = base();
        base.options.cdc = Some(CdcOptions { enabled: true, ..CdcOptions::default() });
        let log = new_log_table(&base, TableId(2)).unwrap();
        let compaction = |log: &TableDef, key: &str| log.options.compaction.get(key).cloned();
        assert_eq!(compaction(&log, "compaction_window_size").as_deref(), Some("60"));
        let check = compaction(&log, "expired_sstable_check_frequency_seconds");
        assert_eq!(check.as_deref(), Some("1800"));
        assert_eq!(log.options.gc_grace_seconds, 0);
        assert_eq!(log.options.comment, "CDC log for ks.t");

        base.options.cdc = Some(CdcOptions { ttl_seconds: 0, ..CdcOptions::default() });
        let log = new_log_table(&base, TableId(2)).unwrap();
        assert_eq!(compaction(&log, "compaction_window_size"), None);
        assert_eq!(log.options.gc_grace_seconds, 864_000);
    }

    #[test]
    fn the_log_follows_its_base_and_keeps_ids_and_properties() {
        let mut base = base();
        let mut log = new_log_table(&base, TableId(2)).unwrap();
        log.options.comment = "mine".to_owned();
        assert_eq!(sync_log_table(&base, &log, 0).unwrap(), log);

        base.columns.retain(|c| &*c.name != "m");
        let without = sync_log_table(&base, &log, 1).unwrap();
        assert_eq!(without.version, log.version + 1);
        assert_eq!(without.dropped_columns.len(), 3);
        assert!(without.dropped_columns.iter().all(|c| c.dropped_at_micros == 5_000_001));
        assert_eq!(without.options.comment, "mine");
        assert_eq!(without.column("v").unwrap().id, log.column("v").unwrap().id);

        base.columns.push(ColumnDef {
            id: 99,
            name: "m".into(),
            cql_type: column_type("int"),
            kind: ColumnKind::Regular,
            descending: false,
        });
        let with = sync_log_table(&base, &without, 2).unwrap();
        let id = with.column("m").unwrap().id;
        assert!(id >= without.next_column_id);
        assert_eq!(with.column("m").unwrap().cql_type, CqlType::Int);
        assert!(with.column("cdc$deleted_elements_m").is_none());

        base.columns[1].name = "c2".into();
        let renamed = sync_log_table(&base, &with, 3).unwrap();
        assert!(renamed.column("c").is_none() && renamed.column("c2").is_some());
    }

    #[test]
    fn counter_tables_and_logs_have_no_log() {
        let counters = base_table("p int, c int, n counter");
        assert_eq!(
            new_log_table(&counters, TableId(2)).unwrap_err().message,
            "Cannot create CDC log for table ks.t. Counter support not implemented"
        );
        let log = new_log_table(&base(), TableId(2)).unwrap();
        assert_eq!(
            new_log_table(&log, TableId(3)).unwrap_err().message,
            "Cannot create a CDC log for a table ks.t_scylla_cdc_log, because creating nested CDC \
             logs is not allowed"
        );
        let clash = base_table("p int, c int, v int, cdc$deleted_v int");
        assert_eq!(
            new_log_table(&clash, TableId(3)).unwrap_err().message,
            "Cannot create CDC log for table ks.t: the log would have two columns named \
             cdc$deleted_v"
        );
    }
}
