//! What clients asked to be traced: the newest sessions, for `system_traces`, without the secrets in
//! their texts.

use crate::shard::Shard;
use cql::syntax::without_secrets;
use cql::wire::Request;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Sessions kept; the oldest go first.
const TRACES_MAX: usize = 1_000;
/// Bytes of a statement's text that are kept.
const TEXT_BYTES_MAX: usize = 4_096;

/// A traced request that is not answered yet.
#[derive(Debug)]
pub(crate) struct TraceStart {
    id: [u8; 16],
    started_at_micros: i64,
    started_nanos: u64,
    client: SocketAddr,
    text: String,
    command: &'static str,
    events: Vec<TraceEvent>,
}

/// A step of a traced request.
#[derive(Clone, Debug)]
pub(crate) struct TraceEvent {
    pub id: [u8; 16],
    pub activity: String,
    pub elapsed_micros: i64,
    pub thread: String,
}

/// A traced request that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub id: [u8; 16],
    pub started_at_micros: i64,
    pub duration_micros: i64,
    pub client: SocketAddr,
    pub text: String,
    pub command: &'static str,
    pub events: Vec<TraceEvent>,
}

impl TraceStart {
    pub(crate) fn begin(shard: &Shard, client: SocketAddr, request: &Request) -> Self {
        let (command, text) = match request {
            Request::Query { text, .. } => ("QUERY", *text),
            Request::Prepare { text, .. } => ("PREPARE", *text),
            Request::Execute { .. } => ("EXECUTE", ""),
            Request::Batch { .. } => ("BATCH", ""),
            _ => ("OTHER", ""),
        };
        let text = without_secrets(text);
        let end = text.floor_char_boundary(TEXT_BYTES_MAX.min(text.len()));
        let clock = &shard.shared.env.clock;
        let started_at_micros = clock.now_micros();
        TraceStart {
            id: shard.fresh_timeuuid(started_at_micros),
            started_at_micros,
            started_nanos: clock.monotonic_nanos(),
            client,
            text: text[..end].to_owned(),
            command,
            events: Vec::new(),
        }
    }

    /// Adds a step.
    pub(crate) fn note(&mut self, shard: &Shard, activity: &str) {
        self.events.push(TraceEvent {
            id: shard.fresh_timeuuid(shard.shared.env.clock.now_micros()),
            activity: activity.to_owned(),
            elapsed_micros: self.elapsed_micros(shard),
            thread: format!("shard-{}", shard.index),
        });
    }

    /// Keeps the session as answered, and returns its id.
    pub(crate) fn finish(&self, shard: &Shard) -> [u8; 16] {
        shard.shared.traces.put(Trace {
            id: self.id,
            started_at_micros: self.started_at_micros,
            duration_micros: self.elapsed_micros(shard),
            client: self.client,
            text: self.text.clone(),
            command: self.command,
            events: self.events.clone(),
        });
        self.id
    }

    fn elapsed_micros(&self, shard: &Shard) -> i64 {
        let nanos = shard.shared.env.clock.monotonic_nanos().saturating_sub(self.started_nanos);
        (nanos / 1_000) as i64
    }
}

/// The newest traces of the node.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    newest: Mutex<VecDeque<Trace>>,
}

impl Traces {
    fn put(&self, trace: Trace) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() == TRACES_MAX {
            newest.pop_front();
        }
        newest.push_back(trace);
    }

    /// All that are kept, oldest first.
    pub(crate) fn all(&self) -> Vec<Trace> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
