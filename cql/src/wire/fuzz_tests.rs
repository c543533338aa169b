//! The corpus of the decoders, and a few thousand mutations of it.
//!
//! Seeds are built here ([`seeds`]) and stand as files in `cql/corpus/wire/`, where `cargo fuzz`
//! takes them from and puts what it finds; `UPDATE_GOLDEN=1` writes them. The test runs every file
//! there, also those that are no seeds.

use std::collections::BTreeMap;

use super::client::RequestWriter;
use super::fuzz::{fuzz_frame, fuzz_request, fuzz_response, fuzz_segment};
use super::segment::put_segment;
use super::*;
use model::golden;

const MUTATIONS_PER_SEED: u64 = 120;

/// The files of the corpus; the seeds stand there as they are built.
fn corpus() -> BTreeMap<String, Vec<u8>> {
    golden::check_corpus("corpus/wire", &seeds())
}

fn request(version: Version, write: impl FnOnce(RequestWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(RequestWriter { out: &mut out, version, stream: 1 });
    out
}

fn every_parameter(version: Version) -> QueryParameters {
    let is_v5 = version >= Version::V5;
    QueryParameters {
        serial_consistency: Some(Consistency::Serial),
        page_size: Some(5000),
        paging_state: Some(vec![9; 40].into()),
        default_timestamp: Some(1_700_000_000_000_000),
        keyspace: is_v5.then(|| "ks".into()),
        now_in_seconds: is_v5.then_some(1_700_000_000),
        ..QueryParameters::with_consistency(Consistency::LocalQuorum)
    }
}

fn requests(seeds: &mut BTreeMap<String, Vec<u8>>) {
    let values = [Value::Set(b"value"), Value::Null, Value::Unset, Value::Set(b"")];
    for version in [Version::V3, Version::V4, Version::V5] {
        let values = if version == Version::V3 { &values[..2] } else { &values[..] };
        let parameters = every_parameter(version);
        let metadata_id = (version >= Version::V5).then_some(&[7; 16][..]);
        let mut add = |name: &str, bytes| seeds.insert(format!("{name}_v{}", version as u8), bytes);
        add(
            "options",
            request(version, |r| {
                r.options();
            }),
        );
        add(
            "startup",
            request(version, |r| r.startup(&[("CQL_VERSION", "3.4.7"), ("COMPRESSION", "lz4")])),
        );
        add("register", request(version, |r| r.register(&[EventKind::SchemaChange])));
        add("auth_response", request(version, |r| r.auth_response(Some(b"\0user\0password"))));
        add(
            "query",
            request(version, |r| r.query("SELECT * FROM t WHERE k = ?", &parameters, values)),
        );
        add("prepare", request(version, |r| r.prepare("SELECT 1", Some("ks"))));
        add("execute", request(version, |r| r.execute(&[1; 16], metadata_id, &parameters, values)));
        let statements = [
            (StatementSource::Text("INSERT"), values),
            (StatementSource::Prepared(&[1; 16]), &values[..1]),
        ];
        add("batch", request(version, |r| r.batch(BatchKind::Logged, &statements, &parameters)));
    }
}

fn nasty(seeds: &mut BTreeMap<String, Vec<u8>>) {
    let mut add = |name: &str, bytes: &[u8]| seeds.insert(name.to_owned(), bytes.to_vec());
    add("nothing", &[]);
    add("dse_version", &[0x42, 0, 0, 0, 5, 0, 0, 0, 0]);
    add("http_request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add("tls_hello", &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]);
    add("length_of_4_gib", &[4, 0, 0, 1, 7, 0xFF, 0xFF, 0xFF, 0xFF]);
    add("text_of_2_gib", &[4, 0, 0, 1, 7, 0, 0, 0, 4, 0x7F, 0xFF, 0xFF, 0xFF]);
    add("text_of_negative_length", &[4, 0, 0, 1, 7, 0, 0, 0, 4, 0x80, 0, 0, 0]);
    add(
        "values_by_the_thousand",
        &[4, 0, 0, 1, 7, 0, 0, 0, 10, 0, 0, 0, 1, b'Q', 0, 1, 1, 0xFF, 0xFF],
    );
    add("batch_of_65535", &[4, 0, 0, 1, 13, 0, 0, 0, 3, 0, 0xFF, 0xFF]);
    add("payload_of_65535_keys", &[4, 4, 0, 1, 5, 0, 0, 0, 2, 0xFF, 0xFF]);
    add("lz4_bomb", &[4, 1, 0, 1, 7, 0, 0, 0, 8, 0, 0xFF, 0xFF, 0xFF, 0x1F, 0, 1, 0]);
    add("response_to_server", &[0x84, 0, 0, 1, 2, 0, 0, 0, 0]);
    let named = [
        4, 0, 0, 1, 7, 0, 0, 0, 18, 0, 0, 0, 1, b'Q', 0, 1, 0x41, 0, 1, 0, 2, 0xC3, 0xA9, 0, 0, 0,
        0,
    ];
    add("named_value", &named);
}

fn segments_and_responses(seeds: &mut BTreeMap<String, Vec<u8>>) {
    let frames = [seeds["query_v5"].clone(), seeds["batch_v5"].clone()].concat();
    for (name, compression) in [("none", Compression::None), ("lz4", Compression::Lz4)] {
        let mut bytes = Vec::new();
        put_segment(&frames, true, compression, &mut bytes);
        put_segment(&frames[..20], false, compression, &mut bytes);
        seeds.insert(format!("segments_{name}"), bytes);
    }
    let mut recipe = vec![1, (frames.len() >> 8) as u8, frames.len() as u8];
    recipe.extend(&frames);
    recipe.extend([0, 0, 20]);
    recipe.extend(&frames[..20]);
    recipe.extend([3 | 4, 0, 5, 0x1F, 0, 1, 0, 0xF0]);
    seeds.insert("segment_recipe".to_owned(), recipe);

    let column = |name: &str, cql_type| ColumnSpec {
        keyspace: "ks".into(),
        table: "t".into(),
        name: name.into(),
        cql_type,
    };
    let set = model::CqlType::Set { element: model::CqlType::Int.into(), frozen: true };
    let columns = [column("k", model::CqlType::Int), column("s", set)];
    let metadata = ResultMetadata::new(&columns);
    let head = ResponseHead::new(Version::V4, 1);
    let mut out = Vec::new();
    let rows_head = RowsHead { metadata: &metadata, skip_metadata: false, new_metadata_id: None };
    let mut rows = OpenRows::begin(&mut out, &head, &rows_head);
    write_cell(&mut out, Some(&[0, 0, 0, 1]));
    write_cell(&mut out, None);
    rows.row_written();
    rows.finish(&mut out, Some(b"page")).unwrap();
    seeds.insert("response_rows".to_owned(), std::mem::take(&mut out));
    let bind = BindMetadata::new(&columns, &[0]);
    let prepared = Prepared {
        id: &[1; 16],
        result_metadata_id: None,
        bind: &bind,
        bind_flags: 0,
        result: &metadata,
    };
    write_prepared(&mut out, &head, &prepared).unwrap();
    seeds.insert("response_prepared".to_owned(), out);
}

/// What drivers send, and what nobody should.
fn seeds() -> BTreeMap<String, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    requests(&mut seeds);
    nasty(&mut seeds);
    segments_and_responses(&mut seeds);
    seeds
}

/// Marsaglia's xorshift: the same mutations in every run.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One to four changes: bytes that break lengths, cuts, copies, another seed behind.
fn mutated(seed: &[u8], other: &[u8], random: &mut Xorshift) -> Vec<u8> {
    const BREAKING: [u8; 8] = [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF, 0x40];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 if !bytes.is_empty() => bytes[at] = BREAKING[random.below(BREAKING.len())],
            2 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            3 => bytes.truncate(at),
            4 => bytes.insert(at, random.next() as u8),
            _ => bytes.extend(&other[..random.below(other.len() + 1)]),
        }
    }
    bytes
}

fn run_all(bytes: &[u8]) {
    fuzz_frame(bytes);
    fuzz_segment(bytes);
    fuzz_request(bytes);
    fuzz_response(bytes);
}

#[test]
fn seeds_of_requests_parse() {
    let mut seeds = BTreeMap::new();
    requests(&mut seeds);
    for (name, bytes) in seeds {
        let mut decoder = FrameDecoder::for_requests();
        decoder.feed(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        let request = Request::parse(&frame, Extensions::default(), &mut Values::new());
        assert!(request.is_ok(), "{name}: {request:?}");
    }
}

#[test]
fn parameters_survive_the_way_there() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let parameters = every_parameter(version);
        let bytes = request(version, |r| r.query("Q", &parameters, &[Value::Set(b"v")]));
        let mut decoder = FrameDecoder::for_requests();
        decoder.feed(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        let read = Request::parse(&frame, Extensions::default(), &mut Values::new()).unwrap();
        assert_eq!(read, Request::Query { text: "Q", parameters });
    }
}

#[test]
fn no_mutation_of_the_corpus_makes_a_decoder_panic() {
    let corpus: Vec<Vec<u8>> = corpus().into_values().collect();
    let mut random = Xorshift(0x9E37_79B9_7F4A_7C15);
    for seed in &corpus {
        run_all(seed);
        for _ in 0..MUTATIONS_PER_SEED {
            let other = &corpus[random.below(corpus.len())];
            run_all(&mutated(seed, other, &mut random));
        }
    }
}
