//! A node: the built program as a process, with its own ports and its own folder of data.
//!
//! It ends with its test, whatever the test does. Of a failed test the end of its log is shown.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a node may take to say that it is ready, or to end when it is told to.
const START_TIME_MAX: Duration = Duration::from_mins(1);
/// How often a node is started anew because somebody else took one of its ports meanwhile.
const PORT_ATTEMPTS_MAX: usize = 5;
/// Ports are taken from below those that the system gives to outgoing connections, or a restarted
/// node could find its port used by a client.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// The pause between two attempts to take the place of a node.
const LET_IN_PAUSE: Duration = Duration::from_millis(100);
/// What a node prints when it answers clients.
const READY: &str = " is ready: CQL on ";
/// The file that tells a node of faults.
const FAULTS: &str = "faults";
/// How much of a failed test's log is shown.
const SHOWN_LINES_MAX: usize = 60;

/// A node that answers clients, until it is killed or stopped.
pub(crate) struct Node {
    data: TempDir,
    address: Ipv4Addr,
    ports: Ports,
    /// What it is told beside where to be, at every start.
    arguments: Vec<String>,
    process: Option<Child>,
    output: Arc<Output>,
}

/// What tests run with unless they ask for something else.
const ARGUMENTS: &[&str] = &["--memory", "256M"];

#[derive(Clone, Copy, Debug)]
struct Ports {
    cql: u16,
    shard_aware: u16,
    http: u16,
    storage: u16,
}

/// All lines of all lives of the node.
#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// A fresh node with two shards.
    pub(crate) fn start() -> Node {
        Node::start_with(ARGUMENTS)
    }

    /// A fresh node with two shards and these arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Node {
        let mut node = Node::unstarted(arguments);
        for _ in 1..PORT_ATTEMPTS_MAX {
            if node.spawn() {
                return node;
            }
            node.ports = Ports::free();
        }
        assert!(node.spawn(), "the node does not start:\n{}", node.log());
        node
    }

    /// Starts it again on the same ports and the same data.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "end it first");
        assert!(self.spawn(), "the node does not start again:\n{}", self.log());
    }

    /// Starts it again with further arguments, which win over earlier ones.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.arguments.extend(owned(arguments));
        self.restart();
    }

    /// Starts nodes again at the same moment: one that is alone waits for a majority first.
    pub(crate) fn restart_together(nodes: &mut [Node]) {
        thread::scope(|scope| {
            for node in nodes {
                scope.spawn(|| node.restart());
            }
        });
    }

    /// Fresh nodes like [`Node::start_together`]'s, of which none runs yet.
    pub(crate) fn unstarted_together<const N: usize>(arguments: &[&str]) -> [Node; N] {
        let ports = Ports::free();
        let addresses = own_addresses::<N>();
        let seeds = addresses.map(|address| address.to_string()).join(",");
        addresses.map(|address| {
            let mut arguments = owned(arguments);
            arguments.extend(["--seeds".to_owned(), seeds.clone()]);
            arguments.extend(["--address".to_owned(), address.to_string()]);
            Node::unstarted_at(address, ports, arguments)
        })
    }

    /// Starts it again, and does not wait until it is ready.
    pub(crate) fn launch_again(&mut self) {
        assert!(self.process.is_none(), "end it first");
        self.process = Some(self.launch());
    }

    /// Starts it for so long, and ends it as a power cut would, wherever it is by then.
    pub(crate) fn run_for(&mut self, time: Duration) {
        assert!(self.process.is_none(), "end it first");
        self.process = Some(self.launch());
        thread::sleep(time);
        self.kill();
    }

    /// Ends it as a power cut would: SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("our own child");
        process.wait().expect("our own child");
    }

    /// Stops it without its noticing, until [`Node::thaw`]. None of its threads runs on when this
    /// returns: that takes as long as the machine is busy.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(self.process.as_ref().expect("it runs"));
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), options).expect("our own child");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Has it be wrong as `env` says how, from when this returns until the next call; an empty text
    /// is no fault.
    pub(crate) fn inject(&self, faults: &str) {
        let (path, text) = (self.data.path().join(FAULTS), format!("{faults}\n"));
        fs::write(&path, &text).expect("a file of our own");
        let deadline = Instant::now() + START_TIME_MAX;
        while fs::read_to_string(path.with_extension("seen")).ok().as_ref() != Some(&text) {
            assert!(Instant::now() < deadline, "the node does not look for faults");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("our own child");
    }

    /// Starts a fresh node that is to refuse; returns what it printed.
    pub(crate) fn refused(arguments: &[&str]) -> String {
        let mut node = Node::unstarted(arguments);
        assert!(!node.spawn(), "it starts:\n{}", node.log());
        node.log()
    }

    /// Starts it again with other arguments, which it is to refuse; returns what it printed.
    pub(crate) fn refuses_to_restart(&mut self, arguments: &[&str]) -> String {
        assert!(self.process.is_none(), "end it first");
        let before = std::mem::replace(&mut self.arguments, owned(arguments));
        assert!(!self.spawn(), "it starts:\n{}", self.log());
        self.arguments = before;
        self.log()
    }

    /// Starts it with further arguments for this once, which it is to refuse; returns what it printed.
    pub(crate) fn refused_with(&mut self, arguments: &[&str]) -> String {
        let all: Vec<String> = self.arguments.iter().cloned().chain(owned(arguments)).collect();
        self.refuses_to_restart(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts it with further arguments, again and again until it does not refuse any more.
    pub(crate) fn restart_until_let_in(&mut self, arguments: &[&str]) {
        self.arguments.extend(owned(arguments));
        let refused_max = 50;
        // The node whose place it takes may be taken for alive for a second or two.
        let is_let_in = (0..refused_max).any(|_| {
            let is_let_in = self.spawn();
            if !is_let_in {
                thread::sleep(LET_IN_PAUSE);
            }
            is_let_in
        });
        assert!(is_let_in, "the node is not let in:\n{}", self.log());
    }

    /// Starts it again as it is, which it is to refuse; returns what it printed.
    pub(crate) fn refuses_to_restart_as_it_is(&mut self) -> String {
        let arguments = self.arguments.clone();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.refuses_to_restart(&arguments)
    }

    /// Starts a fresh node that does not get ready, but prints `text`.
    pub(crate) fn start_until(arguments: &[&str], text: &str) -> Node {
        let mut node = Node::unstarted(arguments);
        assert!(node.spawn_until(text), "it ends:\n{}", node.log());
        node
    }

    fn unstarted(arguments: &[&str]) -> Node {
        Node::unstarted_at(Ipv4Addr::LOCALHOST, Ports::free(), owned(arguments))
    }

    fn unstarted_at(address: Ipv4Addr, ports: Ports, arguments: Vec<String>) -> Node {
        let data = TempDir::with_prefix("tethys-").expect("a temporary folder");
        Node { data, address, ports, arguments, process: None, output: Arc::default() }
    }

    /// Fresh nodes with two shards each, at addresses of their own with the same ports, that are
    /// given the same seeds and started at the same moment. Returns when all of them are ready.
    pub(crate) fn start_together<const N: usize>(arguments: &[&str]) -> [Node; N] {
        let mut nodes = Node::unstarted_together(arguments);
        thread::scope(|scope| {
            for node in &mut nodes {
                scope.spawn(|| assert!(node.spawn(), "it does not start:\n{}", node.log()));
            }
        });
        nodes
    }

    /// Asks it to end (SIGTERM), and returns how it did.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        kill_process(Pid::from_child(&process), Signal::TERM).expect("our own child");
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if let Some(status) = process.try_wait().expect("our own child") {
                return status;
            }
            if Instant::now() > deadline {
                process.kill().expect("our own child");
                process.wait().expect("our own child");
                panic!("the node did not end within {START_TIME_MAX:?}:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the process is still there.
    pub(crate) fn runs(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.try_wait().expect("our own child").is_none())
    }

    /// Where it is, for clients, operators and other nodes.
    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.address
    }

    pub(crate) fn cql_port(&self) -> u16 {
        self.ports.cql
    }

    pub(crate) fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// Where other nodes connect.
    pub(crate) fn storage_port(&self) -> u16 {
        self.ports.storage
    }

    /// Where CQL clients connect.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.address, self.ports.cql)
    }

    /// A folder for the test's own files, gone when the test ends.
    pub(crate) fn scratch(&self) -> &std::path::Path {
        self.data.path()
    }

    /// How much memory the process holds, as the system counts it.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let id = self.process.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1024
    }

    /// Everything it has printed.
    pub(crate) fn log(&self) -> String {
        self.output.lines.lock().expect("no reader panics").join("\n")
    }

    /// Starts the process and waits until it is ready. False if it ended instead.
    fn spawn(&mut self) -> bool {
        self.spawn_until(READY)
    }

    /// Starts the process and waits until it prints `text`. False if it ended instead.
    fn spawn_until(&mut self, text: &str) -> bool {
        let begin = self.output.lines.lock().expect("no reader panics").len();
        let mut process = self.launch();
        let ready = self.output.wait_for(text, begin, &mut process);
        if ready {
            self.process = Some(process);
        } else {
            drop(process.kill());
            process.wait().expect("our own child");
            self.output.read_to_end();
        }
        ready
    }
}

impl Node {
    /// Starts the process, whose output is followed.
    fn launch(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tethys"));
        command
            .arg("--data-dir")
            .arg(self.data.path().join("data"))
            .args(["--port", &self.ports.cql.to_string()])
            .args(["--shard-aware-port", &self.ports.shard_aware.to_string()])
            .args(["--http-port", &self.ports.http.to_string()])
            .args(["--storage-port", &self.ports.storage.to_string()])
            .args(["--shards", "2"])
            .args(&self.arguments)
            .env(env::FAULTS_VARIABLE, self.data.path().join(FAULTS))
            .current_dir(self.data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("the built program starts");
        self.output.follow(process.stdout.take().expect("piped"));
        self.output.follow(process.stderr.take().expect("piped"));
        process
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(SHOWN_LINES_MAX);
            eprintln!("the node's log ends so:\n{}", lines[first..].join("\n"));
        }
    }
}

impl Output {
    fn follow(self: &Arc<Self>, source: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        let reader = thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                output.lines.lock().expect("no reader panics").push(line);
                output.grown.notify_all();
            }
        });
        self.readers.lock().expect("nobody panics with it").push(reader);
    }

    /// Waits until all that a process has printed is here, which has ended.
    fn read_to_end(&self) {
        for reader in self.readers.lock().expect("nobody panics with it").drain(..) {
            reader.join().expect("no reader panics");
        }
    }

    /// Waits for a line with that text, from line `begin` on.
    fn wait_for(&self, text: &str, begin: usize, process: &mut Child) -> bool {
        let deadline = Instant::now() + START_TIME_MAX;
        let mut lines = self.lines.lock().expect("no reader panics");
        while Instant::now() < deadline {
            if lines[begin..].iter().any(|line| line.contains(text)) {
                return true;
            }
            if process.try_wait().expect("our own child").is_some() {
                return false;
            }
            let step = Duration::from_millis(20);
            lines = self.grown.wait_timeout(lines, step).expect("no reader panics").0;
        }
        false
    }
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

/// Addresses of this machine that no other test of this program uses.
fn own_addresses<const N: usize>() -> [Ipv4Addr; N] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let cluster = NEXT.fetch_add(1, Ordering::Relaxed);
    let program = std::process::id().to_le_bytes()[0].max(1);
    let mut host = 0;
    [(); N].map(|()| {
        host += 1;
        Ipv4Addr::new(127, program, cluster, host)
    })
}

impl Ports {
    fn free() -> Ports {
        Ports {
            cql: free_port(),
            shard_aware: free_port(),
            http: free_port(),
            storage: free_port(),
        }
    }
}

/// A port that nobody listens on, and that no other node of this program was given.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() * 61 % u32::from(PORTS.end - PORTS.start);
    for _ in PORTS {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (first + step) % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(offset).expect("within the range");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
