//! Reads, pages and operations on lists, as they travel between nodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    model::read::fuzz_read(data);
});
