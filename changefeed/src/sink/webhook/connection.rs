//! One connection to a receiver: resolved, judged, dialled, and kept between requests.
//!
//! The connection's own work is done while a request waits for it, so nothing runs on when the
//! sink is dropped, and nothing is spawned.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::{Clock, Net};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::address::AddressPolicy;
use super::target::Target;
use crate::sink::SinkError;

/// Of a name's addresses, the first few are tried, each for an even share of the time.
const ADDRESSES_TRIED_MAX: usize = 4;
/// An answer's body is read so far, so that the connection can be used again. A longer one costs
/// the connection, and nothing else: the status has been read before.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Room for the head of an answer; hyper refuses longer ones.
const HEAD_BYTES_MAX: usize = 64 << 10;

trait Transport: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

/// What makes connections.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) net: Net,
    pub(super) clock: Clock,
    pub(super) policy: AddressPolicy,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

impl Dialer {
    /// A new connection. The whole of it is under the caller's time limit, of which each address
    /// gets a share.
    pub(super) async fn dial(
        &self,
        target: &Target,
        limit: Duration,
    ) -> Result<Connection, SinkError> {
        let addresses = self.addresses(target).await?;
        let share = limit / addresses.len() as u32;
        let mut last = None;
        for address in addresses {
            match within(&self.clock, share, self.connect(target, address)).await {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => last = Some(error.to_string()),
                None => last = None,
            }
        }
        let reason = last.as_deref().unwrap_or("no connection in time");
        Err(SinkError::transient(format!("{target} cannot be reached: {reason}")))
    }

    /// Where the target is now; never empty. Only addresses that the policy lets pass.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, SinkError> {
        let resolved = self.net.resolve(&target.host, target.port).await.map_err(|error| {
            SinkError::transient(format!("{target} cannot be resolved: {error}"))
        })?;
        let mut allowed = Vec::new();
        let mut refused = "no address";
        for address in resolved {
            match self.policy.judge(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(kind) => refused = kind,
            }
        }
        if allowed.is_empty() {
            return Err(SinkError::permanent(target.refusal(refused)));
        }
        allowed.truncate(ADDRESSES_TRIED_MAX);
        Ok(allowed)
    }

    async fn connect(&self, target: &Target, address: SocketAddr) -> io::Result<Connection> {
        let stream = self.net.connect(address).await?;
        stream.set_nodelay(true)?;
        let transport: Box<dyn Transport> = if target.is_https {
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| io::Error::other("no certificate can be for this host"))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            Box::new(connector.connect(name, stream).await?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(io::Error::other)?;
        let driver = Box::pin(async move {
            // How it ended is told to the request that was under way.
            connection.await.ok();
        });
        Ok(Connection { sender, driver: Some(driver), is_used: false })
    }
}

/// An open connection, with nothing under way between calls.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes; gone when the connection has ended.
    driver: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Whether an answer came over it. The receiver may close such a one at any moment.
    pub(super) is_used: bool,
}

impl Connection {
    /// Whether another request may be sent over it.
    pub(super) async fn is_open(&mut self) -> bool {
        // Lets the driver see that the receiver has closed, if it has.
        drive(&mut self.driver, std::future::ready(())).await;
        let ready = drive(&mut self.driver, self.sender.ready()).await;
        ready.is_ok() && self.driver.is_some()
    }

    /// Sends a request and returns the head of the answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let answer = drive(&mut self.driver, self.sender.send_request(request)).await?;
        self.is_used = true;
        Ok(answer)
    }

    /// Reads the rest of an answer. False if it is too long or does not end: the connection is of
    /// no more use.
    pub(super) async fn drain(&mut self, mut body: Incoming) -> bool {
        let mut left = ANSWER_BYTES_MAX;
        loop {
            match drive(&mut self.driver, body.frame()).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(length) else { return false };
                    left = rest;
                }
            }
        }
    }
}

/// Runs a request's step, and the connection meanwhile.
async fn drive<Step: Future>(
    driver: &mut Option<Pin<Box<dyn Future<Output = ()>>>>,
    step: Step,
) -> Step::Output {
    let mut step = std::pin::pin!(step);
    poll_fn(|context| {
        if let Some(running) = driver
            && running.as_mut().poll(context).is_ready()
        {
            *driver = None;
        }
        step.as_mut().poll(context)
    })
    .await
}

/// The future's output, or none when the time is over.
pub(super) async fn within<F: Future>(
    clock: &Clock,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = clock.sleep(limit) => None,
    }
}

/// A failure of the way to the receiver, which may pass.
pub(super) fn broken(target: &Target, error: &hyper::Error) -> SinkError {
    let what = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "closed the connection before it had answered".to_owned()
    } else if error.is_parse() {
        "answered with something that is not HTTP".to_owned()
    } else {
        let cause = std::error::Error::source(error).map_or(String::new(), |e| format!(": {e}"));
        format!("broke the connection{cause}")
    };
    SinkError::transient(format!("{target} {what}"))
}
