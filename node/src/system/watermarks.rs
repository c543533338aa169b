//! `system.cdc_watermarks`: up to which time each stream of each keyspace's logs is complete.
//!
//! A row says that nothing will ever appear in the stream, in any log of the keyspace, with a
//! `cdc$time` that is not above `closed`, and that what is there is visible to reads at QUORUM. The
//! leaders of all ranges are asked when the table is read, on whichever node; that counts as watching
//! (`crate::shard`), so that whoever reads again within some seconds is told times near the clock.

use super::rows::{Datum, Rows};
use crate::shard::Shard;
use crate::view::View;
use cdc::Generation;
use cdc::time_uuid::log_time_uuid;
use model::{TableDef, TableId, Token};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The rows as they are now.
pub(super) async fn rows(shard: &Rc<Shard>, table: &TableDef) -> Vec<Vec<u8>> {
    let view = shard.view();
    let mut rows = Rows::new(table);
    for (keyspace, log) in logged_keyspaces(&view) {
        let closed = shard.closed_times(&view, log).await;
        for stream in view.generations.list().iter().flat_map(Generation::streams) {
            let range = view.ranges.range_of(Token(model::token::cdc_stream_token(&stream).0));
            let Some(closed) = closed.get(&range) else { continue };
            rows.add(vec![
                ("keyspace_name", keyspace.into()),
                ("stream_id", Datum::blob(&stream)),
                // Above every time that the microsecond may have in a log.
                ("closed", log_time_uuid(*closed, u64::MAX).into()),
                ("closed_at", closed.div_euclid(1_000).into()),
            ]);
        }
    }
    rows.finish()
}

/// The keyspaces that have logs, with one of them each: the ranges of all are closed together.
fn logged_keyspaces(view: &View) -> BTreeMap<&str, TableId> {
    let bases = view.metadata.schema.keyspaces.values().flat_map(|k| k.tables.values());
    bases.filter_map(|base| Some((&*base.keyspace, base.cdc_log?))).collect()
}
