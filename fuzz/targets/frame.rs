//! What a client sends, byte by byte: framing, compression, requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cql::wire::fuzz::fuzz_frame(data);
});
