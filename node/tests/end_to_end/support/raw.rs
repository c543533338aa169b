//! A CQL connection byte by byte, for what no driver would send. Protocol v4, uncompressed.

use super::node::Node;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take before the node counts as hanging.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
const HEADER_BYTES: usize = 9;
/// The flag of a frame whose body begins with the id of a trace.
const TRACED: u8 = 2;
const TRACE_ID_BYTES: usize = 16;

/// What a node says to a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Any response that is not an error: its opcode and body.
    Frame(u8, Vec<u8>),
    /// An error's code and message.
    Error(u32, String),
    /// The node ended the connection.
    Closed,
}

/// A frame with an honest length.
pub(crate) fn frame(version: u8, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version, 0, 0, 1, opcode];
    bytes.extend(u32::try_from(body.len()).expect("a test's body").to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A connection.
pub(crate) struct Raw {
    pub stream: TcpStream,
    /// What stood behind the message of the last error.
    pub details: Vec<u8>,
}

impl Raw {
    /// Connected, and nothing said.
    pub(crate) fn connect(node: &Node) -> Raw {
        let stream = TcpStream::connect((node.ip(), node.cql_port())).expect("the node listens");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a socket takes it");
        stream.set_write_timeout(Some(ANSWER_TIME_MAX)).expect("a socket takes it");
        Raw { stream, details: Vec::new() }
    }

    /// Connected, and ready for requests.
    pub(crate) fn ready(node: &Node) -> Raw {
        let mut raw = Raw::connect(node);
        raw.send(&frame(4, 1, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0"));
        assert_eq!(raw.reply(), Reply::Frame(2, Vec::new()), "READY");
        raw
    }

    /// Sends what the node takes; that it hangs up instead is seen by [`Raw::reply`].
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The next response.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut header = [0; HEADER_BYTES];
        if !self.read(&mut header) {
            return Reply::Closed;
        }
        let length = u32::from_be_bytes(header[5..].try_into().expect("four bytes"));
        let mut body = vec![0; length as usize];
        if !self.read(&mut body) {
            return Reply::Closed;
        }
        if header[1] & TRACED != 0 {
            body.drain(..TRACE_ID_BYTES);
        }
        if header[4] != 0 {
            return Reply::Frame(header[4], body);
        }
        let code = u32::from_be_bytes(body[..4].try_into().expect("an error has a code"));
        let length = usize::from(u16::from_be_bytes([body[4], body[5]]));
        self.details = body[6 + length..].to_vec();
        Reply::Error(code, String::from_utf8(body[6..6 + length].to_vec()).expect("UTF-8"))
    }

    /// A statement without values at consistency ONE.
    pub(crate) fn query(&mut self, text: &str) -> Reply {
        let mut body = u32::try_from(text.len()).expect("a test's text").to_be_bytes().to_vec();
        body.extend(text.as_bytes());
        body.extend([0, 1, 0]);
        self.send(&frame(4, 7, &body));
        self.reply()
    }

    /// All rows of a statement at consistency ONE, or the error's code and message.
    pub(crate) fn rows(&mut self, text: &str) -> Result<Vec<Row>, (u32, String)> {
        self.rows_at(text, 1)
    }

    /// The same at another level.
    pub(crate) fn rows_at(&mut self, text: &str, level: u16) -> Result<Vec<Row>, (u32, String)> {
        const SKIP_METADATA: u8 = 2;
        let mut body = u32::try_from(text.len()).expect("a test's text").to_be_bytes().to_vec();
        body.extend(text.as_bytes());
        body.extend(level.to_be_bytes());
        body.push(SKIP_METADATA);
        self.send(&frame(4, 7, &body));
        match self.reply() {
            Reply::Frame(8, body) => Ok(rows_of(&body)),
            Reply::Error(code, message) => Err((code, message)),
            other => panic!("{text}: {other:?}"),
        }
    }

    /// The same, and it is no error.
    pub(crate) fn run(&mut self, text: &str) -> Vec<u8> {
        match self.query(text) {
            Reply::Frame(8, body) => body,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// Fills the buffer; false if the node hung up.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) => {
                let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!silent, "no answer within {ANSWER_TIME_MAX:?}");
                false
            }
        }
    }
}

/// The values of a row, serialized.
pub(crate) type Row = Vec<Option<Vec<u8>>>;

/// The rows of a result without metadata; none if it has none.
fn rows_of(body: &[u8]) -> Vec<Row> {
    let mut rest = body;
    let mut bytes = |count: usize| {
        let (head, tail) = rest.split_at(count);
        rest = tail;
        head.to_vec()
    };
    let mut int = || i32::from_be_bytes(bytes(4).try_into().expect("four bytes"));
    if int() != 2 {
        return Vec::new();
    }
    let (flags, columns) = (int(), int());
    assert!(flags & 2 == 0, "one page");
    let row_count = int();
    let mut rows = Vec::new();
    for _ in 0..row_count {
        let mut row = Row::new();
        for _ in 0..columns {
            let length = i32::from_be_bytes(bytes(4).try_into().expect("four bytes"));
            row.push(usize::try_from(length).ok().map(&mut bytes));
        }
        rows.push(row);
    }
    rows
}
