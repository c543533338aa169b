//! The nodes of a test: processes of the built program, each with an address of its own on the
//! loopback network, the same ports, and its own folder of data. They end with the cluster.
//!
//! They are given the same seeds and started at once. What they say to each other goes through a
//! [`Network`] that can be cut; clients reach every node at all times. Further nodes, the spares, may
//! join them later, leave and be removed; each place is taken again by a new node on empty data.

use crate::client::Client;
use crate::network::{Cuts, Network, hidden_ip, public_ip};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a node may take until it answers clients.
const START_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a node may take to end when it is told to: whoever runs containers gives it ten
/// seconds, and a busy machine some more.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a node may take to follow an injected fault.
const INJECTED_TIME_MAX: Duration = Duration::from_secs(20);
/// How often a node that starts is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The nodes' configuration file.
const CONFIGURATION: &str = "tethys.yaml";
/// Ports are taken from below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The program.
    pub binary: PathBuf,
    /// How many nodes found it.
    pub node_count: u8,
    /// Where data and logs go.
    pub folder: PathBuf,
    /// Further arguments of every node.
    pub arguments: Vec<String>,
    /// What stands in every node's configuration file.
    pub configuration: String,
}

/// Nodes, running or not.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    ports: Ports,
    network: Network,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    /// Where clients reach it.
    ip: IpAddr,
    process: Option<Child>,
    is_paused: bool,
    part: Part,
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// One that runs, unless something was done to it.
    Member,
    /// One that is leaving, or being removed: it is let alone.
    Goes,
    /// Nobody's place.
    Free,
}

/// The ports that all nodes have.
#[derive(Clone, Copy, Debug)]
struct Ports {
    cql: u16,
    shard_aware: u16,
    http: u16,
    storage: u16,
}

impl Cluster {
    /// Starts all nodes at once, on empty folders, and returns when all of them answer clients.
    /// `spare_count` is how many places there are for nodes that join later.
    pub async fn start(options: ClusterOptions, spare_count: usize) -> io::Result<Cluster> {
        let founder_count = usize::from(options.node_count);
        let place_count = founder_count + spare_count;
        fs::write(options.folder.join(CONFIGURATION), &options.configuration)?;
        let ports = Ports::free(place_count)?;
        let network = Network::start(place_count, ports.storage)?;
        let node = |node| Node {
            ip: public_ip(node).into(),
            process: None,
            is_paused: false,
            part: if node < founder_count { Part::Member } else { Part::Free },
        };
        let nodes = (0..place_count).map(node).collect();
        let mut cluster = Cluster { options, ports, network, nodes };
        for node in 0..founder_count {
            cluster.spawn(node)?;
        }
        cluster.wait_until_all_answer().await?;
        Ok(cluster)
    }

    /// How many places there are, taken or not: the founders', then the spares'.
    pub fn place_count(&self) -> usize {
        self.nodes.len()
    }

    /// The places of the spares.
    pub fn spares(&self) -> std::ops::Range<usize> {
        usize::from(self.options.node_count)..self.nodes.len()
    }

    /// The nodes that faults may befall: those that belong to the cluster, running or not.
    pub fn members(&self) -> Vec<usize> {
        let is_member = |node: &usize| self.nodes[*node].part == Part::Member;
        (0..self.nodes.len()).filter(is_member).collect()
    }

    /// Where clients of a node connect.
    pub fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::new(self.nodes[node].ip, self.ports.cql)
    }

    /// Ends a node as a power cut would: SIGKILL.
    pub fn kill(&mut self, node: usize) -> io::Result<()> {
        let node = &mut self.nodes[node];
        node.is_paused = false;
        if let Some(mut process) = node.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Tells a node to end: SIGTERM.
    pub fn terminate(&self, node: usize) -> io::Result<()> {
        self.signal(node, Signal::TERM)
    }

    /// Whether a node that was told to end has done so; an error when it takes too long.
    pub fn has_ended(&mut self, node: usize, told: Instant) -> io::Result<bool> {
        let Some(process) = &mut self.nodes[node].process else { return Ok(true) };
        match process.try_wait()? {
            Some(status) if status.success() => {
                self.nodes[node].process = None;
                Ok(true)
            }
            Some(status) => Err(self.complaint(node, &format!("ended with {status}"))),
            None if told.elapsed() > STOP_TIME_MAX => {
                Err(self.complaint(node, &format!("does not end within {STOP_TIME_MAX:?}")))
            }
            None => Ok(false),
        }
    }

    /// Lets nothing through between nodes but what these cuts leave.
    pub fn cut(&self, cuts: Cuts) {
        self.network.cut(cuts);
    }

    /// Sets the data of all nodes aside as it is now, for [`Cluster::roll_back`]; they start again.
    pub async fn set_aside(&mut self) -> io::Result<()> {
        for node in self.members() {
            self.kill(node)?;
        }
        for node in self.members() {
            copy_folder(&self.folder(node), &self.copy(node))?;
        }
        self.heal()?;
        self.wait_until_all_answer().await
    }

    /// Kills a node and puts back the data that was set aside: acknowledged writes are lost, as if the
    /// disk had lied.
    pub fn roll_back(&mut self, node: usize) -> io::Result<()> {
        self.kill(node)?;
        fs::remove_dir_all(self.folder(node))?;
        copy_folder(&self.copy(node), &self.folder(node))
    }

    fn copy(&self, node: usize) -> PathBuf {
        self.folder(node).with_extension("copy")
    }

    /// Freezes a node: SIGSTOP.
    pub fn pause(&mut self, node: usize) -> io::Result<()> {
        self.signal(node, Signal::STOP)?;
        self.nodes[node].is_paused = true;
        Ok(())
    }

    /// Has a new node join, at a free place: it is started, and becomes a member in its own time.
    pub fn join(&mut self, node: usize) -> io::Result<()> {
        assert_eq!(self.nodes[node].part, Part::Free, "only a free place is taken");
        let data = self.folder(node);
        if data.is_dir() {
            fs::remove_dir_all(&data)?;
        }
        self.nodes[node].part = Part::Member;
        self.spawn(node)
    }

    /// Lets a node alone from now on, for it is to leave or to be removed: alive, since whoever was
    /// struck as a member is healed as one only.
    pub fn see_off(&mut self, node: usize) -> io::Result<()> {
        self.revive(node)?;
        self.nodes[node].part = Part::Goes;
        Ok(())
    }

    /// The place of a node that has gone is free again.
    pub fn forget(&mut self, node: usize) -> io::Result<()> {
        self.kill(node)?;
        self.nodes[node].part = Part::Free;
        Ok(())
    }

    /// One of the program's verbs, to be asked of a node.
    pub fn verb(&self, node: usize, words: &[&str]) -> Command {
        let mut command = Command::new(&self.options.binary);
        command
            .args(words)
            .args(["--host", &self.nodes[node].ip.to_string()])
            .args(["--http-port", &self.ports.http.to_string()])
            .stdin(Stdio::null());
        command
    }

    /// Has a node's clock or disk be wrong from now on (`env/src/injected.rs` says how), or right again
    /// with an empty text; also in its next lives.
    pub fn begin_inject(&self, node: usize, faults: &str) -> io::Result<Injecting> {
        let (path, text) = (self.faults(node), format!("{faults}\n"));
        // The file is there as a whole or not at all.
        let new = path.with_extension("new");
        fs::write(&new, &text)?;
        fs::rename(&new, &path)?;
        let is_running = self.nodes[node].process.is_some() && !self.nodes[node].is_paused;
        Ok(Injecting { path: path.with_extension("faults.seen"), text, is_running })
    }

    /// Whether a node's clock or disk is wrong.
    pub fn is_injected(&self, node: usize) -> bool {
        fs::read_to_string(self.faults(node)).is_ok_and(|text| !text.trim().is_empty())
    }

    fn faults(&self, node: usize) -> PathBuf {
        self.folder(node).with_extension("faults")
    }

    /// Joins what is cut, thaws what is frozen and starts what is dead.
    pub fn heal(&mut self) -> io::Result<()> {
        self.network.cut(Cuts::default());
        self.members().into_iter().try_for_each(|node| self.revive(node))
    }

    /// Thaws a node that is frozen, and starts one that is dead.
    pub fn revive(&mut self, node: usize) -> io::Result<()> {
        if std::mem::take(&mut self.nodes[node].is_paused) {
            self.signal(node, Signal::CONT)?;
        }
        if self.nodes[node].process.is_none() {
            self.spawn(node)?;
        }
        Ok(())
    }

    /// Returns when every node answers clients; an error when one has ended or takes too long.
    pub async fn wait_until_all_answer(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        for node in self.members() {
            while let Err(error) = Client::connect(self.address(node)).await {
                let ended = match &mut self.nodes[node].process {
                    Some(process) => process.try_wait()?,
                    None => None,
                };
                if ended.is_some() || Instant::now() > deadline {
                    return Err(self.complaint(node, &format!("does not answer ({error})")));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        Ok(())
    }

    /// What a node has printed, in all its lives.
    pub fn log(&self, node: usize) -> PathBuf {
        self.folder(node).with_extension("log")
    }

    /// An error that names a node and where its log is.
    pub(crate) fn complaint(&self, node: usize, what: &str) -> io::Error {
        io::Error::other(format!(
            "{} {what}; see {}",
            self.nodes[node].ip,
            self.log(node).display()
        ))
    }

    fn folder(&self, node: usize) -> PathBuf {
        self.options.folder.join(format!("node{}", node + 1))
    }

    fn signal(&self, node: usize, signal: Signal) -> io::Result<()> {
        match &self.nodes[node].process {
            Some(process) => Ok(kill_process(Pid::from_child(process), signal)?),
            None => Ok(()),
        }
    }

    fn spawn(&mut self, node: usize) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(node))?;
        let founders = self.nodes.iter().take(usize::from(self.options.node_count));
        let seeds: Vec<String> = founders.map(|node| node.ip.to_string()).collect();
        let mut command = Command::new(&self.options.binary);
        command
            .arg("--config")
            .arg(self.options.folder.join(CONFIGURATION))
            .arg("--data-dir")
            .arg(self.folder(node))
            .args(["--address", &self.nodes[node].ip.to_string()])
            .args(["--listen-address", &hidden_ip(node).to_string()])
            .args(["--broadcast-address", &self.nodes[node].ip.to_string()])
            .args(["--seeds", &seeds.join(",")])
            .args(["--port", &self.ports.cql.to_string()])
            .args(["--shard-aware-port", &self.ports.shard_aware.to_string()])
            .args(["--http-port", &self.ports.http.to_string()])
            .args(["--storage-port", &self.ports.storage.to_string()])
            .args(&self.options.arguments)
            .env("TETHYS_TEST_FAULTS", self.faults(node))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.nodes[node].process = Some(command.spawn()?);
        Ok(())
    }
}

/// A fault that a node was told to have.
#[derive(Debug)]
pub struct Injecting {
    path: PathBuf,
    text: String,
    is_running: bool,
}

impl Injecting {
    /// Returns when the node follows it; at once if it does not run. An error if it does not within
    /// [`INJECTED_TIME_MAX`].
    pub async fn wait(self) -> io::Result<()> {
        let deadline = Instant::now() + INJECTED_TIME_MAX;
        let is_seen = || fs::read_to_string(&self.path).is_ok_and(|seen| seen == self.text);
        while self.is_running && !is_seen() {
            if Instant::now() > deadline {
                return Err(io::Error::other(
                    "a node takes no faults: is the program built with debug_assertions?",
                ));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            drop(self.kill(node));
        }
    }
}

impl Ports {
    /// Ports that nobody listens on, and that no other cluster of this program was given.
    fn free(node_count: usize) -> io::Result<Ports> {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        let count = u32::from(PORTS.end - PORTS.start);
        let first = std::process::id() * 61 % count;
        let mut free = Vec::with_capacity(4);
        for _ in PORTS {
            let offset = (first + TRIED.fetch_add(1, Ordering::Relaxed)) % count;
            let port = PORTS.start + u16::try_from(offset).unwrap_or_default();
            let is_free = |ip| TcpListener::bind((ip, port)).is_ok();
            if (0..node_count).all(|node| is_free(public_ip(node)) && is_free(hidden_ip(node))) {
                free.push(port);
            }
            if let [cql, shard_aware, http, storage] = free[..] {
                return Ok(Ports { cql, shard_aware, http, storage });
            }
        }
        Err(io::Error::other("no ports are free"))
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}

/// The program that was built beside the running test or example: `target/PROFILE/tethys`.
pub fn built_program() -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let profile = here.parent().and_then(Path::parent);
    let program = profile.map(|profile| profile.join("tethys"));
    program.filter(|program| program.is_file()).ok_or_else(|| {
        io::Error::other("there is no built program here: `cargo build -p node` makes it")
    })
}
