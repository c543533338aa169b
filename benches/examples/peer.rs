//! What a message between two shards costs, against the same bytes over a bare TCP connection.
//!
//! Two threads, a caller and a callee, over loopback: the caller sends a batch of messages of
//! 300 bytes, the callee answers it with one small message, and so on. The processor time of each
//! thread (with what the kernel does on its behalf), divided by the messages, is the cost of a
//! side. Both kinds run in turn, several times, and the medians are printed with their ratio: the
//! times are of this machine, the ratios travel.

#![expect(clippy::print_stdout, reason = "a program for the command line")]

use bytes::{Buf, Bytes};
use cluster::HostId;
use cluster::peer::{Class, Event, Identity, Inbox, Incoming, Peer, Peers, Registry, accept_peers};
use env::net::{ReadHalf, TcpListener, TcpStream, WriteHalf};
use env::{Env, Tasks};
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MESSAGE_BYTES: usize = 300;
const BATCH_SIZES: [usize; 3] = [1, 32, 256];
const ROUNDS: usize = 9;

/// The first byte of a message.
const ONE_MORE: u8 = 0;
const LAST: u8 = 1;
const HOW_MUCH_TIME: u8 = 2;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Processor time of this thread, in nanoseconds.
fn thread_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the callee says to a message, if anything.
fn answer_to(message: &[u8]) -> Option<[u8; 8]> {
    match message[0] {
        LAST => Some([0; 8]),
        HOW_MUCH_TIME => Some(thread_nanos().to_le_bytes()),
        _ => None,
    }
}

/// The caller's end of either kind of connection.
enum Caller {
    Peers(Peers, Inbox, Peer),
    Tcp(ReadHalf, WriteHalf, Vec<u8>),
}

impl Caller {
    /// Sends messages of which the last says `what`, and waits for the answer.
    async fn exchange(&mut self, count: usize, what: u8) -> Fallible<u64> {
        let message = |index: usize| {
            let mut message = [ONE_MORE; MESSAGE_BYTES];
            message[0] = if index + 1 == count { what } else { ONE_MORE };
            message
        };
        match self {
            Caller::Peers(peers, inbox, peer) => {
                for index in 0..count {
                    peers.send(*peer, Class::Bulk, &[&message(index)])?;
                }
                loop {
                    if let Event::Messages { messages, .. } = inbox.recv().await
                        && let Some(Incoming::Message(answer)) = messages.into_iter().next()
                    {
                        return Ok(answer.as_ref().get_u64_le());
                    }
                }
            }
            Caller::Tcp(read, write, batch) => {
                batch.clear();
                for index in 0..count {
                    batch.extend_from_slice(&(MESSAGE_BYTES as u32).to_le_bytes());
                    batch.extend_from_slice(&message(index));
                }
                write.write_all(batch).await?;
                Ok(read.read_u64_le().await?)
            }
        }
    }
}

async fn serve_peers(env: Env, listener: TcpListener, us: Identity) -> Fallible<()> {
    let registry = Registry::new(us)?;
    let (peers, mut inbox) = Peers::new(&env, &registry, 0);
    let peers = Rc::new(peers);
    let accepting = peers.clone();
    tokio::task::spawn_local(async move {
        let hand_over = move |accepted| {
            accepting.accept(accepted);
            Ok(())
        };
        accept_peers(&env, &registry, listener, hand_over, |_, error| panic!("{error}")).await;
    });
    loop {
        let Event::Messages { peer, messages } = inbox.recv().await else { continue };
        for incoming in messages {
            if let Incoming::Message(message) = incoming
                && let Some(answer) = answer_to(&message)
            {
                peers.send(peer, Class::Urgent, &[&answer])?;
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener) -> Fallible<()> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let mut buffer = bytes::BytesMut::with_capacity(64 * 1024);
    loop {
        if read.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while buffer.len() >= 4 + MESSAGE_BYTES {
            buffer.advance(4);
            let message: Bytes = buffer.split_to(MESSAGE_BYTES).freeze();
            if let Some(answer) = answer_to(&message) {
                write.write_all(&answer).await?;
            }
        }
        buffer.reserve(64 * 1024);
    }
}

/// Listens on loopback, and serves there on a thread of its own.
async fn start_callee(over_tcp: bool) -> Fallible<SocketAddr> {
    let listener = Env::real().net.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    drop(listener);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    Tasks::real().spawn_shard("callee", Some(1), move || async move {
        let env = Env::real();
        let listener = env.net.bind(address).await.expect("the port was free a moment ago");
        ready.send(()).ok();
        // It ends with its connection or with the process.
        if over_tcp {
            serve_tcp(listener).await.ok();
        } else {
            serve_peers(env, listener, identity(2, address)).await.ok();
        }
    })?;
    is_ready.await?;
    Ok(address)
}

fn identity(host: u128, address: SocketAddr) -> Identity {
    Identity {
        cluster_name: "bench".into(),
        cluster_id: None,
        host_id: HostId(host),
        address,
        shard_count: 1,
        incarnation: 1,
        mark: 1,
    }
}

async fn connect(over_tcp: bool) -> Fallible<Caller> {
    let address = start_callee(over_tcp).await?;
    let env = Env::real();
    if over_tcp {
        let stream: TcpStream = env.net.connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        return Ok(Caller::Tcp(read, write, Vec::new()));
    }
    let registry = Registry::new(identity(1, SocketAddr::from(([127, 0, 0, 1], 1))))?;
    let (peers, inbox) = Peers::new(&env, &registry, 0);
    let peer = Peer { host_id: HostId(2), shard: 0 };
    peers.set_address(peer.host_id, address);
    Ok(Caller::Peers(peers, inbox, peer))
}

/// Microseconds of processor time per message: the caller's and the callee's.
async fn measure(caller: &mut Caller, batch: usize) -> Fallible<[f64; 2]> {
    let batch_count = (60_000 / batch).min(6_000);
    let callee_before = caller.exchange(1, HOW_MUCH_TIME).await?;
    let caller_before = thread_nanos();
    for _ in 0..batch_count {
        caller.exchange(batch, LAST).await?;
    }
    let caller_nanos = thread_nanos() - caller_before;
    let callee_nanos = caller.exchange(1, HOW_MUCH_TIME).await? - callee_before;
    let messages = (batch_count * batch) as f64;
    Ok([caller_nanos, callee_nanos].map(|nanos| nanos as f64 / 1_000.0 / messages))
}

async fn run() -> Fallible<()> {
    let mut peers = connect(false).await?;
    let mut tcp = connect(true).await?;
    println!("microseconds of processor time per message of {MESSAGE_BYTES} bytes, both sides");
    println!("batch   TCP: caller callee   peers: caller callee   ratio of the sums");
    for batch in BATCH_SIZES {
        let mut samples: [Vec<f64>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let [caller, callee] = measure(&mut tcp, batch).await?;
            samples[0].push(caller);
            samples[1].push(callee);
            let [caller, callee] = measure(&mut peers, batch).await?;
            samples[2].push(caller);
            samples[3].push(callee);
        }
        let [a, b, c, d] = samples.map(|samples| median(&samples));
        let ratio = (c + d) / (a + b);
        println!("{batch:5} {a:13.3} {b:6.3} {c:15.3} {d:6.3} {ratio:14.2}");
    }
    Ok(())
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run())
}
