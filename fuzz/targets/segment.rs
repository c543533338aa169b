//! Protocol v5's segments, made from a recipe so that their checksums are right.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cql::wire::fuzz::fuzz_segment(data);
});
