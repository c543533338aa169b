//! Requests: a frame's body to a [`Request`].
//!
//! A request borrows its texts and ids from the frame; values go to a [`Values`] that the caller
//! reuses. What does not depend on the frame any more ([`QueryParameters`]) is owned, so that it
//! can travel to another shard together with the values. Bodies are understood as a whole:
//! trailing bytes, unknown flags and counts beyond the bytes left are errors of this one stream.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::Cursor;
use super::error::WireError;
use super::event::EventKind;
use super::extensions::Extensions;
use super::frame::{Frame, Opcode, Version, frame_flags};
use super::values::Values;
use model::Consistency;

/// A request from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'f> {
    /// Begins the connection.
    Startup(Startup<'f>),
    /// Asks for what the server supports.
    Options,
    /// Credentials; the token's form is the authenticator's matter.
    AuthResponse(Option<&'f [u8]>),
    /// Asks for events from here on.
    Register(Vec<EventKind>),
    /// Runs a statement; its values are in [`Values::all`].
    Query {
        /// CQL.
        text: &'f str,
        /// Everything else.
        parameters: QueryParameters,
    },
    /// Prepares a statement.
    Prepare {
        /// CQL.
        text: &'f str,
        /// The keyspace of unqualified names, if not that of the connection (v5).
        keyspace: Option<&'f str>,
    },
    /// Runs a prepared statement; its values are in [`Values::all`].
    Execute {
        /// The prepared statement.
        id: &'f [u8],
        /// The result metadata that the client knows (v5, or by extension).
        result_metadata_id: Option<&'f [u8]>,
        /// Everything else.
        parameters: QueryParameters,
    },
    /// Runs several statements as one.
    Batch {
        /// Logged, unlogged or of counters.
        kind: BatchKind,
        /// In the order given.
        statements: Vec<BatchStatement<'f>>,
        /// Everything else.
        parameters: QueryParameters,
    },
}

/// The options of STARTUP, in the order sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup<'f> {
    /// Key and value; keys as they were written.
    pub options: Vec<(&'f str, &'f str)>,
}

impl<'f> Startup<'f> {
    /// The value of a key, in any case; the last, if it was sent several times.
    pub fn get(&self, key: &str) -> Option<&'f str> {
        let matching = self.options.iter().rev().find(|(k, _)| k.eq_ignore_ascii_case(key));
        matching.map(|&(_, value)| value)
    }
}

/// Kinds of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// All statements or none.
    Logged,
    /// No promise over partitions.
    Unlogged,
    /// Counter updates.
    Counter,
}

/// One statement of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchStatement<'f> {
    /// What to run.
    pub source: StatementSource<'f>,
    /// Its values: for [`Values::range`].
    pub values: Range<usize>,
}

/// A statement in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementSource<'f> {
    /// CQL.
    Text(&'f str),
    /// The id of a prepared statement.
    Prepared(&'f [u8]),
}

/// How to run a statement, apart from its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParameters {
    /// Replicas that must answer.
    pub consistency: Consistency,
    /// The consistency of the conditional part, if given.
    pub serial_consistency: Option<Consistency>,
    /// The client knows the result's metadata.
    pub skip_metadata: bool,
    /// Rows per page, above zero; `None` for all at once.
    pub page_size: Option<u32>,
    /// Where to go on, as an earlier page said it.
    pub paging_state: Option<Bytes>,
    /// The timestamp of writes without their own, in microseconds.
    pub default_timestamp: Option<i64>,
    /// The keyspace of unqualified names, if not that of the connection (v5).
    pub keyspace: Option<Arc<str>>,
    /// The clock for expiry, in seconds since the Unix epoch (v5).
    pub now_in_seconds: Option<i32>,
}

impl QueryParameters {
    /// Nothing but a consistency level.
    pub fn with_consistency(consistency: Consistency) -> Self {
        QueryParameters {
            consistency,
            serial_consistency: None,
            skip_metadata: false,
            page_size: None,
            paging_state: None,
            default_timestamp: None,
            keyspace: None,
            now_in_seconds: None,
        }
    }
}

/// Bits of the flags of QUERY, EXECUTE and BATCH.
pub(crate) mod query_flags {
    pub(crate) const VALUES: u32 = 0x01;
    pub(crate) const SKIP_METADATA: u32 = 0x02;
    pub(crate) const PAGE_SIZE: u32 = 0x04;
    pub(crate) const PAGING_STATE: u32 = 0x08;
    pub(crate) const SERIAL_CONSISTENCY: u32 = 0x10;
    pub(crate) const DEFAULT_TIMESTAMP: u32 = 0x20;
    pub(crate) const NAMES: u32 = 0x40;
    pub(crate) const KEYSPACE: u32 = 0x80;
    pub(crate) const NOW_IN_SECONDS: u32 = 0x100;
    /// Those of v3 and v4.
    pub(crate) const KNOWN_V4: u32 = 0x7F;
    /// Those of v5.
    pub(crate) const KNOWN_V5: u32 = 0x1FF;
}

/// The only flag of PREPARE (v5): a keyspace follows.
pub(crate) const PREPARE_FLAG_KEYSPACE: u32 = 0x01;

impl<'f> Request<'f> {
    /// Reads the request in `frame`; bound values replace those in `values`.
    ///
    /// Errors are of this stream alone, and name it.
    pub fn parse(
        frame: &'f Frame,
        extensions: Extensions,
        values: &mut Values,
    ) -> Result<Self, WireError> {
        values.begin(&frame.body);
        let mut reader = Reader { frame, cursor: Cursor::new(&frame.body), extensions, values };
        reader.request().map_err(|error| error.on_stream(frame.header.stream))
    }
}

/// The state of reading one request.
struct Reader<'f, 'v> {
    frame: &'f Frame,
    cursor: Cursor<'f>,
    extensions: Extensions,
    values: &'v mut Values,
}

/// The two lengths of an entry of a string map.
const STRING_MAP_ENTRY_BYTES_MIN: usize = 4;
/// The length of a string.
const STRING_BYTES_MIN: usize = 2;
/// Kind, length of an id, number of values.
const BATCH_STATEMENT_BYTES_MIN: usize = 5;

impl<'f> Reader<'f, '_> {
    fn version(&self) -> Version {
        self.frame.header.version
    }

    fn request(&mut self) -> Result<Request<'f>, WireError> {
        let code = self.frame.header.opcode;
        if self.frame.header.has(frame_flags::CUSTOM_PAYLOAD) {
            if self.version() < Version::V4 {
                return Err(WireError::frame("custom payload: exists since v4"));
            }
            self.cursor.skip_bytes_map("custom payload")?;
        }
        let request = match Opcode::from_code(code) {
            Some(Opcode::Startup) => self.startup()?,
            Some(Opcode::Options) => Request::Options,
            Some(Opcode::AuthResponse) => {
                Request::AuthResponse(self.cursor.bytes("authentication token")?)
            }
            Some(Opcode::Register) => self.register()?,
            Some(Opcode::Query) => Request::Query {
                text: self.cursor.long_string("statement")?,
                parameters: self.parameters(ParametersOf::Statement)?,
            },
            Some(Opcode::Prepare) => self.prepare()?,
            Some(Opcode::Execute) => self.execute()?,
            Some(Opcode::Batch) => self.batch()?,
            Some(response) => {
                return Err(WireError::frame(format!("{response:?} is not a request")));
            }
            None => return Err(WireError::frame(format!("Unknown opcode {code}"))),
        };
        self.cursor.clone().finish()?;
        Ok(request)
    }

    fn startup(&mut self) -> Result<Request<'f>, WireError> {
        let count = self.cursor.count(STRING_MAP_ENTRY_BYTES_MIN, "number of options")?;
        let mut options = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.cursor.string("name of an option")?;
            options.push((key, self.cursor.string("value of an option")?));
        }
        Ok(Request::Startup(Startup { options }))
    }

    fn register(&mut self) -> Result<Request<'f>, WireError> {
        let count = self.cursor.count(STRING_BYTES_MIN, "number of event types")?;
        let mut kinds = Vec::new();
        for _ in 0..count {
            let name = self.cursor.string("event type")?;
            let kind = EventKind::from_name(name)
                .ok_or_else(|| WireError::frame(format!("Invalid value '{name}' for Type")))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(Request::Register(kinds))
    }

    fn prepare(&mut self) -> Result<Request<'f>, WireError> {
        let text = self.cursor.long_string("statement")?;
        if self.version() < Version::V5 {
            return Ok(Request::Prepare { text, keyspace: None });
        }
        let flags = u32::from_be_bytes(self.cursor.array("flags")?);
        refuse_unknown(flags, PREPARE_FLAG_KEYSPACE)?;
        let keyspace = match flags & PREPARE_FLAG_KEYSPACE {
            0 => None,
            _ => Some(self.cursor.string("keyspace")?),
        };
        Ok(Request::Prepare { text, keyspace })
    }

    fn execute(&mut self) -> Result<Request<'f>, WireError> {
        let id = self.cursor.short_bytes("prepared statement id")?;
        let has_metadata_id = self.extensions.has_result_metadata_id(self.version());
        let result_metadata_id = if has_metadata_id {
            Some(self.cursor.short_bytes("result metadata id")?)
        } else {
            None
        };
        let parameters = self.parameters(ParametersOf::Statement)?;
        Ok(Request::Execute { id, result_metadata_id, parameters })
    }

    fn batch(&mut self) -> Result<Request<'f>, WireError> {
        let kind = match self.cursor.byte("batch type")? {
            0 => BatchKind::Logged,
            1 => BatchKind::Unlogged,
            2 => BatchKind::Counter,
            other => return Err(WireError::frame(format!("Invalid batch type {other}"))),
        };
        let count = self.cursor.count(BATCH_STATEMENT_BYTES_MIN, "number of statements")?;
        let mut statements = Vec::with_capacity(count);
        for _ in 0..count {
            let source = match self.cursor.byte("kind of a statement")? {
                0 => StatementSource::Text(self.cursor.long_string("statement")?),
                1 => StatementSource::Prepared(self.cursor.short_bytes("prepared statement id")?),
                other => {
                    let message = format!("Invalid query kind in BATCH messages: {other}");
                    return Err(WireError::frame(message));
                }
            };
            let first = self.values.count();
            self.values.read(&mut self.cursor, self.frame.header.version, false)?;
            statements.push(BatchStatement { source, values: first..self.values.count() });
        }
        let parameters = self.parameters(ParametersOf::Batch)?;
        Ok(Request::Batch { kind, statements, parameters })
    }

    /// Consistency, flags, and what the flags announce, in the order of the protocol.
    fn parameters(&mut self, of: ParametersOf) -> Result<QueryParameters, WireError> {
        use query_flags as bits;
        let mut parameters = QueryParameters::with_consistency(self.cursor.consistency()?);
        let flags = self.flags()?;
        let has = |flag: u32| flags & flag != 0;
        match of {
            ParametersOf::Batch if has(bits::VALUES | bits::NAMES) => {
                return Err(WireError::frame("values of a batch belong to its statements"));
            }
            ParametersOf::Statement if has(bits::VALUES) => {
                self.values.read(&mut self.cursor, self.frame.header.version, has(bits::NAMES))?;
            }
            _ => {}
        }
        parameters.skip_metadata = has(bits::SKIP_METADATA);
        if has(bits::PAGE_SIZE) {
            // Cassandra's reading: a page size of zero or less asks for no paging.
            let size = u32::try_from(self.cursor.int("page size")?).ok();
            parameters.page_size = size.filter(|&rows| rows > 0);
        }
        if has(bits::PAGING_STATE) {
            let state = self.cursor.bytes("paging state")?;
            parameters.paging_state = state.map(|bytes| self.frame.body.slice_ref(bytes));
        }
        if has(bits::SERIAL_CONSISTENCY) {
            parameters.serial_consistency = Some(self.cursor.consistency()?);
        }
        if has(bits::DEFAULT_TIMESTAMP) {
            let micros = self.cursor.long("default timestamp")?;
            if micros == i64::MIN {
                // The value that stands for "no timestamp" inside Cassandra.
                return Err(WireError::frame(format!("Out of bound timestamp {micros}")));
            }
            parameters.default_timestamp = Some(micros);
        }
        if has(bits::KEYSPACE) {
            parameters.keyspace = Some(self.cursor.string("keyspace")?.into());
        }
        if has(bits::NOW_IN_SECONDS) {
            parameters.now_in_seconds = Some(self.cursor.int("now in seconds")?);
        }
        Ok(parameters)
    }

    /// A byte up to v4, an int from v5 on; unknown bits are refused, since what they announce
    /// would be read as something else.
    fn flags(&mut self) -> Result<u32, WireError> {
        let (flags, known) = if self.version() >= Version::V5 {
            (u32::from_be_bytes(self.cursor.array("flags")?), query_flags::KNOWN_V5)
        } else {
            (u32::from(self.cursor.byte("flags")?), query_flags::KNOWN_V4)
        };
        refuse_unknown(flags, known)?;
        Ok(flags)
    }
}

#[derive(Clone, Copy)]
enum ParametersOf {
    Statement,
    Batch,
}

fn refuse_unknown(flags: u32, known: u32) -> Result<(), WireError> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(WireError::frame(format!("unknown flags {unknown:#x}"))),
    }
}
