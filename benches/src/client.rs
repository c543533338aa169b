//! One connection to a CQL server, blocking: what comes before the load.

#![expect(clippy::disallowed_methods, reason = "a measuring program opens its sockets itself")]

use cql::wire::client::{Message, PreparedStatement, RequestWriter, Response};
use cql::wire::{
    Consistency, Extensions, Frame, FrameDecoder, Framing, QueryParameters, Value, Version,
    WireError,
};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The protocol that is spoken: every server of the last ten years knows it.
pub const VERSION: Version = Version::V4;
/// How long a single answer may take; making a table can be slow.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest body taken from a server.
const BODY_BYTES_MAX: u32 = 16 << 20;

/// What went wrong, for people.
#[derive(Debug)]
pub struct ClientError(
    /// The text.
    pub String,
);

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ClientError {}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        ClientError(error.message.into_owned())
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError(error.to_string())
    }
}

/// A connection that has said STARTUP.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    decoder: FrameDecoder,
}

impl Client {
    /// Connects and says STARTUP. Servers that ask for credentials are refused.
    pub fn connect(address: SocketAddr) -> Result<Client, ClientError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut client = Client { stream, decoder: FrameDecoder::for_responses() };
        let frame = client.ask(|writer| writer.startup(&[("CQL_VERSION", "3.0.0")]))?;
        match answer(&frame)? {
            Message::Ready => {
                client.decoder.started(VERSION, Framing::Plain, BODY_BYTES_MAX);
                Ok(client)
            }
            other => Err(ClientError(format!("STARTUP was answered with {other:?}"))),
        }
    }

    /// Runs a statement without values.
    pub fn query(&mut self, text: &str) -> Result<(), ClientError> {
        let parameters = QueryParameters::with_consistency(Consistency::One);
        let frame = self.ask(|writer| writer.query(text, &parameters, &[]))?;
        answer(&frame).map(|_| ()).map_err(|error| ClientError(format!("{text}: {error}")))
    }

    /// The only cell that a statement gives.
    pub fn cell(&mut self, text: &str) -> Result<Vec<u8>, ClientError> {
        let parameters = QueryParameters::with_consistency(Consistency::One);
        let frame = self.ask(|writer| writer.query(text, &parameters, &[]))?;
        match answer(&frame)? {
            Message::Rows(rows) => match rows.cells.as_slice() {
                [Some(cell)] => Ok(cell.to_vec()),
                cells => Err(ClientError(format!("{text}: {} cells and not one", cells.len()))),
            },
            other => Err(ClientError(format!("{text} was answered with {other:?}"))),
        }
    }

    /// Prepares a statement and returns its id.
    pub fn prepare(&mut self, text: &str) -> Result<Vec<u8>, ClientError> {
        let frame = self.ask(|writer| writer.prepare(text, None))?;
        match answer(&frame) {
            Ok(Message::Prepared(PreparedStatement { id, .. })) => Ok(id.to_vec()),
            Ok(other) => Err(ClientError(format!("PREPARE was answered with {other:?}"))),
            Err(error) => Err(ClientError(format!("{text}: {error}"))),
        }
    }

    /// Runs a prepared statement.
    pub fn execute(
        &mut self,
        id: &[u8],
        parameters: &QueryParameters,
        values: &[Value<'_>],
    ) -> Result<(), ClientError> {
        let frame = self.ask(|writer| writer.execute(id, None, parameters, values))?;
        answer(&frame).map(|_| ())
    }

    /// The socket, with nothing unread.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn ask(&mut self, write: impl FnOnce(RequestWriter<'_>)) -> Result<Frame, ClientError> {
        let mut out = Vec::new();
        write(RequestWriter { out: &mut out, version: VERSION, stream: 0 });
        self.stream.write_all(&out)?;
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(ClientError("the server closed the connection".to_owned())),
                count => self.decoder.feed(&buffer[..count]),
            }
        }
    }
}

/// The message of a frame; an ERROR is an error.
fn answer(frame: &Frame) -> Result<Message<'_>, ClientError> {
    match Response::parse(frame, Extensions::default())?.message {
        Message::Error { code, message, .. } => {
            Err(ClientError(format!("error 0x{code:04x}: {message}")))
        }
        message => Ok(message),
    }
}
