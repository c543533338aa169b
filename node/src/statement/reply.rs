//! The answer to one request: where it goes, and what comes along with it.

use crate::connection::Session;
use crate::coordinator::CoordinatorError;
use crate::metadata::DdlError;
use crate::shard::{ReadError, Shard, WriteError};
use crate::traces::TraceStart;
use cql::plan::{ErrorKind, PlanError};
use cql::wire::{
    Consistency, ErrorBody, ErrorResponse, FrameHeader, Request, ResponseHead, ResponseTooLarge,
    SchemaChange, Version, WireError, WriteType,
};
use model::TableId;
use std::rc::Rc;

/// An answer that is still owed. Every path of a request ends in one of its methods.
#[derive(Debug)]
pub(crate) struct Reply {
    session: Rc<Session>,
    pub version: Version,
    /// Of the request that it answers.
    pub header: FrameHeader,
    pub warnings: Vec<String>,
    trace: Option<Box<TraceStart>>,
}

impl Reply {
    pub(super) fn new(session: &Rc<Session>, header: &FrameHeader) -> Self {
        Reply {
            session: session.clone(),
            version: header.version,
            header: *header,
            warnings: Vec::new(),
            trace: None,
        }
    }

    pub(super) fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// The client wants to know what happens to this request.
    pub(super) fn trace(&mut self, request: &Request) {
        let shard = self.session.shard();
        let peer = self.session.info.borrow().peer;
        self.trace = Some(Box::new(TraceStart::begin(shard, peer, request)));
    }

    /// Notes a step of a traced request.
    pub(super) fn note(&mut self, activity: &str) {
        if let Some(trace) = &mut self.trace {
            trace.note(self.session.shard(), activity);
        }
    }

    /// Writes the answer's frame.
    pub(super) fn send(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &ResponseHead) -> Result<(), ResponseTooLarge>,
    ) {
        let head = self.head();
        let mut too_large = None;
        self.session.outbox().write(|out| {
            too_large = write(out, &head).err();
            Ok(())
        });
        if let Some(error) = too_large {
            let response = ErrorResponse::invalid(error.to_string());
            self.session.outbox().write(|out| response.write(out, &head));
        }
    }

    /// What precedes the answer, for a frame that is built elsewhere.
    pub(super) fn head(&self) -> ResponseHead<'_> {
        let tracing_id = self.trace.as_ref().map(|trace| trace.finish(self.session.shard()));
        ResponseHead {
            version: self.version,
            stream: self.header.stream,
            tracing_id,
            warnings: &self.warnings,
            custom_payload: &[],
        }
    }

    /// Whether the connection has ended.
    pub(super) fn is_too_late(&self) -> bool {
        self.session.is_killed()
    }

    /// Sends a frame that was built elsewhere.
    pub(super) fn send_frame(&self, frame: &[u8]) {
        self.session.outbox().write(|out| {
            out.extend_from_slice(frame);
            Ok(())
        });
    }

    /// Writes the answer's frame, or the error that comes up in writing it.
    pub(super) fn send_or_fail(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &ResponseHead) -> Result<(), PlanError>,
    ) {
        let head = self.head();
        let mut failure = None;
        self.session.outbox().write(|out| {
            failure = write(out, &head).err();
            Ok(())
        });
        if let Some(error) = failure {
            self.plan_error(&error);
        }
    }

    pub(super) fn ready(&self) {
        self.send(cql::wire::write_ready);
    }

    pub(super) fn void(&self) {
        self.send(cql::wire::write_void);
    }

    pub(super) fn supported(&self, options: &[(&str, &[&str])]) {
        self.send(|out, head| cql::wire::write_supported(out, head, options));
    }

    pub(super) fn set_keyspace(&self, keyspace: &str) {
        self.send(|out, head| cql::wire::write_set_keyspace(out, head, keyspace));
    }

    pub(super) fn schema_change(&self, change: &SchemaChange) {
        self.send(|out, head| cql::wire::write_schema_change(out, head, change));
    }

    pub(super) fn error(&self, response: &ErrorResponse) {
        self.send(|out, head| response.write(out, head));
    }

    pub(super) fn protocol_error(&self, message: &str) {
        self.error(&ErrorResponse::new(ErrorBody::Protocol, message.to_owned()));
    }

    pub(super) fn wire_error(&self, error: &WireError) {
        self.error(&ErrorResponse::new(ErrorBody::Protocol, error.message.clone()));
    }

    pub(super) fn plan_error(&self, error: &PlanError) {
        let body = match &error.kind {
            ErrorKind::Syntax => ErrorBody::Syntax,
            ErrorKind::Invalid => ErrorBody::Invalid,
            ErrorKind::Unauthorized => ErrorBody::Unauthorized,
            ErrorKind::Config => ErrorBody::Config,
            ErrorKind::FunctionFailure { function, argument_types } => ErrorBody::FunctionFailure {
                keyspace: "system".into(),
                function: (*function).into(),
                argument_types: argument_types.clone(),
            },
            ErrorKind::AlreadyExists { keyspace, table } => ErrorBody::AlreadyExists {
                keyspace: keyspace.as_str().into(),
                table: table.as_str().into(),
            },
        };
        self.error(&ErrorResponse::new(body, error.message.clone()));
    }

    pub(super) fn coordinator_error(
        &self,
        error: &CoordinatorError,
        level: Consistency,
        write_type: WriteType,
        table: Option<TableId>,
    ) {
        let required = || {
            let view = self.session.shard().view();
            table.map_or(1, |table| Shard::required(&view, table, level))
        };
        match error {
            CoordinatorError::Unavailable(unavailable) => {
                let body = ErrorBody::Unavailable {
                    consistency: level,
                    required: unavailable.required as i32,
                    alive: unavailable.alive as i32,
                };
                let message =
                    format!("Cannot achieve consistency level {}", unavailable.consistency.name());
                self.error(&ErrorResponse::new(body, message));
            }
            CoordinatorError::Write(error) => {
                self.write_error(error, level, write_type, required());
            }
            CoordinatorError::Read(error) => self.read_error(error, level, required()),
        }
    }

    pub(super) fn ddl_error(&self, error: &DdlError, level: Consistency) {
        match error {
            DdlError::Plan(error) => self.plan_error(error),
            DdlError::Write(error) => self.write_error(error, level, WriteType::Simple, 1),
            DdlError::NoMajority { alive, required } => {
                let (alive, required) = (*alive as i32, *required as i32);
                let body = ErrorBody::Unavailable { consistency: level, required, alive };
                self.error(&ErrorResponse::new(body, error.to_string()));
            }
        }
    }

    fn write_error(
        &self,
        error: &WriteError,
        consistency: Consistency,
        write_type: WriteType,
        required: u32,
    ) {
        let received = match error {
            WriteError::TooFewApplied { received } => *received as i32,
            _ => 0,
        };
        let required = required as i32;
        let body = match error {
            // Not applied, and worth another try.
            WriteError::Overloaded(_)
            | WriteError::Failed(_)
            | WriteError::NotLeader { .. }
            | WriteError::Outdated { .. } => ErrorBody::Overloaded,
            WriteError::Unavailable(unavailable) => ErrorBody::Unavailable {
                consistency,
                required: unavailable.required as i32,
                alive: unavailable.alive as i32,
            },
            WriteError::Invalid(_) => ErrorBody::Invalid,
            WriteError::Read(_) => ErrorBody::ReadFailure {
                consistency,
                received: 0,
                required,
                failures: Vec::new(),
                data_present: false,
            },
            WriteError::Unknown(_) | WriteError::Unfinished | WriteError::TooFewApplied { .. } => {
                ErrorBody::WriteTimeout {
                    consistency,
                    received,
                    required,
                    write_type,
                    contention_count: 0,
                }
            }
        };
        self.error(&ErrorResponse::new(body, error.to_string()));
    }

    fn read_error(&self, error: &ReadError, consistency: Consistency, required: u32) {
        let required = required as i32;
        let body = match error {
            ReadError::Overloaded(_) | ReadError::NotLeader { .. } => ErrorBody::Overloaded,
            ReadError::UnknownTable => ErrorBody::Invalid,
            ReadError::Storage(_) => ErrorBody::ReadFailure {
                consistency,
                received: 0,
                required,
                failures: Vec::new(),
                data_present: false,
            },
            ReadError::TimedOut => {
                ErrorBody::ReadTimeout { consistency, received: 0, required, data_present: false }
            }
        };
        self.error(&ErrorResponse::new(body, error.to_string()));
    }
}
