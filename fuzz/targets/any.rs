//! The target that `DHOW_FUZZ_TARGET` names: all of them with one build.

#![no_main]

include!("../src/modules.rs");

use std::sync::LazyLock;

static TARGET: LazyLock<fuzz::Target> =
    LazyLock::new(|| target(&std::env::var("DHOW_FUZZ_TARGET").expect("DHOW_FUZZ_TARGET")));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
