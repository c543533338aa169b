//! Responses, read back with the client's side, and their bytes where drivers are particular.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use model::CqlType;

use super::client::{Message, Response};
use super::*;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

fn frame_of(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::for_responses();
    decoder.feed(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.bytes_buffered(), 0);
    frame
}

fn column(name: &str, cql_type: CqlType) -> ColumnSpec {
    ColumnSpec { keyspace: "ks".into(), table: "t".into(), name: name.into(), cql_type }
}

fn columns() -> Vec<ColumnSpec> {
    vec![column("k", CqlType::Int), column("d", CqlType::Duration)]
}

/// What follows code and message.
fn error_details(body: ErrorBody, version: Version) -> (i32, Vec<u8>) {
    let mut out = Vec::new();
    let head = ResponseHead::new(version, 3);
    ErrorResponse::new(body, "why").write(&mut out, &head).unwrap();
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    let Message::Error { code, message, details } = response.message else { panic!() };
    assert_eq!((frame.header.stream, message), (3, "why"));
    (code, details.to_vec())
}

#[test]
fn rows_are_counted_and_paged_after_they_were_written() {
    let metadata = ResultMetadata::new(&columns());
    for version in VERSIONS {
        let mut out = b"before".to_vec();
        let head = ResponseHead::new(version, 77);
        let rows_head =
            RowsHead { metadata: &metadata, skip_metadata: false, new_metadata_id: None };
        let mut rows = OpenRows::begin(&mut out, &head, &rows_head);
        write_cell(&mut out, Some(&[0, 0, 0, 1]));
        write_cell(&mut out, None);
        rows.row_written();
        let cell = OpenCell::begin(&mut out);
        out.extend([0, 0, 0, 2]);
        cell.finish(&mut out);
        write_cell(&mut out, Some(b""));
        rows.row_written();
        assert_eq!(rows.bytes_written(&out), out.len() - 6);
        rows.finish(&mut out, Some(b"next")).unwrap();

        assert_eq!(&out[..6], b"before");
        let frame = frame_of(&out[6..]);
        let response = Response::parse(&frame, Extensions::default()).unwrap();
        let Message::Rows(rows) = response.message else { panic!() };
        let expected: [&[Option<&[u8]>]; 2] =
            [&[Some(&[0, 0, 0, 1]), None], &[Some(&[0, 0, 0, 2]), Some(b"")]];
        assert!(rows.rows().eq(expected));
        assert_eq!(rows.paging_state, Some(&b"next"[..]));
        assert_eq!((rows.columns[0].keyspace, rows.columns[0].table), ("ks", "t"));
        assert_eq!((rows.columns[0].name, rows.columns[0].encoded_type), ("k", &[0, 9][..]));
        let duration_is_native = rows.columns[1].encoded_type == [0, 0x15];
        assert_eq!(duration_is_native, version == Version::V5);
    }
}

#[test]
fn metadata_is_skipped_when_asked_unless_it_changed() {
    let metadata = ResultMetadata::new(&columns());
    let head = ResponseHead::new(Version::V5, 0);
    for (new_metadata_id, column_count) in [(None, 0), (Some(&b"id"[..]), 2)] {
        let mut out = Vec::new();
        let rows_head = RowsHead { metadata: &metadata, skip_metadata: true, new_metadata_id };
        let rows = OpenRows::begin(&mut out, &head, &rows_head);
        rows.finish(&mut out, Some(b"p")).unwrap();
        let frame = frame_of(&out);
        let response = Response::parse(&frame, Extensions::default()).unwrap();
        let Message::Rows(rows) = response.message else { panic!() };
        assert_eq!(rows.columns.len(), column_count);
        assert_eq!((rows.column_count, rows.row_count), (2, 0));
        assert_eq!((rows.new_metadata_id, rows.paging_state), (new_metadata_id, Some(&b"p"[..])));
    }
}

#[test]
fn a_discarded_frame_leaves_what_was_before_it() {
    let metadata = ResultMetadata::new(&columns());
    let rows_head = RowsHead { metadata: &metadata, skip_metadata: false, new_metadata_id: None };
    let mut out = b"before".to_vec();
    let rows = OpenRows::begin(&mut out, &ResponseHead::new(Version::V4, 1), &rows_head);
    rows.discard(&mut out);
    assert_eq!(out, b"before");
}

#[test]
fn a_body_beyond_the_limit_is_taken_back() {
    for (body_bytes, fits) in [(100, true), (101, false)] {
        let mut out = b"before".to_vec();
        let frame = OpenFrame::begin(&mut out, &ResponseHead::new(Version::V4, 1), Opcode::Result);
        out.resize(out.len() + body_bytes, 0);
        assert_eq!(frame.finish_within(&mut out, 100).is_ok(), fits);
        assert_eq!(out == b"before", !fits);
    }
}

#[test]
fn prepared_names_the_partition_key_since_v4() {
    let bind = BindMetadata::new(&[column("v", CqlType::Text), column("k", CqlType::Int)], &[1]);
    let result = ResultMetadata::new(&[]);
    for version in VERSIONS {
        let result_metadata_id =
            Extensions::default().has_result_metadata_id(version).then_some(&b"rid"[..]);
        let prepared = Prepared {
            id: b"id",
            result_metadata_id,
            bind: &bind,
            bind_flags: 0x8000_0000,
            result: &result,
        };
        let mut out = Vec::new();
        write_prepared(&mut out, &ResponseHead::new(version, 1), &prepared).unwrap();
        let frame = frame_of(&out);
        let response = Response::parse(&frame, Extensions::default()).unwrap();
        let Message::Prepared(read) = response.message else { panic!() };
        assert_eq!((read.id, read.result_metadata_id), (&b"id"[..], result_metadata_id));
        let key_markers: &[u16] = if version == Version::V3 { &[] } else { &[1] };
        assert_eq!(read.partition_key_markers, key_markers);
        assert_eq!(read.markers[1].name, "k");
        assert_eq!(read.bind_flags, 0x8000_0001);
        assert!(read.columns.is_empty());
    }
}

#[test]
fn columns_of_several_tables_each_name_theirs() {
    let mut other = column("x", CqlType::Int);
    other.table = "u".into();
    let bind = BindMetadata::new(&[column("k", CqlType::Int), other], &[]);
    let result = ResultMetadata::new(&columns());
    let prepared =
        Prepared { id: b"", result_metadata_id: None, bind: &bind, bind_flags: 0, result: &result };
    let mut out = Vec::new();
    write_prepared(&mut out, &ResponseHead::new(Version::V4, 1), &prepared).unwrap();
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    let Message::Prepared(read) = response.message else { panic!() };
    let tables: Vec<_> = read.markers.iter().map(|marker| marker.table).collect();
    assert_eq!(tables, ["t", "u"]);
    assert_eq!(read.columns.len(), 2);
}

#[test]
fn tracing_id_warnings_and_payload_come_first_in_that_order() {
    let warnings = ["careful".to_owned(), "x".repeat(70_000)];
    let head = ResponseHead {
        tracing_id: Some([7; 16]),
        warnings: &warnings,
        custom_payload: &[("key", b"value")],
        ..ResponseHead::new(Version::V4, 1)
    };
    let mut out = Vec::new();
    write_void(&mut out, &head).unwrap();
    assert_eq!(&out[HEADER_BYTES..HEADER_BYTES + 18], [&[7; 16][..], &[0, 2]].concat());
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    assert_eq!(response.tracing_id, Some([7; 16]));
    assert_eq!(response.warnings[0], "careful");
    assert_eq!(response.warnings[1].len(), 65_535);
    assert_eq!(response.custom_payload, [("key", Some(&b"value"[..]))]);
    assert_eq!(response.message, Message::Void);

    let mut out = Vec::new();
    write_void(&mut out, &ResponseHead { version: Version::V3, ..head }).unwrap();
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    assert!(response.warnings.is_empty() && response.custom_payload.is_empty());
}

#[test]
fn failures_are_a_number_in_v4_and_a_map_in_v5() {
    let failures = vec![(Ipv4Addr::new(10, 0, 0, 1).into(), 1)];
    let counts = [0, 4, 0, 0, 0, 1, 0, 0, 0, 2];
    let body = ErrorBody::ReadFailure {
        consistency: Consistency::Quorum,
        received: 1,
        required: 2,
        failures: failures.clone(),
        data_present: true,
    };
    let v3 = [&counts[..], &[1]].concat();
    let v4 = [&counts[..], &[0, 0, 0, 1, 1]].concat();
    let v5 = [&counts[..], &[0, 0, 0, 1, 4, 10, 0, 0, 1, 0, 1, 1]].concat();
    assert_eq!(error_details(body.clone(), Version::V3), (0x1200, v3));
    assert_eq!(error_details(body.clone(), Version::V4), (0x1300, v4));
    assert_eq!(error_details(body, Version::V5), (0x1300, v5));
    let body = ErrorBody::WriteFailure {
        consistency: Consistency::Quorum,
        received: 1,
        required: 2,
        failures,
        write_type: WriteType::Batch,
    };
    let v3 = [&counts[..], b"\0\x05BATCH"].concat();
    let v4 = [&counts[..], &[0, 0, 0, 1], b"\0\x05BATCH"].concat();
    assert_eq!(error_details(body.clone(), Version::V3), (0x1100, v3));
    assert_eq!(error_details(body, Version::V4), (0x1500, v4));
}

#[test]
fn conditional_writes_have_contentions_and_their_own_code_in_v5() {
    let counts = [0, 8, 0, 0, 0, 1, 0, 0, 0, 2];
    let timeout = |write_type| ErrorBody::WriteTimeout {
        consistency: Consistency::Serial,
        received: 1,
        required: 2,
        write_type,
        contention_count: 5,
    };
    let cas = [&counts[..], b"\0\x03CAS"].concat();
    let cas_v5 = [&cas[..], &[0, 5]].concat();
    assert_eq!(error_details(timeout(WriteType::Cas), Version::V4), (0x1100, cas.clone()));
    assert_eq!(error_details(timeout(WriteType::Cas), Version::V5), (0x1100, cas_v5));
    let simple = [&counts[..], b"\0\x06SIMPLE"].concat();
    assert_eq!(error_details(timeout(WriteType::Simple), Version::V5), (0x1100, simple));
    let unknown =
        ErrorBody::CasWriteUnknown { consistency: Consistency::Serial, received: 1, required: 2 };
    assert_eq!(error_details(unknown.clone(), Version::V4), (0x1100, cas));
    assert_eq!(error_details(unknown, Version::V5), (0x1700, counts.to_vec()));
}

#[test]
fn the_other_errors_have_their_codes_and_bodies() {
    let plain = [
        (ErrorBody::Server, 0),
        (ErrorBody::Protocol, 0x0A),
        (ErrorBody::BadCredentials, 0x0100),
        (ErrorBody::Overloaded, 0x1001),
        (ErrorBody::Bootstrapping, 0x1002),
        (ErrorBody::Truncate, 0x1003),
        (ErrorBody::CdcWriteFailure, 0x1600),
        (ErrorBody::Syntax, 0x2000),
        (ErrorBody::Unauthorized, 0x2100),
        (ErrorBody::Invalid, 0x2200),
        (ErrorBody::Config, 0x2300),
        (ErrorBody::RateLimit { code: None, is_write: true, by_coordinator: true }, 0x2300),
    ];
    for (body, code) in plain {
        assert_eq!(error_details(body, Version::V4), (code, vec![]));
    }
    let unavailable =
        ErrorBody::Unavailable { consistency: Consistency::All, required: 3, alive: 2 };
    let expected = vec![0, 5, 0, 0, 0, 3, 0, 0, 0, 2];
    assert_eq!(error_details(unavailable, Version::V4), (0x1000, expected));
    let timeout = ErrorBody::ReadTimeout {
        consistency: Consistency::One,
        received: 0,
        required: 1,
        data_present: false,
    };
    let expected = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(error_details(timeout, Version::V4), (0x1200, expected));
    let function = ErrorBody::FunctionFailure {
        keyspace: "k".into(),
        function: "f".into(),
        argument_types: vec!["int".into()],
    };
    assert_eq!(error_details(function.clone(), Version::V3), (0x2200, vec![]));
    let expected = b"\0\x01k\0\x01f\0\x01\0\x03int".to_vec();
    assert_eq!(error_details(function, Version::V4), (0x1400, expected));
    let exists = ErrorBody::AlreadyExists { keyspace: "k".into(), table: "".into() };
    assert_eq!(error_details(exists, Version::V4), (0x2400, b"\0\x01k\0\0".to_vec()));
    let unprepared = ErrorBody::Unprepared { id: vec![1, 2].into() };
    assert_eq!(error_details(unprepared, Version::V4), (0x2500, vec![0, 2, 1, 2]));
    let limit = ErrorBody::RateLimit { code: Some(0xF000), is_write: true, by_coordinator: false };
    assert_eq!(error_details(limit, Version::V4), (0xF000, vec![1, 0]));
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let mut out = Vec::new();
    let error = ErrorResponse::invalid("é".repeat(40_000));
    error.write(&mut out, &ResponseHead::new(Version::V4, 0)).unwrap();
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    let Message::Error { message, .. } = response.message else { panic!() };
    assert_eq!(message.len(), 65_534);
}

#[test]
fn greetings_and_small_results() {
    type Write = fn(&mut Vec<u8>, &ResponseHead<'_>) -> Result<(), ResponseTooLarge>;
    let cases: [(Write, Message<'_>); 5] = [
        (write_ready, Message::Ready),
        (|out, head| write_authenticate(out, head, "A"), Message::Authenticate("A")),
        (|out, head| write_auth_success(out, head, None), Message::AuthSuccess(None)),
        (
            |out, head| write_supported(out, head, &[("COMPRESSION", &["lz4"])]),
            Message::Supported(vec![("COMPRESSION", vec!["lz4"])]),
        ),
        (|out, head| write_set_keyspace(out, head, "ks"), Message::SetKeyspace("ks")),
    ];
    for (write, message) in cases {
        let mut out = Vec::new();
        write(&mut out, &ResponseHead::new(Version::V4, 1)).unwrap();
        let frame = frame_of(&out);
        assert_eq!(Response::parse(&frame, Extensions::default()).unwrap().message, message);
    }
}

#[test]
fn events_go_to_stream_minus_one() {
    let address: SocketAddr = "127.0.0.2:9042".parse().unwrap();
    let ip = [127, 0, 0, 2];
    let change = |target| SchemaChange { kind: ChangeKind::Dropped, keyspace: "ks".into(), target };
    let function = SchemaTarget::Function { name: "f".into(), argument_types: vec!["int".into()] };
    let cases = [
        (Event::NodeAdded(address), Message::NodeEvent("TOPOLOGY_CHANGE", "NEW_NODE", &ip, 9042)),
        (
            Event::NodeRemoved(address),
            Message::NodeEvent("TOPOLOGY_CHANGE", "REMOVED_NODE", &ip, 9042),
        ),
        (Event::NodeUp(address), Message::NodeEvent("STATUS_CHANGE", "UP", &ip, 9042)),
        (Event::NodeDown(address), Message::NodeEvent("STATUS_CHANGE", "DOWN", &ip, 9042)),
        (
            Event::Schema(change(SchemaTarget::Keyspace)),
            Message::SchemaEvent(vec!["DROPPED", "KEYSPACE", "ks"]),
        ),
        (
            Event::Schema(change(SchemaTarget::Table(Arc::from("t")))),
            Message::SchemaEvent(vec!["DROPPED", "TABLE", "ks", "t"]),
        ),
        (
            Event::Schema(change(function.clone())),
            Message::SchemaEvent(vec!["DROPPED", "FUNCTION", "ks", "f", "int"]),
        ),
    ];
    for (event, message) in cases {
        let mut out = Vec::new();
        write_event(&mut out, Version::V4, &event).unwrap();
        let frame = frame_of(&out);
        assert_eq!(frame.header.stream, EVENT_STREAM);
        assert_eq!(Response::parse(&frame, Extensions::default()).unwrap().message, message);
    }
    let mut out = Vec::new();
    write_schema_change(&mut out, &ResponseHead::new(Version::V3, 1), &change(function)).unwrap();
    let frame = frame_of(&out);
    let response = Response::parse(&frame, Extensions::default()).unwrap();
    assert_eq!(response.message, Message::SchemaChange(vec!["UPDATED", "KEYSPACE", "ks"]));
}
