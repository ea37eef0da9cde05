//! One rule of nf_tables, spoken to the kernel directly: not every machine that runs the tests has `nft`.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};

/// From linux/netfilter/nfnetlink.h and nf_tables.h.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NESTED: u16 = 0x8000;

/// NLM_F_REQUEST, and NLM_F_CREATE with NLM_F_APPEND and NLM_F_ACK.
const REQUEST: u16 = 1;
const MAKE: u16 = REQUEST | 0x400 | 0x800 | 4;

/// Makes the calling thread's namespace masquerade all it sends over IPv4: `nft add rule ip t c masquerade`, in a new
/// chain `{ type nat hook postrouting priority 100; }`.
pub fn masquerade() {
    let name = |kind, text: &str| attribute(kind, &[text.as_bytes(), b"\0"].concat());
    let number = |kind, number: u32| attribute(kind, &number.to_be_bytes());
    let nested = |kind, parts: &[Vec<u8>]| attribute(kind | NESTED, &parts.concat());
    let hook = nested(4, &[number(1, 4), number(2, 100)]);
    let expression = nested(1, &[name(1, "masq"), nested(2, &[])]);
    let batch = [
        message(BATCH_BEGIN, REQUEST, &[]),
        message(NEW_TABLE, MAKE, &name(1, "t")),
        message(NEW_CHAIN, MAKE, &[name(1, "t"), name(3, "c"), hook, name(7, "nat")].concat()),
        message(NEW_RULE, MAKE, &[name(1, "t"), name(2, "c"), nested(4, &[expression])].concat()),
        message(BATCH_END, REQUEST, &[]),
    ];
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_NETFILTER)));
    let socket = socket.expect("a netlink socket");
    socket.send(&batch.concat()).expect("a batch");
    for what in ["table", "chain", "rule"] {
        acknowledged(&socket).unwrap_or_else(|error| panic!("no {what} of nf_tables: {error}"));
    }
}

/// Reads one answer: `nlmsghdr`, then an error number, 0 for none.
fn acknowledged(socket: &Socket) -> io::Result<()> {
    let mut answer = [0_u8; 1024];
    let length = io::Read::read(&mut &*socket, &mut answer)?;
    assert!(length >= 20, "an answer of {length} bytes");
    match i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes")) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// `struct nlmsghdr` and `struct nfgenmsg`, then attributes.
fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let family = if matches!(kind, BATCH_BEGIN | BATCH_END) { libc::AF_UNSPEC } else { libc::AF_INET } as u8;
    let resource = if family == 0 { SUBSYSTEM } else { 0 };
    let mut message = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

/// `struct nlattr`, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
