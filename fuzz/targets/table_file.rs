//! What blocks of table files and manifests hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    storage::fuzz::fuzz_table_file(data);
});
