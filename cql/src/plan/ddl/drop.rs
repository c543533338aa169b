//! DROP TABLE. What changefeeds have yet to tell of a table does not hold it: whoever makes the change
//! keeps the log for them.

use super::super::PlanError;
use super::table_lookup::user_table;
use super::{ChangeKind, DdlContext, SchemaChange, cdc};
use crate::syntax::ast::Drop;
use model::{KeyspaceDef, Schema};

pub(super) fn drop_table(
    drop: &Drop,
    schema: &Schema,
    keyspace_in_use: Option<&str>,
    context: &DdlContext<'_>,
) -> Result<SchemaChange, PlanError> {
    let mut change = SchemaChange::default();
    let Some((keyspace, table)) = user_table(schema, keyspace_in_use, &drop.name, drop.if_exists)?
    else {
        return Ok(change);
    };
    if cdc::is_attached_log(keyspace, table) {
        return Err(context.cdc.refusal(cdc::CdcRefusal::AttachedLogDropped { log: &table.name }));
    }
    let mut keyspace = KeyspaceDef::clone(keyspace);
    keyspace.tables.remove(&table.name);
    change.table_event(ChangeKind::Dropped, table);
    cdc::drop_log_of(table, &mut keyspace, &mut change);
    change.put.push(keyspace);
    Ok(change)
}
