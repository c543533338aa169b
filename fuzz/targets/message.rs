//! What nodes send each other: envelopes of links, messages about support.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    cluster::fuzz::fuzz_message(data);
});
