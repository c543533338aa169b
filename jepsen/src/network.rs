//! The network between the nodes of a test: a proxy in front of each node's port for the others,
//! which lets through or holds what goes from one node to another.
//!
//! ```text
//!   node 1 ──▶ 127.0.0.2:7000, where node 2 says it is    ──▶ 127.0.1.2:7000, where it listens
//!              the proxy: who is it? may it pass, and may the answers?
//! ```
//! Every link has two directions, and each is cut by itself. What is on its way over a direction
//! that is cut waits until it is healed, as with TCP, whose packets are sent again and again; a
//! connection that is dialled meanwhile is not made. So it is as if packets were dropped between two
//! hosts, and needs neither privileges nor the tools of a system.
//!
//! Who dials is read from the first thing a connection carries, the introduction
//! (`docs/formats/peer.md`), which names the dialling node's address: on the loopback network all
//! connections come from the same one.
//!
//! Not here: clients, which reach all nodes at all times; delays; loss of single packets, which TCP
//! would repair.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Nodes that one network joins: pairs of them are bits of a word.
pub const NODES_MAX: usize = 8;

/// What one read takes from a connection.
const CHUNK_BYTES: usize = 64 << 10;

/// Of an introduction: its head, in which is the length of its body, and where in the body the
/// family and the address of the dialling node are.
const HEAD_BYTES: usize = 14;
const LENGTH_OFFSET: usize = 12;
const BODY_BYTES_MAX: usize = 512;
const FAMILY_OFFSET: usize = HEAD_BYTES + 86;
const FAMILY_IPV4: u8 = 4;

/// Where clients and other nodes reach a node, which are counted from 0.
pub fn public_ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, node as u8 + 1)
}

/// Where a node listens for what the proxy lets through.
pub fn hidden_ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, node as u8 + 1)
}

/// The directions between nodes that nothing passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts(u64);

impl Cuts {
    /// Also holds what goes from one node to another.
    #[must_use]
    pub fn and_from_to(self, from: usize, to: usize) -> Cuts {
        assert!(from.max(to) < NODES_MAX, "there are not so many nodes");
        Cuts(self.0 | 1 << (from * NODES_MAX + to))
    }

    /// Also holds what goes between any node of one side and any of the other.
    #[must_use]
    pub fn and_between(self, one: &[usize], other: &[usize]) -> Cuts {
        let pairs = one.iter().flat_map(|a| other.iter().map(|b| (*a, *b)));
        pairs.fold(self, |cuts, (a, b)| cuts.and_from_to(a, b).and_from_to(b, a))
    }

    /// Whether what goes from one node to another gets there.
    pub fn let_pass(self, from: usize, to: usize) -> bool {
        self.0 & 1 << (from * NODES_MAX + to) == 0
    }
}

/// The proxies of all nodes, on a thread of their own; they end with it.
#[derive(Debug)]
pub struct Network {
    cuts: watch::Sender<Cuts>,
    /// Dropped to end the thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Joins `node_count` nodes, whose port for other nodes is `port`.
    pub fn start(node_count: usize, port: u16) -> io::Result<Network> {
        assert!(node_count <= NODES_MAX, "at most {NODES_MAX} nodes");
        let listeners: Vec<std::net::TcpListener> = (0..node_count)
            .map(|node| {
                let listener = std::net::TcpListener::bind((public_ip(node), port))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .collect::<io::Result<_>>()?;
        let (cuts, seen) = watch::channel(Cuts::default());
        let (running, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("network".to_owned()).spawn(move || {
            runtime.block_on(async move {
                for (node, listener) in listeners.into_iter().enumerate() {
                    let accepting = TcpListener::from_std(listener);
                    let accepting = accepting.expect("the runtime has sockets");
                    let end = Proxy { node, port, node_count, cuts: seen.clone() };
                    tokio::spawn(Arc::new(end).accept(accepting));
                }
                // Nothing is ever sent: it ends when the other end is dropped.
                ended.await.ok();
            });
        })?;
        Ok(Network { cuts, running: Some(running), thread: Some(thread) })
    }

    /// Holds from now on what these cuts hold, and nothing else.
    pub fn cut(&self, cuts: Cuts) {
        self.cuts.send_replace(cuts);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by itself.
            thread.join().ok();
        }
    }
}

/// What stands in front of one node.
struct Proxy {
    node: usize,
    port: u16,
    node_count: usize,
    cuts: watch::Receiver<Cuts>,
}

impl Proxy {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        // Whoever dials tries again: an error is of that connection.
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().join(stream));
            }
        }
    }

    /// Connects a dialling node with this one.
    async fn join(self: Arc<Self>, mut dialling: TcpStream) {
        let Ok(introduction) = read_introduction(&mut dialling).await else { return };
        let Some(from) = dialling_node(&introduction).filter(|from| *from < self.node_count) else {
            return;
        };
        let mut cuts = self.cuts.clone();
        let is_open =
            cuts.wait_for(|cuts| cuts.let_pass(from, self.node) && cuts.let_pass(self.node, from));
        let mut more = [0];
        tokio::select! {
            open = is_open => if open.is_err() { return },
            // It says no more until it is answered, so this is its end: nobody would have dialled.
            _ = dialling.peek(&mut more) => return,
        }
        let hidden = SocketAddr::new(IpAddr::V4(hidden_ip(self.node)), self.port);
        let Ok(mut dialled) = TcpStream::connect(hidden).await else { return };
        let is_sent = dialled.write_all(&introduction).await.is_ok();
        let is_quick = dialling.set_nodelay(true).is_ok() && dialled.set_nodelay(true).is_ok();
        if !(is_sent && is_quick) {
            return;
        }
        let (from_dialling, to_dialling) = dialling.into_split();
        let (from_dialled, to_dialled) = dialled.into_split();
        let there = carry(from_dialling, to_dialled, self.cuts.clone(), (from, self.node));
        let back = carry(from_dialled, to_dialling, self.cuts.clone(), (self.node, from));
        tokio::join!(there, back);
    }
}

/// Carries bytes one way until their end, and the end too; while the way is cut, nothing.
async fn carry(
    mut source: OwnedReadHalf,
    mut sink: OwnedWriteHalf,
    mut cuts: watch::Receiver<Cuts>,
    (from, to): (usize, usize),
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = source.read(&mut chunk).await.unwrap_or(0);
        if cuts.wait_for(|cuts| cuts.let_pass(from, to)).await.is_err() {
            return;
        }
        if count == 0 {
            sink.shutdown().await.ok();
            return;
        }
        if sink.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

async fn read_introduction(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD_BYTES];
    stream.read_exact(&mut bytes).await?;
    let length = u16::from_le_bytes([bytes[LENGTH_OFFSET], bytes[LENGTH_OFFSET + 1]]);
    let length = usize::from(length).min(BODY_BYTES_MAX);
    bytes.resize(HEAD_BYTES + length, 0);
    stream.read_exact(&mut bytes[HEAD_BYTES..]).await?;
    Ok(bytes)
}

/// Which node introduces itself, by its public address.
fn dialling_node(introduction: &[u8]) -> Option<usize> {
    let (family, rest) = introduction.get(FAMILY_OFFSET..)?.split_first()?;
    let [127, 0, 0, last] = *rest.first_chunk::<4>()? else { return None };
    (*family == FAMILY_IPV4).then_some(())?;
    usize::from(last).checked_sub(1)
}

#[cfg(test)]
mod tests;
