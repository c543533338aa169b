//! An HTTP endpoint that changefeeds of simulated nodes deliver to. It takes its time for each request,
//! acknowledges it and keeps the events; while it is closed it says that it is busy.

use crate::clients::HasClients;
use crate::cluster::Cluster;
use env::net::TcpStream;
use env::{Clock, Net};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

const PORT: u16 = 8080;
/// How long a request takes, so that much can happen between two of a feed's.
const ANSWER_TIME: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    is_closed: Cell<bool>,
    /// By the feed.
    events: RefCell<BTreeMap<String, Vec<Value>>>,
    /// Whose request came last.
    sender: Cell<Option<IpAddr>>,
}

/// The endpoint, beside the clients.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Rc<State>,
}

impl Receiver {
    /// The only one of a simulation.
    pub(crate) fn start(cluster: &mut Cluster) -> Receiver {
        let address = SocketAddr::new(cluster.address_of_clients(), PORT);
        let state = Rc::<State>::default();
        let home = cluster.home(0);
        cluster.start(receive(home.net, home.clock, state.clone()));
        Receiver { address, state }
    }

    /// What makes a feed that delivers here.
    pub(crate) fn statement(&self, name: &str, tables: &str, options: &str) -> String {
        format!(
            "CREATE CHANGEFEED IF NOT EXISTS {name} FOR TABLE {tables} INTO WEBHOOK \
             'http://{}/{name}' WITH (flush_interval_ms = 5{options})",
            self.address
        )
    }

    /// From here on it is busy, or takes events again.
    pub(crate) fn close(&self, is_closed: bool) {
        self.state.is_closed.set(is_closed);
    }

    /// What has come so far of a feed.
    pub(crate) fn events_of(&self, feed: &str) -> Vec<Value> {
        self.state.events.borrow().get(feed).cloned().unwrap_or_default()
    }

    /// The node whose request came last.
    pub(crate) fn sender(&self) -> Option<IpAddr> {
        self.state.sender.get()
    }
}

async fn receive(net: Net, clock: Clock, state: Rc<State>) {
    let any = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), PORT);
    let listener = net.bind(any).await.expect("nobody else has the port");
    let mut connections = JoinSet::new();
    loop {
        let (stream, sender) = listener.accept().await.expect("a simulated listener stays");
        let (clock, state) = (clock.clone(), state.clone());
        // Whoever hangs up, or is cut off, connects again.
        connections
            .spawn_local(async move { serve(stream, sender.ip(), &clock, &state).await.ok() });
    }
}

/// Takes the requests of one connection.
async fn serve(stream: TcpStream, sender: IpAddr, clock: &Clock, state: &State) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut feed, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("post /") {
                rest.split(' ').next().unwrap_or_default().clone_into(&mut feed);
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        state.sender.set(Some(sender));
        clock.sleep(ANSWER_TIME).await;
        let status = if state.is_closed.get() {
            "503 Service Unavailable"
        } else {
            let batch: Vec<Value> = serde_json::from_slice(&body).expect("an array of events");
            state.events.borrow_mut().entry(feed).or_default().extend(batch);
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}
