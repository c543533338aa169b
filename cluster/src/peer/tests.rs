//! Tests of the transport: the same nodes over real sockets on loopback and in turmoil.

mod hostile;
mod introductions;
mod loopback;
mod simulated;

use super::hello::Identity;
use super::starts::Volatile;
use super::{Accepted, Class, Event, Inbox, Incoming, Memory, Peer, Peers, Registry, accept_peers};
use crate::ring::HostId;
use env::Env;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What an acceptor refused, as text.
type Refusals = Rc<RefCell<Vec<String>>>;

/// One node with one shard on this thread.
struct Node {
    peers: Rc<Peers>,
    inbox: Inbox,
    registry: Registry,
    refusals: Refusals,
    acceptor: tokio::task::AbortHandle,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn identity(host: u128, address: SocketAddr) -> Identity {
    Identity {
        cluster_name: "tests".into(),
        cluster_id: None,
        host_id: HostId(host),
        address,
        shard_count: 1,
        incarnation: 1,
        mark: 1,
    }
}

fn peer(host: u128) -> Peer {
    Peer { host_id: HostId(host), shard: 0 }
}

impl Node {
    /// Listens at `bind`; the identity gets the port that was chosen, if it has none.
    async fn start(env: &Env, bind: SocketAddr, us: Identity) -> Node {
        Node::start_again(env, bind, us, Vec::new()).await
    }

    /// The same, of a node whose starts before had these marks.
    async fn start_again(
        env: &Env,
        bind: SocketAddr,
        us: Identity,
        former_marks: Vec<u64>,
    ) -> Node {
        let memory = Arc::new(Volatile::default());
        Node::start_remembering(env, bind, us, former_marks, memory).await
    }

    /// The same, of a node with that memory.
    async fn start_remembering(
        env: &Env,
        bind: SocketAddr,
        mut us: Identity,
        former_marks: Vec<u64>,
        memory: Arc<dyn Memory>,
    ) -> Node {
        let listener = env.net.bind(bind).await.unwrap();
        if us.address.port() == 0 {
            us.address.set_port(listener.local_addr().unwrap().port());
        }
        let registry = Registry::with_memory(us, former_marks, memory).unwrap();
        let (peers, inbox) = Peers::new(env, &registry, 0);
        let peers = Rc::new(peers);
        let refusals = Refusals::default();
        let hand_over = {
            let peers = Rc::downgrade(&peers);
            move |accepted: Accepted| {
                let Some(peers) = peers.upgrade() else { return Err(accepted) };
                peers.accept(accepted);
                Ok(())
            }
        };
        let report = {
            let refusals = refusals.clone();
            move |_, error: super::IntroductionError| refusals.borrow_mut().push(error.to_string())
        };
        let acceptor = {
            let (env, registry) = (env.clone(), registry.clone());
            async move { accept_peers(&env, &registry, listener, hand_over, report).await }
        };
        let acceptor = tokio::task::spawn_local(acceptor).abort_handle();
        Node { peers, inbox, registry, refusals, acceptor }
    }

    /// A node on loopback, with a port of the system's choice.
    async fn on_loopback(host: u128) -> Node {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Node::start(&Env::real(), any, identity(host, any)).await
    }

    fn address(&self) -> SocketAddr {
        self.registry.us().address
    }

    fn peer(&self) -> Peer {
        Peer { host_id: self.registry.us().host_id, shard: 0 }
    }

    fn knows(&self, other: &Node) {
        self.peers.set_address(other.peer().host_id, other.address());
    }

    fn send(&self, to: &Node, message: &[u8]) {
        self.peers.send(to.peer(), Class::Bulk, &[message]).unwrap();
    }

    /// The next event that is of a kind; the others before it are dropped.
    async fn next<T>(&mut self, mut choose: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(chosen) = choose(self.inbox.recv().await) {
                return chosen;
            }
        }
    }

    async fn connected(&mut self) -> Peer {
        self.next(|event| match event {
            Event::Connected { peer, .. } => Some(peer),
            _ => None,
        })
        .await
    }

    async fn disconnected(&mut self) -> super::Cause {
        self.next(|event| match event {
            Event::Disconnected { cause, .. } => Some(cause),
            _ => None,
        })
        .await
    }

    async fn unreachable(&mut self) -> super::IntroductionError {
        self.next(|event| match event {
            Event::Unreachable { error, .. } => Some(error),
            _ => None,
        })
        .await
    }

    async fn messages(&mut self) -> Vec<Incoming> {
        self.next(|event| match event {
            Event::Messages { messages, .. } => Some(messages),
            _ => None,
        })
        .await
    }

    /// The last thing that the acceptor reported, once there is one; it reports after the refused
    /// end has heard.
    async fn refusal(&self) -> String {
        loop {
            let refusal = self.refusals.borrow_mut().pop();
            if let Some(refusal) = refusal {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes messages until there are `count`.
    async fn take(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.extend(self.messages().await.into_iter().map(|incoming| match incoming {
                Incoming::Message(bytes) => bytes.to_vec(),
                Incoming::Ask(..) => panic!("nobody asks here"),
            }));
        }
        taken
    }
}
