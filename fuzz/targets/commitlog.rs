//! A segment of the commit log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    storage::commitlog::fuzz_segment(data);
});
