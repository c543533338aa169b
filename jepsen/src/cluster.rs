//! The nodes of a test: processes of the built program, each with an address of its own on the
//! loopback network, the same ports, and its own folder of data. They end with the cluster.
//!
//! They are given the same seeds and started at once. What they say to each other goes through a
//! [`Network`] that can be cut; clients reach every node at all times.

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
/// How often a node that starts is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Ports are taken from below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The program.
    pub binary: PathBuf,
    /// How many nodes.
    pub node_count: u8,
    /// Where data and logs go.
    pub folder: PathBuf,
    /// Further arguments of every node.
    pub arguments: Vec<String>,
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
    pub async fn start(options: ClusterOptions) -> io::Result<Cluster> {
        let node_count = usize::from(options.node_count);
        let ports = Ports::free(node_count)?;
        let network = Network::start(node_count, ports.storage)?;
        let node = |node| Node { ip: public_ip(node).into(), process: None, is_paused: false };
        let nodes = (0..node_count).map(node).collect();
        let mut cluster = Cluster { options, ports, network, nodes };
        for node in 0..cluster.nodes.len() {
            cluster.spawn(node)?;
        }
        cluster.wait_until_all_answer().await?;
        Ok(cluster)
    }

    /// How many nodes there are, running or not.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
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

    /// Kills a node and puts back the data that it had when this was first done to it: acknowledged
    /// writes are lost, as if the disk had lied. The first time the data is only set aside.
    pub fn roll_back(&mut self, node: usize) -> io::Result<()> {
        self.kill(node)?;
        let (data, copy) = (self.folder(node), self.folder(node).with_extension("copy"));
        if copy.is_dir() {
            fs::remove_dir_all(&data)?;
            return copy_folder(&copy, &data);
        }
        copy_folder(&data, &copy)
    }

    /// Freezes a node: SIGSTOP.
    pub fn pause(&mut self, node: usize) -> io::Result<()> {
        self.signal(node, Signal::STOP)?;
        self.nodes[node].is_paused = true;
        Ok(())
    }

    /// Joins what is cut, thaws what is frozen and starts what is dead.
    pub fn heal(&mut self) -> io::Result<()> {
        self.network.cut(Cuts::default());
        for node in 0..self.nodes.len() {
            if std::mem::take(&mut self.nodes[node].is_paused) {
                self.signal(node, Signal::CONT)?;
            }
            if self.nodes[node].process.is_none() {
                self.spawn(node)?;
            }
        }
        Ok(())
    }

    /// Returns when every node answers clients; an error when one has ended or takes too long.
    pub async fn wait_until_all_answer(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        for node in 0..self.nodes.len() {
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

    fn complaint(&self, node: usize, what: &str) -> io::Error {
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
        let seeds: Vec<String> = self.nodes.iter().map(|node| node.ip.to_string()).collect();
        let mut command = Command::new(&self.options.binary);
        command
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
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.nodes[node].process = Some(command.spawn()?);
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
