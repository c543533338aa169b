//! Kafka's own console consumer as a process that goes on reading, at `read_committed`, and what it
//! has read so far with the moments at which it came.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Broker, Record};

/// Between the fields that the consumer prints.
const SEPARATOR: char = '\u{1}';

/// A message that came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every test program needs all of it")]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) record: Record,
}

/// A consumer of one topic. It ends when it is dropped.
#[allow(dead_code, reason = "not every test program needs all of it")]
pub(crate) struct Consumer {
    process: Child,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

/// Lets a command run the consumer, which prints what [`Record::printed`] reads.
pub(super) fn reads(command: &mut Command, broker: &str, topic: &str) {
    command.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command.args(["--bootstrap-server", broker, "--topic", topic]);
    command.args(["--isolation-level", "read_committed"]);
    let separator = format!("key.separator={SEPARATOR}");
    let fields = ["print.partition=true", "print.offset=true", "print.key=true"];
    for property in fields.into_iter().chain([separator.as_str()]) {
        command.args(["--property", property]);
    }
}

impl Record {
    /// A line of the consumer's; nothing if it is no message.
    pub(super) fn printed(line: &str) -> Option<Record> {
        let mut parts = line.splitn(4, SEPARATOR);
        let partition = parts.next()?.strip_prefix("Partition:")?.parse().ok()?;
        let offset = parts.next()?.strip_prefix("Offset:")?.parse().ok()?;
        let (key, value) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(Record { partition, offset, key, value })
    }
}

#[allow(dead_code, reason = "not every test program needs all of it")]
impl Broker {
    /// Reads a topic, from where its group has committed that it has come, or else from its beginning.
    pub(crate) fn follow(&self, topic: &str, group: &str) -> Consumer {
        let mut command = self.java("warn");
        reads(&mut command, &self.address(), topic);
        command.args(["--group", group, "--from-beginning"]);
        for property in [
            // A topic that is created later is found soon.
            "metadata.max.age.ms=500",
            "auto.commit.interval.ms=300",
            // One that was killed makes room for the next.
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=1000",
        ] {
            command.args(["--consumer-property", property]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("java runs");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let of_thread = Arc::clone(&arrivals);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Some(record) = Record::printed(&line) else { continue };
                let arrival = Arrival { at: Instant::now(), record };
                of_thread.lock().expect("nobody panics with it").push(arrival);
            }
        });
        Consumer { process, arrivals }
    }
}

#[allow(dead_code, reason = "not every test program needs all of it")]
impl Consumer {
    /// What has come so far, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("nobody panics with it").clone()
    }
}

impl Consumer {
    /// Ends it at once; what has come stays.
    pub(crate) fn kill(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.kill();
    }
}
