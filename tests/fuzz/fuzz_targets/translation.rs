//! Heads between HTTP/1 and HTTP/2: one host, one framing, one request.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|head: &[u8]| weir::proxy::exchange::fuzz::translation(head));
