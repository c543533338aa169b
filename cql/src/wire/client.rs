//! The client's side of the protocol: requests out, responses in.
//!
//! For load generators and tests. It reads what they need to check an answer: errors, rows cell by
//! cell, what a prepared statement looks like. Values stay bytes. Compression and segments are the
//! same in both directions ([`super::FrameDecoder::for_responses`]).

use super::cursor::{Cursor, RawValue};
use super::encode::{
    patch_int, put_bytes, put_flags, put_int, put_short, put_short_bytes, put_string,
    put_string_list,
};
use super::error::WireError;
use super::event::EventKind;
use super::extensions::Extensions;
use super::frame::{Direction, Frame, FrameHeader, HEADER_BYTES, Opcode, Version, frame_flags};
use super::metadata::metadata_flags;
use super::request::{
    BatchKind, PREPARE_FLAG_KEYSPACE, QueryParameters, StatementSource, query_flags,
};
use super::response::result_kind;
use super::values::Value;

/// Where a request goes: appended to `out` with this version and stream.
#[derive(Debug)]
pub struct RequestWriter<'o> {
    /// The buffer that is sent.
    pub out: &'o mut Vec<u8>,
    /// The version of the connection.
    pub version: Version,
    /// The stream that the response will name.
    pub stream: i16,
}

impl RequestWriter<'_> {
    fn frame(&mut self, opcode: Opcode, write_body: impl FnOnce(&mut Vec<u8>)) {
        let header = FrameHeader {
            version: self.version,
            direction: Direction::Request,
            flags: 0,
            stream: self.stream,
            opcode: opcode.code(),
            body_bytes: 0,
        };
        let start = self.out.len();
        self.out.extend_from_slice(&header.encode());
        write_body(self.out);
        let body_bytes = self.out.len() - start - HEADER_BYTES;
        let body_bytes = u32::try_from(body_bytes).expect("requests are built by our own tools");
        patch_int(self.out, start + HEADER_BYTES - 4, body_bytes);
    }

    /// OPTIONS.
    pub fn options(mut self) {
        self.frame(Opcode::Options, |_| {});
    }

    /// STARTUP; `CQL_VERSION` must be among the options.
    pub fn startup(mut self, options: &[(&str, &str)]) {
        self.frame(Opcode::Startup, |out| {
            put_short(out, u16::try_from(options.len()).unwrap_or(u16::MAX));
            for (key, value) in options {
                put_string(out, key);
                put_string(out, value);
            }
        });
    }

    /// AUTH_RESPONSE.
    pub fn auth_response(mut self, token: Option<&[u8]>) {
        self.frame(Opcode::AuthResponse, |out| put_bytes(out, token));
    }

    /// REGISTER.
    pub fn register(mut self, kinds: &[EventKind]) {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        self.frame(Opcode::Register, |out| put_string_list(out, &names));
    }

    /// QUERY with values by position.
    pub fn query(mut self, text: &str, parameters: &QueryParameters, values: &[Value<'_>]) {
        let version = self.version;
        self.frame(Opcode::Query, |out| {
            put_bytes(out, Some(text.as_bytes()));
            put_parameters(out, version, parameters, values);
        });
    }

    /// PREPARE; the keyspace is sent on v5.
    pub fn prepare(mut self, text: &str, keyspace: Option<&str>) {
        let version = self.version;
        self.frame(Opcode::Prepare, |out| {
            put_bytes(out, Some(text.as_bytes()));
            if version >= Version::V5 {
                put_flags(out, if keyspace.is_some() { PREPARE_FLAG_KEYSPACE } else { 0 });
                if let Some(keyspace) = keyspace {
                    put_string(out, keyspace);
                }
            }
        });
    }

    /// EXECUTE; the metadata id is what PREPARED said, where it said one.
    pub fn execute(
        mut self,
        id: &[u8],
        result_metadata_id: Option<&[u8]>,
        parameters: &QueryParameters,
        values: &[Value<'_>],
    ) {
        let version = self.version;
        self.frame(Opcode::Execute, |out| {
            put_short_bytes(out, id);
            if let Some(id) = result_metadata_id {
                put_short_bytes(out, id);
            }
            put_parameters(out, version, parameters, values);
        });
    }

    /// BATCH.
    pub fn batch(
        mut self,
        kind: BatchKind,
        statements: &[(StatementSource<'_>, &[Value<'_>])],
        parameters: &QueryParameters,
    ) {
        let version = self.version;
        self.frame(Opcode::Batch, |out| {
            out.push(match kind {
                BatchKind::Logged => 0,
                BatchKind::Unlogged => 1,
                BatchKind::Counter => 2,
            });
            put_short(out, u16::try_from(statements.len()).unwrap_or(u16::MAX));
            for (source, values) in statements {
                match source {
                    StatementSource::Text(text) => {
                        out.push(0);
                        put_bytes(out, Some(text.as_bytes()));
                    }
                    StatementSource::Prepared(id) => {
                        out.push(1);
                        put_short_bytes(out, id);
                    }
                }
                put_values(out, values);
            }
            put_parameters(out, version, parameters, &[]);
        });
    }
}

fn put_values(out: &mut Vec<u8>, values: &[Value<'_>]) {
    put_short(out, u16::try_from(values.len()).unwrap_or(u16::MAX));
    for value in values {
        match value {
            Value::Set(bytes) => put_bytes(out, Some(bytes)),
            Value::Null => put_int(out, -1),
            Value::Unset => put_int(out, -2),
        }
    }
}

fn put_parameters(
    out: &mut Vec<u8>,
    version: Version,
    parameters: &QueryParameters,
    values: &[Value<'_>],
) {
    use query_flags as bits;
    let flags = [
        (!values.is_empty(), bits::VALUES),
        (parameters.skip_metadata, bits::SKIP_METADATA),
        (parameters.page_size.is_some(), bits::PAGE_SIZE),
        (parameters.paging_state.is_some(), bits::PAGING_STATE),
        (parameters.serial_consistency.is_some(), bits::SERIAL_CONSISTENCY),
        (parameters.default_timestamp.is_some(), bits::DEFAULT_TIMESTAMP),
        (parameters.keyspace.is_some(), bits::KEYSPACE),
        (parameters.now_in_seconds.is_some(), bits::NOW_IN_SECONDS),
    ];
    let flags = flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, bit)| all | bit);
    put_short(out, parameters.consistency.code());
    match u8::try_from(flags) {
        Ok(flags) if version < Version::V5 => out.push(flags),
        _ => put_flags(out, flags),
    }
    if !values.is_empty() {
        put_values(out, values);
    }
    if let Some(rows) = parameters.page_size {
        put_int(out, i32::try_from(rows).unwrap_or(i32::MAX));
    }
    if let Some(state) = &parameters.paging_state {
        put_bytes(out, Some(state));
    }
    if let Some(level) = parameters.serial_consistency {
        put_short(out, level.code());
    }
    if let Some(micros) = parameters.default_timestamp {
        out.extend_from_slice(&micros.to_be_bytes());
    }
    if let Some(keyspace) = &parameters.keyspace {
        put_string(out, keyspace);
    }
    if let Some(seconds) = parameters.now_in_seconds {
        put_int(out, seconds);
    }
}

/// A response with what precedes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response<'f> {
    /// The tracing session.
    pub tracing_id: Option<[u8; 16]>,
    /// Warnings.
    pub warnings: Vec<&'f str>,
    /// Keys and values; a value may be null.
    pub custom_payload: Vec<(&'f str, Option<&'f [u8]>)>,
    /// The message.
    pub message: Message<'f>,
}

/// A response's message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'f> {
    /// ERROR.
    Error {
        /// The kind.
        code: i32,
        /// For people.
        message: &'f str,
        /// What the kind adds, as it was sent.
        details: &'f [u8],
    },
    /// READY.
    Ready,
    /// AUTHENTICATE and the authenticator's class.
    Authenticate(&'f str),
    /// AUTH_CHALLENGE and its token.
    AuthChallenge(Option<&'f [u8]>),
    /// AUTH_SUCCESS and its token.
    AuthSuccess(Option<&'f [u8]>),
    /// SUPPORTED: keys and values.
    Supported(Vec<(&'f str, Vec<&'f str>)>),
    /// RESULT without anything.
    Void,
    /// RESULT with rows.
    Rows(Rows<'f>),
    /// RESULT of USE.
    SetKeyspace(&'f str),
    /// RESULT of PREPARE.
    Prepared(PreparedStatement<'f>),
    /// RESULT of a schema statement.
    SchemaChange(Vec<&'f str>),
    /// EVENT of status or topology: kind, change, address, port.
    NodeEvent(&'f str, &'f str, &'f [u8], i32),
    /// EVENT of the schema: change, target, keyspace, then name and argument types if any.
    SchemaEvent(Vec<&'f str>),
}

/// What PREPARED says.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedStatement<'f> {
    /// For EXECUTE.
    pub id: &'f [u8],
    /// For EXECUTE, on v5 or by extension.
    pub result_metadata_id: Option<&'f [u8]>,
    /// The flags of the markers' metadata.
    pub bind_flags: u32,
    /// The markers that bind the partition key (v4+).
    pub partition_key_markers: Vec<u16>,
    /// The markers.
    pub markers: Vec<Column<'f>>,
    /// The columns of the result.
    pub columns: Vec<Column<'f>>,
}

/// A column as it was described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column<'f> {
    /// Its keyspace.
    pub keyspace: &'f str,
    /// Its table.
    pub table: &'f str,
    /// Its name.
    pub name: &'f str,
    /// Its type as it was encoded.
    pub encoded_type: &'f [u8],
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<'f> {
    /// The columns; none if the request said to skip them.
    pub columns: Vec<Column<'f>>,
    /// How many cells a row has.
    pub column_count: usize,
    /// Where the next page begins, if there is one.
    pub paging_state: Option<&'f [u8]>,
    /// The new id of the metadata, if it changed.
    pub new_metadata_id: Option<&'f [u8]>,
    /// How many rows.
    pub row_count: usize,
    /// All cells, row by row; `None` is null.
    pub cells: Vec<Option<&'f [u8]>>,
}

impl<'f> Rows<'f> {
    /// The cells of each row.
    pub fn rows(&self) -> impl Iterator<Item = &[Option<&'f [u8]>]> {
        self.cells.chunks(self.column_count.max(1))
    }
}

/// Nesting of types that is read before a response is taken for broken.
const TYPE_DEPTH_MAX: u32 = 32;

impl<'f> Response<'f> {
    /// Reads the response in `frame`.
    pub fn parse(frame: &'f Frame, extensions: Extensions) -> Result<Self, WireError> {
        let header = &frame.header;
        let mut cursor = Cursor::new(&frame.body);
        let tracing_id =
            if header.has(frame_flags::TRACING) { Some(cursor.array("tracing id")?) } else { None };
        let warnings =
            if header.has(frame_flags::WARNING) { strings(&mut cursor)? } else { Vec::new() };
        let mut custom_payload = Vec::new();
        if header.has(frame_flags::CUSTOM_PAYLOAD) {
            for _ in 0..cursor.short("custom payload")? {
                custom_payload.push((cursor.string("key")?, cursor.bytes("value")?));
            }
        }
        let message = message(&mut cursor, header, extensions)?;
        cursor.finish()?;
        Ok(Response { tracing_id, warnings, custom_payload, message })
    }
}

fn message<'f>(
    cursor: &mut Cursor<'f>,
    header: &FrameHeader,
    extensions: Extensions,
) -> Result<Message<'f>, WireError> {
    Ok(match Opcode::from_code(header.opcode) {
        Some(Opcode::Error) => {
            let code = cursor.int("error code")?;
            let message = cursor.string("error message")?;
            let details = cursor.take(cursor.bytes_left(), "details")?;
            Message::Error { code, message, details }
        }
        Some(Opcode::Ready) => Message::Ready,
        Some(Opcode::Authenticate) => Message::Authenticate(cursor.string("class")?),
        Some(Opcode::AuthChallenge) => Message::AuthChallenge(cursor.bytes("token")?),
        Some(Opcode::AuthSuccess) => Message::AuthSuccess(cursor.bytes("token")?),
        Some(Opcode::Supported) => {
            let mut options = Vec::new();
            for _ in 0..cursor.short("number of options")? {
                options.push((cursor.string("option")?, strings(cursor)?));
            }
            Message::Supported(options)
        }
        Some(Opcode::Event) => match cursor.string("event type")? {
            "SCHEMA_CHANGE" => Message::SchemaEvent(schema_change(cursor)?),
            kind => {
                let change = cursor.string("change")?;
                let address_bytes = usize::from(cursor.byte("address length")?);
                let address = cursor.take(address_bytes, "address")?;
                Message::NodeEvent(kind, change, address, cursor.int("port")?)
            }
        },
        Some(Opcode::Result) => match cursor.int("result kind")? {
            result_kind::VOID => Message::Void,
            result_kind::ROWS => Message::Rows(rows(cursor)?),
            result_kind::SET_KEYSPACE => Message::SetKeyspace(cursor.string("keyspace")?),
            result_kind::PREPARED => {
                Message::Prepared(prepared(cursor, header.version, extensions)?)
            }
            result_kind::SCHEMA_CHANGE => Message::SchemaChange(schema_change(cursor)?),
            other => return Err(WireError::frame(format!("unknown result kind {other}"))),
        },
        _ => return Err(WireError::frame(format!("opcode {} is no response", header.opcode))),
    })
}

fn strings<'f>(cursor: &mut Cursor<'f>) -> Result<Vec<&'f str>, WireError> {
    (0..cursor.short("number of strings")?).map(|_| cursor.string("string")).collect()
}

/// Change, target, keyspace, and then what the target has: a name, argument types.
fn schema_change<'f>(cursor: &mut Cursor<'f>) -> Result<Vec<&'f str>, WireError> {
    let mut parts =
        vec![cursor.string("change")?, cursor.string("target")?, cursor.string("keyspace")?];
    if cursor.bytes_left() > 0 {
        parts.push(cursor.string("name")?);
    }
    if cursor.bytes_left() > 0 {
        parts.extend(strings(cursor)?);
    }
    Ok(parts)
}

fn prepared<'f>(
    cursor: &mut Cursor<'f>,
    version: Version,
    extensions: Extensions,
) -> Result<PreparedStatement<'f>, WireError> {
    let id = cursor.short_bytes("prepared statement id")?;
    let result_metadata_id = if extensions.has_result_metadata_id(version) {
        Some(cursor.short_bytes("result metadata id")?)
    } else {
        None
    };
    let bind_flags = flags(cursor)?;
    let marker_count = size(cursor, "number of markers")?;
    let mut partition_key_markers = Vec::new();
    if version >= Version::V4 {
        for _ in 0..size(cursor, "number of partition key markers")? {
            partition_key_markers.push(cursor.short("partition key marker")?);
        }
    }
    let markers = columns(cursor, bind_flags, marker_count)?;
    let result_flags = flags(cursor)?;
    let column_count = size(cursor, "number of columns")?;
    let columns = columns(cursor, result_flags, column_count)?;
    Ok(PreparedStatement {
        id,
        result_metadata_id,
        bind_flags,
        partition_key_markers,
        markers,
        columns,
    })
}

fn rows<'f>(cursor: &mut Cursor<'f>) -> Result<Rows<'f>, WireError> {
    let flags = flags(cursor)?;
    let has = |flag| flags & flag != 0;
    let column_count = size(cursor, "number of columns")?;
    let paging_state =
        if has(metadata_flags::HAS_MORE_PAGES) { cursor.bytes("paging state")? } else { None };
    let new_metadata_id = if has(metadata_flags::METADATA_CHANGED) {
        Some(cursor.short_bytes("metadata id")?)
    } else {
        None
    };
    let columns = columns(cursor, flags, column_count)?;
    let row_count = size(cursor, "number of rows")?;
    if row_count.saturating_mul(column_count).saturating_mul(4) > cursor.bytes_left() {
        return Err(WireError::frame("more rows than bytes"));
    }
    let mut cells = Vec::with_capacity(row_count * column_count);
    for _ in 0..row_count * column_count {
        cells.push(match cursor.value()? {
            RawValue::Set(bytes) => Some(bytes),
            RawValue::Null => None,
            RawValue::Unset => return Err(WireError::frame("unset cell in a result")),
        });
    }
    Ok(Rows { columns, column_count, paging_state, new_metadata_id, row_count, cells })
}

fn columns<'f>(
    cursor: &mut Cursor<'f>,
    flags: u32,
    count: usize,
) -> Result<Vec<Column<'f>>, WireError> {
    if flags & metadata_flags::NO_METADATA != 0 {
        return Ok(Vec::new());
    }
    let one_table = if flags & metadata_flags::GLOBAL_TABLE_SPEC != 0 {
        Some((cursor.string("keyspace")?, cursor.string("table")?))
    } else {
        None
    };
    let mut columns = Vec::new();
    for _ in 0..count {
        let (keyspace, table) = match one_table {
            Some(table) => table,
            None => (cursor.string("keyspace")?, cursor.string("table")?),
        };
        let name = cursor.string("column name")?;
        let before = cursor.clone();
        let start = cursor.position();
        skip_type(cursor, TYPE_DEPTH_MAX)?;
        let encoded_type = before.clone().take(cursor.position() - start, "type")?;
        columns.push(Column { keyspace, table, name, encoded_type });
    }
    Ok(columns)
}

fn skip_type(cursor: &mut Cursor<'_>, depth_left: u32) -> Result<(), WireError> {
    let depth_left =
        depth_left.checked_sub(1).ok_or_else(|| WireError::frame("type nested too deeply"))?;
    match cursor.short("type")? {
        0x00 => cursor.string("class of a custom type").map(|_| ()),
        0x20 | 0x22 => skip_type(cursor, depth_left),
        0x21 => {
            skip_type(cursor, depth_left)?;
            skip_type(cursor, depth_left)
        }
        0x30 => {
            cursor.string("keyspace of a user type")?;
            cursor.string("name of a user type")?;
            for _ in 0..cursor.short("number of fields")? {
                cursor.string("name of a field")?;
                skip_type(cursor, depth_left)?;
            }
            Ok(())
        }
        0x31 => {
            (0..cursor.short("number of fields")?).try_for_each(|_| skip_type(cursor, depth_left))
        }
        _ => Ok(()),
    }
}

fn flags(cursor: &mut Cursor<'_>) -> Result<u32, WireError> {
    Ok(u32::from_be_bytes(cursor.array("flags")?))
}

fn size(cursor: &mut Cursor<'_>, what: &str) -> Result<usize, WireError> {
    let size = cursor.int(what)?;
    usize::try_from(size).map_err(|_| WireError::frame(format!("the {what} is {size}")))
}
