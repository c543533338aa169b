//! The node's own CQL client: for `tethys health`, and for the scripts that a cluster's first start
//! runs. One connection, one statement at a time, no values, protocol v4.
//!
//! It sets no limit of time: whoever waits for it does.

use cql::wire::client::{Message, RequestWriter, Response};
use cql::wire::{
    Consistency, Extensions, Frame, FrameDecoder, Framing, QueryParameters, Version, WireError,
};
use env::Env;
use env::net::TcpStream;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const VERSION: Version = Version::V4;
/// A larger answer is not read: what is asked here has small ones.
const ANSWER_BYTES_MAX: u32 = 16 << 20;
/// Rows of a statement's first and only page.
const PAGE_ROWS: u32 = 100;

/// Unavailable, overloaded, bootstrapping: surely not done, and perhaps later.
const REFUSED_FOR_NOW: std::ops::RangeInclusive<i32> = 0x1000..=0x1002;

/// Why a statement was not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientError {
    /// For operators.
    pub text: String,
    /// It was surely not carried out, and may be if it is asked again.
    pub is_passing: bool,
}

impl ClientError {
    fn new(text: impl Into<String>) -> ClientError {
        ClientError { text: text.into(), is_passing: false }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        ClientError::new(format!("what answers does not speak CQL: {}", error.message))
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        ClientError::new(error.to_string())
    }
}

/// Where a node that listens at `address` is reached on its own host.
pub(crate) fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// A connection on which statements can be run.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    decoder: FrameDecoder,
}

impl Client {
    /// Connects to a node that asks for no credentials.
    pub(crate) async fn connect(env: &Env, address: SocketAddr) -> Result<Client, ClientError> {
        let stream = env.net.connect(address).await?;
        let mut client = Client { stream, decoder: FrameDecoder::for_responses() };
        let frame = client.ask(|writer| writer.startup(&[("CQL_VERSION", "3.0.0")])).await?;
        match answer(&frame)? {
            Message::Ready => {
                client.decoder.started(VERSION, Framing::Plain, ANSWER_BYTES_MAX);
                Ok(client)
            }
            other => Err(ClientError::new(format!("STARTUP was answered with {other:?}"))),
        }
    }

    /// Runs a statement at QUORUM.
    pub(crate) async fn query(&mut self, text: &str) -> Result<(), ClientError> {
        let mut parameters = QueryParameters::with_consistency(Consistency::Quorum);
        parameters.page_size = Some(PAGE_ROWS);
        let frame = self.ask(|writer| writer.query(text, &parameters, &[])).await?;
        answer(&frame).map(|_| ())
    }

    async fn ask(&mut self, write: impl FnOnce(RequestWriter<'_>)) -> Result<Frame, ClientError> {
        let mut out = Vec::new();
        write(RequestWriter { out: &mut out, version: VERSION, stream: 0 });
        self.stream.write_all(&out).await?;
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            if self.stream.read_buf(self.decoder.read_buffer()).await? == 0 {
                return Err(ClientError::new("the node ends the connection"));
            }
        }
    }
}

/// The message of a frame; an ERROR is an error.
fn answer(frame: &Frame) -> Result<Message<'_>, ClientError> {
    match Response::parse(frame, Extensions::default())?.message {
        Message::Error { code, message, .. } => Err(ClientError {
            text: message.to_owned(),
            is_passing: REFUSED_FOR_NOW.contains(&code),
        }),
        message => Ok(message),
    }
}
