//! A request's header and body.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cql::wire::fuzz::fuzz_request(data);
});
