//! A CQL client inside the simulation: one connection, one request at a time.
//!
//! It promises that every request and every response is in the trace, and that an answer that
//! never comes is an error after [`ANSWER_TIMEOUT`].

use crate::statements::Statement;
use crate::trace::Trace;
use bytes::Bytes;
use cql::wire::client::{Message, RequestWriter, Response};
use cql::wire::{
    BatchKind, Compression, Consistency, Extensions, Frame, FrameDecoder, Framing, QueryParameters,
    StatementSource, Value, Version, WireError,
};
use env::net::TcpStream;
use env::{Clock, Entropy, Net};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a single answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to reach the node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client waits before it tries again to reach a node that is down.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Connections tried until a node counts as dead.
const RETRIES_MAX: u32 = 3_000;
const BODY_BYTES_MAX: u32 = 16 << 20;

/// Where a client lives: the world as it sees it.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub net: Net,
    pub clock: Clock,
    pub trace: Trace,
    pub node: SocketAddr,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The server said so: its code and text.
    Refused(i32, String),
    /// The connection broke, or nothing came.
    Lost(String),
}

impl ClientError {
    /// Whether the write was certainly not made: the codes of errors that promise it.
    pub(crate) fn is_not_applied(&self) -> bool {
        matches!(self, ClientError::Refused(0x1000..=0x1001 | 0x2000..=0x2500, _))
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Lost(error.to_string())
    }
}

impl From<WireError> for ClientError {
    fn from(error: WireError) -> Self {
        panic!("the server does not speak the protocol: {error:?}")
    }
}

/// Rows as they came, and where the next page begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
    pub paging_state: Option<Bytes>,
}

/// How a client speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialect {
    pub version: Version,
    pub compression: Compression,
}

impl Dialect {
    /// One of those that real drivers use.
    pub(crate) fn of(number: u64) -> Dialect {
        let version = [Version::V3, Version::V4, Version::V5][number as usize % 3];
        let is_compressed = number / 3 % 2 == 1;
        let compression = if is_compressed { Compression::Lz4 } else { Compression::None };
        Dialect { version, compression }
    }
}

/// A connection that has said STARTUP.
pub(crate) struct Client {
    home: Home,
    name: String,
    dialect: Dialect,
    stream: TcpStream,
    decoder: FrameDecoder,
    framing: Framing,
    prepared: BTreeMap<String, (Vec<u8>, Option<Vec<u8>>)>,
    next_stream: i16,
    /// The level of all that is asked.
    pub consistency: Consistency,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Client {
    /// Connects as soon as there is a node, and says STARTUP.
    pub(crate) async fn connect(home: &Home, name: &str, dialect: Dialect) -> Client {
        let mut failures = Vec::new();
        for _ in 0..RETRIES_MAX {
            match Client::connect_once(home, name, dialect).await {
                Ok(client) => return client,
                Err(error) => failures.push(format!("{error:?}")),
            }
            home.clock.sleep(RETRY_PAUSE).await;
        }
        panic!("{name}: no node to connect to: {:?}", failures.last());
    }

    /// Connects with any of these nodes, in any dialect, as soon as one serves.
    pub(crate) async fn connect_to_any(
        homes: &[Home],
        name: &str,
        entropy: &mut Entropy,
    ) -> Client {
        let mut last = None;
        for _ in 0..RETRIES_MAX {
            let home = &homes[entropy.below(homes.len() as u64) as usize];
            match Client::connect_once(home, name, Dialect::of(entropy.u64())).await {
                Ok(client) => return client,
                Err(error) => last = Some(error),
            }
            home.clock.sleep(RETRY_PAUSE).await;
        }
        panic!("{name}: no node to connect to: {last:?}");
    }

    /// Connects, if there is a node now.
    pub(crate) async fn connect_once(
        home: &Home,
        name: &str,
        dialect: Dialect,
    ) -> Result<Client, ClientError> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, home.net.connect(home.node));
        let Ok(stream) = connecting.await else {
            return Err(ClientError::Lost("the node cannot be reached".to_owned()));
        };
        let stream = stream?;
        let mut client = Client {
            home: home.clone(),
            name: name.to_owned(),
            dialect,
            stream,
            decoder: FrameDecoder::for_responses(),
            framing: Framing::Plain,
            prepared: BTreeMap::new(),
            next_stream: 0,
            consistency: Consistency::Quorum,
            patience: ANSWER_TIMEOUT,
        };
        let mut options = vec![("CQL_VERSION", "3.0.0")];
        if dialect.compression == Compression::Lz4 {
            options.push(("COMPRESSION", "lz4"));
        }
        let frame = client.ask("STARTUP", |writer| writer.startup(&options)).await?;
        assert!(matches!(message(&frame)?, Message::Ready), "STARTUP was answered otherwise");
        let framing = Framing::after_startup(dialect.version, dialect.compression);
        client.decoder.started(dialect.version, framing, BODY_BYTES_MAX);
        client.framing = framing;
        Ok(client)
    }

    /// Runs a statement by its text.
    pub(crate) async fn query(&mut self, text: &str) -> Result<Page, ClientError> {
        self.run(&Statement::of_text(text)).await
    }

    /// Runs a statement as it asks for: prepared or not, with its values.
    pub(crate) async fn run(&mut self, statement: &Statement) -> Result<Page, ClientError> {
        let mut parameters = QueryParameters::with_consistency(self.consistency);
        parameters.default_timestamp = statement.default_timestamp;
        self.run_with(statement, parameters).await
    }

    /// Sends so many thousandths of a statement's frame, never all of it. The connection is of no
    /// more use.
    pub(crate) async fn run_cut_off(&mut self, statement: &Statement, thousandths: usize) {
        let mut parameters = QueryParameters::with_consistency(self.consistency);
        parameters.default_timestamp = statement.default_timestamp;
        let values: Vec<Value<'_>> = statement.values.iter().map(|v| Value::Set(v)).collect();
        let (mut plain, mut packed) = (Vec::new(), Vec::new());
        let version = self.dialect.version;
        let writer = RequestWriter { out: &mut plain, version, stream: self.next_stream };
        writer.query(&statement.text, &parameters, &values);
        self.framing.pack(&plain, &mut packed);
        packed.truncate(packed.len() * thousandths / 1_000);
        self.note("> cut off", &packed);
        // Whether it arrives does not matter.
        self.stream.write_all(&packed).await.ok();
    }

    /// Reads all pages of a query.
    pub(crate) async fn read_all(&mut self, text: &str, rows: u32) -> Result<Page, ClientError> {
        let mut all = Page::default();
        loop {
            let page = self.read_page(text, rows, all.paging_state.take()).await?;
            all.columns = page.columns;
            all.rows.extend(page.rows);
            all.paging_state = page.paging_state;
            if all.paging_state.is_none() {
                return Ok(all);
            }
        }
    }

    /// Reads the page of a query that begins at this place, or the first.
    pub(crate) async fn read_page(
        &mut self,
        text: &str,
        rows: u32,
        paging_state: Option<Bytes>,
    ) -> Result<Page, ClientError> {
        let mut parameters = QueryParameters::with_consistency(self.consistency);
        parameters.page_size = Some(rows);
        parameters.paging_state = paging_state;
        self.run_with(&Statement::of_text(text), parameters).await
    }

    async fn run_with(
        &mut self,
        statement: &Statement,
        parameters: QueryParameters,
    ) -> Result<Page, ClientError> {
        let text = &*statement.text;
        let values: Vec<Value<'_>> = statement.values.iter().map(|v| Value::Set(v)).collect();
        let frame = if statement.is_prepared {
            let (id, metadata_id) = self.prepare(text).await?;
            let execute = |writer: RequestWriter<'_>| {
                writer.execute(&id, metadata_id.as_deref(), &parameters, &values);
            };
            self.ask(text, execute).await?
        } else {
            self.ask(text, |writer| writer.query(text, &parameters, &values)).await?
        };
        page(&frame)
    }

    /// Runs statements as one batch of the protocol.
    pub(crate) async fn batch(
        &mut self,
        kind: BatchKind,
        statements: &[Statement],
        default_timestamp: Option<i64>,
    ) -> Result<Page, ClientError> {
        let mut ids = Vec::new();
        for statement in statements {
            let is_prepared = statement.is_prepared;
            ids.push(if is_prepared { Some(self.prepare(&statement.text).await?.0) } else { None });
        }
        let values: Vec<Vec<Value<'_>>> = statements
            .iter()
            .map(|statement| statement.values.iter().map(|v| Value::Set(v)).collect())
            .collect();
        let parts: Vec<(StatementSource<'_>, &[Value<'_>])> = statements
            .iter()
            .zip(&ids)
            .zip(&values)
            .map(|((statement, id), values)| {
                let source = match id {
                    Some(id) => StatementSource::Prepared(id),
                    None => StatementSource::Text(&statement.text),
                };
                (source, values.as_slice())
            })
            .collect();
        let mut parameters = QueryParameters::with_consistency(self.consistency);
        parameters.default_timestamp = default_timestamp;
        let frame = self.ask("BATCH", |writer| writer.batch(kind, &parts, &parameters)).await?;
        page(&frame)
    }

    async fn prepare(&mut self, text: &str) -> Result<(Vec<u8>, Option<Vec<u8>>), ClientError> {
        if let Some(known) = self.prepared.get(text) {
            return Ok(known.clone());
        }
        let frame = self.ask(text, |writer| writer.prepare(text, None)).await?;
        let Message::Prepared(prepared) = message(&frame)? else {
            panic!("PREPARE was answered otherwise: {text}");
        };
        let ids = (prepared.id.to_vec(), prepared.result_metadata_id.map(<[u8]>::to_vec));
        self.prepared.insert(text.to_owned(), ids.clone());
        Ok(ids)
    }

    async fn ask(
        &mut self,
        what: &str,
        write: impl FnOnce(RequestWriter<'_>),
    ) -> Result<Frame, ClientError> {
        self.next_stream = (self.next_stream + 1) & 0x3ff;
        let stream = self.next_stream;
        let mut plain = Vec::new();
        write(RequestWriter { out: &mut plain, version: self.dialect.version, stream });
        let mut packed = Vec::new();
        self.framing.pack(&plain, &mut packed);
        self.note(&format!("> {what}"), &packed);
        let patience = self.patience;
        let exchange = async {
            self.stream.write_all(&packed).await?;
            self.receive().await
        };
        let frame = match tokio::time::timeout(patience, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(ClientError::Lost(format!("no answer to {what}"))),
        };
        assert_eq!(frame.header.stream, stream, "an answer to another request");
        self.note(&format!("< {:02x}", frame.header.opcode), &frame.body);
        Ok(frame)
    }

    async fn receive(&mut self) -> Result<Frame, ClientError> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(&mut buffer).await? {
                0 => return Err(ClientError::Lost("the connection was closed".to_owned())),
                count => self.decoder.feed(&buffer[..count]),
            }
        }
    }

    fn note(&self, what: &str, bytes: &[u8]) {
        self.home.trace.event(self.home.clock.now_micros(), &self.name, what, bytes);
    }
}

fn message(frame: &Frame) -> Result<Message<'_>, ClientError> {
    match Response::parse(frame, Extensions::default())?.message {
        Message::Error { code, message, .. } => Err(ClientError::Refused(code, message.to_owned())),
        message => Ok(message),
    }
}

fn page(frame: &Frame) -> Result<Page, ClientError> {
    let Message::Rows(rows) = message(frame)? else { return Ok(Page::default()) };
    let owned = |row: &[Option<&[u8]>]| row.iter().map(|cell| cell.map(<[u8]>::to_vec)).collect();
    Ok(Page {
        columns: rows.columns.iter().map(|column| column.name.to_owned()).collect(),
        rows: rows.rows().map(owned).collect(),
        paging_state: rows.paging_state.map(Bytes::copy_from_slice),
    })
}
