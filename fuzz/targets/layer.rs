#![no_main]

include!("../src/modules.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target("layer")(bytes));
