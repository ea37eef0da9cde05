//! The names of the sockets by which weirs find one another: in the abstract namespace of Unix sockets, which belongs to the
//! node's network namespace.
//!
//! A name ends in a random number, so that nobody can have it beforehand; the weirs that offer their listeners are found
//! in the kernel's list of such sockets. Numbers of those that offer are even, and of those that ask odd: what is
//! attested for one ([`crate::transport::attest`]) is of no use as the other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use crate::transport::attest::{Attestation, NUMBERS};
use crate::transport::{Channel, ChannelListener, Unconnected};

const OFFERS: &str = "weir-handover/";
const ASKS: &str = "weir-handover-next/";

/// How many names are looked at. Anybody can make some.
const MOST: usize = 256;

/// How much of the kernel's list is read, which has some 60 bytes for each socket.
const MOST_BYTES: u64 = 32 << 20;

/// How often another number is tried when a name is taken.
const TRIES: usize = 16;

/// A socket that is found by its name, and what attests it. Dropped in this order.
pub(super) struct Attested<S> {
    attestation: Attestation,
    pub(super) socket: S,
}

/// Listens, to be found by [`offers`].
pub(super) fn offer() -> io::Result<Attested<ChannelListener>> {
    attested(OFFERS, 0, ChannelListener::bind)
}

/// A connection to one that offers, by its name.
pub(super) fn ask(to: &str) -> io::Result<Attested<Channel>> {
    let Attested { attestation, socket } = attested(ASKS, 1, Unconnected::named)?;
    // The name is freed after the attestation, also here.
    if let Err(cause) = socket.connect(to) {
        drop(attestation);
        return Err(cause);
    }
    Ok(Attested { attestation, socket: socket.into_channel()? })
}

fn attested<S>(prefix: &str, role: u32, make: impl Fn(&str) -> io::Result<S>) -> io::Result<Attested<S>> {
    let mut tried = 0;
    loop {
        let number = fastrand::u32(NUMBERS) & !1 | role;
        let attestation = Attestation::prepare()?;
        match make(&format!("{prefix}{number:06x}")) {
            Ok(socket) => {
                attestation.attest(number)?;
                return Ok(Attested { attestation, socket });
            }
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && tried < TRIES => tried += 1,
            Err(cause) => return Err(cause),
        }
    }
}

/// The number in the name of one that asks.
pub(super) fn asks(name: &str) -> Option<u32> {
    number(name, ASKS, 1)
}

/// The names of those that offer, with their numbers. Each may be a stranger's.
pub(super) fn offers() -> io::Result<Vec<(String, u32)>> {
    let list = File::open("/proc/self/net/unix")?;
    read(BufReader::new(list.take(MOST_BYTES)))
}

/// Reads the list of Unix sockets (proc_pid_net(5)): a line ends in the path; an abstract name begins with `@`.
fn read(list: impl BufRead) -> io::Result<Vec<(String, u32)>> {
    let mut found: Vec<(String, u32)> = Vec::new();
    for line in list.split(b'\n') {
        // Other processes' names may be any bytes.
        let line = line?;
        let Ok(line) = str::from_utf8(&line) else { continue };
        let Some((_, name)) = line.split_once('@') else { continue };
        // Accepted sockets have their listener's name.
        if let Some(number) = number(name, OFFERS, 0)
            && !found.iter().any(|it| it.1 == number)
        {
            found.push((name.to_owned(), number));
        }
    }
    // Some of them at random: somebody who makes very many does not decide which.
    fastrand::shuffle(&mut found);
    found.truncate(MOST);
    Ok(found)
}

/// The number in a name, which has exactly one spelling: two names must not have the same.
fn number(name: &str, prefix: &str, role: u32) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    let is_right = NUMBERS.contains(&number) && number % 2 == role && format!("{number:06x}") == digits;
    is_right.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_name_and_one_role() {
        assert_eq!(number("weir-handover/800002", OFFERS, 0), Some(0x80_0002));
        assert_eq!(number("weir-handover-next/800003", ASKS, 1), Some(0x80_0003));
        for name in [
            "weir-handover/800003",  // odd
            "weir-handover/0800002", // another spelling
            "weir-handover/80000A",
            "weir-handover/+80002",
            "weir-handover/000002", // out of range
            "weir-handover/",
            "weir-handover-next/800002",
            "x",
        ] {
            assert_eq!(number(name, OFFERS, 0), None, "{name}");
        }
        assert_eq!(asks("weir-handover-next/800002"), None);
    }

    #[tokio::test]
    async fn who_offers_is_found() {
        let offering = offer().unwrap();
        let found = offers().unwrap();
        let connected = found.iter().filter_map(|(name, number)| Some((ask(name).ok()?, *number)));
        let all: Vec<_> = connected.collect();
        assert!(!all.is_empty(), "{found:?}");
        let accepted = offering.socket.accept().await.unwrap();
        assert!(accepted.peer_name().and_then(|name| asks(&name)).is_some());
    }

    #[test]
    fn whatever_others_call_their_sockets_the_list_is_read() {
        let list = b"Num RefCount Protocol Flags Type St Inode Path\n\
            0: 00000002 00000000 00010000 0005 01 1 @weir-handover/800002\n\
            0: 00000003 00000000 00000000 0005 03 2 @weir-handover/800002\n\
            0: 00000002 00000000 00010000 0005 01 3 @\xff\xfe\n\
            0: 00000002 00000000 00010000 0005 01 4 /run/x@weir-handover/800004\n\
            0: 00000002\n\n";
        let found = read(&list[..]).unwrap();
        assert_eq!(found.iter().filter(|it| it.1 == 0x80_0002).count(), 1);
    }
}
