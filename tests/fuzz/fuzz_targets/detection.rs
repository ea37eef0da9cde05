//! The first bytes of a connection: what they are does not depend on how they are cut into segments.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weir::proxy::downstream::fuzz::detection(bytes));
