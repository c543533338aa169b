//! Which request comes next, and its bytes.

#![expect(
    clippy::disallowed_methods,
    reason = "timestamps are the real clock's, as drivers give them"
)]

use crate::check::Operation;
use crate::client::{Client, ClientError, VERSION};
use crate::dataset::{self, ABSENT_FROM, COLUMN_COUNT, Random, Values};
use crate::load::{Plan, Workload};
use crate::owners::Owners;
use cql::wire::client::RequestWriter;
use cql::wire::{QueryParameters, Value};
use std::time::SystemTime;

/// Which request comes next.
#[derive(Debug)]
pub(crate) struct Source {
    workload: Workload,
    key_count: u64,
    owners: Owners,
    random: Random,
    /// [`Workload::Load`]: the next key.
    next_number: u64,
}

impl Source {
    pub(crate) fn new(plan: &Plan, owners: Owners) -> Self {
        Source {
            workload: plan.workload,
            key_count: plan.key_count.max(1),
            owners,
            random: Random::new(plan.seed),
            next_number: 0,
        }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.workload == Workload::Load && self.next_number >= self.key_count
    }

    /// For a connection with the server at that position, which is sent only keys of its own if
    /// requests are routed; a load goes anywhere.
    pub(crate) fn next(&mut self, server: usize) -> Option<(Operation, u64)> {
        if self.workload == Workload::Load {
            let number = self.next_number;
            self.next_number += 1;
            return (number < self.key_count).then_some((Operation::Write, number));
        }
        let is_mixed_write = self.workload == Workload::Mixed && self.random.below(2) == 0;
        let (operation, first) = match self.workload {
            Workload::Write | Workload::Load => (Operation::Write, 0),
            Workload::Mixed if is_mixed_write => (Operation::Write, 0),
            Workload::Read | Workload::Mixed => (Operation::Read, 0),
            Workload::Absent => (Operation::ReadAbsent, ABSENT_FROM),
            Workload::Conditional => (Operation::Conditional, 0),
        };
        loop {
            let number = first + self.random.below(self.key_count);
            if self.owners.may_serve(server, &dataset::key(number)) {
                return Some((operation, number));
            }
        }
    }
}

/// The ids of the statements on one server.
#[derive(Debug)]
pub(crate) struct Statements {
    insert: Vec<u8>,
    select: Vec<u8>,
    update_if_exists: Option<Vec<u8>>,
}

impl Statements {
    /// Prepares what the plan asks for.
    pub(crate) fn prepare(client: &mut Client, plan: &Plan) -> Result<Self, ClientError> {
        let (keyspace, table) = (&plan.keyspace, &plan.table);
        let is_conditional = plan.workload == Workload::Conditional;
        let update = is_conditional.then(|| dataset::update_if_exists(keyspace, table));
        Ok(Statements {
            insert: client.prepare(&dataset::insert(keyspace, table))?,
            select: client.prepare(&dataset::select(keyspace, table))?,
            update_if_exists: update.map(|text| client.prepare(&text)).transpose()?,
        })
    }
}

/// Requests to bytes.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Of each server.
    statements: Vec<Statements>,
    pub(crate) values: Values,
    writing: QueryParameters,
    reading: QueryParameters,
    with_timestamps: bool,
    last_micros: i64,
}

impl Encoder {
    pub(crate) fn new(statements: Vec<Statements>, plan: &Plan) -> Self {
        let writing = QueryParameters::with_consistency(plan.consistency);
        let reading = QueryParameters { skip_metadata: true, ..writing.clone() };
        Encoder {
            statements,
            values: Values::new(),
            writing,
            reading,
            with_timestamps: plan.with_timestamps,
            last_micros: 0,
        }
    }

    /// Reads the clock, once for all requests that go out together.
    pub(crate) fn begin_batch(&mut self) {
        if self.with_timestamps {
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let micros = since_epoch.map_or(0, |time| time.as_micros() as i64);
            self.last_micros = self.last_micros.max(micros);
        }
    }

    /// Appends the request about the row of that number to what goes to a server.
    pub(crate) fn encode(
        &mut self,
        out: &mut Vec<u8>,
        (stream, server): (u16, usize),
        operation: Operation,
        number: u64,
    ) {
        let key = dataset::key(number);
        let writer = RequestWriter { out, version: VERSION, stream: stream.cast_signed() };
        let ids = &self.statements[server];
        let mut values = [Value::Set(&key); 1 + COLUMN_COUNT];
        match operation {
            Operation::Read | Operation::ReadAbsent => {
                writer.execute(&ids.select, None, &self.reading, &values[..1]);
            }
            Operation::Write => {
                if self.with_timestamps {
                    self.last_micros += 1;
                    self.writing.default_timestamp = Some(self.last_micros);
                }
                for (column, value) in values[1..].iter_mut().enumerate() {
                    *value = Value::Set(self.values.value(number, column));
                }
                writer.execute(&ids.insert, None, &self.writing, &values);
            }
            Operation::Conditional => {
                // The columns come first, and no timestamp: the server's is the only right one.
                for (column, value) in values[..COLUMN_COUNT].iter_mut().enumerate() {
                    *value = Value::Set(self.values.value(number, column));
                }
                let id = ids.update_if_exists.as_deref().unwrap_or_default();
                writer.execute(id, None, &self.writing, &values);
            }
        }
    }
}
