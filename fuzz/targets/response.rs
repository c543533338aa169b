//! A response's header and body, as our own client reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cql::wire::fuzz::fuzz_response(data);
});
