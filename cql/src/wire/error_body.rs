//! ERROR: every kind of error that a server can answer with.
//!
//! Kinds that a version does not know are sent as the nearest one that it does, as Cassandra does
//! it; [`ErrorBody::code`] is the only place that knows.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::encode::{
    put_count, put_inet_address, put_int, put_short, put_short_bytes, put_string, put_string_list,
};
use super::error::WireError;
use super::frame::{Opcode, Version};
use super::response::{OpenFrame, ResponseHead, ResponseTooLarge};
use super::write_type::WriteType;
use model::Consistency;

/// An error as the client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// For people; drivers look into some of the texts.
    pub message: Cow<'static, str>,
    /// For programs.
    pub body: ErrorBody,
}

/// The kinds of errors and what each carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorBody {
    /// Something went wrong in the server.
    Server,
    /// The client does not follow the protocol.
    Protocol,
    /// Wrong user or password.
    BadCredentials,
    /// Too few replicas are alive: nothing was tried.
    Unavailable {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas it needs.
        required: i32,
        /// Replicas known to be alive.
        alive: i32,
    },
    /// Too much work: nothing was tried; another node may be less busy.
    Overloaded,
    /// The node is not ready.
    Bootstrapping,
    /// TRUNCATE failed.
    Truncate,
    /// Not enough replicas answered a write in time; it may be applied.
    WriteTimeout {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: i32,
        /// Replicas that had to.
        required: i32,
        /// What was being written.
        write_type: WriteType,
        /// For conditional writes: how often another was in the way (v5).
        contention_count: u16,
    },
    /// Not enough replicas answered a read in time.
    ReadTimeout {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: i32,
        /// Replicas that had to.
        required: i32,
        /// Whether the replica asked for data answered.
        data_present: bool,
    },
    /// Replicas failed to read.
    ReadFailure {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: i32,
        /// Replicas that had to.
        required: i32,
        /// Those that failed, each with a reason code; a v4 client gets their number.
        failures: Vec<(IpAddr, u16)>,
        /// Whether the replica asked for data answered.
        data_present: bool,
    },
    /// A user's function failed.
    FunctionFailure {
        /// Its keyspace.
        keyspace: Arc<str>,
        /// Its name.
        function: Arc<str>,
        /// CQL types of its arguments.
        argument_types: Vec<String>,
    },
    /// Replicas failed to write; others may have written.
    WriteFailure {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: i32,
        /// Replicas that had to.
        required: i32,
        /// Those that failed, each with a reason code; a v4 client gets their number.
        failures: Vec<(IpAddr, u16)>,
        /// What was being written.
        write_type: WriteType,
    },
    /// The change could not be logged, and so was not made.
    CdcWriteFailure,
    /// Whether a conditional write was applied is not known.
    CasWriteUnknown {
        /// The level asked for.
        consistency: Consistency,
        /// Replicas that answered.
        received: i32,
        /// Replicas that had to.
        required: i32,
    },
    /// The statement is not CQL.
    Syntax,
    /// The user may not do this.
    Unauthorized,
    /// The statement is CQL, but does not fit the schema or the rules.
    Invalid,
    /// Something about the configuration of a keyspace, a table or the server.
    Config,
    /// The keyspace or table to create is there.
    AlreadyExists {
        /// The keyspace.
        keyspace: Arc<str>,
        /// The table; empty if the keyspace was to be created.
        table: Arc<str>,
    },
    /// No prepared statement has this id: prepare again.
    Unprepared {
        /// The id.
        id: Bytes,
    },
    /// A limit of requests per second was reached; nothing was tried.
    RateLimit {
        /// The code agreed on with this client: [`super::Extensions::rate_limit_code`].
        code: Option<i32>,
        /// Whether it was a write.
        is_write: bool,
        /// Whether the coordinator refused, and not the replicas.
        by_coordinator: bool,
    },
}

impl ErrorResponse {
    /// An error.
    pub fn new(body: ErrorBody, message: impl Into<Cow<'static, str>>) -> Self {
        ErrorResponse { message: message.into(), body }
    }

    /// An error of a statement that does not fit the schema or the rules.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorBody::Invalid, message)
    }

    /// Appends the frame. It is too large only with absurdly many failures or argument types.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        head: &ResponseHead<'_>,
    ) -> Result<(), ResponseTooLarge> {
        let frame = OpenFrame::begin(out, head, Opcode::Error);
        put_int(out, self.body.code(head.version));
        put_string(out, &self.message);
        self.body.write(out, head.version);
        frame.finish(out)
    }
}

impl From<WireError> for ErrorResponse {
    fn from(error: WireError) -> Self {
        ErrorResponse { message: error.message, body: ErrorBody::Protocol }
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorResponse {}

mod code {
    pub(super) const SERVER: i32 = 0x0000;
    pub(super) const PROTOCOL: i32 = 0x000A;
    pub(super) const BAD_CREDENTIALS: i32 = 0x0100;
    pub(super) const UNAVAILABLE: i32 = 0x1000;
    pub(super) const OVERLOADED: i32 = 0x1001;
    pub(super) const BOOTSTRAPPING: i32 = 0x1002;
    pub(super) const TRUNCATE: i32 = 0x1003;
    pub(super) const WRITE_TIMEOUT: i32 = 0x1100;
    pub(super) const READ_TIMEOUT: i32 = 0x1200;
    pub(super) const READ_FAILURE: i32 = 0x1300;
    pub(super) const FUNCTION_FAILURE: i32 = 0x1400;
    pub(super) const WRITE_FAILURE: i32 = 0x1500;
    pub(super) const CDC_WRITE_FAILURE: i32 = 0x1600;
    pub(super) const CAS_WRITE_UNKNOWN: i32 = 0x1700;
    pub(super) const SYNTAX: i32 = 0x2000;
    pub(super) const UNAUTHORIZED: i32 = 0x2100;
    pub(super) const INVALID: i32 = 0x2200;
    pub(super) const CONFIG: i32 = 0x2300;
    pub(super) const ALREADY_EXISTS: i32 = 0x2400;
    pub(super) const UNPREPARED: i32 = 0x2500;
}

impl ErrorBody {
    /// The code that a client of this version gets.
    pub fn code(&self, version: Version) -> i32 {
        let is_v3 = version == Version::V3;
        match self {
            ErrorBody::Server => code::SERVER,
            ErrorBody::Protocol => code::PROTOCOL,
            ErrorBody::BadCredentials => code::BAD_CREDENTIALS,
            ErrorBody::Unavailable { .. } => code::UNAVAILABLE,
            ErrorBody::Overloaded => code::OVERLOADED,
            ErrorBody::Bootstrapping => code::BOOTSTRAPPING,
            ErrorBody::Truncate => code::TRUNCATE,
            ErrorBody::WriteTimeout { .. } => code::WRITE_TIMEOUT,
            ErrorBody::ReadTimeout { .. } => code::READ_TIMEOUT,
            ErrorBody::ReadFailure { .. } if is_v3 => code::READ_TIMEOUT,
            ErrorBody::ReadFailure { .. } => code::READ_FAILURE,
            ErrorBody::FunctionFailure { .. } | ErrorBody::CdcWriteFailure if is_v3 => {
                code::INVALID
            }
            ErrorBody::FunctionFailure { .. } => code::FUNCTION_FAILURE,
            ErrorBody::WriteFailure { .. } if is_v3 => code::WRITE_TIMEOUT,
            ErrorBody::WriteFailure { .. } => code::WRITE_FAILURE,
            ErrorBody::CdcWriteFailure => code::CDC_WRITE_FAILURE,
            ErrorBody::CasWriteUnknown { .. } if version < Version::V5 => code::WRITE_TIMEOUT,
            ErrorBody::CasWriteUnknown { .. } => code::CAS_WRITE_UNKNOWN,
            ErrorBody::Syntax => code::SYNTAX,
            ErrorBody::Unauthorized => code::UNAUTHORIZED,
            ErrorBody::Invalid => code::INVALID,
            ErrorBody::Config => code::CONFIG,
            ErrorBody::AlreadyExists { .. } => code::ALREADY_EXISTS,
            ErrorBody::Unprepared { .. } => code::UNPREPARED,
            ErrorBody::RateLimit { code, .. } => code.unwrap_or(code::CONFIG),
        }
    }

    fn write(&self, out: &mut Vec<u8>, version: Version) {
        match self {
            ErrorBody::Unavailable { consistency, required, alive } => {
                put_counts(out, *consistency, *required, *alive);
            }
            ErrorBody::WriteTimeout {
                consistency,
                received,
                required,
                write_type,
                contention_count,
            } => {
                put_counts(out, *consistency, *received, *required);
                put_string(out, write_type.name());
                if *write_type == WriteType::Cas && version >= Version::V5 {
                    put_short(out, *contention_count);
                }
            }
            ErrorBody::ReadTimeout { consistency, received, required, data_present } => {
                put_counts(out, *consistency, *received, *required);
                out.push(u8::from(*data_present));
            }
            ErrorBody::ReadFailure { consistency, received, required, failures, data_present } => {
                put_counts(out, *consistency, *received, *required);
                put_failures(out, failures, version);
                out.push(u8::from(*data_present));
            }
            ErrorBody::WriteFailure { consistency, received, required, failures, write_type } => {
                put_counts(out, *consistency, *received, *required);
                put_failures(out, failures, version);
                put_string(out, write_type.name());
            }
            ErrorBody::CasWriteUnknown { consistency, received, required } => {
                put_counts(out, *consistency, *received, *required);
                if version < Version::V5 {
                    put_string(out, WriteType::Cas.name());
                }
            }
            ErrorBody::FunctionFailure { keyspace, function, argument_types }
                if version >= Version::V4 =>
            {
                put_string(out, keyspace);
                put_string(out, function);
                put_string_list(out, argument_types);
            }
            ErrorBody::AlreadyExists { keyspace, table } => {
                put_string(out, keyspace);
                put_string(out, table);
            }
            ErrorBody::Unprepared { id } => put_short_bytes(out, id),
            ErrorBody::RateLimit { code: Some(_), is_write, by_coordinator } => {
                out.extend_from_slice(&[u8::from(*is_write), u8::from(*by_coordinator)]);
            }
            ErrorBody::Server
            | ErrorBody::Protocol
            | ErrorBody::BadCredentials
            | ErrorBody::Overloaded
            | ErrorBody::Bootstrapping
            | ErrorBody::Truncate
            | ErrorBody::FunctionFailure { .. }
            | ErrorBody::CdcWriteFailure
            | ErrorBody::Syntax
            | ErrorBody::Unauthorized
            | ErrorBody::Invalid
            | ErrorBody::Config
            | ErrorBody::RateLimit { code: None, .. } => {}
        }
    }
}

fn put_counts(out: &mut Vec<u8>, consistency: Consistency, first: i32, second: i32) {
    put_short(out, consistency.code());
    put_int(out, first);
    put_int(out, second);
}

/// Nothing in v3, which gets a time-out instead; a number in v4; who and why in v5.
fn put_failures(out: &mut Vec<u8>, failures: &[(IpAddr, u16)], version: Version) {
    match version {
        Version::V3 => {}
        Version::V4 => put_count(out, failures.len()),
        Version::V5 => {
            put_count(out, failures.len());
            for &(address, reason) in failures {
                put_inet_address(out, address);
                put_short(out, reason);
            }
        }
    }
}
