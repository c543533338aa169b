//! A real Apache Kafka broker for tests: one process on loopback, without root and without Docker.
//!
//! Its artifacts come from Maven Central by Maven, once, into `target/peers/kafka`. Where Java or
//! Maven is missing the test says `skipped: …` and passes, unless `TETHYS_REQUIRE_PEERS=1` makes
//! that a failure. Topics are created when they are first asked for, with three partitions.
//!
//! Shared by path with the tests of other crates: it knows nothing of this one.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod consumer;

#[allow(unused_imports, reason = "not every test program needs all of it")]
pub(crate) use consumer::{Arrival, Consumer};

/// The release that is fetched.
const VERSION: &str = "4.1.1";
/// If set to 1, a broker that cannot be had is a failure.
const REQUIRE_PEERS: &str = "TETHYS_REQUIRE_PEERS";
/// Beyond any start on a busy machine.
const START_TIME_MAX: Duration = Duration::from_mins(3);
/// Where ports are looked for: below those that the system gives away, since a broker that is restarted
/// wants its own again, and apart from those of the nodes of tests.
const PORTS: Range<u16> = 5_000..10_000;
/// A consumer that has heard nothing for so long ends.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What Maven copies into the folder.
const POM: &str = r"<project><modelVersion>4.0.0</modelVersion>
<groupId>tethys</groupId><artifactId>peers</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>VERSION</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>VERSION</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
";

/// A broker that is its own controller.
pub(crate) struct Broker {
    jars: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

/// A message as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where it lies.
    pub(crate) partition: usize,
    /// Its number there.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) offset: u64,
    /// `null` if there is none.
    pub(crate) key: String,
    /// `null` for a tombstone.
    pub(crate) value: String,
}

impl Broker {
    /// Starts one, with an empty folder in `scratch`, which lies in cargo's target folder; `None`
    /// after a visible `skipped: …`.
    pub(crate) fn start(scratch: &Path) -> Option<Broker> {
        let jars = match jars(&scratch.with_file_name("peers")) {
            Ok(jars) => jars,
            Err(reason) => {
                skip(reason.trim());
                return None;
            }
        };
        let folder = tempfile::tempdir_in(scratch).expect("a folder");
        let mut broker = Broker { jars, folder, port: 0, process: None };
        // Somebody else may take a port between our looking and the broker's listening.
        for _ in 0..3 {
            broker.port = broker.prepare();
            if broker.launch() {
                return Some(broker);
            }
        }
        panic!("the broker does not start: {}", broker.output());
    }

    /// For clients: `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Adds a line to the broker's configuration, for its next start.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn configure(&self, line: &str) {
        let mut file = File::options().append(true).open(self.properties()).expect("a file");
        writeln!(file, "{line}").expect("a file that can be written");
    }

    /// Starts it again with a second listener, where clients tell a name and a password by SASL PLAIN.
    /// Returns where that is.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn ask_for_password(&mut self, user: &str, password: &str) -> String {
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let lines = [
            "sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!(
                "listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required \
                 user_{user}=\"{password}\";"
            ),
        ];
        self.listen_also(["SASL_PLAINTEXT"], &lines).concat()
    }

    /// Starts it again with a listener more for each of these protocols, and these lines in its
    /// configuration. Returns where they are.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn listen_also<const N: usize>(
        &mut self,
        protocols: [&str; N],
        lines: &[String],
    ) -> [String; N] {
        self.stop();
        let addresses = protocols.map(|_| format!("127.0.0.1:{}", free_port()));
        let places = protocols.iter().zip(&addresses);
        let listeners: String =
            places.flat_map(|(protocol, address)| [",", protocol, "://", address]).collect();
        let protocol_map: String =
            protocols.iter().flat_map(|protocol| [",", protocol, ":", protocol]).collect();
        let before = fs::read_to_string(self.properties()).expect("our own file");
        let properties: String = before
            .lines()
            .map(|line| match line.split('=').next() {
                Some("listeners" | "advertised.listeners") => format!("{line}{listeners}\n"),
                Some("listener.security.protocol.map") => format!("{line}{protocol_map}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        fs::write(self.properties(), properties).expect("a file that can be written");
        for line in lines {
            self.configure(line);
        }
        self.start_again();
        addresses
    }

    /// Lets it know a user who tells a password by SCRAM-SHA-512.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn add_scram_user(&self, user: &str, password: &str) {
        let mut command = self.java("warn");
        command.args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.address()]);
        command.args(["--alter", "--entity-type", "users", "--entity-name", user]);
        command.args(["--add-config", &format!("SCRAM-SHA-512=[password={password}]")]);
        done(&mut command).expect("a user who can be added");
    }

    /// Creates a topic with three partitions, of a broker that does not do so by itself.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn create(&self, topic: &str) {
        let mut command = self.java("warn");
        command.args(["org.apache.kafka.tools.TopicCommand", "--create", "--topic", topic]);
        command.args(["--bootstrap-server", &self.address(), "--partitions", "3"]);
        done(&mut command).expect("a topic that can be created");
    }

    /// Starts it again where it was.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none(), "it was ended");
        assert!(self.launch(), "the broker does not start: {}", self.output());
    }

    /// Ends it in good order.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        let ended = Command::new("kill").arg(process.id().to_string()).status().expect("kill runs");
        assert!(ended.success());
        process.wait().expect("our own child");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// What a consumer of Kafka's own reads from a topic's beginning, at `read_committed`, until
    /// each partition has given a message `last`; these are left out.
    #[allow(dead_code, reason = "not every test program needs all of it")]
    pub(crate) fn read(&self, topic: &str, last: &str) -> Vec<Record> {
        let began = Instant::now();
        loop {
            let mut records = self.read_once(topic);
            let ends = records.iter().filter(|record| record.value == last).count();
            if ends >= 3 {
                records.retain(|record| record.value != last);
                return records;
            }
            assert!(began.elapsed() < START_TIME_MAX, "{ends} of 3 partitions have ended");
        }
    }

    fn read_once(&self, topic: &str) -> Vec<Record> {
        let mut command = self.java("warn");
        consumer::reads(&mut command, &self.address(), topic);
        command.arg("--from-beginning");
        command.args(["--timeout-ms", &SILENCE_MAX.as_millis().to_string()]);
        // It ends with an error, since nothing more comes.
        let output = command.output().expect("java runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().filter_map(Record::printed).collect()
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn output(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// Writes the configuration and formats the storage anew. Returns the port for clients.
    fn prepare(&self) -> u16 {
        let [port, controller] = [(); 2].map(|()| free_port());
        let data = self.folder.path().join("data");
        fs::remove_dir_all(&data).ok();
        // The session of a broker that was killed keeps its next life out until it ends.
        let properties = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
num.partitions=3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
",
            data.display()
        );
        fs::write(self.properties(), properties).expect("a file that can be written");
        let mut format = self.java("warn");
        format.args(["kafka.tools.StorageTool", "format", "--standalone"]);
        format.args(["--cluster-id", "dGV0aHlzLXRlc3QtMDAwMQ", "--config"]).arg(self.properties());
        done(&mut format).expect("storage that can be formatted");
        port
    }

    /// Starts the process and waits until it listens. False if it has ended instead.
    fn launch(&mut self) -> bool {
        let output = File::create(self.folder.path().join("output")).expect("a file");
        let mut command = self.java("info");
        command.arg("kafka.Kafka").arg(self.properties());
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        let mut process = command.spawn().expect("java runs");
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if process.try_wait().expect("our own child").is_some() {
                return false;
            }
            assert!(began.elapsed() < START_TIME_MAX, "{}", self.output());
            std::thread::sleep(Duration::from_millis(100));
        }
        self.process = Some(process);
        true
    }

    fn java(&self, log_level: &str) -> Command {
        let mut command = Command::new("java");
        // Small, and soon there: nothing here runs for long.
        command.args(["-Xmx256M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(self.jars.join("*"));
        command.arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}"));
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A port that nobody listens on, and that nobody else in this program was given.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in PORTS {
        // Programs whose ids lie side by side begin far apart.
        let step = std::process::id() * 61 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + u16::try_from(step % count).expect("within the range");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn skip(reason: &str) {
    let what = "Apache Kafka cannot be had";
    assert!(std::env::var(REQUIRE_PEERS).as_deref() != Ok("1"), "{what}: {reason}");
    // Written past the test runner, which keeps what passing tests print to itself.
    let line = format!("skipped: {what}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// The folder with the artifacts, fetched if they are not there. Test programs may run at the same
/// time, so a lock file guards it.
fn jars(peers: &Path) -> Result<PathBuf, String> {
    done(Command::new("java").arg("-version"))?;
    fs::create_dir_all(peers).expect("the target folder can be written");
    let lock = File::create(peers.join("kafka.lock")).expect("a lock file");
    lock.lock().expect("a lock on it");
    let folder = peers.join("kafka");
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|version| version == VERSION) {
        return Ok(folder);
    }
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("the target folder can be written");
    fs::write(folder.join("pom.xml"), POM.replace("VERSION", VERSION)).expect("a file");
    let mut copy = Command::new("mvn");
    copy.args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=."]);
    done(copy.current_dir(&folder))?;
    fs::write(&complete, VERSION).expect("the target folder can be written");
    Ok(folder)
}

/// Runs a command that must succeed.
fn done(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{name} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{name}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
}
