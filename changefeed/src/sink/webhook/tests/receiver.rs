//! A receiver of webhooks over real sockets, which does as it is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use env::Net;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(super) enum Reaction {
    /// A status, further header lines, a body; the connection stays open.
    Answer(u16, &'static str, &'static str),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes.
    Close,
    /// Begins a head, and closes.
    CloseHalfway,
    /// A head of 200, half of the body, and closes.
    CloseInBody,
    /// A status and so many bytes.
    Flood(u16, usize),
    /// A head of 200, and a body that never comes.
    HangInBody,
    /// Something else than HTTP.
    Garbage,
    /// 200, and closes a moment later without saying so.
    AnswerAndClose,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: String,
}

impl Received {
    /// The value of a header; empty if it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }
}

#[derive(Default)]
struct Shared {
    plan: VecDeque<Reaction>,
    received: Vec<Received>,
    connections: usize,
    /// Bytes of answers that the sockets have taken.
    written: usize,
}

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    shared: Rc<RefCell<Shared>>,
}

impl Receiver {
    /// Listens on loopback, in the `LocalSet` of the caller. Requests beyond the plan get a 200.
    pub(super) async fn start(plan: impl IntoIterator<Item = Reaction>) -> Receiver {
        Receiver::start_with(plan, None).await
    }

    pub(super) async fn start_with(
        plan: impl IntoIterator<Item = Reaction>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Receiver {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Net::real().bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared { plan: plan.into_iter().collect(), ..Shared::default() };
        let receiver = Receiver { address, shared: Rc::new(RefCell::new(shared)) };
        let accepting = receiver.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let receiver = accepting.clone();
                receiver.shared.borrow_mut().connections += 1;
                let tls = tls.clone();
                tokio::task::spawn_local(async move {
                    match tls {
                        None => receiver.serve(stream).await,
                        Some(config) => match TlsAcceptor::from(config).accept(stream).await {
                            Ok(stream) => receiver.serve(stream).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        receiver
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?token=hidden", self.address)
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.shared.borrow().received.clone()
    }

    pub(super) fn connection_count(&self) -> usize {
        self.shared.borrow().connections
    }

    pub(super) fn written_bytes(&self) -> usize {
        self.shared.borrow().written
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let request = read_request(&mut stream).await?;
            let reaction = {
                let mut shared = self.shared.borrow_mut();
                shared.received.push(request);
                shared.plan.pop_front().unwrap_or(Reaction::Answer(200, "", "ok"))
            };
            self.react(&mut stream, reaction).await?;
        }
    }

    /// None when the connection is to be closed.
    async fn react<S: AsyncWrite + Unpin>(&self, to: &mut S, reaction: Reaction) -> Option<()> {
        let head = |status: u16, headers: &str, length: usize| {
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n")
        };
        match reaction {
            Reaction::Answer(status, headers, body) => {
                let text = head(status, headers, body.len()) + body;
                to.write_all(text.as_bytes()).await.ok()
            }
            Reaction::Hang => std::future::pending().await,
            Reaction::Close => None,
            Reaction::CloseHalfway => {
                to.write_all(b"HTTP/1.1 200 O").await.ok()?;
                to.flush().await.ok()?;
                None
            }
            Reaction::CloseInBody => {
                to.write_all((head(200, "", 10) + "half").as_bytes()).await.ok()?;
                None
            }
            Reaction::Flood(status, length) => {
                to.write_all(head(status, "", length).as_bytes()).await.ok()?;
                let chunk = vec![b'x'; 64 << 10];
                let mut left = length;
                while left > 0 {
                    let count = to.write(&chunk[..left.min(chunk.len())]).await.ok()?;
                    self.shared.borrow_mut().written += count;
                    left -= count;
                }
                Some(())
            }
            Reaction::HangInBody => {
                to.write_all(head(200, "", 10).as_bytes()).await.ok()?;
                std::future::pending().await
            }
            Reaction::Garbage => {
                to.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await.ok()?;
                None
            }
            Reaction::AnswerAndClose => {
                to.write_all((head(200, "", 2) + "ok").as_bytes()).await.ok()?;
                None
            }
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head in ASCII");
    let mut request = Received { head, body: String::new() };
    let length = request.header("content-length").parse().expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8(body).expect("JSON is UTF-8");
    Some(request)
}
