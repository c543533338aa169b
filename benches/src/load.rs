//! Many connections on one thread, each with requests in flight.
//!
//! One turn: wait for sockets, read each once (up to 64 KiB), look at every response in it, send as
//! many new requests, all of them in one write. So a connection with sixteen requests in flight
//! costs two system calls per sixteen requests, if the server batches as well.
//!
//! Closed loop: a request goes out when another has been answered; its latency counts from there.
//! Open loop (a rate): a request is due at its time, goes out as soon as a stream is free, and its
//! latency counts from when it was due, so that a server that stalls is charged for all requests
//! it kept from being sent (no coordinated omission).
//!
//! A request belongs to the measurement when it was due in the measured time, even if its answer
//! comes later; throughput counts answers that came within it.

#![expect(clippy::disallowed_methods, reason = "a load generator reads the clock itself")]

use crate::check::{Operation, Outcomes};
use crate::client::{Client, ClientError};
use crate::owners::Owners;
use crate::process::{ProcessorTime, machine_busy_seconds, memory_bytes};
use crate::report::Report;
use crate::request::{Encoder, Source, Statements};
use cql::wire::{Consistency, FrameHeader, HEADER_BYTES};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Room for one read of a socket.
const READ_BYTES: usize = 64 << 10;
/// Latencies beyond this count as this, in nanoseconds: a minute.
const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
/// How long answers are waited for after the end.
const DRAIN: Duration = Duration::from_secs(10);
/// Most streams of a connection: the protocol's limit.
pub const IN_FLIGHT_MAX: usize = 32_768;
/// Readiness events taken at once.
const EVENTS_MAX: usize = 256;

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Writes of rows chosen evenly among the keys.
    Write,
    /// Reads of rows that were loaded.
    Read,
    /// Half writes, half reads.
    Mixed,
    /// Reads of keys that were never written.
    Absent,
    /// Writes every key once, in order, and ends with the last.
    Load,
    /// Writes of rows chosen evenly, on condition that they exist, which those that were loaded do.
    Conditional,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers, among which connections are divided evenly; at least one.
    pub addresses: Vec<SocketAddr>,
    /// A key goes to the server that its token belongs to, as drivers choose it; otherwise to any.
    pub is_routed: bool,
    /// The level of every request of the measurement.
    pub consistency: Consistency,
    /// Keyspace of the table.
    pub keyspace: String,
    /// The table, as [`dataset::create_table`] makes it.
    pub table: String,
    /// What is asked.
    pub workload: Workload,
    /// How many connections.
    pub connection_count: usize,
    /// Requests in flight on each, up to [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
    /// Requests a second over all connections; `None` is the closed loop.
    pub rate: Option<f64>,
    /// How long to run before the measurement.
    pub warmup: Duration,
    /// How long to measure; [`Workload::Load`] ends by itself.
    pub measured: Duration,
    /// How many keys there are.
    pub key_count: u64,
    /// Writes carry the client's time, as those of drivers do.
    pub with_timestamps: bool,
    /// The processes of the servers that run here.
    pub server_process_ids: Vec<u32>,
    /// Rows may have any values: the null server's.
    pub accepts_any_values: bool,
    /// Where the choice of keys begins.
    pub seed: u64,
}

/// Runs a plan and says what came out.
pub fn run(plan: &Plan) -> Result<Report, ClientError> {
    Load::open(plan)?.run()
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it was due, in nanoseconds since the start.
    due_nanos: u64,
    number: u64,
    operation: Operation,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    received_bytes: usize,
    sending: Vec<u8>,
    sent_bytes: usize,
    is_waiting_to_write: bool,
    /// Position of its server.
    server: usize,
    /// Streams that have no request in flight.
    free: Vec<u16>,
    sent: Vec<Option<Sent>>,
}

/// Readings at the ends of the measurement.
#[derive(Clone, Copy, Debug)]
struct Usage {
    nanos: u64,
    client: ProcessorTime,
    server: Option<ProcessorTime>,
    machine_seconds: f64,
}

struct Load<'p> {
    plan: &'p Plan,
    connections: Vec<Connection>,
    epoll: OwnedFd,
    source: Source,
    encoder: Encoder,
    started: Instant,
    measured_from_nanos: u64,
    measured_to_nanos: u64,
    latencies: Histogram<u64>,
    outcomes: Outcomes,
    answered_in_time: u64,
    requests_made: u64,
    unanswered: u64,
    next_connection: usize,
}

impl<'p> Load<'p> {
    fn open(plan: &'p Plan) -> Result<Load<'p>, ClientError> {
        let io = |error: rustix::io::Errno| ClientError(error.to_string());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io)?;
        let mut connections = Vec::with_capacity(plan.connection_count);
        let mut statements = Vec::with_capacity(plan.addresses.len());
        for index in 0..plan.connection_count {
            let server = index % plan.addresses.len().max(1);
            let address = plan.addresses.get(server);
            let address = address.ok_or_else(|| ClientError("a run takes a server".to_owned()))?;
            let mut client = Client::connect(*address)?;
            if statements.len() == server {
                statements.push(Statements::prepare(&mut client, plan)?);
            }
            let stream = client.into_stream();
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN).map_err(io)?;
            connections.push(Connection::new(stream, server, plan.in_flight));
        }
        let owners = if plan.is_routed { Owners::ask(&plan.addresses)? } else { Owners::any() };
        let latencies = Histogram::new_with_max(LATENCY_NANOS_MAX, 3)
            .map_err(|error| ClientError(error.to_string()))?;
        let is_load = plan.workload == Workload::Load;
        let warmup = if is_load { Duration::ZERO } else { plan.warmup };
        let measured_from_nanos = warmup.as_nanos() as u64;
        let measured_to_nanos =
            if is_load { u64::MAX } else { measured_from_nanos + plan.measured.as_nanos() as u64 };
        Ok(Load {
            plan,
            connections,
            epoll,
            source: Source::new(plan, owners),
            encoder: Encoder::new(statements, plan),
            started: Instant::now(),
            measured_from_nanos,
            measured_to_nanos,
            latencies,
            outcomes: Outcomes::new(plan.accepts_any_values),
            answered_in_time: 0,
            requests_made: 0,
            unanswered: 0,
            next_connection: 0,
        })
    }

    fn now_nanos(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn run(mut self) -> Result<Report, ClientError> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        self.started = Instant::now();
        let mut before = self.usage()?;
        let mut is_measuring = self.measured_from_nanos == 0;
        if self.plan.rate.is_none() {
            for index in 0..self.connections.len() {
                self.fill(index, 0)?;
            }
        }
        loop {
            let now = self.now_nanos();
            if !is_measuring && now >= self.measured_from_nanos {
                before = self.usage()?;
                is_measuring = true;
            }
            if let Some(rate) = self.plan.rate {
                self.send_due(rate, now.min(self.measured_to_nanos))?;
            }
            let is_exhausted = self.source.is_exhausted() && self.in_flight() == 0;
            if now >= self.measured_to_nanos || is_exhausted {
                break;
            }
            self.turn(&mut events, now)?;
        }
        let after = self.usage()?;
        self.measured_to_nanos = self.measured_to_nanos.min(after.nanos);
        self.drain(&mut events)?;
        self.report(before, after)
    }

    /// Waits for sockets and serves those that are ready.
    fn turn(&mut self, events: &mut Vec<epoll::Event>, now: u64) -> Result<(), ClientError> {
        events.clear();
        let wait = self.wait_nanos(now);
        let timeout = Timespec {
            tv_sec: (wait / 1_000_000_000) as i64,
            tv_nsec: (wait % 1_000_000_000) as i64,
        };
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ClientError(error.to_string())),
        }
        for event in events.iter() {
            let index = event.data.u64() as usize;
            self.serve(index)?;
        }
        Ok(())
    }

    /// How long to sleep at most: until a request is due, and never past the end.
    fn wait_nanos(&self, now: u64) -> u64 {
        const WAIT_NANOS_MAX: u64 = 50_000_000;
        let to_end = self.measured_to_nanos.saturating_sub(now);
        let to_due = match self.plan.rate {
            Some(rate) if now < self.measured_to_nanos => {
                let due = due_nanos(self.requests_made, rate);
                if due <= now && self.in_flight() == self.capacity() {
                    WAIT_NANOS_MAX // Nothing can be sent before something is answered.
                } else {
                    due.saturating_sub(now)
                }
            }
            _ => WAIT_NANOS_MAX,
        };
        if now < self.measured_to_nanos {
            to_due.min(to_end).min(WAIT_NANOS_MAX)
        } else {
            WAIT_NANOS_MAX
        }
    }

    fn serve(&mut self, index: usize) -> Result<(), ClientError> {
        self.connections[index].receive()?;
        let now = self.now_nanos();
        self.take_responses(index, now)?;
        if self.plan.rate.is_none() && now < self.measured_to_nanos {
            self.fill(index, now)?;
        } else {
            self.connections[index].flush(index, &self.epoll)?;
        }
        Ok(())
    }

    /// Looks at every complete response that was received.
    fn take_responses(&mut self, index: usize, now: u64) -> Result<(), ClientError> {
        let connection = &mut self.connections[index];
        let mut at = 0;
        while let Some((header, end)) =
            next_response(&connection.received[..connection.received_bytes], at)?
        {
            let body = &connection.received[at + HEADER_BYTES..end];
            at = end;
            let stream = header.stream as u16;
            let slot = connection.sent.get_mut(usize::from(stream));
            let sent = slot.and_then(Option::take).ok_or_else(|| {
                ClientError(format!("an answer on stream {}, which asked nothing", header.stream))
            })?;
            connection.free.push(stream);
            let right_before = self.outcomes.right;
            self.outcomes.note(header, body, sent.operation, sent.number, &self.encoder.values);
            let is_right = self.outcomes.right > right_before;
            let measured = self.measured_from_nanos..self.measured_to_nanos;
            if is_right && measured.contains(&now) {
                self.answered_in_time += 1;
            }
            if is_right && measured.contains(&sent.due_nanos) {
                let latency = now.saturating_sub(sent.due_nanos).max(1);
                self.latencies.saturating_record(latency);
            }
        }
        connection.received.copy_within(at..connection.received_bytes, 0);
        connection.received_bytes -= at;
        Ok(())
    }

    /// Closed loop: every free stream gets a request.
    fn fill(&mut self, index: usize, now: u64) -> Result<(), ClientError> {
        self.encoder.begin_batch();
        let connection = &mut self.connections[index];
        while !connection.free.is_empty() {
            let Some((operation, number)) = self.source.next(connection.server) else { break };
            connection.ask(&mut self.encoder, Sent { due_nanos: now, number, operation });
            self.requests_made += 1;
        }
        connection.flush(index, &self.epoll)
    }

    /// Open loop: everything that is due goes out, as far as streams are free, spread evenly.
    fn send_due(&mut self, rate: f64, now: u64) -> Result<(), ClientError> {
        self.encoder.begin_batch();
        let count = self.connections.len();
        let mut touched = Vec::new();
        let mut full = 0;
        while full < count {
            let due_nanos = due_nanos(self.requests_made, rate);
            if due_nanos > now {
                break;
            }
            let index = self.next_connection;
            self.next_connection = (index + 1) % count;
            let connection = &mut self.connections[index];
            if connection.free.is_empty() {
                full += 1;
                continue;
            }
            full = 0;
            let Some((operation, number)) = self.source.next(connection.server) else { break };
            if connection.sending.is_empty() {
                touched.push(index);
            }
            connection.ask(&mut self.encoder, Sent { due_nanos, number, operation });
            self.requests_made += 1;
        }
        for index in touched {
            self.connections[index].flush(index, &self.epoll)?;
        }
        Ok(())
    }

    fn drain(&mut self, events: &mut Vec<epoll::Event>) -> Result<(), ClientError> {
        let until = self.now_nanos() + DRAIN.as_nanos() as u64;
        while self.in_flight() > 0 && self.now_nanos() < until {
            let now = self.now_nanos();
            self.turn(events, now)?;
        }
        self.unanswered = self.in_flight() as u64;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.capacity() - self.connections.iter().map(|c| c.free.len()).sum::<usize>()
    }

    fn capacity(&self) -> usize {
        self.plan.in_flight * self.connections.len()
    }

    fn usage(&self) -> Result<Usage, ClientError> {
        let server = ProcessorTime::of_all(&self.plan.server_process_ids)?;
        Ok(Usage {
            nanos: self.now_nanos(),
            client: ProcessorTime::of_this_process()?,
            server,
            machine_seconds: machine_busy_seconds()?,
        })
    }

    fn report(self, before: Usage, after: Usage) -> Result<Report, ClientError> {
        let seconds = (after.nanos - before.nanos) as f64 / 1e9;
        let client = after.client.since(before.client);
        let server = after.server.zip(before.server).map(|(after, before)| after.since(before));
        let ours = client.seconds() + server.map_or(0.0, ProcessorTime::seconds);
        let others = after.machine_seconds - before.machine_seconds - ours;
        let unsent = match self.plan.rate {
            Some(rate) => {
                due_count(self.measured_to_nanos, rate).saturating_sub(self.requests_made)
            }
            None => 0,
        };
        let mut server_memory_bytes_max = None;
        for id in &self.plan.server_process_ids {
            server_memory_bytes_max =
                server_memory_bytes_max.max(Some(memory_bytes(*id, "VmHWM")?));
        }
        Ok(Report {
            workload: self.plan.workload,
            connection_count: self.plan.connection_count,
            in_flight: self.plan.in_flight,
            rate: self.plan.rate,
            seconds,
            answered: self.answered_in_time,
            unanswered: self.unanswered,
            unsent,
            latencies: self.latencies,
            outcomes: self.outcomes,
            client,
            server,
            others_seconds: server.map(|_| others.max(0.0)),
            server_memory_bytes_max,
        })
    }
}

/// When the request with this number is due.
fn due_nanos(number: u64, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

/// How many requests are due before a time.
fn due_count(nanos: u64, rate: f64) -> u64 {
    (nanos as f64 * rate / 1e9) as u64
}

/// The response that begins at `at`, and where it ends.
fn next_response(received: &[u8], at: usize) -> Result<Option<(FrameHeader, usize)>, ClientError> {
    let Some(header) = FrameHeader::decode(&received[at..])? else { return Ok(None) };
    let end = at + HEADER_BYTES + header.body_bytes as usize;
    Ok((received.len() >= end).then_some((header, end)))
}

impl Connection {
    fn new(stream: TcpStream, server: usize, in_flight: usize) -> Self {
        Connection {
            stream,
            server,
            received: vec![0; READ_BYTES],
            received_bytes: 0,
            sending: Vec::new(),
            sent_bytes: 0,
            is_waiting_to_write: false,
            free: (0..in_flight as u16).rev().collect(),
            sent: vec![None; in_flight],
        }
    }

    /// One read, if there is something.
    fn receive(&mut self) -> Result<(), ClientError> {
        if self.received_bytes == self.received.len() {
            self.received.resize(self.received.len() * 2, 0);
        }
        match self.stream.read(&mut self.received[self.received_bytes..]) {
            Ok(0) => Err(ClientError("the server closed a connection".to_owned())),
            Ok(count) => {
                self.received_bytes += count;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends a request to what is sent; a stream must be free.
    fn ask(&mut self, encoder: &mut Encoder, sent: Sent) {
        let stream = self.free.pop().expect("the caller saw a free stream");
        self.sent[usize::from(stream)] = Some(sent);
        encoder.encode(&mut self.sending, (stream, self.server), sent.operation, sent.number);
    }

    /// One write, as far as the socket takes it; what is left goes when it takes more.
    fn flush(&mut self, index: usize, epoll: &OwnedFd) -> Result<(), ClientError> {
        while self.sent_bytes < self.sending.len() {
            match self.stream.write(&self.sending[self.sent_bytes..]) {
                Ok(count) => self.sent_bytes += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let is_blocked = self.sent_bytes < self.sending.len();
        if !is_blocked {
            self.sending.clear();
            self.sent_bytes = 0;
        }
        if is_blocked != self.is_waiting_to_write {
            self.is_waiting_to_write = is_blocked;
            let writable =
                if is_blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(index as u64);
            epoll::modify(epoll, &self.stream, data, epoll::EventFlags::IN | writable)
                .map_err(|error| ClientError(error.to_string()))?;
        }
        Ok(())
    }
}
