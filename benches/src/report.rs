//! What a run came to, as text for people and as one line of JSON for scripts.

use crate::check::Outcomes;
use crate::load::Workload;
use crate::process::ProcessorTime;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt;

/// Client core use, in percent, beyond which a figure is the client's and not the server's.
const CLIENT_BUSY_PERCENT_MAX: f64 = 90.0;
/// Use of the machine by others, in percent of one core, beyond which a run should be repeated.
const OTHERS_BUSY_PERCENT_MAX: f64 = 5.0;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    /// What was asked.
    pub workload: Workload,
    /// On so many connections.
    pub connection_count: usize,
    /// With so many requests in flight on each.
    pub in_flight: usize,
    /// Requests a second that were due; `None` for the closed loop.
    pub rate: Option<f64>,
    /// How long was measured.
    pub seconds: f64,
    /// Right answers within that time.
    pub answered: u64,
    /// Requests that were never answered.
    pub unanswered: u64,
    /// Requests that were due and never sent, because all streams were taken.
    pub unsent: u64,
    /// Latencies in nanoseconds of right answers.
    pub latencies: Histogram<u64>,
    /// All answers, those before the measurement included.
    pub outcomes: Outcomes,
    /// Processor time of this process.
    pub client: ProcessorTime,
    /// Processor time of the server, if its process was named.
    pub server: Option<ProcessorTime>,
    /// Processor time of everything else on the machine, if the server's is known.
    pub others_seconds: Option<f64>,
    /// The server's largest resident memory.
    pub server_memory_bytes_max: Option<u64>,
}

impl Report {
    /// Right answers a second.
    pub fn ops_per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Whether every answer that came was the right one, and every request was answered.
    pub fn is_clean(&self) -> bool {
        self.outcomes.wrong == 0 && self.outcomes.error_count() == 0 && self.unanswered == 0
    }

    /// Processor time an answer took, in microseconds.
    fn micros_per_op(&self, time: ProcessorTime) -> f64 {
        time.seconds() * 1e6 / (self.answered.max(1) as f64)
    }

    fn percent(&self, seconds: f64) -> f64 {
        seconds * 100.0 / self.seconds
    }

    fn latency_micros(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }

    /// One flat object.
    pub fn to_json(&self) -> Value {
        let errors = self.outcomes.errors.iter();
        let errors: serde_json::Map<String, Value> =
            errors.map(|(code, (count, _))| (format!("0x{code:04x}"), json!(count))).collect();
        json!({
            "workload": format!("{:?}", self.workload).to_lowercase(),
            "connections": self.connection_count,
            "in_flight": self.in_flight,
            "rate": self.rate,
            "seconds": self.seconds,
            "ops_per_second": self.ops_per_second(),
            "p50_us": self.latency_micros(0.5),
            "p99_us": self.latency_micros(0.99),
            "p999_us": self.latency_micros(0.999),
            "max_us": self.latencies.max() as f64 / 1e3,
            "right": self.outcomes.right,
            "sampled": self.outcomes.sampled,
            "wrong": self.outcomes.wrong,
            "errors": errors,
            "unanswered": self.unanswered,
            "unsent": self.unsent,
            "client_cpu_us_per_op": self.micros_per_op(self.client),
            "client_busy_percent": self.percent(self.client.seconds()),
            "server_cpu_us_per_op": self.server.map(|time| self.micros_per_op(time)),
            "server_busy_percent": self.server.map(|time| self.percent(time.seconds())),
            "server_system_percent": self.server.map(|time| self.percent(time.system_seconds)),
            "others_busy_percent": self.others_seconds.map(|seconds| self.percent(seconds)),
            "server_memory_bytes_max": self.server_memory_bytes_max,
        })
    }

    fn write_warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (code, (count, message)) in &self.outcomes.errors {
            writeln!(f, "errors        0x{code:04x} {count} times: {message}")?;
        }
        if let Some(reason) = &self.outcomes.first_wrong {
            writeln!(f, "WRONG         {} answers; the first: {reason}", self.outcomes.wrong)?;
        }
        if self.unanswered > 0 {
            writeln!(f, "UNANSWERED    {} requests", self.unanswered)?;
        }
        if self.unsent > 0 {
            writeln!(f, "warning       {} requests were due and could not be sent", self.unsent)?;
        }
        if self.percent(self.client.seconds()) > CLIENT_BUSY_PERCENT_MAX {
            writeln!(f, "warning       the client's core is full: the figure is the client's")?;
        }
        let others = self.others_seconds.map_or(0.0, |seconds| self.percent(seconds));
        if others > OTHERS_BUSY_PERCENT_MAX {
            writeln!(
                f,
                "warning       something else used {others:.0} % of a core: repeat the run"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop at {rate}/s"),
            None => "closed loop".to_owned(),
        };
        writeln!(
            f,
            "{:?}, {} connections x {} in flight, {loop_kind}, {:.1} s",
            self.workload, self.connection_count, self.in_flight, self.seconds
        )?;
        writeln!(f, "throughput    {:.0} ops/s", self.ops_per_second())?;
        writeln!(
            f,
            "latency       p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us",
            self.latency_micros(0.5),
            self.latency_micros(0.99),
            self.latency_micros(0.999),
            self.latencies.max() as f64 / 1e3
        )?;
        writeln!(
            f,
            "client        {:.2} us/op, {:.0} % of a core; {} answers read in full",
            self.micros_per_op(self.client),
            self.percent(self.client.seconds()),
            self.outcomes.sampled
        )?;
        if let Some(server) = self.server {
            writeln!(
                f,
                "server        {:.2} us/op, {:.0} % of a core ({:.0} % in the kernel)",
                self.micros_per_op(server),
                self.percent(server.seconds()),
                self.percent(server.system_seconds)
            )?;
        }
        if let Some(bytes) = self.server_memory_bytes_max {
            writeln!(f, "server memory {:.1} MiB at most", bytes as f64 / f64::from(1 << 20))?;
        }
        self.write_warnings(f)
    }
}
