//! Heads that ask for an upgrade, and the answers to them, between HTTP/1 and HTTP/2.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| weir::proxy::exchange::fuzz::upgrade(head));
