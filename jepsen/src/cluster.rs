//! The nodes of a test: processes of the built program, each with an address of its own on the
//! loopback network, the same ports, and its own folder of data. They end with the cluster.

use crate::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a node may take until it answers clients.
const START_TIME_MAX: Duration = Duration::from_mins(1);
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
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
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
        let ip = |number: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 0, number));
        let ips: Vec<IpAddr> = (1..=options.node_count).map(ip).collect();
        let ports = Ports::free(&ips)?;
        let nodes = ips.iter().map(|ip| Node { ip: *ip, process: None, is_paused: false });
        let mut cluster = Cluster { nodes: nodes.collect(), options, ports };
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

    /// Thaws what is frozen and starts what is dead.
    pub fn heal(&mut self) -> io::Result<()> {
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
                    let (log, ip) = (self.log(node), self.nodes[node].ip);
                    let text = format!("{ip} does not answer ({error}); see {}", log.display());
                    return Err(io::Error::other(text));
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
        let mut command = Command::new(&self.options.binary);
        command
            .arg("--data-dir")
            .arg(self.folder(node))
            .args(["--address", &self.nodes[node].ip.to_string()])
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
    fn free(ips: &[IpAddr]) -> io::Result<Ports> {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        let count = u32::from(PORTS.end - PORTS.start);
        let first = std::process::id() * 61 % count;
        let mut free = Vec::with_capacity(4);
        for _ in PORTS {
            let offset = (first + TRIED.fetch_add(1, Ordering::Relaxed)) % count;
            let port = PORTS.start + u16::try_from(offset).unwrap_or_default();
            if ips.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok()) {
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
