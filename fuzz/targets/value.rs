//! A type and a value of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    model::value::fuzz_value(data);
});
