//! Debezium's envelope, as its connectors write it without schemas.

use super::{Renderer, push_expansion, push_number};
use crate::event::body::{Members, push_key, push_range, push_row_or_null};
use crate::event::{Change, Event};
use model::ValueError;

impl Renderer {
    /// `before`, `after`, `source`, `op`, `ts_ms`; behind them `range`, `index`, `expanded`.
    pub(super) fn push_debezium(
        &self,
        out: &mut String,
        event: &Event,
        omits_rows: bool,
    ) -> Result<(), ValueError> {
        let is_delete = event.change == Change::Delete;
        let mut members = Members::open(out);
        let before = event.before.filter(|_| self.has_old_row(event) && !omits_rows);
        if is_delete && before.is_none() {
            push_key(members.name("before"), event)?;
        } else {
            push_row_or_null(members.name("before"), event, before)?;
        }
        if omits_rows && !is_delete {
            push_key(members.name("after"), event)?;
        } else {
            let after = event.after.filter(|_| !is_delete);
            push_row_or_null(members.name("after"), event, after)?;
        }
        self.push_source(members.name("source"), event);
        members.string(
            "op",
            match event.change {
                Change::Insert => "c",
                Change::Update => "u",
                Change::Delete => "d",
                Change::Read => "r",
            },
        );
        push_number(members.name("ts_ms"), event.micros().div_euclid(1_000));
        if let Some(bounds) = event.range {
            push_range(members.name("range"), event, bounds)?;
        }
        push_expansion(&mut members, event);
        if omits_rows {
            members.string("omitted", "rows");
        }
        members.close();
        Ok(())
    }

    fn push_source(&self, out: &mut String, event: &Event) {
        let micros = event.micros();
        let mut source = Members::open(out);
        source.string("version", env!("CARGO_PKG_VERSION"));
        source.string("connector", "tethys");
        source.string("name", &self.feed);
        push_number(source.name("ts_ms"), micros.div_euclid(1_000));
        push_number(source.name("ts_us"), micros);
        let is_snapshot = event.change == Change::Read;
        source.string("snapshot", if is_snapshot { "true" } else { "false" });
        source.string("db", &event.shape.keyspace);
        source.string("sequence", &event.position.sequence.to_string());
        source.string("keyspace", &event.shape.keyspace);
        source.string("table", &event.shape.name);
        source.close();
    }
}
