//! The null server: everything of a CQL server's way of a request, except for doing anything.
//!
//! `cargo run --release -p benches --example null_cql -- 9142`
//!
//! It reads as the node does (64 KiB at once, every frame of it executed, one write of all
//! answers), with the node's decoder, parser, partitioner and encoders. EXECUTE of a SELECT is
//! answered with one row that never changes, of any other statement with void. What it reaches is
//! what a server could reach at most, so the node's figures are given as a part of it.

#![expect(clippy::print_stdout, reason = "a program for the command line")]

use benches::dataset::{COLUMN_COUNT, VALUE_BYTES};
use cql::wire::{
    BindMetadata, ColumnSpec, ErrorBody, ErrorResponse, ErrorScope, FRAME_BODY_BYTES_MAX, Frame,
    FrameDecoder, Framing, OpenRows, Prepared, Request, ResponseHead, ResponseTooLarge,
    ResultMetadata, RowsHead, Value, Values, write_cell, write_prepared, write_ready,
    write_supported, write_void,
};
use model::CqlType;
use model::token::murmur3_token;
use std::cell::RefCell;
use std::future::poll_fn;
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Room for one read of a socket, shared by all connections.
const READ_BYTES: usize = 64 << 10;
/// The ids of the two statements that are told apart.
const SELECT_ID: [u8; 16] = [1; 16];
const OTHER_ID: [u8; 16] = [2; 16];

/// What all connections share.
struct Server {
    read_buffer: RefCell<Vec<u8>>,
    values: RefCell<Values>,
    select: Statement,
    other: Statement,
    cell: [u8; VALUE_BYTES],
}

struct Statement {
    bind: BindMetadata,
    result: ResultMetadata,
}

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(9142), |port| port.parse());
    let port: u16 = port.map_err(|_| io::Error::other("the argument is a port"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        println!("null server on {}", listener.local_addr()?);
        let server = Rc::new(Server::new());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(serve(server.clone(), stream));
        }
    })
}

/// Serves a connection until either side ends it.
async fn serve(server: Rc<Server>, stream: TcpStream) {
    let mut connection = Connection {
        server,
        stream,
        decoder: FrameDecoder::for_requests(),
        sending: Vec::new(),
        sent_bytes: 0,
    };
    poll_fn(|context| connection.poll(context)).await;
}

struct Connection {
    server: Rc<Server>,
    stream: TcpStream,
    decoder: FrameDecoder,
    sending: Vec<u8>,
    sent_bytes: usize,
}

impl Connection {
    /// One turn: read, execute, write.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let server = self.server.clone();
        let mut scratch = server.read_buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        let has_read = match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.decoder.feed(buffer.filled());
                if self.execute_frames().is_err() {
                    return Poll::Ready(());
                }
                true
            }
            Poll::Ready(_) => return Poll::Ready(()),
        };
        while self.sent_bytes < self.sending.len() {
            let rest = &self.sending[self.sent_bytes..];
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => self.sent_bytes += count,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        self.sending.clear();
        self.sent_bytes = 0;
        if has_read {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn execute_frames(&mut self) -> Result<(), ErrorScope> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.execute(&frame).map_err(|_| ErrorScope::Connection)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.scope),
            }
        }
    }

    fn execute(&mut self, frame: &Frame) -> Result<(), ResponseTooLarge> {
        let (server, out) = (&self.server, &mut self.sending);
        let head = ResponseHead::new(frame.header.version, frame.header.stream);
        let mut values = server.values.borrow_mut();
        let request = match Request::parse(frame, cql::wire::Extensions::default(), &mut values) {
            Ok(request) => request,
            Err(error) => {
                return ErrorResponse::new(ErrorBody::Protocol, error.message).write(out, &head);
            }
        };
        match request {
            Request::Execute { id, parameters, .. } => {
                if let Some(Value::Set(key)) = values.all().get(0) {
                    black_box(murmur3_token(key));
                }
                if id == SELECT_ID {
                    server.select.write_row(out, &head, parameters.skip_metadata, &server.cell)
                } else {
                    write_void(out, &head)
                }
            }
            Request::Prepare { text, .. } => {
                let is_select = text.starts_with("SELECT");
                let (id, statement) = if is_select {
                    (&SELECT_ID, &server.select)
                } else {
                    (&OTHER_ID, &server.other)
                };
                statement.write_prepared(out, &head, id)
            }
            Request::Startup(_) => {
                let version = frame.header.version;
                self.decoder.started(version, Framing::Plain, FRAME_BODY_BYTES_MAX);
                write_ready(out, &head)
            }
            Request::Options => {
                let options: [(&str, &[&str]); 2] =
                    [("CQL_VERSION", &["3.4.7"]), ("COMPRESSION", &[])];
                write_supported(out, &head, &options)
            }
            Request::Register(_) => write_ready(out, &head),
            Request::Query { .. } | Request::Batch { .. } => write_void(out, &head),
            Request::AuthResponse(_) => {
                ErrorResponse::new(ErrorBody::Protocol, "nobody asked for it").write(out, &head)
            }
        }
    }
}

impl Server {
    fn new() -> Self {
        let key = blob_column("key");
        let columns: Vec<_> = (0..COLUMN_COUNT).map(|c| blob_column(&format!("c{c}"))).collect();
        let all: Vec<_> = std::iter::once(key.clone()).chain(columns.clone()).collect();
        Server {
            read_buffer: RefCell::new(vec![0; READ_BYTES]),
            values: RefCell::default(),
            select: Statement {
                bind: BindMetadata::new(&[key], &[0]),
                result: ResultMetadata::new(&columns),
            },
            other: Statement {
                bind: BindMetadata::new(&all, &[0]),
                result: ResultMetadata::new(&[]),
            },
            cell: [7; VALUE_BYTES],
        }
    }
}

fn blob_column(name: &str) -> ColumnSpec {
    ColumnSpec {
        keyspace: "bench".into(),
        table: "rows".into(),
        name: name.into(),
        cql_type: CqlType::Blob,
    }
}

impl Statement {
    fn write_row(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        skip_metadata: bool,
        cell: &[u8],
    ) -> Result<(), ResponseTooLarge> {
        let rows = RowsHead { metadata: &self.result, skip_metadata, new_metadata_id: None };
        let mut open = OpenRows::begin(out, head, &rows);
        for _ in 0..COLUMN_COUNT {
            write_cell(out, Some(cell));
        }
        open.row_written();
        open.finish(out, None)
    }

    fn write_prepared(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        id: &[u8],
    ) -> Result<(), ResponseTooLarge> {
        let prepared = Prepared {
            id,
            result_metadata_id: None,
            bind: &self.bind,
            bind_flags: 0,
            result: &self.result,
        };
        write_prepared(out, head, &prepared)
    }
}
