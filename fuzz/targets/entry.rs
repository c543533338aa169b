//! An entry of the replicated log: mutations, rows, cells.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    model::fuzz::fuzz_entry(data);
});
