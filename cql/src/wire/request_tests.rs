//! Requests as the Python driver (cassandra-driver 3.30.1) encodes them, and requests that no
//! driver would send.

use super::*;

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn frame_of(bytes: &[u8]) -> Frame {
    let mut decoder = FrameDecoder::for_requests();
    decoder.feed(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.bytes_buffered(), 0);
    frame
}

fn frame(version: u8, flags: u8, opcode: u8, body: &[u8]) -> Frame {
    let mut bytes = vec![version, flags, 0, 1, opcode];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    frame_of(&bytes)
}

fn error_of(version: u8, flags: u8, opcode: Opcode, body: &[u8]) -> String {
    let frame = frame(version, flags, opcode.code(), body);
    let error = Request::parse(&frame, Extensions::default(), &mut Values::new()).unwrap_err();
    assert_eq!((error.scope, error.stream), (ErrorScope::Stream, 1));
    error.message.into_owned()
}

fn parse<'f>(frame: &'f Frame, values: &mut Values) -> Request<'f> {
    Request::parse(frame, Extensions::default(), values).unwrap()
}

#[test]
fn query_v4_with_every_flag_but_names() {
    let frame = frame_of(&bytes_of_hex(
        "0400000107000000410000001953454c454354202a2046524f4d2074205748455245206b3d3f00063d0002\
         00000003616263ffffffff000000640000000201020008000462d53c8abac0",
    ));
    let mut values = Values::new();
    let Request::Query { text, parameters } = parse(&frame, &mut values) else { panic!() };
    assert_eq!(text, "SELECT * FROM t WHERE k=?");
    let expected = QueryParameters {
        serial_consistency: Some(Consistency::Serial),
        page_size: Some(100),
        paging_state: Some(vec![1, 2].into()),
        default_timestamp: Some(1_234_567_890_123_456),
        ..QueryParameters::with_consistency(Consistency::LocalQuorum)
    };
    assert_eq!(parameters, expected);
    let bound: Vec<_> = values.all().iter().collect();
    assert_eq!(bound, [Value::Set(b"abc"), Value::Null]);
    let view = values.all().bytes(0).unwrap();
    assert!(frame.body.as_ptr_range().contains(&view.as_ptr()), "a view, not a copy");
}

#[test]
fn query_v5_has_flags_of_four_bytes_and_a_keyspace() {
    let frame = frame_of(&bytes_of_hex(
        "0500000107000000290000000f53454c454354202a2046524f4d20740001000000a4000013880000000000\
         00000500026b73",
    ));
    let Request::Query { parameters, .. } = parse(&frame, &mut Values::new()) else { panic!() };
    let expected = QueryParameters {
        page_size: Some(5000),
        default_timestamp: Some(5),
        keyspace: Some("ks".into()),
        ..QueryParameters::with_consistency(Consistency::One)
    };
    assert_eq!(parameters, expected);
}

#[test]
fn prepare_names_a_keyspace_only_in_v5() {
    let v5 = frame_of(&bytes_of_hex("0500000109000000140000000853454c45435420310000000100026b73"));
    let expected = Request::Prepare { text: "SELECT 1", keyspace: Some("ks") };
    assert_eq!(parse(&v5, &mut Values::new()), expected);
    let v4 = frame_of(&bytes_of_hex("04000001090000000c0000000853454c4543542031"));
    let expected = Request::Prepare { text: "SELECT 1", keyspace: None };
    assert_eq!(parse(&v4, &mut Values::new()), expected);
}

#[test]
fn execute_carries_a_metadata_id_in_v5_or_by_extension() {
    let v4 = frame_of(&bytes_of_hex(
        "040000010a000000240004aaaaaaaa00042500030000000176ffffffff000000000000000a000000000000\
         0007",
    ));
    let mut values = Values::new();
    let Request::Execute { id, result_metadata_id, parameters } = parse(&v4, &mut values) else {
        panic!()
    };
    assert_eq!((id, result_metadata_id), (&[0xAA; 4][..], None));
    assert_eq!(parameters.default_timestamp, Some(7));
    let bound: Vec<_> = values.all().iter().collect();
    assert_eq!(bound, [Value::Set(b"v"), Value::Null, Value::Set(b"")]);

    let bytes = "050000010a0000001b0004aaaaaaaa0002bbcc000400000005000100000001760000000a";
    let v5 = frame_of(&bytes_of_hex(bytes));
    let Request::Execute { result_metadata_id, .. } = parse(&v5, &mut values) else { panic!() };
    assert_eq!(result_metadata_id, Some(&[0xBB, 0xCC][..]));
    assert_eq!(values.all().len(), 1, "values of the last request are gone");

    let v4 = frame(4, 0, 0x0A, &[0, 1, 9, 0, 1, 8, 0, 1, 0]);
    let extensions = Extensions { result_metadata_id: true, ..Extensions::default() };
    let request = Request::parse(&v4, extensions, &mut values).unwrap();
    let Request::Execute { result_metadata_id, .. } = request else { panic!() };
    assert_eq!(result_metadata_id, Some(&[8][..]));
}

#[test]
fn batch_statements_have_their_own_values() {
    let v4 = frame_of(&bytes_of_hex(
        "040000010d000000330100020000000008494e5345525420310001000000017801000201020002ffffffff\
         00000002797a0001200000000000000009",
    ));
    let mut values = Values::new();
    let Request::Batch { kind, statements, parameters } = parse(&v4, &mut values) else { panic!() };
    assert_eq!(kind, BatchKind::Unlogged);
    assert_eq!(parameters.default_timestamp, Some(9));
    assert_eq!(statements[0].source, StatementSource::Text("INSERT 1"));
    assert_eq!(statements[1].source, StatementSource::Prepared(&[1, 2]));
    let bound: Vec<_> = values.range(statements[0].values.clone()).iter().collect();
    assert_eq!(bound, [Value::Set(b"x")]);
    let bound: Vec<_> = values.range(statements[1].values.clone()).iter().collect();
    assert_eq!(bound, [Value::Null, Value::Set(b"yz")]);

    let bytes = "050000010d0000001600000101000201020000000100000090000900026b73";
    let v5 = frame_of(&bytes_of_hex(bytes));
    let Request::Batch { kind, parameters, .. } = parse(&v5, &mut values) else { panic!() };
    assert_eq!(kind, BatchKind::Logged);
    assert_eq!(parameters.serial_consistency, Some(Consistency::LocalSerial));
    assert_eq!(parameters.keyspace.as_deref(), Some("ks"));
}

#[test]
fn startup_register_options_and_credentials() {
    let bytes = "0500000101000000280002000b434f4d5052455353494f4e00036c7a34000b43514c5f564552534\
                 94f4e0005332e342e37";
    let startup = frame_of(&bytes_of_hex(bytes));
    let Request::Startup(startup) = parse(&startup, &mut Values::new()) else { panic!() };
    assert_eq!(startup.get("compression"), Some("lz4"));
    assert_eq!(startup.get("CQL_VERSION"), Some("3.4.7"));
    assert_eq!(startup.get("NO_COMPACT"), None);

    let bytes = "040000010b000000310003000f544f504f4c4f47595f4348414e4745000d5354415455535f43484\
                 14e4745000d534348454d415f4348414e4745";
    let kinds = vec![EventKind::TopologyChange, EventKind::StatusChange, EventKind::SchemaChange];
    let register = frame_of(&bytes_of_hex(bytes));
    assert_eq!(parse(&register, &mut Values::new()), Request::Register(kinds));

    let options = frame_of(&bytes_of_hex("050000010500000000"));
    assert_eq!(parse(&options, &mut Values::new()), Request::Options);
    let bytes = "040000010f000000110000000d0063617373616e647261007077";
    let auth = frame_of(&bytes_of_hex(bytes));
    let expected = Request::AuthResponse(Some(b"\0cassandra\0pw"));
    assert_eq!(parse(&auth, &mut Values::new()), expected);
}

/// A QUERY body: the statement "Q" at consistency ONE, then flags and what they announce.
fn query_body(rest: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1, b'Q', 0, 1], rest].concat()
}

#[test]
fn named_values_are_found_by_name_and_the_last_one_counts() {
    let body = query_body(&[
        0x41, 0, 3, 0, 1, b'a', 0, 0, 0, 1, 7, 0, 1, b'b', 0xFF, 0xFF, 0xFF, 0xFE, 0, 1, b'a', 0,
        0, 0, 1, 8,
    ]);
    let frame = frame(4, 0, 7, &body);
    let mut values = Values::new();
    parse(&frame, &mut values);
    let bound = values.all();
    assert!(bound.are_named());
    assert_eq!(bound.position_of("a"), Some(2));
    assert_eq!(bound.get(2), Some(Value::Set(&[8])));
    assert_eq!(bound.get(bound.position_of("b").unwrap()), Some(Value::Unset));
    assert_eq!(bound.position_of("c"), None);
    assert_eq!(bound.get(3), None);
    assert_eq!(bound.bytes(1), None);
}

#[test]
fn a_custom_payload_before_the_request_is_read_over() {
    let body = [&[0, 1, 0, 1, b'k', 0, 0, 0, 1, 9][..], &query_body(&[0])].concat();
    let with_payload = frame(4, frame_flags::CUSTOM_PAYLOAD, 7, &body);
    assert!(matches!(parse(&with_payload, &mut Values::new()), Request::Query { text: "Q", .. }));
    let flags = frame_flags::CUSTOM_PAYLOAD;
    assert!(error_of(3, flags, Opcode::Query, &body).contains("since v4"));
    assert!(error_of(4, flags, Opcode::Query, &[0xFF, 0xFF, 0]).contains("65535 items"));
}

#[test]
fn a_page_size_of_zero_or_less_is_no_paging() {
    for size in [0i32, -1, i32::MIN] {
        let body = query_body(&[&[0x04][..], &size.to_be_bytes()].concat());
        let frame = frame(4, 0, 7, &body);
        let Request::Query { parameters, .. } = parse(&frame, &mut Values::new()) else { panic!() };
        assert_eq!(parameters.page_size, None);
    }
}

#[test]
fn bad_bodies_name_what_is_wrong() {
    let query = |rest: &[u8]| error_of(4, 0, Opcode::Query, &query_body(rest));
    assert!(query(&[0, 1, 2]).contains("2 bytes after the end"));
    assert!(query(&[0x80]).contains("unknown flags 0x80"));
    assert!(query(&[0x01, 0, 2, 0, 0, 0, 0]).contains("2 items in 4 bytes"));
    assert!(query(&[0x01, 0, 1, 0xFF, 0xFF, 0xFF, 0xFD]).contains("length -3"));
    assert!(query(&[0x01, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF]).contains("2147483647 bytes, 0 are left"));
    assert!(query(&[0x08, 0xFF, 0xFF, 0xFF, 0xFE]).contains("paging state has the length -2"));
    assert!(query(&[0x10, 0, 0x0B]).contains("Unknown code 11 for a consistency level"));
    assert!(query(&[0x20, 0x80, 0, 0, 0, 0, 0, 0, 0]).contains("Out of bound timestamp"));
    assert!(error_of(4, 0, Opcode::Query, &[0, 0, 0, 1, 0xFF, 0, 1, 0]).contains("not UTF-8"));
    assert!(error_of(4, 0, Opcode::Query, &[0xFF; 4]).contains("length -1"));
    let unset = [1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE];
    assert!(error_of(3, 0, Opcode::Query, &query_body(&unset)).contains("since v4"));
    assert!(error_of(5, 0, Opcode::Query, &query_body(&[0, 0, 2, 0])).contains("0x200"));
}

#[test]
fn bad_batches_and_opcodes_name_what_is_wrong() {
    assert!(error_of(4, 0, Opcode::Batch, &[3]).contains("Invalid batch type 3"));
    assert!(error_of(4, 0, Opcode::Batch, &[0, 0xFF, 0xFF]).contains("65535 items"));
    let kind = [0, 0, 1, 2, 0, 0, 0, 0];
    assert!(error_of(4, 0, Opcode::Batch, &kind).contains("Invalid query kind"));
    let named = [0, 0, 0, 0, 1, 0x40];
    assert!(error_of(4, 0, Opcode::Batch, &named).contains("belong to its statements"));
    assert!(error_of(4, 0, Opcode::Register, &[0, 1, 0, 1, b'X']).contains("Invalid value 'X'"));
    assert!(error_of(4, 0, Opcode::Result, &[]).contains("Result is not a request"));
    let frame = frame(4, 0, 0x7F, &[]);
    let error = Request::parse(&frame, Extensions::default(), &mut Values::new()).unwrap_err();
    assert_eq!(error.message, "Unknown opcode 127");
}

#[test]
fn every_prefix_of_a_request_is_an_error_and_nothing_else() {
    let whole = bytes_of_hex(
        "0400000107000000410000001953454c454354202a2046524f4d2074205748455245206b3d3f00063d0002\
         00000003616263ffffffff000000640000000201020008000462d53c8abac0",
    );
    for length in HEADER_BYTES..whole.len() {
        let frame = frame(4, 0, 7, &whole[HEADER_BYTES..length]);
        assert!(Request::parse(&frame, Extensions::default(), &mut Values::new()).is_err());
    }
}
