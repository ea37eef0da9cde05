//! weir's eBPF programs, one file per hook.
//!
//! 1. `connect` rewrites a connection's destination to weir and remembers the dialled address in the socket.
//! 2. `sockops` files it, before the first packet, under the addresses by which weir will see the connection.
//! 3. `getpeername` tells the application the address it dialled.
//!
//! With weir's sockets in the pods' network namespaces, the programs in `pod` take their place: there the address that a
//! connection is rewritten to says what was dialled.
//!
//! Two rules of the house, both learnt from the verifier. Every field of a context is read in straight line
//! into a local, volatile, before anything is decided: the compiler merges the reads of two branches into one
//! at a computed offset, which the verifier refuses. And a key is built in one expression: one that is
//! zeroed first and filled later becomes a call of memset, byte by byte.
//!
//! Deliberately absent: UDP, and redirection of application sockets between each other (`sk_msg`), which
//! made applications see spurious EAGAIN.

#![no_std]
#![no_main]

mod connect;
mod connect4;
mod connect6;
mod getpeername4;
mod getpeername6;
mod maps;
mod pod;
mod sockops;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
